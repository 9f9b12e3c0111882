"""``tipguard commission`` on processes: an emulated rig, its resistors changed between the loads, its profile used.

As a person would: emulator, controller, verb. At 57600 baud and with every cut that a profile wants it takes two
minutes, so it belongs to the long rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from hil.processes import BenchRig, RigSpec
from hil.processes.spec import TIPGUARD

LONG = os.environ.get("TIPGUARD_LONG") == "1"
MOST_S = 180.0
"""Two minutes on a quiet machine, and what a busy one may add."""

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.long,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not LONG, reason="takes two minutes; set TIPGUARD_LONG=1"),
]


def test_a_rig_is_commissioned_and_its_profile_is_used(tmp_path: Path) -> None:
    socket = tmp_path / "swap"
    spec = RigSpec(load="ohmic:1e7", series_ohm=1000.0, smu_words=("--swap", str(socket)))
    with BenchRig.running(tmp_path / "rig", spec) as rig:
        begin = time.monotonic()
        words = [*TIPGUARD, "commission", str(rig.config_path), "--yes", "--json", "--swap", str(socket)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=rig.environment, check=False)
        took_s = time.monotonic() - begin
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        profile = report["profile"]
        assert took_s < MOST_S
        assert profile["cut_latency_s"]["n"] >= 300
        assert abs(profile["series_ohm"] - 1000.0) < 50.0
        assert report["deviations"] == []
        # The wire alone takes 8.5 ms of a reading.
        assert 0.0085 < profile["sample_period_s"]["constant"]["p50"] < 0.020
        status = rig.status()
        assert status is not None
        assert not status["alarm"]
        # A second time only when it is asked for.
        again = subprocess.run(words, capture_output=True, text=True, timeout=60, env=rig.environment, check=False)
        assert again.returncode == 2
        assert Path(report["file"]).read_text(encoding="utf-8").startswith("{")
