"""ARM, TRIGger and the ways to get readings out of the emulated 2400."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Final

from hil.devices.keithley2400.acquisition import acquire
from hil.devices.keithley2400.entries import Entries, Entry, Params, command, integer, number, query
from hil.devices.keithley2400.errors import INFINITE_COUNT, STALE, RefusedError
from hil.devices.keithley2400.settings import MAX_READINGS, Quantity, Settings
from hil.devices.keithley2400.timing import nanoseconds
from hil.devices.keithley2400.unit import Cost, Unit

MAX_TRIGGER_DELAY_S: Final = 999.9999
_MEASURED: Final = {"VOLTage[:DC]": Quantity.VOLT, "CURRent[:DC]": Quantity.CURR, "RESistance": Quantity.RES}


def _trigger() -> Entries:
    def set_arm(unit: Unit, count: float) -> None:
        unit.settings.set_counts(count, unit.settings.trigger_count)

    def set_count(unit: Unit, count: float) -> None:
        unit.settings.set_counts(unit.settings.arm_count, int(count))

    def set_delay(unit: Unit, delay_s: float) -> None:
        unit.settings.trigger_delay_s = delay_s

    def clear(_unit: Unit, _params: Params) -> None:
        """Pending triggers do not exist here: every source is immediate."""

    return [
        *integer(
            ":ARM[:SEQuence[1]][:LAYer[1]]:COUNt",
            lambda unit: unit.settings.arm_count,
            set_arm,
            low=1,
            high=MAX_READINGS,
            default=1,
            infinite=True,
        ),
        *integer(
            ":TRIGger[:SEQuence[1]]:COUNt",
            lambda unit: unit.settings.trigger_count,
            set_count,
            low=1,
            high=MAX_READINGS,
            default=1,
        ),
        *number(
            ":TRIGger[:SEQuence[1]]:DELay",
            lambda unit: unit.settings.trigger_delay_s,
            set_delay,
            low=0.0,
            high=MAX_TRIGGER_DELAY_S,
            default=0.0,
        ),
        *command(":TRIGger:CLEar", clear),
    ]


def _read(unit: Unit, _params: Params) -> Generator[int, None, str | None]:
    if unit.settings.arm_count > MAX_READINGS:
        raise RefusedError(INFINITE_COUNT)
    yield from acquire(unit)
    yield nanoseconds(unit.timing.reply_s)
    return unit.format(unit.readings)


def _initiate(unit: Unit, _params: Params) -> Generator[int, None, str | None]:
    # Everything behind it waits until the unit is idle again (User's Manual 11-11), so it may as well wait here.
    yield from acquire(unit)
    return None


def _configure_for(unit: Unit, quantity: Quantity) -> None:
    """Do what makes ``:CONF`` and ``:MEAS?`` unsafe: defaults for the function, and the output goes on (17-2)."""
    fresh, settings = Settings(), unit.settings
    if quantity is Quantity.CURR and settings.source is Quantity.VOLT:
        settings.curr_sense = fresh.curr_sense
    elif quantity is Quantity.VOLT and settings.source is Quantity.CURR:
        settings.volt_sense = fresh.volt_sense
    settings.functions = frozenset({quantity})
    settings.nplc, settings.average, settings.autozero = fresh.nplc, fresh.average, True
    settings.trigger_delay_s = 0.0
    settings.set_counts(1, 1)
    unit.moving.clear()
    unit.switch_output(on=True)


def _configure(quantity: Quantity) -> Callable[[Unit, Params], None]:
    def act(unit: Unit, _params: Params) -> None:
        _configure_for(unit, quantity)

    return act


def _measure(quantity: Quantity) -> Callable[[Unit, Params], Generator[int, None, str | None]]:
    def run(unit: Unit, params: Params) -> Generator[int, None, str | None]:
        _configure_for(unit, quantity)
        return (yield from _read(unit, params))

    return run


def _fetch(unit: Unit) -> str:
    if not unit.readings:
        raise RefusedError(STALE)
    return unit.format(unit.readings)


def _latest(unit: Unit) -> str:
    if not unit.readings:
        raise RefusedError(STALE)
    return unit.format(unit.readings[-1:])


def _acquisition() -> Entries:
    out: Entries = [
        (":READ?", Entry(None, _read, Cost.QUERY)),
        (":INITiate[:IMMediate]", Entry(None, _initiate, Cost.SET)),
        *query(":FETCh", _fetch),
        *query("[:SENSe[1]]:DATA[:LATest]", _latest),
    ]
    for pattern, quantity in _MEASURED.items():
        out += command(f":CONFigure:{pattern}", _configure(quantity), cost=Cost.OUTPUT)
        out.append((f":MEASure:{pattern}?", Entry(None, _measure(quantity), Cost.OUTPUT)))
    return out


def entries() -> Entries:
    """Return everything of this module for the command table."""
    return [*_trigger(), *_acquisition()]
