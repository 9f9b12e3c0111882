"""Which numbers of a stream are held, as ranges: what a watermark is computed from, and what tells a repetition."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from edge.store.backend import Key
from edge.watermark import MAX_HOLES, Mark

Range = tuple[int, int]
"""From and to, both inclusive."""


class Coverage:
    """A set of numbers from 0 on, kept as disjoint ranges that do not touch: its size is that of the holes."""

    __slots__ = ("_first", "_last")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        """Begin with ``ranges``, in any order; they may overlap."""
        self._first: list[int] = []
        self._last: list[int] = []
        for first, last in ranges:
            self.add_range(first, last)

    def __contains__(self, seq: int) -> bool:
        at = bisect_right(self._first, seq) - 1
        return at >= 0 and seq <= self._last[at]

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self)

    def __iter__(self) -> Iterator[Range]:
        """Iterate over the ranges, ascending."""
        return zip(self._first, self._last, strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Coverage) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def add(self, seq: int) -> bool:
        """Add one number; return False when it was there."""
        if self._last and seq == self._last[-1] + 1:
            self._last[-1] = seq  # the common case: the next one
            return True
        if seq in self:
            return False
        self.add_range(seq, seq)
        return True

    def add_range(self, first: int, last: int) -> None:
        """Add all from ``first`` to ``last``. Raises ValueError when these are none."""
        if not 0 <= first <= last:
            raise ValueError(f"range {first}..{last}")
        # What overlaps or touches becomes one with it.
        begin = bisect_right(self._last, first - 2) if first > 1 else 0
        end = bisect_right(self._first, last + 1)
        if begin < end:
            first = min(first, self._first[begin])
            last = max(last, self._last[end - 1])
        self._first[begin:end] = [first]
        self._last[begin:end] = [last]

    def holes(self) -> Iterator[Range]:
        """Yield what is missing below the highest number, ascending."""
        expected = 0
        for first, last in self:
            if first > expected:
                yield expected, first - 1
            expected = last + 1

    def mark(self, key: Key) -> Mark:
        """Return what a watermark may say of it: at most 64 holes, and nothing above them."""
        contiguous = self._last[0] + 1 if self._first and self._first[0] == 0 else 0
        holes: list[Range] = []
        top = self._last[-1] if self._last else -1
        for hole in self.holes():
            if len(holes) == MAX_HOLES:
                top = hole[0] - 1
                break
            holes.append(hole)
        return Mark(key.epoch, key.stream, contiguous, top, tuple(holes))
