"""Frames as a rig makes them, with times and numbers that a test chooses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edge.frames import UtcMapping, decode_frame, doc_frame, sample_frame
from edge.samples import Sample
from edge.store.backend import Received

NOW_NS = 1_789_948_800_000_000_000
"""2026-09-21 00:00 UTC, a Monday: a week begins."""
UTC_AT_0 = UtcMapping(NOW_NS, True, 1_000)
RIG = "rig-1"
EPOCH = 0xFEDC_BA98_7654_3210


def samples(
    seq: int,
    n: int = 4,
    *,
    rig: str = RIG,
    epoch: int = EPOCH,
    t_ns: int | None = None,
    runs: list[int] | None = None,
    utc: UtcMapping = UTC_AT_0,
) -> Received:
    """A frame of ``n`` samples, 10 ms apart; the first of each frame has no current."""
    begin = seq * n * 10_000_000 if t_ns is None else t_ns
    made = [
        Sample(begin + i * 10_000_000, 100 + i, begin + i * 10_000_000 + 5, 0.25 * i, 1e-9 * i if i else math.nan, i, 1)
        for i in range(n)
    ]
    return received(sample_frame(rig, epoch, seq, seq * n, made, runs or [0] * n, utc))


def document(
    kind: str, seq: int, doc: Mapping[str, Any], *, rig: str = RIG, epoch: int = EPOCH, utc: UtcMapping = UTC_AT_0
) -> Received:
    """A frame of a document."""
    return received(doc_frame(kind, rig, epoch, seq, doc, utc))


def received(payload: bytes) -> Received:
    """What the service makes of a message."""
    frame = decode_frame(payload)
    return Received(frame.rig, int(frame.epoch, 16), frame.stream, frame.seq, payload, frame)
