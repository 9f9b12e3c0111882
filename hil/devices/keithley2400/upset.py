"""What a fault plan does to the readings of the emulated 2400: the hook that its acquisition asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hil.devices.keithley2400.unit import Reading, Unit


class Upset(Protocol):
    """Asked around every reading. It may look at the unit, and changes nothing but what it returns."""

    def before(self, unit: Unit) -> int:
        """Return for how many more ns the reading that is about to begin takes."""

    def after(self, unit: Unit, reading: Reading) -> Reading:
        """Return the reading that is kept and sent in place of this one."""
