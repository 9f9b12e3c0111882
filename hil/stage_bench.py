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
from hil.stage_hands import StageHands
from hil.virtual import VirtualClock, run_virtual


class StageBench(StageHands):
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
        self.surface = FlatSurface()
        self.unit = PiController(Model(**({"axes": axes} | model)), self.surface, seed=seed)
        super().__init__(clock, self.unit, baud)
        self.link = GcsLink(self.line.transport, clock)
        self.controller = GcsController(self.link, options)
        self.stage = PiGcs2(self.controller)
        self.contact = AnalogContact(self.controller, threshold_v=threshold_v)

    async def ready(self) -> Self:
        """Start the driver and close the servos."""
        await self.stage.start()
        await self.stage.servo(on=True)
        return self


def on_stage_bench(
    main: Callable[[StageBench], Awaitable[None]],
    **options: Any,  # noqa: ANN401 - those of the bench
) -> None:
    """Run ``main`` on a bench that is ready, in virtual time."""

    async def run(clock: VirtualClock) -> None:
        await main(await StageBench(clock, **options).ready())

    run_virtual(run)
