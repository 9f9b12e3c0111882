"""A trip in lockstep: in the sample that crosses, for each reason, recorded, told and left as the contract says."""

from __future__ import annotations

import os
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from firmware_proto.frontend import messages as m
from firmware_proto.frontend.detector_model import BlockDetector, Limits
from tests.hil.frontend.desk import FULL_SCALE_CODE, Desk, armed, needs_cc

pytestmark = needs_cc

LONG = os.environ.get("TIPGUARD_LONG") == "1"
WAVES = 5_000 if LONG else 300


def waveform(rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """A floor with noise, a drift, and somewhere an event: a step, a ramp, a spike or an exponential."""
    n = int(rng.integers(500, 3000))
    x = rng.normal(rng.uniform(-300, 300), rng.uniform(0, 30), n) + np.linspace(0, rng.uniform(-200, 200), n)
    at = int(rng.integers(0, n))
    size = rng.uniform(200, 40_000) * rng.choice([-1, 1])
    kind = rng.integers(4)
    t = np.arange(n - at)
    if kind == 0:
        x[at:] += size
    elif kind == 1:
        x[at:] += size * np.minimum(1, t / rng.uniform(1, 300))
    elif kind == 2:
        x[at : at + 1] += size
    else:
        x[at:] += size * (1 - np.exp(-t / rng.uniform(1, 100)))
    return np.clip(np.round(x), -FULL_SCALE_CODE, FULL_SCALE_CODE).astype(np.int16)


def sometimes(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high)) if rng.random() < 0.5 else 0


def settings(rng: np.random.Generator) -> dict[str, int]:
    return {
        "hard_code": int(rng.integers(1000, 30_000)),
        "level_code": sometimes(rng, 600, 5000),
        "level_n": int(rng.integers(1, 6)),
        "jump_code": sometimes(rng, 300, 5000),
        "jump_ratio_q8": int(rng.integers(0, 2000)),
        "baseline_shift": int(rng.integers(0, 9)),
        "rate_code": sometimes(rng, 300, 5000),
        "rate_n": int(rng.integers(1, 33)),
    }


def test_none_of_many_random_waveforms_is_a_sample_late() -> None:
    rng = np.random.default_rng(20_260_727)
    desk = Desk()
    desk.hello()
    tripped: dict[m.Reason, int] = {}
    for seq in range(WAVES):
        codes = waveform(rng)
        desk.configure(config_seq=seq & 0xFFFF, pre_n=0, post_n=0, **settings(rng))
        desk.arm()
        desk.forget()
        begin = desk.fe.sample_index
        crossing = BlockDetector(Limits.of(desk.config, FULL_SCALE_CODE)).feed(codes)
        done = desk.fe.run(codes)
        if crossing is None:
            assert done == codes.size
            assert desk.fe.closed
            desk.say(m.Open())
            continue
        assert not desk.fe.closed
        assert done == crossing.at + 1
        assert desk.fe.open_index == begin + crossing.at
        report = desk.last(m.TripReport)
        assert (report.reason, report.sample_index) == (crossing.reason, begin + crossing.at)
        assert (report.code, report.baseline) == (codes[crossing.at], crossing.baseline)
        tripped[report.reason] = tripped.get(report.reason, 0) + 1
        desk.put_back()
    assert set(tripped) == {m.Reason.HARD, m.Reason.LEVEL, m.Reason.JUMP, m.Reason.RATE, m.Reason.SATURATED}
    assert sum(tripped.values()) > WAVES // 2


@pytest.mark.parametrize(
    ("changes", "codes", "reason", "threshold"),
    [
        ({"hard_code": 900}, [5, 900], m.Reason.HARD, 900),
        ({"hard_code": 900}, [5, -32_767], m.Reason.SATURATED, 32_767),
        ({"level_code": 50, "level_n": 2}, [50, -50], m.Reason.LEVEL, 50),
        ({"jump_code": 300, "baseline_shift": 1}, [10, 10, 10, 310], m.Reason.JUMP, 300),
        ({"rate_code": 40, "rate_n": 2}, [0, 20, 40], m.Reason.RATE, 40),
    ],
)
def test_each_reason_of_the_detector_is_reported(
    changes: dict[str, Any], codes: list[int], reason: m.Reason, threshold: int
) -> None:
    desk = armed(**changes)
    index = desk.fe.sample_index + len(codes) - 1
    due = desk.fe.due_ticks + (len(codes) - 1) * desk.fe.period_ns
    assert desk.fe.run(np.array(codes, np.int16)) == len(codes)
    report = desk.last(m.TripReport)
    assert report == m.TripReport(
        trip_id=1,
        reason=reason,
        sample_index=index,
        ticks=due,
        code=codes[-1],
        threshold=threshold,
        baseline=report.baseline,
        switch_pin=0,
        box_n=len(codes) + 10,
        box_trip_at=len(codes) + 9,
    )
    status = desk.last(m.Status)
    assert (status.state, status.switch_pin, status.trip_reason) == (m.State.TRIPPED, 0, reason)


def test_the_status_tells_of_a_trip_by_itself() -> None:
    desk = armed(hard_code=900)
    desk.fe.step(900)
    assert [type(message) for message in desk.listen()] == [m.TripReport, m.Status]


