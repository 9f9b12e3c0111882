from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.errors import LocalProtocolError
from firmware_proto.scpi import LineSplitter, Overlong

STREAM = st.lists(
    st.one_of(st.sampled_from([b"\r", b"\n", b"\r\n", b"\n\r", b"\0"]), st.binary(max_size=12)), max_size=20
).map(b"".join)


def fed(data: bytes, cuts: list[int], max_line: int = 4096) -> list[bytes | Overlong]:
    splitter = LineSplitter(max_line)
    out: list[bytes | Overlong] = []
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for begin, end in itertools.pairwise(edges):
        out += splitter.feed(data[begin:end])
    return out


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\n\r"])
def test_each_terminator_ends_a_line(end: bytes) -> None:
    assert LineSplitter().feed(b"*IDN?" + end + b":READ?" + end) == [b"*IDN?", b":READ?"]


def test_terminators_mix_and_empty_lines_vanish() -> None:
    assert LineSplitter().feed(b"\r\na\r\n\r\nb\n\rc\rd\n\n\n") == [b"a", b"b", b"c", b"d"]


def test_a_pair_split_between_two_reads_makes_no_empty_line() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"a\r") == [b"a"]
    assert splitter.feed(b"\nb") == []
    assert splitter.pending == 1


def test_blank_lines_are_lines() -> None:
    # Only the grammar above knows that a blank line says nothing.
    assert LineSplitter().feed(b" \r") == [b" "]


def test_nul_bytes_are_dropped_wherever_they_are() -> None:
    assert LineSplitter().feed(b"\0KEI\0THLEY\0\r\0\r") == [b"KEITHLEY"]


def test_nul_bytes_do_not_count_towards_the_cap() -> None:
    assert LineSplitter(4).feed(b"ab" + b"\0" * 50 + b"cd\r") == [b"abcd"]


def test_a_line_of_exactly_the_cap_is_a_line() -> None:
    assert LineSplitter(4).feed(b"abcd\r") == [b"abcd"]


def test_an_overlong_line_is_reported_once_and_the_next_line_is_whole() -> None:
    splitter = LineSplitter(4)
    assert splitter.feed(b"abcde") == [Overlong(b"abcd")]
    assert splitter.pending == 0
    assert splitter.feed(b"fgh" * 100) == []
    assert splitter.feed(b"tail\rnext\r") == [b"next"]


def test_two_overlong_lines_are_two_reports() -> None:
    assert LineSplitter(2).feed(b"aaaa\rbbbb\rcc\r") == [Overlong(b"aa"), Overlong(b"bb"), b"cc"]


def test_the_head_of_an_overlong_line_is_bounded() -> None:
    assert LineSplitter(1000).feed(b"x" * 2000) == [Overlong(b"x" * 200)]


def test_reset_forgets_the_partial_line_and_the_skipping() -> None:
    splitter = LineSplitter(4)
    splitter.feed(b"abc")
    splitter.reset()
    assert splitter.pending == 0
    assert splitter.feed(b"d\r") == [b"d"]
    splitter.feed(b"abcdefgh")
    splitter.reset()
    assert splitter.feed(b"ok\r") == [b"ok"]


@pytest.mark.parametrize("cap", [0, -1])
def test_a_cap_below_one_byte_is_our_own_mistake(cap: int) -> None:
    with pytest.raises(LocalProtocolError):
        LineSplitter(cap)


@given(data=STREAM, cuts=st.lists(st.integers(0, 240), max_size=12))
def test_any_chunking_gives_the_same_lines(data: bytes, cuts: list[int]) -> None:
    assert fed(data, cuts, 8) == fed(data, [], 8) == fed(data, list(range(len(data))), 8)


@given(data=STREAM)
def test_without_a_cap_it_is_a_plain_split(data: bytes) -> None:
    complete = re.split(rb"[\r\n]", data.replace(b"\0", b""))[:-1]
    assert fed(data, []) == [line for line in complete if line]


@given(data=st.lists(st.binary(max_size=40), max_size=20), cap=st.integers(1, 30))
def test_never_holds_more_than_the_cap(data: list[bytes], cap: int) -> None:
    splitter = LineSplitter(cap)
    for chunk in data:
        lines = splitter.feed(chunk)
        assert splitter.pending <= cap
        assert all(0 < len(line) <= cap for line in lines if isinstance(line, bytes))


@given(data=STREAM, cuts=st.lists(st.integers(0, 60), max_size=8))
def test_the_short_way_and_the_long_one_give_what_a_plain_split_does(data: bytes, cuts: list[int]) -> None:
    # Whole replies, halves and ends of them take another way through the splitter than several lines at once.
    plain = [line for line in re.split(rb"[\r\n]", data.replace(b"\0", b""))[:-1] if line]
    assert fed(data, cuts) == plain


@pytest.mark.parametrize("length", [7, 8, 9])
@pytest.mark.parametrize("first", [0, 3, 8])
def test_the_cap_is_the_same_on_the_short_way(length: int, first: int) -> None:
    line = b"x" * length
    found = fed(line + b"\r" + b"next\r", [first, length + 1], max_line=8)
    assert found == ([line] if length <= 8 else [Overlong(line[:8])]) + [b"next"]
