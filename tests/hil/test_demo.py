"""The demo as a person types it: what it says against the twin's own record, how it ends, and that nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from rich.console import Console

import hil.broker
from edge.control_client import ControlClient
from edge.errors import BusyError
from edge.rundir import CONTROL_SOCKET
from hil.demo import show
from hil.demo.plan import MAP_RIG, MEMRISTOR_RIG
from hil.demo.show import DemoOptions, run_demo
from hil.demo.subscriber import Subscriber
from hil.demo.truth import LABEL
from hil.errors import BenchOptionError
from hil.processes import wait_for

LONG = bool(os.environ.get("TIPGUARD_LONG"))
MARK = "TIPGUARD_TEST_DEMO"


class Demo:
    """A demo under way, and every process that stems from it, known by a mark in its environment."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.mark = f"{MARK}={os.getpid()}-{folder}"
        self.out = folder / "out"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge.cli.main", "demo", "--out", str(self.out), "--quick", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, MARK: self.mark.split("=", 1)[1]},
            # A terminal's Ctrl-C goes to a process group: its own, here.
            process_group=0,
        )

    def family(self) -> dict[int, tuple[str, dict[str, str]]]:
        """Return command and environment of each of its processes."""
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and self.mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    lines = (entry / "environ").read_text(errors="replace").split("\0")
                    environment = dict(line.split("=", 1) for line in lines if "=" in line)
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " "), environment
        return found

    def pid_of(self, *parts: str) -> int:
        """Return the process whose command holds all of ``parts``."""
        return next(pid for pid, (command, _) in self.family().items() if all(part in command for part in parts))

    def port_of_the_broker(self) -> int:
        """Return where the demo's broker listens, by the rig's own configuration."""

        def look() -> int | None:
            for command, _ in self.family().values():
                path = re.search(r"uplink (\S+/map/rig\.toml)", command)
                if path:
                    found = re.search(r"(?m)^port = (\d+)$", Path(path[1]).read_text())
                    return int(found[1]) if found else None
            return None

        return wait_for("the demo's broker", look, 30.0)

    def wait_energised(self) -> None:
        """Wait until bias is on the tip."""

        def look() -> bool:
            assert self.process.poll() is None, self.process.communicate()
            for _, environment in self.family().values():
                run = Path(environment.get("RUNTIME_DIRECTORY", "none")) / MAP_RIG / CONTROL_SOCKET
                with contextlib.suppress(BusyError), ControlClient(run) as client:
                    status = client.call("status")["data"]
                    return bool(status["state"] == "ENERGISED" and status["phase"] == "SEEK" and status["samples"] > 5)
            return False

        wait_for("bias on the tip", look, 30.0)

    def end(self) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr."""
        out, err = self.process.communicate(timeout=55)
        return self.process.returncode, out, err


@contextlib.contextmanager
def demo(folder: Path, *options: str) -> Iterator[Demo]:
    under_way = Demo(folder, *options)
    try:
        yield under_way
    finally:
        for pid in under_way.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        under_way.process.wait()
        for pipe in (under_way.process.stdout, under_way.process.stderr):
            if pipe is not None:
                pipe.close()


# --------------------------------------------------------------------------------------------------- whole runs


@pytest.mark.realtime
def test_what_a_person_reads_is_what_happened(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        code, out, err = running.end()
        assert (code, err) == (0, "")
        assert running.family() == {}
        summary = json.loads((running.out / "summary.json").read_text())
        assert_true(summary)
        names = sorted(path.name for path in running.out.iterdir())
        assert names == sorted([*summary["files"], "points.csv", "summary.json"])
        for name in summary["files"]:
            if name.endswith(".png"):
                assert_drawn(running.out / name)
        page = (running.out / "report.html").read_text()
        rows = (running.out / "points.csv").read_text().splitlines()
    said = " ".join(out.replace("\u00a0", " ").split())
    ratio = summary["charge_c"]["script"] / summary["charge_c"]["tipguard"]
    assert f": {ratio:.0f} times less (twin's truth record)." in said
    assert f"{summary['memristor']['reset_ok']} of 3 resets" in said
    assert "nothing missing" in said
    assert "mean pressure 5.91 GPa" in said
    assert "above the tip's hardness" in said
    for label in ("B1", "B2"):
        assert f"GB {label}: gave way at −" in said
    assert page.count("data:image/png;base64,") == len(summary["files"]) - 1
    assert rows[0] == "x_um,y_um,kind,label"
    assert len(rows) == 3


@pytest.mark.realtime
@pytest.mark.skipif(not LONG, reason="another whole run; set TIPGUARD_LONG=1")
@pytest.mark.skipif("iotcore" not in hil.broker.available(), reason="iotcore is not installed")
def test_with_the_embedded_broker_a_program_reads_the_same(tmp_path: Path) -> None:
    with demo(tmp_path, "--json", "--broker", "iotcore") as running:
        code, out, err = running.end()
        assert (code, err) == (0, "")
        assert running.family() == {}
        summary = json.loads(out)
        assert summary == json.loads((running.out / "summary.json").read_text())
        assert summary["broker"] == "iotcore"
        assert_true(summary)


def assert_true(summary: dict[str, Any]) -> None:
    """Compare what came over MQTT with what the twin knows, and with what was asked for."""
    assert summary["ok"]
    gb, gi, memristor = summary["trigger_map"]["gb"], summary["trigger_map"]["gi"], summary["memristor"]
    assert (gb["n"], gb["triggered"], gb["censored"], gb["invalid"]) == (2, 2, 0, 0)
    assert -0.25 < gb["median_v"] < -0.05
    assert gb["rate_v_s"] == 0.1
    assert (gi["n"], gi["median_v"], gi["median_beyond_v"]) == (0, None, None)
    assert (memristor["cycles"], memristor["reset_ok"]) == (3, 3)
    assert memristor["n_resolved"] + memristor["n_bound"] == 3
    assert memristor["on_off_lower_bound_median"] >= 1e4
    assert 3e-10 < memristor["lod_a"] < 4e-10
    guard, twin = summary["guard"], summary["twin"]
    # The reads after the sweeps say what the twin knows: nothing missed, nothing invented.
    assert (guard["missed"], guard["false"]) == (0, 0)
    assert (twin["map"]["sets"], twin["memristor"]["sets"]) == (2, 3)
    assert guard["trips"] == 2 + 3 + 1
    latency = guard["cut_latency_s"]
    assert 0.02 < latency["p50"] <= latency["p99"] <= latency["max"] < 0.25
    for truth in twin.values():
        assert truth["label"] == LABEL
        assert 1e-6 < truth["peak_current_a"] < 1e-3
        assert truth["samples_over_limit"] == 0
    charge = summary["charge_c"]
    assert 0 < charge["tipguard"] < 0.2 * charge["script"]
    assert summary["frames"]["missing"] == 0
    assert summary["frames"]["published"] == summary["frames"]["received"] > 30
    assert summary["samples"]["missing"] == 0
    assert summary["samples"]["received"] == summary["samples"]["recorded"] > 300


def assert_drawn(path: Path) -> None:
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[1] > 1000
    assert np.mean(pixels[..., :3].min(axis=2) < 0.5) > 0.003


@pytest.mark.processes
@pytest.mark.skipif(not LONG, reason="another start of three rigs; set TIPGUARD_LONG=1")
def test_ctrl_c_with_bias_on_switches_off_first_and_leaves_nothing(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        running.wait_energised()
        os.killpg(running.process.pid, signal.SIGINT)
        # Another one, from somebody impatient, changes nothing.
        os.killpg(running.process.pid, signal.SIGINT)
        code, out, err = running.end()
        assert code == 130
        assert err == "tipguard demo: interrupted; output verified off\n"
        assert "Traceback" not in out
        assert running.family() == {}
        assert list(running.out.iterdir()) == []


@pytest.mark.processes
@pytest.mark.skipif(not LONG, reason="another start of three rigs; set TIPGUARD_LONG=1")
def test_a_dead_worker_is_told_with_the_keepers_last_words(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        running.wait_energised()
        os.kill(running.pid_of("edge.controller.worker", "/map/rig.toml"), signal.SIGKILL)
        code, _, err = running.end()
        assert code == 1
        assert "the worker ended during the run, and the keeper cut" in err
        assert "verified off" in err
        assert "NOT" not in err
        assert running.family() == {}


@pytest.mark.processes
@pytest.mark.skipif(not LONG, reason="another start of three rigs; set TIPGUARD_LONG=1")
def test_a_dead_child_is_told_with_its_last_lines(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        running.wait_energised()
        os.kill(running.pid_of("cli.main uplink", "/map/rig.toml"), signal.SIGKILL)
        code, _, err = running.end()
        assert code == 1
        assert err.startswith("tipguard demo: the uplink ended (SIGKILL); its last lines:\n  ")
        assert "connected to broker" in err
        assert running.family() == {}


@pytest.mark.processes
@pytest.mark.timeout(120)
@pytest.mark.skipif(not LONG, reason="a whole run and another start; set TIPGUARD_LONG=1")
def test_stay_leaves_two_rigs_at_work_until_ctrl_c(tmp_path: Path) -> None:
    with demo(tmp_path, "--json", "--stay") as running:
        port = running.port_of_the_broker()
        maps, memristors = (Subscriber("127.0.0.1", port, rig) for rig in (MAP_RIG, MEMRISTOR_RIG))
        for subscriber in (maps, memristors):
            subscriber.start()
        try:
            wait_for("the first start", lambda: epoch_of(maps) and epoch_of(memristors), 30.0)
            first = {epoch_of(maps), epoch_of(memristors)}
            wait_for("the first showing's end", (running.out / "summary.json").exists, 60.0)
            wait_for("both rigs anew", lambda: not {epoch_of(maps), epoch_of(memristors)} & (first | {None}), 30.0)
            wait_for("the memristor to cycle again", lambda: memristors.live.get("state") == "ENERGISED", 30.0)
        finally:
            for subscriber in (maps, memristors):
                subscriber.stop()
        os.killpg(running.process.pid, signal.SIGINT)
        code, _, err = running.end()
        assert (code, err) == (0, "")
        assert running.family() == {}
        assert json.loads((running.out / "summary.json").read_text())["ok"]


def epoch_of(subscriber: Subscriber) -> str | None:
    """Return the start of the controller that is online now."""
    status = subscriber.status
    return str(status["epoch"]) if status.get("online") and status.get("epoch") else None


# ------------------------------------------------------------------------------------------------- refused early


def quiet(out: Path) -> DemoOptions:
    return DemoOptions(out=out, seed=1, as_json=True)


def test_without_any_broker_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hil.broker, "available", list)
    with pytest.raises(BenchOptionError, match="apt-get install mosquitto, or `make setup`"):
        run_demo(quiet(tmp_path), Console())


def test_without_matplotlib_it_says_so_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show.importlib.util, "find_spec", lambda _name: None)  # type: ignore[attr-defined]
    with pytest.raises(BenchOptionError, match=r"matplotlib is not installed.*`make setup` installs it"):
        run_demo(quiet(tmp_path / "out"), Console())
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchOptionError, match=r"--out .*file/out: Not a directory; name a folder"):
        run_demo(quiet(tmp_path / "file" / "out"), Console())
