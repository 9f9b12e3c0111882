"""Black boxes and what leads out of a trip: fetched whole over a line that loses, kept until it is released."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from edge.instruments.frontend_values import FrontendError, FrontendRefusedError, Trip
from firmware_proto.frontend.messages import Reason, Refusal, State
from tests.edge.instruments.frontend.frontend_desk import SAMPLE_HZ, Desk, needs_cc, on_desk, rig, section

pytestmark = needs_cc

RAMP_A_S = 0.05
PERIOD_NS = 1_000_000_000 // SAMPLE_HZ


async def ramped(desk: Desk) -> Trip:
    """Trip on a ramp of the current; return the trip."""
    await desk.armed()
    await desk.sleep(0.2)
    began_ns = desk.clock.now_ns()
    desk.line.current_a = lambda t_ns: RAMP_A_S * max(0, t_ns - began_ns) / 1e9
    while not desk.trips:
        await desk.sleep(0.001)
    return desk.trips[0]


def test_a_box_is_the_current_around_the_trip_on_the_hosts_clock(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        desk.line.down_ns, desk.line.up_ns = 300_000, 100_000
        trip = await ramped(desk)
        box = await desk.frontend.black_box(trip)
        assert desk.line.opened_ns is not None
        assert (len(box.current_a), box.trip_at) == (151, 100)
        assert box.t_ns.dtype == np.int64
        # The sample that tripped is the first at or above the threshold; behind it the path is open.
        assert box.current_a[box.trip_at] >= 5e-4 > box.current_a[box.trip_at - 1]
        assert np.all(box.current_a[box.trip_at + 1 :] == 0)
        # Each time is right within its own uncertainty, one period after the other.
        true_ns = desk.line.opened_ns + PERIOD_NS * (np.arange(151) - box.trip_at)
        assert np.all(np.abs(box.t_ns - true_ns) <= box.t_unc_ns)
        assert np.all(box.t_unc_ns < 400_000)
        assert abs(box.trip.t_ns - desk.line.opened_ns) <= box.trip.t_unc_ns
        slope = np.polyfit((box.t_ns[:101] - box.t_ns[0]) / 1e9, box.current_a[:101], 1)[0]
        assert slope == pytest.approx(RAMP_A_S, rel=2e-3)

    on_desk(rig(tmp_path), body)


def test_an_inverted_front_end_counts_as_the_source_measure_unit_does(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        box = await desk.frontend.black_box(await ramped(desk))
        assert box.current_a[box.trip_at] <= -5e-4
        assert box.trip.current_a == box.current_a[box.trip_at]

    on_desk(rig(tmp_path, section(invert=True)), body)


def test_it_is_waited_for_until_it_is_full(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        trip = await ramped(desk)
        began_ns = desk.clock.now_ns()
        box = await desk.frontend.black_box(trip)
        assert len(box.current_a) == 100 + 1 + 4000
        assert desk.clock.now_ns() - began_ns > 350_000_000

    on_desk(rig(tmp_path, section(post_s=0.4)), body)


@pytest.mark.parametrize("seed", range(3))
def test_a_line_that_loses_brings_it_whole_too(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)

    async def body(desk: Desk) -> None:
        trip = await ramped(desk)
        desk.line.to_host = desk.line.to_device = lambda data: b"" if rng.random() < 0.25 else data
        box = await desk.frontend.black_box(trip)
        assert len(box.current_a) == 1000 + 1 + 50
        assert np.all(np.diff(box.current_a[900:1001]) > 0)
        await desk.frontend.release(trip)
        await desk.frontend.rearm(trip)
        assert desk.state() == State.SAFE

    on_desk(rig(tmp_path, section(pre_s=0.1)), body)


def test_an_answer_that_comes_after_it_was_asked_for_again_is_not_taken_for_the_next_part(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        trip = await ramped(desk)
        # Every question is asked twice before its answer is here, and every answer comes twice.
        desk.line.up_ns = desk.line.down_ns = 90_000_000
        box = await desk.frontend.black_box(trip)
        assert len(box.current_a) == 1000 + 1 + 50
        assert np.all(np.diff(box.current_a[900:1001]) > 0)
        assert box.current_a[box.trip_at] >= 5e-4 > box.current_a[box.trip_at - 1]

    on_desk(rig(tmp_path, section(pre_s=0.1)), body)


def test_it_stays_until_it_is_released_and_only_then_a_rearm_goes(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        trip = await ramped(desk)
        await desk.sleep(1.0)
        first = await desk.frontend.black_box(trip)
        again = await desk.frontend.black_box(trip)
        assert np.array_equal(first.current_a, again.current_a)
        with pytest.raises(FrontendRefusedError, match="was not released") as caught:
            await desk.frontend.rearm(trip)
        assert caught.value.why == Refusal.BOX_NOT_RELEASED
        assert desk.state() == State.TRIPPED
        await desk.frontend.release(trip)
        await desk.frontend.release(trip)
        await desk.frontend.rearm(trip)
        assert desk.state() == State.SAFE
        assert desk.frontend.trip_now is None
        assert not desk.closed()
        desk.line.current_a = lambda _t_ns: 1e-6
        await desk.frontend.arm()
        await desk.sleep(0.3)
        assert desk.closed()

    on_desk(rig(tmp_path), body)


def test_a_released_box_is_empty(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        trip = await ramped(desk)
        await desk.frontend.release(trip)
        box = await desk.frontend.black_box(trip)
        assert len(box.current_a) == len(box.t_ns) == len(box.t_unc_ns) == 0

    on_desk(rig(tmp_path), body)


def test_a_box_of_another_trip_is_refused(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        trip = await ramped(desk)
        other = Trip(**{name: getattr(trip, name) for name in trip.__match_args__} | {"trip_id": 77})
        for asked in (desk.frontend.black_box, desk.frontend.release, desk.frontend.rearm):
            with pytest.raises(FrontendRefusedError) as caught:
                await asked(other)
            assert caught.value.why == Refusal.UNKNOWN_TRIP

    on_desk(rig(tmp_path), body)


def test_a_sample_that_the_converter_did_not_give_is_no_number(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.line.current_a = lambda _t_ns: 1e-5
        await desk.sleep(0.05)
        desk.core.step(0, adc_fault=True)
        desk.line.pump()
        while not desk.trips:
            await desk.sleep(0.001)
        (trip,) = desk.trips
        assert trip.reason == Reason.ADC_FAULT
        assert np.isnan(trip.current_a)
        assert np.isnan(trip.threshold_a)
        box = await desk.frontend.black_box(trip)
        assert np.isnan(box.current_a[box.trip_at])
        assert box.current_a[box.trip_at - 1] == pytest.approx(1e-5)

    on_desk(rig(tmp_path), body)


def test_without_a_session_nothing_is_fetched(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        trip = await ramped(desk)
        desk.core.reset()
        await desk.sleep(0.3)
        with pytest.raises(FrontendError, match="no session"):
            await desk.frontend.black_box(trip)

    on_desk(rig(tmp_path), body)
