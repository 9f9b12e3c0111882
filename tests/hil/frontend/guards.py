"""What the front end protects the tip from: one function per check, each judged at the pin.

A function takes the library to try and raises AssertionError where the tip came to harm. test_frontend_guards.py runs
each on the firmware as it is, and on a firmware that has lost the check.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from firmware_proto.frontend import messages as m
from firmware_proto.frontend.vocabulary import WATCHDOG_MS
from hil.frontend.lockstep import MAX_LATE_NS
from tests.hil.frontend.desk import LEASE_NS, Desk, armed

WATCHDOG_NS = 1_000_000 * WATCHDOG_MS


def trips_in_the_sample_that_crosses(library: Path | None) -> None:
    desk = armed(library=library, hard_code=1000)
    crossing = desk.fe.sample_index + 7
    codes = np.zeros(20, np.int16)
    codes[7] = 1000
    assert desk.fe.run(codes) == 8
    assert not desk.fe.closed
    assert desk.fe.open_index == crossing
    assert desk.last(m.TripReport).sample_index == crossing


def opens_when_the_lease_ends(library: Path | None) -> None:
    desk = armed(library=library)
    deadline = desk.fe.now_ticks + LEASE_NS
    for _ in range(LEASE_NS // desk.fe.period_ns + 5):
        desk.fe.step(0)
        assert not desk.fe.closed or desk.fe.now_ticks < deadline
    assert deadline <= desk.fe.open_ticks <= deadline + desk.fe.period_ns
    assert desk.last(m.TripReport).reason is m.Reason.LEASE


def a_stalled_loop_does_not_stretch_a_lease(library: Path | None) -> None:
    """The first sample after a stall sees that time is up, though its own turn lay before the end."""
    desk = armed(library=library, lease_ns=3_000_000)
    first = desk.fe.sample_index
    desk.fe.stall(desk.fe.now_ticks + 4_000_000)
    desk.fe.step(0)
    assert desk.fe.open_index == first


def an_ended_lease_is_not_revived(library: Path | None) -> None:
    """A renewal that comes after the end, before a sample has seen the end."""
    desk = armed(library=library)
    desk.fe.stall(desk.fe.now_ticks + LEASE_NS + 1)
    desk.lease()
    assert not desk.fe.closed


def a_long_lease_is_refused(library: Path | None) -> None:
    desk = armed(library=library)
    end = desk.fe.now_ticks + LEASE_NS
    desk.lease(lease_ns=LEASE_NS + 1)
    assert desk.why() is m.Refusal.LEASE_TOO_LONG
    desk.fe.advance_to(end, lambda _: 0.0)
    assert not desk.fe.closed


def a_repeated_lease_is_refused(library: Path | None) -> None:
    """What a frame that hung in a queue, or a task that repeats itself, would renew."""
    desk = armed(library=library)
    end = desk.fe.now_ticks + LEASE_NS
    desk.steps(1000)
    desk.lease(seq=1)
    assert desk.why() is m.Refusal.LEASE_OLD
    desk.fe.advance_to(end, lambda _: 0.0)
    assert not desk.fe.closed


def a_past_deadline_closes_nothing(library: Path | None) -> None:
    desk = _ready(library)
    desk.arm(lease_ns=0)
    assert not desk.fe.closed
    assert desk.why() is m.Refusal.DEADLINE_PAST


def another_host_opens(library: Path | None) -> None:
    desk = armed(library=library)
    desk.hello(nonce=77)
    assert not desk.fe.closed
    assert desk.fe.state is m.State.TRIPPED
    assert desk.last(m.TripReport).reason is m.Reason.LEASE


def a_host_trips_without_a_session(library: Path | None) -> None:
    desk = armed(library=library)
    desk.session = 0
    desk.say(m.Trip())
    assert not desk.fe.closed
    assert desk.fe.state is m.State.TRIPPED


def a_stale_session_renews_nothing(library: Path | None) -> None:
    desk = armed(library=library)
    end = desk.fe.now_ticks + LEASE_NS
    desk.steps(1000)
    desk.say(m.Lease(2, desk.fe.now_ticks + LEASE_NS), session=desk.session ^ 1)
    assert desk.status().rx_stale == 1
    desk.fe.advance_to(end, lambda _: 0.0)
    assert not desk.fe.closed


def another_schema_does_not_arm(library: Path | None) -> None:
    desk = _ready(library)
    crc = desk.last(m.ConfigIs).config_crc
    desk.hello(schema_hash=m.SCHEMA_HASH ^ 1)
    assert desk.configure().result is m.Refusal.SCHEMA
    desk.arm(crc=crc)
    assert not desk.fe.closed
    assert desk.why() is m.Refusal.SCHEMA


def another_configuration_does_not_arm(library: Path | None) -> None:
    desk = _ready(library)
    desk.arm(crc=desk.last(m.ConfigIs).config_crc ^ 1)
    assert not desk.fe.closed
    assert desk.why() is m.Refusal.CONFIG


def no_configuration_does_not_arm(library: Path | None) -> None:
    """Another host's configuration is none."""
    desk = _ready(library)
    crc = desk.last(m.ConfigIs).config_crc
    desk.hello(nonce=99)
    desk.arm(crc=crc)
    assert not desk.fe.closed
    assert desk.why() is m.Refusal.CONFIG


