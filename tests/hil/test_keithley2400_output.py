"""What the load sees of the emulated 2400: levels, clamps, off states, panel."""

from __future__ import annotations

import pytest

from hil.devices.keithley2400 import Keithley2400
from hil.devices.keithley2400.desk import Desk, DeskLoad, DeskWire, Source
from hil.protocols import Load

MS = 1_000_000


class SilentLoad:
    """A load that does not tell its voltage; what hil.protocols.Load asks for and nothing more."""

    def __init__(self, r_ohm: float) -> None:
        self._load = DeskLoad(r_ohm)

    def set_source(self, t_ns: int, v_set: float, i_limit_a: float, *, connected: bool) -> None:
        self._load.set_source(t_ns, v_set, i_limit_a, connected=connected)

    def advance(self, t_ns: int) -> None:
        self._load.advance(t_ns)

    @property
    def charge_c(self) -> float:
        return self._load.charge_c

    @property
    def terminal_current_a(self) -> float:
        return self._load.terminal_current_a

    @property
    def clamped(self) -> bool:
        return self._load.clamped


def last(desk: Desk) -> tuple[float, float, bool]:
    source = desk.load.sources[-1]
    return source.v_set, source.i_limit_a, source.connected


def is_on(desk: Desk) -> bool:
    return desk.unit.output_on


def test_the_desk_load_is_a_load() -> None:
    load: Load = DeskLoad(1.0)
    load = SilentLoad(1.0)
    assert load.charge_c == 0.0


def test_power_up_is_0_v_connected_with_the_small_clamp() -> None:
    assert Desk(start_ns=7).load.sources == [Source(7, 0.0, pytest.approx(5e-7), connected=True)]  # type: ignore[arg-type]


def test_a_level_set_while_off_reaches_the_load_only_with_the_output() -> None:
    desk = Desk()
    desk.tell(":SOUR:VOLT 3", ":SENS:CURR:PROT 2E-5")
    assert last(desk)[0] == 0.0
    desk.tell(":OUTP ON")
    assert last(desk) == (3.0, 2e-5, True)
    desk.tell(":SOUR:VOLT -1.25")
    assert last(desk) == (-1.25, 2e-5, True)


def test_a_repeated_setting_is_not_told_again() -> None:
    desk = Desk()
    desk.tell(":SOUR:VOLT 1", ":OUTP ON")
    count = len(desk.load.sources)
    desk.tell(":SOUR:VOLT 1", ":OUTP ON", ":READ?", ":SENS:CURR:NPLC 1")
    assert len(desk.load.sources) == count


@pytest.mark.parametrize(
    ("protection", "range_a", "clamp"),
    [("1E-3", "1E-3", 1e-3), ("1E-3", "1E-4", 1.05e-4), ("5E-5", "1E-4", 5e-5), ("1.05E-4", "1E-4", 1.05e-4)],
)
def test_the_clamp_is_the_lesser_of_protection_and_fixed_range(protection: str, range_a: str, clamp: float) -> None:
    desk = Desk()
    desk.tell(":SENS:CURR:PROT 1E-3", f":SENS:CURR:RANG {range_a}", f":SENS:CURR:PROT {protection}", ":OUTP ON")
    assert last(desk)[1] == pytest.approx(clamp)


def test_with_autorange_the_clamp_is_the_protection() -> None:
    desk = Desk()
    desk.tell(":SENS:CURR:PROT 1E-3", ":SENS:CURR:RANG 1E-4", ":OUTP ON", ":SENS:CURR:RANG:AUTO ON")
    assert last(desk)[1] == pytest.approx(1e-3)


def test_changes_of_the_clamp_act_while_on() -> None:
    desk = Desk()
    desk.tell(":SENS:CURR:PROT 1E-3", ":OUTP ON", ":SENS:CURR:PROT 1E-4")
    assert last(desk)[1] == pytest.approx(1e-4)
    desk.tell(":SENS:CURR:RANG 1E-5")
    assert last(desk)[1] == pytest.approx(1.05e-5)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("NORM", (0.0, 5e-7, True)),
        ("NORMal", (0.0, 5e-7, True)),
        ("ZERO", (0.0, 1.05e-4, True)),
        ("HIMP", (0.0, 1.05e-4, False)),
        ("GUAR", (0.0, 1.05e-4, False)),
        ("GUARD", (0.0, 1.05e-4, False)),
    ],
)
def test_off_states(mode: str, expected: tuple[float, float, bool]) -> None:
    desk = Desk()
    desk.tell(f":OUTP:SMOD {mode}", ":SOUR:VOLT 5", ":OUTP ON")
    assert last(desk) == pytest.approx((5.0, 1.05e-4, True))
    desk.tell(":OUTP OFF")
    assert last(desk) == pytest.approx(expected)
    assert (desk.ask(":OUTP:SMOD?") or "") in mode.upper()


