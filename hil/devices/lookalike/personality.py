"""What a look-alike knows less, says more, writes otherwise and does later than a 2400."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Final

_NUMBER: Final = re.compile(rb"[+-][0-9]\.[0-9]{6}E[+-][0-9]{2}")
MAX_DELAY_S: Final = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class NumberStyle:
    """How numbers are written; the defaults are the 2400's own ``+1.234567E-07``.

    ``decimals`` 0..12, ``exponent_digits`` 0 (as few as it takes)..3, or ``fixed``: no exponent at all. ``plus`` stands
    before what is not negative. ``nan`` and ``overflow`` replace +9.91E37 and +-9.9E37.
    """

    decimals: int = 6
    exponent_digits: int = 2
    letter: str = "E"
    plus: str = "+"
    fixed: bool = False
    nan: str | None = None
    overflow: str | None = None

    def write(self, value: float) -> str:
        """Return ``value`` in this style."""
        if value == 9.91e37 and self.nan is not None:
            return self.nan
        if abs(value) == 9.9e37 and self.overflow is not None:
            return self.overflow
        sign = "-" if math.copysign(1.0, value) < 0 else self.plus
        if self.fixed:
            return f"{sign}{abs(value):.{self.decimals}f}"
        mantissa, exponent = f"{abs(value):.{self.decimals}e}".split("e")
        return f"{sign}{mantissa}{self.letter}{exponent[0]}{int(exponent[1:]):0{max(1, self.exponent_digits)}d}"

    def rewrite(self, data: bytes) -> bytes:
        """Return ``data`` with every number of the 2400's own style in this one."""
        return _NUMBER.sub(lambda found: self.write(float(found[0])).encode(), data)


PLAIN: Final = NumberStyle()


@dataclasses.dataclass(frozen=True, slots=True)
class Personality:
    """A look-alike. Patterns are those of the command tables, such as ``:SOURce:DELay`` or ``:OUTPut:SMODe?``."""

    unknown: tuple[str, ...] = ()
    """Refused with -113, with the rest of its message, as a 2400 does with what it does not know."""
    ignored: tuple[str, ...] = ()
    """Silently left out of the message."""
    fixed: tuple[tuple[str, bytes], ...] = ()
    """Messages that are answered with these bytes whatever the unit would say; empty: with nothing."""
    acknowledge: bytes | None = None
    """Sent after every message without a question."""
    acknowledge_all: bool = False
    """After messages with a question too, behind the answer."""
    acknowledge_first: bool = False
    """Before the answer instead of behind it."""
    echo: bool = False
    """Sends every message back before it acts."""
    prompt: bytes = b""
    """Sent behind every answer, without a terminator."""
    banner: bytes = b""
    """Sent when it is first spoken to."""
    settings: NumberStyle = PLAIN
    """How it writes the numbers of its settings."""
    readings: NumberStyle = PLAIN
    """How it writes level and current of a reading, and the status word unless one of the next two says otherwise."""
    integer_status: bool = False
    no_status: bool = False
    more_elements: bool = False
    """Sends five elements whatever was asked for."""
    gap: str = ""
    """Between the comma and the next element."""
    nominal_ranges: bool = False
    """Answers ranges as they are called, not at 105 %."""
    words: tuple[tuple[bytes, bytes], ...] = ()
    """Reply words and what stands for them, as in ``(b"NORM", b"NORMAL")``; whole answers only."""
    reply: Callable[[bytes], bytes] | None = None
    """A last edit of each reply line with its terminator."""
    delay_s: float = 0.0
    """By how much every reply is later, 0..10 s."""
    deaf_first: int = 0
    """So many questions in the beginning go unanswered."""
    shifted: bool = False
    """Every answer is that of the question before."""
    separate_lines: bool = False
    """Answers to several questions in one message come in lines of their own."""

    def __post_init__(self) -> None:
        """Check what can be checked."""
        if not 0.0 <= self.delay_s <= MAX_DELAY_S:
            raise ValueError(f"delay_s must be 0..{MAX_DELAY_S:g}, not {self.delay_s!r}")
        if self.deaf_first < 0:
            raise ValueError(f"deaf_first must not be negative, not {self.deaf_first!r}")
