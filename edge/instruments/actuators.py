"""What takes the bias away beside the serial line, and faster: :class:`CutActuator`, and the one there is, ``gpio``.

The serial way is not one of these: its bytes, its rounds and its proof are :mod:`edge.guard.cut`, and it is what every
cut ends with, because it alone is verified. An actuator acts before it and is believed only as far as the instrument
shows (:mod:`edge.controller.enable_line`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from edge.clock import Clock
from edge.config import GpioConfig
from edge.instruments.gpio_lines import GpioLines

SERIAL: Final = "serial"
"""What a cut's own bytes are called where actuators are listed."""
LINE_RESPONSE_S: Final = 0.0001
"""From the line going high to the output being off: "allow 100us settling and response time" (2400 manual 13-7)."""


class CutActuator(Protocol):
    """Something that can take the bias away at once."""

    name: str
    cut_ns: int
    """When it was first told to in the present cut, CLOCK_MONOTONIC; 0: it was not."""

    def cut(self) -> None:
        """Take the bias away. Called in the hot path before the first serial byte: waits for nothing, never raises."""

    def cut_over(self) -> None:
        """Forget the cut; it was verified, or given up."""

    def describe(self) -> dict[str, Any]:
        """Return what a status shows of it; plain values."""


def together(actuators: tuple[CutActuator, ...]) -> Callable[[], None] | None:
    """Return what takes the bias away by all of them, in their order; None where there is none."""
    if len(actuators) < 2:
        return actuators[0].cut if actuators else None
    cuts = tuple(one.cut for one in actuators)

    def cut() -> None:
        for one in cuts:
            one()

    return cut


class GpioActuator:
    """The heartbeat into a monostable on the 2400's output enable line, and the monostable's clear where it is wired.

    Who calls :meth:`beat` decides when (:mod:`edge.controller.heartbeat`); no beat is a cut, ``monostable_s`` after the
    last one. :meth:`cut` does not wait for that where clear is wired.
    """

    name = "gpio"

    def __init__(self, config: GpioConfig, lines: GpioLines, clock: Clock) -> None:
        """``clock``: dates a cut. Nothing is driven."""
        self.config = config
        self.lines = lines
        self.cut_ns = 0
        self.beats = 0
        self.held = False
        """No beats for the moment: somebody looks whether silence is seen."""
        self.clear_held = False
        """Beats do not release clear for the moment: somebody looks whether clear is seen."""
        self._has_clear = config.clear_line is not None
        self._pulled = False
        self._clock = clock

    @property
    def within_s(self) -> float:
        """How long after :meth:`cut` the path is open at the latest."""
        return LINE_RESPONSE_S + (0.0 if self._has_clear else self.config.monostable_s)

    @property
    def clears(self) -> bool:
        """Whether it acts at once."""
        return self._has_clear

    def cut(self) -> None:
        """See CutActuator. The beats end by themselves: the state forbids them."""
        self.pull()
        if not self.cut_ns:
            self.cut_ns = self._clock.now_ns()

    def cut_over(self) -> None:
        """See CutActuator."""
        self.cut_ns = 0

    def pull(self) -> None:
        """Pull clear, where it is wired; the next beat releases it."""
        if self._has_clear:
            self._pulled = True
            self.lines.clear(pulled=True)

    def beat(self) -> None:
        """Give one edge, clear released before it."""
        if self._pulled and not self.clear_held:
            self._pulled = False
            self.lines.clear(pulled=False)
        self.lines.beat()
        self.beats += 1

    def describe(self) -> dict[str, Any]:
        """See CutActuator."""
        config = self.config
        return {
            "chip": self.lines.name,
            "emulated": self.lines.emulated,
            "heartbeat_line": config.heartbeat_line,
            "clear_line": config.clear_line,
            "within_s": self.within_s,
            "beats": self.beats,
            "lost": self.lines.lost or None,
        }
