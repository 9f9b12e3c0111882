"""What the converter adds to a value: noise by range and speed, and the step of the display.

The standard deviations are the twin's, taken from the accuracy and resolution tables of the data sheet; those of the
100 mA and 1 A ranges continue the column by decades. An assumption until a unit has been commissioned.
"""

from __future__ import annotations

import functools
import math
from typing import Final

from firmware_proto.keithley2400.status import CURRENT_RANGES_A, VOLTAGE_RANGES_V

NPLC_MIN: Final = 0.01
NPLC_MAX: Final = 10.0

CURRENT_RESOLUTION_A: Final = dict(zip(CURRENT_RANGES_A, (1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5), strict=True))
"""Step of a current reading per range, in A (SPEC-2400 Rev. L)."""
VOLTAGE_RESOLUTION_V: Final = dict(zip(VOLTAGE_RANGES_V, (1e-6, 1e-5, 1e-4, 1e-3), strict=True))
"""Step of a voltage reading per range, in V (SPEC-2400 Rev. L)."""

# Standard deviation in A at 1, 0.1 and 0.01 power-line cycles.
_CURRENT_SIGMA: Final[dict[float, tuple[float, float, float]]] = {
    1e-6: (10e-12, 15e-12, 150e-12),
    1e-5: (50e-12, 100e-12, 1e-9),
    1e-4: (0.5e-9, 1e-9, 10e-9),
    1e-3: (5e-9, 10e-9, 100e-9),
    1e-2: (50e-9, 100e-9, 1e-6),
    1e-1: (0.5e-6, 1e-6, 10e-6),
    1.0: (5e-6, 10e-6, 100e-6),
}
# In steps of the display: the shape of the current ranges, for want of a voltage column.
_VOLTAGE_SIGMA_STEPS: Final = (0.5, 1.0, 10.0)


def _interpolate(table: tuple[float, float, float], nplc: float) -> float:
    """Return the value at ``nplc`` from those at 1, 0.1 and 0.01: straight in the logarithms, white above 1."""
    if nplc >= 1.0:
        return table[0] / math.sqrt(nplc)
    decades = -math.log10(max(nplc, NPLC_MIN))
    upper = min(int(decades), 1)
    low, high = table[upper], table[upper + 1]
    return low * math.pow(high / low, decades - upper)


@functools.lru_cache(maxsize=256)
def current_sigma_a(range_a: float, nplc: float) -> float:
    """Return the standard deviation of a current reading in A, for a nominal range and 0.01..10 line cycles."""
    return _interpolate(_CURRENT_SIGMA[range_a], nplc)


@functools.lru_cache(maxsize=256)
def voltage_sigma_v(range_v: float, nplc: float) -> float:
    """Return the standard deviation of a voltage reading in V, for a nominal range and 0.01..10 line cycles."""
    return _interpolate(_VOLTAGE_SIGMA_STEPS, nplc) * VOLTAGE_RESOLUTION_V[range_v]


def quantise(value: float, step: float) -> float:
    """Return ``value`` rounded to a multiple of ``step``."""
    return round(value / step) * step
