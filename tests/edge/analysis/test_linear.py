"""Straight lines: what the slope is, and when there is none. The slope through the origin is in test_iv."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.analysis.linear import slope_over_time

S = 1_000_000_000


@given(
    st.integers(0, 10**18),
    st.floats(-10, 10),
    st.floats(-1, 1).filter(lambda rate: abs(rate) > 1e-3),
    st.lists(st.integers(1, 10**8), min_size=2, max_size=40),
)
def test_a_ramp_has_its_rate_however_long_the_host_is_up(began_ns: int, v: float, rate: float, gaps: list[int]) -> None:
    times = [began_ns]
    for gap_ns in gaps:
        times.append(times[-1] + gap_ns)
    points = [(t_ns, v + rate * ((t_ns - began_ns) / S)) for t_ns in times]
    # What a double of 10 V resolves, over the time there is.
    resolution = 1e-14 / ((times[-1] - began_ns) / S)
    assert slope_over_time(points) == pytest.approx(rate, rel=1e-9, abs=resolution)


def test_the_rate_is_that_of_least_squares() -> None:
    # Times -1, 0, 1 s around their mean, values -2/3, 1/3, 1/3 V: (2/3 + 1/3) / 2.
    assert slope_over_time([(0, 0.0), (S, 1.0), (2 * S, 1.0)]) == pytest.approx(0.5)


@pytest.mark.parametrize("points", [[], [(5, 1.0)], [(5, 1.0), (5, 2.0)]])
def test_without_two_times_there_is_no_rate(points: list[tuple[int, float]]) -> None:
    assert slope_over_time(points) is None
