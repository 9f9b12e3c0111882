"""The lease on the real firmware core: what a control task that hangs costs, and that no I/O task can pay it."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from edge.instruments import frontend as driver
from edge.instruments.device_time import DeviceTime
from edge.instruments.frontend_values import FrontendError, FrontendRefusedError
from edge.instruments.lease import LeaseRefusedError, Permission, Permissions
from firmware_proto.frontend.messages import Reason, Refusal, State
from firmware_proto.frontend.session import Event, RefusedByDevice
from tests.edge.instruments.frontend.frontend_desk import Desk, needs_cc, on_desk, rig, section

pytestmark = needs_cc

PERIOD_NS = 100_000
"""Of a sample at 10 kS/s."""
TURN_NS = 20_000_000


def test_it_stays_closed_as_long_as_the_control_task_renews(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        await desk.sleep(1.0)
        assert desk.closed()
        assert desk.frontend.armed
        assert not desk.trips

    on_desk(rig(tmp_path), body)


@pytest.mark.parametrize("lease_s", [0.1, 0.06])
def test_a_control_task_that_hangs_opens_it_at_the_end_of_its_last_permission(tmp_path: Path, lease_s: float) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        await desk.sleep(0.3)
        desk.well = False
        last_ns = desk.frontend.lease_until_ns
        assert desk.clock.now_ns() < last_ns <= desk.clock.now_ns() + lease_s * 1e9
        await desk.sleep(0.25)
        assert not desk.closed()
        assert desk.line.opened_ns is not None
        # At the end of the lease, one sample late at most; and early by what the time is not known, not by more.
        assert last_ns - 1_000_000 <= desk.line.opened_ns <= last_ns + PERIOD_NS
        (trip,) = desk.trips
        assert trip.reason == Reason.LEASE
        assert not trip.surge

    on_desk(rig(tmp_path, section(lease_s=lease_s)), body)


def test_a_cut_cable_opens_it_at_the_end_of_its_last_lease(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        await desk.sleep(0.3)
        desk.line.cut = True
        heard_ns = desk.frontend.lease_until_ns
        await desk.sleep(0.25)
        assert desk.line.opened_ns is not None
        assert desk.line.opened_ns <= heard_ns + PERIOD_NS
        assert not desk.closed()

    on_desk(rig(tmp_path), body)


def test_the_device_never_holds_a_lease_longer_than_the_permission_over_the_worst_of_lines(tmp_path: Path) -> None:
    # Slow there and quick back: the middle of a round trip is off by 4 ms, and the lease must not be longer for it.
    async def body(desk: Desk) -> None:
        desk.line.down_ns, desk.line.up_ns = 8_000_000, 100_000
        await desk.armed()
        await desk.sleep(0.5)
        desk.well = False
        last_ns = desk.frontend.lease_until_ns
        await desk.sleep(0.3)
        assert desk.line.opened_ns is not None
        assert desk.line.opened_ns <= last_ns + PERIOD_NS

    on_desk(rig(tmp_path), body)


def test_without_the_uncertainty_it_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def naive(self: DeviceTime, t_ns: int) -> int:
        newest = self._kept[-1]
        host_ns, _ = self.to_host(newest.ticks)
        return newest.ticks + t_ns - host_ns

    monkeypatch.setattr(DeviceTime, "ticks_before", naive)

    async def body(desk: Desk) -> None:
        desk.line.down_ns, desk.line.up_ns = 8_000_000, 100_000
        await desk.armed()
        await desk.sleep(0.5)
        desk.well = False
        last_ns = desk.frontend.lease_until_ns
        await desk.sleep(0.3)
        assert desk.line.opened_ns is not None
        assert desk.line.opened_ns > last_ns + 2_000_000

    on_desk(rig(tmp_path), body)


# ------------------------------------------------------------------------------------- no I/O task renews on its own


class Careless(Permissions):
    """Permissions that anybody may issue: what this would be without its check."""

    def issue(self) -> Permission:
        permission = Permission(self._clock.now_ns() + self.lease_ns)
        self._out = [permission]
        return permission


def _renew_from_a_timer(desk: Desk, permissions: Permissions, refused: list[str]) -> None:
    """Renew each 20 ms from a timer of the loop, as an I/O task would that is not told of the control task's end."""

    def turn() -> None:
        try:
            desk.frontend.renew(permissions.issue())
        except LeaseRefusedError as error:
            refused.append(error.reason)
        desk.clock.call_at(desk.clock.now_ns() + TURN_NS, turn)

    turn()


