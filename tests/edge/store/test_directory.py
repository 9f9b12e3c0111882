"""The directory store: what it keeps, counts once, says it has, and finds again."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge.errors import BusyError
from edge.store.backend import Backend, StoreError, StoreUnusableError, Unreadable
from edge.store.catalogue import VERSION, read_identity
from edge.store.contiguity import Coverage
from edge.store.directory import RECENT_S, DirectoryStore
from edge.store.disk import RealDisk
from edge.store.quarantine import read_quarantine
from edge.watermark import MAX_MARKS
from tests.edge.store.made import EPOCH, key, many, received, verified

DAY_S = RECENT_S


class Times:
    """Both clocks of a store, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 5_000.0
        self.utc_s = 1_700_000_000.0

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        self.utc_s += seconds


def opened(
    folder: Path, times: Times | None = None, *, store: str | None = "lab", disk: RealDisk | None = None
) -> DirectoryStore:
    if times is None:
        return DirectoryStore(folder, store, disk=disk, compact_every_s=None)
    return DirectoryStore(
        folder, store, disk=disk, compact_every_s=None, now_s=lambda: times.now_s, utc_s=lambda: times.utc_s
    )


def test_it_is_a_backend(tmp_path: Path) -> None:
    backend: Backend = opened(tmp_path)
    assert (backend.store, len(backend.generation)) == ("lab", 16)
    backend.close()
    backend.close()


def test_frames_are_held_once_whoever_repeats_them(tmp_path: Path) -> None:
    store = opened(tmp_path)
    one, two = received("rig-1", "samples", 0), received("rig-1", "samples", 1)
    marks = store.commit([one, one, two], [])
    assert (marks[key()].contiguous, marks[key()].top) == (2, 1)
    again = store.commit([two, one], [])
    assert again == marks
    assert sorted(seq for _, seq, _ in store.raw_frames()) == [0, 1]
    store.close()


def test_without_the_check_a_repetition_is_there_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Coverage, "__contains__", lambda coverage, seq: False)
        store = opened(tmp_path)
        for _ in range(2):
            store.commit([received("rig-1", "samples", 0)], [])
        store.close()
    report = verified(tmp_path)
    assert (report.good, report.doubled) == (False, 1)


@pytest.mark.parametrize("compacted", [False, True])
def test_everything_is_there_after_a_restart_and_counts(tmp_path: Path, compacted: bool) -> None:
    frames = many("rig-1", "samples", [0, 1, 2, 5, 6]) + many("rig-2", "runs", range(3))
    store = opened(tmp_path)
    store.commit(frames, [])
    if compacted:
        store.rotate()
        assert store.compact() == 1
    store.close()
    again = opened(tmp_path)
    assert {(found, seq): payload for found, seq, payload in again.raw_frames()} == {
        (frame.key, frame.seq): frame.payload for frame in frames
    }
    mark = again.recent_marks("rig-1")[key()]
    assert (mark.contiguous, mark.top, mark.holes) == (3, 6, ((3, 4),))
    assert again.commit(frames[:1], [])[key()] == mark
    assert set(again.rigs()) == {"rig-1", "rig-2"}
    again.close()
    assert verified(tmp_path).frames == len(frames)


def test_epochs_and_rigs_count_each_for_itself(tmp_path: Path) -> None:
    store = opened(tmp_path)
    frames = [
        received("rig-1", "samples", 0),
        received("rig-1", "samples", 0, epoch=7),
        received("rig-2", "samples", 0),
    ]
    marks = store.commit(frames, [])
    assert [mark.contiguous for mark in marks.values()] == [1, 1, 1]
    assert set(store.recent_marks("rig-1")) == {key(), key(epoch=7)}
    store.close()


def test_marks_are_of_the_last_day_and_the_newest_first(tmp_path: Path) -> None:
    times = Times()
    store = opened(tmp_path, times)
    store.commit([received("rig-1", "samples", 0, epoch=1)], [])
    times.pass_s(DAY_S - 10)
    for epoch in range(2, MAX_MARKS + 10):
        times.pass_s(0.01)
        store.commit([received("rig-1", "events", 0, epoch=epoch)], [])
    marks = store.recent_marks("rig-1")
    assert len(marks) == MAX_MARKS
    assert key(stream="events", epoch=MAX_MARKS + 9) in marks
    assert key(epoch=1) not in marks
    times.pass_s(DAY_S + 1)
    assert not store.recent_marks("rig-1")
    assert not store.rigs()
    # A repetition of an old one brings it back: its sender does not know yet.
    store.commit([received("rig-1", "samples", 0, epoch=1)], [])
    assert set(store.recent_marks("rig-1")) == {key(epoch=1)}
    store.close()


