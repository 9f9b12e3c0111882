"""The detector, line by line: each test here fails if one condition, reset or bound in it is taken out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import pytest

from edge.guard.detector import DETECTOR_TESTS, Detector, DetectorSettings
from edge.guard.phases import phase_spec
from edge.guard.thresholds import EXCURSION_SAMPLES, GUARD_SIGMAS, MAX_GIVE, MAX_TREND
from edge.guard.verdicts import Verdict
from edge.samples import Flag, Phase, Sample

V = Verdict
DT_NS = 20_000_000
SIGMA = 10e-9
OFFSET = 56e-9
GRANTED = GUARD_SIGMAS * SIGMA + OFFSET
LOW = DetectorSettings.for_phase(phase_spec(Phase.SEEK, 0.3), i_limit_a=1e-3, tau_cut_s=0.03, series_ohm=1000.0)
LIMITED = dataclasses.replace(LOW, g_max_s=1e-5)
BASE = 5e-5
"""20 uA at 0.4 V: the instrument's noise is 0.05 % of it."""
AT_V = -0.4
FLOOR_S = 3.0 * SIGMA


class Bench:
    """A detector and the time; readings are given as conductances or as currents."""

    def __init__(self, *tests: Verdict, settings: DetectorSettings = LOW) -> None:
        self.detector = Detector(settings, frozenset(tests))
        self.n = 0

    def read(self, bias_v: float, current_a: float, flags: int = 0) -> Verdict | None:
        self.n += 1
        t_ns = self.n * DT_NS
        return self.detector.step(Sample(t_ns, 0, t_ns, bias_v, current_a, flags, Phase.SEEK))

    def hold(self, *siemens: float, bias_v: float = AT_V) -> list[Verdict | None]:
        return [self.read(bias_v, bias_v * g) for g in siemens]

    def settle(self, count: int = 40, siemens: float = BASE, bias_v: float = AT_V) -> None:
        assert not any(self.hold(*[siemens] * count, bias_v=bias_v))

    @property
    def baseline(self) -> float:
        return self.detector.baseline_s


def none(verdicts: Iterable[Verdict | None]) -> bool:
    return all(verdict is None for verdict in verdicts)


# -- absolute tests ------------------------------------------------------------------------------------------------


def test_a_current_that_is_no_evidence_proves_no_missing_resistor() -> None:
    bench = Bench(V.SERIES_RESISTOR, settings=dataclasses.replace(LOW, series_ohm=1e6))
    assert none(bench.read(-0.06, -170e-9) for _ in range(3))
    assert [bench.read(-0.06, -180e-9) for _ in range(2)] == [None, V.SERIES_RESISTOR]


@pytest.mark.parametrize("flags", [0, int(Flag.AFTER_GAP)])
@pytest.mark.parametrize("bias_v", [0.0, -0.0005])
def test_below_v_min_a_conductance_is_taken_at_v_min(bias_v: float, flags: int) -> None:
    limit_a = GRANTED + 1e-5 * LOW.v_min_v
    assert Bench(V.CONDUCTANCE, settings=LIMITED).read(bias_v, -0.98 * limit_a, flags) is None
    assert Bench(V.CONDUCTANCE, settings=LIMITED).read(bias_v, -1.02 * limit_a, flags) is V.CONDUCTANCE


def test_two_readings_over_the_conductance_limit_must_be_running() -> None:
    bench = Bench(V.CONDUCTANCE, settings=dataclasses.replace(LIMITED, conductance_samples=2))
    assert none(bench.hold(BASE, 1e-9, BASE, 1e-9, BASE))
    assert bench.hold(BASE) == [V.CONDUCTANCE]


def test_the_conductance_of_a_bias_that_is_not_held_means_nothing() -> None:
    assert Bench(V.CONDUCTANCE, settings=LIMITED).read(-0.1, -20e-6, Flag.BIAS_NOT_HELD) is None
    assert Bench(V.CONDUCTANCE, settings=LIMITED).read(-0.1, -20e-6, Flag.AFTER_GAP) is V.CONDUCTANCE


