"""Bad input at the command line: one line with what, where and what to do; exit 1 or 2; the output never on."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.cli.app import build_app
from edge.config import template
from hil.processes import BenchRig, RigSpec, StageSpec, wait_for
from tests.live_runs import flowing, sweep

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


def tipguard(rig: BenchRig, *words: str, timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
    """Run a verb as typed, with the bench's run directory."""
    return subprocess.run(
        [sys.executable, "-m", "edge.cli.main", *words],
        env=rig.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of complaint; fail if there are more, or a traceback."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("tipguard")]
    assert "Traceback" not in done.stderr, done.stderr
    assert len(lines) == 1, done.stderr
    return lines[0]


def never_live(rig: BenchRig) -> bool:
    return not any(event["event"] == "live" for event in rig.truth())


@contextlib.contextmanager
def smu_only(directory: Path) -> Iterator[BenchRig]:
    """An emulated instrument without a controller."""
    rig = BenchRig(directory, RigSpec(load="ohmic:1e6"))
    rig.start_smu()
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture(scope="module")
def instrument(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BenchRig]:
    """An emulated instrument without a controller, for tests that leave it as it is."""
    with smu_only(tmp_path_factory.mktemp("instrument")) as rig:
        yield rig
        assert never_live(rig)


@pytest.fixture(scope="module")
def safe_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BenchRig]:
    """A rig that is SAFE, for tests that leave it so."""
    with smu_only(tmp_path_factory.mktemp("safe")) as rig:
        rig.start_controller()
        yield rig
        assert never_live(rig)


@pytest.mark.parametrize("verb", [("controller",), ("serve",), ("uplink",), ("check",), ("status",), ("run", "iv")])
def test_a_mistyped_key_is_named_with_its_neighbours(
    instrument: BenchRig, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    config = tmp_path / "rig.toml"
    text = instrument.config_path.read_text(encoding="utf-8").replace("current_a", "curent_a")
    config.write_text(text, encoding="utf-8")
    done = tipguard(instrument, *verb, str(config))
    assert done.returncode == 2
    line = complaint(done)
    assert str(config) in line
    assert "limits.curent_a" in line
    assert "current_a" in line
    assert never_live(instrument)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path)
    done = tipguard(rig, "check", str(tmp_path / "absent.toml"))
    assert done.returncode == 2
    assert "tipguard init" in complaint(done)


def test_init_never_overwrites_unasked(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path)
    before = rig.config_path.read_bytes()
    done = tipguard(rig, "init", str(rig.config_path))
    assert done.returncode == 2
    assert "--force" in complaint(done)
    assert rig.config_path.read_bytes() == before
    assert tipguard(rig, "init", str(rig.config_path), "--force").returncode == 0


def test_an_absent_port(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path)
    done = tipguard(rig, "controller", str(rig.config_path))
    assert done.returncode == 2
    line = complaint(done)
    assert str(rig.link) in line
    assert "No such file" in line
    assert "by-id" in line
    done = tipguard(rig, "check", str(rig.config_path), "--json")
    assert done.returncode == 1
    assert not json.loads(done.stdout)["ok"]


def test_a_port_that_another_process_holds(safe_rig: BenchRig, tmp_path: Path) -> None:
    before = undisturbed(safe_rig)
    other = tmp_path / "other.toml"
    other.write_text(safe_rig.config_path.read_text(encoding="utf-8").replace('id = "bench"', 'id = "other"'))
    done = tipguard(safe_rig, "controller", str(other))
    assert done.returncode == 1
    line = complaint(done)
    assert "held by another process" in line
    assert "fuser" in line
    assert undisturbed(safe_rig) == before


def test_a_second_controller_for_the_same_rig(safe_rig: BenchRig) -> None:
    before = undisturbed(safe_rig)
    for verb in ("controller", "serve"):
        done = tipguard(safe_rig, verb, str(safe_rig.config_path))
        assert done.returncode == 1
        assert "already runs" in complaint(done)
    assert undisturbed(safe_rig) == before


def undisturbed(rig: BenchRig) -> int:
    """Return the worker's process id; fail where the rig is not SAFE."""
    status = rig.status()
    assert status is not None, "the controller was disturbed"
    assert (status["state"], status["alarm"]) == ("SAFE", None)
    return int(status["pid"])


def test_another_serial_number_behind_the_port(tmp_path: Path) -> None:
    with smu_only(tmp_path) as rig:
        text = rig.config_path.read_text(encoding="utf-8").replace("1304207", "4242424")
        rig.config_path.write_text(text, encoding="utf-8")
        done = tipguard(rig, "controller", str(rig.config_path))
        assert done.returncode == 1
        line = complaint(done)
        assert "1304207" in line
        assert "4242424" in line
        done = tipguard(rig, "check", str(rig.config_path))
        assert done.returncode == 1
        assert "1304207" in done.stdout
        assert never_live(rig)