def test_what_is_recent_survives_a_restart(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.commit([received("rig-1", "samples", 0)], [])
    store.close()
    (segment,) = (tmp_path / "journal").iterdir()
    os.utime(segment, (1_700_000_000, 1_700_000_000))
    times = Times()
    times.pass_s(DAY_S - 5)
    again = opened(tmp_path, times)
    assert set(again.recent_marks("rig-1")) == {key()}
    times.pass_s(10)
    assert not again.recent_marks("rig-1")
    again.close()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(BusyError, match="another `tipguard store` writes it"):
        opened(tmp_path)
    store.close()
    opened(tmp_path).close()


def test_another_store_s_directory_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with pytest.raises(StoreUnusableError, match="--name lab"):
        opened(tmp_path, store="attic")
    nameless = opened(tmp_path, store=None)
    assert nameless.store == "lab"
    nameless.close()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{}", "not written by tipguard"),
        ("no json", "not written by tipguard"),
        (json.dumps({"format": "tipguard-store", "v": VERSION + 1}), f"layout {VERSION + 1}"),
        (json.dumps({"format": "tipguard-store", "v": VERSION, "store": "lab"}), "incomplete"),
    ],
)
def test_a_directory_of_something_else_is_left_alone(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "store.json").write_text(text, encoding="utf-8")
    with pytest.raises(StoreUnusableError, match=match):
        opened(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]


def test_somebody_s_home_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreUnusableError, match=r"thesis\.tex"):
        opened(tmp_path)


def test_a_mount_point_of_its_own_is(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    opened(tmp_path).close()


@pytest.mark.parametrize("name", ["Lab", "a/b", "", "x" * 33, "+"])
def test_a_name_that_no_topic_holds_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreUnusableError, match="name of the store"):
        opened(tmp_path, store=name)


def test_no_store_no_name(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusableError, match="--name NAME"):
        opened(tmp_path, store=None)


def test_a_copy_is_another_generation_and_so_is_a_restored_one(tmp_path: Path) -> None:
    store = opened(tmp_path / "one")
    store.commit(many("rig-1", "samples", range(3)), [])
    store.close()
    same = opened(tmp_path / "one")
    assert same.generation == store.generation
    before = same.generation
    same.renew()
    assert same.generation != before
    same.close()
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    with capture_logs() as logs:
        copy = opened(tmp_path / "two")
    assert copy.generation != same.generation
    assert any("copied or restored" in line["event"] for line in logs)
    assert copy.recent_marks("rig-1")[key()].contiguous == 3
    copy.close()
    found = read_identity(tmp_path / "two")
    assert found is not None
    assert found.generation == copy.generation


def until_another_tick(path: Path, before_ns: int) -> None:
    """Have the kernel change the inode of ``path`` until it notes another time than ``before_ns``."""
    while path.stat().st_ctime_ns == before_ns:
        path.chmod(0o700)


