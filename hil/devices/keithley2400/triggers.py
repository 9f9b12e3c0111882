"""What can start a source-delay-measure cycle of the emulated 2400 (User's Manual 11-10 to 11-19, 18-116 to 18-122).

Over RS-232 every control source can be selected. Its event may have to come from outside the line: the Trigger Link and
the handler's start-of-test line are sockets at the rear, the TRIG key is on the panel.
"""

from __future__ import annotations

import enum
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hil.devices.keithley2400.timing import NEVER_NS, nanoseconds

if TYPE_CHECKING:
    from hil.devices.keithley2400.unit import Unit

MIN_TIMER_S: Final = 0.001
MAX_TIMER_S: Final = 99999.99


class EventSource(enum.Enum):
    """``:ARM:SOUR`` and ``:TRIG:SOUR``, by their replies."""

    IMMEDIATE = "IMM"
    TRIGGER_LINK = "TLIN"
    TIMER = "TIM"
    MANUAL = "MAN"
    BUS = "BUS"
    LOW_START = "NST"
    HIGH_START = "PST"
    BOTH_START = "BST"


BYPASSABLE: Final = frozenset(
    {EventSource.TRIGGER_LINK, EventSource.LOW_START, EventSource.HIGH_START, EventSource.BOTH_START}
)
"""The sources whose detector ``:ARM:DIR SOUR`` loops around on the first pass (11-13)."""


@dataclass(slots=True)
class Layer:
    """One layer of the trigger model. ``bypass`` is ``:DIR SOUR``; lines are those of the Trigger Link, 1 to 4."""

    source: EventSource = EventSource.IMMEDIATE
    bypass: bool = False
    in_line: int = 1
    out_line: int = 2
    inputs: tuple[str, ...] = ("SOUR",)
    outputs: tuple[str, ...] = ("NONE",)


@dataclass(slots=True)
class Triggers:
    """Both layers, without their counts and the trigger delay, which stand in the settings."""

    arm: Layer = field(default_factory=Layer)
    trigger: Layer = field(default_factory=Layer)
    timer_s: float = 0.1

    @property
    def immediate(self) -> bool:
        """Whether nothing is ever waited for."""
        return self.arm.source is EventSource.IMMEDIATE and self.trigger.source is EventSource.IMMEDIATE


@dataclass(slots=True)
class BusTriggers:
    """``*TRG`` messages in the input queue. One acts past the queue on a trigger model that waits, or will wait.

    Its place in the queue stays; when that comes, :meth:`execute` finds it has acted already.
    """

    pending: int = 0
    acted: int = 0

    def arrive(self, *, waited_for: bool) -> None:
        """Note one that arrived while a command was being executed."""
        if waited_for:
            self.acted += 1
        else:
            self.pending += 1

    def take(self) -> bool:
        """Let one that is pending act; return whether there was one."""
        if not self.pending:
            return False
        self.pending -= 1
        self.acted += 1
        return True

    def execute(self) -> bool:
        """Execute one as a command; return whether it has acted."""
        if self.acted:
            self.acted -= 1
            return True
        self.pending = max(0, self.pending - 1)
        return False


def matches(waiting: EventSource, happened: EventSource) -> bool:
    """Return whether an event is the one that is waited for."""
    if waiting is EventSource.BOTH_START:
        return happened in {EventSource.LOW_START, EventSource.HIGH_START}
    return waiting is happened


def wait_for(unit: Unit, source: EventSource) -> Generator[int, None, None]:
    """Wait until the event comes; for ever if it does not. Only an abort ends that."""
    if source is EventSource.BUS and unit.bus_triggers.take():
        return
    unit.awaiting = source
    try:
        while unit.awaiting is not None:
            yield NEVER_NS
    finally:
        unit.awaiting = None


def wait_for_timer(unit: Unit, since_ns: int) -> Generator[int, None, int]:
    """Wait for the next tick of the arm timer that started at ``since_ns``; return the tick's time."""
    due_ns = since_ns + nanoseconds(unit.settings.triggers.timer_s)
    if due_ns > unit.now_ns:
        yield due_ns - unit.now_ns
    # A cycle that took longer than the timer is followed by the next one at once (11-13).
    return max(due_ns, unit.now_ns)
