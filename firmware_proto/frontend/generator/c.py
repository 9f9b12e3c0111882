"""C99: ``tg_schema.h`` (constants, enums, structs with get and put) and ``tg_bench.h`` (the bench's shared memory)."""

from __future__ import annotations

from typing import Final

from firmware_proto.frontend.generator.schema import BOUNDS, Field, MessageRow, Number, Schema

WIDTH: Final = 120
NOTE: Final = "Generated from schema.toml by firmware_proto.frontend.generate; do not edit."
TYPES: Final = {
    "u8": "uint8_t",
    "u16": "uint16_t",
    "u32": "uint32_t",
    "u64": "uint64_t",
    "i16": "int16_t",
    "i32": "int32_t",
}


def schema_header(schema: Schema) -> str:
    """Return ``tg_schema.h``."""
    lines = [
        f"/* {NOTE} */",
        "#ifndef TG_SCHEMA_H",
        "#define TG_SCHEMA_H",
        "",
        "#include <stdbool.h>",
        "#include <stdint.h>",
        "",
        '#include "tg_bytes.h"',
        "",
        f"#define TG_SCHEMA_HASH 0x{schema.hash():08X}u",
        f"#define TG_VERSION {schema.version}u",
        "#define TG_TEXT_SIZE 16u",
        *_defines("", schema.limits),
        *_defines("SAFE_", schema.outputs),
    ]
    for enum in schema.enums:
        tag = _snake(enum.name)
        lines += ["", f"/* {enum.text} */", "enum {"]
        for name, ident, text in enum.members:
            comma = "" if name == enum.members[-1][0] else ","
            lines += _commented(f"TG_{tag.upper()}_{name} = {ident}{comma}", text, "    ")
        lines.append("};")
    for row in schema.messages:
        lines += ["", *_message(row, schema)]
    lines += ["", "/* ROW(id, bytes of the fixed part, bytes per item of the array or 0) */"]
    rows = [f"    ROW(0x{row.id:02X}u, {row.fixed}u, {row.item}u)" for row in schema.messages]
    lines += ["#define TG_MESSAGES(ROW) \\", *[f"{row} \\" for row in rows[:-1]], rows[-1], "", "#endif"]
    return "\n".join(lines) + "\n"


def _defines(prefix: str, rows: tuple[Number, ...]) -> list[str]:
    lines = []
    for row in rows:
        unit = "" if row.unit == "1" else f"{row.unit}: "
        lines += _commented(f"#define TG_{prefix}{row.name.upper()} {row.value}u", f"{unit}{row.text}")
    return lines


def _commented(code: str, text: str, indent: str = "") -> list[str]:
    """Return a line and its comment, behind it or, where that is too long, above it."""
    whole = f"{indent}{code} /* {text} */"
    return [whole] if len(whole) <= WIDTH else [f"{indent}/* {text} */", f"{indent}{code}"]


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _message(row: MessageRow, schema: Schema) -> list[str]:
    macro, tag = f"TG_{row.name}", f"tg_{row.name.lower()}"
    lines = [f"/* {row.text} */", f"#define {macro} 0x{row.id:02X}u"]
    if row.item:
        lines.append(f"#define {macro}_FIXED {row.fixed}u")
        lines.append(f"#define {macro}_ITEM {row.item}u")
        lines.append(f"#define {macro}_MOST {row.most}u /* items that fit a frame */")
    else:
        lines.append(f"#define {macro}_SIZE {row.fixed}u")
    name = row.name.lower()
    own = [field for field in row.own if not field.array]
    if not row.scalars:
        return lines
    lines += ["", "typedef struct {"]
    if row.include:
        lines.append(f"    tg_{row.include.lower()} {row.include.lower()};")
    for field in own:
        lines += _declared(field)
    lines += [f"}} {tag};", ""]
    array = " of the fixed part; the array follows" if row.item else ""
    lines += [f"/* Writes the {row.fixed} bytes{array}. */"]
    lines.append(f"static inline void tg_put_{name}(uint8_t *payload, const {tag} *m)")
    lines += ["{", *_moves(row, own, "put"), "}", ""]
    lines.append(f"static inline void tg_get_{name}({tag} *m, const uint8_t *payload)")
    lines += ["{", *_moves(row, own, "get"), "}"]
    if row.id < 0x80:
        lines += _in_range(row, tag, schema)
    return lines


