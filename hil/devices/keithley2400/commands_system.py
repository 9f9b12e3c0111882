"""Common commands, SYSTem, STATus, FORMat, DISPlay, ROUTe and OUTPut of the emulated 2400."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Final

from firmware_proto.keithley2400.status import ELEMENT_ORDER, OutputOff
from firmware_proto.scpi import parse_bool, parse_choice, parse_integer
from hil.devices.keithley2400.acquisition import aperture_ns
from hil.devices.keithley2400.entries import MAX_LIST, Entries, Entry, Params, boolean, choice, command, query
from hil.devices.keithley2400.errors import ASCII_ONLY, RefusedError
from hil.devices.keithley2400.status import Register, StandardEvent
from hil.devices.keithley2400.timing import nanoseconds
from hil.devices.keithley2400.unit import Cost, Unit

FIRMWARE: Final = "C31   May 28 2010 10:34:39/A02  /R/J"
"""As a real unit sends it (pymeasure#954)."""
_ELEMENTS: Final = {"VOLTage": "VOLT", "CURRent": "CURR", "RESistance": "RES", "TIME": "TIME", "STATus": "STAT"}
_OFF_MODES: Final = {
    "NORMal": OutputOff.NORMAL,
    "ZERO": OutputOff.ZERO,
    "HIMPedance": OutputOff.HIGH_IMPEDANCE,
    "GUARd": OutputOff.GUARD,
}


def _enable(pattern: str, get: Callable[[Unit], int], put: Callable[[Unit, int], None], top: int) -> Entries:
    def set_it(unit: Unit, params: Params) -> None:
        put(unit, parse_integer(params[0], 0, top))

    return command(pattern, set_it, least=1) + query(pattern, lambda unit: str(get(unit)))


def _common() -> Entries:
    def clear(unit: Unit, _params: Params) -> None:
        unit.status.clear()

    def reset(unit: Unit, _params: Params) -> None:
        unit.reset()

    def complete(unit: Unit, _params: Params) -> None:
        # Commands run one after another, so whatever came before is complete.
        unit.status.standard_event |= StandardEvent.OPERATION_COMPLETE

    def wait(_unit: Unit, _params: Params) -> None:
        """Nothing is ever pending when this is reached."""

    def set_event(unit: Unit, value: int) -> None:
        unit.status.standard_enable = value

    def set_service(unit: Unit, value: int) -> None:
        # Bit 6 is the summary of the others and cannot be enabled.
        unit.status.service_enable = value & ~(1 << 6)

    def identity(unit: Unit) -> str:
        return f"KEITHLEY INSTRUMENTS INC.,MODEL 2400,{unit.serial_number},{FIRMWARE}"

    return [
        *command("*CLS", clear),
        *command("*RST", reset),
        *command("*OPC", complete),
        *command("*WAI", wait),
        *command(":ABORt", wait),
        *query("*OPC", lambda _unit: "1"),
        *query("*IDN", identity),
        *query("*OPT", lambda _unit: "0"),
        *query("*TST", lambda _unit: "0"),
        *query("*STB", lambda unit: str(unit.status.byte)),
        *query("*ESR", lambda unit: str(unit.status.take_standard_event())),
        *_enable("*ESE", lambda unit: unit.status.standard_enable, set_event, 255),
        *_enable("*SRE", lambda unit: unit.status.service_enable, set_service, 255),
    ]


def _register(node: str, pick: Callable[[Unit], Register]) -> Entries:
    def set_enable(unit: Unit, value: int) -> None:
        pick(unit).enable = value

    return [
        *query(f":STATus:{node}[:EVENt]", lambda unit: str(pick(unit).take_event())),
        *query(f":STATus:{node}:CONDition", lambda unit: str(pick(unit).condition)),
        *_enable(f":STATus:{node}:ENABle", lambda unit: pick(unit).enable, set_enable, 65535),
    ]


def _status() -> Entries:
    def clear_queue(unit: Unit, _params: Params) -> None:
        unit.status.clear_queue()

    def preset(unit: Unit, _params: Params) -> None:
        unit.status.preset()

    return [
        *_register("MEASurement", lambda unit: unit.status.measurement),
        *_register("OPERation", lambda unit: unit.status.operation),
        *_register("QUEStionable", lambda unit: unit.status.questionable),
        *query(":STATus:QUEue[:NEXT]", lambda unit: unit.status.pop()),
        *command(":STATus:QUEue:CLEar", clear_queue),
        *command(":STATus:PRESet", preset),
    ]


def _set_autozero(unit: Unit, params: Params) -> Generator[int, None, str | None]:
    if params[0].text.upper() != "ONCE":
        unit.settings.autozero = parse_bool(params[0])
        return None
    # Zero and reference are converted once; after that autozero is off.
    yield 2 * aperture_ns(unit)
    unit.settings.autozero = False
    return None


def _system() -> Entries:
    def beep(_unit: Unit, _params: Params) -> None:
        """Nobody hears it."""

    def set_beeper(unit: Unit, on: bool) -> None:
        unit.panel.beeper = on

    def set_lock(unit: Unit, on: bool) -> None:
        unit.panel.locked = on

    def to_local(unit: Unit, _params: Params) -> None:
        unit.panel.locked = False

    def set_sense(unit: Unit, on: bool) -> None:
        unit.settings.remote_sense = on

    def reset_stamp(unit: Unit, _params: Params) -> None:
        unit.stamp_zero_ns = unit.now_ns

    def set_display(unit: Unit, on: bool) -> None:
        unit.panel.display = on

    autozero = ":SYSTem:AZERo[:STATe]"
    return [
        *query(":SYSTem:ERRor[:NEXT]", lambda unit: unit.status.pop()),
        *command(":SYSTem:CLEar", lambda unit, _params: unit.status.clear_queue()),
        *query(":SYSTem:VERSion", lambda _unit: "1996.0"),
        *command(":SYSTem:PRESet", lambda unit, _params: unit.reset()),
        *boolean(":SYSTem:BEEPer:STATe", lambda unit: unit.panel.beeper, set_beeper),
        *command(":SYSTem:BEEPer[:IMMediate]", beep, least=2),
        (autozero, Entry(None, _set_autozero, Cost.SET, 1, 1)),
        *query(autozero, lambda unit: "1" if unit.settings.autozero else "0"),
        *boolean(":SYSTem:RSENse", lambda unit: unit.settings.remote_sense, set_sense),
        *boolean(":SYSTem:RWLock", lambda unit: unit.panel.locked, set_lock),
        *command(":SYSTem:LOCal", to_local),
        *command(":SYSTem:REMote", beep),
        *command(":SYSTem:TIME:RESet", reset_stamp),
        *boolean(":DISPlay:ENABle", lambda unit: unit.panel.display, set_display),
    ]


def _format() -> Entries:
    def set_elements(unit: Unit, params: Params) -> None:
        unit.settings.elements = frozenset(parse_choice(param, _ELEMENTS) for param in params)

    def elements(unit: Unit) -> str:
        return ",".join(name for name in ELEMENT_ORDER if name in unit.settings.elements)

    def set_data(_unit: Unit, params: Params) -> None:
        if not parse_choice(params[0], {"ASCii": True, "REAL": False, "SREal": False}):
            raise RefusedError(ASCII_ONLY)

    return [
        *command(":FORMat:ELEMents[:SENSe[1]]", set_elements, least=1, most=MAX_LIST),
        *query(":FORMat:ELEMents[:SENSe[1]]", elements),
        *command(":FORMat[:DATA]", set_data, least=1, most=2),
        *query(":FORMat[:DATA]", lambda _unit: "ASC"),
    ]


def _switch(unit: Unit, params: Params) -> Generator[int, None, str | None]:
    on = parse_bool(params[0])
    settle = on and unit.output.relay_open and unit.settings.output_off is OutputOff.HIGH_IMPEDANCE
    unit.switch_output(on=on)
    if settle:
        yield nanoseconds(unit.timing.relay_settle_s)
    return None


def _output() -> Entries:
    def set_mode(unit: Unit, mode: OutputOff) -> None:
        unit.settings.output_off = mode
        unit.apply()

    def set_terminals(unit: Unit, front: bool) -> None:
        if front != unit.settings.front_terminals:
            # A unit never switches its terminals hot.
            unit.settings.front_terminals = front
            unit.switch_output(on=False)

    def terminals(unit: Unit) -> str:
        return "FRON" if unit.settings.front_terminals else "REAR"

    state = ":OUTPut[1][:STATe]"
    return [
        (state, Entry(None, _switch, Cost.OUTPUT, 1, 1)),
        *query(state, lambda unit: "1" if unit.output.on else "0"),
        *choice(":OUTPut[1]:SMODe", _OFF_MODES, lambda unit: unit.settings.output_off.value, set_mode),
        *choice(":ROUTe:TERMinals", {"FRONt": True, "REAR": False}, terminals, set_terminals),
    ]


def entries() -> Entries:
    """Return everything of this module for the command table."""
    return [*_common(), *_status(), *_system(), *_format(), *_output()]
