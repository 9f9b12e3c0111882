"""The front end as what takes the bias away in a cut: its switch is in series with the tip."""

from __future__ import annotations

from typing import Any, Final

from edge.clock import Clock
from edge.instruments.frontend_reader import FrontendReader
from firmware_proto.frontend.framing import TRIP_BYTES

BITS_PER_BYTE: Final = 10
SAMPLE_S: Final = 100e-6
"""The main loop takes the line's bytes between two samples; a period at 10 kS/s, the slowest port there is."""


class FrontendActuator:
    """Implements :class:`edge.instruments.actuators.CutActuator`: a cut is a TRIP, before anything that waits."""

    name = "frontend"

    def __init__(self, frontend: FrontendReader, clock: Clock, *, baud: int) -> None:
        """``clock``: dates a cut. ``baud``: of the line, in bit/s; 0 where bytes take no time. Nothing is sent."""
        self.frontend = frontend
        self.cut_ns = 0
        self._clock = clock
        self._baud = baud

    @property
    def within_s(self) -> float:
        """How long after :meth:`cut` the path is open: the bytes on the line, and their turn in the device.

        Without a line to the device it is the lease that opens, at most ``frontend.lease_s`` later.
        """
        wire_s = (len(TRIP_BYTES) + 1) * BITS_PER_BYTE / self._baud if self._baud else 0.0
        welcome = self.frontend.welcome
        return wire_s + SAMPLE_S + (0.0 if welcome is None else welcome.switch_open_ns / 1e9)

    def cut(self) -> None:
        """See CutActuator. A TRIP goes out, and again until the device says that it has tripped."""
        self.frontend.trip()
        if not self.cut_ns:
            self.cut_ns = self._clock.now_ns()

    def cut_over(self) -> None:
        """See CutActuator."""
        self.cut_ns = 0

    def describe(self) -> dict[str, Any]:
        """See CutActuator."""
        frontend = self.frontend
        return {
            "port": frontend.name,
            "emulated": frontend.emulated,
            "within_s": self.within_s,
            "state": None if frontend.state is None else frontend.state.name,
            "closed": frontend.closed,
            "lost": frontend.lost_because or None,
        }
