"""What leaves the outbox, and when; and what is done when it has grown to its budget.

Deleted is only what every store has, a while later; without stores, what the broker has acknowledged, the oldest
first, when the room is needed. Never deleted: what neither can be said of.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from edge.frames import MEASURED
from edge.uplink.held import Held
from edge.uplink.outbox import RETRY_NS, Outbox
from edge.uplink.outbox_file import Usage
from edge.uplink.settings import UplinkSettings

CHUNK: Final = 256
"""Frames deleted or thinned by one job: an event behind it does not wait long."""
LOOK_NS: Final = 50_000_000
"""Nothing was due: so long nobody looks again."""
LEVELS: Final = (0.5, 0.8)
"""Shares of the budget at which somebody is told."""
ENOUGH: Final = 0.95
"""At the budget, room is made down to this share of it."""
NOT_STORED: Final = "no store configured: acknowledged is not stored"

_Part = tuple[Held, int, int]


class Retention:
    """Has at most one job under way."""

    def __init__(self, settings: UplinkSettings, outbox: Outbox, *, log: Any) -> None:  # noqa: ANN401 - structlog's loggers share no type
        """Do nothing yet."""
        self._settings = settings
        self._outbox = outbox
        self._log = log
        self._busy = False
        self._again: list[_Part] = []
        self._next_ns = 0
        self._now_ns = self._rest_ns = 0
        self._making_room = False
        self._level = 0.0
        self._thinned_out = False
        self.deleted = 0
        self.thinned = 0
        """Sample frames that were given up, since the start."""
        self.alarm: str | None = None
        """In words; None below half the budget."""

    @property
    def used(self) -> float:
        """Share of the budget, 0 and up."""
        return self._outbox.usage.used_bytes / self._settings.budget_bytes

    def turn(self, now_ns: int) -> None:
        """Have deleted what is due, and what has to go."""
        self._judge()
        self._now_ns = now_ns
        if self._busy or not self._outbox.is_open or now_ns < max(self._outbox.retry_ns, self._rest_ns):
            return
        if now_ns < self._next_ns and not self._making_room:
            return
        parts, self._again = self._again, []
        if not parts:
            parts = list(_limited(self._due(now_ns)))
        if not parts and self._making_room:
            parts = list(_limited(self._early() if self._settings.stores else self._acknowledged()))
            if not parts and self._settings.policy == "thin":
                self._thin()
                return
        if not parts:
            self._next_ns = now_ns + LOOK_NS
        else:
            self._busy = True
            count = sum(last - first + 1 for _, first, last in parts)
            job = self._outbox.delete(parts, now_ns)
            self._outbox.run(job, partial(self._done, count), partial(self._failed, parts))

    def _due(self, now_ns: int) -> Iterator[_Part]:
        for held in self._outbox.by_sid.values():
            for entry in held.retired:
                if entry.due_ns > now_ns:
                    break
                yield held, entry.first, entry.last

    def _early(self) -> Iterator[_Part]:
        """Every store has it; it was only kept for a store that is restored."""
        for held in self._outbox.by_sid.values():
            for entry in held.retired:
                yield held, entry.first, entry.last

    def _acknowledged(self) -> Iterator[_Part]:
        for held in self._outbox.by_sid.values():
            for first, last in held.acked:
                yield held, first, last

    def _thin(self) -> None:
        """Give up the oldest sample frames, the front end's first, not those that are on their way."""
        measured = (held for stream in MEASURED for held in self._outbox.by_sid.values() if held.stream == stream)
        for held in measured:
            first = max(held.thinned_to, held.kept.first)
            if not held.kept or first > held.kept.last:
                continue
            last = min([held.kept.last, first + CHUNK - 1, *(seq - 1 for seq in held.out if seq >= first)])
            if last >= first:
                self._busy = True
                job = self._outbox.thin(held, first, last)
                self._outbox.run(job, partial(self._thinned, held), partial(self._failed, []))
            return
        self._thinned_out = True

    def _thinned(self, held: Held, result: tuple[Usage, int, int]) -> None:
        self._busy = False
        usage, count, to = result
        self._outbox.usage = usage
        held.thinned_to = to
        self._outbox.touch(held)
        if count and not self.thinned:
            self._log.error("the outbox is at its budget: the oldest sample frames are given up, as outbox.policy says")
        self.thinned += count

    def _done(self, count: int, usage: Usage) -> None:
        self._busy = False
        self.deleted += count
        self._outbox.usage = usage

    def _failed(self, parts: list[_Part]) -> None:
        # Forgotten already, still on the disk: it is deleted when the disk works again.
        self._busy = False
        self._rest_ns = self._now_ns + RETRY_NS
        self._again = [part for part in parts if self._outbox.by_sid.get(part[0].sid) is part[0]]

    def _judge(self) -> None:
        used = self.used
        if used >= 1:
            self._making_room = True
        elif used < ENOUGH:
            self._making_room = self._thinned_out = False
        level = max((level for level in LEVELS if used >= level), default=0.0)
        # Some way back before it is taken back: no alarm flaps.
        if level < self._level and used > self._level - 0.05:
            level = self._level
        if level == self._level and self.alarm is None:
            return
        raised, self._level = level > self._level, level
        self.alarm = f"the outbox has used more than {level:.0%} of its budget" if level else None
        if used >= 1:
            self.alarm = self._at_the_budget()
        if raised:
            self._log.warning(
                f"the outbox has used {level:.0%} of its budget; is a store away, or outbox.budget_bytes too small?",
                budget_bytes=self._settings.budget_bytes,
                stores=list(self._settings.stores) or NOT_STORED,
            )

    def _at_the_budget(self) -> str:
        if self._settings.policy == "thin" and not self._thinned_out:
            return "the outbox is at its budget: the oldest sample frames become tombstones"
        return "the outbox is at its budget: nothing more is taken from the ring until a store has some of it"


def _limited(parts: Iterator[_Part]) -> Iterator[_Part]:
    left = CHUNK
    for held, first, end in parts:
        last = min(end, first + left - 1)
        yield held, first, last
        left -= last - first + 1
        if left <= 0:
            return
