"""The demo as a person types it: what it says against the twin's own record, how it ends, and that nothing is left."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib.image
import msgpack
import numpy as np
import paho.mqtt.client as mqtt
import pytest
from rich.console import Console

import hil.broker
from edge import frames
from edge.control_client import ControlClient
from edge.errors import BusyError
from edge.rundir import CONTROL_SOCKET
from edge.samples import Phase, Sample
from hil.demo import show
from hil.demo.findings import IvFindings
from hil.demo.show import RIG, DemoOptions, run_demo
from hil.demo.story import in_words
from hil.demo.subscriber import Subscriber
from hil.demo.truth import LABEL, read_sets
from hil.errors import BenchFaultError, BenchOptionError
from hil.processes import wait_for

SUBSCRIBER = Path(show.__file__).with_name("subscriber.py")
MARK = "TIPGUARD_TEST_DEMO"


class Demo:
    """A demo under way, and every process that stems from it, known by a mark in its environment."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.mark = f"{MARK}={os.getpid()}-{folder}"
        self.out = folder / "out"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge.cli.main", "demo", "--out", str(self.out), "--seed", "9", *options],
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

    def pid_of(self, part: str) -> int:
        """Return the process whose command holds ``part``."""
        return next(pid for pid, (command, _) in self.family().items() if part in command)

    def wait_energised(self) -> None:
        """Wait until bias is on the tip."""

        def look() -> bool:
            assert self.process.poll() is None, self.process.communicate()
            for _, environment in self.family().values():
                run = Path(environment.get("RUNTIME_DIRECTORY", "none")) / RIG / CONTROL_SOCKET
                with contextlib.suppress(BusyError), ControlClient(run) as client:
                    status = client.call("status")["data"]
                    return bool(status["state"] == "ENERGISED" and status["samples"] > 5)
            return False

        wait_for("bias on the tip", look, 30.0)

    def end(self) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr."""
        out, err = self.process.communicate(timeout=45)
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
        assert sorted(path.name for path in running.out.iterdir()) == ["event.png", "iv.png", "summary.json"]
        for name in summary["files"]:
            assert_drawn(running.out / name)
    said = " ".join(out.split())
    trigger_mv = f"{summary['iv']['trigger_bias_v'] * 1e3:.1f} ± 1.1 mV"
    assert f"At {trigger_mv}, " in said
    assert f"trigger bias {trigger_mv} {summary['truth']['trigger_bias_v'] * 1e3:.1f} mV" in said
    assert LABEL in said
    assert "lithium filament" in said
    assert "nothing missing" in said


@pytest.mark.realtime
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
    """Compare what came over MQTT with what the twin knows."""
    found, truth, plan = summary["iv"], summary["truth"], summary["plan"]
    assert summary["ok"]
    assert truth["label"] == LABEL
    assert (found["n_sets"], found["status"], found["planned_cut"]) == (1, "completed", True)
    # The filament forms at the level before or after the step; the series resistor has no share before it.
    assert abs(found["trigger_bias_v"] - truth["trigger_bias_v"]) <= found["trigger_half_v"] + 1e-4
    assert found["trigger_half_v"] == pytest.approx(plan["step_v"] / 2, rel=0.02)
    assert abs(found["set_current_a"]) == pytest.approx(truth["peak_current_a"], rel=0.02)
    assert found["site_ohm"] == pytest.approx(truth["site_ohm"], rel=0.02)
    assert 0 < found["charge_from_first_reading_c"] < truth["charge_c"]
    # Slower on a loaded host, never faster than a level takes.
    assert -0.11 < found["ramp_v_s"] < -0.05
    assert 5e-9 < found["noise_floor_a"] < 100e-9
    latency = summary["cut_latency_s"]
    assert latency["total"] == pytest.approx(sum(latency[part] for part in ("decide", "write", "verify")))
    assert 0 < latency["decide"] < latency["verify"] < 0.25
    assert 0 < truth["safe_after_onset_s"] < 0.25
    assert summary["frames"]["missing"] == 0
    assert summary["frames"]["published"] == summary["frames"]["received"] > 5
    assert summary["samples"]["missing"] == 0
    assert summary["samples"]["received"] == summary["samples"]["recorded"] > found["n_search"] + found["n_read"]


def assert_drawn(path: Path) -> None:
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[1] > 1000
    assert np.mean(pixels[..., :3].min(axis=2) < 0.5) > 0.003


@pytest.mark.realtime
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


@pytest.mark.realtime
def test_a_dead_worker_is_told_with_the_keepers_last_words(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        running.wait_energised()
        os.kill(running.pid_of("edge.controller.worker"), signal.SIGKILL)
        code, _, err = running.end()
        assert code == 1
        assert "the worker ended during the run, and the keeper cut" in err
        assert "verified off" in err
        assert "NOT" not in err
        assert running.family() == {}


@pytest.mark.realtime
def test_a_dead_child_is_told_with_its_last_lines(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        running.wait_energised()
        os.kill(running.pid_of("cli.main uplink"), signal.SIGKILL)
        code, _, err = running.end()
        assert code == 1
        assert err.startswith("tipguard demo: the uplink ended (SIGKILL); its last lines:\n  ")
        assert "connected to broker" in err
        assert running.family() == {}


# ------------------------------------------------------------------------------------------------- refused early


def quiet(out: Path) -> DemoOptions:
    return DemoOptions(out=out, seed=1, as_json=True)


def test_without_any_broker_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hil.broker, "available", list)
    with pytest.raises(BenchOptionError, match=r"apt-get install mosquitto, or pip install 'tipguard\[demo\]'"):
        run_demo(quiet(tmp_path), Console())


def test_without_matplotlib_it_says_so_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show.importlib.util, "find_spec", lambda _name: None)  # type: ignore[attr-defined]
    with pytest.raises(BenchOptionError, match=r"matplotlib is not installed.*pip install 'tipguard\[demo\]'"):
        run_demo(quiet(tmp_path / "out"), Console())
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchOptionError, match=r"--out .*file/out: Not a directory; name a folder"):
        run_demo(quiet(tmp_path / "file" / "out"), Console())


# ------------------------------------------------------------------------------------------------ the subscriber


def test_the_subscriber_shares_no_code_with_the_publisher() -> None:
    code = f"""
