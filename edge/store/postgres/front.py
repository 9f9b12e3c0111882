"""A frame of the front end as a row: its codes become arrays, the rest of its bytes is kept, as with samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from edge.frames import Grid
from edge.store.backend import Received
from edge.store.postgres import binary
from edge.store.postgres.samples import clock, cut, filed_ns, identity, mended

KINDS: Final[Mapping[str, binary.Type]] = dict.fromkeys(("code", "code_min", "code_max"), binary.INT2)
"""Column -> element type in the database; a frame has the first, or the other two."""
COLUMNS: Final = (
    *("t0", "rig", "epoch", "stream", "seq", "run", "n", "first", "t0_ns", "mono_to_utc_ns", "utc_valid", "utc_unc_ns"),
    *("t_unc_ns", "period_ns", "step", "index", "boot", "code_a"),
    *KINDS,
    *("rest", "cuts", "received"),
)


def front_row(received: Received, grid: Grid, now_ns: int) -> bytes:
    """Return the row of ``front_frames``, in the order of ``COLUMNS``."""
    frame = received.frame
    rest, cuts = cut(received.payload, frame, KINDS)
    return binary.row(
        [
            binary.timestamp(filed_ns(frame, now_ns)),
            *identity(received),
            binary.text(frame.run),
            binary.int4(frame.n),
            binary.int8(frame.first),
            *clock(frame),
            binary.int8(grid.t_unc_ns),
            binary.float8(grid.period_ns),
            binary.int8(grid.step),
            binary.numeric(grid.index),
            binary.text(grid.boot),
            binary.float8(grid.code_a),
            *(binary.array(frame.cols[name], kind) if name in frame.cols else None for name, kind in KINDS.items()),
            rest,
            None if cuts is None else binary.array(np.array(cuts), binary.INT4),
            binary.timestamp(now_ns),
        ]
    )


def mend(rest: bytes, cuts: Sequence[int] | None, sent: Sequence[bytes | None]) -> bytes:
    """Return the frame as it came. ``sent``: the arrays in the order of ``KINDS``, None where there is none."""
    if cuts is None:
        return rest
    there = [(data, kind) for data, kind in zip(sent, KINDS.values(), strict=True) if data is not None]
    return mended(
        rest,
        [
            (at, binary.values_of(data, kind).astype("<i2").tobytes())
            for at, (data, kind) in zip(cuts, there, strict=True)
        ],
    )
