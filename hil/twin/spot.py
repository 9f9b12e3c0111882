"""One spot of the garnet: what it conducts, how it ages under a voltage, what happens to it by itself.

A spot knows no circuit and no time: it is told a voltage and how long it held. :mod:`hil.twin.live` puts it behind a
cable and a source. It stays what it is when the tip leaves, so that a filament is still there when the tip returns.
"""

from __future__ import annotations

import enum
import math
import random
from typing import Final

from hil.errors import BenchOptionError
from hil.twin import filament
from hil.twin.contact import Contact
from hil.twin.hrs import Hrs
from hil.twin.nucleation import Hazard, Trigger
from hil.twin.terminals import STUCK_OHM

__all__ = ["FROZEN", "STUCK_OHM", "Change", "Spot", "SpotState"]

FROZEN: Final = 0.05
"""Largest relative change of a conductance during which it is taken as constant; a quarter while it tunnels."""

_NEAR_M: Final = 6e-10  # a wider gap conducts less than a nanoampere at 0.12 V: it may close in one step
_NEAR_STEP_M: Final = 1.25e-11  # a change of the tunnelling conductance by a quarter


class SpotState(enum.Enum):
    """What a spot is."""

    HRS = "hrs"
    GROWING = "growing"
    LRS = "lrs"
    STUCK_ON = "stuck_on"
    OPEN = "open"


class Change(enum.Enum):
    """What happens to a spot by itself."""

    NUCLEATION = "nucleation"
    DISSOLVED = "dissolved"
    BRIDGED = "bridged"
    RESET = "reset"


