"""A retriggerable monostable on the 2400's output enable line: what makes a heartbeat out of a line that is low.

Pure: edges with their times in, the line's state out, and when it next changes by itself. A beat closes the line for
``time_s`` from then on; the next beat begins that time anew; when none comes the line opens, exactly then. Clear pulled
opens it at once and lets no beat through; when it is released the line stays open until the next beat (as a 74HC423
does; a 74HC123 takes the release itself for a trigger).
"""

from __future__ import annotations

from typing import Final

from hil.errors import BenchOptionError

TIME_MIN_S: Final = 0.001
TIME_MAX_S: Final = 10.0


class Monostable:
    """One monostable, silent at first. ``time_s``: as built, 1 ms to 10 s. Times in ns, never backwards per call."""

    def __init__(self, time_s: float) -> None:
        """Raises BenchOptionError for a time outside the range."""
        if not TIME_MIN_S <= time_s <= TIME_MAX_S:
            raise BenchOptionError(
                f"a monostable of {time_s!r} s: want a time from {TIME_MIN_S * 1e3:g} ms to {TIME_MAX_S:g} s"
            )
        self.time_ns: Final = round(time_s * 1e9)
        self.stuck = False
        """A fault: the line stays closed for ever (a shorted transistor), whatever comes or does not."""
        self.broken = False
        """A fault: the line stays open for ever (a broken wire, no supply)."""
        self._until_ns: int | None = None
        self._cleared = False

    @property
    def cleared(self) -> bool:
        """Whether clear is pulled."""
        return self._cleared

    def closed(self, t_ns: int) -> bool:
        """Return whether the line is low, and so closed, at ``t_ns``."""
        if self.broken:
            return False
        return self.stuck or (self._until_ns is not None and t_ns < self._until_ns)

    @property
    def opens_ns(self) -> int | None:
        """When it opens the line by itself; None while the line is open, or cannot open."""
        return None if self.stuck or self.broken else self._until_ns

    def beat(self, t_ns: int) -> None:
        """Take the edge of a heartbeat."""
        if not self._cleared:
            self._until_ns = t_ns + self.time_ns

    def pull_clear(self) -> None:
        """Open the line now."""
        self._cleared = True
        self._until_ns = None

    def release_clear(self) -> None:
        """Let the next beat through."""
        self._cleared = False

    def expire(self, t_ns: int) -> None:
        """Forget a time that has run out by ``t_ns``."""
        if self._until_ns is not None and self._until_ns <= t_ns:
            self._until_ns = None
