"""The output terminals of the emulated 2400: settings to source and clamp, and the load's answer.

The output slews instantaneously and the clamp acts at once: the load sees one change per command, at its end. (A real
unit slews 0.08 V/us on the 20 V range and settles in 100 us, data sheet; both are below the 7 ms of the command.)
"""

from __future__ import annotations

import math
from typing import Final, Protocol, runtime_checkable

from firmware_proto.keithley2400.status import OutputOff
from hil.devices.keithley2400.settings import Quantity, Settings
from hil.protocols import Load

NORMAL_OFF_CLAMP_OF_RANGE: Final = 0.005
"""In the NORMAL off state the compliance is 0.5 % of full scale of the present range (User's Manual 13-9 to 13-11)."""


@runtime_checkable
class MeasuresTerminalVoltage(Protocol):
    """A load that also tells the voltage at its terminals, in V; without it a clamped voltage cannot be measured."""

    @property
    def terminal_voltage_v(self) -> float:
        """Voltage at the terminals now."""


@runtime_checkable
class FeelsTransients(Protocol):
    """A load that also feels what level, clamp and relay do not tell."""

    def range_changed(self, t_ns: int) -> None:
        """Take the transient of a source or measure range that changes at ``t_ns`` while level and clamp stay."""

    def output_switched(self, t_ns: int) -> None:
        """Take the spike of an output that is switched on or off at ``t_ns`` while relay and clamp stay."""


class Output:
    """Drives a load from the settings; keeps the output relay and the on/off state."""

    def __init__(self, load: Load) -> None:
        """Take the load; nothing is told to it before :meth:`apply`."""
        self._load = load
        self._measures_volts = isinstance(load, MeasuresTerminalVoltage)
        self._feeling = load if isinstance(load, FeelsTransients) else None
        self._ranges: tuple[float, float] | None = None
        self._was_on = False
        self._applied: tuple[float, float, bool] | None = None
        self.on = False
        self._relay_open = False
        self.opened = False
        """Off into high impedance whatever ``:OUTP:SMOD`` says: an interlock was violated (User's Manual 13-10)."""
        self.stuck: bool | None = None
        """A fault: compliance is told although nothing clamps (True), or never (False)."""

    @property
    def relay_open(self) -> bool:
        """Whether the output relay is open: off, in the HIMP state or after a violated interlock."""
        return self._relay_open

    def apply(self, t_ns: int, settings: Settings) -> None:
        """Tell the load what the settings and the output state make of the terminals, if that changed."""
        on = self.on
        wanted = self._on_state(settings) if on else self._off_state(settings)
        self._relay_open = not on and (self.opened or settings.output_off is OutputOff.HIGH_IMPEDANCE)
        applied = self._applied
        if wanted != applied:
            self._applied = wanted
            v_set, i_limit, connected = wanted
            self._load.set_source(t_ns, v_set, i_limit, connected=connected)
        if self._feeling is not None:
            self._tell_more(self._feeling, t_ns, settings, clamp_changed=applied is None or applied[1] != wanted[1])

    def advance(self, t_ns: int) -> None:
        """Let the load live until ``t_ns``."""
        self._load.advance(t_ns)

    @property
    def clamped(self) -> bool:
        """Whether the load is really held by the clamp, whatever is told of it."""
        return self._load.clamped

    @property
    def charge_c(self) -> float:
        """Integral of the terminal current, up to the last advance."""
        return self._load.charge_c

    def voltage_v(self) -> float | None:
        """Return the voltage at the terminals, or None where the load does not tell and the clamp holds it."""
        if self._measures_volts:
            return self._load.terminal_voltage_v  # type: ignore[attr-defined, no-any-return] # checked when plugged in
        if self._applied is None or self._load.clamped:
            return None
        return self._applied[0]

    def compliance(self, settings: Settings) -> tuple[bool, bool]:
        """Return (real compliance, range compliance) as of the last advance."""
        zero = settings.output_off is OutputOff.ZERO and settings.source is Quantity.VOLT and not self.opened
        if not (self.on or zero):
            return False, False
        if self.stuck is not None:
            return self.stuck, False
        if settings.source is Quantity.VOLT:
            held, axis = self._load.clamped, settings.curr_sense
        else:
            # The load is driven from the voltage compliance: it is in compliance while the current is NOT held.
            held, axis = not self._load.clamped and settings.curr_source.present != 0.0, settings.volt_sense
        return held and axis.clamp_is_real, held and not axis.clamp_is_real

    @staticmethod
    def over_voltage(settings: Settings) -> bool:
        """Whether ``:SOUR:VOLT:PROT`` holds the output below its level; its steps carry 5 % tolerance."""
        return settings.source is Quantity.VOLT and abs(settings.volt_source.present) > settings.source_limit_v

    @staticmethod
    def _on_state(settings: Settings) -> tuple[float, float, bool]:
        limit = settings.source_limit_v
        if settings.source is Quantity.VOLT:
            level = settings.volt_source.present
            return max(-limit, min(limit, level)), settings.curr_sense.clamp, True
        # A current source with a voltage limit and a voltage source with a current limit are the same rectangle seen
        # from its other side. 0 A is an open path.
        level = settings.curr_source.present
        return math.copysign(min(limit, settings.volt_sense.clamp), level), abs(level), level != 0.0

    def _off_state(self, settings: Settings) -> tuple[float, float, bool]:
        mode, sense = settings.output_off, settings.curr_sense
        if self.opened:
            return 0.0, sense.clamp, False
        if mode is OutputOff.NORMAL:
            return 0.0, sense.range * NORMAL_OFF_CLAMP_OF_RANGE, True
        if mode is OutputOff.ZERO and settings.source is Quantity.CURR:
            # A current source is replaced by 0 V behind its own level or 0.5 % of its range, the larger (13-10).
            source = settings.curr_source
            return 0.0, max(abs(source.level), source.range * NORMAL_OFF_CLAMP_OF_RANGE), True
        # ZERO keeps its compliance; HIMP opens the relay; GUARD sources 0 A, which for the load is the same.
        return 0.0, sense.clamp, mode is OutputOff.ZERO

    def _tell_more(self, load: FeelsTransients, t_ns: int, settings: Settings, *, clamp_changed: bool) -> None:
        """Tell the load of a range that changed while the output is on; a change of clamp has told it already.

        The same for the output itself in the ZERO off state, which at the terminals is only another level.
        """
        if self.on != self._was_on:
            self._was_on = self.on
            if settings.output_off is OutputOff.ZERO and not self.opened:
                load.output_switched(t_ns)
        if settings.source is Quantity.VOLT:
            ranges = settings.volt_source.range, settings.curr_sense.range
        else:
            ranges = settings.curr_source.range, settings.volt_sense.range
        before, self._ranges = self._ranges, ranges if self.on else None
        if before is not None and self.on and ranges != before and not clamp_changed:
            load.range_changed(t_ns)
