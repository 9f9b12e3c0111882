"""SYSTem and FORMat of the emulated 2400 (User's Manual 18-52 to 18-55, 18-103 to 18-113)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Final

from firmware_proto.keithley2400.status import ELEMENT_ORDER
from firmware_proto.scpi import format_nr3, parse_bool, parse_choice, parse_number
from hil.devices.keithley2400 import errors
from hil.devices.keithley2400.acquisition import aperture_ns
from hil.devices.keithley2400.entries import MAX_LIST, Entries, Entry, Params, boolean, choice, command, query
from hil.devices.keithley2400.errors import ASCII_ONLY, HARDWARE_MISSING, RefusedError
from hil.devices.keithley2400.status import number
from hil.devices.keithley2400.unit import Cost, Unit

_ELEMENTS: Final = {"VOLTage": "VOLT", "CURRent": "CURR", "RESistance": "RES", "TIME": "TIME", "STATus": "STAT"}
_SETUPS: Final = {"RST": "RST", "PRESet": "PRES", **{f"SAV{n}": f"SAV{n}" for n in range(5)}}
_S_PER_NS: Final = 1e-9
_MAX_CACHED: Final = 10


def _set_autozero(unit: Unit, params: Params) -> Generator[int, None, str | None]:
    if params[0].text.upper() != "ONCE":
        unit.settings.autozero = parse_bool(params[0])
        return None
    # Zero and reference are converted once; after that autozero is off.
    yield 2 * aperture_ns(unit)
    unit.settings.autozero = False
    return None


def _nothing(_unit: Unit, _params: Params) -> None:
    """Nobody hears or sees it."""


def _error_queue() -> Entries:
    def drain(take: Callable[[Unit], str], empty: str) -> Callable[[Unit], str]:
        def reply(unit: Unit) -> str:
            found = [take(unit) for _ in unit.status.queued]
            return ",".join(found) or empty

        return reply

    def code(unit: Unit) -> str:
        return number(unit.status.pop_code())

    none = f'0,"{errors.TEXTS[0]}"'
    return [
        *query(":SYSTem:ERRor[:NEXT]", lambda unit: unit.status.pop()),
        *query(":SYSTem:ERRor:ALL", drain(lambda unit: unit.status.pop(), none)),
        *query(":SYSTem:ERRor:COUNt", lambda unit: str(len(unit.status.queued))),
        *query(":SYSTem:ERRor:CODE[:NEXT]", code),
        *query(":SYSTem:ERRor:CODE:ALL", drain(code, "0")),
        *command(":SYSTem:CLEar", lambda unit, _params: unit.status.clear_queue()),
    ]


def _mains() -> Entries:
    def set_frequency(unit: Unit, frequency_hz: float) -> None:
        unit.line_freq_hz, unit.panel.line_freq_auto = frequency_hz, False

    def set_auto(unit: Unit, on: bool) -> None:
        unit.panel.line_freq_auto = on
        if on:
            unit.line_freq_hz = unit.mains_hz

    def frequency(unit: Unit) -> str:
        # 400 Hz counts as 50 Hz: the unit tells only the two.
        return "60" if 55.0 <= unit.line_freq_hz <= 70.0 else "50"

    return [
        *choice_of_numbers(":SYSTem:LFRequency", (50.0, 60.0), frequency, set_frequency),
        *boolean(":SYSTem:LFRequency:AUTO", lambda unit: unit.panel.line_freq_auto, set_auto),
    ]


def choice_of_numbers(
    pattern: str, values: tuple[float, ...], get: Callable[[Unit], str], put: Callable[[Unit, float], None]
) -> Entries:
    """Return the command and the query of one number out of ``values``; -224 refuses others."""
    words = {value: value for value in values}

    def set_it(unit: Unit, params: Params) -> None:
        value = words.get(parse_number(params[0]))
        if value is None:
            raise RefusedError(errors.ILLEGAL_VALUE)
        put(unit, value)

    return command(pattern, set_it, least=1) + query(pattern, get)


def _remote() -> Entries:
    def set_beeper(unit: Unit, on: bool) -> None:
        unit.panel.beeper = on

    def set_lock(unit: Unit, on: bool) -> None:
        unit.panel.locked = on

    def to_local(unit: Unit, _params: Params) -> None:
        # The lock stays as it is set; it has no effect until the next message (18-112).
        unit.to_local()

    def set_holdoff(_unit: Unit, _on: bool) -> None:
        """The GPIB's business."""

    return [
        *boolean(":SYSTem:BEEPer:STATe", lambda unit: unit.panel.beeper, set_beeper),
        *command(":SYSTem:BEEPer[:IMMediate]", _nothing, least=2),
        *boolean(":SYSTem:RWLock", lambda unit: unit.panel.locked, set_lock),
        *command(":SYSTem:LOCal", to_local),
        *command(":SYSTem:REMote", _nothing),
        *query(":SYSTem:MEP[:STATe]", lambda _unit: "1"),
        *boolean(":SYSTem:MEP:HOLDoff", lambda _unit: False, set_holdoff),
    ]


