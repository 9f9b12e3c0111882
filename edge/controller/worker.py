"""The worker process: one loop, one thread, one rig. Started by the keeper, never by hand.

No disk, no network, no thread pool; logs go out from the control task, never from the hot path.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib.metadata
import os
import select
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TextIO

import structlog

from edge import config as config_module
from edge import rundir
from edge.clock import Clock, LoopClock
from edge.config import Config, GpioConfig
from edge.controller import realtime
from edge.controller.busy_poll import BusyPoll
from edge.controller.control import ControlServer
from edge.controller.enable_line import EnableLine
from edge.controller.engine import TICK_NS, Engine
from edge.controller.flight import Flight, Pace, remember_tip
from edge.controller.front_absent import front_end, why_unrecorded
from edge.controller.heartbeat import Heartbeat
from edge.controller.host_watch import HostWatch
from edge.controller.mirror import Mirror
from edge.controller.page import Page
from edge.controller.plans import make_plan
from edge.controller.recorder import Outside, Recorder
from edge.controller.rehearsal import Rehearsal
from edge.controller.remote import Remote
from edge.controller.runner import RING_ALARM_AT, Runner
from edge.controller.tip import ALARM as STAGE_ALARM
from edge.controller.tip import AbsentStage, Tip
from edge.controller.worker_ports import Untouched, frontend_transport, stage_transport
from edge.errors import BusyError, ConfigError, LinkLostError, TipguardError, WrongInstrumentError
from edge.guard.guard import Guard
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from edge.instruments.actuators import GpioActuator
from edge.instruments.drivers import make_smu, make_stage
from edge.instruments.gpio_lines import GpioLines, SilentLines, open_lines
from edge.instruments.link import Link
from edge.instruments.port import HotSelector, SerialTransport
from edge.instruments.recording import RecordingLoop
from edge.instruments.smu import Smu
from edge.instruments.transport import Transport
from edge.logs import configure_logs
from edge.ring import RingWriter
from edge.tape import FRONTEND, SMU, STAGE

EXIT_REFUSED: Final = 1
EXIT_UNVERIFIED: Final = 4
SHOWN_TRIGGERS: Final = 20
RAMP_RATE: Final = 50.0
WATCH_NS: Final = 1_000_000_000
COLLECT_EVERY: Final = 5
SHUTDOWN_S: Final = 2.0
HOST_LOSS: Final = "NOT PROTECTED: HOST LOSS. If this computer stops, nothing cuts the bias; see docs/failures.md"
LIFT_S: Final = 1.5
"""How long the end of the process waits for the tip to be lifted; both are less than the keeper waits."""


class Worker:
    """Everything of one rig, wired together; the same object runs in virtual time in the tests."""

    def __init__(
        self,
        config: Config,
        transport: Transport,
        clock: Clock,
        *,
        ring: RingWriter,
        page: Page,
        mirror: Mirror,
        previous_epoch: int = 0,
        host: HostWatch | None = None,
        stage: Transport | None = None,
        loop: RecordingLoop | None = None,
        outside: Outside | None = None,
        gpio: GpioLines | None = None,
        frontend: Transport | None = None,
    ) -> None:
        """Wire up; sends nothing. ``stage``: the line to the stage's controller, where ``ports.stage`` names one;
        ``frontend``: that to the front end.

        ``loop``: the running one, where it can mark its turns on the flight record. ``outside``: what a replay gives
        instead of the world; then nothing is recorded. ``gpio``: the lines of ``config.gpio``; None: silent ones.
        """
        self.config = config
        self._unrecorded = clock
        self.flight = Flight(clock, loop) if config.recorder.enabled and outside is None else None
        if self.flight is not None:
            clock = self.flight.clock
            transport = self.flight.port(transport, SMU)
            stage = None if stage is None else self.flight.port(stage, STAGE)
            if frontend is not None and why_unrecorded(config) is None:
                frontend = self.flight.port(frontend, FRONTEND)
        self.clock = clock
        self.transport = transport
        version = importlib.metadata.version("tipguard")
        self.recorder = Recorder(
            ring,
            rig=config.rig.id,
            clock=clock,
            prev_epoch=previous_epoch,
            version=version,
            tape=None if self.flight is None else self.flight.tape,
            outside=outside,
        )
        if self.flight is not None:
            self.flight.begin(
                self.recorder,
                config,
                version=version,
                previous_epoch=previous_epoch,
                latch=mirror.read(),
                ports=(transport, stage, frontend),
                watched=host is not None,
                unrecorded=why_unrecorded(config),
            )
            if host is not None:
                host.on_fault = self.flight.tape.host
        self.guard = Guard(config.limits, series_ohm=config.rig.series_resistor_ohm, event=config.event)
        self.link = Link(transport, clock)
        smu = make_smu(self.link, config)
        self.line: EnableLine | None = None
        self.heartbeat: Heartbeat | None = None
        if config.gpio is not None:
            self.line, self.heartbeat = self._enable_line(config.gpio, smu, page, gpio or SilentLines(config.gpio.chip))
        self.front = front_end(config, frontend, clock, self.recorder)
        self.engine = Engine(config, smu, self.guard, self.recorder, page, mirror, clock, host, self.line, self.front)
        self.tip = self._tip(stage)
        self.emulated = all(port is None or port.emulated for port in (transport, stage, frontend))
        self.runner = Runner(config, self.engine, self.recorder, clock, tip=self.tip, emulated=self.emulated)
        self.remote = Remote(config.remote, self.recorder, clock, self.verbs(), lambda: self.runner.busy)
        self.notes: list[str] = []
        self.stranger: str | None = None
        """Serial number of another instrument that answered behind the port: this life only says so."""
        self._rate = 0.0
        self._front_rate = 0.0
        self._front_counted = 0
        self._page = page
        self._pace: Pace | None = None
        self._log = structlog.get_logger("worker") if outside is None else None
        page.begin_worker(os.getpid(), self.recorder.epoch, clock.now_ns())

    def _tip(self, transport: Transport | None) -> Tip | None:
        """Return what moves the tip; None on a rig without a stage, or whose stage's port is gone."""
        engine = self.engine
        if self.config.ports.stage is None:
            return None
        if transport is None:
            engine.stage = AbsentStage()
            engine.report.raise_alarm(
                STAGE_ALARM, f"port {self.config.ports.stage.path} is gone; plug it in, then restart the controller"
            )
            return None
        stage, contact = make_stage(transport, self.clock, self.config)
        tip = Tip(self.config, stage, contact, self.guard, self.clock, engine.report)
        engine.stage = tip
        return tip

    def _enable_line(self, gpio: GpioConfig, smu: Smu, page: Page, lines: GpioLines) -> tuple[EnableLine, Heartbeat]:
        """Return the output enable line and what keeps it closed."""
        actuator = GpioActuator(gpio, lines, self.clock)
        # The beats are on no tape: nothing but what the instrument says of the line decides anything.
        heartbeat = Heartbeat(actuator, self.guard.machine, page, self.link, self._unrecorded)
        return EnableLine(self.config, gpio, smu, actuator, self.clock), heartbeat

    async def start(self) -> None:
        """See Engine.start; a latch is wanted on real hardware."""
        if self.stranger is not None:
            self._latch_stranger(self.stranger)
            return
        await self.engine.start(must_have_mirror=not self.transport.emulated)
        await self.front.look()

    def _latch_stranger(self, serial_number: str) -> None:
        """Say TRIPPED(LINK_LOST), without a word to the instrument: it is not this rig's.

        The guard itself stays UNKNOWN, which nothing but a verification leads out of: no run, no rearm.
        """
        engine = self.engine
        engine.report.trip_verdict = Verdict.LINK_LOST
        engine.report.raise_alarm(
            Verdict.LINK_LOST.value,
            f"after the port was gone, serial number {serial_number!r} answers at {self.transport.name}, not "
            f"{self.config.smu.serial_number!r}; nothing is written to it. This rig's own instrument is NOT verified "
            "off: switch it off at its panel, then plug it in here",
        )
        event = {"kind": "stranger", "verdict": Verdict.LINK_LOST.value, "serial_number": serial_number}
        engine.report.last_event = {**event, "t_ns": self.clock.now_ns()}
        self.recorder.event(engine.report.last_event)

    async def control(self) -> None:
        """The control task: a tick every 20 ms, and what may wait. The heartbeat lasts as long as it does."""
        if self.heartbeat is None or self._log is None:
            await self._tend_and_tick()
            return
        self.heartbeat.start()
        try:
            await self._tend_and_tick()
        finally:
            self.heartbeat.stop()

    async def _tend_and_tick(self) -> None:
        if self.tip is None:
            await self._control()
            return
        tending = asyncio.get_running_loop().create_task(self.tip.tend(), name="tip")
        control = asyncio.get_running_loop().create_task(self._control(), name="ticks")
        try:
            done, _ = await asyncio.wait((tending, control), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (tending, control):
                task.cancel()
            await asyncio.gather(tending, control, return_exceptions=True)

    async def _control(self) -> None:
        watching: asyncio.Task[None] | None = None
        self.front.adopt()
        pace = self._pace
        if pace is None:
            due_ns = self.clock.now_ns()
            pace = Pace(due_ns, due_ns + WATCH_NS, counted=self.recorder.samples)
        else:
            await self.clock.sleep_until(pace.due_ns)
        while True:
            now_ns = self.clock.now_ns()
            # A late tick is not made up for: the next one is due a period from now.
            pace.due_ns = max(pace.due_ns + TICK_NS, now_ns)
            self.engine.tick()
            self.remote.tick(now_ns)
            self._page.state = self.engine.state.value
            if not self.runner.busy and self.engine.state in (State.SAFE, State.TRIPPED):
                self.front.rest()
            if self.engine.lost is not None:
                # A descriptor whose device is gone never comes back; the keeper opens the port anew.
                raise self.engine.lost
            self._log_notices()
            if now_ns >= pace.watch_ns:
                pace.watch_ns = now_ns + WATCH_NS
                pace.seconds += 1
                self._rate = float(self.recorder.samples - pace.counted)
                pace.counted = self.recorder.samples
                self._front_rate = float(self.recorder.front_bytes - self._front_counted)
                self._front_counted = self.recorder.front_bytes
                if watching is None or watching.done():
                    watching = asyncio.get_running_loop().create_task(self.engine.watch(), name="watch")
                self._ring_alarm()
                idle = self.engine.state in (State.SAFE, State.TRIPPED) and not self.runner.busy
                if pace.seconds % COLLECT_EVERY == 0 and idle and self._log is not None:
                    gc.collect()
            if self.flight is not None and self.flight.checkpoint_due(now_ns) and self._at_rest(watching):
                nonces = self.remote.nonces.memory()
                self.flight.checkpoint(now_ns, self.recorder, self.engine.memory(), self.tip, pace, nonces)
            await self.clock.sleep_until(pace.due_ns)

    def _at_rest(self, watching: asyncio.Task[None] | None) -> bool:
        return (
            not self.runner.busy
            and (watching is None or watching.done())
            and self.engine.at_rest
            and self.recorder.at_rest
            and (self.tip is None or self.tip.at_rest)
            and self.front.at_rest
        )

    def remember(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state, the control task not running; what it does next is what it did then."""
        self.recorder.remember(state["recorder"])
        self.engine.remember(state["engine"])
        if self.tip is not None and state["tip"] is not None:
            remember_tip(self.tip, state["tip"])
        self._pace = Pace(**state["pace"])
        # A checkpoint of an older version has none.
        self.remote.nonces.remember(state.get("nonces", []))

    def _ring_alarm(self) -> None:
        used = self.recorder.ring_used
        note = f"ring {used:.0%} full; is the uplink running and the broker there?"
        self.notes = [n for n in self.notes if not n.startswith("ring ")]
        if used >= RING_ALARM_AT:
            self.notes.append(note)

    def _log_notices(self) -> None:
        # A terminal under Ctrl-S, or a journal that stalls, must not hold up a cut: nothing is written while the
        # output may be on, nor where it would block.
        while (
            self._log is not None
            and self.engine.report.notices
            and not self.guard.machine.output_may_be_on
            and _writable(sys.stderr)
        ):
            what, data = self.engine.report.notices.popleft()
            # What a plan was looking for is no warning.
            expected = data.get("planned") is True and data.get("verified") is True
            (self._log.info if expected else self._log.warning)(what, **data)

    # -- verbs

    def verbs(self) -> dict[str, Callable[[dict[str, Any], str], dict[str, Any]]]:
        """Return what control.sock serves."""
        return {
            "status": lambda _args, _user: self.status(),
            "run": self._verb_run,
            "stop": lambda _args, user: {"stopped": self.runner.stop(by=user)},
            "rearm": self._verb_rearm,
        }

    def _refuse_stranger(self) -> None:
        if self.stranger is not None:
            raise BusyError(
                f"serial number {self.stranger!r} answers at {self.transport.name}, not this rig's "
                f"{self.config.smu.serial_number!r}: plug in the rig's own instrument"
            )

    def _verb_run(self, args: dict[str, Any], user: str) -> dict[str, Any]:
        self._refuse_stranger()
        if self.runner.busy:
            raise BusyError("a run is under way; wait for it, or `tipguard stop`")
        plan = make_plan(args.get("plan"), args.get("parameters"))
        return self.runner.start(plan, by=user)

    def _verb_rearm(self, _args: dict[str, Any], user: str) -> dict[str, Any]:
        self._refuse_stranger()
        if self.runner.busy:
            raise BusyError("a run is under way; it has to end first")
        self.engine.rearm(by=user)
        return {"state": self.engine.state.value}

    def status(self) -> dict[str, Any]:
        """Return the status document; plain types only."""
        engine = self.engine
        sample = engine.report.last_sample
        identity = engine.identity
        return {
            "rig": self.config.rig.id,
            "epoch": f"{self.recorder.epoch:016x}",
            "pid": os.getpid(),
            **self.guard.snapshot(),
            **({} if self.stranger is None else {"state": State.TRIPPED.value}),
            "verdict": engine.report.trip_verdict.value if engine.report.trip_verdict else None,
            "alarm": engine.report.alarm,
            "stranger": self.stranger,
            "notes": [*self.notes, *engine.report.smu_notes, *engine.enable.notes, *self.front.notes],
            "gpio": self._gpio_status(),
            "frontend": self.front.describe(),
            "emulated": self.emulated,
            "port": self.transport.name,
            "stage": None if self.tip is None else self.tip.describe(),
            "smu": None if identity is None else {"model": identity.model, "serial_number": identity.serial_number},
            "sample": None
            if sample is None
            else {"t_ns": sample.t_ns, "bias_v": sample.bias_v, "current_a": sample.current_a, "flags": sample.flags},
            "samples": self.recorder.samples,
            "samples_lost": self.recorder.samples_lost,
            "cuts": {"planned": engine.report.planned_cuts, "protective": engine.report.protective_cuts},
            "strays": self.link.strays,
            "ring_used": self.recorder.ring_used,
            # At the present rate; at rest, at that of a ramp at 57600 baud.
            "samples_per_s": self._rate,
            "ring_left_s": self.recorder.ring_left_s(self._rate or RAMP_RATE, self._front_rate),
            "run": _short(self.runner.run),
            "command": self.remote.status(),
            "last_event": engine.report.last_event,
            "keeper_cuts": self._page.keeper_cuts,
            "restarts": self._page.restarts,
            "flight_record": None
            if self.recorder.tape_writer is None
            else {"entries_lost": self.recorder.tape_writer.lost},
            "t_ns": self._unrecorded.now_ns(),
        }

    def _gpio_status(self) -> dict[str, Any] | None:
        if self.line is None or self.heartbeat is None:
            return None
        silent = self.heartbeat.silent_because(self._unrecorded.now_ns())
        return {**self.line.describe(), "beating": not silent, "silent_because": silent or None}

    async def _tip_up(self) -> None:
        """Wait until the tip that a run had brought down is up again, where it can be."""
        tip = self.tip
        if tip is None or not tip.ready:
            return
        await self.runner.wait()
        while self.engine.state is State.TRIPPED and not tip.lifted:
            await self.clock.sleep_until(self.clock.now_ns() + TICK_NS)

    async def shut_down(self, verdict: Verdict, *, by: str) -> bool:
        """Cut if energised and wait for the proof; True if the output is verified off."""
        if self.flight is not None:
            self.flight.tape.verb("shut_down", {"by": by, "verdict": verdict.value})
        self.runner.halt(by=by, verdict=verdict)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.engine.until_off(), SHUTDOWN_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._tip_up(), LIFT_S)
        self.engine.release_panel()
        self.recorder.close_frame()
        self.recorder.tick(self.clock.now_ns())
        self.recorder.flush_tape()
        self._log_notices()
        return self.stranger is None and self.engine.state in (State.SAFE, State.ARMED, State.TRIPPED)

    def give_up(self) -> None:
        """The link is gone for good: leave what is known for whoever comes after."""
        if self.flight is not None:
            self.flight.tape.verb("give_up", {})
        self.engine.give_up()
        self.recorder.close_frame()
        self.recorder.flush_tape()


def _short(run: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a run's map with the last few triggers only: a status must stay small however long the run was."""
    if run is None or not isinstance(run.get("results"), dict):
        return run
    results = dict(run["results"])
    if isinstance(results.get("triggers"), list):
        results["triggers"] = results["triggers"][-SHOWN_TRIGGERS:]
    return {**run, "results": results}


def _writable(stream: TextIO) -> bool:
    try:
        return bool(select.select([], [stream], [], 0)[1])
    except (OSError, ValueError):
        # Closed, or not a descriptor (a test's capture): writing does not block either way.
        return True


async def _serve(args: argparse.Namespace, selector: HotSelector, config: Config) -> int:
    directory = rundir.rig_dir(config.rig.id)
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop)
    if args.stranger is not None:
        # The rig's own instrument may still hold the tip live: nobody lifts it from there. And nothing to record.
        ports, recorder = config.ports, config.recorder
        changed = {
            "ports": ports.model_copy(update={"stage": None, "frontend": None}),
            "frontend": None,
            "recorder": recorder.model_copy(update={"enabled": False}),
        }
        config = config.model_copy(update=changed)
    page = Page(directory / rundir.PAGE_FILE)
    transport = (SerialTransport if args.stranger is None else Untouched)(
        args.fd,
        name=config.ports.smu.path,
        baud=config.ports.smu.baud,
        emulated=args.emulated,
        selector=selector,
    )
    ring = RingWriter(directory / rundir.RING_FILE, config.runtime.ring_bytes)
    worker = Worker(
        config,
        transport,
        clock,
        ring=ring,
        page=page,
        mirror=Mirror(directory),
        previous_epoch=page.epoch,
        host=HostWatch(page),
        stage=stage_transport(args, config),
        loop=loop if isinstance(loop, RecordingLoop) else None,
        gpio=None if config.gpio is None else open_lines(config.gpio, port_emulated=transport.emulated),
        frontend=frontend_transport(args, config),
    )
    worker.notes.extend(args.note)
    worker.stranger = args.stranger
    if config.gpio is None and config.frontend is None:
        worker.notes.append(HOST_LOSS)
    if realtime.has_fifo():
        # Among ordinary processes the time it takes would be held against the worker.
        engine = worker.engine
        selector.before_wait = BusyPoll(engine.guard, engine.smu.link, Rehearsal(engine, directory, clock))
    stop: asyncio.Future[str] = loop.create_future()

    def ask_to_stop(name: str) -> None:
        # The cut does not wait for the task that shuts down, and no step of a plan follows it.
        worker.runner.stop(by=name, verdict=Verdict.SHUTDOWN)
        if not stop.done():
            stop.set_result(name)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        name = "keeper died" if number is signal.SIGUSR1 else signal.Signals(number).name
        loop.add_signal_handler(number, ask_to_stop, name)
    realtime.die_with_parent(signal.SIGUSR1)
    if os.getppid() != args.keeper:
        raise BusyError("the keeper is gone; start `tipguard controller` again")
    server = ControlServer(directory / rundir.CONTROL_SOCKET, worker.verbs(), worker.remote.take)
    log = structlog.get_logger("worker")
    tasks = [
        loop.create_task(_starting(worker, log), name="start"),
        loop.create_task(worker.control(), name="control"),
        loop.create_task(server.serve(), name="control.sock"),
    ]
    return await _until_stopped(worker, stop, tasks, log)


async def _starting(worker: Worker, log: Any) -> None:  # noqa: ANN401 - structlog's proxy
    await worker.start()
    log.info("ready", state=worker.engine.state.value, rig=worker.config.rig.id)
    realtime.quiet_collector()


async def _until_stopped(
    worker: Worker,
    stop: asyncio.Future[str],
    tasks: list[asyncio.Task[None]],
    log: Any,  # noqa: ANN401 - structlog's proxy
) -> int:
    """Run until asked to stop or until a task fails; a failing task ends the process, so that the keeper cuts."""
    waiting: set[asyncio.Future[Any]] = {stop, *tasks}
    try:
        while not stop.done():
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stop}:
                task.result()
            waiting -= done
    except LinkLostError as error:
        print(f"tipguard controller: {error}", file=sys.stderr)
        worker.give_up()
        return EXIT_UNVERIFIED
    except TipguardError as error:
        print(f"tipguard controller: {error}", file=sys.stderr)
        off = await worker.shut_down(Verdict.SHUTDOWN, by="start-up failure")
        if worker.engine.state is State.UNKNOWN:
            # Mute, and the last life ended with the output on: the keeper cuts blind. A stranger is left alone.
            blind = worker.engine.was_dirty and not isinstance(error, WrongInstrumentError)
            return EXIT_UNVERIFIED if blind else EXIT_REFUSED
        return EXIT_REFUSED if off else EXIT_UNVERIFIED
    off = await worker.shut_down(Verdict.SHUTDOWN, by=stop.result())
    log.info("stopped", by=stop.result(), state=worker.engine.state.value, output_verified_off=off)
    return 0 if off else EXIT_UNVERIFIED


