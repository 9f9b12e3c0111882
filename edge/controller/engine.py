"""The engine: the one place that writes to the instrument while its output may be on.

Hot path: a reply's bytes come in where the poll returns; the reading is parsed, observed by the guard and, if there
is a verdict, cut, before anything is recorded or scheduled. What is not urgent is left to :meth:`Engine.tick`, every
20 ms. Times are CLOCK_MONOTONIC in ns.
"""

from __future__ import annotations

import asyncio
import collections
from typing import Any, Final

from edge.clock import Clock, TimerHandle
from edge.config import Config
from edge.controller import diagnosis, interview
from edge.controller.arming import setup_for
from edge.controller.cutting import CutRecord, Cutter
from edge.controller.enable_line import Unwired
from edge.controller.exchanges import CHECK_EVERY, Exchanges
from edge.controller.front_absent import NoFrontEnd
from edge.controller.front_cut import FrontCut
from edge.controller.host_watch import HostWatch
from edge.controller.mirror import CLEAN, DIRTY, Latch, Mirror
from edge.controller.page import Page
from edge.controller.recorder import Recorder
from edge.controller.report import Report
from edge.controller.stage_watch import StageWatch
from edge.controller.trip_latch import TripLatch
from edge.errors import (
    BusyError,
    InstrumentError,
    InterlockError,
    LinkLostError,
    PlanRefusedError,
    ReplyTimeoutError,
    WrongInstrumentError,
)
from edge.experiments.steps import Outcome
from edge.guard.guard import Guard
from edge.guard.states import Cause, State
from edge.guard.verdicts import Verdict
from edge.instruments.link import Link
from edge.instruments.smu import CheckResult, Learning, Smu, SmuIdentity
from edge.samples import Flag, Phase, Sample
from firmware_proto.keithley2400 import commands

TICK_NS: Final = 20_000_000
RESYNC_S: Final = 0.1
"""Longer than any reply that may still be on its way; an abort may swallow what follows it within 20 ms."""
RING_FULL_AT: Final = 0.95
IDLE_NS: Final = 150_000_000
"""Longest time without a question while energised, beyond one reading."""
MAX_STEP_SAMPLES: Final = 65_536


