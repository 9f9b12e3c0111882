"""SOURce of the emulated 2400: function, level, range, delay, voltage limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from firmware_proto.keithley2400.status import OVERRANGE
from firmware_proto.scpi import parse_bool
from hil.devices.keithley2400.entries import Entries, Params, boolean, choice, command, number, query
from hil.devices.keithley2400.settings import VOLTAGE_LIMITS_V, Quantity, SourceAxis
from hil.devices.keithley2400.unit import Cost, Unit

MAX_DELAY_S: Final = 9999.999
_NO_LIMIT_V: Final = VOLTAGE_LIMITS_V[-1]


def _axis(node: str, pick: Callable[[Unit], SourceAxis], *, largest: float, reset_range: float) -> Entries:
    """Return the commands of one source; ``largest`` level in V or A."""
    head = f":SOURce[1]:{node}"

    def set_level(unit: Unit, level: float) -> None:
        pick(unit).set_level(level)
        unit.apply()

    def set_range(unit: Unit, value: float) -> None:
        pick(unit).set_range(value)
        unit.apply()

    def set_auto(unit: Unit, on: bool) -> None:
        axis = pick(unit)
        axis.auto_range = on
        if on:
            axis.set_level(axis.level)

    def neighbour(step: int) -> Callable[[Unit], float]:
        def value(unit: Unit) -> float:
            axis = pick(unit)
            index = axis.ranges.index(axis.range) + step
            return axis.ranges[max(0, min(len(axis.ranges) - 1, index))]

        return value

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
            extra={"UP": neighbour(1), "DOWN": neighbour(-1)},
        ),
        *boolean(f"{head}:RANGe:AUTO", lambda unit: pick(unit).auto_range, set_auto),
        # Sweeps and lists are modes of their own and not offered here.
        *choice(f"{head}:MODE", {"FIXed": None}, lambda _unit: "FIX", lambda _unit, _mode: None),
    ]


def _set_function(unit: Unit, source: Quantity) -> None:
    if source is not unit.settings.source:
        # The output is never on with the other function's level at the terminals (seen on real units of the family).
        unit.settings.source = source
        unit.switch_output(on=False)


def _set_limit(unit: Unit, value: float) -> None:
    # The unit takes the smallest step that is not below the value.
    unit.settings.source_limit_v = next(step for step in VOLTAGE_LIMITS_V if abs(value) <= step)
    unit.apply()


def _set_delay(unit: Unit, delay_s: float) -> None:
    unit.settings.source_delay_s = delay_s
    unit.settings.source_delay_auto = False


def _set_delay_auto(unit: Unit, on: bool) -> None:
    unit.settings.source_delay_auto = on


def _set_auto_clear(unit: Unit, params: Params) -> None:
    unit.settings.auto_clear = parse_bool(params[0])


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
        *number(
            ":SOURce[1]:DELay",
            lambda unit: unit.settings.source_delay_s,
            _set_delay,
            low=0.0,
            high=MAX_DELAY_S,
            default=0.0,
        ),
        *boolean(":SOURce[1]:DELay:AUTO", lambda unit: unit.settings.source_delay_auto, _set_delay_auto),
        *command(":SOURce[1]:CLEar:AUTO", _set_auto_clear, least=1, most=2),
        *query(":SOURce[1]:CLEar:AUTO", lambda unit: "1" if unit.settings.auto_clear else "0"),
        *command(":SOURce[1]:CLEar[:IMMediate]", _clear, cost=Cost.OUTPUT),
    ]
