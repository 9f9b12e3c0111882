"""Ratios, medians and counts of the bench from its raw values. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from hil.bench.dose.trials import (
    CLAMP,
    COMPETENT,
    FRONTEND,
    FRONTEND_10K,
    GPIO,
    IDLE,
    LOADED,
    SERIAL,
    USUAL,
    VIRTUAL,
)
from hil.bench.report import Figure

Raw: TypeAlias = Sequence[dict[str, Any]]
Interval: TypeAlias = tuple[float, float]

RESAMPLES: Final = 1000
CONFIDENCE: Final = 0.95
RESET_SHARE: Final = 0.995
"""199 of 200."""
FRONT_END: Final = 0.002
"""Three samples to see it, one to decide, the switch: 40 us at 100 kS/s, over 36 ms of reading and cut: 0.0011."""
ARMS: Final = ((CLAMP, IDLE), (USUAL, IDLE), (COMPETENT, IDLE), (SERIAL, IDLE), (GPIO, IDLE))
LOADED_ARMS: Final = ((COMPETENT, LOADED), (SERIAL, LOADED))
VIRTUAL_ARMS: Final = ((SERIAL, VIRTUAL), (FRONTEND_10K, VIRTUAL), (FRONTEND, VIRTUAL))


def by_site(raw: Raw, arm: str, condition: str, key: str) -> dict[int, float]:
    """Return a measure by site; sites where no filament formed, or where it was not measured, are left out."""
    rows = (row for row in raw if row["arm"] == arm and row["condition"] == condition and row["onset_ns"] is not None)
    return {row["site"]: float(row[key]) for row in rows if row.get(key) is not None}


def median_ratio(over: dict[int, float], under: dict[int, float]) -> float:
    """Return the median of the per-site ratios, over the sites that both have; NaN for none."""
    ratios = [over[site] / under[site] for site in over if under.get(site, 0.0) > 0.0]
    return float(np.median(ratios)) if ratios else math.nan


def p99_ratio(over: dict[int, float], under: dict[int, float]) -> float:
    """Return the 99th percentile of one over that of the other, over the sites that both have; NaN for none."""
    return percentile_ratio(over, under, 99)


def percentile_ratio(over: dict[int, float], under: dict[int, float], percent: float) -> float:
    """Return a percentile of one over the same of the other, over the sites that both have; NaN for none."""
    both = sorted(over.keys() & under.keys())
    if not both:
        return math.nan
    return percentile([over[site] for site in both], percent) / percentile([under[site] for site in both], percent)


def mean_ratio(over: dict[int, float], under: dict[int, float]) -> float:
    """Return the ratio of the means, over the sites that both have; NaN for none."""
    both = over.keys() & under.keys()
    return sum(over[site] for site in both) / sum(under[site] for site in both) if both else math.nan


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile, linear between two values; NaN of none."""
    return float(np.percentile(values, percent)) if len(values) else math.nan


def interval(
    over: dict[int, float], under: dict[int, float], ratio: Callable[[dict[int, float], dict[int, float]], float]
) -> Interval:
    """Return the 95 % interval of a ratio by resampling the sites, pairs kept together; repeatable."""
    sites = np.array(sorted(over.keys() & under.keys()))
    if len(sites) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(1)
    found = []
    for _ in range(RESAMPLES):
        drawn = rng.choice(sites, len(sites))
        # A site that is drawn twice counts twice: the places are the keys.
        one = {place: over[site] for place, site in enumerate(drawn)}
        two = {place: under[site] for place, site in enumerate(drawn)}
        found.append(ratio(one, two))
    tail = 100 * (1 - CONFIDENCE) / 2
    return percentile(found, tail), percentile(found, 100 - tail)


def at_least(successes: int, n: int) -> float:
    """Return the share that ``successes`` of ``n`` prove with 95 % confidence (one-sided, Clopper and Pearson)."""
    if successes == 0 or n == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        tail = sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(successes, n + 1))
        low, high = (share, high) if tail < 1 - CONFIDENCE else (low, share)
    return low


def targets(raw: Raw) -> tuple[list[Figure], dict[str, Interval]]:
    """Return the figures that have a target, and the intervals of the ratios by name."""

    def charge(arm: str, condition: str = IDLE) -> dict[int, float]:
        return by_site(raw, arm, condition, "charge_c")

    def reaction(arm: str) -> dict[int, float]:
        return by_site(raw, arm, LOADED, "reaction_s")

    asked = [
        ("charge_ratio_to_usual", charge(SERIAL), charge(USUAL), median_ratio, 0.1),
        ("charge_p50_ratio_to_competent", charge(SERIAL), charge(COMPETENT), median_ratio, 1.1),
        ("charge_p99_ratio_to_competent", charge(SERIAL, LOADED), charge(COMPETENT, LOADED), p99_ratio, 1.0),
        ("reaction_p99_ratio_to_competent", reaction(SERIAL), reaction(COMPETENT), p99_ratio, 1 / 3),
        (
            "charge_frontend_ratio_to_serial",
            charge(FRONTEND, VIRTUAL),
            charge(SERIAL, VIRTUAL),
            median_ratio,
            FRONT_END,
        ),
    ]
    figures = [Figure(name, ratio(over, under), "", target) for name, over, under, ratio, target in asked]
    resets = by_site(raw, SERIAL, IDLE, "reset_ok")
    figures.append(
        Figure("reset_ok", sum(resets.values()), f"of {len(resets)}", math.ceil(RESET_SHARE * len(resets)), ">=")
    )
    return figures, {name: interval(over, under, ratio) for name, over, under, ratio, _ in asked}


