"""A PI controller with GCS 2.0 as an :class:`edge.instruments.stage.Stage`.

A set command has no reply: only ``ERR?`` tells, so one follows every set. A target counts once ``MOV?`` has read it
back, since a line that lost a digit on its way is another, valid target. Whatever goes wrong once a move was sent,
the stage is told to stop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Self

from edge.clock import Clock
from edge.config import Config
from edge.instruments.contact import AnalogContact
from edge.instruments.gcs_controller import GcsController
from edge.instruments.gcs_link import GcsLink
from edge.instruments.stage import (
    StageAxis,
    StageError,
    StageIdentity,
    StageRefusedError,
    StageStalledError,
    StageStatus,
    StageStoppedError,
    TargetReadbackError,
    check_targets,
    move_deadline_s,
)
from edge.instruments.transport import Transport
from firmware_proto.gcs2 import commands
from firmware_proto.gcs2.errors import ErrorCode, error_text

POLL_S: Final = 0.010
STOP_CHECK_S: Final = 0.020
"""Between two looks after a stop; a move that was still on its way to the controller shows in the second."""
STOP_TIMEOUT_S: Final = 2.0


def open_stage(transport: Transport, clock: Clock, config: Config) -> tuple[PiGcs2, AnalogContact]:
    """Return driver and contact on one controller's line; sends nothing. The entry point ``tipguard.stage``."""
    controller = GcsController(GcsLink(transport, clock))
    contact = AnalogContact(controller, channel=config.contact.channel, threshold_v=config.contact.threshold_v)
    return PiGcs2(controller), contact


