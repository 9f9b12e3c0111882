"""Stores with many small Parquet files of dates that are long over, and what different readers make of them."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from edge.store.backend import Received
from edge.store.directory import DirectoryStore
from edge.store.disk import Disk
from edge.store.query import open_tables
from tests.edge.store.made import LATER_S, ROWS, many, verified

DATE = "date=2023-11-14"
DATE_S = datetime(2023, 11, 14, 12, tzinfo=UTC).timestamp()
SEGMENTS = 4
EACH = 3
SAMPLES = many("rig-1", "samples", range(SEGMENTS * EACH))
EVENTS = many("rig-2", "events", range(SEGMENTS * EACH))


def opened(folder: Path, *, disk: Disk | None = None, **how: Any) -> DirectoryStore:  # noqa: ANN401 - passed on
    return DirectoryStore(folder, "lab", disk=disk, compact_every_s=None, **{"utc_s": lambda: LATER_S, **how})


def fill(store: DirectoryStore, frames: list[Received]) -> None:
    """Commit ``frames`` and make Parquet of them: a file for each rig and table."""
    store.commit(frames, [])
    store.rotate()
    store.compact()


def filled(folder: Path, segments: int = SEGMENTS) -> Path:
    """Return a store of so many segments, samples of rig-1 and events of rig-2 in each, nothing in the journal."""
    store = opened(folder)
    for at in range(0, segments * EACH, EACH):
        numbers = range(at, at + EACH)
        fill(store, many("rig-1", "samples", numbers) + many("rig-2", "events", numbers))
    store.close()
    return folder


def names(folder: Path, table: str = "*", rig: str = "*") -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob(f"{table}/rig={rig}/*/*.parquet"))


def globbed(folder: Path, table: str = "samples") -> Counter[tuple[Any, ...]]:
    """Return the rows' identities as the page's own query finds them, by listing the folders."""
    column = "index" if table == "samples" else "stream"
    query = (
        f"SELECT rig, epoch, seq, {column} FROM read_parquet('{folder}/{table}/**/*.parquet', hive_partitioning=true)"  # noqa: S608 - a test's own folder
    )
    return Counter(duckdb.execute(query).fetchall())


def viewed(folder: Path) -> Counter[tuple[Any, ...]]:
    """Return the same of samples, by the view that has the journal, too."""
    with open_tables(folder) as db:
        return Counter(db.sql("SELECT rig, epoch, seq, index FROM samples").fetchall())


def is_whole(folder: Path, frames: int = SEGMENTS * EACH) -> bool:
    """Return True when every way to read finds every frame once; all of them are in Parquet."""
    report = verified(folder)
    samples, events = globbed(folder), globbed(folder, "documents")
    return (
        (report.good, report.frames) == (True, 2 * frames)
        and viewed(folder) == samples
        and (len(samples), len(events)) == (frames * ROWS, frames)
        and set(samples.values()) | set(events.values()) == {1}
    )


def join(folder: Path) -> int:
    store = opened(folder)
    done = store.join()
    store.close()
    return done


def rows(folder: Path, table: str) -> list[dict[str, object]]:
    with open_tables(folder) as db:
        return list(db.sql(f"FROM {table}").to_arrow_table().to_pylist())


def verified_after_start(folder: Path) -> int:
    opened(folder).close()
    report = verified(folder)
    assert report.good
    assert set(globbed(folder).values()) == {1}
    return report.frames
