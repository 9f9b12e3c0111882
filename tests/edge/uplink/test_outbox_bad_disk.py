"""A disk that does not read, or write, one place while all the others are in order: nothing else waits for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge.frames import Frame, decode_frame
from edge.uplink.lanes import HOPELESS, READ_TRIES
from edge.uplink.outbox_file import (
    KINDS,
    MAX_SEQ,
    OutboxError,
    OutboxFile,
    OutboxUnreadableError,
    Row,
    Usage,
    row_id,
)
from tests.edge.uplink.scene import FakeStore, Scene, play

BAD = 37


class Disk:
    """What of the outbox's file cannot be read or replaced at present, and how often that was tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.unreadable = {BAD}
        self.error: type[OutboxError] = OutboxUnreadableError
        self.unwritable: OutboxError | None = None
        self.reads = 0
        self.failed_reads = 0
        self.replaced = 0
        self._read, self._replace = OutboxFile.read, OutboxFile.replace
        monkeypatch.setattr(OutboxFile, "read", lambda file, *where: self.read(file, *where))
        monkeypatch.setattr(OutboxFile, "replace", lambda file, rows: self.replace(file, rows))

    def read(self, file: OutboxFile, sid: int, first: int, last: int, limit: int) -> list[Row]:
        self.reads += 1
        assert self.reads < 1000, "it spins"
        rows = self._read(file, sid, first, last, limit)
        if any(row.id & MAX_SEQ in self.unreadable and KINDS[row.kind] != "tombstone" for row in rows):
            self.failed_reads += 1
            raise self.error("disk I/O error")
        return rows

    def replace(self, file: OutboxFile, rows: Sequence[Row]) -> Usage:
        self.replaced += 1
        assert self.replaced < 1000, "it spins"
        if self.unwritable is not None:
            raise self.unwritable
        return self._replace(file, rows)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def measure(scene: Scene, seconds: int) -> None:
    """Go on measuring, five frames a second."""
    for _ in range(5 * seconds):
        scene.write(1)
        await scene.wait(0.2)


def buried(scene: Scene) -> list[Frame]:
    return [frame for frame in map(decode_frame, scene.broker.on("events")) if frame.kind == "tombstone"]


def test_a_frame_that_cannot_be_read_becomes_a_tombstone_and_holds_up_no_commit(tmp_path: Path, disk: Disk) -> None:
    async def story(scene: Scene) -> None:
        await scene.outage(100, status_period_s=1)
        await scene.wait(5)
        # All before it went out; nothing waits in the ring, and nobody asks the disk without a pause.
        assert scene.broker.numbers() == list(range(BAD))
        assert "cannot read the backlog of samples" in scene.status()["fault"]
        failed = disk.failed_reads
        await measure(scene, 3)
        assert scene.writer.used_fraction == 0.0
        assert disk.failed_reads - failed <= 3
        await measure(scene, 27)
        assert scene.writer.used_fraction == 0.0
        assert scene.broker.numbers() == [seq for seq in range(scene.frames) if seq != BAD]
        (found,) = buried(scene)
        assert (found.stream, found.seq, found.doc and found.doc["cause"]) == ("samples", BAD, "damaged in the outbox")
        assert disk.failed_reads < 15
        assert disk.replaced == 1
        assert scene.status()["fault"] is None
        await scene.end()

    logs = play(tmp_path, story)
    assert [entry["event"][:24] for entry in logs if entry["log_level"] == "error"] == [
        "cannot read the backlog ",
        "a frame in the outbox is",
    ]


def test_a_frame_that_can_be_read_again_in_time_is_sent_as_it_was(tmp_path: Path, disk: Disk) -> None:
    async def story(scene: Scene) -> None:
        await scene.outage(100, status_period_s=1)
        while disk.failed_reads < READ_TRIES:
            await scene.wait(0.1)
        disk.unreadable.clear()
        await measure(scene, 20)
        assert scene.broker.numbers() == list(range(scene.frames))
        assert (buried(scene), disk.replaced, scene.status()["fault"]) == ([], 0, None)
        await scene.end()

    play(tmp_path, story)


def test_what_need_not_be_read_any_more_is_no_fault(tmp_path: Path, disk: Disk) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.start(stores=("lab",), status_period_s=1)
        scene.write(100)
        await scene.wait(1)
        store.has = {(1, "samples"): set(range(100)) - {BAD}}
        # Its hole is to be filled.
        store.say()
        while not disk.failed_reads:
            await scene.wait(0.1)
        await scene.wait(1)
        assert scene.status()["fault"] is not None
        store.has[1, "samples"].add(BAD)
        store.say()
        await scene.wait(40)
        assert (scene.status()["fault"], scene.status()["waiting"], buried(scene)) == (None, 0, [])
        await scene.end()

    play(tmp_path, story)


