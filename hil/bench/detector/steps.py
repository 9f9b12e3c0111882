"""Readings from the onset of a surge to the verdict: for the armed guard, FOCuS and a plain threshold.

A run is a site that sits still for 50 to 69 readings, and then 60 readings of a surge: a step of so many decades, or
growth at so many readings per decade. The first reading that shows any of it counts as 1.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from edge.guard.phases import noise_sigma_a
from edge.samples import Phase, Sample
from hil.bench.detector.armed import HIGH_V, LOW_V, ArmedGuard, Oracle
from hil.bench.detector.focus import Focus
from hil.bench.detector.nuisance import PERIOD_NS, Reading

HORIZON: Final = 60
"""Readings of a surge within which a verdict counts as found; one that was not found counts as one more than this."""
QUIET: Final = (50, 70)
TELEGRAPH: Final = 0.4
SEED: Final = 50


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """Where a surge happens: ``bias_v`` at its onset and its step per reading, V; the conductance before, S.

    ``noise``: rms of ln G, from reading to reading; ``telegraph``: two levels 40 % apart besides.
    """

    name: str
    noise: float
    bias_v: float = -0.5
    ramp_v: float = 0.0
    siemens: float = 8e-7
    telegraph: bool = False

    @property
    def rms(self) -> float:
        """All noise of ln G, rms."""
        return math.hypot(self.noise, 0.5 * math.log(1.0 - TELEGRAPH) if self.telegraph else 0.0)


SITES: Final = (
    Site("noise 1 %", 0.01),
    Site("noise 5 %", 0.05),
    Site("noise 15 %", 0.15),
    Site("noise 5 %, on a ramp", 0.05, ramp_v=-1e-3),
    Site("telegraph noise 40 %", 0.01, telegraph=True),
)
"""0.4 uA at -0.5 V: 40 sigma0 on the 100 uA range, the noise of which comes on top."""


def readings(rng: random.Random, site: Site, decades: Callable[[int], float]) -> tuple[list[Reading], int]:
    """Return one run and the index of its first reading of the surge; ``decades(n)``: rise at its n-th, from 1."""
    onset = rng.randrange(*QUIET)
    sigma0 = noise_sigma_a(100e-6, 0.01)
    low = rng.random() < 0.5
    mean = math.sqrt(1.0 - TELEGRAPH) if site.telegraph else 1.0
    result = []
    for n in range(onset + HORIZON):
        v = site.bias_v + site.ramp_v * (n - onset)
        low ^= rng.random() < 0.3
        rise = 10.0 ** decades(n - onset + 1) if n >= onset else 1.0
        noise = math.exp(rng.gauss(0.0, site.noise)) * (1.0 - TELEGRAPH if low and site.telegraph else 1.0)
        i = v * site.siemens * rise * noise + rng.gauss(0.0, sigma0)
        t_ns = (n + 1) * PERIOD_NS
        result.append(Reading(Sample(t_ns, 0, t_ns, v, i, 0, Phase.SEEK), v * site.siemens * mean, ""))
    return result, onset


def first(alarms: Iterator[bool], onset: int) -> int:
    """Return readings from the onset to the first alarm, that reading included: 1 at the onset's own.

    0: an alarm before the onset. One more than the horizon: none.
    """
    for n, alarm in enumerate(alarms):
        if alarm:
            return max(0, n - onset + 1)
    return HORIZON + 1


@dataclasses.dataclass
class Delays:
    """Delays of many runs of one kind, as :func:`first` gives them."""

    taken: list[int] = dataclasses.field(default_factory=list)

    @property
    def early(self) -> int:
        """Runs with an alarm before the surge; they count in nothing else."""
        return self.taken.count(0)

    @property
    def judged(self) -> list[int]:
        """Runs without an early alarm, in order of their delay."""
        return sorted(n for n in self.taken if n)

    @property
    def found(self) -> float:
        """Share of the judged runs with a verdict within the horizon; NaN without a run."""
        judged = self.judged
        return sum(n <= HORIZON for n in judged) / len(judged) if judged else math.nan

    def quantile(self, q: float) -> float:
        """Return the delay that a share ``q`` of the judged runs does not pass; the horizon + 1: not found."""
        judged = self.judged
        if not judged:
            return math.nan
        return float(judged[min(len(judged) - 1, max(0, math.ceil(q * len(judged)) - 1))])

    def row(self) -> dict[str, Any]:
        """Return what a table shows; delays that were not found are None."""

        def shown(q: float) -> float | None:
            value = self.quantile(q)
            return value if value <= HORIZON else None

        judged = self.judged
        within = [n for n in judged if n <= HORIZON]
        return {
            "runs": len(self.taken),
            "early": self.early,
            "found": self.found if judged else None,
            "mean_if_found": sum(within) / len(within) if within else None,
            "p50": shown(0.5),
            "p99": shown(0.99),
            "max": shown(1.0),
            "over_2": sum(n > 2 for n in judged),
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Thresholds:
    """At which statistic the others alarm once per 1e6 readings: of plain noise, of nuisances, of those but corrupt.

    ``focus`` in log likelihood; ``quiet_sigma``: one reading against the known mean; ``hard_fraction``: |I| in hard
    limits.
    """

    quiet_focus: float
    quiet_sigma: float
    nuisance_focus: float
    structure_focus: float
    hard_fraction: float


OTHERS: Final = ("focus.quiet", "focus.structure", "focus.nuisance", "threshold.quiet", "threshold.nuisance")


def guard_delay(guard: ArmedGuard, run: list[Reading], onset: int) -> int:
    """Return the armed guard's delay on one run."""
    guard.arm()
    return first((guard.observe(reading.sample) is not None for reading in run), onset)


