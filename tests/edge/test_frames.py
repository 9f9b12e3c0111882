"""The published frame: what is built decodes to the same, and anything else is a FrameError."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import frames
from edge.errors import FrameError
from edge.frames import Discipline, UtcMapping, decode_frame, doc_frame, sample_frame, table_frame, utc_mapping
from edge.samples import Flag, Phase, Sample

UTC = UtcMapping(1_700_000_000_000_000_000, True, 12_345)
I64 = st.integers(-(2**63), 2**63 - 1)
U64 = st.integers(0, 2**64 - 1)
SAMPLES = st.builds(
    Sample,
    t_ns=I64,
    t_unc_ns=st.integers(0, 2**32 - 1),
    t_rx_ns=I64,
    bias_v=st.floats(-10, 10),
    current_a=st.floats(allow_infinity=False),
    flags=st.integers(0, 2**16 - 1),
    phase=st.sampled_from(list(Phase)),
)
# What msgpack carries and JSON-like documents hold.
DOCS = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.none()
        | st.booleans()
        | U64
        | I64
        | st.floats(allow_nan=False)
        | st.text(max_size=20)
        | st.binary(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=5,
)


def a_frame() -> bytes:
    return sample_frame("rig-1", 0xABC, 4, 1000, [Sample(10, 1, 20, -0.5, 1e-6, 0, 1)] * 3, [7, 7, 7], UTC)


def same(a: Sample, b: Sample) -> bool:
    return all(x == y or (math.isnan(x) and math.isnan(y)) for x, y in zip(a, b, strict=True))


# ----------------------------------------------------------------------------------------------- round trips


@given(
    samples=st.lists(SAMPLES, min_size=1, max_size=40),
    epoch=U64,
    seq=U64,
    first=U64,
    run=U64,
    unc=U64,
    valid=st.booleans(),
)
def test_samples_come_out_as_they_went_in(
    samples: list[Sample], epoch: int, seq: int, first: int, run: int, unc: int, valid: bool
) -> None:
    utc = UtcMapping(-5, valid, unc)
    frame = decode_frame(sample_frame("r", epoch, seq, first, samples, [run] * len(samples), utc))
    assert frame.identity == ("r", f"{epoch:016x}", "samples", seq)
    assert (frame.v, frame.kind, frame.n, frame.first, frame.doc) == (1, "samples", len(samples), first, None)
    assert (frame.t0_ns, frame.mono_to_utc_ns, frame.utc_valid, frame.utc_unc_ns) == (samples[0].t_ns, -5, valid, unc)
    assert frame.run == (f"{run:016x}" if run else "")
    rows = zip(*(frame.cols[name].tolist() for name in Sample._fields), strict=True)
    assert all(same(Sample(*row), sample) for row, sample in zip(rows, samples, strict=True))
    assert list(frame.units.values()) == ["ns", "ns", "ns", "V", "A", "", ""]


TABLE = np.dtype([*((name, dtype) for name, (dtype, _) in frames.SAMPLE_COLUMNS.items()), ("run", "<u8")])


@given(rows=st.lists(st.tuples(SAMPLES, st.sampled_from([0, 0, 7, 2**64 - 1])), min_size=1, max_size=20), seq=U64)
def test_a_table_makes_the_same_frame_as_its_samples(rows: list[tuple[Sample, int]], seq: int) -> None:
    table = np.array([(*sample, run) for sample, run in rows], TABLE)
    samples, runs = [sample for sample, _ in rows], [run for _, run in rows]
    assert table_frame("r", 5, seq, 6, table, UTC) == sample_frame("r", 5, seq, 6, samples, runs, UTC)


@given(kind=st.sampled_from(["event", "run", "epoch", "tombstone"]), doc=DOCS, seq=U64)
def test_documents_come_out_as_they_went_in(kind: str, doc: dict[str, Any], seq: int) -> None:
    frame = decode_frame(doc_frame(kind, "rig-1", 2**64 - 1, seq, doc, UTC))
    assert (frame.kind, frame.stream, frame.seq, frame.n, frame.cols) == (kind, frames.STREAM_OF_KIND[kind], seq, 0, {})
    assert frame.doc == doc


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (0xAB, "00000000000000ab"),
        ("00000000000000ab", "00000000000000ab"),
        (0, ""),
        ("short", ""),
        (None, ""),
        (True, ""),
    ],
)
def test_a_documents_run_and_time_reach_the_head(run: object, expected: str) -> None:
    frame = decode_frame(doc_frame("event", "r", 1, 0, {"run": run, "t_ns": 55}, UTC))
    assert (frame.run, frame.t0_ns) == (expected, 55)


def test_samples_of_several_runs_keep_the_run_of_each() -> None:
    sample = Sample(1, 1, 1, 0.0, 0.0, 0, 0)
    frame = decode_frame(sample_frame("r", 1, 0, 0, [sample] * 3, [0, 2**64 - 1, 5], UTC))
    assert frame.run == ""
    assert frame.cols["run"].tolist() == [0, 2**64 - 1, 5]


def test_utc_of_each_sample() -> None:
    assert decode_frame(a_frame()).utc_ns.tolist() == [1_700_000_000_000_000_010] * 3


def test_columns_cannot_be_written_to() -> None:
    column = decode_frame(a_frame()).cols["bias_v"]
    with pytest.raises(ValueError, match="read-only"):
        column[0] = 1.0


def test_five_lines_of_plain_msgpack_and_numpy_decode_it() -> None:
    payload = a_frame()
    frame = msgpack.unpackb(payload)
    cols = {name: np.frombuffer(column["data"], column["dtype"]) for name, column in frame["cols"].items()}
    assert cols["bias_v"].tolist() == [-0.5, -0.5, -0.5]
    assert {name: column["unit"] for name, column in frame["cols"].items()}["current_a"] == "A"


def test_a_full_frame_is_small_enough_for_a_default_broker() -> None:
    sample = Sample(2**62, 2**31, 2**62, -9.9, 1e-3, int(Flag.COMPLIANCE), int(Phase.SEEK))
    assert len(sample_frame("r" * 32, 2**64 - 1, 2**63, 2**63, [sample] * 256, [2**64 - 1] * 256, UTC)) < 20_480


# -------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("count", [0, frames.MAX_SAMPLES + 1])
def test_a_frame_has_1_to_4096_samples(count: int) -> None:
    with pytest.raises(FrameError, match=f"frame of {count} samples"):
        sample_frame("r", 1, 0, 0, [Sample(1, 1, 1, 0.0, 0.0, 0, 0)] * count, [0] * count, UTC)
    with pytest.raises(FrameError, match=f"frame of {count} samples"):
        table_frame("r", 1, 0, 0, np.zeros(count, TABLE), UTC)


@pytest.mark.parametrize(
    "build",
    [
        lambda: sample_frame("r", 1, 0, 0, [Sample(1, 2**32, 1, 0.0, 0.0, 0, 0)], [0], UTC),
        lambda: sample_frame("r", 1, 0, 0, [Sample(1, 1, 1, 0.0, 0.0, 0, 0)], [], UTC),
        lambda: sample_frame("r/s", 1, 0, 0, [Sample(1, 1, 1, 0.0, 0.0, 0, 0)], [0], UTC),
        lambda: doc_frame("event", "r", 1, 0, {"a": object()}, UTC),
        lambda: doc_frame("event", "r", 1, 0, {"a": 2**64}, UTC),
        lambda: doc_frame("event", "r", 1, 0, {"a": bytes(frames.MAX_FRAME_BYTES)}, UTC),
        lambda: doc_frame("samples", "r", 1, 0, {}, UTC),
        lambda: doc_frame("other", "r", 1, 0, {}, UTC),
    ],
)
def test_what_cannot_be_a_frame_is_not_built(build: Callable[[], bytes]) -> None:
    with pytest.raises(FrameError):
        build()


@given(payload=st.binary(max_size=300))
@settings(max_examples=300)
def test_garbage_is_a_frame_error(payload: bytes) -> None:
    with pytest.raises(FrameError):
        decode_frame(payload)


@given(at=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.none() | st.integers(0, 10_000))
@settings(max_examples=400)
def test_a_damaged_frame_is_a_frame_error_or_a_frame(at: int, value: int, cut: int | None) -> None:
    payload = bytearray(a_frame())
    payload[at % len(payload)] = value
    damaged = bytes(payload[: None if cut is None else cut % (len(payload) + 1)])
    try:
        frame = decode_frame(damaged)
    except FrameError:
        return
    assert all(len(column) == frame.n for column in frame.cols.values())


MISTAKES = st.one_of(
    st.none(),
    st.booleans(),
    I64,
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
    DOCS,
    st.lists(I64, max_size=3),
)


@given(key=st.sampled_from(sorted(msgpack.unpackb(a_frame()))), value=MISTAKES)
@settings(max_examples=300)
def test_a_field_of_another_type_is_a_frame_error_or_a_frame(key: str, value: object) -> None:
    fields = msgpack.unpackb(a_frame())
    fields[key] = value
    with contextlib.suppress(FrameError):
        assert decode_frame(msgpack.packb(fields)).rig


@pytest.mark.parametrize("key", sorted(msgpack.unpackb(a_frame())))
def test_a_missing_field_is_named(key: str) -> None:
    fields = msgpack.unpackb(a_frame())
    del fields[key]
    with pytest.raises(FrameError, match=key):
        decode_frame(msgpack.packb(fields))


def broken(change: Callable[[dict[str, Any]], object]) -> bytes:
    fields = msgpack.unpackb(a_frame())
    change(fields)
    payload: bytes = msgpack.packb(fields)
    return payload


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda f: f.update(v=2), "v: schema version 2, this program knows 1"),
        (lambda f: f.update(kind="event"), "kind, stream"),
        (lambda f: f.update(kind="x", stream="x"), "kind, stream"),
        (lambda f: f.update(n=4), r"cols.t_ns: 24 bytes of <i8 for n = 4"),
        (lambda f: f.update(n=0), "cols: expected a map, n > 0"),
        (lambda f: f.update(n=5000), "n: expected an integer from 0 to 4096"),
        (lambda f: f.update(seq=True), "seq"),
        (lambda f: f.update(seq=-1), "seq"),
        (lambda f: f.update(epoch="ABC"), "epoch: 'ABC' does not match"),
        (lambda f: f.update(rig="a/b"), "rig"),
        (lambda f: f.update(run="7"), "run"),
        (lambda f: f.update(utc_valid=1), "utc_valid"),
        (lambda f: f.update(doc={}), "cols: .*no doc"),
        (lambda f: f["cols"].pop("phase"), "cols.phase"),
        (lambda f: f["cols"]["bias_v"].update(unit="mV"), "cols.bias_v: expected a column of <f8 in 'V'"),
        (lambda f: f["cols"]["bias_v"].update(dtype="<i8"), "cols.bias_v"),
        (lambda f: f["cols"]["bias_v"].update(dtype="O"), "cols.bias_v: expected dtype"),
        (lambda f: f["cols"]["bias_v"].update(data="text"), "cols.bias_v"),
        (lambda f: f["cols"].update(extra=1), "cols.extra: expected a map"),
        (lambda f: f["cols"].update({str(i): f["cols"]["bias_v"] for i in range(64)}), "at most 64"),
    ],
)
def test_what_is_wrong_is_named(change: Callable[[dict[str, Any]], object], where: str) -> None:
    with pytest.raises(FrameError, match=where):
        decode_frame(broken(change))


@pytest.mark.parametrize("change", [{"doc": [1]}, {"n": 1}, {"cols": {}}])
def test_a_document_is_a_map_and_nothing_else(change: dict[str, Any]) -> None:
    fields = msgpack.unpackb(doc_frame("event", "r", 1, 0, {"a": 1}, UTC))
    with pytest.raises(FrameError, match="doc: expected a map"):
        decode_frame(msgpack.packb({**fields, **change}))


@pytest.mark.parametrize("value", [msgpack.Timestamp(1), msgpack.ExtType(5, b""), msgpack.ExtType(5, b"four")])
def test_extension_types_are_in_no_document(value: object) -> None:
    fields = msgpack.unpackb(doc_frame("event", "r", 1, 0, {}, UTC))
    with pytest.raises(FrameError, match="not one msgpack value"):
        decode_frame(msgpack.packb({**fields, "doc": {"value": value}}))


@pytest.mark.parametrize(
    "payload",
    [
        bytes(frames.MAX_FRAME_BYTES + 1),
        b"\x91" * 100_000,  # nested deeper than any stack
        b"\xdf\xff\xff\xff\xff",  # a map said to have 2**32 - 1 entries
        msgpack.packb({b"v": 1}),
        a_frame() + b"\xc0",
    ],
)
def test_hostile_payloads_are_frame_errors(payload: bytes) -> None:
    with pytest.raises(FrameError):
        decode_frame(payload)


def test_fields_and_columns_of_a_later_writer_are_let_pass() -> None:
    def extend(fields: dict[str, Any]) -> None:
        fields["note"] = {"anything": [1, 2]}
        fields["cols"]["gate_v"] = {"dtype": "<f4", "unit": "V", "data": bytes(12)}

    assert decode_frame(broken(extend)).cols["gate_v"].tolist() == [0.0, 0.0, 0.0]


# ------------------------------------------------------------------------------------------------------- UTC


def ticks(*values: int) -> Callable[[], int]:
    left: Iterator[int] = iter(values)
    return lambda: next(left)


def test_the_tightest_of_five_readings_counts() -> None:
    monotonic = ticks(0, 900, 1000, 1100, 2000, 2010, 3000, 3500, 4000, 4400)
    realtime = ticks(50_000, 51_000, 52_005, 53_000, 54_000)
    mapping = utc_mapping(monotonic, realtime, lambda: Discipline(True, 3_000))
    assert mapping == UtcMapping(50_000, True, 3_005)


def test_an_unsynchronised_clock_says_so() -> None:
    mapping = utc_mapping(discipline=lambda: Discipline(False, 16_000_000_000))
    assert not mapping.valid
    assert mapping.unc_ns >= 16_000_000_000


def test_the_kernel_answers() -> None:
    known = frames.read_discipline()
    assert known.max_error_ns >= 0
    assert utc_mapping().valid is known.synchronised
