"""Permission to energise: made by the control task, dated, used once.

The front end opens its switch when its lease is over. Who renews it must know that the controller is well; a timer or a
reader that goes on by itself while the control task hangs would keep the bias on with nobody at the wheel. So a
renewal takes a :class:`Permission`, and only the task that adopted :class:`Permissions` can have one issued. The
deadline stands in it: forwarded late, or twice, it lengthens nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Final

from edge.clock import Clock
from edge.config_frontend import LEASE_MAX_S
from edge.errors import InterlockError

KEPT: Final = 4
"""Permissions out at a time; an older one that nobody used is void."""


class LeaseRefusedError(InterlockError):
    """No permission to energise: nobody may give it here, or it is used, over, or too long. ``reason``: ``lease``."""

    reason = "lease"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Permission:
    """The control task was well when this was made. Not to be made by hand: only an issued one is redeemed.

    ``until_ns``: CLOCK_MONOTONIC at which the permission ends, whoever brings it when.
    """

    until_ns: int


class Permissions:
    """Issues permissions to the task that adopted it; anybody may redeem one, once."""

    def __init__(self, clock: Clock, lease_s: float) -> None:
        """``lease_s``: how long a permission lasts, 0 < s <= LEASE_MAX_S; raises ValueError beyond that."""
        if not 0 < lease_s <= LEASE_MAX_S:
            raise ValueError(f"lease_s {lease_s!r}: expected more than 0, at most {LEASE_MAX_S:g} s")
        self.lease_ns = int(lease_s * 1e9)
        self._clock = clock
        self._owner: asyncio.Task[object] | None = None
        self._out: list[Permission] = []

    def adopt(self) -> None:
        """Make the running task the one that may issue, until it ends; raises LeaseRefusedError where another is."""
        task = _running_task()
        if task is None:
            raise LeaseRefusedError("permissions belong to a task; there is none here, only a callback of the loop")
        if self._owner is not None and self._owner is not task and not self._owner.done():
            raise LeaseRefusedError(f"permissions belong to {self._owner.get_name()}, which is still running")
        self._owner = task

    def issue(self) -> Permission:
        """Return a permission from now on for ``lease_s``; call it where the controller is known to be well.

        Raises LeaseRefusedError anywhere but in the task that adopted this.
        """
        if self._owner is None or _running_task() is not self._owner:
            raise LeaseRefusedError("only the control task gives permission to energise, and this is not it")
        permission = Permission(self._clock.now_ns() + self.lease_ns)
        self._out = [*self._out[1 - KEPT :], permission]
        return permission

    def redeem(self, permission: Permission) -> int:
        """Take a permission for good and return its end, CLOCK_MONOTONIC in ns.

        Raises LeaseRefusedError for one that was not issued here, was used before, or is over.
        """
        if not any(one is permission for one in self._out):
            raise LeaseRefusedError("this permission was not given by the control task, or was used before")
        self._out = [one for one in self._out if one is not permission]
        left_ns = permission.until_ns - self._clock.now_ns()
        if left_ns <= 0:
            raise LeaseRefusedError(f"this permission ended {-left_ns / 1e6:.3g} ms ago")
        if left_ns > self.lease_ns:
            raise LeaseRefusedError(f"a permission for {left_ns / 1e6:.3g} ms; at most {self.lease_ns / 1e6:g} ms")
        return permission.until_ns


def _running_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
