"""Targets, numbers, states and lines by a command map: exact on the way out, strict on the way in."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from firmware_proto.stage_map import (
    Acknowledgement,
    Condition,
    EndSplitter,
    MapAxis,
    NumberForm,
    Overlong,
    StageMap,
    parse_template,
)
from hil.described_bench import map_from

ROOT = Path(__file__).resolve().parent.parent.parent
SCPI = map_from(ROOT / "deploy/examples/stage-scpi.toml")
ODD = map_from(ROOT / "tests/edge/instruments/maps/odd.toml")

UNITS = [1e-10, 1e-9, 1e-8, 2.5e-9, 1e-7, 1e-6, 1.27e-6, 1e-3, 1.0]


def an_axis(unit_m: float, decimals: int, sign: int, *, zeros: bool = False) -> MapAxis:
    return MapAxis("x", "X", unit_m, sign, decimals, zeros, NumberForm(), -1e-4, 1e-4, 1e-4)


axes = st.builds(an_axis, st.sampled_from(UNITS), st.integers(0, 9), st.sampled_from([1, -1]), zeros=st.booleans())
targets = st.floats(-1e-4, 1e-4)


# Targets


@settings(max_examples=400, deadline=None)
@given(axes, targets)
def test_any_target_reads_back_within_a_step_and_never_farther_out(axis: MapAxis, target_m: float) -> None:
    text = axis.target(target_m)
    read_m = axis.metres(float(text))
    # Rounding to a thousandth of a step comes first: 100e-6 must not lose a step.
    assert abs(read_m - target_m) <= axis.step_m * 1.001
    assert abs(read_m) <= abs(target_m) + axis.step_m * 1e-3
    assert re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text), "never an exponent"
    assert text not in {"-0", ""}


@settings(max_examples=200, deadline=None)
@given(axes, targets)
def test_no_beginning_of_a_target_is_larger_than_it(axis: MapAxis, target_m: float) -> None:
    text = axis.target(target_m)
    for length in range(1, len(text)):
        if re.fullmatch(r"-?[0-9]+\.?[0-9]*", text[:length]):
            assert abs(float(text[:length])) <= abs(float(text))


@pytest.mark.parametrize(
    ("axis", "target_m", "text"),
    [
        (an_axis(1e-6, 4, 1), 100e-6, "100"),
        (an_axis(1e-6, 4, 1, zeros=True), 100e-6, "100.0000"),
        (an_axis(1e-6, 4, 1, zeros=True), 1.5e-6, "1.5000"),
        (an_axis(1e-6, 4, 1), 12.34569e-6, "12.3456"),
        (an_axis(1e-6, 4, -1), 12.34569e-6, "-12.3456"),
        (an_axis(1e-9, 0, 1), 12_345.9e-9, "12345"),
        (an_axis(1e-9, 0, -1), 0.4e-9, "0"),
        (an_axis(1.0, 9, 1), 1e-9, "0.000000001"),
        (an_axis(1e-10, 0, 1, zeros=True), 100e-6, "1000000"),
    ],
)
def test_targets_as_they_are_written(axis: MapAxis, target_m: float, text: str) -> None:
    assert axis.target(target_m) == text


@pytest.mark.parametrize("target_m", [float("nan"), float("inf"), 1e9])
def test_what_is_no_position_is_not_written(target_m: float) -> None:
    with pytest.raises(LocalProtocolError):
        an_axis(1e-9, 0, 1).target(target_m)


def test_moves_of_the_two_dialects() -> None:
    assert SCPI.move.messages({"x": "1.5", "z": "2"}, SCPI.wires) == [
        ("MOVE:ABS X,1.5", ("x",)),
        ("MOVE:ABS Z,2", ("z",)),
    ]
    assert ODD.move.messages({"a": "150", "c": "2"}, ODD.wires) == [("GA150 C2", ("a", "c"))]
    assert ODD.line.encode("GA150") == b"GA150\r"


# Numbers in replies

NUMBERS: list[tuple[NumberForm, str, float | None]] = [
    (NumberForm(), "12.34", 12.34),
    (NumberForm(), "  +12", 12.0),
    (NumberForm(), "-0.5", -0.5),
    (NumberForm(), "1e5", None),
    (NumberForm(), "12.", None),
    (NumberForm(), ".5", None),
    (NumberForm(), "1 2", None),
    (NumberForm(), "12.34 ", None),
    (NumberForm(), "nan", None),
    (NumberForm(), "inf", None),
    (NumberForm(), "", None),
    (NumberForm(), "1" * 13, None),
    (NumberForm(), "٣", None),
    (NumberForm(), "1_0", None),
    (NumberForm(4), "12.3400", 12.34),
    (NumberForm(4), "12.340", None),
    (NumberForm(4), "12.34000", None),
    (NumberForm(4), "12", None),
    (NumberForm(0), "-12", -12.0),
    (NumberForm(0), "12.0", None),
    (NumberForm(None, exponent=True), "1.234E-05", 1.234e-5),
    (NumberForm(None, exponent=True), "+1e+02", 100.0),
    (NumberForm(None, exponent=True), "1.234E-0", None),
    (NumberForm(None, exponent=True), "12.34E-05", None),
    (NumberForm(None, exponent=True), "12.34", None),
    (NumberForm(3, exponent=True), "1.234E-05", 1.234e-5),
    (NumberForm(3, exponent=True), "1.23E-05", None),
]


@pytest.mark.parametrize(("form", "text", "value"), NUMBERS)
def test_a_number_is_what_the_map_says_and_nothing_else(form: NumberForm, text: str, value: float | None) -> None:
    if value is None:
        with pytest.raises(RemoteProtocolError):
            form.read(text)
    else:
        assert form.read(text) == value


@settings(max_examples=200, deadline=None)
@given(
    st.builds(NumberForm, st.one_of(st.none(), st.integers(0, 9)), exponent=st.booleans()),
    st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) > 1e-9),
)
def test_what_a_controller_writes_is_read(form: NumberForm, value: float) -> None:
    read = form.read(form.write(value))
    step = 1e-6 if form.decimals is None else 10.0**-form.decimals
    assert abs(read - value) <= (step * abs(value) * 10 if form.exponent else step)


def test_a_reply_is_matched_whole() -> None:
    def parse(line: bytes) -> dict[str, float]:
        return SCPI.position.parse(line, ("x",), SCPI.wires, SCPI.forms)

    assert parse(b"12.3456") == {"x": 12.3456}
    for line in (b"12.345", b"12.34567", b"12.3456 um", b"x12.3456", b"1.23456E+01", b"\xff2.3456", b"12.3456\r", b""):
        with pytest.raises(RemoteProtocolError):
            parse(line)


def test_a_reply_for_all_axes_has_them_all_in_order() -> None:
    def parse(line: bytes) -> dict[str, float]:
        return ODD.position.parse(line, ("a", "b", "c"), ODD.wires, ODD.forms)

    assert parse(b"P A1 B-2 C30") == {"a": 1.0, "b": -2.0, "c": 30.0}
    for line in (
        b"P A1 B2",
        b"P A1 B2 C3 C3",
        b"P B2 A1 C3",
        b"P A1 B2  C3",
        b"T A1 B2 C3",
        b"P A1 B C3",
        b"P A1 B2 C3.0",
    ):
        with pytest.raises(RemoteProtocolError):
            parse(line)


# States


def test_a_state_is_one_of_its_words() -> None:
    condition = SCPI.moving
    assert condition is not None
    assert condition.parse(b"1", "X") is True
    assert condition.parse(b"0", "X") is False
    for line in (b"2", b"01", b"", b"1 ", b"ON"):
        with pytest.raises(RemoteProtocolError):
            condition.parse(line, "X")


@pytest.mark.parametrize(
    ("condition", "word", "true"),
    [
        (Condition(mask=0x6), 0x0, False),
        (Condition(mask=0x6), 0x2, True),
        (Condition(mask=0x6), 0x9, False),
        (Condition(mask=0x6, value=0x2), 0x2, True),
        (Condition(mask=0x6, value=0x2), 0x6, False),
        (Condition(mask=0x6, value=0x2), 0x3, True),
        (Condition(mask=0x6, value=0x0), 0x1, True),
        (Condition(mask=0x6, value=0x0), 0x4, False),
    ],
)
def test_bits(condition: Condition, word: int, *, true: bool) -> None:
    assert condition.of_word(word) is true


def test_a_status_word() -> None:
    status = ODD.status
    assert status is not None
    assert status.parse(b"SA=0102", "A") == 0x102
    for line in (b"SB=0102", b"SA=01G2", b"SA=", b"SA=0x1", b"SA=-1", b"SA=123456789"):
        with pytest.raises(RemoteProtocolError):
            status.parse(line, "A")


# Acknowledgements and errors


def test_an_acknowledgement_is_the_line_or_a_code() -> None:
    rule = Acknowledgement("OK", parse_template("?{code}", needed=("code",)))
    assert rule.code(b"OK") == 0
    assert rule.code(b"?12") == 12
    for line in (b"ok", b"OK ", b"?", b"?x", b"?0", b"", b"12", b"?1234567"):
        with pytest.raises(RemoteProtocolError):
            rule.code(line)
    only = Acknowledgement("0", parse_template("{code}", needed=("code",)))
    assert [only.code(line) for line in (b"0", b"7", b"-1")] == [0, 7, -1]


def test_an_error_and_none() -> None:
    rule = SCPI.error
    assert rule.parse(b'0,"No error"') == (0, "")
    assert rule.parse(b'-222,"Data out of range"') == (-222, "Data out of range")
    for line in (b"-222", b'-222,"Data', b'x,"No error"', b"0", b'0.0,"No error"'):
        with pytest.raises(RemoteProtocolError):
            rule.parse(line)


def test_an_error_that_is_called_0_is_an_error() -> None:
    rules = map_from(ROOT / "deploy/examples/stage-scpi.toml", lambda data: data["error"].update(none=[1]))
    assert rules.error.parse(b'0,"bad"')[0] != 0
    assert rules.error.parse(b'1,"good"')[0] == 0


def test_an_identity() -> None:
    assert SCPI.identify.parse(b"N,SPM-4, 12 ,2.3") == {"model": "SPM-4", "serial": "12", "firmware": "2.3"}
    assert ODD.identify.parse(b"AFM K2 #77 v0.9") == {"model": "K2", "serial": "77", "firmware": "0.9"}
    for line in (b"N,SPM-4,12", b"N,,12,2.3", b"N,\x07,12,2.3"):
        with pytest.raises(RemoteProtocolError):
            SCPI.identify.parse(line)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([SCPI, ODD]), st.binary(max_size=60))
def test_no_bytes_make_a_parser_raise_anything_else(rules: StageMap, line: bytes) -> None:
    names = tuple(rules.axes)
    asked = names[:1] if rules.position.per_axis else names
    parsers: list[Callable[[bytes], object]] = [
        rules.identify.parse,
        rules.error.parse,
        lambda one: rules.position.parse(one, asked, rules.wires, rules.forms),
        lambda one: rules.contact.parse(one, "1"),
    ]
    for parse in parsers:
        try:
            parse(line)
        except RemoteProtocolError as error:
            assert len(error.data) <= 200  # noqa: PT017 - either outcome is fine


# Lines


@pytest.mark.parametrize(
    ("end", "data", "lines"),
    [
        ("LF", b"1\n2\n\n3", [b"1", b"2"]),
        ("LF", b"1\r\n", [b"1\r"]),
        ("CR", b"1\r2\n\r", [b"1", b"2\n"]),
        ("CRLF", b"1\r\n2\n3\r\n", [b"1", b"2\n3"]),
        ("CRLF", b"1\r\r\n", [b"1\r"]),
        ("ANY", b"1\r\n2\n\r3\r", [b"1", b"2", b"3"]),
    ],
)
def test_only_the_declared_end_is_one(end: str, data: bytes, lines: list[bytes]) -> None:
    assert EndSplitter(end, 100).feed(data) == lines


def test_a_minus_sign_that_lost_a_bit_is_no_end_of_line() -> None:
    """'-' is CR with one more bit: where LF is declared, ``-12.3`` can lose its sign only together with its form."""
    (line,) = EndSplitter("LF", 100).feed(b"\r12.3456\n")
    with pytest.raises(RemoteProtocolError):
        SCPI.position.parse(bytes(line) if isinstance(line, bytes) else b"", ("x",), SCPI.wires, SCPI.forms)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["LF", "CR", "CRLF", "ANY"]),
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"12", b"a" * 9, b"-"]), max_size=30).map(b"".join),
    st.lists(st.integers(1, 5), min_size=1, max_size=60),
)
def test_any_chunking_gives_the_same_lines_and_memory_is_bounded(end: str, data: bytes, sizes: list[int]) -> None:
    whole = EndSplitter(end, 8).feed(data)
    splitter = EndSplitter(end, 8)
    found: list[bytes | Overlong] = []
    at = 0
    for size in sizes:
        found += splitter.feed(data[at : at + size])
        at += size
        assert splitter.pending <= 8 + 2
    found += splitter.feed(data[at:])
    assert found == whole
    assert all(isinstance(one, Overlong) or 0 < len(one) <= 8 + 1 for one in whole)


@pytest.mark.parametrize(("end", "most"), [("NUL", 8), ("LF", 0)])
def test_a_splitter_that_cannot_be(end: str, most: int) -> None:
    with pytest.raises(LocalProtocolError):
        EndSplitter(end, most)


@pytest.mark.parametrize("end", ["LF", "CR", "ANY"])
def test_the_end_of_an_over_long_line_is_no_line(end: str) -> None:
    eol = b"\r" if end == "CR" else b"\n"
    lines = EndSplitter(end, 4).feed(b"abcdefgh0" + eol + b"ok" + eol)
    assert [type(line) for line in lines] == [Overlong, bytes]
    assert lines[1] == b"ok"
