"""A surge by the law that was asked for: the current over time, its peak, its record."""

from __future__ import annotations

import math

import pytest

from hil.errors import BenchOptionError
from hil.twin.surge import STEP, SurgeLoad
from hil.twin.truth import TruthRecord

MS = 1_000_000


def live(load: SurgeLoad, v_set: float = -10.0, limit_a: float = 1e-3) -> SurgeLoad:
    load.set_source(0, v_set, limit_a, connected=True)
    return load


def test_the_current_grows_as_asked_from_the_onset_on() -> None:
    load = live(SurgeLoad(0.010, start_s=1e-10))
    load.advance(50 * MS)
    assert load.terminal_current_a == pytest.approx(-1e-9)
    load.begin(60 * MS)
    for t_ms in (61, 70, 83, 120):
        load.advance(t_ms * MS)
        law_a = 1e-9 * math.exp((t_ms - 60) / 10)
        # Never below the law, nor more than a step above it.
        assert law_a * (1 - 1e-9) <= -load.terminal_current_a <= law_a * math.exp(STEP) * (1 + 1e-9)


def test_the_same_whether_anybody_looks_or_not() -> None:
    watched, alone = live(SurgeLoad(0.005)), live(SurgeLoad(0.005))
    for load in (watched, alone):
        load.begin(10 * MS)
    for t_ns in range(10 * MS, 60 * MS, 77_777):
        watched.advance(t_ns)
    watched.advance(60 * MS)
    alone.advance(60 * MS)
    assert watched.terminal_current_a == alone.terminal_current_a
    assert watched.charge_c == pytest.approx(alone.charge_c, rel=1e-12)


def test_the_clamp_holds_and_the_peak_says_so() -> None:
    load = live(SurgeLoad(0.001, start_s=1e-6), limit_a=1e-3)
    load.begin(0)
    load.advance(3 * MS)
    assert load.peak_current_a < 1e-3
    load.advance(20 * MS)
    assert load.peak_current_a == 1e-3
    assert load.clamped


def test_behind_a_resistor_it_ends_at_what_the_resistor_leaves() -> None:
    load = live(SurgeLoad(0.001, start_s=1e-6, series_ohm=20_000.0))
    load.begin(0)
    load.advance(1_000 * MS)
    assert load.peak_current_a == pytest.approx(0.5e-3, rel=1e-4)
    assert not load.clamped


def test_onset_safe_and_dose_are_on_record() -> None:
    truth = TruthRecord()
    load = live(SurgeLoad(0.010, start_s=1e-8, truth=truth))
    load.begin(5 * MS)
    load.begin(6 * MS)
    load.set_source(25 * MS, 0.0, 1e-3, connected=True)
    load.close(30 * MS)
    [onset] = truth.events("set_onset")
    assert (onset["t_ns"], onset["tau_s"]) == (5 * MS, 0.010)
    [safe] = truth.events("safe")
    assert safe["t_ns"] == 25 * MS
    [summary] = truth.events("summary")
    assert summary["peak_current_a"] == load.peak_current_a
    # 10 V, 10 nS, from 5 ms on: the integral of the law, steps at most 1 % above.
    law_c = 1e-7 * 0.010 * (math.exp(2) - 1)
    assert law_c <= float(summary["charge_c"] or 0) <= 1.01 * law_c


@pytest.mark.parametrize(("tau_s", "start_s"), [(0.0, 1e-9), (math.nan, 1e-9), (1e4, 1e-9), (0.01, 0.0), (0.01, 2.0)])
def test_numbers_out_of_range_are_refused(tau_s: float, start_s: float) -> None:
    with pytest.raises(BenchOptionError, match="surge"):
        SurgeLoad(tau_s, start_s=start_s)
