"""The detector's own CUSUM, fed with standardised residuals: the code that ships, read through its public properties.

The baseline is held still (Holt's gains at 0, as the settings allow), and the residual wanted is put into the current
by the noise that the detector has learnt so far, so that its ``d`` is the ``z`` asked for. The gate of 0.7 decade is
raised out of the way, and the alarm is read as ``cusum > h``: the gate belongs to the composite, not to the core.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final

import numpy as np

from edge.guard.detector import Detector, DetectorSettings
from edge.guard.thresholds import CUSUM_CAP_SIGMAS, EXCURSION_SAMPLES, LN10, RELATIVE_NOISE
from edge.guard.verdicts import Verdict
from edge.samples import Phase, Sample
from hil.bench.detector.theory import CusumTheory

BASE_S: Final = 1e-6
BIAS_V: Final = 1.0
PERIOD_NS: Final = 20_000_000
MOST: Final = 100_000
"""Readings after which a run counts as never ending."""


class CusumCore:
    """One detector reduced to its CUSUM; ``k`` and ``h`` in sigma, None: as shipped."""

    def __init__(self, k: float | None = None, h: float | None = None) -> None:
        settings = DetectorSettings(
            hard_a=900.0,
            limit_a=900.0,
            sigma0_a=1e-15,
            offset_a=0.0,
            tau_cut_s=0.0,
            jump_decades=4.0,
            level_decades=8.0,
            alpha=1e-12,
            beta=0.0,
        )
        k = settings.k if k is None else k
        h = settings.h if h is None else h
        self._detector = Detector(dataclasses.replace(settings, k=k, h=h), frozenset({Verdict.SURGE_CUSUM}))
        self.k = self._detector.settings.k
        self.h = self._detector.settings.h
        self._n = 0
        self.start()

    @property
    def cusum(self) -> float:
        """The detector's CUSUM, sigma."""
        return self._detector.cusum

    def start(self) -> None:
        """Arm again: nothing learnt but the baseline, CUSUM at 0."""
        self._detector.reset()
        self._feed(BASE_S)

    def step(self, z: float) -> bool:
        """Feed one residual of ``z`` sigma; tell whether the CUSUM is over its threshold."""
        detector = self._detector
        sigma = max(RELATIVE_NOISE, detector.noise_decades * LN10)
        self._feed(detector.baseline_s * math.exp(z * sigma))
        return detector.cusum > self.h

    def _feed(self, siemens: float) -> None:
        self._n += 1
        t_ns = self._n * PERIOD_NS
        self._detector.step(Sample(t_ns, 0, t_ns, -BIAS_V, -BIAS_V * siemens, 0, Phase.SEEK))

    def delay(self, rng: np.random.Generator, delta: float, runs: int) -> tuple[float, float]:
        """Return mean readings from a shift of ``delta`` sigma to the alarm, and the mean's standard error."""
        took = []
        for _ in range(runs):
            self.start()
            count = 0
            alarm = False
            while not alarm and count < MOST:
                for z in rng.normal(delta, 1.0, 64).tolist():
                    count += 1
                    alarm = self.step(z)
                    if alarm:
                        break
            took.append(count)
        return float(np.mean(took)), float(np.std(took) / math.sqrt(runs))

    def theory(self) -> CusumTheory:
        """Return the exact equation of this core: its k, h, cap and the release of a standing excursion."""
        return CusumTheory(self.k, self.h, CUSUM_CAP_SIGMAS, EXCURSION_SAMPLES)
