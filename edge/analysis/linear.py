"""Straight lines through measured points."""

from __future__ import annotations

from collections.abc import Sequence


def slope_through_origin(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the least-squares slope of y = m x, in units of y per x; None when all x are 0 or there are none."""
    xx = sum(x * x for x, _ in points)
    return sum(x * y for x, y in points) / xx if xx > 0 else None
