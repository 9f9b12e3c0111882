"""The golden vectors as C tables: no parser on a device. ``firmware/golden/tg_golden.c`` runs them."""

from __future__ import annotations

from typing import Final

from firmware_proto.frontend.generator.c import NOTE
from firmware_proto.frontend.generator.golden import Vector
from firmware_proto.frontend.generator.golden_streams import Stream
from firmware_proto.frontend.generator.schema import Field, MessageRow, Schema

KINDS: Final = {
    "FRAME": "TG_GOT_FRAME",
    "BAD_COBS": "TG_BAD_COBS",
    "BAD_LENGTH": "TG_BAD_LENGTH",
    "BAD_CRC": "TG_BAD_CRC",
    "UNKNOWN_ID": "TG_UNKNOWN_ID",
    "STALE_SESSION": "TG_STALE_SESSION",
    "REPEATED": "TG_REPEATED",
}
PER_LINE: Final = 20


def vectors_source(schema: Schema, vectors: list[Vector], streams: list[Stream]) -> str:
    """Return ``tg_golden_vectors.c``."""
    lines = [f"/* {NOTE} */", '#include "tg_golden.h"', ""]
    for row in schema.messages:
        if row.scalars:
            lines += [*_agree(row), ""]
    table = []
    for number, vector in enumerate(vectors):
        lines += _data(number, vector)
        table.append(_entry(number, vector))
    lines += ["const tg_golden_vector tg_golden_vectors[] = {", *table, "};"]
    lines += [f"const size_t tg_golden_vector_count = {len(vectors)};", ""]
    table = []
    for number, stream in enumerate(streams):
        lines += _bytes(f"stream_{number}", stream.data)
        events = [_event(event) for event in stream.events]
        if events:
            lines += [f"static const tg_golden_event events_{number}[] = {{", *events, "};"]
        side = f"TG_SIDE_{stream.side}"
        place = f"events_{number}" if events else "0"
        table.append(
            f'    {{"{stream.name}", {side}, 0x{stream.session:08X}u, stream_{number}, {len(stream.data)}, '
            f"{place}, {len(events)}}},"
        )
    lines += ["const tg_golden_stream tg_golden_streams[] = {", *table, "};"]
    lines.append(f"const size_t tg_golden_stream_count = {len(streams)};")
    return "\n".join(lines) + "\n"


def _event(event: tuple[str] | tuple[str, int, int, int, int]) -> str:
    if len(event) == 1:
        return f"    {{{KINDS[event[0]]}, 0, 0, 0, 0}},"
    kind, ident, seq, session, gap = event
    return f"    {{{KINDS[kind]}, 0x{ident:02X}u, {seq}u, 0x{session:08X}u, {gap}u}},"


def _agree(row: MessageRow) -> list[str]:
    """Return the function that holds a message's get and put against one struct and its payload."""
    tag = row.name.lower()
    lines = [
        f"static int agree_{tag}(const void *fields, const uint8_t *payload)",
        "{",
        f"    const tg_{tag} *want = (const tg_{tag} *)fields;",
        f"    tg_{tag} got;",
        f"    uint8_t made[{row.fixed}];",
        "    int wrong = 0;",
        f"    tg_get_{tag}(&got, payload);",
        f"    tg_put_{tag}(made, want);",
    ]
    for field in row.scalars:
        place = _place(row, field)
        if field.type == "text16":
            lines.append("    for (size_t i = 0; i < TG_TEXT_SIZE; i++)")
            lines.append(f"        wrong += got.{place}[i] != want->{place}[i];")
        else:
            lines.append(f"    wrong += got.{place} != want->{place};")
    return [*lines, "    return wrong + tg_golden_differ(made, payload, sizeof made);", "}"]


def _place(row: MessageRow, field: Field) -> str:
    return f"{row.include.lower()}.{field.name}" if row.include and field in row.included else field.name


def _data(number: int, vector: Vector) -> list[str]:
    lines = []
    if vector.payload:
        lines += _bytes(f"payload_{number}", vector.payload)
    lines += _bytes(f"frame_{number}", vector.frame)
    if vector.row.scalars:
        values = [f"    .{_place(vector.row, field)} = {_literal(field, vector)}," for field in vector.row.scalars]
        lines += [f"static const tg_{vector.row.name.lower()} fields_{number} = {{", *values, "};"]
    if vector.items:
        lines.append(f"static const int16_t items_{number}[] = {{")
        words = [f"{item}," if item > -32768 else "-32767 - 1," for item in vector.items]
        lines += [f"    {' '.join(words[at : at + PER_LINE])}" for at in range(0, len(words), PER_LINE)]
        lines.append("};")
    return lines


def _literal(field: Field, vector: Vector) -> str:
    value = vector.values[field.name]
    if isinstance(value, str):
        # Letter by letter: a string of all 16 would bring a NUL too many.
        return "{" + ", ".join(f"'{letter}'" for letter in value or "\0").replace("\0", "\\0") + "}"
    if field.type == "i16":
        return f"{value}" if value > -32768 else "-32767 - 1"
    return f"0x{value:X}{'ull' if field.type == 'u64' else 'u'}"


def _entry(number: int, vector: Vector) -> str:
    row = vector.row
    fields = f"&fields_{number}, agree_{row.name.lower()}" if row.scalars else "0, 0"
    payload = f"payload_{number}" if vector.payload else "0"
    items = f"items_{number}" if vector.items else "0"
    sizes = f"{items}, {len(vector.items)}, {row.fixed}"
    return (
        f'    {{"{vector.name}", 0x{row.id:02X}u, {vector.seq}u, 0x{vector.session:08X}u, {payload}, '
        f"{len(vector.payload)}, frame_{number}, {len(vector.frame)}, {fields}, {sizes}}},"
    )


def _bytes(name: str, data: bytes) -> list[str]:
    words = [f"0x{byte:02x}," for byte in data]
    rows = [f"    {' '.join(words[at : at + PER_LINE])}" for at in range(0, len(words), PER_LINE)]
    return [f"static const uint8_t {name}[] = {{", *rows, "};"]
