"""What the controller needs of any stage, and of anything that can tell contact. SI units throughout.

A stage is on a line of its own: no message to it can delay a cut. A controller with another vocabulary needs
no new driver but a command map (:mod:`edge.instruments.scpi_stage`); third parties add drivers by the entry point
``tipguard.stage``. All share the deadlines and the errors that stand here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from edge.errors import InstrumentError, LocalError

MOVE_MARGIN: Final = 1.5
"""A move may take this much longer than its distance at its velocity before it counts as stalled."""


@dataclass(frozen=True, slots=True)
class StageIdentity:
    """Who is behind the port."""

    model: str
    serial_number: str
    firmware: str


@dataclass(frozen=True, slots=True)
class StageAxis:
    """One axis as the controller tells it: limits of travel in m, ``velocity_m_s`` of the next move."""

    name: str
    low_m: float
    high_m: float
    velocity_m_s: float


@dataclass(frozen=True, slots=True)
class StageStatus:
    """One look at a stage, all axes together.

    ``t_ns``: before the first of its questions was sent, so that its age is never underestimated. ``on_target``: every
    axis is within its settling window, for its settling time. ``error``: number of an error nobody has dealt with, 0
    for none; that of a stop we asked for does not count.
    """

    t_ns: int
    moving: bool
    on_target: bool
    servo_on: bool
    error: int


class StageError(InstrumentError):
    """A stage did not do what it was told. ``code`` is its error number, 0 if it named none."""

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class StageRefusedError(StageError):
    """A stage refused a command; nothing moved because of it."""


class StageStalledError(StageError, TimeoutError):
    """A move did not reach its target in time; the stage was told to stop."""


class StageStoppedError(StageError):
    """A move ended because somebody called ``stop``."""


class TargetReadbackError(StageError):
    """A target read back differs from the one that was sent; the stage was told to stop."""


class TargetOutsideError(LocalError, ValueError):
    """A target is outside the travel, or no position at all; nothing was sent. ``axis`` and ``target_m`` say which."""

    def __init__(self, message: str, *, axis: str, target_m: float) -> None:
        super().__init__(message)
        self.axis = axis
        self.target_m = target_m


class Stage(Protocol):
    """One stage. Before ``start`` only ``stop`` may be called."""

    @property
    def axes(self) -> Mapping[str, StageAxis]:
        """The axes by name, in the controller's order; known once ``start`` has returned."""

    async def start(self) -> StageIdentity:
        """Find out who is there, what it can do, and its axes; moves nothing.

        Raises ReplyTimeoutError, or InstrumentError where something that is needed is missing.
        """

    async def servo(self, *, on: bool) -> None:
        """Close or open the loops of all axes and read them back; raises StageError."""

    async def reference(self) -> None:
        """Reference what needs it. It moves: lift the tip first. Does nothing where sensors are absolute."""

    async def move_to(self, targets_m: Mapping[str, float]) -> dict[str, float]:
        """Move axes to absolute targets in m and return the positions in m once all are on target.

        Raises TargetOutsideError before anything is sent, StageRefusedError, TargetReadbackError, StageStalledError,
        StageStoppedError, ReplyTimeoutError or LinkLostError; after each of them but the first two the stage has been
        told to stop, as after a cancellation.
        """

    def stop(self) -> None:
        """Stop all axes now. Sends and returns: never waits, never raises. ``stopped`` proves it."""

    async def stopped(self) -> None:
        """Wait until nothing moves, repeating the stop; raises StageError where that fails."""

    async def position(self) -> dict[str, float]:
        """Return where the sensors say the axes are, in m."""

    async def on_target(self) -> bool:
        """Tell whether every axis is on target."""

    async def status(self) -> StageStatus:
        """Look at everything an interlock needs."""

    async def take_error(self) -> int:
        """Return the error nobody has dealt with, 0 for none, and forget it."""


@runtime_checkable
class Remarking(Protocol):
    """A stage that has something to tell a person who checks the rig: what it cannot verify, once it has started."""

    @property
    def remarks(self) -> Sequence[str]:
        """Sentences without a full stop; empty if there is nothing."""


class Contact(Protocol):
    """Tells whether the tip touches the sample. A current of picoamperes cannot: an HRS looks like air."""

    async def in_contact(self) -> bool:
        """Return True once the signal has been above its threshold for its holding time, False at the first that is
        not. Raises InstrumentError where the signal cannot be read: unknown is not "lifted".
        """

    async def signal_v(self) -> float:
        """Return the deflection signal now, in V."""


def move_deadline_s(distances_m: Mapping[str, float], axes: Mapping[str, StageAxis], settle_s: float) -> float:
    """Return how long a move may take: the slowest axis with a margin of half, and ``settle_s`` for the settling."""
    longest = max((abs(distance) / axes[name].velocity_m_s for name, distance in distances_m.items()), default=0.0)
    return longest * MOVE_MARGIN + settle_s


def check_targets(targets_m: Mapping[str, float], axes: Mapping[str, StageAxis]) -> None:
    """Raise TargetOutsideError for an unknown axis, a target outside the travel, or no number; or for no target."""
    if not targets_m:
        raise TargetOutsideError("a move needs at least one axis", axis="", target_m=math.nan)
    for name, target in targets_m.items():
        axis = axes.get(name)
        if axis is None:
            raise TargetOutsideError(
                f"axis {name!r}: there is none; this stage has {', '.join(axes)}", axis=name, target_m=target
            )
        # A picometre: what converting between m and the controller's unit may lose, and nothing a stage could do.
        if not axis.low_m - 1e-12 <= target <= axis.high_m + 1e-12:
            raise TargetOutsideError(
                f"axis {name}: target {target * 1e6:g} um is outside its travel, {axis.low_m * 1e6:g} to "
                f"{axis.high_m * 1e6:g} um; nothing was sent",
                axis=name,
                target_m=target,
            )
