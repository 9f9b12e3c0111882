"""The uplink's segments: bounded, without rest, whole after a restart, and no harm to frames when the disk is full."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import structlog
from structlog.testing import capture_logs

from edge.flight import FlightRecord, read_flight, run_uids, segments, stretches
from edge.frames import UtcMapping
from edge.ring import Kind, RingReader, RingWriter
from edge.samples import Phase, Sample
from edge.tape import pack
from edge.uplink import UplinkSettings, run_uplink
from edge.uplink import flight as module
from edge.uplink.flight import RETRY_NS, FlightWriter
from hil.virtual import VirtualClock, run_virtual
from tests.edge.uplink.scene import FakeBroker

SECOND = 1_000_000_000
CAPACITY = 1 << 20


WRITERS: list[FlightWriter] = []


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Syncing to the disk takes a thread, which virtual time does not wait for; one test has it back."""
    monkeypatch.setattr(module, "SYNC_NS", 1 << 62)
    yield
    while WRITERS:
        # As if the process had died.
        WRITERS.pop()._close()


class Bench:
    """A writer whose records and time are in the test's hand."""

    def __init__(self, folder: Path, keep: int = 1 << 20, segment: int = 1 << 16) -> None:
        self.folder = folder
        self.clock = VirtualClock()
        self.options = (keep, segment)
        self.pos = CAPACITY
        self.epoch = 1
        self.seq = 0
        self.writer = self.restart()

    def restart(self) -> FlightWriter:
        keep, segment = self.options
        self.writer = FlightWriter(
            self.folder,
            "r",
            keep_bytes=keep,
            segment_bytes=segment,
            clock=self.clock,
            log=structlog.get_logger("uplink"),
        )
        WRITERS.append(self.writer)
        return self.writer

    def make(self, kind: Kind, payload: bytes, seq: int = 0) -> FlightRecord:
        self.pos += 64 + len(payload)
        return FlightRecord(kind, self.epoch, seq, self.pos, payload)

    def begin(self, kind: str = "start") -> FlightRecord:
        document: dict[str, Any] = {"v": 1, "epoch": self.epoch, "from": kind, "t_ns": 1, "checkpoint_ns": 1}
        record = self.make(Kind.TAPE_START, msgpack.packb(document), self.seq)
        self.take(record)
        return record

    def tape(self, size: int = 30) -> FlightRecord:
        record = self.make(Kind.TAPE, pack([5, (1, 6, 0, os.urandom(size))]), self.seq)
        self.seq += 1
        self.take(record)
        return record

    def run(self, uid: str, kind: str = "start") -> FlightRecord:
        record = self.make(Kind.RUN, msgpack.packb({"uid": uid, "kind": kind}))
        self.take(record)
        return record

    def take(self, record: FlightRecord) -> None:
        self.writer.take(record)  # type: ignore[arg-type] # what it needs of a Record is there

    def said(self) -> str:
        return self.writer.fault or ""

    def turn(self, after_s: float = 2.0) -> None:
        self.clock._now_ns += int(after_s * SECOND)
        self.writer.turn()

    def on_disk(self) -> list[FlightRecord]:
        return read_flight(self.folder).records


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "flight")


def test_what_is_taken_is_on_disk_within_a_second(bench: Bench) -> None:
    taken = [bench.begin(), bench.tape(), bench.run("aa"), bench.tape()]
    bench.turn(1.0)
    assert bench.on_disk() == taken
    assert bench.folder.stat().st_mode & 0o777 == 0o700


def test_rest_is_not_kept_but_the_last_of_it_before_a_run_is(bench: Bench) -> None:
    start = [bench.begin(), bench.tape()]
    for _ in range(5):
        bench.begin("checkpoint")
        bench.tape()
        bench.turn()
    last = [bench.begin("checkpoint"), bench.tape(), bench.run("aa"), bench.tape()]
    bench.turn()
    assert bench.on_disk() == [*start, *last]
    found, notes = stretches(bench.on_disk())
    assert [stretch.start["from"] for stretch in found] == ["start", "checkpoint"]
    assert notes == []
    assert run_uids(found[1]) == ["aa"]


def test_the_last_seconds_of_a_worker_that_died_at_rest_are_kept(bench: Bench) -> None:
    bench.begin()
    bench.tape()
    last = [bench.begin("checkpoint"), bench.tape()]
    bench.epoch, bench.seq = 2, 0
    bench.begin()
    bench.turn()
    assert [record for record in bench.on_disk() if record.epoch == 1][-2:] == last


