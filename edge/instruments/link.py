"""Messages and reply lines on a transport: one question at a time, and nothing unexpected goes unseen."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Final

from edge.clock import Clock
from edge.errors import InstrumentError, LinkLostError, ReplyTimeoutError
from edge.instruments.transport import Transport
from firmware_proto.scpi import LineSplitter, Overlong

MAX_REPLY: Final = 512
"""Longest reply line in bytes; the longest legal one, an entry of the error queue, is under 250."""

MAX_UNSENT: Final = 4096
"""Bytes kept for a line that takes none: the size of a Linux tty's own buffer."""

MAX_HEARD: Final = 16
MAX_OWED: Final = 16
"""Acknowledgements on their way; more than a set-up's batch can cause is no longer counted."""

LineHandler = Callable[[bytes, int], None]
"""Gets a reply line without its terminator, and the time its last byte was seen."""


@dataclasses.dataclass(frozen=True, slots=True)
class Acknowledgements:
    """A line that an instrument sends beside its answers: how often for a command, a query, and both in one message."""

    text: bytes
    per_set: int = 0
    per_query: int = 0
    per_chain: int = 0

    def owed(self, data: bytes) -> int:
        """Return how many are to be expected for what is written."""
        count = 0
        for line in data.split(b"\n"):
            if not line:
                continue
            if b"?" not in line:
                count += self.per_set
            elif b"?" in line.split(b";", 1)[0]:
                count += self.per_query
            else:
                count += self.per_chain
        return count


