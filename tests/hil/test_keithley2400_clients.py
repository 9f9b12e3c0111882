"""Messages in the manner of drivers and scripts that are in use, on the emulated 2400: all of them are understood."""

from __future__ import annotations

import pytest

from hil.devices.keithley2400.desk import Desk


def ready(*messages: str, r_ohm: float = 1e5) -> Desk:
    """Send messages; none may leave anything in the error queue."""
    desk = Desk(r_ohm)
    for message in messages:
        desk.tell(message)
        assert desk.unit.error_queue == (), message
    return desk


# A measurement framework's driver: headers without a colon in front, numbers in fixed point, one reading at a time.
FRAMEWORK = (
    ":*RST",
    "SOUR:VOLT:RANG 2.000000",
    "SOUR:CURR:RANG 0.000010",
    "SENS:VOLT:PROT 20.000000",
    "SENS:CURR:PROT 0.000100",
    "SENS:VOLT:NPLC 0.100000",
    "SENS:CURR:NPLC 0.100000",
    ':SENS:FUNC "CURR"',
    ":SOUR:FUNC VOLT",
    ":FORM:ELEM VOLT,CURR",
    ":SOUR:VOLT:LEV 0.50000000",
    ":OUTP:STAT 1",
)


def test_a_framework_driver() -> None:
    desk = ready(*FRAMEWORK)
    volts, amps = desk.read()
    assert (volts, amps, volts / amps) == pytest.approx((0.5, 5e-6, 1e5))
    assert desk.ask("SENS:VOLT:RANG?") == desk.ask(":SOUR:VOLT:RANG?") == "+2.100000E+00"
    assert desk.ask(":SENS:FUNC?") == '"CURR:DC"'
    desk.tell(':SENS:FUNC "VOLT"', ":SOUR:FUNC CURR", ":SOUR:CURR:LEV 0.00000500", ":OUTP:STAT 1")
    assert desk.read() == pytest.approx([0.5, 5e-6])
    assert desk.unit.error_queue == ()


# A solar cell bench on RS-232: all headers long and in lower case; ranges follow the compliance.
SOLAR = (
    "*RST",
    ":status:preset",
    ":system:preset",
    ":trace:clear",
    ":output:smode himpedance",
    "format:data ascii",
    "source:clear:auto off",
    ":system:rsense off",
    ":sense:function:concurrent on",
    ':sense:function "current:dc", "voltage:dc"',
    ":format:elements time,voltage,current,status",
    ":rout:term rear",
    ":system:beeper:state off",
    ":system:lfrequency:auto on",
    ":system:time:reset",
    ":system:azero off",
    ":system:azero:caching on",
    ":sense:current:nplcycles 0.1",
    ":sense:voltage:nplcycles 0.1",
    ":display:digits 5",
    ":source:function voltage",
    ":source:voltage 0.000000",
    ":sense:current:protection 0.00100000",
    ":sense:current:range:auto off",
    ":sense:current:protection:rsynchronize on",
    ":sense:current:protection 0.00100000",
    ":output on",
    ":source:voltage:mode sweep",
    ":source:sweep:spacing linear",
    ":source:delay:auto off",
    ":source:delay 0.005000",
    ":trigger:count 5",
    ":source:sweep:points 5",
    ":source:voltage:start 0.000000",
    ":source:voltage:stop 1.000000",
    ":source:sweep:ranging best",
    ":system:azero once",
)


def test_a_solar_cell_bench() -> None:
    desk = ready(*SOLAR)
    assert float(desk.ask(":source:voltage:step?") or 0) == 0.25
    assert desk.ask(":source:function:mode?;:sense:current:range?") == "VOLT;+1.050000E-03"
    reply = desk.read()
    assert reply[0::4] == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert reply[1::4] == pytest.approx([0, 2.5e-6, 5e-6, 7.5e-6, 1e-5], abs=1e-8)
    desk.tell(":output off", ":system:local")
    assert not desk.unit.output_on
    assert desk.unit.error_queue == ()


# The vendor's own examples: a staircase into the buffer, and a list.
STAIRCASE = (
    "*RST",
    ":SENS:FUNC:CONC OFF",
    ":SOUR:FUNC VOLT",
    ":SENS:FUNC 'CURR:DC'",
    ":SENS:CURR:PROT 0.1",
    ":SOUR:VOLT:START 1",
    ":SOUR:VOLT:STOP 5",
    ":SOUR:VOLT:STEP 1",
    ":SOUR:VOLT:MODE SWE",
    ":SOUR:SWE:RANG AUTO",
    ":SOUR:SWE:SPAC LIN",
    ":SOUR:SWE:CAB LATE",
    ":SOUR:SWE:DIR UP",
    ":TRIG:COUN 5",
    ":SOUR:DEL 0.1",
    ":TRAC:POIN 5",
    ":TRAC:FEED:CONT NEXT",
    ":OUTP ON",
)


