"""``tipguard hil smu`` from outside: a process, a port, a client, a signal, and what is left behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import serial

from hil.serving import NICER_BY, going_first
from hil.smu import SmuOptions, serve_smu

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[2]

SET_UP = (
    "*RST;:SYST:BEEP:STAT OFF",
    ":FORM:ELEM CURR",
    ':SENS:FUNC:CONC OFF;:SENS:FUNC "CURR"',
    ":SOUR:VOLT:RANG 2",
    ":SENS:CURR:PROT 1.0E-3;RANG 1.0E-3;NPLC 0.01",
    ":SYST:AZER OFF",
)


class Server:
    def __init__(self, process: subprocess.Popen[str], ready: dict[str, Any]) -> None:
        self.process = process
        self.ready = ready

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Signal it and return its exit code and what it wrote to stderr."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        assert out == "", "exactly one line on stdout"
        return self.process.returncode, err


@contextmanager
def served(link: Path, *options: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "hil", "smu", "--link", str(link), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                pytest.fail(f"no ready line; stderr: {process.communicate(timeout=20)[1]}")
            yield Server(process, json.loads(line))
        finally:
            process.kill()


@contextmanager
def port(link: Path) -> Iterator[int]:
    fd = os.open(link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        tty.setraw(fd)
        yield fd
    finally:
        os.close(fd)


def ask(fd: int, message: str, end: bytes = b"\r", timeout_s: float = 10.0) -> str:
    os.write(fd, message.encode() + b"\n")
    got = b""
    deadline = time.monotonic() + timeout_s
    while not got.endswith(end):
        assert select.select([fd], [], [], max(deadline - time.monotonic(), 0))[0], f"{message}: no more after {got!r}"
        got += os.read(fd, 4096)
    return got[: -len(end)].decode()


def set_up(fd: int) -> None:
    for message in SET_UP:
        os.write(fd, message.encode() + b"\n")
    assert ask(fd, ":SYST:ERR?") == '0,"No error"'


def truth_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ready_serve_and_a_clean_end(tmp_path: Path, number: signal.Signals) -> None:
    link, truth = tmp_path / "smu", tmp_path / "truth.jsonl"
    options = ("--site", "gb:0.23", "--seed", "7", "--truth", str(truth), "--serial-number", "4711")
    with served(link, *options) as server:
        assert server.ready == {
            "ready": True,
            "link": str(link),
            "pid": server.process.pid,
            "seed": 7,
            "u_median_v": 0.23,
        }
        with port(link) as fd:
            assert ask(fd, "*IDN?").split(",")[:3] == ["KEITHLEY INSTRUMENTS INC.", "MODEL 2400", "4711"]
        assert server.stop(number) == (0, "")
    assert not link.is_symlink()
    assert [entry["event"] for entry in truth_of(truth)] == ["summary"]


@pytest.mark.parametrize(("name", "end"), [("CR", b"\r"), ("LF", b"\n"), ("CRLF", b"\r\n"), ("lfcr", b"\n\r")])
def test_every_terminator(tmp_path: Path, name: str, end: bytes) -> None:
    with served(tmp_path / "smu", "--terminator", name, "--baud", "0") as server, port(tmp_path / "smu") as fd:
        assert ask(fd, "*OPC?", end) == "1"
        assert server.ready["u_median_v"] is None
        assert isinstance(server.ready["seed"], int)


def test_a_resistor_is_measured_through_pyserial(tmp_path: Path) -> None:
    link = tmp_path / "smu"
    options = ("--load", "ohmic:9000", "--series-ohm", "1000", "--seed", "1")
    with served(link, *options), serial.Serial(str(link), 57600, timeout=10) as client:
        for message in (*SET_UP, ":SOUR:VOLT 1.0", ":OUTP ON"):
            client.write(message.encode() + b"\n")
        client.write(b":READ?\n")
        assert float(client.read_until(b"\r")) == pytest.approx(1e-4, rel=0.02)
        client.write(b":OUTP OFF\n:SYST:ERR?\n")
        assert client.read_until(b"\r") == b'0,"No error"\r'


def test_a_surge_and_its_cut_are_in_the_record(tmp_path: Path) -> None:
    link, truth = tmp_path / "smu", tmp_path / "truth.jsonl"
    options = ("--site", "gb", "--series-ohm", "1500", "--seed", "3", "--truth", str(truth))
    with served(link, *options) as server, port(link) as fd:
        set_up(fd)
        begin_ns = time.monotonic_ns()
        os.write(fd, b":SOUR:VOLT 0;:OUTP ON\n")
        current = 0.0
        for k in range(1, 60):
            current = float(ask(fd, f":SOUR:VOLT {-0.01 * k:.4f};:READ?"))
            if abs(current) > 5e-6:
                break
        os.write(fd, b":SOUR:VOLT 0\n:OUTP OFF\n")
        ask(fd, "*OPC?")
        end_ns = time.monotonic_ns()
        assert server.stop()[0] == 0
    record = truth_of(truth)
    assert [entry["event"] for entry in record] == ["live", "set_onset", "safe", "summary"]
    live, onset, safe, summary = record
    assert begin_ns < live["t_ns"] < onset["t_ns"] < safe["t_ns"] < end_ns
    assert onset["v_tip"] == pytest.approx(-0.01 * k, abs=0.0101)
    assert abs(current) == pytest.approx(safe["peak_current_a"], rel=0.3)
    assert safe["charge_c"] == pytest.approx(summary["charge_c"])
    assert 0 < safe["charge_c"] <= safe["peak_current_a"] * (safe["t_ns"] - onset["t_ns"]) * 1.000_001e-9
    assert summary["peak_v"] == pytest.approx(0.01 * k, abs=1e-9)


def test_it_goes_before_ordinary_programs_and_only_while_it_serves(tmp_path: Path) -> None:
    def nice(pid: int = 0) -> int:
        return os.getpriority(os.PRIO_PROCESS, pid)

    before = nice()
    wanted = max(-20, before - NICER_BY)
    with going_first():
        if nice() != wanted:
            pytest.skip("nobody may go before others here (no CAP_SYS_NICE)")
    assert nice() == before
    with served(tmp_path / "smu") as server:
        assert nice(server.process.pid) == wanted
        assert server.stop()[0] == 0


def test_the_line_is_paced(tmp_path: Path) -> None:
    with served(tmp_path / "smu", "--baud", "9600"), port(tmp_path / "smu") as fd:
        begin = time.monotonic()
        reply = ask(fd, "*IDN?")
        assert time.monotonic() - begin >= (6 + len(reply) + 1) * 10 / 9600


def test_a_second_bench_at_the_same_link_leaves_the_first_alone(tmp_path: Path) -> None:
    link, truth = tmp_path / "smu", tmp_path / "truth.jsonl"
    with served(link, "--truth", str(truth)) as server, port(link) as fd:
        set_up(fd)
        os.write(fd, b":SOUR:VOLT 1\n:OUTP ON\n")
        ask(fd, "*OPC?")
        before = truth.read_text()
        assert json.loads(before)["event"] == "live"
        options = ["--link", str(link), "--truth", str(truth)]
        second = subprocess.run(
            [sys.executable, "-m", "hil", "smu", *options], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert (second.returncode, second.stdout) == (2, "")
        assert second.stderr == (
            f"tipguard hil smu: link {link}: exists and is in use or not a link; remove it or name another path\n"
        )
        assert truth.read_text() == before
        assert ask(fd, ":OUTP?") == "1"
        assert server.stop()[0] == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"baud": 115200}, "--baud 115200: a 2400 knows 300"),
        ({"baud": -1}, "--baud -1"),
        ({"terminator": "NUL"}, "--terminator NUL: want one of CR, LF, CRLF, LFCR"),
        ({"load": "10k"}, "--load 10k: want ohmic:R"),
        ({"site": "grain"}, "--site grain: unknown kind 'grain'; want gb (grain boundary, 0.12 V)"),
        ({"site": "gb:zero"}, "--site gb:zero: want gb:U"),
        ({"site": "gb", "load": "ohmic:1"}, "--load and --site: only one sample"),
        ({"series_ohm": -1.0}, "--series-ohm -1.0: want"),
        ({"seed": -1}, "--seed -1: want an integer from 0"),
        ({"serial_number": "1,2"}, "--serial-number '1,2': want 1 to 16 letters and digits"),
        ({"serial_number": ""}, "--serial-number ''"),
        ({"truth": Path("/nonexistent/truth")}, "--truth /nonexistent/truth: cannot be written"),
        ({"link": Path("/nonexistent/smu")}, "link /nonexistent/smu: No such file or directory; create"),
    ],
)
def test_bad_options_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], told: str
) -> None:
    assert serve_smu(SmuOptions(**{"link": tmp_path / "smu", **options})) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"tipguard hil smu: {told}")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_server_imports_nothing_heavy() -> None:
    heavy = ("asyncio", "numpy", "pydantic", "matplotlib", "serial", "edge")
    code = f"import sys, hil.smu; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_the_help_names_every_option() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hil", "smu", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"},
    )
    words = ("link", "baud", "terminator", "load", "site", "series-ohm", "seed", "truth", "serial-number")
    for option in (*words, "flow", "abort-swallow-ms", "profile"):
        assert f"--{option}" in done.stdout
