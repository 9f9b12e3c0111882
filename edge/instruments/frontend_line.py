"""Bytes to and from a front end: messages go out whole and in order, and a trip goes before all of them.

A sibling of :mod:`edge.instruments.stage_link`: nothing here waits, and what is urgent takes the place of what has not
been sent yet. That may tear a frame apart; a trip begins with a delimiter, so the device drops the torn one and nothing
else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edge.clock import Clock
from edge.errors import LinkLostError
from edge.instruments.transport import Transport
from edge.instruments.unsent import Unsent

MAX_UNSENT: Final = 4096
RETRY_NS: Final = 1_000_000
READ_BYTES: Final = 4096
"""Most that a transport gives at once."""
READS: Final = 2
"""Of up to 4096 bytes per turn, a millisecond's work: then others have theirs, the instrument's readings before all."""


class FrontendLine:
    """One front end's transport."""

    def __init__(self, transport: Transport, clock: Clock, on_data: Callable[[bytes, int], None]) -> None:
        """Take over ``transport``'s readable callback. ``on_data``: gets bytes and the time they were there."""
        self.transport = transport
        self.on_lost: Callable[[LinkLostError], None] = lambda _error: None
        """Called once, when the transport is gone."""
        self.lost: LinkLostError | None = None
        self.dropped = 0
        """Messages that the line did not take for so long that they were given up."""
        self._clock = clock
        self._on_data = on_data
        self._unsent = Unsent(transport, clock, RETRY_NS, self._lose)
        transport.on_readable(self.readable)

    @property
    def backlog(self) -> int:
        """Bytes that the line has not taken yet."""
        return len(self._unsent)

    def readable(self) -> None:
        """Hand on what has arrived; the way from a device's trip to its callback begins here."""
        for _ in range(READS):
            try:
                data = self.transport.read()
            except LinkLostError as error:
                self._lose(error)
                return
            if not data:
                return
            self._on_data(data, self._clock.now_ns())
            if len(data) < READ_BYTES:
                # There was no more; asking again would only cost time.
                return

    def write(self, data: bytes) -> None:
        """Send a whole message behind what the line has not taken yet; never waits, never raises."""
        if self.lost is not None:
            return
        if len(self._unsent) + len(data) > MAX_UNSENT:
            self.dropped += 1
            return
        self._unsent.add(data)

    def urgent(self, data: bytes) -> None:
        """Send a message that begins with a delimiter, now, in the place of what the line has not taken yet."""
        if self.lost is not None:
            return
        self._unsent.replace(data)

    def _lose(self, error: LinkLostError) -> None:
        self.lost = error
        self._unsent.clear()
        self.transport.on_readable(None)
        self.on_lost(error)

    def close(self) -> None:
        """Let go of the transport's callback and of what was not sent."""
        self._unsent.clear()
        if self.lost is None:
            self.transport.on_readable(None)
