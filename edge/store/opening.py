"""From what a person wrote after ``--to`` to the store it names. Drivers are imported here, and only when asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from edge.errors import ConfigError
from edge.store.backend import Backend, Key, StoreUnusableError
from edge.store.contiguity import Coverage
from edge.store.verify import Readable

DATABASE: Final = ("postgresql://", "postgres://")
EXTRA: Final = "`make setup` and deploy/install.sh install it"


def is_database(where: str) -> bool:
    """Return True for the address of a database, False for a directory."""
    return where.startswith(DATABASE)


def open_store(
    where: str, store: str | None, *, compact_every_s: float | None = None, join_bytes: int | None = None
) -> Backend:
    """Open the store at ``where`` for writing. ``store``: its name; None: the one it has.

    Of a directory: how old a segment gets, and what a joined Parquet file has at most; None: as usual. Raises
    :class:`StoreError` when it does not answer, :class:`StoreUnusableError` for what is none, or another's,
    :class:`BusyError` for a directory in use, :class:`ConfigError` when a package is missing.
    """
    with _packages():
        if is_database(where):
            from edge.store.postgres.backend import PostgresBackend

            return PostgresBackend(where, store)
        from edge.store.directory import COMPACT_EVERY_S, DirectoryStore
        from edge.store.joiner import JOIN_BYTES

        return DirectoryStore(
            _folder(where),
            store,
            compact_every_s=compact_every_s or COMPACT_EVERY_S,
            join_bytes=JOIN_BYTES if join_bytes is None else join_bytes,
        )


@contextlib.contextmanager
def open_readable(where: str) -> Iterator[tuple[Readable, Mapping[Key, Coverage]]]:
    """Open what is at ``where`` for reading, while a store may go on writing; also what it says it has.

    Raises as :func:`open_store` does.
    """
    with _packages():
        if is_database(where):
            from edge.store.postgres.backend import PostgresBackend

            backend = PostgresBackend(where, None)
            try:
                yield backend, backend.claimed()
            finally:
                backend.close()
            return
        from edge.store.catalogue import read_contents

        contents = read_contents(_folder(where))
        yield contents, contents.claimed()


def _folder(where: str) -> Path:
    if "://" in where:
        raise StoreUnusableError(f"{where.split(':', 1)[0]}://: expected a directory, or postgresql://...")
    return Path(where)


@contextlib.contextmanager
def _packages() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(f"the store needs the package {error.name}: {EXTRA}", key="--to") from error