def test_what_begins_in_the_middle_is_not_written(bench: Bench) -> None:
    bench.tape()
    bench.run("aa")
    bench.turn()
    assert segments(bench.folder) == []
    kept = [bench.begin("checkpoint"), bench.tape(), bench.run("bb")]
    bench.turn()
    assert bench.on_disk() == kept


def test_segments_are_bounded_and_the_oldest_go_first(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "flight", keep=1 << 20, segment=1 << 16)
    bench.begin()
    bench.run("aa")
    for _ in range(400):
        bench.tape(5000)
        bench.turn()
        assert sum(path.stat().st_size for path in segments(bench.folder)) <= (1 << 20)
    found = segments(bench.folder)
    assert found[0].stem > "00000001"
    # What is left begins in the middle, and says so.
    assert read_flight(found[0]).continues
    assert max(path.stat().st_size for path in found) < (1 << 16) + 6000
    assert stretches(bench.on_disk())[0] == []


def test_a_long_run_goes_on_in_the_next_segment_and_is_one_stretch(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "flight", segment=1 << 16)
    bench.begin()
    bench.run("aa")
    for _ in range(30):
        bench.tape(5000)
        bench.turn()
    assert len(segments(bench.folder)) > 1
    [stretch], notes = stretches(read_flight(segments(bench.folder)[-1]).records)
    assert (len(stretch.entries()), notes) == (60, [])


def test_an_uplink_that_starts_again_writes_nothing_twice_and_misses_nothing(bench: Bench) -> None:
    taken = [bench.begin(), bench.run("aa"), bench.tape(), bench.tape()]
    bench.turn()
    bench.restart()
    # The ring gives everything again that was not released.
    for record in taken[1:]:
        bench.take(record)
    more = [bench.tape(), bench.run("aa", "stop"), bench.tape()]
    bench.turn()
    assert bench.on_disk() == [*taken, *more]
    assert len(stretches(bench.on_disk())[0]) == 1
    assert read_flight(segments(bench.folder)[1]).continues is False


