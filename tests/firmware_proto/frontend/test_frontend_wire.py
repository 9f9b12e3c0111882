from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.frontend.errors import FrameError
from firmware_proto.frontend.wire import MAX_CODED, MAX_PAYLOAD, cobs_decode, cobs_encode, frame, session_of

RUNS = st.lists(
    st.one_of(
        st.just(b"\0"),
        st.binary(max_size=8),
        # What COBS has corners at.
        st.sampled_from([253, 254, 255, 508, 509]).map(lambda size: b"\x11" * size),
    ),
    max_size=6,
).map(b"".join)


def naive_encode(data: bytes) -> bytes:
    """COBS as its description reads: look for the next zero, at most 254 bytes ahead."""
    out, at, open_end = b"", 0, True
    while open_end:
        run = data[at : at + 254].split(b"\0")[0]
        out += bytes([len(run) + 1]) + run
        at += len(run)
        open_end = at < len(data)
        if open_end and len(run) < 254:
            at += 1
    return out


def naive_crc(data: bytes) -> int:
    """CRC-32 IEEE bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "coded"),
    [
        # Cheshire and Baker, "Consistent overhead byte stuffing", and the corners of a full group.
        (b"\x00", b"\x01\x01"),
        (b"\x00\x00", b"\x01\x01\x01"),
        (b"\x11\x22\x00\x33", b"\x03\x11\x22\x02\x33"),
        (b"\x11\x22\x33\x44", b"\x05\x11\x22\x33\x44"),
        (b"\x11\x00\x00\x00", b"\x02\x11\x01\x01\x01"),
        (b"", b"\x01"),
        (b"\x01" * 254, b"\xff" + b"\x01" * 254),
        (b"\x01" * 255, b"\xff" + b"\x01" * 254 + b"\x02\x01"),
        (b"\x01" * 254 + b"\x00", b"\xff" + b"\x01" * 254 + b"\x01\x01"),
        (b"\x00" + b"\x01" * 254, b"\x01\xff" + b"\x01" * 254),
        (b"\x01" * 253 + b"\x00\x02", b"\xfe" + b"\x01" * 253 + b"\x02\x02"),
    ],
)
def test_cobs_as_published(data: bytes, coded: bytes) -> None:
    assert cobs_encode(data) == coded
    assert cobs_decode(coded) == data


@given(RUNS)
def test_cobs_comes_back_and_is_the_plain_algorithm(data: bytes) -> None:
    coded = cobs_encode(data)
    assert 0 not in coded
    assert coded == naive_encode(data)
    assert cobs_decode(coded) == data
    assert len(coded) <= len(data) + 1 + len(data) // 254


@given(st.binary(min_size=1, max_size=600).map(lambda data: data.replace(b"\0", b"\1")))
def test_any_block_decodes_or_is_refused(block: bytes) -> None:
    decoded = cobs_decode(block)
    assert decoded is None or len(decoded) < len(block)


def test_a_group_that_reaches_past_the_end_is_refused() -> None:
    assert cobs_decode(b"\x03\x11") is None
    assert cobs_decode(b"\xff" + b"\x01" * 253) is None


def test_the_crc_is_the_one_of_ieee_802_3() -> None:
    assert naive_crc(b"123456789") == 0xCBF43926
    payload = random.Random(7).randbytes(40)
    raw = cobs_decode(frame(0x85, 0x1234, 0xDEADBEEF, payload)[:-1])
    assert raw is not None
    assert raw[:-4] == bytes.fromhex("85 2800 3412 efbeadde") + payload
    assert raw[-4:] == naive_crc(raw[:-4]).to_bytes(4, "little")


def test_the_longest_frame_is_as_long_as_is_said() -> None:
    coded = frame(0xFF, 0xFFFF, 0xFFFFFFFF, b"\x11" * MAX_PAYLOAD)
    assert len(coded) <= MAX_CODED + 1
    # One byte for each 254 is met where nothing is zero.
    assert MAX_CODED == 525 + 3


def test_what_does_not_fit_a_frame_is_refused_here() -> None:
    with pytest.raises(FrameError, match="513 bytes; at most 512"):
        frame(1, 0, 0, bytes(513))
    with pytest.raises(FrameError, match="id 256"):
        frame(256, 0, 0)
    with pytest.raises(FrameError, match="session -1"):
        frame(1, 0, -1)


def test_the_number_of_a_frame_wraps() -> None:
    assert frame(1, 0x10005, 9) == frame(1, 5, 9)


def test_the_session_of_two_nonces() -> None:
    assert session_of(0, 0x00010002) == 0x00020001
    assert session_of(0x12345678, 0) == 0x12345678
    assert session_of(0x00020001, 0x00010002) == 1
