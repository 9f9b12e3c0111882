"""The plug between the emulated stage and the twin: where the tip is over time, and what its deflection signal says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

PositionAt = Callable[[int], float]
"""Position in m at a time in ns, which must not be before the time the path was handed over."""


class Mechanics(Protocol):
    """What the stage moves. Positions are true ones in m; sensor noise is only in what the controller tells."""

    def follow(self, t_ns: int, axis: str, position_m: PositionAt, rest_ns: int) -> None:
        """From ``t_ns`` on ``axis`` is at ``position_m(t)``, until the next call for it.

        From ``rest_ns`` on nothing moves but creep. Called at power-on for every axis, and at every change of motion.
        """

    def signal_v(self, t_ns: int, channel: int) -> float:
        """Return the voltage at an analog input of the controller (1 or above) at ``t_ns``, in V."""


class FlatSurface:
    """A sample surface across the travel of one axis, and a cantilever that bends on it.

    The deflection signal on channel 1 is ``idle_v`` in the air and grows by ``v_per_m`` behind the surface, up to
    10 V. Snap-in, friction and drift belong to the full twin.
    """

    def __init__(
        self, *, axis: str = "3", surface_m: float = 50e-6, v_per_m: float = 50e6, idle_v: float = 0.02
    ) -> None:
        """Put the surface at ``surface_m`` of ``axis``; larger positions press the tip into it."""
        self.axis = axis
        self.surface_m = surface_m
        self.v_per_m = v_per_m
        self.idle_v = idle_v
        self.paths: dict[str, PositionAt] = {}

    def follow(self, t_ns: int, axis: str, position_m: PositionAt, rest_ns: int) -> None:
        """Take a path; see :class:`Mechanics`."""
        del t_ns, rest_ns
        self.paths[axis] = position_m

    def signal_v(self, t_ns: int, channel: int) -> float:
        """Return the deflection signal; other channels are open and read 0 V."""
        if channel != 1 or self.axis not in self.paths:
            return 0.0
        pressed_m = max(0.0, self.paths[self.axis](t_ns) - self.surface_m)
        return min(10.0, self.idle_v + self.v_per_m * pressed_m)


IN_THE_AIR_V: Final = 0.02
"""What a dead deflection signal shows."""
_LIE_V: Final = 1e-3


class DeadDeflection:
    """Mechanics whose deflection signal stays what it is in the air, as with a laser beside its detector."""

    def __init__(self, alive: Mechanics, told: Callable[[int, float], None] | None = None) -> None:
        """Stand before ``alive``; ``told(t_ns, true_v)`` is called whenever the signal lies by more than 1 mV."""
        self.alive = alive
        self._told = told

    def follow(self, t_ns: int, axis: str, position_m: PositionAt, rest_ns: int) -> None:
        """Pass it on."""
        self.alive.follow(t_ns, axis, position_m, rest_ns)

    def signal_v(self, t_ns: int, channel: int) -> float:
        """Return the signal in the air on channel 1; others are as they are."""
        true_v = self.alive.signal_v(t_ns, channel)
        if channel != 1:
            return true_v
        if self._told is not None and abs(true_v - IN_THE_AIR_V) > _LIE_V:
            self._told(t_ns, true_v)
        return IN_THE_AIR_V
