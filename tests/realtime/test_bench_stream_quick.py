"""The stream bench's quick form, with all that belongs to it: nothing lost, nothing left behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from hil.bench.catalogue import bench
from hil.bench.options import BenchOptions
from hil.bench.stream import Amount, stream
from hil.bench.stream_sides import SAMPLE_HZ
from hil.broker import mosquitto_path
from tests.made_folders import made_folders

LONG = os.environ.get("TIPGUARD_LONG") == "1"
needs = pytest.mark.skipif(
    mosquitto_path() is None or (shutil.which("cc") is None and shutil.which("gcc") is None),
    reason="needs mosquitto and a C compiler",
)


@needs
def test_a_second_of_every_sample_in_a_store_beside_the_usual_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = made_folders(monkeypatch)
    told: list[float] = []
    report = bench("stream", BenchOptions(quick=True, progress=lambda done, _what: told.append(done)))
    assert folders
    assert not [folder for folder in folders if folder.exists()]
    found: dict[str, Any] = {one["name"]: one for one in report["results"]}
    assert found["samples_lost"] | {"value": 0} == found["samples_lost"]
    assert (found["samples_doubled"]["value"], found["samples_wrong"]["value"]) == (0, 0)
    assert found["samples"]["value"] == pytest.approx(found["seconds"]["value"] * SAMPLE_HZ, rel=0.1)
    assert 0.02 < found["controller_cores"]["value"] < 2.0
    assert found["script_samples_per_s"]["value"] > 0
    assert found["script_lost"]["value"] == 0
    assert found["script_ratio"]["value"] > 1
    # A run that was interrupted, as on a busy host, begins anew.
    assert told == sorted(told) or found["runs_interrupted"]["value"] > 0
    assert 0 <= min(told) <= max(told) <= 1


@needs
@pytest.mark.skipif(not LONG, reason="the full form, but shorter: TIPGUARD_LONG=1")
def test_every_way_of_writing_the_script_and_the_picture(tmp_path: Path) -> None:
    report = stream(BenchOptions(plots=tmp_path), Amount((10.0, 5.0), 2.0))
    found: dict[str, Any] = {one["name"]: one for one in report["results"]}
    assert found["samples_lost"]["value"] == 0
    assert found["controller_cores"]["met"] is True
    # In rounds of two seconds the scripts' rates vary threefold with what else the host does: only that each was
    # measured, and far behind ours, is sure.
    for name in ("script", "script_qos1", "script_buffered"):
        assert found[f"{name}_samples_per_s"]["value"] > 100
        assert found[f"{name}_ratio"]["value"] > 1
    assert (tmp_path / "stream.png").exists()