@contextlib.contextmanager
def stranger(directory: Path, answer: bytes) -> Iterator[Path]:
    """A pseudo-terminal that answers every line with ``answer`` (nothing, if empty)."""
    controller, device = pty.openpty()
    tty.setraw(device)
    link = directory / "stranger"
    link.symlink_to(os.ttyname(device))
    child = os.fork()
    if child == 0:
        while True:
            data = os.read(controller, 4096)
            if answer:
                os.write(controller, answer * data.count(b"\n"))
    try:
        yield link
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(controller)
        os.close(device)


@pytest.mark.parametrize(
    ("answer", "says"),
    [(b"", "no reply to '*IDN?'"), (b"ACME,DMM,0,1\r\n", "serial number"), (b"\x00\xff\x13garbage\n", "*IDN?")],
    ids=["mute", "another-make", "garbage"],
)
def test_a_stranger_behind_the_port(tmp_path: Path, answer: bytes, says: str) -> None:
    rig = BenchRig(tmp_path)
    with stranger(tmp_path, answer) as link:
        rig.config_path.write_text(
            template(path=str(link), serial_number="1304207", series_ohm=1000.0), encoding="utf-8"
        )
        done = tipguard(rig, "controller", str(rig.config_path))
        assert done.returncode == 1, done.stderr
        assert says in complaint(done)


def test_no_controller_says_how_to_start_one(instrument: BenchRig) -> None:
    for verb in (("status",), ("stop",), ("rearm",), ("run", "iv")):
        done = tipguard(instrument, *verb, str(instrument.config_path))
        assert done.returncode == 1
        assert "tipguard serve" in complaint(done)


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--to-v", "-11"), 1, "limits.voltage_v"),
        (("--to-v", "-5"), 1, "rig.series_resistor_ohm"),
        (("--to-v", "0"), 2, "to_v"),
        (("--to-v", "-0.5", "--step-v", "7"), 2, "step_v"),
        (("--to-v", "-0.5", "--cycles", "0"), 2, "cycles"),
        (("--to-v", "-0.5", "--dwell-s", "60"), 1, "NOT PROTECTED"),
        (("--to-v", "-0.5", "--on-trigger", "explode"), 2, "on_trigger"),
    ],
)
def test_a_plan_outside_what_the_rig_allows(safe_rig: BenchRig, options: tuple[str, ...], code: int, says: str) -> None:
    before = undisturbed(safe_rig)
    done = tipguard(safe_rig, "run", "iv", str(safe_rig.config_path), *options)
    assert done.returncode == code, done.stderr
    assert says in complaint(done)
    assert never_live(safe_rig)
    assert undisturbed(safe_rig) == before


