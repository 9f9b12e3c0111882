"""The trigger model of the emulated 2400 and what one reading is.

A reading runs: trigger latency, trigger delay, source delay, then per measured quantity the apertures. With autozero
each quantity takes three apertures, zero and reference first, the signal last (their order in a real unit is not
documented); without, one. A repeating filter of N makes every aperture N times as long, which is what N readings in
a row integrate. The value is the mean over the signal aperture: charge that flowed, divided by its length.
"""

from __future__ import annotations

import functools
from collections.abc import Generator
from typing import Final

from firmware_proto.keithley2400.status import NOT_A_NUMBER, OVERFLOW, ErrorCode, StatusWord
from hil.devices.keithley2400 import noise
from hil.devices.keithley2400.errors import RefusedError
from hil.devices.keithley2400.output import Output
from hil.devices.keithley2400.settings import MAX_READINGS, Quantity, SenseAxis, Settings, pick_range
from hil.devices.keithley2400.status import MeasurementEvent
from hil.devices.keithley2400.timing import Timing, nanoseconds
from hil.devices.keithley2400.unit import Reading, Unit

Steps = Generator[int, None, None]
"""Work that takes time: yields durations in ns and goes on when they are over."""

OVERFLOW_OF_RANGE: Final = 1.055
"""A reading above 105.5 % of its range is an overflow (User's Manual 18-49)."""
_MAX_RANGE_CHANGES: Final = 3
_S_PER_NS: Final = 1e-9


def acquire(unit: Unit) -> Steps:
    """Run the trigger model once through and leave its readings in ``unit.readings``.

    Raises:
        RefusedError: +803, the output is off and ``:SOUR:CLE:AUTO`` does not switch it.
    """
    settings = unit.settings
    if not unit.output.on and not settings.auto_clear:
        raise RefusedError(ErrorCode.NOT_PERMITTED_WITH_OUTPUT_OFF)
    unit.acquiring = True
    unit.readings = []
    arms = 0
    try:
        while arms < settings.arm_count:
            arms += 1
            for _ in range(settings.trigger_count):
                yield from _reading(unit)
    finally:
        # Also when an abort closes the generator.
        unit.acquiring = False
        if settings.auto_clear and unit.output.on:
            unit.switch_output(on=False)


def aperture_ns(unit: Unit) -> int:
    """Return the length of one aperture: NPLC times the mains period, times the repeating filter's count."""
    settings = unit.settings
    count = settings.average_count if settings.average and not settings.average_moving else 1
    return max(1, nanoseconds(settings.nplc * count / unit.line_freq_hz))


@functools.lru_cache(maxsize=64)
def _auto_delay_ns(timing: Timing, source: Quantity, sense_range: float) -> int:
    if source is Quantity.VOLT and sense_range <= 1e-6:
        return nanoseconds(timing.auto_delay_1ua_s)
    if source is Quantity.VOLT and sense_range <= 1e-5:
        return nanoseconds(timing.auto_delay_10ua_s)
    return nanoseconds(timing.auto_delay_s)


def _lead_ns(unit: Unit) -> int:
    """Return the time from a trigger to its first aperture."""
    settings, timing = unit.settings, unit.timing
    if settings.source_delay_auto:
        delay = _auto_delay_ns(timing, settings.source, settings.curr_sense.range)
    else:
        delay = nanoseconds(settings.source_delay_s)
    return nanoseconds(timing.trigger_latency_s) + nanoseconds(settings.trigger_delay_s) + delay


def _reading(unit: Unit) -> Steps:
    """Take one reading, with as many range changes as autorange needs."""
    settings, output = unit.settings, unit.output
    if settings.auto_clear:
        unit.switch_output(on=True)
        yield nanoseconds(unit.timing.auto_output_settle_s)
    yield _lead_ns(unit)
    volts: float | None = None
    amps: float | None = None
    output.advance(unit.now_ns)
    real, ranged = output.compliance(settings)
    stamp_ns = unit.now_ns
    if settings.wants_volts:
        volts = yield from _convert(unit, amps=False)
    if settings.wants_amps or not settings.wants_volts:
        # With every function off the converter still runs; nothing of it is reported.
        amps = yield from _convert(unit, amps=True)
    end_real, end_ranged = output.compliance(settings)
    reading = _finish(unit, volts, amps, stamp_ns, in_compliance=(real or end_real, ranged or end_ranged))
    _store(unit, reading)
    yield nanoseconds(unit.timing.conversion_s)
    if settings.auto_clear:
        unit.switch_output(on=False)


