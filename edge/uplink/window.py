"""The window: what is read from the ring, sent in order, and released only when the broker has acknowledged it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from edge.uplink.mqtt import FAILURE, NO_SUBSCRIBERS, BrokerLostError, Connection, Publication, reason_text

RETRY_MIN_NS: Final = 1_000_000_000
RETRY_MAX_NS: Final = 30_000_000_000


@dataclass(slots=True)
class _Item:
    publication: Publication
    start: int | None
    """Where in the ring it begins; None for what no ring holds, which is never sent twice after a refusal."""
    order: int
    announcement: bool = False
    """Not sent again after a broken connection: a newer one is made at every connection."""


@dataclass(slots=True)
class Counters:
    """What became of the publishes, since the start."""

    published: int = 0
    no_subscriber: int = 0
    refused: int = 0


class Window:
    """Publishes in order and keeps what is not acknowledged. All calls come from the event loop.

    A refused frame stops everything behind it: it is sent again, with a growing pause, until the broker takes it, and
    meanwhile nothing after it is released from the ring.
    """

    def __init__(
        self,
        *,
        size: int,
        limit: int,
        now_ns: Callable[[], int],
        wake: Callable[[], None],
        log: Any,  # noqa: ANN401 - structlog's loggers share no type
    ) -> None:
        """``size``: most publishes under way. ``limit``: most frames held. ``wake``: called at each answer."""
        self._now_ns = now_ns
        self._size = size
        self._limit = limit
        self._wake = wake
        self._log = log
        self._connection: Connection | None = None
        self._queue: deque[_Item] = deque()
        self._under_way: dict[int, _Item] = {}
        self._refused: list[_Item] = []
        self._announcements: dict[str, _Item] = {}
        self._order = 0
        self._retry_ns = RETRY_MIN_NS
        self._retry_at_ns = 0
        self._progress_ns = 0
        self._faults: dict[str, str] = {}
        self._said: set[str] = set()
        self.counters = Counters()

    @property
    def fault(self) -> str | None:
        """What keeps frames from going out, in words; None when nothing does."""
        return next(iter(self._faults.values()), None)

    @property
    def room(self) -> bool:
        """True while more frames should be read."""
        return self.waiting < self._limit

    @property
    def waiting(self) -> int:
        """Frames held: not sent, under way, or refused."""
        return len(self._queue) + len(self._under_way) + len(self._refused)

    @property
    def announcing(self) -> bool:
        """True while an announcement is to be sent or under way, and there is somewhere to send it."""
        under_way = any(item.announcement for item in self._under_way.values())
        return self._connection is not None and (under_way or bool(self._announcements))

    def add(self, publication: Publication, start: int | None) -> None:
        """Append a frame that begins at ``start`` in the ring, or with None something that goes with it."""
        self._order += 1
        self._queue.append(_Item(publication, start, self._order))

    def announce(self, publication: Publication) -> None:
        """Send before everything that waits; a newer one of the same topic takes an unsent one's place."""
        self._announcements[publication.topic] = _Item(publication, None, 0, announcement=True)

    def attach(self, connection: Connection) -> None:
        """Send over this connection from now on, beginning with the oldest that is not acknowledged."""
        self._connection = connection
        self._progress_ns = self._now_ns()

    def detach(self) -> None:
        """The connection is gone: what was under way goes back into the queue, in its order."""
        self._connection = None
        again = [item for item in (*self._refused, *self._under_way.values()) if not item.announcement]
        self._refused.clear()
        self._under_way.clear()
        self._announcements.clear()
        self._requeue(again)

    def _requeue(self, items: list[_Item]) -> None:
        self._queue.extendleft(sorted(items, key=lambda item: -item.order))

    def send(self) -> None:
        """Send what fits the window."""
        if self._connection is None:
            return
        if not self._under_way:
            now_ns = self._progress_ns = self._now_ns()
            # Only when nothing is under way is the order the ring's again.
            if self._refused and now_ns >= self._retry_at_ns:
                self._requeue(self._refused)
                self._refused.clear()
        size = min(self._size, self._connection.window)
        while len(self._under_way) < size:
            if self._announcements:
                item = self._announcements.pop(next(iter(self._announcements)))
            elif self._queue and not self._refused:
                item = self._queue.popleft()
            else:
                return
            try:
                future = self._connection.publish(item.publication)
            except BrokerLostError:
                # Its lost() says so too, and whoever waits for that will detach us.
                if not item.announcement:
                    self._queue.appendleft(item)
                return
            self._order += 1
            ticket = self._order
            self._under_way[ticket] = item
            future.add_done_callback(partial(self._answered, ticket))

    def _answered(self, ticket: int, future: asyncio.Future[int]) -> None:
        item = self._under_way.pop(ticket, None)
        if item is None or future.cancelled():
            return  # of a connection that is gone; the item has been queued again
        self._progress_ns = self._now_ns()
        reason = future.result()
        if reason < FAILURE:
            self._accept(item, reason)
        else:
            self._refuse(item, reason)
        self._wake()

    def _accept(self, item: _Item, reason: int) -> None:
        self.counters.published += 1
        self.counters.no_subscriber += reason == NO_SUBSCRIBERS
        # Only the topic that was refused can tell that it no longer is.
        if item.start is not None and (fault := self._faults.pop(item.publication.topic, None)):
            self._log.info("broker takes frames again", after=fault)
            if not self._faults:
                self._retry_ns = RETRY_MIN_NS

    def _refuse(self, item: _Item, reason: int) -> None:
        self.counters.refused += 1
        topic = item.publication.topic
        fault = f"publish to {topic} refused: {reason_text(reason)}"
        if item.start is None:
            # Nothing is lost by it: the frame itself has all of it. Say so, once.
            if fault not in self._said:
                self._said.add(fault)
                self._log.warning("broker refuses a summary; see its permissions for this user", fault=fault)
            return
        if not self._refused:
            self._retry_at_ns = self._now_ns() + self._retry_ns
            self._retry_ns = min(2 * self._retry_ns, RETRY_MAX_NS)
        self._refused.append(item)
        if self._faults.get(topic) != fault:
            self._faults[topic] = fault
            self._log.error(
                "broker refuses frames: they stay in the ring, which is not released until it takes them; "
                "see the broker's permissions for this user",
                fault=fault,
            )

    @property
    def stalled_ns(self) -> int:
        """For how long publishes have been under way without any answer; 0 when none are."""
        return self._now_ns() - self._progress_ns if self._under_way else 0

    def floor(self, cursor: int) -> int:
        """Return the position up to which the ring may be released, ``cursor`` being read up to."""
        held = (*self._queue, *self._under_way.values(), *self._refused)
        return min((item.start for item in held if item.start is not None), default=cursor)

    @property
    def holds_frames(self) -> bool:
        """True while anything held comes from the ring."""
        held = (*self._queue, *self._under_way.values(), *self._refused)
        return any(item.start is not None for item in held)
