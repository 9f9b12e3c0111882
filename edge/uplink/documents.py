"""The JSON side: status, live, and summaries of events and runs. No waveforms, and never a NaN: JSON has none."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from edge.frames import UtcMapping, decode_map, hex16
from edge.samples import Flag, Phase
from edge.uplink.assemble import Latest

VERSION: Final = 1
MAX_DEPTH: Final = 4
MAX_LIST: Final = 32
MAX_TEXT: Final = 1000
MAX_KEYS: Final = 100


def to_json(document: Mapping[str, Any]) -> bytes:
    """Encode; the document must come from this module."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def utc_text(t_ns: int) -> str | None:
    """Return ns since 1970 as ISO 8601 UTC with milliseconds; None when no calendar has it."""
    try:
        return datetime.fromtimestamp(t_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return None


def summary(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - documents hold anything
    """Return what JSON can hold of ``value``; bytes, long lists and deep nesting become a note of their size."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value[:MAX_TEXT]
    if isinstance(value, bytes):
        return {"bytes": len(value)}
    if isinstance(value, Mapping):
        if depth >= MAX_DEPTH:
            return {"keys": len(value)}
        return {str(key)[:MAX_TEXT]: summary(inner, depth + 1) for key, inner in list(value.items())[:MAX_KEYS]}
    if isinstance(value, list | tuple):
        if depth >= MAX_DEPTH or len(value) > MAX_LIST:
            return {"items": len(value)}
        return [summary(inner, depth + 1) for inner in value]
    return str(value)[:MAX_TEXT]


def frame_summary(payload: bytes) -> dict[str, Any]:
    """Return the JSON summary of an event or run frame; the time is UTC as the frame itself has it."""
    fields = decode_map(payload)
    doc = fields.get("doc") or {}
    timed = type(doc.get("t_ns")) is int
    return {
        "v": VERSION,
        "rig": fields["rig"],
        "kind": fields["kind"],
        "epoch": fields["epoch"],
        "seq": fields["seq"],
        "t_utc": utc_text(fields["t0_ns"] + fields["mono_to_utc_ns"]) if timed else None,
        "utc_valid": fields["utc_valid"],
        "doc": summary(doc),
    }


def status(
    rig: str,
    *,
    offline: str | None,
    epochs: tuple[int | None, int | None],
    utc: UtcMapping,
    now_ns: int,
    worker: Mapping[str, Any] | None,
    uplink: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the status document.

    ``offline``: why, None when online; what was true only then is left out. ``epochs``: the present one and the one
    before, as far as known.
    """
    return {
        "v": VERSION,
        "rig": rig,
        "online": offline is None,
        "cause": offline,
        "epoch": None if epochs[0] is None else hex16(epochs[0]),
        "prev_epoch": None if epochs[1] is None else hex16(epochs[1]),
        "t_utc": utc_text(now_ns + utc.offset_ns),
        "worker": summary(worker) if offline is None else None,
        "uplink": summary(uplink) if offline is None else None,
    }


def live(rig: str, latest: Latest | None, state: object, utc: UtcMapping, now_ns: int) -> dict[str, Any]:
    """Return the live document; ``state``: the worker's, None when it is not running."""
    document: dict[str, Any] = dict.fromkeys(
        ("t_ns", "t_utc", "age_s", "index", "run", "bias_v", "current_a", "flags", "phase")
    )
    epoch = None
    if latest is not None:
        epoch = hex16(latest.epoch)
        sample = latest.sample
        document |= {
            "t_ns": sample.t_ns,
            "t_utc": utc_text(sample.t_ns + utc.offset_ns),
            "age_s": round((now_ns - sample.t_ns) / 1e9, 3),
            "index": latest.index,
            "run": hex16(latest.run) if latest.run else "",
            "bias_v": summary(sample.bias_v),
            "current_a": summary(sample.current_a),
            "flags": [flag.name for flag in Flag(sample.flags)],
            "phase": Phase(sample.phase).name if sample.phase in list(Phase) else str(sample.phase),
        }
    return {"v": VERSION, "rig": rig, "epoch": epoch, "state": summary(state), **document}
