"""Cuts at work: planned, protective, normal end; their rounds, their proof, their record.

The engine decides when; this decides which bytes go out and when the guard may believe that they worked. A planned
cut waits for the current to fall before the output goes off; what does not confirm in time becomes protective.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

from edge.clock import Clock
from edge.config import Config
from edge.controller.front_absent import NoFrontEnd
from edge.controller.mirror import CLEAN, TRIPPED, Latch, Mirror
from edge.controller.page import Page
from edge.controller.recorder import Recorder
from edge.controller.report import Report
from edge.guard.cut import Cut, cut_form
from edge.guard.guard import Guard
from edge.guard.states import Cause, State
from edge.guard.verdicts import Verdict
from edge.instruments.actuators import SERIAL, CutActuator, together
from edge.instruments.smu import Smu
from edge.samples import Phase
from firmware_proto.keithley2400 import commands

CUT_READINGS: Final = 3
"""Readings at 0 V that a planned cut takes at most before the output goes off."""
_PLANNED_OFF_S: Final = 0.030


@dataclasses.dataclass(slots=True)
class CutRecord:
    """What happened at a cut, for the event document. Times are CLOCK_MONOTONIC in ns."""

    verdict: Verdict | None
    """None for the normal end of a sweep."""
    planned: bool
    reading_ns: int
    decided_ns: int
    written_ns: int
    state_before: State
    run: int
    """Id of the run that was under way, 0 for none."""
    verified_ns: int | None = None
    rounds: int = 0
    escalated: bool = False
    held: bool = False
    """Verified at 0 V without current, the output still on."""


class Cutter:
    """Cuts for one engine. ``on_off`` is called when a cut was verified, with its record and its event's scalars."""

    def __init__(
        self,
        config: Config,
        smu: Smu,
        guard: Guard,
        recorder: Recorder,
        page: Page,
        mirror: Mirror,
        clock: Clock,
        report: Report,
        on_off: Callable[[CutRecord, dict[str, Any] | None], None],
        actuators: tuple[CutActuator, ...] = (),
        front: NoFrontEnd | None = None,
    ) -> None:
        """Prepare; sends nothing. ``actuators``: what a protective cut uses before the serial line, the fastest first.

        ``front``: the front end in series with the tip, which is told of every cut that was verified.
        """
        self._smu = smu
        self._link = smu.link
        self._guard = guard
        self._recorder = recorder
        self._page = page
        self._mirror = mirror
        self._clock = clock
        self._report = report
        self._on_off = on_off
        self._actuators = actuators
        self._pull = together(actuators)
        self._front = front or NoFrontEnd()
        self._form = cut_form(config.rig.kind)
        self._wants_zero = self._form.wants_zero
        self._abort = commands.ABORT[config.smu.abort]
        self._cut: Cut | None = None
        self._record: CutRecord | None = None
        # Drawn ahead: the first bytes of a cut wait for no system call but their own.
        self.first_tag = recorder.outside.draw("tag", 255)
        self.hold = False
        """A planned cut that is seen at 0 V without current stays there, the output on, until the plan goes on."""
        self._readings = 0
        self._deadline_ns = 0
        self._read_deadline_ns = 0

    @property
    def plans(self) -> bool:
        """There is a planned way down on this rig."""
        return self._wants_zero

    # -- beginnings

    def planned(self, verdict: Verdict, reading_ns: int, *, level_s: float, read_deadline_ns: int) -> None:
        """End a search that found what it looked for. Hot path: the first bytes go out before anything else.

        ``level_s``: p99 time of a level change. ``read_deadline_ns``: of one reading, from its question on.
        """
        if not self._wants_zero:
            # 0 V would short a charged cell: no planned way down, only the cut that fits the rig.
            self.protective(verdict, reading_ns)
            return
        decided_ns = self._clock.now_ns()
        self._link.write(commands.ZERO)
        written_ns = self._clock.now_ns()
        self._guard.tripped(verdict)
        self._guard.machine.move(Cause.PLANNED_CUT)
        self._record = CutRecord(verdict, True, reading_ns, decided_ns, written_ns, State.ENERGISED, self._recorder.run)
        self._readings = 0
        self._read_deadline_ns = read_deadline_ns
        readings_s = CUT_READINGS * self._smu.exchange_s(self._smu.read_message)
        self._deadline_ns = written_ns + int(2 * (level_s + readings_s + _PLANNED_OFF_S) * 1e9)
        self._ask(extra_ns=int(level_s * 1e9))

    def normal_end(self) -> None:
        """End a sweep that found nothing: the same proof, no event."""
        now_ns = self._clock.now_ns()
        self._guard.machine.move(Cause.NORMAL_END)
        self._record = CutRecord(None, True, now_ns, now_ns, now_ns, State.ENERGISED, self._recorder.run)
        self._begin_rounds()

    def protective(self, verdict: Verdict, reading_ns: int) -> None:
        """Take the bias away now, whatever is under way. Hot path."""
        decided_ns = self._clock.now_ns()
        if self._pull is not None:
            self._pull()
        before = self._guard.state
        cut = self._new_cut(query_outstanding=self._link.outstanding)
        self._link.forget()
        self._link.write(cut.next_round(decided_ns))
        written_ns = self._clock.now_ns()
        self._cut = cut
        under_way = self._record if before is State.CUTTING else None
        if under_way is None:
            # The keeper must know, also when the output was found on without us.
            self._page.energised = True
            self._guard.tripped(verdict)
            self._record = CutRecord(verdict, False, reading_ns, decided_ns, written_ns, before, self._recorder.run)
        else:
            # The cut under way keeps its first reason and times; it only got harder.
            under_way.planned = False
            under_way.escalated = True
            under_way.verdict = under_way.verdict or verdict
        self._guard.machine.move(Cause.PROTECTIVE_CUT)

    # -- a planned cut's readings

    def _ask(self, extra_ns: int = 0) -> None:
        deadline_ns = self._clock.now_ns() + self._read_deadline_ns + extra_ns
        self._link.ask(self._smu.read_message, self._on_reading, deadline_ns)

    def _on_reading(self, line: bytes, t_ns: int) -> None:
        sample = self._smu.sample(line, t_ns, 0.0, Phase.CUT)
        verdict = self._guard.observe_cut(sample)
        self._readings += 1
        # The level is said by the reading itself: one that was not taken at 0 V is none.
        quiet = abs(sample.current_a) <= self._guard.floor_a
        if verdict is not None:
            self.protective(verdict, t_ns)
        elif quiet and self.hold:
            self._held(t_ns)
        elif quiet or self._readings >= CUT_READINGS:
            self._begin_rounds()
        else:
            self._ask()
        self._recorder.sample(sample)
        self._report.last_sample = sample

    def _held(self, t_ns: int) -> None:
        record, self._record = self._record, None
        if record is None:
            return
        record.verified_ns = t_ns
        record.held = True
        event = self._write_event(record)
        self._guard.hold()
        self._on_off(record, event)

    # -- rounds and their proof

    def _begin_rounds(self) -> None:
        self._cut = self._new_cut(query_outstanding=False)
        self._link.write(self._cut.next_round(self._clock.now_ns()))

    def _new_cut(self, *, query_outstanding: bool) -> Cut:
        return Cut(
            self._form.lines,
            wants_zero=self._form.wants_zero,
            abort=self._abort,
            query_outstanding=query_outstanding,
            baud=self._link.transport.baud,
            first_tag=self.first_tag,
            reply_ns=int(self._smu.reply_extra_s * 1e9),
        )

    def give_up(self, verdict: Verdict) -> None:
        """The link is gone: record what was tried, latch, and leave the rest to the keeper."""
        record = self._record
        if record is not None:
            record.verdict = record.verdict or verdict
            self._write_event(record)
            self.mirror(Latch(TRIPPED, record.verdict.value, self._recorder.epoch))

    @property
    def awaits_reply(self) -> bool:
        """True while lines nobody asked for are to be given to :meth:`feed`."""
        return self._cut is not None

    def feed(self, line: bytes, t_ns: int) -> None:
        """Look at a line that may be the proof."""
        cut = self._cut
        if cut is not None and cut.feed(line, t_ns):
            self._verified(cut, t_ns)

    def tick(self, now_ns: int) -> None:
        """Repeat, escalate, raise the alarm; every 20 ms while CUTTING."""
        cut = self._cut
        if cut is None:
            # A planned cut still waits for its readings.
            late = self._link.outstanding and now_ns > self._link.deadline_ns
            if late or now_ns > self._deadline_ns:
                self.protective(Verdict.STALE, now_ns)
            return
        if now_ns < cut.due_ns:
            return
        if not self._guard.machine.protective:
            # The last round of a planned cut went unanswered: everything else at once, and latch.
            self.protective(Verdict.CUT_UNVERIFIED, now_ns)
            return
        self._link.write(cut.next_round(now_ns))
        name = Verdict.CUT_UNVERIFIED.value
        if cut.alarm and name not in self._report.alarms:
            self._report.raise_alarm(
                name,
                f"{cut.rounds - 1} cuts sent and none verified; switch the output off at the instrument, or pull its "
                "plug",
            )
            self._recorder.event({"kind": "alarm", "verdict": name, "rounds": cut.rounds, "t_ns": now_ns})

    def _verified(self, cut: Cut, t_ns: int) -> None:
        record = self._record
        self._cut = None
        self._record = None
        self.first_tag = self._recorder.outside.draw("tag", 255)
        if record is None:
            return
        record.verified_ns = t_ns
        record.rounds = cut.rounds
        protective = self._guard.machine.protective
        self._guard.machine.move(Cause.PROTECTIVE_CUT_VERIFIED if protective else Cause.CUT_VERIFIED)
        self._page.energised = False
        self._report.clear_alarm(Verdict.CUT_UNVERIFIED.value)
        reason = record.verdict or Verdict.CUT_UNVERIFIED
        if protective:
            self._report.trip_verdict = reason
        # The event first: it is what the run was for.
        event = self._write_event(record)
        for actuator in self._actuators:
            actuator.cut_over()
        # Only now: with its switch open the instrument would have read nothing, whatever its output does.
        self._front.after_cut()
        self.mirror(Latch(TRIPPED, reason.value, self._recorder.epoch) if protective else self._clean())
        self._on_off(record, event)

    def _clean(self) -> Latch:
        return Latch(CLEAN, epoch=self._recorder.epoch)

    def mirror(self, latch: Latch) -> None:
        """Write the latch's mirror; where that fails the dirty one stays, which is the safe side."""
        try:
            self._mirror.write(latch)
        except OSError as error:
            self._report.raise_alarm(
                "MIRROR", f"state.json cannot be written ({error.strerror}); look at the run directory"
            )
        else:
            self._report.clear_alarm("MIRROR")

    def _acted(self, record: CutRecord) -> list[dict[str, Any]]:
        """Return what took the bias away in a cut and when it was told to, fastest first."""
        beside = [{"name": one.name, "t_ns": one.cut_ns} for one in self._actuators if one.cut_ns]
        return [*beside, {"name": SERIAL, "t_ns": record.written_ns}]

    def _write_event(self, record: CutRecord) -> dict[str, Any] | None:
        """Write the event document of a cut and return its scalars; None for the normal end of a sweep."""
        if record.verdict is None:
            return None
        if record.planned:
            self._report.planned_cuts += 1
        else:
            self._report.protective_cuts += 1
        scalars: dict[str, Any] = {
            "kind": "cut",
            "run": f"{record.run:016x}" if record.run else "",
            "verdict": record.verdict.value,
            "planned": record.planned,
            "escalated": record.escalated,
            "state_before": record.state_before.value,
            "phase": self._guard.phase.name,
            "verified": record.verified_ns is not None,
            "rounds": record.rounds,
            "reading_ns": record.reading_ns,
            "decided_ns": record.decided_ns,
            "written_ns": record.written_ns,
            "verified_ns": record.verified_ns,
        }
        # Not among the scalars, which go into a run's results: who acted is told where the cut is.
        acted = self._acted(record)
        if record.held:
            scalars["held"] = True
        document = {**scalars, "run": record.run, "actuators": acted}
        if record.state_before is State.ENERGISED:
            event = self._guard.event(
                reading_ns=record.reading_ns,
                decided_ns=record.decided_ns,
                written_ns=record.written_ns,
                verified_ns=record.verified_ns,
            )
            if event is not None:
                seen = self._front.instead(onset_found=event.onset_found)
                scalars = {**event.summary(), **seen, **scalars}
                document["setting"] = {**event.to_doc(), **seen}
        if (told := self._front.in_event(record.decided_ns)) is not None:
            document["frontend"] = told
        self._recorder.close_frame()
        self._recorder.event(document)
        self._report.last_event = {**scalars, "actuators": acted}
        self._report.notice("cut", verdict=scalars["verdict"], planned=record.planned, verified=scalars["verified"])
        return scalars
