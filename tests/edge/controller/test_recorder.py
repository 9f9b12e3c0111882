"""The recorder: numbers without holes, frames that close, and nothing that the ring could not take goes unsaid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.clock import TimerHandle
from edge.controller.recorder import FRAME_NS, FRAME_SAMPLES, MAX_WAITING_DOCS, Recorder, new_id
from edge.frames import UtcMapping, decode_frame
from edge.ring import Kind, Record, RingReader, RingWriter, unpack_sample
from edge.samples import Phase, Sample
from edge.uplink.assemble import Assembler

MS = 1_000_000
S = 1_000_000_000


class HandClock:
    """Time moved by hand."""

    def __init__(self) -> None:
        self.t_ns = 100 * S

    def now_ns(self) -> int:
        return self.t_ns

    def call_at(self, t_ns: int, callback: Callable[[], None]) -> TimerHandle:
        raise NotImplementedError

    async def sleep_until(self, t_ns: int) -> None:
        raise NotImplementedError


class Bench:
    """A recorder, its ring, and the uplink's view of it."""

    def __init__(self, path: Path, size: int = 1 << 16, prev_epoch: int = 0) -> None:
        self.clock = HandClock()
        self.ring = RingWriter(path, size)
        self.recorder = Recorder(self.ring, rig="bench-1", clock=self.clock, prev_epoch=prev_epoch, version="0.1")
        self.reader = RingReader(path)

    def sample(self, after_ns: int = 10 * MS) -> None:
        self.clock.t_ns += after_ns
        t_ns = self.clock.t_ns
        self.recorder.sample(Sample(t_ns - 5 * MS, 1000, t_ns, -0.1, 1e-6, 0, Phase.SEEK))

    def tick(self, after_ns: int = 20 * MS) -> None:
        self.clock.t_ns += after_ns
        self.recorder.tick(self.clock.t_ns)

    def drain(self) -> list[Record]:
        """Read everything, as the uplink does, and give the room back."""
        records = []
        while (record := self.reader.read()) is not None:
            records.append(record)
        self.reader.release()
        return records

    def fill(self) -> int:
        """Write samples until one is lost; return how many were recorded."""
        written = 0
        while not self.recorder.samples_lost:
            self.sample()
            written += 1
        return written - 1


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "ring")


def doc(record: Record) -> dict[str, Any]:
    found: dict[str, Any] = msgpack.unpackb(record.payload)
    return found


def docs(records: list[Record], kind: Kind) -> list[dict[str, Any]]:
    return [doc(record) for record in records if record.kind == kind]


def frames_of(records: list[Record]) -> list[tuple[int, list[int]]]:
    """Return (seq, sample numbers) of each frame, in the order of their first samples."""
    frames: dict[int, list[int]] = {}
    for record in records:
        if record.kind == Kind.SAMPLE:
            frames.setdefault(record.seq, []).append(unpack_sample(record.payload)[0])
    return list(frames.items())


def closes(records: list[Record]) -> list[int]:
    return [record.seq for record in records if record.kind == Kind.FRAME_CLOSE]


class Log:
    """Fails when the assembler complains."""

    def error(self, what: str, **data: object) -> None:
        raise AssertionError(f"{what}: {data}")


# ----------------------------------------------------------------------------------------------------- the epoch


def test_the_first_record_is_the_epoch_with_its_predecessor(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "ring", prev_epoch=7)
    first, *rest = bench.drain()
    assert (first.kind, first.epoch, first.seq, rest) == (Kind.EPOCH, bench.recorder.epoch, 0, [])
    assert doc(first) == {
        "rig": "bench-1",
        "epoch": bench.recorder.epoch,
        "prev_epoch": 7,
        "t_ns": 100 * S,
        "version": "0.1",
    }


def test_without_a_predecessor_there_is_none(bench: Bench) -> None:
    assert docs(bench.drain(), Kind.EPOCH)[0]["prev_epoch"] is None


