"""Rates of rare events: the exact 95 % upper bound of a Poisson count."""

from __future__ import annotations

import math


def poisson_upper(count: int, confidence: float = 0.95) -> float:
    """Return the largest mean at which ``count`` events or fewer still have a chance of 1 - ``confidence``.

    3.0 for none. Raises ValueError for a negative count or a confidence outside 0 to 1.
    """
    if count < 0 or not 0.0 < confidence < 1.0:
        raise ValueError(f"count={count!r}, confidence={confidence!r}: needs 0 or more, and a number between 0 and 1")
    low, high = 0.0, 10.0 + 3.0 * count
    for _ in range(80):
        mean = 0.5 * (low + high)
        chance = math.fsum(math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(count + 1))
        if chance > 1.0 - confidence:
            low = mean
        else:
            high = mean
    return high


def per_million(count: float, readings: int) -> float:
    """Return events per 1e6 readings."""
    return 1e6 * count / readings
