"""The command table of the emulated 2400, compiled once."""

from __future__ import annotations

import functools
from typing import Final

from firmware_proto.scpi import CommandTable
from hil.devices.keithley2400 import (
    commands_calc,
    commands_display,
    commands_output,
    commands_sense,
    commands_setup,
    commands_source,
    commands_status,
    commands_sweep,
    commands_system,
    commands_trace,
    commands_trigger,
)
from hil.devices.keithley2400.entries import Entry

BREAK_THROUGH: Final[CommandTable[bool]] = CommandTable(
    [(":ABORt", True), ("*RST", True), (":SYSTem:PRESet", True), ("*RCL", True)]
)
"""Commands that end a running measurement as they arrive, instead of queueing behind it (User's Manual 11-12, 16-3)."""

TRIGGER: Final[CommandTable[bool]] = CommandTable([("*TRG", True)])
"""The one that reaches a trigger model which waits for it, past the queue (11-13)."""


@functools.cache
def commands() -> CommandTable[Entry]:
    """Return the table of everything the emulator understands."""
    modules = (
        commands_status,
        commands_system,
        commands_display,
        commands_output,
        commands_setup,
        commands_source,
        commands_sweep,
        commands_sense,
        commands_trigger,
        commands_trace,
        commands_calc,
    )
    return CommandTable([entry for module in modules for entry in module.entries()])
