"""The uplink's bench: both sides start from the same frames, are counted alike, and leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from edge.frames import UtcMapping, decode_frame, doc_frame
from edge.ring import Kind, RingReader, RingWriter
from edge.ring_runs import RunReader
from edge.uplink.assemble import Assembler, Built
from edge.watermark import Mark, Watermark, encode
from hil.bench import uplink_sides
from hil.bench.options import BenchOptions
from hil.bench.uplink import Amount, percentile, uplink
from hil.bench.uplink_feeder import FRAME_SAMPLES, SAMPLES, Pace, burst, ready_payloads
from hil.bench.uplink_plot import draw
from hil.bench.uplink_programs import Program, rss_bytes
from hil.bench.uplink_script import Outbox, read_payloads
from hil.bench.uplink_sides import EPOCH, RIG, Arrived, Ground, Rounds, arrived, fill_ring, script_round, uplink_round
from hil.bench.uplink_subscriber import Count
from hil.broker import Broker, mosquitto_path
from hil.errors import BenchFaultError

LONG = os.environ.get("TIPGUARD_LONG") == "1"
UTC = UtcMapping(1, True, 1)
KIB_4 = 4096
needs_mosquitto = pytest.mark.skipif(mosquitto_path() is None, reason="needs mosquitto")


def never(_at_most_s: float) -> bool:
    return False


def assembled(path: Path) -> list[Built]:
    reader = RunReader(path)
    assembler = Assembler(RIG, log=structlog.get_logger("test"), utc=lambda: UTC)
    built: list[Built] = []
    while (taken := reader.read_run()) is not None:
        built += assembler.feed(taken)
    reader.close()
    return built


# ------------------------------------------------------------------------------------------------ what is fed


def test_the_scripts_payloads_are_what_an_uplink_makes_of_the_ring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.frames.utc_mapping", lambda: UTC)
    writer = RingWriter(tmp_path / "ring", 1 << 20)
    burst(writer, EPOCH, 5, never)
    assert [one.payload for one in assembled(tmp_path / "ring")] == ready_payloads(RIG, EPOCH, 5)


def test_a_payload_has_4_kib() -> None:
    sizes = {len(payload) for payload in ready_payloads(RIG, EPOCH, 400)}
    assert all(abs(size - KIB_4) < 0.01 * KIB_4 for size in sizes)


def test_a_full_ring_is_waited_for_and_nothing_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    writer, reader = RingWriter(path, 1 << 14), RingReader(path)
    seen: list[int] = []

    def drain(_at_most_s: float) -> bool:
        while (record := reader.read()) is not None:
            seen.append(record.kind)
        reader.release()
        return False

    burst(writer, EPOCH, 6, drain)
    drain(0)
    assert seen.count(Kind.SAMPLE) == 6 * SAMPLES
    assert seen.count(Kind.FRAME_CLOSE) == 6


def test_a_feeder_that_is_told_to_end_ends_at_a_full_ring(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path / "ring", 1 << 14)
    burst(writer, EPOCH, 10_000, lambda _at_most_s: True)
    assert len(assembled(tmp_path / "ring")) < 3


@pytest.mark.parametrize(("rate_hz", "sizes"), [(100.0, [100, 100, 100]), (1000.0, [FRAME_SAMPLES] * 11)])
def test_a_rigs_pace_is_frames_of_a_second_or_256_samples(tmp_path: Path, rate_hz: float, sizes: list[int]) -> None:
    path, now_ns = tmp_path / "ring", 5_000_000_000
    writer = RingWriter(path, 1 << 20)
    pace = Pace(writer, 7, RIG, rate_hz=rate_hz, events_hz=2.0, now_ns=lambda: now_ns)
    for _ in range(3002):
        pace.turn()
        now_ns += 1_000_000
    frames = [decode_frame(one.payload) for one in assembled(path)]
    assert [frame.n for frame in frames if frame.kind == "samples"] == sizes
    assert [frame.seq for frame in frames if frame.kind == "event"] == list(range(7))
    assert pace.lost == 0


def test_a_rig_does_not_wait_for_a_full_ring_but_counts(tmp_path: Path) -> None:
    now_ns = 0
    pace = Pace(RingWriter(tmp_path / "ring", 1 << 13), 7, RIG, rate_hz=1e4, events_hz=0.0, now_ns=lambda: now_ns)
    now_ns = 1_000_000_000
    pace.turn()
    assert pace.lost > 9000


# -------------------------------------------------------------------------------------------------- what is counted


def sample_payload(seq: int, epoch: int = EPOCH) -> bytes:
    return ready_payloads(RIG, epoch, seq + 1)[seq]


def test_each_frame_counts_once_and_only_its_epochs() -> None:
    count = Count(EPOCH, 3)
    for seq in (0, 2, 2, 1):
        count.frame(sample_payload(seq))
    count.frame(sample_payload(0, EPOCH + 1))
    said = count.to_json()
    assert [said[name] for name in ("unique", "doubled", "others", "out_of_order")] == [3, 1, 1, 1]
    assert count.complete
    assert 0 < said["first_ns"] <= said["last_ns"]


def test_an_event_has_an_age() -> None:
    count = Count(EPOCH, 3)
    count.frame(doc_frame("event", RIG, EPOCH, 0, {"t_ns": 1}, UTC))
    assert len(count.event_s) == 1
    assert count.event_s[0] > 0
    assert not count.complete


def test_a_watermark_counts_what_it_covers() -> None:
    count = Count(EPOCH, 100)
    for contiguous in (10, 60, 40, 500):
        marks = (Mark(EPOCH, "samples", contiguous, contiguous - 1, ()), Mark(EPOCH, "events", 99, 98, ()))
        count.watermark(encode(Watermark("lab", "0" * 16, RIG, marks), "now"))
        if contiguous == 60:
            assert count.unique == 60
            assert count.at_first == 10
    assert count.unique == 100
    assert count.complete


def test_what_is_stored_counts_from_the_first_frame_on() -> None:
    count = Count(EPOCH, 100)
    assert count.begun(b"anything")
    begun_ns = count.first_ns
    assert count.begun(b"of those before it was told to stop")
    count.watermark(encode(Watermark("lab", "0" * 16, RIG, (Mark(EPOCH, "samples", 100, 99, ()),)), "now"))
    assert (count.first_ns, count.at_first, count.unique) == (begun_ns, 1, 100)
    # One document that covers everything is a rate, too.
    assert arrived(count.to_json(), 100).rate_hz > 0


def test_a_rate_is_from_the_first_to_the_last() -> None:
    said: dict[str, Any] = {
        "unique": 101, "at_first": 1, "doubled": 2, "out_of_order": 3, "first_ns": 10**9, "last_ns": 3 * 10**9,
        "event_s": [0.5],
    }  # fmt: skip
    assert arrived(said, 103) == Arrived(50.0, 2, 2, 3, (), (0.5,))
    assert arrived(said, 103, {"event_s": [0.25]}).event_s == (0.25,)
    assert arrived({**said, "last_ns": 10**9}, 101).rate_hz == 0.0


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(1, 201)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [100.0, 198.0, 200.0]
    with pytest.raises(BenchFaultError, match="no event arrived"):
        percentile([], 0.99)


# ---------------------------------------------------------------------------------------------------- the processes


def python(text: str) -> Program:
    return Program("thing", [sys.executable, "-P", "-c", text])


def test_a_program_is_heard_line_by_line_and_told_to_go() -> None:
    with python("import sys; print('{\"a\": 1}', flush=True); sys.stdin.read(1); print('{\"b\": 2}')") as program:
        assert program.says() == {"a": 1}
        assert not program.hears(0.0)
        program.go()
        assert program.hears(10.0)
        assert program.says() == {"b": 2}


def test_a_program_that_says_something_else_or_nothing_is_a_fault() -> None:
    with python("print('[1]'); print('oh')") as program:
        for _ in range(2):
            with pytest.raises(BenchFaultError, match="expected one JSON object a line"):
                program.says()
        with pytest.raises(BenchFaultError, match=r"the thing ended \(exit 0\)"):
            program.says()
    with python("import sys; sys.stdin.read()") as program:
        with pytest.raises(BenchFaultError, match=r"has said nothing for 0\.01 s"):
            program.says(0.01)
        program.check()
        assert rss_bytes(program.pid) > 1_000_000


def test_what_a_program_has_written_in_its_life_is_known_at_its_end(tmp_path: Path) -> None:
    text = f"import os; f = open({str(tmp_path / 'x')!r}, 'wb'); f.write(bytes(1 << 20)); f.flush(); os.fsync(f); "
    with python(text + "print('{}', flush=True); import signal; signal.pause()") as program:
        program.says()
        written = program.end()
        # A folder in memory wears nothing.
        assert written >= 1 << 20 or written == 0
        with pytest.raises(BenchFaultError, match="the thing ended"):
            program.check()


# -------------------------------------------------------------------------------------------------------- both sides


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    disk, memory = tmp_path / "disk", tmp_path / "memory"
    disk.mkdir()
    memory.mkdir()
    with Broker(prefer="mosquitto") as broker:
        yield Ground(disk, memory, broker)


@needs_mosquitto
@pytest.mark.processes
@pytest.mark.timeout(120)
def test_the_script_sends_everything_once_and_its_outbox_is_empty(ground: Ground) -> None:
    payloads = ground.disk / "payloads"
    uplink_sides.write_payloads(payloads, 100)
    assert len(read_payloads(payloads)) == 100
    said = script_round(ground, 100, payloads=payloads)
    assert said[1:] == (0, 0, 0, (), ())
    assert said.rate_hz > 0
    with contextlib.closing(sqlite3.connect(ground.disk / "script" / "outbox")) as db:
        assert db.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@needs_mosquitto
@pytest.mark.processes
@pytest.mark.timeout(120)
def test_the_script_drains_what_it_finds(ground: Ground) -> None:
    outbox = ground.disk / "backlog"
    uplink_sides.write_backlog(outbox, 70)
    assert script_round(ground, 70, outbox=outbox)[1:] == (0, 0, 0, (), ())


@needs_mosquitto
@pytest.mark.processes
@pytest.mark.timeout(120)
def test_the_uplink_sends_the_same_from_a_ring(ground: Ground) -> None:
    ring = fill_ring(ground, 100)
    said = uplink_round(ground, 100, ring)
    assert (said.lost, said.doubled, said.out_of_order) == (0, 0, 0)
    assert said.rate_hz > 0


@needs_mosquitto
@pytest.mark.processes
@pytest.mark.timeout(120)
def test_what_a_store_has_is_counted_anew_in_every_round(ground: Ground) -> None:
    ring = fill_ring(ground, 100)
    assert uplink_round(ground, 100, ring, stored=True).lost == 0
    # The same frames once more: a broker that still knew of the store would keep them for it.
    uplink_round(ground, 100, ring)
    with uplink_sides.store(ground), ground.subscriber(100, store=uplink_sides.STORE) as subscriber:
        assert not subscriber.hears(1.0)
        subscriber.terminate()
        assert subscriber.says()["unique"] == 0


@needs_mosquitto
@pytest.mark.processes
@pytest.mark.timeout(120)
def test_the_uplink_drains_a_backlog_beside_a_rig_that_measures(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    says, told = Program.says, list[dict[str, Any]]()

    def noted(program: Program, within_s: float = 30.0) -> dict[str, Any]:
        told.append(says(program, within_s))
        return told[-1]

    monkeypatch.setattr(Program, "says", noted)
    backlog = uplink_sides.build_backlog(ground, 300, lambda: None)
    said = uplink_sides.drain_round(ground, 300, backlog, 100.0)
    assert (said.lost, said.doubled, said.out_of_order) == (0, 0, 0)
    assert said.event_s
    assert said.event_behind_s
    # Two subscribers: one of them takes every frame, the other none but events.
    assert sorted(one["unique"] for one in told if "unique" in one) == [0, 300]
    # The same backlog again, for the next round: what was drained was a copy.
    assert uplink_sides.drain_round(ground, 300, backlog, 100.0).lost == 0


async def test_the_scripts_outbox_commits_before_it_answers_and_in_groups(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    groups = [outbox.put([bytes([number])] * 32) for number in range(3)]
    rows = [row for group in groups for row in await group]
    with contextlib.closing(sqlite3.connect(tmp_path / "outbox")) as db:
        assert db.execute("SELECT id, payload FROM outbox ORDER BY id").fetchall() == rows
    assert outbox.commits == 3
    for number, _ in rows[:-1]:
        outbox.delete(number)
    assert await outbox.take(rows[-2][0]) == rows[-1:]
    assert await outbox.close() == 1


# ------------------------------------------------------------------------------------------------------ the report


def test_the_picture_shows_every_round(tmp_path: Path) -> None:
    side = [Arrived(1000.0 * n, 0, 0, 0, (0.01 * n, 0.02), (0.5 * n, 1.0)) for n in (1, 2, 3)]
    draw(Rounds(side, side, side, side, side), tmp_path / "plots" / "uplink.png")
    assert (tmp_path / "plots" / "uplink.png").stat().st_size > 10_000


@pytest.mark.long
@pytest.mark.skipif(not LONG, reason="long rounds: TIPGUARD_LONG=1")
@needs_mosquitto
@pytest.mark.processes
@pytest.mark.timeout(600)
def test_all_of_it(tmp_path: Path) -> None:
    few = Amount(rounds=1, frames=1000, drains=1, backlog=2000, soak=5000, day_s=5.0, sweep_v=0.2, events_hz=50.0)
    report = uplink(BenchOptions(plots=tmp_path), few)
    figures = {result["name"]: result["value"] for result in report["results"]}
    print(json.dumps(figures, indent=1))
    wanted = "frames_ratio stored_ratio drain_ratio event_p99_s rss_growth_bytes fsyncs_per_day bytes_per_day"
    assert all(figures[name] > 0 for name in wanted.split())
    assert [figures["lost"], figures["lost_by_script"], figures["out_of_order"]] == [0, 0, 0]
    assert (tmp_path / "uplink.png").exists()
