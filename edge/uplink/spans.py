"""Frames that the broker has acknowledged and not every store has: since when, and how often they were sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

MAX_PAUSE_NS: Final = 3600 * 1_000_000_000
MAX_TRIES: Final = 40


def pause_ns(first_ns: int, tries: int) -> int:
    """Return how long to leave a frame alone after it was sent for the ``tries``-th time again: doubling, up to 1 h."""
    return max(first_ns, min(first_ns << min(tries, MAX_TRIES), MAX_PAUSE_NS))


@dataclass(slots=True)
class Span:
    """Frames ``first``..``last``, acknowledged at about the same time."""

    first: int
    last: int
    begun_ns: int
    sent_ns: int
    """When the last of them was acknowledged."""
    tries: int = 0
    """How often they were sent again."""
    due_ns: int = 0
    """Then they are looked at once more."""
    held_back: bool = False
    """They were due, but nobody was there to take them."""


class Spans:
    """Those of one stream, ascending, apart from one another."""

    __slots__ = ("_grain_ns", "_list", "_pause_ns")

    def __init__(self, redrive_ns: int) -> None:
        """``redrive_ns``: the first pause."""
        self._pause_ns = redrive_ns
        # Coarse enough that days of an absent store stay a few thousand spans.
        self._grain_ns = max(redrive_ns // 4, 1)
        self._list: list[Span] = []

    def __iter__(self) -> Iterator[Span]:
        """Yield them, ascending."""
        return iter(self._list)

    def __len__(self) -> int:
        """Return how many spans there are."""
        return len(self._list)

    def acknowledged(self, seq: int, now_ns: int) -> None:
        """Note that the broker has this frame, once more or for the first time."""
        spans = self._list
        last = spans[-1] if spans else None
        if last is None or seq > last.last:
            if last is not None and seq == last.last + 1 and not last.tries and now_ns - last.begun_ns < self._grain_ns:
                last.last = seq
                last.sent_ns = now_ns
                last.due_ns = now_ns + self._pause_ns
            else:
                spans.append(Span(seq, seq, now_ns, now_ns, 0, now_ns + self._pause_ns))
            return
        at = self._find(seq)
        found = spans[at]
        if found.first <= seq:
            found.sent_ns = now_ns
            found.due_ns = now_ns + pause_ns(self._pause_ns, found.tries)
        else:
            spans.insert(at, Span(seq, seq, now_ns, now_ns, 0, now_ns + self._pause_ns))

    def add(self, first: int, last: int, now_ns: int) -> None:
        """Put a range in that is in no span yet; due at once."""
        if last >= first:
            self._list.insert(self._find(first), Span(first, last, now_ns, 0, 0, now_ns))

    def cover(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Forget what every store has."""
        for first, last in ranges:
            inside = self.carve(first, last)
            if inside:
                at = self._find(inside[0].first)
                del self._list[at : at + len(inside)]

    def carve(self, first: int, last: int) -> list[Span]:
        """Cut the spans at the ends of ``first``..``last``, and return those inside."""
        if last < first:
            return []
        at = self._find(first)
        inside = []
        while at < len(self._list) and self._list[at].first <= last:
            span = self._list[at]
            if span.first < first:
                self._list.insert(at, replace(span, last=first - 1))
                span.first = first
                at += 1
            if span.last > last:
                self._list.insert(at + 1, replace(span, first=last + 1))
                span.last = last
            inside.append(span)
            at += 1
        return inside

    def hold_back(self, spans: Iterable[Span], until_ns: int) -> None:
        """Look at these again at ``until_ns``, or as soon as somebody is there; neighbours become one."""
        for span in spans:
            span.held_back = True
            span.due_ns = until_ns
        joined: list[Span] = []
        for span in self._list:
            before = joined[-1] if joined else None
            if before and before.held_back and span.held_back and before.last + 1 == span.first:
                before.last = span.last
                before.sent_ns = max(before.sent_ns, span.sent_ns)
                before.tries = max(before.tries, span.tries)
            else:
                joined.append(span)
        self._list = joined

    def _find(self, seq: int) -> int:
        """Return the place of the first span that does not end before ``seq``."""
        low, high = 0, len(self._list)
        while low < high:
            middle = (low + high) // 2
            if self._list[middle].last < seq:
                low = middle + 1
            else:
                high = middle
        return low
