"""What a reading of the emulated 2400 is: values, elements, compliance, overflow, range, noise, filter."""

from __future__ import annotations

import math
import statistics

import pytest

from firmware_proto.keithley2400.status import StatusWord
from hil.devices.keithley2400 import Keithley2400, Timing, noise
from hil.devices.keithley2400.desk import Desk, DeskLoad, DeskWire

MS = 1_000_000
FAST = (":SENS:CURR:NPLC 0.01", ":SYST:AZER OFF", ":SOUR:DEL 0")
NAN, OVERFLOW = 9.91e37, 9.9e37


def fixed(desk: Desk, range_a: str, protection_a: str | None = None, volts: str = "1") -> Desk:
    """Source ``volts`` with a fixed measure range, output on, current and status in the reading."""
    desk.tell(
        *FAST,
        f":SENS:CURR:PROT {range_a}",
        f":SENS:CURR:RANG {range_a}",
        f":SENS:CURR:PROT {protection_a or range_a}",
        ":FORM:ELEM CURR,STAT",
        f":SOUR:VOLT {volts}",
        ":OUTP ON",
    )
    assert desk.unit.error_queue == ()
    return desk


def test_a_reading_on_the_wire() -> None:
    desk = Desk(1e5)
    desk.tell(":SOUR:VOLT -2", ":OUTP ON", ":SYST:TIME:RES")
    reply = desk.ask(":READ?")
    assert reply is not None
    fields = reply.split(",")
    assert [len(field) for field in fields] == [13] * 5
    assert (fields[0], fields[1], fields[2]) == ("-2.000000E+00", "-2.000000E-05", "+9.910000E+37")


def test_current_is_level_over_resistance() -> None:
    amps, status = fixed(Desk(1e5), "1E-4").read()
    assert amps == pytest.approx(1e-5)
    assert status == 20484 == StatusWord.V_SOURCE | StatusWord.I_MEASURE | StatusWord.FRONT


def test_the_status_word_says_where_the_terminals_are() -> None:
    desk = fixed(Desk(1e5), "1E-4")
    desk.tell(":ROUT:TERM REAR", ":SYST:RSEN ON", ":OUTP ON")
    assert desk.read()[1] == StatusWord.V_SOURCE | StatusWord.I_MEASURE | StatusWord.REMOTE_SENSE


def test_the_reading_is_the_mean_over_the_aperture() -> None:
    desk = fixed(Desk(1e5), "1E-3", volts="10")
    desk.write(":READ?")
    # 1 ms query, 0.1 ms trigger latency, then 0.2 ms of aperture: the sample changes at a quarter of it.
    desk.wait(1_150_000)
    desk.load.change(desk.t_ns, 1e4)
    desk.settle()
    amps = float(desk.wire.sent[-1][1].split(b",")[0])
    assert amps == pytest.approx(0.25 * 1e-4 + 0.75 * 1e-3)


def test_the_aperture_follows_the_line_frequency() -> None:
    desk = fixed(Desk(1e5, line_freq_hz=60.0), "1E-3", volts="10")
    desk.write(":READ?")
    desk.wait(1_100_000 + 83_333)
    desk.load.change(desk.t_ns, 1e4)
    desk.settle()
    assert float(desk.wire.sent[-1][1].split(b",")[0]) == pytest.approx(0.5 * 1e-4 + 0.5 * 1e-3, rel=1e-4)


def test_a_change_after_the_aperture_is_not_seen() -> None:
    desk = fixed(Desk(1e5), "1E-3", volts="10")
    desk.write(":READ?")
    desk.wait(1_300_000)
    desk.load.change(desk.t_ns, 1e4)
    desk.settle()
    assert float(desk.wire.sent[-1][1].split(b",")[0]) == pytest.approx(1e-4)


# Elements


def test_elements_come_in_their_own_order() -> None:
    desk = Desk(1e5)
    desk.tell(":FORM:ELEM STAT,CURR,VOLT", ":SOUR:VOLT 1", ":OUTP ON")
    volts, amps, status = desk.read()
    assert (volts, amps, status) == pytest.approx((1.0, 1e-5, 20484))


def test_the_volt_element_is_the_programmed_value_when_not_measured() -> None:
    desk = Desk(1e3)  # in compliance at 105 uA: 0.105 V at the terminals
    desk.tell(":FORM:ELEM VOLT,CURR", ":SOUR:VOLT 5", ":OUTP ON")
    assert desk.read() == [5.0, pytest.approx(1.05e-4)]
    desk.tell(":SENS:FUNC 'VOLT'")
    assert desk.read() == [pytest.approx(0.105), pytest.approx(1.05e-4)]


