"""Copies of different moments, or of different lives, put over one another: what is anywhere counts, once."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge.store.backend import StoreError
from edge.store.catalogue import JOINING, read_contents
from edge.store.directory import DirectoryStore
from edge.store.verify import import_frames
from tests.edge.store.joinable import EACH, SEGMENTS, fill, filled, globbed, is_whole, join, names, opened
from tests.edge.store.made import ROWS, key, many, received, verified
from tests.edge.store.power_cut import CuttableDisk, PowerCutError


def settled(folder: Path) -> DirectoryStore:
    """Return the store after a start, with everything in Parquet."""
    store = opened(folder)
    store.compact()
    return store


def numbers(folder: Path) -> list[int]:
    """Return the numbers of rig-1's frames, as they are counted; none is there twice, for anybody."""
    report = verified(folder)
    assert report.good
    assert set(globbed(folder).values()) == {1}
    found = [seq for first, last in report.streams[key()].held for seq in range(first, last + 1)]
    assert len(globbed(folder)) == ROWS * len(found)
    return found


def in_journal_and_half_joined(folder: Path) -> Path:
    """A copy that removes nothing: the fourth segment of before, and of after only rig-2's folders, joined."""
    live = filled(folder / "live", SEGMENTS - 1)
    store = opened(live)
    last = range((SEGMENTS - 1) * EACH, SEGMENTS * EACH)
    store.commit(many("rig-1", "samples", last) + many("rig-2", "events", last), [])
    copy = Path(shutil.copytree(live, folder / "copy"))
    store.rotate()
    store.compact()
    assert store.join() == 4
    store.close()
    shutil.copytree(live, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("rig=rig-1"))
    assert (copy / "journal" / "00000004.journal").exists()
    return copy


def beginning_over_the_whole(folder: Path) -> Path:
    """A backup put over what went on since: it has the beginning of the second segment, which is Parquet by now."""
    live = folder / "live"
    store = opened(live)
    fill(store, many("rig-1", "samples", range(3)))
    store.commit(many("rig-1", "samples", range(3, 6)), [])
    backup = shutil.copytree(live, folder / "backup")
    fill(store, many("rig-1", "samples", range(6, 9)))
    store.close()
    shutil.copytree(backup, live, dirs_exist_ok=True)
    return live


def journal_of_another_life(folder: Path) -> Path:
    """A segment of which the manifest knows the number, and which has other frames, too."""
    filled(folder / "live")
    other = opened(folder / "other")
    other.commit(many("rig-1", "samples", range(SEGMENTS * EACH - 2, SEGMENTS * EACH + 4)), [])
    (segment,) = (folder / "other" / "journal").iterdir()
    shutil.copy(segment, folder / "live" / "journal" / "00000002.journal")
    other.close()
    return folder / "live"


def of_equal_size_of_another_life(folder: Path) -> Path:
    """Joined files, and beside them one of as many other frames, as a steady rig makes them."""
    live, other = filled(folder / "live"), opened(folder / "other")
    for first in (50, 60):
        fill(other, many("rig-1", "samples", range(first, first + EACH)))
    other.close()
    assert join(live) == 4
    for name in names(folder / "other"):
        if name.endswith("/00000002.parquet"):
            shutil.copy(folder / "other" / name, live / name)
    return live


def joined_across(folder: Path) -> Path:
    """Files of 1 to 4, and files of 3 to 6 of a copy that was joined at other times."""
    live = filled(folder / "live")
    copy = Path(shutil.copytree(live, folder / "copy"))
    assert join(live) == 4
    store = opened(copy)
    for at in (SEGMENTS, SEGMENTS + 1):
        fill(store, many("rig-1", "samples", range(at * EACH, (at + 1) * EACH)))
    for path in copy.glob("*/rig=rig-1/*/0000000[12].parquet"):
        path.unlink()
    assert store.join() == 4
    store.close()
    for name in names(copy, rig="rig-1"):
        assert name.endswith("/00000003-00000006.parquet")
        shutil.copy(copy / name, live / name)
    return live


def killed_in_a_join_and_without_manifest(folder: Path) -> Path:
    """What was there before is still beside it, and of another folder the files come back by a copy."""
    live = filled(folder / "live")
    copy = shutil.copytree(live, folder / "copy")
    store = opened(live)
    store._joiner._rest = lambda seconds: False
    assert store.join() == 4
    store.close()
    assert (live / JOINING).exists()
    shutil.copytree(copy / "frames", live / "frames", dirs_exist_ok=True)
    (live / "manifest").unlink()
    return live


def test_a_file_of_as_many_other_frames_is_not_deleted_and_they_count(tmp_path: Path) -> None:
    live = of_equal_size_of_another_life(tmp_path)
    settled(live).close()
    assert numbers(live) == [*range(SEGMENTS * EACH), 60, 61, 62]
    assert len(list((live / "quarantine").glob("frames-*00000002.parquet"))) == 1