def test_what_is_not_on_disk_is_not_released(bench: Bench) -> None:
    first = bench.begin()
    assert bench.writer.floor(bench.pos + 100, CAPACITY) == first.pos
    bench.run("aa")
    bench.turn()
    assert bench.writer.floor(bench.pos + 100, CAPACITY) == bench.pos + 100
    held = bench.tape()
    assert bench.writer.floor(bench.pos + 100, CAPACITY) == held.pos
    # But the ring's room is for samples.
    assert bench.writer.floor(held.pos + CAPACITY // 8 + 1, CAPACITY) == held.pos + CAPACITY // 8 + 1


class FullDisk:
    """Lets every write fail while it is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        original = Path.open

        def opened(path: Path, mode: str = "r", buffering: int = -1, **options: str) -> object:
            if self.full and mode == "xb":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(path, mode, buffering, **options)

        monkeypatch.setattr(Path, "open", opened)


def test_a_full_disk_pauses_the_recording_and_it_goes_on_where_a_replay_can_begin(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch)
    disk.full = True
    with capture_logs() as logs:
        bench.begin()
        bench.run("aa")
        bench.tape()
        bench.turn()
        for _ in range(3):
            bench.tape()
            bench.turn()
        assert "No space left" in bench.said()
        assert bench.writer.missed == 6
        disk.full = False
        bench.turn(RETRY_NS / SECOND)
        bench.tape()
        assert bench.said() == ""
        kept = [bench.begin("checkpoint"), bench.run("bb"), bench.tape()]
        bench.turn()
    assert bench.on_disk() == kept
    errors = [entry["event"] for entry in logs if entry["log_level"] == "error"]
    assert len(errors) == 1
    assert "everything else goes on" in errors[0]


def test_a_directory_that_cannot_be_made_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "flight").write_text("a file")
    bench = Bench(tmp_path / "flight" / "below")
    with capture_logs() as logs:
        for _ in range(3):
            bench.begin()
            bench.turn(RETRY_NS / SECOND)
    assert len([entry for entry in logs if entry["log_level"] == "error"]) == 1
    assert bench.writer.missed == 3


async def test_what_was_written_is_forced_to_the_disk_by_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SYNC_NS", 10 * SECOND)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.fstat(fd).st_size))
    bench = Bench(tmp_path / "flight")
    bench.begin()
    bench.run("aa")
    bench.turn(11.0)
    assert bench.writer._syncing is not None
    await bench.writer._syncing
    before = segments(bench.folder)[0].stat().st_size
    bench.tape()
    bench.turn()
    assert synced == [before]


# ------------------------------------------------------------------------------------------- in the uplink itself


def a_worker(folder: Path) -> RingWriter:
    """Return a ring with an epoch's beginning, tape, and samples that are in no frame yet."""
    ring = RingWriter(folder / "ring", 1 << 18)
    ring.write(Kind.EPOCH, 3, 0, msgpack.packb({"rig": "rig-1", "epoch": 3, "prev_epoch": None, "t_ns": 1}))
    ring.write(Kind.TAPE_START, 3, 0, msgpack.packb({"v": 1, "epoch": 3, "from": "start", "t_ns": 1}))
    ring.write(Kind.TAPE, 3, 0, pack([5, 6]))
    return ring


async def uplink(
    folder: Path, clock: VirtualClock, broker: FakeBroker, stop: asyncio.Event, *, record: bool = True
) -> None:
    settings = UplinkSettings(
        rig="rig-1", ring_path=folder / "ring", flight_directory=folder / "flight" if record else None
    )
    await run_uplink(
        settings,
        stop=stop,
        clock=clock,
        connector=broker.connect,
        utc=lambda: UtcMapping(1_700_000_000_000_000_000, True, 5),
    )


def in_uplink(
    folder: Path, work: Callable[[RingWriter, VirtualClock, FakeBroker], Awaitable[None]], *, record: bool = True
) -> FakeBroker:
    """Run an uplink in virtual time around ``work(ring, clock, broker)``."""
    result: list[FakeBroker] = []

    async def main(clock: VirtualClock) -> None:
        ring = a_worker(folder)
        broker = FakeBroker(clock)
        result.append(broker)
        stop = asyncio.Event()
        task = asyncio.get_running_loop().create_task(uplink(folder, clock, broker, stop, record=record))
        await clock.sleep_until(clock.now_ns() + 2 * SECOND)
        await work(ring, clock, broker)
        stop.set()
        await task

    run_virtual(main)
    return result[0]


def test_tape_is_released_without_an_acknowledgement_and_published_nowhere(tmp_path: Path) -> None:
    async def work(ring: RingWriter, clock: VirtualClock, _broker: FakeBroker) -> None:
        for seq in range(1, 100):
            ring.write(Kind.TAPE, 3, seq, pack([10 * seq, 10 * seq + 1]))
            await clock.sleep_until(clock.now_ns() + SECOND // 50)
        await clock.sleep_until(clock.now_ns() + 3 * SECOND)
        assert ring.used_fraction == 0.0

    with capture_logs() as logs:
        broker = in_uplink(tmp_path, work)
    assert {publication.topic for publication in broker.received if "samples" in publication.topic} == set()
    assert not [entry for entry in logs if entry["log_level"] == "error"]
    [stretch], notes = stretches(read_flight(tmp_path / "flight").records)
    assert (len(stretch.entries()), notes) == (200, [])


def test_tape_behind_a_sample_that_is_not_committed_stays_in_the_ring(tmp_path: Path) -> None:
    async def work(ring: RingWriter, clock: VirtualClock, _broker: FakeBroker) -> None:
        # Its frame is not closed: there is nothing to commit yet.
        ring.write_sample(3, 0, 0, 0, Sample(1, 1, 2, 0.5, 1e-6, 0, Phase.SEEK))
        ring.write(Kind.TAPE, 3, 1, pack([7, 8]))
        await clock.sleep_until(clock.now_ns() + 4 * SECOND)
        reader = RingReader(ring.path)
        first = reader.read()
        assert first is not None
        assert first.kind == Kind.SAMPLE
        reader.close()
        # On disk it is all the same.
        assert read_flight(tmp_path / "flight").records[-1].kind == Kind.TAPE

    in_uplink(tmp_path, work)


def test_samples_are_published_though_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch)
    disk.full = True

    async def work(ring: RingWriter, clock: VirtualClock, broker: FakeBroker) -> None:
        ring.write_sample(3, 0, 0, 0, Sample(1, 1, 2, 0.5, 1e-6, 0, Phase.SEEK))
        ring.write(Kind.FRAME_CLOSE, 3, 0, b"")
        await clock.sleep_until(clock.now_ns() + 3 * SECOND)
        assert ring.used_fraction == 0.0
        status = broker.on("status")[-1]
        assert b"No space left" in status

    broker = in_uplink(tmp_path, work)
    assert len(broker.on("samples")) == 1


def test_an_uplink_without_a_directory_records_nothing(tmp_path: Path) -> None:
    async def work(_ring: RingWriter, _clock: VirtualClock, _broker: FakeBroker) -> None:
        return

    in_uplink(tmp_path, work, record=False)
    assert not (tmp_path / "flight").exists()
