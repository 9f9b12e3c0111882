"""The phase table says what the design says, and nothing outside the tables is answered."""

from __future__ import annotations

import math

import pytest

from edge.guard.detector import DETECTOR_TESTS
from edge.guard.phases import (
    ALWAYS,
    hard_limit_a,
    lsb_a,
    noise_sigma_a,
    offset_a,
    phase_spec,
    predict_limit_a,
    prot_a,
)
from edge.guard.verdicts import PLANNED_IN_SEEK, Verdict
from edge.samples import Phase

V = Verdict
RESET_TESTS = {V.HARD_LIMIT, V.PREDICTED, V.COMPLIANCE, V.OVERFLOW, V.UNPARSABLE, V.STALE}
SURGES = {V.SURGE_JUMP, V.SURGE_LEVEL, V.SURGE_CUSUM, V.CONDUCTANCE}
TABLE = [
    (Phase.SEEK, 0.3, RESET_TESTS | SURGES, 100e-6, 0.01, False, False),
    (Phase.SEEK, 1.0, RESET_TESTS | SURGES, 100e-6, 0.01, False, False),
    (Phase.SEEK, 1.01, RESET_TESTS | SURGES, 1e-3, 0.01, False, False),
    (Phase.SEEK, 10.0, RESET_TESTS | SURGES, 1e-3, 0.01, False, False),
    (Phase.RESET, 1.0, RESET_TESTS, 1e-3, 0.01, False, False),
    (Phase.LRS_READ, 0.02, RESET_TESTS, 100e-6, 1.0, False, False),
    (Phase.HRS_READ, 0.1, RESET_TESTS - {V.COMPLIANCE, V.OVERFLOW}, 1e-6, 1.0, True, True),
]


@pytest.mark.parametrize(("phase", "v_max_v", "tests", "range_a", "nplc", "autozero", "result"), TABLE)
def test_rows(
    phase: Phase, v_max_v: float, tests: set[Verdict], range_a: float, nplc: float, autozero: bool, result: bool
) -> None:
    spec = phase_spec(phase, v_max_v)
    assert spec.tests == tests | ALWAYS
    assert (spec.phase, spec.range_a, spec.nplc) == (phase, range_a, nplc)
    assert (spec.autozero, spec.saturation_is_result) == (autozero, result)


def test_always() -> None:
    assert {
        V.OUTPUT_CHANGED,
        V.LIMIT_CHANGED,
        V.DEVICE_RESET,
        V.LINK_LOST,
        V.SERIES_RESISTOR,
        V.STAGE_FAULT,
        V.FRONTEND,
        V.LEASE,
        V.RING_FULL,
        V.OPERATOR,
        V.SHUTDOWN,
    } == ALWAYS


@pytest.mark.parametrize(("v_max_v", "range_a"), [(0.25, 100e-6), (9.0, 1e-3)])
def test_a_cut_keeps_the_range_and_leaves_the_judging_to_the_cut(v_max_v: float, range_a: float) -> None:
    spec = phase_spec(Phase.CUT, v_max_v)
    assert spec.range_a == range_a
    assert spec.tests & DETECTOR_TESTS == {V.UNPARSABLE}
    assert not spec.tests & PLANNED_IN_SEEK
    assert ALWAYS - spec.tests == {V.SERIES_RESISTOR}


def test_every_planned_verdict_is_a_test_of_a_search() -> None:
    assert phase_spec(Phase.SEEK, 1.0).tests >= PLANNED_IN_SEEK


def test_a_cell_brings_its_own_range() -> None:
    spec = phase_spec(Phase.CELL, 4.0, range_a=10e-3, nplc=1.0)
    assert (spec.range_a, spec.nplc) == (10e-3, 1.0)
    assert {V.V_LIMIT, V.V_COLLAPSE, V.R_DROP} <= spec.tests
    assert not spec.tests & SURGES
    with pytest.raises(ValueError, match="give range_a and nplc"):
        phase_spec(Phase.CELL, 4.0)
    with pytest.raises(ValueError, match="known ranges"):
        phase_spec(Phase.CELL, 4.0, range_a=2e-3, nplc=1.0)


