"""The three plugs of the bench: an instrument on a wire, the wire under an instrument, a load at its terminals.

Everything here is driven by explicit times in nanoseconds and reads no clock, so that the same emulator runs behind
a pseudo-terminal in real time (``hil.line.pty``) and in memory in virtual time (``hil.line.memory``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Wire(Protocol):
    """The transmit side of an instrument's UART. The line paces the bytes; the instrument only hands them over."""

    def send(self, t_ns: int, data: bytes) -> None:
        """Queue ``data`` at ``t_ns``; its first byte starts when the transmitter is free."""

    def discard(self, t_ns: int) -> None:
        """Drop every queued byte whose start bit would come after ``t_ns``."""


class Device(Protocol):
    """An instrument: bytes in, time passing, bytes out through its :class:`Wire`. Times never go backwards."""

    def attach(self, wire: Wire) -> None:
        """Plug the instrument into a line; called once, before anything else."""

    def receive(self, t_ns: int, data: bytes) -> None:
        """Take one or more bytes, the last of which was complete at ``t_ns``."""

    def next_event_ns(self) -> int | None:
        """Return when the instrument next does something by itself, or None."""

    def advance(self, t_ns: int) -> None:
        """Do everything that is due up to and including ``t_ns``."""


class StageDevice(Device, Protocol):
    """An emulated stage, whatever it speaks: what a test or a scenario may look at, and do to it. Axes by name."""

    @property
    def error(self) -> int:
        """The error it would tell, 0 for none, without forgetting it."""

    @property
    def axis_names(self) -> tuple[str, ...]:
        """The names of its axes."""

    def position_m(self, t_ns: int, axis: str) -> float:
        """Return where an axis really is at ``t_ns``, in m."""

    def moving(self, t_ns: int, axis: str) -> bool:
        """Tell whether an axis is on its way."""

    def servo_on(self, axis: str) -> bool:
        """Tell whether a loop is closed."""

    def stall(self, t_ns: int, axis: str, *, error: int = 0) -> None:
        """Jam an axis: it stops, never gets on target, and takes every move."""

    def release(self, t_ns: int, axis: str) -> None:
        """End a jam."""

    def open_servo(self, t_ns: int, axis: str, *, error: int = 0) -> None:
        """Open a loop behind the client's back."""

    def fail(self, t_ns: int, error: int) -> None:
        """Have an error."""

    def kill_deflection(self, t_ns: int, *, dead: bool, told: Callable[[int, float], None] | None = None) -> None:
        """Let the deflection signal stay what it is in the air, or work again; ``told(t_ns, true_v)`` when it lies."""

    def power_cycle(self, t_ns: int) -> None:
        """Interrupt the mains."""

    def close(self, t_ns: int) -> None:
        """End the run: write the summary and close the record."""


class Load(Protocol):
    """What hangs at the output terminals: pure physics, seen by a voltage source with a current clamp."""

    def set_source(self, t_ns: int, v_set: float, i_limit_a: float, *, connected: bool) -> None:
        """Change the source at ``t_ns``: level in V at the terminals, clamp magnitude in A, output relay.

        Advances to ``t_ns`` with the old source first.
        """

    def advance(self, t_ns: int) -> None:
        """Let the sample live until ``t_ns``."""

    @property
    def charge_c(self) -> float:
        """Signed integral of the terminal current since the start, up to the last ``advance`` or ``set_source``."""

    @property
    def terminal_current_a(self) -> float:
        """Current through the terminals now."""

    @property
    def clamped(self) -> bool:
        """True while the source is limited by ``i_limit_a`` and does not hold its level."""
