"""Trips: told once, where the bytes arrive; acknowledged until the device has heard; the host's own goes before all."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.instruments.actuators import CutActuator
from edge.instruments.frontend_actuator import FrontendActuator
from edge.instruments.frontend_line import MAX_UNSENT, FrontendLine
from edge.instruments.frontend_reader import TRIP_AGAIN_NS, TRIPS_SENT
from edge.instruments.frontend_values import SURGE_REASONS, FrontendError
from firmware_proto.frontend import messages
from firmware_proto.frontend.framing import TRIP_BYTES, Decoder, Frame, Side
from firmware_proto.frontend.message import Message
from firmware_proto.frontend.messages import Reason, State
from firmware_proto.frontend.session import HostSession
from tests.edge.instruments.frontend.frontend_desk import HOP_NS, Desk, needs_cc, on_desk, rig, section

pytestmark = needs_cc

SURGE_A = 8e-4


def surge(desk: Desk, after_ns: int = 7_350_000) -> int:
    """Let the current jump, for good; return when."""
    at_ns = desk.clock.now_ns() + after_ns
    desk.line.current_a = lambda t_ns: SURGE_A if t_ns >= at_ns else 2e-6
    return at_ns


def acknowledgements(desk: Desk) -> int:
    frames = Decoder(Side.DEVICE).feed(b"".join(desk.line.sent))
    return sum(isinstance(one, Frame) and one.id == messages.AckTrip.ID for one in frames)


class Without:
    """Loses the first ``times`` frames of one kind that are as ``such``, and no other."""

    def __init__(
        self, kind: type[Message], times: int, such: Callable[[Message], bool] = lambda _message: True
    ) -> None:
        self.kind = kind
        self.side = Side.HOST if kind.ID & 0x80 else Side.DEVICE
        self.left = times
        self.such = such

    def __call__(self, data: bytes) -> bytes:
        return b"".join(block + b"\0" for block in data.split(b"\0")[:-1] if not self._loses(block))

    def _loses(self, block: bytes) -> bool:
        said = [one.message for one in Decoder(self.side).feed(block + b"\0") if isinstance(one, Frame)]
        if not self.left or not any(isinstance(one, self.kind) and self.such(one) for one in said):
            return False
        self.left -= 1
        return True


def in_state(state: State) -> Callable[[Message], bool]:
    return lambda message: isinstance(message, messages.Status) and message.state == state


def test_a_surge_opens_at_its_sample_and_is_told_with_its_time(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        at_ns = surge(desk)
        await desk.sleep(0.1)
        (trip,) = desk.trips
        assert (trip.reason, trip.surge, trip.switch_closed, trip.reported) == (Reason.HARD, True, False, True)
        assert trip.current_a == pytest.approx(SURGE_A)
        assert trip.threshold_a == pytest.approx(5e-4)
        # The first sample at or after the surge, none later; told within what is stated, and no longer than the line.
        assert desk.line.opened_ns is not None
        assert at_ns <= desk.line.opened_ns < at_ns + 100_000
        assert abs(trip.t_ns - desk.line.opened_ns) <= trip.t_unc_ns < 300_000
        assert trip.t_rx_ns <= desk.line.opened_ns + 500_000 + HOP_NS
        assert not desk.closed()

    on_desk(rig(tmp_path), body)


def test_the_callback_runs_where_the_bytes_arrive(tmp_path: Path) -> None:
    stacks: list[list[str]] = []

    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.frontend.on_tripped = lambda _trip: stacks.append([frame.function for frame in inspect.stack()])
        surge(desk)
        await desk.sleep(0.1)
        assert "readable" in stacks[0]
        assert stacks[0].index("readable") < stacks[0].index("_arrive")

    on_desk(rig(tmp_path), body)


def test_the_cut_goes_before_the_acknowledgement(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        acknowledged: list[int] = []
        desk.frontend.on_tripped = lambda _trip: acknowledged.append(acknowledgements(desk))
        surge(desk)
        await desk.sleep(0.1)
        assert acknowledged == [0]
        assert acknowledgements(desk) == 1

    on_desk(rig(tmp_path), body)


def test_a_lost_acknowledgement_is_given_again_and_the_trip_told_once(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.line.to_device = lambda data: b"" if desk.trips and acknowledgements(desk) < 4 else data
        surge(desk)
        await desk.sleep(0.3)
        assert len(desk.trips) == 1
        assert acknowledgements(desk) == 4
        assert desk.frontend.session.counters.trips_again == 3

    on_desk(rig(tmp_path), body)


def test_a_report_that_is_lost_comes_again(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        at_ns = surge(desk)
        desk.line.to_host = Without(messages.TripReport, 1)
        await desk.sleep(0.1)
        (trip,) = desk.trips
        assert trip.trip_id == 1
        assert trip.t_rx_ns < at_ns + 40_000_000
        assert desk.frontend.trip_now is not None
        assert desk.frontend.trip_now.reported
        assert desk.frontend.trip_now.current_a == pytest.approx(SURGE_A)

    on_desk(rig(tmp_path), body)


def test_a_status_is_enough_to_know_of_a_trip(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        surge(desk)
        report = Without(messages.TripReport, 8)
        # The one STATUS at the change is lost as well: the next one is up to 100 ms late, and the trip was before it.
        status = Without(messages.Status, 1, in_state(State.TRIPPED))
        desk.line.to_host = lambda data: status(report(data))
        while not desk.trips:
            await desk.sleep(0.001)
        (trip,) = desk.trips
        assert (trip.reported, trip.reason, trip.surge) == (False, Reason.HARD, True)
        assert math.isnan(trip.current_a)
        assert desk.line.opened_ns is not None
        assert abs(trip.t_ns - desk.line.opened_ns) <= trip.t_unc_ns
        box = await desk.frontend.black_box(trip)
        assert box.trip.reported
        assert len(desk.trips) == 1

    on_desk(rig(tmp_path), body)


def test_a_trip_in_place_is_told_to_a_new_session(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        surge(desk)
        await desk.sleep(0.1)
        desk.frontend.trip_now = None
        desk.frontend.session = HostSession(99)
        await desk.frontend.connect()
        assert [trip.trip_id for trip in desk.trips] == [1, 1]
        box = await desk.frontend.black_box(desk.trips[1])
        assert box.current_a[box.trip_at] == pytest.approx(SURGE_A)
        await desk.frontend.release(desk.trips[1])
        await desk.frontend.rearm(desk.trips[1])
        assert desk.frontend.state == State.SAFE

    on_desk(rig(tmp_path), body)


def test_a_trip_while_arming_is_an_error_and_told(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        desk.line.current_a = lambda _t_ns: SURGE_A
        desk.line.to_host = Without(messages.Status, 99, in_state(State.ARMED))
        with pytest.raises(FrontendError, match="tripped while it was armed"):
            await desk.armed()
        assert len(desk.trips) == 1

    on_desk(rig(tmp_path), body)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"level_a": 1e-4, "level_n": 5}, Reason.LEVEL),
        ({"jump_a": 1e-4, "jump_ratio": 2.0, "baseline_s": 0.002}, Reason.JUMP),
        ({"rate_a": 1e-4, "rate_samples": 4}, Reason.RATE),
    ],
)
def test_each_test_that_is_asked_for_trips(tmp_path: Path, values: dict[str, float], reason: Reason) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        await desk.sleep(0.1)
        desk.line.current_a = lambda _t_ns: 3e-4
        await desk.sleep(0.05)
        assert [trip.reason for trip in desk.trips] == [reason]
        assert reason in SURGE_REASONS

    on_desk(rig(tmp_path, section(**values)), body)


# ----------------------------------------------------------------------------------------------------- the host's own


def test_a_trip_of_the_host_opens_and_is_sent_until_heard(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.line.to_device = Without(messages.Trip, 3)
        desk.well = False
        began_ns = desk.clock.now_ns()
        desk.frontend.trip()
        await desk.sleep(0.2)
        assert desk.line.opened_ns is not None
        assert desk.line.opened_ns <= began_ns + 3 * TRIP_AGAIN_NS + HOP_NS + 1_000_000
        assert [trip.reason for trip in desk.trips] == [Reason.HOST]
        assert not desk.trips[0].surge
        sent = sum(TRIP_BYTES in one for one in desk.line.sent)
        assert sent == 4

    on_desk(rig(tmp_path), body)


def test_a_device_that_hears_no_trip_is_opened_by_its_lease(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.line.to_device = Without(messages.Trip, 10 * TRIPS_SENT)
        began_ns = desk.clock.now_ns()
        desk.frontend.trip()
        # The control task goes on giving permissions, as it may until it knows.
        await desk.sleep(1.0)
        assert desk.line.opened_ns is not None
        assert desk.line.opened_ns <= began_ns + 100_000_000
        assert sum(TRIP_BYTES in one for one in desk.line.sent) <= TRIPS_SENT

    on_desk(rig(tmp_path), body)


def test_a_trip_that_nobody_hears_is_not_sent_for_ever(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        desk.line.cut = True
        desk.frontend.trip()
        await desk.sleep(2.0)
        assert sum(TRIP_BYTES in one for one in desk.line.sent) == TRIPS_SENT

    on_desk(rig(tmp_path), body)


def test_a_trip_that_nobody_heard_does_not_hinder_the_next_session(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.line.cut = True
        desk.frontend.trip()
        await desk.sleep(1.0)
        desk.core.reset()
        desk.line.cut = False
        await desk.frontend.connect()
        await desk.frontend.configure()
        await desk.frontend.arm()
        await desk.sleep(0.3)
        assert desk.closed()

    on_desk(rig(tmp_path), body)


def test_a_trip_goes_before_whatever_the_line_has_not_taken(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.well = False
        desk.line.room = 30
        desk.frontend._line.write(desk.frontend.session.read_box(1, 2, 3) * (MAX_UNSENT // 40))
        # The line stands in the middle of a frame, with a tenth of a second of others behind it.
        desk.frontend.trip()
        await desk.sleep(0.002)
        assert desk.state() == State.TRIPPED

    on_desk(rig(tmp_path), body)


def test_behind_the_queue_it_would_come_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrontendLine, "urgent", FrontendLine.write)

    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.well = False
        desk.line.room = 30
        desk.frontend._line.write(desk.frontend.session.read_box(1, 2, 3) * (MAX_UNSENT // 40))
        desk.frontend.trip()
        await desk.sleep(0.05)
        # 30 bytes per ms: the queue's own time, and the switch is closed all the while.
        assert desk.closed()

    on_desk(rig(tmp_path), body)


def test_without_a_session_a_trip_is_obeyed_too(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        desk.frontend.trip()
        await desk.sleep(0.01)
        assert desk.state() == State.TRIPPED

    on_desk(rig(tmp_path), body)


def test_a_switch_that_sticks_is_said(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.core.stick(stuck=True)
        surge(desk)
        await desk.sleep(0.2)
        assert desk.trips[0].reason == Reason.HARD
        assert desk.frontend.stuck
        assert desk.frontend.closed
        assert desk.frontend.describe()["stuck"]
        assert desk.statuses[-1].trip_reason == Reason.SWITCH_STUCK

    on_desk(rig(tmp_path), body)


# ------------------------------------------------------------------------------------------------------ the actuator


def test_the_actuator_cuts_waits_for_nothing_and_raises_nothing(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        actuator = FrontendActuator(desk.frontend, desk.clock, baud=921_600)
        as_any: CutActuator = actuator
        assert (as_any.name, as_any.cut_ns) == ("frontend", 0)
        as_any.cut()
        began_ns = as_any.cut_ns
        assert began_ns == desk.clock.now_ns()
        await desk.sleep(0.001)
        as_any.cut()
        assert as_any.cut_ns == began_ns
        await desk.sleep(0.01)
        assert not desk.closed()
        told = as_any.describe()
        assert (told["state"], told["closed"], told["lost"]) == ("TRIPPED", False, None)
        assert 200e-6 < actuator.within_s < 500e-6
        as_any.cut_over()
        assert as_any.cut_ns == 0
        desk.line.pull()
        as_any.cut()
        assert "is gone" in as_any.describe()["lost"]

    on_desk(rig(tmp_path), body)
