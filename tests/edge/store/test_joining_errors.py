"""A join and a disk that fails, or does not do what a join needs."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge.store import disk as disks
from edge.store.catalogue import JOINING
from edge.store.disk import CANNOT_EXCHANGE, RealDisk
from edge.store.joiner import AGAIN_S
from tests.edge.store.joinable import (
    DATE,
    EACH,
    SEGMENTS,
    fill,
    filled,
    is_whole,
    join,
    names,
    opened,
    verified_after_start,
)
from tests.edge.store.made import ROWS, many, verified


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four segments, samples of rig-1 and events of rig-2 in each."""
    return filled(tmp_path / "store")


@pytest.mark.parametrize("undone", [False, True])
def test_what_was_there_before_stays_until_the_exchange_is_durable(
    folder: Path, monkeypatch: pytest.MonkeyPatch, undone: bool
) -> None:
    store = opened(folder)
    before = names(folder)
    real_sync = disks.sync_folder

    def fails(path: Path) -> None:
        if path.name.startswith("rig="):
            raise OSError(errno.EIO, "Input/output error")
        real_sync(path)

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(disks, "sync_folder", fails)
        assert (store.join(), store.join()) == (0, 0)
        store.close()
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert "did not sync" in line["event"]
    assert "stay as they are" not in str(logs)
    assert len(list((folder / JOINING).iterdir())) == SEGMENTS
    place = folder / line["folder"]
    assert [path.name for path in place.iterdir()] == ["00000001-00000004.parquet"]
    assert is_whole(folder)
    if undone:
        # The power fails, and the disk has the state of before.
        RealDisk().exchange(place, folder / JOINING)
        assert names(folder) == before
    # The next start removes it once the sync is done, and not before.
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(disks, "sync_folder", fails)
        opened(folder).close()
    assert any("left of a join" in line["event"] for line in logs)
    assert (folder / JOINING).exists()
    assert join(folder) == (4 if undone else 3)
    assert not (folder / JOINING).exists()
    assert is_whole(folder)


def test_what_was_there_before_and_cannot_be_removed_goes_with_the_next(folder: Path) -> None:
    class Sticky(RealDisk):
        fails = 1

        def remove_folder(self, path: Path) -> None:
            if path.exists() and self.fails:
                self.fails -= 1
                shutil.rmtree(path / "00000001.parquet", ignore_errors=True)
                raise OSError(errno.EIO, "Input/output error")
            super().remove_folder(path)

    store = opened(folder, disk=Sticky())
    with capture_logs() as logs:
        assert store.join() == 4
    assert [line["log_level"] for line in logs] == ["info"] * 4
    store.close()
    assert is_whole(folder)
    assert not (folder / JOINING).exists()


@pytest.mark.parametrize(("code", "again"), [(errno.EIO, True), (errno.ENOSPC, True), (errno.EACCES, False)])
def test_a_disk_that_fails_for_a_while_is_tried_again_later(folder: Path, code: int, again: bool) -> None:
    class Failing(RealDisk):
        fails = True
        asked = 0

        def make_twin(self, path: Path, like: Path) -> None:
            self.asked += 1
            if self.fails:
                raise OSError(code, os.strerror(code), str(path))
            super().make_twin(path, like)

    disk, times = Failing(), {"s": 100.0}
    store = opened(folder, disk=disk, now_s=lambda: times["s"])
    with capture_logs() as logs:
        assert (store.join(), store.join()) == (0, 0)
        times["s"] += AGAIN_S - 1
        assert (store.join(), disk.asked) == (0, 4)
        times["s"] += 2
        assert (store.join(), disk.asked) == (0, 8 if again else 4)
        disk.fails = False
        times["s"] += AGAIN_S + 1
        assert store.join() == (4 if again else 0)
    assert [line["log_level"] for line in logs].count("error") == 4
    store.close()
    assert is_whole(folder)


def test_a_disk_that_writes_something_else_is_noticed_before_anything_is_exchanged(folder: Path) -> None:
    told = f"[2, {EACH * ROWS}], [3, {EACH * ROWS}]".encode()
    other = f"[2, {EACH * ROWS - 1}], [3,{EACH * ROWS + 1}]".encode()
    assert len(other) == len(told)

    class Liar(RealDisk):
        def write(self, descriptor: int, data: bytes) -> None:
            super().write(descriptor, data.replace(told, other))

    store = opened(folder, disk=Liar())
    before = names(folder)
    with capture_logs() as logs:
        assert store.join() == 3
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert "not what was written" in line["error"]
    assert line["folder"] == f"samples/rig=rig-1/{DATE}"
    assert [name for name in before if name.startswith("samples")] == names(folder, "samples")
    assert not (folder / JOINING).exists()
    store.close()
    assert is_whole(folder)


def test_a_copy_put_over_while_the_store_runs_is_left_to_the_next_start(folder: Path, tmp_path: Path) -> None:
    backup = shutil.copytree(folder, tmp_path / "backup")
    store = opened(folder)
    assert store.join() == 4
    for path in ("frames", "samples", "documents"):
        shutil.copytree(backup / path, folder / path, dirs_exist_ok=True)
    fill(store, many("rig-1", "samples", range(SEGMENTS * EACH, SEGMENTS * EACH + 1)))
    for seq in range(8):
        fill(store, many("rig-1", "samples", range(50 + seq, 51 + seq)))
    before = names(folder)
    with capture_logs() as logs:
        assert store.join() == 0
    assert (names(folder), logs) == (before, [])
    assert verified(folder).good
    store.close()
    assert verified_after_start(folder) == 2 * SEGMENTS * EACH + 9
    assert join(folder) == 2
    assert verified(folder).good


def test_a_table_on_another_file_system_stays_small_and_the_others_do_not(folder: Path) -> None:
    class Mounted(RealDisk):
        asked = 0

        def exchange(self, path: Path, other: Path) -> None:
            if path.is_relative_to(folder / "frames"):
                self.asked += 1
                raise OSError(errno.EXDEV, "Invalid cross-device link", str(path))
            super().exchange(path, other)

    disk = Mounted()
    store = opened(folder, disk=disk)
    with capture_logs() as logs:
        assert store.join() == 2
        fill(store, many("rig-1", "samples", range(40, 41)))
        fill(store, many("rig-1", "samples", range(41, 42)))
        assert store.join() == 1
    assert [line["table"] for line in logs if line["log_level"] == "warning"] == ["frames"]
    assert disk.asked == 1
    store.close()
    assert not (folder / JOINING).exists()
    assert len(names(folder, "frames")) == 2 * SEGMENTS + 2


@pytest.mark.parametrize("code", sorted(CANNOT_EXCHANGE))
def test_a_file_that_cannot_have_a_second_name_costs_its_folder_only(folder: Path, code: int) -> None:
    """As somebody else's file has not, where links are protected."""
    note = folder / "samples" / "rig=rig-1" / DATE / "note.txt"
    note.write_text("looks odd", encoding="utf-8")

    class Protected(RealDisk):
        def link(self, paths: Iterable[Path], folder: Path) -> None:
            if note in (listed := list(paths)):
                raise OSError(code, os.strerror(code), str(note))
            super().link(listed, folder)

    store = opened(folder, disk=Protected())
    with capture_logs() as logs:
        assert (store.join(), store.join()) == (3, 0)
    store.close()
    assert [line["folder"] for line in logs if line["log_level"] == "error"] == [f"samples/rig=rig-1/{DATE}"]
    assert len(names(folder, "samples")) == SEGMENTS
    assert is_whole(folder)
