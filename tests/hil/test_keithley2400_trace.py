"""The TRACe buffer of the emulated 2400 and the statistics of CALC3."""

from __future__ import annotations

import statistics

import pytest

from hil.devices.keithley2400.desk import Desk
from hil.devices.keithley2400.trace import STATISTICS

FAST = (":SENS:CURR:NPLC 0.01", ":SYST:AZER OFF", ":SOUR:DEL 0", ":SENS:CURR:RANG 1E-4", ":FORM:ELEM CURR")
BAV, BFL = 256, 512
NAN = 9.91e37


def ready(*messages: str, r_ohm: float = 1e5, noise: bool = False) -> Desk:
    desk = Desk(r_ohm, noise=noise, seed=4)
    desk.tell(*FAST, ":SOUR:VOLT 1", ":OUTP ON", *messages)
    assert desk.unit.error_queue == ()
    return desk


def numbers(desk: Desk, query: str) -> list[float]:
    return [float(field) for field in (desk.ask(query) or "").split(",") if field]


def test_power_up() -> None:
    reply = Desk().ask(":TRAC:POIN?;FEED?;:TRAC:FEED:CONT?;:TRAC:POIN:ACT?;:TRAC:TST:FORM?")
    assert reply == "100;SENS1;NEV;0;ABS"
    assert Desk().ask(":TRAC:POIN? MAX;POIN? MIN;POIN? DEF") == "2500;1;100"


def test_storing_fills_the_buffer_and_stops() -> None:
    desk = ready(":TRAC:POIN 3", ":TRAC:FEED SENS", ":TRAC:FEED:CONT NEXT", ":TRIG:COUN 5")
    assert len(desk.read()) == 5
    assert numbers(desk, ":TRAC:DATA?") == pytest.approx([1e-5] * 3)
    assert desk.ask(":TRAC:POIN:ACT?;:TRAC:FEED:CONT?") == "3;NEV"


def test_the_two_buffers_are_separate() -> None:
    desk = ready(":TRAC:POIN 2", ":TRAC:FEED:CONT NEXT", ":TRIG:COUN 2", ":INIT")
    desk.load.change(desk.t_ns, 2e5)
    desk.tell(":TRIG:COUN 1", ":INIT")
    assert numbers(desk, ":FETC?") == pytest.approx([5e-6])
    assert numbers(desk, ":TRAC:DATA?") == pytest.approx([1e-5, 1e-5])


def test_both_hold_2500() -> None:
    desk = ready(":TRAC:POIN 2500", ":TRAC:FEED:CONT NEXT", ":TRIG:COUN 2500", ":INIT")
    assert len(numbers(desk, ":FETC?")) == len(numbers(desk, ":TRAC:DATA?")) == 2500


def test_a_store_that_ends_early_goes_on_with_the_next_measurement() -> None:
    desk = ready(":TRAC:POIN 4", ":TRAC:FEED:CONT NEXT", ":TRIG:COUN 3", ":INIT")
    assert desk.ask(":TRAC:POIN:ACT?;:TRAC:FEED:CONT?") == "3;NEXT"
    desk.tell(":INIT")
    assert desk.ask(":TRAC:POIN:ACT?;:TRAC:FEED:CONT?") == "4;NEV"


def test_a_second_store_overwrites_and_leaves_what_it_does_not_reach() -> None:
    desk = ready(":TRAC:POIN 3", ":TRAC:FEED:CONT NEXT", ":TRIG:COUN 3", ":INIT")
    desk.load.change(desk.t_ns, 2e5)
    desk.tell(":TRIG:COUN 1", ":TRAC:FEED:CONT NEXT", ":INIT")
    assert numbers(desk, ":TRAC:DATA?") == pytest.approx([5e-6, 1e-5, 1e-5])


def test_what_may_not_be_changed_while_storage_is_active() -> None:
    desk = ready(":TRAC:FEED:CONT NEXT")
    for message in (":TRAC:FEED CALC2", ":TRAC:POIN 10"):
        desk.tell("*CLS", message)
        assert desk.unit.error_queue == (800,)
    assert desk.ask(":TRAC:FEED?;POIN?") == "SENS1;100"
    desk.tell("*CLS", ":TRAC:FEED:CONT NEV", ":TRAC:FEED CALC2", ":TRAC:POIN 10")
    assert desk.ask(":TRAC:FEED?;POIN?;:SYST:ERR?") == 'CALC2;10;0,"No error"'


@pytest.mark.parametrize(
    ("word", "reply"),
    [("SENS", "SENS1"), ("SENSe1", "SENS1"), ("CALC", "CALC1"), ("CALCulate1", "CALC1"), ("calc2", "CALC2")],
)
def test_feeds(word: str, reply: str) -> None:
    assert Desk().ask(f":TRAC:FEED {word};FEED?") == reply


def test_a_new_size_empties_and_clear_does_too() -> None:
    for message in (":TRAC:POIN 50", ":TRAC:CLE"):
        desk = ready(":TRAC:POIN 3", ":TRAC:FEED:CONT NEXT", ":TRIG:COUN 3", ":INIT", message)
        assert desk.ask(":TRAC:POIN:ACT?") == "0"
        assert int(desk.ask(":STAT:MEAS:COND?") or 0) & (BAV | BFL) == 0


def test_free_tells_bytes_and_both_roots_name_the_buffer() -> None:
    desk = ready(":DATA:POIN 10", ":DATA:FEED:CONT NEXT", ":TRIG:COUN 4", ":INIT")
    assert desk.ask(":TRAC:FREE?") == "144, 96"
    assert desk.ask(":DATA:FREE?") == "144, 96"
    assert len(numbers(desk, ":DATA:DATA?")) == 4
    assert len(numbers(desk, ":DATA:LAT?")) == 1