class Spot:
    """A spot with nucleations to come, drawn from ``seed``; the same seed gives the same spot, bit for bit.

    ``u_median_v`` (above 0, up to 200 V) and ``v_star`` (1e-3 to 10 V) as in :class:`hil.twin.nucleation.Hazard`.
    After each reset a new threshold and a new filament resistance are drawn. ``state`` may begin as ``LRS``, with the
    filament as it is at bridging, or as ``STUCK_ON`` or ``OPEN`` (a tip without coating), and stays so.
    """

    def __init__(
        self,
        u_median_v: float,
        v_star: float,
        *,
        seed: int | str = 0,
        contact: Contact | None = None,
        state: SpotState = SpotState.HRS,
    ) -> None:
        """Draw the spot; raises BenchOptionError for a number out of range."""
        if not 0 < u_median_v <= 200:
            raise BenchOptionError(f"median trigger drive {u_median_v} V: want a number above 0 and up to 200 V")
        if not 1e-3 <= v_star <= 10:
            raise BenchOptionError(f"v* {v_star} V: want a number from 1e-3 to 10 V")
        self.contact = Contact() if contact is None else contact
        self.hazard = Hazard(u_median_v, v_star)
        self.hrs = Hrs.of(self.contact)
        self.state = state
        self.gap_m = filament.GAP_M
        self.filament_s = 0.0
        # The order of the draws is part of what a seed means, and that of the plain site: threshold, resistance.
        self._rng = random.Random(seed)
        self._trigger = Trigger(self.hazard, self._rng)
        self.r_on_ohm = self._draw_resistance()
        if state is SpotState.LRS:
            self.filament_s = 1 / self.r_on_ohm

    def _draw_resistance(self) -> float:
        return self._rng.lognormvariate(math.log(filament.R_ON_MEDIAN_OHM), filament.R_ON_LOG_SIGMA)

    def land(self, contact: Contact) -> None:
        """Touch the spot again, with another load perhaps."""
        if contact != self.contact:
            self.contact = contact
            self.hrs = Hrs.of(contact)

    def conductance(self, v_source: float, series_ohm: float) -> float:
        """Return the secant conductance in S when ``v_source`` drives the spot through ``series_ohm``."""
        state = self.state
        if state is SpotState.LRS:
            return self.filament_s
        if state is SpotState.STUCK_ON:
            return 1 / STUCK_OHM
        if state is SpotState.OPEN:
            return 0.0
        ionic = self.hrs.conductance(v_source)
        if ionic * series_ohm > 1e-6:
            ionic = self.hrs.conductance(self.hrs.load_line(v_source, series_ohm))
        return ionic if state is SpotState.HRS else ionic + filament.tunnel_conductance(self.gap_m)

    def ionic_limit_v(self, i_limit_a: float) -> float | None:
        """Return the site voltage in V that a clamp of ``i_limit_a`` allows in the HRS; None in other states."""
        return self.hrs.voltage(i_limit_a) if self.state is SpotState.HRS else None

    def wait_s(self, v: float) -> float:
        """Return for how long, in s, the spot may be taken as it is at site voltage ``v``; inf for ever.

        When that time is over, :meth:`settle` says whether something happened.
        """
        state = self.state
        if state is SpotState.HRS:
            self._trigger.drive(-v)
            wait_ns = self._trigger.wait_ns()
            return math.inf if wait_ns is None else wait_ns * 1e-9
        if state is SpotState.GROWING:
            return self._gap_wait_s(filament.gap_speed(v))
        if state is not SpotState.LRS:
            return math.inf
        if v > filament.RESET_V:
            return FROZEN / 2 / filament.dissolution(v)
        rate = filament.thickening(v)
        rest = self._thick_s - self.filament_s
        if rate == 0 or rest <= 1e-9 * self._thick_s:
            return math.inf
        change = FROZEN * self.filament_s
        return -math.log1p(-change / rest) / rate if rest > 2 * change else 20 / rate

    def _gap_wait_s(self, speed: float) -> float:
        if speed == 0:
            return math.inf
        if speed > 0:
            step = max(self.gap_m - _NEAR_M, min(_NEAR_STEP_M, self.gap_m))
        else:
            step = filament.GAP_M - self.gap_m if self.gap_m > _NEAR_M else _NEAR_STEP_M
        return step / abs(speed)

    @property
    def _thick_s(self) -> float:
        return filament.THICK / self.r_on_ohm

    def age(self, v: float, dt_ns: int) -> None:
        """Live ``dt_ns`` at site voltage ``v``; at most :meth:`wait_s`, which was asked with the same ``v``."""
        state = self.state
        if state is SpotState.HRS:
            self._trigger.elapse(dt_ns)
        elif state is SpotState.GROWING:
            self.gap_m -= filament.gap_speed(v) * (dt_ns * 1e-9)
        elif state is SpotState.LRS:
            dt_s = dt_ns * 1e-9
            if v > filament.RESET_V:
                self.filament_s *= math.exp(-filament.dissolution(v) * dt_s)
            elif v < 0:
                thick = self._thick_s
                self.filament_s = thick + (self.filament_s - thick) * math.exp(-filament.thickening(v) * dt_s)

    def settle(self, v: float) -> Change | None:
        """Do what is due at site voltage ``v``, and say it; None if nothing is."""
        state = self.state
        if state is SpotState.HRS and self._trigger.due(-v):
            self.state, self.gap_m = SpotState.GROWING, filament.GAP_M
            return Change.NUCLEATION
        if state is SpotState.GROWING:
            # Half a femtometre: the steps end where they were planned, up to rounding.
            if self.gap_m <= 5e-16:
                self.state, self.filament_s = SpotState.LRS, 1 / self.r_on_ohm
                return Change.BRIDGED
            if self.gap_m >= filament.GAP_M:
                self._begin_again()
                return Change.DISSOLVED
        if state is SpotState.LRS and self.filament_s < filament.RUPTURE_S:
            self._begin_again()
            return Change.RESET
        return None

    def _begin_again(self) -> None:
        self.state = SpotState.HRS
        self._trigger = Trigger(self.hazard, self._rng)
        self.r_on_ohm = self._draw_resistance()
