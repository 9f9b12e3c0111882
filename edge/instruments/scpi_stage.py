"""A stage controller that speaks SCPI, or a dialect of its own, by the command map ``stage.command_map``.

Deadlines, stops and errors are those of every stage (:mod:`edge.instruments.stage_driver`). What this one adds comes
from knowing the controller by description only: everything it will ever ask is asked once at the start, an axis has
arrived when the controller says so and its position agrees, and a refusal is no proof that nothing moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from edge.clock import Clock
from edge.command_map import DRIVER, load_command_map
from edge.config import Config
from edge.errors import ConfigError, InstrumentError
from edge.instruments.contact import SignalContact
from edge.instruments.map_controller import MapController
from edge.instruments.map_link import MapLink
from edge.instruments.stage import (
    StageAxis,
    StageError,
    StageIdentity,
    StageRefusedError,
    StageStoppedError,
    TargetReadbackError,
)
from edge.instruments.stage_driver import Look, StageDriver, Stopping
from edge.instruments.transport import Transport
from firmware_proto.stage_map import ValueQuery

WATCHED_S: Final = 0.030
"""Between two looks at an axis on its way: a pause of 10 ms and the questions of a look, on a line at 115200 baud."""


def open_stage(transport: Transport, clock: Clock, config: Config) -> tuple[ScpiStage, MapContact]:
    """Return driver and contact on one controller's line; sends nothing. The entry point ``tipguard.stage``.

    Raises ConfigError for a map that is missing or wrong.
    """
    if config.stage.command_map is None:
        raise ConfigError(f"stage.command_map: is missing; driver {DRIVER} needs it", key="stage.command_map")
    link = MapLink(transport, clock, load_command_map(config.stage.command_map))
    contact = MapContact(link, channel=config.contact.channel, threshold_v=config.contact.threshold_v)
    return ScpiStage(link, contact), contact


class MapContact(SignalContact):
    """Implements :class:`edge.instruments.stage.Contact` with the map's [contact]."""

    def __init__(self, link: MapLink, *, channel: int = 1, threshold_v: float) -> None:
        """Bind to a link; ``channel`` is ``contact.channel``, for a map that has a place for it."""
        super().__init__(link.clock, threshold_v)
        self._link = link
        self._channel = str(channel)

    async def signal_v(self) -> float:
        """See Contact."""
        async with self._link.lock:
            return await self.ask()

    async def ask(self) -> float:
        """Ask for the signal in V, with the link's lock held."""
        rule, channel = self._link.rules.contact, self._channel
        text = rule.query.render({"channel": channel})
        return await self._link.ask(text, lambda line: rule.parse(line, channel))


