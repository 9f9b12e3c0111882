"""A rig that publishes for strangers: an emulated ring that goes on being filled, and the uplink that drains it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgpack

from edge.ring import Kind, RingWriter
from edge.samples import Flag, Sample
from edge.uplink import UplinkSettings, run_uplink

RIG: Final = "rig-1"
EPOCH: Final = 0xFEED_0000_0000_0001
RUN: Final = 0xABCD_0000_0000_0002
ROWS: Final = 100
WAVEFORM: Final = bytes(range(200))
BIAS_STEP_V: Final = 1e-3
CURRENT_A: Final = 1e-9
WORKER: Final = {"state": "ENERGISED", "recorder": {"entries_lost": 0}}

_STEP_S: Final = 0.05
_END_S: Final = 15.0


class PublishingRig:
    """Writes one frame of samples, one event and one run document per step, each numbered from 0."""

    def __init__(self, folder: Path) -> None:
        """Make the ring in ``folder``."""
        self.folder = folder
        self.ring = folder / "ring"
        self.writer = RingWriter(self.ring, 1 << 22)
        self.steps = 0
        self._stop = asyncio.Event()
        self._resting = asyncio.Event()
        born = {"rig": RIG, "epoch": EPOCH, "prev_epoch": 3, "t_ns": 1, "version": "0"}
        assert self.writer.write(Kind.EPOCH, EPOCH, 0, msgpack.packb(born))

    def settings(self, port: int, **changes: Any) -> UplinkSettings:  # noqa: ANN401 - any setting
        said = {"live_hz": 20.0, "backoff_min_s": 0.02, "outbox_directory": self.folder / "outbox", **changes}
        return UplinkSettings(RIG, self.ring, port=port, **said)

    def step(self) -> None:
        seq, first = self.steps, self.steps * ROWS
        self.steps += 1
        for index in range(first, first + ROWS):
            # Row 7 of each frame is one that cannot be trusted, as an overflow is.
            row = index - first
            current_a, flags = (float("nan"), Flag.OVERFLOW) if row == 7 else (CURRENT_A, 0)
            sample = Sample(1_000_000 * index, 1, 1_000_000 * index + 1, -BIAS_STEP_V * row, current_a, flags, 1)
            assert self.writer.write_sample(EPOCH, seq, index, RUN, sample)
        assert self.writer.write(Kind.FRAME_CLOSE, EPOCH, seq, b"")
        event = {"kind": "cut", "verdict": "SURGE_JUMP", "t_ns": 1_000_000 * first, "run": RUN, "trace": WAVEFORM}
        assert self.writer.write(Kind.EVENT, EPOCH, seq, msgpack.packb({**event, "peak_a": float("nan")}))
        progress = {"kind": "progress", "uid": f"{RUN:016x}", "run": RUN, "t_ns": 1_000_000 * first, "progress": 0.5}
        assert self.writer.write(Kind.RUN, EPOCH, seq, msgpack.packb(progress))

    async def go_on(self) -> None:
        """Step until :meth:`rest` is called: a subscriber that came late has something to receive."""
        while not self._stop.is_set():
            self.step()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _STEP_S)
        self._resting.set()

    async def rest(self) -> None:
        """Step no more."""
        self._stop.set()
        await self._resting.wait()


@contextlib.asynccontextmanager
async def publishing(folder: Path, port: int, **changes: Any) -> AsyncIterator[PublishingRig]:  # noqa: ANN401 - any setting
    """Run a rig and its uplink against the broker at ``port`` until the context ends."""
    rig, stop = PublishingRig(folder), asyncio.Event()
    settings = rig.settings(port, **changes)
    uplink = asyncio.create_task(run_uplink(settings, stop=stop, worker_status=lambda: dict(WORKER)))
    stepping = asyncio.create_task(rig.go_on())
    try:
        yield rig
    finally:
        await rig.rest()
        stop.set()
        await asyncio.wait_for(asyncio.gather(uplink, stepping), _END_S)
        rig.writer.close()
