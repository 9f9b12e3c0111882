"""Straight lines through measured points."""

from __future__ import annotations

from collections.abc import Sequence


def slope_through_origin(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the least-squares slope of y = m x, in units of y per x; None when all x are 0 or there are none."""
    xx = sum(x * x for x, _ in points)
    return sum(x * y for x, y in points) / xx if xx > 0 else None


def slope_over_time(points: Sequence[tuple[int, float]]) -> float | None:
    """Return the least-squares slope of values over times in ns, per second; None for fewer than two times."""
    if len(points) < 2:
        return None
    # From the first time on: a float does not hold the nanoseconds of a long uptime.
    times_s = [(t_ns - points[0][0]) * 1e-9 for t_ns, _ in points]
    mean_s = sum(times_s) / len(points)
    mean = sum(value for _, value in points) / len(points)
    tt = sum((t - mean_s) ** 2 for t in times_s)
    if tt == 0:
        return None
    return sum((t - mean_s) * (value - mean) for t, (_, value) in zip(times_s, points, strict=True)) / tt
