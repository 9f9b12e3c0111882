"""The twin's own record: events, their order, and what a reader finds in the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.errors import BenchOptionError
from hil.twin.ohmic import OhmicLoad
from hil.twin.site import SwitchingSite
from hil.twin.truth import Entry, TruthRecord

FIELDS = {"t_ns", "event", "v_tip", "i_a", "peak_current_a", "charge_c", "energy_j", "v_source", "connected"}


def run_surge(truth: TruthRecord) -> SwitchingSite:
    site = SwitchingSite("gb", seed=1, series_ohm=1500, truth=truth)
    site.set_source(0, 0.0, 1e-4, connected=True)  # output on at 0 V is safe
    site.set_source(1_000, -0.05, 1e-4, connected=True)
    site.set_source(2_000, -0.5, 1e-4, connected=True)
    site.advance(10**9)
    site.set_source(2 * 10**9, 0.0, 1e-4, connected=True)
    site.set_source(3 * 10**9, 0.0, 1e-4, connected=False)
    site.set_source(4 * 10**9, 0.3, 1e-4, connected=True)
    site.set_source(5 * 10**9, 0.3, 1e-4, connected=False)
    site.close(6 * 10**9)
    return site


def test_the_events_of_a_surge() -> None:
    truth = TruthRecord()
    site = run_surge(truth)
    assert [entry["event"] for entry in truth.entries] == ["live", "set_onset", "safe", "live", "safe", "summary"]
    for entry in truth.entries:
        assert entry.keys() >= FIELDS
    live, onset, safe, _, _, summary = truth.entries
    assert live["t_ns"] == 1_000
    assert live["v_tip"] == pytest.approx(-0.05, abs=1e-6)
    assert site.onset is not None
    assert onset["t_ns"] == site.onset.t_ns
    assert onset["v_tip"] == pytest.approx(-0.5, abs=1e-5)
    assert onset["v_source"] == -0.5
    assert onset["i_a"] == pytest.approx(-0.5 / (1500 + site.r_on_ohm))
    assert onset["peak_current_a"] == pytest.approx(0.5 / (1500 + site.r_on_ohm))
    assert (onset["charge_c"], onset["energy_j"], onset["r_on_ohm"]) == (0, 0, site.r_on_ohm)
    assert (safe["t_ns"], safe["v_tip"], safe["connected"]) == (2 * 10**9, 0.0, True)
    assert summary["peak_v"] == 0.5
    assert (summary["n_set_onset"], summary["n_safe"], summary["n_live"]) == (1, 2, 2)


def test_safe_is_below_1_mv_or_open_whichever_comes_first() -> None:
    load = OhmicLoad(1e4)
    load.set_source(0, 0.5, 1.0, connected=True)
    load.set_source(10, 0.000_9, 1.0, connected=True)
    load.set_source(20, -0.000_9, 1.0, connected=True)
    load.set_source(30, -0.001, 1.0, connected=True)
    load.set_source(40, -0.001, 1.0, connected=False)
    load.set_source(50, -0.5, 1.0, connected=False)
    events = [(entry["t_ns"], entry["event"]) for entry in load.truth.entries]
    assert events == [(0, "live"), (10, "safe"), (30, "live"), (40, "safe")]


def test_it_is_the_tip_that_is_safe_not_the_source() -> None:
    # 100 ohm behind 1 Mohm: at 5 V the tip sees 0.5 mV.
    load = OhmicLoad(100, 1e6)
    load.set_source(0, 5.0, 1.0, connected=True)
    assert load.truth.entries == []


def test_every_line_is_in_the_file_as_soon_as_it_happened(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    path.write_text("of an older run\n")
    truth = TruthRecord(path)
    load = OhmicLoad(1e4, truth=truth)
    load.set_source(7, -1.0, 1.0, connected=True)
    lines = path.read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["live"]
    load.close(10)
    entries: list[Entry] = [json.loads(line) for line in path.read_text().splitlines()]
    assert [entry["event"] for entry in entries] == ["live", "summary"]
    assert entries[0]["t_ns"] == 7
    assert truth.entries == []


def test_file_and_memory_hold_the_same(tmp_path: Path) -> None:
    memory, file = TruthRecord(), TruthRecord(tmp_path / "truth.jsonl")
    run_surge(memory)
    run_surge(file)
    assert [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()] == memory.entries


def test_a_record_that_never_begins_leaves_an_older_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    path.write_text("of an older run\n")
    TruthRecord(path).close()
    assert path.read_text() == "of an older run\n"
    truth = TruthRecord(path)
    truth.begin()
    assert path.read_text() == ""
    truth.close()


def test_an_unwritable_record_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BenchOptionError, match=r"--truth .*cannot be written \(No such file.*name a file") as error:
        TruthRecord(tmp_path / "nowhere" / "truth.jsonl")
    assert "\n" not in str(error.value)
