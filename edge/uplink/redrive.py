"""What the stores say they have, and what is therefore sent again, kept, or let go.

A store's word counts only if it can be true: a mark above what was ever sent changes nothing for its stream, and what
comes from a store that nobody configured nothing at all. Of a stream that was salvaged nobody knows how far it was
sent; there a mark counts for what is here. A store that goes back, or is another generation, gets again what we still
have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from edge.clock import Clock
from edge.uplink.held import Held
from edge.uplink.mqtt import Incoming
from edge.uplink.outbox import Outbox
from edge.uplink.ranges import Ranges
from edge.uplink.settings import UplinkSettings
from edge.uplink.spans import Span, pause_ns
from edge.watermark import MAX_HOLES, Mark, Watermark, WatermarkError, decode

HOLE_PAUSE_NS: Final = 1_000_000_000
"""A frame is not sent again sooner, however often a store says that it lacks it; doubled each time."""
LOOK_NS: Final = 200_000_000
PROBE: Final = 32
"""Frames sent again to stores that say nothing at all: enough to wake one that is back."""


@dataclass(slots=True)
class Checked:
    """A document's marks of streams that are here."""

    believed: list[tuple[Held, Mark, Ranges]] = field(default_factory=list)
    """Each with what it covers of that which is here."""
    refused: dict[tuple[int, str], str] = field(default_factory=dict)
    """By epoch and stream: why its mark cannot be true."""
    unsure: bool = False
    """One of them may be true, or not: the next document will tell."""


@dataclass(slots=True)
class StoreState:
    """What is known of one configured store."""

    generation: str | None = None
    heard_ns: int | None = None
    refused: str | None = None
    """Why its last word was not taken, or not for every stream."""
    said: Watermark | None = None
    """Its last word that was taken, without what was not."""
    payload: bytes = b""
    spoke_ns: int = 0
    """When it last said something new, and we were there: not how long ago what the broker keeps for us was said."""
    kept: bool = True
    """Its next word may be the one that the broker keeps."""


