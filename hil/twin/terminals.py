"""A sample at the terminals of a voltage source with a current clamp: the bookkeeping every load shares.

Between two changes (of the source, or of the sample itself) everything is constant, so that charge and energy are
exact sums and do not depend on how often somebody looks.

Events of the truth record, in the order of their times:

``set_onset``  a filament formed: ``v_tip`` is the site voltage just before, ``v_source`` the source's level, ``i_a``
               the current just after, ``r_on_ohm`` the filament.
``safe``       \\|v_tip\\| fell below 1 mV or the path opened, whichever came first.
``live``       that ended.
``switch_open``, ``switch_closed``  the switch of a front end in series with the tip, read back at its pin.
``summary``    the end of the run, with ``peak_v`` (largest \\|source level\\| at a closed path, V), the numbers of
               ``set_onset``, ``safe`` and ``live`` events, and what the tip carried above ``limit_a``:
               ``over_limit_s``, and ``samples_over_limit``, counted on a grid of 0.2 ms (the shortest aperture of a
               2400: 0.01 PLC at 50 Hz) that knows nothing of anybody's readings.

``peak_current_a`` is the largest \\|I\\| so far. ``charge_c`` (integral of \\|I\\|) and ``energy_j`` (dissipated in the
sample, the series resistor's share excluded) count from the first onset; from the start for loads that have none.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from hil.errors import BenchFaultError, BenchOptionError
from hil.twin.truth import Entry, TruthRecord

SAFE_V = 1e-3
"""Below this magnitude in V the tip counts as safe: less than the 2400's burden voltage."""

NEVER_NS = 1 << 62

LIMIT_A = 1e-3
"""The current "to avoid damage to the c-AFM tip" (Lu et al.)."""

STUCK_OHM = 100.0
"""Resistance in ohm of a spot that is stuck on: a filament of half a micrometre, which no reset opens."""

SAMPLE_NS = 200_000
"""Grid of ``samples_over_limit``."""


class OperatingPoint(NamedTuple):
    """Where source and sample meet."""

    v_tip: float
    """Across the sample, behind the series resistor, in V."""
    i_a: float
    """Through the terminals, in A."""
    clamped: bool
    """True while the source limits its current and does not hold its level."""


