"""Replies of a stage: framing that does not depend on chunks, parsers that give a value or a typed error."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from firmware_proto.gcs2 import replies
from firmware_proto.gcs2.replies import Overlong, Reply, ReplySplitter, Status

STREAM = st.lists(
    st.one_of(st.sampled_from([b"\n", b" \n", b"\xb1", b"\xb0", b"1=2.5", b" "]), st.binary(max_size=9)), max_size=20
).map(b"".join)


def fed(data: bytes, cuts: list[int], cap: int = 4096) -> list[Reply | Overlong]:
    splitter = ReplySplitter(cap)
    out: list[Reply | Overlong] = []
    for begin, end in itertools.pairwise([0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]):
        out += splitter.feed(data[begin:end])
        assert splitter.pending <= cap
    return out


def reply(*lines: bytes) -> Reply:
    return Reply(lines)


def test_one_line_and_several() -> None:
    assert fed(b"0\n1=2.5 \n2=3.5\n10\n", []) == [reply(b"0"), reply(b"1=2.5", b"2=3.5"), reply(b"10")]


def test_a_reply_without_its_last_line_is_none() -> None:
    assert fed(b"1=2.5 \n", []) == []


def test_the_ready_byte_needs_no_line_feed_and_swallows_one() -> None:
    assert fed(b"\xb1\n\xb00\n", []) == [reply(b"\xb1"), reply(b"\xb0"), reply(b"0")]


def test_a_ready_byte_inside_a_line_is_part_of_it() -> None:
    assert fed(b"a\xb1\n", []) == [reply(b"a\xb1")]


def test_an_overlong_reply_is_told_once_and_skipped_to_its_last_line() -> None:
    assert fed(b"abcdef \nmore \nlast\n0\n", [], 4) == [Overlong(b"abcde"), reply(b"0")]


def test_reset_forgets() -> None:
    splitter = ReplySplitter(4)
    splitter.feed(b"abcdefgh")
    splitter.reset()
    assert splitter.feed(b"0") == []
    splitter.reset()
    assert splitter.feed(b"1\n") == [reply(b"1")]


def test_a_cap_below_one_is_our_own_mistake() -> None:
    with pytest.raises(LocalProtocolError):
        ReplySplitter(0)


@given(STREAM, st.lists(st.integers(0, 200), max_size=10))
def test_any_chunking_gives_the_same_replies(data: bytes, cuts: list[int]) -> None:
    assert fed(data, cuts, 12) == fed(data, [], 12) == fed(data, list(range(len(data))), 12)


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 30))
def test_a_reply_is_never_empty_and_never_above_the_cap(data: list[bytes], cap: int) -> None:
    for event in fed(b"".join(data), [], cap):
        if isinstance(event, Reply):
            assert event.lines
            assert sum(map(len, event.lines)) <= cap


def test_values() -> None:
    got = replies.parse_values(reply(b"1=-1158.4405", b"Z=+1.16024981e+01", b"3=  0.5"), ["1", "Z", "3"])
    assert got == {"1": -1158.4405, "Z": 11.6024981, "3": 0.5}


@pytest.mark.parametrize(
    "lines",
    [
        [b"2=1.0"],
        [b"1"],
        [b"1="],
        [b"1=nan"],
        [b"1=1."],
        [b"1=1e+1"],
        [b"1=1e1"],
        [b"1=1e+99", b"2=1"],
        [b"1=1.0", b"1=1.0"],
        [b"1=1.0x"],
        [b"1=1.0 "],
        [b"1=" + b"9" * 13],
        [b"1=0x10"],
    ],
)
def test_what_is_no_value_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(RemoteProtocolError):
        replies.parse_values(Reply(tuple(lines)), ["1"])


def test_the_order_of_the_question_is_kept() -> None:
    with pytest.raises(RemoteProtocolError):
        replies.parse_values(reply(b"2=1.0", b"1=1.0"), ["1", "2"])


def test_flags_words_errors_counts() -> None:
    assert replies.parse_flags(reply(b"1=0", b"2=1"), ["1", "2"]) == {"1": False, "2": True}
    assert replies.parse_words(reply(b"1=MM "), ["1"]) == {"1": "MM"}
    assert replies.parse_error(reply(b"10")) == 10
    assert replies.parse_error(reply(b"-7")) == -7
    assert replies.parse_count(reply(b"4")) == 4
    assert replies.parse_axes(reply(b"1", b"2", b"Z_axis")) == ("1", "2", "Z_axis")


def test_the_motion_map_follows_the_order_of_the_axes() -> None:
    axes = ("1", "2", "3")
    assert replies.parse_motion(reply(b"0"), axes) == frozenset()
    assert replies.parse_motion(reply(b"5"), axes) == {"1", "3"}
    assert replies.parse_motion(reply(b"0x2"), axes) == {"2"}
    with pytest.raises(RemoteProtocolError):
        replies.parse_motion(reply(b"8"), axes)


def test_the_status_register_of_the_manual_s_example() -> None:
    status = replies.parse_status(reply(b"0x9005"))
    assert status & (Status.ON_TARGET | Status.SERVO_ON) == Status.ON_TARGET | Status.SERVO_ON
    assert not status & (Status.MOVING | Status.ERROR | Status.REFERENCING)


def test_ready() -> None:
    assert replies.parse_ready(reply(b"\xb1"))
    assert not replies.parse_ready(reply(b"\xb0"))


def test_help_is_read_for_its_commands() -> None:
    text = (
        b"The following commands are valid:",
        b"#4 Request Status Register",
        b"#24 Stop All Axes",
        b"*IDN? Get Device Identification",
        b"MOV {<AxisID> <Position>} Set Target Position",
        b"MOV? [{<AxisID>}] Get Target Position",
        b"SAI? [ALL] Get List Of Current Axis Identifiers",
        b"TAV?",
        b"end of help",
    )
    assert replies.parse_help(Reply(text)) == {"#4", "#24", "*IDN?", "MOV", "MOV?", "SAI?", "TAV?"}
    with pytest.raises(RemoteProtocolError):
        replies.parse_help(reply(b"The following"))


def test_identity() -> None:
    line = b"(c)2016 Physik Instrumente (PI) GmbH & Co. KG, C-863.12, 0015550001, 1.2.0.0"
    identity = replies.parse_identity(reply(line))
    assert (identity.model, identity.serial_number, identity.firmware) == ("C-863.12", "0015550001", "1.2.0.0")
    for bad in (b"PI, E-727", b"a,b,c," + b"d" * 200, b"a,b,\xb5,d"):
        with pytest.raises(RemoteProtocolError):
            replies.parse_identity(reply(bad))


PARSERS: list[Callable[[Reply], object]] = [
    lambda r: replies.parse_values(r, ["1"]),
    lambda r: replies.parse_values(r, ["1", "2"]),
    lambda r: replies.parse_flags(r, ["1"]),
    lambda r: replies.parse_words(r, ["1"]),
    replies.parse_error,
    replies.parse_count,
    replies.parse_axes,
    lambda r: replies.parse_motion(r, ["1", "2"]),
    replies.parse_status,
    replies.parse_ready,
    replies.parse_help,
    replies.parse_identity,
]
SHAPED = st.lists(st.from_regex(rb"[12]=[-+0-9.e ]{0,9}", fullmatch=True), min_size=1, max_size=3)
ANY = st.lists(st.binary(max_size=30), min_size=1, max_size=4)


@pytest.mark.parametrize("parser", PARSERS)
@given(lines=st.one_of(ANY, SHAPED))
def test_any_garbage_is_a_typed_error_of_ours_or_a_value(parser: Callable[[Reply], object], lines: list[bytes]) -> None:
    with contextlib.suppress(RemoteProtocolError):
        parser(Reply(tuple(lines)))


@given(st.data())
def test_a_value_cut_short_is_refused_or_smaller(data: st.DataObject) -> None:
    """What a truncated reply can pass for is a number with fewer digits; an exponent never loses one."""
    text = data.draw(st.sampled_from([b"1=+1.16024981e+01", b"1=12.3456", b"1=-0.5"]))
    cut = data.draw(st.integers(0, len(text) - 1))
    with contextlib.suppress(RemoteProtocolError):
        short = replies.parse_values(Reply((text[:cut],)), ["1"])["1"]
        assert abs(short) <= abs(replies.parse_values(Reply((text,)), ["1"])["1"])
