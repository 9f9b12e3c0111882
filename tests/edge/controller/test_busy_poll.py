"""Busy polling: not while nothing is awaited, near the end of a reply, and never for longer than said."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edge.clock import TimerHandle
from edge.config import EventConfig, Limits
from edge.controller.busy_poll import AWAKE_NS, LATE_NS, NEAR_NS, REHEARSAL_NS, SPIN_NS, WHOLE_NS, BusyPoll
from edge.guard.guard import Guard
from edge.guard.phases import phase_spec
from edge.guard.states import Cause
from edge.instruments.link import Link
from edge.instruments.port import Watch
from edge.instruments.transport import Unplugged
from edge.samples import Phase

BYTE_NS = 10 * 1_000_000_000 // 57600
READING = b"-0.100000E+00,-1.234567E-07,+2.048400E+04\n"
MS = 1_000_000


class Line(Unplugged):
    """Gives what it was told to."""

    def __init__(self) -> None:
        super().__init__("line", 57600)
        self.data = b""

    def read(self) -> bytes:
        data, self.data = self.data, b""
        return data


class Bench:
    """A poll beside a link and a guard that are real, and a time that is not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.t_ns = 1_000 * MS
        monkeypatch.setattr("time.monotonic_ns", self.now_ns)
        self.line = Line()
        self.link = Link(self.line, self)
        self.guard = Guard(Limits(), series_ohm=1000.0, event=EventConfig())
        self.guard.machine.move(Cause.VERIFIED_OFF)
        self.guard.arm(phase_spec(Phase.SEEK, 1.0), 0.1)
        self.rehearsed = 0
        self.poll = BusyPoll(self.guard, self.link, self._rehearse)

    def now_ns(self) -> int:
        return self.t_ns

    def _rehearse(self) -> None:
        self.rehearsed += 1

    def call_at(self, t_ns: int, callback: Callable[[], None]) -> TimerHandle:
        raise NotImplementedError

    async def sleep_until(self, t_ns: int) -> None:
        raise NotImplementedError

    def energise(self) -> None:
        self.guard.machine.move(Cause.OUTPUT_ON_SENT)

    def ask(self) -> Watch | None:
        self.link.ask(b":READ?\n", lambda _line, _t_ns: None, self.t_ns + 10**9)
        return self.poll()

    def hear(self, data: bytes) -> None:
        self.line.data = data
        self.link.readable()

    def reply(self, after_ns: int, *, in_pieces: bool) -> None:
        """One exchange from its question to its end."""
        self.ask()
        if in_pieces:
            self.hear(READING[:5])
            self.poll()
        self.t_ns += after_ns
        self.hear(READING[5:] if in_pieces else READING)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_no_watch_without_bias_or_question(bench: Bench) -> None:
    assert bench.ask() is None
    bench.link.forget()
    bench.energise()
    assert bench.poll() is None
    assert bench.rehearsed == 0


def test_the_first_reply_has_nothing_to_go_by(bench: Bench) -> None:
    bench.energise()
    assert bench.ask() is None
    assert bench.rehearsed == 1


def test_bytes_that_are_there_tell_when_the_last_one_is_due(bench: Bench) -> None:
    bench.energise()
    bench.reply(20 * MS, in_pieces=True)
    assert bench.ask() is None
    for held in range(1, len(READING)):
        bench.hear(READING[held - 1 : held])
        watch = bench.poll()
        due_ns = bench.t_ns + (len(READING) - held) * BYTE_NS
        assert watch is not None
        assert watch.from_ns == max(due_ns - NEAR_NS, bench.t_ns)
        assert watch.until_ns <= due_ns + LATE_NS
        assert watch.until_ns - watch.from_ns <= SPIN_NS
        # The kernel brings each byte; and no rehearsal may be in the way of the last one.
        assert watch.awake_ns == 0
        assert watch.calm_ns == due_ns - REHEARSAL_NS
        bench.t_ns += BYTE_NS


def test_a_line_that_stalls_is_given_up_and_slept_for(bench: Bench) -> None:
    bench.energise()
    bench.reply(20 * MS, in_pieces=True)
    bench.ask()
    bench.hear(READING[:-1])
    watched_ns = 0
    for _ in range(20):
        watch = bench.poll()
        if watch is None:
            break
        watched_ns += watch.until_ns - max(watch.from_ns, bench.t_ns)
        bench.t_ns = watch.until_ns
    else:
        pytest.fail("it never sleeps again")
    assert 0 < watched_ns <= SPIN_NS + LATE_NS


def test_a_reply_that_comes_as_a_whole_is_expected_from_the_quickest_on(bench: Bench) -> None:
    bench.energise()
    for took_ms in (9, 5, 7):
        bench.reply(took_ms * MS, in_pieces=False)
    watch = bench.ask()
    assert watch is not None
    quickest_ns = 5 * MS + 5 * MS // 64
    assert watch.from_ns == pytest.approx(bench.t_ns + quickest_ns - NEAR_NS, abs=1000)
    assert watch.until_ns - watch.from_ns == WHOLE_NS
    assert watch.awake_ns == AWAKE_NS
    assert watch.calm_ns == watch.until_ns
    bench.t_ns = watch.until_ns
    assert bench.poll() is None


def test_nobody_is_awake_for_bytes_that_announce_themselves(bench: Bench) -> None:
    bench.energise()
    for _ in range(3):
        bench.reply(20 * MS, in_pieces=True)
    assert bench.ask() is None
    bench.t_ns += 19 * MS
    assert bench.poll() is None


def test_no_rehearsal_when_the_end_is_near_but_for_the_first(bench: Bench) -> None:
    bench.energise()
    bench.reply(20 * MS, in_pieces=True)
    bench.ask()
    bench.rehearsed = 0
    left = REHEARSAL_NS // BYTE_NS
    bench.hear(READING[: len(READING) - left - 1])
    bench.poll()
    assert bench.rehearsed == 1
    bench.t_ns += BYTE_NS
    bench.hear(READING[len(READING) - left - 1 : len(READING) - left])
    bench.poll()
    assert bench.rehearsed == 1


def test_a_longer_line_than_ever_is_no_end_in_sight(bench: Bench) -> None:
    bench.energise()
    bench.reply(20 * MS, in_pieces=True)
    bench.ask()
    bench.hear(b"x" * (len(READING) + 5))
    assert bench.poll() is None


def test_a_watch_for_a_whole_reply_takes_nothing_from_that_for_its_pieces(bench: Bench) -> None:
    bench.energise()
    bench.reply(1 * MS, in_pieces=False)
    watch = bench.ask()
    assert watch is not None
    bench.t_ns = watch.until_ns
    assert bench.poll() is None
    bench.t_ns += 5 * MS
    bench.hear(READING[:-2])
    assert bench.poll() is not None
