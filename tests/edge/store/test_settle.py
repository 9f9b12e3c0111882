"""Manifest and files that do not agree: after a crash, or after somebody's hands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge.store.directory import DirectoryStore
from edge.store.manifest import read_manifest
from tests.edge.store.made import key, many, received, verified

DAY_NS = 86_400 * 10**9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store of two compacted segments, samples of rig-1 and events of rig-2 in each."""
    store = DirectoryStore(tmp_path, "lab", compact_every_s=None)
    for begin in (0, 4):
        numbers = range(begin, begin + 4)
        store.commit(many("rig-1", "samples", numbers) + many("rig-2", "events", numbers), [])
        store.rotate()
        store.compact()
    store.close()
    return tmp_path


def reopened(folder: Path) -> DirectoryStore:
    return DirectoryStore(folder, "lab", compact_every_s=None)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))


@pytest.mark.parametrize("damage", ["lost", "torn", "garbage", "half"])
def test_a_manifest_is_made_again_from_the_files(folder: Path, damage: str) -> None:
    manifest = folder / "manifest"
    data = manifest.read_bytes()
    if damage == "lost":
        manifest.unlink()
    else:
        manifest.write_bytes({"torn": data[:-3], "garbage": b"x" * 500, "half": b"x" * (len(data) // 2) + data}[damage])
    before = names(folder)
    store = reopened(folder)
    assert store.recent_marks("rig-1")[key()].contiguous == 8
    assert store.recent_marks("rig-2")[key("rig-2", "events")].contiguous == 8
    store.close()
    entries, damaged = read_manifest(manifest)
    assert (sorted(entries), damaged) == ([1, 2], False)
    assert names(folder) == before
    assert verified(folder).good
    # And it stays so.
    reopened(folder).close()
    assert verified(folder).frames == 16


def test_the_next_segment_s_number_is_new_even_then(folder: Path) -> None:
    (folder / "manifest").unlink()
    store = reopened(folder)
    store.commit([received("rig-1", "samples", 8)], [])
    store.rotate()
    store.compact()
    store.close()
    assert sorted(read_manifest(folder / "manifest")[0]) == [1, 2, 3]
    assert verified(folder).frames == 17


def test_frames_whose_file_is_gone_no_longer_count_and_are_taken_again(folder: Path) -> None:
    (gone,) = folder.glob("frames/rig=rig-1/*/00000001.parquet")
    gone.unlink()
    with capture_logs() as logs:
        store = reopened(folder)
    assert any("no longer count" in line["event"] for line in logs)
    mark = store.recent_marks("rig-1")[key()]
    assert (mark.contiguous, mark.holes) == (0, ((0, 3),))
    assert store.recent_marks("rig-2")[key("rig-2", "events")].contiguous == 8
    # Samples without their frames would be there twice once these come again: they are set aside, not deleted.
    assert not list(folder.glob("samples/rig=rig-1/*/00000001.parquet"))
    assert any("samples" in path.name for path in (folder / "quarantine").iterdir())
    store.commit(many("rig-1", "samples", range(8)), [])
    store.rotate()
    store.compact()
    store.close()
    report = verified(folder)
    assert (report.good, report.frames) == (True, 16)


@pytest.mark.parametrize("table", ["samples", "documents"])
def test_a_table_that_is_gone_is_made_again(folder: Path, table: str) -> None:
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    shutil.rmtree(folder / table)
    reopened(folder).close()
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before


def test_a_file_that_cannot_be_read_is_set_aside_and_the_store_starts(folder: Path) -> None:
    (broken,) = folder.glob("frames/rig=rig-2/*/00000002.parquet")
    broken.write_bytes(b"PAR1 and no more")
    (folder / "manifest").unlink()
    with capture_logs() as logs:
        store = reopened(folder)
    assert any(line["log_level"] == "error" and "set aside" in line["event"] for line in logs)
    assert store.recent_marks("rig-2")[key("rig-2", "events")].contiguous == 4
    store.close()
    assert len(list((folder / "quarantine").glob("frames-rig=rig-2-*.parquet"))) == 1
    assert verified(folder).good


def test_verify_names_a_file_that_cannot_be_read(folder: Path) -> None:
    from edge.store.backend import StoreError

    (broken,) = folder.glob("frames/rig=rig-2/*/00000002.parquet")
    broken.write_bytes(b"PAR1 and no more")
    with pytest.raises(StoreError, match="rig=rig-2"):
        verified(folder)


def test_what_is_no_folder_and_has_the_name_of_a_date_keeps_nobody_from_starting(folder: Path) -> None:
    mine = folder / "samples" / "rig=rig-1" / "date=2023-11-14.tar.gz"
    mine.write_bytes(b"an archive of somebody's")
    (folder / "frames" / "rig=rig-1" / "date=2023-11-13").symlink_to(folder / "nowhere")
    (folder / "samples" / "mine.partial").mkdir()
    store = reopened(folder)
    assert store.recent_marks("rig-1")[key()].contiguous == 8
    store.close()
    assert mine.read_bytes() == b"an archive of somebody's"
    assert verified(folder).frames == 16


def test_a_whole_date_may_be_removed(tmp_path: Path) -> None:
    from edge.frames import UtcMapping

    store = DirectoryStore(tmp_path, "lab", compact_every_s=None)
    later = UtcMapping(1_700_000_000_000_000_000 + DAY_NS, valid=True, unc_ns=0)
    store.commit(many("rig-1", "samples", range(2)) + many("rig-1", "samples", range(2, 4), utc=later), [])
    store.rotate()
    store.compact()
    store.close()
    for table in ("frames", "samples"):
        shutil.rmtree(tmp_path / table / "rig=rig-1" / "date=2023-11-14")
    store = reopened(tmp_path)
    assert sorted(seq for _, seq, _ in store.raw_frames()) == [2, 3]
    store.close()
    assert verified(tmp_path).good