def test_the_off_state_can_be_changed_while_off() -> None:
    desk = Desk()
    desk.tell(":OUTP:SMOD HIMP")
    assert last(desk)[2] is False
    desk.tell(":OUTP:SMOD NORM")
    assert last(desk)[2] is True


def test_an_off_state_chosen_while_on_waits_for_the_output_to_go_off() -> None:
    desk = Desk()
    desk.tell(":SOUR:VOLT 2", ":OUTP ON")
    count = len(desk.load.sources)
    desk.tell(":OUTP:SMOD HIMP")
    assert len(desk.load.sources) == count
    desk.tell(":OUTP OFF")
    assert last(desk)[2] is False


def test_in_the_zero_off_state_it_goes_on_measuring() -> None:
    # "While in the ZERO output-off state, the SourceMeter can be used as an I-Meter" (13-10).
    desk = Desk(1e6)
    desk.tell(":OUTP:SMOD ZERO", ":FORM:ELEM CURR,STAT", ":SOUR:VOLT 1", ":OUTP ON")
    assert desk.read()[0] == pytest.approx(1e-6)
    desk.tell(":OUTP OFF")
    amps, _ = desk.read()
    assert amps == 0.0
    assert list(desk.unit.error_queue) == []
    desk.tell(":OUTP:SMOD NORM")
    assert desk.read() == []
    assert desk.unit.error_queue == (803,)


@pytest.mark.parametrize(("amps", "clamp"), [("1E-5", 1e-5), ("1E-8", 5e-9 * 100)])
def test_the_zero_off_state_of_a_current_source_is_0_v_behind_its_level_or_half_a_percent(
    amps: str, clamp: float
) -> None:
    desk = Desk()
    desk.tell(
        ":SOUR:FUNC CURR", ":SOUR:CURR:RANG 1E-4", f":SOUR:CURR {amps}", ":OUTP:SMOD ZERO", ":OUTP ON", ":OUTP OFF"
    )
    assert last(desk) == pytest.approx((0.0, clamp, True))


def test_a_reset_switches_off_first() -> None:
    desk = Desk()
    desk.tell(":OUTP:SMOD ZERO", ":SOUR:VOLT 5", ":OUTP ON", "*RST")
    assert not is_on(desk)
    assert last(desk) == pytest.approx((0.0, 5e-7, True))


def test_changing_the_source_function_switches_off() -> None:
    desk = Desk()
    desk.tell(":SOUR:VOLT 1", ":OUTP ON", ":SOUR:FUNC VOLT")
    assert is_on(desk)
    desk.tell(":SOUR:FUNC CURR")
    assert not is_on(desk)


def test_changing_the_terminals_switches_off() -> None:
    desk = Desk()
    desk.tell(":OUTP ON", ":ROUT:TERM FRON")
    assert is_on(desk)
    desk.tell(":ROUT:TERM REAR")
    assert not is_on(desk)


def test_a_current_source_is_a_clamped_voltage_source_seen_from_its_other_side() -> None:
    desk = Desk(1e5)
    desk.tell(":SOUR:FUNC CURR", ":SENS:FUNC 'VOLT'", ":SOUR:CURR -1E-5", ":OUTP ON", ":FORM:ELEM VOLT,CURR,STAT")
    assert last(desk) == (-21.0, 1e-5, True)
    volts, amps, status = desk.read()
    assert (volts, amps) == pytest.approx((-1.0, -1e-5))
    assert not int(status) & 8
    desk.load.change(desk.t_ns, 1e9)
    volts, amps, status = desk.read()
    assert volts == pytest.approx(-21.0)
    assert int(status) & 8
    assert desk.ask(":SENS:VOLT:PROT:TRIP?;:SENS:CURR:PROT:TRIP?") == "1;0"
    desk.tell(":SOUR:CURR 0")
    assert last(desk)[2] is False


