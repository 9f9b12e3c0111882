"""Bytes to reply lines, by the one end of line that a map declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from firmware_proto.errors import LocalProtocolError

ENDS: Final[dict[str, bytes]] = {"LF": b"\n", "CR": b"\r", "CRLF": b"\r\n"}
ANY: Final = "ANY"
"""Every CR and every LF ends a line; empty lines vanish."""
OVERLONG_HEAD: Final = 200


@dataclass(frozen=True, slots=True)
class Overlong:
    """A line went past the cap and is being skipped to its end. ``head`` is its start, at most 200 bytes."""

    head: bytes


class EndSplitter:
    """Cut a byte stream into lines. Memory is bounded by ``max_line``; any chunking gives the same lines.

    Only the declared end is one: a minus sign that lost a bit is a CR, and what is left of ``POS=-12.3`` where CR ends
    a line too would be a position. Empty lines vanish.
    """

    __slots__ = ("_end", "_held", "_max_line", "_skipping")

    def __init__(self, end: str, max_line: int) -> None:
        """Take an end of :data:`ENDS`, or ANY, and cap lines at ``max_line`` bytes (1 or more, else an error)."""
        if end != ANY and end not in ENDS:
            raise LocalProtocolError(f"end must be one of {', '.join([*ENDS, ANY])}, not {end!r}")
        if max_line < 1:
            raise LocalProtocolError(f"max_line must be at least 1 byte, not {max_line}")
        self._end = ENDS.get(end, b"\n")
        if end == ANY:
            self._end = b""
        self._max_line = max_line
        self._held = bytearray()
        self._skipping = False

    @property
    def pending(self) -> int:
        """Bytes held of a line that has not ended."""
        return len(self._held)

    def reset(self) -> None:
        """Forget the unfinished line, and stop skipping an over-long one."""
        self._held.clear()
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes | Overlong]:
        """Take the next bytes; return the lines they complete without their ends, and a marker per over-long one."""
        out: list[bytes | Overlong] = []
        held = self._held
        for byte in data:
            held.append(byte)
            if self._ended():
                line = bytes(held[: len(held) - max(1, len(self._end))])
                held.clear()
                if line and not self._skipping:
                    out.append(line)
                self._skipping = False
            elif self._skipping:
                # All that is needed of it is what may be the first half of its end.
                del held[:-1]
            elif len(held) > self._max_line + len(self._end):
                out.append(Overlong(bytes(held[:OVERLONG_HEAD])))
                del held[:-1]
                self._skipping = True
        return out

    def _ended(self) -> bool:
        return self._held.endswith(self._end) if self._end else self._held[-1] in b"\r\n"