def test_epochs_are_random_and_never_zero(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({new_id() for _ in range(100)}) == 100
    monkeypatch.setattr("edge.controller.recorder.secrets.randbits", lambda _bits: 0)
    assert new_id() == 1


# -------------------------------------------------------------------------------------------------------- frames


def test_a_frame_closes_at_256_samples(bench: Bench) -> None:
    for _ in range(600):
        bench.sample(after_ns=1 * MS)
    records = bench.drain()
    assert frames_of(records) == [
        (0, list(range(256))),
        (1, list(range(256, 512))),
        (2, list(range(512, 600))),
    ]
    assert closes(records) == [0, 1]
    assert FRAME_SAMPLES == 256


def test_a_frame_closes_a_second_after_its_first_sample(bench: Bench) -> None:
    for _ in range(21):
        bench.sample(after_ns=100 * MS)
    records = bench.drain()
    assert frames_of(records) == [(0, list(range(10))), (1, list(range(10, 20))), (2, [20])]
    assert closes(records) == [0, 1]
    assert FRAME_NS == S


def test_a_frame_closes_without_another_sample(bench: Bench) -> None:
    bench.sample()
    opened_ns = bench.clock.t_ns
    bench.drain()
    while bench.clock.t_ns + 20 * MS < opened_ns + FRAME_NS:
        bench.tick()
        assert bench.drain() == []
    bench.tick()
    assert closes(bench.drain()) == [0]
    # A tick comes every 20 ms: the frame is at most that much older than a second.
    assert bench.clock.t_ns - opened_ns <= FRAME_NS + 20 * MS
    bench.tick(2 * S)
    assert bench.drain() == []


def test_closing_closes_what_is_open_and_nothing_else(bench: Bench) -> None:
    bench.drain()
    bench.recorder.close_frame()
    assert bench.drain() == []
    bench.sample()
    bench.recorder.close_frame()
    bench.recorder.close_frame()
    bench.sample()
    records = bench.drain()
    assert frames_of(records) == [(0, [0]), (1, [1])]
    assert closes(records) == [0]


def test_the_close_follows_the_samples_it_closes(bench: Bench) -> None:
    bench.drain()
    bench.sample()
    bench.sample()
    bench.recorder.close_frame()
    assert [record.kind for record in bench.drain()] == [Kind.SAMPLE, Kind.SAMPLE, Kind.FRAME_CLOSE]


def test_samples_carry_their_number_and_their_run(bench: Bench) -> None:
    bench.sample()
    bench.recorder.run = 77
    bench.sample()
    bench.recorder.run = 0
    bench.sample()
    got = [unpack_sample(record.payload)[:2] for record in bench.drain() if record.kind == Kind.SAMPLE]
    assert got == [(0, 0), (1, 77), (2, 0)]


def test_a_sample_comes_back_as_it_was(bench: Bench) -> None:
    sample = Sample(1, 2, 3, -0.5, 1e-6, 8, Phase.RESET)
    bench.recorder.sample(sample)
    assert [unpack_sample(r.payload)[2] for r in bench.drain() if r.kind == Kind.SAMPLE] == [sample]


# ----------------------------------------------------------------------------------------------------- documents


def test_events_and_run_documents_count_each_for_themselves(bench: Bench) -> None:
    for n in range(3):
        bench.recorder.event({"n": n})
        bench.recorder.run_doc({"n": n})
    records = bench.drain()
    for kind in (Kind.EVENT, Kind.RUN):
        found = [record for record in records if record.kind == kind]
        assert [record.seq for record in found] == [0, 1, 2]
        assert [doc(record)["n"] for record in found] == [0, 1, 2]
        assert {record.epoch for record in found} == {bench.recorder.epoch}


def test_a_document_names_its_run_unless_it_does_so_itself(bench: Bench) -> None:
    bench.recorder.run = 5
    bench.recorder.event({"kind": "cut"})
    bench.recorder.event({"kind": "cut", "run": 6})
    assert [d["run"] for d in docs(bench.drain(), Kind.EVENT)] == [5, 6]


def test_a_document_too_large_for_the_ring_is_shortened_and_says_so(bench: Bench) -> None:
    large = {"kind": "cut", "verdict": "OPERATOR", "t_ns": 5, "setting": {"data": bytes(40_000)}, "list": [1] * 9}
    bench.recorder.event(large)
    (found,) = docs(bench.drain(), Kind.EVENT)
    assert found.pop("shortened_from_bytes") > 40_000
    assert found == {"run": 0, "kind": "cut", "verdict": "OPERATOR", "t_ns": 5}


def test_the_largest_document_that_fits_is_kept_whole(bench: Bench) -> None:
    whole = {"data": bytes((1 << 14) - 120)}
    bench.recorder.event(whole)
    assert docs(bench.drain(), Kind.EVENT) == [{"run": 0, **whole}]


# -------------------------------------------------------------------------------------------------- a full ring


def test_a_sample_that_does_not_fit_is_counted_and_raises_nothing(bench: Bench) -> None:
    recorded = bench.fill()
    assert bench.recorder.samples == recorded + 1
    assert bench.recorder.samples_lost == 1
    for _ in range(9):
        bench.sample()
    assert (bench.recorder.samples, bench.recorder.samples_lost) == (recorded + 10, 10)
    assert bench.recorder.ring_used > 0.98


def test_after_a_hole_the_next_sample_declares_it(bench: Bench) -> None:
    recorded = bench.fill()
    for _ in range(9):
        bench.sample()
    bench.drain()
    bench.sample()
    records = bench.drain()
    assert docs(records, Kind.TOMBSTONE) == [
        {"run": 0, "stream": "samples", "from": recorded, "to": recorded + 9, "cause": "ring full"}
    ]
    assert [index for _, indices in frames_of(records) for index in indices] == [recorded + 10]
    bench.sample()
    bench.tick()
    assert docs(bench.drain(), Kind.TOMBSTONE) == []


def test_a_hole_at_the_end_is_declared_too(bench: Bench) -> None:
    # As after RING_FULL: the ring fills, the bias is cut, and no sample follows.
    recorded = bench.fill()
    bench.sample()
    bench.drain()
    bench.tick()
    assert docs(bench.drain(), Kind.TOMBSTONE) == [
        {"run": 0, "stream": "samples", "from": recorded, "to": recorded + 1, "cause": "ring full"}
    ]


def test_every_tombstone_has_a_number_of_its_own(bench: Bench) -> None:
    # Two with the same number would be taken for one that was delivered twice.
    records = []
    for _ in range(3):
        lost = bench.recorder.samples_lost
        while bench.recorder.samples_lost == lost:
            bench.sample()
        records += bench.drain()
        bench.sample()
    records += bench.drain()
    assert [record.seq for record in records if record.kind == Kind.TOMBSTONE] == [0, 1, 2]


def test_a_hole_never_lies_inside_a_frame(bench: Bench) -> None:
    # The frame's samples are numbered from its first on: behind a hole every number in it would be wrong.
    bench.fill()
    bench.drain()
    bench.sample()
    lost = bench.recorder.samples_lost
    indices = dict(frames_of(bench.drain()))
    while bench.recorder.samples_lost == lost:
        bench.sample(after_ns=MS // 100)
    bench.sample(after_ns=MS // 100)
    for seq, numbers in frames_of(bench.drain()):
        indices.setdefault(seq, []).extend(numbers)
    bench.sample(after_ns=MS // 100)
    for seq, numbers in frames_of(bench.drain()):
        indices.setdefault(seq, []).extend(numbers)
    assert all(numbers == list(range(numbers[0], numbers[-1] + 1)) for numbers in indices.values())


def test_documents_wait_for_room_in_their_order(bench: Bench) -> None:
    bench.fill()
    for n in range(20):
        bench.recorder.event({"n": n, "text": "x" * 100})
    waiting = [d["n"] for d in docs(bench.drain(), Kind.EVENT)]
    bench.recorder.run_doc({"n": 20})
    bench.tick()
    records = bench.drain()
    assert waiting + [d["n"] for d in docs(records, Kind.EVENT)] == list(range(20))
    assert [record.seq for record in records if record.kind == Kind.EVENT] == list(range(len(waiting), 20))
    assert docs(records, Kind.RUN) == [{"run": 0, "n": 20}]


def test_a_small_document_does_not_overtake_a_large_one_that_waits(bench: Bench) -> None:
    bench.fill()
    bench.recorder.event({"n": 0, "text": "x" * 5_000})
    bench.recorder.event({"n": 1})
    bench.drain()
    bench.recorder.event({"n": 2})
    assert docs(bench.drain(), Kind.EVENT) == []
    bench.tick()
    assert [d["n"] for d in docs(bench.drain(), Kind.EVENT)] == [0, 1, 2]


def fill_up(bench: Bench) -> None:
    """Fill the ring so that not even the smallest document fits."""
    bench.fill()
    while bench.ring.write(Kind.STATUS, 1, 0, b""):
        pass


def test_documents_dropped_from_a_long_queue_are_declared(bench: Bench) -> None:
    fill_up(bench)
    for n in range(MAX_WAITING_DOCS + 10):
        bench.recorder.event({"n": n})
        bench.recorder.run_doc({"n": n})
        bench.tick()
    bench.drain()
    bench.tick()
    bench.tick()
    records = bench.drain()
    sent = {kind: [r.seq for r in records if r.kind == kind] for kind in (Kind.EVENT, Kind.RUN)}
    holes = {d["stream"]: (d["from"], d["to"]) for d in docs(records, Kind.TOMBSTONE)}
    for kind, stream in ((Kind.EVENT, "events"), (Kind.RUN, "runs")):
        first, last = holes[stream]
        assert list(range(first, last + 1)) + sent[kind] == list(range(MAX_WAITING_DOCS + 10))
    assert len(sent[Kind.EVENT]) + len(sent[Kind.RUN]) >= MAX_WAITING_DOCS - 1


def test_what_went_out_between_two_losses_is_not_declared_missing(bench: Bench) -> None:
    fill_up(bench)
    for n in range(MAX_WAITING_DOCS + 5):
        bench.recorder.event({"n": n})
    records = []
    for _ in range(10):
        record = bench.reader.read()
        assert record is not None
        records.append(record)
    bench.reader.release()
    bench.tick()
    for n in range(20):
        bench.recorder.event({"n": n})
    for _ in range(3):
        records += bench.drain()
        bench.tick()
    records += bench.drain()
    sent = [record.seq for record in records if record.kind == Kind.EVENT]
    holes = [(d["from"], d["to"]) for d in docs(records, Kind.TOMBSTONE) if d["stream"] == "events"]
    assert len(holes) == 2
    missing = [seq for first, last in holes for seq in range(first, last + 1)]
    assert sorted(sent + missing) == list(range(MAX_WAITING_DOCS + 25))


def test_a_tombstone_is_never_dropped_from_the_queue(bench: Bench) -> None:
    fill_up(bench)
    bench.tick()
    for n in range(2 * MAX_WAITING_DOCS):
        bench.recorder.event({"n": n})
    bench.drain()
    bench.tick()
    bench.tick()
    assert "samples" in {d["stream"] for d in docs(bench.drain(), Kind.TOMBSTONE)}


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("samples"), st.integers(1, 60)),
        st.tuples(st.just("event"), st.integers(0, 900)),
        st.tuples(st.just("run"), st.integers(0, 50)),
        st.tuples(st.just("tick"), st.integers(1, 1200)),
        st.tuples(st.just("drain"), st.just(0)),
        st.tuples(st.just("close"), st.just(0)),
    ),
    max_size=60,
)


@given(ACTIONS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_whatever_happens_each_number_is_recorded_or_declared_missing(
    tmp_path: Path, actions: list[tuple[str, int]]
) -> None:
    path = tmp_path / "ring"
    path.unlink(missing_ok=True)
    bench = Bench(path, size=4096)
    records: list[Record] = []
    for what, number in actions:
        if what == "samples":
            for _ in range(number):
                bench.sample()
        elif what == "event":
            bench.recorder.event({"text": "x" * number})
        elif what == "run":
            bench.recorder.run_doc({"text": "x" * number})
        elif what == "tick":
            bench.tick(number * MS)
        elif what == "close":
            bench.recorder.close_frame()
        else:
            records += bench.drain()
    for _ in range(300):
        records += bench.drain()
        bench.tick()
    records += bench.drain()
    # In each stream: numbers that came, and numbers declared missing, make 0, 1, 2, ... together.
    missing: dict[str, list[int]] = {"samples": [], "events": [], "runs": []}
    for hole in docs(records, Kind.TOMBSTONE):
        missing[hole["stream"]] += range(hole["from"], hole["to"] + 1)
    came = {
        "samples": [index for _, indices in frames_of(records) for index in indices],
        "events": [record.seq for record in records if record.kind == Kind.EVENT],
        "runs": [record.seq for record in records if record.kind == Kind.RUN],
    }
    for stream, numbers in came.items():
        assert numbers == sorted(numbers)
        assert sorted(numbers + missing[stream]) == list(range(len(numbers) + len(missing[stream]))), stream
    assert len(came["samples"]) + len(missing["samples"]) == bench.recorder.samples
    assert len(missing["samples"]) == bench.recorder.samples_lost
    tombstones = [record.seq for record in records if record.kind == Kind.TOMBSTONE]
    assert tombstones == list(range(len(tombstones)))
    # And the uplink makes frames of it in which sample k of a frame is number first + k.
    assembler = Assembler("bench-1", log=Log(), utc=lambda: UtcMapping(0, True, 1))
    built = [frame for record in records for frame in assembler.feed(record)] + assembler.close()
    numbers = []
    for frame in (decode_frame(one.payload) for one in built if one.kind == "samples"):
        numbers += range(frame.first, frame.first + frame.n)
    assert numbers == came["samples"]
    identities = [decode_frame(one.payload).identity for one in built]
    assert len(identities) == len(set(identities))


# ------------------------------------------------------------------------------------------------------ its size


def test_the_ring_is_told_in_seconds(bench: Bench) -> None:
    left_s = bench.recorder.ring_left_s(100.0)
    n = 0
    while not bench.recorder.samples_lost:
        bench.sample()
        n += 1
    assert left_s == pytest.approx(n / 100.0, rel=0.15)
    assert bench.recorder.ring_left_s(100.0) < 0.02
    assert bench.recorder.ring_left_s(0.0) == float("inf")
