"""Bytes, messages, the input buffer and aborts of the emulated 2400."""

from __future__ import annotations

import doctest
from collections.abc import Callable

import pytest

from hil.devices.keithley2400 import Keithley2400, Timing
from hil.devices.keithley2400 import desk as desk_module
from hil.devices.keithley2400.desk import Desk, DeskLoad, DeskWire

MS = 1_000_000


def is_on(desk: Desk) -> bool:
    return desk.unit.output_on


def is_busy(desk: Desk) -> bool:
    return desk.unit.busy


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\n\r"])
def test_any_terminator_is_taken(end: bytes) -> None:
    desk = Desk()
    desk.write(b":SYST:VERS?" + end)
    desk.settle()
    assert [data for _, data in desk.wire.sent] == [b"1996.0\r"]


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\n\r"])
def test_the_selected_terminator_is_sent(end: bytes) -> None:
    desk = Desk(terminator=end)
    desk.tell(":SYST:VERS?")
    assert desk.wire.sent[0][1] == b"1996.0" + end


def test_without_a_terminator_nothing_happens() -> None:
    desk = Desk()
    desk.write(b"*IDN?")
    assert desk.unit.next_event_ns() is None
    desk.write(b"\r")
    assert desk.unit.next_event_ns() is not None


def test_nul_bytes_and_empty_lines_are_nothing() -> None:
    desk = Desk()
    desk.write(b"\0\r\n  \r\0*OP\0C?\r")
    desk.settle()
    assert [data for _, data in desk.wire.sent] == [b"1\r"]
    assert desk.unit.error_queue == ()


def test_replies_of_one_message_are_joined() -> None:
    assert Desk().ask("*ESE 7;*ESE?;:OUTP?;:SOUR:VOLT?") == "7;0;+0.000000E+00"


def test_the_path_rules_hold_inside_a_message() -> None:
    assert Desk().ask(":SENS:CURR:PROT?;RANG?;*OPC?;NPLC?;:OUTP:SMOD?") == (
        "+1.050000E-04;+1.050000E-04;1;+1.000000E+00;NORM"
    )


@pytest.mark.parametrize(
    "bad",
    ["GARBAGE", ":SOUR:VOLTS 1", ":OUTP", ":OUTP ON,ON", ":OUTP MAYBE", ":SOUR:VOLT 1e9", "::", ":READ?", "*IDN? 'x"],
)
def test_commands_behind_a_rejected_one_are_ignored_and_those_before_it_count(bad: str) -> None:
    desk = Desk()
    assert desk.ask(f"*ESE 9;*ESE?;{bad};*ESE 55;*ESE?") == "9"
    assert desk.ask("*ESE?") == "9"
    assert len(desk.unit.error_queue) == 1


def test_the_next_message_is_not_ignored() -> None:
    desk = Desk()
    desk.write("GARBAGE")
    desk.write("*OPC?")
    desk.settle()
    assert desk.wire.sent[-1][1] == b"1\r"


def test_lower_case_and_long_forms() -> None:
    desk = Desk()
    assert desk.ask(":source1:voltage:level:immediate:amplitude 1.5;:sour:volt?") == "+1.500000E+00"


def test_messages_queue_in_order() -> None:
    desk = Desk()
    for n in range(5):
        desk.write(f"*ESE {n};*ESE?")
    desk.settle()
    assert [data for _, data in desk.wire.sent] == [b"%d\r" % n for n in range(5)]
    times = [t_ns for t_ns, _ in desk.wire.sent]
    assert times == sorted(set(times))


# The input buffer


def test_a_message_above_any_length_is_lost_with_one_error() -> None:
    desk = Desk()
    desk.write(b"*ESE 5;" * 600 + b"\r*OPC?\r")
    desk.settle()
    assert desk.unit.error_queue == (-363,)
    assert [data for _, data in desk.wire.sent] == [b"1\r"]
    assert desk.ask("*ESE?") == "0"


