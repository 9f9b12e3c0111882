"""The median trigger drive of a group of sites, of which some did not trigger: a fit of the ramp law, and without it.

The law is that of :mod:`edge.analysis.ramp_law`, with two parameters: the median at a reference rate and v*. Sites that
did not trigger count with the drive they went up to. The intervals are of the profile likelihood: all medians for which
the likelihood, with v* refitted, is less than c/2 below its maximum. With few sites and with censored ones that is
asymmetric, which an interval from the curvature at the maximum cannot be. c = r ln(1 + t^2/(r - 1)) with r triggers and
Student's t of r - 1: exactly that of the mean of r normal values; the chi-square quantile, its limit for many, makes
the interval of 8 sites hold the truth in 91 % instead of 94 % of cases.

v* is that of the group: a scatter from site to site is in it. A conversion from one ramp rate to another uses it, so
that sites with a scatter of their own shift less with the rate than it says; quote medians at the rate that was used.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from edge.analysis.ramp_law import REFERENCE_RATE_V_S, Drives, Floats, log_hazard
from edge.errors import AnalysisError

LEAST_TRIGGERED: Final = 3
"""Triggers that a fit of two parameters needs to say anything about their error."""

_SPREADS: Final = (1e-3, 3.0)
"""Where v* is searched, as a share of the median: sharper than any bias step, and a hazard that hardly grows."""
_WIDEST: Final = 50.0
"""The interval is searched up to this factor from the median."""
_LOG_H_MAX: Final = 500.0


@dataclass(frozen=True, slots=True)
class PlainMedian:
    """The median (V) without any law; ``value_v`` None where too few triggered: then it is beyond ``beyond_v``.

    Both None without sites, or where the sites were ramped at different rates, which have different medians.
    """

    value_v: float | None
    beyond_v: float | None


@dataclass(frozen=True, slots=True)
class ProbabilityPlot:
    """The triggered sites for a plot: ``drive_v`` (V, ascending), ``share`` F triggered up to it, ``y`` ln(-ln(1 - F)).

    On such a plot the law is a straight line of slope 1/v* where the drive is several v*.
    """

    drive_v: Floats
    share: Floats
    y: Floats


@dataclass(frozen=True, slots=True)
class TriggerFit:
    """What is known of a group's median. V; the rate in V/s.

    ``method``: "fit"; "median", the plain one, where fewer than 3 triggered but no more than half are missing; "bound",
    where only ``median_beyond_v`` is known; "none". ``rate_v_s``: the ramp rate at which ``median_v`` holds: the
    reference of a fit, else the sites' own. ``median_low_v``, ``median_high_v``: the interval at ``confidence``, None
    where it is open or there was no fit. ``v_star_v``: None where the fit leaves it at an edge of its search.
    ``extrapolated``: fewer than half triggered, the median rests on the law. ``plain_median_v``, ``median_beyond_v``:
    :class:`PlainMedian`, at the sites' own rate.
    """

    n: int
    censored: int
    method: Literal["fit", "median", "bound", "none"]
    rate_v_s: float | None
    median_v: float | None
    median_low_v: float | None
    median_high_v: float | None
    confidence: float
    v_star_v: float | None
    extrapolated: bool
    plain_median_v: float | None
    median_beyond_v: float | None

    def document(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)


def fit_trigger(drives: Drives, *, reference_rate_v_s: float | None = None, confidence: float = 0.95) -> TriggerFit:
    """Return the median at ``reference_rate_v_s`` (1e-6 to 1e6 V/s), or what can be said if too few triggered.

    None: at the sites' own ramp rate; at 0.1 V/s where they differ. ``confidence``: 0.5 to 0.999. Raises AnalysisError
    outside these ranges.
    """
    if reference_rate_v_s is None:
        reference_rate_v_s = drives.common_rate_v_s or REFERENCE_RATE_V_S
    if not 1e-6 <= reference_rate_v_s <= 1e6:
        raise AnalysisError(f"trigger fit: reference_rate_v_s: {reference_rate_v_s:g}: expected 1e-6 to 1e6")
    if not 0.5 <= confidence <= 0.999:
        raise AnalysisError(f"trigger fit: confidence: {confidence:g}: expected 0.5 to 0.999")
    triggered = int(np.count_nonzero(drives.triggered))
    plain = plain_median(drives)
    found = TriggerFit(
        n=len(drives),
        censored=len(drives) - triggered,
        method="none",
        rate_v_s=drives.common_rate_v_s,
        median_v=plain.value_v,
        median_low_v=None,
        median_high_v=None,
        confidence=confidence,
        v_star_v=None,
        extrapolated=False,
        plain_median_v=plain.value_v,
        median_beyond_v=plain.beyond_v,
    )
    if triggered < LEAST_TRIGGERED:
        if plain.value_v is not None:
            return dataclasses.replace(found, method="median")
        return dataclasses.replace(found, method="bound" if plain.beyond_v is not None else "none")
    likelihood = _Likelihood(drives, reference_rate_v_s)
    log_median, log_spread, most = likelihood.maximum()
    low, high = (likelihood.edge(log_median, log_spread, most, side, confidence) for side in (-1, 1))
    inside = _SPREADS[0] * 1.01 < math.exp(log_spread) < _SPREADS[1] / 1.01
    return dataclasses.replace(
        found,
        method="fit",
        rate_v_s=reference_rate_v_s,
        median_v=math.exp(log_median),
        median_low_v=low,
        median_high_v=high,
        v_star_v=math.exp(log_median + log_spread) if inside else None,
        extrapolated=2 * triggered < len(drives),
    )


def survival(drives: Drives) -> tuple[Floats, Floats]:
    """Return the Kaplan-Meier estimate: the drives (V, ascending) at which sites triggered, and the share left after.

    Empty without triggers. Only for sites that were ramped at the same rate.
    """
    order = np.lexsort((~drives.triggered.astype(bool), drives.drive_v))
    hit = drives.triggered.astype(bool)[order]
    at_risk = np.arange(len(order), 0, -1)
    left = np.cumprod(np.where(hit, 1 - 1 / at_risk, 1.0))
    return drives.drive_v[order][hit], left[hit]


def plain_median(drives: Drives) -> PlainMedian:
    """Return the Kaplan-Meier median, which without censored sites is the plain median; see :class:`PlainMedian`."""
    if drives.common_rate_v_s is None:
        return PlainMedian(None, None)
    at_v, left = survival(drives)
    # Half of the sites up to here: half way to the next, as medians are.
    half = np.flatnonzero(left <= 0.5 + 1e-9)
    if len(half):
        first = int(half[0])
        if left[first] < 0.5 - 1e-9:
            return PlainMedian(float(at_v[first]), None)
        if first + 1 < len(at_v):
            return PlainMedian(float(0.5 * (at_v[first] + at_v[first + 1])), None)
    # As if those that did not trigger had done so where they were left: no median is smaller.
    return PlainMedian(None, float(np.median(drives.drive_v)))


def probability_plot(drives: Drives) -> ProbabilityPlot:
    """Return plotting positions after Benard, F = (i - 0.3)/(n + 0.4), with Johnson's ranks i where sites are censored.

    Those left behind before a trigger move its rank up: each later one by (n + 1 - i)/(1 + sites not yet passed).
    """
    order = np.lexsort((~drives.triggered.astype(bool), drives.drive_v))
    hit = drives.triggered.astype(bool)[order]
    count, rank = len(order), 0.0
    ranks = []
    for passed in np.flatnonzero(hit):
        rank += (count + 1 - rank) / (1 + count - int(passed))
        ranks.append(rank)
    share = (np.array(ranks) - 0.3) / (count + 0.4)
    return ProbabilityPlot(drives.drive_v[order][hit], share, np.log(-np.log1p(-share)))


class _Likelihood:
    """Of ln median and ln(v*/median); arrays of both broadcast."""

    def __init__(self, drives: Drives, reference_v_s: float) -> None:
        self._low_v, self._high_v = drives.ends_v()
        self._hit = drives.triggered.astype(bool)
        self._ratio = reference_v_s / drives.rate_v_s

    def __call__(self, log_median: Floats | float, log_spread: Floats | float) -> Floats:
        """Return ln likelihood."""
        median_v = np.exp(np.asarray(log_median))[..., None]
        v_star = median_v * np.exp(np.asarray(log_spread))[..., None]
        log_high = log_hazard(self._high_v, median_v, v_star, self._ratio)
        high = np.exp(np.minimum(log_high, _LOG_H_MAX))
        hit = self._hit
        log_low = log_hazard(self._low_v[hit], median_v, v_star, self._ratio[hit])
        # ln(exp(-H_low) - exp(-H_high)), where the difference of two H may be far below or above 1.
        log_between = log_high[..., hit] + np.log(-np.expm1(np.minimum(log_low - log_high[..., hit], -1e-15)))
        between = np.exp(np.minimum(log_between, _LOG_H_MAX))
        log_share = np.where(between > 1e-9, np.log(-np.expm1(-np.maximum(between, 1e-9))), log_between)
        found = log_share - np.exp(np.minimum(log_low, _LOG_H_MAX))
        return np.asarray(found.sum(axis=-1) - high[..., ~hit].sum(axis=-1))

    def maximum(self) -> tuple[float, float, float]:
        """Return where it is highest, and ln likelihood there: the best of a coarse grid, then refined."""
        from scipy.optimize import minimize

        u = np.log(self._high_v)
        medians = np.linspace(float(u[self._hit].min()) - 0.5, float(u.max()) + 2.0, 40)
        spreads = np.linspace(math.log(_SPREADS[0]), math.log(_SPREADS[1]), 30)
        grid = self(medians[:, None], spreads)
        first = np.unravel_index(int(np.argmax(grid)), grid.shape)
        start = np.array([medians[first[0]], spreads[first[1]]])
        found = minimize(
            lambda x: -float(self(x[0], x[1])),
            start,
            method="Nelder-Mead",
            bounds=[(start[0] - 5.0, start[0] + 5.0), (spreads[0], spreads[-1])],
            options={"initial_simplex": start + np.array([[0, 0], [0.05, 0], [0, 0.2]]), "xatol": 1e-6, "fatol": 1e-7},
        )
        return float(found.x[0]), float(found.x[1]), -float(found.fun)

    def _profile(self, log_median: float) -> float:
        """Return ln likelihood at a median with the v* that suits it best."""
        from scipy.optimize import minimize_scalar

        low, high = math.log(_SPREADS[0]), math.log(_SPREADS[1])
        grid = np.linspace(low, high, 60)
        best = float(grid[int(np.argmax(self(np.full(1, log_median), grid)))])
        step = float(grid[1] - grid[0])
        found = minimize_scalar(
            lambda x: -float(self(log_median, x)),
            bounds=(max(low, best - step), min(high, best + step)),
            method="bounded",
            options={"xatol": 1e-5},
        )
        return -float(found.fun)

    def edge(self, log_median: float, log_spread: float, most: float, side: int, confidence: float) -> float | None:
        """Return the end of the interval on one side, V; None if it is open."""
        from scipy.optimize import brentq
        from scipy.stats import t

        count = int(np.count_nonzero(self._hit))
        fall = 0.5 * count * math.log1p(float(t.ppf(0.5 + 0.5 * confidence, count - 1)) ** 2 / (count - 1))
        inner, step = log_median, 0.3 * math.exp(log_spread)
        while step < math.log(_WIDEST):
            outer = log_median + side * step
            if most - self._profile(outer) > fall:
                found = brentq(lambda x: most - self._profile(x) - fall, inner, outer, xtol=1e-5)
                return math.exp(found)
            inner, step = outer, 1.6 * step
        return None
