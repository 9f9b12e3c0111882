"""What is said at the end of a map and of a memristor: pure functions on the status of the controller."""

from __future__ import annotations

from typing import Any

import pytest

from edge.cli.layout import grid
from edge.cli.words_runs import how_long, in_words, kept_in_words
from edge.experiments.memristor import MemristorPlan
from edge.experiments.memristor import Tally as CycleTally
from edge.experiments.reads import data_sheet_zero
from edge.experiments.trigger_map import Tally as PointTally
from edge.experiments.trigger_map import TriggerMapPlan
from edge.samples import Phase

GB = {
    "n": 8,
    "triggered": 8,
    "censored": 0,
    "lrs_at_start": 0,
    "invalid": 0,
    "median_triggered_v": -0.118,
    "median_v": -0.118,
    "median_beyond_v": None,
    "beyond_v": None,
    "invalid_reason": None,
    "invalid_reason_n": 0,
}
GI = {**GB, "n": 2, "triggered": 0, "censored": 2, "median_v": None, "median_beyond_v": -10.0, "beyond_v": -10.0}
CYCLES = {
    "start": "hrs",
    "cycles_done": 20,
    "set": 20,
    "reset_ok": 20,
    "on_off_median": 5.43e4,
    "n_resolved": 0,
    "n_bound": 20,
    "lod_a": 3.3e-10,
    "lod_source": "lifted tip",
    "set_median_v": -0.18,
    "reset_median_v": 0.5,
    "lrs_median_ohm": 5570.0,
}
ZERO = data_sheet_zero(Phase.HRS_READ)


def a_map(kinds: dict[str, Any], **changes: object) -> dict[str, Any]:
    return {
        "uid": "0123456789abcdef",
        "plan": "trigger-map",
        "status": "completed",
        "reason": None,
        "progress": 1.0,
        "parameters": {"n_points": sum(of["n"] for of in kinds.values()), "duration_s": 200.0},
        "results": {
            "points_done": sum(of["n"] for of in kinds.values()),
            "kinds": kinds,
            "lod_a": 3.3e-10,
            "lod_source": "lifted tip",
        },
        **changes,
    }


def a_memristor(**changes: object) -> dict[str, Any]:
    return {
        "uid": "0123456789abcdef",
        "plan": "memristor",
        "status": "completed",
        "reason": None,
        "progress": 1.0,
        "parameters": {"cycles": 20, "duration_s": 200.0},
        "results": {**CYCLES, **changes},
    }


def spoken(run: dict[str, Any], series_ohm: float = 0.0) -> list[str]:
    said = in_words(run, series_ohm=series_ohm)
    return [*said.lines, *(line.rstrip() for line in grid(said.table, 80).plain.splitlines()), *said.more]


# ------------------------------------------------------------------------------------------------------------ the map


def test_a_map_is_a_table_by_kind_that_fits_80_columns() -> None:
    said = spoken(a_map({"gb": GB, "gi": GI}))
    assert said == [
        "run 0123456789abcdef: completed, 10 points",
        "kind  points  gave way  median          held             conducted  invalid",
        "GB    8       8         -118 mV         0                0          0",
        "GI    2       0         beyond -10.0 V  2 up to -10.0 V  0          0",
        "detection limit 330 pA (lifted tip)",
    ]
    assert max(map(len, said)) <= 80


def test_what_went_wrong_is_told_below_with_the_option_and_not_the_parameter() -> None:
    bad = {**GB, "invalid": 3, "invalid_reason": "open? electrical_check = false counts it", "invalid_reason_n": 2}
    once = {**GI, "invalid": 1, "invalid_reason": "no contact", "invalid_reason_n": 1, "lrs_at_start": 1}
    more = in_words(a_map({"gb": bad, "": once})).more
    assert more == [
        "invalid GB: open? --no-electrical-check counts it (2 of 3 points)",
        "invalid -: no contact",
        "1 point conducted before the sweep: read, and left alone",
        "detection limit 330 pA (lifted tip)",
    ]


def test_a_map_that_broke_off_still_shows_its_table() -> None:
    said = spoken(
        a_map({"gb": GB}, status="failed", reason="5 invalid points in a row. 8 points are finished and kept")
    )
    assert said[0] == "run 0123456789abcdef: failed: 5 invalid points in a row. 8 points are finished and kept"
    assert said[2].startswith("GB    8 ")


def test_a_map_without_a_point_has_no_table() -> None:
    assert spoken(a_map({})) == ["run 0123456789abcdef: completed, 0 points"]


