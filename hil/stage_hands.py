"""A stage bench under way: where its axes really are, and hands that act behind the line's back."""

from __future__ import annotations

from collections.abc import Callable

from edge.clock import Clock
from hil.line.memory import MemoryLine
from hil.protocols import StageDevice


class StageHands:
    """Base of the benches that put a stage's driver and an emulated controller on one line in memory."""

    def __init__(self, clock: Clock, device: StageDevice, baud: int) -> None:
        """Plug ``device`` into a line of ``baud`` bit/s."""
        self.clock = clock
        self._device = device
        self.line = MemoryLine(device, clock, baud)

    def true_um(self, axis: str) -> float:
        """Return where an axis really is now, in um."""
        return self._device.position_m(self.clock.now_ns(), axis) * 1e6

    def moving(self) -> bool:
        """Tell whether any axis really moves now."""
        return any(self._device.moving(self.clock.now_ns(), name) for name in self._device.axis_names)

    async def pause(self, duration_ns: int) -> None:
        """Let time pass."""
        await self.clock.sleep_until(self.clock.now_ns() + duration_ns)

    async def at(self, delay_ns: int, act: Callable[[], object]) -> None:
        """Do something to the controller, behind the line's back, after ``delay_ns``."""
        await self.pause(delay_ns)
        act()
        self.line.poke()
