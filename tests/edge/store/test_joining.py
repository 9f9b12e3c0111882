"""Which Parquet files are joined, when, and what a joined file is."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from structlog.testing import capture_logs

from edge.store import joined, joiner
from edge.store.catalogue import JOINING, VERSION, read_identity
from edge.store.compactor import Compactor, Periodic
from edge.store.directory import DirectoryStore
from edge.store.disk import CANNOT_EXCHANGE, RealDisk
from edge.store.joined import Stored, Stretch, read_stretches
from edge.store.joiner import QUIET_S, ROOM_BYTES, Joiner
from tests.edge.store.joinable import (
    DATE,
    DATE_S,
    EACH,
    SEGMENTS,
    fill,
    filled,
    globbed,
    is_whole,
    join,
    names,
    opened,
    rows,
    verified_after_start,
    viewed,
)
from tests.edge.store.made import LATER_S, ROWS, key, many, received, verified


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four segments, samples of rig-1 and events of rig-2 in each."""
    return filled(tmp_path / "store")


# ---------------------------------------------------------------------------------------------------- what it makes


def test_a_date_that_is_over_becomes_one_file_of_each_table(folder: Path) -> None:
    before = {table: rows(folder, table) for table in ("samples", "documents", "frames")}
    manifest = (folder / "manifest").read_bytes()
    assert join(folder) == 4
    assert names(folder) == [
        f"{place}/{DATE}/00000001-00000004.parquet"
        for place in ("documents/rig=rig-2", "frames/rig=rig-1", "frames/rig=rig-2", "samples/rig=rig-1")
    ]
    assert is_whole(folder)
    for table, listed in before.items():
        assert sorted(rows(folder, table), key=str) == sorted(listed, key=str)
    assert (folder / "manifest").read_bytes() == manifest
    assert not (folder / JOINING).exists()
    assert join(folder) == 0


def test_marks_and_repetitions_are_as_before(folder: Path) -> None:
    store = opened(folder, utc_s=time.time)
    before = store.recent_marks("rig-1"), store.recent_marks("rig-2")
    assert [marks[owner].contiguous for marks, owner in zip(before, (key(), key("rig-2", "events")), strict=True)] == [
        *(SEGMENTS * EACH, SEGMENTS * EACH)
    ]
    store.close()
    join(folder)
    store = opened(folder, utc_s=time.time)
    assert (store.recent_marks("rig-1"), store.recent_marks("rig-2")) == before
    store.commit(many("rig-1", "samples", range(SEGMENTS * EACH)), [])
    assert not store.rotate()
    store.close()


def test_a_joined_file_says_what_it_is_of_and_is_written_like_the_others(folder: Path) -> None:
    (part, *_) = sorted(folder.glob("samples/rig=rig-1/*/*.parquet"))
    with parquet.ParquetFile(part) as file:
        schema, encodings = file.schema_arrow, [file.metadata.row_group(0).column(at).encodings for at in range(13)]
    join(folder)
    (path,) = folder.glob("samples/rig=rig-1/*/*.parquet")
    assert read_stretches(Stored(path, 1, 4)) == [Stretch(number, EACH * ROWS) for number in range(1, 5)]
    with parquet.ParquetFile(path) as file:
        assert file.schema_arrow.remove_metadata() == schema.remove_metadata()
        assert [file.metadata.row_group(0).column(at).encodings for at in range(13)] == encodings
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"
        assert file.metadata.num_row_groups == 1
        assert file.read(["index"]).column(0).to_pylist() == list(range(SEGMENTS * EACH * ROWS))


def test_a_folder_keeps_its_rights_and_a_file_its_time(folder: Path) -> None:
    place = folder / "samples" / "rig=rig-1" / DATE
    place.chmod(0o2770)
    newest_s = max(path.stat().st_mtime for path in place.iterdir())
    join(folder)
    assert place.stat().st_mode & 0o7777 == 0o2770
    (path,) = place.iterdir()
    assert path.stat().st_mtime == pytest.approx(newest_s, abs=1e-3)


# ------------------------------------------------------------------------------------------------ what it leaves so


def test_a_date_that_is_not_over_or_not_quiet_waits(folder: Path) -> None:
    newest_s = max(path.stat().st_mtime for path in folder.glob("*/*/*/*.parquet"))
    times = {"utc": DATE_S}
    store = opened(folder, utc_s=lambda: times["utc"])
    assert store.join() == 0
    times["utc"] = newest_s + QUIET_S - 60
    assert store.join() == 0
    times["utc"] = newest_s + QUIET_S
    assert store.join() == 4
    store.close()