def test_an_idle_unit_takes_a_message_longer_than_its_input_queue() -> None:
    desk = Desk(input_buffer=32)
    desk.write(b"*ESE 5;" * 20 + b"*ESE?\r")
    desk.settle()
    assert [data for _, data in desk.wire.sent] == [b"5\r"]
    assert desk.unit.error_queue == ()


def test_a_list_command_of_100_values_fits() -> None:
    desk = Desk()
    desk.write(":SOUR:LIST:VOLT " + ",".join(["+1.000000E-01"] * 100) + ";:SOUR:LIST:VOLT:POIN?")
    desk.settle()
    assert [data for _, data in desk.wire.sent] == [b"100\r"]


def test_bytes_that_do_not_fit_beside_the_waiting_ones_are_lost_and_two_messages_become_one() -> None:
    desk = Desk(input_buffer=32)
    desk.write("*OPC?")  # begins to execute at once and leaves the queue
    for n in range(1, 4):
        desk.write(f"*ESE {n};*ESE?")  # 13 bytes with its terminator: two fit, and six bytes of the third
    assert desk.unit.error_queue == (-363,)
    desk.wait(MS)  # *OPC? is done: the first message leaves the queue
    desk.write(";*ESE?")
    desk.settle()
    # What was left of the third, "*ESE 3", and the next message are one line.
    assert [data for _, data in desk.wire.sent] == [b"1\r", b"1\r", b"2\r", b"3\r"]
    assert desk.unit.error_queue == (-363,)


def test_an_output_off_can_lose_its_end_and_then_does_nothing() -> None:
    desk = Desk(input_buffer=16)
    desk.tell(":SOUR:VOLT 1", ":OUTP ON")
    desk.write("*OPC?")
    desk.write("*ESE 1")  # 7 bytes
    desk.write(":OUTP OFF")  # 9 of its 10 bytes fit: all but the terminator
    desk.settle()
    assert is_on(desk)
    assert desk.unit.error_queue == (-363,)
    desk.tell("")
    assert not is_on(desk), "the terminator of the next message ends it"


def test_every_stretch_of_lost_bytes_is_one_error() -> None:
    desk = Desk(input_buffer=16)
    desk.write("*OPC?")
    for _ in range(5):
        desk.write("*ESE 1;*ESE?")
    assert list(desk.unit.error_queue) == [-363]
    desk.settle()
    desk.write(b"\x03")
    desk.write("*OPC?")
    for _ in range(5):
        desk.write("*ESE 1;*ESE?")
    assert list(desk.unit.error_queue) == [-363, -363]


def test_the_queue_has_room_again_once_messages_were_executed() -> None:
    desk = Desk(input_buffer=32)
    for _ in range(100):
        assert desk.ask(":SYST:VERS?;:SYST:VERS?") == "1996.0;1996.0"
    assert desk.unit.error_queue == ()


