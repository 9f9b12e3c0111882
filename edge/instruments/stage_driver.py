"""The policy of every stage driver: what is told is verified, what fails is stopped, an error is kept until dealt with.

A driver says how its controller is asked; when, in which order and with which deadline stands here, once. Whatever goes
wrong after a move was sent, a cancellation included, tells the stage to stop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Final, NamedTuple, Self

from edge.instruments.stage import (
    StageAxis,
    StageError,
    StageRefusedError,
    StageStalledError,
    StageStatus,
    StageStoppedError,
    check_targets,
    move_deadline_s,
)
from edge.instruments.stage_link import StageLink

POLL_S: Final = 0.010
STOP_CHECK_S: Final = 0.020
"""Between two looks after a stop; a move that was still on its way to the controller shows in the second."""
STOP_TIMEOUT_S: Final = 2.0


class Look(NamedTuple):
    """What is asked at every look, of all axes together."""

    moving: bool
    on_target: bool
    servo_on: bool


class StageDriver(ABC):
    """The common part of drivers that satisfy :class:`edge.instruments.stage.Stage`.

    The methods with an underscore are called with the link's lock held.
    """

    REFUSED_STANDS: ClassVar[bool] = True
    """A refused move is certain not to have moved anything; where it is not, a refusal is followed by a stop."""

    def __init__(self, link: StageLink[Any]) -> None:
        """Bind to a link; sends nothing."""
        self._link: StageLink[Any] = link
        self._clock = link.clock
        self._error = 0
        self._stops = 0
        self._stop_unread = False

    # What a driver says

    @property
    @abstractmethod
    def axes(self) -> Mapping[str, StageAxis]:
        """See Stage."""

    @property
    @abstractmethod
    def settle_s(self) -> float:
        """Allowance of a move for settling, in s."""

    @property
    def name(self) -> str:
        """Label of the port, for messages."""
        return self._link.transport.name

    @property
    def stop_codes(self) -> frozenset[int]:
        """Error codes that a stop leaves behind: no errors after a stop of ours, somebody else's otherwise."""
        return frozenset()

    @abstractmethod
    def error_text(self, code: int) -> str:
        """Return an error number with its meaning."""

    @abstractmethod
    async def _positions_m(self) -> dict[str, float]:
        """Ask where all axes are, in m."""

    @abstractmethod
    async def _moving(self) -> bool:
        """Ask whether any axis moves; where that cannot be asked, what is not on target moves."""

    @abstractmethod
    async def _on_target(self) -> bool:
        """Ask whether all axes are on target."""

    @abstractmethod
    async def _servo_on(self) -> bool:
        """Ask whether all loops are closed."""

    @abstractmethod
    async def _errors(self) -> list[int]:
        """Ask for errors, which forgets them; empty, or zeros, for none."""

    @abstractmethod
    async def _send_move(self, targets_m: Mapping[str, float], here_m: Mapping[str, float], began: int) -> None:
        """Send a move and verify what was understood; see ``_refuse_error`` and ``_refuse_if_stopped``."""

    @abstractmethod
    def _send_stop(self) -> None:
        """Write the message that stops everything; never waits, never raises."""

    async def _look(self) -> Look:
        """Ask for everything of a look."""
        return Look(await self._moving(), await self._on_target(), await self._servo_on())

    async def _arrived(self) -> bool:
        """Ask whether the move under way is over; StageError for one that goes wrong."""
        return not await self._moving() and await self._on_target()

    # Looks

    async def position(self) -> dict[str, float]:
        """See Stage."""
        async with self._link.lock:
            return await self._positions_m()

    async def on_target(self) -> bool:
        """See Stage."""
        async with self._link.lock:
            return await self._on_target()

    async def status(self) -> StageStatus:
        """See Stage. An error found here is kept until ``take_error``: a controller may tell it only once."""
        async with self._link.lock:
            t_ns = self._clock.now_ns()
            look = await self._look()
            self._error = await self._read_error() or self._error
        return StageStatus(
            t_ns, moving=look.moving, on_target=look.on_target, servo_on=look.servo_on, error=self._error
        )

    async def take_error(self) -> int:
        """See Stage."""
        async with self._link.lock:
            error = await self._read_error() or self._error
        self._error = 0
        return error

    async def _read_error(self) -> int:
        """Ask for an error; that of our own stop is none."""
        codes = [code for code in await self._errors() if code]
        if self._stop_unread and any(code in self.stop_codes for code in codes):
            self._stop_unread = False
            codes = [code for code in codes if code not in self.stop_codes]
        return codes[0] if codes else 0

    async def _refuse_error(self, what: str) -> None:
        code = await self._read_error()
        if code in self.stop_codes:
            raise StageStoppedError(f"{self.name}: {what}: stopped by somebody else", code=code)
        if code:
            raise StageRefusedError(f"{self.name}: {what} was refused: {self.error_text(code)}", code=code)

    # Moves

    async def move_to(self, targets_m: Mapping[str, float]) -> dict[str, float]:
        """See Stage."""
        check_targets(targets_m, self.axes)
        began = self._stops
        async with self._link.lock:
            if self._error:
                raise StageRefusedError(
                    f"{self.name}: {self.error_text(self._error)} was not dealt with; find its cause, then "
                    "take_error()",
                    code=self._error,
                )
            here_m = await self._positions_m()
            self._refuse_if_stopped(began)
            with Stopping(self) as sent:
                await self._send_move(targets_m, here_m, began)
                sent.well = True
        way_m = {name: target_m - here_m[name] for name, target_m in targets_m.items()}
        await self._arrive(self._arrived, way_m, began)
        return await self.position()

    async def _arrive(self, there: Callable[[], Awaitable[bool]], way_m: Mapping[str, float], began: int) -> None:
        """Poll until ``there``, error-free; stop and raise if it does not come true in time."""
        allowed_s = move_deadline_s(way_m, self.axes, self.settle_s)
        deadline_ns = self._clock.now_ns() + int(allowed_s * 1e9)
        with Stopping(self) as motion:
            while True:
                async with self._link.lock:
                    self._refuse_if_stopped(began)
                    arrived = await there()
                    code = await self._read_error()
                self._refuse_if_stopped(began)
                if code in self.stop_codes:
                    raise StageStoppedError(f"{self.name}: the move was stopped by somebody else", code=code)
                if code:
                    raise StageError(f"{self.name}: the move went wrong: {self.error_text(code)}", code=code)
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
        """See Stage."""
        self._stops += 1
        self._stop_unread = True
        self._send_stop()

    async def stopped(self) -> None:
        """See Stage."""
        deadline_ns = self._clock.now_ns() + int(STOP_TIMEOUT_S * 1e9)
        looks = 0
        while looks < 2:
            async with self._link.lock:
                moving = await self._moving()
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
            raise StageStoppedError(f"{self.name}: stopped", code=min(self.stop_codes, default=0))


class Stopping:
    """Stops the stage at the end of its block, unless the block said that all is ``well`` or was refused."""

    def __init__(self, stage: StageDriver) -> None:
        """Bind."""
        self._stage = stage
        self.well = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _trace: object) -> None:
        refused = kind is not None and issubclass(kind, StageRefusedError) and self._stage.REFUSED_STANDS
        if not self.well and not refused:
            self._stage.stop()