def test_a_staircase_into_the_buffer() -> None:
    desk = ready(*STAIRCASE)
    reply = desk.read()
    assert reply[0::5] == [1, 2, 3, 4, 5]
    assert reply[1::5] == pytest.approx([1e-5, 2e-5, 3e-5, 4e-5, 5e-5], rel=1e-3)
    assert (desk.ask(":TRAC:DATA?") or "").count(",") == 24
    assert desk.ask(":CALC3:FORM MEAN;DATA?") == "+3.000000E-05"


CUSTOM = (
    "*RST",
    ":SENS:FUNC:CONC OFF",
    ":SOUR:FUNC VOLT",
    ":SENS:FUNC 'CURR:DC'",
    ":SENS:CURR:PROT 0.1",
    ":SOUR:VOLT:MODE LIST",
    ":SOUR:LIST:VOLT 7,1,3,8,2",
    ":TRIG:COUN 5",
    ":SOUR:DEL 0.1",
    ":OUTP ON",
)


def test_a_custom_sweep() -> None:
    assert ready(*CUSTOM).read()[0::5] == [7, 1, 3, 8, 2]


LIMITS = (
    "*RST",
    ":SENS:RES:MODE MAN",
    ':SENS:FUNC "RES"',
    ":CALC2:LIM2:STAT ON",
    ":CALC2:FEED RES",
    ":CALC2:LIM2:LOW 95000",
    ":CALC2:LIM2:UPP 105000",
    ":SOUR:VOLT 1",
    ":OUTP ON",
    ":INIT",
)


@pytest.mark.parametrize(("r_ohm", "failed"), [(1e5, "0"), (1.1e5, "1"), (9e4, "1")])
def test_a_limit_test(r_ohm: float, failed: str) -> None:
    assert ready(*LIMITS, r_ohm=r_ohm).ask(":CALC2:LIM2:FAIL?") == failed


# Settings that scripts send by the way.
ODD = (
    ":SENS:FUNC:ON 'VOLT','CURR'",
    ":SENS:FUNC:OFF 'RES'",
    ":SENSe:AVERage:TCONtrol REPeat",
    ":SENS:AVER:COUN 10;STAT ON",
    ":SENS:CURR:RANG:AUTO 1.000000",
    ":SENS:CURR:PROT:LEV 1.00e-03",
    ":SOUR:VOLT:PROT:LEV 20",
    ":SOUR:VOLT:LEV 1;:SOUR:VOLT:LEV:AMPL 1.5",
    ":SOURce1:VOLTage:LEVel:IMMediate:AMPLitude 0.1",
    ":SOUR:DEL:AUTO 0",
    ":SOUR:CLE",
    ":SOUR:CLE:AUTO 1;AUTO:MODE TCO",
    ":ARM:COUN INF;:ARM:COUN 1",
    ":ARM:SEQ1:LAY1:SOUR IMM",
    ":TRIGger:SEQuence1:SOURce IMMediate",
    ":TRIG:COUN 11.000000",
    ":TRIG:OUTP NONE",
    ":ABORt",
    ":TRIG:CLE",
    ":TRAC:FEED:CONT NEVER",
    ":TRAC:TST:FORM ABS",
    ":FORM:ELEM:SENS VOLT,CURR",
    ":FORM:DATA ASC",
    ":CALC:STAT OFF",
    ":CALCulate2:LIMit:STATe OFF",
    ":SYST:TIME:RES:AUTO ON",
    ":SYST:AZER:STAT ONCE",
    ":SYST:KEY 15",
    ":DISP:ENAB ON",
    ":STAT:MEAS:ENAB 512",
    ":STAT:QUE:CLE",
    "*SRE 1;*ESE 1",
    "*OPC",
    "*WAI",
    "*SAV 0",
    "*RCL 0",
    ":ROUTe:TERMinals REAR",
    ":OUTPut1:STATe OFF",
    ":SYST:LOC",
)


@pytest.mark.parametrize("message", ODD)
def test_settings_by_the_way(message: str) -> None:
    desk = ready(message)
    assert desk.ask("*OPC?") == "1"
