"""Where rows with a time go: one partition a week, made when its first row comes, or a TimescaleDB hypertable.

The database's own constraint would be one more place where a frame's identity is judged, and a hypertable's would have
to contain the time: so these tables have none, and ``frame_ledger`` alone judges.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg import sql

TABLES: Final = {"frames": "t0", "frame_seconds": "t", "front_frames": "t0"}
"""Table -> its time column."""
WEEK_NS: Final = 7 * 86_400 * 1_000_000_000
_MONDAY_NS: Final = 4 * 86_400 * 1_000_000_000
"""1970-01-05, the first Monday that counts."""
LOCK: Final = 0x7469_7067_0001
"""Advisory lock of whoever changes tables: "tipg" and a number."""

Conn = psycopg.Connection[Any]


def week_of(utc_ns: int) -> int:
    """Return the number of the week that ``utc_ns`` (since 1970) is in; weeks begin on Monday, 00:00 UTC."""
    return (utc_ns - _MONDAY_NS) // WEEK_NS


def bounds(week: int) -> tuple[datetime, datetime]:
    """Return when a week begins and when the next one does."""
    first, last = (
        datetime.fromtimestamp((number * WEEK_NS + _MONDAY_NS) // 1_000_000_000, UTC) for number in (week, week + 1)
    )
    return first, last


def name_of(table: str, week: int) -> str:
    """Return the name of a partition: the table's and its Monday's."""
    return f"{table}_{bounds(week)[0]:%Y%m%d}"


class Partitions:
    """Makes what is missing; remembers what it knows to be there."""

    def __init__(self) -> None:
        self._known: set[tuple[str, int]] = set()
        self._made: set[tuple[str, int]] = set()
        self._hypertables: bool | None = None

    def forget(self) -> None:
        """Forget everything: another server, or partitions were dropped."""
        self._known.clear()
        self._made.clear()
        self._hypertables = None

    def committed(self) -> None:
        """What was made is there for good."""
        self._known |= self._made
        self._made.clear()

    def rolled_back(self) -> None:
        """What was made is not there."""
        self._made.clear()

    def ensure(self, conn: Conn, table: str, weeks: Iterable[int]) -> None:
        """Make the partitions of ``weeks`` in the present transaction, unless they are there."""
        if self._hypertables is None:
            self._hypertables = is_hypertable(conn)
        missing = sorted({(table, week) for week in weeks} - self._known - self._made)
        if not missing or self._hypertables:
            return
        for _, week in missing:
            name = name_of(table, week)
            if not _exists(conn, table, name):
                # Until our commit others wait who need a new partition too, and nobody else.
                conn.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
                if not _exists(conn, table, name):
                    self._make(conn, table, name, week)
            self._made.add((table, week))

    def _make(self, conn: Conn, table: str, name: str, week: int) -> None:
        # Attached, not created in place: that would wait for every reader, and every writer behind it.
        names = {"table": sql.Identifier(table), "name": sql.Identifier(name)}
        like = "CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)"
        conn.execute(sql.SQL(like).format(**names))
        begin, end = (sql.Literal(moment) for moment in bounds(week))
        attach = "ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({begin}) TO ({end})"
        conn.execute(sql.SQL(attach).format(begin=begin, end=end, **names))


def _exists(conn: Conn, table: str, name: str) -> bool:
    # Not to_regclass(): what it once did not find it does not find again in the same transaction.
    query = """SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               WHERE i.inhparent = %s::regclass AND c.relname = %s"""
    row = conn.execute(query, (table, name)).fetchone()
    return row is not None and row[0] > 0


def is_hypertable(conn: Conn) -> bool:
    """Return whether ``frames`` is TimescaleDB's."""
    row = conn.execute("SELECT relkind FROM pg_class WHERE oid = to_regclass('frames')").fetchone()
    return row is not None and row[0] in {"r", b"r"}
