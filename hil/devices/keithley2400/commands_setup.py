"""Saved setups of the emulated 2400: ``*SAV`` and ``*RCL`` (User's Manual 16-3, 16-4)."""

from __future__ import annotations

from typing import Final

from firmware_proto.scpi import parse_integer
from hil.devices.keithley2400.entries import Entries, Params, command
from hil.devices.keithley2400.unit import Unit

LOCATIONS: Final = 5


def _save(unit: Unit, params: Params) -> None:
    unit.save(parse_integer(params[0], 0, LOCATIONS - 1))


def _recall(unit: Unit, params: Params) -> None:
    unit.recall(parse_integer(params[0], 0, LOCATIONS - 1))


def entries() -> Entries:
    """Return everything of this module for the command table."""
    return [*command("*SAV", _save, least=1), *command("*RCL", _recall, least=1)]