def test_so_many_of_a_date_that_is_not_over_are_joined_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joiner, "MANY_FILES", SEGMENTS)
    store = opened(folder, utc_s=lambda: DATE_S)
    assert store.join() == 4
    # Those are not taken up again and again while it lasts.
    for seq in range(20, 20 + SEGMENTS - 1):
        fill(store, [received("rig-1", "samples", seq)])
    assert store.join() == 0
    fill(store, [received("rig-1", "samples", 30)])
    assert store.join() == 2
    assert names(folder, "samples") == [
        f"samples/rig=rig-1/{DATE}/00000001-00000004.parquet",
        f"samples/rig=rig-1/{DATE}/00000005-00000008.parquet",
    ]
    store.close()
    # When it is over, all become one.
    assert join(folder) == 2
    assert names(folder, "samples") == [f"samples/rig=rig-1/{DATE}/00000001-00000008.parquet"]
    assert verified(folder).good


def test_a_straggler_alone_is_not_worth_a_day_and_several_are(folder: Path) -> None:
    join(folder)
    store = opened(folder)
    for seq in range(20, 20 + joiner._WORTH_FILES - 2):
        fill(store, [received("rig-2", "events", seq)])
    # Files of this size are all footer: let the day be one.
    for path in folder.glob("*/rig=rig-2/*/*-*.parquet"):
        with path.open("ab") as file:
            file.write(bytes(1_000_000))
    assert store.join() == 0
    fill(store, [received("rig-2", "events", 40)])
    for path in folder.glob("*/rig=rig-2/*/*-*.parquet"):
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 1_000_000)
    assert store.join() == 2
    assert len(names(folder, rig="rig-2")) == 2
    store.close()
    assert verified(folder).good


def test_a_joined_file_has_so_many_bytes_at_most(folder: Path) -> None:
    size = max(path.stat().st_size for path in folder.glob("*/*/*/*.parquet"))
    store = opened(folder, join_bytes=2 * size)
    assert store.join() > 0
    for path in folder.glob("*/*/*/*.parquet"):
        assert path.stat().st_size <= 2 * size
    assert 4 < len(names(folder)) < 16
    store.close()
    assert is_whole(folder)


def test_nothing_is_joined_where_that_is_not_wanted(folder: Path) -> None:
    store = opened(folder, join_bytes=0)
    assert store.join() == 0
    fill(store, [received("rig-1", "samples", 40)])
    assert store.join() == 0
    store.close()


def test_nothing_is_joined_where_room_is_short(folder: Path) -> None:
    class Short(RealDisk):
        left = ROOM_BYTES

        def free_bytes(self, path: Path) -> int:
            return self.left

    disk = Short()
    store = opened(folder, disk=disk)
    assert store.join() == 0
    disk.left += 1 << 20
    assert store.join() == 4
    store.close()


def test_a_file_system_that_cannot_exchange_keeps_its_files_and_it_is_said_once(folder: Path) -> None:
    class Share(RealDisk):
        asked = 0

        def exchange(self, path: Path, other: Path) -> None:
            self.asked += 1
            raise OSError(22, "Invalid argument")

    disk = Share()
    store = opened(folder, disk=disk)
    with capture_logs() as logs:
        assert (store.join(), store.join()) == (0, 0)
    assert [line["event"] for line in logs if "cannot exchange" in line["event"]] == [logs[0]["event"]]
    fill(store, [received("rig-1", "samples", 40)])
    assert store.join() == 0
    assert disk.asked == 1
    assert not (folder / JOINING).exists()
    store.close()
    assert len(names(folder)) == 18


