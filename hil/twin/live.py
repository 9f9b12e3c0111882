"""The full site at the terminals: a :class:`hil.twin.spot.Spot` behind cable, series resistor and a real source.

Time is cut into segments during which the spot's conductance is taken as constant, so that the circuit is linear and
solved exactly (:mod:`hil.twin.circuit`). A segment is planned from the state at its beginning and nothing else: ended
early only by a change of the source, never by somebody looking. Looking evaluates the closed form.

Further events of the truth record, beside those of :mod:`hil.twin.terminals`:

``nucleation``  the gap begins to close; ``v_tip`` is the site voltage.
``dissolved``   the drive turned before the gap was closed: no filament.
``set_onset``   the filament bridges: ``v_tip`` and ``v_source`` are those at its nucleation (``nucleated_ns``).
``reset``       the filament opens: ``v_tip`` then, ``r_on_ohm`` at its thickest since it bridged.
``landing``     the tip touches a spot, ``lift`` it leaves: :mod:`hil.twin.tip`.

``i_a`` and ``peak_current_a`` are what passes through the tip; what charges the cable does not.
"""

from __future__ import annotations

import math
from typing import Final

from hil.twin.circuit import Circuit, Relaxation, Source, part_above, transient_v
from hil.twin.site import Onset
from hil.twin.spot import Change, Spot, SpotState
from hil.twin.terminals import LIMIT_A, NEVER_NS, SAFE_V, STUCK_OHM, OperatingPoint, SourcedLoad
from hil.twin.truth import Entry, TruthRecord

_STEP_V: Final = 5e-3  # smaller than any v*: within it the hazard is taken at the mean voltage
_STEP_OF_V: Final = 0.05
_SETTLED_V: Final = 1e-8
_SETTLED_TAUS: Final = 20.0
_OVER: Final = 1e-3  # a clamp that holds the limit is reached from above and never quite


