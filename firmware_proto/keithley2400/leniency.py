"""Settings read back from look-alikes, with the output off: other spellings of values that are known beforehand.

What comes out of here is only ever compared with what was set, so that a damaged reply can at worst refuse a run. It
must not be used for readings, nor for anything asked while energised.
"""

from __future__ import annotations

import math
import re
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from firmware_proto.scpi import spellings

_NUMBER: Final = re.compile(rb"[+-]?(?:[0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})(?:[Ee][+-]?[0-9]{1,3})?").fullmatch
_CANONICAL: Final = re.compile(rb"[+-]?[0-9]\.[0-9]{6}E[+-][0-9]{2}").fullmatch
_CODE: Final = re.compile(rb"([+-]?[0-9]{1,5})(?:\s*,.*)?", re.DOTALL).fullmatch
_WORD: Final = re.compile(rb"[A-Za-z]{1,12}(?::[A-Za-z]{1,8})?").fullmatch
_MAX: Final = 80
_QUOTES: Final = b"\"'"


def number(line: bytes) -> float:
    """Parse one finite number in any usual notation, blanks around it allowed; else RemoteProtocolError."""
    text = line.strip(b" ")
    if len(line) > _MAX or _NUMBER(text) is None or not math.isfinite(float(text)):
        raise RemoteProtocolError(f"not a number: {line[:80]!r}", data=line[:200])
    return float(text)


def is_ambiguous(line: bytes) -> bool:
    """Tell whether ``line`` is a number in which one lost or doubled byte may make another number.

    In ``0.001`` a doubled zero is a tenth; in the 2400's own form, and in a bare digit, there is nothing like it. Such
    an answer is to be asked for twice.
    """
    return _NUMBER(line.strip(b" ")) is not None and _CANONICAL(line) is None and len(line) > 1


def word(line: bytes) -> str:
    """Return a reply word in capitals without quotes and blanks; RemoteProtocolError if it is none."""
    text = line.strip(b" ").strip(_QUOTES)
    if _WORD(text) is None:
        raise RemoteProtocolError(f"not a word: {line[:80]!r}", data=line[:200])
    return text.decode("ascii").upper()


def says(line: bytes, pattern: str) -> bool:
    """Tell whether ``line`` is the word ``pattern`` (as in ``NORMal``) in its short or long form."""
    try:
        return word(line) in spellings(pattern)
    except RemoteProtocolError:
        return False


def says_list(line: bytes, patterns: tuple[str, ...]) -> bool:
    """Tell whether ``line`` lists exactly ``patterns``, in their order."""
    parts = line.strip(b" ").strip(_QUOTES).split(b",")
    return len(parts) == len(patterns) and all(map(says, parts, patterns))


def says_off(line: bytes) -> bool:
    """Tell whether ``line`` is a zero or ``OFF``."""
    try:
        return number(line) == 0.0
    except RemoteProtocolError:
        return says(line, "OFF")


def error_code(line: bytes) -> int:
    """Return the number of an error-queue entry, whatever its text and quotes; RemoteProtocolError for none.

    ``0``, ``+0,No error`` and ``-113,"Undefined header"`` are entries.
    """
    found = _CODE(line.strip(b" ")) if len(line) <= 300 else None
    if found is None:
        raise RemoteProtocolError(f"not an error-queue entry: {line[:80]!r}", data=line[:200])
    return int(found[1])
