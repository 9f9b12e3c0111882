"""How one unit writes a reading: the 2400's own form, or the constant-length form of a look-alike.

A reading has no check sum, and neither has an 8N1 character. What keeps a reading with a byte lost, doubled or cut off
from becoming a number is its length: a :class:`ReadingForm` accepts lines of exactly one length, and so refuses every
one of them. That is why a form whose length changes with its value (no plus sign, exponents of one or two digits,
as many decimals as the number needs) is none. A flipped bit can turn one digit into another; that stays undetected
here, and is counted in the tests.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from firmware_proto.keithley2400.replies import STATUS_MAX, Reading, judged, parse_reading
from firmware_proto.keithley2400.status import StatusWord

MIN_DECIMALS: Final = 3
MAX_DECIMALS: Final = 12
MAX_GAP: Final = 2

_COARSE_BITS: Final = int(
    StatusWord.I_MEASURE | StatusWord.V_SOURCE | StatusWord.I_SOURCE | StatusWord.RANGE_COMPLIANCE
)
_COARSE_MAX: Final = 99_990.0

_LEARN: Final = re.compile(
    rb"(?P<plus>[ +]|-)[0-9]\.(?P<decimals>[0-9]{3,12})(?P<letter>[Ee])[+-](?P<exponent>[0-9]{2,3})"
    rb",(?P<gap> {0,2})[-+ ][0-9]\.[0-9]{3,12}[Ee][+-][0-9]{2,3}, {0,2}"
    rb"(?P<status>(?P<sign>\+?)[0-9]{5}|(?P<word>[ +])[0-9]\.(?P<places>[0-9]{3,12})[Ee][+-](?P<power>[0-9]{2,3}))"
).fullmatch


@dataclasses.dataclass(frozen=True, slots=True)
class ReadingForm:
    """One way of writing ``VOLT,CURR,STAT``; every line of it has :attr:`length` bytes.

    ``decimals`` 3..12 and ``exponent_digits`` 2..3 of all numbers, ``letter`` of the exponent, ``plus`` what stands
    before a number that is not negative (``+`` or a space), ``gap`` spaces behind each comma (0..2).
    ``integer_status``: the status word is five digits, with ``+`` before it if ``signed_status``.
    """

    decimals: int = 6
    exponent_digits: int = 2
    letter: str = "E"
    plus: str = "+"
    gap: int = 0
    integer_status: bool = False
    signed_status: bool = False

    @property
    def length(self) -> int:
        """Bytes of a reading, without its terminator."""
        number = 1 + 2 + self.decimals + 2 + self.exponent_digits
        status = 5 + self.signed_status if self.integer_status else number
        return 2 * (number + 1 + self.gap) + status

    @property
    def coarse_status(self) -> bool:
        """True where the status word is rounded to tens, so that its lowest bits are not the unit's."""
        return not self.integer_status and self.decimals == MIN_DECIMALS

    def describe(self) -> str:
        """Return the form in words, for a note."""
        status = "a status word of five digits" if self.integer_status else "the status word alike"
        return f"{self.decimals} decimals, {self.exponent_digits} digits of exponent, {status}"

    def parser(self) -> ReadingParser:
        """Return what turns lines of this form into readings."""
        return ReadingParser(self)


CANONICAL: Final = ReadingForm()
"""What a 2400 sends: ``-2.000000E+00,-1.470096E-08,+2.048400E+04`` (the letter may also be small)."""


class ReadingParser:
    """Parses lines of one form, as strictly as ``replies.parse_reading`` does those of the 2400's own."""

    __slots__ = ("_coarse", "_match", "form")

    def __init__(self, form: ReadingForm) -> None:
        """Compile the form."""
        sign = b"[-+]" if form.plus == "+" else b"[- ]"
        digits = rb"[0-9]\.[0-9]{%d}" % form.decimals + form.letter.encode()
        exponent = rb"[+-][0-9]{%d}" % form.exponent_digits
        if form.integer_status:
            status = (rb"\+" if form.signed_status else b"") + rb"[1-9][0-9]{4}"
        else:
            # A status word is never negative.
            status = re.escape(form.plus.encode()) + digits + exponent
        number, comma = b"(" + sign + digits + exponent + b")", b"," + b" " * form.gap
        pattern = number + comma + number + comma + b"(" + status + b")"
        self._match = re.compile(pattern).fullmatch
        self._coarse = form.coarse_status
        self.form: Final = form

    def __call__(self, line: bytes) -> Reading:
        """Parse one reading; raise RemoteProtocolError for anything else."""
        match = self._match(line)
        if match is None:
            raise RemoteProtocolError(f"not a reading of this unit's form: {line[:80]!r}", data=line[:200])
        return judged(line, float(match[1]), float(match[2]), self._status(float(match[3])))

    def _status(self, word: float) -> int:
        """Return the status word as far as it can be believed; -1 for none."""
        if self._coarse:
            # Four digits: 20484 comes as 2.048E+04. Above five places the functions' own bits would be rounded.
            return int(word) & _COARSE_BITS if word <= _COARSE_MAX and word == int(word) else -1
        status = int(word) if word < STATUS_MAX else -1
        return status if status == word else -1


def form_of(line: bytes) -> ReadingForm | None:
    """Return the form that ``line`` is a reading of, or None: it is no reading, or not one of constant length.

    A space before the number counts as a plus only if both numbers are written so. The line must also parse.
    """
    found = _LEARN(line)
    if found is None:
        return None
    integer = found["word"] is None
    if not integer and (found["places"], found["power"]) != _same_lengths(found):
        return None
    plus = found["plus"] if found["plus"] != b"-" else (found["word"] or b"+")
    if not integer and found["word"] != plus:
        return None
    form = ReadingForm(
        decimals=len(found["decimals"]),
        exponent_digits=len(found["exponent"]),
        letter=found["letter"].decode(),
        plus=plus.decode(),
        gap=len(found["gap"]),
        integer_status=integer,
        signed_status=integer and bool(found["sign"]),
    )
    try:
        # The 2400's own form takes either letter, as it always did.
        parse_reading(line) if form == CANONICAL else form.parser()(line)
    except RemoteProtocolError:
        return None
    return form


def _same_lengths(found: re.Match[bytes]) -> tuple[bytes, bytes] | None:
    """Return the status word's own parts if they are as long as the current's, else None."""
    alike = len(found["places"]) == len(found["decimals"]) and len(found["power"]) == len(found["exponent"])
    return (found["places"], found["power"]) if alike else None
