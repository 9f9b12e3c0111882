"""The ohms function of the emulated 2400, and what a current source and its measure ranges do."""

from __future__ import annotations

import pytest

from firmware_proto.keithley2400.status import StatusWord
from hil.devices.keithley2400.desk import Desk
from hil.devices.keithley2400.reading import AUTO_OHMS_BIT

MS = 1_000_000
FAST = (":SENS:CURR:NPLC 0.01", ":SYST:AZER OFF", ":SOUR:DEL 0")
OVERFLOW = 9.9e37


def refusal(desk: Desk, message: str) -> int:
    desk.tell("*CLS", message)
    (code,) = desk.unit.error_queue
    return code


def test_auto_ohms_takes_the_source_over_and_switches_it_off() -> None:
    desk = Desk(1e5)
    desk.tell(":SOUR:VOLT 1", ":OUTP ON", ":SENS:FUNC 'RES'")
    assert desk.ask(":SOUR:FUNC?;:SOUR:CURR?;:OUTP?;:SENS:VOLT:RANG?") == "CURR;+1.000000E-05;0;+2.100000E+00"
    desk.tell(":SENS:FUNC 'VOLT'", ":OUTP ON")
    volts, amps, ohms, _, status = desk.read()
    assert (volts, amps, ohms) == pytest.approx((1.0, 1e-5, 1e5))
    assert int(status) & AUTO_OHMS_BIT
    assert int(status) & StatusWord.I_SOURCE


@pytest.mark.parametrize(
    ("r_ohm", "range_ohm", "current"),
    [(5.0, 2.1e1, 0.1), (1.5e3, 2.1e3, 1e-3), (1e5, 2.1e5, 1e-5), (1.9e6, 2.1e6, 1e-6), (1.5e8, 2.1e8, 1e-7)],
)
def test_auto_ohms_finds_its_range_and_test_current(r_ohm: float, range_ohm: float, current: float) -> None:
    desk = Desk(r_ohm)
    desk.tell(*FAST, ":SENS:FUNC 'RES'", ":FORM:ELEM RES", ":OUTP ON")
    assert desk.read() == [pytest.approx(r_ohm, rel=1e-4)]
    assert float(desk.ask(":SENS:RES:RANG?") or 0) == pytest.approx(range_ohm)
    assert float(desk.ask(":SOUR:CURR?") or 0) == pytest.approx(current)


def test_an_open_path_is_an_overflow_on_the_last_range() -> None:
    desk = Desk(1e12)
    desk.tell(*FAST, ":SENS:FUNC 'RES'", ":FORM:ELEM RES,STAT", ":OUTP ON")
    ohms, status = desk.read()
    assert ohms == OVERFLOW or ohms > 2.1e8
    assert int(status) & StatusWord.COMPLIANCE
    assert desk.ask(":SENS:RES:RANG?") == "+2.100000E+08"


def test_a_fixed_ohms_range_overflows_above_its_limit() -> None:
    desk = Desk(1e5)
    desk.tell(*FAST, ":SENS:FUNC 'RES'", ":SENS:RES:RANG 2E3", ":FORM:ELEM RES,STAT", ":OUTP ON")
    ohms, status = desk.read()
    assert ohms == OVERFLOW
    assert int(status) & StatusWord.OVERFLOW
    assert desk.ask(":SENS:RES:RANG?;RANG:AUTO?") == "+2.100000E+03;0"


def test_ohms_autorange_keeps_within_its_limits() -> None:
    desk = Desk(50.0)
    desk.tell(*FAST, ":SENS:RES:RANG:AUTO:LLIM 2E3", ":SENS:FUNC 'RES'", ":FORM:ELEM RES", ":OUTP ON", ":READ?")
    assert desk.ask(":SENS:RES:RANG?;RANG:AUTO:LLIM?;ULIM?") == "+2.100000E+03;+2.100000E+03;+2.100000E+08"
    assert refusal(desk, ":SENS:RES:RANG:AUTO:ULIM 20") == -222


@pytest.mark.parametrize(
    "message",
    [":SOUR:CURR 5E-6", ":SOUR:FUNC VOLT", ":SOUR:CURR:RANG 1", ":SENS:VOLT:RANG 2", ":SENS:VOLT:PROT 10"],
)
def test_auto_ohms_does_not_let_its_source_be_set(message: str) -> None:
    desk = Desk(1e5)
    desk.tell(":SENS:FUNC 'RES'")
    assert refusal(desk, message) == 825
    desk.tell("*CLS", ":SENS:RES:MODE MAN", message)
    assert desk.unit.error_queue == ()


def test_leaving_auto_ohms_leaves_a_current_source_with_voltage_autorange() -> None:
    desk = Desk(1e12)
    desk.tell(":SENS:FUNC:CONC OFF", ":SENS:FUNC 'RES'", ":OUTP ON", ":SENS:FUNC 'VOLT'", ":FORM:ELEM VOLT")
    assert desk.read() == [pytest.approx(21.0)]
    assert desk.ask(":SENS:VOLT:PROT:TRIP?;:SENS:VOLT:RANG:AUTO?;:SOUR:FUNC?;:OUTP?") == "1;1;CURR;1"
    desk.tell(":SENS:VOLT:RANG 2", ":SENS:FUNC 'RES'", ":SENS:RES:MODE MAN")
    assert desk.ask(":SENS:VOLT:RANG:AUTO?") == "0"


def test_manual_ohms_has_no_range_of_its_own() -> None:
    desk = Desk(1e5)
    assert desk.ask(":SENS:RES:MODE MAN;MODE?") == "MAN"
    assert refusal(desk, ":SENS:RES:RANG 2E3") == -221
    assert desk.ask(":SENS:FUNC 'RES';:SOUR:FUNC?") == "VOLT"