class Redrive:
    """Takes the stores' documents, and sends again what they lack."""

    def __init__(
        self,
        settings: UplinkSettings,
        outbox: Outbox,
        *,
        clock: Clock,
        later: Callable[[Held, int, int], None],
        log: Any,  # noqa: ANN401 - structlog's loggers share no type
    ) -> None:
        """``later``: has these frames sent once more."""
        self._settings = settings
        self._outbox = outbox
        self._clock = clock
        self._later = later
        self._log = log
        self._redrive_ns = int(settings.redrive_s * 1e9)
        self._keep_ns = int(settings.keep_after_watermark_s * 1e9)
        self._look_ns = 0
        self._probe_ns = 0
        self._probed = 0
        self.stores = {name: StoreState() for name in settings.stores}
        self.redriven = 0
        """Frames sent again because a store does not have them."""
        self.refused = 0
        """Documents of stores that could not be true, or not in all they said."""
        self._foreign: set[str] = set()

    @property
    def filters(self) -> list[str]:
        """What to subscribe to."""
        return [self._settings.topic("watermark/+")] if self.stores else []

    @property
    def fault(self) -> str | None:
        """Why a store is not believed, in words."""
        return next((f"store {name}: {one.refused}" for name, one in self.stores.items() if one.refused), None)

    def opened(self) -> None:
        """The outbox begins: what the broker has and not every store will be looked at in a while."""
        now_ns = self._clock.now_ns()
        for held in self._outbox.by_sid.values():
            if self.stores:
                self._settle(held, now_ns)
                for first, last in held.kept.minus(held.everywhere(self._settings.stores)).minus(held.todo):
                    held.spans.add(first, last, now_ns)
                for span in held.spans:
                    span.due_ns = now_ns + self._redrive_ns

    def acknowledged(self, held: Held, seq: int, now_ns: int) -> None:
        """The broker has a frame; the stores may not."""
        if self.stores and not all(seq in held.covered.get(store, ()) for store in self.stores):
            held.spans.acknowledged(seq, now_ns)

    # -- documents

    def subscribed(self) -> None:
        """The stores are asked for, and the broker begins with the last word of each, said at any time."""
        for state in self.stores.values():
            state.kept = True

    def take(self, message: Incoming) -> None:
        """Take what a store says; never raises for anything in it."""
        store = message.topic.rpartition("/")[2]
        if store not in self.stores:
            self.refused += 1
            if store not in self._foreign and len(self._foreign) < PROBE:
                self._foreign.add(store)
                self._log.warning("a store that is not in outbox.stores says what it has: not counted", store=store)
            return
        # The retain flag does not tell: stores set it, and the broker leaves it as it was published.
        kept, self.stores[store].kept = self.stores[store].kept, False
        try:
            said = decode(message.payload)
            if (said.store, said.rig) != (store, self._settings.rig):
                raise WatermarkError(f"watermark of store {said.store}, rig {said.rig} under {message.topic}")
        except WatermarkError as error:
            self._refuse(store, str(error))
            return
        checked = self._check(said)
        why = next(iter(checked.refused.values()), None)
        if why is not None and not checked.believed:
            self._refuse(store, why)
        elif not checked.unsure and self._outbox.is_open:
            if why is not None:
                self._refuse(store, why)
                said = replace(
                    said, marks=tuple(mark for mark in said.marks if (mark.epoch, mark.stream) not in checked.refused)
                )
            self._apply(said, checked)
            state = self.stores[store]
            state.refused = why
            if message.payload != state.payload:
                state.said, state.payload = said, message.payload
                if not kept:
                    state.spoke_ns = self._clock.now_ns()

    def _refuse(self, store: str, why: str) -> None:
        self.refused += 1
        if self.stores[store].refused != why:
            self._log.error("what a store says of a stream cannot be true, and changes nothing", store=store, why=why)
        self.stores[store].refused = why

    def _check(self, said: Watermark) -> Checked:
        checked = Checked()
        for mark in said.marks:
            held = self._outbox.streams.get((mark.epoch, mark.stream))
            if held is None:
                continue  # of long ago, or of before the outbox was begun anew
            if max(mark.top + 1, mark.contiguous) > held.high and not held.salvaged:
                checked.refused[mark.epoch, mark.stream] = (
                    f"it claims {mark.stream} frame {mark.top}, and {held.high - 1} is the last there is"
                )
                continue
            covered = Ranges(mark.covered()).both(held.kept)
            unsent = covered.both(held.unsent)
            if unsent.minus(held.unsure):
                checked.refused[mark.epoch, mark.stream] = (
                    f"it claims {mark.stream} frame {unsent.first}, which was never sent"
                )
                continue
            # An earlier process of ours may have sent it. It is sent again in a moment; then the store will say so.
            checked.unsure = checked.unsure or bool(unsent)
            checked.believed.append((held, mark, covered))
        return checked

    def _apply(self, said: Watermark, checked: Checked) -> None:
        now_ns = self._clock.now_ns()
        state = self.stores[said.store]
        state.generation = said.generation
        state.heard_ns = now_ns
        marks: Mapping[int, tuple[Mark, Ranges]] = {
            held.sid: (mark, covered) for held, mark, covered in checked.believed
        }
        lost = 0
        for held in self._outbox.by_sid.values():
            if (held.epoch, held.stream) in checked.refused:
                continue
            anew = held.generations.get(said.store, said.generation) != said.generation
            if held.sid not in marks and not anew:
                continue
            held.generations[said.store] = said.generation
            mark, covered = marks.get(held.sid, (None, Ranges()))
            before = held.covered.get(said.store, Ranges())
            if mark is not None and not anew and len(mark.holes) == MAX_HOLES:
                # More holes than a document has room for: it is silent above its top, where its last word still holds.
                covered.update(before.within(mark.top + 1, held.high))
            gone = before.minus(covered)
            held.covered[said.store] = covered
            if covered.count + gone.count > before.count:
                self._outbox.moved_ns[said.store] = now_ns
            if covered.last > before.last:
                held.moved_ns[said.store] = now_ns
            if gone:
                lost += gone.count
                # What it moved through in its former life says nothing of this one.
                held.moved_ns.pop(said.store, None)
                held.unretire(gone)
                for first, last in gone.minus(held.todo):
                    held.spans.cover([(first, last)])
                    held.spans.add(first, last, now_ns)
            if mark is not None:
                self._holes(held, mark, now_ns)
            self._settle(held, now_ns)
            if covered != before:
                self._outbox.touch(held)
        if lost:
            self._log.warning(
                "a store has gone back: what it lost is sent again, as far as it is still here",
                store=said.store,
                frames=lost,
                generation=said.generation,
            )
        self._wake_up(now_ns)

    def _settle(self, held: Held, now_ns: int) -> None:
        """What every store has need not be sent, and is deleted in a while."""
        everywhere = held.everywhere(self._settings.stores)
        held.spans.cover(everywhere)
        for first, last in everywhere:
            held.todo.remove(first, last)
        held.retire(everywhere, now_ns + self._keep_ns, self._keep_ns // 100)

    def _holes(self, held: Held, mark: Mark, now_ns: int) -> None:
        for first, last in mark.holes:
            for span in held.spans.carve(first, last):
                if now_ns >= span.sent_ns + pause_ns(HOLE_PAUSE_NS, span.tries):
                    self._again(held, span, now_ns)

    def _again(self, held: Held, span: Span, now_ns: int) -> None:
        span.tries += 1
        span.sent_ns = now_ns
        span.due_ns = now_ns + pause_ns(self._redrive_ns, span.tries)
        span.held_back = False
        self._send(held, span.first, span.last)

    def _send(self, held: Held, first: int, last: int) -> None:
        again = Ranges(held.kept.within(first, last)).minus(held.todo)
        for seq in held.out:
            again.remove(seq, seq)
        self.redriven += again.count
        for begin, end in again:
            self._later(held, begin, end)

    def _wake_up(self, now_ns: int) -> None:
        """A store speaks: what was held back for want of one is due now."""
        for held in self._outbox.by_sid.values():
            for span in held.spans:
                if span.held_back:
                    span.held_back = False
                    span.due_ns = now_ns
        self._look_ns = now_ns

    # -- what no store speaks of

    def turn(self, now_ns: int) -> None:
        """Send again what has been acknowledged for long and is nowhere."""
        if now_ns < self._look_ns or not self.stores or not self._outbox.is_open:
            return
        self._look_ns = now_ns + LOOK_NS
        silent: dict[int, Span] = {}
        for held in self._outbox.by_sid.values():
            due = [span for span in held.spans if span.due_ns <= now_ns]
            if due and (unheard := self._look(held, due, now_ns)):
                silent[held.sid] = unheard[0]
        if silent and now_ns >= self._probe_ns:
            self._probe_ns = now_ns + self._redrive_ns
            # Another stream each time: what one store will never take must not be all that is ever tried.
            self._probed = min((sid for sid in silent if sid > self._probed), default=min(silent))
            span = silent[self._probed]
            self._send(self._outbox.by_sid[self._probed], span.first, min(span.last, span.first + PROBE - 1))

    def _look(self, held: Held, due: list[Span], now_ns: int) -> list[Span]:
        """Send again what a store that speaks has not taken; return what is lacking where nobody speaks."""
        silent = []
        for span in due:
            lacking = [name for name in self.stores if not self._has(held, name, span)]
            patience_ns = max((self._on_its_way(held, name, span) for name in lacking), default=0)
            if patience_ns > now_ns:
                # It works through what it was sent, and has not come to this yet.
                span.due_ns = patience_ns
            elif any((self.stores[name].heard_ns or -1) >= span.sent_ns for name in lacking):
                self._again(held, span, now_ns)
            else:
                silent.append(span)
        if silent:
            held.spans.hold_back(silent, now_ns + self._redrive_ns)
        return silent

    def _has(self, held: Held, store: str, span: Span) -> bool:
        return bool(held.covered.get(store, Ranges()).within(span.first, span.last) == [(span.first, span.last)])

    def _on_its_way(self, held: Held, store: str, span: Span) -> int:
        """Return until when a store that moves on may be expected to come to this by itself; 0: not."""
        moved_ns = held.moved_ns.get(store)
        if moved_ns is None or span.first <= held.covered.get(store, Ranges()).last:
            return 0
        return moved_ns + self._redrive_ns
