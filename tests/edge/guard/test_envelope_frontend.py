"""A front end's envelope: by hand, monotone, refusals; what is called certain, held against the firmware's model."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.guard.envelope import CLAMP_S, CertainTest, EnvelopeInputs, Pace, envelope
from edge.guard.envelope_frontend import (
    ERROR_CODES,
    FrontEndDevice,
    FrontEndTests,
    front_end_pace,
    front_end_tests,
    host_loss,
    with_front_end,
)
from edge.guard.verdicts import Verdict
from firmware_proto.frontend.detector_model import Detector, Limits

CODE_A = 40e-9
FULL_SCALE = 32_000
DEVICE = FrontEndDevice(sample_hz=100e3, switch_open_s=1e-6, code_a=CODE_A, lease_max_s=0.1)
HARD = FrontEndTests(hard_a=0.5e-3)
ALL = FrontEndTests(hard_a=0.5e-3, level_a=50e-6, level_n=4, jump_a=5e-6, jump_ratio=3.0, rate_a=20e-6, rate_n=8)
ERROR_A = (ERROR_CODES + 1) * CODE_A
GUARD = EnvelopeInputs(
    pace=Pace(gap_s=0.050, plain_gap_s=0.030, least_gap_s=0.020, reply_s=0.012, cut_s=0.013),
    tests=(CertainTest(verdict=Verdict.HARD_LIMIT, i_det_a=0.5e-3),),
    i_limit_a=1e-3,
    clamp_a=1e-3,
    v_max_v=10.0,
    series_ohm=1000.0,
    bias_step_v=0.002,
)


def reasons(tests: FrontEndTests, device: FrontEndDevice = DEVICE) -> dict[str, CertainTest]:
    return {test.reason: test for test in front_end_tests(device, tests)}


# -- by hand -------------------------------------------------------------------------------------------------------


def test_one_sample_to_see_one_to_decide_and_the_switch() -> None:
    found = envelope(with_front_end(GUARD, DEVICE, HARD))
    until_open_s = 10e-6 + 10e-6 + 1e-6
    assert found.tau_min_s == pytest.approx(until_open_s / math.log(1e-3 / (0.5e-3 + ERROR_A)))
    assert found.tau_min_any_s == found.tau_min_s
    assert (found.seen_by, found.reason, found.readings) == (Verdict.FRONTEND, "HARD", 1)
    assert found.step_s == pytest.approx(until_open_s)
    slow = envelope(with_front_end(GUARD, dataclasses.replace(DEVICE, sample_hz=10e3), HARD))
    assert slow.tau_min_s == pytest.approx(201e-6 / math.log(1e-3 / (0.5e-3 + ERROR_A)))


def test_a_short_is_cut_before_the_clamp_acts_and_draws_what_the_resistor_leaves() -> None:
    fast = envelope(with_front_end(GUARD, DEVICE, HARD))
    assert fast.step_a == pytest.approx(10e-3)
    assert fast.charge_c == pytest.approx(10e-3 * 21e-6)
    assert fast.energy_j == pytest.approx(10 * fast.charge_c)
    # Sampled more slowly than the clamp needs: 30 us of the resistor's current, then the clamp's.
    slow = envelope(with_front_end(GUARD, dataclasses.replace(DEVICE, sample_hz=10e3), HARD))
    assert slow.step_a == pytest.approx(1e-3)
    assert slow.charge_c == pytest.approx(10e-3 * CLAMP_S + 1e-3 * (201e-6 - CLAMP_S))
    # The guard's own figure is about tens of ms, and unchanged.
    assert envelope(GUARD).charge_c == pytest.approx(1e-3 * 0.075)


def test_without_a_resistor_nothing_bounds_a_short_until_the_clamp_acts() -> None:
    found = envelope(with_front_end(dataclasses.replace(GUARD, series_ohm=0.0), DEVICE, HARD))
    assert found.charge_c == math.inf
    assert found.step_s == pytest.approx(21e-6)
    assert math.isfinite(found.tau_min_s)


def test_a_short_that_no_test_sees_has_no_end() -> None:
    # 100 kohm: 100 uA, far below HARD.
    found = envelope(with_front_end(dataclasses.replace(GUARD, series_ohm=100e3), DEVICE, HARD))
    assert (found.step_s, found.charge_c) == (math.inf, math.inf)
    assert found.step_a == pytest.approx(100e-6)


def test_each_test_by_hand() -> None:
    found = reasons(ALL)
    assert found["HARD"].i_det_a == pytest.approx(0.5e-3 + ERROR_A)
    assert found["LEVEL"].i_det_a == pytest.approx(50e-6 + ERROR_A)
    assert found["LEVEL"].readings == 4
    # A third of the current at most in the baseline is what the ratio allows; half of that is reckoned with.
    error_a = ERROR_A + 64 / 256 * CODE_A
    assert found["JUMP"].i_det_a == pytest.approx((5e-6 + 2 * error_a) / (1 - 1 / 6) + error_a)
    assert found["JUMP"].least_growth == pytest.approx(math.log(1 + 5 / 64))
    assert found["RATE"].i_det_a == pytest.approx(2 * (20e-6 + 2 * ERROR_A) + ERROR_A)
    assert found["RATE"].least_growth == pytest.approx(math.log(2) / 8)
    assert [reason for reason, test in found.items() if test.quiet] == ["JUMP", "RATE"]
    assert list(reasons(HARD)) == ["HARD"]


def test_a_jump_counts_where_slower_surges_are_anothers() -> None:
    # JUMP is certain down to a growth of 0.075 a sample, 133 us at 100 kS/s; HARD takes over at 30 us already.
    both = envelope(with_front_end(GUARD, DEVICE, dataclasses.replace(HARD, jump_a=5e-6, jump_ratio=3.0)))
    assert both.reason == "JUMP"
    assert both.tau_min_s < 5e-6 < envelope(with_front_end(GUARD, DEVICE, HARD)).tau_min_s
    # What held for a sample that conducted before still does, and is no faster.
    assert both.tau_min_any_s == pytest.approx(30.3e-6, rel=0.01)
    # A limit below HARD: nobody sees slow surges, so the jump promises nothing.
    low = dataclasses.replace(GUARD, i_limit_a=100e-6, clamp_a=100e-6)
    alone = envelope(with_front_end(low, DEVICE, dataclasses.replace(HARD, jump_a=5e-6, jump_ratio=3.0)))
    assert alone.tau_min_s == math.inf
    assert alone.seen_by is None


def test_a_lost_host_leaves_the_lease_and_what_does_not_trip() -> None:
    found = host_loss(DEVICE, HARD, 0.1)
    assert found.open_after_s == pytest.approx(0.1 + 10e-6 + 1e-6)
    assert found.below_a == pytest.approx(0.5e-3 + ERROR_A)
    assert found.charge_c == pytest.approx(found.below_a * found.open_after_s)
    # LEVEL lets less flow for so long; JUMP and RATE promise nothing of what is slow.
    assert host_loss(DEVICE, ALL, 0.1).below_a == pytest.approx(50e-6 + ERROR_A)
    assert host_loss(DEVICE, HARD, 0.1, short_a=20e-6).below_a == 20e-6
    # The device refuses what is longer than its own limit.
    assert host_loss(DEVICE, HARD, 5.0).open_after_s == found.open_after_s
    assert host_loss(DEVICE, HARD, 0.05).open_after_s == pytest.approx(0.050011)


# -- the firmware's detector ------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(
    reason=st.sampled_from(["HARD", "LEVEL", "JUMP", "RATE"]),
    growth=st.floats(0.002, 3.0),
    level_n=st.integers(1, 40),
    jump_ratio=st.floats(0.0, 20.0),
    shift=st.integers(0, 10),
    rate_n=st.integers(1, 32),
    threshold_a=st.floats(2e-6, 0.5e-3),
    offset=st.floats(-1.0, 1.0),
    sign=st.sampled_from([-1, 1]),
    seed=st.integers(0, 1 << 30),
)
def test_the_firmware_keeps_what_is_called_certain(
    reason: str,
    growth: float,
    level_n: int,
    jump_ratio: float,
    shift: int,
    rate_n: int,
    threshold_a: float,
    offset: float,
    sign: int,
    seed: int,
) -> None:
    # One test alone (HARD beyond reach), half of the error as an offset and half as noise: once the true current has
    # been at I_det for as many samples as promised, it has tripped.
    hard_a = threshold_a if reason == "HARD" else FULL_SCALE * CODE_A
    currents = {f"{reason.lower()}_a": threshold_a} if reason != "HARD" else {}
    tests = FrontEndTests(
        hard_a=hard_a, level_n=level_n, jump_ratio=jump_ratio, baseline_shift=shift, rate_n=rate_n, **currents
    )
    certain = reasons(tests)[reason]
    growth = max(growth, certain.least_growth)
    rng = random.Random(seed)
    detector = model(tests)
    start = math.log(0.1 * CODE_A) + rng.random() * growth
    quiet = (1 << shift) + rate_n + rng.randrange(50)
    seen = 0
    for n in range(quiet + 20_000):
        grown = n - quiet
        true_a = math.exp(start + grown * growth) if grown >= 0 else 0.0
        true_codes = min(true_a / CODE_A, FULL_SCALE)
        error = ERROR_CODES / 2 * (offset + rng.uniform(-1, 1))
        tripped = detector.step(round(sign * (true_codes + error)))
        if tripped:
            # What is beyond this converter, SATURATED has.
            assert tripped.name in {reason, "SATURATED"}
            return
        seen += true_a >= certain.i_det_a
        assert seen < certain.readings, (true_a, certain)
    pytest.fail("never tripped")


def test_below_its_least_growth_a_jump_is_not_certain() -> None:
    tests = FrontEndTests(hard_a=FULL_SCALE * CODE_A, jump_a=5e-6, jump_ratio=3.0)
    certain = reasons(tests)["JUMP"]
    detector = model(tests)
    true_a = CODE_A
    while true_a < 20 * certain.i_det_a:
        assert not detector.step(round(true_a / CODE_A))
        true_a *= math.exp(0.1 * certain.least_growth)


def model(tests: FrontEndTests) -> Detector:
    def code(current_a: float) -> int:
        return round(current_a / CODE_A)

    return Detector(
        Limits(
            full_scale_code=FULL_SCALE,
            hard_code=code(tests.hard_a),
            level_code=code(tests.level_a),
            level_n=tests.level_n,
            jump_code=code(tests.jump_a),
            jump_ratio_q8=round(256 * tests.jump_ratio),
            baseline_shift=tests.baseline_shift,
            rate_code=code(tests.rate_a),
            rate_n=tests.rate_n,
        )
    )


# -- monotone, nonsense ------------------------------------------------------------------------------------------------


@given(st.floats(1e3, 1e6), st.floats(1.0, 20.0), st.floats(0.0, 1e-3))
def test_slower_samples_and_slower_switches_never_promise_more(hz: float, factor: float, open_s: float) -> None:
    device = dataclasses.replace(DEVICE, sample_hz=hz, switch_open_s=open_s)
    before = envelope(with_front_end(GUARD, device, HARD))
    for slower in (
        dataclasses.replace(device, sample_hz=hz / factor),
        dataclasses.replace(device, switch_open_s=open_s * factor),
    ):
        after = envelope(with_front_end(GUARD, slower, HARD))
        assert after.tau_min_s >= before.tau_min_s * (1 - 1e-12)
        assert after.charge_c >= before.charge_c * (1 - 1e-12)
        assert host_loss(slower, HARD, 0.1).open_after_s >= host_loss(device, HARD, 0.1).open_after_s * (1 - 1e-12)


@given(st.floats(1e-6, 1e-3), st.floats(1.0, 10.0))
def test_a_higher_hard_limit_never_promises_more(hard_a: float, factor: float) -> None:
    before, after = (
        envelope(with_front_end(GUARD, DEVICE, FrontEndTests(hard_a=a))) for a in (hard_a, hard_a * factor)
    )
    assert after.tau_min_s >= before.tau_min_s


def test_a_faster_front_end_has_a_faster_pace() -> None:
    assert front_end_pace(DEVICE).until_zero_s(1) == pytest.approx(21e-6)
    assert front_end_pace(DEVICE).until_zero_s(10) == pytest.approx(111e-6)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["sample_hz", "switch_open_s", "code_a", "lease_max_s"])
def test_a_device_that_cannot_be_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is"):
        dataclasses.replace(DEVICE, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("hard_a", value) for value in (0.0, -1e-3, math.nan)],
        *[(name, -1e-9) for name in ("level_a", "jump_a", "rate_a", "jump_ratio")],
        ("level_n", 0),
        ("level_n", 256),
        ("baseline_shift", 13),
        ("rate_n", 33),
        ("rate_n", 0),
    ],
)
def test_tests_that_cannot_be_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is"):
        dataclasses.replace(ALL, **{name: value})  # type: ignore[arg-type] # a number in each of these


@pytest.mark.parametrize("lease_s", [-0.1, math.nan, 11.0])
def test_a_lease_that_is_none_is_refused(lease_s: float) -> None:
    with pytest.raises(ValueError, match="lease_s is"):
        host_loss(DEVICE, HARD, lease_s)
