"""Common commands and STATus of the emulated 2400 (User's Manual sections 15 and 16, 18-98 to 18-103)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from firmware_proto.scpi import Param, ParamKind, ScpiError, parse_integer
from firmware_proto.scpi.errors import DATA_TYPE, INVALID_EXPRESSION
from hil.devices.keithley2400.entries import Entries, Params, choice, command, query
from hil.devices.keithley2400.errors import OUT_OF_RANGE, RefusedError
from hil.devices.keithley2400.status import MESSAGE_NUMBERS, Ranges, Register, StandardEvent
from hil.devices.keithley2400.unit import Unit

_FORMATS: Final = {"ASCii": "ASC", "HEXadecimal": "HEX", "OCTal": "OCT", "BINary": "BIN"}
_RANGE: Final = re.compile(r"\s*([+-]?\d{1,5})\s*(?::\s*([+-]?\d{1,5})\s*)?", re.ASCII)
_MAV_SINCE: Final = 27
"""Firmware C27 mended the MAV bit on RS-232 (release notes, PR22327)."""


def _shown(unit: Unit, value: int) -> str:
    """Return the contents of a register in the format of ``:FORM:SREG`` (18-54)."""
    form = unit.settings.register_format
    if form == "HEX":
        return f"#H{value:X}"
    if form == "OCT":
        return f"#Q{value:o}"
    return f"#B{value:b}" if form == "BIN" else str(value)


def _register_query(pattern: str, get: Callable[[Unit], int]) -> Entries:
    return query(pattern, lambda unit: _shown(unit, get(unit)))


def _enable(pattern: str, get: Callable[[Unit], int], put: Callable[[Unit, int], None], top: int) -> Entries:
    def set_it(unit: Unit, params: Params) -> None:
        put(unit, parse_integer(params[0], 0, top))

    return command(pattern, set_it, least=1) + _register_query(pattern, get)


def _knows_mav(firmware: str) -> bool:
    match = re.match(r"C(\d+)", firmware)
    return match is not None and int(match[1]) >= _MAV_SINCE


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
        return f"KEITHLEY INSTRUMENTS INC.,MODEL 2400,{unit.serial_number},{unit.firmware}"

    def byte(unit: Unit) -> int:
        # What an earlier query of this message put into the output queue is not sent before the message ends.
        available = bool(unit.output_queue) and _knows_mav(unit.firmware)
        return unit.status.byte_with(message_available=available)

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
        *_register_query("*STB", byte),
        *_register_query("*ESR", lambda unit: unit.status.take_standard_event()),
        *_enable("*ESE", lambda unit: unit.status.standard_enable, set_event, 255),
        *_enable("*SRE", lambda unit: unit.status.service_enable, set_service, 255),
    ]


def _register(node: str, pick: Callable[[Unit], Register]) -> Entries:
    def set_enable(unit: Unit, value: int) -> None:
        pick(unit).enable = value

    return [
        *_register_query(f":STATus:{node}[:EVENt]", lambda unit: pick(unit).take_event()),
        *_register_query(f":STATus:{node}:CONDition", lambda unit: pick(unit).condition),
        *_enable(f":STATus:{node}:ENABle", lambda unit: pick(unit).enable, set_enable, 65535),
    ]


def parse_numlist(param: Param) -> Ranges:
    """Return the message numbers of a list such as ``(-110:-222, -220)``, either end of a range first.

    Raises:
        ScpiError: -104 for what is not in parentheses, -171 for what is no list.
        RefusedError: -222 for a number beyond +-999.
    """
    if param.kind is not ParamKind.EXPRESSION:
        raise ScpiError(DATA_TYPE, "a list in parentheses is needed", data=param.text)
    inner = param.text[1:-1].strip()
    ranges = []
    for item in inner.split(",") if inner else ():
        match = _RANGE.fullmatch(item)
        if match is None:
            raise ScpiError(INVALID_EXPRESSION, f"{item!r} is neither a number nor a range", data=param.text)
        ends = sorted((int(match[1]), int(match[2] or match[1])))
        if ends[0] not in MESSAGE_NUMBERS or ends[1] not in MESSAGE_NUMBERS:
            raise RefusedError(OUT_OF_RANGE)
        ranges.append((ends[0], ends[1]))
    return tuple(ranges)


def _status() -> Entries:
    def clear_queue(unit: Unit, _params: Params) -> None:
        unit.status.clear_queue()

    def preset(unit: Unit, _params: Params) -> None:
        unit.status.preset()

    def enable(unit: Unit, params: Params) -> None:
        unit.status.set_enabled(parse_numlist(params[0]))

    def disable(unit: Unit, params: Params) -> None:
        unit.status.disable(parse_numlist(params[0]))

    def set_format(unit: Unit, name: str) -> None:
        unit.settings.register_format = name

    return [
        *_register("MEASurement", lambda unit: unit.status.measurement),
        *_register("OPERation", lambda unit: unit.status.operation),
        *_register("QUEStionable", lambda unit: unit.status.questionable),
        *query(":STATus:QUEue[:NEXT]", lambda unit: unit.status.pop()),
        *command(":STATus:QUEue:CLEar", clear_queue),
        *command(":STATus:QUEue:ENABle", enable, least=1),
        *query(":STATus:QUEue:ENABle", lambda unit: _numlist(unit.status.enabled)),
        *command(":STATus:QUEue:DISable", disable, least=1),
        *query(":STATus:QUEue:DISable", lambda unit: _numlist(_others(unit.status.enabled))),
        *command(":STATus:PRESet", preset),
        *choice(":FORMat:SREGister", _FORMATS, lambda unit: unit.settings.register_format, set_format),
    ]


def _others(ranges: Ranges) -> Ranges:
    """Return the numbers that are in none of ``ranges``; 0, "no error", is not a message."""
    out, start = [], MESSAGE_NUMBERS.start
    for low, high in (*ranges, (MESSAGE_NUMBERS.stop, MESSAGE_NUMBERS.stop)):
        if start < low:
            out.append((start, low - 1))
        start = high + 1
    return tuple(out)


def _numlist(ranges: Ranges) -> str:
    """Return ranges as a list; its form in replies is not documented, so it is that of the command."""
    items = (f"{low:+d}" if low == high else f"{low:+d}:{high:+d}" for low, high in ranges)
    return f"({','.join(items)})"


def entries() -> Entries:
    """Return everything of this module for the command table."""
    return [*_common(), *_status()]
