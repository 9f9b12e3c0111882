"""A rig with a stage in memory under a virtual clock: a sample with coordinates, a tip, and the controller as shipped.

What ``tipguard hil rig`` serves on two pseudo-terminals, on two lines in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgpack

from edge.config import Config
from edge.controller.tip import Tip
from edge.experiments.steps import Plan
from edge.ring import Kind
from hil.bench_rig import EmulatedRig, RigOptions
from hil.errors import BenchFaultError
from hil.faults.injector import Injector
from hil.rig import VirtualRig, config_for
from hil.twin.grains import Box
from hil.twin.sample_map import SampleMap
from hil.twin.truth import Entry
from hil.virtual import VirtualClock, run_virtual
from hil.virtual_bench import VirtualBench

SERIES_OHM: Final = 10_000.0
FIELD: Final = Box(20e-6, 20e-6, 80e-6, 80e-6)
"""Where points are taken from, m; the travel is 0 to 100 um."""
_DRAIN_NS: Final = 100_000_000


class MapBench(VirtualBench):
    """A rig with a stage under way. ``documents`` and ``events`` are what the uplink would have published."""

    def __init__(self, rig: VirtualRig, emulated: EmulatedRig, clock: VirtualClock) -> None:
        """Step between the instrument and its line."""
        super().__init__(rig, clock, emulated.tip, emulated.truth)
        self.emulated = emulated
        self.stage = emulated.stage
        self.documents: list[dict[str, Any]] = []
        self.event_documents: list[dict[str, Any]] = []

    @property
    def sample(self) -> SampleMap:
        """The sample under the tip."""
        return self.emulated.tip.sample

    @property
    def tip(self) -> Tip:
        """The controller's own view of tip and stage."""
        tip = self.rig.worker.tip
        if tip is None:
            raise BenchFaultError("this rig's configuration has no stage")
        return tip

    def drain(self) -> None:
        """Take what the ring holds and give its room back, as the uplink does."""
        for record in self.rig.records():
            if record.kind == Kind.RUN:
                self.documents.append(msgpack.unpackb(record.payload))
            elif record.kind == Kind.EVENT:
                self.event_documents.append(msgpack.unpackb(record.payload))
        self.rig.reader.release()

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Return the run documents of one kind, in order."""
        self.drain()
        return [document for document in self.documents if document["kind"] == kind]

    # What a test of the tip wants to know of the sample's own record

    def touching(self) -> bool:
        """Return whether the tip is on the sample now; the sample lives when somebody asks."""
        self.emulated.tip.advance(self.clock.now_ns())
        return self.emulated.tip.in_contact

    def true_m(self, axis: str) -> float:
        """Return where an axis really is, in m."""
        return self.stage.position_m(self.clock.now_ns(), axis)

    def moves(self, *axes: str, since_ns: int = 0) -> list[Entry]:
        """Return the moves of some axes (none named: of all) that began since then."""
        found = self.truth.events("stage_move")
        return [e for e in found if (not axes or e["axis"] in axes) and int(e["t_ns"] or 0) >= since_ns]

    def touches(self) -> list[str]:
        """Return landings and lifts in their order."""
        self.emulated.tip.advance(self.clock.now_ns())
        return [str(e["event"]) for e in self.truth.entries if e["event"] in ("landing", "lift")]

    @property
    def dragged(self) -> bool:
        """Whether the tip was ever dragged over the sample: two landings without a lift between."""
        return ("landing", "landing") in itertools.pairwise(self.touches())

    async def run(self, plan: Plan) -> dict[str, Any]:
        """Run a plan to its end; return the run's map."""
        self.start(plan)
        return await self.ended()

    def at_the_stage(self, message: bytes) -> None:
        """Do to the stage what another program on its controller would."""
        self.stage.receive(self.clock.now_ns(), message + b"\n")
        if self.rig.stage_line is not None:
            self.rig.stage_line.poke()

    def boundary(self, count: int, seed: int = 0) -> list[list[Any]]:
        """Return rows of points on boundaries, for a trigger map."""
        found = self.sample.boundary_points(count, FIELD, seed=seed)
        return [[x, y, "gb", f"B{n + 1}"] for n, (x, y) in enumerate(found)]

    def interior(self, count: int, seed: int = 0) -> list[list[Any]]:
        """Return rows of points inside grains."""
        found = self.sample.interior_points(count, FIELD, seed=seed)
        return [[x, y, "gi", f"I{n + 1}"] for n, (x, y) in enumerate(found)]


def map_config(**sections: dict[str, Any]) -> Config:
    """Return a configuration for the bench: 10 kohm, a stage, re-arms for a long map; ``sections`` override."""
    data = config_for(series_ohm=SERIES_OHM, stage=True, limits={"rearms_per_run": 1000}).model_dump()
    for name, values in sections.items():
        data[name] = {**data[name], **values}
    return Config.model_validate(data)


@contextlib.asynccontextmanager
async def map_bench(
    clock: VirtualClock,
    directory: Path,
    *,
    config: Config | None = None,
    seed: int = 1,
    wait: bool = True,
    injector: Injector | None = None,
    **options: Any,  # noqa: ANN401 - those of RigOptions
) -> AsyncIterator[MapBench]:
    """Start a rig whose stage has answered; end it. ``options`` are those of ``hil rig``.

    ``wait`` False: do not wait for the stage's answer. ``injector``: plugged in, not armed.
    """
    config = config or map_config()
    links = {"smu_link": Path("smu"), "stage_link": Path("stage")}
    series_ohm = config.rig.series_resistor_ohm
    emulated = EmulatedRig(RigOptions(**{"series_ohm": series_ohm, "seed": seed, **links, **options}))
    async with VirtualRig.running(
        clock,
        emulated.tip,
        directory,
        config=config,
        seed=seed,
        device=emulated.smu,
        stage=emulated.stage,
        injector=injector,
    ) as rig:
        bench = MapBench(rig, emulated, clock)
        if wait and bench.rig.config.ports.stage is not None:
            await bench.until(lambda: bench.tip.ready)
        draining = asyncio.get_running_loop().create_task(_drain(bench))
        try:
            yield bench
        finally:
            draining.cancel()
            bench.drain()


async def _drain(bench: MapBench) -> None:
    while True:
        bench.drain()
        await bench.clock.sleep_until(bench.clock.now_ns() + _DRAIN_NS)


def on_map_bench(
    directory: Path,
    work: Callable[[MapBench], Awaitable[None]],
    **options: Any,  # noqa: ANN401 - those of map_bench
) -> None:
    """Run ``work`` on a bench in virtual time."""

    async def main(clock: VirtualClock) -> None:
        async with map_bench(clock, directory, **options) as bench:
            await work(bench)

    run_virtual(main)
