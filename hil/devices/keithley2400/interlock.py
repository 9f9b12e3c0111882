"""What keeps the output of the emulated 2400 off: the output enable line at the rear, and the temperature.

The line (``/OE``, pin 8 of the digital port) acts only while output enable is on (``:OUTP:ENAB``, or the CONFIG OUTPUT
menu). Then a line that goes high switches the output off into high impedance, whatever the unit is executing, within
100 us; and "the output can only be turned back on by first closing the lid of the test fixture and then pressing the
OUTPUT ON/OFF key" (User's Manual 13-6, 13-7). Whether a unit really refuses ``:OUTP ON`` over the bus until the key was
pressed is not established: ``rearm`` says which it is.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from hil.devices.keithley2400.errors import OUTPUT_BLOCKED, TOO_HOT

RESPONSE_NS: Final = 100_000
"""From the line going high to the output being off: "allow 100us settling and response time" (User's Manual 13-7)."""


class Rearm(enum.Enum):
    """What switches the output on again after the line has switched it off and is low again."""

    KEY = "key"
    """The OUTPUT key only, as the manual says; a ``*RST``, which turns output enable off, does not replace it."""
    REMOTE = "remote"
    """``:OUTP ON`` too."""


@dataclass(slots=True)
class Interlock:
    """State of the line and the temperature. A line with nothing plugged in is high (``closed`` False)."""

    rearm: Rearm = Rearm.KEY
    enabled: bool = False
    closed: bool = False
    hot: bool = False
    latched: bool = False
    """The line has switched the output off, and nobody has pressed the key since."""

    @property
    def violated(self) -> bool:
        """Whether the line, or the temperature, holds the output off now."""
        return self.hot or (self.enabled and not self.closed)

    @property
    def refusal(self) -> int | None:
        """The error that refuses an output-on over the bus, or None: +810 too hot, +802 output enable."""
        if self.hot:
            return TOO_HOT
        return OUTPUT_BLOCKED if self.enabled and (self.latched or not self.closed) else None

    def enable(self, *, on: bool) -> None:
        """Turn output enable on or off; off, the line has no effect any more (18-56)."""
        self.enabled = on
        if not on and self.rearm is Rearm.REMOTE:
            self.latched = False

    def set_line(self, *, closed: bool) -> None:
        """Pull the line low, or let it go high."""
        self.closed = closed
        if closed and self.rearm is Rearm.REMOTE:
            self.latched = False

    def press_key(self) -> None:
        """Rearm, as the OUTPUT key does once the line is low."""
        if self.closed:
            self.latched = False
