"""Messages to a stage: fixed point, no bare line feed, nothing that would act on all axes by accident."""

from __future__ import annotations

import contextlib
import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.errors import LocalProtocolError
from firmware_proto.gcs2 import commands
from firmware_proto.gcs2.errors import ErrorCode, GcsError, error_text
from firmware_proto.gcs2.requests import (
    Event,
    Line,
    Overlong,
    RequestSplitter,
    Single,
    parse_items,
    parse_number,
    parse_pairs,
    parse_request,
    parse_switch,
)

FINITE = st.floats(min_value=-1e9, max_value=1e9)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12.5, "12.5"),
        (100, "100"),
        (0.0, "0"),
        (-0.0, "0"),
        (-0.00001, "0"),
        (1e-4, "0.0001"),
        (99.99999, "99.9999"),
        (-12.34567, "-12.3456"),
        (1e9, "1000000000"),
    ],
)
def test_numbers_are_fixed_point_and_short(value: float, text: str) -> None:
    assert commands.fixed(value) == text


@given(FINITE, st.integers(0, 9))
def test_a_number_is_never_beyond_its_value_and_within_a_step(value: float, decimals: int) -> None:
    text = commands.fixed(value, decimals)
    assert re.fullmatch(r"-?\d+(\.\d*[1-9])?", text)
    assert abs(float(text)) <= abs(value)
    assert abs(float(text) - value) <= 10.0**-decimals * (1 + 1e-6) + 1e-6 * (abs(value) > 1e6)


@given(FINITE)
def test_a_prefix_is_never_larger_in_magnitude(value: float) -> None:
    text = commands.fixed(value)
    for end in range(len(text)):
        with contextlib.suppress(ValueError):
            assert abs(float(text[:end])) <= abs(float(text))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.1e9])
def test_what_is_no_position_is_refused(value: float) -> None:
    with pytest.raises(LocalProtocolError):
        commands.fixed(value)
    with pytest.raises(LocalProtocolError):
        commands.move({"1": value})


def test_messages() -> None:
    assert commands.move({"1": 12.5, "Z": -3}) == b"MOV 1 12.5 Z -3\n"
    assert commands.query("POS?", ["1", "2"]) == b"POS? 1 2\n"
    assert commands.query("SAI?") == b"SAI?\n"
    assert commands.velocity({"1": 20.0}) == b"VEL 1 20\n"
    assert commands.servo({"1": True, "2": False}) == b"SVO 1 1 2 0\n"
    assert commands.reference(["1"]) == b"FRF 1\n"
    assert commands.autozero(["1", "2"]) == b"ATZ 1 NaN 2 NaN\n"
    assert commands.halt(["3"]) == b"HLT 3\n"
    assert commands.halt() == b"HLT\n"


@pytest.mark.parametrize(
    "axes", [[], ["1", "1"], [""], ["a b"], ["1\n"], ["a" * 17], [str(k) for k in range(17)], ["µ"]]
)
def test_axes_that_cannot_be_are_refused(axes: list[str]) -> None:
    with pytest.raises(LocalProtocolError):
        commands.reference(axes)
    with pytest.raises(LocalProtocolError):
        commands.query("pos?", axes)


def test_a_velocity_of_zero_is_refused() -> None:
    for value in (0.0, -1.0, math.nan):
        with pytest.raises(LocalProtocolError):
            commands.velocity({"1": value})


@given(st.dictionaries(st.sampled_from(["1", "2", "Z_"]), FINITE, min_size=1))
def test_no_cut_off_message_ends_a_line(targets: dict[str, float]) -> None:
    message = commands.move(targets)
    assert message.index(b"\n") == len(message) - 1


@given(st.dictionaries(st.sampled_from(["1", "2", "Z_"]), FINITE, min_size=1))
def test_what_is_sent_is_what_the_other_side_reads(targets: dict[str, float]) -> None:
    (event,) = RequestSplitter().feed(commands.move(targets))
    assert isinstance(event, Line)
    request = parse_request(event.text)
    assert request is not None
    assert request.mnemonic == "MOV"
    got = {axis: parse_number(word) for axis, word in parse_pairs(request.words).items()}
    assert got == {axis: float(commands.fixed(value)) for axis, value in targets.items()}


# The other side


def test_single_bytes_act_where_they_stand() -> None:
    assert RequestSplitter().feed(b"MOV 1 \x18 2\n\x05") == [Single(24), Line(b"MOV 1  2"), Single(5)]


def test_empty_lines_vanish() -> None:
    assert RequestSplitter().feed(b"\n\nERR?\n\n") == [Line(b"ERR?")]


def test_an_overlong_line_is_told_once() -> None:
    splitter = RequestSplitter(4)
    assert splitter.feed(b"abcdefgh\x18ij\nERR?\n") == [Overlong(b"abcd"), Single(24), Line(b"ERR?")]


STREAM = st.lists(
    st.one_of(st.sampled_from([b"\n", b"\x18", b"\x05", b"MOV 1 2", b"ERR?", b" ", b"\r"]), st.binary(max_size=9)),
    max_size=20,
).map(b"".join)


@given(STREAM, st.lists(st.integers(0, 200), max_size=10))
def test_any_chunking_of_requests_is_the_same(data: bytes, cuts: list[int]) -> None:
    whole = RequestSplitter(12).feed(data)
    splitter, pieces = RequestSplitter(12), list[Event]()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(edges):
        pieces += splitter.feed(data[begin:end])
        assert splitter.pending <= 12
    assert pieces == whole


@given(st.binary(max_size=60))
def test_any_line_is_a_request_or_a_typed_error(data: bytes) -> None:
    with contextlib.suppress(GcsError):
        request = parse_request(data)
        if request is not None:
            for parse in (parse_items, parse_pairs):
                with contextlib.suppress(GcsError):
                    parse(request.words)
            for word in request.words:
                with contextlib.suppress(GcsError):
                    assert math.isfinite(parse_number(word))


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: parse_request(b"MOV \xb5"), ErrorCode.SYNTAX),
        (lambda: parse_pairs(["1"]), ErrorCode.MISSING_PARAMETER),
        (lambda: parse_pairs([]), ErrorCode.MISSING_PARAMETER),
        (lambda: parse_pairs(["1", "2", "1", "3"]), ErrorCode.DUPLICATE_AXIS),
        (lambda: parse_items(["1;"]), ErrorCode.ILLEGAL_AXIS),
        (lambda: parse_number("1e999"), ErrorCode.BAD_NUMBER),
        (lambda: parse_number("nan"), ErrorCode.BAD_NUMBER),
        (lambda: parse_number("1" * 41), ErrorCode.BAD_NUMBER),
        (lambda: parse_switch("2"), ErrorCode.PARAMETER_OUT_OF_RANGE),
    ],
)
def test_what_is_refused_and_how(call: object, code: ErrorCode) -> None:
    assert callable(call)
    with pytest.raises(GcsError) as caught:
        call()
    assert caught.value.code is code


def test_every_error_has_a_text() -> None:
    for code in ErrorCode:
        assert "not in this table" not in error_text(code)
    assert error_text(1024) == "1024 (motion error)"
    assert error_text(555).startswith("555 (not in this table")
