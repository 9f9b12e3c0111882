"""Replies of a 2400: exactly what they should be, or RemoteProtocolError; a damaged reading never becomes a number."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from firmware_proto.errors import ProtocolError, RemoteProtocolError
from firmware_proto.keithley2400 import replies
from firmware_proto.keithley2400.status import StatusWord
from hil.devices.keithley2400.desk import Desk

GOOD = b"-1.000000E-01,-1.470096E-08,+2.048400E+04"
GOOD_STATUS = StatusWord.V_SOURCE | StatusWord.I_MEASURE | StatusWord.FRONT
PARSERS: list[Callable[[bytes], object]] = [
    replies.parse_reading,
    replies.parse_verification,
    replies.parse_float,
    replies.parse_bool,
    replies.parse_error,
    replies.parse_identity,
]
# Of what replies are made of, so that near misses are common.
JUNK = st.one_of(
    st.binary(max_size=300),
    st.text('0123456789+-.,;Ee_ "naifNORM\x00\r', max_size=60).map(str.encode),
)

# Exponents of two digits: the instrument knows no others.
AMPS = st.floats(-1.05, 1.05).map(lambda a: a if abs(a) > 1e-90 else 0.0)
VOLTS = st.floats(-20, 20).map(lambda v: v if abs(v) > 1e-90 else 0.0)


def reading(current_a: float, status: int = GOOD_STATUS, level_v: float = -0.1) -> bytes:
    return f"{level_v:+.6E},{current_a:+.6E},{float(status):+.6E}".encode()


def refused(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        replies.parse_reading(line)


# ---------------------------------------------------------------------------------------------------- any bytes


@given(JUNK)
@example(b"")
@example(b"1_0")
@example(b"1.80e-310")
@example(b"\xff" * 80)
@example("1".encode("utf-16"))
def test_any_bytes_parse_or_raise_the_one_error(line: bytes) -> None:
    for parser in PARSERS:
        with contextlib.suppress(RemoteProtocolError):
            parser(line)


@pytest.mark.parametrize("parser", PARSERS)
def test_the_error_carries_the_bytes_and_stays_one_short_line(parser: Callable[[bytes], object]) -> None:
    line = b"\n\xff garbage," * 100
    with pytest.raises(RemoteProtocolError) as caught:
        parser(line)
    assert caught.value.data == line[:200]
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=300))
def test_garbage_is_never_a_reading(line: bytes) -> None:
    refused(line)


def test_the_errors_share_a_root() -> None:
    assert issubclass(RemoteProtocolError, ProtocolError)
    with pytest.raises(TypeError, match="LocalProtocolError"):
        raise ProtocolError("never itself")


# ----------------------------------------------------------------------------------------------------- readings


@given(AMPS, st.sampled_from([0, StatusWord.COMPLIANCE, StatusWord.RANGE_COMPLIANCE]))
def test_a_reading_is_its_number_and_its_status(current_a: float, more: int) -> None:
    line = reading(current_a, GOOD_STATUS | more)
    assert replies.parse_reading(line) == (float(line[14:27]), GOOD_STATUS | more, False, False, -0.1)


def test_what_the_instrument_sends_is_a_reading() -> None:
    desk = Desk(r_ohm=1e6)
    desk.tell(":FORM:ELEM VOLT,CURR,STAT", ":SENS:CURR:RANG 1e-4", ":SOUR:VOLT -1", ":OUTP ON")
    line = desk.ask(":READ?")
    assert line is not None
    got = replies.parse_reading(line.encode())
    assert got == (-1e-6, GOOD_STATUS, False, False, -1.0)


@pytest.mark.parametrize("stop", range(len(GOOD)))
def test_a_reading_cut_short_is_refused(stop: int) -> None:
    refused(GOOD[:stop])


@pytest.mark.parametrize("start", range(1, len(GOOD) + 1))
def test_a_reading_that_lost_its_start_is_refused(start: int) -> None:
    refused(GOOD[start:])


@given(AMPS, st.data())
def test_a_reading_with_one_byte_lost_is_refused(current_a: float, data: st.DataObject) -> None:
    line = reading(current_a)
    at = data.draw(st.integers(0, len(line) - 1))
    refused(line[:at] + line[at + 1 :])


@given(AMPS, st.data())
def test_a_reading_with_one_byte_doubled_is_refused(current_a: float, data: st.DataObject) -> None:
    line = reading(current_a)
    at = data.draw(st.integers(0, len(line) - 1))
    refused(line[: at + 1] + line[at:])


@pytest.mark.parametrize("between", [b"", b",", b";", b" ", b"\x00", b"\r"])
def test_joined_readings_are_refused(between: bytes) -> None:
    refused(GOOD + between + GOOD)
    # The tail of one and the head of the next.
    refused(GOOD[:20] + between + GOOD)


@pytest.mark.parametrize(
    "line",
    [
        b"+1.000000E-01,1.80e-310",
        b"+1.000000E-01,+1.80e-310,+2.048400E+04",
        b"+1.000000E-01,+1.800000E-310,+2.048400E+04",
        b"+1.000000E-01,nan",
        b"+1.000000E-01,nan,+2.048400E+04",
        b"+1.000000E-01,+inf,+2.048400E+04",
        b"+1.000000E-01,+1.000000E-06,inf",
        b"+1.000000E-01,+1.000000E-06,nan",
        b"+1.000000E-01,+1_000000E-06,+2.048400E+04",
        b"+1.000000E-01,+1.00_000E-06,+2.048400E+04",
        b"+1.000000E-01,+1.000000E-06,+20_484",
        b"+1.000000E-01,+1.000000E-06,20484",
        b"+1.000000E-01,1.000000E-06,+2.048400E+04",
        b"+1.000000E-01,+1.000000E-6,+2.048400E+04",
        b"+1.000000E-01,+1.000000E-06,+2.048400E+4",
        b"+1.000000E-01,+1.0000000E-06,+2.048400E+04",
        b"+1.000000E-01,+1.00000E-06,+2.048400E+04",
        b"+1.000000E-01,+1.000000E-06, +2.048400E+04",
        b"+1.000000E-01,+1.000000E-06,+2.048400E+04\r",
        b"+1.000000E-01, +1.000000E-06,+2.048400E+04",
        b"+1.000000E-06,+2.048400E+04",
        b"+1.000000E-01,+1.000000E-06,+9.910000E+37,+2.048400E+04",
        b"+9.910000E+37,+1.000000E-06,+2.048400E+04",
        b"+2.200000E+02,+1.000000E-06,+2.048400E+04",
        b"1.000000E-01,+1.000000E-06,+2.048400E+04",
        b"+1.000000E-01,+1.000000E-06",
        "+1.000000E-01,+1.000000E-06,+2.04840٠E+04".encode(),
    ],
)
def test_what_is_nearly_a_reading_is_refused(line: bytes) -> None:
    refused(line)


@pytest.mark.parametrize(
    ("word", "bits"),
    [
        (b"+2.048400E+04", StatusWord.V_SOURCE | StatusWord.I_MEASURE | StatusWord.FRONT),
        (b"+2.049200E+04", GOOD_STATUS | StatusWord.COMPLIANCE),
        (b"+8.602000E+04", GOOD_STATUS | StatusWord.RANGE_COMPLIANCE),
        (b"+8.602800E+04", GOOD_STATUS | StatusWord.COMPLIANCE | StatusWord.RANGE_COMPLIANCE),
        (b"+4.214788E+06", GOOD_STATUS | StatusWord.REMOTE_SENSE),
    ],
)
def test_status_words_as_they_are_sent(word: bytes, bits: StatusWord) -> None:
    # The numbers are the manual's (18-50), not made from the names.
    assert replies.parse_reading(b"+1.000000E-01,+1.000000E-06," + word).status == bits


@pytest.mark.parametrize("sign", ["+", "-"])
def test_overflow_is_a_flag_and_no_number(sign: str) -> None:
    got = replies.parse_reading(f"+1.000000E-01,{sign}9.900000E+37,+2.048500E+04".encode())
    assert math.isnan(got.current_a)
    assert (got.overflow, got.not_measured) == (True, False)


def test_overflow_told_only_by_its_bit_is_a_flag_too() -> None:
    got = replies.parse_reading(reading(1.04e-4, GOOD_STATUS | StatusWord.OVERFLOW))
    assert math.isnan(got.current_a)
    assert got.overflow


@pytest.mark.parametrize("sign", ["+", "-"])
def test_not_a_number_is_a_flag_and_no_number(sign: str) -> None:
    got = replies.parse_reading(f"+1.000000E-01,{sign}9.910000E+37,+2.048400E+04".encode())
    assert math.isnan(got.current_a)
    assert (got.overflow, got.not_measured) == (False, True)


@pytest.mark.parametrize("current_a", [1.07, -1.07, 2.0, 9.8e37, 9.92e37, 1e38])
def test_a_current_no_instrument_measures_is_refused(current_a: float) -> None:
    refused(reading(current_a))


@pytest.mark.parametrize("current_a", [0.0, -0.0, 1e-99, 1.05, -1.05])
def test_a_current_it_can_measure_is_taken(current_a: float) -> None:
    assert replies.parse_reading(reading(current_a)).current_a == current_a


@pytest.mark.parametrize(
    "word",
    [
        b"+0.000000E+00",  # no function at all
        b"+4.096000E+03",  # measures amperes, sources nothing
        b"+1.638400E+04",  # sources volts, measures no amperes
        b"+3.686400E+04",  # sources amperes
        b"+5.324800E+04",  # sources both
        b"+2.048450E+04",  # not whole
        b"-2.048400E+04",
        b"+2.048400E-04",
        b"+1.677722E+07",  # 25 bits
        b"+9.910000E+37",
        b"+9.900000E+37",
        b"+1.000000E+99",
    ],
)
def test_an_implausible_status_word_makes_the_reading_none(word: bytes) -> None:
    refused(b"+1.000000E-01,+1.000000E-06," + word)


# ---------------------------------------------------------------------------------------------------- the cut's proof


@given(VOLTS, st.integers(1, 255), st.booleans())
def test_a_verification_is_level_tag_and_output(level_v: float, tag: int, on: bool) -> None:
    text = f"{level_v:+.6E}"
    got = replies.parse_verification(f"{text};{tag};{on:d}".encode())
    assert got == (tag, on, float(text))
    # One public capture of this unit has no plus sign.
    assert replies.parse_verification(f"{text.removeprefix('+')};{tag};{on:d}".encode()) == got


def test_what_the_instrument_sends_is_a_verification() -> None:
    desk = Desk()
    desk.tell(":SOUR:VOLT -0.5", ":OUTP ON")
    line = desk.ask("*ESE 77;:SOUR:VOLT?;*ESE?;:OUTP?")
    assert line is not None
    assert replies.parse_verification(line.encode()) == (77, True, -0.5)


@given(VOLTS, st.binary(max_size=200))
@example(5.0, b"+1.0000")
@example(-5.0, b"-1.470096E-08,+2.0484")
@example(5.0, b"12")
@example(0.5, b"+0.000000E+00;7;")
def test_junk_in_front_of_a_verification_never_changes_it(level_v: float, junk: bytes) -> None:
    text = f"{level_v:+.6E}"
    got = replies.parse_verification(junk + f"{text};77;0".encode())
    assert got == (77, False, float(text))


@pytest.mark.parametrize("text", ["+5.000000E+00", "-5.000000E-01", "5.000000E+00", "-1.000000E+01"])
def test_a_verification_that_lost_its_start_never_says_zero(text: str) -> None:
    line = f"{text};77;0".encode()
    for start in range(1, len(line) + 1):
        try:
            got = replies.parse_verification(line[start:])
        except RemoteProtocolError:
            continue
        assert abs(got.level_v) == abs(float(text)), line[start:]


@pytest.mark.parametrize("text", ["+5.000000E+00", "+0.000000E+00"])
def test_a_verification_cut_short_is_none(text: str) -> None:
    line = f"{text};77;0".encode()
    for stop in range(len(line)):
        with pytest.raises(RemoteProtocolError):
            replies.parse_verification(line[:stop])


@pytest.mark.parametrize(
    "line",
    [
        b"+0.000000E+00;77;2",
        b"+0.000000E+00;77;0 ",
        b"+0.000000E+00;77;",
        b"+0.000000E+00;;0",
        b"77;0;+0.000000E+00",
        b"+0.000000E+00;1000;0",
        b"nan;77;0",
        b"0;77;0",
        b"+0.000000E+00,77,0",
        b"+0.000000E+00;77;0;0",
    ],
)
def test_what_is_nearly_a_verification_is_none(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        replies.parse_verification(line)


# ------------------------------------------------------------------------------------------------------- the others


@pytest.mark.parametrize(("line", "value"), [(b"+1.050000E-04", 1.05e-4), (b"0", 0.0), (b"1", 1.0), (b"-2.5", -2.5)])
def test_numbers(line: bytes, value: float) -> None:
    assert replies.parse_float(line) == value


@pytest.mark.parametrize("line", [b"", b"nan", b"inf", b"1_0", b"0x1", b"1e5", b" 1", b"1 ", b"+", b".", b"1.0E-310"])
def test_what_is_no_number_is_refused(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        replies.parse_float(line)


def test_booleans() -> None:
    assert replies.parse_bool(b"1") is True
    assert replies.parse_bool(b"0") is False
    for line in (b"", b"2", b"00", b"01", b"11", b"+1", b"ON", b"1 ", b"\x001"):
        with pytest.raises(RemoteProtocolError):
            replies.parse_bool(line)


def test_error_queue_entries() -> None:
    assert replies.parse_error(b'0,"No error"') == (0, "No error")
    assert replies.parse_error(b'-113,"Undefined header"') == (-113, "Undefined header")
    assert replies.parse_error(b'+803,"Not permitted with OUTPUT off"') == (803, "Not permitted with OUTPUT off")
    for line in (b"", b"0", b"0,", b'0,"No error', b',"x"', b'123456,"x"', b'0,"a"b"', b'0,"' + b"x" * 201 + b'"'):
        with pytest.raises(RemoteProtocolError):
            replies.parse_error(line)


def test_what_the_instrument_sends_are_error_queue_entries() -> None:
    desk = Desk()
    desk.tell("GARBAGE")
    lines = [desk.ask(":SYST:ERR?"), desk.ask(":SYST:ERR?")]
    assert [replies.parse_error(line.encode()).code for line in lines if line] == [-113, 0]


def test_an_identity_as_a_real_unit_sends_it() -> None:
    line = b"KEITHLEY INSTRUMENTS INC.,MODEL 2400,1304207,C31   May 28 2010 10:34:39/A02  /R/J"
    assert replies.parse_identity(line) == (
        "KEITHLEY INSTRUMENTS INC.",
        "2400",
        "1304207",
        "C31   May 28 2010 10:34:39/A02  /R/J",
    )


@pytest.mark.parametrize(
    "line",
    [b"", b"KEITHLEY", b"a,b,c", b"a,b,\xff,d", b"a,b,c\x07,d", b"a,b,c," + b"d" * 200, "a,b,é,d".encode()],
)
def test_what_is_no_identity_is_refused(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        replies.parse_identity(line)


@pytest.mark.parametrize("kept", [b"KEITHLEY INSTRUMENTS INC.,MODEL 2400,13", b"KEITHLEY INSTRUMENTS INC.,MODEL 2400"])
def test_an_identity_cut_inside_its_serial_number_is_refused(kept: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        replies.parse_identity(kept)


_NR3 = rb"[+-][0-9]\.[0-9]{6}[Ee][+-][0-9]{2}"
_AS_A_PATTERN = re.compile(rb",".join([_NR3] * 3)).fullmatch
"""What a reading is, said in the usual way; the parser says it by its shape, in less time."""


@given(st.lists(st.tuples(st.integers(0, 41), st.integers(0, 255), st.sampled_from("sid")), max_size=3))
def test_a_reading_s_shape_is_its_pattern(edits: list[tuple[int, int, str]]) -> None:
    line = bytearray(GOOD)
    for at, byte, how in edits:
        if how == "i":
            line.insert(at, byte)
        elif at < len(line):
            line[at : at + 1] = bytes([byte]) if how == "s" else b""
    data = bytes(line)
    shaped = data.translate(replies._SHAPES) == replies._READING_SHAPE
    assert shaped is (_AS_A_PATTERN(data) is not None)
    if not shaped:
        with pytest.raises(RemoteProtocolError):
            replies.parse_reading(data)


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_in_every_kind_of_place(byte: int) -> None:
    # A sign, a digit, the point, the letter, the comma.
    for at in (0, 1, 2, 9, 13):
        data = GOOD[:at] + bytes([byte]) + GOOD[at + 1 :]
        shaped = data.translate(replies._SHAPES) == replies._READING_SHAPE
        assert shaped is (_AS_A_PATTERN(data) is not None)


@given(
    st.floats(-300, 300),
    st.floats(-1.2, 1.2) | st.sampled_from([9.9e37, -9.9e37, 9.91e37, 1e30]),
    st.integers(-100, 1 << 25) | st.just(int(GOOD_STATUS)) | st.just(int(GOOD_STATUS | StatusWord.OVERFLOW)),
)
def test_the_rule_and_the_exception_judge_alike(level_v: float, current_a: float, status: int) -> None:
    line = b"%+.6E,%+.6E,%+.6E" % (level_v, current_a, status)
    # A number of the 2400 has two digits of exponent.
    assume(len(line) == len(GOOD))
    told = [float(part) for part in line.split(b",")]
    word = int(told[2]) if told[2] == int(told[2]) and told[2] < replies.STATUS_MAX else -1

    def outcome(judge: Callable[[], replies.Reading]) -> str:
        try:
            return repr(judge())
        except RemoteProtocolError as error:
            return str(error)

    assert outcome(lambda: replies.parse_reading(line)) == outcome(lambda: replies.judged(line, told[0], told[1], word))
