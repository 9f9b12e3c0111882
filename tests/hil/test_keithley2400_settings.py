"""What can be set on the emulated 2400, what is refused, and what a reset makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.keithley2400.status import CURRENT_RANGES_A
from hil.devices.keithley2400.desk import Desk
from hil.devices.keithley2400.errors import RefusedError
from hil.devices.keithley2400.settings import Settings, pick_range
from hil.devices.keithley2400.table import commands

RESET = {
    ":OUTP?": "0",
    ":OUTP:SMOD?": "NORM",
    ":ROUT:TERM?": "FRON",
    ":SENS:CURR:RANG?": "+1.050000E-04",
    ":SENS:CURR:RANG:AUTO?": "1",
    ":SENS:CURR:NPLC?": "+1.000000E+00",
    ":SENS:CURR:PROT?": "+1.050000E-04",
    ":SENS:CURR:PROT:TRIP?": "0",
    ":SENS:VOLT:RANG?": "+2.100000E+01",
    ":SENS:VOLT:RANG:AUTO?": "1",
    ":SENS:VOLT:PROT?": "+2.100000E+01",
    ":SENS:AVER?": "0",
    ":SENS:AVER:COUN?": "10",
    ":SENS:AVER:TCON?": "REP",
    ":SENS:FUNC?": '"CURR:DC"',
    ":SENS:FUNC:CONC?": "1",
    ":SOUR:FUNC?": "VOLT",
    ":SOUR:VOLT:MODE?": "FIX",
    ":SOUR:VOLT?": "+0.000000E+00",
    ":SOUR:VOLT:RANG?": "+2.100000E+01",
    ":SOUR:VOLT:RANG:AUTO?": "1",
    ":SOUR:CURR?": "+0.000000E+00",
    ":SOUR:CURR:RANG?": "+1.050000E-04",
    ":SOUR:DEL?": "+1.000000E-03",
    ":SOUR:DEL:AUTO?": "1",
    ":SOUR:CLE:AUTO?": "0",
    ":SYST:AZER?": "1",
    ":SYST:RSEN?": "0",
    ":FORM:ELEM?": "VOLT,CURR,RES,TIME,STAT",
    ":FORM?": "ASC",
    ":TRIG:COUN?": "1",
    ":TRIG:DEL?": "+0.000000E+00",
    ":ARM:COUN?": "1",
}

CHANGES = (
    ":OUTP:SMOD ZERO",
    ":ROUT:TERM REAR",
    ":SENS:CURR:PROT 1E-3",
    ":SENS:CURR:RANG 1E-3",
    ":SENS:CURR:NPLC 0.01",
    ":SENS:VOLT:RANG 2",
    ":SENS:VOLT:PROT 2",
    ":SENS:AVER ON",
    ":SENS:AVER:COUN 3",
    ":SENS:AVER:TCON MOV",
    ":SENS:FUNC 'VOLT'",
    ":SENS:FUNC:CONC OFF",
    ":SOUR:VOLT:RANG 2",
    ":SOUR:VOLT 1",
    ":SOUR:CURR:RANG 1E-6",
    ":SOUR:CURR 1E-6",
    ":SOUR:DEL 0",
    ":SOUR:CLE:AUTO ON",
    ":SOUR:FUNC CURR",
    ":SYST:AZER OFF",
    ":SYST:RSEN ON",
    ":FORM:ELEM CURR",
    ":TRIG:COUN 5",
    ":TRIG:DEL 0.1",
    ":ARM:COUN 7",
    ":OUTP ON",
)


def refusal(desk: Desk, message: str) -> int:
    """Send a message that must be refused, and return the number of its one error."""
    desk.tell("*CLS", message)
    (code,) = desk.unit.error_queue
    return code


@pytest.mark.parametrize("query", RESET)
def test_power_up_state(query: str) -> None:
    assert Desk().ask(query) == RESET[query]


@pytest.mark.parametrize("reset", ["*RST", ":SYST:PRES"])
def test_a_reset_restores_everything(reset: str) -> None:
    desk = Desk()
    desk.tell(*CHANGES)
    assert desk.unit.error_queue == (-221,)  # :SENS:VOLT:RANG while the voltage is sourced
    changed = [query for query in RESET if desk.ask(query) != RESET[query]]
    assert len(changed) > len(RESET) // 2
    desk.tell(reset)
    assert {query: desk.ask(query) for query in RESET} == RESET


def test_a_reset_leaves_the_panel_alone() -> None:
    desk = Desk()
    desk.tell(":SYST:BEEP:STAT OFF", ":DISP:ENAB OFF", ":SYST:RWL ON", "*RST")
    assert desk.ask(":SYST:BEEP:STAT?;:DISP:ENAB?;:SYST:RWL?") == "0;0;1"


def test_local_leaves_the_lock_as_it_is_set() -> None:
    # "... restores front panel keys operation but does not change the status of the :RWLock command" (18-112).
    assert Desk().ask(":SYST:RWL ON;REM;:SYST:LOC;RWL?") == "1"


@pytest.mark.parametrize(
    ("value", "readback"),
    [
        ("0", "+1.050000E-06"),
        ("1.05E-6", "+1.050000E-06"),
        ("1.06E-6", "+1.050000E-05"),
        ("-5E-5", "+1.050000E-04"),
        ("0.0001", "+1.050000E-04"),
        ("1.05E-4", "+1.050000E-04"),
        ("1E-3", "+1.050000E-03"),
        ("0.5", "+1.050000E+00"),
        ("MAX", "+1.050000E+00"),
        ("DEF", "+1.050000E-04"),
    ],
)
def test_a_measure_range_is_the_smallest_that_holds_the_value(value: str, readback: str) -> None:
    desk = Desk()
    desk.tell(":SENS:CURR:PROT 1")
    assert desk.ask(f":SENS:CURR:RANG {value};RANG?") == readback
    assert desk.ask(":SENS:CURR:RANG:AUTO?") == "0"


@pytest.mark.parametrize(
    ("value", "readback"), [("0.2", "0.21"), ("2", "2.1"), ("3", "21"), ("20", "21"), ("-100", "210")]
)
def test_a_source_range_is_the_smallest_that_holds_the_value(value: str, readback: str) -> None:
    reply = Desk().ask(f":SOUR:VOLT:RANG {value};RANG?")
    assert float(reply or 0) == pytest.approx(float(readback))


def test_up_and_down_step_through_the_ranges_and_stop_at_the_ends() -> None:
    desk = Desk()
    desk.tell(":SENS:CURR:PROT 1", ":SENS:CURR:RANG 1E-3")
    assert desk.ask(":SENS:CURR:RANG UP;RANG?") == "+1.050000E-02"
    assert desk.ask(":SENS:CURR:RANG DOWN;RANG DOWN;RANG?") == "+1.050000E-04"
    assert desk.ask(":SENS:CURR:RANG 0;RANG DOWN;RANG?") == "+1.050000E-06"
    assert desk.ask(":SENS:CURR:RANG MAX;RANG UP;RANG?") == "+1.050000E+00"


@pytest.mark.parametrize(
    ("query", "reply"),
    [
        (":SOUR:VOLT? MAX", "+2.100000E+02"),
        (":SOUR:VOLT? MIN", "-2.100000E+02"),
        (":SENS:CURR:PROT? DEF", "+1.050000E-04"),
        (":SENS:CURR:NPLC? MIN", "+1.000000E-02"),
        (":TRIG:COUN? MAX", "2500"),
        (":SENS:CURR:RANG? DEF", "+1.050000E-04"),
        (":SENS:VOLT:RANG:AUTO:LLIM? DEF", "+2.100000E-01"),
        (":SENS:RES:RANG? DEF", "+2.100000E+05"),
        (":SOUR:VOLT:RANG? DEF", "+2.100000E+01"),
        (":CALC2:LIM3:LOW? DEF", "-1.000000E+00"),
    ],
)
def test_limits_can_be_asked_for(query: str, reply: str) -> None:
    assert Desk().ask(query) == reply


def test_source_ranges_step_up_and_down() -> None:
    desk = Desk()
    assert desk.ask(":SOUR:VOLT:RANG 2;RANG UP;RANG?;RANG DOWN;RANG DOWN;RANG?") == "+2.100000E+01;+2.100000E-01"
    assert desk.ask(":SOUR:CURR:RANG 1;RANG UP;RANG?;RANG DOWN;RANG?") == "+1.050000E+00;+1.050000E-01"


# Range and compliance


def test_a_range_above_the_compliance_range_is_refused_and_the_narrower_stays() -> None:
    desk = Desk()
    assert refusal(desk, ":SENS:CURR:RANG 1E-3") == 824
    assert desk.ask(":SENS:CURR:RANG?;RANG:AUTO?") == "+1.050000E-04;1"
    desk.tell(":SENS:CURR:RANG 1E-4")
    assert refusal(desk, ":SENS:CURR:RANG 1E-3") == 824
    assert desk.ask(":SENS:CURR:RANG?;RANG:AUTO?") == "+1.050000E-04;0"


def test_protection_first_and_then_its_range_is_never_refused() -> None:
    for nominal in CURRENT_RANGES_A:
        desk = Desk()
        desk.tell(f":SENS:CURR:PROT {nominal:.9f}", f":SENS:CURR:RANG {nominal:.9f}")
        assert desk.unit.error_queue == ()
        assert float(desk.ask(":SENS:CURR:PROT?") or 0) == pytest.approx(nominal)
        assert float(desk.ask(":SENS:CURR:RANG?") or 0) == pytest.approx(nominal * 1.05)


@pytest.mark.parametrize(
    ("range_a", "least", "below"),
    [("1E-3", "1E-6", "0.99E-6"), ("1E-4", "1E-7", "0.99E-7"), ("1E-6", "1E-9", "0.99E-9")],
)
def test_a_protection_below_a_thousandth_of_the_range_is_refused(range_a: str, least: str, below: str) -> None:
    desk = Desk()
    desk.tell(f":SENS:CURR:PROT {range_a}", f":SENS:CURR:RANG {range_a}")
    before = desk.ask(":SENS:CURR:PROT?")
    assert refusal(desk, f":SENS:CURR:PROT {below}") == 822
    assert refusal(desk, ":SENS:CURR:PROT 0") == 822
    assert desk.ask(":SENS:CURR:PROT?") == before
    desk.tell("*CLS", f":SENS:CURR:PROT {least}")
    assert desk.unit.error_queue == ()
    assert float(desk.ask(":SENS:CURR:PROT?") or 0) == float(least)


def test_a_lower_protection_leaves_a_fixed_range() -> None:
    desk = Desk()
    desk.tell(":SENS:CURR:PROT 1E-3", ":SENS:CURR:RANG 1E-3", ":SENS:CURR:PROT 5E-5")
    assert desk.ask(":SENS:CURR:RANG?;PROT?") == "+1.050000E-03;+5.000000E-05"


def test_a_lower_protection_lowers_an_automatic_range() -> None:
    desk = Desk()
    assert desk.ask(":SENS:CURR:PROT 1E-6;:SENS:CURR:RANG?") == "+1.050000E-06"


def test_a_negative_protection_is_its_magnitude() -> None:
    assert Desk().ask(":SENS:CURR:PROT -1E-5;PROT?") == "+1.000000E-05"


def test_the_sourced_quantity_has_no_measure_range_of_its_own() -> None:
    desk = Desk()
    assert refusal(desk, ":SENS:VOLT:RANG 2") == -221
    desk.tell(":SOUR:FUNC CURR")
    assert refusal(desk, ":SENS:CURR:RANG 1E-6") == -221
    assert refusal(desk, ":SENS:CURR:RANG:AUTO ON") == -221
    desk.tell("*CLS", ":SENS:VOLT:RANG 2")
    assert desk.unit.error_queue == ()


# Source


def test_a_level_above_a_fixed_range_is_refused_and_the_old_one_stays() -> None:
    desk = Desk()
    desk.tell(":SOUR:VOLT:RANG 2", ":SOUR:VOLT 2.1")
    assert refusal(desk, ":SOUR:VOLT 2.11") == -222
    assert desk.ask(":SOUR:VOLT?") == "+2.100000E+00"


def test_with_source_autorange_the_range_follows_the_level() -> None:
    desk = Desk()
    assert desk.ask(":SOUR:VOLT 0.1;:SOUR:VOLT:RANG?") == "+2.100000E-01"
    assert desk.ask(":SOUR:VOLT -15;:SOUR:VOLT:RANG?") == "+2.100000E+01"
    assert desk.ask(":SOUR:VOLT:RANG 20;:SOUR:VOLT 0.1;:SOUR:VOLT:RANG?") == "+2.100000E+01"
    assert desk.ask(":SOUR:VOLT:RANG:AUTO ON;:SOUR:VOLT:RANG?") == "+2.100000E-01"


def test_a_source_range_below_the_level_is_refused() -> None:
    desk = Desk()
    desk.tell(":SOUR:VOLT 15")
    assert refusal(desk, ":SOUR:VOLT:RANG 2") == -221
    assert desk.ask(":SOUR:VOLT?;:SOUR:VOLT:RANG?") == "+1.500000E+01;+2.100000E+01"


@pytest.mark.parametrize("value", ["210.1", "-211", "1E30"])
def test_no_level_above_the_instrument(value: str) -> None:
    assert refusal(Desk(), f":SOUR:VOLT {value}") == -222


@pytest.mark.parametrize(
    ("value", "step"), [("20", 20), ("5", 20), ("21", 40), ("100", 100), ("161", 210), ("NONE", 210), ("MAX", 210)]
)
def test_the_voltage_limit_comes_in_steps(value: str, step: float) -> None:
    assert float(Desk().ask(f":SOUR:VOLT:PROT {value};PROT?") or 0) == step


def test_a_delay_switches_the_automatic_one_off() -> None:
    desk = Desk()
    assert desk.ask(":SOUR:DEL 0.0005;:SOUR:DEL?;:SOUR:DEL:AUTO?") == "+5.000000E-04;0"
    assert desk.ask(":SOUR:DEL:AUTO ON;:SOUR:DEL:AUTO?") == "1"
    assert refusal(desk, ":SOUR:DEL 10000") == -222
    assert refusal(desk, ":SOUR:DEL -1") == -222


def test_source_modes() -> None:
    desk = Desk()
    assert desk.ask(":SOUR:VOLT:MODE SWEep;MODE?;MODE LIST;MODE?;:SOUR:CURR:MODE?") == "SWE;LIST;FIX"
    assert refusal(desk, ":SOUR:VOLT:MODE PULSe") == -141
    assert refusal(desk, ":SOUR:FUNC MEM") == -141


# Sense, format, trigger


def test_functions_add_up_when_concurrent() -> None:
    desk = Desk()
    assert desk.ask(":SENS:FUNC 'VOLT';FUNC?") == '"VOLT:DC","CURR:DC"'
    assert desk.ask(":SENS:FUNC:OFF 'CURR:DC';:SENS:FUNC?") == '"VOLT:DC"'
    assert desk.ask(':SENS:FUNC:OFF "VOLT";:SENS:FUNC?') == '""'


def test_functions_replace_each_other_when_not() -> None:
    desk = Desk()
    desk.tell(":SENS:FUNC:CONC OFF", ':SENS:FUNC "VOLTage:DC"')
    assert desk.ask(":SENS:FUNC?") == '"VOLT:DC"'
    assert desk.ask(":SENS:FUNC 'current';FUNC?") == '"CURR:DC"'
    assert refusal(desk, ":SENS:FUNC 'CURR','VOLT'") == -221


def test_switching_concurrent_off_leaves_one_function() -> None:
    desk = Desk()
    desk.tell(":SENS:FUNC 'VOLT','CURR','RES'", ":SENS:FUNC:CONC OFF")
    assert desk.ask(":SENS:FUNC?") == '"VOLT:DC"'


@pytest.mark.parametrize("message", [":SENS:FUNC CURR", ":SENS:FUNC 'POW'", ":SENS:FUNC ''", ":SENS:FUNC 'CUR'"])
def test_what_is_not_a_function_is_refused(message: str) -> None:
    assert refusal(Desk(), message) == -141


def test_speed_is_one_setting_for_all_functions() -> None:
    desk = Desk()
    assert desk.ask(":SENS:VOLT:NPLC 0.1;:SENS:CURR:NPLC?;:SENS:RES:NPLC?") == "+1.000000E-01;+1.000000E-01"
    for value in ("0.009", "10.1"):
        assert refusal(desk, f":SENS:CURR:NPLC {value}") == -222


def test_elements_are_listed_in_the_order_they_are_sent() -> None:
    desk = Desk()
    assert desk.ask(":FORM:ELEM STAT,CURR;ELEM?") == "CURR,STAT"
    assert desk.ask(":FORM:ELEM TIME,VOLTage,RES;ELEM?") == "VOLT,RES,TIME"
    assert refusal(desk, ":FORM:ELEM CURR,POW") == -141
    assert desk.ask(":FORM:ELEM?") == "VOLT,RES,TIME"


def test_only_ascii_over_rs232() -> None:
    desk = Desk()
    desk.tell(":FORM ASC", ":FORM:DATA ASCii")
    assert desk.unit.error_queue == ()
    assert refusal(desk, ":FORM REAL,32") == 701
    assert refusal(desk, ":FORM SREal") == 701


def test_counts_have_a_product() -> None:
    desk = Desk()
    assert desk.ask(":TRIG:COUN 2500;:TRIG:COUN?") == "2500"
    assert refusal(desk, ":ARM:COUN 2") == -221
    assert desk.ask(":ARM:COUN?;:TRIG:COUN 10;:ARM:COUN 250;:ARM:COUN?") == "1;250"
    for value in ("0", "2501", "-5"):
        assert refusal(desk, f":TRIG:COUN {value}") == -222


def test_an_infinite_arm_count_is_sent_as_9_9e37() -> None:
    assert Desk().ask(":ARM:COUN INF;:ARM:COUN?") == "+9.900000E+37"
    assert refusal(Desk(), ":TRIG:COUN INF") == -141


def test_autozero_once_ends_off() -> None:
    assert Desk().ask(":SYST:AZER ONCE;:SYST:AZER?") == "0"
    assert Desk().ask(":SYST:AZER:STAT OFF;STAT ON;STAT?") == "1"
    assert refusal(Desk(), ":SYST:AZER TWICE") == -141


# The rules by themselves


@given(value=st.floats(0, 1.05), index=st.integers(0, 6))
def test_a_picked_range_is_the_smallest(value: float, index: int) -> None:
    nominal = pick_range(CURRENT_RANGES_A, value)
    assert value <= nominal * 1.05 * (1 + 1e-9)
    assert all(value > smaller * 1.05 for smaller in CURRENT_RANGES_A if smaller < nominal)
    edge = CURRENT_RANGES_A[index]
    assert pick_range(CURRENT_RANGES_A, edge * 1.05) == edge


def test_nothing_holds_what_is_above_the_last_range() -> None:
    with pytest.raises(RefusedError) as caught:
        pick_range(CURRENT_RANGES_A, 1.06)
    assert caught.value.code == -222


@given(
    steps=st.lists(st.tuples(st.booleans(), st.floats(0, 1.2)) | st.tuples(st.just(None), st.booleans()), max_size=12)
)
def test_range_and_protection_stay_consistent_in_any_order(steps: list[tuple[bool | None, float]]) -> None:
    axis = Settings().curr_sense
    for is_range, value in steps:
        before = (axis.range, axis.protection, axis.auto_range)
        try:
            if is_range is None:
                axis.auto_range = bool(value)
            elif is_range:
                axis.set_range(value)
            else:
                axis.set_protection(value)
        except RefusedError:
            assert (axis.range, axis.protection, axis.auto_range) == before
        assert axis.range in CURRENT_RANGES_A
        assert 0 < axis.clamp <= axis.protection
        assert axis.auto_range or axis.clamp <= axis.range * 1.05 * (1 + 1e-9)
        assert axis.protection >= axis.range * 1e-3 * (1 - 1e-6)


def test_the_table_compiles_without_clashes() -> None:
    assert len(commands()) > 90
