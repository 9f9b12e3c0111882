"""Replies of a Keithley 2400, strictly parsed: a reply is exactly what it should be, or a typed error.

Strictness is the point. One public report has a run going on with I = 1.80e-310 after serial timeouts; a truncated
reading must never become a number. Numbers have two-digit exponents on this instrument, so that a reading cut short
inside its exponent does not parse, and the status word must be an integer that names the functions in use.
"""

from __future__ import annotations

import math
import re
from typing import Final, NamedTuple

from firmware_proto.errors import RemoteProtocolError
from firmware_proto.keithley2400.status import NOT_A_NUMBER, OVERFLOW, StatusWord

_NUMBER = rb"[+-]?[0-9]{1,9}(?:\.[0-9]{0,9})?(?:[Ee][+-][0-9]{2})?"
_NR3 = rb"[0-9]\.[0-9]{6}[Ee][+-][0-9]{2}"
# Exactly as many digits as the instrument sends: a reading with one byte lost or doubled is none. Every digit becomes
# 0, every sign +, whatever else a reading does not hold a NUL: then a reading looks like this and nothing else does.
# A third of the time of a regular expression, and a surge waits for it.
_NUMBER_SHAPE: Final = b"+0.000000E+00"
_READING_SHAPE: Final = b",".join([_NUMBER_SHAPE] * 3)
_SHAPES: Final = bytes(
    {**dict.fromkeys(b"0123456789", 0x30), **dict.fromkeys(b"+-", 0x2B), **dict.fromkeys(b"eE", 0x45)}.get(
        byte, byte if byte in b".," else 0
    )
    for byte in range(256)
)
_FLOAT: Final = re.compile(_NUMBER).fullmatch
# A look-alike's level may have other decimals, never another structure: one digit before the point and two of exponent
# are what keeps junk in front from changing it, and its own lost digits from making it zero.
_LEVEL = rb"[+-]?[0-9]\.[0-9]{3,12}[Ee][+-][0-9]{2}"
_VERIFY: Final = re.compile(rb"(" + _LEVEL + rb");([0-9]{1,3});([01])\Z").search
_ERROR: Final = re.compile(rb"([+-]?[0-9]{1,5}),\"([^\"]{0,200})\"").fullmatch

_VERIFY_BYTES: Final = 64

MAX_CURRENT_A: Final = 1.06
"""Above the largest range with its over-range no instrument of the series can have measured it."""
MAX_LEVEL_V: Final = 210.0
"""The highest level of a 2400 (specifications, Rev. L); what is not sourced comes as +9.91E37."""
_FUNCTIONS: Final = int(StatusWord.I_MEASURE | StatusWord.V_SOURCE | StatusWord.I_SOURCE)
_FUNCTIONS_WANTED: Final = int(StatusWord.I_MEASURE | StatusWord.V_SOURCE)
_OVERFLOW_BIT: Final = int(StatusWord.OVERFLOW)
_FUNCTIONS_AND_OVERFLOW: Final = _FUNCTIONS | _OVERFLOW_BIT
STATUS_MAX: Final = float(1 << 24)


