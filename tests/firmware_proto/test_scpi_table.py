from __future__ import annotations

import itertools

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.errors import LocalProtocolError
from firmware_proto.scpi import Command, CommandTable, ScpiError, matches, parse_message
from firmware_proto.scpi import table as module

LEVEL = ":SOURce[1]:VOLTage[:LEVel][:IMMediate][:AMPLitude]"
TABLE = CommandTable(
    [
        (LEVEL, "set"),
        (LEVEL + "?", "get"),
        ("[:SENSe[1]]:CURRent[:DC]:PROTection[:LEVel]", "prot"),
        ("[:SENSe[1]]:CURRent[:DC]:PROTection:TRIPped?", "trip"),
        (":CALCulate2:LIMit2:UPPer", "upper"),
        (":CALCulate2:LIMit3:UPPer", "upper3"),
        (":READ?", "read"),
        ("*ESE", "ese"),
        ("*ESE?", "ese?"),
    ]
)


def found(line: bytes) -> str:
    (command,) = parse_message(line)
    return TABLE.lookup(command)


@pytest.mark.parametrize(
    "header",
    [
        ":" + ":".join(part for part in parts if part)
        for parts in itertools.product(
            ["SOUR", "SOURCE", "SOUR1", "source1"],
            ["VOLT", "Voltage"],
            ["", "LEV", "level"],
            ["", "IMM", "IMMEDIATE"],
            ["", "ampl", "AMPLITUDE"],
        )
    ],
)
def test_every_spelling_of_a_pattern(header: str) -> None:
    assert found(f"{header} 1".encode()) == "set"
    assert found(f"{header}?".encode()) == "get"


@pytest.mark.parametrize("line", [b":SENS:CURR:PROT", b"CURR:PROT", b":SENSE1:CURRENT:DC:PROTECTION:LEVEL"])
def test_optional_nodes_in_front(line: bytes) -> None:
    assert found(line) == "prot"


def test_suffixes_that_are_not_optional_must_be_there() -> None:
    assert found(b":CALC2:LIM2:UPP") == "upper"
    assert found(b":CALC2:LIMIT3:UPP") == "upper3"
    for line in (b":CALC:LIM2:UPP", b":CALC2:LIM:UPP", b":CALC2:LIM4:UPP"):
        with pytest.raises(ScpiError):
            found(line)


@pytest.mark.parametrize(
    "line",
    [b":SOURC:VOLT 1", b":SOUR2:VOLT 1", b":SOUR", b":VOLT 1", b":SOUR:VOLT:AMPL:LEV 1", b":READ", b"*ESR?", b"ESE?"],
)
def test_what_is_not_there_is_an_undefined_header(line: bytes) -> None:
    with pytest.raises(ScpiError) as caught:
        found(line)
    assert caught.value.code == -113


def test_a_query_without_a_command_has_no_command() -> None:
    assert found(b":CURR:PROT:TRIP?") == "trip"
    with pytest.raises(ScpiError):
        found(b":CURR:PROT:TRIP")
    with pytest.raises(ScpiError):
        found(b":CURR:PROT?")


def test_common_commands() -> None:
    assert found(b"*ese 4") == "ese"
    assert found(b"*ESE?") == "ese?"


@pytest.mark.parametrize(
    "entries",
    [
        [(":READ?", 1), (":READ?", 2)],
        [(":A[:B]", 1), (":A", 2)],
        [(":A[1]", 1), (":A1", 2)],
        [(":DELay", 1), (":DELete", 2)],
        [(":DELay:A", 1), (":DELete:B", 2)],
        [(":A[1]:B", 1), (":A1:C", 2)],
        [("[:A][:B]", 1)],
        [("", 1)],
        [(":a", 1)],
        [(":A[:B", 1)],
        [(":A]", 1)],
        [(":A B", 1)],
    ],
)
def test_bad_and_clashing_patterns_are_refused_when_compiled(entries: list[tuple[str, int]]) -> None:
    with pytest.raises(LocalProtocolError):
        CommandTable(entries)


def test_the_same_node_with_and_without_a_suffix_is_one_node() -> None:
    table = CommandTable([(":LIMit:A", 1), (":LIMit[1]:B", 2)])
    assert table.find(("LIM1", "A")) == 1
    assert table.find(("LIMIT", "B")) == 2


def test_a_falsy_value_is_a_value() -> None:
    assert CommandTable([(":A", 0)]).find(("A",)) == 0
    assert len(CommandTable([(":A", None), (":A?", None)])) == 2


def test_the_cache_is_bounded_and_does_not_change_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CACHE_SIZE", 4)
    table = CommandTable([(f":{chr(65 + n)}", n) for n in range(20)])
    for _ in range(2):
        assert [table.find((chr(65 + n),)) for n in range(20)] == list(range(20))
        assert len(table._found) <= 4


@pytest.mark.parametrize(
    ("pattern", "header", "yes"),
    [
        (LEVEL, ":sour:volt", True),
        (LEVEL, ("SOURCE1", "VOLTAGE", "AMPLITUDE"), True),
        (LEVEL, ":SOUR:VOLT?", False),
        (LEVEL + "?", ":SOUR:VOLT?", True),
        (LEVEL + "?", Command(("SOUR", "VOLT"), query=True), True),
        (LEVEL, ":SOUR:CURR", False),
        ("*IDN?", "*idn?", True),
        ("ZERO", "ZER", False),
    ],
)
def test_one_pattern_against_one_header(pattern: str, header: Command | tuple[str, ...] | str, yes: bool) -> None:
    assert matches(pattern, header) is yes


@given(header=st.lists(st.text(max_size=6), max_size=5).map(tuple), query=st.booleans())
def test_any_unknown_header_is_our_error(header: tuple[str, ...], query: bool) -> None:
    hypothesis.assume(header not in {("READ",), ("*ESE",)})
    with pytest.raises(ScpiError) as caught:
        TABLE.find(header, query=query)
    assert caught.value.code == -113
