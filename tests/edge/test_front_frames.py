"""A block of the front end: into the ring, out of it as a frame, and through the outbox when there is no room."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from edge import frames
from edge.errors import FrameError, RingError
from edge.flight import read_flight, segments
from edge.frames import UtcMapping, decode_frame, front_frame
from edge.front_block import FULL, MAX_ROWS, MINMAX, FrontBlock, unpack_front
from edge.ring import Kind, RingReader, RingWriter
from edge.uplink.assemble import Assembler
from edge.uplink.flight import FlightWriter
from edge.uplink.held import Held
from edge.uplink.outbox_file import KINDS, OutboxFile, Row, row_id
from edge.uplink.thinning import thin
from hil.virtual import VirtualClock, run_virtual

UTC = UtcMapping(1_700_000_000_000_000_000, True, 5)
CODE_A = 40e-9
U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)


def a_block(rows: int = 3, columns: tuple[str, ...] = FULL, **more: Any) -> FrontBlock:  # noqa: ANN401 - any field
    codes = np.arange(rows * len(columns), dtype="<i2")
    values: dict[str, Any] = {
        "first": 7,
        "run": 9,
        "index": 70,
        "t_ns": 1_000_000,
        "t_unc_ns": 300,
        "step": 1 if columns == FULL else 10,
        "period_ns": 10_000.5,
        "code_a": CODE_A,
        "boot": 0xABCD,
        "columns": columns,
        "data": codes.tobytes(),
    }
    return FrontBlock(**{**values, **more})


BLOCKS = st.builds(
    a_block,
    rows=st.integers(1, 300),
    columns=st.sampled_from([FULL, MINMAX]),
    first=U64,
    run=U64,
    index=U64,
    t_ns=st.integers(-(2**63), 2**63 - 1),
    t_unc_ns=U32,
    step=st.integers(1, 2**32 - 1),
    period_ns=st.floats(1.0, 1e12),
    code_a=st.floats(1e-15, 1.0) | st.floats(-1.0, -1e-15),
    boot=U32,
)


@given(block=BLOCKS)
def test_a_record_comes_out_as_it_went_in(block: FrontBlock) -> None:
    assert unpack_front(block.pack()) == block


@given(payload=st.binary(max_size=120))
def test_any_other_payload_is_refused(payload: bytes) -> None:
    with pytest.raises(RingError):
        unpack_front(payload)


@pytest.mark.parametrize("broken", [{"data": b""}, {"data": bytes(2 * MAX_ROWS + 2)}, {"step": 2**32}, {"boot": -1}])
def test_a_block_that_no_record_holds_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(RingError, match="front end"):
        a_block(**broken).pack()


@given(block=BLOCKS, epoch=U64, seq=U64)
def test_a_frame_says_the_same(block: FrontBlock, epoch: int, seq: int) -> None:
    frame = decode_frame(front_frame("rig-1", epoch, seq, block, UTC))
    assert frame.identity == ("rig-1", f"{epoch:016x}", "frontend", seq)
    assert (frame.kind, frame.n, frame.first, frame.t0_ns) == ("frontend", block.rows, block.first, block.t_ns)
    assert frame.run == (f"{block.run:016x}" if block.run else "")
    assert frame.doc is None
    assert frame.grid is not None
    assert frame.grid.boot == f"{block.boot:08x}"
    for name in ("index", "step", "period_ns", "t_unc_ns", "code_a"):
        assert getattr(frame.grid, name) == getattr(block, name)
    table = np.column_stack([frame.cols[name] for name in block.columns])
    assert table.astype("<i2").tobytes() == block.data


def test_times_and_currents_of_rows() -> None:
    frame = decode_frame(front_frame("rig-1", 1, 0, a_block(), UTC))
    assert frame.times_ns.tolist() == [1_000_000, 1_010_000, 1_020_001]
    assert frame.utc_ns.tolist() == [t + UTC.offset_ns for t in frame.times_ns]
    assert frame.currents_a["current_a"] == pytest.approx([0, 40e-9, 80e-9])
    pairs = decode_frame(front_frame("rig-1", 1, 0, a_block(columns=MINMAX, code_a=-CODE_A), UTC))
    low, high = pairs.currents_a["low_a"], pairs.currents_a["high_a"]
    assert (low <= high).all(), "also of a converter that counts the other way"
    assert low == pytest.approx([-40e-9, -120e-9, -200e-9])


def test_five_lines_without_this_program_read_it() -> None:
    frame = msgpack.unpackb(front_frame("rig-1", 1, 0, a_block(), UTC))
    codes = np.frombuffer(frame["cols"]["code"]["data"], frame["cols"]["code"]["dtype"])
    t_ns = frame["t0_ns"] + np.arange(frame["n"]) * frame["grid"]["period_ns"]
    assert (codes * frame["grid"]["code_a"]).tolist() == pytest.approx([0, 40e-9, 80e-9])
    assert t_ns[1] == 1_010_000.5


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("grid",), None),
        (("grid", "period_ns"), 0.0),
        (("grid", "period_ns"), float("nan")),
        (("grid", "period_ns"), 10),
        (("grid", "step"), 0),
        (("grid", "boot"), "xyz"),
        (("grid", "index"), -1),
        (("cols", "code", "dtype"), "<i4"),
        (("cols",), {}),
        (("doc",), {}),
        (("stream",), "samples"),
    ],
)
def test_anything_else_is_a_frame_error(where: tuple[str, ...], value: object) -> None:
    fields = msgpack.unpackb(front_frame("rig-1", 1, 0, a_block(), UTC))
    inner = fields
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    with pytest.raises(FrameError):
        decode_frame(msgpack.packb(fields))


def test_a_hundred_thousand_samples_a_second_take_two_hundred_kilobytes() -> None:
    whole = front_frame("rig-1", 1, 0, a_block(MAX_ROWS), UTC)
    assert len(whole) * 100_000 / MAX_ROWS < 215_000


def test_the_uplink_makes_a_frame_of_each_record_and_holds_the_place_of_what_is_none(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path / "ring", 1 << 16)
    reader = RingReader(tmp_path / "ring")
    assembler = Assembler("rig-1", log=structlog.get_logger("test"), utc=lambda: UTC)
    assert writer.write(Kind.FRONT, 5, 0, a_block().pack())
    assert writer.write(Kind.FRONT, 5, 1, b"garbage")
    assert writer.write(Kind.FRONT, 5, 2, a_block(first=10).pack())
    built = []
    while (record := reader.read()) is not None:
        built += assembler.feed(record)
    assert [(one.kind, one.stream, one.seq) for one in built] == [
        ("frontend", "frontend", 0),
        ("tombstone", "frontend", 1),
        ("frontend", "frontend", 2),
    ]
    assert [decode_frame(one.payload).stream for one in built] == ["frontend"] * 3
    assert frames.TOPIC_OF_KIND["frontend"] == "samples"


def test_the_flight_record_has_its_line_and_not_its_blocks(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path / "ring", 1 << 16)
    reader = RingReader(tmp_path / "ring")
    assert writer.write(Kind.TAPE_START, 5, 0, b"\x80")
    assert writer.write(Kind.FRONT, 5, 0, a_block().pack())
    assert writer.write(Kind.EVENT, 5, 0, b"\x80")

    async def drain(clock: VirtualClock) -> None:
        log = structlog.get_logger("test")
        flight = FlightWriter(tmp_path / "flight", "r", keep_bytes=1 << 20, segment_bytes=1 << 16, clock=clock, log=log)
        while (record := reader.read()) is not None:
            flight.take(record)
        flight.close()

    run_virtual(drain)
    [segment] = segments(tmp_path / "flight")
    assert [record.kind for record in read_flight(segment).records] == [Kind.TAPE_START, Kind.EVENT]


def test_where_samples_are_given_up_for_room_these_are_too(tmp_path: Path) -> None:
    file = OutboxFile(tmp_path / "outbox.sqlite", max_bytes=1 << 24)
    file.open()
    held = Held(1, 5, "frontend", 0)
    rows = [
        Row.of(row_id(1, seq), KINDS.index("frontend"), front_frame("rig-1", 5, seq, a_block(first=3 * seq), UTC))
        for seq in range(4)
    ]
    file.commit(rows, [])
    _, count, _ = thin(file, "rig-1", held, (0, 1), UTC)
    assert count == 2
    found = [decode_frame(row.payload) for row in file.read(1, 0, 9, 10)]
    assert [frame.kind for frame in found] == ["tombstone", "tombstone", "frontend", "frontend"]
    assert found[1].doc is not None
    assert (found[1].stream, found[1].doc["first"], found[1].doc["n"]) == ("frontend", 3, 3)
    file.close()


def test_every_kind_has_a_number_that_stays() -> None:
    assert KINDS == ("samples", "event", "run", "epoch", "tombstone", "frontend")
    assert set(frames.MEASURED) <= set(frames.STREAM_OF_KIND)
    assert dataclasses.is_dataclass(frames.Grid)
