"""Golden streams: bytes as they may come off a line, and what has to be made of them, stated by hand."""

from __future__ import annotations

import struct
from binascii import crc32
from dataclasses import dataclass
from typing import Final

from firmware_proto.frontend.generator.schema import Schema
from firmware_proto.frontend.wire import CRC, HEADER, cobs_encode, frame

SESSION: Final = 0x11223344
OTHER: Final = 0x55667788
DEVICE: Final = "DEVICE"
HOST: Final = "HOST"

Event = tuple[str] | tuple[str, int, int, int, int]
"""("FRAME", id, seq, session, gap), or (a cause,)."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What comes in at one side, whose session is ``session``, and what it has to become."""

    name: str
    side: str
    data: bytes
    events: tuple[Event, ...]
    session: int = SESSION


def _raw(ident: int, length: int, payload: bytes, seq: int = 1, session: int = SESSION) -> bytes:
    """Return a frame whose length field says what the caller says; its CRC holds."""
    body = HEADER.pack(ident, length, seq, session) + payload
    return cobs_encode(body + CRC.pack(crc32(body))) + b"\0"


def _flip(whole: bytes, at: int) -> bytes:
    """Return ``whole`` with one bit of byte ``at`` turned; no zero comes or goes."""
    turned = next(byte for byte in (whole[at] ^ 1 << bit for bit in range(8)) if byte)
    return whole[:at] + bytes([turned]) + whole[at + 1 :]


