"""The ohms function over the wire: ``:SENS:RES:...`` (User's Manual 18-61 to 18-65)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from firmware_proto.keithley2400.status import OVERRANGE
from hil.devices.keithley2400.entries import Entries, boolean, boolean_words, number
from hil.devices.keithley2400.errors import OUT_OF_RANGE, SETTINGS_CONFLICT, RefusedError
from hil.devices.keithley2400.ohms import RANGES_OHM
from hil.devices.keithley2400.settings import Quantity, pick_range
from hil.devices.keithley2400.unit import Unit

HEAD: Final = "[:SENSe[1]]:RESistance"
_TOP: Final = RANGES_OHM[-1] * OVERRANGE


def enter_ohms(unit: Unit) -> None:
    """Let auto ohms take the source over; one that changes its function goes off with it."""
    settings = unit.settings
    changed = settings.source is not Quantity.CURR
    settings.enter_ohms()
    if changed:
        unit.switch_output(on=False)
    unit.apply()


def leave_ohms(unit: Unit) -> None:
    """End auto ohms; the output stays as it is."""
    unit.settings.leave_ohms()
    unit.apply()


def _set_mode(unit: Unit, auto: bool) -> None:
    settings = unit.settings
    before = settings.auto_ohms
    settings.ohms.auto = auto
    if settings.auto_ohms and not before:
        enter_ohms(unit)
    elif before and not auto:
        leave_ohms(unit)


def _set_range(unit: Unit, value: float) -> None:
    ohms = unit.settings.ohms
    if not ohms.auto:
        # Manual ohms has no range of its own (18-62, note 2). Its autorange may be set, for all the manual says.
        raise RefusedError(SETTINGS_CONFLICT)
    ohms.range, ohms.auto_range = pick_range(RANGES_OHM, value), False
    if unit.settings.auto_ohms:
        enter_ohms(unit)


def _set_auto(unit: Unit, on: bool) -> None:
    unit.settings.ohms.auto_range = on


def _set_compensated(unit: Unit, on: bool) -> None:
    unit.settings.ohms.compensated = on


def _set_lower(unit: Unit, value: float) -> None:
    ohms, nominal = unit.settings.ohms, pick_range(RANGES_OHM, value)
    if nominal > ohms.upper:
        raise RefusedError(OUT_OF_RANGE)
    ohms.lower = nominal


def _set_upper(unit: Unit, value: float) -> None:
    ohms, nominal = unit.settings.ohms, pick_range(RANGES_OHM, value)
    if nominal < ohms.lower:
        raise RefusedError(OUT_OF_RANGE)
    ohms.upper = nominal


def _neighbour(step: int) -> Callable[[Unit], float]:
    def value(unit: Unit) -> float:
        index = RANGES_OHM.index(unit.settings.ohms.range) + step
        return RANGES_OHM[max(0, min(len(RANGES_OHM) - 1, index))]

    return value


def entries() -> Entries:
    """Return everything of this module for the command table."""
    return [
        *boolean_words(f"{HEAD}:MODE", ("MANual", "AUTO"), lambda unit: unit.settings.ohms.auto, _set_mode),
        *boolean(f"{HEAD}:OCOMpensated", lambda unit: unit.settings.ohms.compensated, _set_compensated),
        *number(
            f"{HEAD}:RANGe[:UPPer]",
            lambda unit: unit.settings.ohms.range * OVERRANGE,
            _set_range,
            low=0.0,
            high=_TOP,
            default=2.1e5,
            extra={"UP": _neighbour(1), "DOWN": _neighbour(-1)},
        ),
        *boolean(f"{HEAD}:RANGe:AUTO", lambda unit: unit.settings.ohms.auto_range, _set_auto),
        *number(
            f"{HEAD}:RANGe:AUTO:LLIMit",
            lambda unit: unit.settings.ohms.lower * OVERRANGE,
            _set_lower,
            low=-_TOP,
            high=_TOP,
            default=RANGES_OHM[0] * OVERRANGE,
        ),
        *number(
            f"{HEAD}:RANGe:AUTO:ULIMit",
            lambda unit: unit.settings.ohms.upper * OVERRANGE,
            _set_upper,
            low=-_TOP,
            high=_TOP,
            default=_TOP,
        ),
    ]
