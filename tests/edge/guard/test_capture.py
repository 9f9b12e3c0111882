"""The setting event: ring, onset, trigger interval, charge, and the document."""

from __future__ import annotations

import math
import random
import statistics

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.frames import SAMPLE_COLUMNS
from edge.guard.capture import MAX_SAMPLES, Capture, SettingEvent
from edge.guard.detector import Detector, DetectorSettings
from edge.guard.phases import phase_spec
from edge.guard.verdicts import Verdict
from edge.samples import Flag, Phase, Sample

V = Verdict
DT_NS = 20_000_000
EVIDENCE_A = 176e-9
SPEC = phase_spec(Phase.SEEK, 0.3)
SETTINGS = DetectorSettings.for_phase(SPEC, i_limit_a=1e-3, tau_cut_s=0.03, series_ohm=1000.0)


def sample(n: int, bias_v: float, current_a: float, flags: int = 0, phase: Phase = Phase.SEEK) -> Sample:
    return Sample(n * DT_NS, 1000, n * DT_NS + 2_000_000, bias_v, current_a, flags, phase)


def event(
    before: list[Sample],
    after: list[Sample] | None = None,
    *,
    verdict: Verdict = V.SURGE_JUMP,
    reference_s: float = 1e-7,
    series_ohm: float = 0.0,
) -> SettingEvent:
    capture = Capture(pre_s=10.0, post_s=10.0)
    capture.reset(evidence_a=EVIDENCE_A, series_ohm=series_ohm)
    for s in before:
        capture.push(s)
    capture.trip(verdict, reference_s=reference_s)
    for s in after or []:
        capture.push(s)
    built = capture.build()
    assert built is not None
    return built


def ramp(count: int, *, start: int = 0) -> list[Sample]:
    """An open site on a -2 mV staircase."""
    return [sample(n, -0.002 * (n + 1), -1e-9) for n in range(start, start + count)]


def formed(n: int, ohm: float = 10e3) -> Sample:
    v = -0.002 * (n + 1)
    return sample(n, v, v / ohm)


# -- the ring ------------------------------------------------------------------------------------------------------


