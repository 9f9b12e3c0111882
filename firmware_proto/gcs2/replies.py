"""Replies of a GCS 2.0 controller: framing, and strict parsers that give a value or a typed error.

A reply is one or more lines. All but the last end with space and line feed, the last with a line feed that no space
precedes (MS249E p. 116); so the end of a reply is known without knowing the question. The reply to #7 is one byte
above 0x7F, with a line feed behind it (MS249E p. 116: also replies to single bytes are terminated), which is taken
but not waited for.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from firmware_proto.gcs2.commands import is_item

MAX_REPLY: Final = 32 * 1024
"""Longest reply in bytes; the longest legal one is that of ``HLP?``, some 100 lines of up to 100 characters."""
OVERLONG_HEAD: Final = 200
IS_READY: Final = 0xB1
NOT_READY: Final = 0xB0

_LF: Final = 0x0A
_NUMBER: Final = re.compile(rb" {0,8}([+-]?[0-9]{1,12}(?:\.[0-9]{1,12})?(?:[eE][+-][0-9]{2})?)").fullmatch
_INTEGER: Final = re.compile(rb"[+-]?[0-9]{1,6}").fullmatch
_HEX: Final = re.compile(rb"(?:0x)?([0-9A-Fa-f]{1,8})").fullmatch
_MNEMONIC: Final = re.compile(rb"(#[0-9]{1,3}|\*?[A-Z][A-Z0-9]{2}\??)(?:[^A-Za-z0-9?]|\Z)").match


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole reply: its lines, without the spaces and line feeds that end them. Never without a line."""

    lines: tuple[bytes, ...]

    @property
    def line(self) -> bytes:
        """The only line. Raises RemoteProtocolError if there are more."""
        if len(self.lines) != 1:
            raise _bad("one line", self)
        return self.lines[0]


@dataclass(frozen=True, slots=True)
class Overlong:
    """A reply went past the cap and is being skipped to its end. ``head`` is its start, at most 200 bytes."""

    head: bytes


class ReplySplitter:
    """Cut a byte stream into replies. Memory is bounded by ``max_reply``; any chunking gives the same events."""

    __slots__ = ("_before", "_held", "_max_reply", "_skipping")

    def __init__(self, max_reply: int = MAX_REPLY) -> None:
        """Cap replies at ``max_reply`` bytes (at least 1, else LocalProtocolError)."""
        if max_reply < 1:
            raise LocalProtocolError(f"max_reply must be at least 1 byte, not {max_reply}")
        self._max_reply = max_reply
        self._held = bytearray()
        self._skipping = False
        self._before = 0  # the byte before, while skipping

    @property
    def pending(self) -> int:
        """Bytes held of a reply that has not ended; 0 while an over-long one is skipped."""
        return len(self._held)

    def reset(self) -> None:
        """Forget the unfinished reply, and stop skipping an over-long one."""
        self._held.clear()
        self._skipping = False

    def feed(self, data: bytes) -> list[Reply | Overlong]:
        """Take the next bytes; return the replies they complete, in order, and a marker per over-long one."""
        out: list[Reply | Overlong] = []
        held = self._held
        for byte in data:
            if self._skipping:
                self._skipping = not (byte == _LF and self._before != 0x20)
                self._before = byte
            elif byte == _LF:
                if held and held[-1] == 0x20:
                    self._take(byte, out)
                elif held:
                    out.append(_reply(held))
                    held.clear()
                # A line feed on its own ends nothing: it is the one behind the byte of #7.
            elif not held and byte in {IS_READY, NOT_READY}:
                out.append(Reply((bytes((byte,)),)))
            else:
                self._take(byte, out)
        return out

    def _take(self, byte: int, out: list[Reply | Overlong]) -> None:
        self._held.append(byte)
        if len(self._held) > self._max_reply:
            out.append(Overlong(bytes(self._held[:OVERLONG_HEAD])))
            self._held.clear()
            self._skipping = True
            self._before = byte


def _reply(held: bytearray) -> Reply:
    return Reply(tuple(line.removesuffix(b" ") for line in bytes(held).split(b"\n")))


def _bad(what: str, reply: Reply) -> RemoteProtocolError:
    data = b"\n".join(reply.lines)
    return RemoteProtocolError(f"not {what}: {data[:80]!r}", data=data[:200])


def _assigned(reply: Reply, items: Iterable[str]) -> list[tuple[str, bytes]]:
    """Return item and value of each line; exactly the items that were asked for, in their order."""
    names = list(items)
    if len(reply.lines) != len(names):
        raise _bad(f"one line for each of {', '.join(names)}", reply)
    found = []
    for name, line in zip(names, reply.lines, strict=True):
        key, equals, value = line.partition(b"=")
        if not equals or key.strip(b" ") != name.encode("ascii", "replace"):
            raise _bad(f"{name}=value", reply)
        found.append((name, value))
    return found


