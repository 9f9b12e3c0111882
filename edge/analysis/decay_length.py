"""The decay length xi of the trigger with the distance from a grain boundary, from the drives of a map.

Model: :mod:`edge.analysis.decay_likelihood`. Nobody sees where exactly the tip came down, and no site is measured twice
(it has a filament then): an errors-in-variables problem. The landing error, whose sd must be known, is integrated over;
the drift is estimated with everything else.

**Why the drift can be estimated.** Between d = 0 and 3 xi the drive says to a few nanometres how far from the boundary
the tip was, and the visiting order is random, so that time and nominal distance are independent. One straight boundary
shows the drift along its normal only, and only that matters there; several directions of normals show both components.
The sd of the landing error cannot be found this way: near a boundary it looks like the trigger's own spread.

**What is assumed.** The drift is constant over the run, and time 0 is when the map of the boundaries held: what the map
was off by then, beyond the landing error, is an error of the distances and goes into xi. Boundaries are straight over
the way the drift takes, and no other one comes nearer. Each site is a new spot. Landing errors are normal, of the same
sd in x and y, independent of each other. Sites that drift out of the range where the drive depends on the distance say
nothing about xi, so that a run in which the drift goes much farther than that range wants re-centring on the way, or
faster ramps; the positions to give are then the corrected ones, and the drift found is what was left.

The interval is of the profile likelihood: all xi for which the likelihood, with everything else refitted, is less than
half the chi-square quantile below its maximum. It is not symmetric, and open (None) where the data do not close it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge.analysis.decay_likelihood import NM, PARAMETERS, DecayData, decay_data, scores
from edge.analysis.decay_search import Better, Search
from edge.analysis.ramp_law import Drives, Floats
from edge.errors import AnalysisError

LEAST_SITES: Final = 16
"""Twice as many sites as parameters."""
LEAST_TRIGGERED: Final = 8

_LIMITS: Final = ((2e-10, 1e-5), (1e-3, 200.0), (1e-3, 200.0), (0.02, 0.5), (0.02, 0.5))
"""Where xi (m), the medians (V) and v* over the median are searched. A trigger sharper than 2 % is not told from one of
2 % beside a scatter of a few per cent; a spread above half of the median is none of this law's."""
_MOST_SCATTER: Final = 0.5
# The climbing begins with the first 20 % of the sites, at least 40, and a lattice of drifts 40 nm apart by then.
_STAGES: Final = (0.2, 0.45, 1.0)
_EARLY: Final = 40
_LATTICE_NM: Final = 40.0
_MOST_LATTICE: Final = 12
_KEPT: Final = 2
_FALL: Final = 20.0
_APART: Final = 0.2
_APART_NM: Final = 10.0
"""Hills are different when their ln xi or the way of their drift, nm, differ by more than this. One that is lower by 20
in ln likelihood is not the right one, however few sites there are."""
_STARTS: Final = (0.05, 0.15, 0.45)
_TRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DecaySites:
    """Where and when the sites were, beside their drives: arrays with an entry a site.

    ``distance_m``: from the position asked for to the middle of its boundary, 0 or more. ``normal``: shape (n, 2), unit
    vectors from the boundary to that position, in the axes of the stage. ``landed_s``: when the tip came down, s since
    the positions were right. Raises AnalysisError for what does not fit together.
    """

    drives: Drives
    distance_m: Floats
    normal: Floats
    landed_s: Floats

    def __post_init__(self) -> None:
        count = len(self.drives)
        for name, shape in (("distance_m", (count,)), ("normal", (count, 2)), ("landed_s", (count,))):
            value = getattr(self, name)
            if np.shape(value) != shape:
                raise AnalysisError(f"decay length: {name}: shape {np.shape(value)}: expected {shape}")
            if not np.all(np.isfinite(value)):
                raise AnalysisError(f"decay length: {name}: a number is missing; leave such sites out")
        if np.any(self.distance_m < 0):
            raise AnalysisError("decay length: distance_m: below 0; turn the normal round instead")
        if np.any(np.abs(np.hypot(self.normal[:, 0], self.normal[:, 1]) - 1) > 1e-3):
            raise AnalysisError("decay length: normal: not of length 1")

    def part(self, chosen: Floats) -> DecaySites:
        """Return the sites that ``chosen`` (bool or indices) picks, in its order."""
        return DecaySites(
            drives=self.drives.part(chosen),
            distance_m=self.distance_m[chosen],
            normal=self.normal[chosen],
            landed_s=self.landed_s[chosen],
        )


