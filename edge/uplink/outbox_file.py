"""The outbox on disk: one SQLite file, one connection, one thread at a time. It knows rows; what they mean, others do.

WAL with synchronous FULL: a commit is one flush, and what is committed survives a power cut as far as the disk tells
the truth. A row's number is its stream's number shifted by 40 bits plus its ``seq``: one frame, one row, by the primary
key itself, and the rows of a stream lie side by side.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from edge.errors import LocalError

SEQ_BITS: Final = 40
MAX_SEQ: Final = (1 << SEQ_BITS) - 1
PAGE: Final = 4096
_WAL_FRAME: Final = PAGE + 24
KINDS: Final = ("samples", "event", "run", "epoch", "tombstone", "frontend")
"""As rows name them by number; only ever appended to."""
APPLICATION_ID: Final = 0x54504F42  # "TPOB"
VERSION: Final = 1
CHECKPOINT_BYTES: Final = 4 << 20
"""So much in the WAL is copied into the file, in the thread's own time between two commits."""
READ_BYTES: Final = 256 * 1024
"""A page of the backlog ends with the row that fills it."""
LOCK_WAIT_S: Final = 2.0
_U64: Final = 1 << 64
_I63: Final = 1 << 63
SAY: Final = "free some space, or set outbox.directory"
LOG: Final = "-wal"
INDEX: Final = "-shm"
"""What SQLite calls the files beside its own: what is not copied into it yet, and where in there a page is."""
_UNREADABLE: Final = frozenset({sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ})

_SCHEMA: Final = f"""
CREATE TABLE streams (sid INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, stream TEXT NOT NULL, state BLOB NOT NULL,
    UNIQUE (epoch, stream));
CREATE TABLE frames (id INTEGER PRIMARY KEY, crc INTEGER NOT NULL, kind INTEGER NOT NULL, payload BLOB NOT NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""


class OutboxError(LocalError, OSError):
    """The outbox cannot be used at present: no room, no permission, another uplink has it. Nothing was changed."""

    def __str__(self) -> str:
        """Return the sentence without a number."""
        return str(self.args[-1]) if self.args else ""


class OutboxUnreadableError(OutboxError):
    """The disk cannot read a part of the file, say a bad sector; the rest may be in order."""


def in_use(path: Path) -> OutboxError:
    """Return the error of an outbox that somebody else has."""
    return OutboxError(f"outbox {path} is in use: another uplink of this rig is running; end that one")


class OutboxDamagedError(LocalError, ValueError):
    """The file is not what was written: it must be put aside, and a new one begun."""


class Row(NamedTuple):
    """One frame as it lies there."""

    id: int
    crc: int
    """CRC-32 of the payload, made before the commit."""
    kind: int
    payload: bytes

    @classmethod
    def of(cls, number: int, kind: int, payload: bytes) -> Row:
        """Make the row of a payload."""
        return cls(number, zlib.crc32(payload), kind, payload)

    @property
    def whole(self) -> bool:
        """The payload is the one that was committed."""
        return zlib.crc32(self.payload) == self.crc


class StreamRow(NamedTuple):
    """One stream of one epoch, and what is remembered of it."""

    sid: int
    epoch: int
    stream: str
    state: bytes


@dataclass(frozen=True, slots=True)
class Usage:
    """Of the disk, after a job."""

    used_bytes: int = 0
    """Pages in use, the free ones inside the file not counted."""
    file_bytes: int = 0
    commits: int = 0
    syncs: int = 0
    """Flushes to the disk since this process opened it: one a commit, two a checkpoint."""
    written_bytes: int = 0
    """Handed to the disk since then, log and file."""


def beside(path: Path, suffix: str) -> Path:
    """Return the name of a file that belongs to the one at ``path``."""
    return path.with_name(path.name + suffix)


def row_id(sid: int, seq: int) -> int:
    """Return the number of a frame's row."""
    return sid << SEQ_BITS | seq