def _declared(field: Field) -> list[str]:
    kind = "char" if field.type == "text16" else TYPES[field.type]
    array = "[TG_TEXT_SIZE]" if field.type == "text16" else ""
    unit = f"{field.unit}: " if field.unit not in {"", "1"} else ""
    return _commented(f"{kind} {field.name}{array};", f"{unit}{field.text}", "    ")


def _moves(row: MessageRow, own: list[Field], way: str) -> list[str]:
    lines = []
    at = 0
    if row.include:
        name = row.include.lower()
        arguments = f"payload, &m->{name}" if way == "put" else f"&m->{name}, payload"
        lines.append(f"    tg_{way}_{name}({arguments});")
        at = sum(field.size for field in row.included)
    for field in own:
        place = f"payload + {at}" if at else "payload"
        if field.type == "text16":
            lines.append("    for (uint32_t i = 0; i < TG_TEXT_SIZE; i++)")
            if way == "put":
                lines.append(f"        payload[{at} + i] = (uint8_t)m->{field.name}[i];")
            else:
                lines.append(f"        m->{field.name}[i] = (char)payload[{at} + i];")
        elif way == "put":
            lines.append(f"    tg_put_{field.type}({place}, m->{field.name});")
        else:
            lines.append(f"    m->{field.name} = tg_get_{field.type}({place});")
        at += field.size
    return lines


def _in_range(row: MessageRow, tag: str, schema: Schema) -> list[str]:
    tests = []
    for field in row.scalars:
        low, high = BOUNDS[field.type]
        if field.min is not None and field.min > low:
            tests.append(f"m->{field.name} >= {field.min}u")
        if field.max is not None and field.max < high:
            tests.append(f"m->{field.name} <= {field.max}u")
        if field.enum:
            last = max(ident for enum in schema.enums if enum.name == field.enum for _, ident, _ in enum.members)
            tests.append(f"m->{field.name} <= {last}u")
    if not tests:
        return []
    joined = " &&\n           ".join(tests)
    return [
        "",
        "/* Every field within its bounds; what they mean together is not judged. */",
        f"static inline bool {tag}_in_range(const {tag} *m)",
        "{",
        f"    return {joined};",
        "}",
    ]


def bench_header(schema: Schema) -> str:
    """Return ``tg_bench.h``."""
    head = schema.bench_head
    lines = [
        f"/* {head['text']}",
        f" * {NOTE} */",
        "#ifndef TG_BENCH_H",
        "#define TG_BENCH_H",
        "",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
        f"#define TG_BENCH_MAGIC 0x{head['magic']:08X}u",
        f"#define TG_BENCH_VERSION {head['version']}u",
        f"#define TG_BENCH_SIZE 0x{head['size']:X}u",
    ]
    lines += [f"#define TG_BENCH_{f.name.upper()}_ROOM {f.count}u" for f in schema.bench if f.count > 1]
    lines += ["", "typedef struct {"]
    at = 0
    for field in schema.bench:
        if field.at > at:
            lines.append(f"    uint8_t reserved_{at:x}[{field.at - at}];")
        array = f"[{field.count}]" if field.count > 1 else ""
        unit = f"{field.unit}: " if field.unit else ""
        way = "out, " if field.out else ""
        lines += _commented(f"{TYPES[field.type]} {field.name}{array};", f"{way}{unit}{field.text}", "    ")
        at = field.at + field.size * field.count
    lines += ["} tg_bench;", "", "/* An array of negative size, should a compiler lay it out otherwise. */"]
    checks = [f"offsetof(tg_bench, {field.name}) == 0x{field.at:X}" for field in schema.bench]
    checks.append("sizeof(tg_bench) == TG_BENCH_SIZE")
    joined = " &&\n                                 ".join(checks)
    indent = " " * 36
    lines += [f"typedef char tg_bench_laid_out[({joined})", f"{indent}? 1", f"{indent}: -1];", "", "#endif"]
    return "\n".join(lines) + "\n"
