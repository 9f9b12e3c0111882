"""OUTPut and ROUTe of the emulated 2400 (User's Manual 18-55 to 18-57)."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from firmware_proto.keithley2400.status import OutputOff
from firmware_proto.scpi import parse_bool
from hil.devices.keithley2400.entries import Entries, Entry, Params, boolean, choice, query
from hil.devices.keithley2400.timing import nanoseconds
from hil.devices.keithley2400.unit import Cost, Unit

_OFF_MODES: Final = {
    "NORMal": OutputOff.NORMAL,
    "ZERO": OutputOff.ZERO,
    "HIMPedance": OutputOff.HIGH_IMPEDANCE,
    "GUARd": OutputOff.GUARD,
}


def _switch(unit: Unit, params: Params) -> Generator[int, None, str | None]:
    on = parse_bool(params[0])
    settle = on and unit.output.relay_open
    unit.switch_output(on=on)
    if settle:
        yield nanoseconds(unit.timing.relay_settle_s)
    return None


def _enable_line(node: str) -> Entries:
    def set_enable(unit: Unit, on: bool) -> None:
        unit.enable_output_line(on=on)

    def may_switch_on(unit: Unit) -> str:
        # "The tripped condition (1) means that the source can be turned on" (18-56).
        return "1" if unit.interlock.closed else "0"

    return [
        *boolean(f":OUTPut[1]:{node}[:STATe]", lambda unit: unit.interlock.enabled, set_enable),
        *query(f":OUTPut[1]:{node}:TRIPped", may_switch_on),
    ]


def entries() -> Entries:
    """Return everything of this module for the command table."""

    def set_mode(unit: Unit, mode: OutputOff) -> None:
        unit.settings.output_off = mode
        unit.apply()

    def set_terminals(unit: Unit, front: bool) -> None:
        if front != unit.settings.front_terminals:
            # A unit never switches its terminals hot.
            unit.settings.front_terminals = front
            unit.switch_output(on=False)

    def terminals(unit: Unit) -> str:
        return "FRON" if unit.settings.front_terminals else "REAR"

    state = ":OUTPut[1][:STATe]"
    return [
        (state, Entry(None, _switch, Cost.OUTPUT, 1, 1)),
        *query(state, lambda unit: "1" if unit.output.on else "0"),
        *_enable_line("ENABle"),
        # What earlier revisions of the manual call it (18-58); the firmware still knows it.
        *_enable_line("INTerlock"),
        *choice(":OUTPut[1]:SMODe", _OFF_MODES, lambda unit: unit.settings.output_off.value, set_mode),
        *choice(":ROUTe:TERMinals", {"FRONt": True, "REAR": False}, terminals, set_terminals),
    ]
