"""The real disk does what a power cut needs, in the order it needs it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.store import disk
from edge.store.disk import PARTIAL, NotDurableError, RealDisk, lock

CALLS = ("write", "fsync", "fdatasync", "ftruncate")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is asked of the kernel, in order; descriptors by name of the file."""
    seen: list[str] = []

    def spied(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(descriptor: int, *rest: Any) -> Any:  # noqa: ANN401 - as os has it
            seen.append(f"{name} {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
            return real(descriptor, *rest)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, spied(name, getattr(os, name)))
    real_replace, real_unlink = Path.replace, Path.unlink

    def replace(path: Path, target: Path) -> Path:
        seen.append(f"rename {path.name} {target.name}")
        return real_replace(path, target)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        seen.append(f"unlink {path.name}")
        real_unlink(path, missing_ok)

    real_exchange = disk._exchange

    def exchange(path: Path, other: Path) -> None:
        seen.append(f"exchange {path.name} {other.name}")
        real_exchange(path, other)

    monkeypatch.setattr(disk, "_exchange", exchange)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(Path, "unlink", unlink)
    return seen


def test_a_file_is_synced_before_it_gets_its_name_and_the_folder_after(tmp_path: Path, calls: list[str]) -> None:
    RealDisk().put(tmp_path / "file", b"data")
    partial = f"file{PARTIAL}"
    assert calls == [f"write {partial}", f"fsync {partial}", f"rename {partial} file", f"fsync {tmp_path.name}"]
    assert (tmp_path / "file").read_bytes() == b"data"


def test_a_new_segment_s_name_is_durable_before_anything_in_it(tmp_path: Path, calls: list[str]) -> None:
    disk = RealDisk()
    descriptor = disk.append_to(tmp_path / "file")
    disk.write(descriptor, b"data")
    disk.sync(descriptor)
    disk.close(descriptor)
    assert calls == [f"fsync {tmp_path.name}", "write file", "fdatasync file"]


def test_a_removal_is_durable(tmp_path: Path, calls: list[str]) -> None:
    (tmp_path / "file").touch()
    RealDisk().remove(tmp_path / "file")
    RealDisk().remove(tmp_path / "file")
    assert calls == ["unlink file", f"fsync {tmp_path.name}"] * 2


def test_folders_are_durable_from_the_top(tmp_path: Path, calls: list[str]) -> None:
    RealDisk().make_folder(tmp_path / "a" / "b")
    RealDisk().make_folder(tmp_path / "a" / "b")
    assert calls == [f"fsync {tmp_path.name}", "fsync a"]


def test_cutting_back_is_durable(tmp_path: Path, calls: list[str]) -> None:
    disk = RealDisk()
    descriptor = disk.append_to(tmp_path / "file")
    disk.write(descriptor, b"data")
    disk.cut_back(descriptor, 2)
    disk.close(descriptor)
    assert calls[-2:] == ["ftruncate file", "fsync file"]
    assert (tmp_path / "file").read_bytes() == b"da"


def test_a_file_that_cannot_be_written_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = RealDisk()
    disk.put(tmp_path / "file", b"before")

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="full"):
        disk.put(tmp_path / "file", b"after")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def test_a_lock_is_for_one(tmp_path: Path) -> None:
    first = lock(tmp_path / "lock")
    assert first is not None
    assert lock(tmp_path / "lock") is None
    os.close(first)
    second = lock(tmp_path / "lock")
    assert second is not None
    os.close(second)


def test_two_folders_change_places_and_that_is_durable_in_both_parents(tmp_path: Path, calls: list[str]) -> None:
    one, other = tmp_path / "place" / "one", tmp_path / "other"
    one.mkdir(parents=True)
    (one / "old").touch()
    other.mkdir()
    RealDisk().link([one / "old"], other)
    (other / "new").touch()
    calls.clear()
    RealDisk().exchange(one, other)
    assert calls[0] == "exchange one other"
    assert sorted(calls[1:]) == sorted(["fsync place", f"fsync {tmp_path.name}"])
    assert sorted(path.name for path in one.iterdir()) == ["new", "old"]
    assert [path.name for path in other.iterdir()] == ["old"]
    calls.clear()
    RealDisk().remove_folder(other)
    RealDisk().remove_folder(other)
    assert calls == [f"fsync {tmp_path.name}"]
    assert (one / "old").exists()


def test_an_exchange_that_is_not_synced_is_told_from_one_that_was_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        (tmp_path / name / name).mkdir(parents=True)

    def fails(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(NotDurableError, match="Input/output error"):
        RealDisk().exchange(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "one" / "other").exists()
    with pytest.raises(FileNotFoundError):
        RealDisk().exchange(tmp_path / "one", tmp_path / "none")


def test_names_given_to_files_are_durable_at_once(tmp_path: Path, calls: list[str]) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "file").touch()
    RealDisk().link([tmp_path / "file"], tmp_path / "to")
    assert calls == ["fsync to"]