class PiGcs2:
    """Driver; implements :class:`edge.instruments.stage.Stage`."""

    def __init__(self, controller: GcsController) -> None:
        """Bind to a controller; sends nothing."""
        self.controller = controller
        self._link = controller.link
        self._clock = controller.link.clock
        self._error = 0
        self._stops = 0
        self._stop_unread = False

    @property
    def axes(self) -> Mapping[str, StageAxis]:
        """See Stage."""
        return self.controller.axes

    @property
    def name(self) -> str:
        """Label of the port, for messages."""
        return self.controller.name

    async def start(self) -> StageIdentity:
        """See Stage."""
        async with self._link.lock:
            return await self.controller.discover()

    # Looks

    async def position(self) -> dict[str, float]:
        """See Stage."""
        async with self._link.lock:
            return await self.controller.positions_m()

    async def on_target(self) -> bool:
        """See Stage."""
        async with self._link.lock:
            return all((await self.controller.flags("ONT?")).values())

    async def status(self) -> StageStatus:
        """See Stage. An error found here is kept until ``take_error``: ``ERR?`` tells it only once."""
        async with self._link.lock:
            t_ns = self._clock.now_ns()
            moving = await self.controller.moving()
            on_target = all((await self.controller.flags("ONT?")).values())
            servo_on = all((await self.controller.flags("SVO?")).values())
            self._error = await self._read_error() or self._error
        return StageStatus(t_ns, moving=moving, on_target=on_target, servo_on=servo_on, error=self._error)

    async def take_error(self) -> int:
        """See Stage."""
        async with self._link.lock:
            error = await self._read_error() or self._error
        self._error = 0
        return error

    async def _read_error(self) -> int:
        """Ask ``ERR?``; the 10 of our own stop is no error."""
        code = await self.controller.read_error()
        if code == ErrorCode.STOPPED and self._stop_unread:
            self._stop_unread = False
            return 0
        return code

    async def _refuse_error(self, what: str) -> None:
        code = await self._read_error()
        if code == ErrorCode.STOPPED:
            raise StageStoppedError(f"{self.name}: {what}: stopped by somebody else", code=code)
        if code:
            raise StageRefusedError(f"{self.name}: {what} was refused: {error_text(code)}", code=code)

    # Sets

    async def servo(self, *, on: bool) -> None:
        """See Stage."""
        async with self._link.lock:
            self._link.write(commands.servo(dict.fromkeys(self.axes, on)))
            await self._refuse_error(f"servo {'on' if on else 'off'}")
            states = await self.controller.flags("SVO?")
        wrong = [name for name, state in states.items() if state is not on]
        if wrong:
            raise StageError(f"{self.name}: servo of {', '.join(wrong)} reads back {'off' if on else 'on'}")

    async def reference(self) -> None:
        """See Stage."""
        if "FRF" not in self.controller.functions:
            return
        began = self._stops
        async with self._link.lock:
            needed = [name for name, done in (await self.controller.flags("FRF?")).items() if not done]
            if not needed:
                return
            self._refuse_if_stopped(began)
            with _Stopping(self) as sent:
                self._link.write(commands.reference(needed))
                await self._refuse_error("a reference move")
                self._refuse_if_stopped(began)
                sent.well = True
        # Through the travel and back, at most.
        far_m = {name: 2 * (self.axes[name].high_m - self.axes[name].low_m) for name in needed}

        async def referenced() -> bool:
            return all((await self.controller.flags("FRF?")).values())

        await self._arrive(referenced, far_m, began)

    async def move_to(self, targets_m: Mapping[str, float]) -> dict[str, float]:
        """See Stage."""
        check_targets(targets_m, self.axes)
        began = self._stops
        units = {name: self.controller.units(target_m) for name, target_m in targets_m.items()}
        async with self._link.lock:
            if self._error:
                raise StageRefusedError(
                    f"{self.name}: {error_text(self._error)} was not dealt with; find its cause, then take_error()",
                    code=self._error,
                )
            here_m = await self.controller.positions_m()
            self._refuse_if_stopped(began)
            with _Stopping(self) as sent:
                self._link.write(commands.move(units, self.controller.decimals))
                await self._refuse_error("a move")
                self._refuse_if_stopped(began)
                await self._read_back(units, began)
                sent.well = True
        way_m = {name: target_m - here_m[name] for name, target_m in targets_m.items()}
        await self._arrive(self._on_target_at_rest, way_m, began)
        return await self.position()

    async def _read_back(self, units: Mapping[str, float], began: int) -> None:
        targets = await self.controller.values("MOV?")
        self._refuse_if_stopped(began)
        step = 10.0**-self.controller.decimals
        for name, wanted in units.items():
            # Some controllers keep targets in single precision: 6e-8 of them is theirs.
            if abs(targets[name] - wanted) > 0.5 * step + 2e-7 * abs(wanted):
                raise TargetReadbackError(
                    f"{self.name}: axis {name}: target {wanted:g} reads back {targets[name]:g}; the stage was told to "
                    "stop. Check the cable"
                )

    async def _on_target_at_rest(self) -> bool:
        return not await self.controller.moving() and all((await self.controller.flags("ONT?")).values())

    async def _arrive(self, there: Callable[[], Awaitable[bool]], way_m: Mapping[str, float], began: int) -> None:
        """Poll until ``there``, error-free; stop and raise if it does not come true in time."""
        allowed_s = move_deadline_s(way_m, self.axes, self.controller.options.settle_s)
        deadline_ns = self._clock.now_ns() + int(allowed_s * 1e9)
        with _Stopping(self) as motion:
            while True:
                async with self._link.lock:
                    self._refuse_if_stopped(began)
                    arrived = await there()
                    code = await self._read_error()
                self._refuse_if_stopped(began)
                if code == ErrorCode.STOPPED:
                    raise StageStoppedError(f"{self.name}: the move was stopped by somebody else", code=code)
                if code:
                    raise StageError(f"{self.name}: the move went wrong: {error_text(code)}", code=code)
                if arrived:
                    motion.well = True
                    return
                now_ns = self._clock.now_ns()
                if now_ns >= deadline_ns:
                    raise StageStalledError(
                        f"{self.name}: not on target after {allowed_s:.2f} s; the stage was told to stop. Is the way "
                        "free, and is the servo tuned for this load?"
                    )
                await self._clock.sleep_until(now_ns + int(POLL_S * 1e9))

    # Stop

    def stop(self) -> None:
        """See Stage. #24 where there is one; what this controller has is not known before ``start``: then both."""
        self._stops += 1
        self._stop_unread = True
        functions = self.controller.functions
        if not functions or "#24" in functions:
            self._link.write(commands.STOP_ALL)
        if "#24" not in functions:
            self._link.write(commands.STOP if not functions or "STP" in functions else commands.halt())

    async def stopped(self) -> None:
        """See Stage."""
        deadline_ns = self._clock.now_ns() + int(STOP_TIMEOUT_S * 1e9)
        looks = 0
        while looks < 2:
            async with self._link.lock:
                moving = await self.controller.moving()
            looks = 0 if moving else looks + 1
            now_ns = self._clock.now_ns()
            if looks < 2 and now_ns >= deadline_ns:
                raise StageError(f"{self.name}: still moving {STOP_TIMEOUT_S:g} s after a stop; cut its power")
            if moving:
                self.stop()
            await self._clock.sleep_until(now_ns + int(STOP_CHECK_S * 1e9))
        async with self._link.lock:
            self._error = await self._read_error() or self._error
            self._stop_unread = False

    def _refuse_if_stopped(self, began: int) -> None:
        if self._stops != began:
            raise StageStoppedError(f"{self.name}: stopped", code=int(ErrorCode.STOPPED))


class _Stopping:
    """Stops the stage at the end of its block, unless the block said that all is ``well`` or was refused.

    A line that is refused is not executed at all (MS249E p. 116): nothing moves because of it.
    """

    def __init__(self, stage: PiGcs2) -> None:
        self._stage = stage
        self.well = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _trace: object) -> None:
        if not self.well and not (kind is not None and issubclass(kind, StageRefusedError)):
            self._stage.stop()