class SourcedLoad(ABC):
    """Base of the loads; implements :class:`hil.protocols.Load`. Subclasses say where they operate and what changes.

    The source is ideal here: it follows its level and its clamp at once. (A 2400 needs 30 us to limit; that, and the
    cable's charge, are in :mod:`hil.twin.live`.)
    """

    def __init__(
        self, *, series_ohm: float, truth: TruthRecord | None, dose_from_start: bool, limit_a: float = LIMIT_A
    ) -> None:
        """Begin disconnected; ``series_ohm`` (0 to 1e12) sits between terminals and sample; ``limit_a`` is counted."""
        if not 0 <= series_ohm < 1e12:
            raise BenchOptionError(f"--series-ohm {series_ohm}: want a resistance in ohm from 0 to 1e12")
        self.series_ohm = series_ohm
        self.truth = truth if truth is not None else TruthRecord()
        self._v_set = 0.0
        self._i_limit_a = 0.0
        self._relay = False  # the source's own
        self._path_closed = True  # the switch of a front end in series, where there is one
        self._connected = False  # both
        self._point = OperatingPoint(0.0, 0.0, clamped=False)
        self._began = False
        self._t_ns = 0  # how far the sample has lived
        self._since_ns = 0  # since when the present operating point holds
        self._next_ns = NEVER_NS  # when the sample changes by itself
        self._charge_c = 0.0
        self._dosing = dose_from_start
        self._dose_c = 0.0
        self._energy_j = 0.0
        self._peak_a = 0.0
        self._peak_v = 0.0
        self._safe = True
        self.limit_a = limit_a
        self._over_s = 0.0
        self._samples_over = 0
        self._counts = {"set_onset": 0, "safe": 0, "live": 0}
        self.on_event: Callable[[int, str], None] | None = None
        """Told of every event of the truth record as it is written: ns and name."""
        self.on_segment: Callable[[int], None] | None = None
        """Told of every change of the operating point just after it: ns."""
        self.before: Callable[[int], None] | None = None
        """Asked before the sample lives on, with until when: a switch in series may have opened on the way."""
        self._shunts: dict[str, float] = {}
        self._shunt_s = 0.0
        self._lost = False

    def set_source(self, t_ns: int, v_set: float, i_limit_a: float, *, connected: bool) -> None:
        """Change the source; see :class:`hil.protocols.Load`. Setting what is set already changes nothing."""
        self.advance(t_ns)
        if v_set == self._v_set and i_limit_a == self._i_limit_a and connected == self._relay:
            return
        if not i_limit_a >= 0:
            raise BenchFaultError(f"current clamp {i_limit_a} A: want a magnitude")
        self._close_segment(t_ns)
        self._switch(v_set, i_limit_a, connected=connected)
        self._open_segment(t_ns)
        self.advance(t_ns)

    def switch_path(self, t_ns: int, *, closed: bool) -> None:
        """Open or close a switch in series with the tip at ``t_ns``; it is closed where there is no front end.

        It stands at the terminals: the source sees an open circuit, and what a cable holds still goes through the tip.
        """
        self.advance(t_ns)
        if closed == self._path_closed:
            return
        self._close_segment(t_ns)
        self._path_closed = closed
        self._connected = self._relay and closed
        self._open_segment(t_ns)
        self.advance(t_ns)

    def note(self, t_ns: int, event: str, more: Entry) -> None:
        """Write an event that somebody else knows of into the record, with what the tip carries then."""
        self.advance(t_ns)
        self._counts.setdefault(event, 0)
        self._record(t_ns, event, self.v_tip, self.terminal_current_a, more)

    def advance(self, t_ns: int) -> None:
        """Let the sample live until ``t_ns``; see :class:`hil.protocols.Load`."""
        if self.before is not None:
            self.before(t_ns)
        if not self._began:
            self._began = True
            self._t_ns = self._since_ns = t_ns
        if t_ns < self._t_ns:
            raise BenchFaultError(f"time {t_ns} ns is before {self._t_ns} ns: a load's time never goes backwards")
        while self._next_ns <= t_ns:
            change_ns = max(self._next_ns, self._since_ns)
            self._close_segment(change_ns)
            self._change(change_ns)
            self._open_segment(change_ns)
        self._t_ns = t_ns

    def close(self, t_ns: int) -> None:
        """End the run at ``t_ns``: write the summary and close the record."""
        self.advance(t_ns)
        self._close_segment(t_ns)
        counts = {f"n_{event}": count for event, count in self._counts.items()}
        over: Entry = {
            "limit_a": self.limit_a,
            "over_limit_s": self._over_s,
            "samples_over_limit": self._samples_over,
        }
        more: Entry = {"peak_v": self._peak_v, **counts}
        self._record(t_ns, "summary", self._point.v_tip, self._point.i_a, more | over)
        self.truth.close()

    @property
    def charge_c(self) -> float:
        """Signed integral of the terminal current since the start, in C."""
        return self._charge_c + self._point.i_a * ((self._t_ns - self._since_ns) * 1e-9)

    @property
    def terminal_current_a(self) -> float:
        """Current through the terminals now, in A."""
        return self._point.i_a

    def current_at(self, t_ns: int) -> float:
        """Return the current through the terminals at ``t_ns`` in A, where nothing changes until then.

        From now on, and up to ``next_change_ns``: a look ahead that lets the sample live no further.
        """
        del t_ns
        return self._point.i_a

    @property
    def steady(self) -> bool:
        """Whether :meth:`current_at` is the same up to ``next_change_ns``."""
        return True

    @property
    def lived_ns(self) -> int:
        """Until when the sample has lived, in ns."""
        return self._t_ns

    @property
    def path_closed(self) -> bool:
        """Whether the switch in series is closed."""
        return self._path_closed

    @property
    def clamped(self) -> bool:
        """True while the source limits its current and does not hold its level."""
        return self._point.clamped

    @property
    def v_tip(self) -> float:
        """Voltage across the sample now, in V."""
        return self._point.v_tip

    @property
    def terminal_voltage_v(self) -> float:
        """Voltage at the terminals now, in V: the level, or less while clamped."""
        if self._relay and not self._connected:
            return self._v_set
        return self._point.v_tip + self._point.i_a * self.series_ohm

    # What goes wrong between tip and sample

    @property
    def next_change_ns(self) -> int:
        """When the sample changes by itself if nothing else happens, in ns; NEVER_NS for never."""
        return self._next_ns

    def shunt(self, t_ns: int, name: str, siemens: float) -> None:
        """Put a conductance in S beside the sample from ``t_ns`` on; 0 takes the one of this name away."""
        if siemens < 0 or not math.isfinite(siemens):
            raise BenchFaultError(f"shunt {name}: {siemens} S: want a finite conductance of 0 or more")
        self.advance(t_ns)
        self._close_segment(t_ns)
        self._shunts.pop(name, None)
        if siemens:
            self._shunts[name] = siemens
        self._shunt_s = sum(self._shunts.values())
        self._open_segment(t_ns)
        self.advance(t_ns)

    def shunt_for(self, amps: float) -> float:
        """Return the conductance in S beside the sample that makes its current ``amps`` in magnitude, as far as it can.

        At least 1 ohm, so that the circuit decides. 0 where nothing drives a current, or more flows already.
        """
        if self._path_open or self._lost or not self._v_set:
            return 0.0
        r_ohm = max(1.0, abs(self._v_set) / amps - self.series_ohm)
        v_tip, i_a = self.v_tip, self.terminal_current_a
        present_s = abs(i_a / v_tip) if v_tip else 0.0
        return max(0.0, 1 / r_ohm - present_s)

    def lose_contact(self, t_ns: int) -> str:
        """Let nothing be conducted from ``t_ns`` on; return what was done, empty where nothing was in contact."""
        self.advance(t_ns)
        if self._lost:
            return ""
        i_a = self.terminal_current_a
        self._close_segment(t_ns)
        self._lost = True
        self._open_segment(t_ns)
        return f"the tip is open, {i_a:.3e} A before"

    def stick_on(self, t_ns: int) -> str:
        """Let there be :data:`STUCK_OHM` for good from ``t_ns`` on; return what was done, empty without a contact."""
        if self._lost or "stuck on" in self._shunts:
            return ""
        self.advance(t_ns)
        self._dosing = True
        v_tip = self.v_tip
        self.shunt(t_ns, "stuck on", 1 / STUCK_OHM)
        self._record(t_ns, "set_onset", v_tip, self.terminal_current_a, {"r_on_ohm": STUCK_OHM, "stuck_on": True})
        return f"{STUCK_OHM:g} ohm for good"

    def _beside(self, r_ohm: float) -> float:
        """Return a resistance with what is beside it, in ohm."""
        return r_ohm if not self._shunt_s else 1 / (1 / r_ohm + self._shunt_s)

    def _switch(self, v_set: float, i_limit_a: float, *, connected: bool) -> None:
        """Take over what the source is set to; called between two segments."""
        self._v_set, self._i_limit_a, self._relay = v_set, i_limit_a, connected
        self._connected = connected and self._path_closed

    @property
    def _path_open(self) -> bool:
        """Whether nothing can reach the tip."""
        return not self._connected

    @abstractmethod
    def _operate(self, v_set: float, i_limit_a: float) -> OperatingPoint:
        """Return the operating point at a closed path."""

    def _schedule(self, t_ns: int) -> int:
        """Return when the sample changes by itself under the present operating point, or NEVER_NS."""
        del t_ns
        return NEVER_NS

    def _change(self, t_ns: int) -> None:  # noqa: B027 - a hook: most loads never change
        """Do the change that was scheduled."""

    def _elapse(self, dt_ns: int) -> None:  # noqa: B027 - a hook: most loads do not age
        """Account for ``dt_ns`` at the present operating point."""

    def _operating_point(self) -> OperatingPoint:
        if not self._connected:
            return OperatingPoint(0.0, 0.0, clamped=False)
        if self._lost:
            return OperatingPoint(self._v_set, 0.0, clamped=False)
        return self._operate(self._v_set, self._i_limit_a)

    def _open_segment(self, t_ns: int) -> None:
        self._since_ns = t_ns
        self._point = point = self._operating_point()
        self._peak_a = max(self._peak_a, abs(point.i_a))
        if self._connected:
            self._peak_v = max(self._peak_v, abs(self._v_set))
        safe = self._path_open or abs(point.v_tip) < SAFE_V
        if safe != self._safe:
            self._safe = safe
            self._record(t_ns, "safe" if safe else "live", point.v_tip, point.i_a)
        self._next_ns = NEVER_NS if self._lost else self._schedule(t_ns)
        if self.on_segment is not None:
            self.on_segment(t_ns)

    def _close_segment(self, t_ns: int) -> None:
        dt_ns = t_ns - self._since_ns
        point = self._point
        if not self._lost:
            self._elapse(dt_ns)
        if abs(point.i_a) > self.limit_a:
            self._count_over(self._since_ns, t_ns)
        charge_c = point.i_a * (dt_ns * 1e-9)
        self._charge_c += charge_c
        if self._dosing:
            self._dose_c += abs(charge_c)
            self._energy_j += point.v_tip * charge_c
        self._since_ns = self._t_ns = t_ns

    def _count_over(self, begin_ns: int, end_ns: int) -> None:
        self._over_s += (end_ns - begin_ns) * 1e-9
        self._samples_over += end_ns // SAMPLE_NS - begin_ns // SAMPLE_NS

    def _record(self, t_ns: int, event: str, v_tip: float, i_a: float, more: Entry | None = None) -> None:
        if event in self._counts:
            self._counts[event] += 1
        entry: Entry = {
            "t_ns": t_ns,
            "event": event,
            "v_tip": v_tip,
            "i_a": i_a,
            "peak_current_a": max(self._peak_a, abs(i_a)),
            "charge_c": self._dose_c,
            "energy_j": self._energy_j,
            "v_source": self._v_set,
            "connected": self._connected,
        }
        self.truth.write(entry | (more or {}))
        if self.on_event is not None:
            self.on_event(t_ns, event)
