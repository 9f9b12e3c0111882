"""What is wired to the output enable line of the emulated 2400: a monostable that somebody has to beat.

A :class:`hil.protocols.Device` around the 2400, because the monostable runs out by itself, at its own nanosecond.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable

from hil.devices.keithley2400 import Keithley2400
from hil.devices.monostable import Monostable
from hil.protocols import Wire


class Edge(enum.Enum):
    """What comes over the wires from the host; the values are the emulated wire's datagrams."""

    BEAT = b"B"
    CLEAR = b"C"
    """Clear pulled."""
    RELEASE = b"R"
    """Clear released."""


class EnableLine:
    """A 2400 with a monostable between a heartbeat and its output enable line, which is open until the first beat."""

    def __init__(self, device: Keithley2400, monostable: Monostable) -> None:
        """``monostable``: not shared."""
        self.device = device
        self.monostable = monostable
        self.beats = 0
        self.look: Callable[[], None] = lambda: None
        """Called before the line opens by itself: takes in edges that came in time and were not read yet."""
        self._waiting: deque[tuple[int, Edge]] = deque()
        self._closed = False
        self._t_ns = 0

    @property
    def closed(self) -> bool:
        """Whether the line is low, and the output may be on."""
        return self._closed

    def edge(self, t_ns: int, kind: Edge) -> None:
        """Take an edge of ``t_ns``. It acts when time gets there, or with the next step where time is beyond it."""
        self._waiting.append((t_ns, kind))

    def refresh(self, t_ns: int) -> None:
        """Bring the line in line with a monostable that broke, or was repaired, at ``t_ns``."""
        self._pass(t_ns)
        self._move(t_ns)

    # -- a device on a line

    @property
    def xon_xoff(self) -> bool:
        """See the 2400."""
        return self.device.xon_xoff

    def attach(self, wire: Wire) -> None:
        """See Device."""
        self.device.attach(wire)

    def receive(self, t_ns: int, data: bytes) -> None:
        """See Device."""
        self._pass(t_ns)
        self.device.receive(t_ns, data)

    def next_event_ns(self) -> int | None:
        """See Device."""
        dues = [
            due
            for due in (
                self.device.next_event_ns(),
                self._opens_ns(),
                self._waiting[0][0] if self._waiting else None,
            )
            if due is not None
        ]
        return min(dues) if dues else None

    def advance(self, t_ns: int) -> None:
        """See Device."""
        self._pass(t_ns)
        self.device.advance(t_ns)

    # -- inside

    def _opens_ns(self) -> int | None:
        return self.monostable.opens_ns if self._closed else None

    def _pass(self, t_ns: int) -> None:
        """Let edges come, and the monostable run out, each at its own time, up to ``t_ns``."""
        looked_ns = -1
        while True:
            opens_ns = self._opens_ns()
            if self._waiting and self._waiting[0][0] <= (t_ns if opens_ns is None else min(t_ns, opens_ns)):
                at_ns, kind = self._waiting.popleft()
                self._take(at_ns, kind)
                self._move(at_ns)
            elif opens_ns is None or opens_ns > t_ns:
                break
            elif looked_ns != opens_ns:
                looked_ns = opens_ns
                self.look()
            else:
                self.monostable.expire(opens_ns)
                self._move(opens_ns)
        self._t_ns = max(self._t_ns, t_ns)

    def _take(self, t_ns: int, kind: Edge) -> None:
        if kind is Edge.BEAT:
            self.beats += 1
            self.monostable.beat(t_ns)
        elif kind is Edge.CLEAR:
            self.monostable.pull_clear()
        else:
            self.monostable.release_clear()

    def _move(self, t_ns: int) -> None:
        # What is told late moves the line when it is told; the 2400 may have gone further than its line, too.
        at_ns = max(t_ns, self._t_ns, self.device.time_ns or 0)
        closed = self.monostable.closed(at_ns)
        if closed != self._closed:
            self._closed = closed
            self.device.output_enable_line(at_ns, closed=closed)
