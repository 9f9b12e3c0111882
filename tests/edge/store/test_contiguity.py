"""Ranges of numbers against a plain set, and what a watermark says of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.store.contiguity import Coverage
from edge.watermark import MAX_HOLES, Watermark, decode, encode
from tests.edge.store.made import key

NUMBERS = st.lists(st.integers(0, 40), max_size=60)


def covered(coverage: Coverage) -> set[int]:
    return {seq for first, last in coverage for seq in range(first, last + 1)}


@given(NUMBERS)
def test_it_is_the_set_it_stands_for(numbers: list[int]) -> None:
    coverage, known = Coverage(), set[int]()
    for seq in numbers:
        assert coverage.add(seq) is (seq not in known)
        known.add(seq)
        assert seq in coverage
    assert covered(coverage) == known
    assert len(coverage) == len(known)
    assert all((seq in coverage) == (seq in known) for seq in range(45))


@given(NUMBERS)
def test_ranges_are_ascending_and_never_touch(numbers: list[int]) -> None:
    ranges = list(Coverage((seq, seq) for seq in numbers))
    assert all(first <= last for first, last in ranges)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(ranges))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)), max_size=20))
def test_ranges_may_come_in_any_order_and_overlap(pairs: list[tuple[int, int]]) -> None:
    coverage = Coverage((first, first + width) for first, width in pairs)
    assert covered(coverage) == {seq for first, width in pairs for seq in range(first, first + width + 1)}


@given(NUMBERS)
def test_a_mark_covers_exactly_what_is_held(numbers: list[int]) -> None:
    coverage = Coverage((seq, seq) for seq in numbers)
    mark = coverage.mark(key())
    assert [seq for seq in range(45) if mark.covers(seq)] == sorted(set(numbers))
    # And it is one that a rig takes.
    document = Watermark("lab", "0123456789abcdef", "rig-1", (mark,))
    assert decode(encode(document, "2026-01-01T00:00:00Z")) == document


def test_too_many_holes_cut_the_top_below_the_next_one() -> None:
    every_other = range(1, 2 * (MAX_HOLES + 10), 2)
    mark = Coverage((seq, seq) for seq in every_other).mark(key())
    assert (mark.contiguous, len(mark.holes), mark.top) == (0, MAX_HOLES, 2 * MAX_HOLES - 1)
    assert not mark.covers(mark.top + 1)
    assert not mark.covers(mark.top + 2)


def test_nothing_held() -> None:
    mark = Coverage().mark(key())
    assert (mark.contiguous, mark.top, mark.holes) == (0, -1, ())


@pytest.mark.parametrize("pair", [(-1, 0), (3, 2)])
def test_no_range(pair: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="range"):
        Coverage([pair])


def test_equal_when_they_hold_the_same() -> None:
    assert Coverage([(0, 3)]) == Coverage([(2, 3), (0, 1)])
    assert Coverage([(0, 3)]) != Coverage([(0, 2)])