def streams(schema: Schema) -> list[Stream]:
    """Return all of them."""
    ids = {row.name: row.id for row in schema.messages}
    repeat = {row.name: row.value for row in schema.limits}["repeat_window"]
    hello, trip, ping, status = ids["HELLO"], ids["TRIP"], ids["PING"], ids["GET_STATUS"]
    pong = ids["PONG"]

    def asked(seq: int, session: int = SESSION) -> bytes:
        return frame(status, seq, session)

    def got(seq: int, gap: int = 0) -> Event:
        return ("FRAME", status, seq, SESSION, gap)

    pinged = frame(ping, 5, SESSION, b"\x01\x02\x03\x04")
    answer = frame(pong, 9, SESSION, bytes(20))
    constant = b"\0" + frame(trip, 0, 0)
    tripped: Event = ("FRAME", trip, 0, 0, 0)
    samples = ids["SAMPLES"]
    too_many = struct.pack("<QQH", 1, 1, 248) + b"\x01\x01" * 248
    return [
        Stream("two in a row", DEVICE, asked(1) + asked(2), (got(1), got(2))),
        Stream("empty frames mean nothing", DEVICE, b"\0\0\0" + asked(1) + b"\0\0" + asked(2), (got(1), got(2))),
        Stream("no delimiter yet", DEVICE, asked(1)[:-1], ()),
        Stream("half a frame, then TRIP", DEVICE, asked(1) + pinged[:8] + constant, (got(1), ("BAD_COBS",), tripped)),
        Stream("TRIP in any session", DEVICE, asked(9) + constant + asked(10), (got(9), tripped, got(10))),
        Stream("TRIP before any session", DEVICE, constant, (tripped,), 0),
        Stream("TRIP of another session and number", DEVICE, frame(trip, 77, OTHER), (("FRAME", trip, 77, OTHER, 0),)),
        Stream("nothing else before any session", DEVICE, asked(1, 0) + asked(2), (("STALE_SESSION",),) * 2, 0),
        Stream(
            "another session", DEVICE, asked(1) + asked(2, OTHER) + asked(3), (got(1), ("STALE_SESSION",), got(3, 1))
        ),
        Stream("one bit turned", DEVICE, asked(1) + _flip(pinged, -4) + asked(3), (got(1), ("BAD_CRC",), got(3, 1))),
        Stream("a delimiter lost: both are", DEVICE, asked(1)[:-1] + asked(2) + asked(3), (("BAD_CRC",), got(3))),
        Stream("a delimiter too many", DEVICE, pinged[:4] + b"\0" + pinged[4:], (("BAD_COBS",), ("BAD_COBS",))),
        Stream("nobody's id", DEVICE, _raw(0x7F, 0, b""), (("UNKNOWN_ID",),)),
        Stream("an id of the other direction", DEVICE, answer, (("UNKNOWN_ID",),)),
        Stream("a host's ids", HOST, answer + pinged, (("FRAME", pong, 9, SESSION, 0), ("UNKNOWN_ID",))),
        Stream("length field too large", DEVICE, _raw(status, 1, b""), (("BAD_LENGTH",),)),
        Stream("length field too small", DEVICE, _raw(ping, 3, bytes(4)), (("BAD_LENGTH",),)),
        Stream("not the length of its id", DEVICE, _raw(ping, 5, bytes(5)), (("BAD_LENGTH",),)),
        Stream("an array without its fixed part", HOST, _raw(samples, 1, b"\1"), (("BAD_LENGTH",),)),
        Stream("an array of half an item", HOST, _raw(samples, 19, bytes(16) + b"\0\0\1"), (("BAD_LENGTH",),)),
        Stream("an array shorter than its count", HOST, _raw(samples, 20, bytes(16) + b"\2\0\1\1"), (("BAD_LENGTH",),)),
        Stream("one item too many", HOST, _raw(samples, len(too_many), too_many), (("BAD_LENGTH",),)),
        Stream("nothing in it", DEVICE, b"\1\0", (("BAD_LENGTH",),)),
        Stream("twelve bytes", DEVICE, b"\x0d" + b"\1" * 12 + b"\0", (("BAD_LENGTH",),)),
        Stream("thirteen bytes", DEVICE, b"\x0e" + b"\1" * 13 + b"\0", (("BAD_CRC",),)),
        Stream("525 decoded", DEVICE, b"\1" * 526 + b"\0", (("BAD_CRC",),)),
        Stream("526 decoded", DEVICE, b"\1" * 527 + b"\0", (("BAD_LENGTH",),)),
        Stream("528 on the wire", DEVICE, b"\xff" * 528 + b"\0", (("BAD_COBS",),)),
        Stream("529 on the wire", DEVICE, b"\xff" * 529 + b"\0" + asked(1), (("BAD_LENGTH",), got(1))),
        Stream("far too long", DEVICE, b"\1" * 5000 + b"\0" + asked(1), (("BAD_LENGTH",), got(1))),
        Stream("three missing", DEVICE, asked(1) + asked(5), (got(1), got(5, 3))),
        Stream("the number wraps", DEVICE, asked(0xFFFF) + asked(0), (got(0xFFFF), got(0))),
        Stream("wraps with a gap", DEVICE, asked(0xFFFE) + asked(1), (got(0xFFFE), got(1, 2))),
        Stream("the same once more", DEVICE, asked(7) + asked(7) + asked(8), (got(7), ("REPEATED",), got(8))),
        Stream("just a repetition", DEVICE, asked(100) + asked(101 - repeat), (got(100), ("REPEATED",))),
        Stream("just a gap", DEVICE, asked(100) + asked(100 - repeat), (got(100), got(100 - repeat, 0xFFFF - repeat))),
        Stream(
            "HELLO begins the count",
            DEVICE,
            asked(50) + frame(hello, 3, 0, bytes(10)) + asked(4),
            (got(50), ("FRAME", hello, 3, 0, 0), got(4)),
        ),
        Stream(
            "WELCOME begins the count, whatever its session",
            HOST,
            frame(ids["WELCOME"], 3, OTHER, bytes(67)) + frame(pong, 6, SESSION, bytes(20)),
            (("FRAME", ids["WELCOME"], 3, OTHER, 0), ("FRAME", pong, 6, SESSION, 2)),
        ),
        Stream(
            "a refused frame leaves the count",
            DEVICE,
            asked(1) + _raw(ping, 5, bytes(5), 2) + asked(3),
            (got(1), ("BAD_LENGTH",), got(3, 1)),
        ),
    ]
