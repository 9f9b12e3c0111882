"""Time, injected: everything that waits or reads time does so through a :class:`Clock`.

The same code then runs on pseudo-terminals in real time and in memory in virtual time (``hil.virtual``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class TimerHandle(Protocol):
    """A pending call that can be taken back."""

    def cancel(self) -> None:
        """Forget the call; a no-op once it ran."""


class Clock(Protocol):
    """Monotonic time in nanoseconds, and calls at a time."""

    def now_ns(self) -> int:
        """Return CLOCK_MONOTONIC (or its virtual stand-in) in ns."""

    def call_at(self, t_ns: int, callback: Callable[[], None]) -> TimerHandle:
        """Call ``callback`` from the loop at ``t_ns`` or as soon after as the loop can."""

    async def sleep_until(self, t_ns: int) -> None:
        """Return at ``t_ns`` or as soon after as the loop can; at once when it has passed."""


class LoopClock:
    """The clock of a running asyncio loop whose ``time()`` is CLOCK_MONOTONIC."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()

    now_ns = staticmethod(time.monotonic_ns)
    """See :class:`Clock`. The function itself: a reading is on the way from a surge to its cut."""

    def call_at(self, t_ns: int, callback: Callable[[], None]) -> TimerHandle:
        """See :class:`Clock`."""
        return self._loop.call_at(t_ns / 1e9, callback)

    async def sleep_until(self, t_ns: int) -> None:
        """See :class:`Clock`."""
        # A float of seconds resolves 0.1 us after 30 years of uptime at best; the loop may wake a tick early.
        while (left_ns := t_ns - self.now_ns()) > 0:  # noqa: ASYNC110 - waits for time, not for a flag
            await asyncio.sleep(left_ns / 1e9)
