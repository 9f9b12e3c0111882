"""The window: what is read from the ring, sent in order, and released only when the broker has acknowledged it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from edge.uplink.mqtt import FAILURE, NO_SUBSCRIBERS, BrokerLostError, Connection, Publication, reason_text

RETRY_MIN_NS: Final = 1_000_000_000
RETRY_MAX_NS: Final = 30_000_000_000
MUTE_NS: Final = 600_000_000_000
"""A refused summary's topic is left alone for so long."""


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

    Mosquitto says in the PUBACK that a publish is denied, and then closes the connection; with more on the way to it,
    the close is a reset, and the PUBACK may be lost with it. So the first publish to each topic of a connection is
    sent with nothing else under way: its answer tells whether the topic is denied.
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
        self._proven: set[str] = set()
        self._proving = False
        self._muted: dict[str, int] = {}
        self._faults: dict[str, str] = {}
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

    def hint(self, publication: Publication) -> None:
        """Send now, at QoS 0, or never; but at QoS 1 as long as the broker has not taken one on this connection.

        A QoS 0 publish that is denied costs the connection without a word.
        """
        if publication.topic not in self._proven:
            self.announce(replace(publication, qos=1))
        elif self._connection is not None:
            # Its lost() says so too, and whoever waits for that will detach us.
            with contextlib.suppress(BrokerLostError):
                self._connection.publish(publication)

    def attach(self, connection: Connection) -> None:
        """Send over this connection from now on, beginning with the oldest that is not acknowledged."""
        self._connection = connection
        self._progress_ns = self._now_ns()

    def detach(self) -> None:
        """The connection is gone: what was under way goes back into the queue, in its order."""
        self._connection = None
        again = [item for item in self._under_way.values() if not item.announcement]
        self._under_way.clear()
        self._announcements.clear()
        self._proven.clear()
        self._proving = False
        self._requeue(again)

    def _requeue(self, items: list[_Item]) -> None:
        self._queue = deque(sorted((*items, *self._queue), key=lambda item: item.order))

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
        while len(self._under_way) < size and (item := self._next()) is not None:
            try:
                future = self._connection.publish(item.publication)
            except BrokerLostError:
                # Its lost() says so too, and whoever waits for that will detach us.
                if not item.announcement:
                    self._queue.appendleft(item)
                return
            self._proving = item.publication.topic not in self._proven
            self._order += 1
            ticket = self._order
            self._under_way[ticket] = item
            future.add_done_callback(partial(self._answered, ticket))

    def _next(self) -> _Item | None:
        """Take what goes out next; None when there is nothing, or it must wait for an answer."""
        self._skip_muted()
        if self._announcements:
            item = next(iter(self._announcements.values()))
        elif self._queue and not self._refused:
            item = self._queue[0]
        else:
            return None
        if self._proving or (self._under_way and item.publication.topic not in self._proven):
            return None
        if item.announcement:
            del self._announcements[item.publication.topic]
        else:
            self._queue.popleft()
        return item

    def _skip_muted(self) -> None:
        if not self._muted:
            return
        now_ns = self._now_ns()
        self._muted = {topic: until_ns for topic, until_ns in self._muted.items() if until_ns > now_ns}
        for topic in self._muted:
            self._announcements.pop(topic, None)
        while self._queue and self._queue[0].start is None and self._queue[0].publication.topic in self._muted:
            self._queue.popleft()

    def _answered(self, ticket: int, future: asyncio.Future[int]) -> None:
        item = self._under_way.pop(ticket, None)
        if item is None or future.cancelled():
            return  # of a connection that is gone; the item has been queued again
        self._proving = False
        self._progress_ns = self._now_ns()
        reason = future.result()
        if reason < FAILURE:
            self._accept(item, reason)
        else:
            self._refuse(item, reason)
        self._wake()

    def _accept(self, item: _Item, reason: int) -> None:
        topic = item.publication.topic
        self._proven.add(topic)
        self.counters.published += 1
        self.counters.no_subscriber += reason == NO_SUBSCRIBERS
        # Only the topic that was refused can tell that it no longer is.
        if item.start is not None and (fault := self._faults.pop(topic, None)):
            self._log.info("broker takes frames again", after=fault)
            if not self._faults:
                self._retry_ns = RETRY_MIN_NS

    def _refuse(self, item: _Item, reason: int) -> None:
        topic = item.publication.topic
        if item.start is None:
            # Nothing is lost by it: the frames have all of it. Asking again and again would cost the connection.
            self._muted[topic] = self._now_ns() + MUTE_NS
        else:
            if not self._refused:
                self._retry_at_ns = self._now_ns() + self._retry_ns
                self._retry_ns = min(2 * self._retry_ns, RETRY_MAX_NS)
            self._refused.append(item)
        self.counters.refused += 1
        fault = f"publish to {topic} refused: {reason_text(reason)}"
        if item.start is None:
            self._log.warning(
                "broker refuses a summary: left alone for a while; see the broker's permissions for this user",
                fault=fault,
                for_s=MUTE_NS // 1_000_000_000,
            )
        elif self._faults.get(topic) != fault:
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
