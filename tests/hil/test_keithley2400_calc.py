"""Limit tests, relative readings, built-in mathematics and the digital output of the emulated 2400."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.keithley2400.status import StatusWord
from hil.devices.keithley2400 import maths
from hil.devices.keithley2400.desk import Desk
from hil.devices.keithley2400.limits import BANDS, Calc2, judge
from hil.devices.keithley2400.unit import Reading

MS = 1_000_000
FAST = (":SENS:CURR:NPLC 0.01", ":SYST:AZER OFF", ":SOUR:DEL 0", ":SENS:CURR:RANG 1E-4", ":FORM:ELEM CURR,STAT")
NAN, OVERFLOW = 9.91e37, 9.9e37
RESULT_BITS = 0b11 << 8 | 0b111 << 19


def ready(*messages: str, r_ohm: float = 1e5) -> Desk:
    """1 V into 100 kohm: 10 uA, which CALC2 is fed with."""
    desk = Desk(r_ohm)
    desk.tell(*FAST, ":CALC2:FEED CURR", ":SOUR:VOLT 1", ":OUTP ON", *messages)
    assert desk.unit.error_queue == ()
    return desk


def status(desk: Desk) -> int:
    return int(desk.read()[-1])


def code(stat: int) -> int:
    """Return the limit result as the manual's table prints it: bits 21, 20, 19, 9, 8."""
    return (stat >> 19 & 0b111) << 2 | (stat >> 8 & 0b11)


def condition(desk: Desk) -> int:
    return int(desk.ask(":STAT:MEAS:COND?") or 0)


def numbers(desk: Desk, query: str) -> list[float]:
    return [float(field) for field in (desk.ask(query) or "").split(",") if field]


def test_reset_state() -> None:
    desk = Desk()
    assert desk.ask(":CALC2:FEED?;LIM2:UPP?;LOW?;STAT?;FAIL?") == "VOLT;+1.000000E+00;-1.000000E+00;0;0"
    assert desk.ask(":CALC2:LIM:STAT?;COMP:FAIL?;:CALC2:NULL:OFFS?;STAT?") == "0;IN;+0.000000E+00;0"
    assert desk.ask(":CALC2:CLIM:MODE?;BCON?;PASS:SOUR2?;:CALC2:CLIM:CLE:AUTO?") == "GRAD;IMM;15;1"
    assert desk.ask(":SOUR2:TTL?;TTL:ACT?;:SOUR2:BSIZ?;CLE:AUTO?") == "15;15;4;0"
    assert desk.ask(":CALC1:STAT?;MATH:NAME?;:CALC3:FORM?;:FORM:ELEM:CALC?") == '0;"POWER";MEAN;CALC'


def test_without_tests_the_status_word_has_none_of_their_bits() -> None:
    assert status(ready()) & (StatusWord.LIMITS | StatusWord.NULL | StatusWord.MATH | RESULT_BITS) == 0


def test_a_reading_within_its_limits_passes() -> None:
    desk = ready(":CALC2:LIM2:UPP 2E-5", ":CALC2:LIM2:LOW 0", ":CALC2:LIM2:STAT ON")
    stat = status(desk)
    assert stat & StatusWord.LIMITS
    assert code(stat) == 0
    assert condition(desk) & 0b111111 == 1 << 5
    assert desk.ask(":CALC2:LIM2:FAIL?") == "0"


@pytest.mark.parametrize(
    ("limit", "bounds", "expected", "bit"),
    [
        (2, "UPP 5E-6;LOW 0", 0b10010, 2),
        (2, "UPP 1;LOW 2E-5", 0b00010, 1),
        (3, "UPP 5E-6;LOW 0", 0b10011, 4),
        (3, "UPP 1;LOW 2E-5", 0b00011, 3),
        (5, "UPP 5E-6;LOW 0", 0b10100, None),
        (5, "UPP 1;LOW 2E-5", 0b00100, None),
        (9, "UPP 5E-6;LOW 0", 0b11001, None),
        (12, "UPP 1;LOW 2E-5", 0b01100, None),
    ],
)
def test_grading_codes(limit: int, bounds: str, expected: int, bit: int | None) -> None:
    desk = ready(f":CALC2:LIM{limit}:{bounds};STAT ON")
    assert code(status(desk)) == expected
    assert condition(desk) & 0b111111 == (0 if bit is None else 1 << bit)
    assert desk.ask(f":CALC2:LIM{limit}:FAIL?") == "1"


