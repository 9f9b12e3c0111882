"""What becomes of a converted reading of the emulated 2400: filter, noise, resolution, status word, limits, buffers."""

from __future__ import annotations

import functools
from typing import Final

from firmware_proto.keithley2400.status import NOT_A_NUMBER, OVERFLOW, StatusWord
from hil.devices.keithley2400 import maths, noise
from hil.devices.keithley2400.limits import MEASUREMENT_BITS, judge
from hil.devices.keithley2400.output import Output
from hil.devices.keithley2400.settings import MAX_READINGS, Quantity, Settings
from hil.devices.keithley2400.status import MeasurementEvent
from hil.devices.keithley2400.unit import Reading, Unit

OVERFLOW_OF_RANGE: Final = 1.055
"""A reading above 105.5 % of its range is an overflow (User's Manual 18-49)."""
AUTO_OHMS_BIT: Final = 1 << 10
_S_PER_NS: Final = 1e-9

# Plain integers: this is the hot path, and arithmetic on flags costs a microsecond each.
_IN_COMPLIANCE: Final = int(StatusWord.COMPLIANCE | StatusWord.RANGE_COMPLIANCE)
_OVERFLOW_BIT: Final = int(StatusWord.OVERFLOW)
_COMPLIANCE_BIT: Final = int(StatusWord.COMPLIANCE)
_RANGE_COMPLIANCE_BIT: Final = int(StatusWord.RANGE_COMPLIANCE)
_OVP_BIT: Final = int(StatusWord.OVP)
_READING_AVAILABLE: Final = int(MeasurementEvent.READING_AVAILABLE)
_READING_OVERFLOW: Final = int(MeasurementEvent.READING_OVERFLOW)
_COMPLIANCE: Final = int(MeasurementEvent.COMPLIANCE)
_OVER_VOLTAGE: Final = int(MeasurementEvent.OVER_VOLTAGE_PROTECTION)


def finish(
    unit: Unit, volts: float | None, amps: float | None, stamp_ns: int, *, in_compliance: tuple[bool, bool]
) -> Reading:
    """Turn means into what is sent: filter, noise, resolution, overflow, status."""
    settings = unit.settings
    if settings.average and settings.average_moving:
        volts, amps = _moving_average(unit, volts, amps)
    shown_v, over_v = (NOT_A_NUMBER, False) if volts is None else _display(unit, volts, Quantity.VOLT)
    shown_i, over_i = (NOT_A_NUMBER, False) if amps is None else _display(unit, amps, Quantity.CURR)
    ohms = NOT_A_NUMBER
    if Quantity.RES in settings.functions:
        known = NOT_A_NUMBER not in {shown_v, shown_i}
        ohms = OVERFLOW if over_v or over_i or (known and shown_i == 0.0) else shown_v / shown_i if known else ohms
        if settings.ohms.auto and abs(ohms) > OVERFLOW_OF_RANGE * settings.ohms.range and ohms != NOT_A_NUMBER:
            ohms, over_v = OVERFLOW, True
    if Quantity.VOLT not in settings.functions:
        shown_v = settings.volt_source.present if settings.source is Quantity.VOLT else NOT_A_NUMBER
    if Quantity.CURR not in settings.functions:
        shown_i = settings.curr_source.present if settings.source is Quantity.CURR else NOT_A_NUMBER
    status = _status_word(settings, in_compliance, overflow=over_v or over_i)
    return Reading(shown_v, shown_i, ohms, (stamp_ns - unit.stamp_zero_ns) * _S_PER_NS, status)


def _moving_average(unit: Unit, volts: float | None, amps: float | None) -> tuple[float | None, float | None]:
    """Return the means of the last readings, at most the filter's count of them."""
    window = unit.moving
    window.append((volts, amps))
    while len(window) > unit.settings.average_count:
        window.popleft()
    return _mean([pair[0] for pair in window]), _mean([pair[1] for pair in window])


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _display(unit: Unit, value: float, quantity: Quantity) -> tuple[float, bool]:
    """Return the number shown for a mean, and whether it is an overflow."""
    settings = unit.settings
    amps = quantity is Quantity.CURR
    nominal = settings.measure_range(quantity)
    if unit.noise:
        sigma = (unit.current_sigma_a if amps else noise.voltage_sigma_v)(nominal, settings.nplc)
        if settings.average:
            sigma /= settings.average_count**0.5
        value += unit.rng.gauss(0.0, sigma)
    if amps and unit.converter is not None:
        value += unit.current_offset_a(nominal, settings.nplc)
    if abs(value) > OVERFLOW_OF_RANGE * nominal:
        return OVERFLOW, True
    step = (noise.CURRENT_RESOLUTION_A if amps else noise.VOLTAGE_RESOLUTION_V)[nominal]
    return noise.quantise(value, step), False


