"""Ranges against Python's own sets, and spans against what they are for."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge.uplink.ranges import Ranges
from edge.uplink.spans import MAX_PAUSE_NS, Spans, pause_ns

SECOND = 1_000_000_000
RANGE = st.tuples(st.integers(0, 60), st.integers(-2, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))
STEPS = st.lists(st.tuples(st.booleans(), RANGE), max_size=40)


def members(ranges: Ranges) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


def check(ranges: Ranges, expected: set[int]) -> None:
    assert members(ranges) == expected
    assert ranges.count == len(expected)
    assert bool(ranges) == bool(expected)
    assert (ranges.first, ranges.last) == (min(expected, default=-1), max(expected, default=-1))
    pairs = list(ranges)
    # Apart, in order, and never touching.
    assert all(first <= last for first, last in pairs)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(pairs))
    assert all((number in ranges) == (number in expected) for number in range(-1, 80))


@given(STEPS)
def test_adding_and_removing_is_what_sets_do(steps: list[tuple[bool, tuple[int, int]]]) -> None:
    ranges, expected = Ranges(), set[int]()
    for adds, (first, last) in steps:
        if adds:
            ranges.add(first, last)
            expected |= set(range(first, last + 1))
        else:
            ranges.remove(first, last)
            expected -= set(range(first, last + 1))
        check(ranges, expected)


@given(st.lists(RANGE, max_size=10), st.lists(RANGE, max_size=10), RANGE)
def test_both_minus_and_within_are_what_sets_do(
    one: list[tuple[int, int]], other: list[tuple[int, int]], part: tuple[int, int]
) -> None:
    a, b = Ranges(one), Ranges(other)
    check(a.both(b), members(a) & members(b))
    check(a.minus(b), members(a) - members(b))
    check(Ranges(a.within(*part)), members(a) & set(range(part[0], part[1] + 1)))
    check(Ranges(a), members(a))
    assert (a == b) == (members(a) == members(b))


def test_a_million_in_order_are_one_range() -> None:
    ranges = Ranges()
    for number in range(1_000_000):
        ranges.add(number, number)
    assert list(ranges) == [(0, 999_999)]


def test_pauses_double_up_to_an_hour() -> None:
    assert [pause_ns(30 * SECOND, tries) // SECOND for tries in range(9)] == [
        *(30, 60, 120, 240, 480, 960, 1920),
        *(3600, 3600),
    ]
    assert pause_ns(30 * SECOND, 1_000_000) == MAX_PAUSE_NS
    # Somebody who wants hours has them.
    assert pause_ns(7200 * SECOND, 5) == 7200 * SECOND


@given(st.lists(st.tuples(st.booleans(), RANGE), max_size=30))
def test_spans_hold_what_was_acknowledged_less_what_is_covered(steps: list[tuple[bool, tuple[int, int]]]) -> None:
    spans, expected = Spans(30 * SECOND), set[int]()
    for at, (acknowledges, (first, last)) in enumerate(steps):
        if acknowledges:
            for seq in range(first, last + 1):
                spans.acknowledged(seq, at * SECOND)
                expected.add(seq)
        else:
            spans.cover([(first, last)])
            expected -= set(range(first, last + 1))
        found = [seq for span in spans for seq in range(span.first, span.last + 1)]
        assert found == sorted(expected)


def test_days_of_one_frame_a_second_are_a_few_thousand_spans_and_one_when_held_back() -> None:
    spans = Spans(30 * SECOND)
    for seq in range(20_000):
        spans.acknowledged(seq, seq * SECOND)
    assert len(spans) < 20_000 / 6
    spans.hold_back(list(spans), 20_030 * SECOND)
    assert [(span.first, span.last) for span in spans] == [(0, 19_999)]


def test_cut_spans_keep_their_history() -> None:
    spans = Spans(30 * SECOND)
    for seq in range(10):
        spans.acknowledged(seq, 5 * SECOND)
    (middle,) = spans.carve(4, 6)
    middle.tries = 3
    assert [(span.first, span.last, span.tries) for span in spans] == [(0, 3, 0), (4, 6, 3), (7, 9, 0)]
    spans.acknowledged(5, 50 * SECOND)
    assert (middle.sent_ns, middle.due_ns) == (50 * SECOND, 50 * SECOND + 240 * SECOND)