def test_an_empty_buffer_gives_no_reply() -> None:
    desk = ready()
    assert desk.ask(":TRAC:DATA?") is None
    assert desk.unit.error_queue == (-230,)


def test_reset_leaves_the_buffer_alone_and_the_mains_switch_does_not() -> None:
    for reset in ("*RST", ":SYST:PRES"):
        desk = ready(":TRAC:POIN 3", ":TRAC:FEED:CONT NEXT", ":TRIG:COUN 3", ":INIT", reset)
        assert desk.ask(":TRAC:POIN?;POIN:ACT?") == "3;3"
    desk.unit.power_cycle(desk.t_ns)
    assert desk.ask(":TRAC:POIN?;POIN:ACT?") == "100;0"


def test_measure_switches_storage_off() -> None:
    desk = ready(":TRAC:FEED:CONT NEXT")
    desk.tell(":MEAS:CURR?")
    assert desk.ask(":TRAC:FEED:CONT?;:TRAC:POIN:ACT?") == "NEV;0"


def test_stamps_count_from_the_first_reading_or_from_the_one_before() -> None:
    desk = ready(":FORM:ELEM TIME", ":TRIG:DEL 0.01", ":TRAC:POIN 3", ":TRAC:FEED:CONT NEXT", ":TRIG:COUN 3", ":INIT")
    cycle = 0.01 + 0.0001 + 0.0002 + 0.0002
    assert numbers(desk, ":TRAC:DATA?") == pytest.approx([0, cycle, 2 * cycle])
    desk.tell(":TRAC:TST:FORM DELT")
    assert numbers(desk, ":TRAC:DATA?") == pytest.approx([0, cycle, cycle])
    assert desk.ask(":TRAC:TST:FORM?") == "DELT"


def test_the_bits_of_the_buffer() -> None:
    desk = ready(":TRAC:POIN 3", ":STAT:MEAS:ENAB 512", "*SRE 1", ":TRAC:FEED:CONT NEXT", ":INIT", ":STAT:MEAS?")
    seen = []
    for _ in range(2):
        desk.tell(":INIT")
        seen.append(int(desk.ask(":STAT:MEAS:COND?") or 0) & (BAV | BFL))
    assert seen == [BAV, BAV | BFL]
    assert int(desk.ask("*STB?") or 0) & 65 == 65
    assert int(desk.ask(":STAT:MEAS?") or 0) & BFL
    assert int(desk.ask("*STB?") or 0) & 65 == 0


def test_storing_again_without_clearing_tells_of_the_second_filling_too() -> None:
    desk = ready(":TRAC:POIN 2", ":TRIG:COUN 2", ":TRAC:FEED:CONT NEXT", ":INIT", ":STAT:MEAS?")
    desk.tell(":TRAC:FEED:CONT NEXT")
    assert int(desk.ask(":STAT:MEAS:COND?") or 0) & (BAV | BFL) == 0
    desk.tell(":INIT")
    assert int(desk.ask(":STAT:MEAS?") or 0) & BFL


# CALC3


def test_statistics_are_those_of_the_stored_readings() -> None:
    desk = ready(":SENS:FUNC 'VOLT'", ":TRAC:POIN 50", ":TRAC:FEED:CONT NEXT", ":TRIG:COUN 50", noise=True)
    desk.tell(":INIT", ":FORM:ELEM VOLT,CURR")
    data = numbers(desk, ":TRAC:DATA?")
    volts, amps = data[::2], data[1::2]
    expected = {
        "MEAN": (statistics.fmean(volts), statistics.fmean(amps)),
        "SDEViation": (statistics.stdev(volts), statistics.stdev(amps)),
        "MAXimum": (max(volts), max(amps)),
        "MIN": (min(volts), min(amps)),
        "PKPK": (max(volts) - min(volts), max(amps) - min(amps)),
    }
    for name, pair in expected.items():
        assert numbers(desk, f":CALC3:FORM {name};:CALC3:DATA?") == pytest.approx(pair, rel=1e-5)
    assert desk.ask(":CALC3:FORM?") == "PKPK"


def test_only_measured_functions_have_a_statistic() -> None:
    desk = ready(":TRAC:POIN 2", ":TRAC:FEED:CONT NEXT", ":TRIG:COUN 2", ":INIT")
    assert numbers(desk, ":CALC3:DATA?") == pytest.approx([1e-5])


def test_an_empty_buffer_has_the_statistic_not_a_number() -> None:
    assert numbers(ready(), ":CALC3:DATA?") == [NAN]


def test_a_constant_spreads_by_nothing() -> None:
    assert STATISTICS["SDEV"]([3.0]) == 0.0
    assert STATISTICS["SDEV"]([3.0, 3.0]) == 0.0


def test_statistics_of_what_was_calculated() -> None:
    desk = ready(":CALC2:FEED CURR", ":CALC2:NULL:OFFS 4E-6", ":CALC2:NULL:STAT ON", ":TRAC:FEED CALC2")
    desk.tell(":TRAC:POIN 2", ":TRAC:FEED:CONT NEXT", ":TRIG:COUN 2", ":INIT")
    assert numbers(desk, ":TRAC:DATA?") == pytest.approx([6e-6, 6e-6])
    assert numbers(desk, ":CALC3:DATA?") == pytest.approx([6e-6])
    assert desk.ask(":FORM:ELEM:CALC CALC,TIME,STAT;:FORM:ELEM:CALC?") == "CALC,TIME,STAT"
    assert len(numbers(desk, ":TRAC:DATA?")) == 6
