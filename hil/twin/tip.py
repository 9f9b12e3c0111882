"""A tip that a stage moves over a sample: contact or air, and which spot, as a load at the instrument's terminals.

The emulated stage tells it every position it passes (:meth:`ScanningTip.move`) and reads the deflection signal from
it; the emulated 2400 has it at its terminals. Both live in one process and on one clock.

Its ``landing`` entries in the truth record carry ``x_m``, ``y_m`` (on the sample), ``sent_x_m``, ``sent_y_m`` (the
stage's), ``kind``, ``distance_m``, ``u_median_v``, ``load_n`` and ``state`` (lrs: a filament was there already).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final

from hil.errors import BenchFaultError
from hil.twin.circuit import Circuit
from hil.twin.contact import Cantilever
from hil.twin.live import LiveLoad
from hil.twin.sample_map import Landing, SampleMap
from hil.twin.terminals import LIMIT_A
from hil.twin.truth import Entry, TruthRecord

LEAST_LOAD_N: Final = 1e-9
"""A lighter touch than this, in N, is no contact."""


class ScanningTip(LiveLoad):
    """The tip, at first in the air. ``cantilever`` says at which z it touches and what the detector shows."""

    def __init__(
        self,
        sample: SampleMap,
        *,
        cantilever: Cantilever | None = None,
        series_ohm: float = 0.0,
        circuit: Circuit | None = None,
        truth: TruthRecord | None = None,
        limit_a: float = LIMIT_A,
    ) -> None:
        """Begin disconnected and in the air, at no position."""
        super().__init__(None, series_ohm=series_ohm, circuit=circuit, truth=truth, limit_a=limit_a)
        self.sample = sample
        self.cantilever = Cantilever() if cantilever is None else cantilever
        self.landing: Landing | None = None
        self._z_m: float | None = None
        self._contact = sample.contact

    @property
    def in_contact(self) -> bool:
        """Whether the tip touches the sample."""
        return self.landing is not None

    @property
    def deflection_v(self) -> float:
        """Deflection signal in V, without noise; 0 in the air and before the first move."""
        return 0.0 if self._z_m is None else self.cantilever.deflection_v(self._z_m)

    def move(self, t_ns: int, x_m: float, y_m: float, z_m: float) -> None:
        """Be at a stage position at ``t_ns``. Times never go backwards, and not before the instrument's.

        Touching is a landing, and so is being dragged or drifting off the spot by more than the contact's radius.
        Raises BenchFaultError for a position that is no number.
        """
        if not (math.isfinite(x_m) and math.isfinite(y_m) and math.isfinite(z_m)):
            raise BenchFaultError(f"stage position {(x_m, y_m, z_m)}: want finite numbers of metres")
        self._z_m = z_m
        load_n = self.cantilever.load_n(z_m)
        if load_n < LEAST_LOAD_N:
            if self.landing is not None:
                self._lift(t_ns)
            return
        if self.landing is not None and self._holds((x_m, y_m), t_ns):
            return
        self._contact = dataclasses.replace(self.sample.contact, load_n=min(load_n, 1e-4))
        self.landing = landing = self.sample.land((x_m, y_m), t_ns, self._contact)
        self.land(t_ns, landing.spot)
        more: Entry = {
            "x_m": landing.at[0],
            "y_m": landing.at[1],
            "sent_x_m": x_m,
            "sent_y_m": y_m,
            "kind": landing.kind,
            "distance_m": landing.distance_m,
            "u_median_v": landing.spot.hazard.u_median_v,
            "load_n": load_n,
            "state": landing.spot.state.value,
        }
        self._record(t_ns, "landing", self.v_tip, self._g * self.v_tip, more)

    def _holds(self, position: tuple[float, float], t_ns: int) -> bool:
        """Whether the tip is still on the spot it landed on; the error of the landing stays with it."""
        landing = self.landing
        if landing is None:
            return False
        moved = math.dist(position, landing.sent_to)
        drifted = math.dist(self.sample.under(landing.sent_to, t_ns), self.sample.under(landing.sent_to, landing.t_ns))
        return moved + drifted <= self._contact.radius_m

    def _lift(self, t_ns: int) -> None:
        self.land(t_ns, None)
        self.landing = None
        self._record(t_ns, "lift", self.v_tip, 0.0)