def _status_word(settings: Settings, in_compliance: tuple[bool, bool], *, overflow: bool) -> int:
    status = _settings_bits(
        settings.source,
        settings.functions,
        average=settings.average,
        front=settings.front_terminals,
        remote_sense=settings.remote_sense,
        auto_ohms=settings.auto_ohms,
        compensated=settings.ohms.compensated,
    )
    if overflow:
        status |= _OVERFLOW_BIT
    if in_compliance[0]:
        status |= _COMPLIANCE_BIT
    if in_compliance[1]:
        status |= _RANGE_COMPLIANCE_BIT
    if Output.over_voltage(settings):
        status |= _OVP_BIT
    return status


@functools.lru_cache(maxsize=256)
def _settings_bits(
    source: Quantity,
    functions: frozenset[Quantity],
    *,
    average: bool,
    front: bool,
    remote_sense: bool,
    auto_ohms: bool,
    compensated: bool,
) -> int:
    """Return the bits of the status word that only settings decide."""
    flags = (
        (average, StatusWord.FILTER),
        (front, StatusWord.FRONT),
        (Quantity.VOLT in functions, StatusWord.V_MEASURE),
        (Quantity.CURR in functions, StatusWord.I_MEASURE),
        (Quantity.RES in functions, StatusWord.OHMS_MEASURE),
        (source is Quantity.VOLT, StatusWord.V_SOURCE),
        (source is Quantity.CURR, StatusWord.I_SOURCE),
        (remote_sense, StatusWord.REMOTE_SENSE),
        (compensated, StatusWord.OFFSET_COMPENSATION),
    )
    return sum(bit.value for present, bit in flags if present) + (AUTO_OHMS_BIT if auto_ohms else 0)


def _feed(settings: Settings, reading: Reading) -> float:
    """Return the value of a reading that CALC2 is fed with."""
    feed = settings.calc2.feed
    if feed == "CALC1":
        one_by_one = settings.calc2.math_on and settings.calc2.math_name == "POWER"
        return maths.power(reading) if one_by_one else NOT_A_NUMBER
    return {"VOLT": reading.volt, "CURR": reading.curr, "RES": reading.res, "TIME": reading.time}[feed]


def store(unit: Unit, reading: Reading) -> None:
    """Judge a reading and put it into the sample buffer, the TRACe buffer and the registers."""
    if len(unit.readings) >= MAX_READINGS:
        # Only an infinite arm count gets here; the store keeps the newest.
        unit.readings.clear()
        unit.results.clear()
    result, limit_bits = NOT_A_NUMBER, 0
    calc2 = unit.settings.calc2
    if calc2.active:
        verdict = judge(calc2, _feed(unit.settings, reading), reading.stat)
        reading = reading._replace(stat=reading.stat | verdict.status)
        unit.limits.take(verdict, unit.now_ns, immediate=calc2.immediate)
        result, limit_bits = verdict.value, verdict.measurement & MEASUREMENT_BITS
    unit.readings.append(reading)
    unit.results.append(result)
    trace = unit.trace
    if trace.active:
        fed = _feed_of_calc1(unit.settings, reading) if trace.feed == "CALC1" else result
        trace.store(reading, fed)
    register = unit.status.measurement
    stat = reading.stat
    compliant = bool(stat & _IN_COMPLIANCE)
    condition = _COMPLIANCE if compliant else 0
    if stat & _OVERFLOW_BIT:
        condition |= _READING_OVERFLOW
    if stat & _OVP_BIT:
        condition |= _OVER_VOLTAGE
    register.update(condition | limit_bits | trace.bits)
    register.latch(_READING_AVAILABLE)


def _feed_of_calc1(settings: Settings, reading: Reading) -> float:
    return maths.power(reading) if settings.calc2.math_on else NOT_A_NUMBER
