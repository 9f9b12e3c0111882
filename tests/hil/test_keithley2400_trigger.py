"""The trigger model of the emulated 2400: what it waits for, what tells of it, what breaks through."""

from __future__ import annotations

import itertools

import pytest

from hil.devices.keithley2400.desk import Desk
from hil.devices.keithley2400.triggers import EventSource

MS = 1_000_000
FAST = (":SENS:CURR:NPLC 0.01", ":SYST:AZER OFF", ":SOUR:DEL 0", ":SENS:CURR:RANG 1E-4", ":FORM:ELEM CURR")
SWEEPING, WAIT_TRIGGER, WAIT_ARM, IDLE = 8, 32, 64, 1024


def ready(*messages: str) -> Desk:
    desk = Desk(1e5)
    desk.tell(*FAST, *messages, ":SOUR:VOLT 1", ":OUTP ON")
    assert desk.unit.error_queue == ()
    return desk


def operation(desk: Desk) -> int:
    """Look at the condition register past the command queue, which a running measurement blocks."""
    return desk.unit._unit.status.operation.condition


def happen(desk: Desk, event: EventSource) -> bool:
    took = desk.unit._unit.happen(event)
    desk.unit._wake(desk.t_ns)
    return took


def taken(desk: Desk) -> int:
    return len(desk.unit._unit.readings)


def test_idle_is_told_and_latched_when_it_comes() -> None:
    desk = ready()
    assert desk.ask(":STAT:OPER:COND?;:STAT:OPER?") == f"{IDLE};0"
    desk.tell(":READ?")
    assert desk.ask(":STAT:OPER?;:STAT:OPER?") == f"{IDLE};0"


def test_a_measurement_is_not_idle_and_a_sweep_sweeps() -> None:
    desk = ready(":TRIG:COUN 10")
    desk.write(":INIT")
    desk.wait(3 * MS)
    assert operation(desk) == 0
    desk.settle()
    desk.tell(":SOUR:VOLT:MODE SWE;STAR 0;STOP 1;:SOUR:SWE:POIN 10")
    desk.write(":INIT")
    desk.wait(3 * MS)
    assert operation(desk) == SWEEPING
    desk.settle()
    assert operation(desk) == IDLE
    assert desk.ask(":STAT:OPER?") == str(IDLE | SWEEPING)


def test_the_operation_summary_reaches_the_status_byte() -> None:
    desk = ready(":STAT:OPER:ENAB 1024", ":STAT:OPER?")
    assert int(desk.ask("*STB?") or 0) & 128 == 0
    assert int(desk.ask(":INIT;*STB?") or 0) & 128


# Waiting


def test_bus_waits_for_trg_and_takes_it_past_the_queue() -> None:
    desk = ready(":ARM:SOUR BUS", ":ARM:COUN 2")
    desk.write(":INIT")
    desk.wait(5 * MS)
    assert (operation(desk), taken(desk), desk.unit.next_event_ns()) == (WAIT_ARM, 0, None)
    desk.write("*OPC?")
    desk.write("*TRG")
    desk.wait(5 * MS)
    assert (operation(desk), taken(desk)) == (WAIT_ARM, 1)
    desk.write("*TRG;:FETC?")
    desk.settle()
    assert [reply for _, reply in desk.wire.sent] == [b"1\r", b"+1.000000E-05,+1.000000E-05\r"]
    assert desk.unit.error_queue == ()


def test_trg_that_comes_while_init_is_still_being_processed_is_not_lost() -> None:
    desk = ready(":ARM:SOUR BUS")
    desk.write(":INIT")
    desk.write("*TRG")
    desk.settle()
    assert (operation(desk), taken(desk), desk.unit.error_queue) == (IDLE, 1, ())
    assert not desk.unit._unit.acquiring


def test_trg_in_the_queue_in_front_of_init_is_ignored() -> None:
    desk = ready(":ARM:SOUR BUS")
    for message in ("*OPC?", "*TRG", ":INIT"):
        desk.write(message)
    desk.wait(100 * MS)
    assert (operation(desk), desk.unit.error_queue) == (WAIT_ARM, (-211,))


def test_trg_that_nothing_waits_for_is_ignored_with_an_error() -> None:
    desk = ready()
    desk.tell("*TRG")
    assert desk.unit.error_queue == (-211,)


def test_an_aborted_wait_leaves_no_trigger_behind() -> None:
    desk = ready(":ARM:SOUR BUS")
    desk.write(":INIT")
    desk.wait(5 * MS)
    desk.write("*TRG")
    desk.write(b"\x03")
    desk.settle()
    desk.tell("*TRG")
    assert desk.unit.error_queue == (-211,)


def test_a_read_that_would_wait_for_the_bus_is_a_deadlock() -> None:
    desk = ready(":ARM:SOUR BUS")
    assert desk.ask(":READ?") is None
    assert desk.unit.error_queue == (-214,)