def test_going_back_to_auto_takes_the_source_over() -> None:
    desk = Desk(1e5)
    desk.tell(":SENS:RES:MODE MAN", ":SENS:FUNC 'RES'", ":SOUR:VOLT 1", ":OUTP ON", ":SENS:RES:MODE AUTO")
    assert desk.ask(":SOUR:FUNC?;:OUTP?") == "CURR;0"


def test_measuring_resistance_switches_the_output_on() -> None:
    desk = Desk(1e5)
    reply = [float(field) for field in (desk.ask(":MEAS:RES?") or "").split(",")]
    assert reply[2] == pytest.approx(1e5)
    assert desk.unit.output_on
    assert desk.load.sources[-1].i_limit_a == pytest.approx(1e-5)


def test_up_and_down_step_through_ohms_ranges() -> None:
    desk = Desk()
    assert desk.ask(":SENS:RES:RANG UP;RANG?;RANG DOWN;RANG DOWN;RANG?") == "+2.100000E+06;+2.100000E+04"
    assert desk.ask(":SENS:RES:RANG MAX;RANG UP;RANG?;RANG:AUTO?;:SENS:RES:OCOM?") == "+2.100000E+08;0;0"


# Functions


def test_all_functions_at_once_and_none() -> None:
    desk = Desk()
    desk.tell(":SENS:RES:MODE MAN", ":SENS:FUNC:ALL")
    assert desk.ask(":SENS:FUNC?;FUNC:ON:COUN?;:SENS:FUNC:OFF:COUN?") == '"VOLT:DC","CURR:DC","RES";3;0'
    assert desk.ask(":CONF?") == '"VOLT:DC","CURR:DC","RES"'
    assert desk.ask(":SENS:FUNC:STAT? 'CURR';:SENS:FUNC:OFF:ALL;:SENS:FUNC:STAT? 'CURR'") == "1;0"
    assert desk.ask(":SENS:FUNC:OFF?") == '"VOLT:DC","CURR:DC","RES"'
    assert refusal(desk, ":SENS:FUNC:CONC OFF;:SENS:FUNC:ALL") == -221


def test_measure_without_a_function_takes_the_present_one() -> None:
    desk = Desk(1e5)
    desk.tell(":SENS:CURR:PROT 1E-6", ":SOUR:VOLT 1")
    assert desk.ask(":MEAS?") is not None
    assert desk.ask(":SENS:FUNC?;:SENS:CURR:PROT?;:OUTP?") == '"CURR:DC";+1.050000E-04;1'


# Current source, ranges of what is sourced, limits of autorange


def test_a_current_source_is_in_compliance_when_its_voltage_runs_out() -> None:
    desk = Desk(1e6)
    desk.tell(*FAST, ":SOUR:FUNC CURR", ":SOUR:CURR 1E-5", ":SENS:VOLT:PROT 5", ":SENS:FUNC 'VOLT'", ":OUTP ON")
    volts, amps, _, _, status = desk.read()
    assert (volts, amps) == pytest.approx((5.0, 5e-6))
    assert int(status) & StatusWord.COMPLIANCE
    assert desk.ask(":SENS:VOLT:PROT:TRIP?") == "1"
    desk.load.change(desk.t_ns, 1e5)
    assert desk.read()[:2] == pytest.approx([1.0, 1e-5])
    assert desk.ask(":SENS:VOLT:PROT:TRIP?") == "0"


def test_a_current_source_clamps_at_a_fixed_voltage_range() -> None:
    desk = Desk(1e6)
    desk.tell(*FAST, ":SOUR:FUNC CURR", ":SOUR:CURR 1E-5", ":SENS:VOLT:RANG 2", ":SENS:FUNC 'VOLT'", ":OUTP ON")
    volts, *_, status = desk.read()
    assert volts == pytest.approx(2.1)
    assert int(status) & (StatusWord.COMPLIANCE | StatusWord.RANGE_COMPLIANCE) == StatusWord.RANGE_COMPLIANCE


def test_what_is_sourced_is_measured_on_the_source_range() -> None:
    desk = Desk(1e7)
    desk.tell(*FAST, ":SENS:FUNC 'VOLT'", ":SOUR:VOLT 100", ":FORM:ELEM VOLT", ":OUTP ON")
    assert desk.read() == [pytest.approx(100.0)]
    assert desk.ask(":SENS:VOLT:RANG?") == "+2.100000E+02"


def test_autorange_has_a_lower_limit_and_tells_its_upper_one() -> None:
    desk = Desk(1e9)
    desk.tell(*FAST, ":SENS:CURR:RANG:AUTO:LLIM 1E-5", ":SOUR:VOLT 1", ":OUTP ON", ":READ?")
    assert desk.ask(":SENS:CURR:RANG?;RANG:AUTO:LLIM?;ULIM?") == "+1.050000E-05;+1.050000E-05;+1.050000E-04"
    assert desk.ask(":SENS:VOLT:RANG:AUTO:LLIM?;:SENS:CURR:RANG:HOLD?") == "+2.100000E-01;0"
    assert refusal(desk, ":SENS:CURR:RANG:AUTO:LLIM 1") == -222


def test_synchronised_ranges_take_each_other_along() -> None:
    desk = Desk()
    desk.tell(":SENS:CURR:PROT:RSYN ON", ":SENS:CURR:RANG 1E-2")
    assert desk.ask(":SENS:CURR:RANG?;PROT?;PROT:RSYN?") == "+1.050000E-02;+1.050000E-02;1"
    assert desk.ask(":SENS:CURR:PROT 1E-4;:SENS:CURR:RANG?") == "+1.050000E-04"
