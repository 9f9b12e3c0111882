"""``tipguard bench detector``: how soon the guard sees a surge, how often it sees one that is none, what it costs."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any, Final

import numpy as np

from edge.guard.thresholds import CUSUM_CAP_SIGMAS
from hil.bench.detector import cost, false_alarms, steps
from hil.bench.detector.core import CusumCore
from hil.bench.detector.false_alarms import Tally
from hil.bench.detector.rates import per_million, poisson_upper
from hil.bench.detector.steps import Comparison, Delays, Thresholds
from hil.bench.detector.theory import CusumTheory
from hil.bench.options import BenchOptions
from hil.bench.report import Figure, bench_report

HEIGHTS: Final = (0.5, 0.7, 0.8, 1.0, 1.3, 2.0, 3.0)
"""Steps, decades."""
GROWTHS: Final = tuple(range(1, 11))
"""Growth, readings per decade."""
JUDGED_SHIFTS: Final = (2.0, 2.5, 3.0, 4.0, 6.0)
"""Shifts at which the CUSUM is held to theory, sigma."""
SHIFTS: Final = (1.5, *JUDGED_SHIFTS, 8.0)
SLOW: Final = 1.0
"""A shift whose delay is computed, not measured: it takes 40 000 readings."""
DEPTHS: Final = (0.45, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9)
CORE_TARGET: Final = 1.02
FALSE_TARGET: Final = 1.0
NS_TARGET: Final = 5000.0
"""Of the whole observe path, of which this is a part; the guard alone has no target of its own."""


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    readings: int = 5_000_000
    over_limit: int = 1_000_000
    noise_blocks: int = 2000
    runs: int = 400
    growth_runs: int = 100
    core_runs: int = 20_000
    telegraph: int = 100_000
    rounds: int = 15


FULL: Final = Size()
QUICK: Final = Size(150_000, 50_000, 200, 40, 10, 4000, 10_000, 5)


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """Everything that was measured; pictures are drawn from it."""

    cost: dict[str, float]
    core: list[dict[str, float | None]]
    thresholds: Thresholds
    shipped: Tally
    without: Tally
    """Corrupt readings up to the hard limit, with ``limits.conductance_s = 0``."""
    over_limit: Tally
    """Corrupt readings up to the hard limit, limits as shipped."""
    steps: list[Comparison]
    growth: list[Comparison]
    hard: Delays
    dark: list[dict[str, Any]]
    telegraph: list[dict[str, float]]


def detector(options: BenchOptions, size: Size | None = None) -> dict[str, Any]:
    """Measure; ``size`` None: as large as the options say."""
    size = size or (QUICK if options.quick else FULL)
    measured = measure(options, size)
    if options.plots is not None:
        from hil.bench.detector.plots import draw_all

        options.progress(0.98, "pictures")
        draw_all(measured, options.plots)
    return {**bench_report("detector", figures(measured), method=_METHOD), "raw": raw(measured)}


def measure(options: BenchOptions, size: Size) -> Measured:
    """Measure everything."""
    told = options.progress
    told(0.0, "cost of a reading")
    ns = cost.measure(size.rounds)
    told(0.02, "CUSUM against theory")
    core = core_table(size.core_runs)
    without = false_alarms.run(size.readings, conductance_s=0.0, told=lambda done: told(0.1 + 0.25 * done, "nuisances"))
    shipped = false_alarms.run(
        size.readings,
        corrupt_over_g_max=False,
        others=False,
        told=lambda done: told(0.35 + 0.2 * done, "nuisances, limits as shipped"),
    )
    over_limit = false_alarms.run(size.over_limit, others=False)
    told(0.55, "FOCuS on plain noise")
    thresholds = Thresholds(
        quiet_focus=false_alarms.focus_on_noise(size.noise_blocks),
        quiet_sigma=false_alarms.shewhart_on_noise(),
        nuisance_focus=false_alarms.at_rate(without.focus, without.readings),
        structure_focus=false_alarms.at_rate(without.focus_without_corrupt, without.readings_without_corrupt),
        hard_fraction=false_alarms.at_rate(without.threshold, without.readings),
    )
    kinds = [(f"{x:g} decades", steps.step_of(x), float(x), size.runs) for x in HEIGHTS]
    kinds += [(f"{x} readings per decade", steps.growth_of(x), float(x), size.growth_runs) for x in GROWTHS]
    compared: list[Comparison] = []
    for number, (surge, rise, x, runs) in enumerate(kinds):
        told(0.6 + 0.35 * number / len(kinds), surge)
        compared += [steps.compare(surge, rise, x, site, thresholds, runs) for site in steps.SITES]
    told(0.95, "limits")
    split = len(HEIGHTS) * len(steps.SITES)
    return Measured(
        cost=ns,
        core=core,
        thresholds=thresholds,
        shipped=shipped,
        without=without,
        over_limit=over_limit,
        steps=compared[:split],
        growth=compared[split:],
        hard=steps.over_the_hard_limit(size.runs),
        dark=steps.out_of_the_dark(size.runs),
        telegraph=false_alarms.telegraph_limit(DEPTHS, size.telegraph),
    )


def core_table(runs: int) -> list[dict[str, float | None]]:
    """Return delays of the detector's CUSUM, measured and exact, by shift; ``textbook``: without the release."""
    core = CusumCore()
    released = core.theory()
    textbook = CusumTheory(core.k, core.h, CUSUM_CAP_SIGMAS)
    rows: list[dict[str, float | None]] = []
    for shift in (SLOW, *SHIFTS):
        mean: float | None = None
        error: float | None = None
        if shift != SLOW:
            # A tenth of the runs where they are long.
            rng = np.random.default_rng(int(100 * shift))
            mean, error = core.delay(rng, shift, runs if shift >= JUDGED_SHIFTS[0] else max(1, runs // 10))
        rows.append(
            {
                "shift_sigma": shift,
                "measured": mean,
                "standard_error": error,
                "textbook": textbook.delay(shift),
                "with_release": released.delay(shift),
            }
        )
    return rows


def worst_ratio(rows: list[dict[str, float | None]], against: str, shifts: tuple[float, ...]) -> float:
    """Return the largest of measured / exact and its inverse at these shifts."""
    ratios = []
    for row in rows:
        mean, exact = row["measured"], row[against]
        if row["shift_sigma"] in shifts and mean is not None and exact is not None:
            ratios.append(max(mean / exact, exact / mean))
    return max(ratios)


def _of_guard(comparisons: list[Comparison], x: float) -> list[Delays]:
    """All runs of the guard at one height, by site, with the conductance limit and without."""
    names = ("guard", "guard.no_conductance")
    return [comparison.delays[name] for comparison in comparisons if comparison.decades == x for name in names]


def figures(measured: Measured) -> list[Figure]:
    """Return the report's figures."""
    shipped, without, over = measured.shipped, measured.without, measured.over_limit
    result = [
        Figure("ns_per_sample", measured.cost["guard"], "ns", NS_TARGET),
        Figure("threshold_ns", measured.cost["threshold"], "ns"),
        Figure("focus_ns", measured.cost["focus"], "ns"),
        Figure("cusum_core_ratio", worst_ratio(measured.core, "textbook", JUDGED_SHIFTS), "", CORE_TARGET),
        Figure("cusum_core_ratio.with_release", worst_ratio(measured.core, "with_release", JUDGED_SHIFTS), ""),
        Figure("samples_to_verdict.hard", measured.hard.quantile(1.0), "samples", 1.0),
    ]
    for x in HEIGHTS:
        by_site = _of_guard(measured.steps, x)
        name = f"{x:g}decade"
        found = statistics.fmean(delays.found for delays in by_site)
        slowest = max(delays.quantile(0.99) for delays in by_site)
        result.append(Figure(f"found.{name}", found, ""))
        result.append(Figure(f"samples_to_verdict.{name}", slowest, "samples", 2.0 if x >= 1.0 else None))
    result += [
        Figure(
            f"samples_to_verdict.ramp{x}",
            max(delays.quantile(0.5) for delays in _of_guard(measured.growth, x)),
            "samples",
        )
        for x in GROWTHS
    ]
    result += [
        Figure("early_verdicts", sum(d.early for x in HEIGHTS for d in _of_guard(measured.steps, x)), ""),
        Figure("false_per_1e6", per_million(shipped.alarms, shipped.readings), "", FALSE_TARGET),
        Figure("false_per_1e6.upper95", per_million(poisson_upper(shipped.alarms), shipped.readings), ""),
        Figure("false_per_1e6.no_conductance", per_million(without.alarms, without.readings), "", FALSE_TARGET),
        Figure(
            "false_per_1e6.no_conductance_upper95", per_million(poisson_upper(without.alarms), without.readings), ""
        ),
        Figure("nuisance_readings", shipped.readings + without.readings, ""),
        Figure("over_conductance_per_1e6", per_million(over.alarms, over.readings), ""),
    ]
    return result


def raw(measured: Measured) -> dict[str, Any]:
    """Return the tables behind the figures, as plain types."""

    def tally(t: Tally) -> dict[str, Any]:
        return {
            "readings": t.readings,
            "sweeps": t.sweeps,
            "alarms": t.alarms,
            "verdicts": dict(t.verdicts),
            "alarms_after": dict(t.after),
            "nuisances": dict(t.events),
            "classes": [
                {"kind": kind, "class": name, "readings": n, "alarms": k}
                for (kind, name), (n, k) in sorted(t.by.items())
            ],
        }

    return {
        "cusum": measured.core,
        "thresholds": dataclasses.asdict(measured.thresholds),
        "false_alarms": tally(measured.shipped),
        "false_alarms_without_conductance_limit": tally(measured.without),
        "false_alarms_corrupt_over_conductance_limit": tally(measured.over_limit),
        "steps": [row for comparison in measured.steps for row in comparison.rows()],
        "growth": [row for comparison in measured.growth for row in comparison.rows()],
        "out_of_the_dark": measured.dark,
        "telegraph": measured.telegraph,
    }


_METHOD: Final = (
    "The guard as it ships, armed for SEEK by its own phase table with the limits of a new configuration file, judges "
    "readings made here; seeds are fixed, so that all but the ns is the same in every run. "
    "ns_per_sample: CPU time of Guard.observe. "
    "cusum_core_ratio: mean delay of the detector's own CUSUM, fed with standardised residuals of 2 to 6 sigma, over "
    "the exact one for its k, h and cap (integral equation, Nystroem): the worse of the ratio and its inverse at the "
    "worst shift; with_release: the exact one where an excursion becomes the baseline after 32 readings. "
    "samples_to_verdict: readings from the first of the surge to the verdict, that of the verdict included; 99th "
    "percentile at the worst of five sites (noise 1 to 15 %, on a ramp, telegraph noise 40 %; 0.4 uA before), with and "
    "without the conductance limit; ramp: median at the worst site; hard: the slowest run; 61: not found in 60. found: "
    "share found in 60, mean of the sites. false_per_1e6: verdicts on sweeps of seven loads (telegraph noise up to "
    "45 %) with autozero gaps, range changes that leave junk, and one corrupt reading per thousand; junk and corrupt "
    "readings are of up to 99 % of the limits that one reading passes by definition, hard and conductance; "
    "no_conductance: with limits.conductance_s = 0, up to 99 % of the hard limit. over_conductance_per_1e6: limits as "
    "shipped, up to 99 % of the hard limit: a corrupt reading that stands for more than limits.conductance_s trips. "
    "FOCuS and a threshold, told the true noise-free current and noise, are compared at one false alarm per 1e6 "
    "readings of plain noise (quiet), of the same sweeps (nuisance), of those without a corrupt reading (structure): "
    "raw. Does not show: noise of a real sample; two and more corrupt readings running; small shifts, to which the "
    "guard is blind: raw.cusum."
)
