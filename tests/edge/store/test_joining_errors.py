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
from tests.edge.store.joinable import DATE, SEGMENTS, fill, filled, is_whole, join, names, opened
from tests.edge.store.made import many


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
