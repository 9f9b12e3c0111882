"""What the driver makes of reading lines: samples, flags, their levels, and their times."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.instruments.keithley2400 import Keithley2400 as Driver
from edge.instruments.link import Link
from edge.instruments.smu import Learning
from edge.samples import Flag, Phase, Sample
from firmware_proto.keithley2400 import commands
from firmware_proto.keithley2400.status import StatusWord
from hil.devices.keithley2400 import Keithley2400
from hil.devices.keithley2400.desk import DeskLoad
from hil.line.memory import MemoryLine
from hil.virtual import VirtualClock, run_virtual
from tests.edge.instruments.test_keithley2400_driver import (
    EVERY,
    SEEK,
    STATUS,
    Bench,
    S,
    a_config,
    offline,
    reading,
    setup_for,
    with_bench,
)

# ------------------------------------------------------------------------------------------------------- readings

NAN_FLAGS = [
    ("+9.900000E+37", 0, Flag.OVERFLOW),
    ("-9.900000E+37", 0, Flag.OVERFLOW),
    ("+9.910000E+37", 0, Flag.NOT_MEASURED),
    ("+1.000000E-06", StatusWord.OVERFLOW, Flag.OVERFLOW),
    ("+9.900000E+37", StatusWord.COMPLIANCE, Flag.OVERFLOW | Flag.COMPLIANCE | Flag.BIAS_NOT_HELD),
    ("+9.900000E+37", StatusWord.RANGE_COMPLIANCE, Flag.OVERFLOW | Flag.RANGE_COMPLIANCE | Flag.BIAS_NOT_HELD),
]
HELD_FLAGS = [
    (0, Flag.NONE),
    (StatusWord.FILTER, Flag.NONE),
    (StatusWord.COMPLIANCE, Flag.COMPLIANCE | Flag.BIAS_NOT_HELD),
    (StatusWord.RANGE_COMPLIANCE, Flag.RANGE_COMPLIANCE | Flag.BIAS_NOT_HELD),
    (StatusWord.COMPLIANCE | StatusWord.RANGE_COMPLIANCE, Flag.COMPLIANCE | Flag.BIAS_NOT_HELD),
]


@pytest.mark.parametrize(("current", "more", "flags"), NAN_FLAGS)
def test_a_reading_without_a_number_is_a_flag_and_nan(current: str, more: int, flags: Flag) -> None:
    sample = offline().sample(reading(current, STATUS | more), 5 * S, -0.5, Phase.SEEK)
    assert math.isnan(sample.current_a)
    assert (sample.flags, sample.bias_v, sample.phase, sample.t_rx_ns) == (flags, -0.5, Phase.SEEK, 5 * S)


@pytest.mark.parametrize(("more", "flags"), HELD_FLAGS)
def test_compliance_is_a_flag_and_says_that_the_bias_is_not_held(more: int, flags: Flag) -> None:
    sample = offline().sample(reading("-2.500000E-05", STATUS | more), 5 * S, -0.5, Phase.RESET)
    assert sample == Sample(sample.t_ns, sample.t_unc_ns, 5 * S, -0.5, -2.5e-5, int(flags), Phase.RESET)


@pytest.mark.parametrize("level_v", [-0.49, -0.51, 0.5, 0.0, -0.4998])
def test_a_reading_of_another_level_is_no_answer(level_v: float) -> None:
    """An old reading, a doubled one, or one of a level that was damaged on its way: a true number of something else."""

    async def check(bench: Bench) -> None:
        await bench.smu.configure(dataclasses.replace(SEEK, source_range_v=2.0))
        there = bench.smu.sample(reading("-1.000000E-06"), 5 * S, -0.5, Phase.SEEK)
        assert (there.current_a, there.flags) == (-1e-6, 0)
        other = bench.smu.sample(reading("-1.000000E-06", level_v=level_v), 5 * S, -0.5, Phase.SEEK)
        assert math.isnan(other.current_a)
        assert other.flags == Flag.UNPARSABLE
        assert bench.smu.learn(reading("-1.000000E-06", level_v=level_v)) is Learning.NO, "nothing to learn from it"

    with_bench(check)


def test_the_level_may_be_rounded_as_its_range_is() -> None:
    async def check(bench: Bench) -> None:
        await bench.smu.configure(dataclasses.replace(SEEK, source_range_v=20.0))
        # Programmed in steps of 500 uV on the 20 V range (specifications, Rev. L).
        got = bench.smu.sample(reading("-1.000000E-06", level_v=-0.4995), 5 * S, -0.5, Phase.SEEK)
        assert (got.current_a, got.bias_v, got.flags) == (-1e-6, -0.5, 0)

    with_bench(check)


@given(st.binary(max_size=100))
def test_no_bytes_make_it_raise_or_invent_a_number(line: bytes) -> None:
    sample = UNCONFIGURED.sample(line, 5 * S, -0.5, Phase.SEEK)
    assert math.isnan(sample.current_a)
    assert sample.flags == Flag.UNPARSABLE
    assert (sample.bias_v, sample.t_rx_ns) == (-0.5, 5 * S)


UNCONFIGURED = offline()


def test_with_the_sample_at_hi_volts_and_amperes_flip_together() -> None:
    tip, sample = offline(), offline(wiring={"hi": "sample"})
    assert tip.level_message(-0.5) == b":SOUR:VOLT -0.5000\n:READ?\n"
    assert sample.level_message(-0.5) == b":SOUR:VOLT 0.5000\n:READ?\n"
    assert sample.level_message(0.0) == b":SOUR:VOLT 0.0000\n:READ?\n"
    # The instrument measures what flows at its +0.5 V; the tip stands at -0.5 V.
    got = sample.sample(reading("+1.000000E-06", level_v=0.5), 5 * S, -0.5, Phase.SEEK)
    assert (got.bias_v, got.current_a) == (-0.5, -1e-6)
    assert tip.sample(reading("-1.000000E-06"), 5 * S, -0.5, Phase.SEEK).current_a == -1e-6
    assert math.isnan(sample.sample(reading("+9.900000E+37", level_v=0.5), 5 * S, -0.5, Phase.SEEK).current_a)


@pytest.mark.parametrize("hi", ["tip", "sample"])
def test_either_wiring_measures_the_same_resistor(hi: str) -> None:
    async def check(bench: Bench) -> None:
        await bench.smu.configure(SEEK)
        await bench.link.query(bench.smu.output_on_message, 1.0)
        line = await bench.link.query(bench.smu.level_message(-5.0), 1.0)
        sample = bench.smu.sample(line, bench.clock.now_ns(), -5.0, Phase.SEEK)
        assert (sample.bias_v, sample.current_a, sample.flags) == (-5.0, -5e-6, 0)
        assert bench.load.sources[-1].v_set == (-5.0 if hi == "tip" else 5.0)

    with_bench(check, wiring={"hi": hi})


@given(st.floats(-20, 20), st.sampled_from(["tip", "sample"]))
def test_what_is_recorded_as_bias_is_what_was_sent(bias_v: float, hi: str) -> None:
    driver = BY_WIRING[hi]
    sent = float(driver.level_message(bias_v).removeprefix(b":SOUR:VOLT ").removesuffix(b"\n:READ?\n"))
    programmed_v = driver.programmed_v(bias_v)
    assert programmed_v == (sent if hi == "tip" else -sent)
    assert abs(programmed_v) <= abs(bias_v)
    assert abs(bias_v - programmed_v) < 1.001e-4


BY_WIRING = {hi: offline(wiring={"hi": hi}) for hi in ("tip", "sample")}


def test_the_panel_is_given_back_without_touching_the_output() -> None:
    async def check(bench: Bench) -> None:
        await bench.smu.configure(SEEK)
        bench.unit.press_output_key(bench.clock.now_ns())
        assert not bench.unit.output_on  # locked: the key only switches off
        told = len(bench.load.sources)
        bench.link.write(bench.smu.release_message)
        assert await bench.link.query(commands.ERROR_QUERY, 1.0) == b'0,"No error"'
        assert len(bench.load.sources) == told
        bench.unit.press_output_key(bench.clock.now_ns())
        assert bench.unit.output_on

    with_bench(check)


# ------------------------------------------------------------------------------------------------------------- times


class WatchedLoad(DeskLoad):
    """Remembers when it was looked at: the last two looks before a reply are the ends of its aperture."""

    def __init__(self) -> None:
        super().__init__(1e6)
        self.looks: list[int] = []

    def advance(self, t_ns: int) -> None:
        super().advance(t_ns)
        self.looks.append(t_ns)


@pytest.mark.parametrize("line_hz", [50, 60])
@pytest.mark.parametrize("baud", [57600, 9600, 0])
@pytest.mark.parametrize(("phase", "v_max_v"), EVERY)
def test_the_time_of_a_sample_holds_the_middle_of_its_aperture(
    phase: Phase, v_max_v: float, baud: int, line_hz: int
) -> None:
    async def main(clock: VirtualClock) -> None:
        load = WatchedLoad()
        line = MemoryLine(Keithley2400(load, noise=False, line_freq_hz=float(line_hz)), clock, baud)
        link = Link(line.transport, clock)
        smu = Driver(link, a_config(smu={"line_frequency_hz": line_hz}))
        setup = setup_for(phase, v_max_v)
        await smu.configure(setup)
        await link.query(smu.output_on_message, 1.0)
        for message in (smu.read_message, smu.level_message(-0.01)):
            reply = await link.query(message, 1.0)
            now_ns = clock.now_ns()
            sample = smu.sample(reply, now_ns, -0.01, phase)
            start_ns, end_ns = load.looks[-2:]
            assert end_ns - start_ns == pytest.approx(setup.nplc / line_hz * 1e9, abs=1)
            assert abs(sample.t_ns - (start_ns + end_ns) / 2) <= sample.t_unc_ns
            assert sample.t_ns + sample.t_unc_ns <= now_ns
            assert sample.t_rx_ns == now_ns

    run_virtual(main)


@pytest.mark.parametrize("kind", ["tip", "cell"])
@pytest.mark.parametrize("baud", [57600, 9600, 0])
@pytest.mark.parametrize(("phase", "v_max_v"), EVERY)
def test_an_exchange_takes_no_longer_than_it_says(phase: Phase, v_max_v: float, baud: int, kind: str) -> None:
    async def check(bench: Bench) -> None:
        await bench.smu.configure(setup_for(phase, v_max_v))
        smu = bench.smu
        for message in (smu.output_on_message, smu.read_message, smu.level_message(-0.0123), *smu.check_messages):
            began = bench.clock.now_ns()
            await bench.link.query(message, 1.0)
            took_s = (bench.clock.now_ns() - began) / 1e9
            assert took_s <= smu.exchange_s(message), message
            # Nor is it so generous that a deadline means nothing.
            assert smu.exchange_s(message) < 2 * took_s + 0.025, message

    with_bench(check, baud=baud, rig={"kind": kind})


def test_how_many_flipped_bits_of_a_reading_stay_unseen_is_known() -> None:
    """8N1 has no check. A flip in the level is seen here; digit to digit in current or status is a reading as good."""

    async def check(bench: Bench) -> None:
        await bench.smu.configure(dataclasses.replace(SEEK, source_range_v=2.0))
        flips = unseen = level = 0
        for current in ("-1.234567E-07", "+9.900000E-12", "-5.550000E-05", "+1.050000E-03"):
            line = reading(current, level_v=-0.4375)
            good = bench.smu.sample(line, 1, -0.4375, Phase.SEEK)
            assert not good.flags & Flag.UNPARSABLE
            for at in range(len(line)):
                for bit in range(8):
                    broken = line[:at] + bytes([line[at] ^ (1 << bit)]) + line[at + 1 :]
                    got = bench.smu.sample(broken, 1, -0.4375, Phase.SEEK)
                    flips += 1
                    if not got.flags & Flag.UNPARSABLE and got != good:
                        unseen += 1
                        level += at < line.index(b",")
        print(f"\n{unseen} of {flips} flipped bits ({unseen / flips:.1%}) leave another reading, {level} in the level")
        assert level == 0, "what is left of a damaged level is the same level"
        assert 0.05 < unseen / flips < 0.20

    with_bench(check)