def test_maps_that_never_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad rows, points outside the travel, too much bias: named where they stand, and nothing has moved."""
    rig = BenchRig(tmp_path, RigSpec(stage=StageSpec(), seed=7, series_ohm=1500.0))
    bad, outside = tmp_path / "bad.csv", tmp_path / "outside.csv"
    bad.write_text("x_um,y_um,kind\n40,50,gb\n41,5,50,gb\n42,fifty,gb\n43,50,bg\n", encoding="utf-8")
    outside.write_text("# far\r\nx_um;y_um\r\n40,5;50\r\n140,5;50\r\n", encoding="utf-8")
    line = ("--line", "40,50,60,50,3")
    cases: list[tuple[tuple[str, ...], int, str]] = [
        (("trigger-map",), 2, "no points: expected one of --points"),
        (("trigger-map", "--points", str(bad)), 2, f"{bad}: 3 of 4 points cannot be read; nothing was moved"),
        (("trigger-map", "--points", str(outside)), 1, "point 2 (line 4): x 140.5 um is outside the travel, 0 to 100"),
        (("trigger-map", *line, "--sweep", "gi:-1:1"), 2, "no point is of this kind"),
        (("trigger-map", *line, "--to-v", "-5"), 1, "rig.series_resistor_ohm"),
        (("trigger-map", *line, "--rate-v-s", "1e-3"), 1, "NOT PROTECTED"),
        (("trigger-map", *line, "--order", "as you like"), 2, "order"),
        (("memristor", "--at", "50,-1"), 1, "--at: y -1 um is outside the travel, 0 to 100 um"),
        (("memristor", "--at", "50"), 2, "--at: value '50': expected X,Y"),
        (("memristor", "--reset-v", "-1"), 2, "reset_v"),
    ]
    try:
        rig.start()
        wait_for("the stage", lambda: ((rig.status() or {}).get("stage") or {}).get("ready"), 20)
        # In this process: ten more would take as many times half a second to start.
        monkeypatch.setenv("RUNTIME_DIRECTORY", rig.environment["RUNTIME_DIRECTORY"])
        app = build_app(with_hil=False, with_demo=False)
        for (plan, *options), code, says in cases:
            done = CliRunner().invoke(app, ["run", plan, str(rig.config_path), *options])
            assert done.exit_code == code, done.stderr
            assert done.stderr.startswith("tipguard: ")
            assert says in done.stderr
            if str(bad) in options:
                rows = [row.strip().partition(",")[0] for row in done.stderr.splitlines()[1:]]
                assert rows == ["line 3", "line 4", "line 5"]
        done = CliRunner().invoke(app, ["status", str(rig.config_path)])
        assert "tip not lifted, at x 50.000, y 50.000, z 49.500 µm" in done.stdout
        assert [event["event"] for event in rig.truth()] == []
    finally:
        rig.close()


def test_check_asks_a_stage_and_moves_nothing(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, RigSpec(stage=StageSpec(servo_on=False), seed=7))
    try:
        rig.start_smu()
        done = tipguard(rig, "check", str(rig.config_path), "--json")
        assert done.returncode == 1
        found = {finding["what"]: finding for finding in json.loads(done.stdout)["findings"]}
        assert found["stage"]["text"].startswith("E-727.3CD, serial 0119024343")
        assert found["axes"]["grade"] == "ok"
        assert (found["servo"]["grade"], found["contact"]["grade"]) == ("fail", "ok")
        assert found["contact"]["text"].endswith("no contact")
        assert [event["event"] for event in rig.truth()] == []
    finally:
        rig.close()


def test_broker_absent_the_run_goes_on_and_says_so(tmp_path: Path) -> None:
    with smu_only(tmp_path) as rig:
        # Port 9 (discard): nothing of ours listens there.
        text = rig.config_path.read_text(encoding="utf-8").replace("port = 1883", "port = 9")
        rig.config_path.write_text(text, encoding="utf-8")
        with (tmp_path / "serve.log").open("w", encoding="utf-8") as log:
            serve = subprocess.Popen(
                [sys.executable, "-m", "edge.cli.main", "serve", str(rig.config_path)], env=rig.environment, stderr=log
            )
        try:
            wait_for("serve", lambda: (rig.status() or {}).get("state") == "SAFE", 20)
            done = tipguard(rig, "run", "iv", str(rig.config_path), "--to-v", "-0.05", "--step-v", "0.005")
            assert done.returncode == 0, done.stderr
            said = (tmp_path / "serve.log").read_text(encoding="utf-8")
            assert said.count("127.0.0.1:9") >= 1
            assert "Traceback" not in said
        finally:
            serve.send_signal(signal.SIGINT)
            assert serve.wait(15) == 0


# -- tripped, stopped, interrupted --


@pytest.mark.realtime
def test_ctrl_c_at_the_run_verb_cuts_and_exits_130(tmp_path: Path) -> None:
    with smu_only(tmp_path) as rig:
        rig.start_controller()
        command = [sys.executable, "-m", "edge.cli.main", "run", "iv", str(rig.config_path), "--to-v", "-1.0"]
        typed: list[subprocess.Popen[bytes]] = []

        def begin() -> subprocess.Popen[bytes]:
            # The verb of a run that has tripped ends by itself.
            assert all(one.wait(15) == 3 for one in typed)
            typed.append(subprocess.Popen(command, env=rig.environment, stderr=subprocess.DEVNULL))
            return typed[-1]

        run = flowing(rig, begin, least_a=5e-8)
        asked_ns = time.monotonic_ns()
        run.send_signal(signal.SIGINT)
        assert run.wait(15) == 130
        assert (rig.wait_safe_after(asked_ns) - asked_ns) / 1e9 < 0.5
        done = tipguard(rig, "status", str(rig.config_path))
        assert done.returncode == 3
        assert "OPERATOR" in done.stdout
        done = tipguard(rig, "run", "iv", str(rig.config_path), "--to-v", "-0.1")
        assert done.returncode == 1
        assert "rearm" in complaint(done)
        assert tipguard(rig, "rearm", str(rig.config_path)).returncode == 0
        assert tipguard(rig, "status", str(rig.config_path)).returncode == 0


@pytest.mark.realtime
def test_sigterm_of_the_controller_cuts_at_once_and_latches_for_the_next_start(tmp_path: Path) -> None:
    with smu_only(tmp_path) as rig:
        rig.start_controller()
        sweep(rig)
        asked_ns = time.monotonic_ns()
        rig.controller.send_signal(signal.SIGTERM)
        assert rig.controller.wait(10) == 0
        assert (rig.wait_safe_after(asked_ns) - asked_ns) / 1e9 < 0.100
        rig.start_controller()
        status = rig.status()
        assert status is not None
        assert (status["state"], status["verdict"]) == ("TRIPPED", "SHUTDOWN")


def test_a_crash_loop_ends_and_never_energises(tmp_path: Path) -> None:
    with smu_only(tmp_path) as rig:
        rig.start_controller()
        seen: set[int] = set()
        while rig.controller.code is None:
            status = rig.status()
            if status is not None and status["pid"] not in seen:
                seen.add(status["pid"])
                os.kill(status["pid"], signal.SIGKILL)
            select.select([], [], [], 0.01)
        assert rig.controller.code == 1
        assert len(seen) == 6
        assert never_live(rig)


# -- safe-off --


@pytest.mark.realtime
def test_safe_off_while_the_controller_holds_the_port(tmp_path: Path) -> None:
    with smu_only(tmp_path) as rig:
        rig.start_controller()
        sweep(rig)
        asked_ns = time.monotonic_ns()
        done = tipguard(rig, "safe-off", str(rig.config_path))
        took_s = (time.monotonic_ns() - asked_ns) / 1e9
        assert took_s < 2.0
        assert (rig.wait_safe_after(asked_ns) - asked_ns) / 1e9 < 2.0
        assert "verified off" in done.stdout
        # Whoever got the reply: the controller is tripped, or saw a line nobody asked for.
        assert rig.wait_state("TRIPPED")["state"] == "TRIPPED"


@pytest.mark.realtime
@pytest.mark.parametrize("how", ["safe.json", "typo-in-config", "no-config"])
def test_safe_off_without_a_controller(tmp_path: Path, how: str) -> None:
    with smu_only(tmp_path) as rig:
        live(rig.link)
        wait_for("a live tip", lambda: not never_live(rig), 5)
        words = ["safe-off", str(rig.config_path)]
        if how == "safe.json" or how == "no-config":
            rig.run_directory.mkdir(parents=True)
            (rig.run_directory / "safe.json").write_text(
                json.dumps(
                    {
                        "path": str(rig.link),
                        "baud": 57600,
                        "abort": "03",
                        "lines": [b":SOUR:VOLT 0\n".hex(), b":OUTP OFF\n".hex()],
                        "wants_zero": True,
                    }
                )
            )
        if how == "typo-in-config":
            text = rig.config_path.read_text(encoding="utf-8").replace("[limits]", "[limmits]\nfoo = 1")
            rig.config_path.write_text(text, encoding="utf-8")
        if how == "no-config":
            words = ["safe-off"]
        asked_ns = time.monotonic_ns()
        done = tipguard(rig, *words, "--json")
        assert (time.monotonic_ns() - asked_ns) / 1e9 < 2.0
        report = json.loads(done.stdout)
        assert done.returncode == 0, report
        assert report["verified_off"]
        assert (rig.wait_safe_after(asked_ns) - asked_ns) / 1e9 < 2.0


def live(link: Path) -> None:
    """Leave the instrument as a crashed script would: output on, a query unread."""
    fd = os.open(link, os.O_RDWR | os.O_NOCTTY)
    settings = termios.tcgetattr(fd)
    settings[0:4] = [0, 0, termios.CS8 | termios.CREAD | termios.CLOCAL, 0]
    termios.tcsetattr(fd, termios.TCSANOW, settings)
    os.write(fd, b":SOUR:VOLT -0.5\n:OUTP ON\n:READ?\n:SOUR:VOL")
    os.close(fd)


@pytest.mark.realtime
def test_safe_off_says_when_it_could_not(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path)
    done = tipguard(rig, "safe-off", str(rig.config_path))
    assert done.returncode == 1
    assert "NOT verified off" in done.stdout
    with stranger(tmp_path, b"") as link:
        rig.config_path.write_text(template(path=str(link), serial_number="1", series_ohm=0.0), encoding="utf-8")
        asked_ns = time.monotonic_ns()
        done = tipguard(rig, "safe-off", str(rig.config_path))
        assert (time.monotonic_ns() - asked_ns) / 1e9 < 2.5
        assert done.returncode == 1
        assert "NOT verified off" in done.stdout