def parse_values(reply: Reply, items: Iterable[str]) -> dict[str, float]:
    """Parse ``item=number`` lines, one for each item asked for, in that order (MS249E p. 117).

    An exponent has two digits, as these controllers send it, so that one cut short does not parse. Raises
    RemoteProtocolError for anything else.
    """
    values = {}
    for name, text in _assigned(reply, items):
        match = _NUMBER(text)
        if match is None or not math.isfinite(float(match[1])):
            raise _bad(f"{name}=number", reply)
        values[name] = float(match[1])
    return values


def parse_flags(reply: Reply, items: Iterable[str]) -> dict[str, bool]:
    """Parse ``item=0|1`` lines, one for each item asked for; raises RemoteProtocolError for anything else."""
    flags = {}
    for name, text in _assigned(reply, items):
        if text not in {b"0", b"1"}:
            raise _bad(f"{name}=0 or {name}=1", reply)
        flags[name] = text == b"1"
    return flags


def parse_words(reply: Reply, items: Iterable[str]) -> dict[str, str]:
    """Parse ``item=word`` lines (units, stage types), printable ASCII; raises RemoteProtocolError otherwise."""
    words = {}
    for name, text in _assigned(reply, items):
        word = text.strip(b" ").decode("latin-1")
        if not 0 < len(word) <= 64 or not word.isascii() or not word.isprintable():
            raise _bad(f"{name}=word", reply)
        words[name] = word
    return words


def parse_error(reply: Reply) -> int:
    """Parse the reply to ``ERR?``: a number, 0 for no error. Raises RemoteProtocolError for anything else."""
    line = reply.line
    if _INTEGER(line) is None:
        raise _bad("an error number", reply)
    return int(line)


def parse_count(reply: Reply) -> int:
    """Parse a number of things, 0..9999; raises RemoteProtocolError for anything else."""
    line = reply.line
    if _INTEGER(line) is None or not 0 <= int(line) <= 9999:
        raise _bad("a count", reply)
    return int(line)


def parse_axes(reply: Reply) -> tuple[str, ...]:
    """Parse the reply to ``SAI?``: one axis identifier a line. Raises RemoteProtocolError for anything else."""
    axes = tuple(line.strip(b" ").decode("latin-1") for line in reply.lines)
    if len(set(axes)) != len(axes) or not all(is_item(axis) for axis in axes):
        raise _bad("axis identifiers", reply)
    return axes


def parse_motion(reply: Reply, axes: Sequence[str]) -> frozenset[str]:
    """Parse the reply to #5, a hexadecimal bit map in the order of ``axes``; return those that move.

    A bit of an axis that does not exist is a RemoteProtocolError, like everything else that is no such map.
    """
    match = _HEX(reply.line)
    if match is None or int(match[1], 16) >> len(axes):
        raise _bad(f"a bit map of {len(axes)} axes", reply)
    bits = int(match[1], 16)
    return frozenset(axis for index, axis in enumerate(axes) if bits >> index & 1)


class Status(enum.IntFlag):
    """Bits of the status register #4, as far as they are used here; layout of the C-863 (MS249E p. 126)."""

    ON_TARGET = 1 << 15
    REFERENCING = 1 << 14
    MOVING = 1 << 13
    SERVO_ON = 1 << 12
    ERROR = 1 << 8


def parse_status(reply: Reply) -> Status:
    """Parse the reply to #4, ``0x9005``; bits without a name are kept. Raises RemoteProtocolError otherwise."""
    match = _HEX(reply.line)
    if match is None:
        raise _bad("a status register", reply)
    return Status(int(match[1], 16))


def parse_ready(reply: Reply) -> bool:
    """Parse the reply to #7: 0xB1 ready, 0xB0 busy. Raises RemoteProtocolError for anything else."""
    line = reply.line
    if line not in {bytes((IS_READY,)), bytes((NOT_READY,))}:
        raise _bad("a ready byte", reply)
    return line[0] == IS_READY


def parse_help(reply: Reply) -> frozenset[str]:
    """Parse the reply to ``HLP?``: the commands that start its lines, such as ``MOV``, ``POS?``, ``#24``, ``*IDN?``.

    Its free text differs between controllers and is passed over. Raises RemoteProtocolError if no line names a
    command.
    """
    found = frozenset(match[1].decode("ascii") for line in reply.lines if (match := _MNEMONIC(line.lstrip(b" "))))
    if not found:
        raise _bad("a list of commands", reply)
    return found


class Identity(NamedTuple):
    """Who answered ``*IDN?``."""

    maker: str
    model: str
    serial_number: str
    firmware: str


def parse_identity(reply: Reply) -> Identity:
    """Parse four comma-separated fields; raises RemoteProtocolError for anything else."""
    text = reply.line.decode("latin-1")
    fields = text.split(",", 3)
    if len(fields) != 4 or len(text) > 200 or not text.isascii() or not text.isprintable():
        raise _bad("an identity of four fields", reply)
    return Identity(*(field.strip() for field in fields))
