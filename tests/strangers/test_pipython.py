"""PI's own PIPython, unmodified, on the emulated stage: a process of its own on the pseudo-terminal."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        importlib.util.find_spec("pipython") is None, reason="PIPython is not installed (extra: strangers)"
    ),
]
LONG = os.environ.get("TIPGUARD_LONG") == "1"
ROOT = Path(__file__).resolve().parents[2]
Sessions = dict[str, subprocess.Popen[str]]
SESSION = Path(__file__).with_name("pipython_stage.py")


@contextmanager
def served(*words: str) -> Iterator[dict[str, Any]]:
    """Serve ``tipguard hil <words>``; gives its ready line."""
    command = [sys.executable, "-m", "hil", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                pytest.fail(f"no ready line; stderr: {process.communicate(timeout=20)[1]}")
            yield json.loads(line)
        finally:
            process.kill()


def begun(link: str, name: str) -> subprocess.Popen[str]:
    """Begin a session of PIPython in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(SESSION), link, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def seen_by(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for the end of a session; return what it saw."""
    try:
        out, err = process.communicate(timeout=50)
    finally:
        process.kill()
    assert process.returncode == 0, err
    seen = json.loads(out)
    assert isinstance(seen, dict)
    return seen


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sessions]:
    """Begin both sessions, each with a stage of its own: they wait most of the time."""
    folder = tmp_path_factory.mktemp("stages")
    piezo = ("--axes", "A,B,C", "--autozero-s", "0.2", "--velocity-um-s", "5000")
    motor = ("--model", "c863", "--travel-um", "200")
    with (
        served("stage", "--link", str(folder / "piezo"), *piezo) as one,
        served("stage", "--link", str(folder / "motor"), *motor) as other,
        begun(one["link"], "piezo") as first,
        begun(other["link"], "motor") as second,
    ):
        try:
            yield {"piezo": first, "motor": second}
        finally:
            first.kill()
            second.kill()


def check_moves(moves: dict[str, Any], low: float, high: float, tolerance: float) -> None:
    assert moves["low"] == pytest.approx(low, abs=tolerance)
    assert moves["target"] == pytest.approx(low + 0.1 * (high - low))
    assert moves["relative"] == pytest.approx(moves["target"], abs=tolerance)
    assert moves["all"] == pytest.approx([high] * len(moves["all"]), abs=tolerance)
    assert all(moves["ontarget"])
    assert not any(moves["still"])
    assert moves["vel"] == pytest.approx(0.01 * (high - low))
    for name, stop in moves["stops"].items():
        expected = {"moving": True, "error": 10, "after": False, "between": True, "target_is_there": True, "err": 0}
        assert {key: stop[key] for key in expected} == expected, name
        assert not any(stop["rest"]), name
    assert moves["stopall_masked"] == 0


REFUSED = {
    "beyond": 7,
    "below": 7,
    "relative": 7,
    "velocity": 8,
    "axis": 15,
    "unknown": 2,
    "number": 25,
    "missing": 26,
    "parameter": 54,
    "servo off": 5,
}


def check_refusals(refusals: dict[str, Any]) -> None:
    assert refusals == {"numbers": REFUSED, "off": [False, False], "unchanged": True, "err": 0}


def test_a_piezo_controller_is_started_moved_stopped_and_rebooted(sessions: Sessions) -> None:
    seen = seen_by(sessions["piezo"])
    before = seen["before"]
    assert before["devname"] == "E-727.3CD"
    assert before["class"] == "GCS2Device"
    assert before["axes"] == before["allaxes"] == ["A", "B", "C"]
    assert (before["csv"], before["err"], before["status"], before["running_macro"]) == (2.0, 0, 0, False)
    assert before["ver"].startswith("FW: V13.21.00.09")
    assert before["pun"] == dict.fromkeys("ABC", "UM")
    assert (before["tmn"], before["tmx"]) == (dict.fromkeys("ABC", 0.0), dict.fromkeys("ABC", 100.0))
    assert not any(before["svo"].values())
    assert before["hpa"] > 5
    # Servo open: nothing moves. Then startup: autozero, servos, and to zero.
    assert (seen["no servo"], seen["zeroed"], seen["zeroed after"]) == (5, [False] * 3, [True] * 3)
    assert seen["servo"] == [True] * 3
    assert seen["at zero"] == pytest.approx([0.0] * 3, abs=0.005)
    check_moves(seen["moves"], 20.0, 80.0, 0.005)
    check_refusals(seen["refusals"])
    assert seen["analog"] == {"1": 10.0, "2": 0.0, "3": 0.0, "4": 0.0}
    assert seen["sensor"] == pytest.approx({"1": 80.0, "2": 80.0, "3": 80.0}, abs=0.005)
    assert seen["normalized"] == pytest.approx({"1": 60.0, "2": 60.0, "3": 60.0}, abs=0.01)
    assert seen["overflow"] == [False] * 3
    assert seen["changed"] == [[False] * 3, [True, False, False], [False] * 3]
    assert seen["open loop"] == [79, 66, 42.0, pytest.approx(42.0, abs=1.0)]
    assert (seen["serial"], seen["status"], seen["wave"]) == ("0119024343", 0x9000, {"1": False})
    assert (seen["protected"], seen["password"], seen["level"]) == (60, 56, 1)
    assert (seen["window"], seen["window after"]) == (0.005, 0.02)
    assert seen["renamed"] == [["NEW", "B", "C"], pytest.approx(50.0, abs=0.005)]
    assert seen["rebooted"] == [["A", "B", "C"], [False] * 3, 0.005]


def test_a_motor_controller_is_referenced_in_every_way(sessions: Sessions) -> None:
    seen = seen_by(sessions["motor"])
    before = seen["before"]
    assert (before["devname"], before["axes"], before["pun"]) == ("C-863.12", ["1"], {"1": "MM"})
    assert before["tmx"] == {"1": 0.2}
    assert seen["referenced"] == [False]
    # An incremental sensor begins to count where it is switched on.
    assert seen["unreferenced"] == [5, pytest.approx(0.0, abs=1e-4)]
    assert (seen["referenced after"], seen["servo"]) == ([True], [True])
    assert seen["at reference"] == pytest.approx(0.5, abs=1e-3)
    check_moves(seen["moves"], 0.04, 0.16, 1e-4)
    check_refusals(seen["refusals"])
    assert seen["has"] == {"ref": True, "lim": True, "frf": True}
    assert (seen["settling"], seen["settling after"], seen["acc"]) == (0.01, 0.05, 20.0)
    assert (seen["FNL"], seen["FPL"]) == (pytest.approx(0.0, abs=1e-3), pytest.approx(0.0, abs=1e-3))
    assert seen["stopped reference"] == [False, 10, False]
    assert seen["set"] == [pytest.approx(0.0, abs=1e-4), True, False]
    # Servo on; whether it has settled by then is a matter of milliseconds.
    assert seen["register"] in {0x1000, 0x9000}


@pytest.mark.skipif(not LONG, reason="in the long rounds: TIPGUARD_LONG=1")
def test_the_tip_of_a_rig_is_landed_by_its_analog_input(tmp_path: Path) -> None:
    options = ("--smu-link", str(tmp_path / "smu"), "--stage-link", str(tmp_path / "stage"), "--seed", "3")
    with served("rig", *options) as ready:
        seen = seen_by(begun(ready["stage_link"], "rig"))
    assert seen["touched"] > seen["in air"] + 0.4
    # It began half a micrometre above the surface.
    assert seen["down by"] == pytest.approx(0.5, abs=0.3)
    assert seen["lifted"] == pytest.approx(seen["in air"], abs=0.2)
