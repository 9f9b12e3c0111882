from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from firmware_proto.scpi import (
    Param,
    ParamKind,
    ScpiError,
    format_nr3,
    parse_bool,
    parse_choice,
    parse_integer,
    parse_message,
    parse_number,
    parse_string,
    quote,
    spellings,
)

LEVELS = {"DEFault": 0.0, "MINimum": -210.0, "MAXimum": 210.0}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("+1.000206E+00", 1.000206),
        ("-.5", -0.5),
        ("2.", 2.0),
        ("2.E-3", 0.002),
        ("1e3", 1000.0),
        ("0", 0.0),
        ("1E-400", 0.0),
        ("+9.91E37", 9.91e37),
        ("#HFF", 255.0),
        ("#hff", 255.0),
        ("#B101", 5.0),
        ("#Q17", 15.0),
    ],
)
def test_numbers(text: str, value: float) -> None:
    assert parse_number(text) == value
    assert parse_number(Param(ParamKind.WORD, text)) == value


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", -121),
        ("+", -121),
        (".", -121),
        ("1e", -121),
        ("1 V", -121),
        ("1V", -121),
        ("1_0", -121),
        ("0x10", -121),
        ("\u0663", -121),
        ("1\u0663", -121),
        ("#H", -121),
        ("#B2", -121),
        ("#H-1", -121),
        ("#H1_0", -121),
        ("#X1", -121),
        ("#H" + "F" * 60, -124),
        ("1" * 41, -124),
        ("1e999", -123),
        ("-1e999", -123),
        ("nan", -141),
        ("inf", -141),
        ("MIN", -141),
    ],
)
def test_what_is_not_a_number_has_its_code(text: str, code: int) -> None:
    with pytest.raises(ScpiError) as caught:
        parse_number(text)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "value"), [("min", -210.0), ("MINIMUM", -210.0), ("Max", 210.0), ("DEF", 0.0), ("5", 5.0)]
)
def test_keywords_in_long_and_short_form(text: str, value: float) -> None:
    assert parse_number(text, LEVELS) == value


@pytest.mark.parametrize("text", ["MINI", "MI", "MAXIMUMS"])
def test_forms_in_between_are_refused(text: str) -> None:
    with pytest.raises(ScpiError):
        parse_number(text, LEVELS)


def test_infinity_only_by_keyword() -> None:
    assert parse_number("INF", {"INFinity": math.inf}) == math.inf


@pytest.mark.parametrize("kind", [ParamKind.STRING, ParamKind.EXPRESSION])
def test_a_quoted_number_is_of_the_wrong_type(kind: ParamKind) -> None:
    for parse in (parse_number, parse_bool):
        with pytest.raises(ScpiError) as caught:
            parse(Param(kind, "1"))
        assert caught.value.code == -104


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_comes_back(value: float) -> None:
    assert parse_number(repr(value)) == value


@given(text=st.text(max_size=50))
def test_any_text_is_a_finite_number_or_our_error(text: str) -> None:
    value = 0.0
    with contextlib.suppress(RemoteProtocolError):
        value = parse_number(text)
    assert math.isfinite(value)


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ("1.4", 1), ("1.5", 2), ("255", 255), ("255.4", 255), ("-0.4", 0)]
)
def test_integers_are_rounded(text: str, value: int) -> None:
    assert parse_integer(text, 0, 255) == value


@pytest.mark.parametrize("text", ["256", "255.5", "-1", "-0.5", "1e30", "INF"])
def test_integers_outside_are_refused(text: str) -> None:
    with pytest.raises(ScpiError) as caught:
        parse_integer(text, 0, 255, {"INFinity": math.inf})
    assert caught.value.code == -222


@pytest.mark.parametrize(("text", "value"), [("ON", True), ("off", False), ("1", True), ("0", False), ("1.0", True)])
def test_booleans(text: str, value: bool) -> None:
    assert parse_bool(text) is value


@pytest.mark.parametrize(("text", "code"), [("2", -224), ("TRUE", -141), ("ONN", -141), ("", -121)])
def test_no_other_booleans(text: str, code: int) -> None:
    with pytest.raises(ScpiError) as caught:
        parse_bool(text)
    assert caught.value.code == code


def test_choices_by_pattern() -> None:
    choices = {"NORMal": 1, "HIMPedance": 2}
    assert parse_choice("norm", choices) == 1
    assert parse_choice("HIMPEDANCE", choices) == 2
    with pytest.raises(ScpiError) as caught:
        parse_choice("HIMP2", choices)
    assert caught.value.code == -141


def test_strings_must_be_quoted() -> None:
    assert parse_string(Param(ParamKind.STRING, "x")) == "x"
    with pytest.raises(ScpiError) as caught:
        parse_string(Param(ParamKind.WORD, "x"))
    assert caught.value.code == -104


def test_spellings_are_the_two_forms() -> None:
    assert spellings("VOLTage") == {"VOLT", "VOLTAGE"}
    assert spellings("LIMit2") == {"LIM2", "LIMIT2"}
    assert spellings("READ") == {"READ"}


@pytest.mark.parametrize("pattern", ["", "volt", "VOLTage[1]", "VO LT", "V-A"])
def test_a_bad_pattern_is_our_own_mistake(pattern: str) -> None:
    with pytest.raises(LocalProtocolError):
        spellings(pattern)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.000206, "+1.000206E+00"),
        (1e-3, "+1.000000E-03"),
        (-2.0, "-2.000000E+00"),
        (9.91e37, "+9.910000E+37"),
        (9.9e37, "+9.900000E+37"),
        (0.0, "+0.000000E+00"),
        (-0.0, "+0.000000E+00"),
        (20484.0, "+2.048400E+04"),
        (1e-120, "+0.000000E+00"),
        (-1e-300, "+0.000000E+00"),
        (9.9999999e-100, "+1.000000E-99"),
    ],
)
def test_numbers_as_the_instrument_sends_them(value: float, text: str) -> None:
    assert format_nr3(value) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e100, 9.9999999e99])
def test_what_has_no_form_is_our_own_mistake(value: float) -> None:
    with pytest.raises(LocalProtocolError):
        format_nr3(value)


@given(value=st.floats(-9e90, 9e90))
def test_formatted_numbers_are_13_characters_and_close(value: float) -> None:
    text = format_nr3(value)
    assert len(text) == 13
    assert parse_number(text) == pytest.approx(value, rel=1e-6, abs=1e-98)


@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
def test_quoted_text_parses_back(text: str) -> None:
    (command,) = parse_message(b"A " + quote(text).encode())
    assert parse_string(command.params[0]) == text


@pytest.mark.parametrize("text", ["a\r", "a\n", "\0", "\x03", "\xe4", "\u20ac"])
def test_what_could_break_a_line_is_not_quoted(text: str) -> None:
    with pytest.raises(LocalProtocolError):
        quote(text)
