"""Sets of frame numbers as ranges: a million frames in order cost as much as one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Ranges:
    """A set of integers, kept as sorted ranges that neither overlap nor touch; both ends are inclusive."""

    __slots__ = ("_firsts", "_lasts", "count")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """Make the union of ``ranges``, in any order."""
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self.count = 0
        """How many integers are in it."""
        for first, last in ranges:
            self.add(first, last)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges, ascending. The set must not change meanwhile."""
        return zip(self._firsts, self._lasts, strict=True)

    def __bool__(self) -> bool:
        """Return True unless it is empty."""
        return bool(self._firsts)

    def __contains__(self, number: int) -> bool:
        """Return True when ``number`` is in one of the ranges."""
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    def __eq__(self, other: object) -> bool:
        """Compare as sets."""
        return isinstance(other, Ranges) and self._firsts == other._firsts and self._lasts == other._lasts

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        """Return the ranges in words."""
        return f"Ranges({list(self)})"

    @property
    def first(self) -> int:
        """The lowest; -1 when empty."""
        return self._firsts[0] if self._firsts else -1

    @property
    def last(self) -> int:
        """The highest; -1 when empty."""
        return self._lasts[-1] if self._lasts else -1

    @property
    def first_range(self) -> tuple[int, int]:
        """The lowest range. Raises :class:`IndexError` when empty."""
        return self._firsts[0], self._lasts[0]

    def add(self, first: int, last: int) -> None:
        """Put ``first``..``last`` in; nothing when ``last`` is below ``first``."""
        if last < first:
            return
        lasts = self._lasts
        if lasts and first == lasts[-1] + 1:
            # What nearly always happens: the next one.
            lasts[-1] = last
            self.count += last - first + 1
            return
        # From the first range that ends at or behind first - 1 to the last that begins at or before last + 1.
        low = bisect_left(lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, lasts[high - 1])
            self.count -= self._size(low, high)
        self._firsts[low:high] = [first]
        lasts[low:high] = [last]
        self.count += last - first + 1

    def remove(self, first: int, last: int) -> None:
        """Take ``first``..``last`` out, as far as they are in."""
        if last < first:
            return
        low = bisect_left(self._lasts, first)
        high = bisect_right(self._firsts, last)
        if low >= high:
            return
        left = [(self._firsts[low], first - 1)] if self._firsts[low] < first else []
        right = [(last + 1, self._lasts[high - 1])] if self._lasts[high - 1] > last else []
        self.count -= self._size(low, high)
        rest = left + right
        self._firsts[low:high] = [begin for begin, _ in rest]
        self._lasts[low:high] = [end for _, end in rest]
        self.count += sum(end - begin + 1 for begin, end in rest)

    def _size(self, low: int, high: int) -> int:
        return sum(self._lasts[low:high]) - sum(self._firsts[low:high]) + high - low

    def clear(self) -> None:
        """Take everything out."""
        self._firsts.clear()
        self._lasts.clear()
        self.count = 0

    def within(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return the ranges of what is both in here and in ``first``..``last``."""
        low = bisect_left(self._lasts, first)
        high = bisect_right(self._firsts, last)
        return [(max(first, self._firsts[at]), min(last, self._lasts[at])) for at in range(low, high)]

    def minus(self, other: Ranges) -> Ranges:
        """Return what is in here and not in ``other``."""
        made = Ranges(self)
        for first, last in other:
            made.remove(first, last)
        return made

    def both(self, other: Ranges) -> Ranges:
        """Return what is in here and in ``other``."""
        return Ranges(part for first, last in self for part in other.within(first, last))

    def update(self, other: Iterable[tuple[int, int]]) -> None:
        """Put all of ``other`` in."""
        for first, last in other:
            self.add(first, last)
