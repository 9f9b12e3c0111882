"""Faults of the emulated 2400: at its mains and its panel, at its rear, in its readings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from firmware_proto.keithley2400.status import OVERFLOW, OutputOff, StatusWord
from hil.devices.keithley2400 import Keithley2400
from hil.devices.keithley2400.acquisition import aperture_ns
from hil.devices.keithley2400.interlock import RESPONSE_NS
from hil.devices.keithley2400.unit import Reading, Unit
from hil.faults.fault import Fault
from hil.faults.port import Port

Confirm = Callable[[Fault, int, str], None]

_IN_READINGS: Final = ("stuck_compliance", "autozero_gap", "range_stall", "overflow")
_OE_LOOK_NS: Final = 2 * RESPONSE_NS
_OFLO: Final = int(StatusWord.OVERFLOW)
_COMPLIANCE: Final = int(StatusWord.COMPLIANCE)


class SmuFaults:
    """The faults of one 2400; implements :class:`hil.devices.keithley2400.upset.Upset`."""

    def __init__(self, device: Keithley2400, port: Port, confirm: Confirm) -> None:
        """Take the device; ``confirm`` is told what took effect."""
        self._device = device
        self._port = port
        self._confirm = confirm
        self._in_readings: list[Fault] = []
        self.on_sample: Callable[[int], None] = lambda _t_ns: None

    def refusal(self, fault: Fault) -> str:
        """Return why this unit cannot have a fault; empty if it can."""
        del fault
        return ""

    def begin(self, fault: Fault, t_ns: int) -> None:
        """Let a fault act from ``t_ns`` on: in the readings, or as soon as the unit is at rest."""
        if fault.kind.name in _IN_READINGS:
            self._in_readings.append(fault)
            if fault.kind.name == "stuck_compliance":
                self._device.stick_compliance(told=fault.spec.flag("on"))
        else:
            self._port.later(t_ns, lambda at_ns: self._at_panel(fault, at_ns))

    # In the readings

    def before(self, unit: Unit) -> int:
        """See :class:`hil.devices.keithley2400.upset.Upset`."""
        if not unit.output.on:
            return 0
        self.on_sample(unit.now_ns)
        more_ns = 0
        for fault in tuple(self._in_readings):
            name, spec = fault.kind.name, fault.spec
            if name == "range_stall":
                extra_ns = round(spec.number("duration_s") * 1e9)
            elif name == "autozero_gap":
                extra_ns = spec.whole("apertures") * aperture_ns(unit) + round(spec.number("duration_s") * 1e9)
            else:
                continue
            if extra_ns:
                # The unit stands still from here on; whether the reading is ever finished is the client's business.
                more_ns += extra_ns
                self._took_effect(fault, unit.now_ns, f"the reading takes {extra_ns / 1e6:g} ms more")
        return more_ns

    def after(self, unit: Unit, reading: Reading) -> Reading:
        """See :class:`hil.devices.keithley2400.upset.Upset`."""
        if not self._in_readings:
            return reading
        for fault in tuple(self._in_readings):
            name = fault.kind.name
            if name == "overflow" and unit.output.on:
                reading = self._overflow(fault, unit, reading)
            elif name == "stuck_compliance":
                self._see_compliance(fault, unit, reading)
        return reading

    def _overflow(self, fault: Fault, unit: Unit, reading: Reading) -> Reading:
        before = reading.curr
        if before == OVERFLOW:
            return reading  # it overflowed by itself: nothing was changed
        told = fault.spec.flag("oflo")
        stat = reading.stat | _OFLO if told else reading.stat & ~_OFLO
        self._took_effect(fault, unit.now_ns, f"{before:+.3e} A became +9.9E37, overflow bit {int(told)}")
        return reading._replace(curr=OVERFLOW, stat=stat)

    def _see_compliance(self, fault: Fault, unit: Unit, reading: Reading) -> None:
        told, clamped = bool(reading.stat & _COMPLIANCE), unit.output.clamped
        if told == fault.spec.flag("on") and told != clamped:
            detail = "compliance told, nothing clamps" if told else "the output clamps, and no compliance is told"
            self._took_effect(fault, unit.now_ns, detail)
            if fault.spent:
                self._device.stick_compliance(told=None)

    def _took_effect(self, fault: Fault, t_ns: int, detail: str) -> None:
        if fault.act() and fault in self._in_readings:
            self._in_readings.remove(fault)
        self._confirm(fault, t_ns, detail)

    # From outside

    def _at_panel(self, fault: Fault, t_ns: int) -> None:
        device, spec = self._device, fault.spec
        before = self._state()
        name = fault.kind.name
        if name == "reset":
            device.power_cycle(t_ns)
            self._port.deafen(t_ns + round(spec.number("duration_s") * 1e9))
            self._confirm(fault, t_ns, "mains interrupted")
            return
        if name == "oe_open":
            self._open_line(fault, t_ns)
            return
        forced = spec.flag("force")
        if name == "output_key":
            device.panel_output(t_ns, force=forced)
        elif name == "panel_off_mode":
            device.panel_off_mode(t_ns, OutputOff(spec.text("mode")), force=forced)
        elif name == "panel_limit":
            device.panel_limit(t_ns, spec.number("value"), force=forced)
        elif name == "panel_range":
            device.panel_range(t_ns, spec.number("value"), force=forced)
        else:
            device.panel_level(t_ns, spec.number("value"), force=forced)
        self._changed(fault, t_ns, before)

    def _open_line(self, fault: Fault, t_ns: int) -> None:
        device, spec = self._device, fault.spec
        if spec.flag("fitted"):
            device.output_enable_line(t_ns, closed=True)
            device.panel_output_enable(t_ns, on=True, force=True)
        before = self._state()
        device.output_enable_line(t_ns, closed=False)
        if after_ns := round(spec.number("duration_s") * 1e9):
            self._port.later(t_ns + after_ns, lambda at_ns: device.output_enable_line(at_ns, closed=True))
        self._port.later(t_ns + _OE_LOOK_NS, lambda at_ns: self._changed(fault, at_ns, before))

    def _changed(self, fault: Fault, t_ns: int, before: dict[str, str]) -> None:
        after = self._state()
        changes = [f"{what} {before[what]} -> {after[what]}" for what in before if before[what] != after[what]]
        if changes:
            self._confirm(fault, t_ns, ", ".join(changes))

    def _state(self) -> dict[str, str]:
        settings = self._device.settings
        return {
            "output": "on" if self._device.output_on else "off",
            "limit": f"{settings.curr_sense.protection:g} A",
            "range": f"{settings.curr_sense.range:g} A",
            "off state": settings.output_off.value,
            "level": f"{settings.source_axis().level:g}",
        }
