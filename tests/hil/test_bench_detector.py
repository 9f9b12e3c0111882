"""The detector bench: its theory against published tables, FOCuS against brute force, delays counted right."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.guard.detector import DETECTOR_TESTS, Detector
from edge.guard.phases import phase_spec
from edge.guard.verdicts import Verdict
from edge.samples import Phase, Sample
from hil.bench.catalogue import bench
from hil.bench.detector import bench as figures_of
from hil.bench.detector import false_alarms, steps
from hil.bench.detector.armed import HIGH_V, LOW_V, ArmedGuard, Oracle
from hil.bench.detector.bench import JUDGED_SHIFTS, Measured, Size, detector, measure, worst_ratio
from hil.bench.detector.core import CusumCore
from hil.bench.detector.false_alarms import Tally
from hil.bench.detector.focus import Focus
from hil.bench.detector.nuisance import Reading
from hil.bench.detector.rates import poisson_upper
from hil.bench.detector.steps import HORIZON, SITES, Delays, Thresholds, first
from hil.bench.detector.theory import CusumTheory
from hil.bench.options import BenchOptions

LONG = os.environ.get("TIPGUARD_LONG") == "1"
TINY = Size(
    readings=4000,
    over_limit=4000,
    noise_blocks=40,
    runs=2,
    growth_runs=1,
    core_runs=1500,
    telegraph=2000,
    rounds=3,
)

# -- the integral equation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "h", "delta", "readings"),
    [
        (0.5, 7.36, 0.0, 1e4),
        (0.5, 7.36, 0.5, 72.7),
        (0.5, 7.36, 1.0, 15.1),
        (0.5, 7.36, 2.0, 5.58),
        (0.5, 7.36, 4.0, 2.64),
        (0.5, 7.36, 8.0, 1.44),
        (2.0, 1.77, 4.0, 1.46),
        (2.0, 1.77, 2.0, 8.57),
        (0.5, 11.96, 0.0, 1e6),
        (0.5, 11.96, 1.0, 24.3),
        (2.0, 2.92, 2.0, 16.7),
    ],
)
def test_the_delays_of_the_detection_study(k: float, h: float, delta: float, readings: float) -> None:
    # The study's thresholds have three digits, and a delay near ARL0 goes as exp(2 k h).
    assert CusumTheory(k, h).delay(delta) == pytest.approx(readings, rel=0.02)


def test_page_1954_as_siegmund_approximates_it() -> None:
    """A formula that shares nothing with the equation: good to a few per cent."""
    for k, h in ((0.5, 4.0), (0.5, 5.0), (1.0, 3.0)):
        b = h + 1.166
        arl0 = (math.exp(2 * k * b) - 1 - 2 * k * b) / (2 * k * k)
        assert CusumTheory(k, h).delay(0.0) == pytest.approx(arl0, rel=0.07)


@pytest.mark.parametrize(("cap", "delta", "readings"), [(4.0, 4.0, 3.6), (4.0, 8.0, 3.0), (6.0, 8.0, 2.0)])
def test_with_a_cap_the_study_s_bounded_score(cap: float, delta: float, readings: float) -> None:
    assert CusumTheory(0.5, 9.66, cap).delay(delta) == pytest.approx(readings, rel=0.01)


@pytest.mark.parametrize(
    ("k", "h", "cap", "release", "delta"),
    [(1.0, 20.0, 6.0, None, 3.0), (0.5, 4.3, 2.0, None, 1.0), (0.5, 7.0, 3.0, 8, 0.8), (1.0, 2.0, 6.0, 2, 1.0)],
)
def test_the_equation_against_the_scheme_itself(
    k: float, h: float, cap: float, release: int | None, delta: float
) -> None:
    """By counting: many chains at once, nothing shared with the solver."""
    rng = np.random.default_rng(17)
    s, age = np.zeros(3000), np.zeros(3000, dtype=int)
    took = np.zeros(3000)
    running = np.ones(3000, dtype=bool)
    for _ in range(4000):
        if not running.any():
            break
        took[running] += 1
        s = np.maximum(0.0, s + np.minimum(rng.normal(delta, 1.0, len(s)), cap) - k)
        age = np.where(s > 0.0, age + 1, 0)
        if release is not None:
            s[age >= release] = 0.0
            age[age >= release] = 0
        running &= s <= h
    assert not running.any()
    exact = CusumTheory(k, h, cap, release).delay(delta)
    assert took.mean() == pytest.approx(exact, abs=4.0 * took.std() / math.sqrt(len(took)))


@pytest.mark.parametrize(
    ("k", "h", "cap", "release"), [(1.0, 0.0, 6.0, None), (1.0, 5.0, 1.0, None), (1.0, 5.0, 6.0, 1)]
)
def test_schemes_that_are_none(k: float, h: float, cap: float, release: int | None) -> None:
    with pytest.raises(ValueError, match="needs h > 0"):
        CusumTheory(k, h, cap, release)


# -- the detector's own CUSUM --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(zs=st.lists(st.floats(-2.9, 9.0), min_size=1, max_size=31))
def test_the_core_sums_the_residuals_it_was_asked_to(zs: list[float]) -> None:
    core = CusumCore()
    s = 0.0
    for z in zs:
        s = max(0.0, s + min(z, 6.0) - 1.0)
        assert core.step(z) is (core.cusum > 20.0)
        assert core.cusum == pytest.approx(s, abs=1e-6)


def test_the_core_lets_an_excursion_go_after_32_readings() -> None:
    core = CusumCore()
    for _ in range(31):
        core.step(1.1)
    assert core.cusum == pytest.approx(3.1)
    core.step(1.1)
    assert core.cusum == 0.0


def test_the_core_is_within_2_percent_of_theory_and_another_k_is_not() -> None:
    theory = CusumCore().theory().delay(3.0)
    right, error = CusumCore().delay(np.random.default_rng(5), 3.0, 1500)
    assert error < 0.01 * theory
    assert right == pytest.approx(theory, rel=0.02)
    wrong, _ = CusumCore(k=1.1).delay(np.random.default_rng(5), 3.0, 1500)
    assert abs(wrong / theory - 1.0) > 0.02


def test_the_ratio_is_that_of_the_worst_shift_in_either_direction() -> None:
    rows: list[dict[str, float | None]] = [
        {"shift_sigma": 2.0, "measured": 20.0, "textbook": 19.9},
        {"shift_sigma": 3.0, "measured": 9.0, "textbook": 10.0},
        {"shift_sigma": 1.5, "measured": 100.0, "textbook": 40.0},
        {"shift_sigma": 1.0, "measured": None, "textbook": 448.0},
    ]
    assert worst_ratio(rows, "textbook", JUDGED_SHIFTS) == pytest.approx(10.0 / 9.0)


# -- FOCuS ---------------------------------------------------------------------------------------------------------


def brute_force(zs: list[float]) -> float:
    """The largest likelihood ratio of all segments that end now."""
    sums = [math.fsum(zs[tau:]) for tau in range(len(zs))]
    return max([0.0, *(0.5 * s * s / (len(zs) - tau) for tau, s in enumerate(sums) if s > 0.0)])


@settings(max_examples=80, deadline=None)
@given(zs=st.lists(st.one_of(st.floats(-20, 20), st.integers(-2, 2).map(float)), min_size=1, max_size=40))
def test_focus_is_the_maximum_over_every_segment(zs: list[float]) -> None:
    focus = Focus()
    for n, z in enumerate(zs, start=1):
        assert focus.step(z) == pytest.approx(brute_force(zs[:n]), rel=1e-9, abs=1e-9)


def test_focus_keeps_few_onsets_and_forgets_on_reset() -> None:
    rng = random.Random(3)
    focus = Focus()
    kept = []
    for _ in range(20_000):
        focus.step(rng.gauss(0.0, 1.0))
        kept.append(focus.candidates)
    assert sum(kept) / len(kept) < 12.0
    focus.reset()
    assert focus.candidates == 1
    assert focus.step(2.0) == 2.0


def test_focus_on_noise_has_the_study_s_threshold() -> None:
    # 8.68 for 1 in 1e4, by the study's own simulation.
    assert false_alarms.focus_on_noise(200, rate=1e-4) == pytest.approx(8.68, abs=0.6)


def test_shewhart_on_noise() -> None:
    assert false_alarms.shewhart_on_noise(1e-6) == pytest.approx(4.7534, abs=1e-4)


# -- counting delays -----------------------------------------------------------------------------------------------


def test_the_reading_of_the_onset_counts_as_1() -> None:
    def alarms(at: int, length: int = 60) -> Iterator[bool]:
        return iter([n == at for n in range(length)])

    assert first(alarms(50), 50) == 1
    assert first(alarms(51), 50) == 2
    assert first(alarms(49), 50) == 0
    assert first(alarms(-1), 50) == HORIZON + 1


def test_what_was_not_found_is_neither_fast_nor_left_out() -> None:
    delays = Delays([2, 2, 2, HORIZON + 1, 0])
    assert delays.early == 1
    assert delays.found == 0.75
    assert (delays.quantile(0.5), delays.quantile(0.99)) == (2.0, HORIZON + 1)
    row = delays.row()
    assert (row["p50"], row["p99"], row["mean_if_found"], row["over_2"]) == (2.0, None, 2.0, 1)
    assert math.isnan(Delays([0]).quantile(0.5))


THRESHOLDS = Thresholds(14.0, 4.75, 1500.0, 50.0, 0.98)


def with_detector(monkeypatch: pytest.MonkeyPatch, answer: Verdict | None) -> None:
    monkeypatch.setattr(ArmedGuard, "observe", lambda _self, _sample: answer)


def decade(runs: int = 8) -> steps.Comparison:
    return steps.compare("1 decades", steps.step_of(1.0), 1.0, SITES[1], THRESHOLDS, runs)


def test_a_deaf_guard_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with_detector(monkeypatch, None)
    delays = decade().delays["guard"]
    assert (delays.found, delays.quantile(0.99)) == (0.0, HORIZON + 1)
    assert steps.over_the_hard_limit(3).quantile(1.0) > 1.0


def test_a_trigger_happy_guard_is_early_and_not_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    with_detector(monkeypatch, Verdict.SURGE_JUMP)
    delays = decade().delays["guard"]
    assert delays.early == 8
    assert math.isnan(delays.quantile(0.5))
    tally = false_alarms.run(2000, others=False)
    assert tally.alarms == tally.readings


def test_the_shipped_guard_takes_two_readings_for_a_decade_and_one_over_the_limit() -> None:
    comparison = decade(20)
    for name in ("guard", "guard.no_conductance"):
        assert comparison.delays[name].taken == [2] * 20
    assert set(comparison.delays["threshold.nuisance"].taken) == {HORIZON + 1}  # 4 uA of 49 uA
    assert comparison.delays["focus.quiet"].quantile(0.99) == 1.0
    assert set(steps.over_the_hard_limit(20).taken) == {1}


def test_growth_is_counted_from_its_first_reading() -> None:
    run, onset = steps.readings(random.Random(1), SITES[0], steps.growth_of(5.0))
    ratio = [math.log10(r.sample.current_a / r.expected_a) for r in run]
    assert abs(ratio[onset - 1]) < 0.1
    assert ratio[onset] == pytest.approx(0.2, abs=0.06)
    assert ratio[onset + 9] == pytest.approx(2.0, abs=0.05)
    assert len(run) == onset + HORIZON


# -- the guard under test is the one that ships --------------------------------------------------------------------


@pytest.mark.parametrize("v_max", [LOW_V, HIGH_V])
@pytest.mark.parametrize("conductance_s", [None, 0.0])
def test_the_guard_is_armed_for_a_search_with_the_limits_as_shipped(v_max: float, conductance_s: float | None) -> None:
    armed = ArmedGuard(v_max, conductance_s)
    assert armed.spec == phase_spec(Phase.SEEK, v_max)
    assert armed.spec.tests >= DETECTOR_TESTS
    inner = armed.guard._detector
    assert isinstance(inner, Detector)
    assert inner.settings == armed.settings
    assert armed.settings.g_max_s == (1e-5 if conductance_s is None else math.inf)


def test_arming_anew_forgets() -> None:
    armed = ArmedGuard(LOW_V)
    seen = [armed.observe(Sample(n, 0, n, -0.5, -4e-7, 0, Phase.SEEK)) for n in range(40)]
    armed.arm()
    seen += [armed.observe(Sample(n, 0, n, -0.5, -4.5e-6, 0, Phase.SEEK)) for n in range(40, 80)]
    assert seen == [None] * 80  # a decade more, but nothing was known before


def test_the_oracle_takes_the_truth_for_its_mean() -> None:
    armed = ArmedGuard(LOW_V)
    oracle = Oracle(armed.settings, 0.1)
    rng = random.Random(2)
    zs = []
    for n in range(3000):
        current = -1e-6 * math.exp(rng.gauss(0.0, math.hypot(0.1, 0.03))) + rng.gauss(0.0, armed.settings.sigma0_a)
        z = oracle.z(Reading(Sample(n, 0, n, -0.5, current, 0, Phase.SEEK), -1e-6, ""))
        assert z is not None
        zs.append(z)
    assert np.mean(zs) == pytest.approx(0.0, abs=0.06)
    assert np.std(zs) == pytest.approx(1.0, abs=0.05)
    faint = Sample(0, 0, 0, -0.5, -armed.settings.evidence_a, 0, Phase.SEEK)
    assert oracle.z(Reading(faint, -1e-6, "")) is None


# -- false alarms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "upper"), [(0, 2.9957), (1, 4.7439), (5, 10.513), (100, 118.08)])
def test_the_bound_of_a_count(count: int, upper: float) -> None:
    assert poisson_upper(count) == pytest.approx(upper, rel=1e-4)


def test_the_bound_refuses_nonsense() -> None:
    for count, confidence in ((-1, 0.95), (0, 1.0)):
        with pytest.raises(ValueError, match="needs 0 or more"):
            poisson_upper(count, confidence)


def test_a_threshold_lets_through_as_many_as_asked() -> None:
    largest = [float(n) for n in range(1000)]
    limit = false_alarms.at_rate(largest, readings=1_000_000, rate=5e-6)
    assert sum(value > limit for value in largest) == 4
    assert sum(value >= limit for value in largest) == 5
    assert false_alarms.at_rate(largest, readings=1000, rate=1e-6) == 999.0


@functools.cache
def small_tally(over: bool, conductance_s: float | None) -> Tally:
    return false_alarms.run(40_000, conductance_s=conductance_s, corrupt_over_g_max=over, others=False)


def test_classes_are_counted_whole() -> None:
    tally = small_tally(False, None)
    for kind in ("load", "gaps", "glitches"):
        assert sum(n for (k, _), (n, _) in tally.by.items() if k == kind) == tally.readings
    assert {name for (kind, name) in tally.by if kind == "gaps"} == {"none", "autozero", "range change"}
    assert set(tally.events) == {"glitch", "junk", "autozero", "range change"}


def test_one_corrupt_reading_trips_the_conductance_limit_and_nothing_else() -> None:
    assert small_tally(False, None).alarms == 0
    assert small_tally(True, 0.0).alarms == 0
    over = small_tally(True, None)
    assert over.alarms > 10
    assert set(over.verdicts) <= {"CONDUCTANCE", "SERIES_RESISTOR"}
    assert set(over.after) <= {"glitch", "junk"}


def test_telegraph_noise_beyond_the_gate_is_taken_for_a_surge() -> None:
    calm, wild = false_alarms.telegraph_limit((0.45, 0.9), 5000)
    assert calm["alarms"] == 0
    assert wild["alarms"] > 0
    assert wild["decades"] == pytest.approx(1.0)


# -- the report ----------------------------------------------------------------------------------------------------


TOLD: list[float] = []


@functools.cache
def tiny() -> Measured:
    return measure(BenchOptions(progress=lambda done, _what: TOLD.append(done)), TINY)


def test_a_run_gives_the_named_figures_and_their_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_of, "measure", lambda _options, _size: tiny())
    report = detector(BenchOptions())
    results = {result["name"]: result for result in report["results"]}
    targets = {
        "samples_to_verdict.1decade": 2.0,
        "samples_to_verdict.2decade": 2.0,
        "samples_to_verdict.hard": 1.0,
        "cusum_core_ratio": 1.02,
        "false_per_1e6": 1.0,
        "ns_per_sample": 5000.0,
    }
    assert {name: results[name]["target"] for name in targets} == targets
    assert all(results[name]["met"] for name in targets if name != "ns_per_sample")
    assert results["samples_to_verdict.0.5decade"]["target"] is None
    assert len([name for name in results if name.startswith("samples_to_verdict.ramp")]) == 10
    assert results["ns_per_sample"]["value"] > results["threshold_ns"]["value"]
    json.loads(json.dumps(report, allow_nan=False))
    detectors = {row["detector"] for row in report["raw"]["steps"]}
    assert detectors == {"guard", "guard.no_conductance", *steps.OTHERS}
    assert len(report["raw"]["growth"]) == 10 * len(SITES) * len(detectors)


@pytest.mark.long
@pytest.mark.skipif(not LONG, reason="five pictures: TIPGUARD_LONG=1")
def test_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_of, "measure", lambda _options, _size: tiny())
    detector(BenchOptions(plots=tmp_path / "plots"))
    names = {path.name for path in (tmp_path / "plots").glob("*.png")}
    assert names == {f"detector-{what}.png" for what in ("steps", "growth", "delays", "cusum", "telegraph")}
    assert all(path.stat().st_size > 20_000 for path in (tmp_path / "plots").iterdir())


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.skipif(not LONG, reason="half a minute of a core: TIPGUARD_LONG=1")
def test_a_quick_run_meets_every_target() -> None:
    report = bench("detector", BenchOptions(quick=True))
    assert not [result["name"] for result in report["results"] if result["met"] is False]


def test_progress_goes_forward() -> None:
    tiny()
    assert sorted(TOLD) == TOLD
    assert 0.0 <= TOLD[0] < TOLD[-1] <= 1.0


def test_the_catalogue_knows_it_and_quick_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Size] = []

    def remembered(_options: BenchOptions, size: Size) -> Measured:
        asked.append(size)
        return tiny()

    monkeypatch.setattr(figures_of, "measure", remembered)
    bench("detector", BenchOptions(quick=True))
    bench("detector", BenchOptions())
    assert asked[1].readings >= 5_000_000
    assert all(getattr(asked[0], f.name) < getattr(asked[1], f.name) for f in dataclasses.fields(Size))


def test_what_is_late_or_false_misses_its_target() -> None:
    last = tiny().steps[-1]
    deaf = dataclasses.replace(last, delays={**last.delays, "guard": Delays([HORIZON + 1])})
    worse = dataclasses.replace(
        tiny(),
        shipped=dataclasses.replace(tiny().shipped, alarms=1),
        steps=[*tiny().steps[:-1], deaf],
        hard=Delays([1, 1, 2]),
    )
    met = {figure.name: figure.met for figure in figures_of.figures(worse)}
    assert met["false_per_1e6"] is False
    assert met["samples_to_verdict.3decade"] is False
    assert met["samples_to_verdict.hard"] is False
    assert met["samples_to_verdict.1decade"] is True
    assert {figure.met for figure in figures_of.figures(tiny()) if figure.name.endswith("decade")} == {None, True}
