"""``tipguard hil rig`` from outside: two ports around one tip, a landing seen by both, and what is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
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
from hil.bench_rig import EmulatedRig, RigOptions, serve_rig
from hil.line.duplex import Duplex, run_in_order
from hil.twin.grains import Box
from hil.twin.sample_map import SampleMap
from hil.twin.truth import Entry

pytestmark = pytest.mark.realtime

ROOT = Path(__file__).resolve().parents[2]
UM = 1e-6

SET_UP = (
    "*RST;:SYST:BEEP:STAT OFF",
    ":FORM:ELEM CURR",
    ':SENS:FUNC:CONC OFF;:SENS:FUNC "CURR"',
    ":SOUR:VOLT:RANG 2",
    ":SENS:CURR:PROT 1.0E-3;RANG 1.0E-3;NPLC 0.01",
    ":SYST:AZER OFF",
)


class Served:
    """A running server and its two ports."""

    def __init__(self, process: subprocess.Popen[str], ready: dict[str, Any], smu: Path, stage: Path) -> None:
        self.process = process
        self.ready = ready
        self.smu_link, self.stage_link = smu, stage

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@contextmanager
def served(folder: Path, *options: str) -> Iterator[Served]:
    smu, stage = folder / "smu", folder / "stage"
    command = [sys.executable, "-m", "hil", "rig", "--smu-link", str(smu), "--stage-link", str(stage), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                pytest.fail(f"no ready line; stderr: {process.communicate(timeout=20)[1]}")
            yield Served(process, json.loads(line), smu, stage)
        finally:
            process.kill()


@contextmanager
def smu_port(link: Path) -> Iterator[serial.Serial]:
    with serial.Serial(str(link), 57600, timeout=10) as port:
        yield port


def ask(port: serial.Serial, message: str) -> str:
    port.write(message.encode() + b"\n")
    reply: bytes = port.read_until(b"\r")
    assert reply.endswith(b"\r"), f"no reply to {message}"
    return reply[:-1].decode()


def set_up(port: serial.Serial) -> None:
    for message in SET_UP:
        port.write(message.encode() + b"\n")
    assert ask(port, ":SYST:ERR?") == '0,"No error"'


def record_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def approach(link: Path, selector: HotSelector) -> float:
    """Come down in steps of 5 nm until the drivers as shipped say contact; return z in m."""
    port = OpenPort(str(link), 115200)
    transport = SerialTransport(port.fileno(), name=str(link), baud=115200, emulated=port.emulated, selector=selector)
    controller = GcsController(GcsLink(transport, LoopClock()))
    stage, contact = PiGcs2(controller), AnalogContact(controller, threshold_v=0.1)
    try:
        identity = await stage.start()
        assert identity.serial_number == "4712"
        assert (await stage.status()).servo_on
        z_m = (await stage.position())["3"]
        assert z_m == pytest.approx(49.99 * UM, abs=2e-9)
        for _ in range(20):
            if await contact.in_contact():
                return z_m
            z_m += 5e-9
            await stage.move_to({"3": z_m})
        pytest.fail("no contact within 100 nm")
    finally:
        transport.close()
        port.close()


def test_a_landing_is_seen_by_both_sides(tmp_path: Path) -> None:
    truth, seed = tmp_path / "truth.jsonl", 5
    [(x_m, y_m)] = SampleMap(seed).boundary_points(1, Box(20 * UM, 20 * UM, 80 * UM, 80 * UM))
    options = ("--seed", str(seed), "--series-ohm", "1500", "--truth", str(truth), "--stage-serial-number", "4712")
    start = f"{x_m / UM!r},{y_m / UM!r},49.99"
    with served(tmp_path, *options, "--start-um", start) as rig, smu_port(rig.smu_link) as smu:
        set_up(smu)
        # In the air nothing triggers.
        smu.write(b":OUTP ON\n")
        assert abs(float(ask(smu, ":SOUR:VOLT -0.3;:READ?"))) < 1e-6
        smu.write(b":SOUR:VOLT 0\n:OUTP OFF\n")
        ask(smu, "*OPC?")

        selector = HotSelector()
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            z_m = runner.run(approach(rig.stage_link, selector))
        # 0.1 V are 8 nm of bending above the idle 0.02 V; a step goes up to 5 nm beyond.
        assert 50.008 * UM - 1e-9 <= z_m <= 50.014 * UM
        landings = [entry for entry in record_of(truth) if entry["event"] == "landing"]
        assert len(landings) == 1, "the record knows it before the 2400 does anything"

        smu.write(b":OUTP ON\n")
        current_a, k = 0.0, 0
        while abs(current_a) < 5e-6 and k < 40:
            k += 1
            current_a = float(ask(smu, f":SOUR:VOLT {-0.01 * k:.4f};:READ?"))
        smu.write(b":SOUR:VOLT 0\n:OUTP OFF\n")
        ask(smu, "*OPC?")
        assert rig.stop()[0] == 0

    record = record_of(truth)
    assert [entry["t_ns"] for entry in record] == sorted(entry["t_ns"] for entry in record)
    events = [entry["event"] for entry in record]
    assert events.index("stage_move") < events.index("landing") < events.index("set_onset") < len(events) - 2
    assert events[-2:] == ["stage_summary", "summary"]
    landing, onset = record[events.index("landing")], record[events.index("set_onset")]
    assert (landing["kind"], landing["distance_m"]) == ("gb", 0.0)
    assert (landing["x_m"], landing["y_m"]) == pytest.approx((x_m, y_m), abs=1e-12)
    assert (landing["sent_x_m"], landing["sent_y_m"]) == (landing["x_m"], landing["y_m"])
    assert onset["v_tip"] == pytest.approx(-0.01 * k, abs=0.0201)
    assert current_a < -5e-6


MS = 1_000_000


def lived(folder: Path, look_ns: int) -> list[Entry]:
    """Return the record of a rig that taps a stuck spot under bias, looked after every ``look_ns``; no terminals."""
    options = RigOptions(smu_link=folder / "smu", stage_link=folder / "stage", seed=3, stuck_on=("0,0,100,100",))
    rig = EmulatedRig(options)
    smu, stage = (Duplex(device, 57600, "fifo", lambda *_: None) for device in (rig.smu, rig.stage))
    said: list[tuple[int, Duplex, bytes]] = [(MS, smu, b":SOUR:VOLT:RANG 2;:SENS:CURR:PROT 1E-3\n:OUTP ON\n")]
    for k in range(40):
        said.append(((100 + 25 * k) * MS, smu, b":SOUR:VOLT %.3f;:READ?\n" % (-0.01 * (k % 7))))
        said.append(((107 + 23 * k) * MS, stage, b"MOV 3 %s\nTAV? 1\n" % (b"50.02", b"49.98")[k % 2]))
    said.append((1300 * MS, smu, b":OUTP OFF\n"))
    for device in (rig.smu, rig.stage):
        device.advance(0)
    # Everything is on its line before anything is done, so that both have much to do in one turn.
    for at_ns, line, data in said:
        line.to_device.push(at_ns, data)
    for now_ns in range(0, 2000 * MS + 1, look_ns):
        run_in_order((smu, stage), now_ns)
    rig.close(2000 * MS)
    return rig.truth.entries


def test_stage_and_2400_act_on_one_tip_in_the_order_of_time(tmp_path: Path) -> None:
    record = lived(tmp_path, MS)
    times = [int(entry["t_ns"] or 0) for entry in record]
    assert times == sorted(times)
    events = [entry["event"] for entry in record]
    assert (events.count("stage_move"), events.count("landing"), events.count("lift")) == (40, 20, 20)
    assert events.count("live") > 10
    assert record == lived(tmp_path, 400 * MS) == lived(tmp_path, 2000 * MS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_ready_line_and_a_clean_end(tmp_path: Path, number: signal.Signals) -> None:
    options = ("--seed", "7", "--stage-axes", "X,Y,Z", "--travel-um", "40", "--surface-um", "30", "--towards", "-")
    with served(tmp_path, *options) as rig:
        assert rig.ready == {
            "ready": True,
            "smu_link": str(rig.smu_link),
            "stage_link": str(rig.stage_link),
            "pid": rig.process.pid,
            "seed": 7,
            "surface_um": 30.0,
            "axes": ["X", "Y", "Z"],
            "start_um": [20.0, 20.0, 30.5],
            "contact_load_nn": 400.0,
            "contact_area_nm2": 67.684,
            "mean_pressure_gpa": 5.91,
            "warning": "mean contact pressure 5.9 GPa is above the tip's hardness of 4.0 GPa: it blunts, the area is "
            "more than 67.7 nm^2",
        }
        with serial.Serial(str(rig.stage_link), 115200, timeout=10) as stage, smu_port(rig.smu_link) as smu:
            stage.write(b"TAV? 1\n")
            assert stage.read_until(b"\n") == b"1=0.0200\n"
            assert ask(smu, "*IDN?").split(",")[2] == "1304207"
        assert rig.stop(number) == (0, "", "")
        assert sorted(tmp_path.iterdir()) == []


def test_both_lines_busy_under_bias_keep_one_order(tmp_path: Path) -> None:
    """A tip whose time went back would end the server with a traceback."""
    truth = tmp_path / "truth.jsonl"
    busy = threading.Event()

    def tap(link: Path) -> None:
        # Up and down through the surface, while the level is on: landings and lifts between the readings.
        with serial.Serial(str(link), 115200, timeout=10) as stage:
            for k in range(120):
                stage.write(b"MOV 3 %s\n" % (b"50.02", b"49.98")[k % 2])
                for question in (b"ONT? 3\n", b"TAV? 1\n", b"\x05"):
                    stage.write(question)
                    assert stage.read_until(b"\n").endswith(b"\n")
        busy.set()

    options = ("--seed", "3", "--truth", str(truth), "--stuck-on", "0,0,100,100", "--series-ohm", "1e6")
    with served(tmp_path, *options) as rig, smu_port(rig.smu_link) as smu:
        set_up(smu)
        smu.write(b":SOUR:VOLT -0.2\n:OUTP ON\n")
        stage = threading.Thread(target=tap, args=(rig.stage_link,))
        stage.start()
        readings = 0
        while not busy.is_set() and stage.is_alive():
            ask(smu, ":READ?")
            readings += 1
        stage.join(20)
        assert busy.is_set()
        assert rig.stop() == (0, "", "")
    record = record_of(truth)
    assert [entry["t_ns"] for entry in record] == sorted(entry["t_ns"] for entry in record)
    events = [entry["event"] for entry in record]
    assert events.count("stage_move") == 120
    # A move back that overtakes the way down may keep it from touching.
    assert min(events.count("landing"), events.count("lift")) > 30
    assert readings > 10


def test_a_client_that_leaves_the_stage_does_not_disturb_the_2400(tmp_path: Path) -> None:
    with served(tmp_path) as rig, smu_port(rig.smu_link) as smu:
        for _ in range(2):
            with serial.Serial(str(rig.stage_link), 115200, timeout=10) as stage:
                stage.write(b"POS?\nMOV 1")
            assert ask(smu, "*OPC?") == "1"
        with serial.Serial(str(rig.stage_link), 115200, timeout=10) as stage:
            # What was left unfinished is finished by the next: another line than was meant, and one error.
            stage.write(b"\nERR?\n")
            reply = b""
            while not reply.strip().isdigit():
                reply = stage.read_until(b"\n")
                assert reply


def test_a_link_that_is_taken_leaves_nothing_behind(tmp_path: Path) -> None:
    truth = tmp_path / "truth.jsonl"
    with served(tmp_path, "--truth", str(truth)) as rig, smu_port(rig.smu_link) as smu:
        other = tmp_path / "other"
        command = [sys.executable, "-m", "hil", "rig", "--smu-link", str(other), "--stage-link", str(rig.stage_link)]
        second = subprocess.run(
            [*command, "--truth", str(truth)], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert (second.returncode, second.stdout) == (2, "")
        assert second.stderr == (
            f"tipguard hil rig: link {rig.stage_link}: exists and is in use or not a link; remove it or name another "
            "path\n"
        )
        assert not other.is_symlink()
        assert ask(smu, "*OPC?") == "1"
        assert rig.stop()[0] == 0
    assert [entry["event"] for entry in record_of(truth)] == ["stage_summary", "summary"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"stage_link": Path("smu")}, "--smu-link and --stage-link: both are"),
        ({"baud": 115200}, "--baud 115200: a 2400 knows 300"),
        ({"stage_baud": 300}, "--stage-baud 300: want one of 9600"),
        ({"terminator": "NUL"}, "--terminator NUL: want one of CR"),
        ({"serial_number": ""}, "--serial-number '': want 1 to 16 letters and digits"),
        ({"stage_serial_number": "1,2"}, "--stage-serial-number '1,2': want 1 to 16 letters and digits"),
        ({"series_ohm": -1.0}, "--series-ohm -1.0: want"),
        ({"cable_f": 1.0}, "cable capacitance in F: 1.0: want"),
        ({"seed": -1}, "--seed -1: want an integer from 0"),
        ({"xi_nm": 0.0}, "decay length in m: 0.0: want"),
        ({"placement_sd_nm": -1.0}, "placement error in m: -1e-09: want"),
        ({"drift_nm_s": "1"}, "--drift-nm-s 1: want 2 numbers, for example 0.05,0"),
        ({"drift_nm_s": "nan,0"}, "--drift-nm-s nan,0: want 2 numbers"),
        ({"drift_nm_s": "1e6,0"}, "drift in m/s: "),
        ({"layer": ("0,0,1",)}, "--layer 0,0,1: want 4 numbers"),
        ({"layer": ("0,0,1,1", "a,0,1,1")}, "--layer a,0,1,1: want 4 numbers"),
        ({"stuck_on": ("1,0,0,1",)}, "--stuck-on 1,0,0,1: want x0,y0,x1,y1 in um with x0 below x1"),
        ({"bridged": ("0,1,1,1",)}, "--bridged 0,1,1,1: want x0,y0,x1,y1 in um"),
        ({"stage_axes": "1,2"}, "--stage-axes 1,2: want the names of x, y and z"),
        ({"stage_axes": "1,1,2"}, "--stage-axes 1,1,2: 1 to 16 axes with different names"),
        ({"stage_axes": "1,2,3;"}, "--stage-axes 1,2,3;: name must be"),
        ({"travel_um": 0.0}, "--travel-um 0.0: want a travel in um"),
        ({"velocity_um_s": 0.0}, "--velocity-um-s 0.0: want a velocity in um/s from 0.001 to 10000"),
        ({"surface_um": 101.0}, "--surface-um 101.0: the travel is 0 to 100 um"),
        ({"surface_um": 0.2}, "--surface-um 0.2: no room for a tip 0.5 um above it"),
        ({"towards": "down"}, "--towards down: want + or -"),
        ({"start_um": "1,2"}, "--start-um 1,2: want 3 numbers, for example 50,50,49.5"),
        ({"start_um": "1,2,101"}, "--start-um 1,2,101: outside the travel, 0 to 100 um"),
        ({"truth": Path("/nonexistent/truth")}, "--truth /nonexistent/truth: cannot be written"),
        ({"smu_link": Path("/nonexistent/smu")}, "link /nonexistent/smu: No such file or directory; create"),
        ({"stage_link": Path("/nonexistent/stage")}, "link /nonexistent/stage: No such file or directory; create"),
    ],
)
def test_bad_options_are_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, Any],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert serve_rig(RigOptions(**{"smu_link": Path("smu"), "stage_link": Path("stage"), **options})) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"tipguard hil rig: {told}")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_options_reach_the_devices(tmp_path: Path) -> None:
    rig = EmulatedRig(
        RigOptions(
            smu_link=tmp_path / "smu",
            stage_link=tmp_path / "stage",
            seed=9,
            series_ohm=1500.0,
            cable_f=1e-9,
            transients=True,
            xi_nm=30.0,
            placement_sd_nm=2.0,
            drift_nm_s="0.05,-0.1",
            layer=("0,0,50,100", "60,0,70,10"),
            stuck_on=("1,2,3,4",),
            bridged=("5,6,7,8",),
            open_tip=True,
            velocity_um_s=50.0,
            servo_on=False,
            start_um="1,2,3",
        )
    )
    parameters = rig.tip.sample.parameters
    assert (parameters.xi_m, parameters.placement_sd_m) == pytest.approx((30e-9, 2e-9))
    assert parameters.drift_m_s == pytest.approx((0.05e-9, -0.1e-9))
    assert [box.x1 for box in parameters.layers] == pytest.approx([50e-6, 70e-6])
    assert ((2 * UM, 3 * UM) in parameters.stuck_on[0], (6 * UM, 7 * UM) in parameters.bridged[0]) == (True, True)
    assert (rig.tip.sample.seed, rig.tip.series_ohm, rig.tip.open_tip) == (9, 1500.0, True)
    assert (rig.tip.circuit.cable_f, rig.tip.circuit.overshoot_v) == (1e-9, 0.1)
    assert rig.model.servo_on is False
    assert [(axis.velocity_um_s, axis.start_um) for axis in rig.model.axes] == [(50.0, 1.0), (50.0, 2.0), (50.0, 3.0)]


def test_the_server_imports_nothing_heavy() -> None:
    heavy = ("asyncio", "numpy", "pydantic", "matplotlib", "serial", "edge")
    code = f"import sys, hil.bench_rig; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_the_help_names_every_option() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hil", "rig", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"},
    )
    for option in fields(RigOptions):
        assert f"--{option.name.replace('_', '-')} " in done.stdout
