"""A month of small Parquet files, read before and after they are joined; and how long commits take meanwhile.

    python -m tests.edge.store.measure_joining make DIR      # 3000 segments of 1000 samples, over 30 dates
    python -m tests.edge.store.measure_joining read DIR      # copies DIR, and joins the copy

One line of JSON. Times are the median of five, files in the page cache.
"""

from __future__ import annotations

import json
import logging
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import structlog

from edge.frames import UtcMapping
from edge.store.directory import DirectoryStore
from edge.store.query import open_tables
from tests.edge.store.joinable import fill, opened
from tests.edge.store.made import LATER_S, UTC, many, received, verified

SEGMENTS, DATES, FRAMES, ROWS = 3000, 30, 10, 100
DAY_NS = 86_400 * 10**9
COMMITS = 400
QUERY = """SELECT rig, date, count(*) AS samples, min(bias_v) AS lowest_v, max(abs(current_a)) AS largest_a
FROM read_parquet('{}/samples/**/*.parquet', hive_partitioning = true) GROUP BY rig, date ORDER BY rig, date"""


def make(folder: Path) -> None:
    store = opened(folder)
    for segment in range(SEGMENTS):
        date = segment // (SEGMENTS // DATES)
        utc = UtcMapping(UTC.offset_ns - segment * FRAMES * 10**9 + date * DAY_NS, valid=True, unc_ns=1_000)
        numbers = range(segment * FRAMES, (segment + 1) * FRAMES)
        fill(store, many("rig-1", "samples", numbers, utc=utc, rows=ROWS))
    store.close()


def median_s(work: Callable[[], object]) -> float:
    took = []
    for _ in range(5):
        began_s = time.perf_counter()
        work()
        took.append(time.perf_counter() - began_s)
    return round(statistics.median(took), 4)


def readings(folder: Path) -> dict[str, float]:
    def view() -> None:
        with open_tables(folder) as db:
            db.sql("SELECT rig, date, count(*) FROM samples GROUP BY ALL").fetchall()

    assert verified(folder).frames == SEGMENTS * FRAMES
    return {
        "files": len(list(folder.glob("samples/*/*/*.parquet"))),
        "bytes": sum(path.stat().st_size for path in folder.glob("*/*/*/*.parquet")),
        "query_s": median_s(lambda: duckdb.execute(QUERY.format(folder)).fetchall()),
        "view_s": median_s(view),
        "verify_s": median_s(lambda: verified(folder)),
        "start_s": median_s(lambda: opened(folder).close()),
    }


def commits_s(folder: Path, join_bytes: int) -> dict[str, float]:
    """Return how long commits of ten frames take, 20 a second, while the store's own thread joins, or does not."""
    store = DirectoryStore(folder, "lab", compact_every_s=3600, join_bytes=join_bytes, utc_s=lambda: LATER_S)
    took = []
    for at in range(COMMITS):
        frames = [received("rig-2", "samples", 10 * at + one, rows=ROWS) for one in range(10)]
        began_s = time.perf_counter()
        store.commit(frames, [])
        took.append(time.perf_counter() - began_s)
        # A pace, and no wait for anything.
        time.sleep(max(0.0, 0.05 - took[-1]))
    joined = len(list(folder.glob("samples/rig=rig-1/*/*-*.parquet")))
    store.close()
    took.sort()
    return {
        "p50_s": round(took[COMMITS // 2], 5),
        "p99_s": round(took[COMMITS * 99 // 100], 5),
        "max_s": round(took[-1], 5),
        "dates_joined": joined,
    }


def read(made: Path) -> dict[str, object]:
    with tempfile.TemporaryDirectory(dir=made.parent) as place:
        folder = Path(place)
        for name in ("idle", "beside", "joined"):
            shutil.copytree(made, folder / name)
        found: dict[str, object] = {"small": readings(folder / "joined")}
        store = opened(folder / "joined")
        began_s, cpu_s = time.perf_counter(), time.process_time()
        joins = store.join()
        found["join"] = {
            "joins": joins,
            "took_s": round(time.perf_counter() - began_s, 2),
            "cpu_s": round(time.process_time() - cpu_s, 2),
        }
        store.close()
        found["joined"] = readings(folder / "joined")
        found["commit_idle"] = commits_s(folder / "idle", 0)
        found["commit_beside_a_join"] = commits_s(folder / "beside", 128 << 20)
    return found


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        print(json.dumps(read(Path(sys.argv[2]))))