def test_a_trip_of_the_host_is_obeyed_in_every_state_and_latches() -> None:
    desk = Desk()
    desk.say(m.Trip())
    assert desk.state() is m.State.TRIPPED
    assert desk.last(m.TripReport).reason is m.Reason.HOST
    desk.hello()
    desk.say(m.Trip())
    assert desk.last(m.TripReport).trip_id == 1, "said twice it is one trip"
    desk.fe.step(0)
    desk.fe.step(0)
    desk.put_back()
    assert desk.state() is m.State.SAFE
    desk.configure()
    desk.arm()
    desk.say(m.Trip())
    assert not desk.fe.closed
    assert desk.last(m.TripReport).trip_id == 2


def test_a_trip_of_the_host_is_heard_behind_half_a_frame() -> None:
    desk = armed()
    desk.fe.receive(b"\x05\x11\x22")
    desk.say(m.Trip())
    assert not desk.fe.closed


def test_the_first_cause_stays_the_trips() -> None:
    desk = armed(hard_code=900)
    desk.fe.step(900)
    desk.say(m.Trip())
    desk.fe.step(0, adc_fault=True)
    desk.fe.advance_to(desk.fe.now_ticks + 200_000_000, lambda _: 0.0)
    assert {report.reason for report in desk.all_of(m.TripReport)} == {m.Reason.HARD}
    assert desk.status().trip_reason is m.Reason.HARD


def test_a_stuck_switch_shows_over_the_reason_of_the_trip() -> None:
    desk = armed(hard_code=900)
    desk.fe.stick(stuck=True)
    desk.fe.step(900)
    desk.steps(2)
    assert desk.status().trip_reason is m.Reason.HARD
    desk.fe.step(0)
    status = desk.last(m.Status)
    assert (status.trip_reason, status.switch_pin, status.switch_sense) == (m.Reason.SWITCH_STUCK, 0, 1)
    assert desk.last(m.TripReport).reason is m.Reason.HARD


def test_a_switch_that_is_stuck_at_boot_is_told() -> None:
    desk = Desk()
    desk.fe.stick(stuck=True)
    desk.steps(3)
    assert desk.last(m.TripReport).reason is m.Reason.SWITCH_STUCK


def test_only_the_whole_way_leads_from_tripped_to_armed() -> None:
    desk = armed(hard_code=900)
    crc = desk.status().config_crc
    desk.fe.step(900)
    desk.steps(30)
    trip_id = desk.last(m.TripReport).trip_id
    for message, why in (
        (m.Arm(crc, 50, desk.fe.now_ticks + 1), m.Refusal.BOX_NOT_RELEASED),
        (m.Rearm(trip_id), m.Refusal.NOT_ACKNOWLEDGED),
        (m.AckTrip(trip_id + 1), m.Refusal.UNKNOWN_TRIP),
        (m.AckTrip(trip_id), m.Refusal.NONE),
        (m.Rearm(trip_id), m.Refusal.BOX_NOT_RELEASED),
        (m.BoxDone(trip_id + 1), m.Refusal.UNKNOWN_TRIP),
        (m.BoxDone(trip_id), m.Refusal.NONE),
        (m.Arm(crc, 51, desk.fe.now_ticks + 1), m.Refusal.STATE),
        (m.Lease(52, desk.fe.now_ticks + 1), m.Refusal.STATE),
        (m.Rearm(trip_id), m.Refusal.NONE),
    ):
        assert desk.state() is m.State.TRIPPED
        desk.say(message)
        assert desk.why() is why
    assert desk.state() is m.State.SAFE
    assert not desk.fe.closed
    desk.say(m.Rearm(trip_id))
    assert desk.why() is m.Refusal.STATE


def test_the_lease_is_renewed_again_and_again() -> None:
    desk = armed()
    for _ in range(20):
        desk.steps(3000)
        desk.lease()
    assert desk.fe.closed
    assert desk.status().lease_seq == desk.lease_seq
    deadline = desk.fe.now_ticks + 100_000_000
    desk.fe.advance_to(deadline + 10 * desk.fe.period_ns, lambda _: 0.0)
    assert deadline <= desk.fe.open_ticks <= deadline + desk.fe.period_ns


def test_a_box_is_read_in_parts_as_it_fills() -> None:
    desk = armed(series=False, pre_n=300, post_n=400, hard_code=30_000)
    numbers = count(1)
    desk.fe.run(np.array([next(numbers) for _ in range(1000)], np.int16))
    desk.fe.step(30_000)
    trip = desk.last(m.TripReport)
    assert (trip.box_n, trip.box_trip_at) == (301, 300)
    desk.say(m.BoxRead(trip.trip_id, 0, 701))
    assert [part.offset for part in desk.all_of(m.Box)] == [0]
    desk.fe.run(np.array([next(numbers) for _ in range(1000)], np.int16))
    parts = desk.all_of(m.Box)
    assert [part.offset for part in parts] == [0, 252, 504]
    codes = np.frombuffer(b"".join(part.codes for part in parts), "<i2")
    assert codes.tolist() == [*range(701, 1001), 30_000, *range(1001, 1401)]
    desk.fe.advance_to(desk.fe.now_ticks + 25_000_000, lambda _: 0.0)
    assert desk.last(m.TripReport).box_n == 701
    desk.forget()
    desk.say(m.BoxRead(trip.trip_id, 701, 10))
    assert desk.last(m.Box) == m.Box(trip.trip_id, 701, b"")
    desk.say(m.BoxRead(trip.trip_id + 1, 0, 10))
    assert desk.why() is m.Refusal.UNKNOWN_TRIP
    desk.say(m.BoxDone(trip.trip_id), m.BoxRead(trip.trip_id, 0, 10))
    assert desk.last(m.Box).codes == b""
