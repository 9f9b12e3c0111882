"""The trigger model of the emulated 2400, and the order of what happens in one reading.

A reading runs: arm and trigger events, trigger latency, trigger delay, source action, source delay, then the converter
(:mod:`hil.devices.keithley2400.converter`) once per measured quantity.

The source action sets the next level of a sweep or list, or a level of ``:SOUR:VOLT:TRIG``; a fixed source has none.
"""

from __future__ import annotations

import functools
from collections.abc import Generator
from typing import Final

from firmware_proto.keithley2400.status import OVERRANGE, ErrorCode, OutputOff
from hil.devices.keithley2400.converter import aperture_ns, convert, convert_ohms
from hil.devices.keithley2400.errors import RefusedError
from hil.devices.keithley2400.reading import finish, store
from hil.devices.keithley2400.settings import Quantity, Settings, pick_range
from hil.devices.keithley2400.status import OperationEvent
from hil.devices.keithley2400.sweep import ComplianceAbort, Ranging, SourceMode, custom, staircase
from hil.devices.keithley2400.timing import Timing, nanoseconds
from hil.devices.keithley2400.triggers import BYPASSABLE, EventSource, wait_for, wait_for_timer
from hil.devices.keithley2400.unit import IDLE, Unit

__all__ = ["acquire", "aperture_ns", "sweep_levels"]

Steps = Generator[int, None, None]
"""Work that takes time: yields durations in ns and goes on when they are over."""
Levels = tuple[float, ...]

_SWEEPING: Final = int(OperationEvent.SWEEPING)
_WAITING_FOR_ARM: Final = int(OperationEvent.WAITING_FOR_ARM)
_WAITING_FOR_TRIGGER: Final = int(OperationEvent.WAITING_FOR_TRIGGER)


def acquire(unit: Unit) -> Steps:
    """Run the trigger model once through and leave its readings in ``unit.readings``.

    Raises:
        RefusedError: +803, the output is off and ``:SOUR:CLE:AUTO`` does not switch it; -221, a sweep that cannot be
            (:mod:`hil.devices.keithley2400.sweep`); -222, a level that no source range holds; +826, too much power.
    """
    settings = unit.settings
    # In the ZERO off state the unit goes on measuring and serves as an ammeter (13-10).
    if not (unit.output.on or settings.auto_clear or settings.output_off is OutputOff.ZERO):
        raise RefusedError(ErrorCode.NOT_PERMITTED_WITH_OUTPUT_OFF)
    levels = sweep_levels(settings)
    unit.acquiring = True
    unit.readings = []
    unit.results = []
    if settings.stamp_auto_reset:
        unit.stamp_zero_ns = unit.now_ns
    if settings.calc2.auto_clear:
        unit.limits.clear()
    operation = unit.status.operation
    operation.update(0 if levels is None else _SWEEPING)
    try:
        if levels is None and settings.triggers.immediate and not settings.auto_clear:
            yield from _immediate(unit)
        else:
            yield from _triggered(unit, levels)
    finally:
        # Also when an abort closes the generator.
        unit.acquiring = False
        operation.update(IDLE)
        if settings.auto_clear and unit.output.on:
            unit.switch_output(on=False)
        if settings.calc2.active and settings.calc2.tests and unit.readings:
            unit.limits.finish(unit.now_ns, settings.calc2.pass_pattern)


def sweep_levels(settings: Settings) -> Levels | None:
    """Return the levels of the sweep or list of the present source, or None for a fixed one."""
    axis = settings.source_axis()
    mode = axis.extras.mode
    if mode is SourceMode.FIXED or settings.auto_ohms:
        return None
    make = staircase if mode is SourceMode.SWEEP else custom
    levels = make(axis.extras.shape, settings.sweep)
    if settings.sweep.ranging is Ranging.FIXED:
        top = axis.range * OVERRANGE
        return tuple(max(-top, min(top, level)) for level in levels)
    before, axis.range = axis.range, pick_range(axis.ranges, max(map(abs, levels)))
    try:
        settings.refuse_power()
    except RefusedError:
        axis.range = before
        raise
    if settings.sweep.ranging is Ranging.AUTO:
        axis.range = before
    return levels


def _immediate(unit: Unit) -> Steps:
    """Take all readings at a fixed level, one directly behind the other."""
    settings = unit.settings
    arms = 0
    while arms < settings.arm_count:
        arms += 1
        for _ in range(settings.trigger_count):
            yield from _reading(unit)


