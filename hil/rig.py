"""A whole rig in memory under a virtual clock: emulated 2400, paced line, and the controller as shipped.

What is left out is what has no virtual time: processes, the keeper, the broker. Those are tested on pseudo-terminals.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from edge.clock import Clock
from edge.config import Config
from edge.controller.mirror import Mirror
from edge.controller.page import Page
from edge.controller.worker import Worker
from edge.experiments.steps import Plan
from edge.ring import Kind, Record, RingReader, RingWriter
from edge.samples import Sample
from hil.devices.enable_line import EnableLine
from hil.devices.keithley2400 import Keithley2400, Timing
from hil.devices.keithley2400.interlock import Rearm
from hil.devices.monostable import Monostable
from hil.faults.injector import Injector
from hil.frontend.lockstep import LockstepFrontend
from hil.frontend.lockstep_device import LockstepDevice
from hil.frontend.unit import FrontendUnit
from hil.line.memory import MemoryLine
from hil.memory_lines import MemoryLines
from hil.protocols import StageDevice
from hil.twin.terminals import SourcedLoad

RING_BYTES = 1 << 20


def config_for(
    *,
    rig: str = "virtual",
    port: str = "memory",
    series_ohm: float = 1000.0,
    serial_number: str = "1304207",
    stage: bool = False,
    frontend: dict[str, Any] | None = None,
    **sections: dict[str, Any],
) -> Config:
    """Return a configuration for the bench; ``sections`` override whole tables, as in ``limits={"voltage_v": 1.0}``.

    ``frontend``: keys of [frontend] where there is one.
    """
    data: dict[str, Any] = {
        "rig": {"id": rig, "kind": "tip", "series_resistor_ohm": float(series_ohm)},
        "ports": {"smu": {"path": port}},
        "smu": {"serial_number": serial_number},
    }
    if stage:
        data["ports"]["stage"] = {"path": f"{port}-stage"}
    if frontend is not None:
        data["ports"]["frontend"] = {"path": f"{port}-frontend"}
        data["frontend"] = {"hard_a": 0.0005, **frontend}
    for name, values in sections.items():
        data[name] = {**data.get(name, {}), **values}
    return Config.model_validate(data)


class VirtualRig:
    """One rig; use it as ``async with VirtualRig.running(...)`` inside ``hil.virtual.run_virtual``."""

    def __init__(
        self,
        clock: Clock,
        load: SourcedLoad,
        directory: Path,
        *,
        config: Config | None = None,
        baud: int = 57600,
        seed: int = 0,
        timing: Timing | None = None,
        device: Keithley2400 | None = None,
        stage: StageDevice | None = None,
        stage_baud: int = 115200,
        injector: Injector | None = None,
        frontend: LockstepFrontend | FrontendUnit | None = None,
        frontend_baud: int = 921_600,
        monostable_s: float | None = None,
    ) -> None:
        """Wire up; nothing is sent. ``directory`` gets ring, page and mirror, as the run directory would.

        ``stage``: an emulated controller that moves ``load``, on a line of its own; the configuration then needs
        ``ports.stage``. ``injector``: plugged in here, armed by whoever wants its faults to begin. ``frontend``: a
        microcontroller in series with ``load``, on a line of its own; the configuration then needs [frontend].
        ``monostable_s``: of the monostable at the output enable line, where it is not what ``config.gpio`` says.
        """
        self.stage = stage
        self.stage_line = None if stage is None else MemoryLine(stage, clock, stage_baud)
        unit = LockstepDevice(frontend, load) if isinstance(frontend, LockstepFrontend) else frontend
        self.frontend = unit
        self.frontend_line = None if unit is None else MemoryLine(unit, clock, frontend_baud, chunk="frame")
        if isinstance(unit, LockstepDevice) and self.frontend_line is not None:
            unit.on_line(self.frontend_line)
        self.clock = clock
        self.load = load
        self.config = config or config_for(series_ohm=load.series_ohm)
        gpio = self.config.gpio
        rearm = Rearm.KEY if gpio is None else Rearm(gpio.rearm)
        self.device = device or Keithley2400(load, seed=seed, timing=timing, oe_rearm=rearm)
        self.enable = None if gpio is None else EnableLine(self.device, Monostable(monostable_s or gpio.monostable_s))
        """The monostable at the output enable line; None where the configuration has no [gpio]."""
        self.line = MemoryLine(self.device if self.enable is None else self.enable, clock, baud)
        self.gpio = None if self.enable is None else MemoryLines(self.enable, clock, self.line)
        self.injector = injector
        if injector is not None:
            injector.plug_smu(self.line, self.device, load)
            if stage is not None and self.stage_line is not None:
                injector.plug_stage(self.stage_line, stage)
            if unit is not None and self.frontend_line is not None:
                injector.plug_frontend(self.frontend_line, unit)
        self.directory = directory
        self.mirror = Mirror(directory)
        self.page = Page(directory / "page", create=True)
        self.worker = Worker(
            self.config,
            self.line.transport,
            clock,
            ring=RingWriter(directory / "ring", RING_BYTES),
            page=self.page,
            mirror=self.mirror,
            stage=None if self.stage_line is None else self.stage_line.transport,
            gpio=self.gpio,
            frontend=None if self.frontend_line is None else self.frontend_line.transport,
        )
        self.reader = RingReader(directory / "ring")
        self._control: asyncio.Task[None] | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, *args: Any, **options: Any) -> AsyncIterator[VirtualRig]:  # noqa: ANN401 - the constructor's
        """Start the control task and the worker; stop them at the end, the load's summary written."""
        rig = cls(*args, **options)
        rig._control = asyncio.get_running_loop().create_task(rig.worker.control())
        try:
            await rig.worker.start()
            yield rig
        finally:
            rig._control.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await rig._control
            rig.worker.front.close()
            (rig.enable or rig.device).advance(rig.clock.now_ns())
            rig.load.close(rig.clock.now_ns())

    async def run(self, plan: Plan) -> dict[str, Any]:
        """Run a plan to its end; return the run's map (status, reason, results)."""
        self.worker.runner.start(plan, by="test")
        await self.worker.runner.wait()
        run = self.worker.runner.run
        assert run is not None  # noqa: S101 - start() made it
        return run

    def records(self) -> list[Record]:
        """Return everything the ring holds that was not read yet."""
        found = []
        while (record := self.reader.read()) is not None:
            found.append(record)
        return found

    def samples(self, records: list[Record] | None = None) -> list[Sample]:
        """Return the samples among ``records`` (default: all not read yet)."""
        from edge.ring import unpack_sample

        return [
            unpack_sample(record.payload)[2]
            for record in (self.records() if records is None else records)
            if record.kind == Kind.SAMPLE
        ]
