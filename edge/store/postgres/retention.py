"""Retention: frames and seconds by whole partitions, as the table ``retention`` says; events, runs, ledger never.

What a dropped partition held is noted in ``stream_mark.dropped`` first: a frame that comes again is still known, and
``store verify`` knows why it is not there.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg
from psycopg import sql

from edge.store.backend import StoreError
from edge.store.postgres.partitions import is_hypertable
from edge.store.postgres.session import connect

_WHAT: Final = {"frames": "frames", "frame_seconds": "seconds", "front_frames": "frames"}
_HOLD_FRAMES: Final = frozenset({"frames", "front_frames"})
_LOCK: Final = 0x7469_7067_0002
"""Advisory lock of whoever removes things."""
_WAIT_MS: Final = 2000
"""Dropping waits for readers, and writers wait behind it: not for longer than this."""
_BOUNDS: Final = """
SELECT n.nspname, c.relname, pg_get_expr(c.relpartbound, c.oid)
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhparent = %s::regclass ORDER BY c.relname
"""
_END: Final = re.compile(r"TO \('([^']+)'\)")
_NOTE: Final = """
UPDATE stream_mark m SET dropped = m.dropped + gone.seqs
FROM (SELECT rig, epoch, stream, range_agg(int8range(seq, seq + 1)) AS seqs FROM {part}
      GROUP BY rig, epoch, stream) gone
WHERE (m.rig, m.epoch, m.stream) = (gone.rig, gone.epoch, gone.stream)
"""

Conn = psycopg.Connection[Any]


def maintain(url: str, now_ns: int) -> list[str]:
    """Remove what is older than the policy allows; return the names of what was removed. ``now_ns``: UTC.

    Over a connection of its own: counting what a week held may take minutes. One worker at a time; the others return at
    once. Raises :class:`StoreError`; what was not done is done the next time.
    """
    conn = connect(url)
    try:
        conn.execute("SET statement_timeout = 0")
        held = conn.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
        return _maintain(conn, datetime.fromtimestamp(now_ns / 1e9, UTC)) if held is not None and held[0] else []
    except psycopg.Error as error:
        raise StoreError(f"retention: {str(error).strip()}") from error
    finally:
        conn.close()


def _maintain(conn: Conn, now: datetime) -> list[str]:
    policy = dict(conn.execute("SELECT what, keep_days FROM retention").fetchall())
    limits = {what: now - timedelta(days=days) for what, days in policy.items() if days is not None}
    conn.execute("SELECT set_config('lock_timeout', %s, false)", (f"{_WAIT_MS}ms",))
    removed = []
    for table, what in _WHAT.items():
        if what in limits:
            removed += _drop(conn, table, limits[what])
    if "quarantine" in limits:
        conn.execute("DELETE FROM quarantine WHERE last_seen < %s", (limits["quarantine"],))
    return removed


def _drop(conn: Conn, table: str, limit: datetime) -> list[str]:
    hypertable = is_hypertable(conn)
    parts = _chunks(conn, table, limit) if hypertable else _partitions(conn, table, limit)
    if hypertable and parts:
        _drop_chunks(conn, table, limit, parts)
        return [name for _, name in parts]
    for schema, name in parts:
        part = sql.Identifier(schema, name)
        # Each by itself: the drop keeps every writer out of the whole table until its commit.
        with conn.transaction():
            _note(conn, table, part)
            conn.execute(sql.SQL("DROP TABLE {}").format(part))
    return [name for _, name in parts]


def _drop_chunks(conn: Conn, table: str, limit: datetime, parts: list[tuple[str, str]]) -> None:
    with conn.transaction():
        for schema, name in parts:
            _note(conn, table, sql.Identifier(schema, name))
        conn.execute("SELECT drop_chunks(%s::regclass, older_than => %s)", (table, limit))


def _note(conn: Conn, table: str, part: sql.Identifier) -> None:
    # The whole first, then the part, in the order in which a reader takes them; the other way round the two wait for
    # each other, and the database ends one of them.
    conn.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(table)))
    # Before it is noted what is in it: nobody adds to it any more.
    conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(part))
    if table in _HOLD_FRAMES:
        conn.execute(sql.SQL(_NOTE).format(part=part))


def _partitions(conn: Conn, table: str, limit: datetime) -> list[tuple[str, str]]:
    """Return (schema, name) of the partitions that end at ``limit`` or before."""
    return [
        (schema, name)
        for schema, name, bound in conn.execute(_BOUNDS, (table,)).fetchall()
        if datetime.fromisoformat(_END.findall(bound)[-1]) <= limit
    ]


def _chunks(conn: Conn, table: str, limit: datetime) -> list[tuple[str, str]]:
    query = """SELECT n.nspname, c.relname FROM show_chunks(%s::regclass, older_than => %s) AS s
               JOIN pg_class c ON c.oid = s JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY 1, 2"""
    return conn.execute(query, (table, limit)).fetchall()
