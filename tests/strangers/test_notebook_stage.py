"""A stage in a notebook: nothing but pyserial, lines typed by hand, replies cut with readline and split."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial

pytestmark = pytest.mark.processes
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def cell(link: Path, *options: str, end: str = "\n") -> Iterator[tuple[serial.Serial, Notebook]]:
    """Serve a stage and open its port as a notebook does."""
    command = [sys.executable, "-m", "hil", "stage", "--link", str(link), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), "no ready line"
            with serial.Serial(str(link), 115200, timeout=2) as ser:
                yield ser, Notebook(ser, end)
        finally:
            process.kill()


class Notebook:
    """The two functions that every such notebook has."""

    def __init__(self, ser: serial.Serial, end: str) -> None:
        self.ser = ser
        self.end = end

    def write(self, line: str) -> None:
        self.ser.write((line + self.end).encode())

    def ask(self, line: str) -> list[str]:
        """All lines of a reply: all but the last end with a space."""
        self.write(line)
        lines = []
        while True:
            raw = self.ser.readline()
            assert raw.endswith(b"\n"), f"{line}: timed out after {raw!r}"
            lines.append(raw.decode().strip())
            if not raw.endswith(b" \n"):
                return lines

    def positions(self) -> dict[str, float]:
        return {key: float(value) for key, value in (line.split("=") for line in self.ask("POS?"))}

    def wait_until_there(self, axes: int, timeout_s: float = 5.0) -> None:
        end = time.monotonic() + timeout_s
        while self.ask("ONT?") != [f"{k + 1}=1" for k in range(axes)]:
            assert time.monotonic() < end, "never on target"


def test_a_piezo_stage_typed_by_hand(tmp_path: Path) -> None:
    with cell(tmp_path / "stage", "--velocity-um-s", "1000") as (ser, notebook):
        assert "E-727" in notebook.ask("*IDN?")[0]
        assert notebook.ask("SAI?") == ["1", "2", "3"]
        assert notebook.ask("HLP?")[-1] == "end of help"
        notebook.write("MOV 1 10.0")
        assert notebook.ask("ERR?") == ["5"]
        for axis in "123":
            notebook.write(f"SVO {axis} 1")
        notebook.write("MOV 1 10.0 2 1e1")
        notebook.write("mov 3 60")
        assert notebook.ask("ERR?") == ["0"]
        notebook.wait_until_there(3)
        assert notebook.positions() == pytest.approx({"1": 10.0, "2": 10.0, "3": 60.0}, abs=0.005)
        assert notebook.ask("POS? 3 1")[0].startswith("3=")
        notebook.write("MOV 1 200")
        assert notebook.ask("ERR?") == ["7"]
        # Raw bytes, as they stand in the manual.
        notebook.write("VEL 1 1")
        notebook.write("MOV 1 50")
        notebook.ask("ERR?")
        ser.write(b"\x05")
        assert ser.readline() == b"1\n"
        ser.write(b"\x18")
        ser.write(b"\x05")
        assert ser.readline() == b"0\n"
        ser.write(b"\x07")
        assert ser.readline() == b"\xb1\n"
        assert notebook.ask("ERR?") == ["10"]
        assert notebook.ask("MOV? 1") != ["1=50.0000"]


def test_a_motor_stage_typed_by_hand_with_crlf_in_mm(tmp_path: Path) -> None:
    options = ("--model", "c863", "--travel-um", "100", "--numbers", "exponent", "--servo-on")
    with cell(tmp_path / "stage", *options, end="\r\n") as (_, notebook):
        assert notebook.ask("PUN?") == ["1=MM"]
        assert notebook.ask("TMX? 1") == ["1=+1.000000000e-01"]
        notebook.write("MOV 1 0.01")
        assert notebook.ask("ERR?") == ["5"]
        notebook.write("FRF 1")
        end = time.monotonic() + 5
        while notebook.ask("FRF? 1") != ["1=1"]:
            assert time.monotonic() < end, "never referenced"
        notebook.write("MOV 1 0.01")
        notebook.wait_until_there(1)
        assert notebook.positions() == pytest.approx({"1": 0.01}, abs=1e-4)
        assert notebook.ask("1 POS?")[0].startswith("0 1 1=+")
