"""A directory store in DuckDB, up to the last commit: what is in Parquet, and what is still in the journal.

::

    from edge.store.query import open_tables

    db = open_tables("/srv/tipguard/store")
    print(db.sql("SELECT rig, count(*), max(t_utc) FROM samples GROUP BY rig"))

As of the moment of opening; open again for what came later.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge.store import tables
from edge.store.backend import StoreError
from edge.store.catalogue import Contents, read_contents

if TYPE_CHECKING:
    import duckdb

_RETRIES: Final = 5


def open_tables(folder: str | os.PathLike[str]) -> duckdb.DuckDBPyConnection:
    """Return a connection, in memory, with the views ``samples``, ``documents``, ``frontend`` and ``frames``.

    The store may go on meanwhile, and is not changed. Once it has joined files that a view reads, a query says that
    they are gone (duckdb.IOException), and is answered after opening again. Raises :class:`StoreUnusableError` where
    no store is, :class:`StoreError` for what cannot be read.
    """
    import duckdb

    why: duckdb.Error | None = None
    for _ in range(_RETRIES):
        contents = read_contents(Path(folder))
        connection = duckdb.connect()
        try:
            _create_views(connection, contents)
        except duckdb.IOException as error:
            # Joined since the folders were listed, or really gone.
            connection.close()
            why = error
            continue
        return connection
    raise StoreError(f"{folder}: {why}") from why


def _create_views(connection: duckdb.DuckDBPyConnection, contents: Contents) -> None:
    fresh = tables.by_place(contents.journal)
    for name in tables.TABLES:
        relation = connection.from_arrow(tables.with_place(fresh, name))
        if files := contents.files(name):
            relation.create_view(f"journal_{name}")
            stored = connection.read_parquet([str(file) for file in files], hive_partitioning=True)
            stored.create_view(f"parquet_{name}")
            query = f"FROM parquet_{name} UNION ALL BY NAME FROM journal_{name}"
            relation = connection.sql(query)
        relation.create_view(name)
