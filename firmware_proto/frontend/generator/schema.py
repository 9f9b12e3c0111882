"""schema.toml, read and judged: what the generators work from, and the hash that both ends compare."""

from __future__ import annotations

import json
import tomllib
from binascii import crc32
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from firmware_proto.frontend.errors import SchemaError
from firmware_proto.frontend.wire import MAX_PAYLOAD

SCHEMA: Final = Path(__file__).resolve().parent.parent / "schema.toml"
SIZES: Final = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i16": 2, "i32": 4, "text16": 16}
LETTERS: Final = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i16": "h", "i32": "i", "text16": "16s"}
BOUNDS: Final = {
    "u8": (0, 2**8 - 1),
    "u16": (0, 2**16 - 1),
    "u32": (0, 2**32 - 1),
    "u64": (0, 2**64 - 1),
    "i16": (-(2**15), 2**15 - 1),
    "i32": (-(2**31), 2**31 - 1),
    "text16": (0, 0),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message, or of the bench memory (``at``, ``count``, ``out``)."""

    name: str
    type: str
    text: str
    unit: str = ""
    enum: str = ""
    min: int | None = None
    max: int | None = None
    array: bool = False
    per: int = 1
    at: int = 0
    count: int = 1
    out: bool = False

    @property
    def size(self) -> int:
        """Bytes of one value."""
        return SIZES[self.type]

    @property
    def low(self) -> int:
        """Smallest value that a device takes."""
        return BOUNDS[self.type][0] if self.min is None else self.min

    @property
    def high(self) -> int:
        """Largest value that a device takes."""
        return BOUNDS[self.type][1] if self.max is None else self.max


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One message; ``fields`` with what it includes, ``own`` without."""

    name: str
    id: int
    text: str
    own: tuple[Field, ...]
    included: tuple[Field, ...] = ()
    include: str = ""
    urgent: bool = False
    frozen: bool = False
    class_name: str = ""

    @property
    def fields(self) -> tuple[Field, ...]:
        """All of them in wire order."""
        return self.included + self.own

    @property
    def scalars(self) -> tuple[Field, ...]:
        """The fixed part."""
        return tuple(field for field in self.fields if not field.array)

    @property
    def array(self) -> Field | None:
        """The array at the end, if there is one."""
        return self.fields[-1] if self.fields and self.fields[-1].array else None

    @property
    def fixed(self) -> int:
        """Bytes of the fixed part."""
        return sum(field.size for field in self.scalars)

    @property
    def item(self) -> int:
        """Bytes per item of the array; 0: none."""
        return 0 if self.array is None else self.array.size * self.array.per

    @property
    def most(self) -> int:
        """Most items that fit a frame; 0: no array."""
        return (MAX_PAYLOAD - self.fixed) // self.item if self.item else 0


@dataclass(frozen=True, slots=True)
class Number:
    """A limit, a budget, or an output's safe value."""

    name: str
    value: int
    unit: str
    text: str


@dataclass(frozen=True, slots=True)
class EnumRow:
    """An enum; members as (name, id, text)."""

    name: str
    text: str
    members: tuple[tuple[str, int, str], ...]


@dataclass(frozen=True, slots=True)
class Schema:
    """All of it."""

    version: int
    limits: tuple[Number, ...]
    budgets: tuple[Number, ...]
    outputs: tuple[Number, ...]
    enums: tuple[EnumRow, ...]
    messages: tuple[MessageRow, ...]
    bench: tuple[Field, ...]
    bench_head: Mapping[str, Any]

    def hash(self) -> int:
        """Return what WELCOME and HELLO carry: CRC-32 of all that means something, in a form without prose."""
        plain = {
            "version": self.version,
            "limits": {row.name: [row.value, row.unit] for row in self.limits},
            "outputs": {row.name: row.value for row in self.outputs},
            "enums": {row.name: {name: ident for name, ident, _ in row.members} for row in self.enums},
            "messages": [
                [
                    row.name,
                    row.id,
                    row.urgent,
                    [[f.name, f.type, f.unit, f.enum, f.low, f.high, f.array, f.per] for f in row.fields],
                ]
                for row in sorted(self.messages, key=lambda row: row.id)
            ],
        }
        return crc32(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode())


def load(path: Path = SCHEMA) -> Schema:
    """Read and judge ``path``; SchemaError says what stands where."""
    return parse(path.read_text(encoding="utf-8"))


def parse(text: str) -> Schema:
    """Judge the text of a schema; SchemaError says what stands where."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SchemaError(f"schema.toml: {error}") from error
    enums = tuple(_enum(name, row) for name, row in table["enums"].items())
    known = {row.name for row in enums}
    messages: dict[str, MessageRow] = {}
    for name, row in table["messages"].items():
        messages[name] = _message(name, row, messages, known)
    _unique("messages", [row.id for row in messages.values()])
    _unique("messages", [row.class_name for row in messages.values()])
    limits = _numbers(table["limits"])
    if {row.name: row.value for row in limits}["max_payload"] != MAX_PAYLOAD:
        raise SchemaError(f"limits.max_payload: the framing knows {MAX_PAYLOAD}")
    outputs = tuple(Number(name, row["safe"], row["unit"], row["text"]) for name, row in table["outputs"].items())
    head = {key: value for key, value in table["bench"].items() if key != "fields"}
    bench = tuple(_field("bench", row, known) for row in table["bench"]["fields"])
    _judge_bench(bench, head["size"])
    return Schema(
        table["version"],
        limits,
        _numbers(table["budgets"]),
        outputs,
        enums,
        tuple(messages.values()),
        bench,
        head,
    )


def _numbers(table: Mapping[str, Any]) -> tuple[Number, ...]:
    return tuple(Number(name, row["value"], row["unit"], row["text"]) for name, row in table.items())


def _enum(name: str, table: Mapping[str, Any]) -> EnumRow:
    members = tuple((key, row["id"], row["text"]) for key, row in table.items() if key != "text")
    _unique(f"enums.{name}", [ident for _, ident, _ in members])
    if any(not 0 <= ident <= 255 for _, ident, _ in members):
        raise SchemaError(f"enums.{name}: ids are one byte")
    return EnumRow(name, table["text"], members)


def _field(where: str, row: Mapping[str, Any], enums: set[str]) -> Field:
    try:
        field = Field(**row)
    except TypeError as error:
        raise SchemaError(f"{where}: {row}: {error}") from error
    if field.type not in SIZES:
        raise SchemaError(f"{where}.{field.name}: type {field.type!r}; one of: {', '.join(SIZES)}")
    if field.enum and (field.enum not in enums or field.type != "u8"):
        raise SchemaError(f"{where}.{field.name}: enum {field.enum!r} is not among [enums], or its field no u8")
    low, high = BOUNDS[field.type]
    if field.type != "text16" and not low <= field.low <= field.high <= high:
        raise SchemaError(f"{where}.{field.name}: {field.low}..{field.high} does not fit {field.type}")
    return field


def _message(name: str, row: Mapping[str, Any], before: Mapping[str, MessageRow], enums: set[str]) -> MessageRow:
    where = f"messages.{name}"
    include = row.get("include", "")
    if include and include not in before:
        raise SchemaError(f"{where}.include: no message {include!r} above it")
    message = MessageRow(
        name,
        row["id"],
        row["text"],
        tuple(_field(where, field, enums) for field in row["fields"]),
        before[include].fields if include else (),
        include,
        row.get("urgent", False),
        row.get("frozen", False),
        row.get("class", "".join(word.capitalize() for word in name.split("_"))),
    )
    if not 0 <= message.id <= 255:
        raise SchemaError(f"{where}.id: one byte")
    _unique(where, [field.name for field in message.fields])
    for at, field in enumerate(message.fields):
        if field.array and (at != len(message.fields) - 1 or at == 0 or message.fields[at - 1].name != "count"):
            raise SchemaError(f"{where}.{field.name}: an array is the last field, right behind a u16 named count")
    if message.fixed > MAX_PAYLOAD:
        raise SchemaError(f"{where}: {message.fixed} bytes do not fit {MAX_PAYLOAD}")
    return message


def _judge_bench(fields: tuple[Field, ...], size: int) -> None:
    for field, after in _pairs(fields):
        end = field.at + field.size * field.count
        if field.at % field.size:
            raise SchemaError(f"bench.{field.name}: at {field.at:#x} is not a multiple of its size")
        if end > (size if after is None else after.at):
            raise SchemaError(f"bench.{field.name}: reaches to {end:#x}, into what comes next")


def _pairs(fields: tuple[Field, ...]) -> Iterator[tuple[Field, Field | None]]:
    for at, field in enumerate(fields):
        yield field, fields[at + 1] if at + 1 < len(fields) else None


def _unique(where: str, values: list[Any]) -> None:
    twice = {value for value in values if values.count(value) > 1}
    if twice:
        raise SchemaError(f"{where}: more than once: {', '.join(map(str, sorted(twice)))}")
