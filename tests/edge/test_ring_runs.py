"""Reading the ring by runs: the same records as one by one, with the same checks."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge import ring, ring_runs
from edge.ring import PAGE, Kind, Record, RingReader, RingWriter, unpack_sample
from edge.ring_runs import MOST, RECORD_BYTES, RunReader, SampleRun, as_stored, rows
from edge.samples import Sample

SMALL = 2 * PAGE
"""93 samples and a rest."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ring"


def a_sample(number: int) -> Sample:
    return Sample(-number, number, number + 5, number / 7, float("nan") if number % 5 == 0 else 1e-9 * number, 3, 1)


def give(writer: RingWriter, count: int, *, epoch: int = 1, seq: int = 0, first: int = 0, run: int = 9) -> int:
    """Write samples until the ring is full; return how many it took."""
    for number in range(first, first + count):
        if not writer.write_sample(epoch, seq, number, run, a_sample(number)):
            return number - first
    return count


def one_by_one(taken: SampleRun | Record) -> Iterator[Record]:
    if isinstance(taken, SampleRun):
        yield from taken.records()
    else:
        yield taken


def by_runs(reader: RunReader) -> list[Record]:
    records: list[Record] = []
    while (taken := reader.read_run()) is not None:
        records += one_by_one(taken)
        assert reader.cursor == taken.end
    return records


def drain(reader: RingReader) -> list[Record]:
    records: list[Record] = []
    while (record := reader.read()) is not None:
        records.append(record)
    return records


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def offset(pos: int) -> int:
    return PAGE + pos % SMALL


def test_the_layout_is_the_rings_own() -> None:
    # The ring's module says it once, for a writer without numpy; here it is said again.
    assert ring._SAMPLE_BYTES == RECORD_BYTES
    assert ring._SAMPLE_STORED == ring_runs.STORED_BYTES
    assert ring._SAMPLE_KIND == ring_runs._KIND_LENGTH
    assert ring_runs._CHECKED.size == RECORD_BYTES == ring_runs.RECORD.itemsize


