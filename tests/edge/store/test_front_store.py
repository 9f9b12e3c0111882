"""Frames of the front end in a directory store: committed, compacted, asked for, verified, brought elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edge.frames import decode_frame, doc_frame, front_frame
from edge.front_block import FULL, MINMAX, FrontBlock
from edge.store.backend import Key, Received
from edge.store.catalogue import read_contents
from edge.store.directory import DirectoryStore
from edge.store.query import open_tables
from edge.store.verify import import_frames, verify
from tests.edge.store.made import EPOCH, LATER_S, UTC, key, many, verified

ROWS = 100
KEY = key(stream="frontend")


def front(seq: int, columns: tuple[str, ...] = FULL) -> Received:
    codes = np.full(ROWS * len(columns), seq, "<i2")
    block = FrontBlock(
        *(seq * ROWS, 7, seq * ROWS, seq * 1_000_000, 250, 1, 10_000.0, 4e-8, 0xB007), columns, codes.tobytes()
    )
    payload = front_frame("rig-1", EPOCH, seq, block, UTC)
    return Received("rig-1", EPOCH, "frontend", seq, payload, decode_frame(payload))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with a compacted segment of both streams and events, and a journal with more of them."""
    store = DirectoryStore(tmp_path, "lab", compact_every_s=None)
    for begin in (0, 4):
        numbers = range(begin, begin + 4)
        measured = [front(seq, FULL if seq < 6 else MINMAX) for seq in numbers]
        marks = store.commit([*measured, *many("rig-1", "samples", numbers), *many("rig-1", "events", numbers)], [])
        assert marks[KEY].contiguous == begin + 4
        if not begin:
            store.rotate()
            store.compact()
    store.close()
    return tmp_path


def test_all_of_it_is_there_once_and_readable(folder: Path) -> None:
    report = verified(folder)
    assert (report.good, report.frames) == (True, 24)
    assert report.streams[KEY].samples == 8 * ROWS
    assert [one["samples_missing"] for one in report.to_map()["streams"]] == [0, 0, 0]


def test_it_can_be_asked_for_beside_the_instrument_s_samples(folder: Path) -> None:
    db = open_tables(folder)
    assert db.sql("SELECT count(*), sum(n) FROM frontend").fetchall() == [(8, 8 * ROWS)]
    query = """SELECT seq, t_ns + (generate_subscripts(code, 1) - 1) * period_ns AS t_ns,
                      unnest(code) * code_a AS current_a
               FROM frontend WHERE seq = 2 ORDER BY t_ns LIMIT 2"""
    assert db.sql(query).fetchall() == [(2, 2_000_000.0, 8e-8), (2, 2_010_000.0, 8e-8)]
    (lows,) = db.sql("SELECT code_min FROM frontend WHERE seq = 7").fetchall()[0]
    assert (len(lows), lows[0]) == (ROWS, 7)
    assert db.sql("SELECT count(*) FROM samples").fetchall()[0][0] > 0
    assert db.sql("SELECT count(DISTINCT doc_kind) FROM documents").fetchall() == [(1,)]


def test_a_table_that_is_gone_is_made_again(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in (folder / "frontend").rglob("*.parquet")}
    assert before
    shutil.rmtree(folder / "frontend")
    DirectoryStore(folder, "lab", compact_every_s=None).close()
    after = {path.name: path.read_bytes() for path in (folder / "frontend").rglob("*.parquet")}
    assert {name: after[name] for name in before} == before
    assert verified(folder).good


def test_its_files_are_joined_like_the_others(folder: Path) -> None:
    query = "SELECT * FROM frontend ORDER BY seq"
    with open_tables(folder) as db:
        before = db.sql(query).fetchall()
    store = DirectoryStore(folder, "lab", compact_every_s=None, utc_s=lambda: LATER_S)
    store.rotate()
    store.compact()
    store.compact()
    assert store.join() == 4
    store.close()
    assert len(list(folder.glob("frontend/*/*/*.parquet"))) == 1
    with open_tables(folder) as db:
        assert db.sql(query).fetchall() == before
    assert verified(folder).good


def test_it_is_brought_into_another_store_byte_by_byte(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = DirectoryStore(tmp_path_factory.mktemp("other"), "lab2", compact_every_s=None)
    done = import_frames(read_contents(folder), other)
    assert (done.read, done.unreadable) == (24, 0)
    theirs = {(key, seq): payload for key, seq, payload in other.raw_frames() if key.stream == "frontend"}
    assert theirs == {
        (Key("rig-1", EPOCH, "frontend"), seq): front(seq, FULL if seq < 6 else MINMAX).payload for seq in range(8)
    }
    other.close()


def test_rows_that_are_missing_are_told_unless_somebody_declared_them() -> None:
    class Listed:
        def __init__(self, *frames: tuple[Key, int, bytes]) -> None:
            self.frames = frames

        def raw_frames(self):  # type: ignore[no-untyped-def]  # noqa: ANN202 - an iterator of what was given
            yield from self.frames

    def one(seq: int) -> tuple[Key, int, bytes]:
        return KEY, seq, front(seq).payload

    def missing(*frames: tuple[Key, int, bytes]) -> int:
        found = verify(Listed(*frames), {}).to_map()["streams"]
        return int(next(stream["samples_missing"] for stream in found if stream["stream"] == "frontend"))

    assert missing(one(0), one(3)) == 2 * ROWS
    lost = {"stream": "frontend", "from": ROWS, "to": 3 * ROWS - 1, "cause": "ring full"}
    tombstone = (key(stream="tombstones"), 0, doc_frame("tombstone", "rig-1", EPOCH, 0, lost, UTC))
    assert missing(one(0), one(3), tombstone) == 0
