"""The nuisances of the detector bench are what their module says they are."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Callable

import pytest

from edge.guard.phases import PhaseSpec, lsb_a, noise_sigma_a, offset_a, phase_spec
from edge.guard.thresholds import GUARD_SIGMAS
from edge.samples import Flag, Phase
from hil.bench.detector.nuisance import (
    CORRUPT,
    GAP_NS,
    LEAST_OHM,
    LOADS,
    PERIOD_NS,
    TELEGRAPH_DEPTH,
    Load,
    Reading,
    flicker,
    high_resistance,
    many_levels,
    ohmic,
    sweep,
    telegraph,
)

LOW = phase_spec(Phase.SEEK, 0.3)
HIGH = phase_spec(Phase.SEEK, 10.0)
HARD_A = 50e-6
SIGMA = noise_sigma_a(LOW.range_a, LOW.nplc)


def many(
    count: int,
    make: Callable[[random.Random], Load] = ohmic,
    *,
    gaps: str = "none",
    corrupt: float = CORRUPT,
    limit_s: float = math.inf,
) -> list[Reading]:
    """Whole sweeps of at least ``count`` readings; ``limit_s``: for the load and for corrupt readings."""
    rng = random.Random(1)
    result: list[Reading] = []
    while len(result) < count:
        result += sweep(
            rng,
            LOW,
            make(rng),
            hard_a=HARD_A,
            g_max_s=limit_s,
            gaps=gaps,
            corrupt=corrupt,
            corrupt_max_s=limit_s,
        )
    return result


@pytest.mark.parametrize("spec", [LOW, HIGH], ids=["100 uA", "1 mA"])
def test_a_sweep_goes_down_and_up_and_ends_where_it_began(spec: PhaseSpec) -> None:
    rng = random.Random(4)
    hard_a = HARD_A if spec is LOW else 10.0 * HARD_A
    levels = [r.sample.bias_v for r in sweep(rng, spec, ohmic(rng), hard_a=hard_a)]
    assert min(levels) == pytest.approx(-max(levels), rel=0.05)
    assert levels.index(min(levels)) < levels.index(max(levels))
    assert abs(levels[-1]) < 0.06
    steps = {round(abs(b - a), 6) for a, b in itertools.pairwise(levels)}
    assert len(steps) <= 3


def test_time_goes_on_and_readings_are_whole_counts_of_the_range() -> None:
    for r in many(3000, corrupt=0.0):
        assert r.sample.current_a / lsb_a(100e-6) == pytest.approx(round(r.sample.current_a / lsb_a(100e-6)), abs=1e-6)
    readings = list(sweep(random.Random(5), LOW, ohmic(random.Random(5)), hard_a=HARD_A))
    assert {b.sample.t_ns - a.sample.t_ns for a, b in itertools.pairwise(readings)} == {PERIOD_NS}


@pytest.mark.parametrize("make", LOADS, ids=lambda make: str(make.__name__))
def test_no_load_passes_a_limit_by_itself(make: Callable[[random.Random], Load]) -> None:
    for r in many(6000, make, corrupt=0.0, limit_s=1e-5):
        assert abs(r.sample.current_a) < HARD_A
        granted = GUARD_SIGMAS * SIGMA + offset_a(LOW.range_a, LOW.nplc)
        assert abs(r.expected_a) <= 1e-5 / 1.5 * abs(r.sample.bias_v) + granted


@pytest.mark.parametrize("make", LOADS, ids=lambda make: str(make.__name__))
def test_no_load_is_less_than_the_series_resistor(make: Callable[[random.Random], Load]) -> None:
    for r in many(6000, make, corrupt=0.0):
        if abs(r.sample.bias_v) > 0.1:
            granted = GUARD_SIGMAS * SIGMA + offset_a(LOW.range_a, LOW.nplc)
            assert abs(r.sample.current_a) - granted < abs(r.sample.bias_v) / LEAST_OHM


def test_what_is_left_of_a_resistor_is_its_noise() -> None:
    left = [r.sample.current_a - r.expected_a for r in many(5000, corrupt=0.0)]
    assert statistics.fmean(left) == pytest.approx(0.0, abs=0.1 * SIGMA)
    assert statistics.stdev(left) == pytest.approx(SIGMA, rel=0.05)


def test_the_offset_is_constant_and_within_the_data_sheet() -> None:
    found = set()
    for seed in range(30):
        rng = random.Random(seed)
        readings = list(sweep(rng, LOW, high_resistance(rng), hard_a=HARD_A, corrupt=0.0))
        offset = statistics.fmean(r.sample.current_a for r in readings)
        assert abs(offset) <= offset_a(LOW.range_a, LOW.nplc) + SIGMA
        found.add(math.copysign(1.0, offset))
    assert found == {-1.0, 1.0}


def test_glitches_are_single_rare_and_below_the_hard_limit() -> None:
    readings = many(50_000, corrupt=10.0 * CORRUPT)
    at = [n for n, r in enumerate(readings) if r.what == "glitch"]
    assert len(at) / len(readings) == pytest.approx(10.0 * CORRUPT, rel=0.15)
    assert min(b - a for a, b in itertools.pairwise(at)) > 1
    sizes = [abs(readings[n].sample.current_a) for n in at]
    assert 0.8 * HARD_A < max(sizes) < HARD_A
    assert sizes.count(0.0) > 0.15 * len(sizes)
    assert {math.copysign(1.0, readings[n].sample.current_a) for n in at if readings[n].sample.current_a} == {-1.0, 1.0}
    assert not any(r.what for r in many(20_000, corrupt=0.0))


def test_a_corrupt_reading_can_be_kept_below_the_conductance_limit() -> None:
    granted = GUARD_SIGMAS * SIGMA + offset_a(LOW.range_a, LOW.nplc)
    worst = 0.0
    for r in many(40_000, gaps="range change", limit_s=1e-5):
        if r.what in ("glitch", "junk"):
            limit = 1e-5 * max(abs(r.sample.bias_v), 1e-3) + granted
            assert abs(r.sample.current_a) <= limit
            worst = max(worst, abs(r.sample.current_a) / limit)
    assert worst > 0.98


def test_autozero_is_late_and_flagged_and_its_number_is_good() -> None:
    readings = many(20_000, gaps="autozero", corrupt=0.0)
    zeroed = [r for r in readings if r.what == "autozero"]
    assert len(zeroed) / len(readings) > 1 / 51
    for r in readings:
        assert (r.what == "autozero") == bool(r.sample.flags & Flag.AFTER_GAP)
        assert abs(r.sample.current_a - r.expected_a) < 6 * SIGMA
    gap = next(n for n, r in enumerate(readings) if r.what)
    assert readings[gap].sample.t_ns - readings[gap - 1].sample.t_ns == 3 * PERIOD_NS


def test_a_range_change_takes_200_ms_and_leaves_junk_in_three_of_ten() -> None:
    readings = many(30_000, gaps="range change", corrupt=0.0)
    flagged = [r for r in readings if r.sample.flags & Flag.AFTER_GAP]
    junk = [r for r in flagged if r.what == "junk"]
    assert {r.what for r in flagged} == {"junk", "range change"}
    assert len(junk) / len(flagged) == pytest.approx(0.3, abs=0.05)
    assert max(abs(r.sample.current_a) for r in junk) > 0.8 * HARD_A
    gap = next(n for n, r in enumerate(readings) if r.what)
    assert readings[gap].sample.t_ns - readings[gap - 1].sample.t_ns == PERIOD_NS + GAP_NS


@pytest.mark.parametrize("depth", [0.1, 0.45])
def test_telegraph_noise_has_two_levels_around_its_mean(depth: float) -> None:
    load = telegraph(random.Random(6), depth)
    drawn = [load.draw(0.5) for _ in range(20_000)]
    assert {round(value, 9) for value in drawn} == {1.0, round(1.0 - depth, 9)}
    logs = [math.log(value / load.mean(0.5)) for value in drawn]
    assert statistics.fmean(logs) == pytest.approx(0.0, abs=0.1 * load.rms)
    assert statistics.pstdev(logs) == pytest.approx(load.rms, rel=0.05)


def test_telegraph_noise_is_as_deep_as_that_of_real_sites() -> None:
    deepest = max(-math.expm1(-2.0 * telegraph(random.Random(seed)).rms) for seed in range(200))
    assert 0.44 < deepest <= TELEGRAPH_DEPTH  # 10.7 to 6.0 uA


@pytest.mark.parametrize("make", [many_levels, flicker], ids=["many levels", "flicker"])
def test_the_noise_told_to_the_oracle_is_true(make: Callable[[random.Random], Load]) -> None:
    load = make(random.Random(7))
    logs = [math.log(load.draw(0.5) / load.mean(0.5)) for _ in range(40_000)]
    assert statistics.fmean(logs) == pytest.approx(0.0, abs=0.1 * load.rms)
    assert statistics.pstdev(logs) == pytest.approx(load.rms, rel=0.05)


def test_flicker_remembers() -> None:
    load = flicker(random.Random(8))
    logs = [math.log(load.draw(0.5)) for _ in range(20_000)]
    assert statistics.correlation(logs[:-1], logs[1:]) == pytest.approx(0.9, abs=0.03)