def test_clear_switches_off() -> None:
    desk = Desk()
    desk.tell(":OUTP ON", ":SOUR:CLE")
    assert not is_on(desk)


def test_auto_clear_switches_on_for_each_reading_only() -> None:
    desk = Desk(1e5)
    desk.tell(":SOUR:VOLT 1", ":SOUR:CLE:AUTO ON", ":TRIG:COUN 2", ":FORM:ELEM CURR")
    before = len(desk.load.sources)
    assert desk.read() == [pytest.approx(1e-5)] * 2
    assert [source.v_set for source in desk.load.sources[before:]] == [1.0, 0.0, 1.0, 0.0]
    assert not is_on(desk)


def test_an_abort_under_auto_clear_leaves_it_off() -> None:
    desk = Desk(1e5)
    desk.tell(":SOUR:VOLT 1", ":SOUR:CLE:AUTO ON")
    desk.write(":READ?")
    desk.wait(3 * MS)
    assert is_on(desk)
    desk.write(b"\x03")
    assert not is_on(desk)
    assert last(desk)[0] == 0.0


# A load that tells no voltage


def test_a_clamped_voltage_is_unknown_when_the_load_does_not_tell() -> None:
    wire = DeskWire()
    unit = Keithley2400(SilentLoad(1e3), noise=False)
    unit.attach(wire)
    unit.receive(0, b":SENS:FUNC 'VOLT';:FORM:ELEM VOLT;:SOUR:VOLT 0.05;:OUTP ON;:READ?;:SOUR:VOLT 5;:READ?\r")
    while (due := unit.next_event_ns()) is not None:
        unit.advance(due)
    assert wire.sent[-1][1] == b"+5.000000E-02;+9.910000E+37\r"


# The panel


def test_the_output_key_toggles() -> None:
    desk = Desk()
    desk.tell(":SOUR:VOLT 1")
    desk.unit.press_output_key(desk.t_ns)
    assert is_on(desk)
    assert last(desk)[0] == 1.0
    desk.unit.press_output_key(desk.t_ns)
    assert not is_on(desk)
    assert desk.ask(":OUTP?") == "0"


def test_a_locked_panel_still_switches_off_but_not_on() -> None:
    desk = Desk()
    desk.tell(":SYST:RWL ON", ":OUTP ON")
    desk.unit.press_output_key(desk.t_ns)
    assert not is_on(desk)
    desk.unit.press_output_key(desk.t_ns)
    assert not is_on(desk)


def test_the_key_acts_while_a_measurement_runs() -> None:
    desk = Desk(1e5)
    desk.tell(*(":SENS:CURR:NPLC 1", ":SYST:AZER OFF", ":SOUR:DEL 0"))
    desk.tell(":SOUR:VOLT 10", ":OUTP ON", ":FORM:ELEM CURR")
    desk.write(":READ?")
    desk.wait(1_100_000 + 5 * MS)
    desk.unit.press_output_key(desk.t_ns)
    assert desk.load.sources[-1].t_ns == desk.t_ns
    desk.settle()
    assert float(desk.wire.sent[-1][1]) == pytest.approx(0.25 * 1e-4)
    assert desk.ask(":READ?") is None
    assert desk.unit.error_queue == (803,)


def test_a_power_cycle_resets_and_loses_what_was_pending() -> None:
    desk = Desk()
    desk.tell(":SYST:RWL ON", "*ESE 5", ":SOUR:VOLT 5", ":OUTP ON", "NONSENSE")
    desk.write(b":READ?\r*OPC?\r:SOUR")
    desk.wait(2 * MS)
    desk.unit.power_cycle(desk.t_ns)
    assert not desk.unit.busy
    assert last(desk)[0] == 0.0
    desk.settle()
    assert desk.wire.sent == []
    assert desk.ask("*ESR?;*ESE?;:SYST:ERR?;:SOUR:VOLT?;:SYST:RWL?") == '128;0;0,"No error";+0.000000E+00;0'


def test_a_power_cycle_ends_the_deafness_after_an_abort() -> None:
    desk = Desk(abort_swallow_s=0.020)
    desk.write(b"\x03")
    desk.unit.power_cycle(desk.t_ns)
    assert desk.ask("*OPC?") == "1"
