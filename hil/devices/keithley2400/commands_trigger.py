"""ARM, TRIGger and the ways to get readings out of the emulated 2400 (User's Manual sections 11 and 17)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Final

from firmware_proto.scpi import parse_choice
from hil.devices.keithley2400.acquisition import acquire
from hil.devices.keithley2400.commands_sense import listed_functions
from hil.devices.keithley2400.entries import (
    Entries,
    Entry,
    Params,
    boolean_words,
    choice,
    command,
    integer,
    number,
    query,
)
from hil.devices.keithley2400.errors import INFINITE_COUNT, STALE, TRIGGER_DEADLOCK, TRIGGER_IGNORED, RefusedError
from hil.devices.keithley2400.settings import MAX_READINGS, Quantity, Settings
from hil.devices.keithley2400.status import QuestionableEvent
from hil.devices.keithley2400.triggers import MAX_TIMER_S, MIN_TIMER_S, EventSource, Layer, Triggers
from hil.devices.keithley2400.unit import Cost, Unit

MAX_IGNORED: Final = 2
"""Parameters of ``:CONF`` and ``:MEAS?``."""
MAX_TRIGGER_DELAY_S: Final = 999.9999
_MEASURED: Final = {"VOLTage[:DC]": Quantity.VOLT, "CURRent[:DC]": Quantity.CURR, "RESistance": Quantity.RES}
_ARM: Final = ":ARM[:SEQuence[1]][:LAYer[1]]"
_TRIGGER: Final = ":TRIGger[:SEQuence[1]]"
_TRIGGER_SOURCES: Final = {"IMMediate": EventSource.IMMEDIATE, "TLINk": EventSource.TRIGGER_LINK}
_ARM_SOURCES: Final = _TRIGGER_SOURCES | {
    "TIMer": EventSource.TIMER,
    "MANual": EventSource.MANUAL,
    "BUS": EventSource.BUS,
    "NSTest": EventSource.LOW_START,
    "PSTest": EventSource.HIGH_START,
    "BSTest": EventSource.BOTH_START,
}
_TRIGGER_EVENTS: Final = {"SOURce": "SOUR", "DELay": "DEL", "SENSe": "SENS", "NONE": "NONE"}
_ARM_EVENTS: Final = {"TENTer": "TENT", "TEXit": "TEX", "NONE": "NONE"}


def _events(
    pattern: str,
    words: dict[str, str],
    get: Callable[[Unit], tuple[str, ...]],
    put: Callable[[Unit, tuple[str, ...]], None],
) -> Entries:
    """Return the command and the query of an event list; NONE stands alone, whatever is listed beside it."""

    def set_it(unit: Unit, params: Params) -> None:
        named = {parse_choice(param, words) for param in params}
        put(unit, tuple(word for word in words.values() if word in named and word != "NONE") or ("NONE",))

    return command(pattern, set_it, least=1, most=len(words)) + query(pattern, lambda unit: ",".join(get(unit)))


def _layer(
    head: str, sources: dict[str, EventSource], events: dict[str, str], pick: Callable[[Triggers], Layer]
) -> Entries:
    def layer(unit: Unit) -> Layer:
        return pick(unit.settings.triggers)

    def set_source(unit: Unit, source: EventSource) -> None:
        layer(unit).source = source

    def set_bypass(unit: Unit, bypass: bool) -> None:
        layer(unit).bypass = bypass

    def set_in_line(unit: Unit, line: float) -> None:
        layer(unit).in_line = int(line)

    def set_out_line(unit: Unit, line: float) -> None:
        layer(unit).out_line = int(line)

    def set_outputs(unit: Unit, names: tuple[str, ...]) -> None:
        layer(unit).outputs = names

    return [
        *choice(f"{head}:SOURce", sources, lambda unit: layer(unit).source.value, set_source),
        *boolean_words(f"{head}:DIRection", ("ACCeptor", "SOURce"), lambda unit: layer(unit).bypass, set_bypass),
        *integer(f"{head}:ILINe", lambda unit: layer(unit).in_line, set_in_line, low=1, high=4, default=1),
        *integer(f"{head}:OLINe", lambda unit: layer(unit).out_line, set_out_line, low=1, high=4, default=2),
        *_events(f"{head}:OUTPut", events, lambda unit: layer(unit).outputs, set_outputs),
    ]


def _trigger() -> Entries:
    def set_arm(unit: Unit, count: float) -> None:
        unit.settings.set_counts(count, unit.settings.trigger_count)

    def set_count(unit: Unit, count: float) -> None:
        unit.settings.set_counts(unit.settings.arm_count, int(count))

    def set_delay(unit: Unit, delay_s: float) -> None:
        unit.settings.trigger_delay_s = delay_s

    def set_timer(unit: Unit, interval_s: float) -> None:
        unit.settings.triggers.timer_s = interval_s

    def set_inputs(unit: Unit, names: tuple[str, ...]) -> None:
        unit.settings.triggers.trigger.inputs = names

    def clear(_unit: Unit, _params: Params) -> None:
        """Nothing is latched here: an event either ends a wait or is lost."""

    def ignored(unit: Unit, _params: Params) -> None:
        # What waits for *TRG gets it as it arrives; here it is only the next command in the queue.
        if not unit.bus_triggers.execute():
            raise RefusedError(TRIGGER_IGNORED)

    return [
        *integer(
            f"{_ARM}:COUNt",
            lambda unit: unit.settings.arm_count,
            set_arm,
            low=1,
            high=MAX_READINGS,
            default=1,
            infinite=True,
        ),
        *_layer(_ARM, _ARM_SOURCES, _ARM_EVENTS, lambda triggers: triggers.arm),
        *number(
            f"{_ARM}:TIMer",
            lambda unit: unit.settings.triggers.timer_s,
            set_timer,
            low=MIN_TIMER_S,
            high=MAX_TIMER_S,
            default=0.1,
        ),
        *integer(
            f"{_TRIGGER}:COUNt",
            lambda unit: unit.settings.trigger_count,
            set_count,
            low=1,
            high=MAX_READINGS,
            default=1,
        ),
        *_layer(_TRIGGER, _TRIGGER_SOURCES, _TRIGGER_EVENTS, lambda triggers: triggers.trigger),
        *_events(
            f"{_TRIGGER}:INPut",
            _TRIGGER_EVENTS,
            lambda unit: unit.settings.triggers.trigger.inputs,
            set_inputs,
        ),
        *number(
            f"{_TRIGGER}:DELay",
            lambda unit: unit.settings.trigger_delay_s,
            set_delay,
            low=0.0,
            high=MAX_TRIGGER_DELAY_S,
            default=0.0,
        ),
        *command(":TRIGger:CLEar", clear),
        *command("*TRG", ignored),
    ]


def _read(unit: Unit, _params: Params) -> Generator[int, None, str | None]:
    if unit.settings.arm_count > MAX_READINGS:
        raise RefusedError(INFINITE_COUNT)
    if unit.settings.triggers.arm.source is EventSource.BUS:
        # SCPI: a query that waits for a trigger which cannot come before its reply was read.
        raise RefusedError(TRIGGER_DEADLOCK)
    yield from acquire(unit)
    if not unit.readings:
        # A sweep that was aborted before its first reading.
        raise RefusedError(STALE)
    yield unit.reply_ns
    return unit.format(unit.readings)


def _initiate(unit: Unit, _params: Params) -> Generator[int, None, str | None]:
    # Everything behind it waits until the unit is idle again (User's Manual 11-11), so it may as well wait here.
    yield from acquire(unit)
    return None


def _configure_for(unit: Unit, quantity: Quantity) -> None:
    """Do what makes ``:CONF`` and ``:MEAS?`` unsafe: defaults for the function, and the output goes on (17-2, 17-3).

    "All controls related to the selected function" are taken to include the compliance, as seen on a real unit, and the
    filter and the speed, which all functions share.
    """
    fresh, settings = Settings(), unit.settings
    settings.leave_ohms()
    if quantity is Quantity.CURR:
        settings.curr_sense = fresh.curr_sense
    elif quantity is Quantity.VOLT:
        settings.volt_sense = fresh.volt_sense
    else:
        settings.ohms = fresh.ohms
    settings.functions = frozenset({quantity})
    settings.nplc, settings.average, settings.autozero = fresh.nplc, fresh.average, True
    settings.average_count, settings.average_moving = fresh.average_count, fresh.average_moving
    settings.trigger_delay_s = 0.0
    settings.triggers.arm.source = settings.triggers.trigger.source = EventSource.IMMEDIATE
    settings.set_counts(1, 1)
    settings.calc2.disable()
    unit.trace.enable(on=False)
    if settings.auto_ohms:
        settings.enter_ohms()
    unit.moving.clear()
    unit.switch_output(on=True)


def _configure(quantity: Quantity) -> Callable[[Unit, Params], None]:
    def act(unit: Unit, params: Params) -> None:
        _ignore(unit, params)
        _configure_for(unit, quantity)

    return act


def _ignore(unit: Unit, params: Params) -> None:
    """Warn that expected value and resolution, which SCPI allows here, are ignored (15-15)."""
    if params:
        unit.status.questionable.latch(QuestionableEvent.COMMAND_WARNING)


def _measure(quantity: Quantity | None) -> Callable[[Unit, Params], Generator[int, None, str | None]]:
    """Return ``:MEAS?`` for a function; without one, for the first of those that are on."""

    def run(unit: Unit, params: Params) -> Generator[int, None, str | None]:
        _ignore(unit, params)
        present = [each for each in Quantity if each in unit.settings.functions]
        _configure_for(unit, quantity or (present[0] if present else Quantity.VOLT))
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
        *query(":CONFigure", listed_functions),
        (":MEASure?", Entry(None, _measure(None), Cost.OUTPUT)),
    ]
    for pattern, quantity in _MEASURED.items():
        out += command(f":CONFigure:{pattern}", _configure(quantity), most=MAX_IGNORED, cost=Cost.OUTPUT)
        out.append((f":MEASure:{pattern}?", Entry(None, _measure(quantity), Cost.OUTPUT, 0, MAX_IGNORED)))
    return out


def entries() -> Entries:
    """Return everything of this module for the command table."""
    return [*_trigger(), *_acquisition()]
