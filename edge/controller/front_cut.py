"""The cut behind a front end that has opened by itself, or does no longer what it is there for. Called by its reader.

Its switch is open by then, so nothing is urgent but to know. A surge in a trigger search is what the plan looks for: a
planned cut, which comes behind the answer that is under way, for the instrument takes one question at a time; its bias
goes to 0 V at once. Everything else protects. See docs/decisions/0022.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.clock import Clock
from edge.controller.cutting import Cutter
from edge.controller.report import Report
from edge.guard.guard import Guard
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from edge.instruments.link import Link
from firmware_proto.keithley2400 import commands

if TYPE_CHECKING:
    from edge.instruments.frontend_values import Trip

_LIVE = (State.ARMED, State.ENERGISED)


def verdict_of(reason: str) -> Verdict:
    """Return what the guard calls a trip, by its reason's name: a lease that ran out has one of its own."""
    return Verdict.LEASE if reason == "LEASE" else Verdict.FRONTEND


class FrontCut:
    """One engine's."""

    def __init__(
        self,
        guard: Guard,
        link: Link,
        cutter: Cutter,
        report: Report,
        clock: Clock,
        *,
        at_level: Callable[[], bool],
        plan_cut: Callable[[Verdict, int], None],
    ) -> None:
        """``at_level``: a ramp is at one of its levels. ``plan_cut``: cut as planned, nothing being asked."""
        self._guard = guard
        self._link = link
        self._cutter = cutter
        self._report = report
        self._clock = clock
        self._at_level = at_level
        self._plan_cut = plan_cut
        self.pending: Trip | None = None
        """What the plan seeks was found, and the instrument's answer is awaited before the cut."""

    def on_trip(self, trip: Trip) -> None:
        """See the module. A trip with the output verified off is nothing to cut for."""
        state = self._guard.state
        if trip.surge and self._guard.seeks and self._at_level() and self._cutter.plans:
            self.pending = trip
            if self._link.outstanding:
                self._link.write(commands.ZERO)
            else:
                self.fire()
        elif state in _LIVE or (state is State.CUTTING and not trip.surge):
            # A surge behind a cut that is under way is that cut's; what is wrong with the device is not.
            self._protect(verdict_of(trip.reason.name), trip.reason.name, trip.t_rx_ns)

    def fire(self) -> None:
        """Cut for what is pending; nothing is asked of the instrument."""
        trip, self.pending = self.pending, None
        if trip is not None:
            # The switch closes again only behind a verified cut: there is nothing to hold at 0 V.
            self._cutter.hold = False
            self._plan_cut(Verdict.FRONTEND, trip.t_rx_ns)

    def on_fault(self, why: str) -> None:
        """Cut: the front end is not what protects this bias any more."""
        if self._guard.state in _LIVE or self._guard.state is State.CUTTING:
            self._protect(Verdict.FRONTEND, why, self._clock.now_ns())

    def _protect(self, verdict: Verdict, why: str, t_ns: int) -> None:
        if self._guard.state is State.CUTTING and self._guard.machine.protective:
            return
        self._report.trip_detail = f"front end: {why}"
        self._cutter.protective(verdict, t_ns)
