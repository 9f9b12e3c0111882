"""Runs plans: one at a time, step by step, under the engine; writes the run documents."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any, Final

from edge.clock import Clock
from edge.config import Config
from edge.controller.engine import Engine
from edge.controller.plans import recipe
from edge.controller.preflight import refuse_or_pass, refuse_or_pass_stage
from edge.controller.recorder import Recorder
from edge.controller.tip import Tip
from edge.errors import (
    BusyError,
    InstrumentError,
    InterlockError,
    LinkLostError,
    PlanRefusedError,
    TipguardError,
)
from edge.experiments.steps import (
    About,
    Approach,
    Arm,
    BrokenOffError,
    End,
    Energise,
    Interview,
    Lift,
    MoveTo,
    Outcome,
    Plan,
    Progress,
    Publish,
    Ramp,
    Step,
    StepFailedError,
    Touch,
)
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from edge.instruments.stage import TargetOutsideError
from edge.samples import Phase

RING_WAIT_AT: Final = 0.80
RING_ALARM_AT: Final = 0.50
RESERVED: Final = frozenset({"start", "progress", "stop"})
"""Kinds of run documents that are the runner's own."""
LEAST_DECLARED_V: Final = 0.1
"""Reads at up to 0.1 V belong to every plan, whatever its sweep."""


class _StoppedError(TipguardError):
    """A person asked the run to stop while nothing was energised."""


