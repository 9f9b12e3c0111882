"""Medians of trigger drives, of which some were not seen: against draws of the model, and by hand.

The figure of the long rounds has 200 seeds, the quick suite 10.
"""

from __future__ import annotations

import json
import math
import os
import random
from typing import Any

import numpy as np
import pytest

from edge.analysis.ramp_law import Drives, drives_of, log_expm1
from edge.analysis.trigger_fit import TriggerFit, fit_trigger, plain_median, probability_plot, survival
from edge.errors import AnalysisError
from hil.twin.nucleation import Hazard

LONG = os.environ.get("TIPGUARD_LONG") == "1"
SEEDS = range(200 if LONG else 10)


def made(
    drive_v: list[float], triggered: list[int], rate_v_s: float | list[float] = 1.0, half_v: float = 1e-3
) -> Drives:
    return Drives(
        drive_v=np.array(drive_v, dtype=float),
        half_v=np.full(len(drive_v), half_v),
        triggered=np.array(triggered, dtype=bool),
        rate_v_s=np.broadcast_to(np.array(rate_v_s, dtype=float), (len(drive_v),)).copy(),
    )


def drawn(
    seed: int,
    count: int,
    *,
    u_median_v: float = 9.5,
    v_star: float = 0.35,
    scatter: float = 0.04,
    rates_v_s: tuple[float, ...] = (0.1,),
    most_v: float = 10.0,
    step_v: float = 0.002,
) -> Drives:
    """Draw sites of the twin's law, cut off at ``most_v``, with drives known to half a step."""
    rng = random.Random(f"trigger fit {seed}")
    drives, triggered, rates = [], [], []
    for number in range(count):
        rate_v_s = rates_v_s[number % len(rates_v_s)]
        hazard = Hazard(u_median_v * rng.lognormvariate(0.0, scatter), v_star)
        u = hazard.ramp_trigger_v(rate_v_s, rng.expovariate(1.0))
        triggered.append(int(u < most_v))
        drives.append((math.floor(u / step_v) + 0.5) * step_v if u < most_v else most_v)
        rates.append(rate_v_s)
    return made(drives, triggered, rates, half_v=0.5 * step_v)


def holds(fit: TriggerFit, truth_v: float) -> bool:
    return (fit.median_low_v or 0.0) <= truth_v <= (fit.median_high_v or math.inf)


# --- The fit ---------------------------------------------------------------------------------------------------------


def test_sixty_interior_sites_cut_off_at_10_v() -> None:
    fits = [fit_trigger(drawn(seed, 60)) for seed in SEEDS]
    errors = [abs((fit.median_v or 0.0) / 9.5 - 1) for fit in fits]
    close = sum(error < 0.05 for error in errors)
    covered = sum(holds(fit, 9.5) for fit in fits)
    print(
        f"60 interior sites at 0.1 V/s to 10 V: median within 5 % in {close} of {len(fits)} seeds, at most "
        f"{max(errors):.1%} off; the 95 % interval holds it in {covered}; censored "
        f"{min(fit.censored for fit in fits)} to {max(fit.censored for fit in fits)}"
    )
    assert close == len(fits)
    assert covered >= 0.91 * len(fits) - 1
    assert min(fit.censored for fit in fits) > 0
    assert {(fit.method, fit.rate_v_s, fit.extrapolated) for fit in fits} == {("fit", 0.1, False)}


def test_leaving_out_what_did_not_trigger_is_wrong() -> None:
    """What the censored sites are for."""
    drives = drawn(0, 60, v_star=0.35)
    with_them, without = fit_trigger(drives), fit_trigger(drives.part(drives.triggered))
    assert holds(with_them, 9.5)
    assert not holds(without, 9.5)


def test_v_star_is_that_of_the_sites_when_they_have_no_scatter() -> None:
    v_stars = [fit_trigger(drawn(seed, 60, scatter=0.0)).v_star_v or 0.0 for seed in SEEDS]
    assert float(np.mean(v_stars)) == pytest.approx(0.35, abs=3 * 0.04 / math.sqrt(len(v_stars)))


def test_eight_boundary_sites() -> None:
    fits = [fit_trigger(drawn(seed, 8, u_median_v=0.12, v_star=0.017)) for seed in SEEDS]
    covered = sum(holds(fit, 0.12) for fit in fits)
    widths = [(fit.median_high_v or math.inf) - (fit.median_low_v or 0.0) for fit in fits]
    print(
        f"8 boundary sites: the 95 % interval holds the median in {covered} of {len(fits)} seeds, width "
        f"{float(np.median(widths)) * 1e3:.0f} mV (median)"
    )
    assert covered >= 0.91 * len(fits) - 1
    assert float(np.median(widths)) < 0.05
    assert max(abs((fit.median_v or 0.0) - 0.12) for fit in fits) < 0.03


