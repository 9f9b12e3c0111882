"""The uplink's pure parts: frames from ring records, and the JSON side."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgpack
import pytest
import structlog
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from edge.errors import ConfigError
from edge.frames import MAX_SAMPLES, Frame, UtcMapping, decode_frame, doc_frame
from edge.ring import Kind, RingWriter
from edge.ring_runs import RunReader, SampleRun
from edge.samples import Flag, Phase, Sample
from edge.uplink import UplinkSettings, documents
from edge.uplink.assemble import Assembler, Built, Latest
from edge.uplink.mqtt import reason_text

UTC = UtcMapping(1_700_000_000_000_000_000, True, 5)
LOG = structlog.get_logger("test")
SECOND = 1_000_000_000


def a_sample(number: int = 0) -> Sample:
    return Sample(number, 1, number + 5, 0.5, 1e-6, 0, int(Phase.SEEK))


class Bench:
    """A ring, and an assembler that is fed from it."""

    def __init__(self, path: Path) -> None:
        self.writer = RingWriter(path, 1 << 20)
        self.reader = RunReader(path)
        self.assembler = Assembler("rig-1", log=LOG, utc=lambda: UTC)

    def feed(self) -> list[Built]:
        built = []
        while (record := self.reader.read()) is not None:
            built += self.assembler.feed(record)
        return built

    def feed_runs(self) -> list[Built]:
        built = []
        while (taken := self.reader.read_run()) is not None:
            built += self.assembler.feed(taken)
        return built

    def samples(self, seq: int, indices: range, *, epoch: int = 1, run: int = 0) -> None:
        for index in indices:
            assert self.writer.write_sample(epoch, seq, index, run, a_sample(index))

    def document(self, kind: Kind, seq: int, doc: dict[str, Any], *, epoch: int = 1) -> None:
        assert self.writer.write(kind, epoch, seq, msgpack.packb(doc))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "ring")


def decoded(built: list[Built]) -> list[Frame]:
    return [decode_frame(item.payload) for item in built]


# --------------------------------------------------------------------------------------------------- assembling


def test_a_frame_is_closed_by_its_close_record(bench: Bench) -> None:
    start = bench.writer.head
    bench.samples(0, range(3), run=9)
    assert bench.feed() == []
    assert bench.assembler.open_start == start
    bench.writer.write(Kind.FRAME_CLOSE, 1, 0, b"")
    built = bench.feed()
    (frame,) = decoded(built)
    assert (frame.identity, frame.first, frame.n) == (("rig-1", f"{1:016x}", "samples", 0), 0, 3)
    assert frame.run == f"{9:016x}"
    assert [built[0].start, bench.assembler.open_start] == [start, None]


def test_a_frame_is_closed_by_a_sample_of_the_next(bench: Bench) -> None:
    bench.samples(0, range(3))
    bench.samples(1, range(3, 5))
    (frame,) = decoded(bench.feed())
    assert (frame.seq, frame.n) == (0, 3)
    assert [(f.seq, f.first, f.n) for f in decoded(bench.assembler.close())] == [(1, 3, 2)]
    assert bench.assembler.close() == []


def test_a_frame_is_closed_by_the_next_start_of_the_worker(bench: Bench) -> None:
    bench.samples(7, range(3))
    bench.document(Kind.EPOCH, 0, {"rig": "rig-1", "epoch": 2, "prev_epoch": 1, "t_ns": 1, "version": "x"}, epoch=2)
    samples, epoch = decoded(bench.feed())
    assert (samples.epoch, samples.seq, samples.n) == (f"{1:016x}", 7, 3)
    assert (epoch.kind, epoch.epoch, epoch.stream, epoch.t0_ns) == ("epoch", f"{2:016x}", "epochs", 1)
    assert [bench.assembler.epoch, bench.assembler.prev_epoch] == [2, 1]
    # The same number again is another frame now.
    bench.samples(7, range(1), epoch=2)
    bench.writer.write(Kind.FRAME_CLOSE, 2, 7, b"")
    assert [frame.identity[1:] for frame in decoded(bench.feed())] == [(f"{2:016x}", "samples", 7)]


def test_a_close_of_another_frame_closes_nothing(bench: Bench) -> None:
    bench.writer.write(Kind.FRAME_CLOSE, 1, 0, b"")
    bench.samples(1, range(2))
    bench.writer.write(Kind.FRAME_CLOSE, 1, 0, b"")
    assert bench.feed() == []
    assert len(bench.assembler.close()) == 1


def test_documents_pass_an_open_frame(bench: Bench) -> None:
    bench.samples(0, range(2))
    bench.document(Kind.EVENT, 4, {"verdict": "SURGE_JUMP", "t_ns": 77, "run": 3})
    bench.document(Kind.RUN, 2, {"what": "start"})
    bench.document(Kind.TOMBSTONE, 0, {"stream": "samples", "from": 1, "to": 2, "cause": "full"})
    frames = decoded(bench.feed())
    assert [(frame.kind, frame.stream, frame.seq) for frame in frames] == [
        ("event", "events", 4),
        ("run", "runs", 2),
        ("tombstone", "tombstones", 0),
    ]
    assert (frames[0].t0_ns, frames[0].run) == (77, f"{3:016x}")
    assert bench.assembler.open_start is not None


def test_samples_for_a_closed_frame_are_counted_and_never_sent_under_its_number(bench: Bench) -> None:
    bench.samples(3, range(2))
    bench.feed()
    bench.assembler.close()
    bench.samples(3, range(2, 4))
    bench.samples(2, range(4, 5))
    with capture_logs() as logs:
        assert bench.feed() == []
    assert bench.assembler.dropped == 3
    assert [entry["log_level"] for entry in logs] == ["error"]
    bench.samples(4, range(5, 6))
    bench.feed()
    # What was dropped shows to every reader: 0 + 2 is not 5.
    assert decoded(bench.assembler.close())[0].first == 5


def test_a_frame_never_grows_beyond_the_schema(bench: Bench) -> None:
    bench.samples(0, range(MAX_SAMPLES + 3))
    bench.feed()
    assert bench.assembler.dropped == 3
    assert decoded(bench.assembler.close())[0].n == MAX_SAMPLES


def test_a_document_that_is_none_is_sent_as_it_is(bench: Bench) -> None:
    bench.writer.write(Kind.EVENT, 1, 0, b"\xc1 no msgpack")
    (frame,) = decoded(bench.feed())
    assert frame.doc is not None
    assert frame.doc["undecodable"] == b"\xc1 no msgpack"


def test_a_document_too_large_to_send_leaves_its_number_and_size(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "large")
    bench.writer.close()
    bench.writer = RingWriter(tmp_path / "larger", 8 << 20)
    bench.reader = RunReader(tmp_path / "larger")
    payload = msgpack.packb({"trace": bytes((1 << 20) - 100)})
    assert bench.writer.write(Kind.EVENT, 1, 6, payload)
    (frame,) = decoded(bench.feed())
    assert frame.seq == 6
    assert frame.doc is not None
    assert frame.doc["dropped_bytes"] == len(payload)


def test_status_and_strangers_make_no_frames(bench: Bench) -> None:
    bench.document(Kind.STATUS, 0, {"state": "ARMED"})
    bench.writer.write(99, 1, 0, b"?")
    bench.writer.write(Kind.SAMPLE, 1, 0, b"of another version")
    assert bench.feed() == []
    assert bench.assembler.worker == {"state": "ARMED"}
    assert bench.assembler.dropped == 1


RECORDS = st.lists(
    st.one_of(
        st.tuples(st.just("sample"), st.integers(1, 40)),
        st.tuples(st.sampled_from(["close", "event", "epoch"]), st.just(1)),
    ),
    max_size=30,
)


@given(plan=RECORDS, restart=st.integers(0, 60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_restarted_uplink_makes_the_same_frames(tmp_path: Path, plan: list[tuple[str, int]], restart: int) -> None:
    path = tmp_path / "ring"
    path.unlink(missing_ok=True)
    bench = Bench(path)
    epoch, seq, index, events = 1, 0, 0, 0
    for what, count in plan:
        if what == "sample":
            bench.samples(seq, range(index, index + count), epoch=epoch)
            index += count
        elif what == "close":
            bench.writer.write(Kind.FRAME_CLOSE, epoch, seq, b"")
            seq += 1
        elif what == "event":
            bench.document(Kind.EVENT, events, {"number": events}, epoch=epoch)
            events += 1
        else:
            epoch, seq, index, events = epoch + 1, 0, 0, 0
            bench.document(Kind.EPOCH, 0, {"prev_epoch": epoch - 1}, epoch=epoch)
    whole = bench.feed() + bench.assembler.close()
    # A first uplink that dies after `restart` records, all its frames acknowledged; a second that goes on.
    first = Bench(path)
    early: list[Built] = []
    for _ in range(restart):
        if (record := first.reader.read()) is not None:
            early += first.assembler.feed(record)
    opened = first.assembler.open_start
    first.reader.release_to(first.reader.cursor if opened is None else opened)
    second = Bench(path)
    late = second.feed() + second.assembler.close()
    merged = {decode_frame(item.payload).identity: item.payload for item in early}
    for item in late:
        # Whatever is sent twice is the same to the byte.
        assert merged.setdefault(decode_frame(item.payload).identity, item.payload) == item.payload
    assert merged == {decode_frame(item.payload).identity: item.payload for item in whole}
    for used in (bench, first, second):
        used.writer.close()
        used.reader.close()


WILD = st.lists(
    st.one_of(
        st.tuples(st.just("sample"), st.integers(1, 400)),
        st.tuples(st.sampled_from(["close", "event", "epoch", "back", "another run"]), st.just(1)),
    ),
    max_size=30,
)


@given(plan=WILD)
@example([("sample", 400)] * 12)
@example([("sample", 3), ("close", 1), ("back", 1), ("sample", 3), ("epoch", 1), ("back", 1), ("sample", 3)])
@example([("sample", 3), ("another run", 1), ("sample", 3), ("close", 1)])
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_runs_make_the_frames_that_single_records_make(tmp_path: Path, plan: list[tuple[str, int]]) -> None:
    path = tmp_path / "ring"
    path.unlink(missing_ok=True)
    slow = Bench(path)
    epoch, seq, index, run = 1, 0, 0, 0
    for what, count in plan:
        if what == "sample":
            slow.samples(seq, range(index, index + count), epoch=epoch, run=run)
            index += count
        elif what == "close":
            slow.writer.write(Kind.FRAME_CLOSE, epoch, seq, b"")
            seq += 1
        elif what == "back":
            # A worker that breaks the ring's rules.
            seq = max(seq - 1, 0)
        elif what == "another run":
            run += 1
        elif what == "event":
            slow.document(Kind.EVENT, index, {"run": run}, epoch=epoch)
        else:
            epoch, seq, index = epoch + 1, 0, 0
    fast = Bench(path)
    with capture_logs() as single:
        expected = slow.feed()
    with capture_logs() as by_runs:
        assert fast.feed_runs() == expected
    assert by_runs == single
    for name in ("latest", "dropped", "epoch", "open_start"):
        assert getattr(fast.assembler, name) == getattr(slow.assembler, name)
    assert fast.assembler.close() == slow.assembler.close()
    for used in (slow, fast):
        used.writer.close()
        used.reader.close()


def test_a_run_of_samples_is_one_step(bench: Bench) -> None:
    bench.samples(0, range(95), run=9)
    bench.writer.write(Kind.FRAME_CLOSE, 1, 0, b"")
    taken = bench.reader.read_run()
    assert isinstance(taken, SampleRun)
    assert bench.assembler.feed(taken) == []
    assert bench.assembler.latest == Latest(1, 94, 9, a_sample(94))
    assert bench.assembler.open_start == taken.pos
    (frame,) = decoded(bench.feed())
    assert (frame.n, frame.first, frame.cols["t_ns"].tolist()) == (95, 0, list(range(95)))


# ------------------------------------------------------------------------------------------------------ JSON


def strict(payload: bytes) -> Any:  # noqa: ANN401 - JSON is anything
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(payload, parse_constant=refuse)


def test_summaries_hold_no_waveforms_and_no_nan() -> None:
    doc = {
        "verdict": "SURGE_JUMP",
        "current_a": math.nan,
        "trace": bytes(10_000),
        "points": list(range(1000)),
        "few": [1.5, math.inf, None, True],
        "position": {"x_m": 1e-6, "deep": {"er": {"est": {"most": 1}}}},
    }
    frame = doc_frame("event", "rig-1", 5, 6, {**doc, "t_ns": SECOND}, UTC)
    summary = strict(documents.to_json(documents.frame_summary(frame)))
    assert (summary["epoch"], summary["seq"], summary["kind"]) == (f"{5:016x}", 6, "event")
    assert summary["t_utc"] == "2023-11-14T22:13:21.000+00:00"
    assert summary["doc"] == {
        "verdict": "SURGE_JUMP",
        "current_a": None,
        "trace": {"bytes": 10_000},
        "points": {"items": 1000},
        "few": [1.5, None, None, True],
        "position": {"x_m": 1e-6, "deep": {"er": {"est": {"keys": 1}}}},
        "t_ns": SECOND,
    }


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(object()),
    lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(), inner) | st.tuples(inner),
    max_leaves=40,
)


@given(value=ANYTHING)
def test_any_document_has_a_summary(value: object) -> None:
    strict(documents.to_json({"doc": documents.summary(value)}))


def test_live_shows_the_latest_sample_and_nulls_what_cannot_be_trusted() -> None:
    sample = Sample(3 * SECOND, 1, 2, -0.5, math.nan, int(Flag.OVERFLOW | Flag.AFTER_GAP), int(Phase.CUT))
    live = documents.live("rig-1", Latest(1, 40, 2, sample), "ENERGISED", UTC, 5 * SECOND)
    assert strict(documents.to_json(live)) == {
        "v": 1,
        "rig": "rig-1",
        "epoch": f"{1:016x}",
        "state": "ENERGISED",
        "t_ns": 3 * SECOND,
        "t_utc": "2023-11-14T22:13:23.000+00:00",
        "age_s": 2.0,
        "index": 40,
        "run": f"{2:016x}",
        "bias_v": -0.5,
        "current_a": None,
        "flags": ["OVERFLOW", "AFTER_GAP"],
        "phase": "CUT",
    }
    assert set(documents.live("rig-1", None, None, UTC, 0)) == set(live)


def test_no_calendar_has_every_time() -> None:
    assert documents.utc_text(2**80) is None


@pytest.mark.parametrize("change", [{"rig": "Rig/1"}, {"live_hz": 0}, {"window": 0}, {"poll_s": -1}])
def test_settings_that_cannot_work_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        UplinkSettings(**{"rig": "rig-1", "ring_path": Path("x"), **change})


def test_settings_never_show_the_password() -> None:
    assert "secret" not in repr(UplinkSettings("rig-1", Path("x"), password="secret"))  # noqa: S106


def test_reasons_are_in_words() -> None:
    assert reason_text(0x87) == "Not authorized (0x87)"
    assert reason_text(0x95) == "Packet too large (0x95)"
    for code in range(0x80, 0x100):
        assert reason_text(code).endswith(f"(0x{code:02X})")
