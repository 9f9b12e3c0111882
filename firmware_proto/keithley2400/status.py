"""Numbers with a meaning in Keithley 2400 replies.

Source: 2400 Series SourceMeter User's Manual, 2400S-900-01: elements and special values 18-45..18-49, status word
18-50, output-off states 13-9..13-11, errors appendix B (its 8xx rows are shifted by one in the manual; the numbers
here are those of the firmware's own table).
"""

from __future__ import annotations

import enum
from typing import Final

NOT_A_NUMBER: Final = 9.91e37
"""Sent for an element that is not sourced and not measured."""
OVERFLOW: Final = 9.9e37
"""Sent for a reading above 105.5 % of the range, and for infinite counts."""
ELEMENT_ORDER: Final = ("VOLT", "CURR", "RES", "TIME", "STAT")
"""Readings come in this order whatever order ``:FORM:ELEM`` lists."""
ABORT_CHARS: Final = frozenset({0x03, 0x18})
"""``^C`` and ``^X``: clear any pending operation and discard pending output; neither turns the output off."""
BAUDS: Final = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600)
CURRENT_RANGES_A: Final = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
VOLTAGE_RANGES_V: Final = (0.2, 2.0, 20.0, 200.0)
OVERRANGE: Final = 1.05
"""Range queries return, and range compliance clamps at, 105 % of the nominal range."""
MIN_PROTECTION_OF_RANGE: Final = 1e-3
"""The least accepted ``SENS:CURR:PROT`` is 0.1 % of the measure range (+822 below)."""


class StatusWord(enum.IntFlag):
    """The STAT element, 24 bits sent as a float."""

    OVERFLOW = 1 << 0
    FILTER = 1 << 1
    FRONT = 1 << 2
    COMPLIANCE = 1 << 3
    OVP = 1 << 4
    MATH = 1 << 5
    NULL = 1 << 6
    LIMITS = 1 << 7
    V_MEASURE = 1 << 11
    I_MEASURE = 1 << 12
    OHMS_MEASURE = 1 << 13
    V_SOURCE = 1 << 14
    I_SOURCE = 1 << 15
    RANGE_COMPLIANCE = 1 << 16
    OFFSET_COMPENSATION = 1 << 17
    CONTACT_CHECK = 1 << 18
    REMOTE_SENSE = 1 << 22
    PULSE = 1 << 23


class OutputOff(enum.Enum):
    """Output-off states by their SCPI parameter."""

    NORMAL = "NORM"
    ZERO = "ZERO"
    HIGH_IMPEDANCE = "HIMP"
    GUARD = "GUAR"


class ErrorCode(enum.IntEnum):
    """Entries of the error queue that this project sends or reacts to."""

    NO_ERROR = 0
    SYNTAX = -102
    PARAMETER_NOT_ALLOWED = -108
    MISSING_PARAMETER = -109
    UNDEFINED_HEADER = -113
    INVALID_NUMBER = -121
    INVALID_CHARACTER_DATA = -141
    INVALID_STRING_DATA = -151
    INIT_IGNORED = -213
    SETTINGS_CONFLICT = -221
    OUT_OF_RANGE = -222
    ILLEGAL_PARAMETER = -224
    QUEUE_OVERFLOW = -350
    INPUT_OVERRUN = -363
    QUERY_INTERRUPTED = -410
    QUERY_UNTERMINATED = -420
    IN_COMPLIANCE = 114
    BLOCKED_BY_OUTPUT_ENABLE = 802
    NOT_PERMITTED_WITH_OUTPUT_OFF = 803
    TOO_SMALL_FOR_SENSE_RANGE = 822
    CANNOT_EXCEED_COMPLIANCE_RANGE = 824
