"""A scenario on the bench in memory: the controller as shipped, under a virtual clock, watched every millisecond."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgpack

from edge.controller.plans import make_plan
from edge.errors import TipguardError
from edge.guard.states import State
from edge.ring import Kind, unpack_sample
from hil.bench_rig import EmulatedRig, RigOptions
from hil.devices.keithley2400 import Keithley2400
from hil.errors import BenchFaultError
from hil.faults.injector import Injector
from hil.frontend.lockstep import LockstepFrontend
from hil.map_bench import FIELD, map_config
from hil.rig import VirtualRig, config_for
from hil.scenarios.evidence import Attempt, Evidence, ListeningWire, Moment
from hil.scenarios.spec import Scenario
from hil.twin.circuit import Circuit
from hil.twin.spec import full_site, parse_load, parse_site
from hil.twin.truth import TruthRecord
from hil.virtual import VirtualClock, run_virtual

LOOK_NS: Final = 1_000_000
"""Between two looks at the rig."""
DRAIN_EVERY: Final = 100
RUN_LIMIT_S: Final = {"smu": 60.0, "map": 900.0}
"""Virtual time a run may take before the bench looks no longer; it then counts as still running."""
SETTLE_S: Final = 5.0
"""Time for a cut that is still under way when the run has ended, and for what a rig at rest does by itself."""
DEFAULT_LOAD: Final = "ohmic:1e6"
MAX_MOMENTS: Final = 400_000


def gather(scenario: Scenario, directory: Path) -> Evidence:
    """Run a scenario of the benches "smu" and "map" in ``directory``, which must be empty; return the evidence."""
    seen = Evidence()

    async def main(clock: VirtualClock) -> None:
        injector = Injector(scenario.plan)
        opened = _map if scenario.rig.bench == "map" else _smu
        async with opened(scenario, clock, directory, injector) as bench:
            await _Watched(scenario, bench, injector, clock, seen).live()

    run_virtual(main)
    return seen


class _Bench:
    """What the two virtual benches have in common for a scenario."""

    def __init__(self, rig: VirtualRig, truth: TruthRecord, emulated: EmulatedRig | None) -> None:
        self.rig = rig
        self.truth = truth
        self.emulated = emulated


@contextlib.asynccontextmanager
async def _smu(scenario: Scenario, clock: VirtualClock, directory: Path, injector: Injector) -> AsyncIterator[_Bench]:
    rig = scenario.rig
    truth = TruthRecord()
    if rig.site is None:
        spec: Any = parse_load(rig.load or DEFAULT_LOAD)
    else:
        spec = parse_site(rig.site)
        if rig.twin == "full":
            spec = full_site(spec, cable_f=Circuit().cable_f, transients=False, fault=None)
    load = spec.build(series_ohm=rig.series_ohm, seed=scenario.seed, truth=truth)
    device = Keithley2400(load, seed=scenario.seed, **rig.device)
    sections: dict[str, Any] = rig.config
    if rig.frontend:
        sections = {"frontend": {}, **sections}
    config = config_for(series_ohm=rig.series_ohm, **sections)
    # The boot nonce is drawn from the seed, and never 0.
    frontend = LockstepFrontend(boot_nonce=2 * scenario.seed + 1) if rig.frontend else None
    async with VirtualRig.running(
        clock,
        load,
        directory,
        config=config,
        baud=rig.baud,
        seed=scenario.seed,
        device=device,
        injector=injector,
        frontend=frontend,
    ) as virtual:
        yield _Bench(virtual, truth, None)


@contextlib.asynccontextmanager
async def _map(scenario: Scenario, clock: VirtualClock, directory: Path, injector: Injector) -> AsyncIterator[_Bench]:
    rig = scenario.rig
    config = map_config(**{**rig.config, "rig": {"series_resistor_ohm": rig.series_ohm}})
    links = {"smu_link": Path("smu"), "stage_link": Path("stage")}
    options = {"series_ohm": rig.series_ohm, "seed": scenario.seed, **links, **rig.options}
    emulated = EmulatedRig(RigOptions(**options))
    async with VirtualRig.running(
        clock,
        emulated.tip,
        directory,
        config=config,
        baud=rig.baud,
        seed=scenario.seed,
        device=emulated.smu,
        stage=emulated.stage,
        injector=injector,
    ) as virtual:
        tip = virtual.worker.tip
        while tip is not None and not tip.ready:
            await clock.sleep_until(clock.now_ns() + LOOK_NS)
        yield _Bench(virtual, emulated.truth, emulated)


class _Watched:
    """One scenario under way."""

    def __init__(
        self, scenario: Scenario, bench: _Bench, injector: Injector, clock: VirtualClock, seen: Evidence
    ) -> None:
        self._scenario = scenario
        self._bench = bench
        self._rig = bench.rig
        self._engine = bench.rig.worker.engine
        self._runner = bench.rig.worker.runner
        self._injector = injector
        self._clock = clock
        self._seen = seen
        self._collecting = True
        device = bench.rig.device
        volts = lambda: device.settings.volt_source.level  # noqa: E731 - one expression, used once
        device.attach(ListeningWire(device.wire, volts, seen.sent))

    async def live(self) -> None:
        """Arm the faults, run, watch, try the next run."""
        seen = self._seen
        looking = asyncio.get_running_loop().create_task(self._look(), name="looking")
        try:
            seen.armed_ns = self._clock.now_ns()
            self._injector.arm(seen.armed_ns)
            await self._first_run()
            seen.run_ended_ns = self._clock.now_ns()
            await self._settled()
            self._drain()
            seen.watched_until_ns = self._clock.now_ns()
            seen.state = self._engine.state.value
            self._collecting = False
            await self._later_runs()
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
        self._rig.device.advance(self._clock.now_ns())
        seen.output_off_at_end = not self._rig.device.output_on
        seen.truth = list(self._bench.truth.entries)
        seen.applied = list(self._injector.applied)
        seen.missed = self._injector.missed()
        seen.passed = [one for one in self._injector.trace if one.t_ns <= seen.watched_until_ns]

    async def _first_run(self) -> None:
        seen, run = self._seen, self._scenario.run
        if run.plan == "none":
            await self._clock.sleep_until(self._clock.now_ns() + int(run.rest_s * 1e9))
            return
        try:
            self._start()
        except TipguardError as error:
            seen.status, seen.reason = "refused", str(error)
            return
        ended = await self._ended()
        seen.status, seen.reason = str(ended["status"]), str(ended["reason"] or "")

    def _start(self) -> None:
        run = self._scenario.run
        parameters = dict(run.parameters)
        if run.points:
            emulated = self._bench.emulated
            if emulated is None:
                raise BenchFaultError('run.points: only the bench "map" has points')
            found = emulated.tip.sample.boundary_points(run.points, FIELD, seed=self._scenario.seed)
            parameters["points"] = [[x, y, "gb", f"B{n + 1}"] for n, (x, y) in enumerate(found)]
        self._runner.start(make_plan(run.plan, parameters), by="scenario")

    async def _ended(self) -> dict[str, Any]:
        waiting = asyncio.get_running_loop().create_task(self._runner.wait())
        limit_ns = self._clock.now_ns() + int(RUN_LIMIT_S[self._scenario.rig.bench] * 1e9)
        while not waiting.done():
            if self._clock.now_ns() > limit_ns:
                waiting.cancel()
                return {"status": "running", "reason": self._engine.report.alarm}
            await self._clock.sleep_until(self._clock.now_ns() + LOOK_NS)
        await waiting
        return self._runner.run or {"status": "none", "reason": "no run was made"}

    async def _settled(self) -> None:
        limit_ns = self._clock.now_ns() + int(SETTLE_S * 1e9)
        while self._engine.state is State.CUTTING and self._clock.now_ns() < limit_ns:
            await self._clock.sleep_until(self._clock.now_ns() + LOOK_NS)
        # The 1 s poll has looked at an output that somebody switched on.
        await self._clock.sleep_until(self._clock.now_ns() + 100 * LOOK_NS)

    async def _later_runs(self) -> None:
        seen = self._seen
        seen.next = await self._attempt()
        if self._engine.state is State.TRIPPED and seen.next.how == "refused":
            self._engine.rearm(by="scenario")
            seen.after_rearm = await self._attempt()

    async def _attempt(self) -> Attempt:
        energised = self._engine.report.planned_cuts + self._engine.report.protective_cuts
        try:
            self._start_next()
        except TipguardError as error:
            return Attempt("refused", str(error))
        ended = await self._ended()
        status, reason = str(ended["status"]), str(ended["reason"] or "")
        cuts = self._engine.report.planned_cuts + self._engine.report.protective_cuts - energised
        if status == "failed" and not cuts:
            return Attempt("refused", reason)
        return Attempt("clean" if status == "completed" else status, reason)

    def _start_next(self) -> None:
        if self._scenario.run.plan == "none":
            self._runner.start(make_plan("iv", dict(REST_RUN)), by="scenario")
        else:
            self._start()

    async def _look(self) -> None:
        seen, rig = self._seen, self._rig
        count = 0
        while True:
            now_ns = self._clock.now_ns()
            if self._collecting and len(seen.moments) < MAX_MOMENTS:
                rig.load.advance(now_ns)
                moment = Moment(
                    now_ns,
                    rig.load.v_tip,
                    rig.load.terminal_current_a,
                    rig.device.output_on,
                    self._engine.state.value,
                )
                # Only turns are worth keeping: what is unchanged between two looks is a straight line.
                if (
                    len(seen.moments) < 2
                    or moment[1:] != seen.moments[-1][1:]
                    or seen.moments[-1][1:] != seen.moments[-2][1:]
                ):
                    seen.moments.append(moment)
                else:
                    seen.moments[-1] = moment
                seen.alarms |= self._engine.report.alarms
            count += 1
            if count % DRAIN_EVERY == 0:
                self._drain()
            await self._clock.sleep_until(now_ns + LOOK_NS)

    def _drain(self) -> None:
        seen = self._seen
        for record in self._rig.records():
            if not self._collecting:
                continue
            if record.kind == Kind.SAMPLE:
                seen.samples.append(unpack_sample(record.payload)[2])
            elif record.kind == Kind.EVENT:
                seen.events.append(msgpack.unpackb(record.payload))
        self._rig.reader.release()


REST_RUN: Final = {"to_v": -0.1, "step_v": 0.01, "dwell_s": 0.02, "back_scan": False}
"""The run that is tried after a rest."""
