"""Where a filament gave way: at the largest current before the conductance falls by a decade, or nowhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.analysis.reset import FALL, LEAST_V, reset_bias_v

EVIDENCE_A = 1.8e-6
OHM = 9_500.0
RAMP = [i * 0.02 for i in range(51)]


def opening_at(v: float, *, ohm: float = OHM, leak_s: float = 1e-12, noise_a: float = 0.0) -> list[tuple[float, float]]:
    """A ramp 0 -> 1 V over a filament that is there up to ``v``, and gone behind it."""
    return [
        (bias, (bias / ohm if bias <= v + 1e-9 else bias * leak_s) + noise_a * (-1) ** n) for n, bias in enumerate(RAMP)
    ]


@pytest.mark.parametrize("v", [0.36, 0.5, 0.7, 0.98])
def test_the_last_bias_before_the_fall(v: float) -> None:
    assert reset_bias_v(opening_at(v), EVIDENCE_A) == pytest.approx(v)


def test_a_gradual_opening_counts_at_its_largest_current() -> None:
    # From 0.5 V on the conductance halves with each step: the current is largest at 0.5 V, gone four steps later.
    points = [(bias, bias / OHM * (0.5 ** max(0, round((bias - 0.5) / 0.02)))) for bias in RAMP]
    assert reset_bias_v(points, EVIDENCE_A) == pytest.approx(0.5)


def test_a_filament_that_stays_was_not_reset() -> None:
    assert reset_bias_v(opening_at(2.0), EVIDENCE_A) is None


def test_a_fall_by_less_than_a_decade_is_no_reset() -> None:
    nearly = [(bias, bias / OHM / (1.0 if bias <= 0.5 else FALL - 0.5)) for bias in RAMP]
    assert reset_bias_v(nearly, EVIDENCE_A) is None
    just = [(bias, bias / OHM / (1.0 if bias <= 0.5 else FALL + 0.5)) for bias in RAMP]
    assert reset_bias_v(just, 1e-9) == pytest.approx(0.5)


def test_noise_alone_has_no_reset() -> None:
    # Nothing was there: readings of +-1 uA on the 1 mA range, huge conductances at small bias.
    assert reset_bias_v([(bias, 1e-6 * (-1) ** n) for n, bias in enumerate(RAMP)], EVIDENCE_A) is None


def test_readings_near_0_v_have_no_conductance() -> None:
    points = [(LEAST_V / 2, 1e-3), *opening_at(0.6)[3:]]
    assert reset_bias_v(points, EVIDENCE_A) == pytest.approx(0.6)


def test_what_is_below_the_evidence_counts_as_the_evidence_and_not_as_nothing() -> None:
    # Below 1.8 uA at 1 V is below 1.8 uS: that 10 uS fell by a decade cannot be said; that 20 uS did, can.
    assert reset_bias_v(opening_at(0.5, ohm=100_000.0), EVIDENCE_A) is None
    assert reset_bias_v(opening_at(0.5, ohm=100_000.0), 1e-7) == pytest.approx(0.5)
    assert reset_bias_v(opening_at(0.5, ohm=50_000.0), EVIDENCE_A) == pytest.approx(0.5)


def test_a_negative_sweep_has_a_negative_bias() -> None:
    assert reset_bias_v([(-v, -i) for v, i in opening_at(0.6)], EVIDENCE_A) == pytest.approx(-0.6)


@pytest.mark.parametrize("points", [[], [(0.5, 1e-4)], [(0.0, 0.0)] * 5])
def test_too_little_is_no_reset(points: list[tuple[float, float]]) -> None:
    assert reset_bias_v(points, EVIDENCE_A) is None


@given(st.floats(0.3, 0.98), st.floats(1_000, 20_000), st.floats(0, 1e-6))
def test_noise_below_the_evidence_does_not_move_it(v: float, ohm: float, noise_a: float) -> None:
    found = reset_bias_v(opening_at(v, ohm=ohm, noise_a=noise_a), EVIDENCE_A)
    assert found is not None
    last = max(bias for bias in RAMP if bias <= v + 1e-9)
    # A microampere is worth up to 20 mV across 20 kohm: one step.
    assert last - 0.021 <= found <= last + 1e-9
