"""A frame of samples as rows: columns become arrays, the rest of its bytes is kept, and both give the frame back.

Kept whole beside the arrays a frame would take its space twice. So the bytes of each column are cut out of it, and
where they were is noted: put back there, they make the same frame, byte by byte, whoever encoded it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from edge.frames import SAMPLE_COLUMNS, Frame, hex16
from edge.store.backend import Received
from edge.store.postgres import binary

KINDS: Final[Mapping[str, binary.Type]] = {
    "t_ns": binary.INT8,
    "t_unc_ns": binary.INT8,
    "t_rx_ns": binary.INT8,
    "bias_v": binary.FLOAT8,
    "current_a": binary.FLOAT8,
    "flags": binary.INT4,
    "phase": binary.INT2,
}
"""Column -> element type in the database; every value of the frame's type has a place in it."""

FRAME_COLUMNS: Final = (
    *("t0", "rig", "epoch", "stream", "seq", "run", "n", "first", "t0_ns", "mono_to_utc_ns", "utc_valid", "utc_unc_ns"),
    *KINDS,
    *("runs", "rest", "cuts", "received"),
)
SECOND_COLUMNS: Final = (
    *("t", "rig", "n", "bias_min", "bias_max", "bias_sum"),
    *("current_n", "current_min", "current_max", "current_sum", "flags"),
)
SECOND_NS: Final = 1_000_000_000
DAY_NS: Final = 86_400 * SECOND_NS
EARLIEST_NS: Final = 1_577_836_800 * SECOND_NS
"""2020-01-01: before it there was no rig of ours."""


def plausible(utc_ns: int, now_ns: int) -> bool:
    """Return whether a rig's clock can have said ``utc_ns`` by ``now_ns``; it may be a day fast."""
    return EARLIEST_NS <= utc_ns <= now_ns + DAY_NS


def filed_ns(frame: Frame, now_ns: int) -> int:
    """Return the time a frame is filed under, ns since 1970: its own, or the time of reception if that cannot be."""
    utc_ns = frame.t0_ns + frame.mono_to_utc_ns
    return utc_ns if plausible(utc_ns, now_ns) else now_ns


def cut(payload: bytes, frame: Frame, kinds: Mapping[str, binary.Type] = KINDS) -> tuple[bytes, list[int] | None]:
    """Return what is left of ``payload`` without its columns of ``kinds``, and the offset of each, in that order.

    Without offsets where a column's bytes are not found one behind the other: then nothing was cut.
    """
    offsets: dict[str, int] = {}
    kept = []
    end = 0
    for name, values in frame.cols.items():
        if name in kinds:
            data = values.tobytes()
            at = payload.find(data, end)
            if at < 0:
                return payload, None
            offsets[name] = at
            kept.append(payload[end:at])
            end = at + len(data)
    kept.append(payload[end:])
    return b"".join(kept), [offsets[name] for name in kinds if name in offsets]


def mend(rest: bytes, cuts: Sequence[int] | None, sent: Sequence[bytes]) -> bytes:
    """Return the frame as it came. ``sent``: the arrays in the order of ``KINDS``, as ``array_send`` gives them."""
    if cuts is None:
        return rest
    columns = [
        (at, binary.values_of(data, kind).astype(SAMPLE_COLUMNS[name][0]).tobytes())
        for at, data, (name, kind) in zip(cuts, sent, KINDS.items(), strict=True)
    ]
    return mended(rest, columns)


def mended(rest: bytes, columns: Sequence[tuple[int, bytes]]) -> bytes:
    """Return the frame from what is left of it, and each column's offset and bytes."""
    parts: list[bytes] = []
    begin = taken = 0
    for at, data in sorted(columns):
        # ``at`` counts in the whole frame, ``taken`` in what is left of it.
        parts += (rest[taken : taken + at - begin], data)
        taken += at - begin
        begin = at + len(data)
    parts.append(rest[taken:])
    return b"".join(parts)


def frame_rows(batch: Sequence[Received], now_ns: int) -> list[bytes]:
    """Return a row of ``frames`` for each, in the order of ``FRAME_COLUMNS``."""
    counts = [received.frame.n for received in batch]
    columns = [
        binary.arrays(np.concatenate([received.frame.cols[name] for received in batch]), kind, counts)
        for name, kind in KINDS.items()
    ]
    return [_frame_row(received, now_ns, arrays) for received, *arrays in zip(batch, *columns, strict=True)]