def _connections() -> Entries:
    def set_sense(unit: Unit, on: bool) -> None:
        # Changing sense or guard switches the output off.
        if on != unit.settings.remote_sense:
            unit.settings.remote_sense = on
            unit.switch_output(on=False)

    def set_guard(unit: Unit, ohms: bool) -> None:
        if ohms != unit.settings.guard_ohms:
            unit.settings.guard_ohms = ohms
            unit.switch_output(on=False)

    def guard(unit: Unit) -> str:
        return "OHMS" if unit.settings.guard_ohms else "CABL"

    def set_contact_check(_unit: Unit, on: bool) -> None:
        # *OPT? says that the option is not there.
        if on:
            raise RefusedError(HARDWARE_MISSING)

    return [
        *boolean(":SYSTem:RSENse", lambda unit: unit.settings.remote_sense, set_sense),
        *choice(":SYSTem:GUARd", {"OHMS": True, "CABLe": False}, guard, set_guard),
        *boolean(":SYSTem:CCHeck", lambda _unit: False, set_contact_check),
    ]


def _setups_and_time() -> Entries:
    def set_setup(unit: Unit, name: str) -> None:
        unit.panel.power_on_setup = name

    def reset_stamp(unit: Unit, _params: Params) -> None:
        unit.stamp_zero_ns = unit.now_ns

    def stamp(unit: Unit) -> str:
        return format_nr3((unit.now_ns - unit.stamp_zero_ns) * _S_PER_NS)

    def set_auto_stamp(unit: Unit, on: bool) -> None:
        unit.settings.stamp_auto_reset = on

    return [
        *query(":SYSTem:VERSion", lambda _unit: "1996.0"),
        *command(":SYSTem:PRESet", lambda unit, _params: unit.reset()),
        *choice(":SYSTem:POSetup", _SETUPS, lambda unit: unit.panel.power_on_setup, set_setup),
        *query(":SYSTem:TIME", stamp),
        *command(":SYSTem:TIME:RESet", reset_stamp),
        *boolean(":SYSTem:TIME:RESet:AUTO", lambda unit: unit.settings.stamp_auto_reset, set_auto_stamp),
    ]


def _autozero() -> Entries:
    def set_caching(unit: Unit, on: bool) -> None:
        unit.panel.autozero_cache = [] if on else None

    def clear_cache(unit: Unit, _params: Params) -> None:
        if unit.panel.autozero_cache is not None:
            unit.panel.autozero_cache = []

    def refresh(unit: Unit, _params: Params) -> Generator[int, None, str | None]:
        cache = unit.panel.autozero_cache
        if cache is not None:
            yield 2 * aperture_ns(unit)
            cache[:] = [*(nplc for nplc in cache if nplc != unit.settings.nplc), unit.settings.nplc][-_MAX_CACHED:]
        return None

    def cached(unit: Unit) -> str:
        return ",".join(format_nr3(nplc) for nplc in unit.panel.autozero_cache or ()) or "0"

    state, cache = ":SYSTem:AZERo[:STATe]", ":SYSTem:AZERo:CACHing"
    return [
        (state, Entry(None, _set_autozero, Cost.SET, 1, 1)),
        *query(state, lambda unit: "1" if unit.settings.autozero else "0"),
        *boolean(f"{cache}[:STATe]", lambda unit: unit.panel.autozero_cache is not None, set_caching),
        (f"{cache}:REFResh", Entry(None, refresh, Cost.SET)),
        *command(f"{cache}:RESet", clear_cache),
        *query(f"{cache}:NPLCycles", cached),
    ]


def _format() -> Entries:
    def set_elements(unit: Unit, params: Params) -> None:
        unit.settings.elements = frozenset(parse_choice(param, _ELEMENTS) for param in params)

    def elements(unit: Unit) -> str:
        return ",".join(name for name in ELEMENT_ORDER if name in unit.settings.elements)

    def set_data(_unit: Unit, params: Params) -> None:
        if not parse_choice(params[0], {"ASCii": True, "REAL": False, "SREal": False}):
            raise RefusedError(ASCII_ONLY)

    def set_order(_unit: Unit, _swapped: bool) -> None:
        """Of binary data, which RS-232 does not carry."""

    return [
        *command(":FORMat:ELEMents[:SENSe[1]]", set_elements, least=1, most=MAX_LIST),
        *query(":FORMat:ELEMents[:SENSe[1]]", elements),
        *command(":FORMat[:DATA]", set_data, least=1, most=2),
        *query(":FORMat[:DATA]", lambda _unit: "ASC"),
        *choice(":FORMat:BORDer", {"NORMal": False, "SWAPped": True}, lambda _unit: "NORM", set_order),
    ]


def entries() -> Entries:
    """Return everything of this module for the command table."""
    return [
        *_error_queue(),
        *_mains(),
        *_remote(),
        *_connections(),
        *_setups_and_time(),
        *_autozero(),
        *_format(),
    ]
