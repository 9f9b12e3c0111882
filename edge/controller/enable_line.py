"""The 2400's output enable line, believed only as far as the instrument shows it.

Before every output-on: output enable is switched on (``*RST`` switches it off) and read back, and the line is seen
closed while we beat. Once in a worker's life, the output off: silence is seen to open it, and so is clear where that is
wired. No protection is believed that was not seen to work.

After a cut by the line the 2400 wants its OUTPUT key (manual 13-6; ``gpio.rearm = "key"``). The key switches the output
*on*, at the 0 V of the cut that was verified; it is seen within a second and switched off again. On a cell that would
be a short or its old level: there the way back is the mains switch.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from edge.clock import Clock
from edge.config import Config, GpioConfig
from edge.errors import InterlockError
from edge.guard.cut import cut_form
from edge.guard.states import State
from edge.instruments.actuators import GpioActuator
from edge.instruments.aftermath import Aftermath
from edge.instruments.smu import EnabledByLine, Smu

MARGIN_S: Final = 0.010
"""Beyond the monostable's time, before silence has to be seen."""
CLOSE_S: Final = 0.3
"""How long the line may take to be seen closed: a rearm may be a moment ago."""
BLOCKED: Final = "802"
"""What a 2400 answers to an output-on while its output enable line holds it off."""
PRESS_KEY: Final = (
    "the output enable line has switched the output off: press the OUTPUT key of the instrument once. Its output comes "
    "on at 0 V; the controller sees that within a second and switches it off again; then runs start"
)
SWITCH_MAINS: Final = (
    "the output enable line has switched the output off: switch the instrument's mains off and on. Do not press its "
    "OUTPUT key: that would put its level on the cell"
)


_CLOSED: Final = frozenset({State.SAFE, State.ARMED, State.ENERGISED})
"""States in which the line is closed: an output that is on then is switched off by it."""


class _Cut(Protocol):
    @property
    def planned(self) -> bool:
        """A cut that the plan was looking for."""

    @property
    def state_before(self) -> State:
        """The guard's state when it began."""


class Unwired:
    """A rig without such a line: nothing to do. :class:`EnableLine` is the other kind."""

    actuator: GpioActuator | None = None
    notes: tuple[str, ...] = ()

    async def arm(self) -> None:
        """Prove the line before an output-on; raises InterlockError, or the instrument's errors."""

    async def key_pressed(self, *, on: bool) -> bool:  # noqa: ARG002 - a rig without a line waits for no key
        """Look, once a second while SAFE, whether the key was pressed that is waited for; True: dealt with."""
        return False

    def after_cut(self, cut: _Cut) -> None:
        """Take note of a cut that was verified."""

    def after_trip(self, told: Aftermath) -> str:  # noqa: ARG002 - as above
        """Take note of what the instrument told of a trip; return what a person has to be told of it."""
        return ""

    def memory(self) -> dict[str, Any]:
        """Return what it keeps from run to run; plain values."""
        return {}

    def remember(self, memory: dict[str, Any]) -> None:
        """Take over what :meth:`memory` gave."""


