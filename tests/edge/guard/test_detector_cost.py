"""What one reading costs, as a ratio to a plain loop on the same host and samples, and that nothing accumulates."""

from __future__ import annotations

import gc
import math
import random
import sys
import time
from collections.abc import Callable, Sequence

import pytest

from edge.guard.detector import Detector, DetectorSettings
from edge.guard.phases import phase_spec
from edge.samples import Phase, Sample

SPEC = phase_spec(Phase.SEEK, 0.3)
SETTINGS = DetectorSettings.for_phase(SPEC, i_limit_a=1e-3, tau_cut_s=0.03, series_ohm=1500.0)
N = 5000
ROUNDS = 9


def samples(ohm: float) -> list[Sample]:
    rng = random.Random(3)
    bias = [-0.1 - 0.2 * n / N for n in range(N)]
    return [Sample(n * 10_000_000, 0, 0, v, v / ohm + rng.gauss(0.0, 1e-8), 0, Phase.SEEK) for n, v in enumerate(bias)]


class ThresholdLoop:
    """The named reference: what a careful script does per reading. One comparison, one logarithm, one CUSUM."""

    __slots__ = ("hard_a", "mean", "s")

    def __init__(self) -> None:
        self.hard_a = SETTINGS.hard_a
        self.mean = 0.0
        self.s = 0.0

    def step(self, sample: Sample) -> bool:
        current = abs(sample.current_a)
        if current >= self.hard_a:
            return True
        y = math.log(math.hypot(current, 3e-8) / abs(sample.bias_v))
        e = y - self.mean
        self.mean += 0.1 * e
        self.s = max(0.0, self.s + e - 1.0)
        return self.s > 20.0


def seconds(step: Callable[[Sample], object], readings: Sequence[Sample]) -> float:
    start = time.perf_counter()
    for s in readings:
        step(s)
    return time.perf_counter() - start


@pytest.mark.realtime
@pytest.mark.parametrize(("what", "ohm"), [("in the noise", 1e12), ("visible", 1e5)])
def test_at_most_four_times_the_threshold_loop(what: str, ohm: float) -> None:
    readings = samples(ohm)
    detector, reference = Detector(SETTINGS, SPEC.tests), ThresholdLoop()
    pairs = [(seconds(detector.step, readings), seconds(reference.step, readings)) for _ in range(ROUNDS)]
    ours, theirs = (min(column) for column in zip(*pairs, strict=True))
    assert ours <= 4.0 * theirs, f"{what}: {ours / N * 1e9:.0f} ns against {theirs / N * 1e9:.0f} ns"


def test_nothing_accumulates() -> None:
    readings = samples(1e5)
    detector = Detector(SETTINGS, SPEC.tests)
    seconds(detector.step, readings)
    gc.collect()
    before = sys.getallocatedblocks()
    seconds(detector.step, readings)
    assert sys.getallocatedblocks() - before < 50  # a few floats change places; 5000 readings leave nothing behind
