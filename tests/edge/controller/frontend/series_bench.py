"""A rig in virtual time with the real firmware core in series with the tip; what tests of it have in common."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge.controller.front_end import FrontEnd
from edge.front_block import FrontBlock, unpack_front
from edge.ring import Kind, Record
from hil.frontend.lockstep import LockstepFrontend
from hil.frontend.lockstep_device import LockstepDevice
from hil.rig import VirtualRig, config_for
from hil.twin.ohmic import OhmicLoad
from hil.twin.site import SwitchingSite
from hil.twin.terminals import SourcedLoad
from hil.twin.truth import TruthRecord
from hil.virtual import VirtualClock, run_virtual
from hil.virtual_bench import VirtualBench

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc)")
Work = Callable[["SeriesBench"], Awaitable[None]]
QUIET: dict[str, Any] = {"hard_a": 5e-4}
"""Trips at no current of these tests."""
SEES: dict[str, Any] = {"hard_a": 5e-4, "level_a": 5e-6, "level_n": 3}
"""Sees a set of :func:`site` long before the instrument's next reading."""


def ohmic(truth: TruthRecord) -> SourcedLoad:
    return OhmicLoad(1e6, 1000.0, truth=truth)


def site(truth: TruthRecord) -> SourcedLoad:
    return SwitchingSite("gb", series_ohm=1000.0, seed=4, truth=truth)


class SeriesBench(VirtualBench):
    """The bench, its front end, and everything its ring has held."""

    def __init__(self, rig: VirtualRig, clock: VirtualClock, load: SourcedLoad, truth: TruthRecord) -> None:
        super().__init__(rig, clock, load, truth)
        self._kept: list[Record] = []
        self.heard = b""
        """What the instrument was sent."""
        receive = rig.device.receive

        def listen(t_ns: int, data: bytes) -> None:
            self.heard += data
            receive(t_ns, data)

        rig.device.receive = listen  # type: ignore[method-assign] # a look over its shoulder

    @property
    def front(self) -> FrontEnd:
        front = self.rig.worker.front
        assert isinstance(front, FrontEnd)
        return front

    @property
    def unit(self) -> LockstepDevice:
        unit = self.rig.frontend
        assert isinstance(unit, LockstepDevice)
        return unit

    @property
    def core(self) -> LockstepFrontend:
        """The firmware's pins, seen from outside."""
        return self.unit.core

    def all_records(self) -> list[Record]:
        self._kept += self.rig.records()
        return self._kept

    def documents(self, kind: str) -> list[dict[str, Any]]:
        """Return the event documents of a kind."""
        found = [msgpack.unpackb(record.payload) for record in self.all_records() if record.kind == Kind.EVENT]
        return [document for document in found if document["kind"] == kind]

    def cut(self) -> dict[str, Any]:
        """Return the one cut there was."""
        [cut] = self.documents("cut")
        return cut

    def blocks(self) -> list[FrontBlock]:
        return [unpack_front(record.payload) for record in self.all_records() if record.kind == Kind.FRONT]

    def opened_ns(self) -> int:
        """Return when the path in series opened last, by the twin's own record."""
        return max(int(entry["t_ns"] or 0) for entry in self.truth.events("switch_open"))

    def onset_ns(self) -> int:
        [onset] = self.truth.events("set_onset")
        return int(onset["t_ns"] or 0)


def in_series(
    tmp_path: Path,
    work: Work,
    *,
    load: Callable[[TruthRecord], SourcedLoad] = ohmic,
    frontend: dict[str, Any] = QUIET,
    sample_hz: int = 100_000,
    sections: dict[str, Any] | None = None,
    **options: Any,  # noqa: ANN401 - the rig's own
) -> None:
    """Let ``work`` act on a rig with a front end."""

    config = config_for(series_ohm=1000.0, frontend=frontend, **(sections or {}))
    core = LockstepFrontend(sample_hz=sample_hz)

    async def main(clock: VirtualClock) -> None:
        truth = TruthRecord()
        sample = load(truth)
        async with VirtualRig.running(clock, sample, tmp_path, config=config, frontend=core, **options) as rig:
            await work(SeriesBench(rig, clock, sample, truth))

    run_virtual(main)