def test_a_joined_file_that_has_a_part_of_another_gives_its_frames_to_a_segment(tmp_path: Path) -> None:
    live = joined_across(tmp_path)
    settled(live).close()
    assert numbers(live) == list(range((SEGMENTS + 2) * EACH))
    assert sorted(path.name.partition("-")[0] for path in (live / "quarantine").iterdir()) == ["frames", "samples"]


@pytest.mark.parametrize(
    ("lost", "meanwhile"),
    [("rig-1", ""), ("rig-1", "joined"), ("rig-1", "sent again"), ("rig-*", ""), ("rig-*", "joined")],
)
def test_a_file_that_was_lost_and_is_put_back_counts_again(tmp_path: Path, lost: str, meanwhile: str) -> None:
    live = filled(tmp_path / "live")
    backup = shutil.copytree(live, tmp_path / "backup")
    gone = [path.relative_to(live) for path in live.glob(f"frames/rig={lost}/*/00000002.parquet")]
    for path in gone:
        (live / path).unlink()
    store = opened(live)
    if meanwhile == "sent again":
        fill(store, many("rig-1", "samples", range(SEGMENTS * EACH)))
    elif meanwhile == "joined":
        assert store.join() == 4
    store.close()
    for path in gone:
        shutil.copy(backup / path, live / path)
    settled(live).close()
    assert numbers(live) == list(range(SEGMENTS * EACH))
    assert is_whole(live)


def test_frames_of_a_lost_file_come_back_by_an_import_whatever_was_joined_since(tmp_path: Path) -> None:
    live = filled(tmp_path / "live")
    backup = shutil.copytree(live, tmp_path / "backup")
    for path in live.glob("frames/*/*/00000002.parquet"):
        path.unlink()
    with pytest.raises(StoreError, match="import --from BACKUP"):
        verified(live)
    join(live)
    store = opened(live)
    assert import_frames(read_contents(backup), store).read == 2 * SEGMENTS * EACH
    store.rotate()
    store.compact()
    store.close()
    assert numbers(live) == list(range(SEGMENTS * EACH))
    assert is_whole(live)


def test_a_segment_of_which_a_part_is_joined_counts_as_a_whole(tmp_path: Path) -> None:
    copy = in_journal_and_half_joined(tmp_path)
    with capture_logs() as logs:
        settled(copy).close()
    assert any("segment of their own" in line["event"] and line["frames"] == EACH for line in logs)
    assert (copy / "quarantine" / "00000004.journal").exists()
    assert numbers(copy) == list(range(SEGMENTS * EACH))
    assert is_whole(copy)


def test_a_backup_put_over_a_newer_store_takes_no_frames_away(tmp_path: Path) -> None:
    live = beginning_over_the_whole(tmp_path)
    settled(live).close()
    assert numbers(live) == list(range(9))
    assert (live / "quarantine" / "00000002.journal").exists()


def test_a_segment_of_another_life_goes_once_its_frames_are_elsewhere(tmp_path: Path) -> None:
    live = journal_of_another_life(tmp_path)
    settled(live).close()
    assert numbers(live) == list(range(SEGMENTS * EACH + 4))
    assert not list((live / "journal").iterdir())


def test_frames_that_are_in_two_segments_count_once(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.commit(many("rig-1", "samples", range(6)), [])
    store.close()
    for name in ("00000007", "00000009"):
        shutil.copy(tmp_path / "journal" / "00000001.journal", tmp_path / "journal" / f"{name}.journal")
    store = settled(tmp_path)
    fill(store, [received("rig-1", "samples", 6)])
    store.close()
    assert numbers(tmp_path) == list(range(7))


@pytest.mark.parametrize(
    "made",
    [
        in_journal_and_half_joined,
        beginning_over_the_whole,
        journal_of_another_life,
        of_equal_size_of_another_life,
        joined_across,
        killed_in_a_join_and_without_manifest,
    ],
)
def test_a_start_that_is_cut_at_any_step_and_done_again(tmp_path: Path, made: Callable[[Path], Path]) -> None:
    folder = made(tmp_path / "made")
    whole = Path(shutil.copytree(folder, tmp_path / "whole"))
    disk = CuttableDisk(random.Random(0))
    opened(whole, disk=disk).close()
    settled(whole).close()
    expected = numbers(whole)
    assert disk.steps > 2
    for step in range(1, disk.steps + 1):
        copy = Path(shutil.copytree(folder, tmp_path / str(step)))
        cut = CuttableDisk(random.Random(step), step)
        with pytest.raises(PowerCutError):
            opened(copy, disk=cut)
        cut.go_dark()
        settled(copy).close()
        assert numbers(copy) == expected, cut.kinds
