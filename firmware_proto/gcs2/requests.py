"""The other side of the wire: what a controller makes of the bytes it gets. The emulated stage uses it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from firmware_proto.errors import LocalProtocolError
from firmware_proto.gcs2.commands import is_item
from firmware_proto.gcs2.errors import ErrorCode, GcsError

MAX_LINE: Final = 256
"""Longest command line in bytes; a real controller's limit is not documented. Three axes need under 80."""
MAX_NUMBER: Final = 40
OVERLONG_HEAD: Final = 200

_CONTROL: Final = re.compile(rb"([\x00-\x09\x0b\x0c\x0e-\x1f])")
_DECIMAL: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Single:
    """A single-byte command; ``number`` is that of its manual page: 24 for #24."""

    number: int


@dataclass(frozen=True, slots=True)
class Line:
    """A command line without its line feed."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Overlong:
    """A line went past the cap and is being skipped to its line feed. ``head`` is its start, at most 200 bytes."""

    head: bytes


Event = Single | Line | Overlong


class RequestSplitter:
    """Cut a byte stream into single bytes and lines. Bounded by ``max_line``; any chunking gives the same events.

    A control byte acts where it stands and leaves the line around it alone, the tab, which is #9, among them; CR counts
    as a space. Empty lines vanish.
    """

    __slots__ = ("_held", "_max_line", "_skipping")

    def __init__(self, max_line: int = MAX_LINE) -> None:
        """Cap lines at ``max_line`` bytes (at least 1, else LocalProtocolError)."""
        if max_line < 1:
            raise LocalProtocolError(f"max_line must be at least 1 byte, not {max_line}")
        self._max_line = max_line
        self._held = bytearray()
        self._skipping = False

    @property
    def pending(self) -> int:
        """Bytes held of a line that has not ended."""
        return len(self._held)

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; return what they complete, in order."""
        out: list[Event] = []
        for index, piece in enumerate(_CONTROL.split(data)):
            if index % 2:
                out.append(Single(piece[0]))
            elif piece:
                self._take(piece, out)
        return out

    def _take(self, piece: bytes, out: list[Event]) -> None:
        parts = piece.split(b"\n")
        for index, part in enumerate(parts):
            if part and not self._skipping:
                self._held += part
                if len(self._held) > self._max_line:
                    out.append(Overlong(bytes(self._held[: min(self._max_line, OVERLONG_HEAD)])))
                    self._held.clear()
                    self._skipping = True
            if index < len(parts) - 1:
                if self._held:
                    out.append(Line(bytes(self._held)))
                    self._held.clear()
                self._skipping = False


@dataclass(frozen=True, slots=True)
class Request:
    """A command line taken apart: the mnemonic in capitals, and its words."""

    mnemonic: str
    words: tuple[str, ...]


def parse_request(line: bytes) -> Request | None:
    """Take a command line apart; None if it is blank. Raises GcsError 1 for bytes that no command has."""
    text = line.decode("latin-1").replace("\r", " ")
    if not text.isascii() or not text.isprintable():
        raise GcsError(ErrorCode.SYNTAX, "only printable ASCII makes a command", data=line)
    words = text.split()
    return Request(words[0].upper(), tuple(words[1:])) if words else None


def parse_items(words: Sequence[str]) -> tuple[str, ...]:
    """Return axis or channel names, at least none; raises GcsError 23 for what cannot be one, 22 for a second one."""
    for word in words:
        if not is_item(word):
            raise GcsError(ErrorCode.ILLEGAL_AXIS, "not an identifier", data=word)
    if len(set(words)) != len(words):
        raise GcsError(ErrorCode.DUPLICATE_AXIS, "named twice", data=" ".join(words))
    return tuple(words)


def parse_pairs(words: Sequence[str]) -> dict[str, str]:
    """Return ``{item: word}`` from alternating words; raises GcsError 26 if one is missing, 22 and 23 like items."""
    items = parse_items(words[0::2])
    if not items or len(words) % 2:
        raise GcsError(ErrorCode.MISSING_PARAMETER, "every item needs its value", data=" ".join(words))
    return dict(zip(items, words[1::2], strict=True))


def parse_number(word: str) -> float:
    """Return a finite number; raises GcsError 25 for anything else."""
    if len(word) > MAX_NUMBER or _DECIMAL.fullmatch(word) is None or not math.isfinite(float(word)):
        raise GcsError(ErrorCode.BAD_NUMBER, "not a number", data=word)
    return float(word)


def parse_switch(word: str) -> bool:
    """Return a boolean from ``0`` or ``1``; raises GcsError 25 for no number, 17 for another."""
    number = parse_number(word)
    if number not in {0.0, 1.0}:
        raise GcsError(ErrorCode.PARAMETER_OUT_OF_RANGE, "neither 0 nor 1", data=word)
    return number == 1.0
