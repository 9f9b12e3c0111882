"""An emulated stage in memory under a virtual clock, with the drivers as shipped on its line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Self

from edge.clock import Clock
from edge.instruments.contact import AnalogContact
from edge.instruments.gcs_controller import GcsController, GcsOptions
from edge.instruments.gcs_link import GcsLink
from edge.instruments.pi_gcs2 import PiGcs2
from hil.devices.pi_gcs2 import AxisModel, FlatSurface, Model, PiController
from hil.line.memory import MemoryLine
from hil.virtual import VirtualClock, run_virtual


class StageBench:
    """A controller with axes 1, 2, 3 at 1 mm/s over a flat surface; ``model`` are options of :class:`Model`."""

    def __init__(
        self,
        clock: Clock,
        *,
        options: GcsOptions | None = None,
        baud: int = 115200,
        seed: int = 1,
        threshold_v: float = 0.5,
        **model: Any,  # noqa: ANN401 - those of the model
    ) -> None:
        """Wire up; nothing is sent."""
        axes = tuple(AxisModel(name, velocity_um_s=1000.0) for name in "123")
        self.clock = clock
        self.surface = FlatSurface()
        self.unit = PiController(Model(**({"axes": axes} | model)), self.surface, seed=seed)
        self.line = MemoryLine(self.unit, clock, baud)
        self.link = GcsLink(self.line.transport, clock)
        self.controller = GcsController(self.link, options)
        self.stage = PiGcs2(self.controller)
        self.contact = AnalogContact(self.controller, threshold_v=threshold_v)

    async def ready(self) -> Self:
        """Start the driver and close the servos."""
        await self.stage.start()
        await self.stage.servo(on=True)
        return self

    def true_um(self, axis: str) -> float:
        """Return where an axis really is now, in um."""
        return self.unit.position_m(self.clock.now_ns(), axis) * 1e6

    def moving(self) -> bool:
        """Tell whether any axis really moves now."""
        return any(self.unit.moving(self.clock.now_ns(), axis.name) for axis in self.unit.model.axes)

    async def pause(self, duration_ns: int) -> None:
        """Let time pass."""
        await self.clock.sleep_until(self.clock.now_ns() + duration_ns)

    async def at(self, delay_ns: int, act: Callable[[], object]) -> None:
        """Do something to the controller, behind the line's back, after ``delay_ns``."""
        await self.pause(delay_ns)
        act()
        self.line.poke()


def on_stage_bench(
    main: Callable[[StageBench], Awaitable[None]],
    **options: Any,  # noqa: ANN401 - those of the bench
) -> None:
    """Run ``main`` on a bench that is ready, in virtual time."""

    async def run(clock: VirtualClock) -> None:
        await main(await StageBench(clock, **options).ready())

    run_virtual(run)
