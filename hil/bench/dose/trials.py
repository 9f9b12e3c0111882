"""Which sites, which sweeps, which arms: the plan of the bench, the same for whoever watches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge.experiments.iv import IvPlan
from firmware_proto.keithley2400.commands import OUTPUT_OFF, ZERO

THRESHOLD_A: Final = 1e-6
TO_V: Final = -0.3
"""A grain boundary gives way near -0.14 V at these rates; none is left at -0.3 V."""
DWELL_S: Final = 0.020
"""Less than one reading takes at 57600 baud: every level lasts one exchange, and nobody sleeps."""
FIRST_SEED: Final = 20260
PERIOD: Final = 18
"""Exchanges until the controller asks the same check query again: three times 5 readings and a check."""
FEWEST_LEVELS: Final = 20
LOADED_TIMES: Final = 2
"""So many times as many sites under load: of 200 only two are beyond the 99th percentile."""

CLAMP: Final = "clamp"
USUAL: Final = "usual"
COMPETENT: Final = "competent"
SERIAL: Final = "serial"
GPIO: Final = "gpio"
FRONTEND: Final = "frontend"
FRONTEND_10K: Final = "frontend_10k"
IDLE: Final = "idle"
LOADED: Final = "loaded"
VIRTUAL: Final = "virtual"
"""Virtual time: :mod:`hil.bench.dose.virtual`."""

CUTS: Final = {
    CLAMP: OUTPUT_OFF.decode(),
    # The first thing that shutdown() sends.
    USUAL: ":SOURCE:FUNCTION?",
    COMPETENT: OUTPUT_OFF.decode(),
    SERIAL: ZERO.decode(),
    GPIO: ZERO.decode(),
}
"""The first bytes that each arm sends to end it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One site under one arm. ``site`` counts from 0 and fixes seed and sweep, whatever the arm."""

    site: int
    arm: str
    condition: str = IDLE
    traced: bool = False

    @property
    def seed(self) -> int:
        """Of the site."""
        return FIRST_SEED + self.site

    @property
    def step_v(self) -> float:
        """Step of the sweep in V, 5.8 to 15 mV.

        It differs from site to site so that the onset falls anywhere between two check queries of the controller:
        -0.15 V is level 10 to 27, as often each.
        """
        return abs(TO_V) / (FEWEST_LEVELS + 2 * (self.site % PERIOD))

    @property
    def levels_v(self) -> tuple[float, ...]:
        """0 to the turning point and back: the levels of the controller's own plan."""
        return IvPlan(to_v=TO_V, step_v=self.step_v, dwell_s=DWELL_S).levels_v()
