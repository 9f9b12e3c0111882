"""Permission to energise: only the control task gives it, it is used once, and it ends when it says."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
from collections.abc import Awaitable, Callable

import pytest

from edge.errors import InterlockError
from edge.instruments.lease import KEPT, LeaseRefusedError, Permission, Permissions
from hil.virtual import VirtualClock, run_virtual

LEASE_S = 0.1


def in_virtual_time(body: Callable[[VirtualClock, Permissions], Awaitable[None]]) -> None:
    async def main(clock: VirtualClock) -> None:
        await body(clock, Permissions(clock, LEASE_S))

    run_virtual(main)


def test_the_control_task_issues_and_anybody_redeems_once() -> None:
    async def body(clock: VirtualClock, permissions: Permissions) -> None:
        permissions.adopt()
        permission = permissions.issue()
        assert permissions.redeem(permission) == clock.now_ns() + 100_000_000
        with pytest.raises(LeaseRefusedError, match="used before"):
            permissions.redeem(permission)

    in_virtual_time(body)


def test_another_task_cannot_issue() -> None:
    async def body(_clock: VirtualClock, permissions: Permissions) -> None:
        permissions.adopt()

        async def reader() -> None:
            permissions.issue()

        with pytest.raises(LeaseRefusedError, match="only the control task"):
            await asyncio.create_task(reader())
        assert issubclass(LeaseRefusedError, InterlockError)

    in_virtual_time(body)


def test_a_callback_of_the_loop_cannot_issue_nor_adopt() -> None:
    # A reader runs where the poll returned, a timer in the loop: neither is a task.
    async def body(clock: VirtualClock, permissions: Permissions) -> None:
        permissions.adopt()
        told: list[str] = []

        def reader() -> None:
            for attempt in (permissions.issue, permissions.adopt):
                with pytest.raises(LeaseRefusedError):
                    attempt()
                told.append(attempt.__name__)

        clock.call_at(clock.now_ns() + 1, reader)
        await clock.sleep_until(clock.now_ns() + 10)
        assert told == ["issue", "adopt"]

    in_virtual_time(body)


def test_nobody_takes_over_while_the_control_task_lives() -> None:
    async def body(_clock: VirtualClock, permissions: Permissions) -> None:
        async def control(stop: asyncio.Event) -> None:
            permissions.adopt()
            permissions.adopt()
            await stop.wait()

        stop = asyncio.Event()
        task = asyncio.create_task(control(stop), name="control")
        await asyncio.sleep(0)
        with pytest.raises(LeaseRefusedError, match="belong to control, which is still running"):
            permissions.adopt()
        stop.set()
        await task
        permissions.adopt()
        assert permissions.redeem(permissions.issue()) > 0

    in_virtual_time(body)


def test_nobody_issues_before_it_was_adopted() -> None:
    async def body(_clock: VirtualClock, permissions: Permissions) -> None:
        with pytest.raises(LeaseRefusedError):
            permissions.issue()

    in_virtual_time(body)


def test_outside_of_a_loop_nobody_issues() -> None:
    permissions = Permissions(VirtualClock(), LEASE_S)
    for attempt in (permissions.adopt, permissions.issue):
        with pytest.raises(LeaseRefusedError):
            attempt()


def test_a_permission_made_by_hand_is_none() -> None:
    async def body(clock: VirtualClock, permissions: Permissions) -> None:
        permissions.adopt()
        issued = permissions.issue()
        with pytest.raises(LeaseRefusedError, match="not given by the control task"):
            permissions.redeem(Permission(issued.until_ns))
        with pytest.raises(LeaseRefusedError, match="not given by the control task"):
            permissions.redeem(Permission(clock.now_ns() + 10**12))
        with pytest.raises(LeaseRefusedError, match="not given by the control task"):
            Permissions(clock, LEASE_S).redeem(issued)

    in_virtual_time(body)


def test_its_end_cannot_be_moved() -> None:
    async def body(_clock: VirtualClock, permissions: Permissions) -> None:
        permissions.adopt()
        issued = permissions.issue()
        with pytest.raises(dataclasses.FrozenInstanceError):
            issued.until_ns += 1  # type: ignore[misc]
        # Not by those either who know how a dataclass can be moved.
        object.__setattr__(issued, "until_ns", issued.until_ns + 10**9)
        with pytest.raises(LeaseRefusedError, match="at most 100 ms"):
            permissions.redeem(issued)

    in_virtual_time(body)


def test_it_ends_whoever_brings_it_when() -> None:
    async def body(clock: VirtualClock, permissions: Permissions) -> None:
        permissions.adopt()
        early, late = permissions.issue(), permissions.issue()
        await clock.sleep_until(clock.now_ns() + 99_999_999)
        assert permissions.redeem(early) == clock.now_ns() + 1
        await clock.sleep_until(clock.now_ns() + 1)
        with pytest.raises(LeaseRefusedError, match=r"ended 0 ms ago"):
            permissions.redeem(late)

    in_virtual_time(body)


def test_a_hoard_of_permissions_is_worth_the_last_few() -> None:
    async def body(_clock: VirtualClock, permissions: Permissions) -> None:
        permissions.adopt()
        hoard = [permissions.issue() for _ in range(KEPT + 3)]
        gc.collect()
        for one in hoard[:3]:
            with pytest.raises(LeaseRefusedError):
                permissions.redeem(one)
        assert [permissions.redeem(one) for one in hoard[3:]] == [one.until_ns for one in hoard[3:]]

    in_virtual_time(body)


@pytest.mark.parametrize("lease_s", [0.0, -1.0, 0.1001, 3600.0, float("nan")])
def test_a_lease_beyond_the_damage_budget_is_not_made(lease_s: float) -> None:
    with pytest.raises(ValueError, match="lease_s"):
        Permissions(VirtualClock(), lease_s)
