"""The converter of the emulated 2400: one mean over an aperture, on a range that holds it.

With autozero each quantity takes three apertures, zero and reference first, the signal last (their order in a real unit
is not documented); without, one. A repeating filter of N makes every aperture N times as long, which is what N readings
in a row integrate. The value is the mean over the signal aperture: charge that flowed, divided by its length.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from firmware_proto.keithley2400.status import OVERRANGE
from hil.devices.keithley2400.ohms import RANGES_OHM
from hil.devices.keithley2400.settings import Quantity, SenseAxis, pick_range
from hil.devices.keithley2400.timing import nanoseconds
from hil.devices.keithley2400.unit import Unit

_MAX_RANGE_CHANGES: Final = 3
_MAX_OHM_CHANGES: Final = len(RANGES_OHM)
_S_PER_NS: Final = 1e-9


def aperture_ns(unit: Unit) -> int:
    """Return the length of one aperture: NPLC times the mains period, times the repeating filter's count."""
    settings = unit.settings
    count = settings.average_count if settings.average and not settings.average_moving else 1
    return max(1, nanoseconds(settings.nplc * count / unit.line_freq_hz))


def convert(unit: Unit, *, amps: bool) -> Generator[int, None, float | None]:
    """Return the mean current or voltage over an aperture on a range that holds it; None where it is unknowable."""
    settings = unit.settings
    axis = settings.curr_sense if amps else settings.volt_sense
    value: float | None = None
    for _ in range(_MAX_RANGE_CHANGES):
        value = yield from _aperture(unit, amps=amps)
        if not axis.auto_range or value is None or settings.source is (Quantity.CURR if amps else Quantity.VOLT):
            break
        fitting = _fitting_range(axis, value)
        if fitting == axis.range:
            break
        axis.range = fitting
        unit.apply()
        yield nanoseconds(unit.timing.autorange_s)
    return value


def _fitting_range(axis: SenseAxis, value: float) -> float:
    """Return where autorange goes for a value: the smallest range that holds it, between lower limit and compliance."""
    largest = axis.widest
    return largest if abs(value) > largest else min(max(pick_range(axis.ranges, value), axis.lower), largest)


def convert_ohms(unit: Unit) -> Generator[int, None, tuple[float | None, float | None]]:
    """Return mean voltage and current of auto ohms, on the range that fits; each change brings another test current."""
    ohms = unit.settings.ohms
    volts = amps = None
    for _ in range(_MAX_OHM_CHANGES):
        volts = yield from _aperture(unit, amps=False)
        amps = yield from _aperture(unit, amps=True)
        if not ohms.auto_range or volts is None or amps is None:
            break
        value = abs(volts / amps) if amps else float("inf")
        wanted = next((nominal for nominal in RANGES_OHM if value <= nominal * OVERRANGE), RANGES_OHM[-1])
        wanted = max(ohms.lower, min(ohms.upper, wanted))
        if wanted == ohms.range:
            break
        ohms.range = wanted
        unit.settings.enter_ohms()
        unit.apply()
        yield nanoseconds(unit.timing.autorange_s)
    return volts, amps


def _aperture(unit: Unit, *, amps: bool) -> Generator[int, None, float | None]:
    length = aperture_ns(unit)
    if unit.settings.autozero:
        yield 2 * length
    output = unit.output
    output.advance(unit.now_ns)
    before = output.charge_c if amps else output.voltage_v()
    yield length
    output.advance(unit.now_ns)
    after = output.charge_c if amps else output.voltage_v()
    if before is None or after is None:
        return None
    return (after - before) / (length * _S_PER_NS) if amps else (before + after) / 2
