"""Faults of a front end: its microcontroller, its switch, its converter; and what its messages are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from firmware_proto.frontend.messages import MESSAGES, ResetCause
from firmware_proto.frontend.vocabulary import WATCHDOG_MS
from firmware_proto.frontend.wire import cobs_decode
from hil.faults.fault import Fault
from hil.faults.port import Port
from hil.frontend.unit import FrontendUnit, Told

Confirm = Callable[[Fault, int, str], None]
WATCHDOG_NS: Final = WATCHDOG_MS * 1_000_000
"""A watchdog bites at the latest so long after the last sample (the schema's limit)."""


def name_of(data: bytes) -> str:
    """Return the name of the message that a frame carries, as the schema has it; empty for what is no message."""
    raw = cobs_decode(data.strip(b"\x00"))
    message = MESSAGES.get(raw[0]) if raw else None
    return "" if message is None else message.NAME


class FrontendFaults:
    """The faults of one front end."""

    def __init__(self, device: FrontendUnit, port: Port, confirm: Confirm) -> None:
        """Take the device; ``confirm`` is told what took effect."""
        self._device = device
        self._port = port
        self._confirm = confirm

    def refusal(self, fault: Fault) -> str:
        """Return why this front end cannot have a fault; empty if it can."""
        del fault
        return ""

    def begin(self, fault: Fault, t_ns: int) -> None:
        """Let a fault act at ``t_ns``."""
        self._port.later(t_ns, lambda at_ns: self._act(fault, at_ns))

    def _act(self, fault: Fault, t_ns: int) -> None:
        device, name = self._device, fault.kind.name
        after_ns = round(fault.spec.number("duration_s") * 1e9)
        # What is told of the switch is what it is now, not when somebody looked last.
        device.advance(t_ns)
        if name == "frontend_freeze":
            device.freeze(t_ns)
            self._confirm(fault, t_ns, "frozen, the switch " + ("closed" if device.closed else "open"))
            if fault.spec.flag("watchdog") and (not after_ns or after_ns > WATCHDOG_NS):
                self._port.later(t_ns + WATCHDOG_NS, lambda at_ns: device.reset(at_ns, cause=ResetCause.WATCHDOG))
            else:
                self._end(t_ns, after_ns, device.thaw)
        elif name == "frontend_reset":
            closed = device.closed
            device.reset(t_ns, off_ns=after_ns)
            self._confirm(fault, t_ns, "power lost, the switch " + ("was closed" if closed else "was open"))
        elif name == "switch_stuck":
            device.stick_switch(t_ns, stuck=True, told=self._told(fault))
            self._end(t_ns, after_ns, lambda at_ns: device.stick_switch(at_ns, stuck=False))
        elif name == "adc_silent":
            device.silence_converter(t_ns, silent=True)
            self._confirm(fault, t_ns, "the converter gives no sample")
            self._end(t_ns, after_ns, lambda at_ns: device.silence_converter(at_ns, silent=False))
        else:
            device.hold_converter(t_ns, held=True, told=self._told(fault))
            self._end(t_ns, after_ns, lambda at_ns: device.hold_converter(at_ns, held=False))

    def _told(self, fault: Fault) -> Told:
        return lambda t_ns, detail: self._confirm(fault, t_ns, detail)

    def _end(self, t_ns: int, after_ns: int, act: Callable[[int], None]) -> None:
        if after_ns:
            self._port.later(t_ns + after_ns, act)