def test_the_kernel_s_refusal_is_one_of_those(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(FileNotFoundError):
        RealDisk().exchange(tmp_path / "a", tmp_path / "b")
    with pytest.raises(OSError, match=r".") as raised:
        RealDisk().exchange(Path("/proc/self/fd"), Path("/proc/self/fdinfo"))
    assert raised.value.errno in CANNOT_EXCHANGE


def test_what_somebody_put_there_stays(folder: Path) -> None:
    place = folder / "samples" / "rig=rig-1" / DATE
    (place / "note.txt").write_text("looks odd", encoding="utf-8")
    (folder / "documents" / "rig=rig-2" / DATE / "mine").mkdir()
    moved = folder.parent / "elsewhere"
    (folder / "frames" / "rig=rig-2" / DATE).rename(moved)
    (folder / "frames" / "rig=rig-2" / DATE).symlink_to(moved)
    assert join(folder) == 2
    assert (place / "note.txt").read_text(encoding="utf-8") == "looks odd"
    assert len(names(folder, "documents")) == len(list(moved.iterdir())) == SEGMENTS


def test_a_file_that_cannot_be_read_stays_and_it_is_said_once(folder: Path) -> None:
    (broken,) = folder.glob("samples/*/*/00000002.parquet")
    store = opened(folder)
    data = broken.read_bytes()
    broken.write_bytes(data[:50] + bytes(20) + data[70:-9] + b"no more")
    with capture_logs() as logs:
        assert (store.join(), store.join()) == (3, 0)
    assert [line["log_level"] for line in logs].count("error") == 1
    store.close()
    assert len(names(folder, "samples")) == SEGMENTS


def _without_phase(path: Path) -> None:
    with parquet.ParquetFile(path) as file:
        table = file.read()
    parquet.write_table(table.drop_columns(["phase"]), path)


def test_files_of_other_columns_are_not_mixed(folder: Path) -> None:
    for path in sorted(folder.glob("samples/*/*/*.parquet"))[:2]:
        _without_phase(path)
    assert join(folder) == 5
    assert names(folder, "samples") == [
        f"samples/rig=rig-1/{DATE}/00000001-00000002.parquet",
        f"samples/rig=rig-1/{DATE}/00000003-00000004.parquet",
    ]
    assert join(folder) == 0


def test_one_file_of_other_columns_is_in_nobody_s_way(folder: Path) -> None:
    _without_phase(min(folder.glob("samples/*/*/*.parquet")))
    assert join(folder) == 4
    assert names(folder, "samples") == [
        f"samples/rig=rig-1/{DATE}/00000001.parquet",
        f"samples/rig=rig-1/{DATE}/00000002-00000004.parquet",
    ]


def _with_a_late_segment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> DirectoryStore:
    """A store whose third segment could not be made Parquet, and two more could."""
    store = opened(folder)
    compact = Compactor._compact

    def fails(self: Compactor, number: int, path: Path) -> None:
        if number == SEGMENTS + 1:
            raise OSError(28, "No space left on device")
        compact(self, number, path)

    with monkeypatch.context() as patch:
        patch.setattr(Compactor, "_compact", fails)
        for at in range(3):
            first = (SEGMENTS + at) * EACH
            fill(store, many("rig-1", "samples", range(first, first + EACH)))
    return store


def test_a_joined_file_does_not_span_what_is_still_in_the_journal(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _with_a_late_segment(folder, monkeypatch)
    store.join()
    assert [name.rpartition("/")[2] for name in names(folder, "samples")] == [
        "00000001-00000004.parquet",
        "00000006-00000007.parquet",
    ]
    assert len(viewed(folder)) == 7 * EACH * ROWS
    assert store.compact() == 1
    store.join()
    store.close()
    assert set(globbed(folder).values()) == {1}
    report = verified(folder)
    assert (report.good, report.frames) == (True, (7 + SEGMENTS) * EACH)


def test_a_segment_whose_journal_could_not_be_removed_is_made_again_and_not_joined_before(folder: Path) -> None:
    class Sticky(RealDisk):
        sticks = True

        def remove(self, path: Path) -> None:
            if self.sticks and path.suffix == ".journal":
                raise OSError(5, "Input/output error")
            super().remove(path)

    disk = Sticky()
    store = opened(folder, disk=disk)
    fill(store, many("rig-1", "samples", range(SEGMENTS * EACH, (SEGMENTS + 1) * EACH)))
    assert store.join() == 4
    assert f"samples/rig=rig-1/{DATE}/00000005.parquet" in names(folder)
    disk.sticks = False
    assert store.compact() == 1
    store.close()
    assert set(globbed(folder).values()) == {1}
    assert verified(folder).good


def test_one_that_did_would_lose_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = _with_a_late_segment(folder, monkeypatch)
    monkeypatch.setattr(Joiner, "_follows", lambda self, one, following, gaps, counted: True)
    store.join()
    assert store.compact() == 1
    store.close()
    assert not verified(folder).good


def test_a_joined_file_does_not_span_what_is_gone(folder: Path) -> None:
    store = opened(folder)
    for table in ("samples", "frames"):
        (path,) = folder.glob(f"{table}/rig=rig-1/*/00000002.parquet")
        path.unlink()
    store.join()
    store.close()
    assert [name.rpartition("/")[2] for name in names(folder, "samples")] == [
        "00000001.parquet",
        "00000003-00000004.parquet",
    ]
    assert verified_after_start(folder) == 2 * SEGMENTS * EACH - EACH


def test_nor_what_nobody_counts_any_more_which_may_be_put_back(folder: Path, tmp_path: Path) -> None:
    backup = shutil.copytree(folder, tmp_path / "backup")
    gone = [path.relative_to(folder) for path in folder.glob("frames/*/*/00000002.parquet")]
    for path in gone:
        (folder / path).unlink()
    join(folder)
    assert sorted({name.rpartition("/")[2] for name in names(folder)}) == [
        "00000001.parquet",
        "00000003-00000004.parquet",
    ]
    for path in gone:
        shutil.copy(backup / path, folder / path)
    assert verified_after_start(folder) == 2 * SEGMENTS * EACH
    assert is_whole(folder)
    # Now that it counts, all are joined.
    assert join(folder) == 4
    assert len(names(folder)) == 4


# ------------------------------------------------------------------------------------- time, memory, the service


def test_it_rests_and_ends_when_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined.join, "__kwdefaults__", {"group_bytes": 1})
    rests: list[float] = []
    times = count()
    store = opened(folder, now_s=lambda: float(next(times)))

    def rest(seconds: float) -> bool:
        rests.append(seconds)
        return len(rests) < 3

    store._joiner._rest = rest
    before = names(folder)
    assert store.join() == 0
    # Three seconds for each second of work.
    assert rests == [3.0, 3.0, 3.0]
    assert names(folder) == before
    assert not (folder / JOINING).exists()
    store._joiner._rest = lambda seconds: True
    assert store.join() == 4
    store.close()
    assert is_whole(folder)


def test_a_rest_ends_with_the_thread() -> None:
    resting = threading.Event()
    said: list[bool] = []

    def work() -> None:
        resting.set()
        said.append(periodic.rest(3600))

    periodic = Periodic(3600, work)
    periodic.wake()
    assert resting.wait(20)
    assert periodic.end()
    assert said == [False]


def test_the_store_does_it_by_itself(folder: Path) -> None:
    class Told(RealDisk):
        exchanged = threading.Semaphore(0)

        def exchange(self, path: Path, other: Path) -> None:
            super().exchange(path, other)
            self.exchanged.release()

    disk = Told()
    store = DirectoryStore(folder, "lab", disk=disk, compact_every_s=3600, utc_s=lambda: LATER_S)
    assert all(disk.exchanged.acquire(timeout=20) for _ in range(4))
    store.close()
    assert len(names(folder)) == 4
    assert is_whole(folder)


def test_what_the_journal_has_collected_comes_before_the_next(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[str] = []
    compact, join_one = Compactor.compact, Joiner.join_one

    def compacted(self: Compactor, number: int, path: Path) -> bool:
        did.append("compacted")
        return compact(self, number, path)

    def joined_one(self: Joiner, journal: set[int]) -> bool:
        did.append("joined")
        return join_one(self, journal)

    monkeypatch.setattr(Compactor, "compact", compacted)
    monkeypatch.setattr(Joiner, "join_one", joined_one)
    store = opened(folder)
    for seq in (40, 41):
        store.commit([received("rig-1", "samples", seq)], [])
        store.rotate()
        store._look_after()
    store.close()
    assert did == ["compacted", "joined"] * 2


@pytest.fixture
def pool() -> Iterator[pa.MemoryPool]:
    """Arrow's memory, counted from here on."""
    usual = pa.default_memory_pool()
    counting = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(counting)
    yield counting
    pa.set_memory_pool(usual)


def test_memory_is_that_of_a_row_group_and_not_of_a_day(
    tmp_path: Path, pool: pa.MemoryPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    group_bytes, segments, rows_each = 1 << 20, 24, 16_000
    times = count()
    store = opened(tmp_path, now_s=lambda: float(next(times)))
    for at in range(segments):
        fill(store, many("rig-1", "samples", range(4 * at, 4 * at + 4), rows=rows_each // 4))
    with parquet.ParquetFile(next(tmp_path.glob("samples/*/*/*.parquet"))) as file:
        day_bytes = segments * file.read().nbytes
    monkeypatch.setattr(joined.join, "__kwdefaults__", {"group_bytes": group_bytes})
    monkeypatch.setattr(joined, "_BATCH_BYTES", group_bytes // 4)
    held = pool.bytes_allocated()
    rests: list[float] = []

    def rest(seconds: float) -> bool:
        rests.append(seconds)
        return True

    store._joiner._rest = rest
    assert store.join() == 2
    store.close()
    assert day_bytes > 30 * group_bytes
    assert len(rests) > 20
    assert pool.max_memory() - held < 8 * group_bytes
    assert len(viewed(tmp_path)) == segments * rows_each


def test_a_layout_of_before_goes_on_and_one_of_after_is_refused(folder: Path) -> None:
    path = folder / "store.json"
    path.write_text(path.read_text(encoding="utf-8").replace(f'"v": {VERSION}', '"v": 1'), encoding="utf-8")
    before = read_identity(folder)
    assert before is not None
    assert before.version == 1
    store = opened(folder)
    assert store.generation == before.generation
    store.close()
    after = read_identity(folder)
    assert after is not None
    assert (after.version, after.stamp) == (VERSION, before.stamp)
