"""Frames as a rig would send them, by number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.frames import UtcMapping, decode_frame, doc_frame, sample_frame
from edge.samples import Sample
from edge.store.backend import Key, Received
from edge.store.catalogue import read_contents
from edge.store.verify import Report, verify

EPOCH = 0xFEDC_BA98_7654_3210
UTC = UtcMapping(1_700_000_000_000_000_000, valid=True, unc_ns=1_000)
ROWS = 3
LATER_S = 4_000_000_000.0
"""A time, since 1970, at which the date of all these frames is over, and quiet."""


def payload_of(
    rig: str, stream: str, seq: int, *, epoch: int = EPOCH, utc: UtcMapping = UTC, rows: int = ROWS
) -> bytes:
    if stream == "samples":
        samples = [
            Sample(seq * 1_000_000_000 + row, 5, seq * 1_000_000_000 + row + 9, -0.25, row * 1e-9, 0, 1)
            for row in range(rows)
        ]
        return sample_frame(rig, epoch, seq, seq * rows, samples, [7] * rows, utc)
    kind = {"events": "event", "runs": "run", "epochs": "epoch"}[stream]
    doc: dict[str, Any] = {"kind": "cut", "t_ns": seq * 1_000_000_000, "number": seq, "nan": float("nan"), "raw": b"\0"}
    return doc_frame(kind, rig, epoch, seq, doc, utc)


def received(rig: str, stream: str, seq: int, **how: Any) -> Received:  # noqa: ANN401 - passed on
    payload = payload_of(rig, stream, seq, **how)
    return Received(rig, how.get("epoch", EPOCH), stream, seq, payload, decode_frame(payload))


def many(rig: str, stream: str, seqs: range | list[int], **how: Any) -> list[Received]:  # noqa: ANN401 - passed on
    return [received(rig, stream, seq, **how) for seq in seqs]


def key(rig: str = "rig-1", stream: str = "samples", epoch: int = EPOCH) -> Key:
    return Key(rig, epoch, stream)


def verified(folder: Path) -> Report:
    contents = read_contents(folder)
    return verify(contents, contents.claimed())