import runpy, sys
runpy.run_path({str(SUBSCRIBER)!r}, run_name="copied")
ours = [m for m in sys.modules if m.split(".")[0] in ("edge", "hil", "firmware_proto")]
assert not ours, ours
"""
    # -P: not even the folder we are in is searched.
    subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=60)


def test_the_subscriber_alone_says_when_there_is_no_broker() -> None:
    command = [sys.executable, "-P", str(SUBSCRIBER), "127.0.0.1", str(hil.broker.free_port()), "bench"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "is a broker running there?" in done.stderr
    assert "Traceback" not in done.stderr


NO_UTC = frames.UtcMapping(0, valid=True, unc_ns=0)
RUN = 0xABC


def samples(seq: int, first: int, runs: list[int], epoch: int = 1) -> bytes:
    rows = [Sample(first + i, 1, first + i + 1, -0.001 * (first + i), -1e-9, 0, Phase.SEEK) for i in range(len(runs))]
    return frames.sample_frame("bench", epoch, seq, first, rows, runs, NO_UTC)


def fed(*messages: tuple[str, bytes]) -> Subscriber:
    """A subscriber that got these messages, without a broker."""
    subscriber = Subscriber("127.0.0.1", 1, "bench")
    for topic, payload in messages:
        message = mqtt.MQTTMessage(topic=f"tipguard/bench/{topic}".encode())
        message.payload = payload
        subscriber._on_message(subscriber._client, None, message)
    return subscriber


def test_it_counts_holes_and_repetitions() -> None:
    subscriber = fed(
        ("samples", samples(0, 0, [RUN] * 3)),
        ("samples", samples(3, 9, [RUN] * 3)),
        ("samples", samples(3, 9, [RUN] * 3)),
        ("samples", samples(0, 0, [RUN] * 3, epoch=2)),
        ("events", frames.doc_frame("event", "bench", 1, 1, {"kind": "cut"}, NO_UTC)),
    )
    assert subscriber.counts() == {"published": 7, "received": 4, "missing": 3, "repeated": 1}
    assert subscriber.unreadable == []


def test_it_sorts_what_comes_out_of_order_and_tells_runs_apart() -> None:
    subscriber = fed(
        ("samples", samples(1, 3, [RUN, RUN, 0, 0])),
        ("samples", samples(0, 0, [RUN] * 3)),
        ("samples", samples(2, 7, [0, 0])),
    )
    assert subscriber.samples()["t_ns"].tolist() == list(range(9))
    assert subscriber.samples(f"{RUN:016x}")["t_ns"].tolist() == [0, 1, 2, 3, 4]
    assert len(subscriber.samples("00000000000000ff")["t_ns"]) == 0


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", b"[]", msgpack.packb([1]), msgpack.packb({"v": 2}), msgpack.packb({"v": 1}), msgpack.packb(7)],
)
def test_what_it_cannot_read_is_kept_as_a_reason(payload: bytes) -> None:
    subscriber = fed(("events", payload), ("status", b"not json"), ("status", b'{"online": true}'))
    assert len(subscriber.unreadable) == 2
    assert subscriber.status == {"online": True}
    assert subscriber.counts()["received"] == 0


# ----------------------------------------------------------------------------------------------------- the words


def test_a_run_that_found_nothing_or_tripped_says_so() -> None:
    nothing = {name: np.empty(0) for name in ("t_ns", "bias_v", "current_a")}
    found = IvFindings(
        uid="a" * 16,
        started_utc=datetime.now(UTC),
        plan={"to_v": -0.5},
        rig={"id": "bench"},
        status="completed",
        reason=None,
        search=nothing,
        cut=nothing,
        read=nothing,
        sets=(),
        ramp_v_s=float("nan"),
        noise_floor_a=float("nan"),
        loop_ohm=None,
    )
    assert [" ".join(line.split()) for line in in_words(found)] == ["The sweep to -500 mV ended without a set."]
    tripped = dataclasses.replace(found, status="tripped", reason="tripped: STALE")
    assert in_words(tripped) == ["The run ended early: tripped: STALE."]
    json.dumps(tripped.document(), allow_nan=False)


# ----------------------------------------------------------------------------------------------------- the truth


def test_a_set_ends_when_the_tip_is_safe(tmp_path: Path) -> None:
    entry = {"v_tip": -0.118, "v_source": -0.118, "i_a": -1e-5, "peak_current_a": 1e-5, "r_on_ohm": 8e3}
    lines = [
        {"t_ns": 1, "event": "live", **entry, "charge_c": 0.0, "energy_j": 0.0},
        {"t_ns": 5, "event": "set_onset", **entry, "charge_c": 0.0, "energy_j": 0.0},
        {"t_ns": 9, "event": "safe", **entry, "charge_c": 2e-7, "energy_j": 1e-8},
        {"t_ns": 20, "event": "safe", **entry, "charge_c": 9e-7, "energy_j": 5e-8},
    ]
    path = tmp_path / "truth.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (found,) = read_sets(path)
    assert (found.onset_ns, found.safe_ns, found.charge_c, found.energy_j) == (5, 9, 2e-7, 1e-8)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines[:2]))
    with pytest.raises(BenchFaultError, match="never safe again"):
        read_sets(path)
    with pytest.raises(BenchFaultError, match="not a truth record"):
        read_sets(tmp_path / "absent")
