"""The envelope: arithmetic by hand, monotonicity, refusals; and its promises held against the detector itself."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.guard.detector import Detector
from edge.guard.envelope import (
    LEAST_GROWTH,
    CertainTest,
    EnvelopeInputs,
    Pace,
    certain_tests,
    envelope,
    layer,
    reading_error_a,
    tau_min_s,
)
from edge.guard.phases import phase_spec
from edge.guard.thresholds import DetectorSettings
from edge.guard.verdicts import Verdict
from edge.samples import Phase, Sample

V = Verdict
PACE = Pace(gap_s=0.050, plain_gap_s=0.030, least_gap_s=0.020, reply_s=0.012, cut_s=0.013)
HARD = CertainTest(verdict=V.HARD_LIMIT, i_det_a=0.5e-3)
BASE = EnvelopeInputs(
    pace=PACE, tests=(HARD,), i_limit_a=1e-3, clamp_a=1e-3, v_max_v=10.0, series_ohm=0.0, bias_step_v=0.002
)


def with_(**changes: object) -> EnvelopeInputs:
    return dataclasses.replace(BASE, **changes)  # type: ignore[arg-type]


def of(phase: Phase, v_max_v: float, **more: float) -> DetectorSettings:
    return DetectorSettings.for_phase(phase_spec(phase, v_max_v), i_limit_a=1e-3, tau_cut_s=0.04, **more)


# -- by hand -------------------------------------------------------------------------------------------------------


def test_one_reading_by_hand() -> None:
    found = envelope(BASE)
    # 50 ms + 12 ms + 13 ms, and a current that doubles: 75 ms / ln 2.
    assert found.tau_min_s == pytest.approx(0.075 / math.log(2.0))
    assert found.tau_min_s == pytest.approx(0.10820, abs=1e-5)
    assert found.tenfold_s == pytest.approx(0.24915, abs=1e-5)
    assert found.tau_min_any_s == found.tau_min_s
    assert (found.seen_by, found.readings, found.i_det_a) == (V.HARD_LIMIT, 1, 0.5e-3)
    # A short: 1 mA of the clamp for those 75 ms, at 10 V.
    assert found.step_s == pytest.approx(0.075)
    assert found.charge_c == pytest.approx(75e-6)
    assert found.energy_j == pytest.approx(750e-6)
    assert found.layer == "clamp"


def test_a_factor_of_e_takes_one_time_constant() -> None:
    assert tau_min_s(0.06, math.e * 1e-6, 1e-6) == pytest.approx(0.06)
    assert tau_min_s(0.06, 1e-3, 1e-3) == math.inf
    assert tau_min_s(0.06, 1e-3, 2e-3) == math.inf


def test_readings_that_must_agree_take_a_gap_each_and_one_check_in_five() -> None:
    assert PACE.until_zero_s(1) == pytest.approx(0.075)
    assert PACE.until_zero_s(2) == pytest.approx(0.105)
    assert PACE.until_zero_s(5) == pytest.approx(0.050 + 4 * 0.030 + 0.025)
    assert PACE.until_zero_s(6) == pytest.approx(2 * 0.050 + 4 * 0.030 + 0.025)


def test_two_readings_that_see_a_smaller_current_may_promise_more() -> None:
    level = CertainTest(verdict=V.SURGE_LEVEL, i_det_a=30e-6, readings=2, quiet=True)
    found = envelope(with_(tests=(HARD, level)))
    assert found.tau_min_s == pytest.approx(0.105 / math.log(1e-3 / 30e-6))
    assert (found.seen_by, found.readings) == (V.SURGE_LEVEL, 2)
    # It wants a quiet sample; whatever conducted before is left to the hard limit.
    assert found.tau_min_any_s == pytest.approx(0.075 / math.log(2.0))
    # A short is above both, and one reading is enough for it.
    assert found.step_s == pytest.approx(0.075)


def test_a_test_for_fast_surges_counts_only_where_slower_ones_are_anothers() -> None:
    def jump(growth: float) -> CertainTest:
        return CertainTest(verdict=V.SURGE_JUMP, i_det_a=7e-6, readings=2, least_growth=growth, quiet=True)

    # From 20 ms / 0.1 on surges grow too little from reading to reading; the hard limit takes over at 108 ms.
    assert envelope(with_(tests=(HARD, jump(0.1)))).seen_by is V.SURGE_JUMP
    assert envelope(with_(tests=(HARD, jump(0.1)))).tau_min_s == pytest.approx(0.105 / math.log(1e-3 / 7e-6))
    # With 20 ms / 0.7 there is a hole between 29 and 108 ms: no promise from the faster one.
    assert envelope(with_(tests=(HARD, jump(0.7)))).seen_by is V.HARD_LIMIT
    # Nothing but such a test: nothing is promised.
    assert envelope(with_(tests=(jump(0.1),))).tau_min_s == math.inf


@pytest.mark.parametrize(
    ("series_ohm", "clamp_a", "holds", "step_a"),
    [
        (0.0, 1e-3, "clamp", 1e-3),
        (1000.0, 1e-3, "clamp", 1e-3),
        (10_000.0, 1e-3, "resistor", 1e-3),
        (20_000.0, 1e-3, "resistor", 0.5e-3),
        (0.0, None, "none", math.inf),
        (5000.0, None, "none", 2e-3),
        (0.0, 2e-3, "none", 2e-3),
    ],
)
def test_what_holds_the_limit_and_what_a_short_draws(
    series_ohm: float, clamp_a: float | None, holds: str, step_a: float
) -> None:
    inputs = with_(series_ohm=series_ohm, clamp_a=clamp_a)
    assert layer(inputs) == holds
    assert envelope(inputs).step_a == pytest.approx(step_a)


def test_the_clamp_below_the_limit_is_what_the_promise_is_about() -> None:
    found = envelope(with_(clamp_a=100e-6, tests=(CertainTest(verdict=V.HARD_LIMIT, i_det_a=50e-6),)))
    assert found.reached_a == 100e-6
    assert found.tau_min_s == pytest.approx(0.075 / math.log(2.0))


def test_a_short_that_no_test_sees_has_no_end() -> None:
    found = envelope(with_(series_ohm=100_000.0))
    assert found.step_a == pytest.approx(0.1e-3)
    assert found.step_s == math.inf
    assert found.charge_c == math.inf


def test_no_test_no_promise() -> None:
    found = envelope(with_(tests=()))
    assert found.tau_min_s == math.inf
    assert found.seen_by is None


# -- the detector's tests --------------------------------------------------------------------------------------------


def test_what_is_certain_in_a_search_to_10_v_by_hand() -> None:
    spec = phase_spec(Phase.SEEK, 10.0)
    tests = {
        t.verdict: t
        for t in certain_tests(of(Phase.SEEK, 10.0, g_max_s=1e-5), spec.tests, v_max_v=10.0, bias_step_v=0.0)
    }
    # 5 x 100 nA of noise and 560 nA of offset on the 1 mA range at 0.01 PLC.
    error_a = 1.06e-6
    assert reading_error_a(of(Phase.SEEK, 10.0)) == pytest.approx(error_a)
    assert tests[V.HARD_LIMIT].i_det_a == pytest.approx(0.5e-3 + error_a)
    assert tests[V.CONDUCTANCE].i_det_a == pytest.approx(1e-4 + 2 * error_a)
    quiet_a = math.hypot(error_a, 0.3e-6)
    assert tests[V.SURGE_LEVEL].i_det_a == pytest.approx(quiet_a * 10**1.5 + error_a)
    # 0.7 decade over what noise looks like, and the trend that the baseline may extrapolate.
    assert tests[V.SURGE_JUMP].i_det_a == pytest.approx(quiet_a * 10**0.7 * math.exp(0.1) + error_a)
    assert {v: t.readings for v, t in tests.items()} == {
        V.HARD_LIMIT: 1,
        V.CONDUCTANCE: 1,
        V.SURGE_LEVEL: 2,
        V.SURGE_JUMP: 2,
    }
    assert [v for v, t in tests.items() if t.quiet] == [V.SURGE_LEVEL, V.SURGE_JUMP]
    assert [v for v, t in tests.items() if t.least_growth] == [V.SURGE_JUMP]


def test_a_reset_has_the_hard_limit_alone() -> None:
    tests = certain_tests(of(Phase.RESET, 1.0), phase_spec(Phase.RESET, 1.0).tests, v_max_v=1.0, bias_step_v=0.02)
    assert [t.verdict for t in tests] == [V.HARD_LIMIT]


def test_no_conductance_limit_no_test() -> None:
    tests = certain_tests(of(Phase.SEEK, 1.0), phase_spec(Phase.SEEK, 1.0).tests, v_max_v=1.0, bias_step_v=0.0)
    assert V.CONDUCTANCE not in {t.verdict for t in tests}


@settings(max_examples=300, deadline=None)
@given(
    verdict=st.sampled_from([V.HARD_LIMIT, V.CONDUCTANCE, V.SURGE_LEVEL, V.SURGE_JUMP]),
    range_v=st.sampled_from([1.0, 10.0]),
    step_v=st.sampled_from([0.0, 0.002, 0.02]),
    growth=st.floats(0.02, 4.0),
    offset=st.floats(-1.0, 1.0),
    quiet_readings=st.integers(10, 60),
    seed=st.integers(0, 1 << 30),
)
def test_the_detector_keeps_what_is_called_certain(
    verdict: Verdict,
    range_v: float,
    step_v: float,
    growth: float,
    offset: float,
    quiet_readings: int,
    seed: int,
) -> None:
    # One test alone, noise and the worst offset on every reading: once the true current is at I_det, as many readings
    # as promised give the verdict.
    spec = phase_spec(Phase.SEEK, range_v)
    given_ = of(Phase.SEEK, range_v, g_max_s=1e-5)
    [certain] = certain_tests(given_, frozenset({verdict}) & spec.tests, v_max_v=range_v, bias_step_v=step_v)
    growth = max(growth, certain.least_growth)
    rng = random.Random(seed)
    detector = Detector(given_, frozenset({verdict}))
    start = math.log(0.05 * given_.sigma0_a) + rng.random() * growth
    bias_v = max(0.3 * range_v, range_v - step_v * (quiet_readings + 20))
    seen = 0
    for n in range(quiet_readings + 2000):
        bias_v = min(range_v, bias_v + step_v)
        grown = n - quiet_readings
        true_a = math.exp(min(start + grown * growth, 0.0)) if grown >= 0 else 0.0
        read_a = true_a + offset * given_.offset_a + max(-4.0, min(4.0, rng.gauss(0, 1))) * given_.sigma0_a
        tripped = detector.step(Sample(n * 20_000_000, 0, n * 20_000_000, -bias_v, -read_a, 0, Phase.SEEK))
        if tripped is not None:
            assert tripped is verdict
            return
        seen += true_a >= certain.i_det_a
        assert seen < certain.readings, (true_a, certain)
    pytest.fail("never tripped")


def test_below_its_least_growth_a_jump_is_not_certain() -> None:
    # Why SURGE_JUMP alone promises nothing of slow surges: the baseline goes along.
    spec = phase_spec(Phase.SEEK, 10.0)
    given_ = of(Phase.SEEK, 10.0)
    [certain] = certain_tests(given_, frozenset({V.SURGE_JUMP}) & spec.tests, v_max_v=10.0, bias_step_v=0.0)
    detector = Detector(given_, frozenset({V.SURGE_JUMP}))
    growth = 0.01 * LEAST_GROWTH
    true_a = 1e-9
    for n in range(4000):
        true_a *= math.exp(growth)
        if true_a > 10 * certain.i_det_a:
            return
        assert detector.step(Sample(n * 20_000_000, 0, n * 20_000_000, -10.0, -true_a, 0, Phase.SEEK)) is None
    pytest.fail("never got there")


# -- monotone ------------------------------------------------------------------------------------------------------

times = st.floats(1e-5, 1.0)


@st.composite
def inputs(draw: st.DrawFn) -> EnvelopeInputs:
    least, plain, gap = sorted((draw(times), draw(times), draw(times)))
    limit_a = draw(st.floats(1e-6, 1.0))
    tests = [
        CertainTest(
            verdict=draw(st.sampled_from([V.HARD_LIMIT, V.CONDUCTANCE, V.SURGE_LEVEL, V.SURGE_JUMP])),
            i_det_a=limit_a * draw(st.floats(1e-4, 2.0)),
            readings=draw(st.integers(1, 4)),
            least_growth=draw(st.sampled_from([0.0, 0.0, 0.3, 1.0])),
            quiet=draw(st.booleans()),
        )
        for _ in range(draw(st.integers(0, 4)))
    ]
    return EnvelopeInputs(
        pace=Pace(gap_s=gap, plain_gap_s=plain, least_gap_s=least, reply_s=draw(times), cut_s=draw(times)),
        tests=tuple(tests),
        i_limit_a=limit_a,
        clamp_a=draw(st.one_of(st.none(), st.floats(1e-7, 1.0))),
        v_max_v=draw(st.floats(0.01, 20.0)),
        series_ohm=draw(st.sampled_from([0.0, 1e2, 1e4, 1e6])),
        bias_step_v=draw(st.floats(0.0, 1.0)),
        clamp_after_s=draw(st.sampled_from([0.0, 30e-6, 1e-3])),
    )


@given(inputs(), st.floats(1.0, 5.0), st.sampled_from(["gap_s", "reply_s", "cut_s"]))
def test_more_time_never_promises_more(given_: EnvelopeInputs, factor: float, name: str) -> None:
    slower = dataclasses.replace(given_.pace, **{name: getattr(given_.pace, name) * factor})
    before, after = envelope(given_), envelope(dataclasses.replace(given_, pace=slower))
    assert after.tau_min_s >= before.tau_min_s * (1 - 1e-12)
    assert after.tau_min_any_s >= before.tau_min_any_s * (1 - 1e-12)
    assert after.charge_c >= before.charge_c * (1 - 1e-12)


@given(inputs(), st.floats(1.0, 100.0))
def test_a_larger_resistor_never_costs_more(given_: EnvelopeInputs, factor: float) -> None:
    larger = dataclasses.replace(given_, series_ohm=(given_.series_ohm or 1.0) * factor)
    before, after = envelope(given_), envelope(larger)
    assert after.step_a <= before.step_a
    assert after.tau_min_s == before.tau_min_s
    assert not (before.layer == "resistor" and after.layer != "resistor")


@given(inputs())
def test_what_holds_for_any_sample_is_never_promised_faster(given_: EnvelopeInputs) -> None:
    found = envelope(given_)
    assert found.tau_min_any_s >= found.tau_min_s
    assert found.tenfold_s >= 2 * found.tau_min_s or found.tau_min_s == math.inf
    if found.seen_by is not None:
        assert found.i_det_a < found.reached_a


@given(inputs())
def test_an_earlier_test_never_promises_less(given_: EnvelopeInputs) -> None:
    more = CertainTest(verdict=V.HARD_LIMIT, i_det_a=given_.i_limit_a * 1e-5)
    assert envelope(dataclasses.replace(given_, tests=(*given_.tests, more))).tau_min_s <= envelope(given_).tau_min_s


# -- nonsense ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1e-9, 61.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["gap_s", "plain_gap_s", "least_gap_s", "reply_s", "cut_s"])
def test_times_that_are_none_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match="needs"):
        dataclasses.replace(PACE, **{name: value})


def test_gaps_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="least <= plain <= longest"):
        dataclasses.replace(PACE, plain_gap_s=0.051)
    with pytest.raises(ValueError, match="least <= plain <= longest"):
        dataclasses.replace(PACE, least_gap_s=0.031)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("i_limit_a", value) for value in (0.0, -1e-3, math.nan, math.inf)],
        *[("clamp_a", value) for value in (0.0, -1e-3, math.nan, math.inf)],
        *[("v_max_v", value) for value in (0.0, -1.0, math.nan, math.inf)],
        *[("series_ohm", value) for value in (-1.0, math.nan, math.inf)],
        *[("bias_step_v", value) for value in (-1.0, math.nan, math.inf)],
    ],
)
def test_inputs_that_are_none_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is"):
        with_(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("i_det_a", 0.0),
        ("i_det_a", math.nan),
        ("readings", 0),
        ("readings", 256),
        ("least_growth", -0.1),
        ("least_growth", math.nan),
    ],
)
def test_tests_that_are_none_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is"):
        dataclasses.replace(HARD, **{name: value})  # type: ignore[arg-type] # a number in each of these


def test_no_readings_and_no_bias_are_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        PACE.until_zero_s(0)
    spec = phase_spec(Phase.SEEK, 1.0)
    for v_max_v, step_v in ((0.0, 0.0), (math.nan, 0.0), (1.0, -0.1), (1.0, math.nan)):
        with pytest.raises(ValueError, match="needs a number"):
            certain_tests(of(Phase.SEEK, 1.0), spec.tests, v_max_v=v_max_v, bias_step_v=step_v)