def a_configuration_while_armed_is_refused(library: Path | None) -> None:
    desk = armed(library=library, hard_code=1000)
    assert desk.configure(hard_code=30_000).result is m.Refusal.STATE
    desk.fe.step(1000)
    assert not desk.fe.closed


def a_configuration_out_of_range_is_refused(library: Path | None) -> None:
    desk = _ready(library)
    assert desk.configure(pre_n=16_384).result is m.Refusal.BAD_VALUE
    assert desk.configure(hard_code=0).result is m.Refusal.BAD_VALUE
    assert desk.configure(hard_code=32_768).result is m.Refusal.BAD_VALUE
    assert desk.configure(baseline_shift=13).result is m.Refusal.BAD_VALUE
    assert desk.last(m.ConfigIs).hard_code == 20_000


def a_trip_latches(library: Path | None) -> None:
    desk = armed(library=library)
    desk.fe.step(30_000)
    desk.steps(40)
    crc = desk.status().config_crc
    trip_id = desk.last(m.TripReport).trip_id
    desk.say(m.Open(), m.AckTrip(trip_id), m.BoxDone(trip_id), m.Open())
    desk.arm(crc=crc)
    assert not desk.fe.closed
    assert desk.fe.state is m.State.TRIPPED


def a_rearm_needs_the_trip_acknowledged(library: Path | None) -> None:
    desk = armed(library=library)
    desk.fe.step(30_000)
    trip_id = desk.last(m.TripReport).trip_id
    desk.say(m.BoxDone(trip_id), m.Rearm(trip_id))
    assert desk.fe.state is m.State.TRIPPED
    assert desk.why() is m.Refusal.NOT_ACKNOWLEDGED


def a_rearm_needs_the_box_released(library: Path | None) -> None:
    desk = armed(library=library)
    desk.fe.step(30_000)
    trip_id = desk.last(m.TripReport).trip_id
    desk.say(m.AckTrip(trip_id), m.Rearm(trip_id))
    assert desk.fe.state is m.State.TRIPPED
    assert desk.why() is m.Refusal.BOX_NOT_RELEASED


def a_rearm_names_its_trip(library: Path | None) -> None:
    """One that was meant for the trip before leaves nothing."""
    desk = armed(library=library)
    desk.fe.step(30_000)
    trip_id = desk.last(m.TripReport).trip_id
    desk.say(m.AckTrip(trip_id), m.BoxDone(trip_id), m.Rearm(trip_id - 1))
    assert desk.fe.state is m.State.TRIPPED
    assert desk.why() is m.Refusal.UNKNOWN_TRIP


def a_silent_converter_opens(library: Path | None) -> None:
    desk = armed(library=library)
    index = desk.fe.sample_index
    desk.fe.step(0, adc_fault=True)
    assert not desk.fe.closed
    assert desk.fe.open_index == index
    assert desk.last(m.TripReport).reason is m.Reason.ADC_FAULT


def an_overrun_opens(library: Path | None) -> None:
    desk = armed(library=library)
    index = desk.fe.sample_index
    desk.fe.stall(desk.fe.due_ticks + MAX_LATE_NS + 1)
    desk.fe.step(0)
    assert not desk.fe.closed
    assert desk.fe.open_index == index
    assert desk.last(m.TripReport).reason is m.Reason.OVERRUN


