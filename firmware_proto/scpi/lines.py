"""Bytes to lines: any of the four terminators, bounded, one pass."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from firmware_proto.errors import LocalProtocolError

DEFAULT_MAX_LINE: Final = 4096
OVERLONG_HEAD: Final = 200
"""Bytes of an over-long line that its marker keeps."""

_TERMINATOR = re.compile(rb"[\r\n]")


@dataclass(frozen=True, slots=True)
class Overlong:
    """A line went past the cap and is being skipped to its terminator. ``head`` is its start, at most 200 bytes."""

    head: bytes


class LineSplitter:
    """Split a byte stream into lines without their terminators.

    CR, LF, CRLF and LFCR end a line in any mix (the 2400 sends any of the four, User's Manual 14-13 to 14-17): every
    CR or LF is a terminator and empty lines are dropped, so the second byte of a pair costs nothing. NUL bytes are
    dropped, because real units put one in front of a reply (pymeasure#954). A line longer than ``max_line`` bytes is
    reported once, as :class:`Overlong`, at the byte that breaks the cap; its rest is skipped to the next terminator.

    Memory is bounded by ``max_line``; each byte is looked at once; any chunking of a stream gives the same list.
    """

    __slots__ = ("_held", "_max_line", "_skipping")

    def __init__(self, max_line: int = DEFAULT_MAX_LINE) -> None:
        """Cap lines at ``max_line`` bytes (at least 1, else LocalProtocolError), terminator not counted."""
        if max_line < 1:
            raise LocalProtocolError(f"max_line must be at least 1 byte, not {max_line}")
        self._max_line = max_line
        self._held = bytearray()
        self._skipping = False

    @property
    def pending(self) -> int:
        """Bytes held of a line that has not ended; 0 while an over-long line is skipped."""
        return len(self._held)

    def reset(self) -> None:
        """Forget the unfinished line, and stop skipping an over-long one."""
        self._held.clear()
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes | Overlong]:
        """Take the next bytes; return the lines they complete, in order, and a marker per over-long line."""
        # The end of one reply and nothing else, which is what a guard waits for: the short way to the same list.
        if not self._skipping and 0 not in data:
            # Bytes are split at CR, LF and CRLF, so one piece that is one byte shorter ended in CR or in LF.
            whole = data.splitlines()
            if len(whole) == 1 and len(whole[0]) == len(data) - 1 and len(self._held) + len(data) <= self._max_line:
                line = whole[0]
                if self._held:
                    line = bytes(self._held + line)
                    self._held.clear()
                return [line] if line else []
        if b"\0" in data:
            data = data.replace(b"\0", b"")
        pieces = _TERMINATOR.split(data)
        out: list[bytes | Overlong] = []
        last = len(pieces) - 1
        for index, piece in enumerate(pieces):
            if piece and not self._skipping:
                self._take(piece, out)
            if index == last:
                break
            if self._held:
                out.append(bytes(self._held))
                self._held.clear()
            self._skipping = False
        return out

    def _take(self, piece: bytes, out: list[bytes | Overlong]) -> None:
        if len(self._held) + len(piece) <= self._max_line:
            self._held += piece
            return
        # The head is cut at the cap so that it does not depend on how the bytes were chunked.
        head = bytes(self._held + piece[: self._max_line - len(self._held)])[:OVERLONG_HEAD]
        out.append(Overlong(head))
        self._held.clear()
        self._skipping = True
