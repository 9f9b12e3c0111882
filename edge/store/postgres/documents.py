"""Documents as rows: what people and dashboards ask for becomes columns, all of it jsonb, and the frame is kept whole.

A document may hold anything, also of a version that is not written yet: a field that is not what its column takes is
NULL there and stays in ``doc``. jsonb has no NaN, no bytes and no NUL: null, ``{"bytes": n}`` and U+FFFD stand for
them there; the frame as it came has them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge.frames import DTYPES
from edge.store.backend import Received
from edge.store.postgres import binary
from edge.store.postgres.samples import KINDS, clock, filed_ns, identity

EVENT_COLUMNS: Final = (
    *("t", "rig", "epoch", "stream", "seq", "run", "frame_kind", "kind", "verdict", "point"),
    *("t0_ns", "mono_to_utc_ns", "utc_valid", "utc_unc_ns", "doc"),
    *("t_ns", "bias_v", "current_a", "flags", "phase", "payload", "received"),
)
RUN_DOCUMENT_COLUMNS: Final = (
    *("t", "rig", "epoch", "seq", "run", "kind", "t0_ns", "mono_to_utc_ns", "utc_valid", "utc_unc_ns"),
    *("doc", "payload", "received"),
)
POINT_COLUMNS: Final = (
    *("t", "rig", "epoch", "seq", "run", "kind", "index", "label", "site_kind", "x_m", "y_m", "class", "reason"),
    *("verdict", "trigger_bias_v", "trigger_half_v", "set_current_a", "charge_c", "beyond_v", "reset_bias_v", "on_off"),
    "doc",
)
_WAVEFORM: Final = ("t_ns", "bias_v", "current_a", "flags", "phase")
_INDEX_OF: Final[Mapping[str, str]] = {"point": "index", "cycle": "cycle"}
_MAX_DEPTH: Final = 32
_MAX_TEXT: Final = 4000
_MAX_WORD: Final = 64
_I4: Final = (-(2**31), 2**31 - 1)


class Run(NamedTuple):
    """What one start or stop document says of a run; None: nothing. jsonb as text."""

    rig: str
    run: str
    epoch: str
    plan: str | None = None
    parameters: str | None = None
    by: str | None = None
    started: int | None = None
    """UTC, ns since 1970; so is ``stopped``."""
    stopped: int | None = None
    status: str | None = None
    reason: str | None = None
    results: str | None = None
    samples_lost: int | None = None
    rig_facts: str | None = None
    smu: str | None = None
    stage: str | None = None
    limits: str | None = None


def event_row(received: Received, now_ns: int) -> bytes:
    """Return the row of ``events``, in the order of ``EVENT_COLUMNS``."""
    frame = received.frame
    doc = _map(frame.doc)
    setting = _map(doc.get("setting"))
    context = _map(setting.get("context"))
    about = context.get("point", context.get("cycle", doc.get("point", doc.get("cycle"))))
    return binary.row(
        [
            binary.timestamp(filed_ns(frame, now_ns)),
            *identity(received),
            binary.text(frame.run),
            binary.text(frame.kind),
            binary.text(_word(doc.get("kind")) or frame.kind),
            _text_field(doc.get("verdict"), _MAX_WORD),
            _integer_field(about),
            *clock(frame),
            _json_field(doc),
            *_waveform(setting),
            received.payload,
            binary.timestamp(now_ns),
        ]
    )


def run_document_row(received: Received, now_ns: int) -> bytes:
    """Return the row of ``run_documents``, in the order of ``RUN_DOCUMENT_COLUMNS``."""
    frame = received.frame
    doc = _map(frame.doc)
    rig, epoch, _, seq = identity(received)
    return binary.row(
        [
            binary.timestamp(filed_ns(frame, now_ns)),
            *(rig, epoch, seq),
            binary.text(_run_of(received)),
            binary.text(_word(doc.get("kind")) or frame.kind),
            *clock(frame),
            _json_field(doc),
            received.payload,
            binary.timestamp(now_ns),
        ]
    )


def point_row(received: Received, now_ns: int) -> bytes | None:
    """Return the row of ``points``, in the order of ``POINT_COLUMNS``; None for a document of another kind."""
    doc = _map(received.frame.doc)
    kind = doc.get("kind")
    if not isinstance(kind, str) or kind not in _INDEX_OF:
        return None
    rig, epoch, _, seq = identity(received)
    words = (_text_field(doc.get(name), _MAX_TEXT) for name in ("label", "site_kind"))
    place = (_number_field(doc.get(name)) for name in ("x_m", "y_m"))
    verdicts = (_text_field(doc.get(name), _MAX_TEXT) for name in ("class", "reason", "verdict"))
    return binary.row(
        [
            binary.timestamp(filed_ns(received.frame, now_ns)),
            *(rig, epoch, seq),
            binary.text(_run_of(received)),
            binary.text(kind),
            _integer_field(doc.get(_INDEX_OF[kind])),
            *words,
            *place,
            *verdicts,
            *(_number_field(doc.get(name)) for name in POINT_COLUMNS[14:21]),
            _json_field(doc),
        ]
    )


def run_of(received: Received, now_ns: int) -> Run | None:
    """Return what a start or stop document says of its run; None for any other, or without a run."""
    doc = _map(received.frame.doc)
    run = _run_of(received)
    head = Run(received.rig, run, received.frame.epoch)
    if not run:
        return None
    if doc.get("kind") == "start":
        return head._replace(
            plan=_word(doc.get("plan")),
            parameters=_json(doc.get("parameters")),
            by=_clipped(doc.get("by"), _MAX_TEXT),
            started=filed_ns(received.frame, now_ns),
            rig_facts=_json(doc.get("rig")),
            smu=_json(doc.get("smu")),
            stage=_json(doc.get("stage")),
            limits=_json(doc.get("limits")),
        )
    if doc.get("kind") == "stop":
        lost = doc.get("samples_lost")
        return head._replace(
            stopped=filed_ns(received.frame, now_ns),
            status=_word(doc.get("status")),
            reason=_clipped(doc.get("reason"), _MAX_TEXT),
            results=_json(doc.get("results")),
            samples_lost=lost if type(lost) is int and 0 <= lost < 2**63 else None,
        )
    return None


def plain(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - documents hold anything
    """Return what jsonb can hold of ``value``, see the module; what is nested deeper than 32 becomes its size."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, bytes):
        return {"bytes": len(value)}
    if depth == _MAX_DEPTH:
        return {"items": len(value)}
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(inner, depth + 1) for key, inner in value.items()}
    return [plain(inner, depth + 1) for inner in value]


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _clipped(value: object, limit: int) -> str | None:
    return plain(value[:limit]) if isinstance(value, str) else None


