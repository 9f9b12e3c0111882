"""A rig with a stage as processes on pseudo-terminals: a map, a worker killed in it, a stage's port that goes."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge import rundir
from edge.errors import BusyError
from edge.instruments.port import OpenPort
from edge.ring import Kind, RingReader
from hil.processes import BenchRig, RigSpec, StageSpec, wait_for
from hil.twin.grains import Box
from tests import live_runs

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
UM = 1e-6
SEED = 3
STAGE = StageSpec(
    start_um=(50.0, 50.0, 49.97),
    settings={"lift_m": 50e-9, "settle_s": 0.05},
)
SPEC = RigSpec(seed=SEED, series_ohm=10_000.0, stage=STAGE)
FIELD = Box(45 * UM, 45 * UM, 55 * UM, 55 * UM)
KEEPER_S = 0.150


def ended(rig: BenchRig) -> dict[str, Any] | None:
    run = (rig.status() or {}).get("run")
    return run if run and run["status"] != "running" else None


def documents(rig: BenchRig) -> list[dict[str, Any]]:
    reader = RingReader(rig.run_directory / rundir.RING_FILE)
    found = []
    while (record := reader.read()) is not None:
        if record.kind == Kind.RUN:
            found.append(msgpack.unpackb(record.payload))
    return found


@pytest.mark.realtime
def test_a_map_over_both_lines_and_a_worker_killed_in_its_sweep(tmp_path: Path) -> None:
    sample = STAGE.sample(SEED)
    ((x, y),) = sample.boundary_points(1, FIELD)

    def one_point_and_a_kill(rig: BenchRig) -> None:
        wait_for("the stage", lambda: (rig.status() or {})["stage"]["ready"], 10)
        # Nobody else on either line while a controller has them.
        assert rig.stage_link is not None
        for path in (rig.link, rig.stage_link):
            with pytest.raises(BusyError):
                OpenPort(str(path), 115200)
        uid = rig.start_run("trigger-map", points=[[x, y, "gb", "B1"]], rate_v_s=0.5, zero=False)
        run = live_runs.ended(rig, uid, 60)
        assert run["status"] == "completed", run["reason"]
        assert run["results"]["kinds"]["gb"]["triggered"] == 1
        found = [document for document in documents(rig) if document["kind"] != "progress"]
        assert [document["kind"] for document in found] == ["start", "zero", "point", "stop"]
        point = found[2]
        (onset,) = [e for e in rig.truth() if e["event"] == "set_onset"]
        (landing,) = [e for e in rig.truth() if e["event"] == "landing"]
        # Two clocks that are one: CLOCK_MONOTONIC of the instruments and of the controller.
        assert landing["t_ns"] < point["landed_ns"] < point["began_ns"] < onset["t_ns"] < point["verified_ns"]
        assert point["trigger_bias_v"] == pytest.approx(onset["v_source"], abs=0.03)
        status = rig.status()
        assert status is not None
        assert status["stage"]["lifted"]
        assert status["alarm"] is None
        kill_in_the_sweep(rig, sample.interior_points(1, FIELD)[0])

    # Landings and triggers are those of one run: a new rig where the host was late.
    live_runs.on_a_rig(tmp_path, SPEC, one_point_and_a_kill)


def kill_in_the_sweep(rig: BenchRig, at: tuple[float, float]) -> None:
    rig.start_run("trigger-map", points=[[*at, "gi"]], to_v=-6.0, rate_v_s=1.0, zero=False)

    def sweeping() -> bool:
        status = rig.status()
        if status is None:
            return False
        live_runs.check_lateness(status)
        sample = status["sample"]
        return status["state"] == "ENERGISED" and sample is not None and sample["bias_v"] < -0.5

    wait_for("the sweep", sweeping, 30)
    worker = rig.worker_pid()
    struck_ns = time.monotonic_ns()
    os.kill(worker, signal.SIGKILL)
    assert (rig.wait_safe_after(struck_ns) - struck_ns) / 1e9 <= KEEPER_S
    status = rig.wait_state("TRIPPED")
    assert status["verdict"] == "RESTART"
    assert status["pid"] != worker
    wait_for("the lifted tip", lambda: (rig.status() or {})["stage"]["lifted"], 10)
    # In this order, by the sample's own record: safe, up, off.
    after = [e for e in rig.truth() if e["t_ns"] > struck_ns]
    assert [e["event"] for e in after] == ["safe", "stage_move", "lift"]
    assert after[1]["axis"] == "3"


# ------------------------------------------------------------------------------------------------- the stage's own port


class Socket:
    """A pseudo-terminal at ``link`` behind which nobody answers; pulled out, its other end is closed."""

    def __init__(self, link: Path) -> None:
        self._link = link
        self._fd = -1

    def plug(self) -> None:
        self._fd, device = pty.openpty()
        tty.setraw(device)
        fresh = self._link.with_suffix(".new")
        fresh.symlink_to(os.ttyname(device))
        fresh.replace(self._link)
        os.close(device)

    def pull(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._link.unlink(missing_ok=True)


@contextlib.contextmanager
def socketed(directory: Path) -> Iterator[tuple[BenchRig, Socket]]:
    """A rig whose stage has a port of its own, with nobody behind it; not started."""
    link = directory / "stage"
    spec = RigSpec(load="ohmic:1e6", config_text=lambda text: StageSpec().configure(text, link))
    socket = Socket(link)
    rig = BenchRig(directory, spec)
    rig.start_smu()
    try:
        yield rig, socket
    finally:
        rig.close()
        socket.pull()


def next_worker(rig: BenchRig) -> None:
    """Kill the worker; wait for another."""
    pid = rig.worker_pid()
    os.kill(pid, signal.SIGKILL)
    wait_for("another worker", lambda: (rig.status() or {"pid": pid})["pid"] != pid, 20)
    rig.wait_state("SAFE", "TRIPPED")


def test_a_stages_port_that_comes_and_goes(tmp_path: Path) -> None:
    with socketed(tmp_path) as (rig, socket):
        socket.plug()
        rig.start_controller()
        socket.pull()
        # The keeper lives on without it, worker after worker, and keeps the output of the rig in hand.
        for _ in range(2):
            next_worker(rig)
            assert "is gone" in str((rig.status() or {}).get("alarm"))
            rig.start_run("iv", to_v=-0.1, step_v=0.01, back_scan=False)
            assert "was not looked at" in str(wait_for("the run to end", lambda: ended(rig), 10)["reason"])
        assert "the stage's port is gone" in rig.controller.output()
        socket.plug()
        # A restart of the worker is enough: the keeper opens the port anew, and has its lock.
        next_worker(rig)
        assert "is gone" not in str((rig.status() or {}).get("alarm"))
        with pytest.raises(BusyError):
            OpenPort(str(tmp_path / "stage"), 115200)
        assert not any(event["event"] == "live" for event in rig.truth())


def test_a_stages_port_that_is_not_there_at_the_start_is_said(tmp_path: Path) -> None:
    with socketed(tmp_path) as (rig, _socket):
        rig.start_controller(wait=False)
        assert rig.controller.wait(20) == 2
        said = rig.controller.output()
        assert f"port {tmp_path / 'stage'}" in said
        assert "Traceback" not in said
        assert not any(event["event"] == "live" for event in rig.truth())


def test_a_stages_port_that_another_program_has_is_said(tmp_path: Path) -> None:
    with socketed(tmp_path) as (rig, socket):
        socket.plug()
        other = OpenPort(str(tmp_path / "stage"), 115200)
        try:
            rig.start_controller(wait=False)
            assert rig.controller.wait(20) == 1
            assert "is held by another process" in rig.controller.output()
        finally:
            other.close()
