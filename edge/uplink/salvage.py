"""Opening the outbox; and what is left of a damaged one.

Damage never keeps the uplink from starting: the file is put aside, a new one begun, and every frame that can still be
read from either end of the old one, and is what was written, goes into it. What the old one is known to have held and
cannot be read any more gets a tombstone in its place: the hole is declared.

All or nothing: what was copied in part is thrown away and begun again, by this process or the next, and until a copy is
whole nothing else is done with the outbox (:mod:`edge.uplink.aside`).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgpack

from edge import frames
from edge.errors import FrameError
from edge.uplink.aside import Places
from edge.uplink.held import Held
from edge.uplink.outbox_file import (
    KINDS,
    LOCK_WAIT_S,
    LOG,
    MAX_SEQ,
    OutboxDamagedError,
    OutboxError,
    OutboxFile,
    Row,
    StreamRow,
    Usage,
    beside,
    row_id,
)
from edge.uplink.ranges import Ranges

KEEP_STREAMS: Final = 100
MAX_DECLARED: Final = 100_000
_PAGE_ROWS: Final = 64
_CAUSE: Final = "the outbox was damaged"
_LATER: Final = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    )
)
"""Why a damaged file cannot be read for now, which says nothing of what is in it."""
_LATER_IN_FULL: Final = frozenset(
    (sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP)
)


class SalvageError(OutboxError):
    """A damaged outbox is put aside and not copied yet. Tried again, it is copied from its beginning."""


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


def load(file: OutboxFile, rig: str, why: str | None = None, ending: Callable[[], bool] = lambda: False) -> Loaded:
    """Open the outbox; a damaged one is replaced. Raises :class:`OutboxError` while that cannot be done.

    ``why``: it was found damaged while it was used, which its opening would not show. ``ending``: asked now and then
    while it is copied; the copy is given up, and left to the next process.
    """
    places = Places(file.path)
    with places.alone():
        if not places.begun:
            if why is None or not file.path.exists():
                try:
                    return _opened(file)
                except OutboxDamagedError as error:
                    why = str(error)
            file.close()
            places.put_aside()
        # Whatever was found now, if anything: what was begun is seen through first.
        file.close()
        places.go_on()
        loaded = _of_the_copy(places, file) or _salvage(places, file, rig, ending)
        loaded.why = why or "found so by an earlier process, which could not finish"
        try:
            loaded.aside = places.finish()
        except OutboxError:
            file.close()
            raise
        return loaded


def _opened(file: OutboxFile) -> Loaded:
    streams = _without_old(file, _with_ends(file, file.open()))
    return Loaded(streams, file.usage(), file.generation)


def _of_the_copy(places: Places, file: OutboxFile) -> Loaded | None:
    """Open the copy that an attempt made which went no further; None if there is none."""
    if not file.path.exists():
        return None
    try:
        loaded = _opened(file)
    except OutboxDamagedError:
        # Nobody has used it yet: all that is in it is in the source.
        file.close()
        places.clear(file.path)
        return None
    loaded.salvaged = sum(Ranges(msgpack.unpackb(row.state).get("kept", ())).count for row, _ in loaded.streams)
    return loaded


def _with_ends(file: OutboxFile, streams: list[StreamRow]) -> list[tuple[StreamRow, tuple[int, int]]]:
    try:
        for row in streams:
            # Read as it will be: what cannot be is damage, and found here.
            Held.from_row(row, (-1, -1), 1, 0)
    except (ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise OutboxDamagedError(f"outbox {file.path}: state of a stream: {error}") from error
    if strange := set(file.sids()) - {row.sid for row in streams}:
        # Nobody would ever send them, and the next stream with such a number could not have frames of its own there.
        raise OutboxDamagedError(f"outbox {file.path}: frames of {len(strange)} streams that are not in it")
    return [(row, file.ends(row.sid)) for row in streams]


def _without_old(
    file: OutboxFile, streams: list[tuple[StreamRow, tuple[int, int]]]
) -> list[tuple[StreamRow, tuple[int, int]]]:
    """Forget streams of which nothing is left, but for the newest: the ring may still show frames of those."""
    old = [row.sid for row, (_, highest) in streams[:-KEEP_STREAMS] if highest < 0]
    if old:
        file.forget(old)
    return [one for one in streams if one[0].sid not in set(old)]


# -- of a damaged one


def _salvage(places: Places, file: OutboxFile, rig: str, ending: Callable[[], bool]) -> Loaded:
    """Copy what is whole of the source into a new file, and open that as the outbox."""
    need = 0
    new = OutboxFile(places.new, max_bytes=file.max_bytes)
    try:
        places.clear(places.new)
        with _reading(places.source) as db:
            need = _in_use(db, places.source)
            if (free := _free_bytes(places.path.parent)) < need:
                raise OutboxError(f"{free} bytes are free there")
            new.open()
            salvaged, declared = _copy(db, new, rig, ending)
        new.seal()
        places.in_place()
        loaded = _opened(file)
    except (OSError, OutboxDamagedError) as error:
        file.close()
        new.close()
        # What it has taken is room that others need, the ring's worker among them.
        with contextlib.suppress(OutboxError):
            places.clear(places.new)
        raise SalvageError(
            f"outbox {places.path} was damaged, and what can be read of it cannot be copied yet: {error}. It is kept "
            f"as {places.source.name} and tried again; the copy needs {need} bytes: free so many beside it, or move "
            "its directory to where they are and set outbox.directory"
        ) from error
    finally:
        new.close()
    loaded.salvaged, loaded.declared = salvaged, declared
    return loaded


@contextlib.contextmanager
def _reading(source: Path) -> Iterator[sqlite3.Connection]:
    """Open a damaged file, of which not a byte is changed: a copy that fails is made again from the same."""
    try:
        # Not even its log is copied into it at the end.
        name = f"{source.absolute().as_uri()}?mode=ro"
        db = sqlite3.connect(name, uri=True, isolation_level=None, timeout=LOCK_WAIT_S)
    except sqlite3.Error as error:
        raise OutboxError(f"it cannot be opened: {error}") from error
    with contextlib.closing(db):
        # As the shell's .recover does: a file that is shorter than it says is read as far as it goes.
        with contextlib.suppress(sqlite3.Error), _judged():
            db.execute("PRAGMA writable_schema = ON")
        yield db


@contextlib.contextmanager
def _judged() -> Iterator[None]:
    """Tell what is wrong with reading from what is wrong with what is read; the latter is passed on."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)
        if code & 0xFF in _LATER or code in _LATER_IN_FULL:
            raise OutboxError(f"it cannot be read: {error}") from error
        raise


