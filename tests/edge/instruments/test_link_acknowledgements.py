"""What an instrument says beside its answers: as many of one known line as are owed, and nothing else, are dropped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import InstrumentError, LinkLostError
from edge.instruments.link import MAX_HEARD, MAX_OWED, Acknowledgements, Link
from hil.virtual import VirtualClock, run_virtual

OK = Acknowledgements(b"OK", per_set=1, per_query=0, per_chain=0)
ALL = Acknowledgements(b"OK", per_set=1, per_query=1, per_chain=1)


class Wire:
    """A transport whose far end is the test."""

    name = "wire"
    emulated = True
    baud = 0

    def __init__(self) -> None:
        self.arrived = b""
        self.written = b""
        self.broken = False

    def read(self) -> bytes:
        if self.broken:
            raise LinkLostError("gone")
        data, self.arrived = self.arrived, b""
        return data

    def write(self, data: bytes) -> int:
        self.written += data
        return len(data)

    def unsent(self) -> int:
        return 0

    def on_readable(self, callback: object) -> None:
        """The test calls ``readable`` itself."""

    def close(self) -> None:
        """Nothing to let go of."""


class Ends:
    """A link, what it handed out, and the far end."""

    def __init__(self, acknowledgements: Acknowledgements | None) -> None:
        self.wire = Wire()
        self.link = Link(self.wire, VirtualClock())
        self.link.acknowledgements = acknowledgements
        self.seen: list[tuple[str, bytes]] = []
        self.link.on_stray = lambda line, _t: self.seen.append(("stray", line))

    def ask(self, message: bytes) -> None:
        self.link.ask(message, lambda line, _t: self.seen.append(("answer", line)), 1)

    def say(self, data: bytes) -> None:
        self.wire.arrived += data
        self.link.readable()


@pytest.mark.parametrize(
    ("message", "owed"),
    [
        (b":SOUR:VOLT 0\n", 1),
        (b"*CLS\n*RST\n", 2),
        (b":READ?\n", 10),
        (b":SOUR:VOLT -0.1000\n:READ?\n", 11),
        (b":OUTP ON;:OUTP?\n", 100),
        (b":SENS:CURR:PROT?\n", 10),
        (b"\n:SOUR:VOLT 0\n:OUTP OFF\n*ESE 7;:SOUR:VOLT?;*ESE?;:OUTP?\n", 102),
        (b"\x03\n", 1),
        (b"\n", 0),
    ],
)
def test_what_is_owed_is_told_by_the_message(message: bytes, owed: int) -> None:
    assert Acknowledgements(b"OK", 1, 10, 100).owed(message) == owed


def test_an_acknowledged_command_costs_its_acknowledgement_and_no_more() -> None:
    ends = Ends(OK)
    ends.link.write(b":SOUR:VOLT 0\n")
    ends.say(b"OK\r")
    assert ends.seen == []
    ends.say(b"OK\r")
    assert ends.seen == [("stray", b"OK")]


@pytest.mark.parametrize("first", [True, False])
def test_an_acknowledgement_before_or_behind_the_answer_leaves_the_answer(first: bool) -> None:
    ends = Ends(ALL)
    for _ in range(50):
        ends.ask(b":SOUR:VOLT -0.1000\n:READ?\n")
        # One for each line.
        ends.say(b"OK\rOK\r42\r" if first else b"OK\r42\rOK\r")
    assert ends.seen == [("answer", b"42")] * 50


def test_one_that_comes_after_the_next_question_is_not_its_answer() -> None:
    ends = Ends(ALL)
    ends.ask(b":READ?\n")
    ends.say(b"1\r")
    ends.ask(b":READ?\n")
    ends.say(b"OK\r2\rOK\r")
    assert ends.seen == [("answer", b"1"), ("answer", b"2")]


@pytest.mark.parametrize("line", [b"ok", b"OKAY", b"OK ", b" OK", b"O", b"OKOK", b"ERROR", b"1"])
def test_any_other_line_is_judged(line: bytes) -> None:
    ends = Ends(ALL)
    ends.ask(b":READ?\n")
    ends.say(line + b"\r")
    assert ends.seen == [("answer", line)]


def test_a_unit_that_is_not_known_to_acknowledge_is_never_excused() -> None:
    ends = Ends(None)
    ends.ask(b":READ?\n")
    ends.say(b"OK\r")
    assert ends.seen == [("answer", b"OK")]
    ends.say(b"OK\r")
    assert ends.seen[-1] == ("stray", b"OK")


@given(st.integers(0, 300))
def test_what_is_owed_is_bounded(commands: int) -> None:
    ends = Ends(OK)
    for _ in range(commands):
        ends.link.write(b":SOUR:VOLT 0\n")
    ends.say(b"OK\r" * (MAX_OWED + 5))
    assert ends.seen == [("stray", b"OK")] * (MAX_OWED + 5 - min(commands, MAX_OWED))


def test_listening_hears_everything_until_it_is_quiet() -> None:
    async def main(clock: VirtualClock) -> None:
        wire = Wire()
        link = Link(wire, clock)

        def later(after_ms: int, data: bytes) -> None:
            def arrive() -> None:
                wire.arrived += data
                link.readable()

            clock.call_at(clock.now_ns() + after_ms * 1_000_000, arrive)

        later(50, b"OK\r")
        later(120, b"0\rOK\r")
        later(900, b"late\r")
        assert await link.listen(b":OUTP?\n", 0.1) == [b"OK", b"0", b"OK"]
        assert wire.written == b":OUTP?\n"
        assert link.strays == 3
        assert await link.listen(b"*CLS\n", 0.1) == []

    run_virtual(main)


def test_listening_to_a_unit_that_never_stops_ends() -> None:
    async def main(clock: VirtualClock) -> None:
        wire = Wire()
        link = Link(wire, clock)

        def babble() -> None:
            wire.arrived += b"ready\r"
            link.readable()
            clock.call_at(clock.now_ns() + 10_000_000, babble)

        babble()
        assert await link.listen(b"*CLS\n", 0.1) == [b"ready"] * MAX_HEARD

    run_virtual(main)


def test_listening_on_a_lost_link_says_so_and_never_beside_a_question() -> None:
    async def main(clock: VirtualClock) -> None:
        wire = Wire()
        link = Link(wire, clock)
        link.on_lost = lambda _error: None
        link.ask(b":READ?\n", lambda _line, _t: None, 1)
        with pytest.raises(InstrumentError, match="before the last one was answered"):
            await link.listen(b"*CLS\n", 0.1)
        link.forget()
        wire.broken = True
        link.readable()
        with pytest.raises(LinkLostError):
            await link.listen(b"*CLS\n", 0.1)

    run_virtual(main)


def test_after_a_silence_half_a_line_is_nobodys_beginning() -> None:
    async def main(clock: VirtualClock) -> None:
        wire = Wire()
        link = Link(wire, clock)
        seen: list[bytes] = []
        # An abort cut this reply off.
        wire.arrived = b'0,"No err'
        link.readable()
        await link.settle(0.1)
        link.ask(b"*IDN?\n", lambda line, _t: seen.append(line), 1)
        wire.arrived = b"KEITHLEY,MODEL 2400,1,C31\r"
        link.readable()
        # What somebody waits for is never dropped.
        link.ask(b"*IDN?\n", lambda line, _t: seen.append(line), 1)
        wire.arrived = b"KEITHLEY,MODEL 2400"
        link.readable()
        await link.settle(0.1)
        wire.arrived = b",1,C31\r"
        link.readable()
        assert seen == [b"KEITHLEY,MODEL 2400,1,C31"] * 2

    run_virtual(main)
