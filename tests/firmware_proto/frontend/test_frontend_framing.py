from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import firmware_proto.frontend
from firmware_proto.frontend.framing import TRIP_BYTES, Cause, Decoder, Frame, Refused, Side, encode
from firmware_proto.frontend.messages import (
    MESSAGES,
    GetStatus,
    Hello,
    Lease,
    Ping,
    Pong,
    Samples,
    Trip,
    TripReport,
    Welcome,
)
from firmware_proto.frontend.vocabulary import Reason
from firmware_proto.frontend.wire import MAX_CODED, frame

GOLDEN = Path(firmware_proto.frontend.__file__).parent / "firmware" / "generated" / "golden.jsonl"
ROWS: list[dict[str, Any]] = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
FRAMES = [row for row in ROWS if row["kind"] == "frame"]
STREAMS = [row for row in ROWS if row["kind"] == "stream"]
SESSION = 0x51E55107


def shown(event: Frame | Refused) -> list[Any]:
    if isinstance(event, Refused):
        return [event.cause.name]
    return ["FRAME", event.id, event.seq, event.session, event.gap]


def fed(decoder: Decoder, data: bytes, cuts: list[int]) -> list[Frame | Refused]:
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [event for begin, end in itertools.pairwise(edges) for event in decoder.feed(data[begin:end])]


def test_golden_vectors_are_for_every_message() -> None:
    assert {row["message"] for row in FRAMES} == {kind.NAME for kind in MESSAGES.values()}
    assert len(STREAMS) >= 35


@pytest.mark.parametrize("row", FRAMES, ids=lambda row: row["name"])
def test_golden_frame(row: dict[str, Any]) -> None:
    kind = MESSAGES[row["id"]]
    (event,) = Decoder(Side(row["id"] & 0x80), row["session"]).feed(bytes.fromhex(row["frame"]))
    assert event == Frame(row["id"], row["seq"], row["session"], 0, bytes.fromhex(row["payload"]))
    message = event.message
    assert type(message) is kind
    fields = dict(row["fields"])
    if kind.ITEM:
        assert message.count == fields.pop("count")
        name = list(fields)[-1]
        fields[name] = b"".join(code.to_bytes(2, "little", signed=True) for code in fields[name])
    assert {name: getattr(message, name) for name in fields} == fields
    assert encode(message, row["seq"], row["session"]).hex() == row["frame"]


@pytest.mark.parametrize("row", STREAMS, ids=lambda row: row["name"])
def test_golden_stream_in_any_pieces(row: dict[str, Any]) -> None:
    data = bytes.fromhex(row["bytes"])
    for size in (len(data) or 1, 1, 2, 7, 100):
        decoder = Decoder(Side[row["side"]], row["session"])
        events = fed(decoder, data, list(range(0, len(data), size)))
        assert [shown(event) for event in events] == row["events"]


def test_a_hosts_trip_is_these_bytes_for_ever() -> None:
    # keeper and safe-off hold them, and a device of any schema obeys them.
    assert TRIP_BYTES.hex() == "0002060101010101010105246d139500"
    assert encode(Trip(), 0, 0) == TRIP_BYTES


def test_half_a_frame_before_it_swallows_no_trip() -> None:
    half = encode(Lease(7, 8), 3, SESSION)[:9]
    events = Decoder(Side.DEVICE, SESSION).feed(half + TRIP_BYTES)
    assert [shown(event)[0] for event in events] == ["BAD_COBS", "FRAME"]
    # Without the extra delimiter it would have.
    assert [shown(event)[0] for event in Decoder(Side.DEVICE, SESSION).feed(half + TRIP_BYTES[1:])] == ["BAD_CRC"]


def test_trip_reports_are_urgent_and_nothing_else_from_a_device() -> None:
    assert [kind.NAME for kind in MESSAGES.values() if kind.URGENT] == ["TRIP", "TRIP_REPORT"]
    report = TripReport(1, Reason.HARD, 2, 3, 4, 5, 6, 0, 7, 8)
    assert encode(report, 1, 2).startswith(b"\0")


def test_a_refused_block_says_whose_it_was_where_its_crc_holds() -> None:
    (event,) = Decoder(Side.HOST, SESSION).feed(encode(Pong(1, 2, 3), 9, SESSION + 1))
    assert event == Refused(Cause.STALE_SESSION, Pong.ID, 9, SESSION + 1)
    (event,) = Decoder(Side.HOST, SESSION).feed(b"\x05abcd\0")
    assert event == Refused(Cause.BAD_LENGTH)


