"""What goes out next: events first, then live samples and the backlog of an outage in turns.

A lane is what shares a topic of documents, or the samples. A frame is live when it was committed while it could be sent
at once; it stays in memory until then. Everything else is backlog: numbers only, read from the disk a page at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from edge import frames
from edge.uplink.held import Held
from edge.uplink.outbox import Entry, Outbox
from edge.uplink.outbox_file import KINDS, MAX_SEQ, READ_BYTES, Row, Usage
from edge.uplink.ranges import Ranges
from edge.uplink.settings import UplinkSettings

PAGE_ROWS: Final = 64
"""Frames read from the backlog at a time."""
LOW: Final = 48
"""With fewer of them in memory, the next page is read."""
LIVE_BYTES: Final = 4 << 20
LIVE_FRAMES: Final = 256
IN_ORDER: Final = 500
"""A shorter backlog is sent in order, before what is new; past it, live samples overtake."""
AHEAD: Final = 4096
"""Frames of a backlog that a broker keeps for a store at work, at most, about: it keeps them in memory. A store says
several times a second how far it is, which is less than half of that behind what it was given."""
LOOK_NS: Final = 20_000_000
AT_WORK_NS: Final = 2_000_000_000
"""A store that has not moved on for so long is away, or held up: nothing waits for it."""
PAUSE_NS: Final = 1_000_000_000
MAX_PAUSE_NS: Final = 30_000_000_000
"""After reads that failed, doubled each time up to this. Commits do not wait for it."""
READ_TRIES: Final = 5
"""Failures of the disk to read one frame, after which a tombstone takes its place: a quarter of a minute."""
HOPELESS: Final = 48
"""Failures, after which that cannot be done, either, and the file is given up: some ten minutes."""
_CAUSE: Final = "damaged in the outbox"
_NOTHING: Final = Ranges()


class Lane:
    """Frames that share a way out, in order within each stream."""

    def __init__(self, name: str, outbox: Outbox, wake: Callable[[], None], settings: UplinkSettings) -> None:
        """``name``: the topic's last word."""
        self.name = name
        self._streams = {stream for kind, stream in frames.STREAM_OF_KIND.items() if frames.TOPIC_OF_KIND[kind] == name}
        self._stores = settings.stores
        self._redrive_ns = int(settings.redrive_s * 1e9)
        self.begun_ns = 0
        """When the connection began."""
        self._outbox = outbox
        self._wake = wake
        self.backlog: dict[int, Held] = {}
        """Streams with something to send that is not in memory, by number."""
        self._live: deque[Entry] = deque()
        self._live_bytes = 0
        self._page: deque[Entry] = deque()
        self.aside: dict[Held, Ranges] = {}
        """Frames whose topic, another than the lane's, is refused at present."""
        self.too_large: dict[Held, Ranges] = {}
        """Frames that are more than this connection's broker takes."""
        self._overtaking = False
        self._live_last = False
        self._reading = False
        self._look_ns = 0
        """Until then a store was too far behind for more of the backlog."""
        self._rest_ns = 0
        """Until then nothing is read: the last time it failed."""
        self._reach = PAGE_ROWS
        """Frames to be read at a time; fewer where the disk fails, to find the one that it cannot read."""
        self._place = (0, 0)
        """The first frame of the last read that failed, and how often in a row it did."""
        self._failures = 0
        self._failing = False
        self._task = f"cannot read the backlog of {name}"
        self._life = 0

    @property
    def waiting(self) -> int:
        """Frames to be sent that are not under way."""
        count = len(self._live) + len(self._page) + sum(held.todo.count for held in self.backlog.values())
        return count + sum(seqs.count for seqs in (*self.aside.values(), *self.too_large.values()))

    @property
    def full(self) -> bool:
        """True when the next live frame would have to go the backlog's way."""
        return self._live_bytes >= LIVE_BYTES or len(self._live) >= LIVE_FRAMES

    def full_behind(self, coming: int) -> bool:
        """Return True when there is no room for one more live frame behind ``coming`` others."""
        return self._live_bytes >= LIVE_BYTES // 2 or len(self._live) + coming >= LIVE_FRAMES

    def committed(self, entry: Entry, *, live: bool) -> None:
        """Take a frame that is on disk now; ``live``: there is a connection."""
        behind = bool(self.backlog) or bool(self._page)
        if not behind:
            self._overtaking = False
        elif not self._overtaking and self.name == "samples":
            self._overtaking = self.waiting - len(self._live) > IN_ORDER
        if live and not self.full and (self._overtaking or not behind):
            entry.held.out.add(entry.seq)
            self._live.append(entry)
            self._live_bytes += len(entry.payload)
        else:
            self.later(entry.held, entry.seq, entry.seq)

    def later(self, held: Held, first: int, last: int) -> None:
        """Send these from the disk, when it is their turn."""
        held.todo.add(first, last)
        self.backlog[held.sid] = held

    def again(self, entry: Entry) -> None:
        """An entry was not acknowledged: it is sent before what is behind it, but for what is under way already."""
        held, seq = entry.held, entry.seq
        held.out.discard(seq)
        if seq not in held.kept:
            return
        self.later(held, seq, seq)
        if self._reading:
            # It may be of what lies behind; it is read once more.
            self._life += 1
            self._reading = False
        behind = [one for one in self._page if one.held is held and one.seq > seq]
        if behind:
            self._page = deque(one for one in self._page if one.held is not held or one.seq < seq)
            for one in behind:
                held.out.discard(one.seq)
                for first, last in held.kept.within(one.seq, one.seq):
                    self.later(held, first, last)

    def put_off(self, entry: Entry, where: dict[Held, Ranges]) -> None:
        """Keep an entry that may not go out back, in ``where`` of the two; others go on."""
        entry.held.out.discard(entry.seq)
        if entry.seq in entry.held.kept:
            where.setdefault(entry.held, Ranges()).add(entry.seq, entry.seq)

    def resume(self, where: dict[Held, Ranges], *, probe: bool = False) -> None:
        """Have sent what was kept back; ``probe``: the first of it only."""
        for held, seqs in list(where.items()):
            first, last = (seqs.first, seqs.first) if probe else (seqs.first, seqs.last)
            for begin, end in seqs.within(first, last):
                for kept in held.kept.within(begin, end):
                    self.later(held, *kept)
            seqs.remove(first, last)
            if not seqs:
                del where[held]
            if probe:
                return

    def clear(self) -> None:
        """The connection is gone: nothing is live any more."""
        self.resume(self.aside)
        self.resume(self.too_large)
        for entry in (*self._live, *self._page):
            self.again(entry)
        self.drop()

    def drop(self) -> None:
        """Forget what is in memory, and what is being read."""
        self._live.clear()
        self._page.clear()
        self._live_bytes = 0
        self.aside.clear()
        self.too_large.clear()
        self._life += 1
        self._reading = False

    def peek(self) -> Entry | None:
        """Return what goes next; None when there is nothing, or it has yet to be read."""
        queue = self._next_queue()
        return queue[0] if queue else None

    def pop(self) -> Entry:
        """Take what :meth:`peek` returned."""
        queue = self._next_queue()
        entry = queue.popleft()
        self._live_last = queue is self._live
        if self._live_last:
            self._live_bytes -= len(entry.payload)
        return entry

    def _next_queue(self) -> deque[Entry]:
        live, page = self._live, self._page
        if not live:
            return page
        if self._overtaking:
            # In turns, so that both move; and nobody waits for the disk.
            return page if page and self._live_last else live
        if page:
            ahead = page[0].held.sid, page[0].seq
        elif self.backlog:
            held = self.backlog[min(self.backlog)]
            ahead = held.sid, held.todo.first if held.todo else held.high
        else:
            return live
        return page if ahead < (live[0].held.sid, live[0].seq) else live

    def prefetch(self, now_ns: int) -> None:
        """Read the next page, if it will soon be needed and no store is far behind."""
        if self._reading or len(self._page) >= LOW or not self._outbox.is_open:
            return
        if not self.backlog:
            # What could not be read need not be any more.
            self.recovered()
            return
        sid = min(self.backlog)
        held = self.backlog[sid]
        if not held.todo:
            del self.backlog[sid]
            self.prefetch(now_ns)
            return
        if now_ns < self._look_ns or now_ns < self._rest_ns:
            return
        if self._ahead(now_ns) >= AHEAD:
            self._look_ns = now_ns + LOOK_NS
            return
        first, last = held.todo.first_range
        self._reading = True
        last = min(last, first + self._reach - 1)
        self._outbox.run(
            self._outbox.read(held, first, last, PAGE_ROWS),
            partial(self._read, self._life, held, first, last),
            partial(self._not_read, self._life, held, first),
            unreadable=partial(self._unreadable, self._life, held, first),
            what=self._task,
        )

    def _ahead(self, now_ns: int) -> int:
        """Return how many frames the broker has that a store has not, of the stores at work the one that lacks most.

        At work are those that have come to have something new lately, and all of them for as long at the beginning of a
        connection; 0 where there are none. Counted is what the broker has taken lately: a store that lacks something
        for longer was not given it, or will never take it.
        """
        since_ns = now_ns - AT_WORK_NS
        moved_ns = self._outbox.moved_ns
        lacking = {store: 0 for store in self._stores if max(moved_ns.get(store, 0), self.begun_ns) >= since_ns}
        if not lacking:
            return 0
        for held in self._outbox.by_sid.values():
            if held.spans and held.stream in self._streams:
                at_broker = held.at_broker(now_ns - self._redrive_ns)
                for store in lacking:
                    lacking[store] += at_broker.minus(held.covered.get(store, _NOTHING)).count
        return max(lacking.values())

    def recovered(self) -> None:
        """Reads are as they should be, or there is nothing to read."""
        if self._failing:
            self._failing, self._failures, self._reach = False, 0, PAGE_ROWS
            self._outbox.able(self._task)

    def _not_read(self, life: int, held: Held, first: int) -> None:
        if life != self._life:
            return
        self._reading = False
        self._failing = True
        if self._place != (held.sid, first):
            self._place, self._failures = (held.sid, first), 0
        self._rest_ns = self._outbox.now_ns() + min(PAUSE_NS << min(self._failures, 5), MAX_PAUSE_NS)
        self._failures += 1

    def _unreadable(self, life: int, held: Held, first: int, why: str) -> None:
        """One of these cannot be read: find out which, and do not let it hold up the others for ever."""
        if life != self._life:
            return
        alone, self._reach = self._reach == 1, 1
        self._not_read(life, held, first)
        if not alone:
            self._failures = 0
        elif self._failures >= HOPELESS:
            self._outbox.damaged(why)
        elif self._failures >= READ_TRIES:
            self._bury(held, first)

    def _read(self, life: int, held: Held, first: int, last: int, rows: list[Row]) -> None:
        if life != self._life:
            return
        self._reading = False
        at = first
        # A page may end early, for its size; what lies behind its last row has not been looked for.
        size = sum(len(row.payload) for row in rows)
        end = (rows[-1].id & MAX_SEQ) if rows and size >= READ_BYTES else last
        for row in rows:
            seq = row.id & MAX_SEQ
            if seq > at:
                held.vanished(at, seq - 1)
            at = seq + 1
            if seq not in held.todo:
                continue
            if not row.whole:
                self._bury(held, seq)
                return
            held.todo.remove(seq, seq)
            held.out.add(seq)
            self._page.append(Entry(held, seq, KINDS[row.kind], row.payload, row.crc))
        if at <= end:
            # Not there: nothing to send, and nothing to wait for.
            held.vanished(at, end)
        self._reach = min(2 * self._reach, PAGE_ROWS)
        if self._reach == PAGE_ROWS:
            self.recovered()
        self._wake()

    def _bury(self, held: Held, seq: int) -> None:
        """Have a tombstone put where a frame is no longer what it was; then it is sent."""
        self._reading = True
        self._outbox.run(
            self._outbox.bury(held, seq, _CAUSE),
            partial(self._buried, self._life, held, seq),
            partial(self._not_read, self._life, held, seq),
            unreadable=partial(self._not_buried, self._life, held, seq),
            what=self._task,
        )

    def _buried(self, life: int, held: Held, seq: int, _usage: Usage) -> None:
        self._outbox.buried(held, seq)
        if life == self._life:
            self._reading = False
            self._failures = self._rest_ns = 0
            self._wake()

    def _not_buried(self, life: int, held: Held, seq: int, why: str) -> None:
        self._not_read(life, held, seq)
        if life == self._life and self._failures >= HOPELESS:
            self._outbox.damaged(why)


