"""A stage controller's vocabulary as a map: templates of messages and replies, read from a TOML table. Both ends.

Sans-I/O: a map is made from a dict, messages from values, values from reply lines. docs/stage.md walks through one.
"""

from __future__ import annotations

from firmware_proto.stage_map.errors import MapError
from firmware_proto.stage_map.lines import EndSplitter, Overlong
from firmware_proto.stage_map.model import (
    Acknowledgement,
    Condition,
    ContactRule,
    Emulated,
    ErrorRule,
    Identify,
    LineRules,
    MapAxis,
    MoveRule,
    Reference,
    Servo,
    StageMap,
    StatusWord,
    StopRule,
    TargetRule,
)
from firmware_proto.stage_map.queries import NumberForm, ValueQuery
from firmware_proto.stage_map.reading import read_map
from firmware_proto.stage_map.templates import Template, parse_template

__all__ = [
    "Acknowledgement",
    "Condition",
    "ContactRule",
    "Emulated",
    "EndSplitter",
    "ErrorRule",
    "Identify",
    "LineRules",
    "MapAxis",
    "MapError",
    "MoveRule",
    "NumberForm",
    "Overlong",
    "Reference",
    "Servo",
    "StageMap",
    "StatusWord",
    "StopRule",
    "TargetRule",
    "Template",
    "ValueQuery",
    "parse_template",
    "read_map",
]
