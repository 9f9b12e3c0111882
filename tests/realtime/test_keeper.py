"""The keeper when the terminal, the kernel or the cable does something unusual; the twin's record is the judge."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.controller.mirror import DIRTY, Latch, Mirror
from hil.processes import BenchRig, RigSpec, wait_for
from hil.processes.cable import Cable
from tests.live_runs import sweep

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
OHMIC = RigSpec(load="ohmic:1e6")


def safe_since(rig: BenchRig, t_ns: int) -> float:
    return (rig.wait_safe_after(t_ns) - t_ns) / 1e9


@pytest.mark.realtime
@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGHUP, signal.SIGINT])
def test_a_terminal_signal_to_the_group_cuts_and_ends(tmp_path: Path, number: signal.Signals) -> None:
    with BenchRig.running(tmp_path, OHMIC) as rig:
        sweep(rig, dwell_s=0.03)
        struck_ns = time.monotonic_ns()
        os.killpg(rig.controller.pid, number)
        assert safe_since(rig, struck_ns) < 0.150
        assert rig.controller.wait(10) == 0


def test_ctrl_z_stops_neither_keeper_nor_worker(tmp_path: Path) -> None:
    with BenchRig.running(tmp_path, OHMIC) as rig:
        sweep(rig, dwell_s=0.03)
        worker = rig.worker_pid()
        for number in (signal.SIGTSTP, signal.SIGTTOU, signal.SIGTTIN):
            os.killpg(rig.controller.pid, number)
            for pid in (rig.controller.pid, worker):
                state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").split()[2]
                assert state != "T", number.name
        assert rig.call("stop")["ok"]


@pytest.mark.realtime
def test_a_signal_without_a_name_does_not_stop_the_cut(tmp_path: Path) -> None:
    with BenchRig.running(tmp_path, OHMIC) as rig:
        sweep(rig, dwell_s=0.03)
        struck_ns = time.monotonic_ns()
        os.kill(rig.worker_pid(), signal.SIGRTMIN + 6)
        assert safe_since(rig, struck_ns) < 0.150
        assert rig.wait_state("TRIPPED")["verdict"] == "RESTART"


@pytest.mark.realtime
def test_a_stopped_keeper_ends_the_run(tmp_path: Path) -> None:
    with BenchRig.running(tmp_path, OHMIC) as rig:
        sweep(rig, dwell_s=0.03)
        struck_ns = time.monotonic_ns()
        rig.controller.send_signal(signal.SIGSTOP)
        try:
            assert safe_since(rig, struck_ns) < 0.5 + 0.150
            status = rig.wait_state("TRIPPED")
            assert "keeper" in status["alarm"]
            assert rig.call("rearm")["ok"]
            rig.start_run("iv", to_v=-0.1)
            run = wait_for("the run to end", lambda: _ended(rig), 5)
            assert "keeper" in str(run["reason"])
        finally:
            rig.controller.send_signal(signal.SIGCONT)


def _ended(rig: BenchRig) -> dict[str, object] | None:
    run = (rig.status() or {}).get("run")
    return run if run and run["status"] != "running" else None


@pytest.mark.parametrize("after_s", [0.05, 0.3, 0.6])
def test_an_early_stop_latches_nothing(tmp_path: Path, after_s: float) -> None:
    rig = BenchRig(tmp_path, OHMIC)
    rig.start_smu()
    try:
        rig.start_controller()
        rig.controller.send_signal(signal.SIGTERM)
        assert rig.controller.wait(10) == 0
        rig.start_controller(wait=False)
        select.select([], [], [], after_s)
        rig.controller.send_signal(signal.SIGTERM)
        rig.controller.wait(10)
        rig.start_controller()
        assert (rig.status() or {})["state"] == "SAFE"
    finally:
        rig.close()


def test_a_worker_killed_while_safe_comes_back_safe(tmp_path: Path) -> None:
    with BenchRig.running(tmp_path, OHMIC) as rig:
        pid = rig.worker_pid()
        os.kill(pid, signal.SIGKILL)
        wait_for("another worker", lambda: (rig.status() or {"pid": pid})["pid"] != pid, 20)
        assert rig.wait_state("SAFE", "TRIPPED")["state"] == "SAFE"


def test_a_python_file_in_the_folder_does_not_shadow_the_library(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    for name in ("secrets", "select", "serial", "json"):
        (lab / f"{name}.py").write_text("raise SystemExit('shadowed')\n", encoding="utf-8")
    rig = BenchRig(tmp_path, OHMIC)
    rig.start_smu()
    try:
        tipguard = Path(sys.executable).with_name("tipguard")
        rig.start_controller(wait=False, program=[str(tipguard)], cwd=lab)
        assert rig.wait_state("SAFE")["state"] == "SAFE"
        done = subprocess.run(
            [tipguard, "safe-off", rig.config_path], env=rig.environment, cwd=lab, check=False, timeout=10
        )
        assert done.returncode in (0, 1)
    finally:
        rig.close()


@contextlib.contextmanager
def cabled(directory: Path) -> Iterator[tuple[BenchRig, Cable]]:
    """A rig whose cable can be pulled."""
    rig = BenchRig(directory, OHMIC)
    rig.start_smu()
    instrument = os.path.realpath(rig.link)
    server_link = rig.link
    rig.link = directory / "cable"
    text = rig.config_path.read_text(encoding="utf-8").replace(str(server_link), str(rig.link))
    rig.config_path.write_text(text, encoding="utf-8")
    cable = Cable(rig.link, instrument)
    cable.plug()
    try:
        rig.start_controller()
        yield rig, cable
    finally:
        rig.close()
        cable.pull()


@pytest.mark.realtime
def test_unplugged_while_live_it_is_cut_when_the_port_is_back(tmp_path: Path) -> None:
    with cabled(tmp_path) as (rig, cable):
        sweep(rig, dwell_s=0.03)
        cable.pull()
        pulled_ns = time.monotonic_ns()
        spent = _cpu_s(rig.controller.pid)
        # A second without a port: the keeper tries again and again, and does not spin.
        select.select([], [], [], 1.0)
        assert _cpu_s(rig.controller.pid) - spent < 0.3
        assert not any(e["event"] == "safe" and e["t_ns"] > pulled_ns for e in rig.truth())
        cable.plug()
        back_ns = time.monotonic_ns()
        assert safe_since(rig, back_ns) < 0.6
        status = rig.wait_state("TRIPPED")
        assert status["verdict"] == "LINK_LOST"
        assert rig.call("rearm")["ok"]


def test_unplugged_while_safe_it_comes_back_safe(tmp_path: Path) -> None:
    with cabled(tmp_path) as (rig, cable):
        cable.pull()
        select.select([], [], [], 0.3)
        cable.plug()
        assert wait_for("the rig", lambda: _safe(rig), 20)


def _safe(rig: BenchRig) -> bool:
    return (rig.status() or {}).get("state") == "SAFE"


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_dirty_mirror_and_a_mute_instrument_still_get_a_cut(tmp_path: Path) -> None:
    # The last life died with the output on, and now nothing is heard from the instrument, although it hears.
    rig = BenchRig(tmp_path, OHMIC)
    controller, device = pty.openpty()
    tty.setraw(device)
    rig.link.symlink_to(os.ttyname(device))
    rig.run_directory.mkdir(parents=True)
    Mirror(rig.run_directory).write(Latch(DIRTY, epoch=1))
    try:
        rig.start_controller(wait=False)
        heard = b""
        end = time.monotonic() + 15
        while b":OUTP OFF" not in heard and time.monotonic() < end:
            if select.select([controller], [], [], 0.1)[0]:
                heard += os.read(controller, 4096)
        assert b":SOUR:VOLT 0\n:OUTP OFF\n" in heard
    finally:
        rig.close()
        os.close(controller)
        os.close(device)
