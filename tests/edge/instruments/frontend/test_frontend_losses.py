"""A front end's line that fails: gone, silent, lossy, slow, babbling; and a device that starts anew behind it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from edge.errors import LinkLostError, ReplyTimeoutError
from edge.instruments.frontend_line import MAX_UNSENT
from edge.instruments.frontend_reader import PINGS_OUT, SILENT_S
from edge.instruments.frontend_values import (
    FrontendError,
    FrontendSilentError,
)
from firmware_proto.frontend.messages import Reason
from hil.frontend.lockstep import LockstepFrontend
from tests.edge.instruments.frontend.frontend_desk import SAMPLE_HZ, Desk, needs_cc, on_desk, rig

pytestmark = needs_cc

# --------------------------------------------------------------------------------------------------- a line that fails


def test_a_mute_port_is_given_up_with_what_to_look_at(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        desk.line.cut = True
        with pytest.raises(ReplyTimeoutError, match=r"did not answer HELLO in 2 s; is it powered"):
            await desk.frontend.connect()
        desk.line.cut = False
        await desk.frontend.connect()
        assert desk.connected()

    on_desk(rig(tmp_path), body)


def test_a_line_that_is_gone_is_told_at_once_and_for_good(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.line.pull()
        assert [type(one) for one in desk.lost] == [LinkLostError]
        assert not desk.connected()
        assert "is gone" in desk.frontend.lost_because
        with pytest.raises(LinkLostError):
            await desk.frontend.open()
        with pytest.raises(LinkLostError):
            await desk.frontend.connect()
        desk.frontend.trip()
        await desk.sleep(1.0)
        assert len(desk.lost) == 1

    on_desk(rig(tmp_path), body)


def test_whoever_waits_is_told_of_a_line_that_is_gone(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        desk.clock.call_at(desk.clock.now_ns() + 100_000, desk.line.pull)
        with pytest.raises(LinkLostError):
            await desk.frontend.configure()

    on_desk(rig(tmp_path), body)


def test_silence_is_told_once_and_a_new_session_heals_it(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        await desk.sleep(0.2)
        began_ns = desk.clock.now_ns()
        desk.line.cut = True
        while not desk.lost:
            await desk.sleep(0.01)
        assert SILENT_S - 0.1 < (desk.clock.now_ns() - began_ns) / 1e9 < SILENT_S + 0.1
        assert isinstance(desk.lost[0], FrontendSilentError)
        assert desk.frontend.lost_because == "nothing heard for 0.35 s"
        await desk.sleep(2.0)
        assert len(desk.lost) == 1
        desk.line.cut = False
        await desk.frontend.connect()
        assert desk.connected()
        # The lease ran out meanwhile, which the new session learns of.
        assert [trip.reason for trip in desk.trips] == [Reason.LEASE]
        desk.line.cut = True
        await desk.sleep(1.0)
        assert len(desk.lost) == 2

    on_desk(rig(tmp_path), body)


def test_a_process_that_stood_still_takes_its_own_silence_for_none(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        # A turn that is due, and comes 2 s late, before the reader had one.
        desk.frontend._heard_ns = desk.clock.now_ns() - 2_000_000_000
        desk.frontend._due_ns = desk.clock.now_ns() - 2_000_000_000
        desk.frontend._turn()
        assert not desk.lost
        assert desk.frontend.stalls == 1
        await desk.sleep(0.3)
        assert not desk.lost

    on_desk(rig(tmp_path), body)


def test_babble_is_no_sign_of_life(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        desk.line.to_host = lambda data: b"\x05" * len(data) + b"\0"
        await desk.sleep(0.6)
        assert [type(one) for one in desk.lost] == [FrontendSilentError]

    on_desk(rig(tmp_path), body)


def test_what_the_line_does_not_take_is_bounded_and_no_ping_waits_in_it(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        line, session = desk.frontend._line, desk.frontend.session
        desk.line.room = 0
        line.write(session.get_status())
        token = desk.frontend._token
        await desk.sleep(2.0)
        # An answer to a question that had waited would only say that it had.
        assert desk.frontend._token == token
        for _ in range(1000):
            line.write(session.get_status())
        assert line.backlog <= MAX_UNSENT
        assert line.dropped > 500
        assert desk.frontend.describe()["host"]["unsent"] == line.dropped
        desk.line.room = None
        await desk.sleep(0.5)
        assert line.backlog == 0
        assert desk.frontend._token > token

    on_desk(rig(tmp_path), body)


def test_questions_of_the_time_that_stay_unanswered_are_forgotten(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        desk.line.to_device = lambda _data: b""
        await desk.sleep(20.0)
        assert desk.frontend.connected
        assert len(desk.frontend._pings) <= PINGS_OUT

    on_desk(rig(tmp_path), body)


@pytest.mark.parametrize("seed", range(3))
def test_a_line_that_loses_a_fifth_of_everything_gets_there(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)

    def lossy(data: bytes) -> bytes:
        return b"" if rng.random() < 0.2 else data

    async def body(desk: Desk) -> None:
        desk.line.to_device = desk.line.to_host = lossy
        await desk.armed()
        assert desk.closed()
        await desk.frontend.open()
        assert not desk.closed()
        assert desk.frontend.describe()["host"]["gaps"] > 0

    on_desk(rig(tmp_path), body)


def test_a_line_that_takes_few_bytes_at_a_time_gets_them_all_in_order(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        desk.line.room = 7
        await desk.frontend.connect()
        await desk.frontend.configure()
        assert desk.frontend.in_force is not None
        assert desk.frontend.describe()["device"]["rx_bad_crc"] == 0

    on_desk(rig(tmp_path), body)


# ---------------------------------------------------------------------------------------------------------- reboots


def test_a_reboot_is_told_once_and_ends_the_session(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        await desk.sleep(0.3)
        desk.core.reset()
        await desk.sleep(0.3)
        assert len(desk.rebooted) == 1
        assert not desk.connected()
        assert "started anew" in desk.frontend.lost_because
        with pytest.raises(FrontendError, match="rebooted"):
            await desk.frontend.open()
        assert not desk.closed()
        await desk.frontend.connect()
        assert len(desk.rebooted) == 1
        assert desk.connected()
        # Its time began anew, and so does what is known of it.
        assert desk.frontend.time is not None
        assert desk.frontend.time.slips == 0
        await desk.frontend.configure()
        await desk.frontend.arm()
        assert desk.closed()

    on_desk(rig(tmp_path), body)


@pytest.mark.parametrize("heard", [True, False])
def test_the_time_of_another_boot_is_none_of_this_one(tmp_path: Path, heard: bool) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.line.current_a = lambda _t_ns: 1e-3
        await desk.sleep(0.3)
        assert len(desk.trips) == 1
        desk.line.cut = not heard
        desk.core = LockstepFrontend(sample_hz=SAMPLE_HZ, boot_nonce=77, start_ns=5)
        desk.line.restart(desk.core)
        desk.line.current_a = lambda _t_ns: 0.0
        await desk.sleep(0.3)
        desk.line.cut = False
        await desk.frontend.connect()
        assert desk.frontend.trip_now is None
        assert desk.frontend.time is not None
        stated_ns, unc_ns = desk.frontend.time.to_host(desk.core.now_ticks)
        assert abs(stated_ns - desk.clock.now_ns()) <= unc_ns < 300_000
        assert desk.frontend.time.slips == 0
        assert len(desk.rebooted) == 1

    on_desk(rig(tmp_path), body)


def test_a_reboot_in_a_silence_is_known_by_the_next_session(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.line.cut = True
        await desk.sleep(0.5)
        desk.core.reset()
        await desk.sleep(0.1)
        desk.line.cut = False
        await desk.frontend.connect()
        assert len(desk.rebooted) == 1
        assert desk.frontend.session.counters.reboots == 1

    on_desk(rig(tmp_path), body)


def test_a_frozen_device_is_a_silent_one(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.core.freeze()
        await desk.sleep(1.0)
        assert len(desk.lost) + len(desk.rebooted) >= 1
        assert not desk.connected()

    on_desk(rig(tmp_path), body)
