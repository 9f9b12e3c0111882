"""The SCPI grammar that the controller and the emulated instrument share: sans-I/O, bounded, typed failures."""

from __future__ import annotations

from firmware_proto.scpi.errors import ScpiError
from firmware_proto.scpi.lines import LineSplitter, Overlong
from firmware_proto.scpi.message import Command, Param, ParamKind, iter_commands, parse_message
from firmware_proto.scpi.table import CommandTable, matches
from firmware_proto.scpi.values import (
    format_nr3,
    parse_bool,
    parse_choice,
    parse_integer,
    parse_number,
    parse_string,
    quote,
    spellings,
)

__all__ = [
    "Command",
    "CommandTable",
    "LineSplitter",
    "Overlong",
    "Param",
    "ParamKind",
    "ScpiError",
    "format_nr3",
    "iter_commands",
    "matches",
    "parse_bool",
    "parse_choice",
    "parse_integer",
    "parse_message",
    "parse_number",
    "parse_string",
    "quote",
    "spellings",
]
