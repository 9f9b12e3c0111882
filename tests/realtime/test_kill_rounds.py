"""SIGKILL and SIGSTOP of the worker at random moments with current flowing; the twin's record is the judge.

5 moments per signal and load in the quick suite, 50 in the long rounds.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hil.processes import BenchRig, RigSpec
from tests.live_runs import sweep

LONG = os.environ.get("TIPGUARD_LONG") == "1"
MOMENTS = 50 if LONG else 3
BOUND_S = {signal.SIGKILL: 0.150, signal.SIGSTOP: 0.250}
OHMIC = RigSpec(load="ohmic:1e6")
TRIES = 10
"""Beside three busy loops."""
PER_CONTROLLER = 5
STOP_S = 8.0
BUSY_CORE = max(os.sched_getaffinity(0))
OTHER_CORE = min(os.sched_getaffinity(0))

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.timeout(900 if LONG else 120),
    # The same tests in both suites, with more moments in the long one.
    *([pytest.mark.long] if LONG else []),
]


class Load:
    """What else the host does, while it is :meth:`on`: loops of ordinary priority on one core, or nothing."""

    def __init__(self, loops: Sequence[subprocess.Popen[bytes]] = ()) -> None:
        self._loops = loops

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Have the loops run, from before a run begins until the tip is safe after the blow.

        Not while a worker is started: nothing is measured there, and beside three loops it takes four times as long.
        """
        self._tell(signal.SIGCONT)
        try:
            yield
        finally:
            self._tell(signal.SIGSTOP)

    def _tell(self, number: signal.Signals) -> None:
        for loop in self._loops:
            loop.send_signal(number)

    def cpu_s(self) -> float:
        """Return what the loops have had of their core so far."""
        ticks = 0
        for loop in self._loops:
            fields = Path(f"/proc/{loop.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def busy_loops(n: int, core: int) -> Iterator[Load]:
    """Give ``n`` loops that keep ``core`` busy whenever they are on; they begin off."""
    command = ["taskset", "-c", str(core), sys.executable, "-S", "-c", "while True: pass"]
    loops = [subprocess.Popen(command) for _ in range(n)]
    try:
        for loop in loops:
            loop.send_signal(signal.SIGSTOP)
        yield Load(loops)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def no_realtime(text: str) -> str:
    return text.replace('realtime = "auto"', 'realtime = "off"')


def wait_random(rng: random.Random, at_most_s: float) -> None:
    """Let a random time pass: what is wanted here is the moment, not a condition."""
    select.select([], [], [], rng.uniform(0, at_most_s))


def one_moment(rig: BenchRig, number: signal.Signals, rng: random.Random, load: Load) -> float:
    """Run a sweep, strike at a random moment with current flowing; return s from the signal to the safe tip."""
    with load.on():
        pid, struck_ns, safe_ns = blow(rig, number, rng)
    status = rig.wait_state("TRIPPED")
    assert status["verdict"] == "RESTART"
    assert status["pid"] != pid
    assert rig.call("rearm")["ok"]
    return (safe_ns - struck_ns) / 1e9


def blow(rig: BenchRig, number: signal.Signals, rng: random.Random) -> tuple[int, int, int]:
    """Return whom it struck, when, and when the tip was safe, in ns."""
    sweep(rig, tries=TRIES)
    pid = rig.worker_pid()
    wait_random(rng, 0.5)
    struck_ns = time.monotonic_ns()
    os.kill(pid, number)
    return pid, struck_ns, rig.wait_safe_after(struck_ns)


def strike(rig: BenchRig, number: signal.Signals, seed: int, load: Load) -> list[float]:
    rng = random.Random(seed)
    took = []
    for moment in range(MOMENTS):
        if moment and moment % PER_CONTROLLER == 0:
            # A keeper gives up on a worker that ends more often than that in a minute.
            rig.controller.stop(STOP_S)
            rig.start_controller()
        took.append(one_moment(rig, number, rng, load))
    took.sort()
    print(
        f"\n{number.name}: n {len(took)}, safe after median {took[len(took) // 2] * 1e3:.1f} ms, "
        f"max {took[-1] * 1e3:.1f} ms, bound {BOUND_S[number] * 1e3:.0f} ms"
    )
    return took


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_worker_struck_with_current_flowing(tmp_path: Path, number: signal.Signals) -> None:
    with BenchRig.running(tmp_path, OHMIC) as rig:
        assert max(strike(rig, number, 1, Load())) <= BOUND_S[number]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs a second core for the emulated instrument")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_worker_struck_without_fifo_beside_three_busy_loops_on_one_core(tmp_path: Path, number: signal.Signals) -> None:
    spec = replace(OHMIC, config_text=no_realtime, pin_to=BUSY_CORE, pin_smu_to=OTHER_CORE)
    with busy_loops(3, BUSY_CORE) as load, BenchRig.running(tmp_path, spec) as rig:
        status = rig.status()
        assert status is not None
        assert any("real-time" in note for note in status["notes"])
        before_s = load.cpu_s()
        took = strike(rig, number, 2, load)
        # At each blow they were there: a run takes longer than that until current flows.
        assert load.cpu_s() - before_s > 0.3 * MOMENTS
        assert max(took) <= BOUND_S[number]


def test_without_the_keeper_a_dead_worker_leaves_the_current_flowing(tmp_path: Path) -> None:
    # The removal test: the same blow with the keeper stopped first. Only safe-off, from outside, then helps.
    with BenchRig.running(tmp_path, OHMIC) as rig:
        sweep(rig)
        os.kill(rig.controller.pid, signal.SIGSTOP)
        struck_ns = time.monotonic_ns()
        os.kill(rig.worker_pid(), signal.SIGKILL)
        # Four times the bound that the keeper holds.
        select.select([], [], [], 0.6)
        assert not [e for e in rig.truth() if e["event"] == "safe" and e["t_ns"] > struck_ns]
        done = subprocess.run(
            [sys.executable, "-m", "edge.cli.main", "safe-off", str(rig.config_path)],
            env=rig.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
        assert done.returncode == 0, done.stdout
        assert "verified off" in done.stdout
        assert rig.wait_safe_after(struck_ns) > struck_ns
        os.kill(rig.controller.pid, signal.SIGCONT)


def test_keeper_killed_the_worker_cuts_and_exits(tmp_path: Path) -> None:
    with BenchRig.running(tmp_path, OHMIC) as rig:
        sweep(rig)
        worker = rig.worker_pid()
        struck_ns = time.monotonic_ns()
        rig.controller.kill()
        safe_ns = rig.wait_safe_after(struck_ns)
        assert (safe_ns - struck_ns) / 1e9 <= 0.150
        gone = select.poll()
        try:
            gone.register(os.pidfd_open(worker), select.POLLIN)
        except ProcessLookupError:
            return
        assert gone.poll(4000), "the worker outlived its keeper"