# -- what a jump, a level and a prediction want ---------------------------------------------------------------------


@pytest.mark.parametrize("verdict", [V.SURGE_JUMP, V.SURGE_LEVEL])
@pytest.mark.parametrize("between", [BASE / 10, 0.0], ids=["a good reading", "nothing"])
def test_two_high_readings_must_be_running(verdict: Verdict, between: float) -> None:
    bench = Bench(verdict)
    bench.settle(siemens=BASE / 10)
    for _ in range(4):
        assert none(bench.hold(10 * BASE, between))
    assert bench.hold(10 * BASE, 10 * BASE) == [None, verdict]


def test_a_small_gate_still_wants_five_sigma() -> None:
    bench = Bench(V.SURGE_JUMP, settings=dataclasses.replace(LOW, jump_decades=0.3))
    for _ in range(60):  # 30 % up and down: sigma is at its ceiling of 0.3
        bench.hold(BASE * math.exp(0.3), BASE * math.exp(-0.3))
    assert none(bench.hold(*[bench.baseline * 10**0.35] * 2))
    calm = Bench(V.SURGE_JUMP, settings=dataclasses.replace(LOW, jump_decades=0.3))
    calm.settle()
    assert calm.hold(*[BASE * 10**0.35] * 2) == [None, V.SURGE_JUMP]


def test_a_glitch_on_top_of_a_small_excursion_does_not_fire_the_cusum() -> None:
    bench = Bench(V.SURGE_CUSUM)
    bench.settle()
    assert none(bench.hold(*[1.5 * BASE] * 12))
    assert bench.detector.cusum > 20.0
    assert not bench.detector.hold  # much, but not far: 0.18 decade
    assert none(bench.hold(10 * BASE))
    assert bench.hold(10 * BASE) == [V.SURGE_CUSUM]


def test_a_current_that_grows_with_its_bias_only_is_not_predicted() -> None:
    bench = Bench(V.PREDICTED)
    bench.settle(bias_v=-0.1)
    # 40, 55, 75 uA: at that rate the limit is two readings away, but the conductance falls.
    assert none(bench.read(-v, -i) for v, i in ((0.1, 40e-6), (0.14, 55e-6), (0.2, 75e-6)))


def test_growth_is_predicted_by_the_slower_of_two_rates() -> None:
    bench = Bench(V.PREDICTED)
    bench.settle(bias_v=-0.1)
    assert none(bench.read(-0.1, -i) for i in (29e-6, 30e-6))
    other = Bench(V.PREDICTED)
    other.settle(bias_v=-0.1)
    assert [other.read(-0.1, -i) for i in (14e-6, 40e-6)] == [None, V.PREDICTED]


def test_readings_of_one_instant_have_no_rate() -> None:
    detector = Detector(LOW, frozenset({V.PREDICTED}))
    for n, current in enumerate([*[5e-6] * 40, 14e-6, 40e-6, 90e-6]):
        t_ns = min(n, 39) * DT_NS
        assert detector.step(Sample(t_ns, 0, t_ns, -0.1, -current, 0, Phase.SEEK)) is None


def test_a_slope_does_not_span_a_gap() -> None:
    bench = Bench(V.PREDICTED)
    bench.settle(bias_v=-0.1)
    assert none([bench.read(-0.1, -14e-6), bench.read(-0.1, -14e-6, Flag.AFTER_GAP), bench.read(-0.1, -60e-6)])


# -- noise ---------------------------------------------------------------------------------------------------------


def test_a_hundredth_is_no_excursion_on_the_quietest_load() -> None:
    bench = Bench()
    bench.settle()
    bench.hold(1.02 * BASE)
    assert bench.detector.cusum == 0.0
    assert bench.baseline > BASE


def test_a_current_just_above_the_evidence_is_granted_the_instrument_s_noise() -> None:
    bench = Bench()
    bench.settle(siemens=0.5e-6)  # 200 nA: 5 % noise
    bench.hold(1.05 * 0.5e-6)
    assert bench.detector.cusum == 0.0


