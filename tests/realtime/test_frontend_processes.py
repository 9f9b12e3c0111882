"""A front end between real processes: whoever dies or stands still, the path opens, and its black box is fetched."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge.flight import read_flight
from edge.ring import Kind
from hil.processes import BenchRig, FrontendSpec, RigSpec, wait_for
from tests.live_runs import sweep

LEASE_S = 0.1
HOST_S = 0.05
"""What a busy host of two cores needs to stop or start a process, and the emulator to see it."""
RIG = RigSpec(load="ohmic:1e6", frontend=FrontendSpec())

pytestmark = pytest.mark.realtime


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[BenchRig]:
    with BenchRig.running(tmp_path / "rig", RIG) as running:
        yield running


def opened_after(rig: BenchRig, t_ns: int) -> float:
    """Wait until the path in series opens, by the twin's record; return s from ``t_ns`` to then."""

    def look() -> int | None:
        return next((e["t_ns"] for e in rig.truth() if e["event"] == "switch_open" and e["t_ns"] >= t_ns), None)

    return (wait_for("an open switch", look, 5.0) - t_ns) / 1e9


def events(rig: BenchRig) -> list[dict[str, Any]]:
    records = read_flight(rig.run_directory / "ring").records
    return [msgpack.unpackb(record.payload) for record in records if record.kind == Kind.EVENT]


def test_the_keeper_of_a_dead_worker_trips_it_first_and_the_next_worker_fetches_its_box(rig: BenchRig) -> None:
    sweep(rig, dwell_s=0.05)
    killed_ns = time.monotonic_ns()
    os.kill(rig.worker_pid(), signal.SIGKILL)
    assert opened_after(rig, killed_ns) < LEASE_S + HOST_S
    status = rig.wait_state("TRIPPED")
    assert status["verdict"] == "RESTART"
    wait_for("the front end's look", lambda: (rig.status() or {}).get("frontend", {}).get("spoken_to") is False, 5.0)
    [late] = [event for event in events(rig) if event["kind"] == "black_box"]
    assert late["cut_ns"] is None
    assert late["frontend"]["reason"] in ("HOST", "LEASE"), "by the keeper, or by a lease that was quicker"
    assert late["frontend"]["box"]["n"] > 0


def test_keeper_and_worker_frozen_are_cut_by_the_lease(rig: BenchRig) -> None:
    sweep(rig, dwell_s=0.05)
    pids = (rig.controller.pid, rig.worker_pid())
    frozen_ns = time.monotonic_ns()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert opened_after(rig, frozen_ns) < LEASE_S + HOST_S
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
