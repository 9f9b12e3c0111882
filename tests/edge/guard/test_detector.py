"""The detector: every test alone, its removal, the composition, and properties over any input."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.guard.detector import DETECTOR_TESTS, Detector, DetectorSettings
from edge.guard.phases import phase_spec
from edge.guard.thresholds import EVIDENCE_SIGMAS, EXCURSION_SAMPLES
from edge.guard.verdicts import Verdict
from edge.samples import IN_COMPLIANCE, UNTRUSTED, Flag, Phase, Sample

V = Verdict
DT_NS = 20_000_000
SIGMA = 10e-9
BY_NAME = [verdict for verdict in Verdict if verdict in DETECTOR_TESTS]
LOW = DetectorSettings.for_phase(phase_spec(Phase.SEEK, 0.3), i_limit_a=1e-3, tau_cut_s=0.03, series_ohm=1000.0)
HIGH = DetectorSettings.for_phase(phase_spec(Phase.SEEK, 9.0), i_limit_a=1e-3, tau_cut_s=0.03, series_ohm=10e3)


def sample(n: int, bias_v: float, current_a: float, flags: int = 0) -> Sample:
    return Sample(n * DT_NS, 0, n * DT_NS, bias_v, current_a, flags, Phase.SEEK)


def held(bias_v: float, *siemens: float) -> list[Sample]:
    """Readings at one bias, of these conductances."""
    return [sample(n, bias_v, bias_v * g) for n, g in enumerate(siemens)]


def first(detector: Detector, samples: Iterable[Sample]) -> tuple[int, Verdict] | None:
    """Number of the first reading with a verdict, from 0, and the verdict."""
    for n, s in enumerate(samples):
        verdict = detector.step(s)
        if verdict is not None:
            return n, verdict
    return None


def seek(settings_: DetectorSettings = LOW, *, without: Verdict | None = None) -> Detector:
    return Detector(settings_, DETECTOR_TESTS - {without})


# -- each test alone, and what passes unseen without it ------------------------------------------------------------

BASE = 2e-6  # 500 kohm: 200 nA at 0.1 V, 20 sigma
HARMS: dict[Verdict, tuple[DetectorSettings, list[Sample]]] = {
    # A low-ohmic load from the first reading on: nothing to compare with but the limit itself.
    V.HARD_LIMIT: (LOW, held(-0.2, 4e-4)),
    V.OVERFLOW: (LOW, [sample(0, -0.2, math.nan, Flag.OVERFLOW)]),
    V.COMPLIANCE: (LOW, [sample(0, -0.2, -40e-6, Flag.RANGE_COMPLIANCE | Flag.BIAS_NOT_HELD)]),
    V.UNPARSABLE: (LOW, [sample(0, -0.2, math.nan, Flag.UNPARSABLE)]),
    # 20 kohm in place before arming: its own baseline.
    V.CONDUCTANCE: (dataclasses.replace(LOW, g_max_s=1e-5), held(-0.1, 5e-5, 5e-5)),
    # 5 kohm behind a declared 10 kohm.
    V.SERIES_RESISTOR: (HIGH, held(-1.0, 2e-4, 2e-4)),
    # One decade for three readings: too short for the CUSUM, too small for the level.
    V.SURGE_JUMP: (LOW, held(-0.1, *[BASE] * 40, *[10 * BASE] * 3, *[BASE] * 20)),
    # 20 % a reading up to 0.75 decade, seen once: a jump wants two readings.
    V.SURGE_CUSUM: (LOW, held(-0.1, *[BASE] * 40, *[BASE * 1.2**n for n in range(1, 10)], *[BASE] * 20)),
    # 2 % a reading: the baseline follows, its lowest value does not.
    V.SURGE_LEVEL: (LOW, held(-0.1, *[BASE] * 40, *[BASE * 1.02**n for n in range(180)])),
    # 5, 14, 40 uA and gone: the third reading at that rate would be beyond 100 uA.
    V.PREDICTED: (LOW, held(-0.1, *[5e-5] * 40, 1.4e-4, 4e-4, *[5e-5] * 20)),
}


@pytest.mark.parametrize("verdict", BY_NAME)
def test_the_harm_is_seen_by_its_test_and_by_no_other(verdict: Verdict) -> None:
    settings_, samples = HARMS[verdict]
    found = first(seek(settings_), samples)
    assert found is not None
    assert found[1] is verdict
    assert first(Detector(settings_, frozenset({verdict})), samples) == found
    assert first(seek(settings_, without=verdict), samples) is None


def test_every_verdict_of_the_detector_has_its_harm() -> None:
    assert set(HARMS) == DETECTOR_TESTS


# -- absolute tests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias_v", [-0.3, 0.0, 0.3, 1e-4])
@pytest.mark.parametrize("current_a", [50e-6, -50e-6, 1e-3, 900.0, math.inf])
def test_the_hard_limit_needs_one_reading_of_either_sign(bias_v: float, current_a: float) -> None:
    assert seek(dataclasses.replace(LOW, series_ohm=0.0)).step(sample(0, bias_v, current_a)) is V.HARD_LIMIT


def test_flags_decide_before_numbers() -> None:
    for flag, verdict in [
        (Flag.OVERFLOW, V.OVERFLOW),
        (Flag.NOT_MEASURED, V.UNPARSABLE),
        (Flag.UNPARSABLE | Flag.OVERFLOW, V.UNPARSABLE),
        (Flag.COMPLIANCE, V.COMPLIANCE),
        (Flag.RANGE_COMPLIANCE | Flag.BIAS_NOT_HELD, V.COMPLIANCE),
    ]:
        current_a = math.nan if flag & UNTRUSTED else 1e-9
        assert seek().step(sample(0, -0.1, current_a, flag)) is verdict


def test_a_reading_without_flag_or_number_is_unparsable() -> None:
    assert seek().step(sample(0, -0.1, math.nan)) is V.UNPARSABLE
    assert seek().step(sample(0, math.nan, 0.0)) is V.UNPARSABLE
    assert seek().step(sample(0, 1e9, 0.0)) is V.UNPARSABLE


def test_where_saturation_is_a_result_it_is_not_a_trip() -> None:
    spec = phase_spec(Phase.HRS_READ, 0.1)
    detector = Detector(DetectorSettings.for_phase(spec, i_limit_a=1e-3, tau_cut_s=0.1, series_ohm=1000.0), spec.tests)
    saturated = sample(1, 0.1, 1.05e-6, Flag.COMPLIANCE | Flag.BIAS_NOT_HELD)
    assert [detector.step(s) for s in (sample(0, 0.1, 1e-9), saturated, sample(2, 0.1, math.nan, Flag.OVERFLOW))] == [
        None
    ] * 3
    assert detector.step(sample(3, 0.1, 0.7e-6)) is None
    assert detector.step(sample(4, 0.1, 50e-6)) is V.HARD_LIMIT  # not a reading of the 1 uA range


@pytest.mark.parametrize(
    ("bias_v", "ohm", "flags", "trips"),
    [
        (-1.0, 9e3, 0, True),
        (-1.0, 9.9e3, 0, False),  # within 5 %
        (-0.049, 1e3, 0, False),  # not judged below 50 mV
        (-0.06, 1e3, 0, True),
        (-0.06, 8.9e3, 0, False),  # 6.7 uA, of which 1 uA may be offset and noise: not proven
        (-1.0, 5e3, Flag.BIAS_NOT_HELD, False),
        (0.5, 5e3, 0, True),
    ],
)
def test_series_resistor(bias_v: float, ohm: float, flags: int, trips: bool) -> None:
    detector = Detector(HIGH, frozenset({V.SERIES_RESISTOR}))
    verdicts = [detector.step(sample(n, bias_v, bias_v / ohm, flags)) for n in range(2)]
    assert verdicts == [None, V.SERIES_RESISTOR if trips else None]


def test_a_short_across_the_site_is_not_a_missing_resistor() -> None:
    for bias_v in (0.05, 0.1, 0.3, 4.0):
        for offset in (-560e-9, 560e-9):
            detector = Detector(HIGH, frozenset({V.SERIES_RESISTOR}))
            assert first(detector, [sample(n, bias_v, bias_v / 10e3 + offset) for n in range(9)]) is None


def test_a_search_does_not_end_as_planned_with_the_resistor_missing() -> None:
    # Over the hard limit, and over g_max, on the first reading: cut now, and name what keeps the plan from going on.
    assert seek(HIGH).step(sample(0, -4.0, -0.6e-3)) is V.SERIES_RESISTOR
    guarded = dataclasses.replace(HIGH, g_max_s=1e-5)
    assert seek(guarded).step(sample(0, -1.0, -0.2e-3)) is V.SERIES_RESISTOR
    # One corrupt reading is not a missing resistor.
    assert first(seek(HIGH), held(-1.0, 1e-9, 1e-9, 2e-4, 1e-9, 2e-4, 1e-9)) is None


def test_conductance_counts_what_noise_and_offset_leave() -> None:
    limited = dataclasses.replace(LOW, g_max_s=1e-5)
    noise = 5 * SIGMA + 56e-9
    assert seek(limited).step(sample(0, -0.02, -(0.2e-6 + noise) * 1.01)) is V.CONDUCTANCE
    assert seek(limited).step(sample(0, -0.02, -(0.2e-6 + noise) * 0.99)) is None
    assert seek(limited).step(sample(0, 0.0, 0.9 * noise)) is None
    assert seek(limited).step(sample(0, -0.1, -2e-6, Flag.AFTER_GAP)) is V.CONDUCTANCE


def test_conductance_can_be_made_to_wait_for_a_second_reading() -> None:
    slow = dataclasses.replace(LOW, g_max_s=1e-5, conductance_samples=2)
    assert first(seek(slow), held(-0.1, 0.0, 5e-5, 0.0, 0.0)) is None
    assert first(Detector(slow, frozenset({V.CONDUCTANCE})), held(-0.1, 0.0, 5e-5, 5e-5)) == (2, V.CONDUCTANCE)


# -- surges --------------------------------------------------------------------------------------------------------


def steps_to_verdict(rng: random.Random, decades: float, noise: float, *, ramp: bool) -> int | None:
    """Readings from a step to its verdict; None without one in 60. Raises if the verdict comes before the step."""
    detector = seek()
    on = 50 + rng.randrange(20)
    for n in range(on + 60):
        bias_v = -(0.1 + (0.001 * (n - on) if ramp else 0.0))
        siemens = 5e-6 * (10**decades if n >= on else 1.0) * math.exp(rng.gauss(0.0, noise))
        if detector.step(sample(n, bias_v, bias_v * siemens + rng.gauss(0.0, SIGMA))) is not None:
            assert n >= on, "a verdict before the step"
            return n - on + 1
    return None


@pytest.mark.parametrize("ramp", [False, True], ids=["held", "ramp"])
@pytest.mark.parametrize("noise", [0.01, 0.05, 0.15])
@pytest.mark.parametrize("decades", [1.0, 1.3, 2.0])
def test_a_step_of_a_decade_takes_two_readings(decades: float, noise: float, ramp: bool) -> None:
    rng = random.Random(4)
    assert {steps_to_verdict(rng, decades, noise, ramp=ramp) for _ in range(60)} <= {1, 2}


def test_a_step_at_the_threshold_is_found_late_or_not_and_a_smaller_one_never() -> None:
    rng = random.Random(4)
    at = [steps_to_verdict(rng, 0.7, 0.01, ramp=False) for _ in range(60)]
    assert sum(n is not None and n <= 8 for n in at) > 30
    assert {steps_to_verdict(rng, 0.75, 0.01, ramp=False) for _ in range(60)} == {2}
    assert {steps_to_verdict(rng, 0.5, 0.01, ramp=False) for _ in range(60)} == {None}


def test_small_steps_add_up_to_a_level() -> None:
    steps = [2e-6 * 10 ** (0.55 * k) for k in range(5) for _ in range(80)]
    found = first(seek(), held(-0.1, *steps))
    assert found is not None
    assert found[1] is V.SURGE_LEVEL
    assert 240 <= found[0] <= 242  # the third step: 1.65 decades


@pytest.mark.parametrize(
    ("percent", "held_samples", "ramp_samples"), [(15, 13, 20), (20, 10, 13), (30, 8, 9), (50, 6, 6), (100, 4, 4)]
)
def test_exponential_growth(percent: int, held_samples: int, ramp_samples: int) -> None:
    """On a ramp the baseline gives way to what a superlinear load may do, so that slow growth takes longer."""
    for ramp, most in ((0.0, held_samples), (1e-3, ramp_samples)):
        detector = seek()
        samples = held(-0.05, *[4e-6] * 40)
        for n in range(40, 70):
            bias_v = -0.05 - ramp * (n - 39)
            samples.append(sample(n, bias_v, bias_v * 4e-6 * (1 + percent / 100) ** (n - 39)))
        found = first(detector, samples)
        assert found is not None
        assert found[0] - 39 <= most


def test_a_set_under_telegraph_noise() -> None:
    rng = random.Random(8)
    for _ in range(40):
        detector = seek()
        low = False
        for n in range(120):
            low ^= rng.random() < 0.3
            g = (5e-6 if n < 100 else 5e-5) * (0.6 if low else 1.0)
            verdict = detector.step(sample(n, -0.1, -0.1 * g + rng.gauss(0.0, SIGMA)))
            if verdict is not None:
                break
        assert 100 <= n <= 101


def test_one_corrupt_reading_is_no_surge() -> None:
    for glitch in (5e-6, 45e-6, -45e-6, 0.0):
        samples = [*held(-0.1, *[5e-6] * 30), sample(30, -0.1, -glitch)]
        samples += [sample(n, -0.1, -0.5e-6) for n in range(31, 60)]
        assert first(seek(), samples) is None
    assert seek(dataclasses.replace(LOW, jump_samples=1)).step(sample(0, -0.1, 0.0)) is None


def test_one_reading_is_enough_when_asked_for() -> None:
    detector = seek(dataclasses.replace(LOW, jump_samples=1))
    assert first(detector, held(-0.1, *[1e-9] * 20, 1e-4)) == (20, V.SURGE_JUMP)


def test_a_surge_does_not_become_its_own_baseline() -> None:
    detector = Detector(LOW, frozenset())
    first(detector, held(-0.1, *[5e-6] * 40))
    before = detector.baseline_s
    for s in held(-0.1, *[5e-5] * (EXCURSION_SAMPLES - 2)):
        detector.step(s)
    assert detector.baseline_s == before
    for s in held(-0.1, *[5e-5] * 4):
        detector.step(s)
    assert detector.baseline_s == pytest.approx(5e-5, rel=0.01)


def test_hold_while_something_builds_up() -> None:
    detector = Detector(dataclasses.replace(LOW, jump_decades=1.2), DETECTOR_TESTS)
    for s in held(-0.1, *[5e-6] * 40):
        detector.step(s)
        assert not detector.hold
    for s in held(-0.1, *[5e-6 * 7] * 4):
        detector.step(s)
    assert detector.hold
    assert detector.rise_decades == pytest.approx(math.log10(7), abs=0.02)
    assert detector.cusum > 10


# -- near 0 V ------------------------------------------------------------------------------------------------------


def ramp_with_set(rng: random.Random, v_set: float, step_v: float, offset_a: float) -> tuple[int, int] | None:
    """(readings in the low-resistance state up to the verdict, readings before it); None without a verdict."""
    detector = seek(dataclasses.replace(LOW, hard_a=1.0, limit_a=1.0, series_ohm=0.0))
    on = None
    for n in range(400):
        v = step_v * (rng.random() * 0.1 + n + 1)
        formed = v >= v_set
        on = n if formed and on is None else on
        current = v / 9e3 if formed else 1e-10
        if detector.step(sample(n, -v, -current + offset_a + rng.gauss(0.0, SIGMA))) is not None:
            assert on is not None, "a verdict before the set"
            return n - on + 1, on
    return None


@pytest.mark.parametrize("offset_a", [-56e-9, 0.0, 56e-9])
@pytest.mark.parametrize("v_set", [0.005, 0.0062, 0.02, 0.1, 0.35, 0.6])
def test_a_set_is_found_in_two_readings_from_5_mv_on(v_set: float, offset_a: float) -> None:
    rng = random.Random(5)
    for _ in range(30):
        found = ramp_with_set(rng, v_set, 2e-3, offset_a)
        assert found is not None
        assert found[0] <= 2


@pytest.mark.parametrize("v_set", [0.0025, 0.003, 0.0035, 0.004])
def test_and_below_5_mv_as_soon_as_one_reading_has_shown_the_site_open(v_set: float) -> None:
    rng = random.Random(6)
    for _ in range(30):
        found = ramp_with_set(rng, v_set, 2e-3, 0.0)
        assert found is not None
        assert found[0] <= 2


def test_a_filament_that_was_there_before_is_for_conductance_to_see() -> None:
    samples = [sample(n, -0.002 * (n + 1), -0.002 * (n + 1) / 9e3) for n in range(150)]
    assert first(seek(), samples) is None
    found = first(seek(dataclasses.replace(LOW, g_max_s=1e-5)), samples)
    assert found is not None
    assert found[0] <= 1


def sweep(ohm: float, step_v: float, top_v: float, offset_a: float, sigma_a: float, seed: int) -> Iterator[Sample]:
    """0 -> -top -> 0 -> +top -> 0 on an ohmic load."""
    rng = random.Random(seed)
    count = int(top_v / step_v)
    down = [-k * step_v for k in [*range(count + 1), *range(count - 1, -1, -1)]]
    for n, v in enumerate([*down, 0.0, *[-v for v in down]]):
        yield sample(n, v, v / ohm + offset_a + rng.gauss(0.0, sigma_a))


@settings(max_examples=150, deadline=None)
@given(
    ohm=st.floats(4.0, 7.0).map(lambda e: 10.0**e),
    step_v=st.sampled_from([0.5e-3, 1e-3, 2e-3, 5e-3, 0.02, 0.1]),
    top_v=st.sampled_from([0.003, 0.01, 0.1, 0.45]),
    offset=st.floats(-1.0, 1.0),
    high=st.booleans(),
    seed=st.integers(0, 1 << 30),
)
def test_an_ohmic_load_never_trips(
    ohm: float, step_v: float, top_v: float, offset: float, high: bool, seed: int
) -> None:
    settings_ = HIGH if high else LOW
    top_v = min(1.0, 2.2 * top_v) if high else top_v
    settings_ = dataclasses.replace(settings_, series_ohm=9.9e3)
    load = sweep(ohm, step_v, top_v, offset * settings_.offset_a, settings_.sigma0_a, seed)
    assert first(seek(settings_), load) is None


@pytest.mark.parametrize("ohm", [10e3, 100e3, 1e6, 10e6])
@pytest.mark.parametrize("offset", [-1.0, 0.0, 1.0])
def test_the_named_resistors_over_a_volt(ohm: float, offset: float) -> None:
    settings_ = dataclasses.replace(LOW, hard_a=1.0, limit_a=1.0, series_ohm=9.9e3)
    assert first(seek(settings_), sweep(ohm, 2e-3, 1.0, offset * 56e-9, SIGMA, 1)) is None


def test_a_lower_bound_learnt_at_a_large_bias_is_kept_at_a_small_one() -> None:
    detector = seek()
    for s in sweep(1e12, 2e-3, 0.3, 0.0, SIGMA, 2):
        detector.step(s)
    assert detector.baseline_s < 5 * SIGMA / 0.3
    assert detector.lowest_s <= detector.baseline_s * 1.01


# -- gaps ----------------------------------------------------------------------------------------------------------


def test_a_reading_after_a_gap_is_tested_against_limits_only() -> None:
    quiet = held(-0.1, *[5e-6] * 40)
    for junk in (-45e-6, 0.0, 45e-6):
        detector = seek()
        assert first(detector, quiet) is None
        before = detector.baseline_s
        assert detector.step(sample(40, -0.1, junk, Flag.AFTER_GAP)) is None
        assert detector.baseline_s == before
        assert first(detector, held(-0.1, *[5e-6] * 40)) is None
    assert seek().step(sample(0, -0.1, -60e-6, Flag.AFTER_GAP)) is V.HARD_LIMIT


def test_a_set_during_a_gap_is_found_after_it() -> None:
    detector = seek()
    assert first(detector, held(-0.1, *[1e-9] * 40)) is None
    after = [sample(50, -0.1, -1e-5, Flag.AFTER_GAP), *[sample(n, -0.1, -1e-5) for n in (51, 52)]]
    assert first(detector, after) == (2, V.SURGE_JUMP)


def test_a_slope_does_not_span_a_gap() -> None:
    samples = [*held(-0.1, *[5e-5] * 40, 1.4e-4), sample(41, -0.1, -14e-6, Flag.AFTER_GAP), sample(42, -0.1, -40e-6)]
    assert first(Detector(LOW, frozenset({V.PREDICTED})), samples) is None


# -- properties ----------------------------------------------------------------------------------------------------

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)
SOME_BIAS = st.one_of(ANY_FLOAT, st.floats(-10, 10), st.sampled_from([0.0, -0.0, 1e-3, -1e-3, 5e-324]))
SOME_CURRENT = st.one_of(ANY_FLOAT, st.floats(-1e-3, 1e-3), st.floats(-1e-7, 1e-7), st.just(0.0))
ANY_SAMPLE = st.builds(
    Sample,
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**32),
    st.integers(-(2**63), 2**63 - 1),
    SOME_BIAS,
    SOME_CURRENT,
    st.one_of(st.just(0), st.integers(0, 255)),
    st.integers(0, 6),
)
SOME_TESTS = st.frozensets(st.sampled_from(BY_NAME))
STREAM = st.lists(ANY_SAMPLE, max_size=40)
PLAIN = st.lists(
    st.builds(sample, st.integers(0, 10_000), st.floats(-1, 1), st.floats(-60e-6, 60e-6), st.just(0)), max_size=60
)


@settings(max_examples=300, deadline=None)
@given(samples=STREAM, tests=SOME_TESTS, low=st.booleans())
def test_any_input_gives_a_verdict_that_was_asked_for_or_none(
    samples: list[Sample], tests: frozenset[Verdict], low: bool
) -> None:
    detector = Detector(LOW if low else HIGH, tests)
    twin = Detector(LOW if low else HIGH, tests)
    for s in samples:
        verdict = detector.step(s)
        assert verdict is twin.step(s)
        assert verdict is None or verdict in tests
        assert math.isfinite(detector.cusum)
        assert math.isfinite(detector.rise_decades)


@settings(max_examples=200, deadline=None)
@given(samples=PLAIN)
def test_turning_the_wiring_round_changes_nothing(samples: list[Sample]) -> None:
    turned = [s._replace(bias_v=-s.bias_v, current_a=-s.current_a) for s in samples if s.bias_v != 0.0]
    samples = [s for s in samples if s.bias_v != 0.0]
    one, other = seek(), seek()
    assert [one.step(s) for s in samples] == [other.step(s) for s in turned]


@settings(max_examples=200, deadline=None)
@given(samples=STREAM, last=ANY_SAMPLE, excess=st.floats(1.0, 1e6), negative=st.booleans())
def test_over_the_hard_limit_there_is_a_verdict_in_that_very_reading(
    samples: list[Sample], last: Sample, excess: float, negative: bool
) -> None:
    detector = seek()
    for s in samples:
        detector.step(s)
    current = LOW.hard_a * excess
    last = last._replace(current_a=-current if negative else current, flags=last.flags & ~UNTRUSTED)
    verdict = detector.step(last)
    assert verdict is not None
    if not last.flags & IN_COMPLIANCE and math.isfinite(last.bias_v):
        assert verdict in {V.HARD_LIMIT, V.SERIES_RESISTOR}


@settings(max_examples=100, deadline=None)
@given(samples=PLAIN)
def test_reset_forgets_everything(samples: list[Sample]) -> None:
    used, fresh = seek(), seek()
    for s in samples:
        used.step(s)
    used.reset()
    for name in Detector.__slots__:
        assert getattr(used, name) == getattr(fresh, name), name
    assert [used.step(s) for s in samples] == [fresh.step(s) for s in samples]


@settings(max_examples=200, deadline=None)
@given(x2=st.floats(1e-9, 1e-4), rise1=st.floats(1.01, 50), rise2=st.floats(1.01, 50), tau=st.floats(0.0, 1.0))
def test_the_linear_prediction_is_implied(x2: float, rise1: float, rise2: float, tau: float) -> None:
    x1 = x2 * rise1
    x0 = x1 * rise2
    linear = x0 + tau * min((x0 - x1), (x1 - x2)) / 0.02
    detector = Detector(dataclasses.replace(LOW, tau_cut_s=tau, limit_a=max(linear * 0.999, 1e-12)), DETECTOR_TESTS)
    if linear > x0 * 1.01:
        assert detector._crosses(x0**2, x1**2, x2**2, DT_NS, DT_NS)


# -- settings and reports ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("hard_a", 0.0),
        ("hard_a", math.nan),
        ("limit_a", math.inf),
        ("sigma0_a", 0.0),
        ("offset_a", -1e-9),
        ("tau_cut_s", 11.0),
        ("g_max_s", 0.0),
        ("g_max_s", math.nan),
        ("series_ohm", -1.0),
        ("v_min_v", 0.0),
        ("v_min_v", 0.006),
        ("k", 0.0),
        ("h", -1.0),
        ("jump_decades", 0.1),
        ("level_decades", 0.5),
        ("jump_samples", 0),
        ("conductance_samples", 9),
        ("alpha", 1.1),
        ("beta", -0.1),
    ],
)
def test_settings_name_the_field_and_the_range(name: str, bad: float) -> None:
    replace: Callable[..., DetectorSettings] = dataclasses.replace
    with pytest.raises(ValueError, match=f"{name} is .*; needs a number"):
        replace(LOW, **{name: bad})


def test_settings_of_a_phase_take_the_measured_noise_of_a_commissioned_rig() -> None:
    assert LOW.evidence_a == pytest.approx(EVIDENCE_SIGMAS * 10e-9 + 56e-9)
    own = DetectorSettings.for_phase(
        phase_spec(Phase.SEEK, 0.3), i_limit_a=1e-3, tau_cut_s=0.03, sigma0_a=2e-9, zero_error_a=1e-9, hard_a=5e-6
    )
    assert (own.sigma0_a, own.offset_a, own.hard_a, own.limit_a) == (2e-9, 1e-9, 5e-6, 100e-6)


def test_what_the_event_record_reads() -> None:
    detector = seek()
    assert math.isnan(detector.baseline_s)
    assert math.isnan(detector.lowest_s)
    found = first(detector, held(-0.1, *[2e-6] * 40, *[4e-5] * 3))
    assert found == (41, V.SURGE_JUMP)
    assert detector.reference_s(V.SURGE_JUMP) == pytest.approx(2e-6, rel=0.1)
    assert detector.reference_s(V.SURGE_LEVEL) == detector.lowest_s
    assert detector.rise_decades == pytest.approx(math.log10(20), abs=0.05)
    assert 0.0 < detector.noise_decades < 0.1
    assert detector.settings is LOW
