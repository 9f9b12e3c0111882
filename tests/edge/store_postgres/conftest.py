"""A database for each test, in the one server of the session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

pytest.importorskip("psycopg", reason="needs the extra store: make setup")

from edge.store.postgres.backend import PostgresBackend
from hil.postgres import Postgres
from tests.edge.store_postgres.made import NOW_NS

_number = count()

_CONTENT = """
CREATE OR REPLACE TEMPORARY VIEW content AS
SELECT rig, epoch, stream, seq FROM frames UNION ALL SELECT rig, epoch, stream, seq FROM events
UNION ALL SELECT rig, epoch, stream, seq FROM front_frames
UNION ALL SELECT rig, epoch, 'runs', seq FROM run_documents
"""
_CHECKS = {
    "frames are in the ledger, and neither kept nor removed by retention": """
        SELECT count(*) FROM (SELECT * FROM frame_ledger EXCEPT SELECT * FROM content) l
        JOIN stream_mark m USING (rig, epoch, stream) WHERE NOT m.dropped @> l.seq""",
    "frames are kept and not in the ledger": """
        SELECT count(*) FROM (SELECT * FROM content EXCEPT SELECT * FROM frame_ledger) c""",
    "frames are kept more than once": """
        SELECT count(*) FROM (SELECT FROM content GROUP BY rig, epoch, stream, seq HAVING count(*) > 1) d""",
    "streams have a mark that is not what the ledger holds": """
        SELECT count(*) FROM (
            SELECT rig, epoch, stream, range_agg(int8range(seq, seq + 1)) AS held
            FROM frame_ledger GROUP BY rig, epoch, stream) l
        FULL JOIN stream_mark m USING (rig, epoch, stream) WHERE held IS DISTINCT FROM nullif(covered, '{}')""",
}
"""What a count above 0 means -> the count."""


def problems(backend: PostgresBackend) -> list[str]:
    """Whether ledger, content and marks agree, asked of the database itself."""
    conn = backend._connection()
    conn.execute(_CONTENT)
    counts = {what: conn.execute(query.encode()).fetchall()[0][0] for what, query in _CHECKS.items()}
    return [f"{count} {what}" for what, count in counts.items() if count]


Ask = Callable[..., list[tuple[Any, ...]]]
Open = Callable[..., PostgresBackend]


@pytest.fixture
def database(postgres_server: Postgres) -> Iterator[str]:
    name = f"test_{next(_number)}"
    url = postgres_server.create(name)
    yield url
    postgres_server.drop(name)


@pytest.fixture
def opened(database: str) -> Iterator[Open]:
    backends: list[PostgresBackend] = []

    def open_one(store: str | None = "lab", *, url: str = database) -> PostgresBackend:
        backends.append(PostgresBackend(url, store, now_ns=lambda: NOW_NS))
        return backends[-1]

    yield open_one
    for backend in backends:
        backend.close()


@pytest.fixture
def backend(opened: Open) -> PostgresBackend:
    return opened()


@pytest.fixture
def ask(database: str) -> Iterator[Ask]:
    import psycopg

    with psycopg.connect(database, autocommit=True) as conn:

        def ask_one(query: str, *values: object) -> list[tuple[Any, ...]]:
            cursor = conn.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

        yield ask_one
