"""How small a current a series of readings could have shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FLOOR_SIGMAS = 3.0


def noise_sigma(values: npt.NDArray[Any]) -> float:
    """Return the standard deviation of single readings, in their unit, from the differences of neighbours.

    A drift slow against the reading rate does not count, nor do a few outliers (median absolute deviation). NaN for
    fewer than four finite readings.
    """
    finite = values[np.isfinite(values)]
    if len(finite) < 4:
        return float("nan")
    steps = np.diff(finite)
    return float(1.4826 * np.median(np.abs(steps - np.median(steps))) / np.sqrt(2))


def noise_floor(values: npt.NDArray[Any]) -> float:
    """Return three standard deviations of single readings, in their unit; NaN as :func:`noise_sigma`."""
    return FLOOR_SIGMAS * noise_sigma(values)
