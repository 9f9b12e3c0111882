"""Joined files after somebody's hands, or a loss; and what their names and footers say."""

from __future__ import annotations

import errno
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from structlog.testing import capture_logs

from edge.store import joined
from edge.store.catalogue import JOINING
from edge.store.disk import RealDisk
from edge.store.joined import Stored, Stretch, holders, outermost, read_stretches
from edge.store.manifest import read_manifest
from edge.store.query import open_tables
from tests.edge.store.joinable import (
    DATE,
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
from tests.edge.store.made import ROWS, key, many, payload_of, received, verified


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four segments, samples of rig-1 and events of rig-2 in each."""
    return filled(tmp_path / "store")


# ------------------------------------------------------------------------------------------- after somebody's hands


def test_a_copy_put_over_an_older_one_counts_once(folder: Path, tmp_path: Path) -> None:
    """As a backup does that removes nothing: the small files of then beside the joined ones of now."""
    backup = tmp_path / "backup"
    shutil.copytree(folder, backup)
    join(folder)
    store = opened(folder)
    fill(store, many("rig-1", "samples", range(SEGMENTS * EACH, (SEGMENTS + 1) * EACH)))
    fill(store, many("rig-1", "samples", range((SEGMENTS + 1) * EACH, (SEGMENTS + 2) * EACH)))
    store.close()
    shutil.copytree(folder, backup, dirs_exist_ok=True)
    join(folder)
    shutil.copytree(folder, backup, dirs_exist_ok=True)
    assert len(names(backup, "samples")) == SEGMENTS + 2 + 2
    # Already before it is started, for those who go by the manifest.
    assert set(viewed(backup).values()) == {1}
    assert verified(backup).good
    opened(backup).close()
    assert names(backup) == names(folder)
    assert set(globbed(backup).values()) == {1}
    assert len(globbed(backup)) == (SEGMENTS + 2) * EACH * ROWS


@pytest.mark.parametrize("table", ["samples", "frames"])
def test_a_joined_file_that_is_cut_off_gives_way_to_those_it_is_of(folder: Path, tmp_path: Path, table: str) -> None:
    backup = shutil.copytree(folder, tmp_path / "backup")
    join(folder)
    shutil.copytree(folder, backup, dirs_exist_ok=True)
    (path,) = backup.glob(f"{table}/rig=rig-1/*/*-*.parquet")
    path.write_bytes(path.read_bytes()[:1000])
    with capture_logs() as logs:
        assert verified_after_start(backup) == 2 * SEGMENTS * EACH
    assert any(line["log_level"] == "error" and "set aside" in line["event"] for line in logs)
    assert is_whole(backup)
    assert len(names(backup, table, "rig-1")) == SEGMENTS


@pytest.mark.parametrize("table", ["samples", "frames"])
def test_a_joined_file_with_a_damaged_page_takes_no_file_away_that_can_be_read(
    folder: Path, tmp_path: Path, table: str
) -> None:
    backup = shutil.copytree(folder, tmp_path / "backup")
    join(folder)
    shutil.copytree(folder, backup, dirs_exist_ok=True)
    (path,) = backup.glob(f"{table}/rig=rig-1/*/*-*.parquet")
    damage(path, "t_utc")
    assert verified_after_start(backup) == 2 * SEGMENTS * EACH
    assert is_whole(backup)
    assert len(names(backup, table, "rig-1")) == SEGMENTS


def test_a_small_file_with_other_rows_than_the_joined_one_is_set_aside(folder: Path, tmp_path: Path) -> None:
    join(folder)
    other = opened(tmp_path / "other")
    fill(other, many("rig-1", "samples", range(70, 71)))
    other.close()
    for name in names(tmp_path / "other"):
        shutil.copy(tmp_path / "other" / name, folder / name)
    # Its frame is taken anew.
    assert verified_after_start(folder) == 2 * SEGMENTS * EACH + 1
    assert len(list((folder / "quarantine").glob("*00000001.parquet"))) == 2


@pytest.mark.parametrize("only", [None, "samples", "frames"])
def test_a_lost_manifest_is_made_again_of_joined_files(folder: Path, only: str | None) -> None:
    before, _ = read_manifest(folder / "manifest")
    store = opened(folder)
    while store._joiner._places:
        if only is not None:
            store._joiner._places = {place for place in store._joiner._places if place.startswith(only)}
        if not store.join():
            break
    store.close()
    (folder / "manifest").unlink()
    listed = names(folder)
    opened(folder).close()
    after, _ = read_manifest(folder / "manifest")
    assert names(folder) == listed
    assert {number: (set(entry.files), entry.ranges) for number, entry in after.items()} == {
        number: (set(entry.files), entry.ranges) for number, entry in before.items()
    }
    assert is_whole(folder)


def test_a_number_after_a_joined_file_is_new_though_the_manifest_be_lost(folder: Path) -> None:
    join(folder)
    (folder / "manifest").unlink()
    store = opened(folder)
    fill(store, [received("rig-1", "samples", 40)])
    store.close()
    assert any(name.endswith("/00000005.parquet") for name in names(folder, "samples"))
    assert verified(folder).good


@pytest.mark.parametrize("table", ["samples", "documents"])
def test_a_joined_table_that_is_gone_is_made_again(folder: Path, table: str) -> None:
    before = sorted(rows(folder, table), key=str)
    join(folder)
    shutil.rmtree(folder / table)
    opened(folder).close()
    assert is_whole(folder)
    assert sorted(rows(folder, table), key=str) == before


@pytest.mark.parametrize("how", ["gone", "garbage"])
def test_joined_frames_that_are_lost_no_longer_count_and_are_taken_again(folder: Path, how: str) -> None:
    join(folder)
    (path,) = folder.glob("frames/rig=rig-1/*/*.parquet")
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(b"PAR1 and no more")
        (folder / "manifest").unlink()
    store = opened(folder, utc_s=time.time)
    assert key() not in store.recent_marks("rig-1")
    assert store.recent_marks("rig-2")[key("rig-2", "events")].contiguous == SEGMENTS * EACH
    assert not names(folder, "samples")
    assert any("samples" in one.name for one in (folder / "quarantine").iterdir())
    fill(store, many("rig-1", "samples", range(SEGMENTS * EACH)))
    store.close()
    assert is_whole(folder)


def damage(path: Path, column: str) -> None:
    """Overwrite the pages of a column; the footer stays as it is."""
    with parquet.ParquetFile(path) as file:
        chunk = file.metadata.row_group(0).column(file.schema_arrow.names.index(column))
        begin = min(at for at in (chunk.dictionary_page_offset, chunk.data_page_offset) if at)
    data = bytearray(path.read_bytes())
    data[begin : begin + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    path.write_bytes(data)


@pytest.mark.parametrize("column", ["epoch", "payload"])
def test_joined_frames_of_which_a_page_is_damaged_are_set_aside_once_and_the_store_starts(
    folder: Path, column: str
) -> None:
    join(folder)
    (path,) = folder.glob("frames/rig=rig-1/*/*.parquet")
    data = path.read_bytes()
    for _ in range(2):
        damage(path, column)
        (folder / "manifest").unlink()
        # To be made again from the payloads.
        shutil.rmtree(folder / "samples" / "rig=rig-1")
        with capture_logs() as logs:
            store = opened(folder, utc_s=time.time)
        assert len([line for line in logs if "set aside" in line["event"]]) == 1
        assert store.recent_marks("rig-2")[key("rig-2", "events")].contiguous == SEGMENTS * EACH
        assert key() not in store.recent_marks("rig-1")
        store.close()
        # Restored, and damaged again: the first stays where it is.
        path.write_bytes(data)
        (folder / "manifest").unlink()
        opened(folder).close()
        assert is_whole(folder)
    assert len(list((folder / "quarantine").iterdir())) == 2


def test_frames_of_one_stretch_lost_beside_joined_samples(folder: Path) -> None:
    """The others' samples are made again without it: were it to come again, its rows would be there twice."""
    store = opened(folder)
    store._joiner._places = {place for place in store._joiner._places if place.startswith("samples")}
    assert store.join() == 1
    store.close()
    (path,) = folder.glob("frames/rig=rig-1/*/00000002.parquet")
    path.unlink()
    store = opened(folder, utc_s=time.time)
    assert store.recent_marks("rig-1")[key()].holes == ((EACH, 2 * EACH - 1),)
    assert len(globbed(folder)) == (SEGMENTS - 1) * EACH * ROWS
    fill(store, many("rig-1", "samples", range(SEGMENTS * EACH)))
    store.close()
    assert is_whole(folder)


def test_a_journal_segment_that_is_joined_already_is_not_compacted_again(folder: Path, tmp_path: Path) -> None:
    """A copy of different moments: the journal of then, the files of now, and no manifest."""
    store = opened(tmp_path / "one")
    store.commit(many("rig-1", "samples", range(EACH)), [])
    kept = shutil.copytree(tmp_path / "one" / "journal", tmp_path / "kept")
    store.close()
    (segment,) = kept.iterdir()
    join(folder)
    shutil.copy(segment, folder / "journal")
    (folder / "manifest").unlink()
    with capture_logs() as logs:
        opened(folder).close()
    assert any("in Parquet already" in line["event"] for line in logs)
    assert (folder / "quarantine" / segment.name).exists()
    assert is_whole(folder)


@pytest.mark.parametrize("what", ["link", "dead link", "file", "sticky"])
def test_a_folder_of_a_join_that_cannot_be_removed_keeps_nobody_from_starting(
    folder: Path, tmp_path: Path, what: str
) -> None:
    class Sticky(RealDisk):
        def remove_folder(self, path: Path) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    left = folder / JOINING
    if what == "file":
        left.write_bytes(b"somebody's")
    elif what == "sticky":
        left.mkdir()
    else:
        left.symlink_to(tmp_path if what == "link" else tmp_path / "nowhere")
    before = names(folder)
    with capture_logs() as logs:
        store = opened(folder, disk=Sticky() if what == "sticky" else RealDisk())
        assert store.join() == 0
        fill(store, many("rig-1", "samples", range(40, 41)))
        assert store.join() == 0
    assert [line["event"] for line in logs if "left of a join" in line["event"]] == [logs[0]["event"]]
    assert len([line for line in logs if line["log_level"] in {"warning", "error"}]) == 1
    store.close()
    assert set(before) < set(names(folder))
    assert tmp_path.exists()
    if what == "sticky":
        left.rmdir()
    else:
        left.unlink()
    assert join(folder) == 4


def test_a_date_that_somebody_removed_stays_so(folder: Path) -> None:
    join(folder)
    for path in folder.glob(f"*/rig=rig-1/{DATE}"):
        shutil.rmtree(path)
    assert verified_after_start_of_rig_2(folder) == SEGMENTS * EACH


def verified_after_start_of_rig_2(folder: Path) -> int:
    store = opened(folder)
    assert store.join() == 0
    store.close()
    report = verified(folder)
    assert report.good
    return report.frames


# ------------------------------------------------------------------------------------------------ names and footers


def test_which_files_hold_which_stretches() -> None:
    def one(first: int, last: int) -> Stored:
        return Stored(Path(f"{first}-{last}"), first, last)

    files = [one(1, 4), one(2, 2), one(5, 5), one(8, 9)]
    assert outermost(files) == [one(1, 4), one(5, 5), one(8, 9)]
    assert holders(files, {2, 3, 5, 7, 10}) == ([one(1, 4), one(5, 5)], [7, 10])
    assert holders([], [1]) == ([], [1])
    assert holders(files, []) == ([], [])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "does not say"),
        (b"no json", "does not say"),
        (b"[[1, 2], [2]]", "does not say"),
        (b"[[1, 2], [2, 9]]", "does not fit its rows"),
        (b"[[2, 2], [1, 2]]", "does not fit its rows"),
        (b"[[1, 2], [3, 2]]", "does not fit its name"),
        (b"[[1, 2], [2, 2]]", None),
    ],
)
def test_a_footer_that_is_not_ours_is_refused(tmp_path: Path, text: bytes | None, match: str | None) -> None:
    path = tmp_path / joined.joined_name(1, 2)
    table = pa.table({"seq": [1, 2, 3, 4]})
    parquet.write_table(table.replace_schema_metadata({} if text is None else {b"tipguard.stretches": text}), path)
    (one,) = joined.stored(tmp_path)
    if match is None:
        assert read_stretches(one) == [Stretch(1, 2), Stretch(2, 2)]
    else:
        with pytest.raises(ValueError, match=match):
            read_stretches(one)


def test_files_that_change_while_they_are_joined_are_not(folder: Path) -> None:
    files = joined.stored(folder / "frames" / "rig=rig-1" / DATE)
    joint = joined.joint_of(files)
    shorter = joined.Joint(joint.files[:-1], joint.stretches, joint.schema)
    with pytest.raises(ValueError, match="changed while"):
        joined.join(shorter, pa.BufferOutputStream(), lambda: None)


def test_payloads_are_kept_byte_by_byte(folder: Path) -> None:
    join(folder)
    found = open_tables(folder).sql("SELECT seq, payload FROM frames WHERE rig = 'rig-1' ORDER BY seq").fetchall()
    assert found == [(seq, payload_of("rig-1", "samples", seq)) for seq in range(SEGMENTS * EACH)]
