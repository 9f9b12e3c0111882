"""Both sides of ``tipguard bench stream``: a front end before a whole rig, and a device of lines before a script."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from edge.errors import TipguardError
from edge.store.catalogue import read_contents
from hil.bench import stream_script
from hil.bench.stream_balance import StreamBalance, balance, resting_tip
from hil.bench.stream_cores import Window
from hil.bench.uplink_programs import Program
from hil.bench.uplink_sides import RIG, STORE, Ground, store
from hil.errors import BenchFaultError
from hil.frontend import build
from hil.frontend.bench_memory import WAVE_SAMPLES, BenchMemory
from hil.processes import BenchRig, FrontendSpec, RigSpec
from hil.processes.spec import PYTHON

SAMPLE_HZ: Final = 100_000
INSTRUMENT_PRIORITY: Final = 40
"""Of the emulated 2400, above the controller's: what answers late because of this host is no 2400."""
LATE_MS: Final = 60
"""So late may the firmware take samples and make up for it: no microcontroller would, a program among others must."""
SETTLE_S: Final = 0.3
"""From where a side runs to where it is measured."""
LOOK_S: Final = 0.5
STORED_S: Final = 30.0
"""At most so long until a store has what was measured."""
TO_V: Final = -0.5
LEVELS: Final = 3
"""Of a plan from 0 to TO_V and back in steps of TO_V."""
SLACK_S: Final = 2.0
"""So much longer than its window is a plan."""
TOPIC: Final = "lab/current"
_WAIT: Final = threading.Event()
"""Never set: to wait by."""

Progress = Callable[[float], None]


class RunInterruptedError(BenchFaultError):
    """The controller has cut: on a host with other work to do a reply, or a lease, comes too late at times."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ours:
    """One run of the rig."""

    seconds: float
    cores: dict[str, float]
    """By process: firmware, keeper, worker, uplink, broker, store, smu."""
    balance: StreamBalance

    @property
    def kept(self) -> int:
        """Samples that are in the store, once and right."""
        told = self.balance
        return max(told.wanted - told.lost - told.doubled - told.wrong, 0)

    @property
    def rate_hz(self) -> float:
        """Samples a second that got through."""
        return self.kept / self.seconds

    @property
    def controller(self) -> float:
        """Cores of keeper and worker together."""
        return self.cores["keeper"] + self.cores["worker"]

    @property
    def per_core(self) -> float:
        """Samples for each second of processor time that controller and uplink took."""
        return self.rate_hz / (self.controller + self.cores["uplink"])


@dataclasses.dataclass(frozen=True, slots=True)
class Theirs:
    """One run of a script."""

    rate_hz: float
    """Samples a second that arrived behind the broker."""
    lost: int
    cores: dict[str, float]
    """By process: script, device, broker, counter."""

    @property
    def per_core(self) -> float:
        """Samples for each second of processor time that the script took."""
        return self.rate_hz / max(self.cores["script"], 1e-3)


class Way(NamedTuple):
    """How a script does it."""

    name: str
    words: tuple[str, ...]


WAYS: Final = (Way("script", ()), Way("script_qos1", ("--qos", "1")), Way("script_buffered", ("--buffered",)))
"""The usual one first."""


def _look_on(seconds: float, check: Callable[[], None], progress: Progress) -> None:
    """Wait, and let ``check`` raise in between."""
    begun = time.monotonic()
    while (left := begun + seconds - time.monotonic()) > 0:
        progress(1.0 - left / seconds)
        _WAIT.wait(min(left, LOOK_S))
        check()


# ------------------------------------------------------------------------------------------------------- the rig


def rig_spec(ground: Ground, link: Path, seconds: float) -> RigSpec:
    """Return a rig with a front end at ``link`` that records every sample, for ``seconds`` at least."""
    full_max_s = seconds + SLACK_S + 60.0
    front = FrontendSpec(settings={"jump_a": 1e-4, "rate_a": 1e-4, "recording": "full", "full_max_s": full_max_s})
    tables = (
        f"{front.tables(link)}"
        f"\n[outbox]\ndirectory = {json.dumps(str(ground.disk / 'stream-outbox'))}\nstores = [{json.dumps(STORE)}]\n"
        "budget_bytes = 4294967296\n"
    )
    return RigSpec(rig=RIG, load="ohmic:1e6", config_text=lambda text: text + tables)


@contextmanager
def _firmware(memory: Path, link: Path) -> Iterator[Program]:
    # A microcontroller shares its processor with nobody: at real-time priority, where that is permitted.
    words = ["--link", str(link), "--bench", str(memory), "--max-late-ms", str(LATE_MS), "--realtime"]
    with Program("firmware", [str(build.native(SAMPLE_HZ)), *words]) as program:
        program.says()
        yield program


def _never_waits(pid: int) -> None:
    """Give a process, which stands for an instrument, the processor whenever it wants it; where that is permitted."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(PermissionError):
            os.sched_setscheduler(int(task.name), os.SCHED_FIFO, os.sched_param(INSTRUMENT_PRIORITY))


