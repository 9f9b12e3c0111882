"""An emulated stage that speaks a command map, in memory under a virtual clock, with the driver as shipped."""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

from edge.clock import Clock
from edge.command_map import load_command_map
from edge.instruments.map_link import MapLink
from edge.instruments.scpi_stage import MapContact, ScpiStage
from firmware_proto.stage_map import StageMap, read_map
from hil.devices.described_stage import DescribedStage
from hil.devices.pi_gcs2 import FlatSurface
from hil.stage_hands import StageHands
from hil.virtual import VirtualClock, run_virtual


class DescribedBench(StageHands):
    """A controller of ``rules`` over a flat surface across its last axis, 50 um or, where it is shorter, mid-travel."""

    def __init__(
        self,
        clock: Clock,
        rules: StageMap,
        *,
        of_client: StageMap | None = None,
        baud: int = 115200,
        seed: int = 1,
        threshold_v: float = 0.5,
        servo_on: bool = True,
        referenced: bool = True,
    ) -> None:
        """Wire up; nothing is sent. ``of_client``: the driver's map, where it is to differ from the controller's."""
        self.rules = rules
        z = list(rules.axes.values())[-1]
        middle_m = 0.5 * ((z.low_m or 0.0) + (100e-6 if z.high_m is None else z.high_m))
        self.surface = FlatSurface(axis=z.name, surface_m=middle_m)
        self.unit = DescribedStage(rules, self.surface, seed=seed, servo_on=servo_on, referenced=referenced)
        super().__init__(clock, self.unit, baud)
        self.link = MapLink(self.line.transport, clock, of_client or rules)
        self.contact = MapContact(self.link, threshold_v=threshold_v)
        self.stage = ScpiStage(self.link, self.contact)

    async def ready(self) -> Self:
        """Start the driver."""
        await self.stage.start()
        return self


def map_from(path: Path, change: Callable[[dict[str, Any]], object] | None = None) -> StageMap:
    """Return the map in a file, after ``change`` has had its table; raises MapError."""
    if change is None:
        return load_command_map(path)
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    change(table)
    return read_map(table)


def on_described_bench(
    rules: StageMap,
    main: Callable[[DescribedBench], Awaitable[None]],
    **options: Any,  # noqa: ANN401 - the bench's
) -> None:
    """Run ``main`` on a bench that is ready, in virtual time."""

    async def run(clock: VirtualClock) -> None:
        await main(await DescribedBench(clock, rules, **options).ready())

    run_virtual(run)
