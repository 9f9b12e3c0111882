"""A ramp point is two lines in one write: whatever happens to a byte of it, no current gets a false bias."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from edge.errors import ReplyTimeoutError
from edge.samples import Flag, Phase
from firmware_proto.keithley2400 import commands
from tests.edge.instruments.test_keithley2400_driver import SEEK, Bench, with_bench

STANDS_V, WANTED_V = -0.1, -0.2
POINT = commands.level_and_read(WANTED_V)
AT_LEVEL = POINT.index(b"\n")
ONE_MESSAGE = b":SOUR:VOLT -0.2000;:READ?\n"


class Met(NamedTuple):
    """What came of a point: the reading's current if it was believed, whether anything was said, the level set."""

    current_a: float | None
    answered: bool
    set_v: float


def sent(damaged: bytes) -> Met:
    """Put the bench at STANDS_V, 1 Mohm behind it, and send a damaged point for WANTED_V."""
    found: list[Met] = []

    async def check(bench: Bench) -> None:
        smu, link, clock = bench.smu, bench.link, bench.clock
        await smu.configure(SEEK)
        await link.query(smu.output_on_message, 1.0)
        await link.query(smu.level_message(STANDS_V), 1.0)
        try:
            line = await link.query(damaged, 0.15)
        except ReplyTimeoutError:
            found.append(Met(None, False, bench.load.sources[-1].v_set))
            return
        sample = smu.sample(line, clock.now_ns(), WANTED_V, Phase.SEEK)
        believed = not sample.flags & Flag.UNPARSABLE
        found.append(Met(sample.current_a if believed else None, True, bench.load.sources[-1].v_set))

    with_bench(check)
    return found[0]


DAMAGE = {
    "lost": lambda at: POINT[:at] + POINT[at + 1 :],
    "doubled": lambda at: POINT[: at + 1] + POINT[at:],
    "flipped": lambda at: POINT[:at] + bytes([POINT[at] ^ 0x04]) + POINT[at + 1 :],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_byte_gives_the_true_bias_or_no_number_at_all(kind: str) -> None:
    unheard = 0
    for at in range(len(POINT) - 1):
        met = sent(DAMAGE[kind](at))
        if met.current_a is not None:
            # What was believed was taken at the level it is recorded with, within twice the range's resolution (0017).
            assert met.set_v == pytest.approx(WANTED_V, abs=1e-3), (at, met)
            assert met.current_a == pytest.approx(WANTED_V / 1e6, rel=0.01), (at, met)
        if at < AT_LEVEL:
            # The level line alone is damaged: there is a reading, and it is there at once.
            assert met.answered, (at, met)
        unheard += not met.answered
    assert unheard


def test_a_lost_newline_makes_one_invalid_message_that_nobody_answers() -> None:
    met = sent(POINT[:AT_LEVEL] + POINT[AT_LEVEL + 1 :])
    assert met == Met(None, False, STANDS_V)


def test_as_one_message_a_damaged_level_would_be_waited_for_until_the_deadline() -> None:
    # The removal test: what two lines are better at.
    assert sent(b":SOR" + ONE_MESSAGE[5:]) == Met(None, False, STANDS_V)
    assert sent(b":SOR" + POINT[5:]) == Met(None, True, STANDS_V)


@pytest.mark.parametrize("baud", [57600, 9600])
def test_the_level_is_worked_on_while_the_question_arrives(baud: int) -> None:
    async def check(bench: Bench) -> None:
        await bench.smu.configure(SEEK)
        await bench.link.query(bench.smu.output_on_message, 1.0)
        took_s = []
        for message in (POINT, ONE_MESSAGE):
            began_ns = bench.clock.now_ns()
            await bench.link.query(message, 1.0)
            took_s.append((bench.clock.now_ns() - began_ns) / 1e9)
        # The 7 bytes of the question, as far as they are shorter than the level takes.
        assert took_s[1] - took_s[0] == pytest.approx(min(0.007, 7 * 10 / baud), abs=2e-5)

    with_bench(check, baud=baud)
