"""Numbers with SI prefixes, for people: ``-13.2 µA``, ``-118.0 ± 1.0 mV``."""

from __future__ import annotations

import math
from typing import Final

_PREFIXES: Final = ("a", "f", "p", "n", "µ", "m", "", "k", "M", "G", "T")
_LOWEST: Final = -18
ABSENT: Final = "n/a"
"""Stands for a number that is None, infinite or NaN."""


def prefix_for(magnitude: float) -> tuple[float, str]:
    """Return (factor, prefix) such that ``magnitude / factor`` is 1 to below 1000; (1, "") for 0 and non-finite."""
    if not math.isfinite(magnitude) or magnitude == 0:
        return 1.0, ""
    step = (math.floor(math.log10(abs(magnitude))) - _LOWEST) // 3
    step = min(max(step, 0), len(_PREFIXES) - 1)
    return 10.0 ** (_LOWEST + 3 * step), _PREFIXES[step]


def si(value: float | None, unit: str, digits: int = 3) -> str:
    """Return ``value`` in ``unit`` with ``digits`` significant digits and a prefix."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if value == 0:
        return f"0 {unit}".rstrip()
    # Rounded first: 999.9 with three digits is 1.00 k, not 1000.
    rounded = float(f"{value:.{digits - 1}e}")
    factor, prefix = prefix_for(rounded)
    scaled = rounded / factor
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(scaled)) + 1e-9))
    return f"{scaled:.{decimals}f} {prefix}{unit}".rstrip()


def si_pm(value: float | None, half: float | None, unit: str) -> str:
    """Return ``value`` ± ``half`` in ``unit``, the half width with two significant digits, both with one prefix."""
    if half is None or not math.isfinite(half) or half <= 0 or value is None or not math.isfinite(value):
        return si(value, unit)
    factor, prefix = prefix_for(max(abs(value), half))
    decimals = max(0, 1 - math.floor(math.log10(half / factor) + 1e-9))
    return f"{value / factor:.{decimals}f} ± {half / factor:.{decimals}f} {prefix}{unit}"
