"""What one reading costs the guard, beside the least that a script can do with it: one comparison."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final

from edge.samples import Phase, Sample
from hil.bench.detector.armed import LOW_V, ArmedGuard
from hil.bench.detector.focus import Focus
from hil.bench.detector.nuisance import PERIOD_NS

SEED: Final = 3
BATCH: Final = 4000


def _samples() -> list[Sample]:
    """A ramp on 1 Mohm: half of its readings in the noise, half of them visible."""
    rng = random.Random(SEED)
    levels = [-0.3 * (n + 1) / BATCH for n in range(BATCH)]
    sigma = ArmedGuard(LOW_V).settings.sigma0_a
    return [
        Sample(n * PERIOD_NS, 0, n * PERIOD_NS, v, v / 1e6 + rng.gauss(0.0, sigma), 0, Phase.SEEK)
        for n, v in enumerate(levels)
    ]


def _threshold(samples: Sequence[Sample], hard_a: float) -> bool:
    """The named reference: a loop with the comparison in it, no call."""
    tripped = False
    for s in samples:
        current = s[4]
        if current >= hard_a or current <= -hard_a:
            tripped = True
    return tripped


def measure(rounds: int) -> dict[str, float]:
    """Return ns of CPU time per reading: medians of interleaved rounds, garbage collector off as in the worker."""
    guard = ArmedGuard(LOW_V)
    samples = _samples()
    residuals = [random.Random(SEED).gauss(0.0, 1.0) for _ in samples]
    focus = Focus()
    hard_a = guard.settings.hard_a

    def observe() -> None:
        step = guard.guard.observe
        for s in samples:
            step(s)

    def threshold() -> None:
        _threshold(samples, hard_a)

    def exact() -> None:
        focus.reset()
        step = focus.step
        for z in residuals:
            step(z)

    parts: dict[str, Callable[[], None]] = {"guard": observe, "threshold": threshold, "focus": exact}
    took: dict[str, list[float]] = {name: [] for name in parts}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, part in parts.items():
                guard.arm()
                began = time.thread_time_ns()
                part()
                took[name].append((time.thread_time_ns() - began) / BATCH)
    finally:
        gc.enable()
    return {name: statistics.median(values) for name, values in took.items()}
