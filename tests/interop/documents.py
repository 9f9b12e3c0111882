"""The schema of the JSON documents, as strict as we promise it: nothing missing, nothing more, no other types.

Written down a second time on purpose: ``edge/uplink`` makes the documents, this says what others may count on.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

Rig = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Utc = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00$")]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


class Strict(BaseModel):
    """No unknown field, no silent conversion, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Store(Strict):
    waiting: Count
    lag_s: Seconds
    heard_s: Seconds | None


class Certificate(Strict):
    name: str
    expires_utc: Utc | None
    days_left: float | None
    state: Literal["unknown", "expired", "expires soon", "ok"]
    fault: str | None


class Outbox(Strict):
    note: str | None
    fault: str | None
    alarm: str | None
    watermark_fault: str | None
    quarantined: str | None
    salvaged: Count
    policy: Literal["pause", "thin"]
    budget_bytes: Count
    file_bytes: Count
    syncs: Count
    uncommitted: Count
    repeated: Count
    deleted: Count
    thinned: Count
    declared_lost: Count
    unaccounted: Count
    elsewhere: dict[Rig, Count]
    of_unknown_epochs: Count
    marks_refused: Count
    generations: dict[Rig, Id | None]


class Commands(Strict):
    relayed: Count
    unanswered: Count
    refused: dict[str, Count]


class Uplink(Strict):
    connected: bool
    worker_state: str | None
    ring_used: Annotated[float, Field(ge=0, le=1)] | None
    waiting: Count
    published: Count
    no_subscriber: Count
    refused: Count
    redriven: Count
    dropped: Count
    skipped_bytes: Count
    outbox_frames: Count | None
    outbox_bytes: Count | None
    outbox_oldest_s: Seconds | None
    outbox_budget_used: Share | None
    outbox_commits: Count | None
    outbox_written_bytes: Count | None
    outbox: Outbox | None
    stores: dict[Rig, Store]
    commands: Commands | None
    certificate: Certificate | None
    flight_missed: Count
    fault: str | None
    flight_fault: str | None
    metrics_fault: str | None


class Status(Strict):
    """``status`` and ``json/status``."""

    v: Literal[1]
    rig: Rig
    online: bool
    cause: Literal["stopped", "connection lost"] | None
    epoch: Id | None
    prev_epoch: Id | None
    t_utc: Utc
    worker: dict[str, Any] | None
    uplink: Uplink | None


class Live(Strict):
    v: Literal[1]
    rig: Rig
    epoch: Id | None
    state: str | None
    t_ns: int | None
    t_utc: Utc | None
    age_s: float | None
    index: Count | None
    run: Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")] | None
    bias_v: float | None
    current_a: float | None
    flags: list[str] | None
    phase: str | None


class Summary(Strict):
    """``json/events`` and ``json/runs``."""

    v: Literal[1]
    rig: Rig
    kind: Literal["event", "run", "epoch", "tombstone"]
    epoch: Id
    seq: Count
    t_utc: Utc | None
    utc_valid: bool
    doc: dict[str, Any]


OF_TOPIC: dict[str, type[Strict]] = {
    "status": Status,
    "json/status": Status,
    "live": Live,
    "json/events": Summary,
    "json/runs": Summary,
}


def kinds_at(model: type[BaseModel], path: str) -> set[type]:
    """Return the types that may stand at ``path`` ("uplink.ring_used"), {object} for what is free; KeyError if none."""
    name, _, rest = path.partition(".")
    kinds: set[type] = set()
    for kind in _parts(model.model_fields[name].annotation):
        if rest and isinstance(kind, type) and issubclass(kind, BaseModel):
            kinds |= kinds_at(kind, rest)
        elif rest and kind is dict:
            kinds.add(object)
        elif not rest:
            kinds.add(kind)
    if not kinds:
        raise KeyError(path)
    return kinds


def _parts(annotation: Any) -> list[Any]:  # noqa: ANN401 - an annotation is anything
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _parts(inner[0])
    if origin is Literal:
        return [type(value) for value in inner]
    if origin is not None and (origin is Union or origin.__name__ == "UnionType"):
        return [part for one in inner if one is not type(None) for part in _parts(one)]
    return [origin or annotation]
