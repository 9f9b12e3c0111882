"""The one error of the grammar, with the number an instrument would queue for it."""

from __future__ import annotations

from typing import Final

from firmware_proto.errors import RemoteProtocolError

MAX_ERROR_DATA: Final = 200
"""Bytes of the offending message kept in an error, so that garbage cannot fill a log."""


class ScpiError(RemoteProtocolError):
    """A program message breaks the grammar or names something the table does not hold.

    ``code`` is the SCPI-1999 error number (volume 2, section 21.8), always negative. An instrument queues it; a
    controller shows it. ``data`` holds the offending text, cut to 200 bytes.
    """

    def __init__(self, code: int, message: str, *, data: bytes | str = b"") -> None:
        """Make an error with its SCPI number and the text it is about."""
        raw = data.encode("latin-1", "replace") if isinstance(data, str) else data
        super().__init__(f"{code}: {message}", data=raw[:MAX_ERROR_DATA])
        self.code = code


# Numbers of SCPI-1999 that the grammar itself decides; what an instrument decides lives with the instrument.
INVALID_CHARACTER: Final = -101
SYNTAX_ERROR: Final = -102
INVALID_SEPARATOR: Final = -103
DATA_TYPE: Final = -104
PARAMETER_NOT_ALLOWED: Final = -108
MISSING_PARAMETER: Final = -109
HEADER_SEPARATOR: Final = -111
MNEMONIC_TOO_LONG: Final = -112
UNDEFINED_HEADER: Final = -113
INVALID_NUMBER: Final = -121
EXPONENT_TOO_LARGE: Final = -123
TOO_MANY_DIGITS: Final = -124
INVALID_CHARACTER_DATA: Final = -141
CHARACTER_DATA_TOO_LONG: Final = -144
INVALID_STRING: Final = -151
BLOCK_NOT_ALLOWED: Final = -168
INVALID_EXPRESSION: Final = -171
OUT_OF_RANGE: Final = -222
TOO_MUCH_DATA: Final = -223
ILLEGAL_PARAMETER: Final = -224