def other_delays(thresholds: Thresholds, guard: ArmedGuard, site: Site, run: list[Reading], onset: int) -> list[int]:
    """Return the delays of :data:`OTHERS` on one run."""
    oracle, focus = Oracle(guard.settings, site.rms), Focus()
    zs = [oracle.z(reading) for reading in run]
    known = [0.0 if z is None else z for z in zs]
    statistic = [0.0 if z is None else focus.step(z) for z in zs]
    size = [abs(reading.sample.current_a) / guard.settings.hard_a for reading in run]
    pairs = (
        (statistic, thresholds.quiet_focus),
        (statistic, thresholds.structure_focus),
        (statistic, thresholds.nuisance_focus),
        (known, thresholds.quiet_sigma),
        (size, thresholds.hard_fraction),
    )
    return [first((value > limit for value in values), onset) for values, limit in pairs]


@dataclasses.dataclass
class Comparison:
    """Delays of one kind of surge on one site, by detector."""

    surge: str
    decades: float
    """Height of the step; for growth, readings per decade."""
    site: Site
    delays: dict[str, Delays]

    def rows(self) -> list[dict[str, Any]]:
        """Return the table's rows."""
        kind = {"surge": self.surge, "site": self.site.name}
        return [{**kind, "detector": name, **delays.row()} for name, delays in self.delays.items()]


def step_of(decades: float) -> Callable[[int], float]:
    """Return a rise that is there at once."""
    return lambda _n: decades


def growth_of(readings_per_decade: float) -> Callable[[int], float]:
    """Return a rise of a decade every so many readings."""
    return lambda n: n / readings_per_decade


def compare(
    surge: str, decades: Callable[[int], float], x: float, site: Site, thresholds: Thresholds, runs: int
) -> Comparison:
    """Run one surge ``runs`` times on one site; the guard with limits as shipped, and without the conductance limit."""
    rng = random.Random(f"{SEED} {surge} {site.name}")
    guards = {"guard": ArmedGuard(LOW_V), "guard.no_conductance": ArmedGuard(LOW_V, 0.0)}
    delays = {name: Delays() for name in (*guards, *OTHERS)}
    for _ in range(runs):
        run, onset = readings(rng, site, decades)
        for name, guard in guards.items():
            delays[name].taken.append(guard_delay(guard, run, onset))
        for name, took in zip(OTHERS, other_delays(thresholds, guard, site, run, onset), strict=True):
            delays[name].taken.append(took)
    return Comparison(surge, x, site, delays)


def over_the_hard_limit(runs: int) -> Delays:
    """Delays of a step to 1.01 to 20 times the hard limit, out of the noise or from a current, on both ranges."""
    rng = random.Random(f"{SEED} hard")
    result = Delays()
    for v_max in (LOW_V, HIGH_V):
        guard = ArmedGuard(v_max, 0.0)
        for _ in range(runs):
            onset = rng.randrange(*QUIET)
            before = rng.choice([1e-12, 0.02, 0.5]) * guard.settings.hard_a
            peak = math.exp(rng.uniform(math.log(1.01), math.log(20.0))) * guard.settings.hard_a
            run = []
            for n in range(onset + 4):
                current = (peak if n >= onset else before) + rng.gauss(0.0, guard.settings.sigma0_a)
                t_ns = (n + 1) * PERIOD_NS
                run.append(Reading(Sample(t_ns, 0, t_ns, -v_max, -current, 0, Phase.SEEK), 0.0, ""))
            result.taken.append(guard_delay(guard, run, onset))
    return result


def out_of_the_dark(runs: int) -> list[dict[str, Any]]:
    """Delays of a filament that forms where nothing was seen before: |V| from 10 to 300 mV, 10 kohm to 1 Mohm."""
    guard = ArmedGuard(LOW_V, 0.0)
    rows = []
    for ohm in (1e4, 1e5, 1e6):
        for bias_v in (0.01, 0.03, 0.1, 0.3):
            rng = random.Random(f"{SEED} {ohm} {bias_v}")
            offset_a = guard.settings.offset_a
            delays = Delays()
            for _ in range(runs):
                onset = rng.randrange(*QUIET)
                offset = rng.uniform(-offset_a, offset_a)
                run = []
                for n in range(onset + HORIZON):
                    current = (bias_v / ohm if n >= onset else 0.0) + offset
                    t_ns = (n + 1) * PERIOD_NS
                    current += rng.gauss(0.0, guard.settings.sigma0_a)
                    run.append(Reading(Sample(t_ns, 0, t_ns, -bias_v, -current, 0, Phase.SEEK), 0.0, ""))
                delays.taken.append(guard_delay(guard, run, onset))
            rows.append({"ohm": ohm, "bias_v": bias_v, "current_a": bias_v / ohm, **delays.row()})
    return rows
