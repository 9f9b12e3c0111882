"""What every emulated stage controller has in common: lines that wait, their time, and what a scenario does to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from hil.devices.pi_gcs2.axis import Axis
from hil.devices.pi_gcs2.mechanics import DeadDeflection, Mechanics
from hil.protocols import Wire

QUEUE_LINES: Final = 16
"""Lines that wait; that of a real controller is not documented. One more is lost with an error."""


class StageUnit(Protocol):
    """The inside of a controller: axes, errors, and the time of the command that is being executed."""

    now_ns: int
    mechanics: Mechanics
    axes: dict[str, Axis]

    def power_on(self, t_ns: int) -> None:
        """Come up at ``t_ns``."""

    def announce(self, axis: Axis) -> None:
        """Tell the twin where an axis is from now on."""

    def set_servo(self, axis: Axis, *, on: bool) -> None:
        """Close or open a loop."""

    def fail(self, code: int) -> None:
        """Keep an error for whoever asks."""

    def close(self) -> None:
        """Write the summary and close the record."""


UnitT = TypeVar("UnitT", bound=StageUnit)


class QueuedStage(ABC, Generic[UnitT]):
    """Base of the emulated controllers; with ``receive`` a :class:`hil.protocols.StageDevice`.

    Lines wait in a bounded queue and execute one after another, each when its processing time is over. Powered on by
    the first call that carries a time. Times in ns, never backwards (ValueError).
    """

    def __init__(self, unit: UnitT, processing_s: float, names: tuple[str, ...]) -> None:
        """Take the inside, the time per line, and the names of the axes as they were built."""
        self.axis_names: Final = names
        self._unit = unit
        self._lines: deque[bytes] = deque()
        self._processing_ns = int(processing_s * 1e9)
        self._due_ns: int | None = None
        self._wire: Wire | None = None
        self._t_ns: int | None = None

    # The plug

    def attach(self, wire: Wire) -> None:
        """Plug the controller into a line; see :class:`hil.protocols.Device`."""
        self._wire = wire

    def next_event_ns(self) -> int | None:
        """Return when the next line is executed, or None. Motion needs no events: it is a function of time."""
        return self._due_ns

    def advance(self, t_ns: int) -> None:
        """Do everything that is due up to and including ``t_ns``."""
        if self._t_ns is None:
            self._unit.power_on(t_ns)
        elif t_ns < self._t_ns:
            raise ValueError(f"time went back from {self._t_ns} to {t_ns} ns")
        self._t_ns = t_ns
        while self._due_ns is not None and self._due_ns <= t_ns:
            self._unit.now_ns = due_ns = self._due_ns
            self._execute(self._lines.popleft())
            self._due_ns = due_ns + self._processing_ns if self._lines else None
            self._executed(due_ns)
        self._unit.now_ns = t_ns

    # What a test or a scenario may look at, and do to it

    def position_m(self, t_ns: int, axis: str) -> float:
        """Return where an axis really is at ``t_ns``, in m."""
        self.advance(t_ns)
        return self._axis(axis).true_um(t_ns) * 1e-6

    def moving(self, t_ns: int, axis: str) -> bool:
        """Tell whether an axis is on its way."""
        self.advance(t_ns)
        return self._axis(axis).moving(t_ns)

    def stall(self, t_ns: int, axis: str, *, error: int = 0) -> None:
        """Jam an axis at ``t_ns``: it stops, never gets on target, and takes every move; ``error`` for who asks."""
        self.advance(t_ns)
        self._axis(axis).stall(t_ns)
        self._unit.announce(self._axis(axis))
        if error:
            self._unit.fail(error)

    def release(self, t_ns: int, axis: str) -> None:
        """End a jam."""
        self.advance(t_ns)
        self._axis(axis).release()

    def open_servo(self, t_ns: int, axis: str, *, error: int = 0) -> None:
        """Open a loop behind the client's back, as a controller does on a following error."""
        self.advance(t_ns)
        self._unit.set_servo(self._axis(axis), on=False)
        if error:
            self._unit.fail(error)

    def fail(self, t_ns: int, error: int) -> None:
        """Have an error by itself, as a controller that monitors itself does."""
        self.advance(t_ns)
        self._unit.fail(error)

    def servo_on(self, axis: str) -> bool:
        """Tell whether a loop is closed."""
        return self._axis(axis).servo

    def kill_deflection(self, t_ns: int, *, dead: bool, told: Callable[[int, float], None] | None = None) -> None:
        """Let the deflection signal stay what it is in the air, or work again; ``told(t_ns, true_v)`` when it lies."""
        self.advance(t_ns)
        mechanics = self._unit.mechanics
        alive = mechanics.alive if isinstance(mechanics, DeadDeflection) else mechanics
        self._unit.mechanics = DeadDeflection(alive, told) if dead else alive

    def power_cycle(self, t_ns: int) -> None:
        """Interrupt the mains at ``t_ns``: everything pending is gone, servos and references are as at power-on."""
        self.advance(t_ns)
        if self._wire is not None:
            self._wire.discard(t_ns)
        self._begin_anew(t_ns)

    def close(self, t_ns: int) -> None:
        """End the run at ``t_ns``: write the summary and close the record."""
        self.advance(t_ns)
        self._unit.close()

    # Inside

    def _axis(self, name: str) -> Axis:
        """Return an axis by the name it was built with, whatever it is called on the wire."""
        return next(axis for axis in self._unit.axes.values() if axis.model.name == name)

    def _enqueue(self, t_ns: int, line: bytes, *, full: int) -> None:
        """Let a line wait its turn; ``full``: the error where there is no room."""
        if len(self._lines) >= QUEUE_LINES:
            self._unit.fail(full)
            return
        self._lines.append(line)
        if self._due_ns is None:
            self._due_ns = t_ns + self._processing_ns
            self.advance(t_ns)

    def _begin_anew(self, t_ns: int) -> None:
        """Come up as at power-on, with nothing pending."""
        self._lines.clear()
        self._due_ns = None
        self._forget()
        self._unit.power_on(t_ns)

    @abstractmethod
    def _execute(self, line: bytes) -> None:
        """Execute a line at the unit's time."""

    @abstractmethod
    def _forget(self) -> None:
        """Drop what has arrived of an unfinished line."""

    def _executed(self, t_ns: int) -> None:
        """A line has been executed at ``t_ns``."""