def test_what_is_neither_sourced_nor_measured_is_the_nan_code() -> None:
    desk = Desk(1e5)
    desk.tell(":SENS:FUNC:CONC OFF", ":SENS:FUNC 'VOLT'", ":SOUR:VOLT 1", ":OUTP ON")
    volts, amps, ohms, _, status = desk.read()
    assert (volts, amps, ohms) == pytest.approx((1.0, NAN, NAN))
    assert int(status) == StatusWord.V_SOURCE | StatusWord.V_MEASURE | StatusWord.FRONT


def test_resistance_is_the_quotient() -> None:
    desk = Desk(2e5)
    desk.tell(":SENS:RES:MODE MAN", ":SENS:FUNC 'RES'", ":SOUR:VOLT 2", ":OUTP ON")
    volts, amps, ohms, _, status = desk.read()
    assert (volts, amps, ohms) == pytest.approx((2.0, 1e-5, 2e5))
    assert int(status) & StatusWord.OHMS_MEASURE
    desk.tell(":SOUR:VOLT 0")
    assert desk.read()[2] == OVERFLOW


def test_with_every_function_off_there_is_still_a_reply() -> None:
    desk = Desk(1e5)
    desk.tell(":SENS:FUNC:OFF 'CURR'", ":SOUR:VOLT 1", ":OUTP ON")
    volts, amps, ohms, _, _ = desk.read()
    assert (volts, amps, ohms) == (1.0, NAN, NAN)


def test_time_counts_from_the_reset_of_the_stamp() -> None:
    desk = Desk(start_ns=5_000_000_000_000)
    desk.tell(*FAST, ":SENS:CURR:RANG 1E-4", ":FORM:ELEM TIME", ":OUTP ON")
    first = desk.read()[0]
    desk.wait(1_000 * MS)
    second = desk.read()[0]
    assert second - first == pytest.approx(1.0, abs=0.01)
    desk.tell(":SYST:TIME:RES")
    assert desk.read()[0] == pytest.approx(1.1e-3)


# Output off, counts, fetch


def test_read_with_the_output_off_gives_no_reply_and_803() -> None:
    desk = Desk()
    assert desk.ask(":READ?") is None
    assert desk.ask(":INIT") is None
    assert desk.unit.error_queue == (803, 803)
    assert desk.ask("*OPC?") == "1"


def test_replies_before_a_refused_read_are_still_sent() -> None:
    assert Desk().ask(":OUTP?;:READ?;:OUTP?") == "0"


def test_one_line_holds_arm_times_trigger_readings() -> None:
    desk = fixed(Desk(1e5), "1E-4")
    desk.tell(":ARM:COUN 3", ":TRIG:COUN 4")
    assert len(desk.read()) == 3 * 4 * 2


def test_the_largest_acquisition() -> None:
    desk = fixed(Desk(1e5), "1E-4")
    desk.tell(":TRIG:COUN 2500", ":FORM:ELEM CURR")
    assert desk.read() == [pytest.approx(1e-5)] * 2500


def test_init_and_fetch() -> None:
    desk = fixed(Desk(1e5), "1E-4")
    assert desk.ask(":FETC?") is None
    assert desk.ask(":DATA?") is None
    assert desk.unit.error_queue == (-230, -230)
    desk.tell(":TRIG:COUN 3", ":INIT", ":FORM:ELEM CURR")
    assert desk.ask(":FETC?") == ",".join(["+1.000000E-05"] * 3)
    assert desk.ask(":SENS:DATA:LAT?") == "+1.000000E-05"
    desk.tell(":OUTP OFF")
    assert desk.ask(":FETC?") is not None


def test_commands_behind_init_wait_for_it() -> None:
    desk = fixed(Desk(1e5), "1E-4")
    desk.tell(":TRIG:COUN 100", ":FORM:ELEM CURR")
    reply = desk.ask(":INIT;:FETC?")
    assert reply is not None
    assert reply.count(",") == 99


