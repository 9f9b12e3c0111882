"""A whole rig with a front end in series with the tip, as processes: one twin behind both, and who dies opens it."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.config import load
from firmware_proto.frontend.messages import Reason
from hil.processes import BenchRig, FrontendSpec, RigSpec, StageSpec, wait_for
from hil.processes.frontend_spec import PORT_BAUD
from hil.processes.spec import config_of, frontend_link_of, smu_command
from hil.suite import Wish
from hil.suite.emulated import EmulatedBench
from tests.hil.frontend_served.served import Host, served
from tests.live_runs import sweep

LEASE_NS = 100_000_000
SLOW = ("--frontend-hz", "10000", "--frontend-late-ms", "500")


def entries(rig: BenchRig, name: str) -> list[dict[str, Any]]:
    return [entry for entry in rig.truth() if entry["event"] == name]


def test_the_configuration_and_the_command_line_agree(tmp_path: Path) -> None:
    spec = RigSpec(load="ohmic:1e6", frontend=FrontendSpec(hz=20_000, settings={"level_a": None, "recording": "off"}))
    text = config_of(spec, tmp_path / "smu", None)
    assert 'recording = "off"' in text
    assert "level_a" not in text[text.index("\n[frontend]") :]
    plain = RigSpec(load="ohmic:1e6", frontend=FrontendSpec(baud=115_200, noise_a=1e-7))
    path = tmp_path / "rig.toml"
    path.write_text(config_of(plain, tmp_path / "smu", None), encoding="utf-8")
    config = load(path)
    assert config.ports.frontend is not None
    assert config.ports.frontend.path == str(frontend_link_of(tmp_path / "smu"))
    assert config.ports.frontend.baud == 115_200
    assert config.frontend is not None
    assert config.frontend.hard_a == 5e-4
    words = smu_command(plain, tmp_path / "smu", tmp_path / "truth")
    assert words[words.index("--frontend-noise-a") + 1] == "1e-07"
    usb = config_of(RigSpec(load="ohmic:1e6", frontend=FrontendSpec()), tmp_path / "smu", None)
    assert f"baud = {PORT_BAUD}" in usb[usb.index("[ports.frontend]") :]


def test_the_bench_of_the_fixture_says_what_it_has_and_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    native, qemu, bare = EmulatedBench(frontend="native"), EmulatedBench(frontend="qemu"), EmulatedBench()
    assert [bench.name for bench in (native, qemu, bare)] == ["emulated-frontend", "emulated-frontend-qemu", "emulated"]
    assert "frontend" in native.capabilities & qemu.capabilities
    assert "frontend" not in bare.capabilities
    monkeypatch.setenv("PATH", "")
    assert native.missing.endswith("apt-get install gcc")
    assert qemu.missing.endswith("apt-get install gcc-arm-none-eabi qemu-system-arm")
    assert bare.missing == ""


def test_the_bench_of_the_fixture_takes_what_a_test_wishes(tmp_path: Path) -> None:
    wish = Wish.of({"load": "ohmic:1e5", "frontend": FrontendSpec(noise_a=1e-7)})
    words = EmulatedBench(frontend="qemu").rig(tmp_path / "qemu", wish).command.split()
    assert words[words.index("--frontend-noise-a") + 1] == "1e-07"
    assert "--frontend-qemu" in words
    assert "--frontend" not in EmulatedBench().rig(tmp_path / "bare", wish).command.split()


@pytest.fixture
def rig() -> Iterator[BenchRig]:
    """1 Mohm behind 10 kohm; a short path for the control socket."""
    with tempfile.TemporaryDirectory(prefix="tg-") as folder:
        spec = RigSpec(load="ohmic:1e6", series_ohm=10_000.0, seed=3, frontend=FrontendSpec(late_ms=500))
        with BenchRig.running(Path(folder), spec) as running:
            yield running


@pytest.mark.realtime
def test_both_of_the_host_die_and_the_lease_opens_the_path(rig: BenchRig) -> None:
    """Nobody is left who could cut: neither keeper nor worker, and no supervisor."""
    sweep(rig, to_v=-0.5, dwell_s=0.1)
    worker, keeper = rig.worker_pid(), rig.controller.pid
    killed_ns = time.monotonic_ns()
    os.kill(keeper, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    opened = wait_for("the path to open", lambda: entries(rig, "switch_open") or None, 5.0)[-1]
    # A lease is at most 100 ms from when it was given, which was before; the rest is what a busy host adds.
    assert opened["t_ns"] - killed_ns < LEASE_NS + 20_000_000
    assert not entries(rig, "safe")[-1]["connected"]
    rig.controller.wait(5.0)


@pytest.mark.processes
def test_a_rig_with_a_stage_has_one_tip_behind_2400_stage_and_front_end(tmp_path: Path) -> None:
    words = ("--smu-link", str(tmp_path / "smu"), "--stage-link", str(tmp_path / "stage"), *SLOW)
    with served(tmp_path, *words, verb="rig", link="--frontend") as server:
        assert {"smu_link", "stage_link", "frontend", "firmware_pid"} <= server.ready.keys()
        host = Host(server.link)
        host.open()
        host.armed()
        host.renewing = False
        host.until("the end of the lease", host.trips)
        assert host.trips()[0].reason == Reason.LEASE
        host.close()
        assert server.stop() == (0, "")
    # In the air nothing flows; the pin is on the record of the tip all the same.
    assert server.truth("summary")[-1]["n_switch_open"] == 1


def test_a_stage_and_a_front_end_fit_one_specification(tmp_path: Path) -> None:
    spec = RigSpec(stage=StageSpec(), frontend=FrontendSpec(qemu=True))
    words = smu_command(spec, tmp_path / "smu", tmp_path / "truth")
    assert "rig" in words
    assert "--frontend-qemu" in words
