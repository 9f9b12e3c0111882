"""Markdown: ``docs/frontend-protocol.md``, the specification as a person reads it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from firmware_proto.frontend.generator.schema import Field, MessageRow, Number, Schema
from firmware_proto.frontend.wire import MAX_CODED, OVERHEAD, frame

INTRODUCTION: Final = """\
# The front end's protocol

Generated from `firmware_proto/frontend/schema.toml` by `python -m firmware_proto.frontend.generate`; do not edit. Why
it is so: [decision 0023](decisions/0023-the-front-ends-wire-format.md). Schema hash `0x{hash:08X}`, version {version}.

## Frames

```
COBS( id u8 | length u16 | seq u16 | session u32 | payload | CRC-32 u32 )  0x00
```

* Little-endian. `length` is that of the payload and lies inside the CRC; the frame itself ends at the delimiter and at
  nothing else. CRC-32 IEEE (reflected 0xEDB88320) over everything before it. {overhead} bytes of header and CRC, a
  payload of at most {payload}, at most {coded} bytes on the wire before the delimiter.
* Two delimiters in a row are an empty frame and mean nothing. A sender writes an extra one before TRIP and TRIP_REPORT
  and after {silence} ms of silence, so that half a frame before cannot swallow what follows.
* `seq` counts all frames of one direction, whatever they are; a frame that is sent again gets a new number. HELLO and
  WELCOME begin the count.
* `session` is `boot_nonce XOR rotl(host_nonce, 16)`, 1 where that is 0. HELLO carries 0, WELCOME the new one.
* A block between delimiters is judged in this order, and refused with the first that fails: longer than {coded} bytes
  (bad length); a COBS group that reaches past its end (bad COBS); decoded shorter than {overhead} or longer than
  {raw} bytes (bad length); CRC (bad CRC); `length` (bad length); an id of this direction (unknown id); the length of
  that id (bad length); session (stale); number up to {repeat} behind the expected one (stale: a repetition). A number
  ahead of the expected one is taken, and what is missing before it is counted. HELLO, WELCOME and TRIP are exempt from
  session and number.
* A host's TRIP is always these bytes: `{trip}`.
* Messages marked *frozen* never change; ends of different schemas refuse to arm and still understand these.
"""


def page(schema: Schema) -> str:
    """Return the page."""
    limits = {row.name: row.value for row in schema.limits}
    trip = next(row.id for row in schema.messages if row.name == "TRIP")
    parts = [
        INTRODUCTION.format(
            hash=schema.hash(),
            version=schema.version,
            overhead=OVERHEAD,
            payload=limits["max_payload"],
            raw=OVERHEAD + limits["max_payload"],
            coded=MAX_CODED,
            silence=limits["silence_ms"],
            repeat=limits["repeat_window"],
            trip=(b"\0" + frame(trip, 0, 0)).hex(" "),
        )
    ]
    for title, low, high in (("Host to device", 0, 0x80), ("Device to host", 0x80, 0x100)):
        parts.append(f"## {title}\n")
        parts += [_message(row) for row in schema.messages if low <= row.id < high]
    parts.append("## Enums\n")
    for enum in schema.enums:
        rows = "\n".join(f"| {ident} | {name} | {_cell(text)} |" for name, ident, text in enum.members)
        parts.append(f"### {enum.name}\n\n{enum.text}\n\n| id | name | |\n|---|---|---|\n{rows}\n")
    parts.append(f"## Limits\n\n{_numbers(schema.limits)}")
    parts.append(f"## Outputs at reset and without a lease\n\n{_numbers(schema.outputs)}")
    parts.append(f"## Budgets of the firmware\n\n{_numbers(schema.budgets)}")
    parts.append(_bench(schema))
    return "\n".join(parts)


def _numbers(rows: Iterable[Number]) -> str:
    lines = [f"| {row.name} | {row.value} | {row.unit} | {_cell(row.text)} |" for row in rows]
    return "\n".join(["| name | value | unit | |", "|---|---|---|---|", *lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def _message(row: MessageRow) -> str:
    marks = [mark for mark, on in (("frozen", row.frozen), ("urgent", row.urgent)) if on]
    size = f"{row.fixed} bytes"
    if row.item:
        size = f"{row.fixed} + {row.item} x count bytes, count at most {row.most}"
    lines = [f"### 0x{row.id:02X} {row.name}", "", f"{row.text} {size[0].upper()}{size[1:]}."]
    if marks:
        lines[-1] += f" *{', '.join(marks).capitalize()}.*"
    if row.fields:
        lines += ["", "| at | field | type | unit | range | |", "|---|---|---|---|---|---|"]
    at = 0
    for field in row.fields:
        cells = [str(at), field.name, _type(field), _unit(field), _range(field), _cell(field.text)]
        lines.append(f"| {' | '.join(cells)} |")
        at += field.size
    return "\n".join([*lines, ""])


def _type(field: Field) -> str:
    if field.array:
        return f"{field.type}[{'' if field.per == 1 else f'{field.per} x '}count]"
    return f"{field.type} {field.enum}".rstrip()


def _unit(field: Field) -> str:
    return "" if field.unit == "1" else field.unit


def _range(field: Field) -> str:
    return "" if field.min is None and field.max is None else f"{field.low}..{field.high}"


def _bench(schema: Schema) -> str:
    head = schema.bench_head
    lines = [
        "## Bench memory",
        "",
        f"{head['text']} Not on the wire, version {head['version']}, {head['size']:#x} bytes; fields marked out are",
        "written by the firmware, all others by the bench.",
        "",
        "| at | field | type | unit | out | |",
        "|---|---|---|---|---|---|",
    ]
    for field in schema.bench:
        kind = field.type if field.count == 1 else f"{field.type}[{field.count}]"
        out = "out" if field.out else ""
        lines.append(f"| {field.at:#x} | {field.name} | {kind} | {_unit(field)} | {out} | {_cell(field.text)} |")
    return "\n".join([*lines, ""])