def _triggered(unit: Unit, levels: Levels | None) -> Steps:
    """Take all readings, waiting for events, stepping through levels, switching the output."""
    settings = unit.settings
    arms = taken = 0
    tick_ns = unit.now_ns
    base = 0 if levels is None else _SWEEPING
    while arms < settings.arm_count:
        tick_ns = yield from _arm(unit, tick_ns, base, first=arms == 0)
        arms += 1
        for index in range(settings.trigger_count):
            yield from _wait_for_trigger(unit, base, first=index == 0)
            if settings.auto_clear and not unit.output.on:
                unit.switch_output(on=True)
                yield nanoseconds(unit.timing.auto_output_settle_s)
            level = None if levels is None else levels[taken % len(levels)]
            taken += 1
            if (yield from _reading(unit, level)):
                return
            if settings.auto_clear and not settings.auto_clear_per_count:
                unit.switch_output(on=False)
        if settings.auto_clear and settings.auto_clear_per_count:
            unit.switch_output(on=False)


def _arm(unit: Unit, tick_ns: int, base: int, *, first: bool) -> Generator[int, None, int]:
    """Wait for the event of the arm layer; return when its timer ticked last."""
    layer = unit.settings.triggers.arm
    if layer.source is EventSource.IMMEDIATE or (first and layer.bypass and layer.source in BYPASSABLE):
        return tick_ns
    if layer.source is EventSource.TIMER and first:
        return unit.now_ns
    operation = unit.status.operation
    operation.update(base | _WAITING_FOR_ARM)
    if layer.source is EventSource.TIMER:
        tick_ns = yield from wait_for_timer(unit, tick_ns)
    else:
        yield from wait_for(unit, layer.source)
    operation.update(base)
    return tick_ns


def _wait_for_trigger(unit: Unit, base: int, *, first: bool) -> Steps:
    layer = unit.settings.triggers.trigger
    if layer.source is EventSource.IMMEDIATE or (first and layer.bypass) or "SOUR" not in layer.inputs:
        return
    operation = unit.status.operation
    operation.update(base | _WAITING_FOR_TRIGGER)
    yield from wait_for(unit, layer.source)
    operation.update(base)


@functools.lru_cache(maxsize=64)
def _auto_delay_ns(timing: Timing, source: Quantity, sense_range: float) -> int:
    if source is Quantity.VOLT and sense_range <= 1e-6:
        return nanoseconds(timing.auto_delay_1ua_s)
    if source is Quantity.VOLT and sense_range <= 1e-5:
        return nanoseconds(timing.auto_delay_10ua_s)
    return nanoseconds(timing.auto_delay_s)


def _source_delay_ns(unit: Unit) -> int:
    settings = unit.settings
    if settings.source_delay_auto:
        return _auto_delay_ns(unit.timing, settings.source, settings.curr_sense.range)
    return nanoseconds(settings.source_delay_s)


def _trigger_ns(unit: Unit) -> int:
    """Return the time from a trigger to the source action."""
    delay_s = unit.settings.trigger_delay_s
    return unit.trigger_latency_ns + (nanoseconds(delay_s) if delay_s else 0)


def _source_action(unit: Unit, level: float | None) -> None:
    """Bring the next level to the terminals."""
    settings = unit.settings
    axis = settings.source_axis()
    if level is None:
        triggered = axis.extras.triggered
        if triggered is not None:
            axis.set_level(triggered)
    else:
        axis.extras.swept = level
        if settings.sweep.ranging is Ranging.AUTO:
            axis.range = pick_range(axis.ranges, level)
    unit.apply()


def _reading(unit: Unit, level: float | None = None) -> Generator[int, None, bool]:
    """Take one reading, with as many range changes as autorange needs.

    Returns whether the sweep is to end because of compliance; one that ends early has no reading of its last level.
    """
    settings, output = unit.settings, unit.output
    upset = unit.upset
    if upset is not None and (more_ns := upset.before(unit)):
        yield more_ns
    if level is None and settings.source_axis().extras.triggered is None:
        yield _trigger_ns(unit) + _source_delay_ns(unit)
    else:
        yield _trigger_ns(unit)
        _source_action(unit, level)
        if level is not None and settings.sweep.abort is ComplianceAbort.EARLY and _compliant(unit):
            return True
        yield _source_delay_ns(unit)
    volts: float | None = None
    amps: float | None = None
    output.advance(unit.now_ns)
    real, ranged = output.compliance(settings)
    stamp_ns = unit.now_ns
    if settings.auto_ohms:
        volts, amps = yield from convert_ohms(unit)
    else:
        if settings.wants_volts:
            volts = yield from convert(unit, amps=False)
        if settings.wants_amps or not settings.wants_volts:
            # With every function off the converter still runs; nothing of it is reported.
            amps = yield from convert(unit, amps=True)
    end_real, end_ranged = output.compliance(settings)
    reading = finish(unit, volts, amps, stamp_ns, in_compliance=(real or end_real, ranged or end_ranged))
    if upset is not None:
        reading = upset.after(unit, reading)
    store(unit, reading)
    yield unit.conversion_ns
    return level is not None and settings.sweep.abort is ComplianceAbort.LATE and _compliant(unit)


def _compliant(unit: Unit) -> bool:
    unit.output.advance(unit.now_ns)
    return any(unit.output.compliance(unit.settings))
