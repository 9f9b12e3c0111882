"""Forms of readings: whatever is lost, doubled or cut off, no line of any accepted form becomes another number."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.errors import RemoteProtocolError
from firmware_proto.keithley2400.forms import CANONICAL, ReadingForm, form_of
from firmware_proto.keithley2400.replies import Reading, parse_reading
from firmware_proto.keithley2400.status import StatusWord

PLAIN = int(StatusWord.V_SOURCE | StatusWord.I_MEASURE | StatusWord.FRONT)
STATUS = [
    PLAIN,
    PLAIN | StatusWord.COMPLIANCE,
    PLAIN | StatusWord.RANGE_COMPLIANCE,
    int(StatusWord.V_SOURCE | StatusWord.I_MEASURE),
]
FORMS = [
    ReadingForm(*parts)
    for parts in itertools.product((3, 4, 6, 7, 12), (2, 3), "eE", "+ ", (0, 1, 2), (False, True), (False, True))
    if parts[5] or not parts[6]
]
LEVEL_V = 0.1
CURRENTS = (1.234567890123e-7, -9.9e-12, 0.0, 1.05e-3, -5.55e-5, 1e-1)


def number(form: ReadingForm, value: float) -> str:
    sign = "-" if math.copysign(1.0, value) < 0 else form.plus
    mantissa, exponent = f"{abs(value):.{form.decimals}e}".split("e")
    return f"{sign}{mantissa}{form.letter}{exponent[0]}{int(exponent[1:]):0{form.exponent_digits}d}"


def written(form: ReadingForm, current_a: float, status: int = PLAIN) -> bytes:
    word = f"{'+' if form.signed_status else ''}{status}" if form.integer_status else number(form, float(status))
    comma = "," + " " * form.gap
    return f"{number(form, LEVEL_V)}{comma}{number(form, current_a)}{comma}{word}".encode()


def parser(form: ReadingForm) -> Callable[[bytes], Reading]:
    return parse_reading if form == CANONICAL else form.parser()


def refused(parse: Callable[[bytes], Reading], line: bytes) -> bool:
    try:
        parse(line)
    except RemoteProtocolError:
        return True
    return False


def damaged(line: bytes) -> Iterator[bytes]:
    """Yield ``line`` with every byte lost, every byte doubled, cut off everywhere, and without every beginning."""
    for at in range(len(line)):
        yield line[:at] + line[at + 1 :]
        yield line[: at + 1] + line[at:]
        yield line[:at]
        yield line[at + 1 :]


def test_every_accepted_form_reads_its_own_lines_and_has_one_length() -> None:
    assert len(FORMS) > 150
    for form in FORMS:
        parse = parser(form)
        for current_a, status in itertools.product(CURRENTS, STATUS):
            line = written(form, current_a, status)
            assert len(line) == form.length, line
            got = parse(line)
            assert got.current_a == pytest.approx(current_a, rel=10.0**-form.decimals, abs=1e-30), line
            assert not got.overflow
            if not form.coarse_status and float(number(form, float(status))) == status:
                assert got.status == status, line
            assert bool(got.status & StatusWord.RANGE_COMPLIANCE) == bool(status & StatusWord.RANGE_COMPLIANCE)


def test_no_lost_doubled_or_missing_bytes_leave_a_reading_in_any_form() -> None:
    tried = 0
    for form in FORMS:
        parse = parser(form)
        for current_a, status in itertools.product(CURRENTS, (PLAIN, PLAIN | StatusWord.RANGE_COMPLIANCE)):
            for line in damaged(written(form, current_a, status)):
                assert refused(parse, line), (form, line)
                tried += 1
    print(f"\n{tried} damaged readings of {len(FORMS)} forms, none became a number")
    assert tried > 100_000


def test_without_the_constant_length_a_lost_byte_would_be_another_number() -> None:
    # The removal test: what a lenient parser would have made of a reading that lost one byte.
    line = written(ReadingForm(decimals=3), -5.55e-5)
    changed = set()
    first, _, rest = line.partition(b",")
    for at in range(len(first) + 1, len(first) + 1 + rest.index(b",")):
        text = (line[:at] + line[at + 1 :]).split(b",")[1]
        try:
            changed.add(float(text))
        except ValueError:
            continue
    assert len(changed - {-5.55e-5}) >= 5
    assert max(changed) > 0.0, "a lost minus turns the current around"
    assert min(changed) <= -5.55, "a lost digit of the exponent makes amperes of microamperes"


@pytest.mark.parametrize(
    "form", [CANONICAL, ReadingForm(3), ReadingForm(4), ReadingForm(7, 3), ReadingForm(3, 2, "E", "+", 0, True)]
)
def test_how_many_flipped_bits_stay_undetected_is_known(form: ReadingForm) -> None:
    """8N1 has no check: a flip from digit to digit is a reading. Counted, bounded, and written down in ADR 0016."""
    parse = parser(form)
    flips = unseen = 0
    for current_a in CURRENTS:
        line = written(form, current_a)
        good = parse(line)
        for at, bit in itertools.product(range(len(line)), range(8)):
            broken = line[:at] + bytes([line[at] ^ (1 << bit)]) + line[at + 1 :]
            flips += 1
            try:
                got = parse(broken)
            except RemoteProtocolError:
                continue
            unseen += got != good
    print(f"\n{form.decimals} decimals: {unseen} of {flips} flipped bits ({unseen / flips:.1%}) are another reading")
    assert 0.10 < unseen / flips < 0.25


@given(st.binary(max_size=60))
def test_no_bytes_make_a_parser_raise_anything_else(line: bytes) -> None:
    for form in FORMS[::7]:
        refused(form.parser(), line)
    form_of(line)


def test_a_form_is_found_from_any_of_its_lines() -> None:
    for form in FORMS:
        for current_a in CURRENTS:
            found = form_of(written(form, current_a))
            # The sign of a negative number does not tell what stands before a positive one, if the status has none.
            if current_a < 0 and form.integer_status:
                assert found is not None
                assert found.length == form.length
            else:
                assert found == form


@pytest.mark.parametrize(
    "line",
    [
        b"0.000000E+00,1.234567E-07,2.048400E+04",  # no plus: a lost minus would not be seen
        b"+0.000000E+00,-1.234567E-07,2.048400E+04",
        b"+0.000000E+00,+1.234567E-7,+2.048400E+4",  # one digit of exponent: -7 and -17 have different lengths
        b"+0.000000E+00,+1.234567E-07,+2.0484E+04",  # two styles
        b"+0.000000E+00,+1.234567E-07,+2.048400E+004",
        b"+0.000000E+00,+0.000000123,+20484",  # no exponent: its leading digits come and go
        b"+0.000000E+00,+1.234567E-07",  # no status word
        b"+1.234567E-07,+2.048400E+04",  # no level
        b"+9.910000E+37,+1.234567E-07,+2.048400E+04",  # a level it does not tell
        b"+0.0000E+00,+1.234567E-07,+2.048400E+04",
        b"+0.000000E+00,+1.234567E-07,",
        b"+0.000000E+00,+1.234567E-07,+9.910000E+37,+1.000000E+00,+2.048400E+04",  # five elements
        b"+0.000000E+00,+1.23E-07,+2.05E+04",  # two decimals
        b"+0.000000E+00,+1.234567E-07;+2.048400E+04",
        b"+0.000000E+00,+1.234567E-07, +2.048400E+04 ",
        b"+0.000000E+00,+1.234567E-07,+4.096000E+03",  # measures amperes, sources nothing
        b"+0.000000E+00,+1.234567E-07,+2.048450E+04",
        b"+0.000000E+00,+1.234567E-07,04096",
        b"+0.000000E+00,+1.234567E-07,20480.0",
        b"+0.000000E+00,+9.900000E+30,+2.048400E+04",  # no current that can be
        b"+0.000000E+00,NAN,+2.048400E+04",
        b"+0.000000E+00,OVERFLOW,20484",
        b"+0.000000E+00,INF,INF",
        b"KEITHLEY",
        b"",
        b"0",
        b"OK",
        "+0.000000E+00,+1.234567E-07,٢٠٤٨٤".encode(),
    ],
)
def test_what_is_no_reading_of_constant_length_is_no_form(line: bytes) -> None:
    assert form_of(line) is None


@pytest.mark.parametrize("form", [ReadingForm(3), ReadingForm(4), ReadingForm(9), ReadingForm(3, 3)])
@pytest.mark.parametrize("value", [9.9e37, -9.9e37, 9.91e37])
def test_overflow_and_nothing_measured_are_flags_in_every_form(form: ReadingForm, value: float) -> None:
    got = form.parser()(written(form, value))
    assert math.isnan(got.current_a)
    assert (got.overflow, got.not_measured) == (abs(value) == 9.9e37, value == 9.91e37)


@pytest.mark.parametrize("value", [9.8e37, 3.4e38, 1e30, 2.0, -1.5])
def test_other_impossible_numbers_are_refused_in_every_form(value: float) -> None:
    for form in FORMS:
        assert refused(parser(form), written(form, value))


def test_a_rounded_status_word_tells_functions_and_range_compliance_only() -> None:
    parse = ReadingForm(3).parser()
    for status, ranged in ((20484, False), (20492, False), (86020, True), (86028, True), (20480, False)):
        got = parse(f"+1.000E-01,+1.000E-06,{status:+.3E}".encode())
        assert got.status & StatusWord.RANGE_COMPLIANCE == (StatusWord.RANGE_COMPLIANCE if ranged else 0)
        assert not got.status & (StatusWord.COMPLIANCE | StatusWord.OVERFLOW), "rounded bits are nobody's word"
    # Remote sense needs seven places: the bits of the functions are rounded away.
    assert refused(parse, b"+1.000E-01,+1.000E-06,+4.215E+06")
    for status in (4096, 16384, 36864, 53248):
        assert refused(parse, f"+1.000E-01,+1.000E-06,{status:+.3E}".encode())


@pytest.mark.parametrize("word", [b"20484", b"20492", b"86020"])
def test_an_integer_status_word_has_five_digits(word: bytes) -> None:
    parse = ReadingForm(integer_status=True).parser()
    assert parse(b"+1.000000E-01,+1.000000E-06," + word).status == int(word)
    assert refused(parse, b"+1.000000E-01,+1.000000E-06,0" + word[1:])
    # 220484 would have both function bits.
    assert refused(parse, b"+1.000000E-01,+1.000000E-06,2" + word)
    assert refused(parse, b"+1.000000E-01,+1.000000E-06,+" + word)


def test_a_level_no_2400_can_source_is_no_reading_of_any_form() -> None:
    parse = ReadingForm(decimals=7).parser()
    assert parse(b"+2.1000000E+02,+1.0000000E-06,+2.0484000E+04").level_v == 210.0
    for level in (b"+2.1000001E+02", b"-2.1000001E+02", b"+9.9100000E+37"):
        with pytest.raises(RemoteProtocolError, match="not a level"):
            parse(level + b",+1.0000000E-06,+2.0484000E+04")


@pytest.mark.parametrize("current", ["+1.0000000E-06", "-1.0500000E+00"])
def test_the_overflow_bit_makes_a_number_of_any_form_none(current: str) -> None:
    status = int(StatusWord.I_MEASURE | StatusWord.V_SOURCE | StatusWord.OVERFLOW)
    found = ReadingForm(decimals=7).parser()(f"+1.0000000E-01,{current},{float(status):+.7E}".encode())
    assert math.isnan(found.current_a)
    assert found.overflow


def test_a_status_word_with_a_fraction_is_none() -> None:
    with pytest.raises(RemoteProtocolError, match="not a status word"):
        ReadingForm(decimals=7).parser()(b"+1.0000000E-01,+1.0000000E-06,+2.0484500E+04")