class LiveLoad(SourcedLoad):
    """A tip behind its circuit, on a spot or in the air (``spot`` None); at 0 ohm the cable's charge is at the tip."""

    def __init__(
        self,
        spot: Spot | None,
        *,
        series_ohm: float = 0.0,
        circuit: Circuit | None = None,
        truth: TruthRecord | None = None,
        limit_a: float = LIMIT_A,
    ) -> None:
        """Begin disconnected, the cable without charge."""
        super().__init__(series_ohm=series_ohm, truth=truth, dose_from_start=False, limit_a=limit_a)
        self.circuit = Circuit() if circuit is None else circuit
        self.spot = spot
        self.onset: Onset | None = None
        self._counts |= {"nucleation": 0, "dissolved": 0, "reset": 0}
        self._at_tip = self.circuit.cable_at == "tip" and series_ohm > 0
        self._v_line = 0.0
        self._v_site = 0.0
        self._line = self._site = Relaxation(0.0)
        self._g = 0.0
        self._mean_v = 0.0
        self._nucleated: Onset | None = None
        self._thickest_s = 0.0
        self._tau = 0.0

    def land(self, t_ns: int, spot: Spot | None) -> None:
        """Put the tip on ``spot`` at ``t_ns``, or into the air (None)."""
        self.advance(t_ns)
        self._close_segment(t_ns)
        self.spot = spot
        self._nucleated = None
        # An earlier spot's filament says nothing about this one's.
        self._thickest_s = 0.0
        self._open_segment(t_ns)
        self.advance(t_ns)

    def range_changed(self, t_ns: int) -> None:
        """Take the transient of a range that changes at ``t_ns`` while level and clamp stay, with the output on."""
        self._kick(t_ns, self.circuit.spike_sign * self.circuit.overshoot_v)

    def output_switched(self, t_ns: int) -> None:
        """Take the spike of an output that is switched at ``t_ns`` while relay and clamp stay."""
        self._kick(t_ns, self.circuit.spike_sign * self.circuit.switch_spike_v)

    def _kick(self, t_ns: int, kick_v: float) -> None:
        if not kick_v or not self._connected:
            return
        self.advance(t_ns)
        self._close_segment(t_ns)
        self._v_line += kick_v
        self._charge_c += 0.0 if self._at_tip else self.circuit.cable_f * kick_v
        self._open_segment(t_ns)
        self.advance(t_ns)

    # What goes wrong between tip and sample

    def shunt_for(self, amps: float) -> float:
        """See :meth:`hil.twin.terminals.SourcedLoad.shunt_for`; the cable's current is none of the tip's."""
        if self._path_open or not self._v_set or (self.spot is not None and self.spot.state is SpotState.OPEN):
            return 0.0
        return max(0.0, 1 / max(1.0, abs(self._v_set) / amps - self.series_ohm) - self._g)

    def lose_contact(self, t_ns: int) -> str:
        """Let nothing be conducted from ``t_ns`` on: what is under the tip stays as it is, and feels nothing."""
        self.advance(t_ns)
        spot, g, v_tip = self.spot, self._g, self.v_tip
        if spot is None or spot.state is SpotState.OPEN:
            return ""
        self._lose(t_ns, spot)
        return f"the tip is open, {g * v_tip:.3e} A before"

    def _lose(self, t_ns: int, spot: Spot) -> None:
        self.land(t_ns, Spot(spot.hazard.u_median_v, spot.hazard.v_star, state=SpotState.OPEN))

    def stick_on(self, t_ns: int) -> str:
        """Let the spot under the tip have :data:`STUCK_OHM` for good from ``t_ns`` on."""
        self.advance(t_ns)
        spot, v_tip = self.spot, self.v_tip
        if spot is None or spot.state in (SpotState.OPEN, SpotState.STUCK_ON):
            return ""
        self._close_segment(t_ns)
        spot.state = SpotState.STUCK_ON
        self._dosing = True
        self.onset = Onset(t_ns, v_tip, self._v_set)
        self._open_segment(t_ns)
        i_a = self._g * self._v_site
        self._record(t_ns, "set_onset", v_tip, i_a, {"r_on_ohm": STUCK_OHM, "v_source": self._v_set, "stuck_on": True})
        self.advance(t_ns)
        return f"{STUCK_OHM:g} ohm under the tip for good"

    # What an instrument sees

    @property
    def charge_c(self) -> float:
        """Signed integral of the terminal current since the start, in C."""
        return self._charge_c + self._terminal_charge((self._t_ns - self._since_ns) * 1e-9)

    @property
    def terminal_current_a(self) -> float:
        """Current through the terminals now, in A: the tip's, the cable's and the leakage."""
        return self.current_at(self._t_ns)

    def current_at(self, t_ns: int) -> float:
        """See :meth:`hil.twin.terminals.SourcedLoad.current_at`."""
        if not self._connected:
            return 0.0
        t = (t_ns - self._since_ns) * 1e-9
        charging = self.circuit.cable_f * (self._site if self._at_tip else self._line).slope(t)
        return self._g * self._site.at(t) + charging + self._line.at(t) / self.circuit.leak_ohm

    @property
    def steady(self) -> bool:
        """See :attr:`hil.twin.terminals.SourcedLoad.steady`."""
        return not self._connected or not (self._line.b or self._site.b or self._site.d)

    @property
    def v_tip(self) -> float:
        """Voltage across the sample now, in V."""
        return self._site.at((self._t_ns - self._since_ns) * 1e-9)

    @property
    def terminal_voltage_v(self) -> float:
        """Voltage at the terminals now, in V."""
        if self._relay and not self._connected:
            return self._v_set
        return self._line.at((self._t_ns - self._since_ns) * 1e-9)

    # One segment

    @property
    def _path_open(self) -> bool:
        return not self._connected or self.spot is None

    def _switch(self, v_set: float, i_limit_a: float, *, connected: bool) -> None:
        before = Source(self._v_set, self._i_limit_a, self._relay)
        super()._switch(v_set, i_limit_a, connected=connected)
        if self._connected:  # behind an open relay or switch a spike does not reach the cable
            kick_v = transient_v(self.circuit, before, Source(v_set, i_limit_a, connected))
            self._v_line += kick_v
            self._charge_c += 0.0 if self._at_tip else self.circuit.cable_f * kick_v

    def _operate(self, v_set: float, i_limit_a: float) -> OperatingPoint:
        """Return where source and site meet when everything has settled."""
        g, series_ohm = self._g, self.series_ohm
        through = g / (1 + series_ohm * g)
        ionic_v = None if self.spot is None or self._shunt_s else self.spot.ionic_limit_v(i_limit_a)
        if ionic_v is not None:
            line_v = ionic_v + series_ohm * i_limit_a
        else:
            line_v = i_limit_a / through if abs(v_set) * through > i_limit_a else math.inf
        if line_v >= abs(v_set):
            return OperatingPoint(v_set, v_set * through, clamped=False)
        line_v = math.copysign(line_v, v_set)
        return OperatingPoint(line_v, line_v * through, clamped=True)

    def _operating_point(self) -> OperatingPoint:
        spot, circuit, series_ohm = self.spot, self.circuit, self.series_ohm
        if spot is None:
            g = 0.0
        elif self._at_tip:
            g = spot.conductance(self._v_site, 0.0)
        else:
            g = spot.conductance(self._v_line, series_ohm)
        if self._shunt_s and spot is not None and spot.state is not SpotState.OPEN:
            g += self._shunt_s
        self._g = g
        share = 1 / (1 + series_ohm * g)
        clamped = False
        if self._connected:
            target, _, clamped = self._operate(self._v_set, self._i_limit_a)
            excess = self._v_line - target
            if abs(excess) <= _SETTLED_V:
                excess = 0.0
            if clamped:
                tau = circuit.loop_s + circuit.cable_f * (series_ohm + 1 / g)
            else:
                tau = max(circuit.loop_s, circuit.cable_f * abs(excess) / max(self._i_limit_a, 1e-12))
            self._tau = tau
            self._line = Relaxation(target, excess, tau)
            at_tip = self._at_tip
            self._site = self._behind_resistor(share) if at_tip else Relaxation(target * share, excess * share, tau)
        elif self._at_tip:
            tau = circuit.cable_f / (g + 1 / circuit.leak_ohm)
            self._line = self._site = Relaxation(0.0, self._v_site, tau)
        else:
            tau = circuit.cable_f / (g * share + 1 / circuit.leak_ohm)
            self._line = Relaxation(0.0, self._v_line, tau)
            self._site = Relaxation(0.0, self._v_line * share, tau)
        self._v_line, self._v_site = self._line.at(0.0), self._site.at(0.0)
        return OperatingPoint(self._v_site, g * self._v_site, clamped)

    def _behind_resistor(self, share: float) -> Relaxation:
        """Return the site's voltage where the cable is on the tip's side: resistor and cable follow the terminals."""
        line = self._line
        tau = self.circuit.cable_f * self.series_ohm * share
        if abs(line.tau_b - tau) < 1e-2 * tau:
            tau *= 1.02  # two equal poles have no sum of two exponentials
        forced = share * line.b * line.tau_b / (line.tau_b - tau)
        own = self._v_site - share * line.end - forced
        return Relaxation(share * line.end, forced, line.tau_b, own if abs(own) > _SETTLED_V else 0.0, tau)

    def _schedule(self, t_ns: int) -> int:
        site = self._site
        v = self._v_site
        step_v = max(_STEP_V, _STEP_OF_V * abs(v))
        if self._at_tip and abs(v) < _STEP_V:
            step_v = SAFE_V / 2  # so that the window of a safe tip is not stepped over
        wait_s = math.inf
        for amplitude, tau in ((site.b, site.tau_b), (site.d, site.tau_d)):
            if amplitude:
                size = abs(amplitude)
                wait_s = min(wait_s, tau * (_SETTLED_TAUS if size <= step_v else -math.log1p(-step_v / size)))
        if site.b and not site.d:
            wait_s = min(wait_s, site.reaches(SAFE_V), site.reaches(-SAFE_V))
        self._mean_v = site.end if wait_s == math.inf else site.integral(wait_s) / wait_s if wait_s > 0 else v
        if self.spot is not None:
            wait_s = min(wait_s, self.spot.wait_s(self._mean_v))
        return t_ns + max(1, math.ceil(wait_s * 1e9)) if wait_s < 4e9 else NEVER_NS

    def _terminal_charge(self, t: float) -> float:
        if not self._connected:
            return 0.0
        store = self._site if self._at_tip else self._line
        stored_c = self.circuit.cable_f * (store.at(t) - store.at(0.0))
        return self._g * self._site.integral(t) + stored_c + self._line.integral(t) / self.circuit.leak_ohm

    def _close_segment(self, t_ns: int) -> None:
        begin_ns, dt_ns = self._since_ns, t_ns - self._since_ns
        self._since_ns = self._t_ns = t_ns
        if dt_ns == 0:
            return
        t = dt_ns * 1e-9
        site, g = self._site, self._g
        self._charge_c += self._terminal_charge(t)
        if self._dosing:
            self._dose_c += g * abs(site.integral(t))
            self._energy_j += g * site.square(t)
        first_a = abs(g * self._v_site)
        self._v_line, self._v_site = self._line.at(t), site.at(t)
        last_a = abs(g * self._v_site)
        self._peak_a = max(self._peak_a, last_a)
        if max(first_a, last_a) > self.limit_a * (1 + _OVER):
            begin_s, end_s = part_above(self.limit_a * (1 + _OVER) / g, site, t)
            self._count_over(begin_ns + round(begin_s * 1e9), begin_ns + round(end_s * 1e9))
        if self.spot is not None:
            self.spot.age(self._mean_v, dt_ns)
            if self._connected and t > 0.9 * _SETTLED_TAUS * self._tau and self.spot.state is SpotState.LRS:
                self._follow(self.spot)

    def _follow(self, spot: Spot) -> None:
        """Let the circuit follow a filament that changed slowly: no transient at each step of its conductance."""
        self._g = g = spot.filament_s + self._shunt_s
        line_v, _, _ = self._operate(self._v_set, self._i_limit_a)
        site_v = line_v / (1 + self.series_ohm * g)
        self._charge_c += self.circuit.cable_f * (site_v - self._v_site if self._at_tip else line_v - self._v_line)
        self._v_line, self._v_site = line_v, site_v

    def _change(self, t_ns: int) -> None:
        spot = self.spot
        if spot is None:
            return
        if spot.state is SpotState.LRS:
            self._thickest_s = max(self._thickest_s, spot.filament_s)
        change = spot.settle(self._v_site)
        if change is Change.BRIDGED:
            self._bridge(t_ns, spot)
        elif change is not None:
            more: Entry = {"r_on_ohm": 1 / self._thickest_s} if change is Change.RESET else {}
            if change is Change.NUCLEATION:
                self._nucleated = Onset(t_ns, self._v_site, self._v_set)
            self._record(t_ns, change.value, self._v_site, self._g * self._v_site, more)

    def _bridge(self, t_ns: int, spot: Spot) -> None:
        begun = self._nucleated or Onset(t_ns, self._v_site, self._v_set)
        self.onset = Onset(t_ns, begun.v_tip, begun.v_source)
        self._dosing = True
        self._thickest_s = g = spot.filament_s
        i_a = g * self._v_site if self._at_tip else self._v_line * g / (1 + self.series_ohm * g)
        more: Entry = {"r_on_ohm": spot.r_on_ohm, "v_source": begun.v_source, "nucleated_ns": begun.t_ns}
        self._record(t_ns, "set_onset", begun.v_tip, i_a, more)
