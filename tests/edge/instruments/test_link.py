"""The link: one question, one answer, and nothing unexpected goes unseen; by hand, and on the line in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import TimerHandle
from edge.errors import InstrumentError, LinkLostError, ReplyTimeoutError
from edge.instruments.link import MAX_REPLY, MAX_UNSENT, Link
from edge.instruments.transport import Transport
from hil.devices.keithley2400 import Keithley2400, Timing
from hil.devices.keithley2400.desk import DeskLoad
from hil.line.memory import MemoryLine
from hil.virtual import VirtualClock, run_virtual

MS = 1_000_000
S = 1_000_000_000


class HandTransport:
    """A transport moved by hand: what was written, and how much of it is taken."""

    def __init__(self) -> None:
        self.name = "hand"
        self.emulated = True
        self.baud = 57600
        self.written = b""
        self.takes: list[int] = []
        self.waiting = b""
        self.lost = False
        self.callback: Callable[[], None] | None = None

    def _check(self) -> None:
        if self.lost:
            raise LinkLostError(5, "hand is gone")

    def read(self) -> bytes:
        self._check()
        data, self.waiting = self.waiting[:4096], self.waiting[4096:]
        return data

    def write(self, data: bytes) -> int:
        self._check()
        taken = min(self.takes.pop(0), len(data)) if self.takes else len(data)
        self.written += data[:taken]
        return taken

    def unsent(self) -> int:
        self._check()
        return 0

    def on_readable(self, callback: Callable[[], None] | None) -> None:
        self.callback = callback

    def close(self) -> None:
        self.lost = True

    def arrive(self, data: bytes) -> None:
        self.waiting += data
        assert self.callback is not None
        self.callback()

    def pull(self) -> None:
        self.lost = True
        if self.callback is not None:
            self.callback()


class HandClock:
    """Time that stands still."""

    t_ns = 7 * S

    def now_ns(self) -> int:
        return self.t_ns

    def call_at(self, t_ns: int, callback: Callable[[], None]) -> TimerHandle:
        raise NotImplementedError

    async def sleep_until(self, t_ns: int) -> None:
        raise NotImplementedError


class Bench:
    """A link on a hand-moved transport, and what it handed out, in order."""

    def __init__(self) -> None:
        self.transport = HandTransport()
        self.link = Link(self.transport, HandClock())
        self.seen: list[tuple[str, bytes]] = []
        self.outstanding: list[bool] = []
        self.losses: list[LinkLostError] = []
        self.link.on_stray = lambda line, _t: self.seen.append(("stray", line))
        self.link.on_outstanding = self.outstanding.append
        self.link.on_lost = self.losses.append

    def answer(self, name: str) -> Callable[[bytes, int], None]:
        return lambda line, _t: self.seen.append((name, line))

    def ask(self, name: str = "answer") -> None:
        self.link.ask(b":READ?\n", self.answer(name), 9 * S)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_hand_moved_transport_is_a_transport() -> None:
    assert isinstance(HandTransport(), Transport)


# ------------------------------------------------------------------------------------------- question and answer


def test_the_reply_goes_to_who_asked_with_the_time_it_was_read(bench: Bench) -> None:
    got: list[tuple[bytes, int]] = []
    bench.link.ask(b"*IDN?\n", lambda line, t_ns: got.append((line, t_ns)), 9 * S)
    assert bench.transport.written == b"*IDN?\n"
    assert bench.link.deadline_ns == 9 * S
    assert bench.link.outstanding
    bench.transport.arrive(b"me\r")
    assert got == [(b"me", 7 * S)]
    assert not bench.link.outstanding


@given(
    st.binary(max_size=40).map(lambda b: b.replace(b"\r", b"x").replace(b"\n", b"y").replace(b"\0", b"z")), st.data()
)
def test_a_reply_in_any_pieces_is_one_line(line: bytes, data: st.DataObject) -> None:
    bench = Bench()
    bench.ask()
    rest = line + data.draw(st.sampled_from([b"\r", b"\n", b"\r\n", b"\n\r"]))
    while rest:
        n = data.draw(st.integers(1, len(rest)))
        bench.transport.arrive(rest[:n])
        rest = rest[n:]
    assert bench.seen == ([("answer", line)] if line else [])


def test_outstanding_is_told_before_the_question_is_written_and_before_the_answer_is_judged(bench: Bench) -> None:
    order: list[str] = []
    bench.link.on_outstanding = lambda value: order.append(f"outstanding {value} after {bench.transport.written!r}")
    bench.link.ask(b"?\n", lambda _line, _t: order.append("answered"), 9 * S)
    bench.transport.arrive(b"1\n")
    assert order == ["outstanding True after b''", "outstanding False after b'?\\n'", "answered"]


def test_the_answer_may_ask_the_next_question(bench: Bench) -> None:
    bench.link.ask(b"1\n", lambda line, _t: bench.link.ask(b"2\n", bench.answer("second"), 9 * S), 9 * S)
    bench.transport.arrive(b"first\n")
    assert bench.link.outstanding
    bench.transport.arrive(b"second\n")
    assert bench.seen == [("second", b"second")]
    assert bench.transport.written == b"1\n2\n"


def test_a_second_question_is_refused_and_the_first_still_answered(bench: Bench) -> None:
    bench.ask("first")
    with pytest.raises(InstrumentError, match="before the last one was answered"):
        bench.ask("second")
    assert bench.transport.written == b":READ?\n"
    bench.transport.arrive(b"1\n")
    assert bench.seen == [("first", b"1")]


# ------------------------------------------------------------------------------------------------------ strays


def test_a_line_nobody_asked_for_is_a_stray(bench: Bench) -> None:
    bench.transport.arrive(b"who\nasked\n")
    assert bench.seen == [("stray", b"who"), ("stray", b"asked")]


def test_strays_are_counted_when_nobody_wants_them() -> None:
    transport = HandTransport()
    link = Link(transport, HandClock())
    transport.arrive(b"1\n2\n\n")
    assert link.strays == 2


def test_a_forgotten_question_makes_its_answer_a_stray(bench: Bench) -> None:
    bench.ask()
    bench.link.forget()
    assert not bench.link.outstanding
    bench.transport.arrive(b"late\n")
    assert bench.seen == [("stray", b"late")]
    assert bench.outstanding == [True, False]
    bench.link.forget()
    assert bench.outstanding == [True, False]


def test_the_second_line_of_a_doubled_reply_is_a_stray(bench: Bench) -> None:
    bench.ask()
    bench.transport.arrive(b"1\n2\n")
    assert bench.seen == [("answer", b"1"), ("stray", b"2")]


def test_a_line_that_was_there_before_the_question_is_not_its_answer(bench: Bench) -> None:
    # Two readings in one read, and the first one's handler asks for the next: taken for its answer, the second would
    # put every reading from here on one question late, and nobody would see it.
    bench.link.ask(b"1\n", lambda _line, _t: bench.link.ask(b"2\n", bench.answer("second"), 9 * S), 9 * S)
    bench.transport.arrive(b"+1\n+2\n")
    assert bench.seen == [("stray", b"+2")]
    assert bench.link.outstanding
    bench.transport.arrive(b"+3\n")
    assert bench.seen[1:] == [("second", b"+3")]


def test_a_handler_that_forgets_does_not_get_the_rest(bench: Bench) -> None:
    def stop_waiting(line: bytes, _t_ns: int) -> None:
        bench.seen.append(("first", line))
        bench.link.forget()

    bench.link.ask(b"1\n", stop_waiting, 9 * S)
    bench.transport.arrive(b"2\n3\n")
    assert bench.seen == [("first", b"2"), ("stray", b"3")]


def test_an_overlong_line_is_handed_out_once_as_garbage(bench: Bench) -> None:
    bench.ask()
    bench.transport.arrive(b"1" * (MAX_REPLY + 1))
    assert bench.seen == [("answer", b"\xff" * 80)]
    bench.transport.arrive(b"1" * 10_000)
    assert len(bench.seen) == 1
    bench.transport.arrive(b"\n")
    bench.ask()
    bench.transport.arrive(b"+1\n")
    assert bench.seen[1:] == [("answer", b"+1")]


def test_the_longest_line_is_a_line(bench: Bench) -> None:
    bench.ask()
    bench.transport.arrive(b"1" * MAX_REPLY + b"\n")
    assert bench.seen == [("answer", b"1" * MAX_REPLY)]


def test_an_empty_read_is_nothing(bench: Bench) -> None:
    bench.ask()
    bench.transport.arrive(b"")
    assert bench.seen == []
    assert bench.link.outstanding


# ------------------------------------------------------------------------------------------------- short writes


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=20), st.lists(st.integers(0, 12), max_size=40))
def test_short_writes_keep_the_order_and_lose_nothing(messages: list[bytes], takes: list[int]) -> None:
    bench = Bench()
    bench.transport.takes = takes
    for message in messages:
        bench.link.write(message)
        sent = b"".join(messages)
        assert sent.startswith(bench.transport.written)
    assert len(bench.transport.written) + bench.link.unsent == len(b"".join(messages))
    bench.transport.takes = []
    bench.link.write(b"")
    assert bench.transport.written == b"".join(messages)
    assert bench.link.unsent == 0


def test_a_line_that_takes_nothing_does_not_fill_the_memory(bench: Bench) -> None:
    bench.transport.takes = [0] * 100_000
    round_of_a_cut = b"\n:SOUR:VOLT 0\n:OUTP OFF\n*ESE 1;:SOUR:VOLT?;*ESE?;:OUTP?\n"
    for _ in range(1_000):
        bench.link.write(round_of_a_cut)
    assert bench.link.unsent < MAX_UNSENT + len(round_of_a_cut)
    bench.transport.takes = []
    bench.link.write(b"")
    # Whole rounds only, from the first on.
    count, rest = divmod(len(bench.transport.written), len(round_of_a_cut))
    assert bench.transport.written == round_of_a_cut * count
    assert (count > 1, rest) == (True, 0)


# --------------------------------------------------------------------------------------------------- lost links


def test_a_link_lost_while_reading_is_told_once(bench: Bench) -> None:
    callback = bench.transport.callback
    bench.transport.pull()
    assert len(bench.losses) == 1
    assert bench.link.lost is bench.losses[0]
    assert bench.transport.callback is None
    assert callback is not None
    callback()
    bench.link.write(b"x")
    assert len(bench.losses) == 1


def test_a_link_lost_while_writing_is_told_and_the_question_stays_the_askers(bench: Bench) -> None:
    bench.transport.lost = True
    bench.ask()
    assert len(bench.losses) == 1
    assert bench.link.outstanding
    bench.link.forget()
    assert not bench.link.outstanding


def test_without_anybody_to_tell_a_lost_link_raises() -> None:
    transport = HandTransport()
    Link(transport, HandClock())
    with pytest.raises(LinkLostError, match="hand is gone"):
        transport.pull()


# ------------------------------------------------------------------------------------------------------- waiting


def on_line(check: Callable[[Link, MemoryLine, VirtualClock], Awaitable[None]]) -> None:
    """Run ``check`` with a link to an emulated 2400 on a line of 57600 baud, in virtual time."""

    async def main(clock: VirtualClock) -> None:
        line = MemoryLine(Keithley2400(DeskLoad(1e6), noise=False, timing=Timing()), clock, 57600)
        link = Link(line.transport, clock)
        link.on_lost = lambda _error: None
        await check(link, line, clock)

    run_virtual(main)


def test_a_query_returns_its_reply() -> None:
    async def check(link: Link, _line: MemoryLine, clock: VirtualClock) -> None:
        began = clock.now_ns()
        assert await link.query(b":OUTP?\n", 1.0) == b"0"
        assert 7 * 173_000 < clock.now_ns() - began < 20 * MS
        assert not link.outstanding

    on_line(check)


def test_a_reply_that_does_not_come_is_a_timeout_with_advice() -> None:
    async def check(link: Link, _line: MemoryLine, clock: VirtualClock) -> None:
        began = clock.now_ns()
        # With the output off the unit sends nothing (error 803).
        with pytest.raises(ReplyTimeoutError, match=r"memory: no reply to ':READ\?' in 0\.25 s; is the instrument on"):
            await link.query(b":READ?\n", 0.25)
        assert clock.now_ns() - began == 250 * MS
        assert not link.outstanding
        assert await link.query(b":OUTP?\n", 1.0) == b"0"

    on_line(check)


def test_a_reply_after_the_timeout_is_a_stray() -> None:
    async def check(link: Link, _line: MemoryLine, clock: VirtualClock) -> None:
        link.write(b":SENS:CURR:NPLC 10;:OUTP ON\n")
        with pytest.raises(ReplyTimeoutError):
            await link.query(b":READ?\n", 0.1)
        await clock.sleep_until(clock.now_ns() + 5 * S)
        assert link.strays == 1
        assert await link.query(b":OUTP?\n", 1.0) == b"1"

    on_line(check)


def test_a_second_query_is_refused_and_the_first_still_hears_of_a_lost_link() -> None:
    async def check(link: Link, line: MemoryLine, clock: VirtualClock) -> None:
        first = asyncio.ensure_future(link.query(b":OUTP?\n", 1.0))
        await clock.sleep_until(clock.now_ns() + MS)
        with pytest.raises(InstrumentError, match="before the last one was answered"):
            await link.query(b"*IDN?\n", 1.0)
        assert link.outstanding
        began = clock.now_ns()
        line.unplug()
        with pytest.raises(LinkLostError):
            await first
        assert clock.now_ns() == began

    on_line(check)


def test_a_link_lost_while_waiting_ends_the_wait_at_once() -> None:
    async def check(link: Link, line: MemoryLine, clock: VirtualClock) -> None:
        losses: list[LinkLostError] = []
        link.on_lost = losses.append
        began = clock.now_ns()
        clock.call_at(began + 3 * MS, line.unplug)
        with pytest.raises(LinkLostError):
            await link.query(b"*IDN?\n", 1.0)
        assert clock.now_ns() == began + 3 * MS
        assert len(losses) == 1
        assert not link.outstanding
        with pytest.raises(LinkLostError):
            await link.query(b"*IDN?\n", 1.0)

    on_line(check)


def test_a_link_found_lost_by_the_question_itself() -> None:
    async def check(link: Link, line: MemoryLine, clock: VirtualClock) -> None:
        line.transport.on_readable(None)  # nobody is told of the pull
        line.unplug()
        began = clock.now_ns()
        with pytest.raises(LinkLostError):
            await link.query(b"*IDN?\n", 1.0)
        assert clock.now_ns() == began

    on_line(check)


def test_who_stops_waiting_leaves_nothing_outstanding() -> None:
    async def check(link: Link, _line: MemoryLine, clock: VirtualClock) -> None:
        task = asyncio.ensure_future(link.query(b":OUTP?\n", 1.0))
        await clock.sleep_until(clock.now_ns() + MS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not link.outstanding
        await clock.sleep_until(clock.now_ns() + S)
        assert link.strays == 1

    on_line(check)


def test_short_writes_on_the_line_still_make_whole_messages() -> None:
    async def check(link: Link, line: MemoryLine, clock: VirtualClock) -> None:
        rng = random.Random(7)
        for n in range(1, 200):
            line.short_writes(rng.randrange(4))
            link.write(b"*ESE %d\n" % n)
        line.short_writes(None)
        link.write(b"")
        await clock.sleep_until(clock.now_ns() + S)
        assert await link.query(b"*ESE?\n", 1.0) == b"199"
        assert await link.query(b":SYST:ERR?\n", 1.0) == b'0,"No error"'

    on_line(check)


def test_settling_waits_as_long_as_it_says() -> None:
    async def check(link: Link, _line: MemoryLine, clock: VirtualClock) -> None:
        began = clock.now_ns()
        await link.settle(0.3)
        assert clock.now_ns() - began == 300 * MS

    on_line(check)
