"""False alarms of the armed guard over nuisances, and the thresholds at which the others have as few.

The guard is re-armed after an alarm and goes on. The other two are read as the largest statistic of each sweep: the
threshold that lets through one sweep per 1e6 readings is the statistic of that rank.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import random
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from edge.guard.verdicts import Verdict
from hil.bench.detector.armed import HIGH_V, LOW_V, ArmedGuard, Oracle
from hil.bench.detector.focus import Focus
from hil.bench.detector.nuisance import CORRUPT, GAPS, LOADS, Reading, sweep, telegraph

SEED: Final = 2400
RATE: Final = 1e-6
"""False alarms per reading at which detectors are compared."""
BLOCK: Final = 1000
"""Readings of a block when FOCuS is calibrated on plain noise."""


@dataclasses.dataclass
class Tally:
    """Readings and alarms of the guard, by class; ``by`` maps (kind of class, class) to [readings, alarms]."""

    readings: int = 0
    alarms: int = 0
    sweeps: int = 0
    verdicts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    by: dict[tuple[str, str], list[int]] = dataclasses.field(default_factory=dict)
    events: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """How often each nuisance of a single reading was drawn."""
    after: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """Alarms by what was done to the reading judged or the one before; "" for nothing."""
    focus: list[float] = dataclasses.field(default_factory=list)
    """Largest FOCuS statistic of each sweep."""
    focus_without_corrupt: list[float] = dataclasses.field(default_factory=list)
    """The same of the sweeps in which no reading was corrupt."""
    readings_without_corrupt: int = 0
    threshold: list[float] = dataclasses.field(default_factory=list)
    """Largest |I| of each sweep, in hard limits."""

    def add(self, classes: tuple[tuple[str, str], ...], readings: int, alarms: int) -> None:
        """Count a sweep."""
        self.readings += readings
        self.alarms += alarms
        self.sweeps += 1
        for name in classes:
            counts = self.by.setdefault(name, [0, 0])
            counts[0] += readings
            counts[1] += alarms


def run(
    readings: int,
    *,
    seed: int = SEED,
    conductance_s: float | None = None,
    corrupt_over_g_max: bool = True,
    others: bool = True,
    told: Callable[[float], None] = lambda _done: None,
) -> Tally:
    """Judge at least ``readings`` readings.

    ``conductance_s``: see :class:`ArmedGuard`. ``corrupt_over_g_max``: corrupt readings may pass the conductance limit
    (never the hard limit). ``others``: read the statistics of FOCuS and of the threshold too.
    """
    rng = random.Random(seed)
    guards = {v_max: ArmedGuard(v_max, conductance_s) for v_max in (LOW_V, HIGH_V)}
    tally = Tally()
    while tally.readings < readings:
        v_max = rng.choice([LOW_V, HIGH_V])
        make = rng.choice(LOADS)
        gaps = rng.choice(GAPS)
        corrupt = rng.choice([0.0, CORRUPT, CORRUPT, CORRUPT])
        guard = guards[v_max]
        guard.arm()
        load = make(rng)
        source = sweep(
            rng,
            guard.spec,
            load,
            hard_a=guard.settings.hard_a,
            g_max_s=guard.settings.g_max_s,
            gaps=gaps,
            corrupt=corrupt,
            corrupt_max_s=math.inf if corrupt_over_g_max else guard.settings.g_max_s,
        )
        classes = (("load", make.__name__), ("gaps", gaps), ("glitches", "yes" if corrupt else "no"))
        _judge(tally, guard, classes, source, Oracle(guard.settings, load.rms) if others else None)
        told(min(1.0, tally.readings / readings))
    return tally


def _judge(
    tally: Tally,
    guard: ArmedGuard,
    classes: tuple[tuple[str, str], ...],
    source: Iterator[Reading],
    oracle: Oracle | None,
) -> None:
    focus = Focus()
    count = alarms = 0
    best = largest = 0.0
    before = ""
    clean = True
    for reading in source:
        count += 1
        what = reading.what
        if what:
            tally.events[what] += 1
            clean = clean and what in ("autozero", "range change")
        verdict = guard.observe(reading.sample)
        if verdict is not None:
            alarms += 1
            tally.verdicts[verdict.value] += 1
            tally.after[what or before] += 1
            guard.arm()
        before = what
        if oracle is not None:
            largest = max(largest, abs(reading.sample.current_a))
            z = oracle.z(reading)
            if z is not None:
                best = max(best, focus.step(z))
    tally.add(classes, count, alarms)
    if oracle is not None:
        tally.focus.append(best)
        tally.threshold.append(largest / guard.settings.hard_a)
        if clean:
            tally.focus_without_corrupt.append(best)
            tally.readings_without_corrupt += count


def at_rate(largest: list[float], readings: int, rate: float = RATE) -> float:
    """Return the threshold that ``rate`` sweeps per reading reach: the largest of all where that is below one."""
    allowed = max(0, math.floor(rate * readings) - 1)
    return sorted(largest, reverse=True)[min(allowed, len(largest) - 1)]


def focus_on_noise(blocks: int, seed: int = SEED, rate: float = RATE) -> float:
    """Return FOCuS's threshold for ``rate`` false alarms per reading of N(0, 1), restarted every 1000 readings.

    The largest statistics of blocks have an exponential tail: it is fitted to the upper tenth and read at ``rate``.
    """
    rng = np.random.default_rng(seed)
    focus = Focus()
    largest = []
    for _ in range(blocks):
        focus.reset()
        largest.append(max(focus.step(z) for z in rng.normal(0.0, 1.0, BLOCK).tolist()))
    largest.sort()
    cut = largest[-max(2, blocks // 10)]
    tail = [value - cut for value in largest if value > cut]
    return cut + float(np.mean(tail)) * math.log(len(tail) / blocks / (rate * BLOCK))


def shewhart_on_noise(rate: float = RATE) -> float:
    """Return the sigma at which one reading of N(0, 1) alone alarms ``rate`` times per reading."""
    low, high = 0.0, 40.0
    for _ in range(80):
        c = 0.5 * (low + high)
        low, high = (c, high) if 0.5 * math.erfc(c / math.sqrt(2.0)) > rate else (low, c)
    return high


def telegraph_limit(depths: tuple[float, ...], readings: int, seed: int = SEED) -> list[dict[str, float]]:
    """False alarms on telegraph noise alone, by its depth: where it begins to look like a surge."""
    guard = ArmedGuard(LOW_V, 0.0)
    rows = []
    for depth in depths:
        rng = random.Random(seed)
        count = alarms = 0
        while count < readings:
            guard.arm()
            load = telegraph(rng, depth)
            for reading in sweep(rng, guard.spec, load, hard_a=guard.settings.hard_a, corrupt=0.0):
                count += 1
                verdict: Verdict | None = guard.observe(reading.sample)
                if verdict is not None:
                    alarms += 1
                    guard.arm()
        rows.append({"depth": depth, "decades": -math.log10(1.0 - depth), "readings": count, "alarms": alarms})
    return rows
