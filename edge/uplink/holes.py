"""What is missing below the first frame that came, declared once it is known to be lost.

The ring is released into the outbox. So where a stream's first frame here is not its first, or a number was left out,
what lies before was taken by an outbox that is no more, and the rig does not have it. Whether it is lost the stores
tell: a frame that all of them lack, while they have a later one, gets a tombstone in its place, and their watermarks
become whole. What one store has is a hole of the others only, to be filled from that one.

A store's word may be old, and what it lacks on its way to it: they have to lack it in two words of each, ``redrive_s``
apart, and the second was said while we were connected, not kept by the broker. Nothing is declared of an epoch that is
not this rig's for certain, and nothing above a store's highest frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from edge.frames import hex16
from edge.uplink.held import UNKNOWN_HIGH, Held
from edge.uplink.outbox import Outbox
from edge.uplink.outbox_file import Usage
from edge.uplink.ranges import Ranges
from edge.uplink.redrive import StoreState
from edge.uplink.settings import UplinkSettings
from edge.watermark import Mark

CAUSE: Final = "lost on the rig before any store had it"
CHUNK: Final = 128
"""Frames declared at a time; the next only when these have been sent, so that nothing new waits behind them."""
LOOK_NS: Final = 500_000_000
MAX_ADOPTED: Final = 100_000
"""Frames of one stream of an earlier epoch: there only the stores say how many there were."""

_Key = tuple[int, str]
_Marks = Mapping[_Key, Mark]


@dataclass(slots=True)
class _Suspect:
    """Frames of one stream that every store lacks, since so long."""

    ranges: Ranges
    since_ns: int
    said: bool = False


class Holes:
    """Compares what never came with what the stores have. Has at most one job under way."""

    def __init__(
        self,
        settings: UplinkSettings,
        outbox: Outbox,
        stores: Mapping[str, StoreState],
        *,
        later: Callable[[Held, int, int], None],
        log: Any,  # noqa: ANN401 - structlog's loggers share no type
    ) -> None:
        """``stores``: what each configured one said last. ``later``: has frames sent."""
        self._outbox = outbox
        self._stores = stores
        self._later = later
        self._log = log
        self._patience_ns = int(settings.redrive_s * 1e9)
        self._look_ns = 0
        self._ask_ns = 0
        self._busy = False
        self._life = 0
        self._suspects: dict[_Key, deque[_Suspect]] = {}
        self._told: set[tuple[str, ...]] = set()
        self.unaccounted = 0
        """Frames that are not here, and of which the stores have not said enough."""
        self.elsewhere: dict[str, int] = dict.fromkeys(stores, 0)
        """By store: frames that it lacks, the rig does not have, and another store has."""
        self.unknown = 0
        """Frames that a store lacks, of epochs of which the outbox knows nothing."""

    def opened(self) -> None:
        """The outbox begins, or begins anew."""
        self._suspects.clear()
        self._busy = False
        self._life += 1

    def turn(self, now_ns: int, former: set[int]) -> None:
        """Judge what is missing, and declare some of what is lost. ``former``: epochs of this rig that have ended."""
        if now_ns < self._look_ns or not self._stores or not self._outbox.is_open:
            return
        self._look_ns = now_ns + LOOK_NS
        words: dict[str, _Marks] = {
            name: {(mark.epoch, mark.stream): mark for mark in state.said.marks} if state.said else {}
            for name, state in self._stores.items()
        }
        self._strangers(words, former)
        self._ends(words, former)
        self.unaccounted = 0
        self.elsewhere = dict.fromkeys(self._stores, 0)
        for held in list(self._outbox.by_sid.values()):
            if held.absent:
                self._judge(held, words, now_ns)
        for name, count in self.elsewhere.items():
            if count:
                self._tell_once(
                    "a store lacks frames that this rig no longer has and another store does: "
                    "`tipguard store import` brings them there",
                    store=name,
                )

    # -- what is known of the missing

    def _judge(self, held: Held, words: Mapping[str, _Marks], now_ns: int) -> None:
        key = held.epoch, held.stream
        lost, everywhere, anywhere = Ranges(held.absent), Ranges(held.absent), Ranges()
        missing = {}
        for name, marks in words.items():
            mark = marks.get(key)
            # Only what lies below something that it has: of the rest it is silent.
            missing[name] = held.absent.both(Ranges(mark.holes if mark else ()))
            lost = lost.both(missing[name])
            has = held.absent.both(Ranges(mark.covered() if mark else ()))
            everywhere = everywhere.both(has)
            anywhere.update(has)
        for first, last in everywhere:
            held.absent.remove(first, last)
            self._outbox.touch(held)
        self.unaccounted += held.absent.minus(anywhere).count
        for name, ranges in missing.items():
            self.elsewhere[name] += ranges.both(anywhere).count
        ready = self._ready(key, lost, now_ns)
        if ready and not self._busy and self._outbox.room and held.todo.count < CHUNK:
            self._declare(held, ready, now_ns)

    def _ready(self, key: _Key, lost: Ranges, now_ns: int) -> Ranges:
        """Return what has been lacking for long enough."""
        suspects = self._suspects.setdefault(key, deque())
        new = Ranges(lost)
        for suspect in suspects:
            suspect.ranges = suspect.ranges.both(lost)
            new = new.minus(suspect.ranges)
        if new:
            suspects.append(_Suspect(new, now_ns))
        while suspects and not suspects[0].ranges:
            suspects.popleft()
        if not suspects:
            del self._suspects[key]
            return Ranges()
        suspect = suspects[0]
        due_ns = suspect.since_ns + self._patience_ns
        if any(state.spoke_ns < due_ns for state in self._stores.values()):
            if now_ns >= due_ns:
                self._ask(now_ns)
            return Ranges()
        if not suspect.said:
            suspect.said = True
            self._log.error(
                "frames are lost: they went with an outbox that is no more, or with a damaged ring, and no store has "
                "them. Tombstones take their places. Look for the reason: a worn card, a full or dying disk, a hand",
                epoch=hex16(key[0]),
                stream=key[1],
                frames=suspect.ranges.count,
                first=suspect.ranges.first,
                last=suspect.ranges.last,
                quarantined=self._outbox.quarantined,
            )
        return suspect.ranges

    def _ask(self, now_ns: int) -> None:
        """Have a frame sent once more: a store speaks when something comes, and a rig at rest sends nothing."""
        if now_ns < self._ask_ns:
            return
        self._ask_ns = now_ns + self._patience_ns
        for held in reversed(self._outbox.by_sid.values()):
            if held.kept and held.kept.last not in held.out and held.kept.last not in held.todo:
                self._later(held, held.kept.last, held.kept.last)
                return

    def _declare(self, held: Held, ready: Ranges, now_ns: int) -> None:
        first, last = ready.first_range
        last = min(last, first + CHUNK - 1)
        self._busy = True
        job = self._outbox.declare(held, first, last, CAUSE, now_ns)
        self._outbox.run(
            job,
            partial(self._declared, self._life, held, first, last),
            partial(self._not_declared, self._life, held, first, last),
        )

    def _declared(self, life: int, held: Held, first: int, last: int, usage: Usage) -> None:
        if life != self._life:
            return
        self._busy = False
        self._outbox.usage = usage
        self._outbox.declared += last - first + 1
        # Not what every store came to have meanwhile.
        for begin, end in held.kept.within(first, last):
            self._later(held, begin, end)

    def _not_declared(self, life: int, held: Held, first: int, last: int) -> None:
        held.undeclare(first, last)
        if life == self._life:
            self._busy = False

    # -- epochs of which nothing is here

    def _strangers(self, words: Mapping[str, _Marks], former: set[int]) -> None:
        """Take in what is missing of epochs that were before ours; count what is of others."""
        missing: dict[_Key, Ranges] = {}
        for key, mark in _marks(words):
            held = self._outbox.streams.get(key)
            if mark.holes and (held is None or held.high == UNKNOWN_HIGH):
                missing.setdefault(key, Ranges()).update(mark.holes)
        self.unknown = 0
        for key, ranges in missing.items():
            held = self._outbox.streams.get(key)
            ours = held is not None or key[0] in former
            if not ours or ranges.count > MAX_ADOPTED:
                self.unknown += ranges.count
            elif held is None:
                # The ring is read in order: it has nothing of an epoch that was before one it has shown.
                self._outbox.adopt(*key, ranges)
            else:
                # Of more holes than a word has room for, others come to light.
                held.absent.update(ranges.minus(held.kept))
        if self.unknown:
            self._tell_once(
                "a store lacks frames of epochs that this outbox knows nothing of: another rig with this id has them, "
                "or they went with an earlier outbox; `tipguard store verify` names them",
            )

    def _ends(self, words: Mapping[str, _Marks], former: set[int]) -> None:
        """Take from the stores how far a salvaged stream of an epoch that has ended went on: the rig has forgotten."""
        if self._outbox.uncommitted:
            return  # the last of it may be on its way in
        for held in self._outbox.by_sid.values():
            if held.salvaged and held.epoch in former:
                key = held.epoch, held.stream
                top = max((marks[key].top for marks in words.values() if key in marks), default=-1)
                if held.high <= top < held.high + MAX_ADOPTED:
                    held.went_to(top)
                    self._outbox.touch(held)

    def _tell_once(self, what: str, **more: str) -> None:
        if (said := (what, *more.values())) not in self._told:
            self._told.add(said)
            self._log.warning(what, **more)


def _marks(words: Mapping[str, _Marks]) -> Iterator[tuple[_Key, Mark]]:
    for marks in words.values():
        yield from marks.items()
