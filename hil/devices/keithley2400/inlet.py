"""What arrives at the emulated 2400: the bounded input queue, and messages out of it.

The parser takes bytes as they come while the unit is idle, and assembles a message of any legal length. While a
command is being executed it takes nothing: bytes wait in the queue, and what arrives when that is full is lost, byte
by byte, terminators too. What is left of one message then runs into the next one (User's Manual 14-15: "data will be
lost"), as with any receive buffer. How large a real unit's queue is, is not documented.
"""

from __future__ import annotations

from typing import Final

from firmware_proto.scpi import LineSplitter, Overlong

MESSAGE_BYTES: Final = 4096
"""The longest message; one of a list command with its 100 values has 1400 bytes."""

_TERMINATORS: Final = b"\r\n"


class Inlet:
    """The input queue, ``capacity`` bytes, and the message under assembly."""

    __slots__ = ("_begun", "_overrunning", "_queue", "_splitter", "capacity")

    def __init__(self, capacity: int) -> None:
        """Begin empty."""
        self.capacity = capacity
        self._queue = bytearray()
        self._splitter = LineSplitter(MESSAGE_BYTES)
        self._overrunning = False
        self._begun = False

    @property
    def level(self) -> int:
        """Bytes that wait."""
        return len(self._queue)

    @property
    def overrunning(self) -> bool:
        """Whether the newest bytes were lost."""
        return self._overrunning

    def put(self, data: bytes) -> bool:
        """Queue bytes; return whether an overrun begins: bytes are lost, and those before them were not."""
        queue = self._queue
        room = self.capacity - len(queue)
        if len(data) <= room:
            queue += data
            self._overrunning = False
            return False
        queue += data[:room]
        begins = room > 0 or not self._overrunning
        self._overrunning = True
        return begins

    def assemble(self, data: bytes) -> bytes | Overlong | None:
        """Give bytes, at most one terminator behind them, to the parser, with nothing queued; return what they end."""
        ended = data.endswith((b"\r", b"\n"))
        if ended and not self._begun and len(data) <= MESSAGE_BYTES:
            # The usual case: one whole message.
            return data.rstrip(_TERMINATORS) or None
        self._begun = not ended
        lines = self._splitter.feed(data)
        return lines[0] if lines else None

    def take(self) -> bytes | Overlong | None:
        """Take a message out of the queue, or a marker for one that was too long; None when there is none yet."""
        queue = self._queue
        while queue:
            cut = _terminator(queue, 0) + 1 or len(queue)
            piece = bytes(queue[:cut])
            del queue[:cut]
            self._begun = not piece.endswith((b"\r", b"\n"))
            if lines := self._splitter.feed(piece):
                return lines[0]
        return None

    def newest(self) -> bytes:
        """Return the last message in the queue, without its terminator; empty if the last byte is not a terminator."""
        if not self._queue.endswith((b"\r", b"\n")):
            return b""
        text = bytes(self._queue).rstrip(_TERMINATORS)
        return text[max(text.rfind(b"\r"), text.rfind(b"\n")) + 1 :]

    def clear(self) -> None:
        """Forget everything, the unfinished message too."""
        self._queue.clear()
        self._splitter.reset()
        self._overrunning = self._begun = False


def _terminator(data: bytearray, start: int) -> int:
    """Return where the first terminator is, or -1."""
    carriage, line = data.find(b"\r", start), data.find(b"\n", start)
    return max(carriage, line) if carriage < 0 or line < 0 else min(carriage, line)
