"""A connection as the store needs it: durable commits, bounded waits, the schema in place, and whose database it is."""

from __future__ import annotations

import secrets
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from edge.store.backend import StoreError, StoreUnusableError
from edge.store.postgres.migrate import migrate
from edge.store.postgres.partitions import LOCK

STATEMENT_S: Final = 60
"""A statement that takes longer is broken off: the service tries again, and nothing was acknowledged."""
_DEFAULTS: Final[dict[str, str]] = {
    "application_name": "tipguard store",
    "connect_timeout": "10",
    # A database that went away without a word: after 25 s the commit fails.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}
_INCARNATION: Final = """
SELECT concat_ws(' ', (SELECT system_identifier FROM pg_control_system()),
                 left(pg_walfile_name(pg_current_wal_lsn()), 8),
                 (SELECT oid FROM pg_database WHERE datname = current_database()), 'frame_ledger'::regclass::oid)
"""
"""Differs after a restored dump (other tables), on another server, and after a promoted standby or a recovery to a
point in time (another timeline)."""

Conn = psycopg.Connection[Any]


def connect(url: str) -> Conn:
    """Return a connection in autocommit mode. Raises :class:`StoreError`, :class:`StoreUnusableError` for a bad URL."""
    try:
        wanted = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.ProgrammingError as error:
        raise StoreUnusableError(f"not a PostgreSQL address: {error}") from error
    conn = None
    try:
        conn = psycopg.connect(make_conninfo(**(_DEFAULTS | wanted)), autocommit=True)
        conn.execute(f"SET statement_timeout = '{STATEMENT_S}s'")
        conn.execute(f"SET idle_in_transaction_session_timeout = '{STATEMENT_S}s'")
        conn.execute("SET default_transaction_isolation = 'read committed'")
        conn.execute("SET timezone = 'UTC'")
        if _setting(conn, "synchronous_commit") == "off":
            # Then a commit that was answered could still be lost, and the rig would have deleted its frames.
            conn.execute("SET synchronous_commit = on")
    except psycopg.Error as error:
        if conn is not None:
            conn.close()
        raise StoreError(f"database: {str(error).strip()}") from error
    return conn


def open_store(url: str, store: str | None) -> tuple[Conn, str, str]:
    """Connect, bring the schema up to date; return the connection, the store's name and its generation.

    ``store``: the name it must have, and gets if it is new; None: whatever it has. Raises :class:`StoreError`, and
    :class:`StoreUnusableError` when the database is not ours, or another store's.
    """
    conn = connect(url)
    try:
        migrate(conn)
        return conn, *_identify(conn, store)
    except psycopg.Error as error:
        conn.close()
        raise StoreError(f"database: {str(error).strip()}") from error
    except StoreUnusableError:
        conn.close()
        raise


def _identify(conn: Conn, store: str | None) -> tuple[str, str]:
    with conn.transaction():
        # The first worker draws; the others, which wait here, find what it drew.
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        incarnation = str(_value(conn, _INCARNATION))
        row = conn.execute("SELECT store, generation, incarnation FROM store_identity").fetchone()
        if row is None:
            if store is None:
                raise StoreUnusableError("the database holds no store yet; give it a name")
            generation = secrets.token_hex(8)
            conn.execute(
                "INSERT INTO store_identity (store, generation, incarnation) VALUES (%s, %s, %s)",
                (store, generation, incarnation),
            )
            return store, generation
        name, generation, was = row
        if store not in {None, name}:
            raise StoreUnusableError(f"the database holds the store {name!r}, not {store!r}")
        if was != incarnation:
            generation = secrets.token_hex(8)
            conn.execute(
                "UPDATE store_identity SET generation = %s, incarnation = %s, drawn = now()", (generation, incarnation)
            )
        return name, generation


def renew(conn: Conn) -> str:
    """Draw a generation and return it."""
    generation = secrets.token_hex(8)
    conn.execute("UPDATE store_identity SET generation = %s, drawn = now()", (generation,))
    return generation


def notes(conn: Conn) -> tuple[str, ...]:
    """Return what an operator should know of the server's settings: each a sentence; none when all is well."""
    return tuple(
        f"{name} is off in this PostgreSQL server: a power cut may lose what was acknowledged, or the whole database"
        for name in ("fsync", "full_page_writes")
        if _setting(conn, name) == "off"
    )


def _setting(conn: Conn, name: str) -> str:
    return str(_value(conn, "SELECT current_setting(%s)", (name,)))


def _value(conn: Conn, query: Any, values: tuple[Any, ...] = ()) -> Any:  # noqa: ANN401 - whatever the database has
    row = conn.execute(query, values).fetchone()
    return None if row is None else row[0]
