"""A rig without a front end, one whose port is gone, and which of the three a rig is.

Most rigs have none; they load nothing of what one needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from edge.clock import Clock
from edge.config import Config
from edge.controller.recorder import Recorder
from edge.controller.report import Report
from edge.errors import InterlockError, PlanRefusedError
from edge.guard.phases import PhaseSpec
from edge.instruments.actuators import CutActuator
from edge.instruments.transport import Transport

if TYPE_CHECKING:
    from edge.instruments.frontend_values import Trip

ALARM: Final = "FRONTEND"


class NoFrontEnd:
    """A rig without one: nothing to do. :class:`FrontEnd` is the other kind."""

    actuator: CutActuator | None = None
    report: Report
    """The engine's."""
    on_trip: Callable[[Trip], None]
    """Told by the reader, in its own call stack, that the device has opened by itself."""
    on_fault: Callable[[str], None]
    """Told, in words, that the device no longer protects."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of it."""
        return ()

    async def look(self) -> None:
        """See at a start what is there; a fault is an alarm, and the first arming says it again."""

    async def prepare(self, spec: PhaseSpec) -> None:
        """Have it SAFE, with the limits of a phase in force and read back; the output is off."""

    async def arm(self) -> None:
        """Close its switch and see it closed; raises InterlockError, or what asking it may end in."""

    def disarm(self) -> None:
        """Nothing was energised: open."""

    def tick(self, now_ns: int, *, well: bool) -> None:
        """Renew the lease where ``well``: called by the control task every 20 ms, and by nobody else."""

    def after_cut(self) -> None:
        """The output is verified off: open."""

    def instead(self, *, onset_found: bool) -> dict[str, Any]:  # noqa: ARG002 - a rig without one has seen nothing
        """Return what it knows better of a setting event than the instrument's readings; empty for nothing."""
        return {}

    def in_event(self, cut_ns: int) -> dict[str, Any] | None:  # noqa: ARG002 - as above
        """Return what it has to say of a cut that was decided at ``cut_ns``; None for nothing."""
        return None

    def rest(self) -> None:
        """No run is under way."""

    def adopt(self) -> None:
        """The task that runs is the control task."""

    def memory(self) -> dict[str, Any]:
        """Return what it keeps from run to run and its start-up does not lead to; plain values."""
        return {}

    def remember(self, memory: dict[str, Any]) -> None:
        """Take over what :meth:`memory` gave."""

    def close(self) -> None:
        """Let go of the line; this life ends. What the device keeps, it keeps for the next."""

    def describe(self) -> dict[str, Any] | None:
        """Return what a status shows; None for a rig without one."""
        return None

    @property
    def at_rest(self) -> bool:
        """It is not spoken to."""
        return True


class AbsentFrontEnd(NoFrontEnd):
    """Stands where a front end is configured and its port is gone: the output stays off."""

    def __init__(self, path: str) -> None:
        """``path``: where it should be."""
        self._why = f"port {path} is gone; plug it in, then restart the controller"

    async def look(self) -> None:
        """See NoFrontEnd."""
        self.report.raise_alarm(ALARM, self._why)

    async def prepare(self, spec: PhaseSpec) -> None:
        """See NoFrontEnd. Raises PlanRefusedError."""
        del spec
        raise PlanRefusedError(f"the front end's {self._why}; nothing was energised", reason="frontend")

    async def arm(self) -> None:
        """See NoFrontEnd. Raises InterlockError."""
        raise InterlockError(f"the front end's {self._why}: the output stays off")

    def describe(self) -> dict[str, Any]:
        """See NoFrontEnd."""
        return {"lost": self._why, "spoken_to": False}


def front_end(config: Config, transport: Transport | None, clock: Clock, recorder: Recorder) -> NoFrontEnd:
    """Return the front end of a rig, or what stands in its place. ``transport``: None where its port is gone."""
    if config.frontend is None or config.ports.frontend is None:
        return NoFrontEnd()
    if transport is None:
        return AbsentFrontEnd(config.ports.frontend.path)
    from edge.controller.front_end import FrontEnd

    return FrontEnd(config, config.frontend, transport, clock, recorder)


def why_unrecorded(config: Config) -> str | None:
    """Return why the flight record leaves this rig's front end out, and so cannot be replayed; None: it does not."""
    if config.frontend is None or config.frontend.recording != "full":
        return None
    return (
        'the front end was recorded "full", and its samples would fill the flight record as fast as the ring; record '
        '"event" or "decimated" for a run that is to be replayed'
    )
