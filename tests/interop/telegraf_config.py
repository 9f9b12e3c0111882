"""Telegraf's configuration read by a parser of our own: as much as the example uses, and nothing else in silence."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["float", "int", "string", "bool"]
PYTHON: Final[dict[Kind, type]] = {"float": float, "int": int, "string": str, "bool": bool}
GO_RFC3339: Final = "2006-01-02T15:04:05Z07:00"


class Strict(BaseModel):
    """A key that we do not know is an error: Telegraf would refuse it, too."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Tag(Strict):
    path: Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)*$")]
    rename: str | None = None
    optional: bool = False

    @property
    def name(self) -> str:
        """What it is called in the measurement."""
        return self.rename or self.path.rpartition(".")[2]


class FieldOf(Tag):
    type: Kind


class JsonV2(Strict):
    measurement_name: Annotated[str, Field(pattern=r"^tipguard_[a-z]+$")]
    timestamp_path: str | None = None
    timestamp_format: Literal["2006-01-02T15:04:05Z07:00"] | None = None
    tag: list[Tag]
    field: list[FieldOf]


class MqttConsumer(Strict):
    servers: list[str]
    topics: Annotated[list[str], Field(min_length=1, max_length=1)]
    qos: Literal[0, 1]
    topic_tag: Literal[""]
    data_format: Literal["json_v2"]
    json_v2: Annotated[list[JsonV2], Field(min_length=1, max_length=1)]

    @property
    def topic(self) -> str:
        """Behind the rig's name."""
        return self.topics[0].removeprefix("tipguard/+/")


class Inputs(Strict):
    mqtt_consumer: list[MqttConsumer]


class Agent(Strict):
    omit_hostname: bool


class Config(Strict):
    agent: Agent
    inputs: Inputs


class Point(NamedTuple):
    """What Telegraf would make of one message."""

    measurement: str
    tags: dict[str, str]
    fields: dict[str, Any]
    time: str | None


def read(path: Path) -> list[MqttConsumer]:
    """Return the inputs of the configuration at ``path``; raise ValueError for what is not as Telegraf has it."""
    return Config.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).inputs.mqtt_consumer


def point(consumer: MqttConsumer, document: dict[str, Any]) -> Point:
    """Return the point that a message becomes; raise LookupError where Telegraf would drop the message.

    A path without a match is an error unless it is optional; a null is left out; a null time is an error.
    """
    rules = consumer.json_v2[0]
    tags, fields = {}, {}
    for tag in rules.tag:
        if (value := _at(document, tag)) is not None:
            tags[tag.name] = str(value)
    for one in rules.field:
        if (value := _at(document, one)) is not None:
            fields[one.name] = PYTHON[one.type](value)
    time = None
    if rules.timestamp_path is not None:
        time = _at(document, Tag(path=rules.timestamp_path))
        if time is None:
            raise LookupError(f"{rules.timestamp_path}: null")
    return Point(rules.measurement_name, tags, fields, time)


def _at(document: dict[str, Any], wanted: Tag) -> Any:  # noqa: ANN401 - JSON
    found: Any = document
    for name in wanted.path.split("."):
        if not isinstance(found, dict) or name not in found:
            if wanted.optional:
                return None
            raise LookupError(wanted.path)
        found = found[name]
    return found