def test_an_infinite_count_is_for_init_only() -> None:
    desk = fixed(Desk(1e5), "1E-4")
    desk.tell(":ARM:COUN INF")
    assert desk.ask(":READ?") is None
    assert desk.unit.error_queue == (830,)
    desk.write(":INIT")
    desk.wait(20_000 * MS)  # long enough for the store to turn over
    desk.write(":ABOR;:FORM:ELEM CURR;:DATA?")
    desk.settle()
    assert desk.wire.sent[-1][1] == b"+1.000000E-05\r"
    assert (desk.ask(":FETC?") or "").count(",") < 2500


def test_a_reset_forgets_the_readings() -> None:
    desk = fixed(Desk(1e5), "1E-4")
    desk.tell(":INIT", "*RST")
    assert desk.ask(":FETC?") is None


# Compliance and overflow


def test_real_compliance_is_bit_3_at_the_protection() -> None:
    amps, status = fixed(Desk(1e3), "1E-4", "5E-5").read()
    assert amps == pytest.approx(5e-5)
    assert int(status) & (StatusWord.COMPLIANCE | StatusWord.RANGE_COMPLIANCE) == StatusWord.COMPLIANCE


def test_range_compliance_is_bit_16_at_105_percent_of_the_range() -> None:
    desk = Desk(1e3)
    desk.tell(*FAST, ":SENS:CURR:PROT 1E-3", ":SENS:CURR:RANG 1E-4", ":SOUR:VOLT 1", ":OUTP ON", ":FORM:ELEM CURR,STAT")
    amps, status = desk.read()
    assert amps == pytest.approx(1.05e-4)
    assert int(status) & (StatusWord.COMPLIANCE | StatusWord.RANGE_COMPLIANCE) == StatusWord.RANGE_COMPLIANCE
    assert desk.ask(":SENS:CURR:PROT:TRIP?") == "0"


def test_a_negative_current_is_clamped_too() -> None:
    amps, status = fixed(Desk(1e3), "1E-4", volts="-1").read()
    assert amps == pytest.approx(-1e-4)
    assert int(status) & StatusWord.COMPLIANCE


def test_tripped_follows_the_load() -> None:
    desk = fixed(Desk(1e3), "1E-4")
    assert desk.ask(":SENS:CURR:PROT:TRIP?") == "1"
    desk.load.change(desk.t_ns, 1e6)
    assert desk.ask(":SENS:CURR:PROT:TRIP?") == "0"
    desk.load.change(desk.t_ns, 1e3)
    assert desk.ask(":OUTP OFF;:SENS:CURR:PROT:TRIP?") == "0"


def test_a_clamp_that_held_only_at_the_start_of_the_reading_is_told() -> None:
    desk = fixed(Desk(1e3), "1E-4")
    desk.write(":READ?")
    desk.wait(1_200_000)
    desk.load.change(desk.t_ns, 1e6)
    desk.settle()
    assert int(float(desk.wire.sent[-1][1].split(b",")[1])) & StatusWord.COMPLIANCE


def test_above_105_5_percent_of_the_range_is_an_overflow() -> None:
    desk = fixed(Desk(1e4), "1E-4")
    desk.load.obeys_clamp = False
    desk.load.change(desk.t_ns, 1 / 1.0549e-4)
    amps, status = desk.read()
    assert amps == pytest.approx(1.0549e-4)
    assert not int(status) & StatusWord.OVERFLOW
    desk.load.change(desk.t_ns, 1 / 1.0551e-4)
    amps, status = desk.read()
    assert amps == OVERFLOW
    assert int(status) & StatusWord.OVERFLOW
    assert int(desk.ask(":STAT:MEAS:COND?") or 0) & (1 << 7)


def test_the_voltage_limit_of_the_source_sets_its_bit_and_clips() -> None:
    desk = Desk(1e7)
    desk.tell(":SOUR:VOLT:RANG 200", ":SOUR:VOLT:PROT 20", ":SOUR:VOLT -100", ":OUTP ON", ":FORM:ELEM CURR,STAT")
    amps, status = desk.read()
    assert amps == pytest.approx(-2e-6)
    assert int(status) & StatusWord.OVP
    assert desk.ask(":SOUR:VOLT:PROT:TRIP?;:SOUR:VOLT 20;:SOUR:VOLT:PROT:TRIP?") == "1;0"


def test_a_clamp_that_held_only_at_the_end_of_the_reading_is_told() -> None:
    desk = fixed(Desk(1e6), "1E-4")
    desk.write(":READ?")
    desk.wait(1_290_000)
    desk.load.change(desk.t_ns, 1e3)
    desk.settle()
    assert int(float(desk.wire.sent[-1][1].split(b",")[1])) & StatusWord.COMPLIANCE


