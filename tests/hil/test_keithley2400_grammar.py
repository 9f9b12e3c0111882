"""What real clients write, as the emulated 2400 takes it: terminators, cases, quotes, chains, nodes, suffixes."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.devices.keithley2400.desk import Desk

PROT = "+1.050000E-04"


def refusal(desk: Desk, message: str) -> int:
    """Send a message that must be refused, and return the number of its one error."""
    desk.tell("*CLS", message)
    (code,) = desk.unit.error_queue
    return code


@pytest.mark.parametrize(
    "header",
    [
        ":SENSe1:CURRent:DC:PROTection:LEVel?",
        ":SENS:CURR:PROT?",
        ":sens:curr:prot?",
        "SENS:CURR:PROT:LEV?",
        "CURR:PROT?",
        ":CURRENT:DC:PROT?",
        ":CuRr:PrOtEcTiOn?",
        " \t:SENS1:CURR:PROT?",
        ":SENSe:CURRent:PROT?  ",
    ],
)
def test_long_and_short_forms_optional_nodes_and_any_case(header: str) -> None:
    assert Desk().ask(header) == PROT


@pytest.mark.parametrize(
    "header",
    [
        ":SENSE:CURRE:PROT?",
        ":SEN:CURR:PROT?",
        ":SENS:CURR:PROTE?",
        ":SENS2:CURR:PROT?",
        ":SENS:CURR1:PROT?",
        ":SOUR3:VOLT?",
    ],
)
def test_no_other_abbreviation_and_no_other_suffix(header: str) -> None:
    assert refusal(Desk(), header) == -113


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        (":SOUR1:VOLT:LEV 1;LEV?", "+1.000000E+00"),
        (":SOUR:VOLT:RANG 20;:SOUR:VOLT 1.5;VOLT?", "+1.500000E+00"),
        (":SENS:CURR:PROT 1E-3;RANG 1E-3;PROT?;RANG?", "+1.000000E-03;+1.050000E-03"),
        ("*ESE 4;:SENS:CURR:PROT 1E-3;*ESE?;PROT?", "4;+1.000000E-03"),
        (":SENS:CURR:PROT 1E-3;:OUTP:SMOD ZERO;SMOD?", "ZERO"),
        (":SOUR:VOLT 1;", None),
        (":SOUR:VOLT?;", "+0.000000E+00"),
        (":SOUR:VOLT? ; ", "+0.000000E+00"),
        (":*ESE 5;:*ESE?", "5"),
        (":*RST;:*OPC?", "1"),
        ("*rst;*Opc?", "1"),
    ],
)
def test_chains(message: str, reply: str | None) -> None:
    desk = Desk()
    assert desk.ask(message) == reply
    assert desk.unit.error_queue == ()


def test_a_path_does_not_reach_into_the_next_message() -> None:
    desk = Desk()
    desk.tell(":SENS:CURR:PROT 1E-3")
    assert refusal(desk, "PROT?") == -113


@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize("name", ["CURR", "CURRENT", "CURR:DC", "current:dc", "CURRent"])
def test_both_quote_styles(quote: str, name: str) -> None:
    desk = Desk()
    desk.tell(":SENS:FUNC:CONC OFF", f":SENS:FUNC {quote}VOLT{quote}", f":SENS:FUNC {quote}{name}{quote}")
    assert desk.ask(":SENS:FUNC?") == '"CURR:DC"'


def test_separators_in_quotes_are_text() -> None:
    desk = Desk()
    assert desk.ask(""":DISP:WIND:TEXT:DATA 'a;b,"c';:DISP:TEXT?""") == '"a;b,""c"'
    assert refusal(desk, ":DISP:TEXT 'never closed;*RST") == -151


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("+1", 1.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e0", 1.0),
        ("1E+00", 1.0),
        ("-1.5e-01", -0.15),
        ("1e-05", 1e-5),
    ]
    + [(f"{value:g}", value) for value in (0.001, 1e-5, 12.5, -0.0125)],
)
def test_numbers_as_printf_and_people_write_them(text: str, value: float) -> None:
    assert float(Desk().ask(f":SOUR:VOLT {text};VOLT?") or "nan") == pytest.approx(value)


@pytest.mark.parametrize("text", ["#H24", "#h24", "#B100100", "#Q44", "36", "3.6E1"])
def test_registers_take_other_bases(text: str) -> None:
    assert Desk().ask(f"*ESE {text};*ESE?") == "36"


@given(
    ends=st.lists(st.sampled_from(["\r", "\n", "\r\n", "\n\r", "\r\r\n"]), min_size=5, max_size=5),
    seed=st.integers(0, 99),
)
def test_terminators_in_any_mix_and_stray_nuls(ends: list[str], seed: int) -> None:
    rng = random.Random(seed)
    text = "".join(f"*ESE {n};*ESE?{end}" for n, end in enumerate(ends)).encode()
    for _ in range(5):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + b"\0" + text[at:]
    desk = Desk()
    cuts = sorted({0, len(text), *(rng.randrange(len(text) + 1) for _ in range(4))})
    for begin, end in itertools.pairwise(cuts):
        desk.write(text[begin:end])
    desk.settle()
    assert [data for _, data in desk.wire.sent] == [b"%d\r" % n for n in range(5)]
    assert desk.unit.error_queue == ()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (":SOUR:VOLT 1 V", -103),
        (":SOUR:VOLT", -109),
        (":SOUR:VOLT 1,2", -108),
        (":SOUR:VOLT ON", -141),
        (":SOUR:VOLT 1.2.3", -121),
        (":SOUR:VOLT '1'", -104),
        (":OUTP 2", -224),
        (":OUTP:SMOD OPEN", -141),
        (":SOUR:VOLT 1,", -109),
        (";:SOUR:VOLT 1", -102),
        ("*XYZ", -113),
        (":SYST:ERR", -113),
        ("*RST?", -113),
        (":SOUR::VOLT 1", -111),
    ],
)
def test_what_is_refused_and_how(message: str, code: int) -> None:
    assert refusal(Desk(), message) == code


def test_decimal_18_is_no_abort() -> None:
    # The manual prints "^X (decimal 18)"; ^X is decimal 24, and 18 is ^R.
    desk = Desk()
    desk.tell(":OUTP ON")
    desk.write(":READ?")
    desk.wait(1_000_000)
    desk.write(bytes([18]))
    assert desk.unit.busy
    desk.write(bytes([0x18]))
    assert not desk.unit.busy


def test_a_device_clear_of_the_gpib_is_white_space_here() -> None:
    desk = Desk()
    desk.write(bytes([20]) + b"*OPC?\r")  # DCL
    desk.settle()
    assert desk.wire.sent[-1][1] == b"1\r"


@pytest.mark.parametrize("breaker", [b"\x03", b"\x18", b":ABOR\r"])
def test_three_ways_to_break_in_and_what_becomes_of_the_queue(breaker: bytes) -> None:
    desk = Desk()
    desk.tell(":OUTP ON")
    desk.write(b":READ?\r*ESE 3;*ESE?\r")
    desk.wait(1_000_000)
    desk.write(breaker)
    desk.settle()
    kept = [b"3\r"] if breaker.startswith(b":") else []
    # :ABOR ends the measurement and waits its turn behind what is queued; ^C and ^X drop that too.
    assert [data for _, data in desk.wire.sent] == kept
    assert desk.unit.output_on