def ours(ground: Ground, seconds: float, progress: Progress) -> Ours:
    """Let a whole rig record every sample of a front end for ``seconds`` of a plan; compare store and converter.

    Raises RunInterruptedError where the plan ends before its time.
    """
    directory = ground.memory / "stream"
    for folder in (directory, ground.disk / "stream-outbox"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    wave = resting_tip(WAVE_SAMPLES)
    link = directory / "frontend"
    with ExitStack() as stack:
        memory = stack.enter_context(BenchMemory.created(directory / "converter"))
        memory.wave(wave, 0, loop=True)
        firmware = stack.enter_context(_firmware(directory / "converter", link))
        stored = stack.enter_context(store(ground))
        spec = rig_spec(ground, link, seconds)
        rig = stack.enter_context(BenchRig.running(directory / "rig", spec, broker=ground.broker))
        _never_waits(rig.smu.pid)
        rig.start_run("iv", to_v=TO_V, step_v=-TO_V, dwell_s=(seconds + SLACK_S) / LEVELS, back_scan=False)
        rig.wait_state("ENERGISED")
        _look_on(SETTLE_S, rig.check, lambda _done: None)
        pids = {
            "firmware": firmware.pid,
            "keeper": rig.controller.pid,
            "worker": rig.worker_pid(),
            "uplink": rig.uplink.pid,
            "broker": ground.broker.pid or 0,
            "store": stored.pid,
            "smu": rig.smu.pid,
        }
        window, first, begun = Window(pids), memory.sample_index, time.monotonic()
        _look_on(seconds, rig.check, progress)
        state = rig.wait_state("ENERGISED", "SAFE", "TRIPPED")["state"]
        if state != "ENERGISED":
            raise RunInterruptedError(
                f"the run ended while it was measured ({state}); was this host busy? The controller says:\n"
                f"{rig.controller.tail()}"
            )
        cores, last, took_s = window.cores(), memory.sample_index, time.monotonic() - begun
        rig.wait_state("SAFE", "TRIPPED", timeout_s=SLACK_S + STORED_S)
        told = _stored(ground, lambda payloads: balance(payloads, wave, range(first, last)))
    return Ours(took_s, cores, told)


def _stored(ground: Ground, judge: Callable[[Iterator[bytes]], StreamBalance]) -> StreamBalance:
    """Return the balance once the store has everything, or when there is no more hope of it."""
    end = time.monotonic() + STORED_S
    while True:
        try:
            contents = read_contents(ground.disk / "store")
            told = judge(payload for _key, _seq, payload in contents.raw_frames())
        except TipguardError as error:
            raise BenchFaultError(f"the store cannot be read: {error}") from error
        if told.lost == 0 or time.monotonic() > end:
            return told
        _WAIT.wait(LOOK_S)


# ---------------------------------------------------------------------------------------------------- the script


def theirs(ground: Ground, way: Way, seconds: float) -> Theirs:
    """Let a script forward what a device prints for ``seconds``."""
    link = ground.memory / "lines"
    link.unlink(missing_ok=True)
    port = str(ground.broker.port)
    script_words = [sys.executable, "-P", stream_script.__file__, str(link), "--port", port, "--topic", TOPIC]
    count_words = [*PYTHON, "-m", "hil.bench.stream_counter", "--port", port, "--topic", TOPIC]
    with (
        Program("counter", count_words) as counter,
        Program("device", [*PYTHON, "-m", "hil.bench.stream_lines", "--link", str(link)]) as device,
    ):
        counter.says()
        device.says()
        with Program("script", [*script_words, *way.words]) as script:
            script.says()
            device.go()
            _look_on(SETTLE_S, script.check, lambda _done: None)
            pids = {
                "script": script.pid,
                "device": device.pid,
                "broker": ground.broker.pid or 0,
                "counter": counter.pid,
            }
            counter.go()
            window, before = Window(pids), counter.says()
            _look_on(seconds, script.check, lambda _done: None)
            counter.go()
            after, cores = counter.says(), window.cores()
    took_s = (after["t_ns"] - before["t_ns"]) / 1e9
    return Theirs((after["unique"] - before["unique"]) / took_s, after["lost"], cores)