def test_rates_that_differ_are_brought_to_one() -> None:
    """The median moves by v* ln 10 per decade of the rate."""
    for seed in range(3):
        drives = drawn(seed, 120, scatter=0.0, u_median_v=3.0, v_star=0.14, rates_v_s=(0.1, 1.0, 10.0))
        fit = fit_trigger(drives)
        assert fit.rate_v_s == 0.1
        assert holds(fit, 3.0)
        assert fit.plain_median_v is None
        faster = fit_trigger(drives, reference_rate_v_s=1.0)
        assert faster.v_star_v == pytest.approx(fit.v_star_v, rel=1e-3)
        assert faster.median_v == pytest.approx((fit.median_v or 0) + (fit.v_star_v or 0) * math.log(10), rel=1e-4)


def test_fewer_than_half_triggered_is_an_extrapolation_and_says_so() -> None:
    drives = drawn(1, 60, rates_v_s=(1.0,), step_v=0.02)
    fit = fit_trigger(drives)
    assert fit.censored > 30
    assert (fit.method, fit.extrapolated, fit.rate_v_s, fit.median_beyond_v) == ("fit", True, 1.0, 10.0)
    assert holds(fit, 9.5 + 0.35 * math.log(10))
    assert fit.plain_median_v is None


def test_a_trigger_nobody_saw_counts_as_somewhere_before_the_end() -> None:
    drives = drawn(2, 40)
    seen = fit_trigger(drives)

    def with_three_more(half_v: float) -> TriggerFit:
        return fit_trigger(
            Drives(
                drive_v=np.append(drives.drive_v, [5.0] * 3),
                half_v=np.append(drives.half_v, [half_v] * 3),
                triggered=np.append(drives.triggered, [True] * 3),
                rate_v_s=np.append(drives.rate_v_s, [0.1] * 3),
            )
        )

    # Before 10 V most do, so that they say little; seen at 5 V they would say a lot.
    assert with_three_more(5.0).median_v == pytest.approx(seen.median_v, rel=0.01)
    assert with_three_more(0.001).v_star_v > 1.4 * with_three_more(5.0).v_star_v  # type: ignore[operator]


# --- Too few ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drive_v", "triggered", "method", "median_v", "beyond_v"),
    [
        ([], [], "none", None, None),
        ([10.0, 10.0], [0, 0], "bound", None, 10.0),
        ([9.6, 10.0], [1, 0], "bound", None, 9.8),
        ([9.6, 9.8], [1, 1], "median", 9.7, None),
        ([0.12], [1], "median", 0.12, None),
        ([9.0, 9.6, 10.0], [1, 1, 0], "median", 9.6, None),
        ([9.6, 10.0, 10.0], [1, 0, 0], "bound", None, 10.0),
    ],
)
def test_too_few_for_a_fit(
    drive_v: list[float], triggered: list[int], method: str, median_v: float | None, beyond_v: float | None
) -> None:
    fit = fit_trigger(made(drive_v, triggered))
    assert (fit.method, fit.n, fit.censored) == (method, len(drive_v), triggered.count(0))
    assert fit.median_v == pytest.approx(median_v)
    assert fit.median_beyond_v == pytest.approx(beyond_v)
    assert (fit.median_low_v, fit.median_high_v, fit.v_star_v) == (None, None, None)
    # A bound holds at the sites' own rate, whatever rate was asked for.
    assert fit_trigger(made(drive_v, triggered), reference_rate_v_s=0.1).rate_v_s == (1.0 if drive_v else None)
    assert json.loads(json.dumps(fit.document()))["method"] == method


def test_sites_of_different_rates_have_no_common_median_without_a_fit() -> None:
    fit = fit_trigger(made([9.6, 10.0], [1, 0], [0.1, 1.0]))
    assert (fit.method, fit.rate_v_s, fit.median_v, fit.median_beyond_v) == ("none", None, None, None)


def test_drives_without_any_spread_have_no_v_star() -> None:
    fit = fit_trigger(made([0.12] * 5, [1] * 5))
    assert fit.median_v == pytest.approx(0.12, abs=1e-3)
    assert fit.v_star_v is None


# --- Without a law ---------------------------------------------------------------------------------------------------


def test_kaplan_meier_by_hand() -> None:
    # 5 sites; the one left at 2 V takes its share from nobody, and those behind it count for more.
    at_v, left = survival(made([1.0, 2.0, 3.0, 4.0, 5.0], [1, 0, 1, 1, 0]))
    assert at_v.tolist() == [1.0, 3.0, 4.0]
    assert left.tolist() == pytest.approx([4 / 5, 4 / 5 * 2 / 3, 4 / 5 * 1 / 3])
    assert plain_median(made([1.0, 2.0, 3.0, 4.0, 5.0], [1, 0, 1, 1, 0])).value_v == 4.0
    # At the same drive a trigger comes before what was only left there.
    assert survival(made([1.0, 1.0], [0, 1]))[1].tolist() == pytest.approx([0.5])


