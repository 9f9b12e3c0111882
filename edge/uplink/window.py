"""The window: what is under way to the broker. Bounded, answered by reason code, and given back when nobody answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from edge import frames
from edge.broker_link import FAILURE
from edge.uplink import documents
from edge.uplink.lanes import Lanes
from edge.uplink.mqtt import NO_SUBSCRIBERS, PACKET_TOO_LARGE, BrokerLostError, Connection, Publication, reason_text
from edge.uplink.outbox import Entry
from edge.uplink.settings import UplinkSettings

RETRY_MIN_NS: Final = 1_000_000_000
RETRY_MAX_NS: Final = 30_000_000_000
MUTE_NS: Final = 600_000_000_000
"""A refused summary's topic is left alone for so long."""


BRISK_NS: Final = 250_000_000
"""An answer within that is a quick one."""
ANSWERS: Final = 1024
"""Answers to commands that wait for room; more are not sent. A stop itself waits for none of that."""
SUMMARIES: Final = 256
"""Waiting to follow their frames; more are left out: the frames have all of it."""


@dataclass(slots=True, eq=False)
class _Item:
    publication: Publication
    entry: Entry | None = None
    """The frame it is; None for what no outbox holds, which is never sent twice after a refusal."""
    announcement: bool = False
    """Not sent again after a broken connection: a newer one is made at every connection."""
    answer: asyncio.Future[int] | None = None
    """Of an answer to a command: gets the reason code. Sent once: who asked waits for a moment only."""


@dataclass(slots=True)
class Counters:
    """What became of the publishes, since the start."""

    published: int = 0
    frames: int = 0
    """Of these: frames from the outbox."""
    no_subscriber: int = 0
    refused: int = 0


