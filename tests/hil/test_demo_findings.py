"""What the demo computes of a map and a memristor, from documents as they travel; the reads judge the guard."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hil.demo.map_findings import MapFindings, judged, latency_s
from hil.demo.memristor_findings import MemristorFindings
from hil.demo.story import line_of, ratio_text
from hil.demo.summary import as_it_should_be

NONE: dict[str, Any] = dict.fromkeys(
    ("verdict", "trigger_bias_v", "trigger_half_v", "reading_ns", "verified_ns", "onset_ns", "began_ns", "reason")
)
CUT = {"verdict": "SURGE_JUMP", "reading_ns": 1_000_000_000, "verified_ns": 1_043_000_000}


def point(kind: str = "gb", outcome: str = "triggered", **more: object) -> dict[str, Any]:
    made = {
        **NONE,
        "kind": "point",
        "site_kind": kind,
        "label": "X",
        "class": outcome,
        "x_m": 1e-6,
        "y_m": 2e-6,
        "to_v": -10.0,
        "beyond_v": 10.0 if outcome == "censored" else 0.2,
        "after": {"kind": "lrs", "conductance_s": 6e-5, "resistance_ohm": 1.7e4},
    }
    if outcome == "triggered":
        made |= {**CUT, "trigger_bias_v": -0.12, "trigger_half_v": 0.001}
    return made | more


def found(*points: dict[str, Any], **columns: object) -> MapFindings:
    names = ("t_ns", "phase", "bias_v", "current_a")
    samples = {name: np.asarray(columns.get(name, []), dtype=float) for name in names}
    return MapFindings("a" * 16, {}, {"status": "completed", "reason": None}, None, points, samples)


def cycle(number: int = 0, **more: object) -> dict[str, Any]:
    return {
        **NONE,
        **CUT,
        "kind": "cycle",
        "cycle": number,
        "set": True,
        "trigger_bias_v": -0.15,
        "reset_bias_v": 0.48,
        "lrs": {"conductance_s": 1.6e-4, "resistance_ohm": 6.2e3},
        "hrs": {"current_a": 2e-12, "saturated": False},
        "on_off": 5e4,
        "on_off_is_bound": True,
        "reset_ok": True,
        **more,
    }


def memristor(*cycles: dict[str, Any]) -> MemristorFindings:
    start = {"parameters": {"set_rate_v_s": 1.0, "reset_rate_v_s": 2.0}}
    return MemristorFindings("b" * 16, start, {"status": "completed", "reason": None}, {"lod_a": 3.3e-10}, cycles)


# ------------------------------------------------------------------------------------------------------- the map


def test_a_median_keeps_the_sign_of_plating_and_the_kinds_apart() -> None:
    document = found(
        *(point(trigger_bias_v=v) for v in (-0.10, -0.12, -0.15)), point("gi", trigger_bias_v=-9.0)
    ).document("gb", rate_v_s=0.1)
    assert document["median_v"] == pytest.approx(-0.12)
    assert (document["n"], document["triggered"], document["median_beyond_v"]) == (3, 3, None)
    assert document["rate_v_s"] == 0.1


def test_a_censored_median_is_a_bound_and_not_a_number() -> None:
    document = found(point("gi", "censored"), point("gi", "censored"), point("gi", trigger_bias_v=-9.2)).document(
        "gi", rate_v_s=1.0
    )
    assert document["median_v"] is None
    assert document["median_beyond_v"] == pytest.approx(-10.0)
    assert (document["censored"], document["triggered"]) == (2, 1)


def test_what_is_invalid_or_conducted_before_has_no_part_in_a_median() -> None:
    document = found(
        point(trigger_bias_v=-0.1), point(outcome="invalid", reason="no contact"), point(outcome="lrs_at_start")
    ).document("gb", rate_v_s=0.1)
    assert document["median_v"] == pytest.approx(-0.1)
    assert (document["n"], document["invalid"], document["lrs_at_start"]) == (3, 1, 1)


def test_no_points_are_no_median() -> None:
    document = found().document("gi", rate_v_s=1.0)
    assert (document["n"], document["median_v"], document["median_beyond_v"]) == (0, None, None)


@pytest.mark.parametrize(
    ("doc", "verdict"),
    [
        (point(), (False, False)),
        (point(outcome="censored", after={"kind": "hrs", "current_a": 2e-9}), (False, False)),
        # A filament that was found after a sweep without a cut.
        (point(verdict=None, reading_ns=None, verified_ns=None), (True, False)),
        # A cut, and nothing there.
        (point(after={"kind": "lrs", "conductance_s": 1e-9, "resistance_ohm": 1e9}), (False, True)),
        (point(after={"kind": "lrs", "conductance_s": None, "resistance_ohm": None}), (False, True)),
        (point(outcome="invalid", reason="no contact"), (False, False)),
    ],
)
def test_the_read_after_the_sweep_judges_the_guard(doc: dict[str, Any], verdict: tuple[bool, bool]) -> None:
    assert judged(doc) == verdict


def test_a_sweep_is_what_lies_between_its_beginning_and_the_next() -> None:
    seek, read = 1, 4
    findings = found(
        point(began_ns=100, onset_ns=130),
        point(outcome="censored", began_ns=200),
        t_ns=[50, 100, 110, 120, 130, 150, 200, 210],
        phase=[read, seek, seek, seek, seek, read, seek, seek],
        bias_v=[0.1, 0, -1, -2, -3, 0.1, 0, -1],
        current_a=[0, 1, 2, 3, 9, 0, 4, 5],
    )
    first, second = findings.sweeps()
    assert first.bias_v.tolist() == [0, -1, -2, -3]
    assert first.cut
    assert second.current_a.tolist() == [4, 5]
    assert not second.cut


def test_a_point_that_was_never_swept_has_no_sweep() -> None:
    assert found(point(outcome="invalid", began_ns=None), t_ns=[1], phase=[1], bias_v=[0], current_a=[0]).sweeps() == ()


def test_a_latency_is_reading_complete_to_verified() -> None:
    assert latency_s(point()) == pytest.approx(0.043)
    assert latency_s(point(outcome="censored")) is None


# ------------------------------------------------------------------------------------------------- the memristor


def test_bounds_and_resolved_ratios_are_counted_apart() -> None:
    document = memristor(
        cycle(0),
        cycle(1, on_off=2e4, on_off_is_bound=False),
        cycle(2, on_off=None, on_off_is_bound=False, reset_ok=False),
    ).document()
    assert (document["cycles"], document["reset_ok"]) == (3, 2)
    assert (document["n_bound"], document["n_resolved"]) == (1, 1)
    assert document["on_off_lower_bound_median"] == pytest.approx(3.5e4)
    assert document["lod_a"] == 3.3e-10


def test_a_set_that_nobody_cut_is_missed_and_a_cut_without_filament_false() -> None:
    missed = cycle(verdict=None, set=False, lrs=None, hrs={"current_a": None, "saturated": True}, reset_ok=False)
    false = cycle(lrs={"conductance_s": 1e-9, "resistance_ohm": 1e9})
    not_set = cycle(verdict=None, set=False, lrs=None)
    assert memristor(cycle(), missed, false, not_set).judged() == (1, 1)


def test_the_picture_has_a_row_a_cycle_and_gaps_where_nothing_is() -> None:
    picture = memristor(cycle(0), cycle(1, on_off=None, lrs=None, hrs=None, reset_bias_v=None)).picture("t", "c")
    assert picture.cycle.tolist() == [1, 2]
    assert np.isnan(picture.on_off).tolist() == [False, True]
    assert np.isnan(picture.r_on_ohm).tolist() == [False, True]
    assert np.isnan(picture.hrs_a).tolist() == [False, True]
    assert picture.on_off_is_bound.dtype == bool


def test_without_cycles_there_is_nothing_to_say() -> None:
    document = memristor().document()
    assert (document["cycles"], document["on_off_lower_bound_median"]) == (0, None)


# ------------------------------------------------------------------------------------------- as it should be, words


def whole_summary(**edits: dict[str, Any]) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "runs": {"map": {"status": "completed"}, "memristor": {"status": "completed"}},
        "frames": {"missing": 0},
        "samples": {"missing": 0},
        "guard": {"missed": 0, "false": 0},
        "memristor": {"reset_ok": 20, "cycles": 20},
    }
    for name, value in edits.items():
        summary[name] = {**summary[name], **value}
    return summary


def test_it_is_as_it_should_be() -> None:
    assert as_it_should_be(whole_summary())


@pytest.mark.parametrize(
    "edits",
    [
        {"runs": {"map": {"status": "tripped"}}},
        {"runs": {"memristor": {"status": "failed"}}},
        {"frames": {"missing": 1}},
        {"samples": {"missing": -1}},
        {"guard": {"missed": 1}},
        {"guard": {"false": 1}},
        {"memristor": {"reset_ok": 19}},
    ],
)
def test_it_is_not(edits: dict[str, Any]) -> None:
    assert not as_it_should_be(whole_summary(**edits))


def test_every_class_has_its_words() -> None:
    def said(doc: dict[str, Any]) -> str:
        return str(line_of(doc)).replace("\u00a0", " ")

    assert "GB X: gave way at −120 mV, cut and verified off 43 ms after the reading" in said(point())
    assert "nothing up to −10 V; contact confirmed" in said(point("gi", "censored"))
    assert "conducted before the sweep" in said(point(outcome="lrs_at_start"))
    assert "invalid: no contact" in said(point(outcome="invalid", reason="no contact"))
    assert "seen after the sweep" in said(point(verified_ns=None))


def test_cycles_are_told_now_and_then_and_failures_always() -> None:
    assert line_of(cycle(0)) is None
    told = str(line_of(cycle(4))).replace("\u00a0", " ")
    assert told == "memristor cycle 5: set at −150 mV, reset at 480 mV; on/off at least 50 000"
    assert "NOT reset" in str(line_of(cycle(1, reset_ok=False)))
    assert "NOT set" in str(line_of(cycle(1, set=False, verdict=None)))


def test_a_ratio_in_two_digits() -> None:
    assert ratio_text(49742.4).replace("\u00a0", " ") == "50 000"
    assert ratio_text(12.34) == "12"
