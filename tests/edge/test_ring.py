"""The ring: what is written is read, once and in order, whatever dies in between."""

from __future__ import annotations

import errno
import math
import os
import random
import signal
import struct
import subprocess
import sys
import zlib
from collections import deque
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import RingError
from edge.ring import PAGE, Kind, Record, RingReader, RingWriter, unpack_sample
from edge.samples import Flag, Phase, Sample

SMALL = 4096
SAMPLE = Sample(1_000_000_007, 500_000, 1_000_500_000, -1.25, 3.2e-6, int(Flag.COMPLIANCE), int(Phase.SEEK))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ring"


def drain(reader: RingReader) -> list[Record]:
    records = []
    while (record := reader.read()) is not None:
        records.append(record)
    return records


def write_count(writer: RingWriter, kind: int = Kind.EVENT, size: int = 8, start: int = 0) -> int:
    """Write until the ring refuses; the payload starts with the record's number."""
    number = start
    while writer.write(kind, 1, number, number.to_bytes(8, "little").ljust(size, b"\xa5")):
        number += 1
    return number - start


# ------------------------------------------------------------------------------------------------ records


def test_kinds_are_frozen() -> None:
    assert [(kind.name, kind.value) for kind in Kind] == [
        ("SAMPLE", 1),
        ("FRAME_CLOSE", 2),
        ("EVENT", 3),
        ("RUN", 4),
        ("EPOCH", 5),
        ("TOMBSTONE", 6),
        ("STATUS", 7),
        ("TAPE", 8),
        ("TAPE_START", 9),
        ("FRONT", 10),
    ]