def test_keeps_pre_s_before_and_post_s_after() -> None:
    capture = Capture(pre_s=0.2, post_s=0.1)
    for n in range(100):
        capture.push(sample(n, -0.1, 1e-9))
    assert not capture.tripped
    capture.trip(V.OPERATOR)
    for n in range(100, 105):
        capture.push(sample(n, 0.0, 0.0))
        assert not capture.complete
    capture.push(sample(105, 0.0, 0.0))
    assert capture.complete
    capture.push(sample(106, 0.0, 0.0))
    built = capture.build()
    assert built is not None
    assert [s.t_ns // DT_NS for s in built.samples] == list(range(89, 105))
    assert built.samples[built.index].t_ns == 99 * DT_NS


def test_is_bounded_on_both_sides() -> None:
    capture = Capture(pre_s=1e6, post_s=1e6)
    for n in range(MAX_SAMPLES + 10):
        capture.push(sample(n, -0.1, 1e-9))
    capture.trip(V.OPERATOR)
    for n in range(MAX_SAMPLES + 10):
        capture.push(sample(MAX_SAMPLES + 10 + n, -0.1, 1e-9))
    assert capture.complete
    built = capture.build()
    assert built is not None
    assert len(built.samples) == 2 * MAX_SAMPLES
    assert len(msgpack.packb(built.to_doc())) < 1 << 20


def test_nothing_to_build() -> None:
    capture = Capture(pre_s=1.0, post_s=1.0)
    assert capture.build() is None
    capture.push(sample(0, -0.1, 0.0))
    assert capture.build() is None
    capture.trip(V.OPERATOR)
    assert capture.build() is not None
    capture.reset()
    assert not capture.tripped
    assert capture.build() is None
    capture.trip(V.LINK_LOST)
    assert capture.build() is None  # tripped before any sample


def test_the_first_trip_is_the_event() -> None:
    capture = Capture(pre_s=1.0, post_s=1.0)
    capture.push(sample(0, -0.1, 0.0))
    capture.trip(V.SURGE_JUMP)
    capture.push(sample(1, 0.0, 0.0))
    capture.trip(V.STALE)
    built = capture.build()
    assert built is not None
    assert built.verdict is V.SURGE_JUMP
    assert built.index == 0


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_times_are_checked(bad: float) -> None:
    with pytest.raises(ValueError, match="pre_s"):
        Capture(pre_s=bad, post_s=1.0)
    with pytest.raises(ValueError, match="post_s"):
        Capture(pre_s=1.0, post_s=bad)


# -- onset and trigger ---------------------------------------------------------------------------------------------


def test_onset_is_the_first_reading_of_the_run_and_the_trigger_the_step_before_it() -> None:
    built = event([*ramp(50), formed(50), formed(51)])
    assert (built.onset_index, built.index, built.onset_found) == (50, 51, True)
    assert built.trigger_bias_v == pytest.approx(-0.101)
    assert built.trigger_half_v == pytest.approx(0.001)
    assert built.trigger_ir_v == 0.0
    assert built.set_current_a == pytest.approx(-10.2e-6)
    assert not built.set_current_clamped


def test_the_series_resistor_takes_its_share_from_a_visible_pre_onset_current() -> None:
    leaky = [sample(n, -0.002 * (n + 1), -1e-6) for n in range(50)]
    built = event([*leaky, formed(50, 900.0), formed(51, 900.0)], reference_s=1e-5, series_ohm=1000.0)
    assert built.trigger_ir_v == pytest.approx(-1e-3)
    assert built.trigger_bias_v == pytest.approx(-0.101 + 1e-3)


def test_noise_near_zero_bias_is_no_part_of_a_run() -> None:
    # Falling towards 0 V the noise alone stands for any conductance; it is no evidence of a current.
    falling = [sample(n, -0.002 * (10 - n), 30e-9) for n in range(9)]
    built = event([*falling, sample(9, -0.002, -0.5e-6), sample(10, -0.002, -0.5e-6)], reference_s=1e-8)
    assert built.onset_index == 9


def test_saturated_and_unknown_readings_in_a_run() -> None:
    overflow = sample(50, -0.102, math.nan, Flag.OVERFLOW)
    built = event([*ramp(50), overflow], verdict=V.OVERFLOW)
    assert (built.onset_index, built.onset_found) == (50, True)
    assert built.set_current_a is None
    assert built.set_current_clamped
    assert built.charge_is_lower_bound

    unknown = sample(51, -0.104, math.nan, Flag.UNPARSABLE)
    built = event([*ramp(50), formed(50), unknown, formed(52)])
    assert built.onset_index == 50
    assert built.charge_is_lower_bound

    clamped = sample(50, -0.102, -105e-6, Flag.RANGE_COMPLIANCE | Flag.BIAS_NOT_HELD)
    built = event([*ramp(50), clamped], verdict=V.COMPLIANCE)
    assert built.set_current_a == -105e-6
    assert built.set_current_clamped


def test_a_junk_reading_after_a_gap_neither_ends_a_run_nor_bounds_the_trigger() -> None:
    gap = sample(51, -0.104, 0.0, Flag.AFTER_GAP)
    assert event([*ramp(50), formed(50), gap, formed(52)]).onset_index == 50
    before = [*ramp(49), sample(49, -0.1, 0.0, Flag.AFTER_GAP), formed(50), formed(51)]
    built = event(before)
    assert built.onset_index == 50
    assert built.trigger_bias_v == pytest.approx(-0.1)
    assert built.trigger_half_v == pytest.approx(0.002)


def test_a_protective_cut_without_a_surge_has_no_onset() -> None:
    built = event(ramp(50), verdict=V.OPERATOR)
    assert (built.onset_index, built.onset_found) == (49, False)


def test_without_a_sample_before_the_onset_the_trigger_is_not_known() -> None:
    built = event([formed(0), formed(1)], verdict=V.HARD_LIMIT)
    assert built.onset_index == 0
    assert (built.trigger_bias_v, built.trigger_half_v, built.trigger_ir_v) == (None, None, None)


def test_without_a_baseline_from_the_detector_the_median_stands_in() -> None:
    built = event([*ramp(50), formed(50), formed(51)], reference_s=math.nan)
    assert built.onset_index == 50
    assert event([formed(0)], reference_s=math.nan).onset_index == 0


def closed_loop(rng: random.Random, step_v: float) -> tuple[float, SettingEvent]:
    """(true trigger bias, event) of one search on an open site with leakage, a random set and the real detector."""
    detector = Detector(SETTINGS, SPEC.tests)
    capture = Capture(pre_s=0.5, post_s=0.5)
    capture.reset(evidence_a=SETTINGS.evidence_a, series_ohm=1000.0)
    v_set = rng.uniform(0.02, 0.3)
    offset = rng.uniform(-1.0, 1.0) * SETTINGS.offset_a
    ohm = 8e3 * math.exp(rng.gauss(0.0, 0.3)) + 1e3
    v = 0.0
    for n in range(2000):
        v += step_v
        current = v / ohm if v >= v_set else v * 2e-9
        s = sample(n, -v, -current + offset + rng.gauss(0.0, 1e-8))
        verdict = detector.step(s)
        capture.push(s)
        if verdict is not None:
            capture.trip(verdict, reference_s=detector.reference_s(verdict))
            built = capture.build()
            assert built is not None
            return -v_set, built
    raise AssertionError("no verdict")


@pytest.mark.parametrize("step_v", [0.5e-3, 2e-3, 0.01])
def test_the_trigger_bias_is_within_one_step_of_the_truth(step_v: float) -> None:
    rng = random.Random(7)
    errors = []
    covered = 0
    for _ in range(200):
        truth, built = closed_loop(rng, step_v)
        assert built.trigger_bias_v is not None
        assert built.trigger_half_v is not None
        errors.append(abs(built.trigger_bias_v - truth))
        covered += errors[-1] <= built.trigger_half_v * 1.001
    assert statistics.median(errors) <= 0.5 * step_v
    assert covered >= 198  # the interval is what it says


def test_gradual_growth_is_dated_where_it_leaves_the_baseline() -> None:
    detector = Detector(SETTINGS, SPEC.tests)
    before = []
    for n in range(80):
        s = sample(n, -0.1, -0.1 * 4e-6 * 1.3 ** max(0, n - 39))
        before.append(s)
        verdict = detector.step(s)
        if verdict is not None:
            break
    assert verdict is V.SURGE_CUSUM
    built = event(before, verdict=verdict, reference_s=detector.reference_s(verdict))
    assert built.onset_index == 39 + 5  # 1.3^5 = 0.57 decade
    assert built.onset_index < built.index


# -- charge, energy, latency ---------------------------------------------------------------------------------------


def test_charge_and_energy_from_the_onset_to_the_end_of_the_current() -> None:
    before = [*ramp(50), sample(50, -0.1, -10e-6), sample(51, -0.1, -10e-6)]
    after = [
        sample(52, 0.0, -5e-6, phase=Phase.CUT),
        sample(53, 0.0, 0.0, phase=Phase.CUT),
        *[sample(n, 0.0, 50e-9) for n in range(54, 80)],
    ]
    built = event(before, after)
    assert built.charge_c == pytest.approx((10e-6 + 7.5e-6 + 2.5e-6) * 0.02)
    assert built.energy_j == pytest.approx((1e-6 + 0.5e-6) * 0.02)
    assert not built.charge_is_lower_bound


def test_an_end_not_seen_makes_a_lower_bound() -> None:
    before = [*ramp(50), sample(50, -0.1, -10e-6), sample(51, -0.1, -10e-6)]
    built = event(before)
    assert built.charge_c == pytest.approx(10e-6 * 0.02)
    assert built.charge_is_lower_bound
    lost = [sample(52, 0.0, math.nan, Flag.UNPARSABLE), sample(53, 0.0, 0.0)]
    built = event(before, lost)
    assert built.charge_c == pytest.approx((10e-6 + 10e-6) * 0.02)  # the trapezoid spans the lost reading
    assert built.charge_is_lower_bound


def test_latency_is_split() -> None:
    capture = Capture(pre_s=1.0, post_s=1.0)
    capture.push(sample(5, -0.1, 1e-9))
    capture.trip(V.OPERATOR)
    built = capture.build(decided_ns=102_020_000, written_ns=102_050_000)
    assert built is not None
    assert built.reading_ns == 102_000_000  # its last byte
    summary = built.summary()
    assert summary["decide_s"] == pytest.approx(20e-6)
    assert summary["write_s"] == pytest.approx(30e-6)
    assert summary["verify_s"] is None
    full = capture.build(reading_ns=1, decided_ns=2, written_ns=3, verified_ns=10_000_003)
    assert full is not None
    assert full.summary()["verify_s"] == pytest.approx(0.01)


# -- the document --------------------------------------------------------------------------------------------------


def test_the_document_is_plain_and_reads_with_numpy() -> None:
    capture = Capture(pre_s=10.0, post_s=10.0)
    capture.reset(evidence_a=EVIDENCE_A)
    before = [*ramp(50), formed(50), sample(51, -0.104, math.nan, Flag.OVERFLOW)]
    for s in before:
        capture.push(s)
    context = {"site": "gb-3", "position_m": [1e-6, 2e-6, 0.0], "plan_sha256": "ab"}
    capture.trip(V.OVERFLOW, reference_s=1e-7, context=context)
    built = capture.build()
    assert built is not None
    doc = msgpack.unpackb(msgpack.packb(built.to_doc()))
    assert doc["verdict"] == "OVERFLOW"
    assert doc["context"] == context
    assert doc["n"] == 52
    assert {name: (col["dtype"], col["unit"]) for name, col in doc["cols"].items()} == dict(SAMPLE_COLUMNS)
    for position, (name, col) in enumerate(doc["cols"].items()):
        values = np.frombuffer(col["data"], dtype=col["dtype"])
        np.testing.assert_array_equal(values, np.array([s[position] for s in before], dtype=col["dtype"]), err_msg=name)


def test_the_summary_is_plain_scalars_without_nan() -> None:
    for built in (event([formed(0)]), event([*ramp(5), sample(5, -0.01, math.nan, Flag.OVERFLOW)])):
        for key, value in built.summary().items():
            assert value is None or isinstance(value, (str, bool, int, float)), key
            assert not (isinstance(value, float) and math.isnan(value)), key
    assert event([*ramp(50), formed(50), formed(51)]).summary()["samples_to_verdict"] == 2


ANY = st.builds(
    Sample,
    st.integers(0, 10**10),
    st.integers(0, 2**40),
    st.integers(0, 10**10),
    st.floats(-10, 10),
    st.one_of(st.floats(-1e-3, 1e-3), st.just(math.nan), st.just(math.inf)),
    st.integers(0, 127),
    st.integers(0, 6),
)


@settings(max_examples=150, deadline=None)
@given(
    before=st.lists(ANY, min_size=1, max_size=30),
    after=st.lists(ANY, max_size=10),
    verdict=st.sampled_from(Verdict),
    reference_s=st.one_of(st.floats(0, 1), st.just(math.nan), st.just(math.inf)),
)
def test_any_samples_give_an_event_that_packs(
    before: list[Sample], after: list[Sample], verdict: Verdict, reference_s: float
) -> None:
    built = event(before, after, verdict=verdict, reference_s=reference_s, series_ohm=1e3)
    assert 0 <= built.onset_index <= built.index < len(built.samples)
    assert built.samples[built.index] == before[-1]
    assert built.charge_c >= 0.0
    msgpack.packb(built.to_doc())
