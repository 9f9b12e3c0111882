"""Faults on a bench that is served on pseudo-terminals: a process, its lines on stdout, a socket, an exit code."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hil.cli import app
from hil.datagram import ask
from hil.errors import BenchOptionError
from hil.faults.control import Control
from hil.faults.injector import Injector
from hil.faults.kinds import KINDS
from hil.faults.plan import parse_plan
from hil.smu import SmuOptions, serve_smu
from hil.stage import StageOptions, serve_stage

pytestmark = pytest.mark.realtime

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """An emulator in a process of its own; what it prints is read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        if not text:
            pytest.fail(f"no more lines; stderr: {self.process.communicate(timeout=20)[1]}")
        found: dict[str, Any] = json.loads(text)
        return found

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=20)
        return self.process.returncode, err


@contextmanager
def served(*words: str) -> Iterator[Server]:
    command = [sys.executable, "-P", "-m", "hil", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            server = Server(process)
            assert server.line()["ready"] is True
            yield server
        finally:
            process.kill()


def plan(directory: Path, *faults: str) -> Path:
    path = directory / "plan.toml"
    path.write_text("\n".join(f"[[fault]]\n{fault}" for fault in faults), encoding="utf-8")
    return path


def opened(link: Path) -> int:
    fd = os.open(link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    tty.setraw(fd)
    return fd


def question(fd: int, text: bytes) -> bytes:
    os.write(fd, text + b"\n")
    got = b""
    end = time.monotonic() + 10
    while not got.endswith(b"\r"):
        assert select.select([fd], [], [], max(0.0, end - time.monotonic()))[0], f"{text!r}: no more after {got!r}"
        got += os.read(fd, 4096)
    return got


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, f"waited 10 s for {what}"
        select.select([], [], [], 0.005)


def inject(control: Path, *names: str) -> dict[str, Any]:
    return ask(control, {"inject": list(names)})


def test_a_plan_from_power_on_to_the_exit_code(tmp_path: Path) -> None:
    link, control = tmp_path / "smu", tmp_path / "control"
    faults = plan(
        tmp_path,
        'name = "short"\nkind = "truncate"\nat_frame = 1\ncount = 2',
        'name = "gone"\nkind = "unplug"\non_demand = true\nduration_s = 0.2',
    )
    with served("smu", "--link", str(link), "--faults", str(faults), "--control", str(control)) as server:
        fd = opened(link)
        first = link.readlink()
        assert question(fd, b"*ESE 10;*ESE?;:SYST:VERS?") == b"10;1996.0\r"
        assert question(fd, b"*ESE 11;*ESE?;:SYST:VERS?") == b"11\r"
        told = server.line()
        assert (told["applied"], told["frame"], told["byte"]) == ("short", 1, 12)
        assert ask(control, {"list": True}) == {"ok": True, "on_demand": ["gone"], "applied": ["short"]}
        # The instrument is told apart from its plug: what was set before is set after.
        os.write(fd, b":SOUR:VOLT 1.5\n")
        assert question(fd, b":SOUR:VOLT?") == b"+1.500000E+00\r"
        assert inject(control, "gone")["demanded"] == ["gone"]
        assert server.line()["applied"] == "gone"
        until(lambda: _hung_up(fd), "the hang-up")
        until(link.is_symlink, "the new link")
        again = opened(link)
        assert question(again, b":SOUR:VOLT?") == b"+1.500000E+00\r"
        assert link.readlink() != first
        os.close(again)
        os.close(fd)
        code, err = server.stop()
    assert (code, err) == (0, "")
    assert not control.exists()
    assert not link.is_symlink()


def _hung_up(fd: int) -> bool:
    try:
        return os.read(fd, 4096) == b""
    except BlockingIOError:
        return False
    except OSError as error:
        return error.errno == errno.EIO


def test_a_fault_that_was_never_applied_is_an_exit_code_and_a_line(tmp_path: Path) -> None:
    faults = plan(tmp_path, 'name = "never"\nkind = "mute"\nat_frame = 1000', 'kind = "reset"\nat_s = 0')
    with served("smu", "--link", str(tmp_path / "smu"), "--faults", str(faults)) as server:
        assert server.line()["applied"] == "reset-2"
        code, err = server.stop()
    assert code == 1
    assert err == "tipguard hil smu: fault 'never' was never applied\n"


def test_a_rig_has_faults_on_both_lines(tmp_path: Path) -> None:
    smu, stage, control = tmp_path / "smu", tmp_path / "stage", tmp_path / "control"
    faults = plan(
        tmp_path,
        'name = "jam"\nkind = "stage_stall"\non_demand = true\naxis = "1"\nerror = 1024',
        'name = "noise"\nkind = "insert"\nport = "stage"\non_demand = true\ndata = "#"',
    )
    words = ("rig", "--smu-link", str(smu), "--stage-link", str(stage), "--faults", str(faults))
    with served(*words, "--control", str(control)) as server:
        fd = opened(stage)
        inject(control, "jam", "noise")
        assert {server.line()["applied"], server.line()["applied"]} == {"jam", "noise"}
        os.write(fd, b"ERR?\n")
        got = b""
        while b"\n" not in got:
            assert select.select([fd], [], [], 10)[0]
            got += os.read(fd, 100)
        assert got == b"#1024\n"
        os.close(fd)
        assert server.stop() == (0, "")


def test_a_server_refuses_a_plan_that_is_wrong_or_not_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = plan(tmp_path, 'kind = "gremlin"\nat_s = 1')
    assert serve_smu(SmuOptions(tmp_path / "smu", faults=wrong)) == 2
    assert "plan.toml: fault 1: kind = 'gremlin'" in capsys.readouterr().err
    elsewhere = plan(tmp_path, 'kind = "stage_reset"\nat_s = 1')
    assert serve_smu(SmuOptions(tmp_path / "smu", faults=elsewhere)) == 2
    assert "port = 'stage': this bench has smu" in capsys.readouterr().err
    phases = plan(tmp_path, 'kind = "stage_reset"\nat_phase = "seek"')
    assert serve_stage(StageOptions(link=tmp_path / "stage", faults=phases)) == 2
    assert "at_phase: this bench has no 2400" in capsys.readouterr().err
    assert serve_smu(SmuOptions(tmp_path / "smu", control=tmp_path / "control")) == 2
    assert "name a plan with --faults" in capsys.readouterr().err
    assert not (tmp_path / "smu").is_symlink()
    assert not (tmp_path / "control").exists()


# The socket


def injector() -> Injector:
    return Injector(parse_plan('[[fault]]\nname = "hush"\nkind = "mute"\non_demand = true'))


def test_the_socket_answers_whatever_it_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with Control(path, injector()) as control:
        assert path.stat().st_mode & 0o777 == 0o600
        for asked, says in (
            (b"nonsense", "want a JSON object"),
            (b"[1]", "want a JSON object"),
            (b"{}", "inject: want 1 to 64 names"),
            (b'{"inject": ["what"]}', "what: no fault on demand; there are: hush"),
            (b'{"inject": [["hush"]]}', "no fault on demand"),
            (b'{"inject": ["hush"]}', "not armed yet"),
        ):
            answer = control.answer_to(asked)
            assert answer["ok"] is False
            assert says in answer["error"]
        control.ready()  # nobody asked
    assert not path.exists()


def test_a_socket_that_is_in_use_is_left_alone_and_a_dead_one_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with Control(path, injector()), pytest.raises(BenchOptionError, match="is in use; name a new path"):
        Control(path, injector())
    dead = Control(path, injector())
    dead._socket.close()
    with Control(path, injector()):
        assert path.exists()
    ordinary = tmp_path / "file"
    ordinary.write_text("precious", encoding="utf-8")
    with pytest.raises(BenchOptionError, match="is in use"):
        Control(ordinary, injector())
    assert ordinary.read_text(encoding="utf-8") == "precious"


# The verbs


def test_the_verb_inject_says_what_went_wrong(tmp_path: Path) -> None:
    runner = CliRunner()
    nobody = runner.invoke(app, ["inject", "--control", str(tmp_path / "gone"), "hush"])
    assert nobody.exit_code == 2
    assert "is a server with this --control running?" in nobody.output
    unnamed = runner.invoke(app, ["inject", "--control", str(tmp_path / "gone")])
    assert unnamed.exit_code == 2
    assert "name a fault, or --list" in unnamed.output


def test_the_verb_faults_prints_every_kind_and_checks_a_plan(tmp_path: Path) -> None:
    runner = CliRunner()
    printed = runner.invoke(app, ["faults"])
    assert printed.exit_code == 0
    for kind in KINDS.values():
        assert f"  {kind.name} " in printed.output
        assert kind.what in printed.output
    checked = runner.invoke(app, ["faults", str(plan(tmp_path, 'kind = "mute"\nat_byte = 3'))])
    assert checked.exit_code == 0
    assert json.loads(checked.output)["at_byte"] == 3
    wrong = runner.invoke(app, ["faults", str(plan(tmp_path, 'kind = "mute"'))])
    assert wrong.exit_code == 2
    assert "trigger: none" in wrong.output