def test_where_no_tombstone_can_be_put_either_the_file_is_given_up_after_a_while(tmp_path: Path, disk: Disk) -> None:
    disk.unwritable = OutboxUnreadableError("disk I/O error")

    async def story(scene: Scene) -> None:
        await scene.outage(100, status_period_s=1)
        await measure(scene, 300)
        # A disk that was only away for minutes loses nothing.
        assert scene.status()["outbox"]["quarantined"] is None
        assert scene.writer.used_fraction == 0.0
        while not scene.status()["outbox"]["quarantined"]:
            assert disk.failed_reads + disk.replaced < HOPELESS + 20
            await measure(scene, 2)
        # The rest could be read after all: this disk does not fail those who ask it otherwise.
        disk.unreadable.clear()
        await measure(scene, 60)
        assert set(scene.broker.numbers()) == set(range(scene.frames))
        assert (buried(scene), scene.status()["fault"]) == ([], None)
        await scene.end()

    play(tmp_path, story, ring_bytes=1 << 20)


def test_a_full_disk_that_takes_no_tombstone_is_not_asked_without_a_pause(tmp_path: Path, disk: Disk) -> None:
    disk.unreadable.clear()
    disk.unwritable = OutboxError("database or disk is full")

    async def story(scene: Scene) -> None:
        await scene.damaged(10, lambda number: number == 4)
        scene.start(status_period_s=1)
        await measure(scene, 60)
        assert 4 < disk.replaced < 10
        assert scene.writer.used_fraction == 0.0
        assert "full" in scene.status()["fault"]
        assert scene.status()["outbox"]["quarantined"] is None
        disk.unwritable = None
        await measure(scene, 60)
        assert scene.broker.numbers() == [seq for seq in range(scene.frames) if seq != 4]
        assert [frame.seq for frame in buried(scene)] == [4]
        await scene.end()

    logs = play(tmp_path, story)
    assert len([entry for entry in logs if entry["log_level"] == "error"]) == 2


def test_a_read_that_fails_for_another_reason_is_tried_again_and_buries_nothing(tmp_path: Path, disk: Disk) -> None:
    disk.error = OutboxError

    async def story(scene: Scene) -> None:
        await scene.outage(100, status_period_s=1)
        await measure(scene, 120)
        assert scene.writer.used_fraction == 0.0
        assert (4 < disk.failed_reads < 12, disk.replaced) == (True, 0)
        disk.unreadable.clear()
        await measure(scene, 60)
        assert sorted(scene.broker.numbers()) == list(range(scene.frames))
        await scene.end()

    play(tmp_path, story)


def test_rows_that_cannot_be_deleted_are_tried_again_with_pauses_and_hold_up_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def delete(_file: OutboxFile, _ranges: object, _streams: object) -> Usage:
        nonlocal tries
        tries += 1
        assert tries < 1000, "it spins"
        raise OutboxError("disk I/O error")

    monkeypatch.setattr(OutboxFile, "delete", delete)

    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.start(stores=("lab",), keep_after_watermark_s=0, status_period_s=1)
        for _ in range(20):
            scene.write(40)
            await store.serve(1)
            # What was written before the last look is on the disk.
            assert scene.writer.used_fraction == 0.0
        assert 10 < tries < 25
        assert "cannot tidy up" in scene.status()["fault"]
        await scene.end()

    play(tmp_path, story)


def test_a_read_that_the_kernel_fails_is_known_for_one(tmp_path: Path) -> None:
    file = OutboxFile(tmp_path / "outbox.sqlite")
    file.open()
    rows = [Row.of(row_id(1, seq), 0, bytes(50_000)) for seq in range(200)]
    for at in range(0, len(rows), 20):
        file.commit(rows[at : at + 20], ())
    file.close()
    file.open()
    # A file opened for writing only: every read of it fails, no write does.
    own = [int(fd.name) for fd in Path("/proc/self/fd").iterdir() if points_at(fd, file.path)]
    write_only = os.open(file.path, os.O_WRONLY)
    for fd in own:
        os.dup2(write_only, fd)
    os.close(write_only)
    with pytest.raises(OutboxUnreadableError, match=r"outbox\.sqlite: the disk cannot read a part of it"):
        file.read(1, 150, 150, 1)
    file.close()


def points_at(fd: Path, path: Path) -> bool:
    try:
        return fd.readlink() == path
    except FileNotFoundError:
        return False
