"""The latch after a protective cut: how it is set at a restart, corrected by a diagnosis, and released by a person.

What a cut itself latches is the cutter's (:mod:`edge.controller.cutting`); here is what happens to it with the output
verified off.
"""

from __future__ import annotations

import dataclasses

from edge.clock import Clock
from edge.controller.cutting import Cutter
from edge.controller.diagnosis import Diagnosis
from edge.controller.mirror import CLEAN, TRIPPED, Latch, in_short
from edge.controller.recorder import Recorder
from edge.controller.report import Report
from edge.guard.guard import Guard
from edge.guard.states import Cause
from edge.guard.verdicts import Verdict


class TripLatch:
    """One engine's."""

    def __init__(self, guard: Guard, cutter: Cutter, recorder: Recorder, report: Report, clock: Clock) -> None:
        """Change nothing yet."""
        self._guard = guard
        self._cutter = cutter
        self._recorder = recorder
        self._report = report
        self._clock = clock

    def restart(self, latch: Latch | None) -> None:
        """Go TRIPPED(RESTART), and leave an event that says what is known of the last life."""
        report = self._report
        self._guard.machine.move(Cause.RESTART_LATCH)
        report.trip_verdict = Verdict.RESTART
        known = dataclasses.asdict(latch) if latch is not None else None
        if latch is not None and latch.state == TRIPPED and latch.verdict:
            # The reason of the life before is kept.
            report.trip_verdict = Verdict(latch.verdict) if latch.verdict in Verdict.__members__ else Verdict.RESTART
        self._cutter.mirror(Latch(TRIPPED, report.trip_verdict.value, self._recorder.epoch))
        report.last_event = {
            "kind": "restart",
            "verdict": report.trip_verdict.value,
            "t_ns": self._clock.now_ns(),
            "previous": known,
        }
        self._recorder.event(report.last_event)
        report.notice("started tripped", verdict=report.trip_verdict.value, previous=in_short(latch))

    def correct(self, found: Diagnosis, verdict: Verdict, cut_ns: int | None) -> None:
        """Keep ``found`` instead of ``verdict``; ``cut_ns``: when the cut it is about was decided."""
        self._report.trip_verdict = found.verdict
        self._cutter.mirror(Latch(TRIPPED, found.verdict.value, self._recorder.epoch))
        self._recorder.event(found.document(verdict, cut_ns=cut_ns, t_ns=self._clock.now_ns()))
        self._report.notice("diagnosis", verdict=found.verdict.value, instead_of=verdict.value, says=found.says)

    def release(self, *, by: str) -> None:
        """TRIPPED -> SAFE, by a person."""
        if self._recorder.tape is not None:
            self._recorder.tape.verb("rearm", {"by": by})
        verdict = self._report.trip_verdict
        self._guard.machine.move(Cause.REARM)
        self._report.trip_verdict = None
        # A fault of the host that is still there will say so again before the next output-on.
        self._report.clear_alarm("HOST")
        self._cutter.mirror(Latch(CLEAN, epoch=self._recorder.epoch))
        self._recorder.event(
            {"kind": "rearm", "by": by, "after": verdict.value if verdict else None, "t_ns": self._clock.now_ns()}
        )
