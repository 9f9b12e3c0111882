"""Settings of look-alikes: other spellings of what is known, never a new value."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.errors import RemoteProtocolError
from firmware_proto.keithley2400 import leniency


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"+1.000000E-03", 1e-3),
        (b"1.0e-3", 1e-3),
        (b"0.001", 1e-3),
        (b" 1E-003 ", 1e-3),
        (b".001", 1e-3),
        (b"+1.050E-03", 1.05e-3),
        (b"-0", 0.0),
    ],
)
def test_numbers_in_any_notation(line: bytes, value: float) -> None:
    assert leniency.number(line) == value


@pytest.mark.parametrize(
    "line", [b"", b"nan", b"inf", b"1e999", b"1_0", b"0x1", b"+", b".", b"1;2", b"1 2", b"1e", b"\xb2", b"1" * 90]
)
def test_what_is_no_number(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        leniency.number(line)


@pytest.mark.parametrize(
    ("line", "ambiguous"),
    [
        (b"+1.000000E-03", False),
        (b"1.000000E-03", False),
        (b"0", False),
        (b"1", False),
        (b"NORM", False),
        (b"CURR,STAT", False),
        (b"0.001", True),
        (b"10", True),
        (b"1.0E-3", True),
        (b"+1.000000E-003", True),
        (b"+1.000000e-03", True),
    ],
)
def test_numbers_that_one_byte_could_change_are_told(line: bytes, ambiguous: bool) -> None:
    assert leniency.is_ambiguous(line) is ambiguous


def test_no_single_lost_or_doubled_byte_makes_a_limit_of_the_2400s_own_form_another_one() -> None:
    # The range of limits; the same at any other digit.
    values = [f"{value:+.6E}".encode() for value in (1e-3, 1.05e-4, 9.99e-5, 1e-6, 1.05)]
    for line in values:
        for at in range(len(line)):
            for broken in (line[:at] + line[at + 1 :], line[: at + 1] + line[at:]):
                with contextlib.suppress(RemoteProtocolError):
                    got = leniency.number(broken)
                    # Either it is asked for again, or it is the same number without its plus sign.
                    assert leniency.is_ambiguous(broken) or got == float(line), broken


@pytest.mark.parametrize("line", [b"NORM", b"NORMAL", b"norm", b'"NORM"', b"'NORMAL'", b" NORM "])
def test_words_in_both_lengths_and_quotes(line: bytes) -> None:
    assert leniency.says(line, "NORMal")


@pytest.mark.parametrize("line", [b"NOR", b"NORMA", b"HIMP", b"", b"NORM;1", b"NORM,NORM", b"0", b"\xff"])
def test_other_words_are_others(line: bytes) -> None:
    assert not leniency.says(line, "NORMal")


@pytest.mark.parametrize("line", [b"CURR,STAT", b"CURRent,STATus", b'"CURR","STAT"', b"CURR, STAT", b'"CURR,STAT"'])
def test_lists_of_words(line: bytes) -> None:
    assert leniency.says_list(line, ("CURRent", "STATus"))


@pytest.mark.parametrize("line", [b"STAT,CURR", b"CURR", b"VOLT,CURR,STAT", b"CURR,STAT,", b"CURR;STAT", b""])
def test_other_lists(line: bytes) -> None:
    assert not leniency.says_list(line, ("CURRent", "STATus"))


@pytest.mark.parametrize(("line", "off"), [(b"0", True), (b"OFF", True), (b"+0", True), (b"0.0", True), (b"1", False)])
def test_switches(line: bytes, off: bool) -> None:
    assert leniency.says_off(line) is off


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'0,"No error"', 0),
        (b'+0,"No error"', 0),
        (b"0,No error", 0),
        (b"0", 0),
        (b'-113,"Undefined header"', -113),
        (b"-113, Undefined header;*WAI", -113),
        (b'+803,"Not permitted with OUTPUT off"', 803),
    ],
)
def test_error_entries_in_any_dress(line: bytes, code: int) -> None:
    assert leniency.error_code(line) == code


@pytest.mark.parametrize("line", [b"", b"No error", b"OK", b"1.5", b"123456", b",", b"0" + b"x" * 400])
def test_what_is_no_error_entry(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        leniency.error_code(line)


@given(st.binary(max_size=120))
def test_any_bytes_parse_or_raise_the_one_error(line: bytes) -> None:
    for parse in (leniency.number, leniency.word, leniency.error_code):
        with contextlib.suppress(RemoteProtocolError):
            parse(line)
    leniency.says(line, "NORMal")
    leniency.says_list(line, ("CURRent", "STATus"))
    leniency.says_off(line)
    leniency.is_ambiguous(line)