def a_stuck_switch_is_told(library: Path | None) -> None:
    desk = armed(library=library)
    desk.fe.stick(stuck=True)
    desk.say(m.Open())
    opened = desk.fe.sample_index
    desk.steps(3)
    assert desk.fe.state is m.State.TRIPPED
    report = desk.last(m.TripReport)
    assert (report.reason, report.sample_index) == (m.Reason.SWITCH_STUCK, opened + 1)


def a_stuck_switch_does_not_rearm(library: Path | None) -> None:
    desk = armed(library=library)
    desk.fe.stick(stuck=True)
    desk.fe.step(30_000)
    desk.steps(50)
    desk.put_back()
    assert desk.fe.state is m.State.TRIPPED
    assert desk.status().trip_reason is m.Reason.SWITCH_STUCK


def a_hanging_firmware_is_reset(library: Path | None) -> None:
    desk = armed(library=library)
    since = desk.fe.now_ticks
    desk.fe.freeze()
    desk.fe.advance_to(since + WATCHDOG_NS + desk.fe.period_ns, lambda _: 1.0)
    assert not desk.fe.closed
    assert desk.fe.open_ticks <= since + WATCHDOG_NS
    assert desk.fe.resets == 1
    assert desk.hello().reset_cause is m.ResetCause.WATCHDOG


def dead_samples_are_reset(library: Path | None) -> None:
    """The main loop lives and would go on kicking."""
    desk = armed(library=library)
    since = desk.fe.now_ticks
    desk.fe.stop_samples()
    while desk.fe.now_ticks < since + WATCHDOG_NS + desk.fe.period_ns:
        desk.fe.step(0)
    assert not desk.fe.closed
    assert desk.fe.resets == 1


def a_trip_is_told_until_it_is_acknowledged(library: Path | None) -> None:
    desk = armed(library=library)
    desk.fe.step(30_000)
    desk.fe.take()  # lost on the line
    desk.fe.advance_to(desk.fe.now_ticks + 61_000_000, lambda _: 0.0)
    reports = desk.all_of(m.TripReport)
    assert len(reports) == 3
    desk.say(m.AckTrip(reports[0].trip_id))
    desk.forget()
    desk.fe.advance_to(desk.fe.now_ticks + 100_000_000, lambda _: 0.0)
    assert not desk.all_of(m.TripReport)


def a_trip_passes_what_streams(library: Path | None) -> None:
    """The line has been slow and blocks are waiting: the report goes before all of them."""
    desk = armed(library=library, stream=m.Stream.FULL)
    desk.say(m.Credit(1000))
    desk.forget()
    desk.fe.line_room = 0
    desk.steps(3000)
    desk.fe.step(30_000)
    desk.fe.line_room = 1 << 20
    desk.fe.step(0)
    kinds = [type(message) for message in desk.listen()]
    assert len(kinds) > 5
    # One frame was on its way already, and a frame is never torn.
    assert kinds.index(m.TripReport) <= 1


def nothing_streams_without_credit(library: Path | None) -> None:
    desk = _ready(library)
    desk.configure(stream=m.Stream.FULL)
    desk.say(m.Credit(2))
    desk.fe.run(np.zeros(20_000, np.int16))
    assert len(desk.all_of(m.Samples)) == 2
    assert desk.status().drop_no_credit > 0


def the_box_is_kept(library: Path | None) -> None:
    desk = armed(library=library, pre_n=50, post_n=20, series=False)
    desk.fe.run(np.arange(1, 61, dtype=np.int16))
    desk.fe.step(30_000)
    desk.fe.run(np.arange(100, 20_000, dtype=np.int16))
    trip = desk.last(m.TripReport)
    assert (trip.box_n, trip.box_trip_at) == (71, 50)
    desk.say(m.BoxRead(trip.trip_id, 0, 71))
    codes = np.frombuffer(b"".join(part.codes for part in desk.all_of(m.Box)), "<i2")
    assert codes.tolist() == [*range(11, 61), 30_000, *range(100, 120)]


def a_reset_opens(library: Path | None) -> None:
    desk = armed(library=library)
    desk.fe.reset()
    assert not desk.fe.closed
    assert desk.fe.state is m.State.SAFE


def an_open_opens(library: Path | None) -> None:
    desk = armed(library=library)
    desk.say(m.Open())
    assert not desk.fe.closed
    assert desk.fe.state is m.State.SAFE


def _ready(library: Path | None) -> Desk:
    desk = Desk(library=library)
    desk.hello()
    assert desk.configure().result is m.Refusal.NONE
    desk.steps(10)
    return desk