def test_restored_in_place_it_is_another_generation_though_the_inode_be_the_same(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.close()
    # What a copy cannot keep: the time at which the kernel last changed the inode. It is as coarse as a tick.
    lock = tmp_path / "lock"
    until_another_tick(lock, lock.stat().st_ctime_ns)
    again = opened(tmp_path)
    assert again.generation != store.generation
    again.close()
    until_another_tick(tmp_path, lock.stat().st_ctime_ns)
    lock.unlink()
    third = opened(tmp_path)
    assert third.generation != again.generation
    third.close()
    fourth = opened(tmp_path)
    assert fourth.generation == third.generation
    fourth.close()
    with pytest.raises(StoreError, match="closed"):
        fourth.renew()


def test_unknown_versions_go_raw_to_quarantine_and_no_mark_covers_them(tmp_path: Path) -> None:
    store = opened(tmp_path)
    newer = Unreadable("tipguard/rig-1/samples", b"\x81\xa1v\x02", "v: schema version 2, this program knows 1", None)
    marks = store.commit([received("rig-1", "samples", 0), received("rig-1", "samples", 2)], [newer, newer])
    assert marks[key()].holes == ((1, 1),)
    store.commit([], [newer])
    store.close()
    again = opened(tmp_path)
    again.commit([], [newer, newer._replace(payload=b"other")])
    again.close()
    kept = list(read_quarantine(tmp_path / "quarantine"))
    assert [one["payload"] for one in kept] == [newer.payload, b"other"]
    assert kept[0]["topic"] == newer.topic
    assert kept[0]["why"] == newer.why


class _Full(RealDisk):
    """A disk with room, or none."""

    full = False

    def write(self, descriptor: int, data: bytes) -> None:
        if self.full:
            super().write(descriptor, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(descriptor, data)


def test_a_full_disk_acknowledges_nothing_and_is_recovered_from(tmp_path: Path) -> None:
    disk = _Full()
    store = opened(tmp_path, disk=disk)
    store.commit([received("rig-1", "samples", 0)], [])
    disk.full = True
    for _ in range(3):
        with pytest.raises(StoreError, match="No space left"):
            store.commit(many("rig-1", "samples", range(1, 4)), [])
    assert store.recent_marks("rig-1")[key()].contiguous == 1
    assert [seq for _, seq, _ in store.raw_frames()] == [0]
    disk.full = False
    assert store.commit(many("rig-1", "samples", range(1, 4)), [])[key()].contiguous == 4
    store.close()
    report = verified(tmp_path)
    assert (report.good, report.frames) == (True, 4)


def test_a_full_disk_keeps_a_segment_that_cannot_be_compacted(tmp_path: Path) -> None:
    disk = _Full()
    store = opened(tmp_path, disk=disk)
    store.commit(many("rig-1", "samples", range(4)), [])
    store.rotate()
    disk.full = True
    with capture_logs() as logs:
        assert store.compact() == 0
        assert store.compact() == 0
    assert [line["log_level"] for line in logs] == ["error"]
    assert len(list(store.raw_frames())) == 4
    disk.full = False
    assert store.compact() == 1
    assert not list((tmp_path / "journal").iterdir())
    store.close()
    assert verified(tmp_path).frames == 4


def test_a_segment_that_is_full_is_compacted_by_itself(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path, "lab", segment_bytes=1, compact_every_s=3600)
    for seq in range(5):
        store.commit([received("rig-1", "samples", seq)], [])
    store.close()
    assert not list((tmp_path / "journal").iterdir())
    report = verified(tmp_path)
    assert (report.good, report.frames) == (True, 5)


def test_an_old_segment_is_compacted_though_nothing_comes(tmp_path: Path) -> None:
    times = Times()
    store = DirectoryStore(tmp_path, "lab", compact_every_s=600, now_s=lambda: times.now_s)
    store.commit([received("rig-1", "samples", 0)], [])
    store._look_after()
    assert list((tmp_path / "journal").iterdir())
    times.pass_s(601)
    store._look_after()
    assert not list((tmp_path / "journal").iterdir())
    store.close()


def test_a_damaged_journal_costs_what_was_damaged_and_is_said_and_kept(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for seq in range(4):
        store.commit([received("rig-1", "samples", seq)], [])
    store.close()
    (segment,) = (tmp_path / "journal").iterdir()
    data = bytearray(segment.read_bytes())
    data[len(data) // 4 + 60] ^= 1
    segment.write_bytes(data)
    with capture_logs() as logs:
        again = opened(tmp_path)
    assert any(line["log_level"] == "error" and "damaged" in line["event"] for line in logs)
    mark = again.recent_marks("rig-1")[key()]
    assert (mark.contiguous, mark.holes) == (1, ((1, 1),))
    # Its sender has it still.
    assert again.commit([received("rig-1", "samples", 1)], [])[key()].contiguous == 4
    again.rotate()
    assert again.compact() == 2
    again.close()
    assert (tmp_path / "quarantine" / segment.name).read_bytes() == bytes(data)
    report = verified(tmp_path)
    assert (report.good, report.frames) == (True, 4)


def test_readers_see_whole_commits_while_it_writes_and_compacts(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for seq in range(20):
        store.commit([received("rig-1", "samples", seq)], [])
        if seq % 3 == 0:
            store.rotate()
        if seq % 5 == 0:
            store.compact()
        report = verified(tmp_path)
        assert (report.good, report.frames) == (True, seq + 1)
    store.close()


def test_an_epoch_is_all_64_bits(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.commit([received("rig-1", "samples", 0, epoch=2**64 - 1)], [])
    store.rotate()
    store.compact()
    assert [found.epoch for found, _, _ in store.raw_frames()] == [2**64 - 1]
    assert EPOCH > 2**63
    store.close()


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Not a directory"):
        opened(tmp_path / "file" / "store")
