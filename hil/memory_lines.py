"""The wires from a controller to the monostable at the emulated 2400, in memory and virtual time."""

from __future__ import annotations

from typing import Protocol

from edge.clock import Clock
from hil.devices.enable_line import Edge, EnableLine


class _Poked(Protocol):
    def poke(self) -> None:
        """Look again when the device acts next."""


class MemoryLines:
    """The controller's end in virtual time; implements :class:`edge.instruments.gpio_lines.GpioLines`."""

    emulated = True
    name = "memory"
    lost = ""

    def __init__(self, enable: EnableLine, clock: Clock, line: _Poked) -> None:
        """``line``: what the 2400 hangs on; it has to look again when an edge has come."""
        self._enable = enable
        self._clock = clock
        self._line = line
        self.broken = False
        """A fault: the wires are cut, and no edge arrives."""

    def beat(self) -> None:
        """See GpioLines."""
        self._send(Edge.BEAT)

    def clear(self, *, pulled: bool) -> None:
        """See GpioLines."""
        self._send(Edge.CLEAR if pulled else Edge.RELEASE)

    def close(self) -> None:
        """See GpioLines."""

    def _send(self, kind: Edge) -> None:
        if not self.broken:
            self._enable.edge(self._clock.now_ns(), kind)
            self._line.poke()
