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
from typing import TYPE_CHECKING

from edge.store import tables
from edge.store.catalogue import read_contents

if TYPE_CHECKING:
    import duckdb


def open_tables(folder: str | os.PathLike[str]) -> duckdb.DuckDBPyConnection:
    """Return a connection, in memory, with the views ``samples``, ``documents`` and ``frames``.

    The store may go on meanwhile, and is not changed. Raises :class:`StoreUnusableError` where none is,
    :class:`StoreError` for what cannot be read.
    """
    import duckdb

    contents = read_contents(Path(folder))
    fresh = tables.by_place(contents.journal)
    connection = duckdb.connect()
    for name in tables.TABLES:
        relation = connection.from_arrow(tables.with_place(fresh, name))
        if files := contents.files(name):
            relation.create_view(f"journal_{name}")
            stored = connection.read_parquet([str(file) for file in files], hive_partitioning=True)
            stored.create_view(f"parquet_{name}")
            query = f"FROM parquet_{name} UNION ALL BY NAME FROM journal_{name}"
            relation = connection.sql(query)
        relation.create_view(name)
    return connection
