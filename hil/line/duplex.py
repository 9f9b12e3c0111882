"""A device and its two paced directions, driven by explicit times: what both kinds of line have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from hil.errors import BenchFaultError
from hil.line.pacing import AT_CONTROL, NEVER, READER_RUNS, Chunk, Pacer
from hil.protocols import Device

_MAX_STUCK = 1000
"""So many turns in a row at one nanosecond, asked for are a device that does not move on."""


class Tap(Protocol):
    """Stands in both directions of one line and may change everything: :mod:`hil.faults`. Times in ns."""

    @property
    def next_ns(self) -> int:
        """When it wants to act next by itself, or NEVER."""

    def act(self, t_ns: int) -> None:
        """Do what is due at ``t_ns``; ``next_ns`` moves on."""

    def to_device(self, t_ns: int, data: bytes) -> None:
        """Take bytes for the device; what goes on is pushed into its pacer, now or later."""

    def to_reader(self, t_ns: int, data: bytes) -> None:
        """Take bytes of the device; what goes on is pushed into the reader's pacer, now or later."""

    def discard(self, t_ns: int) -> None:
        """The device drops what it has queued and not begun to send."""

    def cleared(self) -> None:
        """Whatever was on the line is lost."""

    def stepped(self, t_ns: int) -> None:
        """The device has done something by itself."""

    def received(self, t_ns: int, data: bytes) -> None:
        """``data`` has reached the device."""

    def delivered(self, t_ns: int, data: bytes) -> None:
        """``data`` is about to reach the reader."""


class Duplex:
    """Moves bytes and device time forward in the order of their times; implements :class:`hil.protocols.Wire`.

    ``deliver(t_ns, data)`` is called with each run of bytes that reaches the reader, at the time of its last byte.
    What happens at one nanosecond happens in the order device, bytes to the device, bytes to the reader, tap.
    """

    def __init__(self, device: Device, baud: int, chunk: Chunk, deliver: Callable[[int, bytes], None]) -> None:
        """Attach ``device`` to two directions of ``baud`` bit/s (0: bytes take no time)."""
        self.device = device
        self.to_device = Pacer(baud, AT_CONTROL)
        self.to_reader = Pacer(baud, READER_RUNS[chunk])
        self._deliver = deliver
        self._t_ns = 0
        self._tap: Tap | None = None
        device.attach(self)

    def tap(self, tap: Tap) -> None:
        """Let ``tap`` stand in both directions from now on."""
        self._tap = tap

    def write(self, t_ns: int, data: bytes) -> None:
        """Hand bytes for the device to the line."""
        if self._tap is None:
            self.to_device.push(t_ns, data)
        else:
            self._tap.to_device(t_ns, data)

    def send(self, t_ns: int, data: bytes) -> None:
        """Queue bytes of the device; see :class:`hil.protocols.Wire`."""
        if self._tap is None:
            self.to_reader.push(t_ns, data)
        else:
            self._tap.to_reader(t_ns, data)

    def discard(self, t_ns: int) -> None:
        """Drop queued bytes of the device; see :class:`hil.protocols.Wire`."""
        if self._tap is None:
            self.to_reader.discard(t_ns)
        else:
            self._tap.discard(t_ns)

    def clear(self, t_ns: int) -> None:
        """Lose everything that is on the line, as a pulled plug does."""
        self.to_device.clear(t_ns)
        self.to_reader.clear(t_ns)
        if self._tap is not None:
            self._tap.cleared()

    def next_ns(self) -> int:
        """Return when something happens next by itself, or NEVER."""
        event = self.device.next_event_ns()
        due = min(self.to_device.next_ns, self.to_reader.next_ns)
        if self._tap is not None:
            due = min(due, self._tap.next_ns)
        return due if event is None else min(due, event)

    def run_until(self, t_ns: int) -> None:
        """Do everything that is due up to and including ``t_ns``, each thing at its own time."""
        device, to_device, to_reader, tap = self.device, self.to_device, self.to_reader, self._tap
        stuck = 0
        while True:
            asked = device.next_event_ns()
            event = NEVER if asked is None else asked
            arrival, reply = to_device.next_ns, to_reader.next_ns
            due = min(event, arrival, reply)
            if tap is not None and tap.next_ns < due:
                if tap.next_ns > t_ns:
                    return
                self._t_ns = max(self._t_ns, tap.next_ns)
                tap.act(self._t_ns)
                continue
            if due > t_ns:
                return
            if due > self._t_ns:
                stuck = 0
            # Something that is told late what it should have done earlier does it now: time never goes backwards.
            self._t_ns = max(self._t_ns, due)
            if event == due:
                stuck += 1
                if stuck > _MAX_STUCK:
                    raise BenchFaultError(
                        f"{type(device).__name__} asks for time {event} ns again and again: its advance() must "
                        f"do what is due and move next_event_ns() on"
                    )
                device.advance(self._t_ns)
                if tap is not None:
                    tap.stepped(self._t_ns)
            elif arrival == due:
                data = to_device.pop()
                device.receive(self._t_ns, data)
                if tap is not None:
                    tap.received(self._t_ns, data)
            else:
                data = to_reader.pop()
                if tap is not None:
                    tap.delivered(self._t_ns, data)
                self._deliver(self._t_ns, data)


def run_in_order(duplexes: Sequence[Duplex], t_ns: int) -> int:
    """Do everything that is due on any of ``duplexes`` up to ``t_ns``, in the order of the times; return what is next.

    Devices may share what lives on one clock only: a tip that one moves and the other has at its terminals. At the
    same nanosecond the first of ``duplexes`` goes first.
    """
    while True:
        dues = [duplex.next_ns() for duplex in duplexes]
        due_ns = min(dues)
        if due_ns > t_ns:
            return due_ns
        turn = dues.index(due_ns)
        # What one does changes nothing about when another is due: it may go on until then.
        duplexes[turn].run_until(min((t_ns, *dues[:turn], *dues[turn + 1 :])))
