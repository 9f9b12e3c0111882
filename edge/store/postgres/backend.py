"""The store in a PostgreSQL database: one transaction per batch is ledger, content and marks together.

Several workers may feed one database, each with frames of every rig. What makes that sound:

* a frame's identity goes into ``frame_ledger`` first; only the worker whose row it became keeps the content;
* rows are inserted in the order of their keys, so that two workers never wait for each other in a circle;
* what a stream has is one row of ``stream_mark``, changed last: whoever comes second waits for the first one's
  commit, and adds to what that committed. A mark computed from a snapshot would miss the other's frames.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from threading import Thread
from typing import Any, Final

import psycopg
from psycopg import errors

from edge.frames import MEASURED, TOPIC_OF_KIND, hex16
from edge.store.backend import Key, Received, StoreError, Unreadable
from edge.store.contiguity import Coverage
from edge.store.postgres import binary, documents, front, samples
from edge.store.postgres.marks import RANGES, row_mark, to_text
from edge.store.postgres.partitions import Partitions, week_of
from edge.store.postgres.raw import claimed, raw_frames
from edge.store.postgres.retention import maintain
from edge.store.postgres.session import notes, open_store, renew
from edge.watermark import MAX_MARKS, Mark

ATTEMPTS: Final = 3
"""Of a transaction that another one got in the way of."""
MAINTAIN_S: Final = 600.0
_MAX_SEQ: Final = 2**63 - 2
_MAX_WHY: Final = 1000
_CLOSE_S: Final = 5.0

_REGISTER: Final = """
INSERT INTO frame_ledger (rig, epoch, stream, seq)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[])
ON CONFLICT DO NOTHING
RETURNING rig, epoch, stream, seq
"""
_MARK: Final = """
INSERT INTO stream_mark AS m (rig, epoch, stream, covered, touched)
SELECT r, e, s, c::int8multirange, clock_timestamp()
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) AS u (r, e, s, c)
ON CONFLICT (rig, epoch, stream) DO UPDATE
SET covered = m.covered + excluded.covered, touched = greatest(m.touched, excluded.touched)
RETURNING rig, epoch, stream, ARRAY(SELECT x FROM unnest(m.covered) AS x LIMIT %s)::text
"""
_RECENT: Final = """
SELECT rig, epoch, stream, ARRAY(SELECT x FROM unnest(m.covered) AS x LIMIT %s)::text,
       (SELECT generation FROM store_identity)
FROM stream_mark AS m
WHERE rig = %s AND touched > now() - interval '24 hours'
ORDER BY touched DESC, epoch, stream LIMIT %s
"""
_RIGS: Final = "SELECT DISTINCT rig FROM stream_mark WHERE touched > now() - interval '24 hours'"
_QUARANTINE: Final = """
INSERT INTO quarantine AS q (digest, topic, payload, why, content_type) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (digest) DO UPDATE SET times = q.times + 1, last_seen = now(), why = excluded.why
"""
_RUN: Final = """
INSERT INTO runs (rig, run, epoch, plan, parameters, by, started, stopped, status, reason, results, samples_lost,
                  rig_facts, smu, stage, limits)
VALUES (%(rig)s, %(run)s, %(epoch)s, %(plan)s, %(parameters)s, %(by)s,
        to_timestamp(%(started)s::double precision / 1e9), to_timestamp(%(stopped)s::double precision / 1e9),
        %(status)s, %(reason)s, %(results)s, %(samples_lost)s, %(rig_facts)s, %(smu)s, %(stage)s, %(limits)s)
