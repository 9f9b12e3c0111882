"""``tipguard bench observe``: CPU time of the whole observe path, from a reply line to the sample in the ring.

And what the flight record adds to an exchange: on the hot path, and behind it in the tick that writes it to the ring.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from edge.clock import Clock, LoopClock
from edge.controller.tape_writer import TapeWriter
from edge.instruments.recording import RecordingClock, RecordingTransport, Tape
from edge.instruments.transport import Transport, Unplugged
from edge.ring import RingReader, RingWriter
from edge.samples import Phase
from edge.tape import SMU
from hil.bench.options import BenchOptions
from hil.bench.report import Figure, bench_report
from hil.rig import VirtualRig
from hil.twin.ohmic import OhmicLoad
from hil.virtual import VirtualClock, run_virtual

ROUNDS: Final = 15
SAMPLES: Final = 4000
TARGET_NS: Final = 5000.0
TAPE_TARGET_NS: Final = 1000.0
TICK_EXCHANGES: Final = 2
"""Exchanges between two ticks, at most: one takes 16 ms at 57600 baud."""
PERIOD_NS: Final = 20_000_000


def observe(options: BenchOptions, rounds: int = ROUNDS, samples: int = SAMPLES) -> dict[str, Any]:
    """Measure, a third of the rounds if quick. The controller is as shipped, armed on the emulated instrument."""

    rounds = rounds // 3 if options.quick else rounds

    # tmpfs where there is one, as the run directory is.
    tmpfs = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - the directory below is private

    async def main(clock: VirtualClock) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=tmpfs) as directory:
            load = OhmicLoad(1e6, 1000.0)
            async with VirtualRig.running(clock, load, Path(directory)) as rig:
                await rig.worker.engine.arm(Phase.SEEK, 1.0)
                figures = [*_measure(rig, rounds, samples), *_measure_tape(Path(directory), rounds, samples)]
                return bench_report("observe", figures, method=_METHOD)

    return run_virtual(main)


_METHOD: Final = (
    "A recorded VOLT,CURR,STAT reply line is parsed, turned into a sample, judged by the guard with every test of "
    "SEEK and written to the ring; interleaved rounds, median of rounds, garbage collector off as in the worker. "
    "Includes no system call and no wait: reading the port and writing the cut come on top. flight_record: a "
    "read, a write and two readings of the clock as the flight record keeps them, less the same without it, no "
    "system call in either; "
    "flight_tick: what the tick then does for each exchange, off the hot path."
)


LEVELS_V: Final = tuple(-1e-3 * i for i in range(1000))


def _lines() -> list[bytes]:
    """A ramp up to 1 uA: floor, emergence, visible current."""
    return [b"%+.6E,-%.6E,+2.048400E+04" % (level_v, 1e-9 * i) for i, level_v in enumerate(LEVELS_V)]


def _measure(rig: VirtualRig, rounds: int, samples: int) -> list[Figure]:
    import gc

    worker = rig.worker
    smu, guard, recorder = worker.engine.smu, worker.guard, worker.recorder
    lines = _lines()
    levels = LEVELS_V
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


class _NoLine(Unplugged):
    """A port that takes no time: what is left is the flight record's own."""

    def read(self) -> bytes:
        """Return a reading."""
        return b"-1.234567E-09,+2.048400E+04\r"


def _exchange(transport: Transport, clock: Clock) -> Callable[[], None]:
    message = b":SOUR:VOLT -0.1234\n:READ?\n"

    def exchange() -> None:
        transport.read()
        clock.now_ns()
        clock.now_ns()
        transport.write(message)

    return exchange


def _measure_tape(directory: Path, rounds: int, samples: int) -> list[Figure]:
    import gc

    system = LoopClock()
    tape = Tape(system)
    line = _NoLine("none", 57600)
    plain = _exchange(line, system)
    kept = _exchange(RecordingTransport(line, tape, SMU), RecordingClock(system, tape))
    writer = TapeWriter(tape, RingWriter(directory / "tape"), epoch=1)
    reader = RingReader(directory / "tape")
    hot, behind = [], []
    gc.disable()
    try:
        for _ in range(rounds):
            took = {"plain": 0, "kept": 0, "tick": 0}
            for _ in range(samples // TICK_EXCHANGES):
                for name, exchange in (("plain", plain), ("kept", kept)):
                    began = time.perf_counter_ns()
                    for _ in range(TICK_EXCHANGES):
                        exchange()
                    took[name] += time.perf_counter_ns() - began
                began = time.perf_counter_ns()
                writer.tick(began)
                took["tick"] += time.perf_counter_ns() - began
            while reader.read() is not None:
                pass
            reader.release()
            hot.append((took["kept"] - took["plain"]) / samples)
            behind.append(took["tick"] / samples)
    finally:
        gc.enable()
    reader.close()
    return [
        Figure("flight_record_ns", statistics.median(hot), "ns", TAPE_TARGET_NS),
        Figure("flight_tick_ns", statistics.median(behind), "ns"),
    ]