def test_what_the_plan_counts_is_what_is_said() -> None:
    tally = PointTally()
    for bias_v in (-0.1, -0.2):
        tally.add({"site_kind": "gb", "class": "triggered", "trigger_bias_v": bias_v})
    tally.add({"site_kind": "gi", "class": "censored", "trigger_bias_v": None, "beyond_v": 10.0, "to_v": -10.0})
    tally.add({"site_kind": "gi", "class": "invalid", "trigger_bias_v": None, "reason": "no contact"})
    said = spoken(a_map({}, results=tally.results(ZERO)))
    assert said[2] == "GB    2       2         -150 mV         0                0          0"
    assert said[3] == "GI    2       0         beyond -10.0 V  1 up to -10.0 V  0          1"
    assert said[4:] == ["invalid GI: no contact", "detection limit 330 pA (data sheet)"]


# ------------------------------------------------------------------------------------------------------ the memristor


def test_a_memristor_whose_ratio_is_a_bound_says_so() -> None:
    assert spoken(a_memristor(), 1500.0) == [
        "run 0123456789abcdef: completed, 20 cycles",
        "set    20 of 20, at -180 mV, median",
        "reset  20 of 20, at 500 mV, median",
        "LRS    5.57 kΩ, median, of which 1.50 kΩ in series",
        "on/off at least 5.4e+04, median of 20: a bound, set by the detection limit (20 of 20)",
        "detection limit 330 pA (lifted tip)",
    ]


@pytest.mark.parametrize(
    ("resolved", "bound", "said"),
    [
        (20, 0, "on/off 5.4e+04, median of 20"),
        (11, 9, "on/off 5.4e+04, median of 20, 9 of them only bounds"),
        (10, 10, "on/off at least 5.4e+04, median of 20: a bound, set by the detection limit (10 of 20)"),
    ],
)
def test_a_ratio_and_its_bounds(resolved: int, bound: int, said: str) -> None:
    assert said in spoken(a_memristor(n_resolved=resolved, n_bound=bound))


def test_a_memristor_that_never_set() -> None:
    said = spoken(a_memristor(set=0, on_off_median=None, n_bound=0, set_median_v=None, lrs_median_ohm=None))
    assert "set    0 of 20" in said
    assert any(line.startswith("on/off not known: ") for line in said)
    assert "the site was never set: is the tip open, or is set-v too small?" in said
    assert not any(line.startswith("LRS") for line in said)


def test_a_site_that_conducted_before() -> None:
    assert "the site conducted before the first cycle, and was reset first" in spoken(a_memristor(start="lrs"))


def test_what_the_memristor_counts_is_what_is_said() -> None:
    run = {**a_memristor(), "results": CycleTally(ZERO).results()}
    assert spoken(run)[:2] == ["run 0123456789abcdef: completed, 0 cycles", "detection limit 330 pA (data sheet)"]


# --------------------------------------------------------------------------------------------------- begin and end


def test_how_much_there_is_to_do() -> None:
    one = TriggerMapPlan(points=[[0.0, 0.0]], to_v=-0.1)
    assert how_long(one.describe()) == ", 1 point, at most 23 s"
    assert how_long(MemristorPlan(cycles=20).describe()) == ", 20 cycles, at most 4 min"
    assert how_long({"duration_s": 9000.0}) == ", at most 2.5 h"
    assert how_long({}) == ""


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (a_map({}, parameters={"n_points": 8}, progress=0.375, results=None), "3 of 8 points finished and kept"),
        (a_map({}, parameters={"n_points": 1}, progress=0.0, results=None), "0 of 1 point finished and kept"),
        ({**a_memristor(), "progress": 0.95, "results": None}, "19 of 20 cycles finished and kept"),
        (a_memristor(), None),
        ({"plan": "iv", "parameters": {"cycles": 3}, "progress": 0.5, "results": None}, None),
        ({"plan": "trigger-map", "parameters": None, "results": None}, None),
    ],
)
def test_what_is_kept_of_a_run_that_was_ended(run: dict[str, Any], said: str | None) -> None:
    assert kept_in_words(run) == said


def test_a_run_that_was_stopped_says_what_is_kept() -> None:
    run = a_map({}, parameters={"n_points": 8}, progress=0.375, results=None, status="stopped", reason="stopped by ada")
    assert spoken(run)[0] == "run 0123456789abcdef: stopped by ada; 3 of 8 points finished and kept"


def test_a_run_of_a_plan_that_is_not_ours() -> None:
    assert in_words({"uid": "1", "plan": "theirs", "status": "completed", "results": {"a": 1}}).lines == [
        "run 1: completed"
    ]
    assert in_words({"uid": "1", "plan": "iv", "status": "broken off", "reason": None, "results": None}).lines == [
        "run 1: broken off"
    ]