@dataclass(frozen=True, slots=True)
class DecayFit:
    """What was found; lengths in m, medians and v* in V at 0.1 V/s, drift in m/s.

    ``xi_low_m``, ``xi_high_m``: the interval at ``confidence``; None where it is open. ``drift_m_s``: how the place
    under the tip moves over the sample; ``drift_sd_m_s``: its standard error, None where the sites do not tell (across
    their only normal) or the drift was given. ``scatter``: sd of ln u_med from spot to spot. ``at_limit``: parameters
    at the edge of where they are searched: the data leave them open; v* and scatter do the same to the drives, so that
    one of them often is. ``log_likelihood``: natural logarithm, at the maximum.
    """

    n: int
    censored: int
    xi_m: float
    xi_low_m: float | None
    xi_high_m: float | None
    confidence: float
    u_gb_v: float
    u_gi_v: float
    v_star_gb_v: float
    v_star_gi_v: float
    scatter: float
    drift_m_s: tuple[float, float]
    drift_sd_m_s: tuple[float | None, float | None]
    placement_sd_m: float
    log_likelihood: float
    at_limit: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)


def fit_decay(
    sites: DecaySites,
    *,
    contact_radius_m: float,
    placement_sd_m: float,
    boundary_m: float = 5e-9,
    drift_m_s: tuple[float, float] | None = None,
    drift_max_m_s: float = 2e-10,
    confidence: float = 0.95,
) -> DecayFit:
    """Fit the decay length; raises AnalysisError for fewer than 16 sites or 8 triggers, or numbers out of range.

    ``contact_radius_m`` (0 to 1e-6) and half of ``boundary_m`` (0 to 1e-6) are taken off the distance.
    ``placement_sd_m``: sd of the landing error in x and in y (0 to 1e-6). ``drift_m_s``: the drift where it is known,
    as in :class:`DecayFit`; None: estimated, up to ``drift_max_m_s`` (1e-12 to 1e-6) in x and in y. ``confidence``:
    0.5 to 0.999. 200 sites take about a second.
    """
    known = (0.0, 0.0) if drift_m_s is None else drift_m_s
    _check(
        sites,
        contact_radius_m=(contact_radius_m, 0.0, 1e-6),
        boundary_m=(boundary_m, 0.0, 1e-6),
        placement_sd_m=(placement_sd_m, 0.0, 1e-6),
        drift_m_s=(math.hypot(*known), 0.0, 1e-6),
        drift_max_m_s=(drift_max_m_s, 1e-12, 1e-6),
        confidence=(confidence, 0.5, 0.999),
    )
    # The likelihood wants those that triggered first.
    sites = sites.part(np.argsort(~sites.drives.triggered.astype(bool), kind="stable"))
    span_s = max(float(np.max(np.abs(sites.landed_s))), 1e-9)
    signed_m = sites.distance_m + (sites.normal @ np.array(known)) * sites.landed_s
    way = sites.normal * (sites.landed_s / span_s)[:, None] * (drift_m_s is None)
    data = decay_data(
        sites.drives, signed_m, way, reach_m=contact_radius_m + 0.5 * boundary_m, placement_sd_m=placement_sd_m
    )
    way_nm = drift_max_m_s * span_s / NM
    search = Search(
        np.array([*(math.log(low) for low, _ in _LIMITS), -_MOST_SCATTER, -way_nm, -way_nm]),
        np.array([*(math.log(high) for _, high in _LIMITS), _MOST_SCATTER, way_nm, way_nm]),
        drift=drift_m_s is None,
    )
    best, most = _maximum(search, data, sites)
    for _ in range(_TRIES):
        ends = [search.edge(data, best, most, side, confidence) for side in (-1, 1)]
        better = [end.theta for end in ends if isinstance(end, Better)]
        if not better:
            break
        # Refitting beside the maximum found a higher one.
        best, most = max((search.climb(theta, data) for theta in better), key=lambda found: found[1])
    x, y = best[6] * NM / span_s, best[7] * NM / span_s
    errors = search.errors(best, data) * NM / span_s
    limits = zip(PARAMETERS, best, search.low, search.high, strict=True)
    return DecayFit(
        n=len(sites.drives),
        censored=int(np.count_nonzero(~sites.drives.triggered.astype(bool))),
        xi_m=math.exp(best[0]),
        xi_low_m=_length(ends[0]),
        xi_high_m=_length(ends[1]),
        confidence=confidence,
        u_gb_v=math.exp(best[1]),
        u_gi_v=math.exp(best[2]),
        v_star_gb_v=math.exp(best[1] + best[3]),
        v_star_gi_v=math.exp(best[2] + best[4]),
        scatter=abs(float(best[5])),
        drift_m_s=(float(x), float(y)) if drift_m_s is None else drift_m_s,
        drift_sd_m_s=(_known(errors[6], drift_max_m_s), _known(errors[7], drift_max_m_s)),
        placement_sd_m=placement_sd_m,
        log_likelihood=most,
        at_limit=tuple(name for name, value, low, high in limits if value <= low or value >= high),
    )


