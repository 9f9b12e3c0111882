"""Every reply of a set-up damaged or late, on the 2400 and on look-alikes: refused or healed, never a wrong limit.

The set-up believes what it reads back; so each of its replies is broken in turn. What comes of it may be a run that
is refused, or one that goes on because the question was asked again; hil.lookalike_bench sees to the rest, and the
next run, on a line that is whole again, must start clean.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hil.devices.lookalike import NumberStyle, Personality
from hil.lookalike_bench import LIMIT_A, Meeting, meet
from hil.virtual_bench import MS

LONG = os.environ.get("TIPGUARD_LONG") == "1"
pytestmark = [pytest.mark.timeout(600), *([pytest.mark.long] if LONG else [])]
STEP = 1 if LONG else 15
UNITS = {
    "2400": Personality(),
    "writes 0.0001": Personality(settings=NumberStyle(6), fixed=((":SENSe:CURRent:PROTection?", b"0.0001"),)),
    "acknowledges": Personality(acknowledge=b"OK", acknowledge_all=True),
    "slow": Personality(delay_s=0.05),
}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "lost": lambda line: b"",
    "cut short": lambda line: line[:-3] + line[-1:],
    "byte lost": lambda line: line[:3] + line[4:],
    "byte doubled": lambda line: line[:3] + line[2:],
    "twice": lambda line: line + line,
    "another": lambda line: b"+1.000000E-03\r",
}
REPLIES = 44
"""Of a first set-up with *IDN? before it; more for one that acknowledges, whose later ones are then left whole."""


def broken_at(directory: Path, personality: Personality, index: int, damage: Callable[[bytes], bytes]) -> Meeting:
    """Run twice, with reply ``index`` of the first set-up damaged."""

    async def work(met: Meeting) -> None:
        bench = met.bench
        seen = -1

        def edit(data: bytes) -> bytes:
            nonlocal seen
            seen += 1
            return damage(data) if seen == index else data

        bench.replies.edit = edit
        await met.sweep()
        bench.replies.edit = lambda data: data
        if bench.engine.report.trip_verdict is not None:
            bench.engine.rearm(by="test")
        await met.sweep()

    return meet(directory, personality, work)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("unit", UNITS)
def test_no_damaged_reply_of_a_set_up_leads_behind_a_wrong_limit(tmp_path: Path, unit: str, damage: str) -> None:
    outcomes: dict[str, int] = {}
    for index in range(hash_of(unit, damage) % STEP, REPLIES, STEP):
        directory = tmp_path / str(index)
        directory.mkdir()
        met = broken_at(directory, UNITS[unit], index, DAMAGES[damage])
        first, second = met.runs
        assert met.load.widest_clamp_a <= LIMIT_A * 1.001
        assert first["status"] in ("completed", "failed", "tripped"), (index, first)
        if first["status"] == "failed":
            assert first["reason"], index
        assert second["status"] == "completed", (index, first["reason"], second["reason"])
        outcomes[first["status"]] = outcomes.get(first["status"], 0) + 1
    print(f"\n{unit}, {damage}: {outcomes}")
    assert outcomes.get("completed", 0) + outcomes.get("failed", 0) > 0


def hash_of(*texts: str) -> int:
    """Return the same small number for the same texts in every process."""
    return sum("".join(texts).encode())


@pytest.mark.parametrize("late_s", [0.4, 1.05, 1.5])
def test_a_late_reply_in_a_set_up_answers_no_other_question(tmp_path: Path, late_s: float) -> None:
    for index in range(int(late_s * 10) % STEP, REPLIES, STEP):
        directory = tmp_path / str(index)
        directory.mkdir()

        async def work(met: Meeting, index: int = index) -> None:
            bench = met.bench
            seen = -1

            def edit(data: bytes) -> bytes:
                nonlocal seen
                seen += 1
                if seen != index:
                    return data

                def arrive() -> None:
                    bench.replies.wire.send(bench.clock.now_ns(), data)
                    bench.rig.line.poke()

                bench.clock.call_at(bench.clock.now_ns() + int(late_s * 1e9), arrive)
                return b""

            bench.replies.edit = edit
            await met.sweep()
            await bench.clock.sleep_until(bench.clock.now_ns() + 2_000 * MS)
            if bench.engine.report.trip_verdict is not None:
                bench.engine.rearm(by="test")
            await met.sweep()

        met = meet(directory, Personality(), work)
        assert met.load.widest_clamp_a <= LIMIT_A * 1.001
        assert met.runs[1]["status"] == "completed", (index, met.runs)
