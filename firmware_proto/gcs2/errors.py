"""Error numbers of PI's General Command Set 2.0, and the one error of its grammar."""

from __future__ import annotations

import enum
from typing import Final

from firmware_proto.errors import RemoteProtocolError

MAX_ERROR_DATA: Final = 200
"""Bytes of the offending text kept in an error, so that garbage cannot fill a log."""


class ErrorCode(enum.IntEnum):
    """What ``ERR?`` answers; reading it clears it. Numbers as in PI's controller manuals, error code chapter."""

    NO_ERROR = 0
    SYNTAX = 1
    UNKNOWN_COMMAND = 2
    TOO_LONG = 3
    NOT_REFERENCED_OR_SERVO_OFF = 5
    POSITION_LIMITS = 7
    VELOCITY_LIMITS = 8
    STOPPED = 10
    """After every stop: the stop worked. Not a fault for whoever asked for it."""
    WRONG_AXIS = 15
    PARAMETER_OUT_OF_RANGE = 17
    DUPLICATE_AXIS = 22
    ILLEGAL_AXIS = 23
    PARAMETER_COUNT = 24
    BAD_NUMBER = 25
    MISSING_PARAMETER = 26
    UNKNOWN_PARAMETER = 54
    INVALID_PASSWORD = 56
    PROTECTED = 60
    AUTOZERO_RUNNING = 61
    INIT_RUNNING = 63
    VOLTAGE_LIMITS = 66
    ANALOG_INPUT_ACTIVE = 72
    WAVE_GENERATOR_ACTIVE = 73
    OPEN_LOOP_WITH_SERVO_ON = 79


MOTION_ERRORS_FROM: Final = 1024
"""Numbers from here on report that a motion went wrong, not that a command was refused."""

_TEXTS: Final[dict[int, str]] = {
    ErrorCode.NO_ERROR: "no error",
    ErrorCode.SYNTAX: "syntax error",
    ErrorCode.UNKNOWN_COMMAND: "unknown command",
    ErrorCode.TOO_LONG: "command too long",
    ErrorCode.NOT_REFERENCED_OR_SERVO_OFF: "axis not referenced, or its servo is off",
    ErrorCode.POSITION_LIMITS: "position outside the limits of travel",
    ErrorCode.VELOCITY_LIMITS: "velocity outside its limits",
    ErrorCode.STOPPED: "stopped by command",
    ErrorCode.WRONG_AXIS: "no such axis",
    ErrorCode.PARAMETER_OUT_OF_RANGE: "parameter out of range",
    ErrorCode.DUPLICATE_AXIS: "axis named twice",
    ErrorCode.ILLEGAL_AXIS: "not an axis identifier",
    ErrorCode.PARAMETER_COUNT: "wrong number of parameters",
    ErrorCode.BAD_NUMBER: "not a number",
    ErrorCode.MISSING_PARAMETER: "parameter missing",
    ErrorCode.UNKNOWN_PARAMETER: "unknown parameter",
    ErrorCode.INVALID_PASSWORD: "not the password",
    ErrorCode.PROTECTED: "protected by a password",
    ErrorCode.AUTOZERO_RUNNING: "autozero is running",
    ErrorCode.INIT_RUNNING: "initialisation is running",
    ErrorCode.VOLTAGE_LIMITS: "voltage outside its limits",
    ErrorCode.ANALOG_INPUT_ACTIVE: "an analog input controls the axis",
    ErrorCode.WAVE_GENERATOR_ACTIVE: "the wave generator controls the axis",
    ErrorCode.OPEN_LOOP_WITH_SERVO_ON: "an open-loop value while the servo is on",
}


def error_text(code: int) -> str:
    """Return an error number with its meaning, as far as it is known here."""
    known = _TEXTS.get(code)
    if known is None:
        known = "motion error" if code >= MOTION_ERRORS_FROM else "not in this table; see the controller's manual"
    return f"{code} ({known})"


class GcsError(RemoteProtocolError):
    """A command line breaks the grammar. ``code`` is the number a controller keeps for ``ERR?``; ``data`` the text."""

    def __init__(self, code: ErrorCode, message: str, *, data: bytes | str = b"") -> None:
        """Make an error with its GCS number and the text it is about."""
        raw = data.encode("latin-1", "replace") if isinstance(data, str) else data
        super().__init__(f"{error_text(code)}: {message}", data=raw[:MAX_ERROR_DATA])
        self.code = code