def test_everything_is_counted_by_cause() -> None:
    decoder = Decoder(Side.DEVICE, SESSION)
    good = [encode(GetStatus(), seq, SESSION) for seq in (1, 2, 6)]
    damaged = bytes([*good[1][:-3], good[1][-3] ^ 0x55, *good[1][-2:]])
    decoder.feed(good[0] + damaged + b"\x09\0" + b"\x01\0" + frame(0x7E, 3, SESSION) + encode(Ping(1), 4, 5) + good[2])
    assert (decoder.frames, decoder.gaps) == (2, 4)
    assert decoder.refused == {
        Cause.BAD_COBS: 1,
        Cause.BAD_LENGTH: 1,
        Cause.BAD_CRC: 1,
        Cause.UNKNOWN_ID: 1,
        Cause.STALE_SESSION: 1,
        Cause.REPEATED: 0,
    }


def test_a_caller_that_judges_sessions_itself_gets_all() -> None:
    events = Decoder(Side.DEVICE).feed(encode(Ping(1), 1, 5) + encode(Ping(1), 2, 6) + encode(Ping(1), 3, 0))
    assert [shown(event)[0] for event in events] == ["FRAME"] * 3


def test_the_session_may_change_between_two_events_of_one_read() -> None:
    welcome = frame(Welcome.ID, 4, SESSION, bytes(Welcome.LAYOUT.size))
    data = encode(Pong(1, 2, 3), 99, 5) + welcome + encode(Pong(1, 2, 3), 5, SESSION)
    decoder = Decoder(Side.HOST, 5)
    seen = []
    for event in decoder.events(data):
        seen.append(shown(event))
        if isinstance(event, Frame) and event.id == Welcome.ID:
            decoder.session = event.session
    assert seen == [
        ["FRAME", Pong.ID, 99, 5, 0],
        ["FRAME", Welcome.ID, 4, SESSION, 0],
        ["FRAME", Pong.ID, 5, SESSION, 0],
    ]


def test_the_count_may_begin_anew() -> None:
    decoder = Decoder(Side.DEVICE, SESSION)
    decoder.feed(encode(GetStatus(), 1, SESSION))
    decoder.renumber()
    assert [shown(event) for event in decoder.feed(encode(GetStatus(), 9, SESSION))] == [["FRAME", 13, 9, SESSION, 0]]


def test_what_is_held_is_bounded() -> None:
    decoder = Decoder(Side.DEVICE, SESSION)
    for _ in range(50):
        assert decoder.feed(b"\x55" * 300) == []
        assert len(decoder._rest) <= MAX_CODED
    assert decoder.feed(b"\0") == [Refused(Cause.BAD_LENGTH)]
    assert [shown(event)[0] for event in decoder.feed(encode(GetStatus(), 9, SESSION))] == ["FRAME"]


BLOCKS = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([bytes.fromhex(row["frame"]) for row in FRAMES]),
    st.sampled_from([TRIP_BYTES, b"\0", encode(Hello(1, 2, 3), 0, 0), encode(GetStatus(), 1, SESSION), b"\x01" * 540]),
    st.builds(lambda seq: encode(GetStatus(), seq, SESSION), st.integers(0, 0xFFFF)),
)


@given(st.lists(BLOCKS, max_size=12).map(b"".join), st.lists(st.integers(0, 4000), max_size=12), st.sampled_from(Side))
def test_any_bytes_give_the_same_events_in_any_pieces(data: bytes, cuts: list[int], side: Side) -> None:
    whole, cut = Decoder(side, SESSION), Decoder(side, SESSION)
    events = whole.feed(data)
    assert fed(cut, data, cuts) == events
    assert (cut.frames, cut.gaps, cut.refused) == (whole.frames, whole.gaps, whole.refused)
    for event in events:
        if isinstance(event, Frame):
            assert type(event.message) is MESSAGES[event.id]


@given(st.binary(max_size=200))
def test_no_garbage_is_a_frame(data: bytes) -> None:
    assert all(isinstance(event, Refused) for event in Decoder(Side.DEVICE, SESSION).feed(data + b"\0"))


def test_one_frame_is_lost_by_one_lost_byte_and_no_more() -> None:
    frames = [encode(Samples(at * 4, at, b"\x01\x02" * 4), at, SESSION) for at in range(5)]
    stream = b"".join(frames)
    lost = {
        sum(isinstance(event, Frame) for event in Decoder(Side.HOST, SESSION).feed(stream[:at] + stream[at + 1 :]))
        for at in range(len(stream) - 1)
    }
    # Two where a delimiter went: the frames on both its sides became one block.
    assert lost == {3, 4}
