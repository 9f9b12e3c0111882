"""Opening the outbox; and what is left of a damaged one.

Damage never keeps the uplink from starting: the file is put aside, a new one begun, and every frame that can still be
read from either end of the old one, and is what was written, goes into it. What the old one is known to have held and
cannot be read any more gets a tombstone in its place: the hole is declared.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgpack

from edge import frames
from edge.errors import FrameError
from edge.uplink.held import Held
from edge.uplink.outbox_file import KINDS, OutboxDamagedError, OutboxError, OutboxFile, Row, StreamRow, Usage, row_id
from edge.uplink.ranges import Ranges

KEEP_ASIDE: Final = 3
"""Damaged files that stay; the oldest go first."""
KEEP_STREAMS: Final = 100
MAX_DECLARED: Final = 100_000
_PAGE_ROWS: Final = 64
_CAUSE: Final = "the outbox was damaged"


@dataclass(slots=True)
class Loaded:
    """An open outbox."""

    streams: list[tuple[StreamRow, tuple[int, int]]]
    """Each with its lowest and highest frame on disk, -1 for none."""
    usage: Usage
    generation: int
    """Of the file, see :attr:`OutboxFile.generation`."""
    aside: Path | None = None
    """Where a damaged one was put."""
    why: str = ""
    salvaged: int = 0
    declared: int = 0


@dataclass(slots=True)
class _Found:
    """One stream of the damaged file."""

    sid: int
    epoch: int
    stream: str
    state: dict[str, Any] = field(default_factory=dict)
    kept: Ranges = field(default_factory=Ranges)


def load(file: OutboxFile, rig: str, why: str | None = None) -> Loaded:
    """Open the outbox; a damaged one is replaced. Raises :class:`OutboxError` while that cannot be done.

    ``why``: it was found damaged while it was used, which its opening would not show.
    """
    if why is None:
        try:
            streams = _without_old(file, _with_ends(file, file.open()))
            return Loaded(streams, file.usage(), file.generation)
        except OutboxDamagedError as error:
            why = str(error)
    # To the microsecond: damaged twice in a second is two files.
    aside = file.quarantine(datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ"))
    file.open()
    salvaged, declared = _salvage(aside, file, rig)
    _thin_out(file.path)
    file.close()
    streams = _with_ends(file, file.open())
    return Loaded(streams, file.usage(), file.generation, aside, why, salvaged, declared)


def _with_ends(file: OutboxFile, streams: list[StreamRow]) -> list[tuple[StreamRow, tuple[int, int]]]:
    try:
        for row in streams:
            # Read as it will be: what cannot be is damage, and found here.
            Held.from_row(row, (-1, -1), 1, 0)
    except (ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise OutboxDamagedError(f"outbox {file.path}: state of a stream: {error}") from error
    return [(row, file.ends(row.sid)) for row in streams]


def _without_old(
    file: OutboxFile, streams: list[tuple[StreamRow, tuple[int, int]]]
) -> list[tuple[StreamRow, tuple[int, int]]]:
    """Forget streams of which nothing is left, but for the newest: the ring may still show frames of those."""
    old = [row.sid for row, (_, highest) in streams[:-KEEP_STREAMS] if highest < 0]
    if old:
        file.forget(old)
    return [one for one in streams if one[0].sid not in set(old)]


def _thin_out(path: Path) -> None:
    aside = sorted(path.parent.glob(f"{path.name}.damaged-*Z"))
    for old in aside[:-KEEP_ASIDE]:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                old.with_name(old.name + suffix).unlink()


def _salvage(aside: Path, file: OutboxFile, rig: str) -> tuple[int, int]:
    """Copy what is whole; return how many frames that was, and how many are declared missing."""
    found: dict[tuple[int, str], _Found] = {}
    batch: list[Row] = []
    count = 0
    try:
        db = sqlite3.connect(aside, isolation_level=None)
        # As the shell's .recover does: a file that is shorter than it says is read as far as it goes.
        db.execute("PRAGMA writable_schema = ON")
    except sqlite3.Error:
        return 0, 0
    try:
        for one in _states(db):
            found[one.epoch, one.stream] = one
        for old in _rows(db):
            row = _judge(old, rig, found)
            if row is None:
                continue
            batch.append(row)
            count += 1
            if len(batch) == _PAGE_ROWS:
                file.commit(batch, ())
                batch.clear()
        file.commit(batch, ())
        declared = _declare(file, rig, found)
        file.commit((), [_state_row(one) for one in found.values()])
    except OutboxError:
        # No room for more. What was copied is kept; the rest is in the file that was put aside.
        return count, 0
    finally:
        with contextlib.suppress(sqlite3.Error):
            db.close()
    return count, declared


def _states(db: sqlite3.Connection) -> Iterator[_Found]:
    """Yield the streams that the damaged file can still tell of."""
    try:
        for sid, epoch, stream, state in db.execute("SELECT sid, epoch, stream, state FROM streams ORDER BY sid"):
            held = Held.from_row(StreamRow(sid, epoch % 2**64, stream, state), (-1, -1), 1, 0)
            yield _Found(sid, held.epoch, stream, msgpack.unpackb(state))
    except (sqlite3.Error, ValueError, TypeError, AttributeError, msgpack.UnpackException):
        return


def _rows(db: sqlite3.Connection) -> Iterator[Row]:
    """Yield the rows from the first on, and from the last on, as far as they can be read."""
    read_to = -1
    query = "SELECT id, crc, kind, payload FROM frames WHERE id > ? ORDER BY id"
    try:
        for found in db.execute(query, (read_to,)):
            read_to = found[0]
            yield Row(found[0], found[1], found[2], bytes(found[3]))
    except (sqlite3.Error, TypeError, ValueError):
        yield from _rows_from_the_end(db, query, read_to)


def _rows_from_the_end(db: sqlite3.Connection, query: str, read_to: int) -> Iterator[Row]:
    try:
        for found in db.execute(f"{query} DESC", (read_to,)):
            yield Row(found[0], found[1], found[2], bytes(found[3]))
    except (sqlite3.Error, TypeError, ValueError):
        return


def _judge(old: Row, rig: str, found: dict[tuple[int, str], _Found]) -> Row | None:
    """Return the row under its number in the new file; None for what is not a whole frame of ours."""
    if not old.whole:
        return None
    try:
        frame = frames.decode_frame(old.payload)
    except FrameError:
        return None
    if frame.rig != rig:
        return None
    key = int(frame.epoch, 16), frame.stream
    one = found.get(key)
    if one is None:
        one = found[key] = _Found(max((other.sid for other in found.values()), default=0) + 1, *key)
    one.kept.add(frame.seq, frame.seq)
    return Row(row_id(one.sid, frame.seq), old.crc, old.kind, old.payload)


def _declare(file: OutboxFile, rig: str, found: dict[tuple[int, str], _Found]) -> int:
    """Put a tombstone where a frame was that no store is known to have; return how many."""
    declared = 0
    utc = frames.utc_mapping()
    kind = KINDS.index("tombstone")
    for one in found.values():
        lost = Ranges(one.state.get("kept", ())).minus(one.kept)
        for ranges in one.state.get("covered", {}).values():
            lost = lost.minus(Ranges(ranges))
        for first, last in lost:
            for start in range(first, last + 1, _PAGE_ROWS):
                rows = []
                for seq in range(start, min(start + _PAGE_ROWS, last + 1)):
                    doc = {"stream": one.stream, "from": seq, "to": seq, "cause": _CAUSE}
                    payload = frames.tombstone_in_place(rig, one.epoch, one.stream, seq, doc, utc)
                    rows.append(Row.of(row_id(one.sid, seq), kind, payload))
                file.commit(rows, ())
                one.kept.add(start, start + len(rows) - 1)
                declared += len(rows)
                if declared >= MAX_DECLARED:
                    return declared
    return declared


def _state_row(one: _Found) -> StreamRow:
    state = {**one.state, "kept": list(one.kept)}
    state["high"] = max(one.state.get("high", 0), one.kept.last + 1)
    # What is neither here nor declared, a store may have. Without a state nobody knows what there was: all of it.
    absent = Ranges(one.state.get("absent", ()))
    absent.update(one.state.get("kept", [(0, state["high"] - 1)]))
    state["absent"] = list(absent.minus(one.kept))
    return StreamRow(one.sid, one.epoch, one.stream, msgpack.packb(state))
