"""How long the emulated 2400 takes. Times in ns from the arrival of the terminator."""

from __future__ import annotations

import dataclasses

import pytest

from hil.devices.keithley2400 import Timing
from hil.devices.keithley2400.desk import Desk
from hil.devices.keithley2400.timing import nanoseconds

US, MS = 1_000, 1_000_000
FAST = (
    ":SENS:CURR:PROT 1E-3",
    ":SENS:CURR:RANG 1E-3",
    ":SENS:CURR:NPLC 0.01",
    ":SYST:AZER OFF",
    ":SOUR:DEL 0",
    ":SOUR:VOLT:RANG 20",
    ":FORM:ELEM CURR",
)


def taken(desk: Desk, *messages: str) -> int:
    """Return how long the unit is busy with messages that arrive together."""
    start_ns = desk.t_ns
    for message in messages:
        desk.write(message)
    desk.settle()
    return desk.t_ns - start_ns


def fast(**more: float) -> Desk:
    desk = Desk(timing=Timing(**more) if more else None, line_freq_hz=50.0)
    desk.tell(*FAST, ":OUTP ON")
    assert desk.unit.error_queue == ()
    return desk


def test_commands_and_queries_take_a_millisecond() -> None:
    desk = fast()
    assert taken(desk, "*CLS") == MS
    assert taken(desk, ":OUTP?") == MS
    assert taken(desk, "*ESE 1;*ESE?;:OUTP?;:SOUR:VOLT?") == 4 * MS


def test_a_level_takes_7_ms_and_changes_at_the_end_of_them() -> None:
    desk = fast()
    start_ns = desk.t_ns
    assert taken(desk, ":SOUR:VOLT 1") == 7 * MS
    assert desk.load.sources[-1].t_ns == start_ns + 7 * MS


def test_with_source_autorange_a_level_takes_10_ms() -> None:
    desk = fast()
    desk.tell(":SOUR:VOLT:RANG:AUTO ON")
    assert taken(desk, ":SOUR:VOLT 1") == 10 * MS


def test_the_output_takes_7_ms_and_switches_at_the_end_of_them() -> None:
    desk = fast()
    desk.tell(":SOUR:VOLT 1")
    start_ns = desk.t_ns
    assert taken(desk, ":OUTP OFF") == 7 * MS
    assert desk.load.sources[-1].t_ns == start_ns + 7 * MS
    assert desk.load.sources[-1].v_set == 0.0


def test_closing_the_relay_adds_15_ms() -> None:
    desk = fast()
    desk.tell(":OUTP:SMOD HIMP", ":OUTP OFF")
    assert taken(desk, ":OUTP ON") == 22 * MS
    assert taken(desk, ":OUTP ON") == 7 * MS
    desk.tell(":OUTP OFF", ":OUTP:SMOD NORM")
    assert taken(desk, ":OUTP ON") == 7 * MS


def test_a_single_reading_takes_four_milliseconds() -> None:
    # 1 ms query, 0.1 latency, 0.2 aperture at 50 Hz, 0.2 conversion, 2.4 reply.
    assert taken(fast(), ":READ?") == 3900 * US


def test_at_60_hz_it_is_the_256_readings_per_second_of_the_data_sheet() -> None:
    desk = Desk(line_freq_hz=60.0)
    desk.tell(*FAST, ":OUTP ON")
    assert 1e9 / taken(desk, ":READ?") == pytest.approx(256, rel=0.02)


def test_source_and_read_is_near_the_79_per_second_of_the_data_sheet() -> None:
    desk = fast()
    assert taken(desk, ":SOUR:VOLT 1;:READ?") == 10_900 * US


def test_a_sweep_of_readings_is_near_the_2081_per_second_of_the_data_sheet() -> None:
    desk = Desk(line_freq_hz=60.0)
    desk.tell(*FAST, ":TRIG:COUN 1000", ":OUTP ON")
    assert 1000 / (taken(desk, ":INIT") * 1e-9) == pytest.approx(2081, rel=0.05)


def test_the_reply_leaves_at_the_end() -> None:
    desk = fast()
    start_ns = desk.t_ns
    taken(desk, ":READ?")
    assert desk.wire.sent[-1][0] == start_ns + 3900 * US


def test_autozero_triples_the_conversion() -> None:
    desk = fast()
    desk.tell(":SENS:CURR:NPLC 1")
    off = taken(desk, ":READ?")
    desk.tell(":SYST:AZER ON")
    assert taken(desk, ":READ?") - off == 2 * 20 * MS


