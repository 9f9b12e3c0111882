"""Python: ``vocabulary.py`` (hash, limits, enums), ``messages.py`` (dataclasses), ``bench_layout.py`` (memory)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Final

from firmware_proto.frontend.generator.schema import LETTERS, Field, MessageRow, Number, Schema

NOTE: Final = "Generated from schema.toml by firmware_proto.frontend.generate; do not edit."
WIDTH: Final = 120


def vocabulary(schema: Schema) -> str:
    """Return the module of hash, version, limits, budgets, safe outputs and enums."""
    lines = [
        '"""Words of the front end\'s protocol: hash, limits, safe outputs, enums.',
        "",
        NOTE,
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import Final",
        "",
        "from firmware_proto.frontend.message import Coded",
        "",
        f"SCHEMA_HASH: Final = 0x{schema.hash():08X}",
        '"""CRC-32 of everything in the schema but its prose."""',
        f"VERSION: Final = {schema.version}",
        *_numbers(schema.limits),
    ]
    for row in schema.outputs:
        lines += [f"SAFE_{row.name.upper()}: Final = {row.value}", f'"""{row.text}"""']
    for row in schema.budgets:
        lines += [f"BUDGET_{row.name.upper()}: Final = {row.value}", f'"""{row.text}"""']
    for enum in schema.enums:
        lines += ["", "", f"class {enum.name}(Coded):", f'    """{enum.text}"""', ""]
        for name, ident, text in enum.members:
            lines += [f"    {name} = {ident}", f'    """{text}"""']
    return "\n".join(lines) + "\n"


def _numbers(rows: Iterable[Number]) -> list[str]:
    lines = []
    for row in rows:
        unit = {"1": ""}.get(row.unit, f" In {row.unit}.")
        lines += [f"{row.name.upper()}: Final = {row.value}", *_doc(row.text + unit, "")]
    return lines


def _doc(text: str, indent: str) -> list[str]:
    """Return a docstring, on as many lines as it takes."""
    return textwrap.wrap(f'"""{text}"""', WIDTH, initial_indent=indent, subsequent_indent=indent)


def messages(schema: Schema) -> str:
    """Return the module of all messages."""
    enums = [row.name for row in schema.enums]
    names = sorted(["SCHEMA_HASH", "VERSION"]) + sorted(enums)
    lines = [
        f'"""The front end\'s messages. {NOTE}',
        "",
        "Fields are plain integers in the units that their docstrings give. An array is the bytes of its values, <i2:",
        "read it by ``array`` or ``numpy.frombuffer(codes, '<i2')``; its count is the property ``count``.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "import struct",
        "from dataclasses import dataclass",
        "from typing import ClassVar, Final",
        "",
        "from firmware_proto.frontend.message import Coded, Message",
        "from firmware_proto.frontend.vocabulary import (",
        *[f"    {name}," for name in names],
        ")",
    ]
    for row in schema.messages:
        lines += ["", "", *_class(row, schema)]
    lines += ["", "", "MESSAGES: Final[dict[int, type[Message]]] = {"]
    lines += [f"    {row.class_name}.ID: {row.class_name}," for row in sorted(schema.messages, key=lambda row: row.id)]
    lines += ["}", ""]
    exported = sorted([*names, "MESSAGES", *(row.class_name for row in schema.messages)], key=_isort)
    lines += ["__all__ = [", *[f'    "{name}",' for name in exported], "]"]
    return "\n".join(lines) + "\n"


def _isort(name: str) -> tuple[bool, str]:
    # Constants before classes, as the linter sorts __all__.
    return not name.isupper(), name


def _class(row: MessageRow, schema: Schema) -> list[str]:
    arrow = "host to device" if row.id < 0x80 else "device to host"
    lines = ["@dataclass(frozen=True, slots=True)", f"class {row.class_name}(Message):"]
    lines += [*_doc(f"0x{row.id:02X}, {arrow}. {row.text}", "    "), ""]
    lines += [f"    ID: ClassVar[int] = 0x{row.id:02X}", f'    NAME: ClassVar[str] = "{row.name}"']
    layout = "<" + "".join(LETTERS[field.type] for field in row.scalars)
    lines.append(f'    LAYOUT: ClassVar[struct.Struct] = struct.Struct("{layout}")')
    if row.item:
        lines.append(f"    ITEM: ClassVar[int] = {row.item}")
    if row.urgent:
        lines.append("    URGENT: ClassVar[bool] = True")
    coded = [(at, field.enum) for at, field in enumerate(row.scalars) if field.enum]
    if coded:
        pairs = ", ".join(f"{at}: {name}" for at, name in coded)
        lines.append(f"    ENUMS: ClassVar[dict[int, type[Coded]]] = {{{pairs}}}")
    texts = [str(at) for at, field in enumerate(row.scalars) if field.type == "text16"]
    if texts:
        lines.append(f"    TEXTS: ClassVar[tuple[int, ...]] = ({', '.join(texts)},)")
    shown = [field for field in row.fields if not (row.array is not None and field.name == "count")]
    if shown:
        lines.append("")
    for field in shown:
        lines += [f"    {field.name}: {_python_type(field)}", *_doc(_described(field), "    ")]
    if row.include:
        included = next(other for other in schema.messages if other.name == row.include)
        lines += _included(included)
    return lines


def _python_type(field: Field) -> str:
    if field.array:
        return "bytes"
    if field.type == "text16":
        return "str"
    return field.enum or "int"


def _described(field: Field) -> str:
    bounds = ""
    if field.min is not None or field.max is not None:
        bounds = f", {field.low}..{field.high}"
    unit = f", {field.unit}" if field.unit not in {"", "1"} else ""
    return f"{field.type}{unit}{bounds}: {field.text}"


def _included(row: MessageRow) -> list[str]:
    name = row.name.lower()
    arguments = [f"            {field.name}=self.{field.name}," for field in row.fields]
    return [
        "",
        "    @property",
        f"    def {name}(self) -> {row.class_name}:",
        f'        """The {row.name} that would say the same."""',
        f"        return {row.class_name}(",
        *arguments,
        "        )",
    ]


def bench_layout(schema: Schema) -> str:
    """Return the module of the bench memory's places."""
    head = schema.bench_head
    lines = [
        f'"""{head["text"]}',
        "",
        NOTE,
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import Final",
        "",
        "from firmware_proto.frontend.slot import Slot",
        "",
        f"BENCH_MAGIC: Final = 0x{head['magic']:08X}",
        f"BENCH_VERSION: Final = {head['version']}",
        f"BENCH_SIZE: Final = 0x{head['size']:X}",
    ]
    for field in schema.bench:
        name, text = field.name.upper(), _described(field) + (" Written by the firmware." if field.out else "")
        if field.count > 1:
            lines += [f"{name}_AT: Final = 0x{field.at:X}", f'"""{text} Little-endian {field.type} from here on."""']
            lines += [f"{name}_ROOM: Final = {field.count}"]
        else:
            lines += [f'{name}: Final = Slot(0x{field.at:02X}, "{LETTERS[field.type]}")', *_doc(text, "")]
    return "\n".join(lines) + "\n"
