"""A script of the kind people keep in notebooks, over pyserial, on the emulated 2400: a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.processes
LONG = os.environ.get("TIPGUARD_LONG") == "1"
ROOT = Path(__file__).resolve().parents[2]
CLIENT = Path(__file__).with_name("notebook_smu.py")
LOAD_OHM = 1e5


def session(directory: Path, baud: str, end: str) -> dict[str, Any]:
    """Serve 100 kohm and let the script run; return what it saw."""
    link = directory / "smu"
    command = [sys.executable, "-m", "hil", "smu", "--link", str(link), "--load", f"ohmic:{LOAD_OHM:g}", "--seed", "8"]
    with subprocess.Popen([*command, "--baud", baud], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), "no ready line"
            words = [sys.executable, str(CLIENT), str(link), baud, end]
            done = subprocess.run(words, capture_output=True, text=True, timeout=50, check=False)
        finally:
            process.kill()
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert isinstance(seen, dict)
    return seen


@pytest.mark.parametrize(("baud", "end"), [("57600", "CR"), ("57600", "LF"), ("9600", "CRLF")])
def test_a_notebook_works(tmp_path: Path, baud: str, end: str) -> None:
    if baud == "9600" and not LONG:
        pytest.skip("long rounds: TIPGUARD_LONG=1")
    seen = session(tmp_path, baud, end)
    assert seen["identity"].startswith("KEITHLEY INSTRUMENTS INC.,MODEL 2400,")
    assert seen["readback"] == '+1.000000E-05;+1.050000E-05;+5.000000E-01;"CURR:DC"'
    assert seen["reading"] == [0.5, pytest.approx(5e-6, rel=1e-3)]
    for level, amps in seen["swept"]:
        assert amps == pytest.approx(level / LOAD_OHM, rel=1e-3, abs=2e-9)
    assert seen["complete"] == "1"
    assert seen["buffer"][::2] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert seen["buffer"][1::2] == pytest.approx([level / LOAD_OHM for level in seen["buffer"][::2]], abs=2e-9)
    assert seen["volts"][0] == pytest.approx(1.0, rel=1e-3)
    assert seen["errors"] == []
    # Units are refused; what stands behind an unknown header is ignored, were it the switch-off.
    assert seen["mistakes"] == ['-121,"Invalid character in number"', '-113,"Undefined header"']
    assert seen["off"] == "0"