def test_autozero_once_takes_two_apertures() -> None:
    desk = fast()
    desk.tell(":SENS:CURR:NPLC 1")
    assert taken(desk, ":SYST:AZER ONCE") == 41 * MS
    assert taken(desk, ":SYST:AZER OFF") == MS


def test_a_second_function_is_a_second_conversion() -> None:
    desk = fast()
    one = taken(desk, ":READ?")
    desk.tell(":SENS:FUNC 'VOLT'", ":SOUR:VOLT 1", ":READ?")
    assert taken(desk, ":READ?") - one == 200 * US


@pytest.mark.parametrize(("range_a", "delay_ns"), [("1E-6", 3 * MS), ("1E-5", 2 * MS), ("1E-4", MS), ("1E-3", MS)])
def test_automatic_source_delay_by_range(range_a: str, delay_ns: int) -> None:
    desk = fast()
    desk.tell(f":SENS:CURR:RANG {range_a}")
    without = taken(desk, ":READ?")
    desk.tell(":SOUR:DEL:AUTO ON")
    assert taken(desk, ":READ?") - without == delay_ns


def test_source_and_trigger_delays_come_before_every_reading() -> None:
    desk = fast()
    without = taken(desk, ":READ?")
    desk.tell(":SOUR:DEL 0.002", ":TRIG:DEL 0.003")
    assert taken(desk, ":READ?") - without == 5 * MS
    desk.tell(":TRIG:COUN 10")
    assert taken(desk, ":READ?") - without == 10 * 5 * MS + 9 * 500 * US


def test_messages_execute_one_after_another() -> None:
    desk = fast()
    assert taken(desk, ":READ?", ":SOUR:VOLT 0", ":OUTP OFF") == 3900 * US + 14 * MS


def test_a_command_that_arrives_in_between_waits_its_turn() -> None:
    desk = fast()
    desk.tell(":SOUR:VOLT 1")
    start_ns = desk.t_ns
    desk.write(":READ?")
    desk.wait(2 * MS)
    desk.write(":SOUR:VOLT 0")
    desk.settle()
    assert desk.load.sources[-1].t_ns == start_ns + 3900 * US + 7 * MS


def test_after_an_abort_the_next_command_starts_at_once() -> None:
    desk = fast()
    desk.tell(":SOUR:VOLT 1", ":SENS:CURR:NPLC 10")
    desk.write(":READ?")
    desk.wait(50 * MS)
    start_ns = desk.t_ns
    desk.write(b"\x03\n:SOUR:VOLT 0\n:OUTP OFF\n")
    desk.settle()
    assert desk.load.sources[-2].t_ns == start_ns + 7 * MS
    assert desk.t_ns == start_ns + 14 * MS


def test_a_rejected_command_costs_nothing_and_the_unit_goes_on() -> None:
    assert taken(fast(), "NONSENSE", "*OPC?") == MS


def test_zero_leaves_apertures_and_delays_that_were_asked_for() -> None:
    desk = Desk(timing=Timing.zero())
    desk.tell(*FAST, ":OUTP ON", ":SOUR:VOLT 1")
    assert desk.t_ns == 0
    assert taken(desk, ":READ?") == 200 * US
    desk.tell(":SOUR:DEL 0.001")
    assert taken(desk, ":READ?") == 1200 * US


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Timing)])
def test_every_field_of_the_timing_has_an_effect(name: str) -> None:
    script = (
        ":OUTP:SMOD HIMP",
        ":SENS:CURR:NPLC 0.01",
        ":SOUR:VOLT:RANG:AUTO ON;:SOUR:VOLT 0.5;:SOUR:VOLT:RANG 20;:SOUR:VOLT 0.5",
        ":OUTP ON",
        *(f":SENS:CURR:RANG {range_a};:READ?" for range_a in ("1E-6", "1E-5", "1E-4")),
        ":SENS:CURR:RANG:AUTO ON;:READ?",
        ":OUTP OFF;:SOUR:CLE:AUTO ON;:READ?",
    )
    totals = []
    for extra in (0.0, 0.25):
        timing = dataclasses.replace(Timing.zero(), **{name: extra})
        desk = Desk(timing=timing)
        desk.tell(*script)
        desk.write(b"\x03")
        desk.settle()
        assert desk.unit.error_queue == ()
        totals.append(desk.t_ns)
    assert totals[1] >= totals[0] + nanoseconds(0.25)


def test_time_zero_may_be_anywhere() -> None:
    early, late = Desk(), Desk(start_ns=10**15)
    for desk in (early, late):
        desk.tell(*FAST, ":OUTP ON", ":SOUR:VOLT 1", ":READ?")
    assert [(t_ns + 10**15, data) for t_ns, data in early.wire.sent] == late.wire.sent
