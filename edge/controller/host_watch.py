"""What the worker watches of its own host: a keeper that hangs, a computer that slept. Standard library only."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from edge.controller.page import Page

KEEPER_AGE_NS: Final = 500_000_000
"""The keeper stamps every 10 ms; half a second without a stamp, and nobody would cut if the worker died."""
SLEPT_NS: Final = 200_000_000


def suspended_ns() -> int:
    """Return how long this host has slept since boot: CLOCK_BOOTTIME counts it, CLOCK_MONOTONIC does not."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()


class HostWatch:
    """Says what is wrong with the host, if anything is."""

    def __init__(self, page: Page, suspended: Callable[[], int] = suspended_ns) -> None:
        """Watch the keeper's stamp in ``page`` and the time ``suspended`` (ns)."""
        self._page = page
        self._suspended = suspended
        self._slept_ns = suspended()
        self.on_fault: Callable[[str], None] = lambda _fault: None
        """Told of every fault that is found."""

    def fault(self, now_ns: int) -> str | None:
        """Return one line, or None. A sleep is told once; a silent keeper for as long as it is."""
        fault = self._fault(now_ns)
        if fault is not None:
            self.on_fault(fault)
        return fault

    def _fault(self, now_ns: int) -> str | None:
        age_ns = now_ns - self._page.keeper_heartbeat_ns
        if age_ns > KEEPER_AGE_NS:
            return f"the keeper has not stirred for {age_ns / 1e9:.1f} s: nobody would cut if this process died"
        slept_ns, self._slept_ns = self._slept_ns, self._suspended()
        if self._slept_ns - slept_ns > SLEPT_NS:
            return f"this computer slept for {(self._slept_ns - slept_ns) / 1e9:.1f} s with the rig under way"
        return None