def test_samples_of_a_frame_come_as_one_run(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RunReader(path)
    begin = writer.head
    give(writer, 40, epoch=2**64 - 1, seq=2**63)
    writer.write(Kind.FRAME_CLOSE, 2**64 - 1, 2**63, b"")
    taken = reader.read_run()
    assert isinstance(taken, SampleRun)
    assert (taken.pos, taken.epoch, taken.seq, taken.samples) == (begin, 2**64 - 1, 2**63, 40)
    assert taken.end == begin + 40 * RECORD_BYTES == reader.cursor
    closing = reader.read_run()
    assert isinstance(closing, Record)
    assert closing.kind == Kind.FRAME_CLOSE
    assert reader.read_run() is None


def test_rows_are_what_the_plain_reader_unpacks(path: Path) -> None:
    writer, reader, plain = RingWriter(path, SMALL), RunReader(path), RingReader(path)
    give(writer, 30, first=3)
    taken = reader.read_run()
    assert isinstance(taken, SampleRun)
    records = drain(plain)
    assert list(taken.records()) == records
    table = rows(taken.data)
    for row, record in zip(table, records, strict=True):
        assert repr(row.item()) == repr((*unpack_sample(record.payload)[:2], *unpack_sample(record.payload)[2]))
        assert repr(rows(as_stored(record.payload))[0].item()) == repr(row.item())


@pytest.mark.parametrize("other", [{"seq": 1}, {"epoch": 2}])
def test_a_run_ends_with_its_frame(path: Path, other: dict[str, int]) -> None:
    writer, reader = RingWriter(path, SMALL), RunReader(path)
    give(writer, 7)
    give(writer, 5, first=7, **other)
    sizes = [taken.samples for taken in (reader.read_run(), reader.read_run()) if isinstance(taken, SampleRun)]
    assert sizes == [7, 5]
    assert reader.read_run() is None


def test_a_run_is_bounded(path: Path) -> None:
    writer, reader = RingWriter(path, 1 << 20), RunReader(path)
    give(writer, MOST + 10)
    sizes = [taken.samples for taken in (reader.read_run(), reader.read_run()) if isinstance(taken, SampleRun)]
    assert sizes == [MOST, 10]


def test_what_comes_later_is_another_run(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RunReader(path)
    for number in range(5):
        assert reader.read_run() is None
        give(writer, 1, first=number)
        taken = reader.read_run()
        assert isinstance(taken, SampleRun)
        assert [unpack_sample(record.payload)[0] for record in taken.records()] == [number]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("samples"), st.integers(1, 60)),
        st.tuples(st.just("document"), st.integers(0, SMALL // 4 - 32)),
        st.tuples(st.sampled_from(["close", "epoch"]), st.just(0)),
        st.tuples(st.sampled_from(["read", "release", "rewind", "reopen"]), st.integers(1, 4)),
    ),
    max_size=60,
)


@given(steps=STEPS)
@example([("samples", 60), ("read", 4), ("release", 1)] * 8)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_steps_gives_the_same_records_as_the_plain_reader(
    path: Path, steps: list[tuple[str, int]]
) -> None:
    path.unlink(missing_ok=True)
    writer, reader, plain = RingWriter(path, SMALL), RunReader(path), RingReader(path)
    number = seq = 0
    epoch = 1
    for step, argument in steps:
        if step == "samples":
            number += give(writer, argument, epoch=epoch, seq=seq, first=number)
        elif step == "document":
            writer.write(Kind.EVENT, epoch, number, bytes(argument))
        elif step == "close":
            writer.write(Kind.FRAME_CLOSE, epoch, seq, b"")
            seq += 1
        elif step == "epoch":
            epoch, seq = epoch + 1, 0
        elif step == "read":
            for _ in range(argument):
                taken = reader.read_run()
                records = [] if taken is None else list(one_by_one(taken))
                assert records == [plain.read() for _ in records]
                assert taken is not None or plain.read() is None
                # A skipped rest of a lap may be behind one cursor and before the other; neither holds a record.
                assert reader.cursor == plain.cursor
        elif step == "release":
            reader.release()
            plain.release()
        elif step == "rewind":
            reader.rewind()
            plain.rewind()
        else:
            reader.close()
            plain.close()
            reader, plain = RunReader(path), RingReader(path)
    assert by_runs(reader) == drain(plain)
    for one in (writer, reader, plain):
        one.close()


@given(victim=st.integers(0, 9), byte=st.integers(0, RECORD_BYTES - 2))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_record_ends_the_run_before_it(path: Path, victim: int, byte: int) -> None:
    path.unlink(missing_ok=True)
    writer, reader = RingWriter(path, SMALL), RunReader(path)
    begin = writer.head
    give(writer, 10)
    flip(path, offset(begin + victim * RECORD_BYTES) + byte)
    assert [unpack_sample(record.payload)[0] for record in by_runs(reader)] == list(range(victim))
    assert reader.stuck()
    assert reader.resync() == RECORD_BYTES
    assert [unpack_sample(record.payload)[0] for record in by_runs(reader)] == list(range(victim + 1, 10))
    writer.close()
    reader.close()


def test_the_padding_behind_a_sample_matters_to_nobody(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RunReader(path)
    begin = writer.head
    give(writer, 3)
    flip(path, offset(begin + RECORD_BYTES) + RECORD_BYTES - 1)
    assert len(by_runs(reader)) == 3


def test_records_of_an_earlier_lap_are_in_no_run(path: Path) -> None:
    # 88 * 512 bytes: a lap of samples ends where the next begins, so that old ones stand just where new ones will.
    path.unlink(missing_ok=True)
    writer, reader = RingWriter(path, RECORD_BYTES * 512), RunReader(path)
    for lap in range(2):
        assert give(writer, 1000, first=lap * 512) == 512
        assert len(by_runs(reader)) == 512
        reader.release()
    give(writer, 2, first=5000)
    assert [unpack_sample(record.payload)[0] for record in by_runs(reader)] == [5000, 5001]


def test_a_sample_of_another_writers_length_is_left_to_the_plain_reader(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RunReader(path)
    writer.write(Kind.SAMPLE, 1, 0, bytes(56))
    give(writer, 2)
    first = reader.read_run()
    assert isinstance(first, Record)
    assert len(first.payload) == 56
    assert len(by_runs(reader)) == 2


def test_half_a_record_ends_the_run(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RunReader(path)
    give(writer, 4)
    torn_at = writer.head
    # All of the record but its CRC, which the writer puts there last.
    body = struct.pack("<IQQQQQqIqddHB", ring._SAMPLE_KIND, torn_at, 1, 0, 4, 9, *a_sample(4))
    with path.open("r+b") as file:
        file.seek(offset(torn_at) + 4)
        file.write(body)
    assert len(by_runs(reader)) == 4
    give(writer, 1, first=4)
    assert len(by_runs(reader)) == 1


def test_a_frame_as_long_as_the_one_before_is_one_run_and_a_longer_one_two(path: Path) -> None:
    writer, reader = RingWriter(path, 1 << 20), RunReader(path)
    lengths = [95, 95, 95, 200, 95, 95, 3, 95]
    for seq, length in enumerate(lengths):
        assert give(writer, length, seq=seq) == length
        writer.write(Kind.FRAME_CLOSE, 1, seq, b"")
    sizes: dict[int, list[int]] = {}
    while (taken := reader.read_run()) is not None:
        if isinstance(taken, SampleRun):
            sizes.setdefault(taken.seq, []).append(taken.samples)
    assert [sum(of_frame) for of_frame in sizes.values()] == lengths
    assert [len(of_frame) for of_frame in sizes.values()] == [1, 1, 1, 2, 1, 1, 1, 2]


def test_a_runs_first_index(path: Path) -> None:
    writer, reader = RingWriter(path, SMALL), RunReader(path)
    give(writer, 5, first=70_000)
    taken = reader.read_run()
    assert isinstance(taken, SampleRun)
    assert taken.first == 70_000
