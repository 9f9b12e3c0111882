"""What can be set on the emulated 2400, with its ``*RST`` values, and the rules that tie settings together."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from firmware_proto.keithley2400.status import (
    CURRENT_RANGES_A,
    ELEMENT_ORDER,
    MIN_PROTECTION_OF_RANGE,
    OVERRANGE,
    VOLTAGE_RANGES_V,
    ErrorCode,
    OutputOff,
)
from hil.devices.keithley2400.errors import OUT_OF_RANGE, SETTINGS_CONFLICT, RefusedError

_TOLERANCE: Final = 1e-9
"""Relative slack of comparisons, so that 105 % of a range still fits it in binary floating point."""
MAX_READINGS: Final = 2500
"""Bound of arm count times trigger count, and of the reading store."""
VOLTAGE_LIMITS_V: Final = (20.0, 40.0, 60.0, 80.0, 100.0, 120.0, 160.0, 210.0)
"""Steps of ``:SOUR:VOLT:PROT``; the last is NONE."""


class Quantity(enum.Enum):
    """What is sourced or measured."""

    VOLT = "VOLT"
    CURR = "CURR"
    RES = "RES"


def pick_range(ranges: Sequence[float], value: float) -> float:
    """Return the smallest nominal range whose 105 % holds ``value`` (its magnitude).

    Raises:
        RefusedError: -222, none does.
    """
    magnitude = abs(value)
    for nominal in ranges:
        if magnitude <= nominal * OVERRANGE * (1 + _TOLERANCE):
            return nominal
    raise RefusedError(OUT_OF_RANGE)


@dataclass(slots=True)
class SourceAxis:
    """A source: level and range in V or A. ``range`` is nominal; the level may reach 105 % of it."""

    ranges: tuple[float, ...]
    range: float
    level: float = 0.0
    auto_range: bool = True

    def set_level(self, level: float) -> None:
        """Take a new level; refuse -222 what the fixed range, or with autorange the largest, does not hold."""
        if self.auto_range:
            self.range = pick_range(self.ranges, level)
        elif abs(level) > self.range * OVERRANGE * (1 + _TOLERANCE):
            raise RefusedError(OUT_OF_RANGE)
        self.level = level

    def set_range(self, value: float) -> None:
        """Fix the smallest range that holds ``value``; refuse -221 one that does not hold the present level."""
        nominal = pick_range(self.ranges, value)
        if abs(self.level) > nominal * OVERRANGE * (1 + _TOLERANCE):
            raise RefusedError(SETTINGS_CONFLICT)
        self.range = nominal
        self.auto_range = False


@dataclass(slots=True)
class SenseAxis:
    """A measurement with its compliance, in V or A. ``range`` is nominal; 105 % of it is readable."""

    ranges: tuple[float, ...]
    range: float
    protection: float
    auto_range: bool = True

    @property
    def clamp(self) -> float:
        """Where the source is held: at the protection, or at 105 % of a fixed range when that is less."""
        return self.protection if self.auto_range else min(self.protection, self.range * OVERRANGE)

    @property
    def clamp_is_real(self) -> bool:
        """Whether reaching the clamp is real compliance (the protection) rather than range compliance."""
        return self.auto_range or self.protection <= self.range * OVERRANGE * (1 + _TOLERANCE)

    @property
    def widest(self) -> float:
        """The compliance range: the widest that may be measured with the present protection (UM 18-62, note 3)."""
        return pick_range(self.ranges, self.protection)

    def set_range(self, value: float) -> None:
        """Fix the smallest range that holds ``value``; refuse +824, and stay, above the compliance range."""
        nominal = pick_range(self.ranges, value)
        if nominal > self.widest:
            raise RefusedError(ErrorCode.CANNOT_EXCEED_COMPLIANCE_RANGE)
        self.range = nominal
        self.auto_range = False

    def set_protection(self, value: float) -> None:
        """Take a compliance; refuse -222 above 105 % of the largest range, +822 below 0.1 % of the present one."""
        magnitude = abs(value)
        pick_range(self.ranges, magnitude)
        if magnitude < self.range * MIN_PROTECTION_OF_RANGE * (1 - _TOLERANCE):
            raise RefusedError(ErrorCode.TOO_SMALL_FOR_SENSE_RANGE)
        self.protection = magnitude
        if self.auto_range:
            # Autorange never goes above the compliance range.
            self.range = min(self.range, self.widest)


def _volt_source() -> SourceAxis:
    return SourceAxis(VOLTAGE_RANGES_V, 20.0)


def _curr_source() -> SourceAxis:
    return SourceAxis(CURRENT_RANGES_A, 1e-4)


def _volt_sense() -> SenseAxis:
    return SenseAxis(VOLTAGE_RANGES_V, 20.0, 21.0)


def _curr_sense() -> SenseAxis:
    return SenseAxis(CURRENT_RANGES_A, 1e-4, 1.05e-4)


@dataclass(slots=True)
class Settings:
    """All that ``*RST`` resets; a new instance is the reset state (defaults as read back from a real 2400).

    Levels in V and A, times in s. ``arm_count`` may be infinite. ``source_limit_v`` is ``:SOUR:VOLT:PROT``, nominal.
    """

    source: Quantity = Quantity.VOLT
    volt_source: SourceAxis = field(default_factory=_volt_source)
    curr_source: SourceAxis = field(default_factory=_curr_source)
    source_limit_v: float = 210.0
    source_delay_s: float = 0.001
    source_delay_auto: bool = True
    auto_clear: bool = False
    output_off: OutputOff = OutputOff.NORMAL
    front_terminals: bool = True
    remote_sense: bool = False
    functions: frozenset[Quantity] = frozenset({Quantity.CURR})
    concurrent: bool = True
    volt_sense: SenseAxis = field(default_factory=_volt_sense)
    curr_sense: SenseAxis = field(default_factory=_curr_sense)
    nplc: float = 1.0
    average: bool = False
    average_count: int = 10
    average_moving: bool = False
    autozero: bool = True
    elements: frozenset[str] = frozenset(ELEMENT_ORDER)
    arm_count: float = 1
    trigger_count: int = 1
    trigger_delay_s: float = 0.0

    @property
    def wants_volts(self) -> bool:
        """Whether a reading needs a voltage conversion."""
        return not self.functions.isdisjoint({Quantity.VOLT, Quantity.RES})

    @property
    def wants_amps(self) -> bool:
        """Whether a reading needs a current conversion."""
        return not self.functions.isdisjoint({Quantity.CURR, Quantity.RES})

    def source_axis(self) -> SourceAxis:
        """Return the axis that is sourced."""
        return self.volt_source if self.source is Quantity.VOLT else self.curr_source

    def set_counts(self, arm: float, trigger: int) -> None:
        """Take both counts; refuse -221 a finite product above 2500."""
        if math.isfinite(arm) and arm * trigger > MAX_READINGS:
            raise RefusedError(SETTINGS_CONFLICT)
        self.arm_count, self.trigger_count = arm, trigger


@dataclass(slots=True)
class Panel:
    """What ``*RST`` leaves alone."""

    beeper: bool = True
    display: bool = True
    locked: bool = False
