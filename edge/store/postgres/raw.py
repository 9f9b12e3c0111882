"""Every frame of the database as it came, and what the database says it holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import psycopg
from psycopg import sql

from edge.store.backend import Key
from edge.store.contiguity import Coverage
from edge.store.postgres import front
from edge.store.postgres.marks import from_text
from edge.store.postgres.samples import KINDS, mend

_AT_A_TIME: Final = 500
_CLAIMED: Final = """
SELECT rig, epoch, stream, (coalesce(l.held, '{}') + coalesce(m.covered, '{}') - coalesce(m.dropped, '{}'))::text
FROM (SELECT rig, epoch, stream, range_agg(int8range(seq, seq + 1)) AS held
      FROM frame_ledger GROUP BY rig, epoch, stream) l
FULL JOIN stream_mark m USING (rig, epoch, stream)
"""


def claimed(conn: psycopg.Connection[Any]) -> dict[Key, Coverage]:
    """Return what the database says it holds, by its ledger or its marks."""
    with conn.transaction():
        _take_your_time(conn)
        rows = conn.execute(_CLAIMED).fetchall()
    return {Key(rig, int(epoch, 16), stream): from_text(ranges) for rig, epoch, stream, ranges in rows}


def raw_frames(conn: psycopg.Connection[Any]) -> Iterator[tuple[Key, int, bytes]]:
    """Yield (key, seq, payload) of everything kept, each once, from one moment. ``conn`` is in no transaction."""
    sent = sql.SQL(", ").join(sql.SQL("array_send({})").format(sql.Identifier(name)) for name in KINDS)
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        _take_your_time(conn)
        for query in (
            "SELECT rig, epoch, stream, seq, payload FROM events",
            "SELECT rig, epoch, 'runs', seq, payload FROM run_documents",
        ):
            for rig, epoch, stream, seq, payload in _rows(conn, sql.SQL(query)):
                yield Key(rig, int(epoch, 16), stream), seq, payload
        for rig, epoch, stream, seq, rest, cuts, *arrays in _rows(
            conn, sql.SQL("SELECT rig, epoch, stream, seq, rest, cuts, {} FROM frames").format(sent)
        ):
            yield Key(rig, int(epoch, 16), stream), seq, mend(rest, cuts, arrays)
        codes = sql.SQL(", ").join(sql.SQL("array_send({})").format(sql.Identifier(name)) for name in front.KINDS)
        for rig, epoch, stream, seq, rest, cuts, *arrays in _rows(
            conn, sql.SQL("SELECT rig, epoch, stream, seq, rest, cuts, {} FROM front_frames").format(codes)
        ):
            yield Key(rig, int(epoch, 16), stream), seq, front.mend(rest, cuts, arrays)


def _take_your_time(conn: psycopg.Connection[Any]) -> None:
    """Reading everything may take hours, and whoever it is for may pause."""
    conn.execute("SET LOCAL statement_timeout = 0")
    conn.execute("SET LOCAL idle_in_transaction_session_timeout = 0")


def _rows(conn: psycopg.Connection[Any], query: sql.SQL | sql.Composed) -> Iterator[tuple[Any, ...]]:
    with conn.cursor("tipguard_raw", scrollable=False) as cursor:
        cursor.format = psycopg.pq.Format.BINARY
        cursor.itersize = _AT_A_TIME
        cursor.execute(query)
        yield from cursor