def test_the_first_failure_counts_and_every_failure_is_told() -> None:
    desk = ready(":CALC2:LIM3:UPP 1E-6;STAT ON", ":CALC2:LIM2:LOW 1;UPP 2;STAT ON")
    assert code(status(desk)) == 0b00010
    assert desk.ask(":CALC2:LIM2:FAIL?;:CALC2:LIM3:FAIL?;:CALC2:LIM5:FAIL?") == "1;1;0"


@pytest.mark.parametrize(("fails", "r_ohm", "failed"), [("IN", 1e3, "1"), ("IN", 1e5, "0"), ("OUT", 1e5, "1")])
def test_limit_1_is_about_compliance(fails: str, r_ohm: float, failed: str) -> None:
    desk = ready(f":CALC2:LIM:COMP:FAIL {fails}", ":CALC2:LIM1:STAT ON", r_ohm=r_ohm)
    stat = status(desk)
    assert desk.ask(":CALC2:LIM:FAIL?") == failed
    assert code(stat) == int(failed)
    assert bool(condition(desk) & 1) == (failed == "1")


def test_range_compliance_fails_limit_1_too() -> None:
    desk = ready(":SENS:CURR:PROT 1E-3", ":SENS:CURR:RANG 1E-4", ":CALC2:LIM:STAT ON", r_ohm=1e3)
    assert code(status(desk)) == 1


def test_an_overflow_is_above_every_limit_and_so_is_what_was_not_measured() -> None:
    desk = ready(":CALC2:LIM2:UPP 9E20;STAT ON")
    desk.load.obeys_clamp = False
    desk.load.change(desk.t_ns, 1.0)
    assert desk.read()[0] == OVERFLOW
    assert desk.ask(":CALC2:LIM2:FAIL?") == "1"
    desk = ready(":CALC2:FEED RES", ":CALC2:LIM2:UPP 9E20;STAT ON")
    assert code(status(desk)) == 0b10010


def test_results_stay_until_the_next_start_or_until_cleared() -> None:
    desk = ready(":CALC2:LIM2:UPP 5E-6;STAT ON", ":TRIG:COUN 2")
    desk.write(":READ?")
    desk.wait(1_500_000)
    desk.load.change(desk.t_ns, 1e7)  # the second reading passes
    desk.settle()
    assert desk.ask(":CALC2:LIM2:FAIL?") == "1"
    desk.tell(":READ?")
    assert desk.ask(":CALC2:LIM2:FAIL?") == "0"
    desk.load.change(desk.t_ns, 1e5)
    desk.tell(":CALC2:CLIM:CLE:AUTO OFF", ":READ?")
    desk.load.change(desk.t_ns, 1e7)
    desk.tell(":READ?")
    assert desk.ask(":CALC2:LIM2:FAIL?;:CALC2:CLIM:CLE;:CALC2:LIM2:FAIL?") == "1;0"