def others(raw: Raw) -> list[Figure]:
    """Return what is reported beside them: the same ratios for the other arms and conditions, medians per arm."""
    figures = []
    for arm, condition in ((CLAMP, IDLE), (COMPETENT, IDLE), (GPIO, IDLE)):
        if over := by_site(raw, arm, condition, "charge_c"):
            under = by_site(raw, USUAL, IDLE, "charge_c")
            figures.append(Figure(f"{arm}.charge_ratio_to_usual", median_ratio(over, under), ""))
    figures += _of_front_end(raw)
    for arm, condition in ((SERIAL, IDLE), (GPIO, IDLE), (SERIAL, LOADED)):
        for key, stem in (("charge_c", "charge"), ("reaction_s", "reaction")):
            over, under = by_site(raw, arm, condition, key), by_site(raw, COMPETENT, condition, key)
            if over.keys() & under.keys():
                begin, end = f"{arm}.{condition}.{stem}", "ratio_to_competent"
                figures += [
                    Figure(f"{begin}_p50_{end}", median_ratio(over, under), ""),
                    Figure(f"{begin}_p50_over_p50_to_competent", percentile_ratio(over, under, 50), ""),
                    Figure(f"{begin}_mean_{end}", mean_ratio(over, under), ""),
                    Figure(f"{begin}_p99_{end}", p99_ratio(over, under), ""),
                ]
    for arm, condition in (*ARMS, *LOADED_ARMS, *VIRTUAL_ARMS):
        figures += _of_arm(raw, arm, condition)
    return figures


def _of_front_end(raw: Raw) -> list[Figure]:
    """Return the front end's charge over everybody else's, and what virtual time does to an arm that has both."""
    figures = []
    for arm, name in ((FRONTEND, "charge_frontend"), (FRONTEND_10K, "charge_frontend_10k")):
        over = by_site(raw, arm, VIRTUAL, "charge_c")
        for other, condition in ((USUAL, IDLE), (COMPETENT, IDLE), (SERIAL, VIRTUAL)):
            under = by_site(raw, other, condition, "charge_c")
            aimed = (arm, other) == (FRONTEND, SERIAL)
            if over.keys() & under.keys():
                figures += [] if aimed else [Figure(f"{name}_ratio_to_{other}", median_ratio(over, under), "")]
                figures.append(Figure(f"{name}_p99_ratio_to_{other}", p99_ratio(over, under), ""))
        early = [row for row in raw if row["arm"] == arm and row["onset_ns"] is None and row["opened_ns"] is not None]
        if over:
            # A gap that closes carries a tunnel current before it bridges; nothing at all would be a false trip.
            before = sum(row["n_nucleation"] > 0 for row in early)
            figures.append(Figure(f"{arm}.{VIRTUAL}.opened_before_bridging", before, "sites"))
            figures.append(Figure(f"{arm}.{VIRTUAL}.opened_for_nothing", len(early) - before, "sites"))
    virtual, real = by_site(raw, SERIAL, VIRTUAL, "charge_c"), by_site(raw, SERIAL, IDLE, "charge_c")
    if virtual.keys() & real.keys():
        figures.append(
            Figure(f"{SERIAL}.{VIRTUAL}.charge_p50_over_p50_to_idle", percentile_ratio(virtual, real, 50), "")
        )
    return figures


def _of_arm(raw: Raw, arm: str, condition: str) -> list[Figure]:
    rows = [row for row in raw if row["arm"] == arm and row["condition"] == condition]
    if not rows:
        return []
    name = f"{arm}.{condition}"
    resets = by_site(raw, arm, condition, "reset_ok")
    figures = [
        Figure(f"{name}.n", len(rows), "sites"),
        Figure(f"{name}.not_set", sum(row["onset_ns"] is None for row in rows), "sites"),
        Figure(f"{name}.reset_ok", sum(resets.values()), f"of {len(resets)}"),
        Figure(f"{name}.reset_at_least", at_least(round(sum(resets.values())), len(resets)), "share, 95 %"),
    ]
    if arm in (SERIAL, GPIO, FRONTEND, FRONTEND_10K):
        odd = sum(row["said"].get("status") != "completed" for row in rows)
        figures.append(Figure(f"{name}.runs_not_completed", odd, "runs"))
    for key, unit, percents in (
        ("charge_c", "C", (50, 99)),
        ("peak_current_a", "A", (50, 99)),
        ("energy_j", "J", (50, 99)),
        ("at_limit_s", "s", (50, 99)),
        ("safe_s", "s", (50, 99)),
        ("reading_s", "s", (50, 99)),
        ("reaction_s", "s", (50, 99)),
    ):
        values = list(by_site(raw, arm, condition, key).values())
        if values:
            stem, _, _ = key.rpartition("_")
            figures += [Figure(f"{name}.{stem}_p{p}_{key[-1]}", percentile(values, p), unit) for p in percents]
    return figures