def _check(sites: DecaySites, **numbers: tuple[float, float, float]) -> None:
    """Raise AnalysisError for too few sites, or a number outside its (value, low, high)."""
    count, triggered = len(sites.drives), int(np.count_nonzero(sites.drives.triggered))
    if count < LEAST_SITES or triggered < LEAST_TRIGGERED:
        raise AnalysisError(
            f"decay length: {count} sites, {triggered} triggered: expected at least {LEAST_SITES} and {LEAST_TRIGGERED}"
        )
    for name, (value, low, high) in numbers.items():
        if not low <= value <= high:
            raise AnalysisError(f"decay length: {name}: {value:g}: expected {low:g} to {high:g}")


def _length(end: float | Better | None) -> float | None:
    return math.exp(end) if isinstance(end, float) else None


def _known(error: float, most: float) -> float | None:
    return float(error) if error < most else None


def _maximum(search: Search, data: DecayData, sites: DecaySites) -> tuple[Floats, float]:
    """Return the maximum: first of the early sites, which the drift has not taken far, then of more and of all.

    The start is the best of a lattice of drifts, for each of several xi: from too far away the climbing gets nowhere.
    """
    drives, time_s = sites.drives.drive_v, np.abs(sites.landed_s)
    hit_v = drives[sites.drives.triggered.astype(bool)]
    u_gb, u_gi = float(np.quantile(hit_v, 0.05)), float(np.quantile(drives, 0.9))
    far_m = max(float(np.max(sites.distance_m)), NM)
    order = np.sort(time_s)
    stages = [float(order[min(max(round(len(order) * part), _EARLY), len(order)) - 1]) for part in _STAGES]
    if not search.drift:
        stages = stages[-1:]
    early = data.part(time_s <= stages[0])
    lattice = _lattice(search, stages[0] / max(stages[-1], 1e-9))
    candidates = []
    for share in _STARTS:
        first = [*(math.log(v) for v in (share * far_m, u_gb, u_gi, 0.15, 0.04)), 0.05]
        starts = [np.array([*first, *way]) for way in lattice]
        starts.sort(key=lambda theta: -float(scores(theta, early)[0].sum()))
        candidates += starts[:_KEPT]
    for until_s in stages:
        # A wrong hill can be the higher one while there are few sites.
        early = data.part(time_s <= until_s)
        candidates = _highest([search.climb(start, early, roughly=True) for start in candidates])
    return search.climb(candidates[0], data)


def _highest(climbed: list[tuple[Floats, float]]) -> list[Floats]:
    """Return the tops of the highest hills, of each only one, the highest first."""
    kept: list[Floats] = []
    highest = max(height for _, height in climbed)
    for theta, height in sorted(climbed, key=lambda found: -found[1]):
        if height > highest - _FALL and all(
            abs(theta[0] - other[0]) > _APART or math.dist(theta[-2:], other[-2:]) > _APART_NM for other in kept
        ):
            kept.append(theta)
    return kept[:_KEPT]


def _lattice(search: Search, share: float) -> list[tuple[float, float]]:
    """Return drifts to begin with, as ways over the whole time in nm; ``share`` of it is that of the early sites."""
    if not search.drift:
        return [(0.0, 0.0)]
    most = float(search.high[-1])
    side = min(max(round(most * share / _LATTICE_NM), 1), _MOST_LATTICE)
    steps = np.linspace(-most, most, 2 * side + 1)
    return [(float(x), float(y)) for x in steps for y in steps]
