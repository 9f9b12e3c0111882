"""CALC1, CALC2 and the digital output SOUR2 over the wire (User's Manual 18-26 to 18-42, 18-98 to 18-101)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from firmware_proto.keithley2400.status import NOT_A_NUMBER
from firmware_proto.scpi import ParamKind, ScpiError, parse_choice, parse_string
from firmware_proto.scpi.errors import DATA_TYPE
from hil.devices.keithley2400 import maths
from hil.devices.keithley2400.commands_trace import calculated
from hil.devices.keithley2400.entries import (
    Entries,
    Params,
    boolean,
    boolean_words,
    choice,
    command,
    format_pattern,
    integer,
    number,
    pattern_setting,
    query,
)
from hil.devices.keithley2400.errors import EXPRESSION_NOT_FOUND, INVALID_EXPRESSION, STALE, RefusedError
from hil.devices.keithley2400.limits import BANDS, MAX_LIMIT, Band, Calc2
from hil.devices.keithley2400.trace import Stored
from hil.devices.keithley2400.unit import Unit

_FEEDS: Final = {
    "CALCulate": "CALC1",
    "CALCulate1": "CALC1",
    "VOLTage": "VOLT",
    "CURRent": "CURR",
    "RESistance": "RES",
    "TIME": "TIME",
}
_CALC_ELEMENTS: Final = {"CALC": "CALC", "TIME": "TIME", "STATus": "STAT"}
_FORMATS: Final = {"ASCii": "ASC", "HEXadecimal": "HEX", "OCTal": "OCT", "BINary": "BIN"}


def _calc2(unit: Unit) -> Calc2:
    return unit.settings.calc2


def _results(unit: Unit, values: list[float]) -> list[Stored]:
    if not unit.readings:
        raise RefusedError(STALE)
    return [Stored(reading, value) for reading, value in zip(unit.readings, values, strict=False)]


def _math() -> Entries:
    """CALC1. A definition of one's own is refused; see :mod:`hil.devices.keithley2400.maths`."""

    def select(unit: Unit, params: Params) -> None:
        name = parse_string(params[0]) if params[0].kind is ParamKind.STRING else params[0].text
        if name.upper() not in maths.NAMES:
            raise RefusedError(EXPRESSION_NOT_FOUND)
        _calc2(unit).math_name = name.upper()

    def define(_unit: Unit, params: Params) -> None:
        if params[0].kind is ParamKind.STRING:
            raise ScpiError(DATA_TYPE, "an expression stands in parentheses", data=params[0].text)
        raise RefusedError(INVALID_EXPRESSION)

    def set_state(unit: Unit, on: bool) -> None:
        _calc2(unit).math_on = on
        _calc2(unit).refresh()

    def values(unit: Unit) -> list[Stored]:
        calc = _calc2(unit)
        if not calc.math_on:
            return _results(unit, [NOT_A_NUMBER] * len(unit.readings))
        return _results(unit, maths.results(calc.math_name, unit.readings))

    head = ":CALCulate[1]"
    catalogue = ",".join(f'"{name}"' for name in (*maths.NAMES, "%DEV"))
    return [
        *query(f"{head}:MATH[:EXPRession]:CATalog", lambda _unit: catalogue),
        *command(f"{head}:MATH[:EXPRession]:NAME", select, least=1),
        *query(f"{head}:MATH[:EXPRession]:NAME", lambda unit: f'"{_calc2(unit).math_name}"'),
        *command(f"{head}:MATH[:EXPRession][:DEFine]", define, least=1),
        *query(f"{head}:MATH[:EXPRession][:DEFine]", lambda unit: maths.FORMULAS[_calc2(unit).math_name]),
        *query(f"{head}:MATH:UNITs", lambda unit: f'"{maths.UNITS[_calc2(unit).math_name]}"'),
        *boolean(f"{head}:STATe", lambda unit: _calc2(unit).math_on, set_state),
        *query(f"{head}:DATA", lambda unit: calculated(unit, values(unit))),
        *query(f"{head}:DATA:LATest", lambda unit: calculated(unit, values(unit)[-1:])),
    ]


