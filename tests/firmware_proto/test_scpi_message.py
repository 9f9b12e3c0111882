from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.errors import RemoteProtocolError
from firmware_proto.scpi import Command, Param, ParamKind, ScpiError, iter_commands, parse_message
from firmware_proto.scpi import message as limits

PUNCTUATION = [bytes([char]) for char in b" \t:;*?,()#\"'@-"]
PIECES = [b"#H1", b"2", b"1E-3", b"SOUR", b"VOLT", b"READ?", b"*IDN?", b"OUTP:STAT", b":SENS:FUNC", b'"CURR"', b"A:B:C"]
TOKENS = st.sampled_from(PUNCTUATION + PIECES)
LINES = st.one_of(st.binary(max_size=80), st.lists(TOKENS, max_size=20).map(b"".join))


def word(text: str) -> Param:
    return Param(ParamKind.WORD, text)


def headers(line: bytes) -> list[tuple[str, ...]]:
    return [command.header for command in parse_message(line)]


def code_of(line: bytes) -> int:
    with pytest.raises(ScpiError) as caught:
        parse_message(line)
    return caught.value.code


def attempt(line: bytes) -> tuple[list[Command], ScpiError | None]:
    """Collect what an instrument would execute, and what stopped it."""
    seen: list[Command] = []
    commands = iter_commands(line)
    try:
        while (command := next(commands, None)) is not None:
            seen.append(command)
    except ScpiError as error:
        return seen, error
    return seen, None


def test_a_command_with_a_number() -> None:
    assert parse_message(b":SOUR:VOLT -10.0000") == [
        Command(("SOUR", "VOLT"), params=(word("-10.0000"),), absolute=True)
    ]


def test_a_query_has_no_question_mark_in_its_header() -> None:
    assert parse_message(b"outp:stat?") == [Command(("OUTP", "STAT"), query=True)]


def test_common_commands_keep_their_star() -> None:
    assert parse_message(b"*idn?") == [Command(("*IDN",), query=True, common=True)]


def test_the_path_of_a_unit_is_that_of_the_unit_before() -> None:
    assert headers(b":SENS:CURR:PROT?;RANG?;NPLC?") == [
        ("SENS", "CURR", "PROT"),
        ("SENS", "CURR", "RANG"),
        ("SENS", "CURR", "NPLC"),
    ]


def test_a_relative_header_deepens_the_path() -> None:
    assert headers(b":SENS:AVER OFF;CURR:RANG 1;NPLC 1") == [
        ("SENS", "AVER"),
        ("SENS", "CURR", "RANG"),
        ("SENS", "CURR", "NPLC"),
    ]


def test_a_colon_resets_the_path_to_the_root() -> None:
    assert headers(b":SENS:CURR:PROT?;RANG?;:OUTP:SMOD?") == [
        ("SENS", "CURR", "PROT"),
        ("SENS", "CURR", "RANG"),
        ("OUTP", "SMOD"),
    ]


def test_a_common_command_does_not_move_the_path() -> None:
    assert headers(b":SOUR:VOLT 1;*ESE 5;*ESE?;CURR?") == [
        ("SOUR", "VOLT"),
        ("*ESE",),
        ("*ESE",),
        ("SOUR", "CURR"),
    ]


def test_the_path_does_not_survive_the_message() -> None:
    assert headers(b":SOUR:VOLT 1") == [("SOUR", "VOLT")]
    assert headers(b"VOLT 1") == [("VOLT",)]


def test_numeric_suffixes_stay_in_the_mnemonic() -> None:
    assert headers(b":calc2:lim2:upp:sour2 1") == [("CALC2", "LIM2", "UPP", "SOUR2")]


@pytest.mark.parametrize("line", [b"", b"   ", b"\t"])
def test_a_blank_message_has_no_commands(line: bytes) -> None:
    assert parse_message(line) == []


@pytest.mark.parametrize("line", [b"*CLS;", b"*CLS ; ", b" *CLS", b"*CLS  "])
def test_white_space_and_a_trailing_separator_are_tolerated(line: bytes) -> None:
    assert parse_message(line) == [Command(("*CLS",), common=True)]


def test_white_space_around_parameters() -> None:
    assert parse_message(b":FORM:ELEM \t CURR , STAT\t,TIME ;*CLS")[0].params == (
        word("CURR"),
        word("STAT"),
        word("TIME"),
    )


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b':SENS:FUNC "CURR"', "CURR"),
        (b":SENS:FUNC 'CURR'", "CURR"),
        (b"A ''", ""),
        (b'A "a""b"', 'a"b'),
        (b"A 'a''b'", "a'b"),
        (b"A 'a\"\"b'", 'a""b'),
        (b'A "x;y,:z"', "x;y,:z"),
        (b'A "\xe4"', "\xe4"),
    ],
)
def test_strings_in_both_quotes(line: bytes, text: str) -> None:
    assert parse_message(line)[0].params == (Param(ParamKind.STRING, text),)