def _in_use(db: sqlite3.Connection, source: Path) -> int:
    """Return how many bytes the copy of it will have, at most; as far as can be told."""
    log = beside(source, LOG)
    size = source.stat().st_size + (log.stat().st_size if log.exists() else 0)
    try:
        with _judged():
            pages, free, page = (
                db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
            )
    except sqlite3.Error:
        return size
    return min(size, int(max(pages - free, 0) * page))


def _free_bytes(directory: Path) -> int:
    found = os.statvfs(directory)
    return int(found.f_bavail * found.f_frsize)


def _copy(db: sqlite3.Connection, file: OutboxFile, rig: str, ending: Callable[[], bool]) -> tuple[int, int]:
    """Copy what is whole; return how many frames that was, and how many are declared missing."""
    found = {(one.epoch, one.stream): one for one in _states(db)}
    batch: list[Row] = []
    count = 0
    for old in _rows(db):
        row = _judge(old, rig, found)
        if row is None:
            continue
        batch.append(row)
        count += 1
        if len(batch) == _PAGE_ROWS:
            if ending():
                raise OutboxError("the uplink ends")
            file.commit(batch, ())
            batch.clear()
    file.commit(batch, ())
    declared = _declare(file, rig, found)
    file.commit((), [_state_row(one) for one in found.values()])
    return count, declared


def _states(db: sqlite3.Connection) -> Iterator[_Found]:
    """Yield the streams that the damaged file can still tell of."""
    number = 0
    with contextlib.suppress(sqlite3.Error), _judged():
        for sid, epoch, stream, state in db.execute("SELECT sid, epoch, stream, state FROM streams ORDER BY sid"):
            with contextlib.suppress(ValueError, TypeError, AttributeError, msgpack.UnpackException):
                held = Held.from_row(StreamRow(sid, epoch % 2**64, stream, state), (-1, -1), 1, 0)
                number += 1
                yield _Found(number, held.epoch, stream, msgpack.unpackb(state))


def _rows(db: sqlite3.Connection) -> Iterator[Row]:
    """Yield the rows from the first on, and from the last on, as far as they can be read."""
    read_to = -1
    query = "SELECT id, crc, kind, payload FROM frames WHERE id > ? ORDER BY id"
    try:
        with _judged():
            for found in db.execute(query, (read_to,)):
                read_to = found[0]
                yield Row(found[0], found[1], found[2], bytes(found[3]))
    except (sqlite3.Error, TypeError, ValueError):
        yield from _rows_from_the_end(db, query, read_to)


def _rows_from_the_end(db: sqlite3.Connection, query: str, read_to: int) -> Iterator[Row]:
    with contextlib.suppress(sqlite3.Error, TypeError, ValueError), _judged():
        for found in db.execute(f"{query} DESC", (read_to,)):
            yield Row(found[0], found[1], found[2], bytes(found[3]))


def _judge(old: Row, rig: str, found: dict[tuple[int, str], _Found]) -> Row | None:
    """Return the row under its number in the new file; None for what is not a whole frame of ours."""
    if not old.whole:
        return None
    try:
        frame = frames.decode_frame(old.payload)
    except FrameError:
        return None
    if frame.rig != rig or frame.seq > MAX_SEQ:
        return None
    key = int(frame.epoch, 16), frame.stream
    one = found.get(key)
    if one is None:
        one = found[key] = _Found(len(found) + 1, *key)
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
    # The state is up to two seconds old, or gone: frames above what it knows may have been sent.
    state = {**one.state, "kept": list(one.kept), "salvaged": True}
    state["high"] = max(one.state.get("high", 0), one.kept.last + 1)
    # What is neither here nor declared, a store may have. Without a state nobody knows what there was: all of it.
    absent = Ranges(one.state.get("absent", ()))
    absent.update(one.state.get("kept", [(0, state["high"] - 1)]))
    state["absent"] = list(absent.minus(one.kept))
    return StreamRow(one.sid, one.epoch, one.stream, msgpack.packb(state))
