"""``tipguard hil stage`` from outside: a process, a port, a client, a signal, and what is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import serial

from edge.clock import LoopClock
from edge.instruments.contact import AnalogContact
from edge.instruments.gcs_controller import GcsController
from edge.instruments.gcs_link import GcsLink
from edge.instruments.pi_gcs2 import PiGcs2
from edge.instruments.port import HotSelector, OpenPort, SerialTransport
from hil.stage import StageOptions, serve_stage

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def served(link: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = [sys.executable, "-m", "hil", "stage", "--link", str(link), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                pytest.fail(f"no ready line; stderr: {process.communicate(timeout=20)[1]}")
            yield process, json.loads(line)
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ready_serve_and_a_clean_end(tmp_path: Path, number: signal.Signals) -> None:
    link, truth = tmp_path / "stage", tmp_path / "truth.jsonl"
    options = ("--axes", "X,Y,Z", "--travel-um", "50", "--seed", "7", "--truth", str(truth))
    with served(link, *options) as (process, ready):
        assert ready == {
            "ready": True,
            "link": str(link),
            "pid": process.pid,
            "seed": 7,
            "axes": ["X", "Y", "Z"],
            "surface_um": 37.5,
        }
        with serial.Serial(str(link), 115200, timeout=10) as client:
            client.write(b"SVO X 1\nMOV X 30\nTMX? Y\n\x07")
            assert client.read_until(b"\n") in {b"\xb1\n", b"Y=50.0000\n"}
            assert client.read_until(b"\n") in {b"\xb1\n", b"Y=50.0000\n"}
        assert ended(process, number) == (0, "", "")
    assert not link.is_symlink()
    record = [json.loads(line) for line in truth.read_text().splitlines()]
    assert [entry["event"] for entry in record] == ["servo", "move", "summary"]
    assert record[-1]["n_moves"] == 1


def test_the_drivers_in_real_time(tmp_path: Path) -> None:
    link = tmp_path / "stage"

    async def main(selector: HotSelector) -> None:
        port = OpenPort(str(link), 115200)
        transport = SerialTransport(
            port.fileno(), name=str(link), baud=115200, emulated=port.emulated, selector=selector
        )
        gcs = GcsController(GcsLink(transport, LoopClock()))
        stage, contact = PiGcs2(gcs), AnalogContact(gcs, threshold_v=0.5)
        try:
            await stage.start()
            await stage.servo(on=True)
            assert not await contact.in_contact()
            position = await stage.move_to({"1": 60e-6, "3": 75.05e-6})
            assert position["1"] == pytest.approx(60e-6, abs=10e-9)
            assert await contact.in_contact()
            status = await stage.status()
            assert (status.moving, status.on_target, status.servo_on, status.error) == (False, True, True, 0)
        finally:
            transport.close()
            port.close()

    with served(link, "--seed", "3"):
        selector = HotSelector()
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            runner.run(main(selector))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"baud": 1234}, "--baud 1234: want one of 9600"),
        ({"seed": -1}, "--seed -1: want an integer from 0"),
        ({"travel_um": 0.0}, "--travel-um 0.0: want a travel in um"),
        ({"travel_um": float("nan")}, "--travel-um nan: want"),
        ({"axes": ""}, "--axes : name must be"),
        ({"axes": "1,1"}, "--axes 1,1: 1 to 16 axes with different names"),
        ({"axes": "1;2"}, "--axes 1;2: name must be"),
        ({"truth": Path("/nonexistent/truth")}, "--truth /nonexistent/truth: cannot be written"),
        ({"link": Path("/nonexistent/stage")}, "link /nonexistent/stage: No such file or directory; create"),
    ],
)
def test_bad_options_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], told: str
) -> None:
    assert serve_stage(StageOptions(**{"link": tmp_path / "stage", **options})) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"tipguard hil stage: {told}")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_server_imports_nothing_heavy() -> None:
    heavy = ("asyncio", "numpy", "pydantic", "matplotlib", "serial", "edge")
    code = f"import sys, hil.stage; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_the_help_names_every_option() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hil", "stage", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"},
    )
    for option in ("link", "axes", "travel-um", "baud", "seed", "truth"):
        assert f"--{option}" in done.stdout
