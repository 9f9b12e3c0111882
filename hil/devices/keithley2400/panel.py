"""The front panel of the emulated 2400, and its rear: what a person, or a test fixture, does behind the client's back.

On RS-232 the keys work also while a program talks to the unit, until ``:SYST:RWL ON`` locks them (User's Manual 18-112;
on the GPIB remote alone would lock them). Locked, LOCAL is dead too (14-6). The OUTPUT key stays alive "for safety
reasons" (14-6); taken literally it could also switch on. Here a locked panel only switches off: which it is on a real
unit is not established, and the controller must not rely on either.

Every method takes the time of the act in ns and returns whether the unit did it. ``force`` stands for a unit whose lock
does not hold. What the unit refuses (a level above the range) is not done, like a value the panel does not take.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from firmware_proto.keithley2400.status import OutputOff
from hil.devices.keithley2400.interlock import RESPONSE_NS
from hil.devices.keithley2400.noise import NPLC_MAX, NPLC_MIN
from hil.devices.keithley2400.triggers import EventSource
from hil.devices.keithley2400.unit import Unit

KEYS: Final = range(1, 33)
"""Codes of ``:SYST:KEY`` (User's Manual figure 18-3)."""
KEY_LOCAL: Final = 23
KEY_OUTPUT: Final = 24


def toggle_output(unit: Unit) -> None:
    """Do what OUTPUT ON/OFF does; it also rearms after the output enable line was open. Refuses +802 and +810."""
    if unit.output.on:
        unit.switch_output(on=False)
        return
    unit.interlock.press_key()
    unit.switch_output(on=True)


class FrontPanel(ABC):
    """The panel's part of :class:`hil.devices.keithley2400.Keithley2400`."""

    _unit: Unit

    # What the box behind the panel offers

    @abstractmethod
    def _act(self, t_ns: int, act: Callable[[Unit], None]) -> bool:
        """Let ``act`` change the unit at ``t_ns``, whatever is being executed; False if the unit refused it."""

    @abstractmethod
    def _outside(self, t_ns: int, act: Callable[[Unit], None]) -> None:
        """Let ``act`` change the unit at ``t_ns``, also without mains."""

    @abstractmethod
    def _later(self, t_ns: int, act: Callable[[Unit], None]) -> None:
        """Let ``act`` change the unit when ``t_ns`` has come."""

    @abstractmethod
    def _end_acquisition(self, t_ns: int) -> None:
        """End a measurement that runs, without a reply."""

    @abstractmethod
    def _restart(self, t_ns: int) -> None:
        """Do a power-on reset at ``t_ns``."""

    @abstractmethod
    def _wake(self, t_ns: int) -> None:
        """Let what waits for an event look whether it has come."""

    # Keys

    def panel_output(self, t_ns: int, *, force: bool = False) -> bool:
        """Press OUTPUT ON/OFF; it also rearms after the output enable line was open."""
        if not force and self._locked and not self._unit.output.on:
            return False
        return self._act(t_ns, toggle_output)

    def press_output_key(self, t_ns: int) -> None:
        """Press OUTPUT ON/OFF at ``t_ns``, as :meth:`panel_output` without force."""
        self.panel_output(t_ns)

    def panel_local(self, t_ns: int, *, force: bool = False) -> bool:
        """Press LOCAL: the trigger model goes idle, and the panel has the unit until the next message (14-3)."""
        if not force and self._locked:
            return False
        self._end_acquisition(t_ns)
        return self._act(t_ns, lambda unit: unit.to_local(key=True))

    def panel_level(self, t_ns: int, volts: float, *, force: bool = False) -> bool:
        """Edit the source level, in V."""

        def edit(unit: Unit) -> None:
            unit.settings.volt_source.set_level(volts)
            unit.apply()

        return self._key(t_ns, edit, force=force)

    def panel_limit(self, t_ns: int, amps: float, *, force: bool = False) -> bool:
        """Edit the current compliance, in A."""

        def edit(unit: Unit) -> None:
            unit.settings.curr_sense.set_protection(amps)
            unit.apply()

        return self._key(t_ns, edit, force=force)

    def panel_range(self, t_ns: int, amps_nominal: float, *, force: bool = False) -> bool:
        """Press RANGE until the current is measured on this range, in A; autorange is off then."""

        def press(unit: Unit) -> None:
            unit.settings.curr_sense.set_range(amps_nominal)
            unit.moving.clear()
            unit.apply()

        return self._key(t_ns, press, force=force)

    def panel_nplc(self, t_ns: int, nplc: float, *, force: bool = False) -> bool:
        """Set the speed in the SPEED menu, 0.01 to 10 line cycles (ValueError outside)."""
        if not NPLC_MIN <= nplc <= NPLC_MAX:
            raise ValueError(f"nplc must be {NPLC_MIN}..{NPLC_MAX}, not {nplc!r}")

        def choose(unit: Unit) -> None:
            unit.settings.nplc = nplc

        return self._key(t_ns, choose, force=force)

    def panel_off_mode(self, t_ns: int, mode: OutputOff, *, force: bool = False) -> bool:
        """Choose the off state in the CONFIG OUTPUT menu; with the output off it is entered at once (13-10)."""

        def choose(unit: Unit) -> None:
            unit.settings.output_off = mode
            unit.apply()

        return self._key(t_ns, choose, force=force)

    def panel_output_enable(self, t_ns: int, *, on: bool, force: bool = False) -> bool:
        """Turn output enable on or off in the CONFIG OUTPUT menu."""

        def choose(unit: Unit) -> None:
            unit.enable_output_line(on=on)

        return self._key(t_ns, choose, force=force)

    def panel_terminals(self, t_ns: int, *, front: bool, force: bool = False) -> bool:
        """Press FRONT/REAR until these terminals are in use; a change switches the output off."""

        def press(unit: Unit) -> None:
            if unit.settings.front_terminals != front:
                unit.settings.front_terminals = front
                unit.switch_output(on=False)

        return self._key(t_ns, press, force=force)

    def panel_trigger(self, t_ns: int) -> bool:
        """Press TRIG; live in remote while ``:ARM:SOUR MAN`` waits for it (14-6)."""
        return self.trigger_event(t_ns, EventSource.MANUAL)

    def panel_interface(self, t_ns: int, *, force: bool = False) -> bool:
        """Change anything in the COMMUNICATION menu, and back: each change is a power-on reset (14-3).

        What a unit does on another interface or at another rate is a line that is mute, which is the line's to play.
        """
        if not force and self._locked:
            return False
        self._restart(t_ns)
        return True

    # The rear, and the inside

    def trigger_event(self, t_ns: int, event: EventSource) -> bool:
        """Let an event reach the trigger model (TRIG key, Trigger Link, ...); False if nothing waits for it."""
        self._act(t_ns, lambda _unit: None)
        waited = self._unit.happen(event)
        if waited:
            self._wake(t_ns)
        return waited

    def output_enable_line(self, t_ns: int, *, closed: bool) -> None:
        """Pull the output enable line low (``closed``), or let it go high.

        With output enable on, a line that is still high 100 us later switches the output off into high impedance,
        whatever the unit is executing. With it off, the line does nothing.
        """

        def move(unit: Unit) -> None:
            unit.interlock.set_line(closed=closed)
            unit.show_interlock()

        self._outside(t_ns, move)
        if not closed:
            self._later(t_ns + RESPONSE_NS, Unit.obey_interlock)

    def over_temperature(self, t_ns: int, *, hot: bool) -> None:
        """Let the unit get too hot, or cool down. Hot, the output goes into high impedance and stays there (13-10)."""

        def move(unit: Unit) -> None:
            unit.interlock.hot = hot
            unit.show_interlock()
            unit.obey_interlock()

        self._outside(t_ns, move)

    # Inside

    @property
    def _locked(self) -> bool:
        return self._unit.panel.locked and self._unit.panel.remote

    def _key(self, t_ns: int, act: Callable[[Unit], None], *, force: bool) -> bool:
        if not force and self._locked:
            # Time passes also under a key that is dead.
            self._act(t_ns, lambda _unit: None)
            return False
        return self._act(t_ns, act)