def _frame_row(received: Received, now_ns: int, arrays: Sequence[bytes]) -> bytes:
    frame = received.frame
    rest, cuts = cut(received.payload, frame)
    runs = frame.cols.get("run")
    if runs is not None and runs.dtype.kind != "u":
        runs = None  # some other column of that name
    return binary.row(
        [
            binary.timestamp(filed_ns(frame, now_ns)),
            *identity(received),
            binary.text(frame.run),
            binary.int4(frame.n),
            binary.int8(frame.first),
            *clock(frame),
            *arrays,
            None if runs is None else binary.text_array([hex16(int(run)) if run else "" for run in runs]),
            rest,
            None if cuts is None else binary.array(np.array(cuts), binary.INT4),
            binary.timestamp(now_ns),
        ]
    )


def identity(received: Received) -> list[bytes]:
    """Return rig, epoch, stream and seq."""
    return [
        binary.text(received.rig),
        binary.text(hex16(received.epoch)),
        binary.text(received.stream),
        binary.int8(received.seq),
    ]


def clock(frame: Frame) -> list[bytes]:
    """Return t0_ns, mono_to_utc_ns, utc_valid and utc_unc_ns."""
    return [
        binary.int8(frame.t0_ns),
        binary.int8(frame.mono_to_utc_ns),
        binary.boolean(frame.utc_valid),
        binary.int8(frame.utc_unc_ns),
    ]


def second_rows(batch: Sequence[Received], now_ns: int) -> list[tuple[int, bytes]]:
    """Return (second, ns since 1970; row of ``frame_seconds``) for the seconds that ``batch`` has samples of.

    A second may have several rows, of one batch too: the view adds them up. Frames of a rig whose clock cannot be
    believed give none: no dashboard should show them anywhere.
    """
    believed = [one for one in batch if plausible(one.frame.t0_ns + one.frame.mono_to_utc_ns, now_ns)]
    if not believed:
        return []
    # A current may be any number: a sum that overflows is infinite, and no reason to refuse a frame.
    with np.errstate(all="ignore"):
        return _second_rows([received.frame for received in believed], now_ns)


def _second_rows(frames: Sequence[Frame], now_ns: int) -> list[tuple[int, bytes]]:
    counts = [frame.n for frame in frames]
    t_ns, bias, current, flags = (
        np.concatenate([frame.cols[name] for frame in frames]) for name in ("t_ns", "bias_v", "current_a", "flags")
    )
    owner = np.repeat(np.arange(len(frames)), counts)
    seconds = (t_ns + np.repeat(np.array([frame.mono_to_utc_ns for frame in frames]), counts)) // SECOND_NS
    believed = (seconds >= EARLIEST_NS // SECOND_NS) & (seconds <= (now_ns + DAY_NS) // SECOND_NS)
    if not believed.all():
        owner, bias, current, flags, seconds = (part[believed] for part in (owner, bias, current, flags, seconds))
    starts = np.flatnonzero((np.diff(owner, prepend=-1) != 0) | (np.diff(seconds, prepend=-1) != 0))
    if not len(starts):
        return []
    known = np.isfinite(current)
    columns = (
        np.diff(np.append(starts, len(owner))),
        np.minimum.reduceat(bias, starts),
        np.maximum.reduceat(bias, starts),
        np.add.reduceat(bias, starts),
        np.add.reduceat(known.astype(np.int64), starts),
        np.minimum.reduceat(np.where(known, current, np.inf), starts),
        np.maximum.reduceat(np.where(known, current, -np.inf), starts),
        np.add.reduceat(np.where(known, current, 0.0), starts),
        np.bitwise_or.reduceat(flags.astype(np.int64), starts),
    )
    return [
        (second * SECOND_NS, _second_row(second * SECOND_NS, binary.text(frames[at].rig), values))
        for second, at, *values in zip(
            seconds[starts].tolist(), owner[starts].tolist(), *(c.tolist() for c in columns), strict=True
        )
    ]


def _second_row(utc_ns: int, rig: bytes, values: Sequence[Any]) -> bytes:
    n, bias_min, bias_max, bias_sum, known, low, high, total, flags = values
    return binary.row(
        [
            binary.timestamp(utc_ns),
            rig,
            binary.int4(n),
            *(binary.float8(value) for value in (bias_min, bias_max, bias_sum)),
            binary.int4(known),
            binary.float8(low) if known else None,
            binary.float8(high) if known else None,
            binary.float8(total),
            binary.int4(flags),
        ]
    )