class Filament(DeskLoad):
    """Falls to 1 kohm by itself at a time, but only when somebody lets it live until then."""

    forms_ns = 1 << 62

    def advance(self, t_ns: int) -> None:
        if t_ns >= self.forms_ns:
            super().advance(max(self.forms_ns, self._t_ns or 0))
            self.r_ohm = 1e3
        super().advance(t_ns)


def test_a_load_that_changes_by_itself_is_seen() -> None:
    load, wire = Filament(1e6), DeskWire()
    unit = Keithley2400(load, noise=False)
    unit.attach(wire)
    for t_ns, message in ((0, b":SOUR:VOLT 1;:OUTP ON\r"), (100 * MS, b":SENS:CURR:PROT:TRIP?\r")):
        unit.receive(t_ns, message)
        while (due := unit.next_event_ns()) is not None:
            unit.advance(due)
        load.forms_ns = 50 * MS
    assert wire.sent == [(101 * MS, b"1\r")]


# Autorange


def test_autorange_finds_the_range_from_either_side() -> None:
    desk = Desk(1e6)
    desk.tell(*FAST, ":SENS:CURR:PROT 1E-3", ":FORM:ELEM CURR", ":SOUR:VOLT 0.5", ":OUTP ON")
    assert desk.read() == [pytest.approx(5e-7)]
    assert desk.ask(":SENS:CURR:RANG?") == "+1.050000E-06"
    desk.load.change(desk.t_ns, 1e3)
    assert desk.read() == [pytest.approx(5e-4)]
    assert desk.ask(":SENS:CURR:RANG?;RANG:AUTO?") == "+1.050000E-03;1"


def test_autorange_does_not_clamp_at_a_low_range_and_stops_at_the_compliance_range() -> None:
    desk = Desk(1e2)
    desk.tell(*FAST, ":FORM:ELEM CURR,STAT", ":SOUR:VOLT 1", ":OUTP ON")
    amps, status = desk.read()
    assert amps == pytest.approx(1.05e-4)
    assert int(status) & StatusWord.COMPLIANCE
    assert desk.ask(":SENS:CURR:RANG?") == "+1.050000E-04"


def test_autorange_ends_at_its_last_range_whatever_the_load_draws() -> None:
    desk = Desk(1e-1)
    desk.load.obeys_clamp = False
    desk.tell(*FAST, ":SENS:CURR:PROT 1", ":FORM:ELEM CURR", ":SOUR:VOLT 1", ":OUTP ON")
    assert desk.read() == [OVERFLOW]
    assert desk.ask(":SENS:CURR:RANG?") == "+1.050000E+00"


def test_each_range_change_takes_its_time_and_a_second_aperture() -> None:
    desk = Desk(1e6)
    desk.tell(*FAST, ":SOUR:VOLT 0.5", ":OUTP ON")
    durations = []
    for _ in range(2):
        start_ns = desk.t_ns
        desk.tell(":READ?")
        durations.append(desk.t_ns - start_ns)
    assert durations[0] - durations[1] == 40 * MS + 200_000


# Noise and resolution


def test_the_resolution_is_that_of_the_range() -> None:
    for range_a, step in (("1E-6", 1e-11), ("1E-4", 1e-9), ("1E-3", 1e-8)):
        desk = fixed(Desk(1 / (3.21654e-1 * float(range_a)), noise=True), range_a)
        for amps, _ in [desk.read() for _ in range(20)]:
            assert abs(amps / step - round(amps / step)) < 1e-3


@pytest.mark.parametrize(
    ("range_a", "nplc", "sigma"),
    [("1E-6", "0.01", 150e-12), ("1E-4", "0.01", 10e-9), ("1E-3", "0.01", 100e-9), ("1E-3", "0.1", 10e-9)],
)
def test_the_noise_has_the_width_of_range_and_speed(range_a: str, nplc: str, sigma: float) -> None:
    desk = fixed(Desk(1e12, noise=True, seed=11), range_a)
    desk.tell(f":SENS:CURR:NPLC {nplc}", ":TRIG:COUN 2000", ":FORM:ELEM CURR")
    values = desk.read()
    assert statistics.stdev(values) == pytest.approx(sigma, rel=0.08)
    assert abs(statistics.fmean(values)) < 5 * sigma / math.sqrt(2000)


