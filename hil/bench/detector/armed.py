"""The guard as it ships, armed for a search; and the two detectors it stands beside, given more than it knows.

``Oracle`` turns a reading into a standardised residual of ln I. It is told what no real detector knows: the load's
noise-free current at this bias with the instrument's offset, and the true size of the load's noise. The hard threshold
is one comparison of |I|, in units of the guard's own hard limit.
"""

from __future__ import annotations

import math
from typing import Final

from edge.config import EventConfig, Limits
from edge.guard.guard import Guard
from edge.guard.states import Cause, State
from edge.guard.thresholds import FLOOR_SIGMAS, RELATIVE_NOISE, DetectorSettings
from edge.guard.verdicts import Verdict
from edge.samples import Phase, Sample
from hil.bench.detector.nuisance import Reading

TAU_CUT_S: Final = 0.04
"""Cut latency and a sample, at 57600 baud."""
LOW_V: Final = 1.0
HIGH_V: Final = 10.0
SERIES_OHM: Final = {LOW_V: 1500.0, HIGH_V: 9900.0}


class ArmedGuard:
    """A guard with the limits of a new configuration file, armed for SEEK of a plan up to ``v_max_v`` (V).

    ``conductance_s``: ``limits.conductance_s`` in S, None: as shipped, 0: its test off.
    """

    def __init__(self, v_max_v: float, conductance_s: float | None = None) -> None:
        limits = Limits() if conductance_s is None else Limits(conductance_s=conductance_s)
        self.guard = Guard(limits, series_ohm=SERIES_OHM[v_max_v], event=EventConfig())
        self.guard.machine.move(Cause.VERIFIED_OFF)
        self.spec = self.guard.spec_for(Phase.SEEK, v_max_v)
        self.settings = DetectorSettings.for_phase(
            self.spec,
            i_limit_a=limits.current_a,
            tau_cut_s=TAU_CUT_S,
            series_ohm=SERIES_OHM[v_max_v],
            g_max_s=limits.conductance_s or math.inf,
        )
        """What the guard arms with; nothing here is changed for the bench."""
        self.arm()

    def arm(self) -> None:
        """Arm anew: whatever was learnt is forgotten."""
        if self.guard.state is State.ARMED:
            self.guard.machine.move(Cause.DISARM)
        self.guard.arm(self.spec, TAU_CUT_S)

    def observe(self, sample: Sample) -> Verdict | None:
        """Return the guard's own verdict."""
        return self.guard.observe(sample)


class Oracle:
    """Standardised residuals of ln sqrt(I^2 + f^2), f = 3 sigma0, as the guard's detector forms them."""

    def __init__(self, settings: DetectorSettings, rms: float) -> None:
        """Take the true noise of the load, ``rms``, in ln units."""
        self._floor_sq = (FLOOR_SIGMAS * settings.sigma0_a) ** 2
        self._sigma0_sq = settings.sigma0_a**2
        self._noise_sq = RELATIVE_NOISE**2 + rms * rms
        self._evidence = settings.evidence_a

    def z(self, reading: Reading) -> float | None:
        """Return the residual, in sigma; None where the guard takes no current as evidence either."""
        s = reading.sample
        along, expected = (s.current_a, reading.expected_a) if s.bias_v > 0.0 else (-s.current_a, -reading.expected_a)
        if s.flags or along <= self._evidence:
            return None
        expected_sq = max(expected, 0.0) ** 2 + self._floor_sq
        e = 0.5 * math.log((along * along + self._floor_sq) / expected_sq)
        return e / math.sqrt(self._noise_sq + self._sigma0_sq / expected_sq)