class Runner:
    """One plan at a time."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        recorder: Recorder,
        clock: Clock,
        *,
        tip: Tip | None = None,
        emulated: bool,
    ) -> None:
        """Idle; sends nothing."""
        self._tip = tip
        self._config = config
        self._engine = engine
        self._recorder = recorder
        self._clock = clock
        self._emulated = emulated
        self._task: asyncio.Task[None] | None = None
        self._stop_by: str | None = None
        self._rearms = 0
        self._plan_v_max = 0.0
        self._waiting_for_ring = False
        self.run: dict[str, Any] | None = None
        """The run under way or the last one: uid, plan, status, progress, results."""

    @property
    def busy(self) -> bool:
        """True while a plan runs."""
        return self._task is not None and not self._task.done()

    def start(self, plan: Plan, *, by: str) -> dict[str, Any]:
        """Check a plan and start it; returns ``{uid}``.

        Raises BusyError (a run under way, tripped, cutting) or PlanRefusedError; then nothing was sent.
        """
        if self.busy:
            raise BusyError(f"a run is under way ({(self.run or {}).get('uid')}); wait for it, or `tipguard stop`")
        if self._engine.state is not State.SAFE:
            verdict = self._engine.report.trip_verdict
            reason = f"({verdict.value})" if verdict else ""
            hint = "look at the bench, then `tipguard rearm`" if self._engine.state is State.TRIPPED else "wait"
            raise BusyError(f"state is {self._engine.state.value}{reason}; {hint}")
        refuse_or_pass(plan, self._config, emulated=self._emulated)
        refuse_or_pass_stage(plan, self._tip)
        if self._recorder.tape is not None:
            self._recorder.tape.verb("run", {**recipe(plan), "by": by})
        run_id = self._recorder.outside.new_id("run")
        self._recorder.close_frame()
        self._recorder.run = run_id
        self._stop_by = None
        self._rearms = 0
        # What preflight judged, not what the plan says of itself elsewhere.
        self._plan_v_max = plan.v_max_v
        self.run = {
            "uid": f"{run_id:016x}",
            "plan": plan.name,
            "by": by,
            "status": "running",
            "progress": 0.0,
            "text": "starting",
            "reason": None,
            "results": None,
            "parameters": plan.describe(),
        }
        self._engine.guard.context = {}
        identity = self._engine.identity
        stage = self._tip.identity if self._tip is not None else None
        self._recorder.run_doc(
            {
                "kind": "start",
                "uid": self.run["uid"],
                "plan": plan.name,
                "parameters": plan.describe(),
                "by": by,
                "t_ns": self._clock.now_ns(),
                "utc_ns": time.time_ns(),
                "rig": {
                    "id": self._config.rig.id,
                    "kind": self._config.rig.kind,
                    "series_resistor_ohm": self._config.rig.series_resistor_ohm,
                    "emulated": self._emulated,
                },
                "smu": None if identity is None else {"model": identity.model, "serial": identity.serial_number},
                "stage": None if stage is None else {"model": stage.model, "serial": stage.serial_number},
                "limits": self._config.limits.model_dump(),
            }
        )
        self._task = asyncio.get_running_loop().create_task(self._run(plan), name=f"run {plan.name}")
        return {"uid": self.run["uid"]}

    async def wait(self) -> None:
        """Return when no plan runs; re-raises what a broken plan raised."""
        if self._task is not None:
            await asyncio.shield(self._task)

    def stop(self, *, by: str, verdict: Verdict = Verdict.OPERATOR) -> bool:
        """Cut if energised, and end the run; False if there was nothing to stop. Never refused."""
        if self._recorder.tape is not None:
            self._recorder.tape.verb("stop", {"by": by, "verdict": verdict.value})
        return self.halt(by=by, verdict=verdict)

    def halt(self, *, by: str, verdict: Verdict) -> bool:
        """Stop as the worker's own end does, which is on the tape as a whole. See :meth:`stop`."""
        self._stop_by = by
        cut = self._engine.trip(verdict)
        if self._tip is not None and self.busy:
            self._tip.stop()
        return cut or self.busy

    async def _run(self, plan: Plan) -> None:
        run = self.run
        assert run is not None  # noqa: S101 - set by start(), which makes this task
        status = "failed"
        reason: str | None = "cancelled"
        results: dict[str, Any] | None = None
        try:
            status, reason, results = await self._steps(plan)
        except _StoppedError:
            status, reason = "stopped", f"stopped by {self._stop_by}"
        except BrokenOffError as error:
            status, reason, results = "failed", str(error), error.results
        except TipguardError as error:
            status, reason = "failed", str(error)
        except Exception as error:  # noqa: BLE001 - the boundary of a third party's plan: it ends, the rig goes on
            status, reason = "failed", f"the plan's own code failed: {error!r}"
        finally:
            # Whatever went wrong above: nothing stays energised behind a run, and its cut belongs to it.
            if self._engine.trip(Verdict.SHUTDOWN):
                await self._engine.until_off()
            if self._tip is not None and plan.needs_stage and status != "completed":
                # A tip that nobody looks after for the night is better off the sample.
                await self._tip.end()
            self._finish(run, status, reason, results)

    def _finish(self, run: dict[str, Any], status: str, reason: str | None, results: dict[str, Any] | None) -> None:
        run.update(status=status, reason=reason, results=results, text=reason or status)
        if status == "completed":
            run["progress"] = 1.0
        self._recorder.close_frame()
        self._recorder.run_doc(
            {
                "kind": "stop",
                "uid": run["uid"],
                "status": status,
                "reason": reason,
                "results": results,
                "samples_lost": self._recorder.samples_lost,
                "smu_notes": list(self._engine.report.smu_notes),
                "t_ns": self._clock.now_ns(),
                "utc_ns": time.time_ns(),
            }
        )
        self._recorder.run = 0

    async def _steps(self, plan: Plan) -> tuple[str, str | None, dict[str, Any] | None]:
        if self._tip is not None:
            # Also for a plan that moves nothing: an old error would keep the output off for good.
            await self._tip.begin()
        program = plan.program()
        outcome: Outcome | None = None
        failed: StepFailedError | None = None
        try:
            while True:
                try:
                    if failed is not None:
                        step = program.throw(failed)
                    else:
                        # A generator takes its first value as None.
                        step = next(program) if outcome is None else program.send(outcome)
                except StopIteration as end:
                    return "completed", None, end.value
                failed = None
                try:
                    outcome = await self._do(step)
                except StepFailedError as error:
                    failed = error
                # The output may have been found on behind our back, whatever became of the step.
                await self._engine.until_off()
                if self._engine.state is State.TRIPPED:
                    await self._engine.diagnose()
                    verdict = self._engine.report.trip_verdict
                    who = f" by {self._stop_by}" if self._stop_by else ""
                    detail = self._engine.report.trip_detail
                    return "tripped", f"{verdict.value if verdict else '?'}{who}{detail and f': {detail}'}", None
                if failed is None and outcome is not None and outcome.verdict is not None:
                    self._rearms += 1
        finally:
            program.close()

    async def _do(self, step: Step) -> Outcome:
        if self._stop_by is not None and self._engine.state in (State.SAFE, State.ARMED):
            self._engine.disarm()
            raise _StoppedError
        if self._stop_by is not None and self._engine.state is State.ENERGISED:
            # It came during a planned cut that was then held at 0 V: nothing follows but the end.
            await self._engine.end()
            raise _StoppedError
        match step:
            case Arm(phase, v_max_v, range_a):
                await self._arm(phase, v_max_v, range_a)
                return Outcome()
            case Energise():
                return await self._energise()
            case Ramp(levels_v, dwell_s, after_cut):
                self._check_rearms()
                return await self._engine.ramp(levels_v, dwell_s, hold=after_cut == "hold_0v")
            case End():
                return await self._engine.end()
            case Interview(times):
                identity = self._engine.identity
                figures = await self._engine.interview(times)
                who = {} if identity is None else dataclasses.asdict(identity)
                return Outcome(figures={**figures, **who})
            case Progress(done, text):
                self._progress(done, text)
                return Outcome()
            case About(context):
                self._engine.guard.context = dict(context)
                return Outcome()
            case Publish(kind, document):
                self._publish(kind, document)
                return Outcome()
            case Lift() | MoveTo() | Approach() | Touch():
                return await self._move(step)

    async def _energise(self) -> Outcome:
        """Look at the stage, then switch on over what stands still."""
        if self._tip is not None:
            try:
                await self._tip.hold()
            except InstrumentError as error:
                self._engine.disarm()
                raise StepFailedError(str(error)) from error
            if self._stop_by is not None:
                # The stop came while the stage was asked, and disarmed.
                raise _StoppedError
        try:
            return await self._engine.energise()
        except (BusyError, InterlockError) as error:
            if self._stop_by is not None and self._engine.state is State.SAFE:
                # The stop came while the front end closed its switch, and disarmed.
                raise _StoppedError from error
            if isinstance(error, BusyError):
                raise
            self._engine.disarm()
            raise StepFailedError(str(error)) from error

    async def _move(self, step: Lift | MoveTo | Approach | Touch) -> Outcome:
        tip = self._tip
        if tip is None:
            raise PlanRefusedError("the plan moves the tip, and this rig has no stage", reason="no_stage")
        try:
            match step:
                case Lift():
                    position_m = await tip.lift()
                    return Outcome(position_m=position_m, t_ns=self._clock.now_ns())
                case MoveTo(x_m, y_m):
                    position_m = await tip.move(x_m, y_m)
                    return Outcome(position_m=position_m, t_ns=self._clock.now_ns())
                case Approach():
                    contact_ns, position_m = await tip.approach()
                    return Outcome(position_m=position_m, t_ns=contact_ns, touching=True)
                case Touch():
                    return Outcome(touching=await tip.touching(), t_ns=self._clock.now_ns())
        except LinkLostError:
            # Nothing further can be moved: the run ends with this reason.
            raise
        except (InstrumentError, InterlockError, TargetOutsideError) as error:
            if self._stop_by is not None and self._engine.state is State.SAFE:
                # The plan must not take a person's stop for a fault of the stage.
                raise _StoppedError from error
            raise StepFailedError(str(error)) from error

    def _check_rearms(self) -> None:
        if self._rearms > self._config.limits.rearms_per_run:
            raise PlanRefusedError(
                f"{self._rearms} planned cuts in this run, limits.rearms_per_run = "
                f"{self._config.limits.rearms_per_run}; start another run",
                reason="rearms",
            )

    async def _arm(self, phase: Phase, v_max_v: float, range_a: float | None) -> None:
        self._check_rearms()
        declared_v = self._plan_v_max
        if not v_max_v <= max(declared_v, LEAST_DECLARED_V):
            raise PlanRefusedError(
                f"the plan arms for {v_max_v!r} V, it declared {declared_v:g} V", reason="undeclared_bias"
            )
        await self._wait_for_ring()
        await self._engine.arm(phase, v_max_v, range_a)

    async def _wait_for_ring(self) -> None:
        """Nothing is energised here: wait until the uplink has made room."""
        while self._recorder.ring_used >= RING_WAIT_AT:
            if not self._waiting_for_ring:
                self._waiting_for_ring = True
                self._progress(None, "waiting: the ring is 80 % full; is the uplink running and the broker there?")
            if self._stop_by is not None:
                raise _StoppedError
            await self._clock.sleep_until(self._clock.now_ns() + 100_000_000)
        self._waiting_for_ring = False

    def _publish(self, kind: str, document: dict[str, Any]) -> None:
        run = self.run
        if run is None or kind in RESERVED:
            raise PlanRefusedError(f"the plan publishes a document of kind {kind!r:.40}", reason="bad_plan")
        # Its own names first: what says where it belongs is not the plan's.
        self._recorder.run_doc({"t_ns": self._clock.now_ns(), **document, "kind": kind, "uid": run["uid"]})

    def _progress(self, done: float | None, text: str) -> None:
        run = self.run
        if run is None:
            return
        if done is not None:
            run["progress"] = done
        run["text"] = text
        self._recorder.run_doc(
            {
                "kind": "progress",
                "uid": run["uid"],
                "progress": run["progress"],
                "text": text,
                "t_ns": self._clock.now_ns(),
            }
        )