class Lanes:
    """All lanes of a rig, in the order of their right of way."""

    def __init__(self, outbox: Outbox, wake: Callable[[], None], settings: UplinkSettings) -> None:
        """Begin empty; ``wake``: called when something has been read."""
        self._outbox = outbox
        self.lanes = tuple(Lane(name, outbox, wake, settings) for name in ("events", "runs", "samples"))
        by_name = {lane.name: lane for lane in self.lanes}
        self._by_stream = {
            stream: by_name[frames.TOPIC_OF_KIND[kind]] for kind, stream in frames.STREAM_OF_KIND.items()
        }
        self._connected = False

    @property
    def waiting(self) -> int:
        """Frames to be sent that are not under way."""
        return sum(lane.waiting for lane in self.lanes)

    def full(self, coming: int) -> bool:
        """Return True when live samples would have to go to the backlog, behind ``coming`` that are being committed."""
        return self._connected and self.lanes[-1].full_behind(coming)

    def opened(self) -> None:
        """The outbox begins, or begins anew: what is to be sent is what it says."""
        for lane in self.lanes:
            lane.drop()
            lane.backlog.clear()
            lane.recovered()
        for held in self._outbox.by_sid.values():
            if held.todo:
                self._by_stream[held.stream].backlog[held.sid] = held

    def attach(self, now_ns: int) -> None:
        """There is a connection: what is committed from now on may be live."""
        self._connected = True
        for lane in self.lanes:
            lane.begun_ns = now_ns

    def detach(self) -> None:
        """There is none: everything is backlog."""
        self._connected = False
        for lane in self.lanes:
            lane.clear()

    def committed(self, group: list[Entry]) -> None:
        """Take what is on disk now."""
        for entry in group:
            self._by_stream[entry.held.stream].committed(entry, live=self._connected)

    def later(self, held: Held, first: int, last: int) -> None:
        """Send these once more."""
        self._by_stream[held.stream].later(held, first, last)

    def again(self, entry: Entry) -> None:
        """A frame was not acknowledged, or refused."""
        self._by_stream[entry.held.stream].again(entry)

    def too_large(self, entry: Entry) -> None:
        """A frame is more than the broker takes: over this connection it is not sent again."""
        lane = self._by_stream[entry.held.stream]
        lane.put_off(entry, lane.too_large)

    @property
    def any_too_large(self) -> bool:
        """True while there is one."""
        return any(lane.too_large for lane in self.lanes)

    @property
    def any_aside(self) -> bool:
        """True while frames are kept back because their topic is refused."""
        return any(lane.aside for lane in self.lanes)

    def resume(self, *, probe: bool) -> None:
        """Have them sent; ``probe``: one of them, to see whether it is still refused."""
        for lane in self.lanes:
            if lane.aside:
                lane.resume(lane.aside, probe=probe)
                if probe:
                    return

    def next_lane(self, may: Callable[[Entry], Any]) -> Lane | None:
        """Return the lane whose turn it is; ``may``: whether a frame's topic is open."""
        for lane in self.lanes:
            while (entry := lane.peek()) is not None:
                if may(entry):
                    return lane
                if frames.TOPIC_OF_KIND[entry.kind] == lane.name:
                    break
                # A tombstone, which goes to the events: what it stands among has another topic.
                lane.put_off(lane.pop(), lane.aside)
        return None

    def prefetch(self, now_ns: int) -> None:
        """Read ahead in the backlogs."""
        if self._connected:
            for lane in self.lanes:
                lane.prefetch(now_ns)
