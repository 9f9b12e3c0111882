"""SOURce of the emulated 2400: function, level, range, delay, voltage limit. Sweeps are in commands_sweep.

Not offered: the pulse mode (of the 2430 alone) and source memory sweeps (``:SOUR:FUNC MEM``), refused as a real unit
refuses what it does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from firmware_proto.keithley2400.status import OVERRANGE
from firmware_proto.scpi import parse_bool
from hil.devices.keithley2400.entries import Entries, Params, boolean, choice, command, number, query
from hil.devices.keithley2400.errors import RefusedError
from hil.devices.keithley2400.settings import VOLTAGE_LIMITS_V, Quantity, SourceAxis, pick_range
from hil.devices.keithley2400.sweep import SourceMode
from hil.devices.keithley2400.unit import Cost, Unit

MAX_DELAY_S: Final = 9999.999
_NO_LIMIT_V: Final = VOLTAGE_LIMITS_V[-1]


def _within_power(unit: Unit, axis: SourceAxis, change: Callable[[float], None], value: float) -> None:
    """Do a change of level or range, or none of it if it would leave the operating boundaries."""
    extras = axis.extras
    before = axis.level, axis.range, axis.auto_range
    transient = extras.swept, extras.triggered
    change(value)
    try:
        unit.settings.refuse_power()
    except RefusedError:
        axis.level, axis.range, axis.auto_range = before
        extras.swept, extras.triggered = transient
        raise
    unit.apply()


def _neighbour(pick: Callable[[Unit], SourceAxis], step: int) -> Callable[[Unit], float]:
    def value(unit: Unit) -> float:
        axis = pick(unit)
        index = axis.ranges.index(axis.range) + step
        return axis.ranges[max(0, min(len(axis.ranges) - 1, index))]

    return value


def _axis(node: str, pick: Callable[[Unit], SourceAxis], *, largest: float, reset_range: float) -> Entries:
    """Return the commands of one source; ``largest`` level in V or A."""
    head = f":SOURce[1]:{node}"

    def set_level(unit: Unit, level: float) -> None:
        unit.settings.refuse_auto_ohms()
        axis = pick(unit)
        _within_power(unit, axis, axis.set_level, level)

    def set_triggered(unit: Unit, level: float) -> None:
        unit.settings.refuse_auto_ohms()
        pick(unit).extras.triggered = level

    def triggered(unit: Unit) -> float:
        level = pick(unit).extras.triggered
        return pick(unit).level if level is None else level

    def set_range(unit: Unit, value: float) -> None:
        unit.settings.refuse_auto_ohms()
        axis = pick(unit)
        _within_power(unit, axis, axis.set_range, value)

    def set_auto(unit: Unit, on: bool) -> None:
        axis = pick(unit)
        if on:
            unit.settings.refuse_auto_ohms()
        axis.auto_range = on
        if on:
            axis.range = pick_range(axis.ranges, axis.present)

    def set_mode(unit: Unit, mode: SourceMode) -> None:
        pick(unit).set_mode(mode)
        unit.apply()

    return [
        *number(
            f"{head}[:LEVel][:IMMediate][:AMPLitude]",
            lambda unit: pick(unit).level,
            set_level,
            low=-largest,
            high=largest,
            default=0.0,
            cost=Cost.LEVEL,
        ),
        *number(
            f"{head}:RANGe",
            lambda unit: pick(unit).range * OVERRANGE,
            set_range,
            low=-largest,
            high=largest,
            default=reset_range * OVERRANGE,
            extra={"UP": _neighbour(pick, 1), "DOWN": _neighbour(pick, -1)},
        ),
        *number(
            f"{head}[:LEVel]:TRIGgered[:AMPLitude]", triggered, set_triggered, low=-largest, high=largest, default=0.0
        ),
        *boolean(f"{head}:RANGe:AUTO", lambda unit: pick(unit).auto_range, set_auto),
        *choice(
            f"{head}:MODE",
            {"FIXed": SourceMode.FIXED, "SWEep": SourceMode.SWEEP, "LIST": SourceMode.LIST},
            lambda unit: pick(unit).extras.mode.value,
            set_mode,
        ),
    ]


def _set_function(unit: Unit, source: Quantity) -> None:
    settings = unit.settings
    settings.refuse_auto_ohms()
    if source is not settings.source:
        # The output is never on with the other function's level at the terminals (seen on real units of the family).
        settings.source = source
        try:
            settings.refuse_power()
        except RefusedError:
            settings.source = Quantity.CURR if source is Quantity.VOLT else Quantity.VOLT
            raise
        unit.switch_output(on=False)


def _set_limit(unit: Unit, value: float) -> None:
    # The unit takes the smallest step that is not below the value.
    unit.settings.source_limit_v = next(step for step in VOLTAGE_LIMITS_V if abs(value) <= step)
    unit.apply()


def _limited(unit: Unit) -> str:
    return "1" if unit.output.on and unit.output.over_voltage(unit.settings) else "0"


def _set_delay(unit: Unit, delay_s: float) -> None:
    unit.settings.source_delay_s = delay_s
    unit.settings.source_delay_auto = False


def _set_delay_auto(unit: Unit, on: bool) -> None:
    unit.settings.source_delay_auto = on


def _set_auto_clear(unit: Unit, params: Params) -> None:
    unit.settings.auto_clear = parse_bool(params[0])


def _set_clear_mode(unit: Unit, per_count: bool) -> None:
    unit.settings.auto_clear_per_count = per_count


def _clear(unit: Unit, _params: Params) -> None:
    unit.switch_output(on=False)


def entries() -> Entries:
    """Return everything of this module for the command table."""
    return [
        *choice(
            ":SOURce[1]:FUNCtion[:MODE]",
            {"VOLTage": Quantity.VOLT, "CURRent": Quantity.CURR},
            lambda unit: unit.settings.source.value,
            _set_function,
        ),
        *_axis("VOLTage", lambda unit: unit.settings.volt_source, largest=210.0, reset_range=20.0),
        *_axis("CURRent", lambda unit: unit.settings.curr_source, largest=1.05, reset_range=1e-4),
        *number(
            ":SOURce[1]:VOLTage:PROTection[:LEVel]",
            lambda unit: unit.settings.source_limit_v,
            _set_limit,
            low=-_NO_LIMIT_V,
            high=_NO_LIMIT_V,
            default=_NO_LIMIT_V,
            extra={"NONE": lambda _unit: _NO_LIMIT_V},
        ),
        *query(":SOURce[1]:VOLTage:PROTection[:LEVel]:TRIPped", _limited),
        *number(
            ":SOURce[1]:DELay",
            lambda unit: unit.settings.source_delay_s,
            _set_delay,
            low=0.0,
            high=MAX_DELAY_S,
            default=0.0,
        ),
        *boolean(":SOURce[1]:DELay:AUTO", lambda unit: unit.settings.source_delay_auto, _set_delay_auto),
        *command(":SOURce[1]:CLEar:AUTO", _set_auto_clear, least=1),
        *query(":SOURce[1]:CLEar:AUTO", lambda unit: "1" if unit.settings.auto_clear else "0"),
        *choice(
            ":SOURce[1]:CLEar:AUTO:MODE",
            {"ALWays": False, "TCOunt": True},
            lambda unit: "TCO" if unit.settings.auto_clear_per_count else "ALW",
            _set_clear_mode,
        ),
        *command(":SOURce[1]:CLEar[:IMMediate]", _clear, cost=Cost.OUTPUT),
    ]
