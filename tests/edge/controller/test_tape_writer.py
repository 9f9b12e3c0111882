"""The tape on its way into the ring: all of it while there is room, and never in place of a sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge.controller import tape_writer as module
from edge.controller.recorder import Recorder
from edge.controller.tape_writer import IDLE_NS, MOST_ENTRIES, TapeWriter
from edge.instruments.recording import Tape
from edge.ring import Kind, Record, RingReader, RingWriter
from edge.samples import Phase, Sample
from edge.tape import Code, Entry, unpack
from hil.virtual import VirtualClock

RING = 64 * 1024
EPOCH = 7
MS = 1_000_000


class Bench:
    """A ring, a tape, a writer; the reader drains only when told."""

    def __init__(self, folder: Path, size: int = RING) -> None:
        self.clock = VirtualClock()
        self.ring = RingWriter(folder / "ring", size)
        self.reader = RingReader(folder / "ring")
        self.tape = Tape(self.clock)
        self.writer = TapeWriter(self.tape, self.ring, EPOCH)
        self.t_ns = self.clock.now_ns()

    def exchange(self, n: int = 0) -> None:
        self.t_ns += 16 * MS
        self.tape.append((Code.OUT, self.t_ns, 0, b":SOUR:VOLT -0.%04d\n:READ?\n" % n))
        self.tape.append(self.t_ns + 1)

    def tick(self) -> None:
        self.writer.tick(self.t_ns)

    def drain(self) -> list[Record]:
        found = []
        while (record := self.reader.read()) is not None:
            found.append(record)
        self.reader.release()
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.writer.start({"rig": "r"})
    return made


def tape_of(records: list[Record]) -> list[Entry]:
    return [entry for record in records if record.kind == Kind.TAPE for entry in unpack(record.payload)]


def test_everything_comes_out_in_its_order(bench: Bench) -> None:
    for n in range(50):
        bench.exchange(n)
        bench.tick()
    records = bench.drain()
    entries = tape_of(records)
    assert [entry[3] for entry in entries if isinstance(entry, tuple)] == [
        b":SOUR:VOLT -0.%04d\n:READ?\n" % n for n in range(50)
    ]
    times = [entry if isinstance(entry, int) else entry[1] for entry in entries]
    assert times == sorted(times)
    assert [record.seq for record in records if record.kind == Kind.TAPE] == list(range(50))
    assert bench.tape.entries == []


def test_the_beginning_stands_before_the_first_stretch(bench: Bench) -> None:
    bench.exchange()
    bench.tick()
    first, second = bench.drain()
    assert (first.kind, second.kind) == (Kind.TAPE_START, Kind.TAPE)
    start = msgpack.unpackb(first.payload)
    assert (start["from"], start["epoch"], start["rig"], start["ring_bytes"]) == ("start", EPOCH, "r", RING)


def test_at_rest_a_record_a_second_is_enough(bench: Bench) -> None:
    for _ in range(100):
        bench.t_ns += 20 * MS
        bench.tape.append(bench.t_ns)
        bench.tick()
    stretches = [record for record in bench.drain() if record.kind == Kind.TAPE]
    assert 2 <= len(stretches) <= 4
    assert IDLE_NS == 1000 * MS


def test_a_flood_goes_out_in_stretches_that_a_ring_takes(bench: Bench) -> None:
    for n in range(MOST_ENTRIES + 10):
        bench.tape.append(bench.t_ns + n)
    bench.tick()
    assert len([record for record in bench.drain() if record.kind == Kind.TAPE]) == 2


def test_above_its_share_nothing_is_written_and_the_gap_is_counted_and_declared(bench: Bench) -> None:
    while bench.writer.lost == 0:
        bench.exchange()
        bench.tick()
    assert bench.ring.used_fraction < module.SHARE + 0.01
    first_lost_ns = bench.t_ns
    for n in range(9):
        bench.exchange(n)
        bench.tick()
    assert bench.writer.lost == 20
    before = bench.drain()
    assert not any(isinstance(entry, tuple) and entry[0] == Code.GAP for entry in tape_of(before))
    bench.exchange(77)
    bench.tick()
    bench.exchange(78)
    bench.tick()
    gap, *rest = tape_of(bench.drain())
    assert gap == (Code.GAP, bench.t_ns - 16 * MS, 20, first_lost_ns)
    assert [entry[3][11:18] for entry in rest if isinstance(entry, tuple)] == [b"-0.0077", b"-0.0078"]
    # Declared once, and the numbers of the stretches have no hole.
    assert len(rest) == 4


def fill(folder: Path, *, samples: int) -> Recorder:
    """Record exchanges with a sample each until there are so many; nobody drains."""
    clock = VirtualClock()
    tape = Tape(clock)
    recorder = Recorder(RingWriter(folder / "ring", RING), rig="r", clock=clock, tape=tape)
    assert recorder.tape_writer is not None
    recorder.tape_writer.start({"rig": "r"})
    t_ns = clock.now_ns()
    for n in range(samples):
        t_ns += 16 * MS
        tape.append((Code.OUT, t_ns, 0, b":SOUR:VOLT -0.0000\n:READ?\n"))
        tape.append((Code.IN, t_ns, 0, b"-1.234567E-09,+2.048400E+04\r"))
        recorder.sample(Sample(t_ns, 1, t_ns, 0.0, 1e-9 * n, 0, Phase.SEEK))
        recorder.tick(t_ns)
    return recorder


def test_the_tape_never_crowds_out_a_sample(tmp_path: Path) -> None:
    recorder = fill(tmp_path, samples=450)
    assert recorder.samples_lost == 0
    assert recorder.tape_writer is not None
    assert recorder.tape_writer.lost > 0


def test_without_the_bound_samples_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARE", 1.0)
    assert fill(tmp_path, samples=450).samples_lost > 0


def test_a_beginning_that_found_no_room_leaves_no_checkpoint(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.writer.start({"rig": "x" * RING})
    assert not bench.writer.can_checkpoint
    bench.writer.checkpoint(5, {})
    assert bench.drain() == []


def test_a_checkpoint_repeats_the_start_up_dialogue_and_no_more(bench: Bench) -> None:
    def checkpoint(state: dict[str, Any]) -> dict[str, Any]:
        bench.writer.checkpoint(bench.t_ns, state)
        found: dict[str, Any] = msgpack.unpackb(bench.drain()[-1].payload)
        return found

    bench.exchange(1)
    first = checkpoint({"n": 1})
    assert bench.tape.entries == []
    assert [unpack(payload)[0][3] for payload in first["preamble"]] == [b":SOUR:VOLT -0.0001\n:READ?\n"]  # type: ignore[index]
    bench.exchange(2)
    bench.tick()
    second = checkpoint({"n": 2})
    assert second["preamble"] == first["preamble"]
    assert (second["from"], second["state"], second["checkpoint_ns"]) == ("checkpoint", {"n": 2}, bench.t_ns)


def test_a_start_up_dialogue_that_is_too_long_is_not_repeated(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PREAMBLE_BYTES", 100)
    for n in range(5):
        bench.exchange(n)
        bench.tick()
    assert not bench.writer.can_checkpoint


def test_after_a_gap_the_next_checkpoint_waits_until_it_is_declared(bench: Bench) -> None:
    bench.exchange()
    bench.writer.checkpoint(bench.t_ns, {})
    while bench.writer.lost == 0:
        bench.exchange()
        bench.tick()
    bench.writer.checkpoint(bench.t_ns, {})
    assert bench.drain()[-1].kind == Kind.TAPE
    bench.exchange()
    bench.writer.checkpoint(bench.t_ns, {})
    *_, tape, checkpoint = bench.drain()
    assert (tape.kind, checkpoint.kind) == (Kind.TAPE, Kind.TAPE_START)
    assert unpack(tape.payload)[0][0] == Code.GAP  # type: ignore[index] # a tuple
