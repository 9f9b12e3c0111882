"""Error queue, standard event status and the condition/event/enable registers of the emulated 2400.

Bits and rules: User's Manual section 15. There are no transition filters (PTR, NTR) and no ``*PSC``: the manual lists
none (tables 16-1 and 18-8), and an event is a condition that rose.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from hil.devices.keithley2400 import errors

QUEUE_DEPTH: Final = 10
"""Entries of the error queue; the last becomes -350 when one more comes (User's Manual 15-19)."""

MESSAGE_NUMBERS: Final = range(-999, 1000)
"""What ``:STAT:QUE:ENAB`` and ``:DIS`` may name."""
_STATUS_NUMBERS: Final = range(100, 500)
"""Status messages; not queued unless enabled (User's Manual 15-19)."""
_ERRORS: Final = ((-999, -1), (500, 999))
"""What is enabled at power-up: every error."""


class StandardEvent(enum.IntFlag):
    """Bits of ``*ESR?``."""

    OPERATION_COMPLETE = 1 << 0
    QUERY = 1 << 2
    DEVICE = 1 << 3
    EXECUTION = 1 << 4
    COMMAND = 1 << 5
    USER_REQUEST = 1 << 6
    """The LOCAL key was pressed."""
    POWER_ON = 1 << 7


class StatusByte(enum.IntFlag):
    """Bits of ``*STB?``."""

    MEASUREMENT = 1 << 0
    ERROR_AVAILABLE = 1 << 2
    QUESTIONABLE = 1 << 3
    MESSAGE_AVAILABLE = 1 << 4
    STANDARD_EVENT = 1 << 5
    MASTER_SUMMARY = 1 << 6
    OPERATION = 1 << 7


class MeasurementEvent(enum.IntFlag):
    """Bits of ``:STAT:MEAS?`` (User's Manual 15-13, 15-14)."""

    LIMIT_1_FAILED = 1 << 0
    LOW_LIMIT_2_FAILED = 1 << 1
    HIGH_LIMIT_2_FAILED = 1 << 2
    LOW_LIMIT_3_FAILED = 1 << 3
    HIGH_LIMIT_3_FAILED = 1 << 4
    LIMITS_PASSED = 1 << 5
    READING_AVAILABLE = 1 << 6
    READING_OVERFLOW = 1 << 7
    BUFFER_AVAILABLE = 1 << 8
    BUFFER_FULL = 1 << 9
    CONTACT_CHECK = 1 << 10
    OUTPUT_ENABLE = 1 << 11
    """The output enable line is low: the output may be switched on."""
    OVER_TEMPERATURE = 1 << 12
    OVER_VOLTAGE_PROTECTION = 1 << 13
    COMPLIANCE = 1 << 14


class OperationEvent(enum.IntFlag):
    """Bits of ``:STAT:OPER?`` (User's Manual 15-12); the trigger model drives them."""

    CALIBRATING = 1 << 0
    SWEEPING = 1 << 3
    WAITING_FOR_TRIGGER = 1 << 5
    WAITING_FOR_ARM = 1 << 6
    IDLE = 1 << 10


class QuestionableEvent(enum.IntFlag):
    """Bits of ``:STAT:QUES?`` (User's Manual 15-15)."""

    CALIBRATION = 1 << 8
    COMMAND_WARNING = 1 << 14
    """A parameter of ``:CONF`` or ``:MEAS?`` was ignored."""


@dataclass(slots=True)
class Register:
    """A condition register with its event and enable registers, 16 bits each.

    ``held`` are bits that the box itself holds (a line, a temperature): they stay in the condition whatever
    :meth:`update` says of the others.
    """

    condition: int = 0
    event: int = 0
    enable: int = 0
    held: int = 0
    announce: Callable[[int], None] | None = None
    """Called with the bits that rose, while any message about them may go into the error queue."""

    def update(self, condition: int) -> None:
        """Take a new condition; bits that rise latch into the event register."""
        condition |= self.held
        if risen := condition & ~self.condition:
            self.latch(risen)
        self.condition = condition

    def latch(self, bits: int) -> None:
        """Set event bits, as something does that has no duration."""
        self.event |= bits
        if self.announce is not None:
            self.announce(bits)

    def hold(self, bits: int, *, on: bool) -> None:
        """Set or clear bits of the condition for good, until the next call."""
        bits = int(bits)  # arithmetic on flags would cost a microsecond in every update
        before = self.held
        self.held = before | bits if on else before & ~bits
        self.update(self.condition & ~bits)

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
    if -299 <= code <= -200 or 800 <= code < 900:
        return StandardEvent.EXECUTION
    if -499 <= code <= -400:
        return StandardEvent.QUERY
    return StandardEvent.DEVICE


Ranges = tuple[tuple[int, int], ...]
"""Message numbers as pairs of lowest and highest, in order, without overlaps."""


def merge(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return ``ranges`` in order, with those that overlap or touch made one."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


@dataclass(slots=True)
class Status:
    """Everything that ``*CLS`` clears, and the enables that it does not."""

    standard_event: int = StandardEvent.POWER_ON
    standard_enable: int = 0
    service_enable: int = 0
    measurement: Register = field(default_factory=Register)
    operation: Register = field(default_factory=Register)
    questionable: Register = field(default_factory=Register)
    enabled: Ranges = _ERRORS
    """The messages that enter the error queue, as ``:STAT:QUE:ENAB`` and ``:DIS`` left them."""
    _queue: deque[int] = field(default_factory=deque)

    def push(self, code: int) -> None:
        """Queue a message, if it is enabled; an error (not 100..499) also sets its standard event."""
        if code not in _STATUS_NUMBERS:
            self.standard_event |= standard_bit(code)
        if not any(low <= code <= high for low, high in self.enabled):
            return
        if len(self._queue) < QUEUE_DEPTH:
            self._queue.append(code)
        else:
            self._queue[-1] = errors.QUEUE_OVERFLOW

    def pop_code(self) -> int:
        """Take the oldest number out of the queue; 0 if there is none."""
        return self._queue.popleft() if self._queue else 0

    def pop(self) -> str:
        """Take the oldest entry, as ``:SYST:ERR?`` sends it: ``-113,"Undefined header"``; ``0,"No error"`` if none."""
        code = self.pop_code()
        return f'{number(code)},"{errors.TEXTS.get(code, "Device specific error")}"'

    @property
    def queued(self) -> tuple[int, ...]:
        """The numbers in the error queue, oldest first."""
        return tuple(self._queue)

    def clear_queue(self) -> None:
        """Empty the error queue."""
        self._queue.clear()

    def set_enabled(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Let exactly these messages into the error queue."""
        self.enabled = merge(ranges)
        for base, register in ((100, self.measurement), (300, self.operation), (400, self.questionable)):
            wanted = any(low < base + 16 and high >= base for low, high in self.enabled)
            register.announce = self._announcer(base) if wanted else None

    def disable(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Keep these messages out of the error queue."""
        kept = list(self.enabled)
        for low, high in ranges:
            below = [(a, min(b, low - 1)) for a, b in kept if a < low]
            above = [(max(a, high + 1), b) for a, b in kept if b > high]
            kept = below + above
        self.set_enabled(kept)

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
        """The status byte with an empty output queue; see :meth:`byte_with`."""
        return self.byte_with(message_available=False)

    def byte_with(self, *, message_available: bool) -> int:
        """Return the status byte, as ``*STB?`` sends it."""
        value = StatusByte.MESSAGE_AVAILABLE if message_available else StatusByte(0)
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

    def _announcer(self, base: int) -> Callable[[int], None]:
        def announce(bits: int) -> None:
            for bit in range(16):
                if bits >> bit & 1:
                    self.push(base + bit)

        return announce


def number(code: int) -> str:
    """Return a message number as the error queue sends it: signed, 0 without a sign."""
    return f"{code:+d}" if code else "0"