class EnableLine(Unwired):
    """The line of a rig that has one."""

    def __init__(self, config: Config, gpio: GpioConfig, smu: Smu, actuator: GpioActuator, clock: Clock) -> None:
        """Sends nothing."""
        self.actuator: GpioActuator = actuator
        self._gpio = gpio
        self._smu = smu
        self._clock = clock
        self._lines = cut_form(config.rig.kind).lines
        self._by_key = cut_form(config.rig.kind).wants_zero
        self.proven = False
        """Silence was seen to open the line in this life."""
        self.key_awaited = False
        self.closed: bool | None = None
        """The line as last seen; None: never looked."""
        self._panel_free = False
        self._acts = False
        """Output enable was switched on in this life: before that an open line switches nothing off."""

    @property
    def notes(self) -> tuple[str, ...]:  # type: ignore[override] # a rig without a line has none, for good
        """What a person has to do."""
        return (self._way_back,) if self.key_awaited else ()

    @property
    def _way_back(self) -> str:
        return PRESS_KEY if self._by_key else SWITCH_MAINS

    # -- before an output-on

    async def arm(self) -> None:
        """See Unwired."""
        if self.key_awaited and self._by_key:
            raise InterlockError(f"{self._way_back}. Nothing was energised")
        # Whether its mains were switched is told by the output-on alone.
        self.key_awaited = False
        smu = self._smu
        if not isinstance(smu, EnabledByLine):
            raise InterlockError(
                "[gpio] is configured, and this driver knows no output enable line; nothing was energised"
            )
        await smu.enable_by_line()
        self._acts = True
        await self._see_closed(smu)
        if not self.proven:
            await self._prove(smu)
            self.proven = True

    async def _see_closed(self, smu: EnabledByLine) -> None:
        end_ns = self._clock.now_ns() + int(CLOSE_S * 1e9)
        while not await self._look(smu):
            if self._clock.now_ns() > end_ns:
                raise InterlockError(
                    "the output enable line is open although the controller beats, so the output cannot be switched "
                    f"on: gpio.chip {self._gpio.chip}, line {self._gpio.heartbeat_line}, the monostable, its supply "
                    "and the wire to pin 8 of the instrument's digital port; `tipguard status` has what the chip says "
                    "(docs/gpio.md)"
                )

    async def _prove(self, smu: EnabledByLine) -> None:
        """See the line open for want of beats, and by clear; the output is off throughout."""
        actuator = self.actuator
        actuator.held = True
        try:
            await self._clock.sleep_until(self._clock.now_ns() + int((self._gpio.monostable_s + MARGIN_S) * 1e9))
            if await self._look(smu):
                raise InterlockError(
                    f"the output enable line stays closed without a beat for {self._gpio.monostable_s:g} s: a host "
                    "that stops would not cut. Is the line tied to ground, the transistor shorted, the monostable "
                    "slower than gpio.monostable_s? Nothing was energised (docs/gpio.md)"
                )
        finally:
            actuator.held = False
        await self._see_closed(smu)
        if not actuator.clears:
            return
        # The beats go on, so that what is seen is clear's doing.
        actuator.clear_held = True
        try:
            actuator.pull()
            if await self._look(smu):
                raise InterlockError(
                    "the output enable line stays closed with the monostable's clear pulled: a cut would wait for the "
                    f"monostable. Is gpio.clear_line {self._gpio.clear_line} wired? Take it out of the rig's file if "
                    "it is not. Nothing was energised (docs/gpio.md)"
                )
        finally:
            actuator.clear_held = False
        await self._see_closed(smu)

    async def _look(self, smu: EnabledByLine) -> bool:
        self.closed = await smu.line_closed()
        return self.closed

    # -- after a cut

    async def key_pressed(self, *, on: bool) -> bool:
        """See Unwired."""
        if not self.key_awaited or not self._by_key:
            return False
        if not on:
            if not self._panel_free:
                # Locked, the key may be dead.
                self._smu.link.write(self._smu.release_message)
                self._panel_free = True
            return False
        for line in self._lines:
            self._smu.link.write(line)
        if await self._smu.output_on():
            return False
        self.key_awaited = self._panel_free = False
        return True

    def after_cut(self, cut: _Cut) -> None:
        """See Unwired: with clear the line was first, and has switched off an output that was on."""
        acted = not cut.planned and cut.state_before in _CLOSED and self._acts and self.actuator.clears
        if acted and self._gpio.rearm == "key":
            self._await_key()

    def after_trip(self, told: Aftermath) -> str:
        """See Unwired."""
        if not any(one.lstrip("+").startswith(BLOCKED) for one in told.refused):
            return ""
        # Whatever gpio.rearm says: this unit wants it.
        self._await_key()
        return f"the instrument refused to switch its output on (+{BLOCKED}): {self._way_back}"

    def _await_key(self) -> None:
        self.key_awaited = True
        self._panel_free = False

    # -- status and memory

    def describe(self) -> dict[str, Any]:
        """Return what a status shows; plain values."""
        return {
            **self.actuator.describe(),
            "line": None if self.closed is None else ("closed" if self.closed else "open"),
            "proven": self.proven,
            "key_awaited": self.key_awaited,
        }

    def memory(self) -> dict[str, Any]:
        """See Unwired."""
        return {
            "proven": self.proven,
            "acts": self._acts,
            "key_awaited": self.key_awaited,
            "panel_free": self._panel_free,
        }

    def remember(self, memory: dict[str, Any]) -> None:
        """See Unwired."""
        self.proven = bool(memory["proven"])
        self._acts = bool(memory["acts"])
        self.key_awaited = bool(memory["key_awaited"])
        self._panel_free = bool(memory["panel_free"])
