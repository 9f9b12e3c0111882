"""Parameters to values and back: numbers, booleans, choices, strings."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from typing import Final, TypeVar

from firmware_proto.errors import LocalProtocolError
from firmware_proto.scpi import errors
from firmware_proto.scpi.errors import ScpiError
from firmware_proto.scpi.message import Param, ParamKind

MAX_DIGITS: Final = 40
"""Characters of a decimal number; IEEE 488.2 allows 255 digits, no instrument of ours needs more than 20."""

_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_BASES: Final[dict[str, int]] = {"H": 16, "Q": 8, "B": 2}
_PATTERN = re.compile(r"([A-Z]+)([a-z]*)(\d*)")

_T = TypeVar("_T")


@functools.lru_cache(maxsize=1024)
def spellings(pattern: str) -> frozenset[str]:
    """Return the accepted spellings, upper case, of one mnemonic such as ``VOLTage`` or ``LIMit2``.

    Capitals are the short form, the whole word the long form, nothing in between.

    Raises:
        LocalProtocolError: the pattern is not a mnemonic.
    """
    match = _PATTERN.fullmatch(pattern)
    if match is None:
        raise LocalProtocolError(f"{pattern!r} is not a mnemonic pattern such as 'VOLTage'")
    short, rest, suffix = match.groups()
    return frozenset({short + suffix, short + rest.upper() + suffix})


def parse_number(param: Param | str, keywords: Mapping[str, float] | None = None) -> float:
    """Return a finite number from decimal (``1``, ``-.5``, ``2.E-3``) or ``#H`` ``#Q`` ``#B`` notation.

    ``keywords`` maps mnemonic patterns to values, for instance ``{"MINimum": 0.0, "DEFault": 1e-3}``; an infinity is
    possible only that way. Units behind a number are refused, because the 2400 takes none.

    Raises:
        ScpiError: -104 for a string or an expression, -121 for anything that is not a number, -123 when it does not
            fit a double, -124 when it is longer than 40 characters, -141 for an unknown keyword.
    """
    text = _word(param)
    if _DECIMAL.fullmatch(text) is not None:
        return _decimal(text)
    if keywords is not None:
        upper = text.upper()
        for pattern, value in keywords.items():
            if upper in spellings(pattern):
                return value
    if text[:1] == "#":
        return _based(text)
    if text[:1].isalpha():
        raise ScpiError(errors.INVALID_CHARACTER_DATA, f"{text!r} is not a value here", data=text)
    raise ScpiError(errors.INVALID_NUMBER, f"{text!r} is not a number", data=text)


def parse_integer(param: Param | str, low: int, high: int, keywords: Mapping[str, float] | None = None) -> int:
    """Return a number rounded to the nearest integer within ``low..high``.

    Raises:
        ScpiError: as :func:`parse_number`, and -222 outside the range.
    """
    value = parse_number(param, keywords)
    # Compared before rounding: an infinity from the keywords cannot be rounded.
    if not low - 0.5 < value < high + 0.5:
        raise ScpiError(errors.OUT_OF_RANGE, f"{value:g} is outside {low}..{high}", data=_word(param))
    return math.floor(value + 0.5)


def parse_bool(param: Param | str) -> bool:
    """Return a boolean from ``ON``, ``OFF``, ``1`` or ``0``.

    Raises:
        ScpiError: -104 for a string, -224 for another number, -141 for another word.
    """
    text = _word(param)
    upper = text.upper()
    if upper in {"ON", "1"}:
        return True
    if upper in {"OFF", "0"}:
        return False
    value = parse_number(text)
    if value not in {0.0, 1.0}:
        raise ScpiError(errors.ILLEGAL_PARAMETER, f"{text!r} is neither ON nor OFF", data=text)
    return value == 1.0


def parse_choice(param: Param | str, choices: Mapping[str, _T]) -> _T:
    """Return the value whose mnemonic pattern (``HIMPedance``) matches the word.

    Raises:
        ScpiError: -104 for a string, -141 when no pattern matches.
    """
    text = _word(param)
    upper = text.upper()
    for pattern, value in choices.items():
        if upper in spellings(pattern):
            return value
    raise ScpiError(errors.INVALID_CHARACTER_DATA, f"{text!r} is none of {', '.join(choices)}", data=text)


def parse_string(param: Param) -> str:
    """Return the text of a quoted parameter.

    Raises:
        ScpiError: -104 when it was not quoted.
    """
    if param.kind is not ParamKind.STRING:
        raise ScpiError(errors.DATA_TYPE, "a quoted string is needed", data=param.text)
    return param.text


def format_nr3(value: float) -> str:
    """Return a number as the 2400 sends it: ``+1.000000E-03``, always 13 characters.

    Magnitudes below 1e-99 become zero; minus zero loses its sign.

    Raises:
        LocalProtocolError: the number is not finite or does not fit two digits of exponent.
    """
    text = f"{value:+.6E}"
    if len(text) == 13:
        return "+0.000000E+00" if value == 0.0 else text
    if abs(value) < 1e-98:
        return "+0.000000E+00"
    raise LocalProtocolError(f"{value!r} has no NR3 form of 13 characters")


def quote(text: str) -> str:
    """Return ``text`` between double quotes, inner ones doubled.

    Raises:
        LocalProtocolError: a character outside printable ASCII, which a terminator could hide in.
    """
    if not text.isascii() or not text.isprintable():
        raise LocalProtocolError(f"only printable ASCII can be quoted, not {text!r}")
    return '"' + text.replace('"', '""') + '"'


def _word(param: Param | str) -> str:
    if isinstance(param, str):
        return param
    if param.kind is not ParamKind.WORD:
        raise ScpiError(errors.DATA_TYPE, f"a {param.kind.value} is not allowed here", data=param.text)
    return param.text


def _decimal(text: str) -> float:
    if len(text) > MAX_DIGITS:
        raise ScpiError(errors.TOO_MANY_DIGITS, f"number of {len(text)} characters", data=text)
    value = float(text)
    if math.isinf(value):
        raise ScpiError(errors.EXPONENT_TOO_LARGE, f"{text} is too large", data=text)
    return value


def _based(text: str) -> float:
    base = _BASES.get(text[1:2].upper())
    digits = text[2:]
    # int() would also take signs, underscores and blanks.
    if base is None or not digits.isalnum() or not digits.isascii():
        raise ScpiError(errors.INVALID_NUMBER, f"{text!r} is not a number", data=text)
    if len(text) > MAX_DIGITS:
        raise ScpiError(errors.TOO_MANY_DIGITS, f"number of {len(text)} characters", data=text)
    try:
        return float(int(digits, base))
    except ValueError as exc:
        raise ScpiError(errors.INVALID_NUMBER, f"{text!r} has digits outside base {base}", data=text) from exc