def test_a_record_comes_out_as_it_went_in(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    assert writer.write(Kind.EVENT, 2**64 - 1, 2**63, b"payload")
    record = reader.read()
    assert record is not None
    assert record[1:] == (Kind.EVENT, 2**64 - 1, 2**63, b"payload")
    assert record.end == reader.cursor == writer.head
    assert reader.read() is None


def test_a_sample_comes_out_as_it_went_in(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    assert writer.write_sample(7, 3, 12345, 2**64 - 1, SAMPLE)
    assert writer.write_sample(7, 3, 12346, 0, SAMPLE._replace(current_a=math.nan, flags=Flag.OVERFLOW))
    first, second = drain(reader)
    assert first[1:4] == second[1:4] == (Kind.SAMPLE, 7, 3)
    assert unpack_sample(first.payload) == (12345, 2**64 - 1, SAMPLE)
    index, run, sample = unpack_sample(second.payload)
    assert (index, run, sample.flags) == (12346, 0, Flag.OVERFLOW)
    assert math.isnan(sample.current_a)


def test_the_sample_payload_is_as_documented(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    writer.write_sample(1, 0, 5, 9, SAMPLE)
    record = reader.read()
    assert record is not None
    assert record.payload == struct.pack("<QQqIqddHB", 5, 9, *SAMPLE)


def test_a_sample_of_another_length_is_an_error() -> None:
    with pytest.raises(RingError, match="10 bytes"):
        unpack_sample(b"0123456789")


def test_a_sample_that_fits_no_record_is_an_error_and_leaves_nothing(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    with pytest.raises(RingError, match="sample 4 of frame 2"):
        writer.write_sample(1, 2, 4, 0, SAMPLE._replace(t_unc_ns=2**32))
    assert writer.write_sample(1, 2, 5, 0, SAMPLE)
    assert [unpack_sample(record.payload)[0] for record in drain(reader)] == [5]


@pytest.mark.parametrize(("kind", "size"), [(0, 0), (255, 0), (Kind.EVENT, SMALL // 4)])
def test_a_record_no_ring_of_this_size_could_hold_is_an_error(path: Path, kind: int, size: int) -> None:
    with pytest.raises(RingError, match=f"{size} bytes"):
        RingWriter(path, SMALL).write(kind, 1, 1, bytes(size))


# ------------------------------------------------------------------------------------------- room and release


def test_a_full_ring_refuses_and_overwrites_nothing(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    held = write_count(writer)
    assert writer.used_fraction > 0.98
    before = path.read_bytes()
    assert not writer.write(Kind.EVENT, 1, 0, b"12345678")
    assert not writer.write_sample(1, 0, 0, 0, SAMPLE)
    assert path.read_bytes() == before
    assert [record.seq for record in drain(reader)] == list(range(held))
    assert reader.used_fraction == writer.used_fraction


def test_reading_frees_nothing_releasing_does(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    held = write_count(writer)
    records = drain(reader)
    assert not writer.write(Kind.EVENT, 1, held, b"12345678")
    reader.release_to(records[0].end)
    assert writer.write(Kind.EVENT, 1, held, b"12345678")
    assert not writer.write(Kind.EVENT, 1, held + 1, b"12345678")
    reader.release()
    assert reader.tail == reader.cursor
    assert [record.seq for record in drain(reader)] == [held]


def test_releasing_to_a_records_start_keeps_it(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    for seq in range(3):
        writer.write(Kind.EVENT, 1, seq, b"")
    records = drain(reader)
    reader.release_to(records[1].pos)
    assert [record.seq for record in drain(RingReader(path))] == [1, 2]
    reader.rewind()
    assert [record.seq for record in drain(reader)] == [1, 2]


def test_a_release_outside_what_was_read_is_an_error(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    writer.write(Kind.EVENT, 1, 0, b"")
    with pytest.raises(RingError, match="release"):
        reader.release_to(writer.head)
    drain(reader)
    reader.release()
    with pytest.raises(RingError, match="release"):
        reader.release_to(reader.tail - 8)


def test_used_fraction_is_the_share_not_released(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    assert writer.used_fraction == reader.used_fraction == 0.0
    for _ in range(16):
        writer.write(Kind.EVENT, 1, 0, bytes(32))
    assert writer.used_fraction == reader.used_fraction == 16 * 64 / SMALL
    drain(reader)
    reader.release()
    assert writer.used_fraction == reader.used_fraction == 0.0


SIZES = st.integers(0, SMALL // 4 - 32)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), SIZES),
        st.tuples(st.just("sample"), st.just(0)),
        st.tuples(st.sampled_from(["read", "release", "rewind", "reopen writer", "reopen reader"]), st.integers(1, 6)),
    ),
    max_size=120,
)


@given(steps=STEPS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_steps_keeps_every_record_once_and_in_order(path: Path, steps: list[tuple[str, int]]) -> None:
    path.unlink(missing_ok=True)
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    held: deque[tuple[int, bytes]] = deque()  # not released; the first `read` of them are behind the cursor
    read = 0
    number = 0
    for step, argument in steps:
        if step in {"write", "sample"}:
            number += 1
            payload = number.to_bytes(4, "little").ljust(max(argument, 4), b"\xff")
            if step == "sample":
                payload = struct.pack("<QQqIqddHB", number, 0, *SAMPLE)
                accepted = writer.write_sample(1, number, number, 0, SAMPLE)
            else:
                accepted = writer.write(Kind.EVENT, 1, number, payload)
            used = sum((32 + len(item) + 7) // 8 * 8 for _, item in held)
            size = (32 + len(payload) + 7) // 8 * 8
            # Refused only for want of room: besides the record there may be a pad shorter than itself, and one among
            # those held, shorter than the largest record.
            assert accepted or used + size + size + SMALL // 4 > SMALL
            assert not accepted or used + size <= SMALL
            if accepted:
                held.append((number, payload))
        elif step == "read":
            for _ in range(argument):
                record = reader.read()
                assert (record is None) == (read == len(held))
                if record is not None:
                    assert (record.seq, record.payload) == held[read]
                    read += 1
        elif step == "release":
            reader.release()
            for _ in range(read):
                held.popleft()
            read = 0
        elif step == "rewind":
            reader.rewind()
            read = 0
        elif step == "reopen writer":
            writer.close()
            writer = RingWriter(path, SMALL)
        else:
            reader.close()
            reader = RingReader(path)
            read = 0
    reader.rewind()
    assert [(record.seq, record.payload) for record in drain(reader)] == list(held)
    writer.close()
    reader.close()


# --------------------------------------------------------------------------------------------------- damage


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x40]))


def offset(pos: int) -> int:
    return PAGE + pos % SMALL


def test_recovery_goes_on_behind_the_last_record(path: Path) -> None:
    writer = RingWriter(path, SMALL)
    for seq in range(5):
        writer.write(Kind.EVENT, 1, seq, b"before")
    writer.close()
    writer = RingWriter(path, SMALL)
    for seq in range(5, 10):
        writer.write(Kind.EVENT, 2, seq, b"after")
    assert [record.seq for record in drain(RingReader(path))] == list(range(10))


@given(cut=st.integers(0, 39), junk=st.binary(min_size=40, max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_torn_last_record_is_dropped(path: Path, cut: int, junk: bytes) -> None:
    path.unlink(missing_ok=True)
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    writer.write(Kind.EVENT, 1, 0, b"whole")
    torn_at = writer.head
    # What a kill at byte `cut` of the body leaves: the head hint and the CRC are written behind it.
    body = struct.pack("<IQQQ", Kind.EVENT << 24 | 12, torn_at, 1, 1) + b"twelve bytes"
    assert len(body) == 40
    with path.open("r+b") as file:
        file.seek(offset(torn_at) + 4)
        file.write(body[:cut] + junk[cut:])
    assert [record.seq for record in drain(reader)] == [0]
    again = RingWriter(path, SMALL)
    assert again.head == torn_at
    again.write(Kind.EVENT, 1, 2, b"next")
    assert [record.payload for record in drain(reader)] == [b"next"]
    for ring in (writer, again, reader):
        ring.close()


def test_a_record_of_an_earlier_lap_never_validates(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    for _ in range(3):
        write_count(writer, size=32)  # 64 bytes each: 64 fill a lap exactly
        assert len(drain(reader)) == 64
        reader.release()
    # Every place now holds an intact record, one lap old, at the very offset where the next is looked for.
    assert reader.cursor % SMALL == 0
    assert reader.read() is None
    assert drain(RingReader(path)) == []
    writer.close()
    again = RingWriter(path, SMALL)
    assert again.head == reader.cursor
    assert again.used_fraction == 0.0


def test_a_copy_of_a_record_in_a_payload_never_validates(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    target = writer.head + SMALL  # one lap on, the payload below lies exactly where this position will be
    body = struct.pack("<IQQQ", Kind.EVENT << 24, target, 1, 99)
    forged = struct.pack("<I", zlib.crc32(body)) + body  # right but for the ring's own seed
    for _ in range(SMALL // 32):
        assert writer.write(Kind.EVENT, 1, 1, b"")
        drain(reader)
        reader.release()
    assert reader.cursor == target
    with path.open("r+b") as file:
        file.seek(offset(target))
        file.write(forged)
    assert reader.read() is None


def test_a_rings_records_mean_nothing_in_another_ring(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    writer = RingWriter(one, SMALL)
    writer.write(Kind.EVENT, 1, 0, b"here")
    RingWriter(other, SMALL).close()
    with other.open("r+b") as file:
        file.seek(PAGE)
        file.write(one.read_bytes()[PAGE:])
    assert drain(RingReader(other)) == []


def test_damage_in_the_middle_is_seen_skipped_and_counted(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    starts = []
    for seq in range(6):
        starts.append(writer.head)
        writer.write(Kind.EVENT, 1, seq, b"payload!")
    flip(path, offset(starts[2]) + 34)
    assert [record.seq for record in drain(reader)] == [0, 1]
    assert reader.stuck()
    assert reader.resync() == 40
    assert not reader.stuck()
    assert [record.seq for record in drain(reader)] == [3, 4, 5]
    # A writer that recovers keeps what is behind the damage.
    assert RingWriter(path, SMALL).head == writer.head


def test_damage_of_everything_unread_resyncs_to_the_writer(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    at = writer.head
    writer.write(Kind.EVENT, 1, 0, b"payload!")
    flip(path, offset(at) + 8)
    assert reader.resync() == 40
    writer.write(Kind.EVENT, 1, 1, b"")
    assert [record.seq for record in drain(reader)] == [1]


def test_an_idle_reader_is_not_stuck(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    assert not reader.stuck()
    assert reader.resync() == 0
    writer.write(Kind.EVENT, 1, 1, b"")
    assert not reader.stuck()
    drain(reader)
    assert not reader.stuck()


# ------------------------------------------------------------------------------------------------- the file


def test_an_absent_ring_says_who_makes_it(path: Path) -> None:
    with pytest.raises(RingError, match=r"ring .*/ring: No such file.*made by the controller"):
        RingReader(path)


@pytest.mark.parametrize("at", [0, 8, 12, 16, 24, 33])
def test_a_damaged_header_says_where_and_what_to_do(path: Path, at: int) -> None:
    RingWriter(path, SMALL).close()
    flip(path, at)
    for opener in (lambda: RingWriter(path, SMALL), lambda: RingReader(path)):
        with pytest.raises(RingError, match=r"damaged header \(bytes 0\.\.35\); remove the file"):
            opener()


def test_one_damaged_tail_mark_is_survived_two_are_not(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    for seq in range(4):
        writer.write(Kind.EVENT, 1, seq, b"")
        drain(reader)
        reader.release()
    writer.write(Kind.EVENT, 1, 4, b"")
    flip(path, 129)
    # Going back to the older mark repeats a record, which is what at-least-once means; it loses none.
    assert [record.seq for record in drain(RingReader(path))][-1] == 4
    flip(path, 193)
    with pytest.raises(RingError, match="both tail marks"):
        RingReader(path)
    assert not writer.write(Kind.EVENT, 1, 9, bytes(900)) or writer.used_fraction < 1


def tail_mark(path: Path, tail: int) -> bytes:
    """A tail mark with a right CRC, as the ring's reader would write it."""
    ring_id = int.from_bytes(path.read_bytes()[24:32], "little")
    return struct.pack("<QI", tail, zlib.crc32(struct.pack("<Q", tail), ring_id >> 32))


@pytest.mark.parametrize("shift", [-SMALL, -8, 8, SMALL])
def test_a_tail_that_goes_back_or_ahead_frees_nothing(path: Path, shift: int) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    writer.write(Kind.EVENT, 1, 0, b"")
    drain(reader)
    reader.release()
    assert writer.used_fraction == 0.0
    held = write_count(writer)
    wrong = tail_mark(path, (reader.tail if shift < 0 else writer.head) + shift)
    with path.open("r+b") as file:
        for at in (128, 192):
            file.seek(at)
            file.write(wrong)
    assert not writer.write(Kind.EVENT, 1, 0, b"12345678")
    assert 0.98 < writer.used_fraction <= 1.0
    assert len(drain(reader)) == held


def test_a_tail_mark_torn_by_a_kill_costs_one_release_at_most(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    for seq in range(6):
        writer.write(Kind.EVENT, 1, seq, b"")
        drain(reader)
        before = reader.tail
        reader.release()
        whole = path.read_bytes()
        newest = whole.index(tail_mark(path, reader.tail), 128, 204)
        flip(path, newest + 3)
        assert RingReader(path).tail == before
        path.write_bytes(whole)


def test_a_head_hint_that_a_kill_left_behind_is_set_right(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    writer.write(Kind.EVENT, 1, 0, bytes(96))
    with path.open("r+b") as file:
        file.seek(64)
        file.write(struct.pack("<Q", SMALL))
    assert reader.used_fraction == 0.0
    writer.close()
    assert RingWriter(path, SMALL).used_fraction == reader.used_fraction == 128 / SMALL


def test_another_size_is_refused(path: Path) -> None:
    RingWriter(path, SMALL).close()
    with pytest.raises(RingError, match="holds 4096 bytes of records, 8192 wanted"):
        RingWriter(path, 2 * SMALL)


@pytest.mark.parametrize("size", [-1, 0, (1 << 40) + 1])
def test_a_size_that_cannot_be_is_refused(path: Path, size: int) -> None:
    with pytest.raises(RingError, match=f"size of {size} bytes"):
        RingWriter(path, size)


def test_a_size_is_rounded_up_to_pages(path: Path) -> None:
    assert RingWriter(path, 4097).capacity_bytes == 8192
    assert RingWriter(path, 8000).capacity_bytes == 8192


def test_a_truncated_file_is_refused(path: Path) -> None:
    RingWriter(path, 2 * SMALL).close()
    os.truncate(path, PAGE + SMALL)
    with pytest.raises(RingError, match="header says 8192 bytes, file has 4096"):
        RingWriter(path, SMALL)
    path.write_bytes(b"")
    with pytest.raises(RingError, match="0 bytes is no ring"):
        RingReader(path)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RingError, match="cannot be made"):
        RingWriter(tmp_path / "absent" / "ring", SMALL)


def test_no_room_for_the_ring_is_an_error_and_leaves_no_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RingError, match=r"no room for 4096 bytes \(No space left"):
        RingWriter(path, SMALL)
    assert list(path.parent.iterdir()) == []


def test_a_replaced_ring_is_noticed(path: Path) -> None:
    RingWriter(path, SMALL).close()
    reader = RingReader(path)
    assert not reader.replaced()
    path.unlink()
    assert reader.replaced()
    RingWriter(path, SMALL).close()
    assert reader.replaced()


def test_closing_twice_is_fine(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RingReader(path)
    for _ in range(2):
        writer.close()
        reader.close()


# ---------------------------------------------------------------------------------------------------- kill -9

PRODUCER = """
import sys
from pathlib import Path
from edge.ring import Kind, RingReader, RingWriter, unpack_sample
from edge.samples import Sample
path, size = Path(sys.argv[1]), int(sys.argv[2])
writer = RingWriter(path, size)
start = int(sys.argv[3])
sample = Sample(0, 1, 2, 0.5, 1e-6, 0, 1)
print("ready", flush=True)
number = start
while True:
    if number % 17 == 0:
        done = writer.write(Kind.EVENT, 1, number, number.to_bytes(8, "little") * (1 + number % 13))
    else:
        done = writer.write_sample(1, number, number, 0, sample)
    number += done
"""


@pytest.mark.processes
def test_killing_the_writer_at_any_moment_leaves_a_readable_ring(path: Path) -> None:
    killer = random.Random(20_240_117)
    size = 16 * 4096
    RingWriter(path, size).close()
    reader = RingReader(path)
    expected = 0
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", PRODUCER, str(path), str(size), str(expected)], stdout=subprocess.PIPE
        ) as producer:
            assert producer.stdout is not None
            assert producer.stdout.readline() == b"ready\n"
            # Drain while it writes, so that it is killed within a lap, at a wrap, or while refused.
            enough = expected + killer.randrange(1, 800)
            while expected < enough:
                record = reader.read()
                if record is None:
                    # Refused, or not scheduled yet: room makes it go on, a killed one would end the wait.
                    reader.release()
                    assert producer.poll() is None
                    continue
                assert record.seq == expected
                expected += 1
                if killer.random() < 0.3:
                    reader.release()
            os.kill(producer.pid, signal.SIGKILL)
            producer.wait(10)
        # A fresh reader sees all that was not released, without a gap.
        fresh = RingReader(path)
        left = drain(fresh)
        assert [record.seq for record in left] == [left[0].seq + number for number in range(len(left))]
        fresh.close()
        for record in drain(reader):
            assert record.seq == expected
            if record.kind == Kind.SAMPLE:
                assert unpack_sample(record.payload)[0] == expected
            expected += 1
        reader.release()
        assert not reader.stuck()
    assert expected > 1000
