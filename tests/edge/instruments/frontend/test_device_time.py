"""Device ticks to host time: the truth lies within what is stated, however unlike the two ways of a ping are."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import InstrumentError
from edge.instruments import device_time
from edge.instruments.device_time import DeviceTime

START_NS = 86_400_000_000_000 * 30
"""A host that is up for a month: its ns need 52 bits."""
TICKS_0 = 1 << 53
"""A device whose ticks do not fit into a float."""


@dataclasses.dataclass(frozen=True)
class Truth:
    """A device whose clock is off by ``ppm``, and wanders by ``swing_ppm`` over ``period_s``."""

    tick_hz: int
    ppm: float
    swing_ppm: float = 0.0
    period_s: float = 600.0

    def ticks_exact(self, t_ns: int) -> float:
        """Ticks since START_NS at host time ``t_ns``."""
        t_s = (t_ns - START_NS) / 1e9
        turn = 2 * math.pi / self.period_s
        off_s = t_s * self.ppm * 1e-6 + self.swing_ppm * 1e-6 * (1 - math.cos(turn * t_s)) / turn
        return (t_s + off_s) * self.tick_hz

    def ticks(self, t_ns: int) -> int:
        return TICKS_0 + math.floor(self.ticks_exact(t_ns))

    def wander_ppm_s(self) -> float:
        return self.swing_ppm * 2 * math.pi / self.period_s


def ask(mapping: DeviceTime, truth: Truth, t_ns: int, there_ns: int, work_ns: int, back_ns: int) -> None:
    rx_ns = t_ns + there_ns
    tx_ns = rx_ns + work_ns
    mapping.exchange(t_ns, truth.ticks(rx_ns), truth.ticks(tx_ns), tx_ns + back_ns)


def assert_within(mapping: DeviceTime, truth: Truth, t_ns: int) -> None:
    """Compare what is stated of the tick that the device reads at ``t_ns`` with when that tick began."""
    stated_ns, unc_ns = mapping.to_host(truth.ticks(t_ns))
    exact = truth.ticks_exact(t_ns)
    # Half a ns for the rate that the fraction of a tick is taken at, and for this test's own floats.
    began_ns = t_ns - (exact - math.floor(exact)) / truth.tick_hz * 1e9
    assert abs(stated_ns - began_ns) <= unc_ns + 1.0, (stated_ns - began_ns, unc_ns)


truths = st.builds(
    Truth,
    tick_hz=st.sampled_from([1_000_000_000, 25_000_000, 1_000_000]),
    ppm=st.floats(-550, 550),
    swing_ppm=st.floats(0, 15),
)
ways_ns = st.one_of(st.integers(1_000, 200_000), st.integers(1_000, 20_000_000))
exchanges = st.lists(st.tuples(st.integers(5_000_000, 3_000_000_000), ways_ns, st.integers(0, 500_000), ways_ns))


@given(truth=truths, asked=exchanges.filter(bool), looks=st.lists(st.integers(-5_000, 3_000), min_size=1, max_size=8))
def test_the_truth_lies_within_what_is_stated(
    truth: Truth, asked: list[tuple[int, int, int, int]], looks: list[int]
) -> None:
    assert truth.wander_ppm_s() < device_time.WANDER_PPM_S
    mapping, t_ns = DeviceTime(truth.tick_hz), START_NS
    for after_ns, there_ns, work_ns, back_ns in asked:
        ask(mapping, truth, t_ns, there_ns, work_ns, back_ns)
        t_ns += there_ns + work_ns + back_ns + after_ns
        for look_ms in looks:
            assert_within(mapping, truth, max(START_NS, t_ns + look_ms * 1_000_000))
    assert mapping.slips == 0


@pytest.mark.parametrize("tick_hz", [1_000_000_000, 1_000_000])
def test_the_truth_lies_within_on_a_line_so_quick_that_only_the_clocks_matter(tick_hz: int) -> None:
    truth = Truth(tick_hz, 35.0, swing_ppm=18.0)
    mapping = DeviceTime(tick_hz)
    for second in range(200):
        t_ns = START_NS + second * 983_000_000 + second * 1_237
        ask(mapping, truth, t_ns, 200, 100, 200)
        for look_s in (-150, -40, -25, -3, 0, 1, 5, 20):
            assert_within(mapping, truth, max(START_NS, t_ns + look_s * 1_000_000_000))
    assert mapping.slips == 0


@given(truth=truths, asked=exchanges.filter(bool), ahead_ms=st.integers(-50, 150))
def test_a_deadline_in_ticks_is_never_later_than_the_deadline(
    truth: Truth, asked: list[tuple[int, int, int, int]], ahead_ms: int
) -> None:
    mapping, t_ns = DeviceTime(truth.tick_hz), START_NS
    for after_ns, there_ns, work_ns, back_ns in asked:
        ask(mapping, truth, t_ns, there_ns, work_ns, back_ns)
        t_ns += there_ns + work_ns + back_ns + after_ns
    end_ns = t_ns + ahead_ms * 1_000_000
    # The device cuts as soon as its counter reads this much: that has happened at the deadline.
    assert mapping.ticks_before(end_ns) - TICKS_0 <= truth.ticks_exact(end_ns)


def test_a_deadline_from_the_estimate_alone_would_be_late() -> None:
    # What the uncertainty is for: a slow way there, a quick way back, and the estimate is off by nearly half of both.
    truth, mapping = Truth(1_000_000_000, 0.0), DeviceTime(1_000_000_000)
    ask(mapping, truth, START_NS, 9_000_000, 0, 1_000)
    end_ns = START_NS + 100_000_000
    now_ns, _ = mapping.to_host(truth.ticks(START_NS + 9_000_000))
    naive = truth.ticks(START_NS + 9_000_000) + (end_ns - now_ns)
    assert naive - TICKS_0 > truth.ticks_exact(end_ns) + 4_000_000
    assert mapping.ticks_before(end_ns) - TICKS_0 <= truth.ticks_exact(end_ns)


def test_a_deadline_is_as_late_as_can_be_said() -> None:
    truth, mapping = Truth(1_000_000_000, 30.0), DeviceTime(1_000_000_000)
    for second in range(20):
        ask(mapping, truth, START_NS + second * 1_000_000_000, 50_000, 1_000, 50_000)
    end_ns = START_NS + 19_100_000_000
    early_ns = (truth.ticks_exact(end_ns) - (mapping.ticks_before(end_ns) - TICKS_0)) / (1 + 30e-6)
    assert 0 <= early_ns < 120_000


def test_the_rate_is_learnt_and_the_uncertainty_with_it() -> None:
    truth, mapping = Truth(25_000_000, 40.0), DeviceTime(25_000_000)
    first = None
    for second in range(30):
        t_ns = START_NS + second * 983_000_000
        ask(mapping, truth, t_ns, 60_000, 2_000, 60_000)
        _, unc_ns = mapping.to_host(truth.ticks(t_ns + 983_000_000))
        first = first or unc_ns
    assert first is not None
    assert first > 600_000
    assert unc_ns < 90_000
    told = mapping.describe()
    assert told["rate_ppm"] == pytest.approx(-40.0, abs=told["rate_unc_ppm"])
    assert told["rate_unc_ppm"] < 20


def test_the_first_pings_say_little_of_the_rate() -> None:
    truth, mapping = Truth(1_000_000_000, 20.0), DeviceTime(1_000_000_000)
    for number, (there_ns, back_ns) in enumerate([(90_000, 30_000), (50_000, 50_000), (30_000, 110_000)]):
        ask(mapping, truth, START_NS + number * 250_000, there_ns, 0, back_ns)
    told = mapping.describe()
    # Their middles lie as if it were off by a tenth; the uncertainty stays within its half width and the prior.
    assert abs(told["rate_ppm"]) < 300
    _, unc_ns = mapping.to_host(truth.ticks(START_NS + 1_000_000_000))
    assert unc_ns < 600_000 * 1.5


def test_long_round_trips_are_not_remembered_unless_the_line_stays_so() -> None:
    truth, mapping = Truth(1_000_000_000, 0.0), DeviceTime(1_000_000_000)
    ask(mapping, truth, START_NS, 50_000, 0, 50_000)
    ask(mapping, truth, START_NS + 1_000_000_000, 50_000, 0, 5_000_000)
    assert mapping.skipped == 1
    ask(mapping, truth, START_NS + 7_000_000_000, 50_000, 0, 5_000_000)
    assert mapping.skipped == 1


def test_a_host_clock_that_is_slewed_hard_is_found_out_at_the_next_exchange() -> None:
    before, mapping = Truth(1_000_000_000, 0.0), DeviceTime(1_000_000_000)
    for second in range(20):
        ask(mapping, before, START_NS + second * 1_000_000_000, 20_000, 0, 20_000)
    # From here on the device runs 400 ppm faster against this host: 0.4 ms after one second.
    turn_ns = START_NS + 19_000_000_000

    def ticks(t_ns: int) -> int:
        return before.ticks(turn_ns) + math.floor((t_ns - turn_ns) * (1 + 400e-6))

    t_ns = turn_ns + 1_000_000_000
    mapping.exchange(t_ns, ticks(t_ns + 20_000), ticks(t_ns + 20_000), t_ns + 40_000)
    assert mapping.slips == 1
    stated_ns, unc_ns = mapping.to_host(ticks(t_ns + 500_000_000))
    assert abs(stated_ns - t_ns - 500_000_000) <= unc_ns


@settings(max_examples=40)
@given(truth=truths, asked=exchanges.filter(bool), back_ms=st.integers(0, 4_000), n=st.integers(1, 50))
def test_arrays_say_what_single_ticks_say(
    truth: Truth, asked: list[tuple[int, int, int, int]], back_ms: int, n: int
) -> None:
    mapping, t_ns = DeviceTime(truth.tick_hz), START_NS
    for after_ns, there_ns, work_ns, back_ns in asked:
        ask(mapping, truth, t_ns, there_ns, work_ns, back_ns)
        t_ns += there_ns + work_ns + back_ns + after_ns
    first = max(TICKS_0, truth.ticks(t_ns - back_ms * 1_000_000))
    step = truth.tick_hz // 10
    t_all, unc_all = mapping.to_host_array(first, np.arange(n, dtype=np.float64) * step)
    for at in range(n):
        t_one, unc_one = mapping.to_host(first + at * step)
        assert abs(int(t_all[at]) - t_one) <= 1
        assert abs(int(unc_all[at]) - unc_one) <= 1
    assert bool(np.all(np.diff(t_all) > 0))


@pytest.mark.parametrize(
    "wrong",
    [(10, 2000, 1000, 20), (10, 500, 600, 20), (5000, 2000, 2000, 4000)],
    ids=["answered before it was asked", "ticks go back", "there before it was sent"],
)
def test_times_that_cannot_be_are_ignored(wrong: tuple[int, int, int, int]) -> None:
    mapping = DeviceTime(1_000_000_000)
    mapping.exchange(0, 1000, 1000, 100)
    before = mapping.describe()
    mapping.exchange(*wrong)
    assert mapping.describe() == {**before, "skipped": 1}


def test_before_the_first_exchange_nothing_is_known() -> None:
    mapping = DeviceTime(1_000_000)
    assert not mapping.known
    assert mapping.describe() == {"known": False}
    for asked in (lambda: mapping.to_host(1), lambda: mapping.ticks_before(1)):
        with pytest.raises(InstrumentError, match="no ping was answered"):
            asked()
