"""The tip over the sample: lifted, moved, brought down; and looked after while the bias is on.

What stage and bias may not do at the same time stands in :mod:`edge.guard.interlocks`; this asks it before every move,
and gives the engine what it needs to keep the output off, or to cut, for what the stage does. All lengths in m.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from edge.clock import Clock
from edge.config import Config
from edge.controller.report import Report
from edge.errors import (
    InstrumentError,
    InterlockError,
    LinkLostError,
    NoContactError,
    WrongInstrumentError,
)
from edge.guard.guard import Guard
from edge.guard.interlocks import (
    POLL_NS,
    AfterTrip,
    Interlock,
    Move,
    after_trip,
    energised_fault,
    move_refusal,
    output_on_refusals,
)
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from edge.instruments.stage import (
    Contact,
    Stage,
    StageIdentity,
    StageStatus,
    StageStoppedError,
    TargetOutsideError,
)

IDLE_LOOK_NS: Final = 1_000_000_000
RETRY_NS: Final = 2_000_000_000
"""Between two tries to find a stage that did not answer, or to lift a tip that did not move."""
HELD_M: Final = 20e-9
"""How far an axis may be from where it was when the output went on: more than noise and creep, less than any use."""
STOP_LOOK_NS: Final = 50_000_000
"""How long a pause for settling takes to hear a stop."""
ALARM: Final = "STAGE"
LIFT_ALARM: Final = "TIP_NOT_LIFTED"


class AbsentStage:
    """Stands where a stage is configured and its port is gone: the output stays off."""

    def output_on_refusals(self, _now_ns: int) -> tuple[Interlock, ...]:
        """See Tip."""
        return (Interlock.STAGE_UNSEEN,)

    def fault(self, _now_ns: int) -> tuple[Verdict, tuple[Interlock, ...]] | None:
        """See Tip; nothing can be on."""
        return Verdict.STAGE_FAULT, (Interlock.STAGE_UNSEEN,)


class Tip:
    """One tip, its stage and its contact signal. All methods belong to the loop's thread."""

    def __init__(
        self, config: Config, stage: Stage, contact: Contact, guard: Guard, clock: Clock, report: Report
    ) -> None:
        """Bind; sends nothing."""
        self._settings = config.stage
        self._stage = stage
        self._contact = contact
        self._guard = guard
        self._clock = clock
        self._report = report
        self._towards = 1.0 if self._settings.towards_sample == "+" else -1.0
        self._busy = asyncio.Lock()
        self._stops = 0
        self._held_m: dict[str, float] = {}
        self._find_ns = 0
        self._lift_ns = 0
        self._lost = False
        self._wake_ns = 0
        self._resting = False
        self.identity: StageIdentity | None = None
        self.status: StageStatus | None = None
        """The last look; None before the first."""
        self.position_m: dict[str, float] | None = None
        """Where the sensors said the axes are, at the last look with the output off, or the last move."""
        self.surface_m: float | None = None
        """z at the last contact."""
        self.lifted = False
        """The tip was lifted and seen off the sample, and has not been brought down since."""

    # -- what the engine asks

    def output_on_refusals(self, now_ns: int) -> tuple[Interlock, ...]:
        """Return why the output must stay off for what the stage does; empty if it may go on."""
        return output_on_refusals(self.status, now_ns)

    def fault(self, now_ns: int) -> tuple[Verdict, tuple[Interlock, ...]] | None:
        """Return why a bias that is on must go, or None. Called every 20 ms while ENERGISED."""
        found = energised_fault(self.status, now_ns)
        if found is not None:
            # Where the tip is now is not what we did to it: it has to be lifted, and seen off, again.
            self.lifted = False
        return found

    # -- beginnings and looks

    @property
    def ready(self) -> bool:
        """The stage has answered and is the right one."""
        return self.identity is not None and not self._lost

    async def start(self) -> None:
        """Find out who is there; moves nothing. Raises InstrumentError or LinkLostError saying what is wrong."""
        identity = await self._stage.start()
        wanted = self._settings.serial_number
        if wanted is not None and identity.serial_number != wanted:
            raise WrongInstrumentError(
                f"ports.stage: serial number {identity.serial_number!r} ({identity.model}) answers, "
                f"stage.serial_number is {wanted!r}; check the cable, or correct the configuration"
            )
        missing = [name for name in self._names if name not in self._stage.axes]
        if missing:
            raise InstrumentError(
                f"ports.stage: {identity.model} has axes {', '.join(self._stage.axes)}, and no {', '.join(missing)}; "
                "correct stage.x, stage.y, stage.z"
            )
        self.identity = identity
        await self._look()
        self.position_m = await self._stage.position()

    @property
    def _names(self) -> tuple[str, str, str]:
        return self._settings.x, self._settings.y, self._settings.z

    def outside(self, x_m: float, y_m: float) -> str | None:
        """Say in a few words why a target is outside the travel; None if it is within."""
        for name, what, target_m in ((self._settings.x, "x", x_m), (self._settings.y, "y", y_m)):
            axis = self._stage.axes[name]
            # Written so that a NaN is outside.
            if not axis.low_m <= target_m <= axis.high_m:
                return (
                    f"{what} {target_m * 1e6:.6g} um is outside the travel, {axis.low_m * 1e6:g} to "
                    f"{axis.high_m * 1e6:g} um"
                )
        return None

    async def look(self) -> StageStatus:
        """Look at the stage now. Raises what the stage raises, and InstrumentError before it has answered."""
        self._refuse_unready()
        async with self._busy:
            return await self._look()

    async def hold(self) -> StageStatus:
        """Look at the stage and remember where it stands, for the output to go on. Raises as ``look``."""
        self._refuse_unready()
        async with self._busy:
            # The position first: the look has to be fresh.
            self._held_m = await self._stage.position()
            return await self._look()

    async def _watch(self) -> None:
        """Look while ENERGISED. What came and went between two looks shows in where the axes are."""
        async with self._busy:
            status = await self._stage.status()
            here_m = await self._stage.position()
        away = any(not abs(here_m[name] - held_m) <= HELD_M for name, held_m in self._held_m.items())
        self.status = dataclasses.replace(status, moving=True) if away else status

    async def _look(self) -> StageStatus:
        status = await self._stage.status()
        self.status = status
        return status

    def _refuse_unready(self) -> None:
        if not self.ready:
            raise InstrumentError(
                f"the stage is not there: {self._report.alarms.get(ALARM, 'it has not answered yet')}"
            )

    async def begin(self) -> None:
        """Forget what an earlier run left behind: an error it had, told or not. Raises the stage's errors."""
        self._refuse_unready()
        async with self._busy:
            code = await self._stage.take_error()
        if code:
            self._report.notice("the stage had an error from before", code=code)

    def stop(self) -> None:
        """Stop all axes now; never waits, never raises. A move or an approach under way raises StageStoppedError."""
        self._stops += 1
        if self._busy.locked():
            self._stage.stop()

    # -- moves

    async def lift(self) -> dict[str, float]:
        """Lift the tip by ``stage.lift_m`` off the last surface and see that it is off; return the position.

        Where no surface is known: off where it is. Raises InterlockError, the stage's errors, and NoContactError if
        the signal still says contact.
        """
        self._refuse_unready()
        async with self._busy:
            self._allow(Move.RETRACT)
            z = self._settings.z
            here_m = (await self._stage.position())[z]
            touching = await self._contact.in_contact()
            from_m = here_m if touching or self.surface_m is None else self.surface_m
            target_m = self._above(from_m, self._settings.lift_m)
            if not touching and (self.lifted or (target_m - here_m) * self._towards >= 0):
                # Up there already.
                position_m = await self._stage.position()
            else:
                self.lifted = False
                position_m = await self._stage.move_to({z: target_m})
            self.position_m = position_m
            if await self._contact.in_contact():
                raise NoContactError(
                    f"the deflection signal still says contact {self._settings.lift_m * 1e9:.0f} nm above the surface; "
                    "does the tip stick (raise stage.lift_m), or is contact.threshold_v below the signal in the air?"
                )
            self.lifted = True
            return position_m

    def _above(self, surface_m: float, distance_m: float) -> float:
        """Return z at a distance from the surface on the tip's side, as far as the travel goes."""
        axis = self._stage.axes[self._settings.z]
        return min(max(surface_m - self._towards * distance_m, axis.low_m), axis.high_m)

    async def move(self, x_m: float, y_m: float) -> dict[str, float]:
        """Move the lifted tip along the surface; return the position. Raises InterlockError or the stage's errors."""
        self._refuse_unready()
        began = self._stops
        async with self._busy:
            # What somebody else has done to z since the lift, only the signal tells.
            if not self.lifted or await self._contact.in_contact():
                self.lifted = False
                raise InterlockError("the tip is not lifted; a move along the surface would drag it")
            self._refuse_if_stopped(began)
            self._allow(Move.LATERAL)
            self.position_m = await self._stage.move_to({self._settings.x: x_m, self._settings.y: y_m})
            return self.position_m

    async def approach(self) -> tuple[int, dict[str, float]]:
        """Bring the tip down until contact; return when that was (ns) and the position, once it has settled.

        Raises NoContactError after ``stage.approach_max_m`` without contact, the tip then being where it began;
        InterlockError; the stage's errors.
        """
        self._refuse_unready()
        began = self._stops
        async with self._busy:
            self._allow(Move.APPROACH)
            z = self._settings.z
            z_m = from_m = (await self._stage.position())[z]
            self.lifted = False
            if self.surface_m is not None:
                near_m = self._above(self.surface_m, self._settings.approach_window_m)
                if (near_m - z_m) * self._towards > 0 and not await self._contact.in_contact():
                    self._refuse_if_stopped(began)
                    self._allow(Move.APPROACH)
                    z_m = (await self._stage.move_to({z: near_m}))[z]
            try:
                await self._step_down(z_m, began)
            except NoContactError:
                # Back to where it began: one approach after the other must not walk the tip into the sample.
                with contextlib.suppress(InstrumentError, InterlockError):
                    self._allow(Move.RETRACT)
                    await self._stage.move_to({z: from_m})
                raise
            contact_ns = self._clock.now_ns()
            position_m = await self._stage.position()
            self.surface_m = position_m[z]
            await self._settle(contact_ns + int(self._settings.settle_s * 1e9), began)
            self.position_m = await self._stage.position()
            return contact_ns, self.position_m

    async def _settle(self, until_ns: int, began: int) -> None:
        while (now_ns := self._clock.now_ns()) < until_ns:
            await self._clock.sleep_until(min(until_ns, now_ns + STOP_LOOK_NS))
            self._refuse_if_stopped(began)

    def _refuse_if_stopped(self, began: int) -> None:
        # A stop between two moves finds no axis moving: without this the next one would begin all the same.
        if self._stops != began:
            raise StageStoppedError("the stage was stopped")

    async def _step_down(self, from_m: float, began: int) -> None:
        settings = self._settings
        steps = round(settings.approach_max_m / settings.approach_step_m)
        axis = self._stage.axes[settings.z]
        for step in range(steps + 1):
            touching = await self._contact.in_contact()
            self._refuse_if_stopped(began)
            if touching:
                return
            if step < steps:
                # From the beginning and not from where it arrived: settling errors must not add up.
                target_m = from_m + self._towards * (step + 1) * settings.approach_step_m
                if not axis.low_m <= target_m <= axis.high_m:
                    raise NoContactError(
                        f"no contact before the end of axis {settings.z}'s travel; bring the tip closer by hand, or "
                        "look at stage.towards_sample"
                    )
                self._allow(Move.APPROACH)
                await self._stage.move_to({settings.z: target_m})
        raise NoContactError(
            f"no contact within {settings.approach_max_m * 1e9:.0f} nm of the approach; bring the tip closer by hand, "
            "or look at the deflection signal and contact.threshold_v"
        )

    async def touching(self) -> bool:
        """Tell whether the tip is in contact. Raises the stage's errors: unknown is not "lifted"."""
        self._refuse_unready()
        async with self._busy:
            return await self._contact.in_contact()

    def _allow(self, move: Move) -> None:
        refused = move_refusal(
            self._guard.state,
            move,
            cut_alarm=Verdict.CUT_UNVERIFIED.value in self._report.alarms,
            last_resort=self._settings.lift_unverified,
        )
        if refused is not None:
            raise InterlockError(f"{move.value} not allowed: {refused.value} (state {self._guard.state.value})")

    # -- looked after

    @property
    def at_rest(self) -> bool:
        """The stage is there and nobody asks it anything."""
        return self.ready and not self._busy.locked() and self._resting

    def memory(self) -> dict[str, Any]:
        """Return what only this object knows of a tip at rest; plain values."""
        return {
            "held_m": dict(self._held_m),
            "stops": self._stops,
            "find_ns": self._find_ns,
            "lift_ns": self._lift_ns,
            "wake_ns": self._wake_ns,
        }

    def remember(self, memory: Mapping[str, Any]) -> None:
        """Take over what :meth:`memory` gave; before :meth:`tend`."""
        self._held_m = dict(memory["held_m"])
        self._stops = memory["stops"]
        self._find_ns = memory["find_ns"]
        self._lift_ns = memory["lift_ns"]
        self._wake_ns = memory["wake_ns"]

    async def tend(self) -> None:
        """Look at the stage every 100 ms while ENERGISED, lift the tip after a trip; until cancelled."""
        if self._wake_ns:
            await self._clock.sleep_until(self._wake_ns)
        while True:
            try:
                await self._tend_once()
            except LinkLostError as error:
                self._lost = True
                self._alarm(ALARM, f"{error}; plug it in, then restart the controller")
            except (InstrumentError, InterlockError, TargetOutsideError) as error:
                self._alarm(ALARM, str(error))
                self._find_ns = self._clock.now_ns() + RETRY_NS
            self._wake_ns = self._clock.now_ns() + POLL_NS
            self._resting = True
            await self._clock.sleep_until(self._wake_ns)
            self._resting = False

    async def _tend_once(self) -> None:
        now_ns = self._clock.now_ns()
        state = self._guard.state
        if self._lost:
            return
        if self.identity is None:
            if now_ns >= self._find_ns:
                await self.start()
                self._report.clear_alarm(ALARM)
            return
        if state is State.ENERGISED:
            await self._watch()
            return
        tripped = state is State.TRIPPED or (state is State.CUTTING and self._guard.machine.protective)
        if tripped and now_ns >= self._lift_ns:
            await self._after_trip(state)
        if not self._busy.locked() and (self.status is None or now_ns - self.status.t_ns >= IDLE_LOOK_NS):
            await self.look()
            self._report.clear_alarm(ALARM)

    async def _after_trip(self, state: State) -> None:
        step = after_trip(
            state,
            lifted=self.lifted,
            cut_alarm=Verdict.CUT_UNVERIFIED.value in self._report.alarms,
            last_resort=self._settings.lift_unverified,
        )
        if step is not AfterTrip.LIFT:
            return
        try:
            # An error that nobody has dealt with would keep the stage from moving; it is in the event of the cut.
            await self.begin()
            await self.lift()
        except (InstrumentError, TargetOutsideError) as error:
            self._alarm(LIFT_ALARM, f"after a trip the tip could not be lifted: {error}")
            self._lift_ns = self._clock.now_ns() + RETRY_NS
        else:
            self._report.clear_alarm(LIFT_ALARM)
            self._report.notice("tip lifted after the trip", planned=True, verified=True)

    def _alarm(self, kind: str, text: str) -> None:
        self._report.raise_alarm(kind, text)

    async def end(self) -> None:
        """Lift the tip at the end of a run that broke off, if that can be done; never raises for the stage."""
        if self.lifted or not self.ready or self._guard.state is not State.SAFE:
            return
        try:
            await self.begin()
            await self.lift()
        except (InstrumentError, LinkLostError, InterlockError, TargetOutsideError) as error:
            self._report.notice("the tip could not be lifted at the end of the run", error=str(error))

    def describe(self) -> dict[str, Any]:
        """Return what status documents show."""
        status = self.status
        return {
            "model": self.identity.model if self.identity else None,
            "serial_number": self.identity.serial_number if self.identity else None,
            "ready": self.ready,
            "position_m": self.position_m,
            "lifted": self.lifted,
            "moving": status.moving if status else None,
            "servo_on": status.servo_on if status else None,
        }
