"""Golden vectors: frames with their fields, and streams with the events that they have to give.

Neither comes from the decoder that is tested by them: payloads are packed field by field from the schema, and what a
stream has to give is stated beside its bytes.
"""

from __future__ import annotations

import json
import struct
from binascii import crc32
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from firmware_proto.frontend.errors import SchemaError
from firmware_proto.frontend.generator.golden_streams import Stream, streams
from firmware_proto.frontend.generator.schema import BOUNDS, LETTERS, Field, MessageRow, Schema
from firmware_proto.frontend.wire import DELIMITER, frame

BOARD: Final = "golden-board-16c"
SHORT_BOARD: Final = "mps2-an385"


@dataclass(frozen=True, slots=True)
class Vector:
    """One frame: its fields, its payload, its bytes on the wire."""

    name: str
    row: MessageRow
    seq: int
    session: int
    values: dict[str, int | str]
    items: list[int]
    payload: bytes
    frame: bytes


def vectors(schema: Schema) -> list[Vector]:
    """Return three vectors per message (lowest, highest, a pattern), and those of COBS's corners."""
    out = []
    ids = {enum.name: [ident for _, ident, _ in enum.members] for enum in schema.enums}
    for row in schema.messages:
        for kind, value, seq, session, items in (
            ("low", lambda f: f.low if not f.enum else min(ids[f.enum]), 0, 1, _low(row)),
            ("high", lambda f: f.high if not f.enum else max(ids[f.enum]), 0xFFFF, 0xFFFFFFFF, _high(row)),
            ("pattern", lambda f: _pattern(f, ids), 0x1234, 0xC0FFEE00, _patterned(row)),
        ):
            if row.name != "TRIP":
                out.append(_vector(f"{row.name}-{kind}", row, seq, session, value, items))
            elif kind == "low":
                # A constant; there is no other.
                out.append(_vector("TRIP", row, 0, 0, value, items))
    samples = next(row for row in schema.messages if row.name == "SAMPLES")
    for name, codes in {
        "zeros": [0] * samples.most,
        # A zero code is two zero bytes; what stands between two of them is one run of COBS.
        "run-253": [0, *[0x1111] * 126, 0x0011, 7],
        "run-254": [0, *[0x2222] * 127, 0, 7],
        "run-255": [0, *[0x3333] * 127, 0x0033, 7],
        "run-508": [0] * 10 + [0x4444] * 237,
    }.items():
        out.append(_vector(f"SAMPLES-{name}", samples, 7, 0xA5A5A5A5, _one, codes))
    out.append(_ending(samples))
    return out


def _low(_row: MessageRow) -> list[int]:
    return []


def _high(row: MessageRow) -> list[int]:
    return [0x7FFF] * (row.most * (row.array.per if row.array else 0))


def _patterned(row: MessageRow) -> list[int]:
    return [-32768, -1, 0, 1, 32767, 256] if row.array else []


def _one(_field: Field) -> int:
    return 1


def _pattern(field: Field, ids: dict[str, list[int]]) -> int:
    """Return a value that differs from field to field, within its bounds."""
    mark = crc32(field.name.encode()) * 0x100000001 & 0xFFFFFFFFFFFFFFFF
    if field.enum:
        return ids[field.enum][mark % len(ids[field.enum])]
    return field.low + mark % (field.high - field.low + 1)


def _ending(row: MessageRow) -> Vector:
    """Return a frame whose last 254 bytes, CRC included, hold no zero, right behind a zero."""
    for code in range(0x0101, 0x7FFF):
        vector = _vector("SAMPLES-run-254-ends", row, 7, 0xA5A5A5A5, _one, [0] + [code] * 125)
        if code & 0xFF and len(vector.frame) == vector.frame.rfind(b"\xff") + 256:
            return vector
    raise SchemaError("SAMPLES: no code whose frame ends in 254 bytes without a zero")


def _vector(
    name: str, row: MessageRow, seq: int, session: int, value: Callable[[Field], int], items: list[int]
) -> Vector:
    values: dict[str, int | str] = {}
    payload = b""
    for field in row.scalars:
        if field.type == "text16":
            text = {"low": "", "high": BOARD}.get(name.rpartition("-")[2], SHORT_BOARD)
            values[field.name] = text
            payload += text.encode("ascii").ljust(field.size, b"\0")
            continue
        number = value(field)
        if row.array is not None and field.name == "count":
            number = len(items) // row.array.per
        low, high = BOUNDS[field.type]
        if not low <= number <= high:
            raise ValueError(f"{name}.{field.name}: {number}")
        values[field.name] = number
        payload += struct.pack("<" + LETTERS[field.type], number)
    payload += struct.pack(f"<{len(items)}h", *items)
    whole = frame(row.id, seq, session, payload)
    return Vector(name, row, seq, session, values, items, payload, DELIMITER + whole if row.urgent else whole)


def lines(rows: list[Vector], stream_rows: list[Stream]) -> str:
    """Return the vectors as JSON lines."""
    out: list[dict[str, object]] = []
    for vector in rows:
        fields: dict[str, int | str | list[int]] = {**vector.values}
        if vector.row.array is not None:
            fields[vector.row.array.name] = vector.items
        out.append(
            {
                "kind": "frame",
                "name": vector.name,
                "message": vector.row.name,
                "id": vector.row.id,
                "seq": vector.seq,
                "session": vector.session,
                "fields": fields,
                "payload": vector.payload.hex(),
                "frame": vector.frame.hex(),
            }
        )
    out += [
        {
            "kind": "stream",
            "name": stream.name,
            "side": stream.side,
            "session": stream.session,
            "bytes": stream.data.hex(),
            "events": [list(event) for event in stream.events],
        }
        for stream in stream_rows
    ]
    return "".join(json.dumps(row) + "\n" for row in out)


__all__ = ["Stream", "Vector", "lines", "streams", "vectors"]
