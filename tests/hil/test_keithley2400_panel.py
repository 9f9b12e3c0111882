"""The panel, the output enable line, heat and the mains switch of the emulated 2400: what happens behind a client."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from firmware_proto.keithley2400.status import OutputOff
from hil.devices.keithley2400 import Keithley2400
from hil.devices.keithley2400.desk import Desk
from hil.devices.keithley2400.interlock import RESPONSE_NS, Interlock, Rearm

US, MS, S = 1_000, 1_000_000, 1_000_000_000
OE, OT = 1 << 11, 1 << 12


def last(desk: Desk) -> tuple[float, float, bool]:
    source = desk.load.sources[-1]
    return source.v_set, source.i_limit_a, source.connected


def is_on(desk: Desk) -> bool:
    return desk.unit.output_on


def energised(**options: object) -> Desk:
    desk = Desk(1e6, **options)  # type: ignore[arg-type] # passed through
    desk.tell(":SENS:CURR:PROT 1E-3", ":SENS:CURR:RANG 1E-3", ":SOUR:VOLT:RANG 20", ":SOUR:VOLT 1", ":OUTP ON")
    assert desk.unit.error_queue == ()
    return desk


ACTS: dict[str, tuple[Callable[[Keithley2400, int], bool], str, str]] = {
    "level": (lambda unit, t_ns: unit.panel_level(t_ns, 2.5), ":SOUR:VOLT?", "+2.500000E+00"),
    "limit": (lambda unit, t_ns: unit.panel_limit(t_ns, 1e-5), ":SENS:CURR:PROT?", "+1.000000E-05"),
    "range": (lambda unit, t_ns: unit.panel_range(t_ns, 1e-4), ":SENS:CURR:RANG?", "+1.050000E-04"),
    "speed": (lambda unit, t_ns: unit.panel_nplc(t_ns, 0.1), ":SENS:CURR:NPLC?", "+1.000000E-01"),
    "off": (lambda unit, t_ns: unit.panel_off_mode(t_ns, OutputOff.HIGH_IMPEDANCE), ":OUTP:SMOD?", "HIMP"),
    "terminals": (lambda unit, t_ns: unit.panel_terminals(t_ns, front=False), ":ROUT:TERM?", "REAR"),
    "enable": (lambda unit, t_ns: unit.panel_output_enable(t_ns, on=True), ":OUTP:ENAB?", "1"),
}


@pytest.mark.parametrize("name", ACTS)
def test_keys_work_also_while_a_program_talks_over_rs232(name: str) -> None:
    act, query, reply = ACTS[name]
    desk = energised()
    assert act(desk.unit, desk.t_ns)
    assert desk.ask(query) == reply


@pytest.mark.parametrize("name", ACTS)
def test_a_locked_panel_does_nothing_and_a_returned_one_does(name: str) -> None:
    act, query, reply = ACTS[name]
    desk = energised()
    desk.tell(":SYST:RWL ON")
    before = desk.ask(query)
    assert not act(desk.unit, desk.t_ns)
    assert desk.ask(query) == before != reply
    desk.tell(":SYST:LOC")
    assert act(desk.unit, desk.t_ns), "the lock holds only in remote"
    assert desk.ask(query) == reply
    assert not act(desk.unit, desk.t_ns), "the query was a message: locked again"


def test_force_is_a_lock_that_does_not_hold() -> None:
    desk = energised()
    desk.tell(":SYST:RWL ON")
    assert desk.unit.panel_limit(desk.t_ns, 0.1, force=True)
    assert desk.ask(":SENS:CURR:PROT?") == "+1.000000E-01"


def test_what_the_panel_changes_reaches_the_terminals_at_that_time() -> None:
    desk = energised()
    desk.write(":SOUR:VOLT 0.5")
    desk.wait(3 * MS)
    desk.unit.panel_level(desk.t_ns, 7.0)
    assert desk.load.sources[-1].t_ns == desk.t_ns
    assert last(desk)[0] == 7.0
    desk.unit.panel_limit(desk.t_ns, 1e-5)
    assert last(desk)[1] == 1e-5
    desk.settle()
    assert last(desk)[0] == 0.5, "the command that was under way still comes"


def test_what_the_unit_refuses_is_not_done_at_the_panel() -> None:
    desk = energised()
    assert not desk.unit.panel_level(desk.t_ns, 100.0), "above the fixed range"
    assert not desk.unit.panel_limit(desk.t_ns, 1e-9), "below 0.1 % of the measure range"
    assert not desk.unit.panel_range(desk.t_ns, 0.1), "above the compliance range"
    assert last(desk) == pytest.approx((1.0, 1e-3, True))
    assert desk.unit.error_queue == ()
    with pytest.raises(ValueError, match="nplc must be"):
        desk.unit.panel_nplc(desk.t_ns, 11.0)


def test_output_key_with_a_locked_panel_only_switches_off() -> None:
    desk = energised()
    desk.tell(":SYST:RWL ON")
    assert desk.unit.panel_output(desk.t_ns)
    assert not is_on(desk)
    assert not desk.unit.panel_output(desk.t_ns)
    assert not is_on(desk)
    assert desk.unit.panel_output(desk.t_ns, force=True)
    assert is_on(desk)


def test_local_ends_a_measurement_and_asks_for_service() -> None:
    desk = energised()
    desk.tell("*CLS", ":SOUR:VOLT:RANG:AUTO ON", ":SENS:FUNC:CONC OFF", ":DISP:ENAB OFF")
    desk.tell(":DISP:WIND:TEXT:DATA 'hands off';:DISP:WIND:TEXT:STAT ON")
    desk.write(":READ?")
    desk.wait(5 * MS)
    assert desk.unit.panel_local(desk.t_ns)
    assert not desk.unit.busy
    desk.wait(S)
    assert desk.wire.sent == []
    assert is_on(desk), "the output stays"
    reply = desk.ask("*ESR?;:SOUR:VOLT:RANG:AUTO?;:SENS:FUNC:CONC?;:DISP:ENAB?;:DISP:WIND:TEXT:STAT?")
    assert reply == f"{1 << 6};0;1;1;0"


def test_local_is_dead_when_locked() -> None:
    desk = energised()
    desk.tell("*CLS", ":SYST:RWL ON")
    desk.write(":READ?")
    desk.wait(5 * MS)
    assert not desk.unit.panel_local(desk.t_ns)
    desk.settle()
    assert len(desk.wire.sent) == 1
    assert desk.ask("*ESR?") == "0"


def test_the_trig_key_ends_a_wait_for_it() -> None:
    desk = energised()
    desk.tell(":FORM:ELEM CURR", ":ARM:SOUR MAN")
    assert not desk.unit.panel_trigger(desk.t_ns), "nobody waits"
    desk.write(":READ?")
    desk.wait(S)
    assert desk.wire.sent == []
    assert desk.unit.panel_trigger(desk.t_ns)
    desk.settle()
    assert len(desk.wire.sent) == 1


def test_the_communication_menu_is_a_power_on_reset() -> None:
    desk = energised()
    desk.write(":READ?")
    desk.wait(2 * MS)
    assert desk.unit.panel_interface(desk.t_ns)
    assert not is_on(desk)
    assert desk.ask("*ESR?") == "128"
    assert len(desk.wire.sent) == 1
    desk.tell(":OUTP ON", ":SYST:RWL ON")
    assert not desk.unit.panel_interface(desk.t_ns)
    assert is_on(desk)


# The mains


def test_without_mains_it_is_deaf_and_mute_and_its_relay_is_open() -> None:
    desk = energised()
    desk.write(":READ?")
    desk.unit.power_cycle(desk.t_ns, dark_s=2.0)
    assert last(desk)[2] is False
    desk.write("*ESE 5")
    desk.wait(1999 * MS)
    desk.write("*OPC?")
    assert not desk.unit.panel_output(desk.t_ns), "a dark panel"
    assert last(desk)[2] is False
    desk.wait(MS)
    assert last(desk)[2] is True
    assert desk.wire.sent == []
    assert desk.ask("*ESR?;*ESE?;:OUTP?") == "128;0;0"


def test_mains_that_fail_again_are_off_for_as_long_again() -> None:
    desk = energised()
    desk.unit.power_cycle(desk.t_ns, dark_s=2.0)
    desk.wait(1000 * MS)
    desk.unit.power_cycle(desk.t_ns, dark_s=2.0)
    desk.wait(1999 * MS)
    assert last(desk)[2] is False
    desk.wait(MS)
    assert last(desk)[2] is True


def test_saved_settings_and_the_power_on_setup_outlive_the_mains() -> None:
    desk = energised()
    desk.tell(":SENS:CURR:NPLC 0.1", "*SAV 2", ":SYST:POS SAV2")
    desk.unit.power_cycle(desk.t_ns)
    assert not is_on(desk)
    assert desk.ask(":SENS:CURR:NPLC?;:SENS:CURR:PROT?;:SYST:POS?") == "+1.000000E-01;+1.000000E-03;SAV2"
    desk.tell("*RST", ":SYST:POS RST")
    desk.unit.power_cycle(desk.t_ns)
    assert desk.ask(":SENS:CURR:NPLC?") == "+1.000000E+00"


# The output enable line


def guarded(rearm: Rearm = Rearm.KEY) -> Desk:
    """A unit that is on, with output enable on and the line low."""
    desk = Desk(1e6, oe_rearm=rearm)
    desk.unit.output_enable_line(desk.t_ns, closed=True)
    desk.tell(":OUTP:ENAB ON", ":SOUR:VOLT 1", ":SENS:CURR:NPLC 10", ":OUTP ON")
    assert is_on(desk)
    return desk


def test_the_line_switches_off_within_100_us_whatever_the_unit_is_doing() -> None:
    desk = guarded()
    desk.write(":READ?")
    desk.write(":SOUR:VOLT 2")
    desk.wait(50 * MS)
    opened_ns = desk.t_ns
    desk.unit.output_enable_line(opened_ns, closed=False)
    desk.wait(RESPONSE_NS - 1)
    assert is_on(desk)
    desk.wait(1)
    assert not is_on(desk)
    assert desk.load.sources[-1].t_ns == opened_ns + 100 * US
    assert last(desk)[2] is False, "into high impedance, although the off state is NORM"
    assert desk.ask(":OUTP:SMOD?") == "NORM"


def test_the_line_has_no_effect_without_output_enable() -> None:
    desk = energised()
    desk.unit.output_enable_line(desk.t_ns, closed=True)
    desk.unit.output_enable_line(desk.t_ns, closed=False)
    desk.wait(S)
    assert is_on(desk)
    desk.tell(":OUTP OFF", ":OUTP ON")
    assert is_on(desk)


def test_a_line_that_is_low_again_in_time_does_nothing() -> None:
    desk = guarded()
    desk.unit.output_enable_line(desk.t_ns, closed=False)
    desk.wait(50 * US)
    desk.unit.output_enable_line(desk.t_ns, closed=True)
    desk.wait(MS)
    assert is_on(desk)


def test_output_on_is_refused_while_the_line_is_high() -> None:
    desk = Desk()
    desk.tell(":OUTP:ENAB ON", ":OUTP ON")
    assert not is_on(desk)
    assert desk.ask(":SYST:ERR?") == '+802,"OUTPUT blocked by output enable"'
    assert not desk.unit.panel_output(desk.t_ns)
    assert not is_on(desk)
    desk.unit.output_enable_line(desk.t_ns, closed=True)
    desk.tell(":OUTP ON")
    assert is_on(desk), "it had switched nothing off: no key is needed"


@pytest.mark.parametrize("message", [":SOUR:CLE:AUTO ON;:READ?", ":MEAS:CURR?", ":CONF:CURR", ":SYST:KEY 24"])
def test_nothing_else_switches_on_past_the_line(message: str) -> None:
    desk = Desk()
    desk.tell(":OUTP:ENAB ON", message)
    assert not is_on(desk)
    assert desk.unit.error_queue == (802,)
    assert all(not source.v_set for source in desk.load.sources)


def test_after_the_line_only_the_output_key_switches_on() -> None:
    desk = guarded()
    desk.unit.output_enable_line(desk.t_ns, closed=False)
    desk.wait(MS)
    assert desk.unit.panel_output(desk.t_ns) is False, "not while the line is high"
    desk.unit.output_enable_line(desk.t_ns, closed=True)
    desk.tell("*CLS", ":OUTP ON")
    assert not is_on(desk)
    assert desk.ask(":SYST:ERR?;:OUTP:ENAB:TRIP?") == '+802,"OUTPUT blocked by output enable";1'
    assert last(desk)[2] is False
    assert desk.unit.panel_output(desk.t_ns)
    assert is_on(desk)
    assert last(desk) == pytest.approx((1.0, 1.05e-4, True))
    desk.tell(":OUTP OFF", ":OUTP ON")
    assert is_on(desk), "the key has rearmed it for the bus, too"


def test_with_remote_rearm_a_low_line_is_enough() -> None:
    desk = guarded(Rearm.REMOTE)
    desk.unit.output_enable_line(desk.t_ns, closed=False)
    desk.wait(MS)
    desk.tell("*CLS", ":OUTP ON")
    assert desk.unit.error_queue == (802,)
    desk.unit.output_enable_line(desk.t_ns, closed=True)
    before_ns = desk.t_ns
    desk.tell(":OUTP ON")
    assert is_on(desk)
    assert desk.t_ns - before_ns == 22 * MS, "the relay was open"


def test_a_reset_turns_output_enable_off() -> None:
    desk = guarded()
    desk.unit.output_enable_line(desk.t_ns, closed=False)
    desk.wait(MS)
    desk.tell("*RST", ":OUTP ON")
    assert is_on(desk)
    assert desk.ask(":OUTP:ENAB?;:OUTP:ENAB:STAT?;TRIP?") == "0;0;0"


def test_turning_output_enable_on_with_the_line_high_switches_off() -> None:
    desk = energised()
    desk.tell(":OUTPUT1:ENABLE:STATE ON")
    assert not is_on(desk)
    assert last(desk)[2] is False


def test_the_line_is_a_condition_and_tripped_means_it_may_be_switched_on() -> None:
    desk = Desk()
    assert desk.ask(":OUTP:ENAB:TRIP?;:OUTP:INT:TRIP?;:STAT:MEAS:COND?") == "0;0;0"
    desk.unit.output_enable_line(desk.t_ns, closed=True)
    assert desk.ask(":OUTP:ENAB:TRIP?;:OUTP:INT:TRIP?;:STAT:MEAS:COND?") == f"1;1;{OE}"
    desk.tell(":OUTP ON", ":READ?")
    assert desk.ask(":STAT:MEAS:COND?") == str(OE), "readings leave it alone"
    desk.unit.output_enable_line(desk.t_ns, closed=False)
    assert desk.ask(":STAT:MEAS:COND?;:STAT:MEAS?") == f"0;{OE | 64}"
    desk.unit.output_enable_line(desk.t_ns, closed=True)
    desk.unit.power_cycle(desk.t_ns)
    assert desk.ask(":STAT:MEAS:COND?") == str(OE), "what is plugged in stays plugged in"


# Heat


def test_too_hot_is_high_impedance_and_refuses_until_it_is_cool() -> None:
    desk = energised()
    desk.unit.over_temperature(desk.t_ns, hot=True)
    assert not is_on(desk)
    assert last(desk)[2] is False
    desk.tell(":OUTP ON")
    assert desk.ask(":SYST:ERR?;:STAT:MEAS:COND?") == f'+810,"OUTPUT blocked by Over Temp";{OT}'
    desk.tell("*RST", ":OUTP ON")
    assert last(desk)[2] is False
    desk.unit.over_temperature(desk.t_ns, hot=False)
    desk.tell(":OUTP ON")
    assert is_on(desk)
    assert last(desk)[2] is True
    assert desk.ask(":STAT:MEAS:COND?") == "0"


def test_other_terminals_switch_the_output_off() -> None:
    desk = Desk(1e5)
    desk.tell(":OUTP ON")
    assert desk.unit.panel_terminals(desk.t_ns, front=False)
    assert not desk.unit.output_on


@pytest.mark.parametrize(("rearm", "refusal"), [(Rearm.KEY, 802), (Rearm.REMOTE, None)])
def test_output_enable_off_and_on_again_stands_in_for_no_key(rearm: Rearm, refusal: int | None) -> None:
    interlock = Interlock(rearm, enabled=True, closed=True, latched=True)
    interlock.enable(on=False)
    assert interlock.refusal is None, "the line has no effect now"
    interlock.enable(on=True)
    assert interlock.refusal == refusal