def test_default_queue_is_1024_bytes() -> None:
    desk = Desk()
    desk.write("*OPC?")
    for _ in range(1024 // 6 + 10):
        desk.write("*ESE?")
    assert desk.unit.queued_bytes == 1024
    desk.settle()
    assert len(desk.wire.sent) == 1 + 1024 // 6


# Aborts


@pytest.mark.parametrize("char", [b"\x03", b"\x18"])
def test_an_abort_ends_a_measurement_without_a_reply(char: bytes) -> None:
    desk = Desk()
    desk.tell(":OUTP ON", ":SENS:CURR:NPLC 10")
    desk.write(":READ?")
    desk.wait(100 * MS)
    assert is_busy(desk)
    desk.write(char)
    assert not is_busy(desk)
    desk.wait(10_000 * MS)
    assert desk.wire.sent == []
    assert desk.wire.discards == [desk.t_ns - 10_000 * MS]


def test_an_abort_leaves_the_output_and_its_level() -> None:
    desk = Desk()
    desk.tell(":SOUR:VOLT 1", ":OUTP ON", ":INIT")
    before = desk.load.sources[-1]
    desk.write(b"\x03")
    assert is_on(desk)
    assert desk.load.sources[-1] == before
    assert desk.ask(":SOUR:VOLT?") == "+1.000000E+00"


def test_an_abort_empties_the_queue_and_the_partial_line() -> None:
    desk = Desk()
    desk.write(b"*OPC?\r*ESE 1\r*ESE 2\r:OUTP")
    desk.write(b"\x03 ON\r*ESE?\r")
    desk.settle()
    assert [data for _, data in desk.wire.sent] == [b"0\r"]
    assert not is_on(desk)
    assert desk.unit.error_queue == (-113,)  # what was left of the line: ON


def test_an_abort_makes_room_in_the_buffer() -> None:
    desk = Desk(input_buffer=32)
    for _ in range(10):
        desk.write(b":SYST:VERS?\r" * 3 + b"\x03")
    assert desk.unit.error_queue == ()


def test_an_abort_during_the_processing_of_a_level_loses_the_level() -> None:
    desk = Desk()
    desk.tell(":OUTP ON")
    desk.write(":SOUR:VOLT 1")
    desk.wait(6 * MS)
    desk.write(b"\x03")
    desk.wait(100 * MS)
    assert desk.load.sources[-1].v_set == 0.0
    assert desk.ask(":SOUR:VOLT?") == "+0.000000E+00"


def test_an_abort_reaches_behind_an_overlong_line() -> None:
    desk = Desk()
    desk.write(b"x" * 5000 + b"\x03*OPC?\r")
    desk.settle()
    assert [data for _, data in desk.wire.sent] == [b"1\r"]


def test_an_abort_when_idle_discards_output_and_nothing_else() -> None:
    desk = Desk()
    desk.write(b"\x03\x18\x03")
    assert desk.wire.discards == [0, 0, 0]
    assert desk.ask("*OPC?") == "1"


def test_several_lines_around_an_abort_in_one_run_of_bytes() -> None:
    desk = Desk()
    desk.write(b"*ESE 1\r*ESE?\r\x03*ESE 2;*ESE?\r")
    desk.settle()
    assert [data for _, data in desk.wire.sent] == [b"2\r"]


def test_bytes_within_the_swallow_time_after_an_abort_are_lost() -> None:
    desk = Desk(abort_swallow_s=0.005)
    desk.write(b"\x03*OPC?\r")
    desk.wait(5 * MS - 1)
    desk.write(b"*OPC?\r")
    desk.wait(1)
    desk.write(b"*IDN?\r")
    desk.settle()
    assert len(desk.wire.sent) == 1
    assert desk.wire.sent[0][1].startswith(b"KEITHLEY")


def test_an_abort_within_the_swallow_time_is_lost_like_any_byte() -> None:
    desk = Desk(abort_swallow_s=0.005)
    desk.write(b"\x03")
    desk.wait(4 * MS)
    desk.write(b"\x03")
    desk.wait(2 * MS)
    desk.write("*OPC?")
    desk.settle()
    assert [data for _, data in desk.wire.sent] == [b"1\r"]
    assert len(desk.wire.discards) == 1


def test_the_swallow_time_can_be_changed() -> None:
    desk = Desk()
    desk.unit.abort_swallow_s = 0.020
    desk.write(b"\x18")
    desk.wait(19 * MS)
    assert desk.ask("*OPC?") is None


def test_time_to_idle_after_an_abort_delays_but_does_not_lose() -> None:
    desk = Desk(timing=Timing(abort_s=0.003))
    desk.write(b"\x03*OPC?\r")
    desk.settle()
    assert desk.wire.sent == [(4 * MS, b"1\r")]


# Break-through commands


@pytest.mark.parametrize("breaker", [":ABOR", "*RST", ":SYST:PRES", ":abort;*OPC?"])
def test_some_commands_end_a_measurement_as_they_arrive(breaker: str) -> None:
    desk = Desk()
    desk.tell(":OUTP ON", ":ARM:COUN INF")
    desk.write(":INIT")
    desk.wait(500 * MS)
    assert is_busy(desk)
    desk.write(breaker)
    desk.settle()
    assert not is_busy(desk)
    assert desk.ask("*OPC?") == "1"


def test_an_output_off_behind_a_measurement_waits_for_its_end() -> None:
    desk = Desk()
    desk.tell(":SENS:CURR:NPLC 1", ":SYST:AZER OFF", ":TRIG:COUN 50", ":OUTP ON")
    start_ns = desk.t_ns
    desk.write(":READ?")
    desk.write(":OUTP OFF")
    desk.wait(900 * MS)
    assert is_on(desk)
    desk.settle()
    assert not is_on(desk)
    assert desk.t_ns - start_ns > 50 * 20 * MS


def test_a_break_through_behind_another_command_in_its_message_waits() -> None:
    desk = Desk()
    desk.tell(":OUTP ON", ":TRIG:COUN 10")
    desk.write(":INIT")
    desk.wait(5 * MS)
    desk.write("*CLS;:ABOR")
    assert is_busy(desk)
    desk.settle()
    assert desk.unit.error_queue == ()


def test_a_break_through_while_no_measurement_runs_just_queues() -> None:
    desk = Desk()
    desk.tell(":OUTP ON", ":READ?")
    desk.write(":SOUR:VOLT 1")
    desk.write(":ABOR")
    desk.settle()
    assert desk.ask(":SOUR:VOLT?") == "+1.000000E+00"


# Time


def test_time_never_goes_backwards() -> None:
    desk = Desk(start_ns=10)
    with pytest.raises(ValueError, match="went back"):
        desk.unit.advance(9)
    with pytest.raises(ValueError, match="went back"):
        desk.unit.receive(9, b"x")


def test_one_long_step_does_the_same_as_many_short_ones() -> None:
    results = []
    for steps in (1, 1000):
        desk = Desk(1e5, noise=True, seed=3)
        desk.write(b":OUTP ON\r:SOUR:VOLT 1\r:SENS:CURR:NPLC 0.1\r:READ?\r:READ?\r*RST\r")
        for _ in range(steps):
            desk.unit.advance(desk.t_ns)
            desk.t_ns += 2_000 * MS // steps
        desk.unit.advance(desk.t_ns)
        results.append((desk.wire.sent, desk.load.sources))
    assert results[0] == results[1]
    assert len(results[0][0]) == 2


def test_a_message_after_a_silence_begins_when_it_arrives() -> None:
    # The line need not call advance() in between: the unit became idle long before the second message.
    unit, wire = Keithley2400(DeskLoad(1e6)), DeskWire()
    unit.attach(wire)
    unit.receive(0, b"*OPC?\r")
    unit.receive(500 * MS, b"*OPC?\r")
    unit.advance(1000 * MS)
    assert [t_ns for t_ns, _ in wire.sent] == [1 * MS, 501 * MS]


def test_nothing_is_told_to_the_load_before_there_is_a_time() -> None:
    load = DeskLoad(1e6)
    unit = Keithley2400(load)
    unit.attach(DeskWire())
    assert load.sources == []
    unit.advance(123_456_789_000_000)
    assert [source.t_ns for source in load.sources] == [123_456_789_000_000]


def test_a_unit_without_a_wire_executes_in_silence() -> None:
    unit = Keithley2400(DeskLoad(1e6), timing=Timing.zero())
    unit.receive(0, b"\x03:OUTP ON;:OUTP?\r")
    assert unit.output_on


@pytest.mark.parametrize(
    "build",
    [
        lambda: Keithley2400(DeskLoad(1.0), terminator=b""),
        lambda: Keithley2400(DeskLoad(1.0), line_freq_hz=0.0),
        lambda: Keithley2400(DeskLoad(1.0), line_freq_hz=float("nan")),
        lambda: Keithley2400(DeskLoad(1.0), abort_swallow_s=0.021),
        lambda: Keithley2400(DeskLoad(1.0), input_buffer=0),
        lambda: Timing(set_s=-1.0),
        lambda: Timing(query_s=float("inf")),
    ],
)
def test_arguments_outside_their_ranges_are_refused(build: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        build()


def test_the_example_of_the_desk_is_true() -> None:
    assert doctest.testmod(desk_module) == doctest.TestResults(failed=0, attempted=2)