def _convert(unit: Unit, *, amps: bool) -> Generator[int, None, float | None]:
    """Return the mean current or voltage over an aperture on a range that holds it; None where it is unknowable."""
    axis = unit.settings.curr_sense if amps else unit.settings.volt_sense
    value: float | None = None
    for _ in range(_MAX_RANGE_CHANGES):
        value = yield from _aperture(unit, amps=amps)
        if not axis.auto_range or value is None:
            break
        fitting = _fitting_range(axis, value)
        if fitting == axis.range:
            break
        axis.range = fitting
        yield nanoseconds(unit.timing.autorange_s)
    return value


def _fitting_range(axis: SenseAxis, value: float) -> float:
    """Return where autorange goes for a value: the smallest range that holds it, at most the compliance range."""
    largest = axis.widest
    return largest if abs(value) > largest else min(pick_range(axis.ranges, value), largest)


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


def _finish(
    unit: Unit, volts: float | None, amps: float | None, stamp_ns: int, *, in_compliance: tuple[bool, bool]
) -> Reading:
    """Turn means into what is sent: filter, noise, resolution, overflow, status."""
    settings = unit.settings
    if settings.average and settings.average_moving:
        volts, amps = _moving_average(unit, volts, amps)
    shown_v, over_v = _display(unit, settings.volt_sense, volts, amps=False)
    shown_i, over_i = _display(unit, settings.curr_sense, amps, amps=True)
    ohms = NOT_A_NUMBER
    if Quantity.RES in settings.functions:
        known = NOT_A_NUMBER not in {shown_v, shown_i}
        ohms = OVERFLOW if over_v or over_i or (known and shown_i == 0.0) else shown_v / shown_i if known else ohms
    if Quantity.VOLT not in settings.functions:
        shown_v = settings.volt_source.level if settings.source is Quantity.VOLT else NOT_A_NUMBER
    if Quantity.CURR not in settings.functions:
        shown_i = settings.curr_source.level if settings.source is Quantity.CURR else NOT_A_NUMBER
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


def _display(unit: Unit, axis: SenseAxis, value: float | None, *, amps: bool) -> tuple[float, bool]:
    """Return the number shown for a mean, and whether it is an overflow."""
    if value is None:
        return NOT_A_NUMBER, False
    settings = unit.settings
    if unit.noise:
        sigma = (noise.current_sigma_a if amps else noise.voltage_sigma_v)(axis.range, settings.nplc)
        if settings.average:
            sigma /= settings.average_count**0.5
        value += unit.rng.gauss(0.0, sigma)
    if abs(value) > OVERFLOW_OF_RANGE * axis.range:
        return OVERFLOW, True
    step = (noise.CURRENT_RESOLUTION_A if amps else noise.VOLTAGE_RESOLUTION_V)[axis.range]
    return noise.quantise(value, step), False


def _status_word(settings: Settings, in_compliance: tuple[bool, bool], *, overflow: bool) -> int:
    flags = (
        (overflow, StatusWord.OVERFLOW),
        (settings.average, StatusWord.FILTER),
        (settings.front_terminals, StatusWord.FRONT),
        (in_compliance[0], StatusWord.COMPLIANCE),
        (in_compliance[1], StatusWord.RANGE_COMPLIANCE),
        (Output.over_voltage(settings), StatusWord.OVP),
        (Quantity.VOLT in settings.functions, StatusWord.V_MEASURE),
        (Quantity.CURR in settings.functions, StatusWord.I_MEASURE),
        (Quantity.RES in settings.functions, StatusWord.OHMS_MEASURE),
        (settings.source is Quantity.VOLT, StatusWord.V_SOURCE),
        (settings.source is Quantity.CURR, StatusWord.I_SOURCE),
        (settings.remote_sense, StatusWord.REMOTE_SENSE),
    )
    return sum(bit.value for present, bit in flags if present)


def _store(unit: Unit, reading: Reading) -> None:
    if len(unit.readings) >= MAX_READINGS:
        # Only an infinite arm count gets here; the store keeps the newest.
        unit.readings.clear()
    unit.readings.append(reading)
    register = unit.status.measurement
    compliant = bool(reading.stat & (StatusWord.COMPLIANCE | StatusWord.RANGE_COMPLIANCE))
    if compliant and unit.queue_status_messages and not register.condition & MeasurementEvent.COMPLIANCE:
        unit.status.push(ErrorCode.IN_COMPLIANCE)
    condition = int(MeasurementEvent.COMPLIANCE) if compliant else 0
    if reading.stat & StatusWord.OVERFLOW:
        condition |= MeasurementEvent.READING_OVERFLOW
    register.update(condition)
    register.event |= MeasurementEvent.READING_AVAILABLE