class OutboxFile:
    """Every method is one transaction, and raises :class:`OutboxError` or :class:`OutboxDamagedError`."""

    def __init__(self, path: Path, *, max_bytes: int | None = None) -> None:
        """Open nothing yet. ``max_bytes``: where the file is full, as on a full disk; for tests."""
        self.path = path
        self.max_bytes = max_bytes
        self._db: sqlite3.Connection | None = None
        self._commits = self._checkpoints = self._written = 0
        self._in_log = 0
        self.generation = 0
        """Counts how often it was opened."""

    @property
    def commits(self) -> int:
        """How many there were since it was made; also while one of its methods is at work in another thread."""
        return self._commits

    # -- opening and closing

    def open(self) -> list[StreamRow]:
        """Open the file, or make it, and return its streams."""
        self.close()
        self.generation += 1
        with self._judged():
            try:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise OutboxError(f"outbox {self.path}: {error.strerror}; {SAY}") from error
            made = not self.path.exists() or self.path.stat().st_size == 0
            # Autocommit: transactions are begun and ended here, in so many words.
            self._db = db = sqlite3.connect(
                self.path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            # Nobody else may open it while we have it: neither a second uplink nor a curious reader.
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            if made:
                db.execute(f"PRAGMA page_size = {PAGE}")
            if str(db.execute("PRAGMA journal_mode = WAL").fetchone()[0]).lower() != "wal":
                raise OutboxError(f"outbox {self.path}: this file system has no place for a write-ahead log; {SAY}")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA wal_autocheckpoint = 0")
            db.execute(f"PRAGMA journal_size_limit = {4 * CHECKPOINT_BYTES}")
            if self.max_bytes is not None:
                db.execute(f"PRAGMA max_page_count = {max(self.max_bytes // PAGE, 4)}")
            if self._number("application_id") == 0 and not self._number("schema_version"):
                db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            if (self._number("application_id"), self._number("user_version")) != (APPLICATION_ID, VERSION):
                raise OutboxDamagedError(f"outbox {self.path}: not an outbox of version {VERSION}")
            return [
                StreamRow(sid, epoch % _U64, stream, state)
                for sid, epoch, stream, state in db.execute(
                    "SELECT sid, epoch, stream, state FROM streams ORDER BY sid"
                )
            ]

    def close(self) -> None:
        """Copy the log into the file and let go of it; never raises, the log does as well."""
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def seal(self) -> None:
        """Copy all of the log into the file, which is whole without it then, flush that, and close it."""
        with self._judged():
            busy, _, _ = self._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise OutboxError(f"outbox {self.path}: its log cannot be copied into it, as somebody reads it; end that")
        self.close()

    # -- rows

    def commit(self, rows: Sequence[Row], streams: Sequence[StreamRow]) -> Usage:
        """Insert what is not there yet, and write ``streams``; on the disk when this returns."""
        with self._transaction() as db:
            self._write_streams(db, streams)
            if rows:
                # One statement: every step of one hands the interpreter's lock to and fro.
                places = ",".join(["(?,?,?,?)"] * len(rows))
                db.execute(
                    f"INSERT OR IGNORE INTO frames VALUES {places}",  # noqa: S608 - question marks only
                    [value for row in rows for value in row],
                )
        return self._done(sum(len(row.payload) for row in rows) + PAGE * (len(rows) // 8 + 2))

    def read(self, sid: int, first: int, last: int, limit: int) -> list[Row]:
        """Return the rows of ``first``..``last`` in order, at most ``limit`` or 256 KiB of them, but at least one."""
        with self._judged():
            rows, size = [], 0
            found = self._connection().execute(
                "SELECT id, crc, kind, payload FROM frames WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
                (row_id(sid, first), row_id(sid, last), limit),
            )
            for row in map(Row._make, found):
                rows.append(row)
                size += len(row.payload)
                if size >= READ_BYTES:
                    break
            found.close()
            return rows

    def ends(self, sid: int) -> tuple[int, int]:
        """Return the lowest and the highest ``seq`` of a stream; -1 when it has no rows."""
        found = []
        with self._judged():
            for which in ("min", "max"):
                (number,) = (
                    self._connection()
                    .execute(
                        f"SELECT {which}(id) FROM frames WHERE id BETWEEN ? AND ?",  # noqa: S608 - one of two words
                        (row_id(sid, 0), row_id(sid, MAX_SEQ)),
                    )
                    .fetchone()
                )
                found.append(-1 if number is None else int(number) & MAX_SEQ)
        return found[0], found[1]

    def sids(self) -> list[int]:
        """Return the numbers of the streams that have rows, whether they are streams or not."""
        found: list[int] = []
        above = -_I63
        with self._judged():
            while True:
                (number,) = self._connection().execute("SELECT min(id) FROM frames WHERE id > ?", (above,)).fetchone()
                if number is None:
                    return found
                found.append(int(number) >> SEQ_BITS)
                above = row_id(found[-1], MAX_SEQ)

    def delete(self, ranges: Sequence[tuple[int, int, int]], streams: Sequence[StreamRow]) -> Usage:
        """Delete (sid, first, last), both inclusive, and remember it in ``streams``, in one transaction."""
        pages = 0
        with self._transaction() as db:
            self._write_streams(db, streams)
            for sid, first, last in ranges:
                gone = db.execute(
                    "DELETE FROM frames WHERE id BETWEEN ? AND ?", (row_id(sid, first), row_id(sid, last))
                )
                pages += gone.rowcount
        return self._done(PAGE * (pages // 4 + 2))

    def replace(self, rows: Sequence[Row]) -> Usage:
        """Put other frames in the place of these rows, those that are still there."""
        with self._transaction() as db:
            db.executemany(
                "UPDATE frames SET crc = ?, kind = ?, payload = ? WHERE id = ?",
                [(row.crc, row.kind, row.payload, row.id) for row in rows],
            )
        return self._done(PAGE * (len(rows) + 2))

    def forget(self, sids: Sequence[int]) -> None:
        """Delete streams that have no rows."""
        with self._transaction() as db:
            db.executemany("DELETE FROM streams WHERE sid = ?", [(sid,) for sid in sids])

    def usage(self) -> Usage:
        """Return how much there is."""
        with self._judged():
            pages, free = self._number("page_count"), self._number("freelist_count")
        return Usage(
            used_bytes=(pages - free) * PAGE,
            file_bytes=pages * PAGE,
            commits=self._commits,
            syncs=self._commits + 2 * self._checkpoints,
            written_bytes=self._written + self._in_log,
        )

    # -- inside

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise OutboxError(f"outbox {self.path}: not open")
        return self._db

    def _number(self, pragma: str) -> int:
        (value,) = self._connection().execute(f"PRAGMA {pragma}").fetchone()
        return int(value)

    @staticmethod
    def _write_streams(db: sqlite3.Connection, streams: Sequence[StreamRow]) -> None:
        for row in streams:
            epoch = row.epoch - _U64 if row.epoch >= _I63 else row.epoch
            db.execute("INSERT OR REPLACE INTO streams VALUES (?,?,?,?)", (row.sid, epoch, row.stream, row.state))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._judged():
            db = self._connection()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                # A COMMIT that failed leaves it open; what cannot be rolled back was rolled back by SQLite itself.
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise
            self._commits += 1

    def _done(self, about_bytes: int) -> Usage:
        """Keep the log short, and return how much there is."""
        self._in_log += about_bytes
        if self._in_log >= CHECKPOINT_BYTES:
            self.checkpoint()
        return self.usage()

    def checkpoint(self) -> None:
        """Copy the log into the file: what has been guessed of it is then known."""
        with self._judged():
            _, log, copied = self._connection().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        # The log begins anew only when all of it was copied, which nobody can hinder: we are the only connection.
        self._written += max(log, 0) * _WAL_FRAME + max(copied, 0) * PAGE
        self._in_log = 0
        self._checkpoints += 1

    @contextlib.contextmanager
    def _judged(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB} or (
                code == sqlite3.SQLITE_ERROR and "no such" in str(error)
            ):
                raise OutboxDamagedError(f"outbox {self.path}: {error}") from error
            if code == sqlite3.SQLITE_BUSY:
                raise in_use(self.path) from error
            if getattr(error, "sqlite_errorcode", 0) in _UNREADABLE:
                raise OutboxUnreadableError(
                    f"outbox {self.path}: the disk cannot read a part of it; look at its health, and replace it"
                ) from error
            raise OutboxError(f"outbox {self.path}: {error}; {SAY}") from error
