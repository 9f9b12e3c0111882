"""What the stop document of a map says of its points: counts, medians that know of those that held, reasons."""

from __future__ import annotations

from typing import Any

import pytest

from edge.experiments.reads import data_sheet_zero
from edge.experiments.trigger_map import Tally
from edge.samples import Phase


def a_point(**changes: object) -> dict[str, Any]:
    """One that held up to -0.5 V, unless changed."""
    held = {
        "site_kind": "gi",
        "class": "censored",
        "trigger_bias_v": None,
        "beyond_v": 0.5,
        "to_v": -0.5,
        "reason": None,
    }
    return {**held, **changes}


def triggered(bias_v: float) -> dict[str, Any]:
    return a_point(**{"class": "triggered", "trigger_bias_v": bias_v, "beyond_v": abs(bias_v)})


def kinds_of(*points: dict[str, Any]) -> dict[str, dict[str, Any]]:
    tally = Tally()
    for point in points:
        tally.add(point)
    kinds: dict[str, dict[str, Any]] = tally.results(data_sheet_zero(Phase.HRS_READ))["kinds"]
    return kinds


def medians(*points: dict[str, Any]) -> tuple[Any, Any]:
    of = kinds_of(*points)["gi"]
    return of["median_v"], of["median_beyond_v"]


def test_what_held_counts_as_later_than_it_was_watched() -> None:
    assert medians(triggered(-0.1), triggered(-0.2), triggered(-0.3)) == (-0.2, None)
    assert medians(triggered(-0.1), triggered(-0.2), a_point()) == (-0.2, None)
    # Half of them: the middle lies between one that triggered and one that held.
    assert medians(triggered(-0.1), a_point()) == (None, pytest.approx(-0.3))
    assert medians(a_point(), a_point(beyond_v=0.4)) == (None, pytest.approx(-0.45))
    assert medians(a_point(**{"class": "invalid", "reason": "no contact"})) == (None, None)


def test_the_least_that_was_held_has_the_sign_of_the_sweep() -> None:
    assert kinds_of(a_point(), a_point(beyond_v=0.4))["gi"]["beyond_v"] == -0.4
    positive = {"to_v": 0.5, "site_kind": "hl"}
    assert kinds_of(a_point(**positive))["hl"]["beyond_v"] == 0.5
    assert kinds_of(triggered(-0.1))["gi"]["beyond_v"] is None


def test_the_most_frequent_reason_is_told() -> None:
    invalid = [a_point(**{"class": "invalid", "reason": reason}) for reason in ("a", "b", "b", "c")]
    of = kinds_of(*invalid, a_point())["gi"]
    assert (of["invalid"], of["invalid_reason"], of["invalid_reason_n"]) == (4, "b", 2)