@pytest.mark.parametrize(
    ("bands", "expected", "pattern"),
    [
        (((2, "UPP 5E-6"), (3, "UPP 2E-5")), 0b00011, 3),
        (((2, "UPP 2E-5"), (3, "UPP 2E-5")), 0b00010, 2),
        (((2, "UPP 5E-6"), (5, "UPP 5E-6")), 0b11111, 9),
        (((12, "UPP 2E-5"),), 0b01100, 12),
    ],
)
def test_sorting_takes_the_first_band_that_holds(
    bands: tuple[tuple[int, str], ...], expected: int, pattern: int
) -> None:
    desk = ready(":CALC2:CLIM:MODE SORT", ":CALC2:CLIM:FAIL:SOUR2 9")
    for number, bounds in bands:
        desk.tell(f":CALC2:LIM{number}:{bounds};LOW 0;PASS:SOUR2 {number}", f":CALC2:LIM{number}:STAT ON")
    assert code(status(desk)) == expected
    assert desk.ask(":SOUR2:TTL:ACT?") == str(pattern)


def test_a_value_on_its_limit_passes() -> None:
    calc2 = Calc2()
    calc2.bands[2].on = True
    assert [judge(calc2, value, 0).failed for value in (-1.0, 1.0, 1.01, -1.01)] == [(), (), (2,), (2,)]


@given(
    value=st.floats(-2, 2),
    bounds=st.lists(st.tuples(st.sampled_from(BANDS), st.floats(-1, 0), st.floats(0, 1)), max_size=4),
    sorting=st.booleans(),
)
def test_a_verdict_agrees_with_its_bounds(value: float, bounds: list[tuple[int, float, float]], sorting: bool) -> None:
    calc2 = Calc2(sorting=sorting)
    for number, lower, upper in bounds:
        band = calc2.bands[number]
        band.on, band.lower, band.upper = True, lower, upper
    verdict = judge(calc2, value, 0)
    on = {number: band for number, band in calc2.bands.items() if band.on}
    assert set(verdict.failed) == {n for n, band in on.items() if not band.lower <= value <= band.upper}
    assert bool(verdict.status & StatusWord.LIMITS) == bool(on)
    if not sorting:
        assert (verdict.pattern is None) == (not verdict.failed)


# The digital output


def test_the_first_failure_drives_the_lines_and_a_pass_its_own_pattern() -> None:
    desk = ready(":SOUR2:TTL 0", ":CALC2:LIM2:UPP 5E-6;UPP:SOUR2 6", ":CALC2:LIM2:STAT ON", ":CALC2:CLIM:PASS:SOUR2 3")
    assert desk.ask(":SOUR2:TTL:ACT?") == "0"
    desk.tell(":READ?")
    assert desk.ask(":SOUR2:TTL:ACT?;:SOUR2:TTL?") == "6;0"
    desk.load.change(desk.t_ns, 1e7)
    desk.tell(":READ?")
    assert desk.ask(":SOUR2:TTL:ACT?;:SOUR2:CLE;:SOUR2:TTL:ACT?") == "3;0"


@pytest.mark.parametrize(("control", "during"), [("IMM", 6), ("END", 0)])
def test_lines_change_at_the_failure_or_at_the_end(control: str, during: int) -> None:
    desk = ready(":SOUR2:TTL 0", ":CALC2:LIM2:UPP 5E-6;UPP:SOUR2 6", ":CALC2:LIM2:STAT ON", ":TRIG:COUN 10")
    desk.tell(f":CALC2:CLIM:BCON {control}")
    desk.write(":INIT")
    desk.wait(3 * MS)
    assert desk.unit.digital_output == during
    desk.settle()
    assert desk.ask(":SOUR2:TTL:ACT?") == "6"


def test_lines_can_pulse() -> None:
    desk = ready(":SOUR2:TTL 5", ":CALC2:LIM2:STAT ON", ":CALC2:CLIM:PASS:SOUR2 2", ":SOUR2:CLE:AUTO ON;AUTO:DEL 0.02")
    desk.tell(":READ?")
    assert desk.ask(":SOUR2:TTL:ACT?") == "2"
    desk.wait(20 * MS)
    assert desk.ask(":SOUR2:TTL:ACT?") == "5"