def _relative() -> Entries:
    def set_offset(unit: Unit, value: float) -> None:
        _calc2(unit).null_offset = value

    def set_state(unit: Unit, on: bool) -> None:
        _calc2(unit).null_on = on
        _calc2(unit).refresh()

    def acquire_offset(unit: Unit, _params: Params) -> None:
        if not unit.readings:
            raise RefusedError(STALE)
        reading = unit.readings[-1]
        feeds = {"VOLT": reading.volt, "CURR": reading.curr, "RES": reading.res, "TIME": reading.time}
        value = feeds.get(_calc2(unit).feed, maths.power(reading))
        if abs(value) > MAX_LIMIT:
            raise RefusedError(STALE)
        _calc2(unit).null_offset = value

    def set_feed(unit: Unit, feed: str) -> None:
        _calc2(unit).feed = feed

    head = ":CALCulate2"
    return [
        *choice(f"{head}:FEED", _FEEDS, lambda unit: _calc2(unit).feed, set_feed),
        *number(
            f"{head}:NULL:OFFSet",
            lambda unit: _calc2(unit).null_offset,
            set_offset,
            low=-MAX_LIMIT,
            high=MAX_LIMIT,
            default=0.0,
        ),
        *boolean(f"{head}:NULL:STATe", lambda unit: _calc2(unit).null_on, set_state),
        *command(f"{head}:NULL:ACQuire", acquire_offset),
        *query(f"{head}:DATA", lambda unit: calculated(unit, _results(unit, unit.results))),
        *query(f"{head}:DATA:LATest", lambda unit: calculated(unit, _results(unit, unit.results)[-1:])),
    ]


def _fail(number_of_test: int) -> Callable[[Unit], str]:
    return lambda unit: "1" if number_of_test in unit.limits.failed else "0"


def _compliance_test() -> Entries:
    def set_fail(unit: Unit, fails_in: bool) -> None:
        _calc2(unit).fails_in_compliance = fails_in

    def set_pattern(unit: Unit, pattern: int) -> None:
        _calc2(unit).compliance_pattern = pattern

    def set_state(unit: Unit, on: bool) -> None:
        _calc2(unit).compliance_on = on
        _calc2(unit).refresh()

    head = ":CALCulate2:LIMit[1]"
    return [
        *boolean_words(
            f"{head}:COMPliance:FAIL", ("OUT", "IN"), lambda unit: _calc2(unit).fails_in_compliance, set_fail
        ),
        *pattern_setting(f"{head}:COMPliance:SOURce2", lambda unit: _calc2(unit).compliance_pattern, set_pattern),
        *boolean(f"{head}:STATe", lambda unit: _calc2(unit).compliance_on, set_state),
        *query(f"{head}:FAIL", _fail(1)),
    ]


def _band_test(which: int) -> Entries:
    def band(unit: Unit) -> Band:
        return _calc2(unit).bands[which]

    def set_upper(unit: Unit, value: float) -> None:
        band(unit).upper = value

    def set_lower(unit: Unit, value: float) -> None:
        band(unit).lower = value

    def set_upper_pattern(unit: Unit, pattern: int) -> None:
        band(unit).upper_pattern = pattern

    def set_lower_pattern(unit: Unit, pattern: int) -> None:
        band(unit).lower_pattern = pattern

    def set_pass_pattern(unit: Unit, pattern: int) -> None:
        band(unit).pass_pattern = pattern

    def set_state(unit: Unit, on: bool) -> None:
        band(unit).on = on
        _calc2(unit).refresh()

    head = f":CALCulate2:LIMit{which}"
    low, high = -MAX_LIMIT, MAX_LIMIT
    return [
        *number(f"{head}:UPPer[:DATA]", lambda unit: band(unit).upper, set_upper, low=low, high=high, default=1.0),
        *number(f"{head}:LOWer[:DATA]", lambda unit: band(unit).lower, set_lower, low=low, high=high, default=-1.0),
        *pattern_setting(f"{head}:UPPer:SOURce2", lambda unit: band(unit).upper_pattern, set_upper_pattern),
        *pattern_setting(f"{head}:LOWer:SOURce2", lambda unit: band(unit).lower_pattern, set_lower_pattern),
        *pattern_setting(f"{head}:PASS:SOURce2", lambda unit: band(unit).pass_pattern, set_pass_pattern),
        *boolean(f"{head}:STATe", lambda unit: band(unit).on, set_state),
        *query(f"{head}:FAIL", _fail(which)),
    ]


