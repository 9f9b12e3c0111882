"""The twin's own record as the demo reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.demo.truth import LABEL, read_run, read_sets
from hil.errors import BenchFaultError


def test_a_set_ends_when_the_tip_is_safe(tmp_path: Path) -> None:
    entry = {"v_tip": -0.118, "v_source": -0.118, "i_a": -1e-5, "peak_current_a": 1e-5, "r_on_ohm": 8e3}
    lines = [
        {"t_ns": 1, "event": "live", **entry, "charge_c": 0.0, "energy_j": 0.0},
        {"t_ns": 5, "event": "set_onset", **entry, "charge_c": 0.0, "energy_j": 0.0},
        {"t_ns": 9, "event": "safe", **entry, "charge_c": 2e-7, "energy_j": 1e-8},
        {"t_ns": 20, "event": "safe", **entry, "charge_c": 9e-7, "energy_j": 5e-8},
    ]
    path = tmp_path / "truth.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (found,) = read_sets(path)
    assert (found.onset_ns, found.safe_ns, found.charge_c, found.energy_j) == (5, 9, 2e-7, 1e-8)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines[:2]))
    with pytest.raises(BenchFaultError, match="never safe again"):
        read_sets(path)
    with pytest.raises(BenchFaultError, match="not a truth record"):
        read_sets(tmp_path / "absent")


def test_a_whole_run_is_its_summary_s(tmp_path: Path) -> None:
    lines = [
        {"t_ns": 1, "event": "landing", "x_m": 1e-6},
        {"t_ns": 2, "event": "set_onset"},
        {"t_ns": 3, "event": "stage_summary"},
        {"t_ns": 4, "event": "set_onset"},
        {"t_ns": 9, "event": "summary", "peak_current_a": 2e-4, "samples_over_limit": 3},
    ]
    path = tmp_path / "truth.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(path)
    assert (run.sets, run.peak_current_a, run.samples_over_limit, len(run.landings)) == (2, 2e-4, 3, 1)
    assert run.document() == {"label": LABEL, "sets": 2, "peak_current_a": 2e-4, "samples_over_limit": 3}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines[:-1]))
    with pytest.raises(BenchFaultError, match="has no summary"):
        read_run(path)
