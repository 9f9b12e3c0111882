"""Segments: whole records only, whatever is torn, damaged or refused by the disk."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.store.backend import StoreError
from edge.store.disk import RealDisk
from edge.store.journal import MAGIC, Scan, Segment, encode_record, read_records

VALUES: list[Any] = [["rig-1", 2**64 - 1, "samples", number, bytes([number]) * 40] for number in range(6)]


def scanned(data: bytes) -> tuple[list[Any], Scan]:
    scan = Scan()
    return list(read_records(data, scan)), scan


def test_what_is_written_is_read(tmp_path: Path) -> None:
    segment = Segment(RealDisk(), tmp_path / "one")
    segment.append([encode_record(value) for value in VALUES[:2]])
    segment.append([encode_record(value) for value in VALUES[2:]])
    segment.close()
    assert scanned((tmp_path / "one").read_bytes()) == (VALUES, Scan(0, 0))
    assert segment.size == (tmp_path / "one").stat().st_size


@given(st.integers(0, 6 * 90))
def test_cut_anywhere_the_whole_ones_before_it_are_read(at: int) -> None:
    records = [encode_record(value) for value in VALUES]
    data = b"".join(records)[:at]
    whole, size = 0, 0
    while whole < len(records) and size + len(records[whole]) <= len(data):
        size += len(records[whole])
        whole += 1
    assert scanned(data) == (VALUES[:whole], Scan(0, len(data) - size))


@given(st.integers(0, 5), st.integers(0, 60), st.integers(1, 255))
def test_a_damaged_record_is_stepped_over_and_counted(which: int, offset: int, flip: int) -> None:
    records = [encode_record(value) for value in VALUES]
    broken = bytearray(records[which])
    broken[offset % len(broken)] ^= flip
    records[which] = bytes(broken)
    found, scan = scanned(b"".join(records))
    assert found == VALUES[:which] + VALUES[which + 1 :]
    assert scan.damaged_bytes + scan.torn_bytes == len(broken)
    assert bool(scan.torn_bytes) == (which == len(records) - 1)


@given(st.binary(max_size=400))
def test_garbage_is_no_record(data: bytes) -> None:
    assert scanned(data)[0] == []
    assert scanned(MAGIC + data)[0] == []


def test_a_frame_that_holds_records_is_one_record() -> None:
    inner = encode_record(VALUES[0])
    assert scanned(encode_record(["rig-1", 1, "samples", 0, inner])) == ([["rig-1", 1, "samples", 0, inner]], Scan())


class _FullDisk(RealDisk):
    """Takes ``room`` bytes, then a part of a write, then nothing."""

    def __init__(self, room: int, *, fail_sync: bool = False) -> None:
        self.room = room
        self.fail_sync = fail_sync
        self.stuck = False
        self.cuts: list[int] = []

    def write(self, descriptor: int, data: bytes) -> None:
        super().write(descriptor, data[: self.room])
        if len(data) > self.room:
            self.room = 0
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(data)

    def sync(self, descriptor: int) -> None:
        if self.fail_sync:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(descriptor)

    def cut_back(self, descriptor: int, size: int) -> None:
        if self.stuck:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.cuts.append(size)
        super().cut_back(descriptor, size)


def test_a_full_disk_fails_the_append_and_the_next_one_begins_where_the_last_good_one_ended(tmp_path: Path) -> None:
    first, second, third = (encode_record(value) for value in VALUES[:3])
    disk = _FullDisk(len(first) + 10)
    segment = Segment(disk, tmp_path / "one")
    segment.append([first])
    for _ in range(3):
        with pytest.raises(StoreError, match="No space"):
            segment.append([second])
        # Nobody reads what was not committed.
        assert (tmp_path / "one").read_bytes() == first
    disk.room = 1 << 20
    segment.append([third])
    segment.close()
    assert scanned((tmp_path / "one").read_bytes()) == ([VALUES[0], VALUES[2]], Scan())
    assert set(disk.cuts) == {len(first)}


def test_what_cannot_be_cut_off_at_once_is_before_the_next_append(tmp_path: Path) -> None:
    disk = _FullDisk(10)
    disk.stuck = True
    segment = Segment(disk, tmp_path / "one")
    with pytest.raises(StoreError, match="No space"):
        segment.append([encode_record(VALUES[0])])
    assert not segment.clean
    disk.room = 1 << 20
    with pytest.raises(StoreError, match="Input/output"):
        segment.append([encode_record(VALUES[0])])
    disk.stuck = False
    segment.append([encode_record(VALUES[1])])
    assert scanned((tmp_path / "one").read_bytes()) == ([VALUES[1]], Scan())
    segment.close()


def test_after_a_failed_sync_everything_is_written_again(tmp_path: Path) -> None:
    disk = _FullDisk(1 << 20, fail_sync=True)
    segment = Segment(disk, tmp_path / "one")
    with pytest.raises(StoreError, match="Input/output"):
        segment.append([encode_record(VALUES[0])])
    disk.fail_sync = False
    segment.append([encode_record(VALUES[0])])
    assert disk.cuts == [0]
    assert scanned((tmp_path / "one").read_bytes()) == ([VALUES[0]], Scan())
    segment.close()


def test_closing_after_a_failure_leaves_no_part_behind(tmp_path: Path) -> None:
    disk = _FullDisk(10)
    segment = Segment(disk, tmp_path / "one")
    with pytest.raises(StoreError):
        segment.append([encode_record(VALUES[0])])
    segment.close()
    assert (tmp_path / "one").read_bytes() == b""


def test_a_folder_that_is_gone_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        Segment(RealDisk(), tmp_path / "gone" / "one").append([b"x"])


def test_any_tail_of_zeros_is_torn_not_damage() -> None:
    rng = random.Random(5)
    record = encode_record(VALUES[0])
    zeros = bytes(rng.randrange(1, 5000))
    assert scanned(record + zeros) == ([VALUES[0]], Scan(0, len(zeros)))
