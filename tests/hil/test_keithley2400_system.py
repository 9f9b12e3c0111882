"""SYSTem, DISPlay and FORMat of the emulated 2400: what clients send beside source and measure."""

from __future__ import annotations

import pytest

from hil.devices.keithley2400 import Timing
from hil.devices.keithley2400.desk import Desk

MS = 1_000_000


def is_on(desk: Desk) -> bool:
    return desk.unit.output_on


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        (":SYST:LFR?;LFR:AUTO?", "50;1"),
        (":SYST:LFR 60;LFR?;LFR:AUTO?", "60;0"),
        (":SYST:LFR 60;LFR:AUTO ON;:SYST:LFR?", "50"),
        (":SYST:GUAR?", "CABL"),
        (":SYST:GUAR OHMS;GUAR?", "OHMS"),
        (":SYST:GUAR OHMS;:SYST:GUAR CABLE;GUAR?", "CABL"),
        (":SYST:POS?", "RST"),
        (":SYST:POS PRES;POS?", "PRES"),
        (":SYST:POS SAV4;POS?", "SAV4"),
        (":SYST:KEY 15;KEY?", "15"),
        (":SYST:MEP?;MEP:STAT?;HOLD?", "1;1;0"),
        (":SYST:MEP:HOLD ON;HOLD OFF;:SYST:MEP:STATE?", "1"),
        (":SYST:CCH?", "0"),
        (":SYST:BEEP 500,0.1;BEEP:STAT OFF;STAT?", "0"),
        (":SYST:TIME:RES:AUTO ON;AUTO?", "1"),
        (":SYST:AZER:CACH?", "0"),
        (":SYST:AZER:CACH ON;CACH?;CACH:NPLC?", "1;0"),
        (":SYST:AZER:CACH ON;CACH:REFR;NPLC?", "+1.000000E+00"),
        (":SYST:AZER:CACH ON;CACH:REFR;RES;NPLC?", "0"),
        (":SYST:AZER:CACH:REFR;NPLC?", "0"),
        (":DISP:DIG?", "6"),
        (":DISP:DIG 7;DIG?", "7"),
        (":DISP:DIG 7;*RST;:DISP:DIG?", "6"),
        (":DISP:ENAB OFF;ENAB?", "0"),
        (":DISP:WIND:TEXT:DATA 'AFM';STAT ON;STAT?;DATA?", '1;"AFM"'),
        (":DISP:TEXT 'AFM';:DISP:WIND1:TEXT:STAT ON;:DISP:DATA?", '"AFM"'),
        (":DISP:WIND2:TEXT:DATA 'two';STAT ON;:DISP:WIND2:DATA?;:DISP:TEXT:STAT?", '"two";0'),
        (":DISP:WIND2:TEXT:DATA 'two';STAT ON;:DISP:CND;:DISP:WIND2:TEXT:STAT?", "0"),
        (":FORM:BORD SWAP;:FORM?", "ASC"),
        (":ROUT:TERM?;:ROUT:TERM REAR;TERM?", "FRON;REAR"),
    ],
)
def test_settings_and_their_queries(message: str, reply: str) -> None:
    desk = Desk()
    assert desk.ask(message) == reply
    assert desk.unit.error_queue == ()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (":SYST:LFR 55", -224),
        (":SYST:LFR AUTO", -141),
        (":SYST:GUAR", -109),
        (":SYST:POS SAV5", -141),
        (":SYST:KEY 0", -222),
        (":SYST:KEY 33", -222),
        (":SYST:CCH ON", -241),
        (":DISP:DIG 8", -222),
        (":DISP:TEXT 'this is one character too many'", -223),
        (":DISP:TEXT unquoted", -104),
        (":DISP:WIND2:TEXT 'this line is two characters too long'", -223),
        (":FORM REAL,32", 701),
    ],
)
def test_what_is_refused(message: str, code: int) -> None:
    desk = Desk()
    desk.tell(message)
    assert desk.unit.error_queue == (code,)


def test_the_line_frequency_sets_the_aperture() -> None:
    desk = Desk(timing=Timing.zero())
    desk.tell(":OUTP ON", ":SYST:AZER OFF", ":SOUR:DEL 0", ":SENS:CURR:RANG 1E-4")
    begin_ns = desk.t_ns
    desk.tell(":READ?")
    assert desk.t_ns - begin_ns == 20 * MS
    desk.tell(":SYST:LFR 60")
    begin_ns = desk.t_ns
    desk.tell(":READ?")
    assert desk.t_ns - begin_ns == pytest.approx(16.667 * MS, rel=1e-4)


def test_the_time_stamp_can_be_asked_for_and_reset() -> None:
    desk = Desk()
    desk.wait(1500 * MS)
    assert float(desk.ask(":SYST:TIME?") or 0) == pytest.approx(1.501)
    desk.tell(":SYST:TIME:RES")
    desk.wait(500 * MS)
    assert float(desk.ask(":SYST:TIME?") or 0) == pytest.approx(0.501)


@pytest.mark.parametrize("message", [":SYST:GUAR OHMS", ":SYST:RSEN ON", ":ROUT:TERM REAR"])
def test_what_changes_the_connections_switches_off(message: str) -> None:
    desk = Desk()
    desk.tell(":SOUR:VOLT 1", ":OUTP ON", message)
    assert not is_on(desk)
    desk.tell(":OUTP ON", message)
    assert is_on(desk), "no change, nothing switched"


def test_key_24_is_the_output_key_and_23_is_local() -> None:
    desk = Desk()
    desk.tell(":SYST:KEY 24")
    assert is_on(desk)
    desk.tell(":SYST:KEY 24")
    assert not is_on(desk)
    desk.tell("*CLS", ":DISP:ENAB OFF", ":SYST:KEY 23")
    assert desk.ask("*ESR?;:DISP:ENAB?") == "64;1"


def test_the_display_shows_the_reading() -> None:
    desk = Desk(1e5)
    assert desk.ask(":DISP:DATA?") == '"--.---"'
    desk.tell(":SOUR:VOLT 1", ":OUTP ON", ":READ?")
    assert desk.ask(":DISP:DATA?;:DISP:WIND2:DATA?") == '"+1.00000E-05";"Src:+1.0000E+00"'
