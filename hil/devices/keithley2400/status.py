"""Error queue, standard event status and the condition/event/enable registers of the emulated 2400.

Bits and rules: User's Manual section 15.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from hil.devices.keithley2400 import errors

QUEUE_DEPTH: Final = 10
"""Entries of the error queue; the last becomes -350 when one more comes (User's Manual 15-19)."""


class StandardEvent(enum.IntFlag):
    """Bits of ``*ESR?``."""

    OPERATION_COMPLETE = 1 << 0
    QUERY = 1 << 2
    DEVICE = 1 << 3
    EXECUTION = 1 << 4
    COMMAND = 1 << 5
    POWER_ON = 1 << 7


class StatusByte(enum.IntFlag):
    """Bits of ``*STB?``. MAV is never set: units before firmware C27 got it wrong over RS-232."""

    MEASUREMENT = 1 << 0
    ERROR_AVAILABLE = 1 << 2
    QUESTIONABLE = 1 << 3
    STANDARD_EVENT = 1 << 5
    MASTER_SUMMARY = 1 << 6
    OPERATION = 1 << 7


class MeasurementEvent(enum.IntFlag):
    """Bits of ``:STAT:MEAS?`` that the emulator drives."""

    READING_AVAILABLE = 1 << 6
    READING_OVERFLOW = 1 << 7
    OVER_VOLTAGE_PROTECTION = 1 << 13
    COMPLIANCE = 1 << 14


@dataclass(slots=True)
class Register:
    """A condition register with its event and enable registers, 16 bits each."""

    condition: int = 0
    event: int = 0
    enable: int = 0

    def update(self, condition: int) -> None:
        """Take a new condition; bits that rise latch into the event register."""
        self.event |= condition & ~self.condition
        self.condition = condition

    def take_event(self) -> int:
        """Return the event register and clear it, as reading it does."""
        event, self.event = self.event, 0
        return event

    @property
    def summary(self) -> bool:
        """Whether an enabled event is latched."""
        return bool(self.event & self.enable)


def standard_bit(code: int) -> StandardEvent:
    """Return the standard event bit that an error number sets (User's Manual table B-1)."""
    if -199 <= code <= -100:
        return StandardEvent.COMMAND
    if -299 <= code <= -200 or code >= 800:
        return StandardEvent.EXECUTION
    if -499 <= code <= -400:
        return StandardEvent.QUERY
    return StandardEvent.DEVICE


@dataclass(slots=True)
class Status:
    """Everything that ``*CLS`` clears, and the enables that it does not."""

    standard_event: int = StandardEvent.POWER_ON
    standard_enable: int = 0
    service_enable: int = 0
    measurement: Register = field(default_factory=Register)
    operation: Register = field(default_factory=Register)
    questionable: Register = field(default_factory=Register)
    _queue: deque[int] = field(default_factory=deque)

    def push(self, code: int) -> None:
        """Queue an error or, with a number of 100..199, a status message, which sets no standard event."""
        if not 100 <= code < 200:
            self.standard_event |= standard_bit(code)
        if len(self._queue) < QUEUE_DEPTH:
            self._queue.append(code)
        else:
            self._queue[-1] = errors.QUEUE_OVERFLOW

    def pop(self) -> str:
        """Take the oldest entry, as ``:SYST:ERR?`` sends it: ``-113,"Undefined header"``; ``0,"No error"`` if none."""
        code = self._queue.popleft() if self._queue else 0
        sign = "+" if code > 0 else ""
        return f'{sign}{code},"{errors.TEXTS.get(code, "Device specific error")}"'

    @property
    def queued(self) -> tuple[int, ...]:
        """The numbers in the error queue, oldest first."""
        return tuple(self._queue)

    def clear_queue(self) -> None:
        """Empty the error queue."""
        self._queue.clear()

    def clear(self) -> None:
        """Do what ``*CLS`` does: event registers and queue empty, enables kept."""
        self.standard_event = 0
        for register in (self.measurement, self.operation, self.questionable):
            register.event = 0
        self._queue.clear()

    def preset(self) -> None:
        """Do what ``:STAT:PRES`` does: the enables of the three SCPI registers become 0."""
        for register in (self.measurement, self.operation, self.questionable):
            register.enable = 0

    def take_standard_event(self) -> int:
        """Return ``*ESR?`` and clear it."""
        event, self.standard_event = int(self.standard_event), 0
        return event

    @property
    def byte(self) -> int:
        """The status byte, as ``*STB?`` sends it."""
        value = 0
        if self.measurement.summary:
            value |= StatusByte.MEASUREMENT
        if self._queue:
            value |= StatusByte.ERROR_AVAILABLE
        if self.questionable.summary:
            value |= StatusByte.QUESTIONABLE
        if self.standard_event & self.standard_enable:
            value |= StatusByte.STANDARD_EVENT
        if self.operation.summary:
            value |= StatusByte.OPERATION
        if value & self.service_enable:
            value |= StatusByte.MASTER_SUMMARY
        return int(value)