class Link:
    """One instrument's line.

    ``on_stray`` gets lines nobody asked for; ``on_lost`` the end of the link. Both are called from the hot path.
    At most one question is outstanding; asking a second is a bug and raises. Lines that are exactly the instrument's
    known acknowledgement, as many as are owed for what was written, are dropped; every other line is judged.
    """

    def __init__(self, transport: Transport, clock: Clock) -> None:
        """Take over ``transport``'s readable callback."""
        self.transport = transport
        self.clock = clock
        self.on_stray: LineHandler = self._count_stray
        self.on_lost: Callable[[LinkLostError], None] = self._raise_lost
        self.on_outstanding: Callable[[bool], None] = lambda _: None
        self.strays = 0
        self.lost: LinkLostError | None = None
        self._splitter = LineSplitter(MAX_REPLY)
        self._handler: LineHandler | None = None
        self.asked = 0
        """Questions so far."""
        self.reply_bytes = 0
        """Length of the last reply, without its terminator."""
        self._unsent = b""
        self._waiting: asyncio.Future[bytes] | None = None
        self._heard: list[bytes] | None = None
        self.acknowledgements: Acknowledgements | None = None
        """What the instrument is known to send beside its answers; None for one that only answers."""
        self._excused = 0
        self.deadline_ns = 0
        transport.on_readable(self.readable)

    @property
    def outstanding(self) -> bool:
        """True while a reply is awaited."""
        return self._handler is not None

    @property
    def held(self) -> int:
        """Bytes that are there of a line whose end is not."""
        return self._splitter.pending

    def _count_stray(self, _line: bytes, _t_ns: int) -> None:
        self.strays += 1

    @staticmethod
    def _raise_lost(error: LinkLostError) -> None:
        raise error

    def readable(self) -> None:
        """Read what has arrived and hand out complete lines; the hot path starts here."""
        try:
            data = self.transport.read()
        except LinkLostError as error:
            self._lose(error)
            return
        if not data:
            return
        now_ns = self.clock.now_ns()
        asked = self.asked
        for line in self._splitter.feed(data):
            handler = self._handler
            if isinstance(line, Overlong):
                line = b"\xff" * 80  # noqa: PLW2901 - no reply parses from this: the asker judges it as garbage
            if self._excused and self.acknowledgements is not None and line == self.acknowledgements.text:
                self._excused -= 1
                continue
            # What was here before a question was sent, is not its answer.
            if handler is None or asked != self.asked:
                if self._heard is not None:
                    self._heard.append(line)
                self.on_stray(line, now_ns)
            else:
                self._handler = None
                self.reply_bytes = len(line)
                self.on_outstanding(False)
                handler(line, now_ns)

    def _lose(self, error: LinkLostError) -> None:
        if self.lost is None:
            self.lost = error
            self.transport.on_readable(None)
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_exception(error)
            self.on_lost(error)

    def write(self, data: bytes) -> None:
        """Hand bytes to the line, in order, behind whatever it has not taken yet; at MAX_UNSENT they are dropped."""
        if self.acknowledgements is not None:
            self._excused = min(self._excused + self.acknowledgements.owed(data), MAX_OWED)
        if self._unsent:
            # On a line that takes nothing only the rounds of a cut get that far, and they are all the same.
            data = self._unsent + data if len(self._unsent) < MAX_UNSENT else self._unsent
        try:
            taken = self.transport.write(data)
        except LinkLostError as error:
            self._lose(error)
            return
        self._unsent = data[taken:]

    @property
    def unsent(self) -> int:
        """Bytes written and not yet on the wire, as far as can be known."""
        return len(self._unsent) + self.transport.unsent()

    def ask(self, message: bytes, handler: LineHandler, deadline_ns: int) -> None:
        """Send a question; ``handler`` gets its reply line. The caller watches ``deadline_ns``."""
        self._refuse_second()
        self._handler = handler
        self.asked += 1
        self.deadline_ns = deadline_ns
        # Set before the write: from the first byte on a reply may come (keeper: abort only if outstanding).
        self.on_outstanding(True)
        self.write(message)

    def _refuse_second(self) -> None:
        if self._handler is not None:
            raise InstrumentError(f"{self.transport.name}: a question was asked before the last one was answered")

    def forget(self) -> None:
        """Stop waiting for the outstanding reply; if it still comes it is a stray."""
        if self._handler is not None:
            self._handler = None
            self.on_outstanding(False)

    async def query(self, message: bytes, timeout_s: float) -> bytes:
        """Ask with the output off and wait; raise ReplyTimeoutError or LinkLostError."""
        if self.lost is not None:
            raise self.lost
        # Before anything of the question that is being answered is touched.
        self._refuse_second()
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        deadline_ns = self.clock.now_ns() + int(timeout_s * 1e9)

        def give_up() -> None:
            if not reply.done():
                self.forget()
                asked = message.rstrip().decode("ascii", "replace")
                reply.set_exception(
                    ReplyTimeoutError(
                        f"{self.transport.name}: no reply to {asked!r} in {timeout_s:g} s; is the instrument on, at "
                        "this baud rate, and on RS-232?"
                    )
                )

        def answered(line: bytes, _t_ns: int) -> None:
            if not reply.done():
                reply.set_result(line)

        self._waiting = reply
        self.ask(message, answered, deadline_ns)
        timer = self.clock.call_at(deadline_ns, give_up)
        try:
            return await reply
        finally:
            timer.cancel()
            self._waiting = None
            self.forget()

    async def listen(self, message: bytes, quiet_s: float) -> list[bytes]:
        """Send with the output off and return every line that comes until ``quiet_s`` pass without one.

        At most 16 lines, or 16 times ``quiet_s``. They count as strays, being nobody's answers.
        """
        self._refuse_second()
        heard: list[bytes] = []
        self._heard = heard
        try:
            self.write(message)
            for _ in range(MAX_HEARD):
                before = len(heard)
                await self.settle(quiet_s)
                if self.lost is not None:
                    raise self.lost
                if len(heard) == before or len(heard) >= MAX_HEARD:
                    break
        finally:
            self._heard = None
        return heard[:MAX_HEARD]

    async def settle(self, quiet_s: float) -> None:
        """Wait for ``quiet_s`` of silence's worth of time, so that late replies become strays, not answers.

        What is there of a line without its end is dropped, if nobody waits for it: an abort cuts replies off in the
        middle, and their beginning must not become that of the next one.
        """
        await self.clock.sleep_until(self.clock.now_ns() + int(quiet_s * 1e9))
        if self._handler is None:
            self._splitter.reset()
