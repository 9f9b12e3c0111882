"""A tip that a stage moves over a sample: contact or air, and which spot, as a load at the instrument's terminals.

The emulated stage hands it the paths of its axes and reads the deflection signal from it (it is a
``hil.devices.pi_gcs2.mechanics.Mechanics``); the emulated 2400 has it at its terminals. Both live in one process and
on one clock. Along a path it looks where it is every millisecond, at rest every second: what happens does not depend
on how often either instrument asks. :meth:`ScanningTip.move` is the same without a stage.

Its contact grows and shrinks with the load.

Its ``landing`` entries in the truth record carry ``x_m``, ``y_m`` (on the sample), ``sent_x_m``, ``sent_y_m`` (the
stage's), ``kind``, ``distance_m``, ``u_median_v``, ``load_n`` and ``state`` (lrs: a filament was there already;
stuck_on; open: the tip has lost its coating, whatever the spot is).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Final

from hil.errors import BenchFaultError
from hil.twin.circuit import Circuit
from hil.twin.contact import Cantilever
from hil.twin.live import LiveLoad
from hil.twin.sample_map import Landing, SampleMap
from hil.twin.spot import Spot, SpotState
from hil.twin.terminals import LIMIT_A
from hil.twin.truth import Entry, TruthRecord

LOOK_NS: Final = 1_000_000
"""How often a moving tip looks whether it touches, in ns."""

REST_LOOK_NS: Final = 1_000_000_000
"""The same at rest, where only drift and creep move it."""

LEAST_LOAD_N: Final = 1e-9
"""A lighter touch than this, in N, is no contact."""

PRESS: Final = 0.1
"""Relative change of the load at which the contact's area follows it."""


class ScanningTip(LiveLoad):
    """The tip, at first in the air. ``cantilever`` says at which z it touches and what the detector shows.

    ``axes``: the names of the stage's x, y and z. ``idle_v``: what the detector shows in the air. ``open_tip``: the
    tip has lost its coating: deflection as ever, but no current; changed, it counts from the next landing on.
    """

    def __init__(
        self,
        sample: SampleMap,
        *,
        cantilever: Cantilever | None = None,
        series_ohm: float = 0.0,
        circuit: Circuit | None = None,
        truth: TruthRecord | None = None,
        limit_a: float = LIMIT_A,
        axes: tuple[str, str, str] = ("1", "2", "3"),
        idle_v: float = 0.02,
        open_tip: bool = False,
    ) -> None:
        """Begin disconnected and in the air, at no position."""
        super().__init__(None, series_ohm=series_ohm, circuit=circuit, truth=truth, limit_a=limit_a)
        self.sample = sample
        self.cantilever = Cantilever() if cantilever is None else cantilever
        self.landing: Landing | None = None
        self.open_tip = open_tip
        self._z_m: float | None = None
        self._contact = sample.contact
        self._axes = axes
        self._idle_v = idle_v
        self._paths: dict[str, Callable[[int], float]] = {}
        self._rest_ns = 0
        self._look_ns: int | None = None

    # What the stage moves

    def follow(self, t_ns: int, axis: str, position_m: Callable[[int], float], rest_ns: int) -> None:
        """From ``t_ns`` on ``axis`` is at ``position_m(t)`` m, at rest from ``rest_ns`` on; other axes are ignored."""
        if axis not in self._axes:
            return
        self.advance(max(t_ns, self._t_ns))
        self._paths[axis] = position_m
        self._rest_ns = max(self._rest_ns, rest_ns)
        if len(self._paths) == len(self._axes):
            self._look_ns = max(t_ns, self._t_ns)

    def signal_v(self, t_ns: int, channel: int) -> float:
        """Return the deflection signal at ``t_ns`` in V, at most 10 V; other channels than 1 are open and read 0 V.

        Whoever asks for it makes the tip live until then, so that the record of a landing does not wait for the 2400.
        """
        self.advance(max(t_ns, self._t_ns))
        if channel != 1 or self._axes[2] not in self._paths:
            return 0.0
        return min(10.0, self._idle_v + self.cantilever.deflection_v(self._paths[self._axes[2]](t_ns)))

    def advance(self, t_ns: int) -> None:
        """Let the sample live until ``t_ns`` and the tip move; see :class:`hil.protocols.Load`."""
        while self._look_ns is not None and self._look_ns <= t_ns:
            look_ns = self._look_ns
            if look_ns < self._rest_ns:
                self._look_ns = min(look_ns + LOOK_NS, self._rest_ns)
            else:
                self._look_ns = look_ns + REST_LOOK_NS
            x_m, y_m, z_m = (self._paths[axis](look_ns) for axis in self._axes)
            self.move(look_ns, x_m, y_m, z_m)
        super().advance(t_ns)

    def drift(self, t_ns: int, x_m_s: float, y_m_s: float) -> str:
        """Let the sample drift from ``t_ns`` on, in m/s, on top of what it does anyway; return what was done."""
        self.advance(t_ns)
        self.sample.drift(t_ns, x_m_s, y_m_s)
        return f"drift of {x_m_s * 1e9:g}, {y_m_s * 1e9:g} nm/s"

    def _lose(self, t_ns: int, spot: Spot) -> None:
        self.open_tip = True
        super()._lose(t_ns, spot)

    # The same without a stage

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
            self._press(t_ns, load_n)
            return
        self._contact = dataclasses.replace(self.sample.contact, load_n=min(load_n, 1e-4))
        self.landing = landing = self.sample.land((x_m, y_m), t_ns, self._contact)
        spot = landing.spot
        # The spot below is none of the bare tip's business: it stays as it is.
        under = Spot(spot.hazard.u_median_v, spot.hazard.v_star, state=SpotState.OPEN) if self.open_tip else spot
        self.land(t_ns, under)
        more: Entry = {
            "x_m": landing.at[0],
            "y_m": landing.at[1],
            "sent_x_m": x_m,
            "sent_y_m": y_m,
            "kind": landing.kind,
            "distance_m": landing.distance_m,
            "u_median_v": spot.hazard.u_median_v,
            "load_n": load_n,
            "state": under.state.value,
        }
        self._record(t_ns, "landing", self.v_tip, self._g * self.v_tip, more)

    def _press(self, t_ns: int, load_n: float) -> None:
        """Let the contact have the area of its load: an approach touches with less than it ends with."""
        load_n = min(load_n, 1e-4)
        if self.spot is None or abs(load_n - self._contact.load_n) <= PRESS * self._contact.load_n:
            return
        self.advance(t_ns)
        self._close_segment(t_ns)
        self._contact = dataclasses.replace(self._contact, load_n=load_n)
        self.spot.land(self._contact)
        self._open_segment(t_ns)
        self.advance(t_ns)

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
