"""The heartbeat between real processes: keeper and worker frozen, and the tip is safe all the same."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.processes import BenchRig, RigSpec, wait_for

BOUND_S = 0.050
"""The monostable's 40 ms, the instrument's 0.1 ms, and what a host needs to stop two processes."""
TRIES = 5
WIRED = RigSpec(load="ohmic:1e6", oe=True)

pytestmark = pytest.mark.realtime


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[int]:
    """Stop processes, the worker last, and give the time after; let them go on in the end."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield time.monotonic_ns()
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def let_current_flow(rig: BenchRig) -> None:
    """Run a sweep until the twin is live; a busy host may be late with a beat or a reading, and trip before that."""
    for _ in range(TRIES):
        began_ns = time.monotonic_ns()
        rig.start_run("iv", to_v=-1.0, step_v=0.01, dwell_s=0.02, back_scan=False)
        if wait_for("a live tip", functools.partial(_live_or_tripped, rig, began_ns), 20.0) == "live":
            return
        print(f"\ntripped before the blow: {rig.wait_state('TRIPPED')['verdict']}")
        rig.call("rearm")
    pytest.fail(f"tripped {TRIES} times before the blow")


def _live_or_tripped(rig: BenchRig, began_ns: int) -> str | None:
    # Not by the last sample of a status: until the first reading of this run it is the last run's.
    events = [entry for entry in rig.truth() if entry["event"] in ("live", "safe") and entry["t_ns"] >= began_ns]
    if events:
        return "live" if events[-1]["event"] == "live" else "tripped"
    status = rig.status()
    return "tripped" if status is not None and status["state"] == "TRIPPED" else None


def test_a_stop_is_the_line_s_first_and_keeper_and_worker_frozen_are_cut_by_silence(tmp_path: Path) -> None:
    with BenchRig.running(tmp_path / "rig", WIRED) as rig:
        let_current_flow(rig)
        asked_ns = time.monotonic_ns()
        rig.call("stop")
        status = rig.wait_state("TRIPPED")
        cut = status["last_event"]
        assert [one["name"] for one in cut["actuators"]] == ["gpio", "serial"]
        assert not status["gpio"]["beating"]
        safe_ns = rig.wait_safe_after(asked_ns)
        # The serial cut's lines need 10 ms on the wire and in the instrument; an emulator may be late with the line.
        assert safe_ns - cut["actuators"][0]["t_ns"] < 5_000_000
        assert safe_ns < cut["verified_ns"]

        rig.call("rearm")
        let_current_flow(rig)
        with frozen(rig.controller.pid, rig.worker_pid()) as frozen_ns:
            safe_s = (rig.wait_safe_after(frozen_ns) - frozen_ns) / 1e9
        assert safe_s <= BOUND_S
        # What goes on then finds its output off, and says so; a person looks before it beats again.
        assert not rig.wait_state("TRIPPED")["gpio"]["beating"]