class Engine:
    """Drives one SMU under the guard. All methods belong to the loop's thread."""

    def __init__(
        self,
        config: Config,
        smu: Smu,
        guard: Guard,
        recorder: Recorder,
        page: Page,
        mirror: Mirror,
        clock: Clock,
        host: HostWatch | None = None,
        enable: Unwired | None = None,
        front: NoFrontEnd | None = None,
    ) -> None:
        """Take over the link's callbacks; sends nothing. ``host`` is None where there is no keeper to watch."""
        self.stage: StageWatch | None = None
        """The rig's stage; None where there is none."""
        self.config = config
        self.smu = smu
        self.guard = guard
        self.recorder = recorder
        self.identity: SmuIdentity | None = None
        self.report = Report()
        self._abort = commands.ABORT[config.smu.abort]
        self._page = page
        self._host = host
        self._armed_v = 0.0
        self._tau_cut_s = 0.0
        self.was_dirty = False
        """The last life ended with the output on, or nobody knows."""
        self._mirror = mirror
        self._clock = clock
        self._link: Link = smu.link
        self._link.on_stray = self._on_stray
        self._link.on_lost = self._on_lost
        self._link.on_outstanding = page.set_query_outstanding
        self._line_lock = asyncio.Lock()
        self._unsure = False
        """The last set-up was not finished: a late reply may still come."""
        self.enable = enable or Unwired()
        self.front = front or NoFrontEnd()
        self.front.report = self.report
        beside = tuple(one for one in (self.front.actuator, self.enable.actuator) if one is not None)
        self._cutter = Cutter(
            *(config, smu, guard, recorder, page, mirror, clock, self.report, self._on_off), beside, self.front
        )
        self._beside = self._front_cut(smu.link)
        self._latch = TripLatch(guard, self._cutter, recorder, self.report, clock)
        self._step: asyncio.Future[Outcome] | None = None
        self._samples: collections.deque[Sample] = collections.deque(maxlen=MAX_STEP_SAMPLES)
        self._levels: tuple[float, ...] = ()
        self._message = b""
        self._pause: TimerHandle | None = None
        self._at = 0
        self._dwell_ns = 0
        self._level_sent_ns = 0
        self._since_check = 0
        self._check = 0
        self._bias_v = 0.0
        self._times = Exchanges(smu)
        self._off_waiters: list[asyncio.Future[None]] = []

    def _front_cut(self, link: Link) -> FrontCut:
        """Return what cuts behind the front end, told by it from now on."""
        cut = FrontCut(
            *(self.guard, link, self._cutter, self.report, self._clock),
            at_level=lambda: self._step is not None and 0 <= self._at < len(self._levels),
            plan_cut=self._plan_cut,
        )
        self.front.on_trip, self.front.on_fault = cut.on_trip, cut.on_fault
        return cut

    # -- output off: identify, arm, watch

    @property
    def state(self) -> State:
        """The guard's state."""
        return self.guard.state

    async def start(self, *, must_have_mirror: bool) -> None:
        """Find out what is behind the port and leave UNKNOWN: SAFE if the output is verified off, else cut.

        A dirty mirror, or none where ``must_have_mirror``, latches TRIPPED(RESTART). Starting never energises.
        Raises WrongInstrumentError, ReplyTimeoutError or InstrumentError when that cannot be done.
        """
        latch = self._mirror.read()
        self.was_dirty = latch is not None and latch.state == DIRTY
        async with self._line_lock:
            await self._resync()
            await self.verify_identity()
            if await self.smu.output_on():
                # Somebody left it on, or our last life did: nothing supervises it, so it goes off.
                self.report.notice("output found on at start; cutting")
                self._cutter.protective(Verdict.RESTART, self._clock.now_ns())
        if self.state is State.CUTTING:
            await self.until_off()
            return
        self.guard.machine.move(Cause.VERIFIED_OFF)
        if latch is None and not must_have_mirror:
            self._cutter.mirror(Latch(CLEAN, epoch=self.recorder.epoch))
        elif latch is None or latch.state != CLEAN:
            self.latch_restart(latch)

    def latch_restart(self, latch: Latch | None) -> None:
        """Go TRIPPED(RESTART), and leave an event that says what is known of the last life."""
        self._latch.restart(latch)

    async def _resync(self) -> None:
        """Make sure that the next answer belongs to the next question: end half a message, drop late replies.

        An abort changes no output (manual 14-14).
        """
        self._link.write(self._abort + b"\n")
        await self._link.settle(RESYNC_S)

    async def verify_identity(self) -> None:
        """Compare the serial number behind the port with the configured one; raise WrongInstrumentError."""
        identity = await self.smu.identify()
        wanted = self.config.smu.serial_number
        if identity.serial_number != wanted:
            raise WrongInstrumentError(
                f"{self._link.transport.name}: serial number {identity.serial_number!r} ({identity.model}) answers, "
                f"smu.serial_number is {wanted!r}; check the cable, or correct the configuration if the unit was "
                "exchanged"
            )
        self.identity = identity

    async def arm(self, phase: Phase, v_max_v: float, range_a: float | None = None) -> None:
        """SAFE -> ARMED: identity compared, limits and ranges set and read back. Output off throughout.

        ``v_max_v`` (V, at most ``limits.voltage_v``) bounds every level until the next arming. Raises BusyError in any
        other state, PlanRefusedError above the ceiling, and the instrument's errors; then the state stays SAFE.
        """
        self._require(State.SAFE)
        spec, setup = setup_for(self.config, self.guard, phase, v_max_v, range_a)
        async with self._line_lock:
            self._require(State.SAFE)
            if self._unsure:
                await self._resync()
            self._unsure = True
            self.report.trip_detail = ""
            await self.verify_identity()
            await self.smu.configure(setup)
            await self.enable.arm()
            await self.front.prepare(spec)
            self._unsure = False
            self.report.smu_notes = self.smu.notes
            self._require(State.SAFE)
            self._times.plan()
            self._armed_v = v_max_v
            # Worked out here: behind a trip there is no time for it.
            self._tau_cut_s = self._times.tau_cut_s
            self.guard.arm(spec, self._tau_cut_s)

    async def interview(self, times: int) -> dict[str, Any]:
        """Time the instrument's answers and its abort, SAFE and nobody else asking; see :mod:`.interview`."""
        self._require(State.SAFE)
        async with self._line_lock:
            self._require(State.SAFE)
            self._unsure = True
            return await interview.hold(self._link, self._abort, times, self._clock)

    def release_panel(self) -> None:
        """Unlock panel and display; only with the output verified off and nobody asking."""
        if self.state in (State.SAFE, State.TRIPPED) and self._link.lost is None and not self._link.outstanding:
            self._link.write(self.smu.release_message)

    @property
    def at_rest(self) -> bool:
        """SAFE, nobody asked anything, nothing half done: what a replay can begin from."""
        return (
            self.state is State.SAFE
            and not self._link.outstanding
            and not self._line_lock.locked()
            and self._link.lost is None
            and self.identity is not None
        )

    def memory(self) -> dict[str, Any]:
        """Return what an engine at rest knows that its start-up does not lead to; plain values."""
        front = self.front.memory()
        return {
            "unsure": self._unsure,
            "smu": self.smu.memory(),
            "first_tag": self._cutter.first_tag,
            "alarms": dict(self.report.alarms),
            "cuts": [self.report.planned_cuts, self.report.protective_cuts],
            "enable": self.enable.memory(),
            **({"front": front} if front else {}),
        }

    def remember(self, memory: dict[str, Any]) -> None:
        """Take over what :meth:`memory` gave; at rest only."""
        self._unsure = bool(memory["unsure"])
        self.smu.remember(memory["smu"])
        self._cutter.first_tag = int(memory["first_tag"])
        self.report.alarms = dict(memory["alarms"])
        self.report.planned_cuts, self.report.protective_cuts = memory["cuts"]
        self.enable.remember(memory.get("enable", {}))
        if "front" in memory:
            self.front.remember(memory["front"])

    def disarm(self) -> None:
        """ARMED -> SAFE; nothing was energised."""
        if self.state is State.ARMED:
            self.guard.machine.move(Cause.DISARM)
            self.front.disarm()

    async def watch(self) -> None:
        """Look once whether the output was switched on behind our back; for a 1 s poll while SAFE or TRIPPED."""
        if self._line_lock.locked() or self.state not in (State.SAFE, State.TRIPPED) or self._link.lost is not None:
            return
        async with self._line_lock:
            try:
                on = await self.smu.output_on()
            except LinkLostError:
                return
            except (ReplyTimeoutError, InstrumentError) as error:
                self.report.raise_alarm("NO_ANSWER", str(error))
                # If its reply still comes, it is late for this question and must not answer the next one.
                await self._resync()
                return
            self.report.clear_alarm("NO_ANSWER")
            waited_for = self.state is State.SAFE and await self.enable.key_pressed(on=on)
            if on and not waited_for and self.state in (State.SAFE, State.TRIPPED):
                self._cutter.protective(Verdict.OUTPUT_CHANGED, self._clock.now_ns())

    async def diagnose(self) -> None:
        """Ask the instrument, its output verified off, why it had to be cut; correct and record what it tells."""
        verdict, cut = self.report.trip_verdict, self.report.last_event
        if self.state is not State.TRIPPED or verdict not in diagnosis.DOUBTFUL or self._link.lost is not None:
            return
        async with self._line_lock:
            try:
                await self._resync()
                told = await self.smu.aftermath()
                self.report.trip_detail = self.enable.after_trip(told) or self.report.trip_detail
                found = diagnosis.judge(verdict, told)
            except (ReplyTimeoutError, InstrumentError, LinkLostError) as error:
                self.report.notice("no diagnosis", error=str(error))
                self._unsure = True
                return
        if found is None or self.report.trip_verdict is not verdict:
            return
        self._latch.correct(found, verdict, None if cut is None else cut.get("decided_ns"))

    def rearm(self, *, by: str) -> None:
        """TRIPPED -> SAFE, by a person. Raises BusyError in any other state."""
        self._require(State.TRIPPED)
        self._latch.release(by=by)

    def _require(self, state: State) -> None:
        if self.state is not state:
            reason = (
                f"({self.report.trip_verdict.value})"
                if self.report.trip_verdict and self.state is State.TRIPPED
                else ""
            )
            hint = "; look at the bench, then `tipguard rearm`" if self.state is State.TRIPPED else ""
            raise BusyError(f"state is {self.state.value}{reason}, this needs {state.value}{hint}")

    # -- energised: one question at a time, each answer observed before the next goes out

    async def energise(self) -> Outcome:
        """ARMED -> ENERGISED at 0 V."""
        self._require(State.ARMED)
        # Its switch closes first; what stands below is then looked at with nothing left to wait for.
        await self.front.arm()
        self._require(State.ARMED)
        fault = self._host.fault(self._clock.now_ns()) if self._host is not None else None
        if fault is not None:
            raise BusyError(f"{fault}; nothing was energised. Restart the controller")
        if self.stage is not None and (refused := self.stage.output_on_refusals(self._clock.now_ns())):
            raise InterlockError(f"{'; '.join(one.value for one in refused)}: the output stays off")
        # Page and mirror first: from the command's first byte on the output may be on.
        self._mirror.write(Latch(DIRTY, epoch=self.recorder.epoch))
        self._page.energised = True
        self.guard.machine.move(Cause.OUTPUT_ON_SENT)
        self._bias_v = 0.0
        self._levels = ()
        self._beside.pending = None
        self._since_check = self._check = 0
        self._step = asyncio.get_running_loop().create_future()
        message = self.smu.output_on_message
        self._link.ask(message, self._on_output_on, self._clock.now_ns() + self._times.deadline_ns(message))
        return await self._step

    def _on_output_on(self, line: bytes, t_ns: int) -> None:
        if line == b"1":
            self._finish(Outcome())
        else:
            self._trip(Verdict.OUTPUT_CHANGED if line == b"0" else Verdict.UNPARSABLE, t_ns)

    async def ramp(self, levels_v: tuple[float, ...], dwell_s: float, *, hold: bool = False) -> Outcome:
        """Set each level for ``dwell_s``, reading at least once at each; returns at the end or after a verified cut.

        ``hold``: a planned cut stays at 0 V with the output on, if it is seen without current there. Raises
        PlanRefusedError for a level above what was armed: the ceiling is held here, whatever a plan says of itself.
        """
        self._require(State.ENERGISED)
        bound_v = min(self._armed_v, self.config.limits.voltage_v) + 1e-9
        for level in levels_v:
            # Written so that a NaN is refused too.
            if not abs(level) <= bound_v:
                raise PlanRefusedError(
                    f"the plan asks for {level!r} V, it armed for {self._armed_v:g} V", reason="undeclared_bias"
                )
        self._cutter.hold = hold
        self._levels = levels_v
        # Messages are made one ahead, never all at once: 100 ms of work here would look like a hang to the keeper.
        self._message = self._level_message(0)
        self._dwell_ns = int(dwell_s * 1e9)
        self._at = -1
        self._samples.clear()
        self._step = asyncio.get_running_loop().create_future()
        self._next_level(self._clock.now_ns())
        return await self._step

    def _level_message(self, at: int) -> bytes:
        if at >= len(self._levels):
            return b""
        message = self.smu.level_message(self._levels[at])
        if len(message) > commands.MAX_ENERGISED_BYTES:
            raise InstrumentError(f"a message of {len(message)} bytes is too long while energised: {message!r}")
        return message

    def _next_level(self, now_ns: int) -> None:
        self._at += 1
        message = self._message
        if not message:
            self._finish(Outcome(samples=tuple(self._samples)))
            return
        self._bias_v = self.smu.programmed_v(self._levels[self._at])
        self._level_sent_ns = now_ns
        self._link.ask(message, self._on_reading, now_ns + self._times.level_deadline_ns)
        self._message = self._level_message(self._at + 1)

    def _on_reading(self, line: bytes, t_ns: int) -> None:
        sample = self.smu.sample(line, t_ns, self._bias_v, self.guard.phase)
        verdict = self.guard.observe(sample)
        if verdict is not None:
            if verdict is Verdict.UNPARSABLE and self._learns(line):
                return
            self._trip(verdict, t_ns)
        self.recorder.sample(sample)
        self._samples.append(sample)
        self.report.last_sample = sample
        if verdict is None:
            self._go_on()

    def _learns(self, line: bytes) -> bool:
        """Let the driver learn, at 0 V, how this unit writes its readings; False: cut.

        Only before any reading of this life was understood. Where the first level is not 0 V, it goes back to 0 V at
        once, as in a cut, and the other readings are taken there. What they say counts for nothing: it is neither
        recorded nor judged. Once the form is known the ramp begins anew.
        """
        last = self.report.last_sample
        if self._samples or (last is not None and not last.flags & Flag.UNPARSABLE):
            return False
        learnt = self.smu.learn(line)
        if learnt is Learning.NO:
            self.report.trip_detail = self.smu.why_not
            return False
        self.report.smu_notes = self.smu.notes
        now_ns = self._clock.now_ns()
        if learnt is Learning.KNOWN:
            self._at = -1
            self._message = self._level_message(0)
            self._next_level(now_ns)
            return True
        self._bias_v = 0.0
        self._link.ask(self.smu.level_message(0.0), self._on_trial, now_ns + self._times.level_deadline_ns)
        return True

    def _on_trial(self, line: bytes, t_ns: int) -> None:
        if not self._learns(line):
            self._trip(Verdict.UNPARSABLE, t_ns)

    def _go_on(self) -> None:
        if self.state is not State.ENERGISED:
            return
        if self._beside.pending is not None:
            self._beside.fire()
            return
        now_ns = self._clock.now_ns()
        self._since_check += 1
        if self._since_check >= CHECK_EVERY:
            self._since_check = 0
            asked = self.smu.check_messages[self._check]
            self._link.ask(asked, self._on_check, now_ns + self._times.check_deadline_ns)
            return
        left_ns = self._level_sent_ns + self._dwell_ns - now_ns
        if left_ns <= 0:
            self._next_level(now_ns)
        elif left_ns >= self._times.read_ns:
            self._link.ask(self.smu.read_message, self._on_reading, now_ns + self._times.read_deadline_ns)
        else:
            self._pause = self._clock.call_at(now_ns + left_ns, self._resume)

    def _resume(self) -> None:
        self._pause = None
        if self.state is State.ENERGISED:
            self._next_level(self._clock.now_ns())

    def _on_check(self, line: bytes, t_ns: int) -> None:
        asked = self.smu.check_messages
        result = self.smu.judge_check(line, asked[self._check])
        if result is CheckResult.UNCHANGED:
            self._check = (self._check + 1) % len(asked)
            self._since_check = -1
            self._go_on()
        elif result is CheckResult.LIMIT_CHANGED:
            self._trip(Verdict.LIMIT_CHANGED, t_ns)
        else:
            self._trip(Verdict.UNPARSABLE, t_ns)

    def _finish(self, outcome: Outcome) -> None:
        # A pause that a cut interrupted must not step the next ramp.
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        step, self._step = self._step, None
        if step is not None and not step.done():
            step.set_result(outcome)

    # -- the cut

    async def end(self) -> Outcome:
        """End what is energised as planned: 0 V, output off, verified."""
        self._require(State.ENERGISED)
        self._step = asyncio.get_running_loop().create_future()
        self._cutter.normal_end()
        return await self._step

    def _trip(self, verdict: Verdict, reading_ns: int) -> None:
        """Cut now. Called from the hot path: nothing here waits, allocates much, or logs."""
        if self.guard.planned(verdict):
            self._cutter.planned(
                verdict, reading_ns, level_s=self._tau_cut_s, read_deadline_ns=self._times.read_deadline_ns
            )
        else:
            self._cutter.protective(verdict, reading_ns)

    def _plan_cut(self, verdict: Verdict, reading_ns: int) -> None:
        level_s, read_deadline_ns = self._tau_cut_s, self._times.read_deadline_ns
        self._cutter.planned(verdict, reading_ns, level_s=level_s, read_deadline_ns=read_deadline_ns)

    def trip(self, verdict: Verdict) -> bool:
        """Cut for a reason from outside (operator, shutdown). False when nothing is energised."""
        if self.state is State.ARMED:
            self.disarm()
        if self.state is not State.ENERGISED:
            return False
        self._trip(verdict, self._clock.now_ns())
        return True

    def _on_stray(self, line: bytes, t_ns: int) -> None:
        if self._cutter.awaits_reply:
            self._cutter.feed(line, t_ns)
        elif self.state is State.ENERGISED:
            # A line nobody asked for: from here on, which answer belongs to which question is not known.
            self._cutter.protective(Verdict.UNPARSABLE, t_ns)
        else:
            self._link.strays += 1

    def _on_lost(self, error: LinkLostError) -> None:
        self.report.notice("link lost", error=str(error))
        if self.state in (State.ENERGISED, State.UNKNOWN):
            self._cutter.protective(Verdict.LINK_LOST, self._clock.now_ns())
        self.report.raise_alarm(Verdict.LINK_LOST.value, str(error))

    def _on_off(self, record: CutRecord, event: dict[str, Any] | None) -> None:
        if record.rounds > 1:
            # The rounds that were not needed still get their replies, which must not answer the next question.
            self._unsure = True
        self.enable.after_cut(record)
        latency_s = None if record.verified_ns is None else (record.verified_ns - record.decided_ns) * 1e-9
        verdict = record.verdict.value if record.verdict else None
        self._finish(Outcome(verdict, tuple(self._samples), event, latency_s=latency_s, held=record.held))
        waiters, self._off_waiters = self._off_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    @property
    def lost(self) -> LinkLostError | None:
        """Why the link is gone for good, or None."""
        return self._link.lost

    def give_up(self) -> None:
        """Record and latch a cut that cannot be proven any more, the link being gone."""
        self._cutter.give_up(Verdict.LINK_LOST)

    async def until_off(self) -> None:
        """Wait until no cut is under way; for as long as it takes."""
        if self.state is State.CUTTING:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._off_waiters.append(waiter)
            await waiter

    # -- every 20 ms

    def tick(self) -> None:
        """Deadlines, cut rounds, frame closing, heartbeat. Called every 20 ms by the control task."""
        now_ns = self._clock.now_ns()
        state = self.state
        if state is State.ENERGISED:
            if self._link.outstanding and now_ns > self._link.deadline_ns:
                if not self._samples and self.report.smu_notes:
                    # What this unit does not know may well be why.
                    self.report.trip_detail = f"no first reading in time; {'; '.join(self.report.smu_notes)}"
                self._cutter.protective(Verdict.STALE, now_ns)
            elif not self._link.outstanding and now_ns > self._link.deadline_ns + self._times.read_ns + IDLE_NS:
                # Nothing leads here; if anything ever does, a level must not stand there unread.
                self._cutter.protective(Verdict.STALE, now_ns)
            elif self.recorder.ring_used >= RING_FULL_AT:
                self._cutter.protective(Verdict.RING_FULL, now_ns)
            elif self._host is not None and (fault := self._host.fault(now_ns)) is not None:
                self._cutter.protective(Verdict.SHUTDOWN, now_ns)
                self.report.raise_alarm("HOST", fault)
            elif self.stage is not None and (found := self.stage.fault(now_ns)) is not None:
                verdict, reasons = found
                self.guard.context = {**self.guard.context, "stage": [reason.value for reason in reasons]}
                self._cutter.protective(verdict, now_ns)
                self.report.notice("stage fault", reasons="; ".join(reason.value for reason in reasons))
        elif state is State.CUTTING:
            self._cutter.tick(now_ns)
        self.front.tick(now_ns, well=not self.guard.machine.protective)
        self.recorder.tick(now_ns)
        self._page.stamp(now_ns)
