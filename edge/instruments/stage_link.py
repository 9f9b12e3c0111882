"""Questions and replies on the line of a stage controller, and stops that never wait.

A sibling of :mod:`edge.instruments.link`, whose hot path has no place for this. What a reply is, the splitter says.
Replies carry no tag, and many look alike: one that comes late could pass for the answer to the next question. After a
time-out the line must first have been quiet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from edge.clock import Clock
from edge.errors import InstrumentError, LinkLostError, ReplyTimeoutError
from edge.instruments.transport import Transport
from edge.instruments.unsent import Unsent

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

QUIET_S: Final = 0.25
"""Silence after a time-out before the next question: longer than any reply is late that is still coming."""
NOISY_S: Final = 3.0
"""A line that is not quiet for so long is given up."""
MAX_UNSENT: Final = 4096
RETRY_NS: Final = 5_000_000


class Splitter(Protocol[R_co]):
    """Cuts a byte stream into replies."""

    def feed(self, data: bytes) -> Sequence[R_co]:
        """Take the next bytes; return the replies they complete."""

    def reset(self) -> None:
        """Forget an unfinished reply."""


class StageLink(Generic[R]):
    """One controller's line, shared by the drivers on it (stage, contact). Hold ``lock`` around an exchange."""

    def __init__(self, transport: Transport, clock: Clock, splitter: Splitter[R]) -> None:
        """Take over ``transport``'s readable callback; sends nothing."""
        self.transport = transport
        self.clock = clock
        self.lock = asyncio.Lock()
        self.on_lost: Callable[[LinkLostError], None] = lambda _error: None
        self.lost: LinkLostError | None = None
        self.strays = 0
        """Replies nobody had asked for."""
        self._splitter = splitter
        self._waiting: asyncio.Future[R] | None = None
        self._unsent = Unsent(transport, clock, RETRY_NS, self._lose)
        self._doubtful = False
        self._doubted_ns = 0
        self._heard_ns = 0
        transport.on_readable(self.readable)

    def readable(self) -> None:
        """Read what has arrived and hand out complete replies."""
        try:
            data = self.transport.read()
        except LinkLostError as error:
            self._lose(error)
            return
        if not data:
            return
        self._heard_ns = self.clock.now_ns()
        for event in self._splitter.feed(data):
            self._hand_out(event)

    def _hand_out(self, event: R) -> None:
        """Give a reply to whoever waits for one."""
        if self._waiting is None or self._waiting.done():
            self.strays += 1
        else:
            self._waiting.set_result(event)

    def _lose(self, error: LinkLostError) -> None:
        if self.lost is None:
            self.lost = error
            self._unsent.clear()
            self.transport.on_readable(None)
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_exception(error)
            self.on_lost(error)

    def write(self, data: bytes) -> None:
        """Hand a whole message to the line, behind whatever it has not taken yet; never waits, never raises.

        A link that is found to be gone is told by ``on_lost`` and by the next question. While the line has not taken
        MAX_UNSENT bytes, further messages are dropped whole: then only the repeats of a stop get that far.
        """
        if self.lost is not None:
            return
        self._unsent.offer()
        if len(self._unsent) < MAX_UNSENT:
            self._unsent.add(data)

    async def query(self, message: bytes, timeout_s: float) -> R:
        """Ask and return the whole reply; call it with ``lock`` held.

        Raises ReplyTimeoutError, LinkLostError, or InstrumentError for what the splitter calls no reply.
        """
        if self.lost is not None:
            raise self.lost
        if self._waiting is not None:
            raise InstrumentError(f"{self.transport.name}: a question was asked before the last one was answered")
        if self._doubtful:
            await self._quiet()
        reply: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        asked = message.rstrip().decode("ascii", "backslashreplace")

        def give_up() -> None:
            if not reply.done():
                reply.set_exception(
                    ReplyTimeoutError(
                        f"{self.transport.name}: no reply to {asked!r} in {timeout_s:g} s; is the stage controller "
                        "on, and at this baud rate?"
                    )
                )

        self._waiting = reply
        # Until the reply is here, whatever ends this wait leaves a reply on its way.
        self._doubtful = True
        self._ask(message)
        timer = self.clock.call_at(self.clock.now_ns() + int(timeout_s * 1e9), give_up)
        try:
            event = await reply
        finally:
            timer.cancel()
            self._waiting = None
            self._doubted_ns = self.clock.now_ns()
        self._refuse(event, asked)
        self._doubtful = False
        return event

    def doubt(self) -> None:
        """Say that the last reply was none to its question: it may be that of another, whose own is then on its way.

        The next question waits until the line has been quiet; else every reply would be taken for the next one's.
        """
        self._doubtful = True
        self._doubted_ns = self.clock.now_ns()

    def _ask(self, message: bytes) -> None:
        self.write(message)

    def _refuse(self, event: R, asked: str) -> None:
        """Raise InstrumentError for an event that is no reply: the line is then quiet before the next question."""

    async def _quiet(self) -> None:
        began_ns = self.clock.now_ns()
        quiet_ns = int(QUIET_S * 1e9)
        # What was silence since the doubt began, counts: whoever asks again later need not wait as long.
        while (due_ns := max(self._heard_ns, self._doubted_ns) + quiet_ns) > (now_ns := self.clock.now_ns()):
            if now_ns - began_ns > NOISY_S * 1e9:
                raise InstrumentError(f"{self.transport.name}: the line does not get quiet; is a stage at its end?")
            await self.clock.sleep_until(due_ns)
            if self.lost is not None:
                raise self.lost
        self._splitter.reset()
        self._doubtful = False
