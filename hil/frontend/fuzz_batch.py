"""One batch of the fuzz: what the C side sent and saw, decoded once more in Python and compared event by event."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from firmware_proto.frontend.framing import Cause, Decoder, Frame, Side
from firmware_proto.frontend.messages import MESSAGES, Welcome
from firmware_proto.frontend.wire import DELIMITER, MAX_CODED, frame

HEAD: Final = struct.Struct("<B12I")
FRAME: Final = struct.Struct("<BBHIHH")
"""1, id, seq, session, gap, length; the payload follows. A refused block is its cause, one byte."""
ENCODED: Final = struct.Struct("<BHIHH")
CAUSES: Final = {cause: bytes([cause]) for cause in Cause}
MEANS: Final = (16, 200, 1000, 5000, 50_000)
"""Bytes per piece, on average."""
UNPACKED_EACH: Final = 16
"""Of so many frames one is unpacked into its message and packed again."""


class Disagreement(Exception):  # noqa: N818 - what it is called is what it is
    """The two decoders, or the two encoders, do not agree."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What the C side wrote: the bytes, its events, its counters, and frames with their encoding."""

    side: Side
    session: int
    frames: int
    stream: bytes
    events: bytes
    encoded: bytes
    counters: tuple[int, ...]
    """frames, bad_cobs, bad_length, bad_crc, unknown, stale, gaps."""

    @classmethod
    def read(cls, head: bytes, read: Callable[[int], bytes]) -> Batch:
        """Read what follows ``head``."""
        side, session, frames, stream, events, encoded, *counters = HEAD.unpack(head)
        return cls(Side(side), session, frames, read(stream), read(events), read(encoded), tuple(counters))


def compare(batch: Batch, seed: int) -> None:
    """Decode a batch in pieces that ``seed`` decides; Disagreement says what differs and where."""
    decoder = Decoder(batch.side, batch.session)
    parts: list[bytes] = []
    add, head = parts.append, FRAME.pack
    for piece in pieces(batch.stream, seed):
        for event in decoder.events(piece):
            if isinstance(event, Frame):
                payload = event.payload
                add(head(1, event.id, event.seq, event.session, event.gap, len(payload)) + payload)
                if decoder.frames % UNPACKED_EACH == 0:
                    _unpacked(event)
            else:
                add(CAUSES[event.cause])
    if b"".join(parts) != batch.events:
        raise Disagreement(_first(batch, parts))
    refused = decoder.refused
    counters = (
        decoder.frames,
        refused[Cause.BAD_COBS],
        refused[Cause.BAD_LENGTH],
        refused[Cause.BAD_CRC],
        refused[Cause.UNKNOWN_ID],
        refused[Cause.STALE_SESSION] + refused[Cause.REPEATED],
        decoder.gaps & 0xFFFFFFFF,
    )
    if counters != batch.counters:
        raise Disagreement(f"the counters: {counters} here, {batch.counters} in C")
    _encoded(batch.encoded)


def pieces(stream: bytes, seed: int) -> Iterator[bytes]:
    """Cut ``stream``: of one size on average or, now and then, its beginning byte by byte."""
    random = np.random.default_rng(seed)
    mean = MEANS[int(random.integers(len(MEANS)))] if random.integers(16) else 1
    if mean == 1:
        yield from (stream[at : at + 1] for at in range(2 * MAX_CODED))
        stream, mean = stream[2 * MAX_CODED :], 5000
    at = 0
    for cut in np.cumsum(random.integers(1, 2 * mean, len(stream) // mean)).tolist():
        yield stream[at:cut]
        at = cut
    yield stream[at:]


def _unpacked(event: Frame) -> None:
    """Unpack and pack again; a board's name that is no ASCII does not come back as it was."""
    message = event.message
    if not isinstance(message, Welcome) and message.pack() != event.payload:
        raise Disagreement(f"{message.NAME}: {event.payload.hex()} is not what its fields pack to")


def _encoded(rest: bytes) -> None:
    """Encode here what was encoded there."""
    while rest:
        ident, seq, session, length, size = ENCODED.unpack_from(rest)
        payload = rest[ENCODED.size : ENCODED.size + length]
        coded = rest[ENCODED.size + length : ENCODED.size + length + size]
        rest = rest[ENCODED.size + length + size :]
        here = (DELIMITER if MESSAGES[ident].URGENT else b"") + frame(ident, seq, session, payload)
        if here != coded:
            raise Disagreement(f"{MESSAGES[ident].NAME}: {here.hex()} here, {coded.hex()} in C")


def _first(batch: Batch, parts: list[bytes]) -> str:
    """Say which event differs first, and what the C side has in its place."""
    at = 0
    for number, part in enumerate(parts):
        if batch.events[at : at + len(part)] != part:
            there = batch.events[at : at + max(len(part), FRAME.size)]
            return f"event {number} of a batch, side {batch.side.name}: {part.hex()} here, {there.hex()} in C"
        at += len(part)
    return f"C has {len(batch.events) - at} bytes of events more, from {batch.events[at : at + 40].hex()} on"