def test_noise_repeats_with_its_seed_and_differs_without() -> None:
    runs = []
    for seed in (1, 1, 2):
        desk = fixed(Desk(1e6, noise=True, seed=seed), "1E-4")
        runs.append([desk.read()[0] for _ in range(20)])
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("range_a", [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0])
def test_slower_is_quieter(range_a: float) -> None:
    speeds = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
    sigmas = [noise.current_sigma_a(range_a, nplc) for nplc in speeds]
    assert sigmas == sorted(sigmas, reverse=True)
    assert sigmas[4] / sigmas[6] == pytest.approx(math.sqrt(10))


def test_noise_meets_its_table() -> None:
    assert noise.current_sigma_a(1e-6, 1.0) == pytest.approx(10e-12)
    assert noise.current_sigma_a(1e-6, 0.1) == pytest.approx(15e-12)
    assert noise.current_sigma_a(1e-6, 0.01) == pytest.approx(150e-12)
    assert noise.current_sigma_a(1e-3, 0.0316227766) == pytest.approx(math.sqrt(10e-9 * 100e-9))
    assert noise.voltage_sigma_v(2.0, 1.0) == pytest.approx(5e-6)


# Filter


def test_the_repeating_filter_integrates_longer_and_is_quieter() -> None:
    desk = fixed(Desk(1e12, noise=True, seed=5), "1E-3")
    desk.tell(":SENS:AVER:COUN 25", ":SENS:AVER ON", ":TRIG:COUN 1000")
    values = desk.read()
    assert statistics.stdev(values[::2]) == pytest.approx(20e-9, rel=0.15)
    assert all(int(status) & StatusWord.FILTER for status in values[1::2])


def test_the_repeating_filter_takes_its_count_of_apertures() -> None:
    desk = fixed(Desk(1e6, timing=Timing.zero()), "1E-3")
    desk.tell(":SENS:AVER:COUN 25", ":SENS:AVER ON")
    start_ns = desk.t_ns
    desk.read()
    assert desk.t_ns - start_ns == 25 * 200_000


def test_the_repeating_filter_forgets_the_reading_before() -> None:
    desk = fixed(Desk(1e4), "1E-3")
    desk.tell(":SENS:AVER:TCON MOV", ":SENS:AVER:TCON REP", ":SENS:AVER:COUN 2", ":SENS:AVER ON", ":FORM:ELEM CURR")
    assert desk.read() == [pytest.approx(1e-4)]
    desk.load.change(desk.t_ns, 2e4)
    assert desk.read() == [pytest.approx(5e-5)]


def test_the_moving_filter_averages_the_last_readings() -> None:
    desk = fixed(Desk(1e4), "1E-3")
    desk.tell(":SENS:AVER:TCON MOV", ":SENS:AVER:COUN 2", ":SENS:AVER ON", ":FORM:ELEM CURR")
    assert desk.read() == [pytest.approx(1e-4)]
    desk.load.change(desk.t_ns, 5e3)
    assert desk.read() == [pytest.approx(1.5e-4)]
    assert desk.read() == [pytest.approx(2e-4)]
    desk.load.change(desk.t_ns, 1e4)
    desk.tell(":SENS:AVER:COUN 2")
    assert desk.read() == [pytest.approx(1e-4)]


# MEAS and CONF


def test_measure_resets_the_compliance_and_switches_the_output_on() -> None:
    desk = Desk(1e5)
    desk.tell(":SENS:CURR:PROT 1E-6", ":SENS:CURR:RANG 1E-6", ":SENS:CURR:NPLC 0.01", ":SYST:AZER OFF", ":SOUR:VOLT 1")
    assert desk.load.sources[-1].v_set == 0.0
    assert desk.ask(":MEAS:CURR?") is not None
    assert desk.unit.output_on
    assert desk.load.sources[-1][1:3] == pytest.approx((1.0, 1.05e-4))
    assert desk.ask(":SENS:CURR:PROT?;NPLC?;RANG:AUTO?;:SYST:AZER?") == "+1.050000E-04;+1.000000E+00;1;1"


def test_configure_does_the_same_without_reading() -> None:
    desk = Desk(1e5)
    desk.tell(":TRIG:COUN 7")
    assert desk.ask(":CONF:CURR:DC;:OUTP?;:TRIG:COUN?;:SENS:FUNC?") == '1;1;"CURR:DC"'
    desk.tell("*RST")
    assert desk.ask(":CONF:VOLT;:SENS:FUNC?;:SENS:CURR:PROT?") == '"VOLT:DC";+1.050000E-04'
