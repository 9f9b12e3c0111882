"""The schema and its versions: numbered SQL files, each applied once and in one transaction, in order.

A file that was released is never changed: its digest stands in the database, and one that differs is refused.
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import Any, Final, NamedTuple

import psycopg

from edge.store.backend import StoreUnusableError
from edge.store.postgres.partitions import LOCK, TABLES

MIN_SERVER: Final = 140_000
"""PostgreSQL 14: multiranges."""
_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_PARTITIONED: Final = re.compile(r"\) PARTITION BY RANGE \(\w+\);")

Conn = psycopg.Connection[Any]


class Migration(NamedTuple):
    """One file."""

    number: int
    name: str
    text: str

    @property
    def digest(self) -> str:
        """SHA-256 of its text, hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Return all of this program, in order."""
    folder = resources.files("edge.store.postgres") / "migrations"
    found = [
        Migration(int(match[1]), entry.name, entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if (match := _NAME.fullmatch(entry.name))
    ]
    return sorted(found)


def migrate(conn: Conn, wanted: list[Migration] | None = None) -> list[str]:
    """Bring the database up to date; return the names of what was applied. ``conn`` is in no transaction.

    Raises :class:`StoreUnusableError` for a server that is too old, or a schema that is not ours or newer than we are.
    """
    if conn.info.server_version < MIN_SERVER:
        raise StoreUnusableError(f"PostgreSQL {conn.info.server_version // 10_000} is too old: 14 or newer is needed")
    wanted = migrations() if wanted is None else wanted
    applied = []
    with conn.transaction():
        # Workers that start together wait for the first one.
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        done = _done(conn)
        known = {migration.number: migration for migration in wanted}
        if newer := sorted(done.keys() - known.keys()):
            raise StoreUnusableError(
                f"the database has migration {newer[-1]}, this program knows {max(known, default=0)}: update tipguard"
            )
        for migration in wanted:
            if migration.number not in done:
                _apply(conn, migration)
                applied.append(migration.name)
            elif done[migration.number] != migration.digest:
                raise StoreUnusableError(f"migration {migration.name} is not what was applied to this database")
    return applied


def _done(conn: Conn) -> dict[int, str]:
    row = conn.execute("SELECT to_regclass('store_migration'), to_regclass('frame_ledger')").fetchone()
    there, ledger = row if row is not None else (None, None)
    if there is None:
        if ledger is not None:
            raise StoreUnusableError("the database has a table frame_ledger that is not of this program")
        conn.execute(
            "CREATE TABLE store_migration (number integer PRIMARY KEY, name text NOT NULL, digest text NOT NULL, "
            "applied timestamptz NOT NULL DEFAULT now())"
        )
    return dict(conn.execute("SELECT number, digest FROM store_migration").fetchall())


def _apply(conn: Conn, migration: Migration) -> None:
    text = migration.text
    partitioned = _PARTITIONED.search(text) is not None
    timescale = partitioned and _timescale(conn)
    if timescale:
        text = _PARTITIONED.sub(");", text)
    # Without parameters psycopg sends the text as it is, with all its statements.
    conn.execute(text.encode())
    if timescale:
        for table, column in TABLES.items():
            if f"CREATE TABLE {table} (" not in migration.text:
                continue
            conn.execute(
                "SELECT create_hypertable(%s::regclass, %s::name, chunk_time_interval => interval '7 days', "
                "create_default_indexes => false)",
                (table, column),
            )
    conn.execute(
        "INSERT INTO store_migration (number, name, digest) VALUES (%s, %s, %s)",
        (migration.number, migration.name, migration.digest),
    )


def _timescale(conn: Conn) -> bool:
    """Return whether this database has the extension; it is used where it is, and never installed."""
    return conn.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'").fetchone() is not None