def test_patterns_have_as_many_bits_as_the_port() -> None:
    desk = Desk()
    assert desk.ask(":SOUR2:TTL #HA;TTL?;:FORM:SOUR2 HEX;:SOUR2:TTL?;:FORM:SOUR2 BIN;:SOUR2:TTL?") == "10;#HA;#B1010"
    assert desk.ask(":FORM:SOUR2 OCT;:SOUR2:TTL?;:FORM:SOUR2?") == "#Q12;OCT"
    desk.tell(":SOUR2:TTL 16", ":SOUR2:BSIZ 3", ":SOUR2:TTL 8", ":CALC2:LIM2:UPP:SOUR2 8")
    assert desk.unit.error_queue == (-222, -222, -222)
    assert desk.ask(":FORM:SOUR2 ASC;:SOUR2:TTL:ACT?") == "2"


def test_the_measurement_defaults_switch_calculations_off() -> None:
    desk = ready(":CALC2:LIM2:STAT ON", ":CALC2:LIM:STAT ON", ":CALC2:NULL:STAT ON", ":CALC1:STAT ON")
    desk.tell(":MEAS:CURR?")
    assert desk.ask(":CALC2:LIM2:STAT?;:CALC2:LIM:STAT?;:CALC2:NULL:STAT?;:CALC1:STAT?") == "0;0;0;0"


# Relative readings


def test_null_changes_what_is_judged_and_not_what_is_read() -> None:
    desk = ready(":CALC2:NULL:OFFS 4E-6", ":CALC2:NULL:STAT ON")
    amps, stat = desk.read()
    assert amps == pytest.approx(1e-5)
    assert int(stat) & StatusWord.NULL
    assert numbers(desk, ":CALC2:DATA?") == pytest.approx([6e-6])
    desk.tell(":CALC2:LIM2:UPP 7E-6;STAT ON", ":READ?")
    assert desk.ask(":CALC2:LIM2:FAIL?") == "0"


def test_an_overflow_has_no_offset() -> None:
    desk = ready(":CALC2:NULL:OFFS 4E-6", ":CALC2:NULL:STAT ON")
    desk.load.obeys_clamp = False
    desk.load.change(desk.t_ns, 1.0)
    desk.tell(":READ?")
    assert numbers(desk, ":CALC2:DATA?") == [OVERFLOW]
    desk.tell(":CALC2:FEED RES", ":CALC2:NULL:OFFS 9E20", ":READ?")
    assert numbers(desk, ":CALC2:DATA?") == [NAN]


def test_null_can_take_its_offset_from_a_reading() -> None:
    desk = ready(":TRIG:COUN 2")
    desk.tell(":CALC2:NULL:ACQ")
    assert desk.unit.error_queue == (-230,)
    desk.tell("*CLS", ":READ?", ":CALC2:NULL:ACQ", ":CALC2:NULL:STAT ON", ":READ?")
    assert desk.ask(":CALC2:NULL:OFFS?") == "+1.000000E-05"
    assert numbers(desk, ":CALC2:DATA?") == pytest.approx([0, 0], abs=1e-15)
    assert numbers(desk, ":CALC2:DATA:LAT?") == pytest.approx([0], abs=1e-15)


def test_where_nothing_is_calculated_the_result_is_not_a_number() -> None:
    desk = ready()
    assert desk.ask(":CALC2:DATA?") is None
    desk.tell("*CLS", ":READ?")
    assert numbers(desk, ":CALC2:DATA?") == [NAN]
    assert numbers(desk, ":CALC1:DATA?") == [NAN]


# CALC1


def test_power() -> None:
    desk = ready(":CALC1:STAT ON", ":TRIG:COUN 2")
    assert status(desk) & StatusWord.MATH
    assert numbers(desk, ":CALC1:DATA?") == pytest.approx([1e-5, 1e-5])
    desk.tell(":CALC2:FEED CALC", ":CALC2:LIM2:UPP 5E-6;STAT ON", ":READ?")
    assert desk.ask(":CALC2:LIM2:FAIL?;:CALC1:MATH:UNIT?") == '1;"W"'


