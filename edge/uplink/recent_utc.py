"""The mapping of CLOCK_MONOTONIC to UTC, asked for once where many frames are made in a moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edge.frames import UtcMapping

HOLD_NS: Final = 5_000_000
"""The kernel slews a clock by 500 ppm at most (adjtimex(2)): by 2.5 us in that time."""


class RecentUtc:
    """Asks ``utc`` at most once in :data:`HOLD_NS`: asking costs as much as a tenth of building a frame."""

    def __init__(self, utc: Callable[[], UtcMapping], now_ns: Callable[[], int]) -> None:
        """Ask nothing yet."""
        self._utc = utc
        self._now_ns = now_ns
        self._held: UtcMapping | None = None
        self._until_ns = 0

    def __call__(self) -> UtcMapping:
        """Return the mapping of now, or of a moment ago."""
        now_ns = self._now_ns()
        if self._held is None or now_ns >= self._until_ns:
            self._held = self._utc()
            self._until_ns = now_ns + HOLD_NS
        return self._held
