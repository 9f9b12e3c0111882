"""What records a worker's life while it goes on: its ports, its clock, its loop (:mod:`edge.tape` says what is kept).

Nothing here writes anywhere. An entry is appended to a list, a cut's bytes after they went out; the recorder empties
the list into the ring every 20 ms. A clock's reading costs one append, a read or a write of a port one more reading.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from edge.clock import Clock, TimerHandle
from edge.errors import LinkLostError
from edge.instruments.port import HotSelector
from edge.instruments.transport import Transport
from edge.tape import DRAW, HOST, IN, LOST_IN, LOST_OUT, OUT, RING, VERB, Entry

MAX_TEXT: Final = 300


class Tape:
    """The entries that are not in the ring yet. ``append`` stays the same for good: whoever records holds on to it."""

    def __init__(self, clock: Clock) -> None:
        """Begin empty. ``clock`` dates what has no time of its own."""
        self.clock = clock
        self.entries: list[Entry] = []
        self.append = self.entries.append
        self.turns = False
        """A loop marks its turns on this tape; without, timers ran exactly when they were due (virtual time)."""

    def verb(self, name: str, arguments: dict[str, Any]) -> None:
        """Record what somebody asked for; ``arguments`` are plain values."""
        self.append((VERB, self.clock.now_ns(), name, arguments))

    def draw(self, what: str, value: int) -> None:
        """Record a random number."""
        self.append((DRAW, what, value))

    def host(self, fault: str) -> None:
        """Record a fault of the host."""
        self.append((HOST, fault[:MAX_TEXT]))

    def ring(self, used: float) -> None:
        """Record how full the ring was found."""
        self.append((RING, used))


class RecordingTransport:
    """A transport whose traffic goes onto a tape; otherwise the one inside."""

    def __init__(self, inner: Transport, tape: Tape, port: int) -> None:
        """``port``: SMU, STAGE or FRONTEND, as in :mod:`edge.tape`."""
        self._inner = inner
        self._port = port
        self._append = tape.append
        self._read = inner.read
        self._write = inner.write
        self._now_ns = tape.clock.now_ns

    @property
    def name(self) -> str:
        """See Transport."""
        return self._inner.name

    @property
    def emulated(self) -> bool:
        """See Transport."""
        return self._inner.emulated

    @property
    def baud(self) -> int:
        """See Transport."""
        return self._inner.baud

    def read(self) -> bytes:
        """See Transport."""
        try:
            data = self._read()
        except LinkLostError as error:
            self._lost(LOST_IN, error)
            raise
        if data:
            self._append((IN, self._now_ns(), self._port, data))
        return data

    def write(self, data: bytes) -> int:
        """See Transport. The entry is made when the bytes are on their way, never before."""
        try:
            taken = self._write(data)
        except LinkLostError as error:
            self._lost(LOST_OUT, error)
            raise
        if taken == len(data):
            self._append((OUT, self._now_ns(), self._port, data))
        else:
            self._append((OUT, self._now_ns(), self._port, data, taken))
        return taken

    def _lost(self, code: int, error: LinkLostError) -> None:
        self._append((code, self._now_ns(), self._port, error.errno, str(error.strerror or error)[:MAX_TEXT]))

    def unsent(self) -> int:
        """See Transport."""
        return self._inner.unsent()

    def on_readable(self, callback: Callable[[], None] | None) -> None:
        """See Transport."""
        self._inner.on_readable(callback)

    def close(self) -> None:
        """See Transport."""
        self._inner.close()


class StepClock:
    """What both the clock that records and the one that replays have in common: how they wait.

    One reading before a wait and none after it, whatever loop is underneath.
    """

    def now_ns(self) -> int:
        """See Clock."""
        raise NotImplementedError

    def call_at(self, t_ns: int, callback: Callable[[], None]) -> TimerHandle:
        """See Clock."""
        raise NotImplementedError

    async def sleep_until(self, t_ns: int) -> None:
        """See Clock."""
        if t_ns <= self.now_ns():
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_at(t_ns, lambda: None if waiter.done() else waiter.set_result(None))
        try:
            await waiter
        finally:
            timer.cancel()


class RecordingClock(StepClock):
    """A clock whose readings go onto a tape."""

    def __init__(self, inner: Clock, tape: Tape) -> None:
        """``inner``: the clock that is read."""
        self._inner = inner
        self._read = inner.now_ns
        self._append = tape.append

    def now_ns(self) -> int:
        """See Clock."""
        t_ns = self._read()
        self._append(t_ns)
        return t_ns

    def call_at(self, t_ns: int, callback: Callable[[], None]) -> TimerHandle:
        """See Clock."""
        return self._inner.call_at(t_ns, callback)


class RecordingLoop(asyncio.SelectorEventLoop):
    """The worker's loop. Which timers run in a turn is decided by one look at the clock; that look goes onto the tape.

    asyncio takes it right behind the selector's poll. Hot descriptors are served inside the poll, so what came from
    them stands before the turn's mark, everything else behind it.
    """

    def __init__(self, selector: HotSelector) -> None:
        """Without a tape, as any loop; :meth:`record` begins."""
        self._polled = selector
        self._append: Callable[[Entry], None] | None = None
        super().__init__(selector)

    def record(self, tape: Tape) -> None:
        """Mark turns on ``tape`` from the next one on."""
        tape.turns = True
        self._polled.polled = False
        self._append = tape.append

    def time(self) -> float:
        """Return CLOCK_MONOTONIC in s."""
        t_ns = time.monotonic_ns()
        if self._polled.polled:
            self._polled.polled = False
            if self._append is not None:
                self._append(~t_ns)
        return t_ns / 1e9
