"""The emulated controller of a command map, for a hand-written client that knows nothing of maps or drivers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import serial
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from hil.cli import app
from hil.described_bench import map_from
from hil.devices.described_stage import DescribedStage
from hil.devices.described_stage.controller import MAX_LINE
from hil.twin.truth import TruthRecord

MS = 1_000_000
ROOT = Path(__file__).resolve().parent.parent.parent
SCPI = ROOT / "deploy/examples/stage-scpi.toml"
ODD = ROOT / "tests/edge/instruments/maps/odd.toml"


class Raw:
    """Bytes in, bytes out; time passes as it is told to."""

    def __init__(self, path: Path, change: Callable[[dict[str, Any]], object] | None = None, **options: Any) -> None:  # noqa: ANN401 - the controller's
        self.truth = TruthRecord()
        self.device = DescribedStage(map_from(path, change), truth=self.truth, **{"servo_on": True, **options})
        self.sent: list[tuple[int, bytes]] = []
        self.t_ns = 0
        self.device.attach(self)
        self.device.advance(0)

    def send(self, t_ns: int, data: bytes) -> None:
        self.sent.append((t_ns, data))

    def discard(self, t_ns: int) -> None:
        self.sent = [one for one in self.sent if one[0] <= t_ns]

    def say(self, data: bytes, wait_ms: float = 20) -> bytes:
        """Send bytes and return what comes within a while."""
        self.sent.clear()
        self.device.receive(self.t_ns, data)
        self.t_ns += int(wait_ms * MS)
        self.device.advance(self.t_ns)
        return b"".join(data for _, data in self.sent)


def test_a_session_by_hand() -> None:
    raw = Raw(SCPI)
    assert raw.say(b"*IDN?\n") == b"Nordlicht,SPM-4,S0417,2.3\n"
    assert raw.say(b"MOVE:ABS X,51\n", 100) == b""
    assert raw.say(b"MOVE:ABS? X\n") == b"51.0000\n"
    assert raw.say(b"STAT:MOV?\n") == b"0\n"
    assert raw.say(b"STAT:ONT?\n") == b"1\n"
    assert float(raw.say(b"MEAS:POS? X\n")) == pytest.approx(51, abs=0.005)
    assert raw.say(b"CONF:LIM:LOW? Z\n") == b"0.0000\n"
    assert raw.say(b"CONF:VEL? Z\n") == b"200.0000\n"
    assert raw.say(b"MEAS:VOLT? 1\n") == b"0.020000\n"
    assert raw.say(b"MEAS:VOLT? 2\n") == b"0.000000\n"
    assert raw.say(b"SYST:ERR?\n") == b'0,"No error"\n'
    assert [event["event"] for event in raw.truth.entries] == ["move"]


TOLERATED = [
    b"move:abs x,51\n",
    b":MOVE:ABS X,51\n",
    b"  MOVE:ABS   X , 51.0000  \n",
    b"MOVE:ABS X,5.1e1\n",
    b"MOVE:ABS X,+51\r\n",
    b"MOVE:ABS X,51;\n",
    b"*IDN?;MOVE:ABS X,51\n",
    b"\n\nMOVE:ABS X,51\n",
]


@pytest.mark.parametrize("line", TOLERATED)
def test_spacing_case_prefix_and_chains_are_taken_as_declared(line: bytes) -> None:
    raw = Raw(SCPI)
    raw.say(line)
    assert raw.say(b"MOVE:ABS? X\n") == b"51.0000\n"
    assert raw.say(b"SYST:ERR?\n") == b'0,"No error"\n'


@pytest.mark.parametrize("line", [b"ga51000\r", b"GA51000B40000\r", b"G A51000\r", b":GA51000\r", b"GA51000  B40000\r"])
def test_a_controller_that_is_exact_takes_only_what_is_exact(line: bytes) -> None:
    raw = Raw(ODD)
    assert raw.say(line).startswith(b"?")
    assert raw.say(b"T\r") == b"T A45000 B45000 C15000\r"


REFUSED: list[tuple[bytes, bytes]] = [
    (b"MOVE:ABZ X,1\n", b'-113,"Undefined header"\n'),
    (b"FOO\n", b'-113,"Undefined header"\n'),
    (b"\x00\xff\n", b'-113,"Undefined header"\n'),
    (b"MOVE:ABS Q,1\n", b'-104,"Data type error"\n'),
    (b"MOVE:ABS X\n", b'-104,"Data type error"\n'),
    (b"MOVE:ABS X,\n", b'-104,"Data type error"\n'),
    (b"MOVE:ABS X,nan\n", b'-104,"Data type error"\n'),
    (b"MOVE:ABS X,1e999\n", b'-104,"Data type error"\n'),
    (b"MOVE:ABS X,0x10\n", b'-104,"Data type error"\n'),
    (b"MOVE:ABS X,1,2\n", b'-104,"Data type error"\n'),
    (b"MOVE:ABS X,100.001\n", b'-222,"Data out of range"\n'),
    (b"MOVE:ABS X,-0.001\n", b'-222,"Data out of range"\n'),
    (b"CONT:LOOP X,MAYBE\n", b'-104,"Data type error"\n'),
    (b"MOVE:ABS X,51" + b" " * MAX_LINE + b"\n", b'-223,"Too much data"\n'),
]


@pytest.mark.parametrize(("line", "error"), REFUSED)
def test_what_is_refused_moves_nothing_and_stands_in_the_queue(line: bytes, error: bytes) -> None:
    raw = Raw(SCPI)
    assert raw.say(line) == b""
    assert raw.say(b"SYST:ERR?\n") == error
    assert raw.say(b"SYST:ERR?\n") == b'0,"No error"\n'
    assert raw.truth.entries == []


def test_a_loop_that_is_open_does_not_move() -> None:
    raw = Raw(SCPI)
    raw.say(b"CONT:LOOP X,OFF\n")
    assert raw.say(b"CONT:LOOP? X\n") == b"0\n"
    raw.say(b"MOVE:ABS X,51\n")
    assert raw.say(b"SYST:ERR?\n") == b'-221,"Settings conflict"\n'
    assert raw.say(b"STAT:ONT?\n") == b"0\n"


def test_behind_a_refused_command_of_a_chain_nothing_is_executed() -> None:
    raw = Raw(SCPI)
    assert raw.say(b"MEAS:POS? Q;MOVE:ABS X,51;*IDN?\n") == b""
    assert raw.say(b"MOVE:ABS? X\n") == b"50.0000\n"
    assert raw.say(b"MOVE:ABS? X;MOVE:ABS? Y\n") == b"50.0000;50.0000\n"


def test_a_full_queue_says_so_in_its_last_place() -> None:
    raw = Raw(SCPI)
    for _ in range(12):
        raw.say(b"FOO\n")
    told = [raw.say(b"SYST:ERR?\n") for _ in range(11)]
    assert told[:9] == [b'-113,"Undefined header"\n'] * 9
    assert told[9:] == [b'-350,"Queue overflow"\n', b'0,"No error"\n']


def test_the_odd_dialect_by_hand() -> None:
    raw = Raw(ODD)
    assert raw.say(b"V\r") == b"AFM K2 #77 v0.9\r"
    assert raw.say(b"P\r").startswith(b"P A4")
    assert raw.say(b"GA44000 C14000\r", 4) == b"OK\r"
    assert raw.say(b"GB40000\r", 1.5) == b"OK\r"
    assert raw.say(b"SB\rSA\r", 1.5) == b"SB=0101\r"
    raw.say(b"", 100)
    assert raw.say(b"SA\r") == b"SA=0102\r"
    assert raw.say(b"T\r") == b"T A44000 B40000 C14000\r"
    # z is counted downwards: 14000 on the wire is -14 um.
    assert raw.device.position_m(raw.t_ns, "c") == pytest.approx(-14e-6, abs=1e-9)
    assert raw.say(b"D\r") == b"D=20.0mV\r"
    assert raw.say(b"GA99000\r") == b"?3\r"
    assert raw.say(b"SA\r") == b"SA=1102\r"
    assert raw.say(b"R\r") == b"OK\r"
    assert raw.say(b"SA\r") == b"SA=0102\r"


def test_a_line_stop_waits_its_turn_and_a_byte_does_not() -> None:
    raw = Raw(SCPI, lambda data: data["emulated"].update(processing_s=0.01))
    raw.say(b"MOVE:ABS X,90\n")
    raw.say(b"*IDN?\n*IDN?\nMOVE:STOP\n", 25)
    assert raw.device.moving(raw.t_ns, "x")
    raw.say(b"", 10)
    assert not raw.device.moving(raw.t_ns, "x")

    odd = Raw(ODD, lambda data: data["emulated"].update(processing_s=0.01))
    odd.say(b"GA80000\r", 15)
    assert odd.device.moving(odd.t_ns, "a")
    # In the middle of a line, and the line is none the worse for it.
    assert odd.say(b"V\x1b\r", 0) == b""
    assert not odd.device.moving(odd.t_ns, "a")
    assert odd.say(b"", 12) == b"AFM K2 #77 v0.9\r"
    # What waits is executed after the stop: the worst case for whoever stops.
    odd.say(b"GA80000\r\x1b", 12)
    assert odd.device.moving(odd.t_ns, "a")


def test_an_echo_comes_first() -> None:
    raw = Raw(SCPI, lambda data: data["line"].update(echo=True))
    raw.say(b"", 100)
    assert raw.say(b"STAT:ONT?\n") == b"STAT:ONT?\n1\n"
    assert raw.say(b"MOVE:ABS X,51\n") == b"MOVE:ABS X,51\n"


def test_what_a_test_can_do_to_it() -> None:
    raw = Raw(SCPI)
    raw.device.stall(raw.t_ns, "x", error=9)
    raw.say(b"MOVE:ABS X,60\n", 200)
    assert raw.say(b"STAT:MOV?\n") == b"0\n"
    assert raw.say(b"STAT:ONT?\n") == b"0\n"
    assert raw.say(b"SYST:ERR?\n") == b'9,"Error"\n'
    raw.device.release(raw.t_ns, "x")
    raw.say(b"MOVE:ABS X,60\n", 200)
    assert raw.say(b"STAT:ONT?\n") == b"1\n"
    raw.device.kill_deflection(raw.t_ns, dead=True)
    raw.say(b"MOVE:ABS Z,80\n", 400)
    assert raw.say(b"MEAS:VOLT? 1\n") == b"0.020000\n"
    raw.device.kill_deflection(raw.t_ns, dead=False)
    assert raw.say(b"MEAS:VOLT? 1\n") == b"10.000000\n"
    raw.device.power_cycle(raw.t_ns)
    assert raw.say(b"MEAS:POS? X\n").startswith((b"50.", b"49."))
    raw.device.close(raw.t_ns)
    assert raw.truth.entries[-1]["event"] == "summary"


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([SCPI, ODD]),
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from(
                [b"MOVE:ABS X,", b"{axis}", b"GA", b"1", b"\x1b", b"\r", b"\n", b";", b":", b"SYST:ERR?\n", b"P\r"]
            ),
        ),
        max_size=20,
    ),
)
def test_no_bytes_make_it_raise_or_leave_its_travel(path: Path, pieces: list[bytes]) -> None:
    raw = Raw(path)
    for piece in pieces:
        raw.say(piece, 3)
    raw.say(b"\r\n", 500)
    for model in raw.device.models:
        assert model.low_um - 0.5 <= raw.device.position_m(raw.t_ns, model.name) * 1e6 <= model.high_um + 0.5
    end = b"\n" if path is SCPI else b"\r"
    raw.say(end + (b"*IDN?" if path is SCPI else b"V") + end)
    assert any(b"SPM-4" in data or b"K2" in data for _, data in raw.sent)


# On a pseudo-terminal


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    link, truth = tmp_path / "stage", tmp_path / "truth.jsonl"
    command = [sys.executable, "-P", "-m", "hil", "stage", "--link", str(link), "--command-map", str(SCPI)]
    command += ["--seed", "4", "--servo-on", "--truth", str(truth)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=dict(os.environ))
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline()), truth
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        process.stdout.close()


@pytest.mark.realtime
def test_it_is_served_on_a_pseudo_terminal(served: tuple[dict[str, Any], Path]) -> None:
    ready, truth = served
    assert (ready["axes"], ready["surface_um"], ready["seed"]) == (["x", "y", "z"], 75.0, 4)
    with serial.Serial(ready["link"], 115200, timeout=2) as port:
        port.write(b"*IDN?\n")
        assert port.readline() == b"Nordlicht,SPM-4,S0417,2.3\n"
        port.write(b"move:abs z, 76\n")
        until = time.monotonic() + 5
        told = b""
        while told != b"1\n" and time.monotonic() < until:
            port.write(b"STAT:ONT?\n")
            told = port.readline()
        port.write(b"MEAS:VOLT? 1\n")
        assert float(port.readline()) > 5
    assert json.loads(truth.read_text().splitlines()[0])["event"] == "move"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stage", "--link", "x", "--command-map", "nowhere.toml"], "--command-map: nowhere.toml: No such file"),
        (
            ["rig", "--smu-link", "a", "--stage-link", "b", "--stage-command-map", str(ODD)],
            "--surface-um 50: axis c of the command map runs from -30 to 0 um",
        ),
        (
            ["rig", "--smu-link", "a", "--stage-link", "b", "--stage-command-map", str(SCPI), "--stage-axes", "x,y,q"],
            "--stage-axes x,y,q: the command map has x, y, z",
        ),
        (
            ["rig", "--smu-link", "a", "--stage-link", "b", "--stage-command-map", str(SCPI), "--start-um", "1,2,300"],
            "--start-um 300: axis z of the command map runs from 0 to 100 um",
        ),
    ],
)
def test_options_that_cannot_be_served_are_told_in_one_line(words: list[str], said: str) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
