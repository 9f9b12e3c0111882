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
from hil.devices.keithley2400.errors import INVALID_WITH_AUTO_OHMS, OUT_OF_RANGE, POWER, SETTINGS_CONFLICT, RefusedError
from hil.devices.keithley2400.limits import Calc2, Digital
from hil.devices.keithley2400.ohms import COMPLIANCE_V, Ohms
from hil.devices.keithley2400.sweep import SourceExtras, SourceMode, Sweep
from hil.devices.keithley2400.triggers import Triggers

_TOLERANCE: Final = 1e-9
"""Relative slack of comparisons, so that 105 % of a range still fits it in binary floating point."""
MAX_READINGS: Final = 2500
"""Bound of arm count times trigger count, and of the reading store."""
_SMALL_A: Final = 0.105 * (1 + _TOLERANCE)
_SMALL_V: Final = 21.0 * (1 + _TOLERANCE)
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
    extras: SourceExtras = field(default_factory=SourceExtras)

    @property
    def present(self) -> float:
        """The level at the terminals while the output is on: the programmed one, or where a sweep left it."""
        swept = self.extras.swept
        return self.level if swept is None else swept

    def set_mode(self, mode: SourceMode) -> None:
        """Change between fixed, sweep and list; back in FIXed the programmed level holds again."""
        self.extras.mode = mode
        if mode is SourceMode.FIXED:
            self.extras.swept = None

    def set_level(self, level: float) -> None:
        """Take a new level; refuse -222 what the fixed range, or with autorange the largest, does not hold."""
        if self.auto_range:
            self.range = pick_range(self.ranges, level)
        elif abs(level) > self.range * OVERRANGE * (1 + _TOLERANCE):
            raise RefusedError(OUT_OF_RANGE)
        self.level = level
        self.extras.swept = self.extras.triggered = None

    def set_range(self, value: float) -> None:
        """Fix the smallest range that holds ``value``; refuse -221 one that does not hold the present level."""
        nominal = pick_range(self.ranges, value)
        if max(abs(self.level), abs(self.present)) > nominal * OVERRANGE * (1 + _TOLERANCE):
            raise RefusedError(SETTINGS_CONFLICT)
        self.range = nominal
        self.auto_range = False


@dataclass(slots=True)
class SenseAxis:
    """A measurement with its compliance, in V or A. ``range`` is nominal; 105 % of it is readable.

    ``lower`` is the lowest range autorange goes to. ``synchronised`` (``:PROT:RSYN``) ties range and compliance: a
    fixed range above the compliance takes the compliance along to its 105 %, and a new compliance takes the range along
    (assumed; the manual only names the setting).
    """

    ranges: tuple[float, ...]
    range: float
    protection: float
    auto_range: bool = True
    lower: float = 0.0
    synchronised: bool = False
    holdoff: bool = False
    holdoff_s: float = 0.0

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
            if not self.synchronised:
                raise RefusedError(ErrorCode.CANNOT_EXCEED_COMPLIANCE_RANGE)
            self.protection = nominal * OVERRANGE
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
        elif self.synchronised:
            self.range = self.widest


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
    triggers: Triggers = field(default_factory=Triggers)
    sweep: Sweep = field(default_factory=Sweep)
    auto_clear_per_count: bool = False
    ohms: Ohms = field(default_factory=Ohms)
    calc2: Calc2 = field(default_factory=Calc2)
    digital: Digital = field(default_factory=Digital)
    calc_elements: frozenset[str] = frozenset({"CALC"})
    statistic: str = "MEAN"
    pattern_format: str = "ASC"
    stamp_auto_reset: bool = False
    register_format: str = "ASC"
    guard_ohms: bool = False

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

    @property
    def auto_ohms(self) -> bool:
        """Whether the ohms function has taken the source over."""
        return self.ohms.auto and Quantity.RES in self.functions

    def refuse_auto_ohms(self) -> None:
        """Refuse +825 while auto ohms sets source and ranges by itself."""
        if self.auto_ohms:
            raise RefusedError(INVALID_WITH_AUTO_OHMS)

    def refuse_power(self) -> None:
        """Refuse +826 what leaves the operating boundaries: 210 V at 105 mA, 21 V at 1.05 A (User's Manual 18-62)."""
        if self.source is Quantity.VOLT:
            too_much = self.volt_source.range > 100.0 and self.curr_sense.protection > _SMALL_A
        else:
            too_much = self.curr_source.range > 0.5 and self.volt_sense.protection > _SMALL_V
        if too_much:
            raise RefusedError(POWER)

    def enter_ohms(self) -> None:
        """Set source and ranges as auto ohms wants them on its present range."""
        if self.ohms.volts_auto_range is None:
            self.ohms.volts_auto_range = self.volt_sense.auto_range
        level = self.ohms.test_current_a
        self.source = Quantity.CURR
        self.curr_source.auto_range = False
        self.curr_source.range = pick_range(CURRENT_RANGES_A, level)
        self.curr_source.level = level
        self.curr_source.set_mode(SourceMode.FIXED)
        self.volt_sense.protection = COMPLIANCE_V
        self.volt_sense.range, self.volt_sense.auto_range = self.ohms.volt_range, False

    def leave_ohms(self) -> None:
        """End auto ohms: the voltage is on autorange again if it was; current source, level and compliance stay."""
        before, self.ohms.volts_auto_range = self.ohms.volts_auto_range, None
        if before is not None:
            self.volt_sense.auto_range = before

    def measure_range(self, quantity: Quantity) -> float:
        """Return the nominal range a quantity is measured on: of what is sourced, the source's (18-62, note 1)."""
        if quantity is Quantity.VOLT:
            return self.volt_source.range if self.source is quantity else self.volt_sense.range
        return self.curr_source.range if self.source is quantity else self.curr_sense.range

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
    """``:SYST:RWL``: keys but OUTPUT are dead in remote (User's Manual 18-112)."""
    remote: bool = False
    """A message has arrived since power-on or the last return to local."""
    texts: list[str] = field(default_factory=lambda: ["", ""])
    show_texts: list[bool] = field(default_factory=lambda: [False, False])
    """User text of the upper and the lower line of the display, and whether it is shown."""
    digits: int = 6
    last_key: int = 0
    line_freq_auto: bool = True
    autozero_cache: list[float] | None = None
    """Integration times in line cycles whose zero and reference are kept; None with the cache off."""
    power_on_setup: str = "RST"
