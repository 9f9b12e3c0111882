"""CALC1 of the emulated 2400: the expressions that are built in (User's Manual section 8, 18-26 to 18-33).

Expressions of the user are refused with -171: their grammar (data handles, vectors, precedence) would be a language of
its own, and no client that was found uses it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from firmware_proto.keithley2400.status import NOT_A_NUMBER, OVERFLOW

if TYPE_CHECKING:
    from hil.devices.keithley2400.unit import Reading

_SPECIAL: Final = 9.8e37
Pair = Callable[["Reading", "Reading"], float]


def power(reading: Reading) -> float:
    """Return V times I in W, 9.91E37 where one of them is unknown."""
    return _bounded(reading.volt * reading.curr) if _known(reading) else NOT_A_NUMBER


def _offset_ohms(one: Reading, two: Reading) -> float:
    return (two.volt - one.volt) / (two.curr - one.curr)


def _voltage_coefficient(one: Reading, two: Reading) -> float:
    first, second = one.volt / one.curr, two.volt / two.curr
    return (second - first) / (first * (two.volt - one.volt)) * 100.0


def _varistor_alpha(one: Reading, two: Reading) -> float:
    return math.log(two.curr / one.curr) / math.log(two.volt / one.volt)


_PAIRS: Final[dict[str, Pair]] = {
    "OFFCOMPOHM": _offset_ohms,
    "VOLTCOEF": _voltage_coefficient,
    "VARALPHA": _varistor_alpha,
}
NAMES: Final = ("POWER", *_PAIRS)
"""What ``:CALC1:MATH:NAME`` takes; ``%DEV`` is in the catalogue but for the panel only (18-26)."""
UNITS: Final = {"POWER": "W", "OFFCOMPOHM": "OHM", "VOLTCOEF": "%/V", "VARALPHA": "A"}
FORMULAS: Final = {
    "POWER": "(VOLT * CURR)",
    "OFFCOMPOHM": "((VOLT[1] - VOLT[0]) / (CURR[1] - CURR[0]))",
    "VOLTCOEF": "((RES[1] - RES[0]) / (RES[0] * (VOLT[1] - VOLT[0])) * 100)",
    "VARALPHA": "(LOG(CURR[1] / CURR[0]) / LOG(VOLT[1] / VOLT[0]))",
}


def results(name: str, readings: Sequence[Reading]) -> list[float]:
    """Return the results over the sample buffer: one per reading for POWER, one per two readings for the others."""
    if name == "POWER":
        return [power(reading) for reading in readings]
    pair = _PAIRS[name]
    return [_of_pair(pair, one, two) for one, two in zip(readings[::2], readings[1::2], strict=False)] or [NOT_A_NUMBER]


def _of_pair(pair: Pair, one: Reading, two: Reading) -> float:
    if not (_known(one) and _known(two)):
        return NOT_A_NUMBER
    try:
        return _bounded(pair(one, two))
    except ZeroDivisionError:
        return OVERFLOW
    except ValueError:
        # The logarithm of something that is not positive.
        return NOT_A_NUMBER


def _known(reading: Reading) -> bool:
    return abs(reading.volt) < _SPECIAL and abs(reading.curr) < _SPECIAL


def _bounded(value: float) -> float:
    return max(-OVERFLOW, min(OVERFLOW, value))
