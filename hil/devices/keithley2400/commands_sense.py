"""SENSe of the emulated 2400: functions, ranges, compliance, speed, filter. The ohms function is in commands_ohms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from firmware_proto.keithley2400.status import OVERRANGE
from firmware_proto.scpi import ParamKind, ScpiError, format_nr3, spellings
from firmware_proto.scpi.errors import INVALID_CHARACTER_DATA
from hil.devices.keithley2400 import commands_ohms
from hil.devices.keithley2400.entries import (
    MAX_LIST,
    Entries,
    Entry,
    Params,
    boolean,
    choice,
    command,
    integer,
    number,
    query,
)
from hil.devices.keithley2400.errors import OUT_OF_RANGE, SETTINGS_CONFLICT, RefusedError
from hil.devices.keithley2400.noise import NPLC_MAX, NPLC_MIN
from hil.devices.keithley2400.settings import Quantity, SenseAxis, Settings, pick_range
from hil.devices.keithley2400.unit import Cost, Unit

MAX_AVERAGE: Final = 100
MAX_HOLDOFF_S: Final = 999.9999
_FUNCTIONS: Final = {"VOLTage": Quantity.VOLT, "CURRent": Quantity.CURR, "RESistance": Quantity.RES}
_NAMES: Final = {Quantity.VOLT: '"VOLT:DC"', Quantity.CURR: '"CURR:DC"', Quantity.RES: '"RES"'}


@dataclass(frozen=True, slots=True)
class _Measured:
    """One of the two measurements, as its commands see it; ``largest`` value in V or A."""

    node: str
    quantity: Quantity
    pick: Callable[[Settings], SenseAxis]
    largest: float

    @property
    def head(self) -> str:
        return f"[:SENSe[1]]:{self.node}[:DC]"

    @property
    def reset(self) -> SenseAxis:
        return self.pick(Settings())

    def axis(self, unit: Unit) -> SenseAxis:
        return self.pick(unit.settings)

    def refuse_sourced(self, unit: Unit) -> None:
        # What is sourced is measured on the source range (User's Manual 18-62, note 1).
        if unit.settings.source is self.quantity:
            raise RefusedError(SETTINGS_CONFLICT)
        unit.settings.refuse_auto_ohms()

    @staticmethod
    def changed(unit: Unit) -> None:
        unit.moving.clear()
        unit.apply()

    # Range

    def set_range(self, unit: Unit, value: float) -> None:
        self.refuse_sourced(unit)
        self.axis(unit).set_range(value)
        self.changed(unit)

    def set_auto(self, unit: Unit, on: bool) -> None:
        if on:
            self.refuse_sourced(unit)
        self.axis(unit).auto_range = on
        self.changed(unit)

    def neighbour(self, step: int) -> Callable[[Unit], float]:
        def value(unit: Unit) -> float:
            ranges = self.axis(unit).ranges
            index = ranges.index(self.axis(unit).range) + step
            return ranges[max(0, min(len(ranges) - 1, index))]

        return value

    # Compliance

    def set_protection(self, unit: Unit, value: float) -> None:
        unit.settings.refuse_auto_ohms()
        own = self.axis(unit)
        before = own.protection, own.range
        own.set_protection(value)
        try:
            unit.settings.refuse_power()
        except RefusedError:
            own.protection, own.range = before
            raise
        self.changed(unit)

    def set_synchronised(self, unit: Unit, on: bool) -> None:
        self.axis(unit).synchronised = on

    def tripped(self, unit: Unit) -> str:
        unit.output.advance(unit.now_ns)
        real, _ = unit.output.compliance(unit.settings)
        return "1" if real and unit.settings.source is not self.quantity else "0"

    # Limits of autorange

    def set_lower(self, unit: Unit, value: float) -> None:
        nominal = pick_range(self.axis(unit).ranges, value)
        if nominal > self.axis(unit).widest:
            raise RefusedError(OUT_OF_RANGE)
        self.axis(unit).lower = nominal

    def lower(self, unit: Unit) -> float:
        return max(self.axis(unit).lower, self.axis(unit).ranges[0]) * OVERRANGE

    def compliance_range(self, unit: Unit) -> str:
        return format_nr3(self.axis(unit).widest * OVERRANGE)

    def set_holdoff(self, unit: Unit, on: bool) -> None:
        self.axis(unit).holdoff = on

    def set_holdoff_delay(self, unit: Unit, delay_s: float) -> None:
        self.axis(unit).holdoff_s = delay_s


def _axis(measured: _Measured) -> Entries:
    """Return range and compliance of one measurement."""
    head, axis, reset, largest = measured.head, measured.axis, measured.reset, measured.largest
    return [
        *number(
            f"{head}:RANGe[:UPPer]",
            lambda unit: unit.settings.measure_range(measured.quantity) * OVERRANGE,
            measured.set_range,
            low=-largest,
            high=largest,
            default=reset.range * OVERRANGE,
            extra={"UP": measured.neighbour(1), "DOWN": measured.neighbour(-1)},
        ),
        *boolean(f"{head}:RANGe:AUTO", lambda unit: axis(unit).auto_range, measured.set_auto),
        *number(
            f"{head}:PROTection[:LEVel]",
            lambda unit: axis(unit).protection,
            measured.set_protection,
            low=-largest,
            high=largest,
            default=reset.protection,
        ),
        *query(f"{head}:PROTection:TRIPped", measured.tripped),
        *boolean(f"{head}:PROTection:RSYNchronize", lambda unit: axis(unit).synchronised, measured.set_synchronised),
        *query(f"{head}:RANGe:AUTO:ULIMit", measured.compliance_range),
        *number(
            f"{head}:RANGe:AUTO:LLIMit",
            measured.lower,
            measured.set_lower,
            low=-largest,
            high=largest,
            default=reset.ranges[0] * OVERRANGE,
        ),
        *boolean(f"{head}:RANGe:HOLDoff", lambda unit: axis(unit).holdoff, measured.set_holdoff),
        *number(
            f"{head}:RANGe:HOLDoff:DELay",
            lambda unit: axis(unit).holdoff_s,
            measured.set_holdoff_delay,
            low=0.0,
            high=MAX_HOLDOFF_S,
            default=0.0,
        ),
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


def listed_functions(unit: Unit) -> str:
    """Return the functions that are on, as ``:SENS:FUNC?`` and ``:CONF?`` send them."""
    return _listed(unit.settings.functions)


def _listed(functions: frozenset[Quantity]) -> str:
    return ",".join(text for quantity, text in _NAMES.items() if quantity in functions) or '""'


def _choose_functions(unit: Unit, functions: frozenset[Quantity]) -> None:
    """Measure these; the ohms function may take the source over."""
    settings = unit.settings
    before = settings.auto_ohms
    settings.functions = functions
    unit.moving.clear()
    if settings.auto_ohms and not before:
        commands_ohms.enter_ohms(unit)
    elif before and not settings.auto_ohms:
        commands_ohms.leave_ohms(unit)


def _enable(unit: Unit, params: Params) -> None:
    chosen, settings = _function_of(params), unit.settings
    if not settings.concurrent and len(chosen) > 1:
        raise RefusedError(SETTINGS_CONFLICT)
    _choose_functions(unit, chosen | settings.functions if settings.concurrent else chosen)


def _enable_all(unit: Unit, _params: Params) -> None:
    if not unit.settings.concurrent:
        raise RefusedError(SETTINGS_CONFLICT)
    _choose_functions(unit, frozenset(Quantity))


def _disable(unit: Unit, params: Params) -> None:
    _choose_functions(unit, unit.settings.functions - _function_of(params))


def _disable_all(unit: Unit, _params: Params) -> None:
    _choose_functions(unit, frozenset())


def _set_concurrent(unit: Unit, on: bool) -> None:
    settings = unit.settings
    settings.concurrent = on
    if not on and len(settings.functions) > 1:
        settings.functions = frozenset({min(settings.functions, key=list(_NAMES).index)})
        unit.moving.clear()


def _function_state(unit: Unit, params: Params) -> str:
    return "1" if _function_of(params) <= unit.settings.functions else "0"


def _functions() -> Entries:
    head = "[:SENSe[1]]:FUNCtion"
    return [
        *command(f"{head}[:ON]", _enable, least=1, most=MAX_LIST),
        *query(f"{head}[:ON]", listed_functions),
        *command(f"{head}[:ON]:ALL", _enable_all),
        *query(f"{head}[:ON]:COUNt", lambda unit: str(len(unit.settings.functions))),
        *command(f"{head}:OFF", _disable, least=1, most=MAX_LIST),
        *query(f"{head}:OFF", lambda unit: _listed(frozenset(Quantity) - unit.settings.functions)),
        *command(f"{head}:OFF:ALL", _disable_all),
        *query(f"{head}:OFF:COUNt", lambda unit: str(len(Quantity) - len(unit.settings.functions))),
        (f"{head}:STATe?", Entry(_function_state, None, Cost.QUERY, 1, 1)),
        *boolean(f"{head}:CONCurrent", lambda unit: unit.settings.concurrent, _set_concurrent),
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
    """Return everything of this module, and of the ohms function, for the command table."""
    return [
        *_axis(_Measured("VOLTage", Quantity.VOLT, lambda settings: settings.volt_sense, 210.0)),
        *_axis(_Measured("CURRent", Quantity.CURR, lambda settings: settings.curr_sense, 1.05)),
        *commands_ohms.entries(),
        *_nplc(commands_ohms.HEAD),
        *_functions(),
        *_filter(),
    ]
