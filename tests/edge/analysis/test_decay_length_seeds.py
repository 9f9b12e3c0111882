"""The decay length from 200 sites of the twin, seed by seed: does the 95 % interval hold what the twin was given?

0 to 150 nm from the edge of some boundary, on both sides of boundaries of all directions, in random order; landing
error of 5 nm in x and in y, drift 0.05 nm/s in a direction of its own for each seed. Staircases of 10 mV every 20 ms
(0.5 V/s) to 10 V, 5 s from a site to the next: about an hour, in which the sample moves by about 180 nm. Nothing is
corrected on the way: the analysis gets the positions asked for, the times, the drives and the landing error's sd, and
finds the drift.

100 seeds in the long rounds, 2 in the quick suite.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import random
import statistics
import time

import numpy as np
import pytest

from edge.analysis.decay_length import DecayFit, DecaySites, fit_decay
from edge.analysis.ramp_law import Drives
from hil.twin.contact import Contact
from hil.twin.grains import Box, Point
from hil.twin.sample_map import MapParameters, SampleMap
from hil.twin.spot import Change, Spot

LONG = os.environ.get("TIPGUARD_LONG") == "1"
SEEDS = range(100 if LONG else 2)

SITES = 200
FAR_M = 150e-9
XI_M = 25e-9
PLACEMENT_SD_M = 5e-9
DRIFT_M_S = 0.05e-9
STEP_V = 0.010
LEVEL_NS = 20_000_000
RATE_V_S = STEP_V / (LEVEL_NS * 1e-9)
MOST_V = 10.0
MOVE_NS = 5_000_000_000
BOX = Box(0.0, 0.0, 120e-6, 120e-6)
RADIUS_M = Contact().radius_m

pytestmark = pytest.mark.timeout(900 if LONG else 60)


@dataclasses.dataclass(frozen=True)
class Planned:
    """A position to ask for: at ``distance_m`` from the middle of a boundary, along its ``normal``."""

    at: Point
    normal: Point
    distance_m: float


def planned(sample: SampleMap, rng: random.Random) -> list[Planned]:
    """Draw sites along the perpendiculars of boundaries, each more than 1 um from the others and from a third grain."""
    feet: list[Point] = []
    found: list[Planned] = []
    while len(found) < SITES:
        inside = BOX.draw(rng)
        near = sample.grains.boundary(inside)
        if near.clearance_m < 1e-6 or any(math.dist(near.foot, foot) < 1e-6 for foot in feet):
            continue
        feet.append(near.foot)
        normal = (inside[0] - near.foot[0]) / near.distance_m, (inside[1] - near.foot[1]) / near.distance_m
        distance_m = rng.uniform(0.0, FAR_M) + RADIUS_M + 0.5 * sample.parameters.boundary_m
        at = near.foot[0] + normal[0] * distance_m, near.foot[1] + normal[1] * distance_m
        found.append(Planned(at, normal, distance_m))
    rng.shuffle(found)
    return found


def sweep(spot: Spot) -> int | None:
    """Climb the staircase; return the level, counted from 1, at which the spot gave way, None if it never did."""
    for level in range(1, round(MOST_V / STEP_V) + 1):
        v = -level * STEP_V
        wait_s = spot.wait_s(v)
        if wait_s * 1e9 <= LEVEL_NS:
            spot.age(v, math.ceil(wait_s * 1e9))
            assert spot.settle(v) is Change.NUCLEATION
            return level
        spot.age(v, LEVEL_NS)
    return None


@functools.cache
def measured(seed: int) -> tuple[DecaySites, Point]:
    """Run the map on the twin; return what the analysis may know, and the drift of this seed, m/s."""
    rng = random.Random(f"decay length {seed}")
    angle = rng.uniform(0.0, 2 * math.pi)
    drift_m_s = DRIFT_M_S * math.cos(angle), DRIFT_M_S * math.sin(angle)
    sample = SampleMap(seed, MapParameters(xi_m=XI_M, placement_sd_m=PLACEMENT_SD_M, drift_m_s=drift_m_s))
    points = planned(sample, rng)
    t_ns = MOVE_NS
    levels: list[int | None] = []
    for point in points:
        level = sweep(sample.land(point.at, t_ns).spot)
        levels.append(level)
        t_ns += LEVEL_NS * (round(MOST_V / STEP_V) if level is None else level) + MOVE_NS
    landed_ns = np.array([landing.t_ns for landing in sample.landings])
    drives = Drives(
        # As an event says it: between the level before and the one at which it was there.
        drive_v=np.array([MOST_V if level is None else (level - 0.5) * STEP_V for level in levels]),
        half_v=np.full(SITES, 0.5 * STEP_V),
        triggered=np.array([level is not None for level in levels]),
        rate_v_s=np.full(SITES, RATE_V_S),
    )
    sites = DecaySites(
        drives=drives,
        distance_m=np.array([point.distance_m for point in points]),
        normal=np.array([point.normal for point in points]),
        landed_s=(landed_ns - landed_ns[0]) * 1e-9,
    )
    return sites, drift_m_s


@functools.cache
def fitted(seed: int) -> DecayFit:
    return fit_decay(measured(seed)[0], contact_radius_m=RADIUS_M, placement_sd_m=PLACEMENT_SD_M)


def holds(fit: DecayFit) -> bool:
    return (fit.xi_low_m or 0.0) <= XI_M <= (fit.xi_high_m or math.inf)


def width_m(fit: DecayFit) -> float:
    return (fit.xi_high_m or math.inf) - (fit.xi_low_m or 0.0)


def say(what: str, fits: list[DecayFit], took_s: float) -> None:
    covered = sum(holds(fit) for fit in fits)
    xi_nm = [fit.xi_m * 1e9 for fit in fits]
    width_nm = statistics.median(width_m(fit) for fit in fits) * 1e9
    print(
        f"decay length, {what}: the 95 % interval holds {XI_M * 1e9:g} nm in {covered} of {len(fits)} seeds; "
        f"median {statistics.median(xi_nm):.2f} nm, sd {statistics.pstdev(xi_nm):.2f} nm, "
        f"width of the interval {width_nm:.2f} nm (median); {took_s / len(fits):.2f} s a fit"
    )


def test_the_interval_holds_the_truth() -> None:
    began = time.perf_counter()
    for seed in SEEDS:
        measured(seed)
    simulated = time.perf_counter()
    fits = [fitted(seed) for seed in SEEDS]
    say("drift estimated, landing error integrated over", fits, time.perf_counter() - simulated)
    drifts = [measured(seed)[1] for seed in SEEDS]
    errors_nm_s = [math.dist(fit.drift_m_s, drift) * 1e9 for fit, drift in zip(fits, drifts, strict=True)]
    ways_nm = [DRIFT_M_S * float(measured(seed)[0].landed_s[-1]) * 1e9 for seed in SEEDS]
    print(
        f"the drift's error: median {statistics.median(errors_nm_s):.4f}, at most {max(errors_nm_s):.4f} nm/s; "
        f"a run moved by {min(ways_nm):.0f} to {max(ways_nm):.0f} nm; {simulated - began:.0f} s on the twin"
    )
    assert sum(holds(fit) for fit in fits) >= (90 if LONG else len(fits))
    # And it says something: no interval is open, or wider than a fifth of xi.
    assert max(width_m(fit) for fit in fits) < 0.2 * XI_M
    assert statistics.median(fit.xi_m for fit in fits) == pytest.approx(XI_M, rel=0.05)
    assert max(errors_nm_s) < 0.1 * DRIFT_M_S * 1e9


def test_without_the_landing_error_the_interval_is_too_sure() -> None:
    began = time.perf_counter()
    fits = [fit_decay(measured(seed)[0], contact_radius_m=RADIUS_M, placement_sd_m=0.0) for seed in SEEDS]
    say("as if there were no landing error", fits, time.perf_counter() - began)
    gains = [fitted(seed).log_likelihood - fit.log_likelihood for seed, fit in zip(SEEDS, fits, strict=True)]
    print(f"ln likelihood: by {min(gains):.0f} to {max(gains):.0f} worse than with it")
    assert min(gains) > 0
    assert statistics.median(gains) > 10
    assert not LONG or sum(holds(fit) for fit in fits) < 85


def test_without_the_drift_xi_is_wrong() -> None:
    began = time.perf_counter()
    fits = [
        fit_decay(
            measured(seed)[0].part(np.arange(SITES if LONG else 80)),
            contact_radius_m=RADIUS_M,
            placement_sd_m=PLACEMENT_SD_M,
            drift_m_s=(0.0, 0.0),
        )
        for seed in range(10 if LONG else 1)
    ]
    say("as if nothing drifted", fits, time.perf_counter() - began)
    assert sum(holds(fit) for fit in fits) <= (3 if LONG else 0)
    assert statistics.median(abs(fit.xi_m - XI_M) for fit in fits) > 0.2 * XI_M
