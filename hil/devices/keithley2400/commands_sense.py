"""SENSe of the emulated 2400: functions, ranges, compliance, speed, filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from firmware_proto.keithley2400.status import OVERRANGE
from firmware_proto.scpi import ParamKind, ScpiError, spellings
from firmware_proto.scpi.errors import INVALID_CHARACTER_DATA
from hil.devices.keithley2400.entries import (
    MAX_LIST,
    Entries,
    Params,
    boolean,
    choice,
    command,
    integer,
    number,
    query,
)
from hil.devices.keithley2400.errors import SETTINGS_CONFLICT, RefusedError
from hil.devices.keithley2400.noise import NPLC_MAX, NPLC_MIN
from hil.devices.keithley2400.settings import Quantity, SenseAxis, Settings
from hil.devices.keithley2400.unit import Unit

MAX_AVERAGE: Final = 100
_FUNCTIONS: Final = {"VOLTage": Quantity.VOLT, "CURRent": Quantity.CURR, "RESistance": Quantity.RES}
_NAMES: Final = {Quantity.VOLT: '"VOLT:DC"', Quantity.CURR: '"CURR:DC"', Quantity.RES: '"RES"'}


def _axis(
    node: str, quantity: Quantity, pick: Callable[[Settings], SenseAxis], *, largest: float, reset: SenseAxis
) -> Entries:
    """Return range and compliance of one measurement; ``largest`` value in V or A."""
    head = f"[:SENSe[1]]:{node}[:DC]"

    def axis(unit: Unit) -> SenseAxis:
        return pick(unit.settings)

    def refuse_sourced(unit: Unit) -> None:
        # What is sourced is measured on the source range (User's Manual 18-62, note 1).
        if unit.settings.source is quantity:
            raise RefusedError(SETTINGS_CONFLICT)

    def changed(unit: Unit) -> None:
        unit.moving.clear()
        unit.apply()

    def set_range(unit: Unit, value: float) -> None:
        refuse_sourced(unit)
        axis(unit).set_range(value)
        changed(unit)

    def set_auto(unit: Unit, on: bool) -> None:
        if on:
            refuse_sourced(unit)
        axis(unit).auto_range = on
        changed(unit)

    def set_protection(unit: Unit, value: float) -> None:
        axis(unit).set_protection(value)
        changed(unit)

    def neighbour(step: int) -> Callable[[Unit], float]:
        def value(unit: Unit) -> float:
            ranges = axis(unit).ranges
            index = ranges.index(axis(unit).range) + step
            return ranges[max(0, min(len(ranges) - 1, index))]

        return value

    def tripped(unit: Unit) -> str:
        unit.output.advance(unit.now_ns)
        real, _ = unit.output.compliance(unit.settings)
        return "1" if real and unit.settings.source is not quantity else "0"

    return [
        *number(
            f"{head}:RANGe[:UPPer]",
            lambda unit: axis(unit).range * OVERRANGE,
            set_range,
            low=-largest,
            high=largest,
            default=reset.range * OVERRANGE,
            extra={"UP": neighbour(1), "DOWN": neighbour(-1)},
        ),
        *boolean(f"{head}:RANGe:AUTO", lambda unit: axis(unit).auto_range, set_auto),
        *number(
            f"{head}:PROTection[:LEVel]",
            lambda unit: axis(unit).protection,
            set_protection,
            low=-largest,
            high=largest,
            default=reset.protection,
        ),
        *query(f"{head}:PROTection:TRIPped", tripped),
        *_nplc(head),
    ]


def _nplc(head: str) -> Entries:
    """Return the speed command under one function; the setting is the same for all."""

    def set_nplc(unit: Unit, value: float) -> None:
        unit.settings.nplc = value

    return number(
        f"{head}:NPLCycles", lambda unit: unit.settings.nplc, set_nplc, low=NPLC_MIN, high=NPLC_MAX, default=1.0
    )


def _function_of(params: Params) -> frozenset[Quantity]:
    chosen = set()
    for param in params:
        name = param.text.upper().removesuffix(":DC")
        found = [quantity for pattern, quantity in _FUNCTIONS.items() if name in spellings(pattern)]
        if param.kind is not ParamKind.STRING or not found:
            raise ScpiError(INVALID_CHARACTER_DATA, f"{param.text!r} is not a function", data=param.text)
        chosen.update(found)
    return frozenset(chosen)


def _functions() -> Entries:
    def enable(unit: Unit, params: Params) -> None:
        chosen, settings = _function_of(params), unit.settings
        if not settings.concurrent and len(chosen) > 1:
            raise RefusedError(SETTINGS_CONFLICT)
        settings.functions = chosen | settings.functions if settings.concurrent else chosen
        unit.moving.clear()

    def disable(unit: Unit, params: Params) -> None:
        unit.settings.functions -= _function_of(params)
        unit.moving.clear()

    def set_concurrent(unit: Unit, on: bool) -> None:
        settings = unit.settings
        settings.concurrent = on
        if not on and len(settings.functions) > 1:
            settings.functions = frozenset({min(settings.functions, key=list(_NAMES).index)})
            unit.moving.clear()

    def listed(unit: Unit) -> str:
        return ",".join(text for quantity, text in _NAMES.items() if quantity in unit.settings.functions) or '""'

    head = "[:SENSe[1]]:FUNCtion"
    return [
        *command(f"{head}[:ON]", enable, least=1, most=MAX_LIST),
        *query(f"{head}[:ON]", listed),
        *command(f"{head}:OFF", disable, least=1, most=MAX_LIST),
        *boolean(f"{head}:CONCurrent", lambda unit: unit.settings.concurrent, set_concurrent),
    ]


def _filter() -> Entries:
    def set_state(unit: Unit, on: bool) -> None:
        unit.settings.average = on
        unit.moving.clear()

    def set_count(unit: Unit, count: float) -> None:
        unit.settings.average_count = int(count)
        unit.moving.clear()

    def set_control(unit: Unit, moving: bool) -> None:
        unit.settings.average_moving = moving
        unit.moving.clear()

    head = "[:SENSe[1]]:AVERage"
    return [
        *boolean(f"{head}[:STATe]", lambda unit: unit.settings.average, set_state),
        *integer(
            f"{head}:COUNt", lambda unit: unit.settings.average_count, set_count, low=1, high=MAX_AVERAGE, default=10
        ),
        *choice(
            f"{head}:TCONtrol",
            {"REPeat": False, "MOVing": True},
            lambda unit: "MOV" if unit.settings.average_moving else "REP",
            set_control,
        ),
    ]


def entries() -> Entries:
    """Return everything of this module for the command table."""
    fresh = Settings()
    return [
        *_axis("VOLTage", Quantity.VOLT, lambda settings: settings.volt_sense, largest=210.0, reset=fresh.volt_sense),
        *_axis("CURRent", Quantity.CURR, lambda settings: settings.curr_sense, largest=1.05, reset=fresh.curr_sense),
        *_nplc("[:SENSe[1]]:RESistance"),
        *_functions(),
        *_filter(),
    ]
