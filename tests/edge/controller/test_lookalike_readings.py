"""The whole controller on look-alikes that write their readings otherwise: learnt at 0 V, frozen, or cut and told.

What the parsers themselves refuse, byte by byte, is in tests/firmware_proto/test_keithley2400_forms.py.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.guard.states import State
from edge.guard.verdicts import Verdict
from edge.samples import Flag, Phase
from hil.devices.lookalike import NumberStyle, Personality
from hil.lookalike_bench import LIMIT_A, SWEEP, Meeting, meet

# ---------------------------------------------------------------------------------------------------- other readings

LONG = os.environ.get("TIPGUARD_LONG") == "1"
pytestmark = [pytest.mark.long] if LONG else []

READINGS = {
    "3 decimals": Personality(readings=NumberStyle(3)),
    "3 decimals everywhere": Personality(readings=NumberStyle(3), settings=NumberStyle(3)),
    "4 decimals": Personality(readings=NumberStyle(4)),
    "7 decimals": Personality(readings=NumberStyle(7)),
    "9 decimals everywhere": Personality(readings=NumberStyle(9), settings=NumberStyle(9)),
    "3 digits of exponent": Personality(readings=NumberStyle(6, 3)),
    "space for plus": Personality(readings=NumberStyle(plus=" ")),
    "integer status": Personality(integer_status=True),
    "3 decimals, integer status": Personality(readings=NumberStyle(3), integer_status=True),
    "space behind comma": Personality(gap=" "),
    "3 decimals, small e": Personality(readings=NumberStyle(3, letter="e"), gap=" "),
}


@pytest.mark.parametrize("name", READINGS)
def test_readings_of_another_constant_length_are_learnt_at_0_v(tmp_path: Path, name: str) -> None:
    met = meet(tmp_path, READINGS[name])
    assert met.run["status"] == "completed", met.run["reason"]
    assert any(note.startswith("readings are written with ") for note in met.notes)
    assert len(met.samples) == 51


def test_the_samples_are_as_many_and_as_good_as_those_of_a_2400(tmp_path: Path) -> None:
    counts = []
    for name, personality in {"plain": Personality(), "three": READINGS["3 decimals"]}.items():
        (tmp_path / name).mkdir()
        met = meet(tmp_path / name, personality)
        assert not any(math.isnan(sample.current_a) for sample in met.samples)
        counts.append(len(met.samples))
    assert counts[0] == counts[1] == 51


@pytest.mark.parametrize("name", READINGS if LONG else ["3 decimals", "integer status", "space for plus"])
@pytest.mark.parametrize(
    "edit",
    [
        lambda line: line[:-3] + line[-1:],
        lambda line: line[:4] + line[5:],
        lambda line: line[:4] + line[3:],
        lambda line: line[1:],
        lambda line: line.replace(b",", b",,"),
        lambda line: b"+1.000000E-07,+2.048400E+05\r",
        lambda line: b"NAN," + line.partition(b",")[2],
        lambda line: b"OVERFLOW\r",
        lambda line: line[:14] + b"+9.90000E+37,+2.04840E+04\r",
    ],
    ids=["cut short", "digit lost", "digit doubled", "sign lost", "comma", "other", "NAN", "OVERFLOW", "five decimals"],
)
def test_a_damaged_reading_of_a_learnt_form_cuts_and_becomes_no_number(
    tmp_path: Path, name: str, edit: Callable[[bytes], bytes]
) -> None:
    async def work(met: Meeting) -> None:
        bench = met.bench
        bench.start(SWEEP)
        await bench.until_live(0.05)
        once = iter([edit])
        bench.replies.edit = lambda data: next(once, lambda same: same)(data) if b"," in data else data
        met.runs.append(await bench.ended())

    met = meet(tmp_path, READINGS[name], work)
    assert met.run["status"] == "tripped"
    assert met.bench.engine.report.trip_verdict is Verdict.UNPARSABLE
    assert math.isnan(met.samples[-1].current_a)


def test_a_learnt_form_is_frozen_also_against_the_2400s_own(tmp_path: Path) -> None:
    async def work(met: Meeting) -> None:
        bench = met.bench
        await met.sweep()
        bench.start(SWEEP)
        await bench.until_live(0.05)
        bench.replies.edit = lambda data: data[:14] + b"-1.000000E-07,+2.048400E+04\r" if b"," in data else data
        met.runs.append(await bench.ended())

    met = meet(tmp_path, READINGS["3 decimals"], work)
    assert [run["status"] for run in met.runs] == ["completed", "tripped"]


@pytest.mark.parametrize(
    ("personality", "shown"),
    [
        (Personality(readings=NumberStyle(plus="")), "E-"),
        (Personality(readings=NumberStyle(exponent_digits=1)), ",+2.048400E+4"),
        (Personality(readings=NumberStyle(12, fixed=True)), ",+20484.000000000000"),
        (Personality(no_status=True), "E-0"),
        (Personality(more_elements=True), "+9.910000E+37"),
        (Personality(readings=NumberStyle(2)), ",+2.05E+04"),
    ],
    ids=["no plus", "one digit of exponent", "fixed point", "no status", "five elements", "two decimals"],
)
def test_readings_of_no_constant_length_are_cut_at_0_v_and_the_reason_says_so(
    tmp_path: Path, personality: Personality, shown: str
) -> None:
    met = meet(tmp_path, personality)
    assert met.run["status"] == "tripped"
    assert met.run["reason"].startswith("UNPARSABLE: the reading '")
    assert shown in met.run["reason"]
    assert "three numbers of constant length" in met.run["reason"]
    assert met.load.widest_clamp_a == 0.0, "nothing but 0 V was ever set"


def test_three_readings_must_be_written_alike_before_a_form_is_believed(tmp_path: Path) -> None:
    async def work(met: Meeting) -> None:
        bench = met.bench
        readings = 0

        def edit(data: bytes) -> bytes:
            nonlocal readings
            readings += b"," in data and b"E" in data and b"KEITHLEY" not in data
            # The third loses a decimal of both numbers, and would be a form of its own.
            return b"+0.000E+00,+1.000E-09,+2.048E+04\r" if b"," in data and readings == 3 else data

        bench.replies.edit = edit
        await met.sweep()

    met = meet(tmp_path, READINGS["4 decimals"], work)
    assert met.run["status"] == "tripped"
    assert "'+0.000E+00,+1.000E-09,+2.048E+04'" in met.run["reason"]
    assert met.load.widest_clamp_a == 0.0


async def first_level_at_a_bias(met: Meeting) -> None:
    engine = met.bench.engine
    await engine.arm(Phase.SEEK, 0.5)
    await engine.energise()
    met.load.levels_v.clear()
    outcome = await engine.ramp((-0.1, -0.2), 0.02)
    if outcome.verdict is None:
        await engine.end()


def test_where_the_first_level_is_a_bias_the_form_is_learnt_at_0_v(tmp_path: Path) -> None:
    met = meet(tmp_path, READINGS["3 decimals"], first_level_at_a_bias)
    # Back to 0 V for the readings that teach; then the ramp from its beginning, and its end.
    assert [v for n, v in enumerate(met.load.levels_v) if v != met.load.levels_v[n - 1]] == [-0.1, 0.0, -0.1, -0.2, 0.0]
    assert len([sample for sample in met.samples if not math.isnan(sample.current_a)]) >= 2
    assert met.bench.engine.state is State.SAFE


def test_what_cannot_be_learnt_at_a_bias_is_cut(tmp_path: Path) -> None:
    met = meet(tmp_path, Personality(no_status=True), first_level_at_a_bias)
    assert met.bench.engine.report.trip_verdict is Verdict.UNPARSABLE
    assert min(met.load.levels_v) == -0.1


def test_nothing_is_learnt_of_a_unit_whose_readings_were_understood_before(tmp_path: Path) -> None:
    async def work(met: Meeting) -> None:
        bench = met.bench
        await met.sweep()
        # From now on it writes 3 decimals, as another unit at the end of the same cable would.
        bench.replies.edit = lambda data: NumberStyle(3).rewrite(data) if b",+2.0" in data else data
        await met.sweep()

    met = meet(tmp_path, Personality(), work)
    assert [run["status"] for run in met.runs] == ["completed", "tripped"]
    assert met.bench.engine.report.trip_verdict is Verdict.UNPARSABLE


# ---------------------------------------------------------------------------------------------------------- compliance


def test_compliance_that_the_status_word_hides_is_told_by_the_current(tmp_path: Path) -> None:
    async def work(met: Meeting) -> None:
        engine = met.bench.engine
        await engine.arm(Phase.SEEK, 0.5)
        for share, flags in ((0.98, 0), (0.995, 1), (1.0, 1), (1.04, 1)):
            for sign in (1, -1):
                line = f"-5.000000E-01,{sign * share * LIMIT_A:+.6E},+2.048400E+04".encode()
                got = engine.smu.sample(line, 1, -0.5, Phase.SEEK)
                assert bool(got.flags & Flag.BIAS_NOT_HELD) == bool(flags), line
                assert bool(got.flags & Flag.COMPLIANCE) == bool(flags), line
        engine.disarm()

    meet(tmp_path, Personality(), work)
