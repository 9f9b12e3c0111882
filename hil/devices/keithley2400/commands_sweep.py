"""Sweeps and lists over the wire: ``:SOUR:VOLT:STAR``, ``:SOUR:SWE``, ``:SOUR:LIST`` (User's Manual 18-83 to 18-93)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from firmware_proto.scpi import format_nr3, parse_number
from firmware_proto.scpi.message import MAX_PARAMS
from hil.devices.keithley2400.entries import Entries, Params, choice, command, integer, number, query
from hil.devices.keithley2400.errors import OUT_OF_RANGE, TOO_MUCH_DATA, RefusedError
from hil.devices.keithley2400.settings import SourceAxis
from hil.devices.keithley2400.sweep import LIST_CHUNK, MAX_POINTS, ComplianceAbort, Ranging, Shape
from hil.devices.keithley2400.unit import Unit

_RANGING: Final = {"BEST": Ranging.BEST, "AUTO": Ranging.AUTO, "FIXed": Ranging.FIXED}
_ABORT: Final = {"NEVer": ComplianceAbort.NEVER, "EARLy": ComplianceAbort.EARLY, "LATE": ComplianceAbort.LATE}


def _staircase(node: str, pick: Callable[[Unit], SourceAxis], largest: float) -> Entries:
    """Return start, stop, centre, span and step of one source; the largest level in V or A bounds them."""

    def shape(unit: Unit) -> Shape:
        return pick(unit).extras.shape

    def set_start(unit: Unit, value: float) -> None:
        shape(unit).start = value

    def set_stop(unit: Unit, value: float) -> None:
        shape(unit).stop = value

    def set_center(unit: Unit, value: float) -> None:
        shape(unit).place(value, shape(unit).span, largest)

    def set_span(unit: Unit, value: float) -> None:
        shape(unit).place(shape(unit).center, value, largest)

    def step(unit: Unit) -> float:
        own = shape(unit)
        count = own.points(unit.settings.sweep.points)
        return own.span / (count - 1) if own.step is None else own.step

    parts: tuple[tuple[str, Callable[[Unit], float], Callable[[Unit, float], None], float], ...] = (
        ("STARt", lambda unit: shape(unit).start, set_start, 1.0),
        ("STOP", lambda unit: shape(unit).stop, set_stop, 1.0),
        ("CENTer", lambda unit: shape(unit).center, set_center, 1.0),
        ("SPAN", lambda unit: shape(unit).span, set_span, 2.0),
        ("STEP", step, lambda unit, value: shape(unit).set_step(value), 2.0),
    )
    out: Entries = []
    for name, get, put, factor in parts:
        bound = largest * factor
        out += number(f":SOURce[1]:{node}:{name}", get, put, low=-bound, high=bound, default=0.0)
    return out


def _custom(node: str, pick: Callable[[Unit], SourceAxis], largest: float) -> Entries:
    """Return the list commands of one source."""

    def values(params: Params) -> tuple[float, ...]:
        if len(params) > LIST_CHUNK:
            raise RefusedError(TOO_MUCH_DATA)
        levels = tuple(parse_number(param) for param in params)
        if any(abs(level) > largest for level in levels):
            raise RefusedError(OUT_OF_RANGE)
        return levels

    def define(unit: Unit, params: Params) -> None:
        own = pick(unit).extras.shape
        own.values, own.first = values(params), 1

    def append(unit: Unit, params: Params) -> None:
        pick(unit).extras.shape.append(values(params))

    def listed(unit: Unit) -> str:
        return ",".join(format_nr3(level) for level in pick(unit).extras.shape.values)

    def set_first(unit: Unit, first: float) -> None:
        own = pick(unit).extras.shape
        if first > len(own.values):
            raise RefusedError(OUT_OF_RANGE)
        own.first = int(first)

    head = f":SOURce[1]:LIST:{node}"
    return [
        *command(head, define, least=1, most=MAX_PARAMS),
        *query(head, listed),
        *command(f"{head}:APPend", append, least=1, most=MAX_PARAMS),
        *query(f"{head}:POINts", lambda unit: str(len(pick(unit).extras.shape.values))),
        *integer(f"{head}:STARt", lambda unit: pick(unit).extras.shape.first, set_first, low=1, high=100, default=1),
    ]


def _shared() -> Entries:
    def set_points(unit: Unit, points: float) -> None:
        settings = unit.settings
        settings.sweep.points = int(points)
        for axis in (settings.volt_source, settings.curr_source):
            axis.extras.shape.step = None

    def points(unit: Unit) -> int:
        return unit.settings.source_axis().extras.shape.points(unit.settings.sweep.points)

    def set_spacing(unit: Unit, logarithmic: bool) -> None:
        unit.settings.sweep.logarithmic = logarithmic

    def set_direction(unit: Unit, down: bool) -> None:
        unit.settings.sweep.down = down

    def set_ranging(unit: Unit, ranging: Ranging) -> None:
        unit.settings.sweep.ranging = ranging

    def set_abort(unit: Unit, abort: ComplianceAbort) -> None:
        unit.settings.sweep.abort = abort

    head = ":SOURce[1]:SWEep"
    return [
        *integer(f"{head}:POINts", points, set_points, low=2, high=MAX_POINTS, default=MAX_POINTS),
        *choice(
            f"{head}:SPACing",
            {"LINear": False, "LOGarithmic": True},
            lambda unit: "LOG" if unit.settings.sweep.logarithmic else "LIN",
            set_spacing,
        ),
        *choice(
            f"{head}:DIRection",
            {"UP": False, "DOWN": True},
            lambda unit: "DOWN" if unit.settings.sweep.down else "UP",
            set_direction,
        ),
        *choice(f"{head}:RANGing", _RANGING, lambda unit: unit.settings.sweep.ranging.value, set_ranging),
        *choice(f"{head}:CABort", _ABORT, lambda unit: unit.settings.sweep.abort.value, set_abort),
    ]


def entries() -> Entries:
    """Return everything of this module for the command table."""
    out = _shared()
    for node, pick, largest in (
        ("VOLTage", lambda unit: unit.settings.volt_source, 210.0),
        ("CURRent", lambda unit: unit.settings.curr_source, 1.05),
    ):
        out += _staircase(node, pick, largest)
        out += _custom(node, pick, largest)
    return out