@pytest.mark.parametrize("count", [3, 4, 9, 10])
def test_without_censored_sites_the_median_is_the_plain_one(count: int) -> None:
    drive_v = random.Random(count).sample([0.1 * n for n in range(1, 50)], count)
    assert plain_median(made(drive_v, [1] * count)).value_v == pytest.approx(float(np.median(drive_v)))


def test_benards_ranks_and_johnsons() -> None:
    plot = probability_plot(made([3.0, 1.0, 2.0], [1, 1, 1]))
    assert plot.drive_v.tolist() == [1.0, 2.0, 3.0]
    assert plot.share.tolist() == pytest.approx([0.7 / 3.4, 1.7 / 3.4, 2.7 / 3.4])
    # Cut off at the end: the ranks of the others are as they were.
    assert probability_plot(made([1.0, 2.0, 9.0], [1, 1, 0])).share.tolist() == pytest.approx([0.7 / 3.4, 1.7 / 3.4])
    # Left behind between 1 and 3 V: the ranks are 1, then 1 + (4 - 1)/(1 + 1) = 2.5.
    assert probability_plot(made([1.0, 2.0, 3.0], [1, 0, 1])).share.tolist() == pytest.approx([0.7 / 3.4, 2.2 / 3.4])
    assert len(probability_plot(made([9.0], [0])).share) == 0


def test_the_law_is_a_straight_line_on_the_plot() -> None:
    plot = probability_plot(drawn(3, 2000, scatter=0.0, most_v=20.0, step_v=1e-5))
    slope, _ = np.polyfit(plot.drive_v, plot.y, 1)
    assert 1 / slope == pytest.approx(0.35, rel=0.05)


# --- What goes in ----------------------------------------------------------------------------------------------------


def point(outcome: str, **more: float | str) -> dict[str, Any]:
    nothing: dict[str, Any] = dict.fromkeys(("trigger_bias_v", "trigger_half_v", "beyond_v", "measured_rate_v_s"))
    return nothing | {"class": outcome, "rate_v_s": 0.1} | more


def test_drives_from_a_maps_documents() -> None:
    drives, chosen = drives_of(
        [
            point("triggered", trigger_bias_v=-0.118, trigger_half_v=0.001, beyond_v=0.12, measured_rate_v_s=0.09),
            point("lrs_at_start"),
            point("censored", beyond_v=10.0),
            point("invalid", reason="the stage failed", beyond_v=3.0),
            point("triggered", beyond_v=0.4, reason="the filament was found after the sweep, not in it"),
            point("triggered", trigger_bias_v=0.2, trigger_half_v=0.001, beyond_v=0.2),
        ]
    )
    assert chosen == [0, 2, 4]
    assert drives.drive_v.tolist() == [0.118, 10.0, 0.2]
    assert drives.half_v.tolist() == [0.001, 0.0, 0.2]
    assert drives.triggered.tolist() == [True, False, True]
    assert drives.rate_v_s.tolist() == [0.09, 0.1, 0.1]
    assert len(drives_of([])[0]) == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"drive_v": np.array([1.0, -0.1])}, "drive_v of site 1: -0.1: expected a drive above 0"),
        ({"drive_v": np.array([math.nan, 1.0])}, "drive_v of site 0: nan"),
        ({"half_v": np.array([0.0, -1.0])}, "half_v of site 1: -1.0: expected 0 or more"),
        ({"rate_v_s": np.array([0.0, 1.0])}, "rate_v_s of site 0: 0.0: expected a rate above 0"),
        ({"rate_v_s": np.array([1.0])}, r"rate_v_s: shape \(1,\): expected \(2,\)"),
        ({"drive_v": np.ones((2, 2))}, r"drive_v: shape \(2, 2\)"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, Any], message: str) -> None:
    good = {"drive_v": np.ones(2), "half_v": np.zeros(2), "triggered": np.ones(2, dtype=bool), "rate_v_s": np.ones(2)}
    with pytest.raises(AnalysisError, match=message):
        Drives(**good | changed)


@pytest.mark.parametrize("asked", [{"reference_rate_v_s": 0.0}, {"confidence": 1.0}, {"confidence": math.nan}])
def test_numbers_out_of_range_are_refused(asked: dict[str, float]) -> None:
    with pytest.raises(AnalysisError, match="expected"):
        fit_trigger(made([1.0, 2.0, 3.0], [1, 1, 1]), **asked)


def test_log_expm1_far_out() -> None:
    values = log_expm1(np.array([0.0, 1e-12, 1.0, 50.0, 1e4]))
    assert values[0] == -math.inf
    assert values[1:].tolist() == pytest.approx([math.log(1e-12), math.log(math.e - 1), 50.0, 1e4])