def test_learnt_noise_is_granted() -> None:
    bench = Bench()
    highest = 0.0
    for n in range(200):
        bench.hold(BASE * math.exp(0.2 if n % 2 else -0.2))
        if n > 100:
            highest = max(highest, bench.detector.cusum)
    assert bench.detector.noise_decades > 0.05
    assert highest < 3.0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_trend_is_bounded(sign: float) -> None:
    bench = Bench()
    for _ in range(60):
        bench.hold(BASE * math.exp(0.4), BASE * math.exp(-0.4))
    start = BASE * math.exp(-0.4 * sign)
    bench.hold(*[start] * 6)
    extreme = 0.0
    for n in range(14):  # noisy enough for a steep trend to pass for noise
        bench.hold(start * math.exp(0.12 * sign * n))
        extreme = max(extreme, sign * bench.detector._drift)
    assert extreme == pytest.approx(MAX_TREND)


# -- the baseline while something is going on ----------------------------------------------------------------------


def excursion(bench: Bench, count: int = EXCURSION_SAMPLES - 1) -> None:
    """A settled load, and then twice as much."""
    bench.settle()
    assert none(bench.hold(*[2 * BASE] * count))
    assert bench.baseline == pytest.approx(BASE, rel=1e-3)


def test_an_excursion_becomes_the_baseline_at_its_lower_end() -> None:
    bench = Bench()
    excursion(bench)
    bench.hold(3 * BASE)
    assert bench.baseline == pytest.approx(2 * BASE, rel=1e-3)


def test_an_excursion_whose_last_readings_disagree_does_not_become_the_baseline() -> None:
    bench = Bench()
    excursion(bench)
    bench.hold(20 * BASE)
    assert bench.baseline == pytest.approx(BASE, rel=1e-3)


def test_after_an_excursion_the_next_one_has_its_own_32_readings() -> None:
    bench = Bench()
    excursion(bench)
    bench.hold(2 * BASE)
    assert bench.baseline == pytest.approx(2 * BASE, rel=1e-3)
    bench.hold(3.5 * BASE, 3.5 * BASE, 3.5 * BASE)
    assert bench.baseline == pytest.approx(2 * BASE, rel=1e-3)


def test_short_excursions_do_not_add_up() -> None:
    bench = Bench()
    bench.settle()
    for _ in range(20):
        bench.hold(1.3 * BASE, 1.3 * BASE)
        assert bench.detector.cusum > 0.0
        assert bench.baseline == pytest.approx(BASE, rel=0.02)
        bench.hold(*[BASE] * 20)
        assert (bench.detector.cusum, bench.detector._age) == (0.0, 0)


def test_a_rising_bias_is_given_way_to_a_little_and_a_surge_not_at_all() -> None:
    bench = Bench()
    bench.settle(bias_v=-0.1)
    bench.read(-0.2, -0.2 * BASE * math.e)  # twice the bias: I ~ V^4 could grow by more than the most that is given
    assert bench.baseline == pytest.approx(BASE * math.exp(MAX_GIVE), rel=1e-3)
    surged = Bench()
    surged.settle(bias_v=-0.1)
    for n in range(10):
        v = 0.1 + 0.002 * n
        surged.read(-v, -v * 10 * BASE)
    assert surged.baseline == pytest.approx(BASE, rel=1e-3)


def test_the_bias_before_is_that_of_the_reading_before_though_it_showed_nothing() -> None:
    bench = Bench()
    bench.settle(bias_v=-0.1)
    bench.read(-0.5, 0.0)
    bench.read(-0.4, -0.4 * 1.5 * BASE)  # the bias falls: nothing is given
    assert bench.detector.cusum > 0.0
    assert bench.baseline == pytest.approx(BASE, rel=1e-3)


# -- falls and bounds ----------------------------------------------------------------------------------------------