def _word(value: object) -> str | None:
    return _clipped(value, _MAX_WORD)


def _run_of(received: Received) -> str:
    doc = _map(received.frame.doc)
    return received.frame.run or _word(doc.get("uid")) or ""


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(plain(value), separators=(",", ":"), allow_nan=False)


def _json_field(doc: Mapping[str, Any]) -> bytes:
    return binary.jsonb(_json(doc) or "{}")


def _text_field(value: object, limit: int) -> bytes | None:
    clipped = _clipped(value, limit)
    return None if clipped is None else binary.text(clipped)


def _integer_field(value: object) -> bytes | None:
    return binary.int4(value) if type(value) is int and _I4[0] <= value <= _I4[1] else None


def _number_field(value: object) -> bytes | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return binary.float8(float(value)) if math.isfinite(value) else None


def _waveform(setting: Mapping[str, Any]) -> list[bytes | None]:
    """Return the arrays of a setting event's samples; NULL each where there are none, or not of one length."""
    cols = _map(setting.get("cols"))
    arrays = [_column(_map(cols.get(name))) for name in _WAVEFORM]
    found = [values for values in arrays if values is not None]
    if len(found) != len(arrays) or len({len(values) for values in found}) != 1:
        return [None] * len(_WAVEFORM)
    try:
        return [binary.array(values, KINDS[name]) for name, values in zip(_WAVEFORM, found, strict=True)]
    except (OverflowError, ValueError):
        return [None] * len(_WAVEFORM)


def _column(column: Mapping[str, Any]) -> npt.NDArray[Any] | None:
    dtype, data = column.get("dtype"), column.get("data")
    if not isinstance(dtype, str) or dtype not in DTYPES or not isinstance(data, bytes):
        return None
    return np.frombuffer(data, dtype) if len(data) % np.dtype(dtype).itemsize == 0 else None