@pytest.mark.parametrize(("name", "expected"), [("OFFCOMPOHM", 1e5), ("VOLTCOEF", 0.0), ("VARALPHA", 1.0)])
def test_built_in_expressions_of_two_points(name: str, expected: float) -> None:
    desk = ready(f":CALC1:MATH:NAME '{name}'", ":CALC1:STAT ON")
    desk.tell(":SOUR:VOLT:MODE LIST", ":SOUR:LIST:VOLT 1,2", ":TRIG:COUN 2", ":SENS:FUNC 'VOLT'", ":READ?")
    assert numbers(desk, ":CALC1:DATA?") == pytest.approx([expected], abs=1e-9)
    assert desk.ask(":CALC1:MATH:NAME?") == f'"{name}"'


def test_formulas_of_two_points() -> None:
    def point(volt: float, curr: float) -> Reading:
        return Reading(volt, curr, volt / curr, 0.0, 0)

    two = [point(1.0, 1e-3), point(4.0, 2e-3)]
    assert maths.results("OFFCOMPOHM", two) == [pytest.approx(3e3)]
    # From 1 to 2 kohm over 3 V: 33.3 % per volt.
    assert maths.results("VOLTCOEF", two) == [pytest.approx(100 / 3)]
    assert maths.results("VARALPHA", two) == [pytest.approx(0.5)]
    assert maths.results("POWER", two) == [pytest.approx(1e-3), pytest.approx(8e-3)]
    for unknown in (point(NAN, 1e-3), point(OVERFLOW, 1.0), point(1.0, NAN)):
        assert maths.results("POWER", [unknown]) == [NAN]
        assert maths.results("OFFCOMPOHM", [two[0], unknown]) == [NAN]


def test_expressions_that_have_no_value() -> None:
    desk = ready(":CALC1:STAT ON", ":CALC1:MATH:NAME 'OFFCOMPOHM'", ":TRIG:COUN 2", ":READ?")
    assert numbers(desk, ":CALC1:DATA?") == [OVERFLOW]  # no difference between the points
    desk.tell(":CALC1:MATH:NAME 'VARALPHA'", ":SOUR:VOLT:MODE LIST", ":SOUR:LIST:VOLT -1,1", ":READ?")
    assert numbers(desk, ":CALC1:DATA?") == [NAN]  # the logarithm of a negative ratio
    desk.tell(":TRIG:COUN 1", ":READ?")
    assert numbers(desk, ":CALC1:DATA?") == [NAN]  # a single point


def test_expressions_of_the_user_are_refused() -> None:
    desk = Desk()
    assert (desk.ask(":CALC1:MATH:CAT?") or "").startswith('"POWER","OFFCOMPOHM"')
    desk.tell(":CALC1:MATH:NAME 'MINE'", ":CALC1:MATH (VOLT * 2)", ":CALC1:MATH 'VOLT'")
    assert desk.unit.error_queue == (806, -171, -104)
    assert desk.ask(":CALC1:MATH?") == "(VOLT * CURR)"


def test_an_overflow_has_no_offset_taken_from_it() -> None:
    calc2 = Calc2(feed="CURR", null_on=True, null_offset=1e36)
    calc2.refresh()
    assert judge(calc2, OVERFLOW, 0).value == OVERFLOW
    assert judge(calc2, NAN, 0).value == NAN
    assert judge(calc2, 2e36, 0).value == 1e36


def test_the_first_failure_stays_at_the_lines() -> None:
    desk = ready(
        ":CALC2:LIM2:UPP 5E-6;UPP:SOUR2 3", ":CALC2:LIM2:LOW 1E-6;LOW:SOUR2 5", ":CALC2:LIM2:STAT ON", ":TRIG:COUN 2"
    )
    desk.write(":READ?")
    desk.wait(1_500_000)
    desk.load.change(desk.t_ns, 1e9)  # the second reading is below
    desk.settle()
    assert desk.ask(":SOUR2:TTL:ACT?") == "3"
