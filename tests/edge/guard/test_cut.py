"""The cut: which bytes, in which order, how often, and what proves it; on an emulated 2400 where it matters."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.guard.cut import ROUND_NS, ROUNDS_TO_ALARM, SLOW_ROUND_NS, Cut, CutForm, cut_form
from firmware_proto.keithley2400 import commands, replies
from hil.devices.keithley2400.desk import Desk

NOW = 1_000_000_000
MS = 1_000_000
OFF = b"+0.000000E+00;%d;0"
ON = b"+0.000000E+00;%d;1"
CTRL_C = commands.ABORT["ctrl-c"]


def a_cut(
    form: CutForm = CutForm.TIP,
    *,
    outstanding: bool = False,
    baud: int = 57600,
    first_tag: int = 6,
    abort: bytes = CTRL_C,
) -> Cut:
    return Cut(
        form.lines,
        wants_zero=form.wants_zero,
        abort=abort,
        query_outstanding=outstanding,
        baud=baud,
        first_tag=first_tag,
    )


def tag_of(data: bytes) -> int:
    return int(data.rsplit(b"*ESE ", 1)[1].split(b";", 1)[0])


def lines_of(data: bytes) -> list[bytes]:
    return data.split(b"\n")


# ------------------------------------------------------------------------------------------------------ the bytes


def test_a_tip_goes_to_zero_and_then_off() -> None:
    assert a_cut().next_round(NOW) == b"\n:SOUR:VOLT 0\n:OUTP OFF\n" + commands.tagged_query(7)


def test_a_cell_is_only_switched_off() -> None:
    assert a_cut(CutForm.CELL).next_round(NOW) == b"\n:OUTP OFF\n" + commands.tagged_query(7)


def test_an_unknown_rig_is_only_switched_off() -> None:
    assert a_cut(CutForm.UNKNOWN).next_round(NOW) == b"\n:OUTP OFF\n" + commands.tagged_query(7)


@pytest.mark.parametrize("form", [CutForm.CELL, CutForm.UNKNOWN])
def test_no_round_of_these_ever_sends_a_level(form: CutForm) -> None:
    cut = a_cut(form, outstanding=True)
    for n in range(1, 300):
        data = cut.next_round(NOW + n)
        assert b":SOUR:VOLT " not in data
        # The query of the level is not a level.
        assert data.count(b":SOUR:VOLT") == data.count(b":SOUR:VOLT?")


@pytest.mark.parametrize(
    ("kind", "form"),
    [("tip", CutForm.TIP), ("cell", CutForm.CELL), ("", CutForm.UNKNOWN), ("Tip", CutForm.UNKNOWN)],
)
def test_the_form_of_a_rig(kind: str, form: CutForm) -> None:
    assert cut_form(kind) is form


def test_form_values_are_frozen() -> None:
    assert [(form.name, form.value) for form in CutForm] == [("UNKNOWN", 0), ("TIP", 1), ("CELL", 2)]


def test_only_a_tip_wants_zero() -> None:
    assert [form for form in CutForm if form.wants_zero] == [CutForm.TIP]


@pytest.mark.parametrize("abort", [b"\x03", b"\x18"])
def test_an_abort_goes_first_only_if_a_query_is_outstanding_and_only_once(abort: bytes) -> None:
    cut = a_cut(outstanding=True, abort=abort)
    assert cut.next_round(NOW).startswith(abort + b"\n:SOUR:VOLT 0\n")
    for n in range(1, 10):
        assert abort not in cut.next_round(NOW + n)
    cut = a_cut(outstanding=False, abort=abort)
    for n in range(10):
        assert abort not in cut.next_round(NOW + n)


@given(st.sampled_from(CutForm), st.booleans(), st.integers(0, 254))
def test_every_line_of_every_round_stands_alone(form: CutForm, outstanding: bool, first_tag: int) -> None:
    cut = a_cut(form, outstanding=outstanding, first_tag=first_tag)
    for n in range(5):
        data = cut.next_round(NOW + n)
        assert data.endswith(b"\n")
        head, *rest, end = lines_of(data)
        assert head == (CTRL_C if outstanding and n == 0 else b"")
        assert end == b""
        assert [line + b"\n" for line in rest[:-1]] == list(form.lines)
        for line in rest[:-1]:
            assert b";" not in line


@given(st.integers(-1000, 1000))
def test_tags_are_never_0_and_never_repeat_within_a_cut(first_tag: int) -> None:
    cut = a_cut(first_tag=first_tag)
    tags = [tag_of(cut.next_round(NOW + n)) for n in range(255)]
    assert sorted(tags) == list(range(1, 256))


def test_after_every_tag_was_used_the_cut_still_goes_on() -> None:
    # 255 rounds are a minute without a reply; each of its queries followed the cut, so an old tag proves as much.
    cut = a_cut(first_tag=0)
    tags = [tag_of(cut.next_round(NOW + n)) for n in range(256)]
    assert (tags[0], tags[254], tags[255]) == (1, 255, 1)
    assert cut.feed(OFF % 1, NOW)


# ------------------------------------------------------------------------------------------------------ the proof


def test_the_reply_to_the_round_verifies() -> None:
    assert not a_cut().verified
    cut = a_cut()
    tag = tag_of(cut.next_round(NOW))
    assert cut.feed(OFF % tag, NOW + 5)
    assert cut.verified
    assert (cut.started_ns, cut.verified_ns, cut.rounds, cut.stale_replies) == (NOW, NOW + 5, 1, 0)


def test_the_reply_to_an_earlier_round_of_this_cut_verifies() -> None:
    cut = a_cut()
    first = tag_of(cut.next_round(NOW))
    cut.next_round(NOW + 1)
    assert cut.feed(OFF % first, NOW + 2)
    assert cut.started_ns == NOW


@given(st.integers(0, 999), st.integers(0, 254), st.integers(1, 5))
def test_a_reply_with_another_tag_is_stale(tag: int, first_tag: int, rounds: int) -> None:
    cut = a_cut(first_tag=first_tag)
    sent = {tag_of(cut.next_round(NOW + n)) for n in range(rounds)}
    due = cut.due_ns
    assert cut.feed(OFF % tag, NOW + 9) == (tag in sent)
    assert cut.verified == (tag in sent)
    if tag not in sent:
        assert (cut.stale_replies, cut.due_ns) == (1, due)


def test_nothing_verifies_a_cut_that_was_not_sent() -> None:
    cut = a_cut(first_tag=6)
    for tag in range(256):
        assert not cut.feed(OFF % tag, NOW)


@pytest.mark.parametrize(
    "line",
    [b"", b"7", b"0", b"1", b"+0.000000E+00;7;", b"+0.000000E+00;7;2", b"-1.470096E-08,+2.048400E+04", b"\xff" * 80],
)
def test_anything_else_is_stale(line: bytes) -> None:
    cut = a_cut(first_tag=6)
    cut.next_round(NOW)
    assert not cut.feed(line, NOW + 1)
    assert cut.stale_replies == 1
    assert not cut.verified


@pytest.mark.parametrize("form", CutForm)
def test_output_still_on_is_repeated_at_once(form: CutForm) -> None:
    cut = a_cut(form)
    tag = tag_of(cut.next_round(NOW))
    assert cut.due_ns > NOW + ROUND_NS
    assert not cut.feed(ON % tag, NOW + 7)
    assert cut.due_ns == NOW + 7
    assert not cut.verified
    assert cut.stale_replies == 0


def test_a_tip_off_at_another_level_is_not_verified() -> None:
    cut = a_cut(CutForm.TIP)
    tag = tag_of(cut.next_round(NOW))
    assert not cut.feed(b"-5.000000E-01;%d;0" % tag, NOW + 7)
    assert cut.due_ns == NOW + 7
    assert cut.feed(b"-0.000000E+00;%d;0" % tag, NOW + 8)


@pytest.mark.parametrize("form", [CutForm.CELL, CutForm.UNKNOWN])
def test_others_are_verified_at_any_level(form: CutForm) -> None:
    cut = a_cut(form)
    tag = tag_of(cut.next_round(NOW))
    assert cut.feed(b"+3.700000E+00;%d;0" % tag, NOW + 7)


# ------------------------------------------------------------------------------------------------------ the times


def wire_ns(data: bytes, baud: int) -> int:
    # 10 bits a byte; the reply is "+0.000000E+00;255;0" and its terminator, 21 bytes, and three to spare.
    return (len(data) + 24) * 10_000_000_000 // baud if baud else 0


@pytest.mark.parametrize("baud", [57600, 9600, 0])
def test_a_round_is_repeated_when_its_reply_is_overdue(baud: int) -> None:
    cut = a_cut(baud=baud, outstanding=True)
    for n in range(ROUNDS_TO_ALARM):
        now = NOW + n * 1_000 * MS
        data = cut.next_round(now)
        assert abs(cut.due_ns - now - 40 * MS - wire_ns(data, baud)) < 10_000
        assert not cut.alarm


@pytest.mark.parametrize(("baud", "least_ms", "most_ms"), [(57600, 50, 60), (9600, 110, 140), (0, 40, 40)])
def test_what_that_is_in_ms(baud: int, least_ms: int, most_ms: int) -> None:
    cut = a_cut(baud=baud)
    cut.next_round(NOW)
    assert least_ms * MS <= cut.due_ns - NOW <= most_ms * MS


@pytest.mark.parametrize("baud", [57600, 9600, 0])
def test_after_three_failed_rounds_there_is_an_alarm_and_the_pace_slows(baud: int) -> None:
    cut = a_cut(baud=baud)
    for n in range(3):
        cut.next_round(NOW + n)
        assert not cut.alarm
    data = cut.next_round(NOW + 3)
    assert cut.alarm
    assert cut.due_ns - NOW - 3 - wire_ns(data, baud) >= SLOW_ROUND_NS - 10_000
    # It never gives up.
    assert cut.next_round(NOW + 4)


def test_a_late_proof_ends_the_alarm() -> None:
    cut = a_cut()
    tags = [tag_of(cut.next_round(NOW + n)) for n in range(4)]
    assert cut.alarm
    cut.feed(OFF % tags[0], NOW + 9)
    assert not cut.alarm


# ------------------------------------------------------------------------------------------- on the instrument


def energised(r_ohm: float = 1e6, **options: float) -> Desk:
    desk = Desk(r_ohm, abort_swallow_s=options.get("abort_swallow_s", 0.0))
    desk.tell(":FORM:ELEM CURR,STAT", ":SENS:CURR:RANG 1e-4", ":SOUR:VOLT:RANG 20", ":SOUR:VOLT -5", ":OUTP ON")
    assert desk.unit.output_on
    return desk


def play(desk: Desk, cut: Cut, rounds: int = 4) -> bool:
    """Send rounds until one is verified; each has as long as it is given."""
    for _ in range(rounds):
        desk.write(cut.next_round(desk.t_ns))
        seen = len(desk.wire.sent)
        desk.wait(cut.due_ns - desk.t_ns)
        for t_ns, line in desk.wire.sent[seen:]:
            if cut.feed(line.rstrip(b"\r"), t_ns):
                return True
    return False


@pytest.mark.parametrize("form", CutForm)
@pytest.mark.parametrize("outstanding", [False, True])
def test_one_round_is_enough(form: CutForm, outstanding: bool) -> None:
    desk = energised()
    if outstanding:
        desk.write(":READ?")
    cut = a_cut(form, outstanding=outstanding)
    assert play(desk, cut, rounds=1)
    assert not desk.unit.output_on
    assert desk.unit.settings.volt_source.level == (0.0 if form is CutForm.TIP else -5.0)
    assert desk.unit.error_queue == ()


def test_a_cell_never_sees_another_level_on_the_way_off() -> None:
    desk = energised()
    before = len(desk.load.sources)
    assert play(desk, a_cut(CutForm.CELL))
    after = desk.load.sources[before:]
    # NORM off would be 0 V by itself; that a cell is switched off to an open relay is the set-up's part.
    assert len(after) == 1


@pytest.mark.parametrize("stop", range(1, len(b":SOUR:VOLT -10.0000\n:READ?\n")))
def test_a_message_cut_short_before_it_does_not_spoil_it(stop: int) -> None:
    desk = energised()
    desk.write(b":SOUR:VOLT -10.0000\n:READ?\n"[:stop])
    assert play(desk, a_cut(CutForm.TIP, outstanding=True))
    assert not desk.unit.output_on
    assert desk.unit.settings.volt_source.level == 0.0


def test_without_the_newline_in_front_it_would_be_spoilt() -> None:
    desk = energised()
    desk.write(b":SOUR:VOLT -1")
    desk.write(a_cut().next_round(desk.t_ns).removeprefix(b"\n"))
    desk.settle()
    assert desk.unit.settings.volt_source.level == -5.0
    assert len(desk.unit.error_queue) == 1


def test_behind_an_invalid_command_in_the_same_message_it_would_be_ignored() -> None:
    desk = energised()
    desk.write(b":GARBAGE;:SOUR:VOLT 0;:OUTP OFF\n")
    desk.settle()
    assert desk.unit.output_on


def test_an_abort_is_what_makes_it_quick_behind_a_long_reading() -> None:
    took = {}
    for outstanding in (False, True):
        desk = energised()
        desk.tell(":SENS:CURR:NPLC 10")
        desk.write(":READ?")
        began = desk.t_ns
        desk.write(a_cut(outstanding=outstanding).next_round(desk.t_ns))
        while desk.unit.output_on:
            desk.wait(MS)
        took[outstanding] = desk.t_ns - began
    assert took[True] <= 20 * MS
    assert took[False] >= 200 * MS


def test_an_abort_that_swallows_the_round_costs_one_round() -> None:
    desk = energised(abort_swallow_s=0.02)
    desk.write(":READ?")
    cut = a_cut(outstanding=True)
    assert play(desk, cut, rounds=2)
    assert cut.rounds == 2
    assert not desk.unit.output_on


def test_with_an_abort_in_every_round_it_would_never_end() -> None:
    desk = energised(abort_swallow_s=0.02)
    for _ in range(5):
        desk.write(CTRL_C + a_cut().next_round(desk.t_ns))
        desk.wait(60 * MS)
    assert desk.unit.output_on


def test_a_reply_from_before_the_cut_proves_nothing() -> None:
    # An instrument that answers an older tagged query "off", and was switched on at the panel since.
    desk = energised()
    desk.tell(":OUTP OFF")
    old = desk.ask("*ESE 99;:SOUR:VOLT?;*ESE?;:OUTP?")
    desk.tell(":OUTP ON")
    assert old is not None
    assert not replies.parse_verification(old.encode()).output_on
    cut = a_cut(first_tag=6)
    cut.next_round(desk.t_ns)
    assert not cut.feed(old.encode(), desk.t_ns)


def test_it_needs_nothing_beyond_the_standard_library_and_the_protocol() -> None:
    # safe-off and the keeper cut with it when the rest may be gone.
    code = (
        "import sys\nimport edge.guard.cut\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('asyncio', 'serial', 'numpy', 'msgpack', 'pydantic')"
        " or m.startswith('edge') and m not in ('edge', 'edge.guard', 'edge.guard.cut', 'edge.errors')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
