"""DISPlay and the keys of the emulated 2400 (User's Manual 18-44 to 18-47, 18-106).

Keys pressed with ``:SYST:KEY`` do what they do at the panel where that reaches the terminals: OUTPUT and LOCAL. The
others move through menus that nobody looks at; they are taken and remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from firmware_proto.scpi import parse_integer, parse_string
from hil.devices.keithley2400.entries import Entries, Params, boolean, command, integer, query
from hil.devices.keithley2400.errors import TOO_MUCH_DATA, RefusedError
from hil.devices.keithley2400.panel import KEY_LOCAL, KEY_OUTPUT, KEYS, toggle_output
from hil.devices.keithley2400.unit import Unit

_LENGTHS: Final = (20, 32)
"""Characters of the upper and the lower line."""
_BLANK: Final = "--.---"


def _window(head: str, line: int) -> Entries:
    def set_text(unit: Unit, params: Params) -> None:
        text = parse_string(params[0])
        if len(text) > _LENGTHS[line]:
            raise RefusedError(TOO_MUCH_DATA)
        unit.panel.texts[line] = text

    def set_shown(unit: Unit, on: bool) -> None:
        unit.panel.show_texts[line] = on

    def shown(unit: Unit) -> bool:
        return unit.panel.show_texts[line]

    return [
        *command(f"{head}:TEXT[:DATA]", set_text, least=1),
        *query(f"{head}:TEXT[:DATA]", lambda unit: f'"{_printable(unit.panel.texts[line])}"'),
        *boolean(f"{head}:TEXT:STATe", shown, set_shown),
        *query(f"{head}:DATA", lambda unit: f'"{_content(unit, line)}"'),
    ]


def _printable(text: str) -> str:
    return "".join(character if " " <= character <= "~" else "?" for character in text).replace('"', '""')


def _content(unit: Unit, line: int) -> str:
    """Return what a line of the display says."""
    if unit.panel.show_texts[line]:
        return _printable(unit.panel.texts[line])
    if line:
        axis = unit.settings.source_axis()
        return f"Src:{axis.level:+.4E}"
    return f"{unit.readings[-1].curr:+.5E}" if unit.output.on and unit.readings else _BLANK


def _keys() -> Entries:
    presses: dict[int, Callable[[Unit], None]] = {
        KEY_OUTPUT: toggle_output,
        KEY_LOCAL: lambda unit: unit.to_local(key=True),
    }

    def press(unit: Unit, params: Params) -> None:
        code = parse_integer(params[0], KEYS.start, KEYS.stop - 1)
        unit.panel.last_key = code
        if code in presses:
            presses[code](unit)

    return [*command(":SYSTem:KEY", press, least=1), *query(":SYSTem:KEY", lambda unit: str(unit.panel.last_key))]


def entries() -> Entries:
    """Return everything of this module for the command table."""

    def set_display(unit: Unit, on: bool) -> None:
        unit.panel.display = on

    def set_digits(unit: Unit, digits: float) -> None:
        unit.panel.digits = int(digits)

    def to_normal(unit: Unit, _params: Params) -> None:
        unit.panel.show_texts[:] = [False, False]

    return [
        *boolean(":DISPlay:ENABle", lambda unit: unit.panel.display, set_display),
        *integer(":DISPlay:DIGits", lambda unit: unit.panel.digits, set_digits, low=4, high=7, default=6),
        *command(":DISPlay:CNDisplay", to_normal),
        *_window(":DISPlay[:WINDow[1]]", 0),
        *_window(":DISPlay:WINDow2", 1),
        *_keys(),
    ]