def _composite() -> Entries:
    def clear(unit: Unit, _params: Params) -> None:
        unit.limits.clear()

    def set_auto(unit: Unit, on: bool) -> None:
        _calc2(unit).auto_clear = on

    def set_pass(unit: Unit, pattern: int) -> None:
        _calc2(unit).pass_pattern = pattern

    def set_fail(unit: Unit, pattern: int) -> None:
        _calc2(unit).fail_pattern = pattern

    def set_immediate(unit: Unit, immediate: bool) -> None:
        _calc2(unit).immediate = immediate

    def set_sorting(unit: Unit, sorting: bool) -> None:
        _calc2(unit).sorting = sorting

    head = ":CALCulate2:CLIMits"
    return [
        *command(f"{head}:CLEar[:IMMediate]", clear),
        *boolean(f"{head}:CLEar:AUTO", lambda unit: _calc2(unit).auto_clear, set_auto),
        *pattern_setting(f"{head}:PASS:SOURce2", lambda unit: _calc2(unit).pass_pattern, set_pass),
        *pattern_setting(f"{head}:FAIL:SOURce2", lambda unit: _calc2(unit).fail_pattern, set_fail),
        *boolean_words(f"{head}:BCONtrol", ("END", "IMMediate"), lambda unit: _calc2(unit).immediate, set_immediate),
        *boolean_words(f"{head}:MODE", ("GRADing", "SORTing"), lambda unit: _calc2(unit).sorting, set_sorting),
    ]


def _digital() -> Entries:
    def set_pattern(unit: Unit, pattern: int) -> None:
        unit.settings.digital.pattern = pattern
        unit.limits.release()

    def set_bits(unit: Unit, bits: float) -> None:
        unit.settings.digital.bits = int(bits)

    def set_auto(unit: Unit, on: bool) -> None:
        unit.settings.digital.auto_clear = on

    def set_pulse(unit: Unit, duration_s: float) -> None:
        unit.settings.digital.pulse_s = duration_s

    def set_busy(unit: Unit, busy: bool) -> None:
        unit.settings.digital.busy = busy

    def set_polarity(unit: Unit, high: bool) -> None:
        unit.settings.digital.busy_high = high

    def release(unit: Unit, _params: Params) -> None:
        unit.limits.release()

    def actual(unit: Unit) -> str:
        return format_pattern(unit, unit.limits.lines(unit.now_ns))

    head = ":SOURce2"
    return [
        *pattern_setting(f"{head}:TTL[:LEVel][:DEFault]", lambda unit: unit.settings.digital.pattern, set_pattern),
        *query(f"{head}:TTL[:LEVel]:ACTual", actual),
        *integer(f"{head}:BSIZe", lambda unit: unit.settings.digital.bits, set_bits, low=3, high=4, default=4),
        *boolean_words(f"{head}:TTL4:MODE", ("EOTest", "BUSY"), lambda unit: unit.settings.digital.busy, set_busy),
        *boolean(f"{head}:TTL4:BSTate", lambda unit: unit.settings.digital.busy_high, set_polarity),
        *command(f"{head}:CLEar[:IMMediate]", release),
        *boolean(f"{head}:CLEar:AUTO", lambda unit: unit.settings.digital.auto_clear, set_auto),
        *number(
            f"{head}:CLEar:AUTO:DELay",
            lambda unit: unit.settings.digital.pulse_s,
            set_pulse,
            low=0.0,
            high=60.0,
            default=0.0001,
        ),
    ]


def _formats() -> Entries:
    def set_format(unit: Unit, name: str) -> None:
        unit.settings.pattern_format = name

    def set_elements(unit: Unit, params: Params) -> None:
        unit.settings.calc_elements = frozenset(parse_choice(param, _CALC_ELEMENTS) for param in params)

    def elements(unit: Unit) -> str:
        return ",".join(name for name in _CALC_ELEMENTS.values() if name in unit.settings.calc_elements)

    return [
        *choice(":FORMat:SOURce2", _FORMATS, lambda unit: unit.settings.pattern_format, set_format),
        *command(":FORMat:ELEMents:CALCulate", set_elements, least=1, most=len(_CALC_ELEMENTS)),
        *query(":FORMat:ELEMents:CALCulate", elements),
    ]


def entries() -> Entries:
    """Return everything of this module for the command table."""
    bands = [entry for which in BANDS for entry in _band_test(which)]
    return [*_math(), *_relative(), *_compliance_test(), *bands, *_composite(), *_digital(), *_formats()]