def main(argv: list[str] | None = None) -> int:
    """Run the worker; arguments come from the keeper."""
    parser = argparse.ArgumentParser(prog="tipguard worker (started by the keeper)")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--keeper", type=int, required=True)
    parser.add_argument("--emulated", action="store_true")
    parser.add_argument("--stage-fd", type=int, default=None)
    parser.add_argument("--stage-emulated", action="store_true")
    parser.add_argument("--frontend-fd", type=int, default=None)
    parser.add_argument("--frontend-emulated", action="store_true")
    parser.add_argument("--note", action="append", default=[])
    parser.add_argument("--stranger", default=None, help="serial number of another instrument behind the port")
    args = parser.parse_args(argv)
    configure_logs()
    try:
        config = config_module.load(args.config)
        if config.runtime.realtime == "auto":
            for problem in (realtime.lock_memory(), realtime.set_fifo(realtime.WORKER_PRIORITY)):
                if problem:
                    args.note.append(problem)
        else:
            args.note.append("real-time scheduling is switched off in the configuration (runtime.realtime)")
        selector = HotSelector()
        main_task: Coroutine[Any, Any, int] = _serve(args, selector, config)
        with asyncio.Runner(loop_factory=lambda: RecordingLoop(selector)) as runner:
            return runner.run(main_task)
    except ConfigError as error:
        print(f"tipguard controller: {error}", file=sys.stderr)
        return 2
    except TipguardError as error:
        print(f"tipguard controller: {error}", file=sys.stderr)
        return EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main())