def test_a_fall_is_followed_to_the_higher_of_two_readings() -> None:
    bench = Bench()
    bench.settle()
    bench.hold(BASE / 5)
    assert bench.baseline == pytest.approx(BASE, rel=1e-3)
    bench.hold(BASE / 10)
    assert bench.baseline == pytest.approx(BASE / 5, rel=1e-3)
    assert bench.detector.lowest_s == pytest.approx(BASE / 5, rel=1e-3)


def test_the_lowest_baseline_follows_a_slow_fall() -> None:
    bench = Bench()
    bench.settle()
    bench.hold(*[BASE * 0.99**n for n in range(100)])
    assert bench.detector.lowest_s == pytest.approx(BASE * 0.99**99, rel=0.03)


def test_a_current_of_the_wrong_sign_bounds_the_conductance_like_none() -> None:
    bench = Bench()
    bench.settle(bias_v=-0.1)
    bench.read(-0.1, 20e-6)
    bench.read(-0.1, 20e-6)
    assert bench.baseline == pytest.approx(FLOOR_S / 0.1, rel=1e-3)


def test_a_first_reading_that_shows_a_current_is_not_undone_by_one_that_shows_none() -> None:
    bench = Bench()
    bench.hold(BASE, 0.0)
    assert bench.baseline == pytest.approx(BASE, rel=1e-3)
    bench.hold(0.0)
    assert bench.baseline == pytest.approx(FLOOR_S / 0.4, rel=1e-3)


def test_once_the_current_is_gone_one_tighter_bound_is_enough() -> None:
    bench = Bench()
    bench.settle(bias_v=-0.1)
    bench.read(-0.1, 0.0)
    bench.read(-0.1, 0.0)
    bench.read(-0.4, 0.0)
    assert bench.baseline == pytest.approx(FLOOR_S / 0.4, rel=1e-3)


def test_two_bounds_below_the_baseline_must_be_running() -> None:
    bench = Bench()
    bench.settle(siemens=5e-6, bias_v=-0.1)
    bench.read(-0.1, 0.0)
    bench.read(-0.005, 0.0)  # 30 nA at 5 mV: a bound above the baseline, which says nothing
    bench.read(-0.1, 0.0)
    assert bench.baseline == pytest.approx(5e-6, rel=0.01)


def test_the_lowest_bound_of_all_wants_two_readings() -> None:
    bench = Bench()
    bench.settle(siemens=0.0, bias_v=-0.1)
    bench.read(-1.0, 0.0)
    assert bench.baseline == pytest.approx(FLOOR_S / 1.0, rel=1e-3)
    assert bench.detector.lowest_s == pytest.approx(FLOOR_S / 0.1, rel=1e-3)
    bench.read(-1.01, 0.0)
    assert bench.detector.lowest_s == pytest.approx(FLOOR_S / 1.0, rel=1e-3)


def test_a_tighter_bound_has_no_trend() -> None:
    bench = Bench()
    for n in range(20):
        bench.read(-0.1, -(31e-9 + 2e-9 * n))
    bench.read(-0.1, -10e-9)
    assert bench.baseline == pytest.approx(math.hypot(10e-9, FLOOR_S) / 0.1, rel=1e-6)


def test_what_is_no_evidence_is_no_surge_and_carries_the_baseline_slowly() -> None:
    bench = Bench(*DETECTOR_TESTS)
    bench.settle(siemens=0.0, bias_v=-0.1)
    assert bench.read(-0.1, -170e-9) is None  # 0.76 decade over the floor, below 176 nA
    assert 1.0 < bench.baseline / (FLOOR_S / 0.1) < 1.3
    assert none(bench.read(-0.1, -170e-9) for _ in range(10))


def test_a_reading_that_is_no_evidence_ends_an_excursion() -> None:
    bench = Bench()
    bench.settle()
    bench.hold(2 * BASE, 2 * BASE)
    assert bench.detector.cusum > 0.0
    assert bench.detector.rise_decades > 0.2
    bench.hold(0.0)
    assert (bench.detector.cusum, bench.detector.rise_decades) == (0.0, 0.0)
