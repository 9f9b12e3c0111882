"""Spikes of the emulated 2400 on a tip: output off, change of a measure range, and what the tip sees of them."""

from __future__ import annotations

import pytest

from hil.devices.keithley2400 import Keithley2400
from hil.devices.keithley2400.desk import DeskWire
from hil.twin.circuit import OFF_SPIKE_V, RANGE_OVERSHOOT_V, Circuit
from hil.twin.full import Site
from hil.twin.truth import TruthRecord

US, MS = 1_000, 1_000_000


class Rig:
    """A unit with a live site of 10 kohm behind its cable, on no line; the site does not switch below 9 V."""

    def __init__(self, circuit: Circuit) -> None:
        self.truth = TruthRecord()
        self.load = Site("gi", series_ohm=1e4, circuit=circuit, truth=self.truth)
        self.unit = Keithley2400(self.load, noise=False)
        self.unit.attach(DeskWire())
        self.t_ns = 0
        self.unit.advance(0)

    def tell(self, *messages: str) -> None:
        for message in messages:
            self.unit.receive(self.t_ns, message.encode() + b"\r")
            while (due := self.unit.next_event_ns()) is not None:
                self.t_ns = due
                self.unit.advance(due)

    def after(self, duration_ns: int) -> float:
        """Let time pass and return the voltage at the terminals."""
        self.t_ns += duration_ns
        self.unit.advance(self.t_ns)
        self.load.advance(self.t_ns)
        return self.load.terminal_voltage_v


@pytest.fixture
def rig() -> Rig:
    made = Rig(Circuit().with_transients())
    made.tell(":SENS:CURR:PROT 1E-3", ":SENS:CURR:RANG 1E-4", ":SENS:CURR:PROT 1E-5", ":SOUR:VOLT:RANG 2")
    made.tell(":SOUR:VOLT 0.1", ":OUTP ON")
    assert made.unit.error_queue == ()
    assert made.after(100 * MS) == pytest.approx(0.1, abs=1e-6)
    return made


def test_a_change_of_the_measure_range_alone_reaches_the_tip(rig: Rig) -> None:
    rig.tell(":SENS:CURR:RANG 1E-5")
    at_once = rig.load.terminal_voltage_v
    # The clamp stayed at 10 uA: only the range told.
    assert at_once == pytest.approx(0.1 - RANGE_OVERSHOOT_V, abs=1e-3)
    assert rig.after(5 * MS) == pytest.approx(0.1, abs=1e-4), "it settles"


def test_a_range_set_to_what_it_was_does_nothing(rig: Rig) -> None:
    rig.tell(":SENS:CURR:RANG 1E-4")
    assert rig.load.terminal_voltage_v == pytest.approx(0.1, abs=1e-6)


def test_a_range_by_which_the_clamp_changes_kicks_once(rig: Rig) -> None:
    rig.tell(":SENS:CURR:PROT 1E-4")
    rig.after(100 * MS)
    rig.tell(":SENS:CURR:RANG 1E-5")
    assert rig.load.terminal_voltage_v == pytest.approx(0.1 - RANGE_OVERSHOOT_V, abs=1e-3)


def test_autorange_kicks_where_it_changes_the_range(rig: Rig) -> None:
    rig.tell(":SENS:CURR:RANG:AUTO ON", ":SENS:CURR:NPLC 0.01", ":SYST:AZER OFF")
    rig.after(100 * MS)
    rig.unit.receive(rig.t_ns, b":READ?\r")
    least = 0.1
    while rig.unit.busy:
        least = min(least, rig.after(10 * US))
    assert least == pytest.approx(0.1 - RANGE_OVERSHOOT_V, abs=0.03)
    assert rig.unit.settings.curr_sense.range == 1e-6


def test_with_the_output_off_a_range_changes_nothing_at_the_tip(rig: Rig) -> None:
    rig.tell(":OUTP OFF")
    rig.after(100 * MS)
    rig.tell(":SENS:CURR:RANG 1E-6")
    assert rig.load.terminal_voltage_v == pytest.approx(0.0, abs=1e-6)


def test_switching_off_spikes_in_the_direction_that_plates(rig: Rig) -> None:
    rig.tell(":SOUR:VOLT 0")
    rig.after(100 * MS)
    rig.tell(":OUTP OFF")
    assert rig.load.terminal_voltage_v == pytest.approx(-OFF_SPIKE_V, abs=1e-3)
    assert rig.after(100 * MS) == pytest.approx(0.0, abs=1e-3)


def test_also_the_zero_off_state_spikes(rig: Rig) -> None:
    # "... when turning Output Off in any existing mode" (release notes C34, PR57340).
    rig.tell(":OUTP:SMOD ZERO", ":SOUR:VOLT 0")
    rig.after(100 * MS)
    rig.tell(":OUTP OFF")
    assert rig.load.terminal_voltage_v == pytest.approx(-OFF_SPIKE_V, abs=1e-3)
    rig.after(100 * MS)
    rig.tell(":OUTP ON")
    assert rig.load.terminal_voltage_v == pytest.approx(-OFF_SPIKE_V, abs=1e-3)


def test_an_open_relay_lets_no_spike_through(rig: Rig) -> None:
    rig.tell(":OUTP:SMOD HIMP", ":SOUR:VOLT 0")
    rig.after(100 * MS)
    rig.tell(":OUTP OFF")
    assert rig.load.terminal_voltage_v == pytest.approx(0.0, abs=1e-6)


def test_the_plain_circuit_has_no_transients() -> None:
    plain = Rig(Circuit())
    plain.tell(
        ":SENS:CURR:PROT 1E-3", ":SENS:CURR:RANG 1E-4;PROT 1E-5", ":SOUR:VOLT:RANG 2", ":SOUR:VOLT 0.1", ":OUTP ON"
    )
    plain.after(100 * MS)
    plain.tell(":SENS:CURR:RANG 1E-5")
    assert plain.load.terminal_voltage_v == pytest.approx(0.1, abs=1e-6)
