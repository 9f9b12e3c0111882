"""PyMeasure's Keithley2400 through pyvisa-py, unmodified, on the emulated 2400's pseudo-terminal.

The client is a process of its own. pyvisa-py takes the link's path as the board of an ASRL resource:
``ASRL/path/of/the/link::INSTR``.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import serial

from firmware_proto.keithley2400.status import StatusWord

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        importlib.util.find_spec("pymeasure") is None or importlib.util.find_spec("pyvisa_py") is None,
        reason="PyMeasure or pyvisa-py is not installed (extra: strangers)",
    ),
]
ROOT = Path(__file__).resolve().parents[2]
CLIENT = Path(__file__).with_name("pymeasure_client.py")
LOAD_OHM = 1e5


@contextmanager
def served(directory: Path, terminator: str) -> Iterator[Path]:
    """Serve a 2400 with 100 kohm at its terminals; gives the link."""
    link = directory / "smu"
    options = ["--link", str(link), "--load", f"ohmic:{LOAD_OHM:g}", "--seed", "3", "--terminator", terminator]
    command = [sys.executable, "-m", "hil", "smu", *options, "--truth", str(directory / "truth.jsonl")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                pytest.fail(f"no ready line; stderr: {process.communicate(timeout=20)[1]}")
            yield link
            process.terminate()
            process.communicate(timeout=20)
        finally:
            process.kill()


def user(link: Path, terminator: str, *chapters: str) -> dict[str, Any]:
    """Run the client; return what it saw, and under ``after`` what the unit says when it has gone."""
    words = [sys.executable, str(CLIENT), str(link), terminator, *chapters]
    done = subprocess.run(words, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert isinstance(seen, dict)
    with serial.Serial(str(link), 57600, timeout=5) as port:
        port.write(b":OUTP?;:SOUR:VOLT?;:SYST:ERR?\n")
        seen["after"] = port.read_until({"CR": b"\r", "LF": b"\n"}[terminator]).decode().strip()
    return seen


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("pymeasure")
    with served(directory, "CR") as link:
        seen = user(link, "CR")
    seen["truth"] = [json.loads(line) for line in (directory / "truth.jsonl").read_text().splitlines()]
    return seen


def answer(run: dict[str, Any], chapter: str) -> dict[str, Any]:
    """Return what a chapter saw; nothing in it may have left an error."""
    assert run[chapter]["errors"] == []
    found = run[chapter]["answer"]
    assert isinstance(found, dict)
    return found


def test_it_is_a_2400(run: dict[str, Any]) -> None:
    identity = answer(run, "identity")
    assert identity["id"].startswith("KEITHLEY INSTRUMENTS INC.,MODEL 2400,")
    assert identity["complete"] == "1"


DEFAULTS = {
    # As PyMeasure's own hardware test read them from a real unit.
    "source_enabled": False,
    "output_off_state": "normal",
    "front_terminals_enabled": True,
    "current_range": 1.05e-4,
    "current_range_auto_enabled": True,
    "current_nplc": 1,
    "compliance_current": 1.05e-4,
    "voltage_range": 21,
    "voltage_range_auto_enabled": True,
    "compliance_voltage": 21,
    "resistance_mode_auto_enabled": True,
    "resistance_range": 2.1e5,
    "repeat_filter_enabled": True,
    "filter_count": 10,
    "filter_enabled": False,
    "source_mode": "voltage",
    "source_delay": 0.001,
    "source_delay_auto_enabled": True,
    "source_current_range": 1.05e-4,
    "source_voltage_range": 21,
    "auto_zero_enabled": True,
    "auto_output_off_enabled": False,
}


def test_the_defaults_are_those_of_a_real_unit(run: dict[str, Any]) -> None:
    found = answer(run, "defaults")
    assert {name: found[name] for name in DEFAULTS} == DEFAULTS


READ_ONLY = {
    *("buffer_data", "complete", "current", "error", "id", "next_error", "options", "resistance", "status", "voltage"),
    *("means", "maximums", "minimums", "standard_devs"),
    *(f"{kind}_{what}" for kind in ("mean", "max", "min", "std") for what in ("voltage", "current", "resistance")),
}
RANGES = dict.fromkeys(("source_voltage_range", "source_current_range", "current_range", "resistance_range"), 1.05)
WORDS: dict[str, str | float] = {
    "ON": 1.0,
    "OFF": 0.0,
    "HIMP": "disconnected",
    "ZERO": "zero",
    "GUAR": "guard",
    "NORM": "normal",
}
"""What PyMeasure itself makes of a reply that is not the word that was set."""


def test_every_property_that_can_be_set_keeps_its_value(run: dict[str, Any]) -> None:
    found = answer(run, "properties")
    kept = found["kept"]
    # voltage_range is refused while the voltage is sourced; it has its own test.
    assert set(found["all"]) == READ_ONLY | set(kept) | {"voltage_range"}
    for name, pairs in kept.items():
        for value, readback in pairs:
            wanted: Any = WORDS.get(value, value) if isinstance(value, str) else value
            if isinstance(wanted, str | bool):
                assert readback == wanted, name
            else:
                assert readback == pytest.approx(wanted * RANGES.get(name, 1.0)), name


def test_a_voltage_source_measures_and_its_measurement_resets_the_limit(run: dict[str, Any]) -> None:
    found = answer(run, "source_voltage")
    assert found["current"] == pytest.approx(2.0 / LOAD_OHM, rel=1e-3)
    assert found["voltage"] == pytest.approx(2.0, rel=1e-3)
    # smu.current sends :MEAS:CURR?, which brings the compliance back to its default (basil#121).
    assert found["limit"] == [1e-3, 1.05e-4]


def test_a_current_source_measures_and_its_measurement_resets_the_limit(run: dict[str, Any]) -> None:
    found = answer(run, "source_current")
    assert found["voltage"] == pytest.approx(1e-5 * LOAD_OHM, rel=1e-3)
    assert found["current"] == pytest.approx(1e-5, rel=1e-3)
    assert found["range"] == 21
    assert found["limit"] == [10, 21]


def test_resistance_in_both_modes(run: dict[str, Any]) -> None:
    found = answer(run, "resistance")
    assert found["automatic"] == pytest.approx(LOAD_OHM, rel=1e-3)
    every = found["all"]
    assert every["resistance"] == pytest.approx(LOAD_OHM, rel=1e-3)
    assert every["voltage"] == pytest.approx(1.0, rel=1e-3)
    assert every["current"] == pytest.approx(1.0 / LOAD_OHM, rel=1e-3)
    assert every["status"] & StatusWord.V_SOURCE
    assert not every["status"] & StatusWord.COMPLIANCE


def test_compliance_is_in_the_status_word(run: dict[str, Any]) -> None:
    assert run["compliance"]["errors"] == []
    volts, amps, _, _, status = run["compliance"]["answer"]
    assert (volts, amps) == (5.0, pytest.approx(1e-6, rel=1e-3))
    assert int(status) & StatusWord.COMPLIANCE


def test_ramps_arrive_and_a_change_of_source_switches_off(run: dict[str, Any]) -> None:
    assert answer(run, "ramps") == {"volts": 3.0, "off_after_change": False, "amps": 1e-4}


def test_the_buffer_and_its_statistics(run: dict[str, Any]) -> None:
    found = answer(run, "buffer")
    rows = [found["data"][index : index + 5] for index in range(0, len(found["data"]), 5)]
    assert (len(rows), found["again"], found["full"]) == (8, 40, True)
    stamps = [row[3] for row in rows]
    assert stamps[0] == 0.0
    assert stamps == sorted(stamps)
    assert all(row[1] == pytest.approx(1e-5, rel=1e-2) for row in rows)
    spread = found["statistics"]["standard_devs"]
    means = found["statistics"]["means"]
    assert means == pytest.approx([1.0, 1e-5, LOAD_OHM], rel=1e-3)
    assert 0 < spread[1] < 1e-7
    for kind, name in (("mean", "means"), ("max", "maximums"), ("min", "minimums"), ("std", "standard_devs")):
        singles = [found["singles"][f"{kind}_{what}"] for what in ("voltage", "current", "resistance")]
        assert singles == found["statistics"][name]
    # Of the second filling, which the statistics are about, nothing was read; of the first they agree in size.
    assert statistics.fmean(row[1] for row in rows) == pytest.approx(means[1], rel=1e-2)


def test_triggers(run: dict[str, Any]) -> None:
    found = answer(run, "triggers")
    assert (found["bus"], found["counts"], found["many"], found["event"]) == (5, [2, 3], 2 * 3 * 5, "sense")
    first, second = found["stamps"]
    assert second - first == pytest.approx(0.05, abs=2e-3)


def test_beeps_terminals_and_errors(run: dict[str, Any]) -> None:
    found = answer(run, "noises")
    assert found["rear"] is False
    assert found["error"] == [-222, '"Parameter data out of range"']
    assert found["none"] == [0, '"No error"']


def test_shutdown_leaves_the_output_off_and_the_tip_safe(run: dict[str, Any]) -> None:
    assert run["shutdown"]["answer"] == {"on": True}
    assert run["after"] == '0;+0.000000E+00;0,"No error"'
    last = [entry["event"] for entry in run["truth"] if entry["event"] in {"safe", "live"}][-1]
    assert last == "safe"


def test_the_other_terminator(tmp_path: Path) -> None:
    with served(tmp_path, "LF") as link:
        seen = user(link, "LF", "identity", "compliance", "shutdown")
    assert seen["identity"]["answer"]["complete"] == "1"
    assert seen["compliance"]["answer"][1] == pytest.approx(1e-6, rel=1e-3)
    assert seen["after"].startswith("0;")