class Window:
    """Publishes what the lanes have, and tells what was acknowledged. All calls come from the event loop.

    A refused frame goes back; its topic is tried again with a growing pause until the broker takes it, and everything
    that goes there waits in the outbox.

    Mosquitto says in the PUBACK that a publish is denied, and then closes the connection; with more on the way to it,
    the close is a reset, and the PUBACK may be lost with it. So the first publish to each topic of a connection is
    sent with nothing else under way: its answer tells whether the topic is denied.
    """

    def __init__(
        self,
        *,
        settings: UplinkSettings,
        lanes: Lanes,
        acknowledged: Callable[[Entry, int], None],
        now_ns: Callable[[], int],
        wake: Callable[[], None],
        log: Any,  # noqa: ANN401 - structlog's loggers share no type
    ) -> None:
        """``acknowledged``: called with each frame the broker has taken, and when. ``wake``: at each answer."""
        self._now_ns = now_ns
        self._settings = settings
        self._size = settings.window
        self._lanes = lanes
        self._acknowledged = acknowledged
        self._wake = wake
        self._log = log
        self._topics = {kind: settings.topic(name) for kind, name in frames.TOPIC_OF_KIND.items()}
        self._connection: Connection | None = None
        self._summaries: deque[_Item] = deque()
        self._under_way: dict[int, _Item] = {}
        self._announcements: dict[str, _Item] = {}
        self._answers: deque[_Item] = deque()
        self._answering = 0
        self._ticket = 0
        self._frames = 0
        self._progress_ns = 0
        self._passed = (0, 0)
        """A publish that a later one's answer has overtaken, by ticket, and when it did."""
        self._proven: set[str] = set()
        self._proving = False
        self._muted: dict[str, int] = {}
        self._blocked: dict[str, tuple[int, int]] = {}
        """By topic: until when nothing is sent there, and the pause after that."""
        self._faults: dict[str, str] = {}
        self._too_large = ""
        self._probe_ns = 0
        self.counters = Counters()

    @property
    def fault(self) -> str | None:
        """What keeps frames from going out, in words; None when nothing does."""
        too_large = [self._too_large] if self._too_large and self._lanes.any_too_large else []
        return "; ".join([*self._faults.values(), *too_large]) or None

    @property
    def frames(self) -> int:
        """Frames under way."""
        return self._frames

    @property
    def announcing(self) -> bool:
        """True while an announcement is to be sent or under way, and there is somewhere to send it."""
        under_way = any(item.announcement for item in self._under_way.values())
        return self._connection is not None and (under_way or bool(self._announcements))

    def announce(self, publication: Publication) -> None:
        """Send before everything that waits; a newer one of the same topic takes an unsent one's place."""
        self._announcements[publication.topic] = _Item(publication, announcement=True)

    def answer(self, publication: Publication) -> asyncio.Future[int]:
        """Send before everything that waits, but within what the broker takes; at most half of that are answers.

        Returns the future reason code; cancelled when it is not to be had.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self._connection is None or len(self._answers) >= ANSWERS:
            future.cancel()
            return future
        self._answers.append(_Item(publication, answer=future))
        self.send()
        return future

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
        """Send over this connection from now on."""
        self._connection = connection
        self._progress_ns = self._now_ns()
        self._lanes.attach(self._progress_ns)

    def detach(self) -> None:
        """The connection is gone: what was under way goes back to where it came from."""
        self._connection = None
        for item in (*self._answers, *self._under_way.values()):
            if item.answer is not None:
                item.answer.cancel()
        again = [item for item in self._under_way.values() if not item.announcement and item.answer is None]
        for item in again:
            if item.entry is not None:
                self._lanes.again(item.entry)
        self._summaries.extendleft(reversed([item for item in again if item.entry is None]))
        self._forget()
        self._lanes.detach()

    def opened(self) -> None:
        """The outbox begins anew: answers to what is under way concern frames that are counted anew, too."""
        for item in self._under_way.values():
            item.entry = None
        self._frames = 0

    def _forget(self) -> None:
        self._under_way.clear()
        self._announcements.clear()
        self._answers.clear()
        self._answering = 0
        self._proven.clear()
        self._proving = False
        self._frames = 0

    def send(self) -> None:
        """Send what fits the window."""
        if self._connection is None:
            return
        if not self._under_way:
            self._progress_ns = self._now_ns()
        if self._lanes.any_aside:
            self._try_aside()
        size = min(self._size, self._connection.window)
        while len(self._under_way) < size and not self._proving and (item := self._next()) is not None:
            try:
                future = self._connection.publish(item.publication)
            except BrokerLostError:
                # Its lost() says so too, and whoever waits for that will detach us.
                if item.entry is not None:
                    self._lanes.again(item.entry)
                elif item.answer is not None:
                    item.answer.cancel()
                return
            if item.entry is not None:
                self._sent(item.entry)
            if item.answer is None:
                self._proving = item.publication.topic not in self._proven
            else:
                # Each has a topic of its own, and is not sent again: there is nothing to prove.
                self._answering += 1
            self._ticket += 1
            self._under_way[self._ticket] = item
            future.add_done_callback(partial(self._answered, self._ticket))
        self._lanes.prefetch(self._now_ns())

    def _try_aside(self) -> None:
        """Have tombstones sent that were kept back: all of them when the events go out again, else one at a time."""
        now_ns = self._now_ns()
        blocked = self._blocked.get(self._topics["tombstone"])
        if blocked is None:
            self._lanes.resume(probe=False)
        elif now_ns >= max(blocked[0], self._probe_ns):
            self._probe_ns = now_ns + RETRY_MIN_NS
            self._lanes.resume(probe=True)

    def _sent(self, entry: Entry) -> None:
        self._frames += 1
        entry.held.unsent.remove(entry.seq, entry.seq)
        # What was thinned makes tombstones by the thousand; the status has their number.
        if entry.held.stream not in frames.MEASURED and len(self._summaries) < SUMMARIES:
            summary = documents.frame_summary(entry.payload)
            topic = self._settings.topic(f"json/{frames.TOPIC_OF_KIND[entry.kind]}")
            self._summaries.append(_Item(Publication(topic, documents.to_json(summary))))

    def _next(self) -> _Item | None:
        """Take what goes out next; None when there is nothing, or it must wait for an answer."""
        self._skip_muted()
        if self._answers and self._answering < max(self._size // 2, 1):
            return self._answers.popleft()
        if self._announcements:
            item = next(iter(self._announcements.values()))
            if self._alone(item.publication.topic):
                return self._announcements.pop(item.publication.topic)
            return None
        if self._summaries:
            return self._summaries.popleft() if self._alone(self._summaries[0].publication.topic) else None
        lane = self._lanes.next_lane(self._open)
        if lane is None:
            return None
        entry = lane.peek()
        if entry is None or not self._alone(self._topics[entry.kind]):
            return None
        lane.pop()
        return _Item(Publication(self._topics[entry.kind], entry.payload, content_type=frames.CONTENT_TYPE), entry)

    def _alone(self, topic: str) -> bool:
        """Return True when a publish to this topic need not wait for those under way."""
        return topic in self._proven or not self._under_way

    def _open(self, entry: Entry) -> bool:
        """Return True when the broker may be asked to take this frame."""
        blocked = self._blocked.get(self._topics[entry.kind])
        return blocked is None or self._now_ns() >= blocked[0]

    def _skip_muted(self) -> None:
        if not self._muted:
            return
        now_ns = self._now_ns()
        self._muted = {topic: until_ns for topic, until_ns in self._muted.items() if until_ns > now_ns}
        for topic in self._muted:
            self._announcements.pop(topic, None)
        while self._summaries and self._summaries[0].publication.topic in self._muted:
            self._summaries.popleft()

    def _answered(self, ticket: int, future: asyncio.Future[int]) -> None:
        item = self._under_way.pop(ticket, None)
        if item is None or future.cancelled():
            return  # of a connection that is gone; the frame is to be sent again
        self._proving = False
        now_ns = self._progress_ns = self._now_ns()
        if self._under_way and (oldest := next(iter(self._under_way))) < ticket and oldest != self._passed[0]:
            self._passed = oldest, now_ns
        if item.entry is not None:
            self._frames -= 1
        reason = future.result()
        if item.answer is not None:
            self._answering -= 1
            if not item.answer.done():
                item.answer.set_result(reason)
        elif reason < FAILURE:
            self._accept(item, reason, now_ns)
        else:
            self._refuse(item, reason, now_ns)
        self._wake()

    def _accept(self, item: _Item, reason: int, now_ns: int) -> None:
        topic = item.publication.topic
        self._proven.add(topic)
        self.counters.published += 1
        self.counters.no_subscriber += reason == NO_SUBSCRIBERS
        if item.entry is None:
            return
        self.counters.frames += 1
        self._acknowledged(item.entry, now_ns)
        # Only the topic that was refused can tell that it no longer is.
        self._blocked.pop(topic, None)
        if fault := self._faults.pop(topic, None):
            self._log.info("broker takes frames again", after=fault)

    def _refuse(self, item: _Item, reason: int, now_ns: int) -> None:
        topic = item.publication.topic
        self.counters.refused += 1
        if reason == PACKET_TOO_LARGE and item.entry is not None:
            self._leave(item.entry, topic)
            return
        self._proven.discard(topic)
        fault = f"publish to {topic} refused: {reason_text(reason)}"
        if item.entry is None:
            # Nothing is lost by it: the frames have all of it. Asking again and again would cost the connection.
            self._muted[topic] = now_ns + MUTE_NS
            self._log.warning(
                "broker refuses a summary: left alone for a while; see the broker's permissions for this user",
                fault=fault,
                for_s=MUTE_NS // 1_000_000_000,
            )
            return
        self._lanes.again(item.entry)
        until_ns, pause_ns = self._blocked.get(topic, (0, RETRY_MIN_NS))
        if now_ns >= until_ns:
            self._blocked[topic] = now_ns + pause_ns, min(2 * pause_ns, RETRY_MAX_NS)
        if self._faults.get(topic) != fault:
            self._faults[topic] = fault
            self._log.error(
                "broker refuses frames: they stay in the outbox until it takes them; "
                "see the broker's permissions for this user",
                fault=fault,
            )

    def _leave(self, entry: Entry, topic: str) -> None:
        """A frame is too large for this broker: that says nothing of the others."""
        self._lanes.too_large(entry)
        fault = f"publish to {topic} refused: {reason_text(PACKET_TOO_LARGE)}"
        if fault != self._too_large:
            self._too_large = fault
            self._log.error(
                "a frame is larger than what the broker takes: it stays in the outbox until the broker's limit is "
                "raised, and the others go on; see the broker's max_packet_size",
                fault=fault,
                stream=entry.held.stream,
                seq=entry.seq,
                size_bytes=len(entry.payload),
            )

    @property
    def answers(self) -> bool:
        """True while the broker answers, and quickly."""
        return self._connection is not None and self.stalled_ns < BRISK_NS

    @property
    def stalled_ns(self) -> int:
        """For how long publishes have been under way without any answer; 0 when none are."""
        return self._now_ns() - self._progress_ns if self._under_way else 0

    @property
    def overdue_ns(self) -> int:
        """For how long an answer has been due: of all that is under way, or of one that later ones have overtaken.

        Answers come in order. What merely takes long, over a slow line, is not overdue while others are answered.
        """
        ticket, since_ns = self._passed
        return max(self.stalled_ns, self._now_ns() - since_ns if ticket in self._under_way else 0)