class ScpiStage(StageDriver):
    """Driver; implements :class:`edge.instruments.stage.Stage`."""

    REFUSED_STANDS: ClassVar[bool] = False

    def __init__(self, link: MapLink, contact: MapContact | None = None) -> None:
        """Bind to a link; sends nothing. ``contact``: asked once at the start, too."""
        super().__init__(link)
        self.controller = MapController(link)
        self._rules = link.rules
        self._line = link
        self._contact = contact
        self._targets_m: dict[str, float] = {}
        """The last targets that were sent, for a controller that cannot be asked for its own."""
        self._way_m: dict[str, tuple[float, float]] = {}
        """From where to where each axis may be in the move under way."""

    @property
    def axes(self) -> Mapping[str, StageAxis]:
        """See Stage."""
        return self.controller.axes

    @property
    def settle_s(self) -> float:
        """See StageDriver."""
        return self._rules.move.settle_s

    @property
    def stop_codes(self) -> frozenset[int]:
        """See StageDriver."""
        return self._rules.error.stopped

    @property
    def remarks(self) -> tuple[str, ...]:
        """See :class:`edge.instruments.stage.Remarking`."""
        rules, found = self._rules, []
        if rules.target.query is None:
            fastest_um_s = max((axis.velocity_m_s for axis in self.axes.values()), default=0.0) * 1e6
            found.append(
                "targets cannot be verified: this controller does not read them back. Only the way of each axis is "
                f"watched; at {fastest_um_s:g} um/s a damaged target goes {fastest_um_s * WATCHED_S:g} um wrong, or "
                "more, before it is stopped: choose the velocity of z accordingly"
            )
        if rules.moving is None:
            found.append("it cannot say whether it moves: an axis that is not on target counts as moving")
        if rules.on_target is None:
            found.append(
                f"it cannot say whether it is on target: at rest within {rules.move.window_m * 1e9:g} nm counts"
            )
        if rules.servo.state is None:
            found.append("it cannot say whether its loops are closed: taken as closed")
        return tuple(found)

    def error_text(self, code: int) -> str:
        """See StageDriver."""
        return self.controller.error_text(code)

    async def start(self) -> StageIdentity:
        """See Stage. Every question of the map is asked once: a wrong map fails here, not in the middle of a run."""
        async with self._link.lock:
            identity = await self.controller.discover()
            self._refuse_outside(await self._positions_m())
            if self._rules.target.query is not None:
                await self.controller.values(self._rules.target.query)
            await self._look()
            self._error = await self._read_error() or self._error
            if self._contact is not None:
                await self._contact.ask()
        return identity

    def _refuse_outside(self, here_m: Mapping[str, float]) -> None:
        for name, axis in self.axes.items():
            # Outside its own travel by more than a hundredth of it is a wrong unit, not a stage past its end.
            slack_m = max(0.01 * (axis.high_m - axis.low_m), self._rules.move.window_m)
            if not axis.low_m - slack_m <= here_m[name] <= axis.high_m + slack_m:
                raise InstrumentError(
                    f"{self.name}: axis {name} says {here_m[name] * 1e6:g} um and its travel is "
                    f"{axis.low_m * 1e6:g} to {axis.high_m * 1e6:g} um; look at unit_m and sign in the command map"
                )

    # Looks

    async def _positions_m(self) -> dict[str, float]:
        return await self.controller.positions_m()

    async def _moving(self) -> bool:
        return (await self._motion())[0]

    async def _on_target(self) -> bool:
        return (await self._motion())[1]

    async def _servo_on(self) -> bool:
        return await self.controller.closed()

    async def _errors(self) -> list[int]:
        return await self.controller.errors()

    async def _look(self) -> Look:
        words = await self.controller.words()
        moving, on_target = await self._motion(words)
        return Look(moving, on_target, await self.controller.closed(words))

    async def _motion(self, words: list[int] | None = None) -> tuple[bool, bool]:
        """Return whether any axis moves and whether all are on target, from what the controller can tell of both."""
        rules = self._rules
        moving = None if rules.moving is None else any(await self.controller.states(rules.moving, words))
        if rules.on_target is not None:
            on_target = all(await self.controller.states(rules.on_target, words))
        else:
            on_target = not moving and await self._near()
        return (not on_target if moving is None else moving), on_target

    async def _near(self) -> bool:
        """Tell whether every axis is within the window of its target, as far as targets are known."""
        query = self._rules.target.query
        targets_m = self._targets_m if query is None else await self.controller.metres(query)
        if not targets_m:
            return True
        here_m = await self._positions_m()
        return all(abs(here_m[name] - target) <= self._rules.move.window_m for name, target in targets_m.items())

    # Sets

    async def _set(self, message: str, what: str) -> None:
        """Send a set command; raises StageRefusedError for what its acknowledgement or the error query says."""
        code = await self._line.tell(message)
        if code:
            # What the acknowledgement told may stand in the register, too: it has been dealt with by this.
            # Bits of a status word have no number of their own; an error that is still there is seen at the next look.
            left = await self._read_error()
            if left not in {0, code} and not self._rules.error.mask:
                self._error = left
            if code in self.stop_codes:
                raise StageStoppedError(f"{self.name}: {what}: stopped by somebody else", code=code)
            raise StageRefusedError(f"{self.name}: {what} was refused: {self.error_text(code)}", code=code)
        await self._refuse_error(what)

    async def servo(self, *, on: bool) -> None:
        """See Stage."""
        rule = self._rules.servo
        word = "on" if on else "off"
        if rule.command is None or rule.state is None:
            raise StageError(f"{self.name}: the command map has no [servo] with a command; switch loops at the maker's")
        async with self._link.lock:
            for wire in self.controller.wires_for(rule.command):
                text = rule.command.render({"axis": wire, "state": rule.on if on else rule.off})
                await self._set(text, f"servo {word}")
            states = await self.controller.states(rule.state)
        # Open only if all are: one that is still closed makes "all closed" false as well.
        if (not all(states)) if on else any(states):
            raise StageError(f"{self.name}: a servo does not read back {word}")

    async def reference(self) -> None:
        """See Stage."""
        rule = self._rules.reference
        if rule is None:
            return
        began = self._stops
        async with self._link.lock:
            if all(await self.controller.states(rule.state)):
                return
            self._refuse_if_stopped(began)
            self._targets_m = {}
            with Stopping(self) as sent:
                for wire in self._rules.wires.values():
                    await self._set(rule.command.render({"axis": wire}), "a reference move")
                    self._refuse_if_stopped(began)
                sent.well = True
        # Through the travel and back, at most.
        far_m = {name: 2 * (axis.high_m - axis.low_m) for name, axis in self.axes.items()}

        async def referenced() -> bool:
            return all(await self.controller.states(rule.state)) and not await self._moving()

        await self._arrive(referenced, far_m, began)

    # Moves

    async def _send_move(self, targets_m: Mapping[str, float], here_m: Mapping[str, float], began: int) -> None:
        rules = self._rules
        texts = {name: rules.axes[name].target(target_m) for name, target_m in targets_m.items()}
        # What was sent, to the last digit, is where it has to arrive.
        sent_m = {name: rules.axes[name].metres(float(text)) for name, text in texts.items()}
        self._targets_m = {**self._targets_m, **sent_m}
        self._way_m = {name: (here, sent_m.get(name, here)) for name, here in here_m.items()}
        for message, names in rules.move.messages(texts, rules.wires):
            await self._set(message, "a move")
            self._refuse_if_stopped(began)
            if rules.target.query is None:
                self._watch(await self._positions_m())
            else:
                await self._read_back(rules.target.query, {name: float(texts[name]) for name in names})
            self._refuse_if_stopped(began)

    async def _read_back(self, query: ValueQuery, sent: Mapping[str, float]) -> None:
        rules = self._rules
        told = await self.controller.values(query, list(sent))
        for name, wanted in sent.items():
            axis = rules.axes[name]
            places = axis.decimals if axis.form.decimals is None else min(axis.decimals, axis.form.decimals)
            step = 10.0**-places
            tolerance = 0.5 * step if rules.target.tolerance_m is None else rules.target.tolerance_m / axis.unit_m
            # Some controllers keep targets in single precision: 6e-8 of them is theirs.
            if not abs(told[name] - wanted) <= tolerance + 2e-7 * abs(wanted):
                raise TargetReadbackError(
                    f"{self.name}: axis {name}: target {wanted:.12g} reads back {told[name]:.12g}; the stage was told "
                    "to stop. Check the cable"
                )

    def _watch(self, here_m: Mapping[str, float]) -> None:
        """Raise TargetReadbackError for an axis that is not on its way from where it was to where it was sent."""
        window_m = self._rules.move.window_m
        for name, ends in self._way_m.items():
            if not min(ends) - window_m <= here_m[name] <= max(ends) + window_m:
                raise TargetReadbackError(
                    f"{self.name}: axis {name} is at {here_m[name] * 1e6:.6g} um, off its way from "
                    f"{ends[0] * 1e6:.6g} to {ends[1] * 1e6:.6g} um; the stage was told to stop. Check the cable"
                )

    async def _arrived(self) -> bool:
        moving, on_target = await self._motion(await self.controller.words())
        if moving and self._rules.target.query is not None:
            return False
        here_m = await self._positions_m()
        if self._rules.target.query is None:
            self._watch(here_m)
        # A controller that has not begun yet may still call the last target its own: the position has to agree.
        window_m = self._rules.move.window_m
        near = all(abs(here_m[name] - target_m) <= window_m for name, (_, target_m) in self._way_m.items())
        return not moving and on_target and near

    # Stop

    def _send_stop(self) -> None:
        self._line.stop()
