"""PostgreSQL's binary COPY format, as far as the store needs it: one function per type, numpy for arrays.

Text in, numbers out is what a driver does for each value of a list; a frame of 100 samples has 700. Here a column is
one numpy operation.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER: Final = b"\xff\xff"

INT2: Final = (21, ">i2")
INT4: Final = (23, ">i4")
INT8: Final = (20, ">i8")
FLOAT8: Final = (701, ">f8")
_TEXT_OID: Final = 25
_NULL: Final = b"\xff\xff\xff\xff"
_2000_US: Final = 946_684_800_000_000

_I2: Final = struct.Struct(">h")
_I4: Final = struct.Struct(">i")
_I8: Final = struct.Struct(">q")
_F8: Final = struct.Struct(">d")
_ARRAY: Final = struct.Struct(">iiiii")

Type = tuple[int, str]


def row(fields: Sequence[bytes | None]) -> bytes:
    """Return one row; None is NULL."""
    parts = [_I2.pack(len(fields))]
    for field in fields:
        if field is None:
            parts.append(_NULL)
        else:
            parts += (_I4.pack(len(field)), field)
    return b"".join(parts)


def text(value: str) -> bytes:
    """Return a text; NUL, which PostgreSQL has no place for, becomes U+FFFD."""
    return value.replace("\0", "\ufffd").encode()


def jsonb(value: str) -> bytes:
    """Return a jsonb from its text."""
    return b"\x01" + value.encode()


def int4(value: int) -> bytes:
    """Return an integer; struct.error outside 32 bits."""
    return _I4.pack(value)


def int8(value: int) -> bytes:
    """Return a bigint; struct.error outside 64 bits."""
    return _I8.pack(value)


def numeric(value: int) -> bytes:
    """Return a numeric of a whole number, 0..2**64-1."""
    digits: list[int] = []
    while value:
        value, digit = divmod(value, 10_000)
        digits.insert(0, digit)
    return struct.pack(f">hhhh{len(digits)}h", len(digits), max(len(digits) - 1, 0), 0, 0, *digits)


def float8(value: float) -> bytes:
    """Return a double precision."""
    return _F8.pack(value)


def boolean(value: bool) -> bytes:
    """Return a boolean."""
    return b"\x01" if value else b"\x00"


def timestamp(utc_ns: int) -> bytes:
    """Return a timestamptz, to the microsecond below, from ns since 1970; any 64-bit number is in its range."""
    return _I8.pack(utc_ns // 1000 - _2000_US)


def array(values: npt.NDArray[Any], kind: Type) -> bytes:
    """Return an array of ``kind`` without NULLs."""
    return arrays(values, kind, [len(values)])[0]


def arrays(values: npt.NDArray[Any], kind: Type, counts: Sequence[int]) -> list[bytes]:
    """Return ``values`` as arrays of ``counts`` elements each, one behind the other; no NULLs."""
    oid, dtype = kind
    wire = np.empty(len(values), [("length", ">i4"), ("value", dtype)])
    wire["length"] = np.dtype(dtype).itemsize
    wire["value"] = values
    data = wire.tobytes()
    found = []
    at = 0
    for count in counts:
        end = at + count * wire.itemsize
        found.append(_ARRAY.pack(1, 0, oid, count, 1) + data[at:end])
        at = end
    return found


def values_of(sent: bytes, kind: Type) -> npt.NDArray[Any]:
    """Return what :func:`array` was given, from what the server's ``array_send`` gives."""
    wire = np.frombuffer(sent, [("length", ">i4"), ("value", kind[1])], offset=_ARRAY.size)
    found: npt.NDArray[Any] = wire["value"]
    return found


def text_array(values: Sequence[str]) -> bytes:
    """Return an array of text without NULLs."""
    parts = [_ARRAY.pack(1, 0, _TEXT_OID, len(values), 1)]
    for value in values:
        data = text(value)
        parts += (_I4.pack(len(data)), data)
    return b"".join(parts)
