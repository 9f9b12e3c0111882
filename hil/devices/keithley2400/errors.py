"""What the emulated 2400 refuses, and the texts of its error queue."""

from __future__ import annotations

from typing import Final

from hil.errors import HilError

# User's Manual appendix B with the +8xx rows as the firmware's own table numbers them.
TEXTS: Final[dict[int, str]] = {
    0: "No error",
    -101: "Invalid character",
    -102: "Syntax error",
    -103: "Invalid separator",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -111: "Header separator error",
    -112: "Program mnemonic too long",
    -113: "Undefined header",
    -121: "Invalid character in number",
    -123: "Exponent too large",
    -124: "Too many digits in number",
    -141: "Invalid character data",
    -144: "Character data too long",
    -151: "Invalid string data",
    -168: "Block data not allowed",
    -171: "Invalid expression",
    -213: "Init ignored",
    -221: "Settings conflict",
    -222: "Parameter data out of range",
    -223: "Too much data",
    -224: "Illegal parameter value",
    -230: "Data corrupt or stale",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
    114: "Source in compliance",
    701: "ASCII only with RS-232",
    802: "OUTPUT blocked by output enable",
    803: "Not permitted with OUTPUT off",
    822: "Too small for sense range",
    824: "Cannot exceed compliance range",
    830: "Invalid with INF ARM:COUNT",
}

SETTINGS_CONFLICT: Final = -221
OUT_OF_RANGE: Final = -222
STALE: Final = -230
QUEUE_OVERFLOW: Final = -350
INPUT_OVERRUN: Final = -363
ASCII_ONLY: Final = 701
INFINITE_COUNT: Final = 830


class RefusedError(HilError):
    """The emulated instrument refuses a command. It catches this itself and queues ``code``."""

    def __init__(self, code: int) -> None:
        """Refuse with the number of the error queue entry."""
        super().__init__(f"{code:+d}: {TEXTS.get(code, 'unknown')}")
        self.code = code
