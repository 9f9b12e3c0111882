"""A PI controller with GCS 2.0 as an :class:`edge.instruments.stage.Stage`.

A set command has no reply: only ``ERR?`` tells, so one follows every set. A target counts once ``MOV?`` has read it
back, since a line that lost a digit on its way is another, valid target. Whatever goes wrong once a move was sent,
the stage is told to stop (:mod:`edge.instruments.stage_driver`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edge.clock import Clock
from edge.config import Config
from edge.instruments.contact import AnalogContact
from edge.instruments.gcs_controller import GcsController
from edge.instruments.gcs_link import GcsLink
from edge.instruments.stage import StageAxis, StageError, StageIdentity, TargetReadbackError
from edge.instruments.stage_driver import StageDriver, Stopping
from edge.instruments.transport import Transport
from firmware_proto.gcs2 import commands
from firmware_proto.gcs2.errors import ErrorCode, error_text

STOP_CODES: Final = frozenset({int(ErrorCode.STOPPED)})


def open_stage(transport: Transport, clock: Clock, config: Config) -> tuple[PiGcs2, AnalogContact]:
    """Return driver and contact on one controller's line; sends nothing. The entry point ``tipguard.stage``."""
    controller = GcsController(GcsLink(transport, clock))
    contact = AnalogContact(controller, channel=config.contact.channel, threshold_v=config.contact.threshold_v)
    return PiGcs2(controller), contact


class PiGcs2(StageDriver):
    """Driver; implements :class:`edge.instruments.stage.Stage`.

    A line that is refused is not executed at all (MS249E p. 116): nothing moves because of it, and no stop follows.
    """

    def __init__(self, controller: GcsController) -> None:
        """Bind to a controller; sends nothing."""
        super().__init__(controller.link)
        self.controller = controller

    @property
    def axes(self) -> Mapping[str, StageAxis]:
        """See Stage."""
        return self.controller.axes

    @property
    def settle_s(self) -> float:
        """See StageDriver."""
        return self.controller.options.settle_s

    @property
    def stop_codes(self) -> frozenset[int]:
        """See StageDriver."""
        return STOP_CODES

    def error_text(self, code: int) -> str:
        """See StageDriver."""
        return error_text(code)

    async def start(self) -> StageIdentity:
        """See Stage."""
        async with self._link.lock:
            return await self.controller.discover()

    # Looks

    async def _positions_m(self) -> dict[str, float]:
        return await self.controller.positions_m()

    async def _moving(self) -> bool:
        return await self.controller.moving()

    async def _on_target(self) -> bool:
        return all((await self.controller.flags("ONT?")).values())

    async def _servo_on(self) -> bool:
        return all((await self.controller.flags("SVO?")).values())

    async def _errors(self) -> list[int]:
        return [await self.controller.read_error()]

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
            with Stopping(self) as sent:
                self._link.write(commands.reference(needed))
                await self._refuse_error("a reference move")
                self._refuse_if_stopped(began)
                sent.well = True
        # Through the travel and back, at most.
        far_m = {name: 2 * (self.axes[name].high_m - self.axes[name].low_m) for name in needed}

        async def referenced() -> bool:
            return all((await self.controller.flags("FRF?")).values())

        await self._arrive(referenced, far_m, began)

    async def _send_move(self, targets_m: Mapping[str, float], here_m: Mapping[str, float], began: int) -> None:
        del here_m
        units = {name: self.controller.units(target_m) for name, target_m in targets_m.items()}
        self._link.write(commands.move(units, self.controller.decimals))
        await self._refuse_error("a move")
        self._refuse_if_stopped(began)
        await self._read_back(units, began)

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

    # Stop

    def _send_stop(self) -> None:
        # #24 where there is one; what this controller has is not known before ``start``: then both.
        functions = self.controller.functions
        if not functions or "#24" in functions:
            self._link.write(commands.STOP_ALL)
        if "#24" not in functions:
            self._link.write(commands.STOP if not functions or "STP" in functions else commands.halt())
