"""When a filament nucleates: a stochastic trigger with an exponential hazard.

Drive u = -V > 0 (plating). Hazard h(u) = h0 exp(u/v*) per second, and exactly 0 for u <= 0: no drive, no filament.
v* = kT/((Nc + alpha) e); under a ramp the trigger voltage is Gumbel-distributed with sd 1.283 v* and moves by
v* ln 10 per decade of ramp rate. (Atomistic nucleation, Menzel 2017 J. Comput. Electron. 16:1017; van den Hurk 2015
J. Phys. Chem. C 119:18678: SET kinetics at low voltage are limited by nucleation.)
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

REFERENCE_RATE_V_S = 0.1
"""Ramp rate at which a site's median trigger voltage is quoted."""

_LN2 = math.log(2)
_EXP_MAX = 700.0  # exp() of a double overflows at 709


@dataclass(frozen=True, slots=True)
class Hazard:
    """``u_median_v``: median trigger drive in V under a ramp of 0.1 V/s from 0 V; ``v_star`` in V."""

    u_median_v: float
    v_star: float

    @property
    def log_h0(self) -> float:
        """ln of the hazard at vanishing drive in 1/s.

        The ramp's integrated hazard h0 v*/rho (exp(u/v*) - 1) is ln 2 at the median. The -1 only matters for medians
        of a few v*, where h0 = (ln 2 rho/v*) exp(-u_med/v*) would miss the median asked for.
        """
        x = self.u_median_v / self.v_star
        return math.log(_LN2 * REFERENCE_RATE_V_S / self.v_star) - (x + math.log1p(-math.exp(-x)))

    def log_rate(self, u: float) -> float:
        """ln of the hazard in 1/s at drive ``u`` in V; minus infinity at u <= 0."""
        return self.log_h0 + u / self.v_star if u > 0 else -math.inf

    def ramp_trigger_v(self, rate_v_s: float, threshold: float) -> float:
        """Drive in V at which a ramp from 0 V at ``rate_v_s`` has spent ``threshold`` (unit-exponential, above 0).

        The closed form of what a site does under a fine staircase: v* ln(1 + threshold rho/(h0 v*)).
        """
        log_share = math.log(threshold * rate_v_s / self.v_star) - self.log_h0
        return self.v_star * (math.log1p(math.exp(log_share)) if log_share < 30 else log_share)


class Trigger:
    """One nucleation to come: fires when the integrated hazard reaches a unit-exponential threshold.

    The drive is constant between calls of ``drive``, hence the integral is a sum and the crossing time is exact, not
    the end of some step. It does not depend on how often anybody looks.
    """

    def __init__(self, hazard: Hazard, rng: random.Random) -> None:
        """Draw the threshold: one number from ``rng``."""
        self._log_h0 = hazard.log_h0
        self._v_star = hazard.v_star
        self._left = -math.log1p(-rng.random())
        self._log_rate = -math.inf

    def drive(self, u: float) -> None:
        """Set the drive in V that holds from now on."""
        self._log_rate = self._log_h0 + u / self._v_star if u > 0 else -math.inf

    def wait_ns(self) -> int | None:
        """Return how long until the crossing at the present drive, in ns, rounded up; None for never."""
        if self._left <= 0:
            return 0 if self._log_rate > -math.inf else None
        log_wait_ns = math.log(self._left) - self._log_rate + math.log(1e9)
        # 43.6 is ln of 2**63: in 292 years nobody looks.
        return math.ceil(math.exp(log_wait_ns)) if log_wait_ns < 43.6 else None

    def due(self, u: float) -> bool:
        """Whether the threshold is spent and there is a drive ``u`` in V."""
        return u > 0 and self._left <= 0

    def elapse(self, dt_ns: int) -> None:
        """Spend ``dt_ns`` at the present drive."""
        if dt_ns > 0 and self._log_rate > -math.inf:
            log_spent = self._log_rate + math.log(dt_ns * 1e-9)
            self._left -= math.exp(min(log_spent, _EXP_MAX))
