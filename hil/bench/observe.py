"""``tipguard bench observe``: CPU time of the whole observe path, from a reply line to the sample in the ring."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from edge.samples import Phase
from hil.bench.report import Figure, bench_report
from hil.rig import VirtualRig
from hil.twin.ohmic import OhmicLoad
from hil.virtual import VirtualClock, run_virtual

ROUNDS: Final = 15
SAMPLES: Final = 4000
TARGET_NS: Final = 5000.0
PERIOD_NS: Final = 20_000_000


def observe(rounds: int = ROUNDS, samples: int = SAMPLES) -> dict[str, Any]:
    """Measure; returns the report. The controller is the one that ships, armed on the emulated instrument."""

    # tmpfs where there is one, as the run directory is.
    tmpfs = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - the directory below is private

    async def main(clock: VirtualClock) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=tmpfs) as directory:
            load = OhmicLoad(1e6, 1000.0)
            async with VirtualRig.running(clock, load, Path(directory)) as rig:
                await rig.worker.engine.arm(Phase.SEEK, 1.0)
                return bench_report("observe", _measure(rig, rounds, samples), method=_METHOD)

    return run_virtual(main)


_METHOD: Final = (
    "A recorded CURR,STAT reply line is parsed, turned into a sample, judged by the guard with every test of SEEK and "
    "written to the ring; interleaved rounds, median of rounds, garbage collector off as in the worker. Includes no "
    "system call and no wait: reading the port and writing the cut come on top."
)


def _lines() -> list[bytes]:
    """A ramp up to 1 uA: floor, emergence, visible current."""
    return [b"-%.6E,+2.048400E+04" % (1e-9 * i) for i in range(1000)]


def _measure(rig: VirtualRig, rounds: int, samples: int) -> list[Figure]:
    import gc

    worker = rig.worker
    smu, guard, recorder = worker.engine.smu, worker.guard, worker.recorder
    lines = _lines()
    levels = [-1e-3 * i for i in range(1000)]
    judged = [smu.sample(line, i * PERIOD_NS, levels[i], 1) for i, line in enumerate(lines)]

    def parse(i: int) -> None:
        smu.sample(lines[i], i * PERIOD_NS, levels[i], 1)

    def judge(i: int) -> None:
        guard.observe(judged[i])

    def record(i: int) -> None:
        recorder.sample(judged[i])

    def whole(i: int) -> None:
        sample = smu.sample(lines[i], i * PERIOD_NS, levels[i], 1)
        guard.observe(sample)
        recorder.sample(sample)

    parts: dict[str, Callable[[int], None]] = {
        "whole_path": whole,
        "parse": parse,
        "observe": judge,
        "record": record,
    }
    took: dict[str, list[float]] = {name: [] for name in parts}
    gc.disable()
    try:
        for _ in range(rounds):
            for name, part in parts.items():
                rig.records()
                rig.reader.release()
                began = time.perf_counter_ns()
                for n in range(samples):
                    part(n % 1000)
                took[name].append((time.perf_counter_ns() - began) / samples)
    finally:
        gc.enable()
    return [
        Figure(f"{name}_ns", statistics.median(values), "ns", TARGET_NS if name == "whole_path" else None)
        for name, values in took.items()
    ]