def test_a_timer_cannot_go_on_renewing_for_a_control_task_that_hangs(tmp_path: Path) -> None:
    refused: list[str] = []

    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.well = False
        _renew_from_a_timer(desk, desk.permissions, refused)
        await desk.sleep(0.3)
        assert not desk.closed()
        assert len(refused) > 10

    on_desk(rig(tmp_path), body)


def test_without_that_check_it_could_and_the_switch_stays_closed(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        careless = Careless(desk.clock, 0.1)
        desk.frontend._redeem = careless.redeem
        await desk.frontend.connect()
        await desk.frontend.configure()
        _renew_from_a_timer(desk, careless, [])
        await desk.frontend.arm()
        # No control task at all, and it is closed for good.
        await desk.sleep(2.0)
        assert desk.closed()

    on_desk(rig(tmp_path), body)


def test_a_permission_that_was_kept_does_not_lengthen_anything(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.well = False
        await desk.sleep(0.02)
        kept: list[Permission] = []

        async def control() -> None:
            desk.permissions.adopt()
            kept.append(desk.permissions.issue())

        if desk._control is not None:
            desk._control.cancel()
        await desk.sleep(0.001)
        await asyncio.create_task(control())
        until_ns = kept[0].until_ns
        await desk.sleep(0.05)
        desk.frontend.renew(kept[0])
        with pytest.raises(LeaseRefusedError):
            desk.frontend.renew(kept[0])
        await desk.sleep(0.2)
        assert desk.line.opened_ns is not None
        assert desk.line.opened_ns <= until_ns + PERIOD_NS

    on_desk(rig(tmp_path), body)


def test_nothing_closes_without_the_control_task(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        await desk.frontend.configure()
        with pytest.raises(LeaseRefusedError, match="gave no permission"):
            await desk.frontend.arm()
        assert desk.core.opens == 0
        assert not desk.closed()

    on_desk(rig(tmp_path), body)


def test_a_renewal_while_nobody_arms_closes_nothing(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        await desk.frontend.configure()
        desk.control()
        await desk.sleep(0.5)
        assert desk.frontend.state == State.SAFE
        assert not desk.closed()
        assert desk.frontend.lease_until_ns == 0

    on_desk(rig(tmp_path), body)


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("beyond_ns", [1_000_000, 10**9, 10**15])
def test_the_device_itself_refuses_a_longer_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beyond_ns: int
) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        refused: list[Refusal] = []

        def bring(event: Event) -> None:
            if isinstance(event, RefusedByDevice):
                refused.append(event.message.why)

        monkeypatch.setattr(desk.frontend._asking, "bring", bring)
        desk.well = False
        await desk.sleep(0.03)
        # Past all of the host's own checks.
        desk.frontend._line.write(desk.frontend.session.lease(desk.core.now_ticks + 100_000_000 + beyond_ns))
        await desk.sleep(0.3)
        assert refused == [Refusal.LEASE_TOO_LONG]
        assert not desk.closed()

    on_desk(rig(tmp_path), body)


@pytest.mark.parametrize(("hop_ns", "lease_s"), [(40_000_000, 0.1), (8_000_000, 0.04)])
def test_a_time_that_is_hardly_known_is_no_base_for_a_lease(tmp_path: Path, hop_ns: int, lease_s: float) -> None:
    async def body(desk: Desk) -> None:
        desk.line.down_ns = desk.line.up_ns = hop_ns
        await desk.frontend.connect()
        await desk.frontend.configure()
        desk.control()
        with pytest.raises(FrontendError, match=r"known to .* ms only"):
            await desk.frontend.arm()
        assert not desk.closed()

    on_desk(rig(tmp_path, section(lease_s=lease_s)), body)


@pytest.mark.parametrize(("hop_ns", "lease_s"), [(30_000_000, 0.1), (2_000_000, 0.04)])
def test_on_a_slow_line_it_stays_closed_on_what_is_left(tmp_path: Path, hop_ns: int, lease_s: float) -> None:
    async def body(desk: Desk) -> None:
        desk.line.down_ns = desk.line.up_ns = hop_ns
        await desk.armed()
        await desk.sleep(1.0)
        assert desk.closed()

    on_desk(rig(tmp_path, section(lease_s=lease_s)), body)


def test_a_device_that_refuses_arm_says_why(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        await desk.frontend.configure()
        desk.control()
        # Whatever the host believes to be in force, the device compares.
        config = desk.frontend.session.config
        assert config is not None
        desk.frontend.session.config = dataclasses.replace(config, config_crc=1)
        with pytest.raises(FrontendRefusedError, match="refuses ARM: another configuration is in force") as caught:
            await desk.frontend.arm()
        assert caught.value.why == Refusal.CONFIG
        assert not desk.closed()

    on_desk(rig(tmp_path), body)


def test_a_latched_trip_is_not_armed_over(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.frontend.connect()
        await desk.frontend.configure()
        desk.control()
        desk.frontend.trip()
        await desk.sleep(0.05)
        with pytest.raises(FrontendError, match=r"tripped \(HOST\); rearm comes first"):
            await desk.frontend.arm()
        # Nor where the host has forgotten it.
        desk.frontend.trip_now = None
        desk.frontend.on_status = lambda _status: setattr(desk.frontend, "trip_now", None)
        with pytest.raises(FrontendRefusedError) as caught:
            await desk.frontend.arm()
        assert caught.value.why == Refusal.BOX_NOT_RELEASED
        await desk.frontend.release(desk.trips[0])
        with pytest.raises(FrontendRefusedError) as caught:
            await desk.frontend.arm()
        assert caught.value.why == Refusal.STATE

    on_desk(rig(tmp_path), body)


def test_a_renewal_takes_its_permission_even_where_it_can_do_nothing(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        desk.permissions.adopt()
        permission = desk.permissions.issue()
        desk.frontend.renew(permission)
        assert desk.line.sent == []
        with pytest.raises(LeaseRefusedError):
            desk.frontend.renew(permission)

    on_desk(rig(tmp_path), body)


@pytest.mark.parametrize("skew", [-500e-6, 500e-6])
def test_a_device_whose_clock_runs_fast_or_slow_stays_closed_too(tmp_path: Path, skew: float) -> None:
    # On a line so quick that a whole lease of the host would be more than a whole one of the device.
    async def body(desk: Desk) -> None:
        desk.line.skew = skew
        desk.line.down_ns = desk.line.up_ns = 1_000
        await desk.armed()
        await desk.sleep(4.0)
        assert desk.frontend.time is not None
        assert desk.frontend.time.describe()["rate_ppm"] == pytest.approx(-skew * 1e6, abs=20)
        assert desk.closed()
        assert not desk.trips

    on_desk(rig(tmp_path), body)


def test_without_the_guard_the_device_would_find_it_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "LEASE_GUARD_NS", 0)

    async def body(desk: Desk) -> None:
        desk.line.skew = 500e-6
        desk.line.down_ns = desk.line.up_ns = 1_000
        await desk.armed()
        await desk.sleep(4.0)
        assert [trip.reason for trip in desk.trips] == [Reason.LEASE]

    on_desk(rig(tmp_path), body)