ON CONFLICT (rig, run) DO UPDATE SET
    plan = coalesce(excluded.plan, runs.plan), parameters = coalesce(excluded.parameters, runs.parameters),
    by = coalesce(excluded.by, runs.by), started = coalesce(excluded.started, runs.started),
    stopped = coalesce(excluded.stopped, runs.stopped), status = coalesce(excluded.status, runs.status),
    reason = coalesce(excluded.reason, runs.reason), results = coalesce(excluded.results, runs.results),
    samples_lost = coalesce(excluded.samples_lost, runs.samples_lost),
    rig_facts = coalesce(excluded.rig_facts, runs.rig_facts), smu = coalesce(excluded.smu, runs.smu),
    stage = coalesce(excluded.stage, runs.stage), limits = coalesce(excluded.limits, runs.limits)
"""
_Identity = tuple[str, str, str, int]


class PostgresBackend:
    """Satisfies :class:`edge.store.backend.Backend`; all calls from one thread.

    A connection that breaks is made anew at the next call. ``notes``: what an operator should know of the server.
    """

    def __init__(self, url: str, store: str | None, *, now_ns: Callable[[], int] = time.time_ns) -> None:
        """Connect and bring the schema up to date. ``now_ns``: UTC, ns since 1970.

        ``store``: its name; a new database gets it. None: whatever name it has. Raises :class:`StoreError` when the
        database does not answer, :class:`edge.store.backend.StoreUnusableError` when it is another's.
        """
        self._url = url
        self._name = store
        self._now_ns = now_ns
        self._partitions = Partitions()
        self._maintained_ns: int | None = None
        self._upkeep: Thread | None = None
        self._conn: psycopg.Connection[Any] | None = None
        self.store = store or ""
        self.generation = ""
        self.notes: tuple[str, ...] = ()
        self._connection()

    def _connection(self) -> psycopg.Connection[Any]:
        if self._conn is None:
            self._partitions.forget()
            self._conn, self.store, self.generation = open_store(self._url, self._name)
            self.notes = notes(self._conn)
        return self._conn

    def _failed(self, error: psycopg.Error) -> StoreError:
        # Whatever state the connection is in, a new one is in none; it also looks again whose database it is.
        self._disconnect()
        return StoreError(f"database: {str(error).strip() or type(error).__name__}")

    def _disconnect(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()

    def close(self) -> None:
        """Disconnect; a second call does nothing. Waits a little for a removal under way; one broken off is undone."""
        self._disconnect()
        if self._upkeep is not None:
            self._upkeep.join(_CLOSE_S)

    # ------------------------------------------------------------------------------------------------ committing

    def commit(self, frames: Sequence[Received], unreadable: Sequence[Unreadable]) -> Mapping[Key, Mark]:
        """Keep both; see :class:`edge.store.backend.Backend`.

        A frame that the database has no place for (a number beyond its types) goes into quarantine, and no mark
        covers it.
        """
        batch: dict[_Identity, Received] = {}
        refused = list(unreadable)
        for received in frames:
            if why := _too_large(received):
                refused.append(_refused(received, why))
            else:
                batch.setdefault(_identity(received), received)
        marks = self._attempt(dict(sorted(batch.items())), refused)
        self._maintain()
        return marks

    def _attempt(self, batch: Mapping[_Identity, Received], refused: Sequence[Unreadable]) -> dict[Key, Mark]:
        attempt = 1
        while True:
            try:
                return self._transaction(batch, refused)
            except (errors.DataError, errors.ProgramLimitExceeded) as error:
                if len(batch) == 1:
                    (received,) = batch.values()
                    return self._attempt({}, [*refused, _refused(received, str(error))])
                if not batch:
                    raise self._failed(error) from error
                return self._one_by_one(batch, refused)
            except (errors.DeadlockDetected, errors.SerializationFailure, errors.CheckViolation) as error:
                # The last: another worker's retention dropped a partition that we knew.
                self._partitions.forget()
                if attempt == ATTEMPTS:
                    raise self._failed(error) from error
                attempt += 1
            except psycopg.Error as error:
                raise self._failed(error) from error

    def _one_by_one(self, batch: Mapping[_Identity, Received], refused: Sequence[Unreadable]) -> dict[Key, Mark]:
        """Commit each frame by itself: one that the database refuses must not keep the others out."""
        marks = self._attempt({}, refused)
        for identity, received in batch.items():
            marks |= self._attempt({identity: received}, ())
        return marks

    def _transaction(self, batch: Mapping[_Identity, Received], refused: Sequence[Unreadable]) -> dict[Key, Mark]:
        if not batch and not refused:
            return {}
        conn = self._connection()
        try:
            with conn.transaction():
                fresh = self._register(conn, batch)
                self._keep(conn, [batch[identity] for identity in sorted(fresh)])
                self._quarantine(conn, refused)
                marks = self._mark(conn, batch, fresh)
        except psycopg.Error:
            self._partitions.rolled_back()
            raise
        self._partitions.committed()
        return marks

    def _register(self, conn: psycopg.Connection[Any], batch: Mapping[_Identity, Received]) -> set[_Identity]:
        """Return those that were not in the ledger before."""
        if not batch:
            return set()
        columns = [list(column) for column in zip(*batch, strict=True)]
        return set(conn.execute(_REGISTER, columns, prepare=True).fetchall())

    def _keep(self, conn: psycopg.Connection[Any], fresh: Sequence[Received]) -> None:
        now_ns = self._now_ns()
        sampled = [received for received in fresh if received.frame.kind == "samples"]
        tables: dict[str, list[bytes]] = {}
        runs = []
        if sampled:
            seconds = samples.second_rows(sampled, now_ns)
            self._partitions.ensure(
                conn, "frames", {week_of(samples.filed_ns(received.frame, now_ns)) for received in sampled}
            )
            self._partitions.ensure(conn, "frame_seconds", {week_of(second_ns) for second_ns, _ in seconds})
            tables["frames"] = samples.frame_rows(sampled, now_ns)
            tables["frame_seconds"] = [row for _, row in seconds]
        measured = [(received, grid) for received in fresh if (grid := received.frame.grid) is not None]
        if measured:
            weeks = {week_of(samples.filed_ns(received.frame, now_ns)) for received, _ in measured}
            self._partitions.ensure(conn, "front_frames", weeks)
            tables["front_frames"] = [front.front_row(received, grid, now_ns) for received, grid in measured]
        for received in fresh:
            if received.stream == "runs":
                tables.setdefault("run_documents", []).append(documents.run_document_row(received, now_ns))
                if (point := documents.point_row(received, now_ns)) is not None:
                    tables.setdefault("points", []).append(point)
                if (run := documents.run_of(received, now_ns)) is not None:
                    runs.append(run)
            elif received.frame.kind not in MEASURED:
                tables.setdefault("events", []).append(documents.event_row(received, now_ns))
        for table, rows in tables.items():
            with conn.cursor() as cursor, cursor.copy(_COPY[table]) as copy:
                copy.write(binary.HEADER + b"".join(rows) + binary.TRAILER)
        if runs:
            runs.sort(key=lambda run: (run.rig, run.run))
            with conn.cursor() as cursor:
                cursor.executemany(_RUN, [run._asdict() for run in runs])

    def _quarantine(self, conn: psycopg.Connection[Any], refused: Sequence[Unreadable]) -> None:
        if not refused:
            return
        rows = {}
        for message in refused:
            topic, why, kind = (_storable(text) for text in (message.topic, message.why, message.content_type or ""))
            digest = hashlib.sha256(topic.encode() + b"\0" + message.payload).digest()
            rows[digest] = (digest, topic, message.payload, why[:_MAX_WHY], kind if message.content_type else None)
        with conn.cursor() as cursor:
            cursor.executemany(_QUARANTINE, [rows[digest] for digest in sorted(rows)])

    def _mark(
        self, conn: psycopg.Connection[Any], batch: Mapping[_Identity, Received], fresh: set[_Identity]
    ) -> dict[Key, Mark]:
        added: dict[tuple[str, str, str], Coverage] = {}
        for identity in batch:
            coverage = added.setdefault(identity[:3], Coverage())
            if identity in fresh:
                coverage.add(identity[3])
        if not added:
            return {}
        keys = sorted(added)
        columns = [*map(list, zip(*keys, strict=True)), [to_text(added[key]) for key in keys], RANGES]
        return dict(row_mark(row) for row in conn.execute(_MARK, columns, prepare=True).fetchall())

    def _maintain(self) -> None:
        """Apply the retention now and then, beside us; what cannot be done now is done the next time."""
        now_ns = self._now_ns()
        due = self._maintained_ns is None or abs(now_ns - self._maintained_ns) >= MAINTAIN_S * 1e9
        if due and (self._upkeep is None or not self._upkeep.is_alive()):
            self._maintained_ns = now_ns
            self._upkeep = Thread(target=_keep_up, args=(self._url, now_ns), name="tipguard-retention", daemon=True)
            self._upkeep.start()

    # -------------------------------------------------------------------------------------------------- reading

    def recent_marks(self, rig: str) -> Mapping[Key, Mark]:
        """Return the marks of the keys of ``rig`` touched in the last 24 h, the newest 256 at most."""
        try:
            rows = self._connection().execute(_RECENT, (RANGES, rig, MAX_MARKS), prepare=True).fetchall()
        except psycopg.Error as error:
            raise self._failed(error) from error
        if rows:
            # Another worker may have been told that the database was restored.
            self.generation = rows[0][4]
        return dict(row_mark(row[:4]) for row in rows)

    def rigs(self) -> Collection[str]:
        """Return the rigs whose keys were touched in the last 24 h."""
        try:
            return {rig for (rig,) in self._connection().execute(_RIGS).fetchall()}
        except psycopg.Error as error:
            raise self._failed(error) from error

    def renew(self) -> None:
        """Draw a new generation; a restored dump or another server is found out without being told."""
        try:
            self.generation = renew(self._connection())
        except psycopg.Error as error:
            raise self._failed(error) from error

    def claimed(self) -> Mapping[Key, Coverage]:
        """Return what must be here, by ledger or marks, less what retention removed. Reads the whole ledger."""
        try:
            return claimed(self._connection())
        except psycopg.Error as error:
            raise self._failed(error) from error

    def raw_frames(self) -> Iterator[tuple[Key, int, bytes]]:
        """Yield (key, seq, payload) of every frame held, as it came; those that retention removed are not."""
        try:
            yield from raw_frames(self._connection())
        except psycopg.Error as error:
            raise self._failed(error) from error


_COPY: Final = {
    table: f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
    for table, columns in (
        ("frames", samples.FRAME_COLUMNS),
        ("frame_seconds", samples.SECOND_COLUMNS),
        ("front_frames", front.COLUMNS),
        ("events", documents.EVENT_COLUMNS),
        ("run_documents", documents.RUN_DOCUMENT_COLUMNS),
        ("points", documents.POINT_COLUMNS),
    )
}


def _identity(received: Received) -> _Identity:
    return received.rig, hex16(received.epoch), received.stream, received.seq


def _too_large(received: Received) -> str | None:
    """Return which number does not fit a bigint, in words; no controller counts that far."""
    frame = received.frame
    for name, value, most in (
        ("seq", received.seq, _MAX_SEQ),
        ("first", frame.first, _MAX_SEQ),
        ("utc_unc_ns", frame.utc_unc_ns, _MAX_SEQ),
    ):
        if value > most:
            return f"{name}: {value}, this store holds at most {most}"
    return None


def _refused(received: Received, why: str) -> Unreadable:
    return Unreadable(f"tipguard/{received.rig}/{TOPIC_OF_KIND[received.frame.kind]}", received.payload, why, None)


def _storable(text: str) -> str:
    return text.replace("\0", "\ufffd")


def _keep_up(url: str, now_ns: int) -> None:
    # A lock not to be had, a database that is away: the next commit says it, or the next round does it.
    with contextlib.suppress(StoreError):
        maintain(url, now_ns)