def test_an_expression_keeps_its_parentheses() -> None:
    (command,) = parse_message(b":CALC:MATH (((RES - 1) * 2)),5")
    assert command.params == (Param(ParamKind.EXPRESSION, "(((RES - 1) * 2))"), word("5"))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b";", -102),
        (b"*CLS;;*CLS", -102),
        (b"::VOLT 1", -102),
        (b"1VOLT", -102),
        (b"*", -102),
        (b"\x80", -101),
        (b"A 1,\x80", -101),
        (b"A 1\x80", -103),
        (b"A 1 2", -103),
        (b"A 'b'c", -103),
        (b"A:", -111),
        (b"A,1", -111),
        (b"A'x'", -111),
        (b"*IDN??", -111),
        (b"A ,1", -109),
        (b"A 1,", -109),
        (b"A 1,;B", -109),
        (b"A 'x", -151),
        (b'A "x""', -151),
        (b"A (1", -171),
        (b"A )", -171),
        (b"A (1;2)", -171),
        (b"A " + b"(" * 9 + b")" * 9, -171),
        (b"A #15abcde", -168),
        (b"A" * 17, -112),
        (b"*" + b"A" * 17, -112),
        (b"A " + b"1" * 65, -144),
    ],
)
def test_each_breach_has_its_number(line: bytes, code: int) -> None:
    assert code_of(line) == code


def test_caps_are_refusals_at_the_named_counts() -> None:
    assert len(parse_message(b";".join([b"*CLS"] * limits.MAX_UNITS))) == limits.MAX_UNITS
    assert code_of(b";".join([b"*CLS"] * (limits.MAX_UNITS + 1))) == -223
    assert len(parse_message(b"A " + b",".join([b"1"] * limits.MAX_PARAMS))[0].params) == limits.MAX_PARAMS
    assert code_of(b"A " + b",".join([b"1"] * (limits.MAX_PARAMS + 1))) == -223
    assert len(headers(b":".join([b"A"] * limits.MAX_NODES))[0]) == limits.MAX_NODES
    assert code_of(b":".join([b"A"] * (limits.MAX_NODES + 1))) == -113


def test_a_path_cannot_be_deepened_past_the_cap() -> None:
    assert code_of(b";".join([b"A:B:C:D"] * 5)) == -113


def test_commands_before_an_invalid_one_come_out_first() -> None:
    commands = iter_commands(b":SOUR:VOLT 0;:OUTP OFF;!bad;*CLS")
    assert next(commands).header == ("SOUR", "VOLT")
    assert next(commands).header == ("OUTP",)
    with pytest.raises(ScpiError) as caught:
        next(commands)
    assert caught.value.data.startswith(b"!bad")
    assert list(commands) == []


def test_an_error_keeps_at_most_200_bytes() -> None:
    with pytest.raises(ScpiError) as caught:
        parse_message(b"!" * 3000)
    assert caught.value.data == b"!" * 200


def test_a_command_prints_as_it_is_sent() -> None:
    assert [str(command) for command in parse_message(b"sour:volt 1;*idn?")] == [":SOUR:VOLT", "*IDN?"]


@given(line=LINES)
def test_garbage_gives_commands_or_our_error_and_nothing_else(line: bytes) -> None:
    commands, error = attempt(line)
    if error is not None:
        assert isinstance(error, RemoteProtocolError)
        assert error.code <= -101
        assert len(error.data) <= 200
    assert len(commands) <= limits.MAX_UNITS
    for command in commands:
        assert 1 <= len(command.header) <= limits.MAX_NODES
        assert all(name == name.upper() for name in command.header)
        assert command.common == command.header[0].startswith("*")


@given(line=LINES)
def test_the_list_form_agrees_with_the_iterator(line: bytes) -> None:
    commands, error = attempt(line)
    if error is None:
        assert parse_message(line) == commands
    else:
        assert code_of(line) == error.code


MNEMONIC = st.from_regex(r"[A-Z][A-Z0-9]{0,7}", fullmatch=True)
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


@given(
    units=st.lists(st.tuples(st.lists(MNEMONIC, min_size=1, max_size=4), st.booleans(), TEXT), min_size=1, max_size=5)
)
def test_what_is_written_is_what_is_parsed(units: list[tuple[list[str], bool, str]]) -> None:
    line = ";".join(
        f':{":".join(names)}{"?" if query else ""} "' + text.replace('"', '""') + '"' for names, query, text in units
    )
    assert parse_message(line.encode()) == [
        Command(tuple(names), query, (Param(ParamKind.STRING, text),), absolute=True) for names, query, text in units
    ]
