"""Frame bytes: ``COBS(header | payload | CRC-32) 0x00``, without knowing any message.

Header, little-endian and inside the CRC: ``id u8, length u16, seq u16, session u32``. The same in C:
``firmware/core/tg_frame.c``. Why so: docs/decisions/0023-the-front-ends-wire-format.md.
"""

from __future__ import annotations

import struct
from binascii import crc32
from typing import Final

from firmware_proto.frontend.errors import FrameError

HEADER: Final = struct.Struct("<BHHI")
"""id, length of the payload, seq, session."""
CRC: Final = struct.Struct("<I")
OVERHEAD: Final = HEADER.size + CRC.size
MAX_PAYLOAD: Final = 512
"""Bytes. The schema says so too; a test holds the two together."""
MAX_RAW: Final = OVERHEAD + MAX_PAYLOAD
MAX_CODED: Final = MAX_RAW + -(-MAX_RAW // 254)
"""Longest frame on the wire without its delimiter: one byte more for each 254."""
CRC_RESIDUE: Final = 0x2144DF1C
"""CRC-32 of anything with its own CRC-32 behind it."""
DELIMITER: Final = b"\0"
GROUP: Final = 254
"""Most bytes in one COBS group."""


def cobs_encode(data: bytes) -> bytes:
    """Return ``data`` without a zero byte; canonical: a full group at the end is not followed by an empty one."""
    out = bytearray()
    *closed, last = data.split(b"\0")
    for piece in closed:
        rest = _full_groups(out, piece)
        out.append(len(rest) + 1)
        out += rest
    rest = _full_groups(out, last)
    if rest or not last:
        out.append(len(rest) + 1)
        out += rest
    return bytes(out)


def _full_groups(out: bytearray, piece: bytes) -> bytes:
    """Append the groups of 254 that stand at the beginning of ``piece``; return what is left of it."""
    while len(piece) >= GROUP:
        out.append(GROUP + 1)
        out += piece[:GROUP]
        piece = piece[GROUP:]
    return piece


def cobs_decode(coded: bytes) -> bytes | None:
    """Return what was encoded; None when a group reaches past the end. ``coded`` holds no zero byte."""
    out = bytearray(coded)
    behind_full: list[int] = []
    at, end = 0, len(coded)
    while at < end:
        code = out[at]
        # Where a code stood, there was a zero; but not behind a full group, and not at the beginning.
        out[at] = 0
        at += code
        if code > GROUP:
            behind_full.append(at)
    if at != end:
        return None
    for place in reversed(behind_full):
        del out[place : place + 1]
    return bytes(out[1:])


def frame(ident: int, seq: int, session: int, payload: bytes = b"") -> bytes:
    """Return one frame with its delimiter; ``ident`` 0..255, ``seq`` modulo 65536, ``session`` 0..2**32-1.

    Raises FrameError for a payload over MAX_PAYLOAD bytes or a header field out of range.
    """
    if len(payload) > MAX_PAYLOAD:
        raise FrameError(f"payload of {len(payload)} bytes; at most {MAX_PAYLOAD} fit a frame")
    try:
        raw = HEADER.pack(ident, len(payload), seq & 0xFFFF, session) + payload
    except struct.error as error:
        raise FrameError(f"header (id {ident}, session {session}): {error}") from error
    return cobs_encode(raw + CRC.pack(crc32(raw))) + DELIMITER


def session_of(boot_nonce: int, host_nonce: int) -> int:
    """Return the session that a device of ``boot_nonce`` and a host of ``host_nonce`` (u32 each) share; never 0."""
    rotated = ((host_nonce << 16) | (host_nonce >> 16)) & 0xFFFFFFFF
    return (boot_nonce ^ rotated) or 1
