"""What is known of one stream of one epoch while frames of it lie in the outbox. Numbers only; payloads are on disk."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import msgpack

from edge.uplink.outbox_file import MAX_SEQ, StreamRow
from edge.uplink.ranges import Ranges
from edge.uplink.spans import Spans

AGES: Final = 2048
"""Notes of when frames were committed, for the age of the oldest; older notes are thinned out."""
UNKNOWN_HIGH: Final = MAX_SEQ + 1
""":attr:`Held.high` of a stream of which nothing ever came: of an earlier epoch, known from the stores only."""
_AGE_NS: Final = 1_000_000_000


class Retired:
    """Frames that every store has, kept a while longer."""

    __slots__ = ("due_ns", "first", "last")

    def __init__(self, first: int, last: int, due_ns: int) -> None:
        """To be deleted at ``due_ns``."""
        self.first = first
        self.last = last
        self.due_ns = due_ns


class Held:
    """The frames of one stream: which are here, which have yet to be sent, which the broker and the stores have."""

    def __init__(self, sid: int, epoch: int, stream: str, redrive_ns: int) -> None:
        """Make a stream without frames."""
        self.sid = sid
        self.epoch = epoch
        self.stream = stream
        self.fresh = True
        """No frame has ever come."""
        self.high = 0
        """One more than the highest frame ever committed."""
        self.kept = Ranges()
        """Frames on disk."""
        self.absent = Ranges()
        """Frames below :attr:`high` that never came, or went with a damaged outbox; a store may have them."""
        self.salvaged = False
        """It was in a damaged outbox: frames from :attr:`high` on may have been sent, and be stored."""
        self.todo = Ranges()
        """Of these: to be sent, and not in memory for it."""
        self.unsent = Ranges()
        """Of these: never sent, as far as this process knows. No store can have one."""
        self.unsure = Ranges()
        """Of these: committed by an earlier process, which may have sent them and died before it noted that."""
        self.acked = Ranges()
        """Of these: the broker has acknowledged them, once at least."""
        self.out: set[int] = set()
        """In memory to be sent, or under way."""
        self.covered: dict[str, Ranges] = {}
        """By store: what it says that it has."""
        self.generations: dict[str, str] = {}
        """By store: which of its lives said so."""
        self.moved_ns: dict[str, int] = {}
        """By store: when its highest frame last rose."""
        self.spans = Spans(redrive_ns)
        self.retired: deque[Retired] = deque()
        self.retired_set = Ranges()
        self.thinned_to = 0
        """Frames below are documents of what was thinned, or were under way when it was done."""
        self.noted_ns = 0
        """When its state was last written; 0: never."""
        self._ages: list[tuple[int, int]] = []

    def committed(self, first: int, last: int, now_ns: int) -> None:
        """Frames ``first``..``last`` are on disk."""
        self.absent.add(self.high, first - 1)
        self.high = max(self.high, last + 1)
        self.kept.add(first, last)
        self.unsent.add(first, last)
        if not self._ages or now_ns - self._ages[-1][0] >= _AGE_NS:
            self._ages.append((now_ns, first))
            if len(self._ages) > AGES:
                del self._ages[1::2]

    def begins(self, seq: int) -> None:
        """Note the first frame that came, ``seq``. What lies below was never here."""
        self.absent.add(self.high, seq - 1)
        self.high = max(self.high, seq)
        self.fresh = False

    def went_to(self, seq: int) -> None:
        """Note that frame ``seq`` was sent once, and that none will come: of these no trace was left here."""
        self.absent.add(self.high, seq)
        self.high = max(self.high, seq + 1)

    def vanished(self, first: int, last: int) -> None:
        """Note that frames ``first``..``last``, which are to be sent, are not on the disk."""
        for begin, end in self.todo.within(first, last):
            self.absent.add(begin, end)
        self.deleted(first, last)

    def declare(self, first: int, last: int) -> None:
        """Note that tombstones take the places of ``first``..``last``."""
        self.absent.remove(first, last)
        self.kept.add(first, last)
        self.unsent.add(first, last)
        # Of the frames themselves one may be on its way to a store still: its word would be no lie.
        self.unsure.add(first, last)

    def undeclare(self, first: int, last: int) -> None:
        """Take that back: they could not be written."""
        self.deleted(first, last)
        self.absent.add(first, last)

    def age_ns(self, seq: int, now_ns: int) -> int:
        """Return for how long a frame has been here, about; what an earlier process committed counts from our start."""
        since = self._ages[0][0] if self._ages else now_ns
        for noted_ns, first in reversed(self._ages):
            if first <= seq:
                since = noted_ns
                break
        return max(now_ns - since, 0)

    def at_broker(self, sent_since_ns: int) -> Ranges:
        """Return what the broker has taken since ``sent_since_ns``, and not every store has."""
        recent = Ranges((span.first, span.last) for span in self.spans if span.sent_ns >= sent_since_ns)
        return recent.minus(self.todo)

    def everywhere(self, stores: tuple[str, ...]) -> Ranges:
        """Return what every one of ``stores`` has, and we still have, too."""
        have = self.kept
        for store in stores:
            have = have.both(self.covered.get(store, Ranges()))
        return have

    def retire(self, ranges: Ranges, due_ns: int, grain_ns: int) -> None:
        """Have these deleted at ``due_ns`` or up to ``grain_ns`` later, those that are not yet to be."""
        for first, last in ranges.minus(self.retired_set):
            self.retired_set.add(first, last)
            newest = self.retired[-1] if self.retired else None
            if newest is not None and newest.last + 1 == first and due_ns - newest.due_ns < grain_ns:
                newest.last = last
            else:
                self.retired.append(Retired(first, last, due_ns))

    def unretire(self, lost: Ranges) -> None:
        """Take back what a store has lost."""
        entries, self.retired = self.retired, deque()
        for entry in entries:
            left = Ranges([(entry.first, entry.last)]).minus(lost)
            self.retired.extend(Retired(first, last, entry.due_ns) for first, last in left)
        self.retired_set = self.retired_set.minus(lost)

    def deleted(self, first: int, last: int) -> None:
        """Forget these frames; the disk does, too."""
        for ranges in (self.kept, self.todo, self.unsent, self.unsure, self.acked, self.retired_set):
            ranges.remove(first, last)
        for ranges in self.covered.values():
            ranges.remove(first, last)
        self.spans.cover([(first, last)])
        oldest = self.retired[0] if self.retired else None
        if oldest is not None and (oldest.first, oldest.last) == (first, last):
            self.retired.popleft()
        elif oldest is not None:
            self.unretire(Ranges([(first, last)]))

    # -- what outlives the process

    def row(self, now_ns: int) -> StreamRow:
        """Return what is to be remembered."""
        state = {
            "high": self.high,
            "kept": list(self.kept),
            "absent": list(self.absent),
            "acked": list(self.acked),
            "covered": {store: list(ranges) for store, ranges in self.covered.items()},
            "generations": self.generations,
            # Not a time of day: clocks step, and a step must not delete.
            "retired": [(one.first, one.last, max(one.due_ns - now_ns, 0)) for one in self.retired],
            "thinned_to": self.thinned_to,
            "salvaged": self.salvaged,
        }
        return StreamRow(self.sid, self.epoch, self.stream, msgpack.packb(state))

    @classmethod
    def from_row(cls, row: StreamRow, ends: tuple[int, int], redrive_ns: int, now_ns: int) -> Held:
        """Go on where an earlier process stopped; ``ends``: the lowest and highest row on disk, -1 for none.

        What was committed after the state was last written is to be sent, perhaps once more.
        """
        held = cls(row.sid, row.epoch, row.stream, redrive_ns)
        state: dict[str, Any] = msgpack.unpackb(row.state) if row.state else {}
        known = state.get("high", 0)
        lowest, highest = ends
        held.fresh = False
        held.high = max(known, highest + 1)
        held.kept = Ranges(state.get("kept", ()))
        held.kept.add(known, highest)
        if highest >= 0:
            # A row that the state knows nothing of is sent once too often rather than never.
            held.kept.add(lowest, (held.kept.first if held.kept else highest + 1) - 1)
        held.absent = Ranges(state.get("absent", ())).minus(held.kept)
        held.acked = Ranges(state.get("acked", ())).both(held.kept)
        held.covered = {store: Ranges(ranges).both(held.kept) for store, ranges in state.get("covered", {}).items()}
        held.generations = dict(state.get("generations", {}))
        for first, last, left_ns in state.get("retired", ()):
            held.retired.append(Retired(first, last, now_ns + left_ns))
            held.retired_set.add(first, last)
        held.thinned_to = state.get("thinned_to", 0)
        held.salvaged = bool(state.get("salvaged", False))
        held.unsent = held.kept.minus(held.acked)
        for ranges in held.covered.values():
            held.unsent = held.unsent.minus(ranges)
        held.unsure = Ranges(held.unsent)
        held.todo = Ranges(held.unsent)
        held.noted_ns = now_ns
        return held
