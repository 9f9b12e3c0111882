"""The observe path's cost, by the bench that users run."""

from __future__ import annotations

import os
import select

import pytest

from hil.bench.observe import observe
from hil.bench.options import BenchOptions
from hil.bench.report import Figure

# A busy host (other tests, a small runner) is given room here; the figure itself is checked in the long rounds.
LONG = os.environ.get("TIPGUARD_LONG") == "1"
LIMIT_NS = 5000.0 if LONG else 15_000.0
TRIES = 60
PAUSE_S = 5.0
"""Between two tries: all of them are spread over six minutes."""
pytestmark = [pytest.mark.long] if LONG else []


@pytest.mark.realtime
@pytest.mark.timeout(600)
def test_the_whole_path_stays_within_its_budget() -> None:
    # A host that is shared has slow phases, of minutes even, in which everything takes twice as long; a path that is
    # too long has no quick one.
    for _ in range(TRIES):
        report = observe(BenchOptions(), rounds=7, samples=2000)
        figures = {result["name"]: result["value"] for result in report["results"]}
        print(figures)
        if figures["whole_path_ns"] <= LIMIT_NS:
            break
        # Nothing is waited for but another phase.
        select.select([], [], [], PAUSE_S)
    assert figures["whole_path_ns"] <= LIMIT_NS
    # The parts are the whole: nothing is measured away.
    assert figures["parse_ns"] + figures["observe_ns"] + figures["record_ns"] == pytest.approx(
        figures["whole_path_ns"], rel=0.5
    )


def test_a_figure_knows_whether_it_is_met() -> None:
    assert Figure("a", 1.0, "s", 2.0).met is True
    assert Figure("a", 3.0, "s", 2.0).met is False
    assert Figure("a", 3.0, "s", 2.0, ">=").met is True
    assert Figure("a", 3.0, "s").met is None
