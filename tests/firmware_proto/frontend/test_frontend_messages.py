from __future__ import annotations

import array
import dataclasses
import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.frontend import vocabulary
from firmware_proto.frontend.errors import FrameError
from firmware_proto.frontend.message import Coded, Message
from firmware_proto.frontend.messages import (
    MESSAGES,
    Box,
    Config,
    ConfigIs,
    Hello,
    MinMax,
    Ping,
    Samples,
    Status,
    Trip,
    Welcome,
)
from firmware_proto.frontend.vocabulary import Reason, Refusal, State, Stream
from firmware_proto.frontend.wire import MAX_PAYLOAD

CONFIG = Config(1, 12500, 5000, 3, 2500, 768, 6, 2500, 8, 1000, 2000, Stream.MINMAX, 100)
# What ends of different schemas still have to understand of each other. Nobody may change these lines.
FROZEN = {
    "HELLO": (0x01, "<IIH", ["schema_hash", "host_nonce", "version"]),
    "TRIP": (0x06, "<", []),
    "WELCOME": (
        0x81,
        "<IIIIHIB16sIIIHHHHHIBB",
        [
            *("schema_hash", "host_nonce", "boot_nonce", "session", "version", "build_id", "reset_cause", "board"),
            *("tick_hz", "sample_hz", "code_pa", "full_scale_code", "max_payload", "credit_window", "box_max"),
            *("lease_max_ms", "switch_open_ns", "safe_closed", "state"),
        ],
    ),
}


def names(kind: type[Message]) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type] # each one is a dataclass


@pytest.mark.parametrize("name", FROZEN)
def test_introductions_and_trip_are_frozen(name: str) -> None:
    ident, layout, fields = FROZEN[name]
    kind = MESSAGES[ident]
    assert (kind.NAME, kind.LAYOUT.format, names(kind)) == (name, layout, fields)


def test_ids_are_frozen() -> None:
    assert {f"{ident:02X} {kind.NAME}" for ident, kind in MESSAGES.items()} == {
        *("01 HELLO", "02 CONFIG", "03 ARM", "04 LEASE", "05 OPEN", "06 TRIP", "07 ACK_TRIP", "08 REARM"),
        *("09 BOX_READ", "0A BOX_DONE", "0B CREDIT", "0C PING", "0D GET_STATUS"),
        *("81 WELCOME", "82 CONFIG_IS", "83 STATUS", "84 TRIP_REPORT", "85 SAMPLES", "86 MINMAX", "87 BOX"),
        *("88 PONG", "89 REFUSED"),
    }
    assert [f"{one.value} {one.name}" for one in Reason] == [
        *("0 NONE", "1 HARD", "2 LEVEL", "3 JUMP", "4 RATE", "5 SATURATED", "6 ADC_FAULT", "7 HOST", "8 LEASE"),
        *("9 OVERRUN", "10 SWITCH_STUCK"),
    ]
    assert [f"{one.value} {one.name}" for one in State] == ["0 SAFE", "1 ARMED", "2 TRIPPED"]


def test_the_switch_is_open_by_default() -> None:
    assert vocabulary.SAFE_SWITCH == 0


def test_a_message_is_packed_as_the_page_says() -> None:
    assert CONFIG.pack() == struct.pack("<HHHBHHBHBHHBH", 1, 12500, 5000, 3, 2500, 768, 6, 2500, 8, 1000, 2000, 1, 100)
    assert Config.unpack(CONFIG.pack()) == CONFIG
    assert Hello(1, 2, 3).pack().hex() == "01000000020000000300"
    assert Trip().pack() == b""


def test_a_config_in_force_compares_with_the_one_that_was_sent() -> None:
    answer = ConfigIs.unpack(CONFIG.pack() + struct.pack("<IB", 0xDEADBEEF, 0))
    assert answer.config == CONFIG
    assert (answer.config_crc, answer.result) == (0xDEADBEEF, Refusal.NONE)


def test_an_id_that_nobody_knows_is_a_member_of_its_own() -> None:
    payload = bytearray(struct.pack("<IBQQhHhBHH", 1, 77, 2, 3, 4, 5, 6, 0, 7, 8))
    reason = MESSAGES[0x84].unpack(bytes(payload)).reason  # type: ignore[attr-defined] # a TripReport
    assert isinstance(reason, Reason)
    assert (reason.name, reason.value) == ("UNKNOWN_77", 77)
    assert reason is Reason(77)
    assert reason not in list(Reason)
    assert MESSAGES[0x84].unpack(bytes(payload)).pack() == payload
    for wrong in (256, -1):
        with pytest.raises(ValueError, match="is not a valid"):
            Reason(wrong)


def test_arrays_are_bytes_with_a_count() -> None:
    codes = array.array("h", [1, -2, 300])
    samples = Samples(10, 20, codes.tobytes())
    assert samples.count == 3
    assert samples.pack() == struct.pack("<QQH3h", 10, 20, 3, 1, -2, 300)
    assert MinMax(1, 2, 100, struct.pack("<4h", -1, 1, -2, 2)).count == 2
    assert Box(1, 0, b"").count == 0
    assert Ping(1).count == 0


def test_what_does_not_fit_is_refused_with_the_messages_name() -> None:
    with pytest.raises(FrameError, match="HELLO"):
        Hello(2**32, 0, 0).pack()
    with pytest.raises(FrameError, match="SAMPLES: 3 bytes are not whole items of 2"):
        Samples(0, 0, b"abc").pack()
    with pytest.raises(FrameError, match="MINMAX: 6 bytes are not whole items of 4"):
        MinMax(0, 0, 1, b"abcdef").pack()
    with pytest.raises(FrameError, match="SAMPLES: 514 bytes; at most 512"):
        Samples(0, 0, bytes(2 * 248)).pack()
    assert len(Samples(0, 0, bytes(2 * 247)).pack()) == MAX_PAYLOAD
    with pytest.raises(FrameError, match="STATUS: a payload of 3 bytes"):
        Status.unpack(b"abc")
    with pytest.raises(FrameError, match="SAMPLES: a payload of 17 bytes"):
        Samples.unpack(bytes(17))


def welcome(board: str) -> Welcome:
    return dataclasses.replace(Welcome.unpack(bytes(Welcome.LAYOUT.size)), board=board)


def test_a_boards_name_is_sixteen_letters() -> None:
    for board in ("", "host", "mps2-an385", "x" * 16):
        assert Welcome.unpack(welcome(board).pack()).board == board
    with pytest.raises(FrameError, match="longer than 16"):
        welcome("x" * 17).pack()
    with pytest.raises(FrameError, match="not ASCII"):
        welcome("böard").pack()
    at = struct.calcsize("<IIIIHIB")
    payload = welcome("ab").pack()
    assert Welcome.unpack(payload[:at] + b"\xff\x01" + payload[at + 2 :]).board == "\\xff\x01"


@given(st.sampled_from(sorted(MESSAGES)), st.binary(max_size=120))
def test_any_payload_is_a_message_or_not_of_its_length(ident: int, payload: bytes) -> None:
    kind = MESSAGES[ident]
    if not kind.fits(payload):
        with pytest.raises(FrameError):
            kind.unpack(payload)
        return
    message = kind.unpack(payload)
    if not isinstance(message, Welcome):
        assert message.pack() == payload


def test_every_enum_is_one_byte() -> None:
    for kind in MESSAGES.values():
        for at, enum in kind.ENUMS.items():
            assert issubclass(enum, Coded)
            assert re.findall(r"\d*[A-Za-z]", kind.LAYOUT.format)[at] == "B"