def test_no_row() -> None:
    with pytest.raises(ValueError, match="IDLE"):
        phase_spec(Phase.IDLE, 1.0)
    with pytest.raises(ValueError, match="belong to CELL"):
        phase_spec(Phase.SEEK, 1.0, range_a=1e-3)
    for bad in (math.nan, math.inf, -1.0):
        with pytest.raises(ValueError, match="v_max_v"):
            phase_spec(Phase.SEEK, bad)


@pytest.mark.parametrize(
    ("phase", "v_max_v", "i_limit_a", "prot"),
    [
        (Phase.SEEK, 0.3, 1e-3, 100e-6),
        (Phase.SEEK, 9.0, 1e-3, 1e-3),
        (Phase.SEEK, 9.0, 2e-4, 2e-4),
        (Phase.HRS_READ, 0.1, 1e-3, 1e-6),
    ],
)
def test_protection_is_the_smaller_of_limit_and_range(
    phase: Phase, v_max_v: float, i_limit_a: float, prot: float
) -> None:
    assert prot_a(phase_spec(phase, v_max_v), i_limit_a) == prot


def test_a_limit_the_instrument_would_refuse_is_refused_here() -> None:
    spec = phase_spec(Phase.SEEK, 9.0)
    with pytest.raises(ValueError, match=r"0\.1 %"):
        prot_a(spec, 0.9e-6)
    for bad in (0.0, -1e-3, math.nan, math.inf):
        with pytest.raises(ValueError, match="i_limit_a"):
            prot_a(spec, bad)


def test_the_hard_limit_is_half_of_prot_and_a_user_can_only_lower_it() -> None:
    low, high = phase_spec(Phase.SEEK, 0.3), phase_spec(Phase.SEEK, 9.0)
    assert hard_limit_a(low, 1e-3) == pytest.approx(50e-6)
    assert hard_limit_a(high, 1e-3) == pytest.approx(0.5e-3)
    assert hard_limit_a(high, 1e-3, 20e-6) == 20e-6
    assert hard_limit_a(low, 1e-3, 0.9e-3) == pytest.approx(50e-6)
    for bad in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="user_a"):
            hard_limit_a(low, 1e-3, bad)


def test_where_saturation_is_a_result_only_an_impossible_reading_is_hard() -> None:
    spec = phase_spec(Phase.HRS_READ, 0.1)
    assert 1.055e-6 < hard_limit_a(spec, 1e-3) < 1.1e-6
    assert predict_limit_a(spec, 1e-3) == 1e-3
    assert predict_limit_a(phase_spec(Phase.SEEK, 0.3), 1e-3) == 100e-6


@pytest.mark.parametrize(
    ("range_a", "nplc", "sigma", "offset"),
    [
        (1e-6, 1.0, 10e-12, 300e-12),
        (1e-6, 0.01, 150e-12, 300e-12 + 500e-12),
        (10e-6, 0.1, 100e-12, 700e-12 + 500e-12),
        (100e-6, 1.0, 0.5e-9, 6e-9),
        (100e-6, 0.01, 10e-9, 56e-9),
        (1e-3, 0.01, 100e-9, 560e-9),
        (10e-3, 1.0, 50e-9, 600e-9),
    ],
)
def test_noise_and_offset_of_the_data_sheet(range_a: float, nplc: float, sigma: float, offset: float) -> None:
    assert noise_sigma_a(range_a, nplc) == pytest.approx(sigma)
    assert offset_a(range_a, nplc) == pytest.approx(offset)


def test_noise_is_never_below_the_resolution_and_never_promised_for_a_slower_reading() -> None:
    for range_a in (1e-6, 10e-6, 100e-6, 1e-3, 10e-3):
        sigmas = [noise_sigma_a(range_a, nplc) for nplc in (10.0, 1.0, 0.5, 0.1, 0.05, 0.01)]
        assert sigmas == sorted(sigmas)
        assert sigmas[0] >= lsb_a(range_a) / math.sqrt(12.0)
        assert noise_sigma_a(range_a, 0.5) == noise_sigma_a(range_a, 0.1)


@pytest.mark.parametrize(("range_a", "nplc"), [(5e-4, 1.0), (1e-6, 0.001), (1e-6, math.nan), (math.nan, 1.0)])
def test_no_number_outside_the_tables(range_a: float, nplc: float) -> None:
    with pytest.raises(ValueError, match=r"range|nplc"):
        noise_sigma_a(range_a, nplc)
    with pytest.raises(ValueError, match=r"range|nplc"):
        offset_a(range_a, nplc)
