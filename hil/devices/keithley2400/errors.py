"""What the emulated 2400 refuses, and the texts of its error queue."""

from __future__ import annotations

from typing import Final

from hil.errors import HilError

# User's Manual appendix B with the +8xx rows as the firmware's own table numbers them. -410, -420, -430 and -440 have
# their texts but are never queued: they are about a talker that is addressed, and on RS-232 nobody addresses it. A
# reply leaves as soon as it is ready, so it can be neither interrupted by the next message nor asked for in vain.
TEXTS: Final[dict[int, str]] = {
    0: "No error",
    -100: "Command error",
    -101: "Invalid character",
    -102: "Syntax error",
    -103: "Invalid separator",
    -104: "Data type error",
    -105: "GET not allowed",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -110: "Command header error",
    -111: "Header separator error",
    -112: "Program mnemonic too long",
    -113: "Undefined header",
    -114: "Header suffix out of range",
    -120: "Numeric data error",
    -121: "Invalid character in number",
    -123: "Exponent too large",
    -124: "Too many digits in number",
    -128: "Numeric data not allowed",
    -140: "Character data error",
    -141: "Invalid character data",
    -144: "Character data too long",
    -148: "Character data not allowed",
    -150: "String data error",
    -151: "Invalid string data",
    -154: "String too long",
    -158: "String data not allowed",
    -160: "Block data error",
    -161: "Invalid block data",
    -168: "Block data not allowed",
    -170: "Expression error",
    -171: "Invalid expression",
    -178: "Expression data not allowed",
    -200: "Execution error",
    -201: "Invalid while in local",
    -202: "Settings lost due to rtl",
    -210: "Trigger error",
    -211: "Trigger ignored",
    -212: "Arm ignored",
    -213: "Init ignored",
    -214: "Trigger deadlock",
    -215: "Arm deadlock",
    -220: "Parameter error",
    -221: "Settings conflict",
    -222: "Parameter data out of range",
    -223: "Too much data",
    -224: "Illegal parameter value",
    -225: "Out of memory",
    -230: "Data corrupt or stale",
    -241: "Hardware missing",
    -260: "Expression error",
    -281: "Cannot create program",
    -282: "Illegal program name",
    -284: "Program currently running",
    -285: "Program syntax error",
    -314: "Save/recall memory lost",
    -315: "Configuration memory lost",
    -330: "Self-test failed",
    -350: "Queue overflow",
    -360: "Communications error",
    -361: "Parity error in program message",
    -362: "Framing error in program message",
    -363: "Input buffer overrun",
    -410: "Query INTERRUPTED",
    -420: "Query UNTERMINATED",
    -430: "Query DEADLOCKED",
    -440: "Query UNTERMINATED after indefinite response",
    100: "Limit 1 failed",
    101: "Low limit 2 failed",
    102: "High limit 2 failed",
    103: "Low limit 3 failed",
    104: "High limit 3 failed",
    105: "Active limit tests passed",
    106: "Reading available",
    107: "Reading overflow",
    108: "Buffer available",
    109: "Buffer full",
    110: "Limit 4 failed",
    111: "OUTPUT enable asserted",
    112: "Temperature limit exceeded",
    113: "Voltage limit exceeded",
    114: "Source in compliance",
    200: "Operation complete",
    300: "Device calibrating",
    303: "Device sweeping",
    305: "Waiting in trigger layer",
    306: "Waiting in arm layer",
    310: "Entering idle layer",
    408: "Questionable calibration",
    414: "Command warning",
    500: "Date of calibration not set",
    501: "Next date of calibration not set",
    502: "Calibration data invalid",
    503: "DAC calibration overflow",
    504: "DAC calibration underflow",
    505: "Source offset data invalid",
    506: "Source gain data invalid",
    507: "Measurement offset data invalid",
    508: "Measurement gain data invalid",
    509: "Not permitted with cal locked",
    510: "Not permitted with cal un-locked",
    601: "Reading buffer data lost",
    602: "GPIB address lost",
    603: "Power-on state lost",
    604: "DC calibration data lost",
    605: "Calibration dates lost",
    606: "GPIB communication language lost",
    700: "Invalid system communication",
    701: "ASCII only with RS-232",
    800: "Illegal with storage active",
    801: "Insufficient vector data",
    802: "OUTPUT blocked by output enable",
    803: "Not permitted with OUTPUT off",
    804: "Expression list full",
    805: "Undefined expression exists",
    806: "Expression not found",
    807: "Definition not allowed",
    808: "Expression cannot be deleted",
    809: "Source memory location revised",
    810: "OUTPUT blocked by Over Temp",
    811: "Not an operator or number",
    812: "Mismatched parenthesis",
    813: "Not a number of data handle",
    814: "Mismatched brackets",
    815: "Too many parenthesis",
    816: "Entire expression not parsed",
    817: "Unknown token",
    818: "Error parsing mantissa",
    819: "Error parsing exponent",
    820: "Error parsing value",
    821: "Invalid data handle index",
    822: "Too small for sense range",
    823: "Invalid with source read-back on",
    824: "Cannot exceed compliance range",
    825: "Invalid with auto-ohms on",
    826: "Attempt to exceed power limit",
    827: "Invalid with ohms guard on",
    828: "Invalid on 1 amp range",
    829: "Invalid on 1kV range",
    830: "Invalid with INF ARM:COUNT",
    831: "Invalid in Pulse Mode",
    900: "Internal System Error",
}

SETTINGS_CONFLICT: Final = -221
OUT_OF_RANGE: Final = -222
TOO_MUCH_DATA: Final = -223
ILLEGAL_VALUE: Final = -224
STALE: Final = -230
TRIGGER_IGNORED: Final = -211
TRIGGER_DEADLOCK: Final = -214
INVALID_EXPRESSION: Final = -171
STORAGE_ACTIVE: Final = 800
EXPRESSION_NOT_FOUND: Final = 806
INVALID_WITH_AUTO_OHMS: Final = 825
POWER: Final = 826
HARDWARE_MISSING: Final = -241
QUEUE_OVERFLOW: Final = -350
FRAMING: Final = -362
INPUT_OVERRUN: Final = -363
CALIBRATION_LOST: Final = 604
ASCII_ONLY: Final = 701
OUTPUT_BLOCKED: Final = 802
TOO_HOT: Final = 810
INFINITE_COUNT: Final = 830


class RefusedError(HilError):
    """The emulated instrument refuses a command. It catches this itself and queues ``code``."""

    def __init__(self, code: int) -> None:
        """Refuse with the number of the error queue entry."""
        super().__init__(f"{code:+d}: {TEXTS.get(code, 'unknown')}")
        self.code = code