def test_measure_goes_back_to_immediate() -> None:
    desk = ready(":ARM:SOUR BUS", ":TRIG:SOUR TLIN")
    assert desk.ask(":MEAS:CURR?") is not None
    assert desk.ask(":ARM:SOUR?;:TRIG:SOUR?") == "IMM;IMM"


@pytest.mark.parametrize(
    ("name", "event", "other"),
    [
        ("MAN", EventSource.MANUAL, EventSource.TRIGGER_LINK),
        ("TLIN", EventSource.TRIGGER_LINK, EventSource.MANUAL),
        ("NST", EventSource.LOW_START, EventSource.HIGH_START),
        ("PST", EventSource.HIGH_START, EventSource.LOW_START),
        ("BST", EventSource.HIGH_START, EventSource.MANUAL),
        ("BST", EventSource.LOW_START, EventSource.BUS),
    ],
)
def test_an_arm_event_from_outside(name: str, event: EventSource, other: EventSource) -> None:
    desk = ready(f":ARM:SOUR {name}")
    desk.write(":INIT")
    desk.wait(5 * MS)
    assert not happen(desk, other)
    assert operation(desk) == WAIT_ARM
    assert happen(desk, event)
    desk.settle()
    assert (operation(desk), taken(desk)) == (IDLE, 1)


def test_the_trigger_layer_waits_before_every_reading() -> None:
    desk = ready(":TRIG:SOUR TLIN", ":TRIG:COUN 2")
    desk.write(":INIT")
    for count in range(2):
        desk.wait(5 * MS)
        assert (operation(desk), taken(desk)) == (WAIT_TRIGGER, count)
        assert happen(desk, EventSource.TRIGGER_LINK)
    desk.settle()
    assert taken(desk) == 2


@pytest.mark.parametrize("head", [":ARM", ":TRIG"])
def test_a_bypass_skips_the_first_event(head: str) -> None:
    desk = ready(f"{head}:SOUR TLIN", f"{head}:DIR SOUR")
    desk.tell(":INIT")
    assert taken(desk) == 1


def test_the_timer_starts_at_once_and_then_keeps_its_interval() -> None:
    desk = ready(":ARM:SOUR TIM", ":ARM:TIM 0.05", ":ARM:COUN 4", ":FORM:ELEM TIME")
    stamps = desk.read()
    assert [later - earlier for earlier, later in itertools.pairwise(stamps)] == pytest.approx([0.05] * 3)


def test_a_timer_shorter_than_the_cycle_does_not_hold_it_up() -> None:
    desk = ready(":ARM:SOUR TIM", ":ARM:TIM 0.001", ":ARM:COUN 3", ":TRIG:DEL 0.01", ":FORM:ELEM TIME")
    stamps = desk.read()
    assert stamps[2] - stamps[1] == pytest.approx(stamps[1] - stamps[0]) == pytest.approx(0.0105, abs=1e-3)


def test_the_timer_waits_in_the_arm_layer() -> None:
    desk = ready(":ARM:SOUR TIM", ":ARM:TIM 0.5", ":ARM:COUN 2")
    desk.write(":INIT")
    desk.wait(100 * MS)
    assert operation(desk) == WAIT_ARM


@pytest.mark.parametrize("message", [":ABOR", "*RST", ":SYST:PRES", "*RCL 0", b"\x03", b"\x18"])
def test_what_ends_a_wait(message: str | bytes) -> None:
    desk = ready(":ARM:SOUR MAN")
    desk.write(":INIT")
    desk.wait(5 * MS)
    desk.write(message)
    desk.settle()
    assert operation(desk) == IDLE
    assert desk.ask("*OPC?") == "1"


@pytest.mark.parametrize("message", [":OUTP OFF", "*CLS", ":TRIG:CLE", ":FETC?", "*WAI", ":SYST:ERR?"])
def test_what_does_not_end_a_wait(message: str) -> None:
    desk = ready(":ARM:SOUR MAN")
    desk.write(":INIT")
    desk.wait(5 * MS)
    desk.write(message)
    desk.wait(1000 * MS)
    assert operation(desk) == WAIT_ARM
    assert desk.unit.output_on
    assert desk.wire.sent == []


def test_opc_comes_when_the_measurement_is_over() -> None:
    desk = ready(":TRIG:COUN 100")
    desk.write("*CLS")
    desk.settle()
    start_ns = desk.t_ns
    desk.write(":INIT;*OPC;*OPC?")
    desk.settle()
    at_ns, reply = desk.wire.sent[-1]
    assert reply == b"1\r"
    assert at_ns - start_ns > 100 * 400_000
    assert int(desk.ask("*ESR?") or 0) & 1


# Auto clear