def _bad(what: str, line: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(f"not {what}: {line[:80]!r}", data=line[:200])


class Reading(NamedTuple):
    """One ``VOLT,CURR,STAT`` reading.

    ``current_a`` is NaN after overflow, told by number or bit, or after not-a-number. ``level_v`` is the programmed
    source level at which it was taken: voltage is sourced and not measured (User's Manual 18-45 to 18-49).
    """

    current_a: float
    status: int
    overflow: bool
    not_measured: bool
    level_v: float


_reading: Final = tuple.__new__
"""Makes a named tuple without the frame that its own ``__new__`` takes."""


def parse_reading(line: bytes) -> Reading:
    """Parse the reply to ``:READ?`` with elements ``VOLT,CURR,STAT``.

    Raises :class:`RemoteProtocolError` for anything but three complete numbers, a level or a current that the
    instrument cannot have sourced or measured, or a status word that does not say "source volts, measure amperes".
    """
    if line.translate(_SHAPES) != _READING_SHAPE:
        raise _bad("a VOLT,CURR,STAT reading", line)
    level_v, current_a, word = float(line[:13]), float(line[14:27]), float(line[28:])
    status = int(word) if word < STATUS_MAX else -1
    if status != word:
        status = -1
    # The rule first: what is judged further is the exception, and the answer the same.
    if (
        status & _FUNCTIONS_AND_OVERFLOW == _FUNCTIONS_WANTED
        and -MAX_CURRENT_A <= current_a <= MAX_CURRENT_A
        and -MAX_LEVEL_V <= level_v <= MAX_LEVEL_V
        and status > 0
    ):
        return _reading(Reading, (current_a, status, False, False, level_v))
    return judged(line, level_v, current_a, status)


def judged(line: bytes, level_v: float, current_a: float, status: int) -> Reading:
    """Return a reading of three numbers, in whatever form they were written; ``status`` -1: it was no status word.

    Raises :class:`RemoteProtocolError` for a level or a current that the instrument cannot have sourced or measured, or
    a status word that does not say "source volts, measure amperes".
    """
    if not -MAX_LEVEL_V <= level_v <= MAX_LEVEL_V:
        raise _bad("a level this instrument can source", line)
    if status < 0 or status & _FUNCTIONS != _FUNCTIONS_WANTED:
        raise _bad("a status word of a voltage source measuring current", line)
    if abs(current_a) == OVERFLOW or (status & _OVERFLOW_BIT and abs(current_a) <= MAX_CURRENT_A):
        return Reading(math.nan, status, True, False, level_v)
    if -MAX_CURRENT_A <= current_a <= MAX_CURRENT_A:
        return Reading(current_a, status, False, False, level_v)
    if abs(current_a) == NOT_A_NUMBER:
        return Reading(math.nan, status, False, True, level_v)
    raise _bad("a current this instrument can measure", line)


class Verification(NamedTuple):
    """Reply to ``commands.tagged_query``: its tag, the output state and the programmed level in V."""

    tag: int
    output_on: bool
    level_v: float


def parse_verification(line: bytes) -> Verification:
    """Parse the reply to a tagged query; raise :class:`RemoteProtocolError` for anything else.

    What stands before it in the line is what an aborted reply left on the wire, and is dropped. It cannot change the
    level, which is one digit, a point, 3 to 12 digits and an exponent, whatever stands before. For the same reason a
    reply whose first bytes were lost is refused, where its rest ("00;7;0") could look like 0 V.
    """
    match = _VERIFY(line[-_VERIFY_BYTES:])
    if match is None:
        raise _bad("a verification reply (level;tag;output)", line)
    return Verification(int(match[2]), match[3] == b"1", float(match[1]))


def parse_float(line: bytes) -> float:
    """Parse one finite number; raise :class:`RemoteProtocolError` for anything else."""
    if _FLOAT(line) is None:
        raise _bad("a number", line)
    return float(line)


def parse_bool(line: bytes) -> bool:
    """Parse ``0`` or ``1``; raise :class:`RemoteProtocolError` for anything else."""
    if line not in (b"0", b"1"):
        raise _bad("0 or 1", line)
    return line == b"1"


class ErrorEntry(NamedTuple):
    """One entry of the error queue; code 0 is "No error"."""

    code: int
    text: str


def parse_error(line: bytes) -> ErrorEntry:
    """Parse the reply to ``:SYST:ERR?``; raise :class:`RemoteProtocolError` for anything else."""
    match = _ERROR(line)
    if match is None:
        raise _bad("an error-queue entry", line)
    return ErrorEntry(int(match[1]), match[2].decode("ascii", "replace"))


class Identity(NamedTuple):
    """Who answered ``*IDN?``."""

    maker: str
    model: str
    serial_number: str
    firmware: str


def parse_identity(line: bytes) -> Identity:
    """Parse four comma-separated fields; raise :class:`RemoteProtocolError` for anything else.

    Leading NULs and a doubled first character were seen on real links; NULs are dropped by the line splitter, and
    nothing here tries to repair the rest.
    """
    fields = line.split(b",", 3)
    if len(fields) != 4 or len(line) > 200 or not line.isascii() or not line.decode("ascii").isprintable():
        raise _bad("an identity of four fields", line)
    maker, model, serial, firmware = (field.decode("ascii").strip() for field in fields)
    return Identity(maker, model.removeprefix("MODEL").strip(), serial, firmware)
