"""The outbox in numbers, for the status document and the metrics page."""

from __future__ import annotations

from typing import Any

from edge.uplink.held import Held
from edge.uplink.holes import Holes
from edge.uplink.metrics import StoreFigures
from edge.uplink.outbox import Outbox
from edge.uplink.ranges import Ranges
from edge.uplink.redrive import Redrive
from edge.uplink.retention import NOT_STORED, Retention
from edge.uplink.settings import UplinkSettings


def store_figures(outbox: Outbox, redrive: Redrive, now_ns: int) -> tuple[dict[str, StoreFigures], float | None]:
    """Return how far each store is behind, and the age of the oldest frame that not all have, s; None: all have all.

    Without stores the age is that of the oldest frame which no broker has acknowledged.
    """
    streams = list(outbox.by_sid.values())
    if not redrive.stores:
        waiting, age_s = _behind([(held, held.acked) for held in streams], now_ns)
        return {}, age_s if waiting else None
    figures = {}
    for name, state in redrive.stores.items():
        waiting, age_s = _behind([(held, held.covered.get(name, Ranges())) for held in streams], now_ns)
        heard_s = None if state.heard_ns is None else round((now_ns - state.heard_ns) / 1e9, 3)
        figures[name] = StoreFigures(waiting, age_s, heard_s)
    oldest_s = max(one.lag_s for one in figures.values())
    return figures, oldest_s if any(one.waiting for one in figures.values()) else None


def _behind(streams: list[tuple[Held, Ranges]], now_ns: int) -> tuple[int, float]:
    waiting, age_ns = 0, 0
    for held, have in streams:
        lacking = held.kept.count - have.count
        if lacking > 0:
            waiting += lacking
            age_ns = max(age_ns, held.age_ns(held.kept.minus(have).first, now_ns))
    return waiting, round(age_ns / 1e9, 3)


def outbox_document(
    settings: UplinkSettings, outbox: Outbox, redrive: Redrive, retention: Retention, holes: Holes
) -> dict[str, Any]:
    """Return what the status document says of the outbox, beside the numbers that are metrics, too."""
    return {
        "note": None if settings.stores else NOT_STORED,
        "fault": outbox.fault,
        "alarm": retention.alarm,
        "watermark_fault": redrive.fault,
        "quarantined": outbox.quarantined,
        "salvaged": outbox.salvaged,
        "policy": settings.policy,
        "budget_bytes": settings.budget_bytes,
        "file_bytes": outbox.usage.file_bytes,
        "syncs": outbox.usage.syncs,
        "uncommitted": outbox.uncommitted,
        "repeated": outbox.repeated,
        "deleted": retention.deleted,
        "thinned": retention.thinned,
        "declared_lost": outbox.declared,
        "unaccounted": holes.unaccounted,
        "elsewhere": holes.elsewhere,
        "of_unknown_epochs": holes.unknown,
        "marks_refused": redrive.refused,
        "generations": {name: state.generation for name, state in redrive.stores.items()},
    }
