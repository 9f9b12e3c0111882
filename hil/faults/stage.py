"""Faults of an emulated stage controller."""

from __future__ import annotations

from collections.abc import Callable

from hil.faults.fault import Fault
from hil.faults.port import Port
from hil.protocols import StageDevice

Confirm = Callable[[Fault, int, str], None]


class StageFaults:
    """The faults of one stage."""

    def __init__(self, device: StageDevice, port: Port, confirm: Confirm) -> None:
        """Take the device; ``confirm`` is told what took effect."""
        self._device = device
        self._port = port
        self._confirm = confirm

    def refusal(self, fault: Fault) -> str:
        """Return why this stage cannot have a fault; empty if it can."""
        axis, names = fault.spec.params.get("axis"), self._device.axis_names
        if axis is not None and axis not in names:
            return f"axis = {axis!r}: want one of {', '.join(names)}"
        return ""

    def begin(self, fault: Fault, t_ns: int) -> None:
        """Let a fault act at ``t_ns``."""
        self._port.later(t_ns, lambda at_ns: self._act(fault, at_ns))

    def _act(self, fault: Fault, t_ns: int) -> None:
        device, spec, name = self._device, fault.spec, fault.kind.name
        if name == "stage_stall":
            axis = spec.text("axis")
            device.stall(t_ns, axis, error=spec.whole("error"))
            if after_ns := round(spec.number("duration_s") * 1e9):
                self._port.later(t_ns + after_ns, lambda at_ns: device.release(at_ns, axis))
            self._confirm(fault, t_ns, f"axis {axis} jammed")
        elif name == "stage_servo_off":
            if not device.servo_on(spec.text("axis")):
                return  # nothing to open
            device.open_servo(t_ns, spec.text("axis"), error=spec.whole("error"))
            self._confirm(fault, t_ns, f"servo of axis {spec.text('axis')} open")
        elif name == "stage_error":
            device.fail(t_ns, spec.whole("error"))
            self._confirm(fault, t_ns, f"error {spec.whole('error')}")
        elif name == "stage_reset":
            device.power_cycle(t_ns)
            self._confirm(fault, t_ns, "mains interrupted")
        else:
            device.kill_deflection(t_ns, dead=True, told=lambda at_ns, true_v: self._lied(fault, at_ns, true_v))
            if after_ns := round(spec.number("duration_s") * 1e9):
                self._port.later(t_ns + after_ns, lambda at_ns: device.kill_deflection(at_ns, dead=False))

    def _lied(self, fault: Fault, t_ns: int, true_v: float) -> None:
        if not fault.confirmed:
            self._confirm(fault, t_ns, f"deflection signal dead, {true_v:.4g} V in truth")
