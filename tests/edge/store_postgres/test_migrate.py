"""The schema's versions: from nothing, from half way, and what is refused."""

from __future__ import annotations

import psycopg
import pytest

from edge.store.backend import StoreUnusableError
from edge.store.postgres import migrate as module
from edge.store.postgres.migrate import Migration, migrate, migrations
from tests.edge.store_postgres.conftest import Ask, Open, problems
from tests.edge.store_postgres.made import samples


def test_the_files_are_numbered_without_a_gap() -> None:
    assert [migration.number for migration in migrations()] == list(range(1, len(migrations()) + 1))


def test_each_is_applied_once_and_in_order(database: str, ask: Ask) -> None:
    names = [migration.name for migration in migrations()]
    with psycopg.connect(database, autocommit=True) as conn:
        assert migrate(conn, migrations()[:2]) == names[:2]
        assert migrate(conn) == names[2:]
        assert migrate(conn) == []
    assert ask("SELECT name FROM store_migration ORDER BY number") == [(name,) for name in names]


def test_a_database_with_data_takes_a_later_migration(opened: Open, database: str, ask: Ask) -> None:
    backend = opened()
    backend.commit([samples(0)], [])
    later = Migration(len(migrations()) + 1, "9999_later.sql", "ALTER TABLE frames ADD COLUMN kelvin float8[];")
    with psycopg.connect(database, autocommit=True) as conn:
        assert migrate(conn, [*migrations(), later]) == ["9999_later.sql"]
    assert ask("SELECT kelvin, n FROM frames") == [(None, 4)]
    assert problems(backend) == []


def test_a_migration_that_fails_leaves_nothing_of_itself(database: str, ask: Ask) -> None:
    bad = Migration(2, "0002_bad.sql", "CREATE TABLE half (a int); SELECT 1/0;")
    with psycopg.connect(database, autocommit=True) as conn, pytest.raises(psycopg.errors.DivisionByZero):
        migrate(conn, [migrations()[0], bad])
    assert ask("SELECT to_regclass('half'), to_regclass('frame_ledger'), to_regclass('store_migration')") == [
        (None,) * 3
    ]


def test_a_newer_schema_is_refused(opened: Open, ask: Ask) -> None:
    opened()
    ask("INSERT INTO store_migration (number, name, digest) VALUES (99, '0099_new.sql', '')")
    known = len(migrations())
    with pytest.raises(StoreUnusableError, match=f"migration 99, this program knows {known}: update tipguard"):
        opened()


def test_a_changed_migration_is_refused(opened: Open, ask: Ask) -> None:
    opened()
    ask("UPDATE store_migration SET digest = 'other' WHERE number = 2")
    with pytest.raises(StoreUnusableError, match=r"0002_frames\.sql is not what was applied"):
        opened()


def test_somebody_elses_database_is_refused_and_left_alone(opened: Open, ask: Ask) -> None:
    ask("CREATE TABLE frame_ledger (mine int)")
    with pytest.raises(StoreUnusableError, match="not of this program"):
        opened()
    assert ask("SELECT to_regclass('store_migration')") == [(None,)]


def test_an_old_server_is_refused(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_SERVER", 999_999)
    with psycopg.connect(database) as conn, pytest.raises(StoreUnusableError, match="is too old"):
        migrate(conn)


def test_a_user_without_any_privilege_but_the_databases_is_enough(opened: Open, database: str, ask: Ask) -> None:
    """The store's role owns a database and is nothing else: no superuser, no monitor."""
    name = ask("SELECT current_database()")[0][0]
    role = f"plain_{name}"
    ask(f"CREATE ROLE {role} LOGIN")
    ask(f"ALTER DATABASE {name} OWNER TO {role}")
    ask(f"GRANT ALL ON SCHEMA public TO {role}")
    backend = opened(url=database.replace("tipguard@", f"{role}@"))
    backend.commit([samples(0)], [])
    assert problems(backend) == []


class _Recorder:
    """Stands in for a connection to a database with TimescaleDB: records what would be asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def execute(self, query: str | bytes, values: object = None) -> _Recorder:
        self.asked.append(query.decode() if isinstance(query, bytes) else query)
        return self

    def fetchone(self) -> tuple[int]:
        return (1,)


def test_with_timescaledb_the_tables_become_hypertables_instead() -> None:
    """What is sent, only: no such server is part of the tests."""
    conn = _Recorder()
    frames = next(migration for migration in migrations() if "PARTITION BY" in migration.text)
    module._apply(conn, frames)  # type: ignore[arg-type]
    sent = "\n".join(conn.asked)
    assert "PARTITION BY" not in sent.replace(frames.text, "")
    assert sent.count("create_hypertable") == 2