def test_auto_clear_is_on_for_every_cycle_or_for_the_count() -> None:
    switched = []
    for mode in ("ALW", "TCO"):
        desk = Desk(1e5)
        desk.tell(*FAST, ":SOUR:VOLT 1", ":SOUR:CLE:AUTO ON", f":SOUR:CLE:AUTO:MODE {mode}", ":TRIG:COUN 3")
        assert desk.ask(":SOUR:CLE:AUTO:MODE?") == mode
        assert len(desk.read()) == 3
        assert not desk.unit.output_on
        switched.append(sum(1 for source in desk.load.sources if source.v_set == 1.0))
    assert switched == [3, 1]


def test_without_auto_clear_its_mode_switches_nothing() -> None:
    desk = ready(":SOUR:CLE:AUTO:MODE TCO", ":ARM:SOUR TIM", ":ARM:COUN 2", ":ARM:TIM 0.01")
    assert len(desk.read()) == 2
    assert desk.unit.output_on


def test_as_many_arms_as_readings_fit() -> None:
    desk = ready(":ARM:COUN 2500")
    assert len(desk.read()) == 2500


# Settings


def test_settings_of_both_layers() -> None:
    desk = Desk()
    assert desk.ask(":ARM:SOUR?;TIM?;DIR?;ILIN?;OLIN?;OUTP?") == "IMM;+1.000000E-01;ACC;1;2;NONE"
    assert desk.ask(":TRIG:SOUR?;DIR?;ILIN?;OLIN?;OUTP?;INP?") == "IMM;ACC;1;2;NONE;SOUR"
    desk.tell(":ARM:OUTP TEXit,TENTer", ":TRIG:OUTP SENS,SOUR", ":TRIG:INP NONE", ":ARM:ILIN 4;OLIN 3", ":ARM:DIR SOUR")
    assert desk.ask(":ARM:OUTP?;ILIN?;OLIN?;DIR?") == "TENT,TEX;4;3;SOUR"
    assert desk.ask(":TRIG:OUTP?;INP?") == "SOUR,SENS;NONE"
    assert desk.unit.error_queue == ()


@pytest.mark.parametrize(
    ("message", "code"),
    [(":TRIG:SOUR TIM", -141), (":TRIG:SOUR BUS", -141), (":ARM:TIM 0.0005", -222), (":ARM:ILIN 5", -222)],
)
def test_what_a_layer_does_not_have(message: str, code: int) -> None:
    desk = Desk()
    desk.tell(message)
    assert desk.unit.error_queue == (code,)


def test_the_time_stamp_can_start_with_each_measurement() -> None:
    desk = ready(":FORM:ELEM TIME", ":SYST:TIME:RES:AUTO ON")
    desk.wait(3000 * MS)
    assert desk.read()[0] == pytest.approx(1e-4)
    desk.wait(3000 * MS)
    assert desk.read()[0] == pytest.approx(1e-4)
    desk.tell(":SYST:TIME:RES:AUTO OFF")
    desk.wait(3000 * MS)
    assert desk.read()[0] > 3.0
    assert float(desk.ask(":SYST:TIME?") or 0) > 3.0


# Saved setups


def test_a_saved_setup_comes_back_with_the_output_off() -> None:
    desk = ready(":SOUR:VOLT:MODE SWE;STAR 1;STOP 2", ":ARM:SOUR TIM", ":CALC2:LIM2:UPP 5")
    desk.tell("*SAV 3", "*RST", ":SOUR:VOLT 2", ":OUTP ON")
    assert desk.ask(":SOUR:VOLT:MODE?") == "FIX"
    desk.tell("*RCL 3")
    assert desk.ask(":SOUR:VOLT:MODE?;STAR?;:ARM:SOUR?;:CALC2:LIM2:UPP?;:SOUR:VOLT?;:OUTP?") == (
        "SWE;+1.000000E+00;TIM;+5.000000E+00;+1.000000E+00;0"
    )
    desk.tell(":SOUR:VOLT 9", "*RCL 3")
    assert desk.ask(":SOUR:VOLT?") == "+1.000000E+00"


def test_an_unused_location_holds_the_defaults_and_there_are_five() -> None:
    desk = ready()
    desk.tell("*RCL 4")
    assert desk.ask(":SOUR:VOLT?;:FORM:ELEM?") == "+0.000000E+00;VOLT,CURR,RES,TIME,STAT"
    desk.tell("*SAV 5")
    desk.tell("*RCL -1")
    assert desk.unit.error_queue == (-222, -222)


def test_saved_setups_outlive_the_mains_switch() -> None:
    desk = ready()
    desk.tell("*SAV 0")
    desk.unit.power_cycle(desk.t_ns)
    assert desk.ask(":FORM:ELEM?;*RCL 0;:FORM:ELEM?") == "VOLT,CURR,RES,TIME,STAT;CURR"
