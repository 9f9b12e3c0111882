"""What people have in their notebooks: pyserial, long headers, whatever quotes and numbers came to hand.

Arguments: the port, the baud rate, what ends a message (CR, LF, CRLF). Prints one JSON object.
"""

from __future__ import annotations

import json
import sys

import serial


class Keithley:
    """A 2400 as a script talks to it: write, read a line, split at the commas."""

    def __init__(self, port: str, baud: int, end: bytes) -> None:
        self.port = serial.Serial(port, baud, timeout=5)
        self.end = end

    def tell(self, *messages: str) -> None:
        for message in messages:
            self.port.write(message.encode("ascii") + self.end)

    def ask(self, message: str) -> str:
        self.tell(message)
        return self.port.read_until(b"\r").decode("ascii").strip()

    def numbers(self, message: str) -> list[float]:
        return [float(field) for field in self.ask(message).split(",")]

    def errors(self) -> list[str]:
        found = []
        while not (error := self.ask("SYST:ERR?")).startswith("0"):
            found.append(error)
        return found


def main() -> None:
    port, baud, end = sys.argv[1:]
    smu = Keithley(port, int(baud), {"CR": b"\r", "LF": b"\n", "CRLF": b"\r\n"}[end])
    told: dict[str, object] = {}

    smu.tell("", ":*RST", ":SYST:REM", "*CLS;")
    told["identity"] = smu.ask("*idn?")
    smu.tell(
        ":SYSTem:BEEPer:STATe OFF",
        ":SOURce:FUNCtion:MODE VOLTage;",
        ":source:voltage:mode fixed",
        ":SOUR:VOLT:RANG 2.000E+00",
        ':SENSe:FUNCtion:CONCurrent OFF;:SENS:FUNC "CURRent:DC"',
        f":SENS:CURR:PROT {1e-05:g}",
        ":SENSE:CURRENT:DC:RANGE:UPPER 1E-5",
        ":SENS:CURR:NPLC .1",
        ":FORM:ELEM VOLT, CURR",
        ":SOUR:VOLT:LEV:IMM:AMPL +.5",
        "OUTP ON",
    )
    told["readback"] = smu.ask("SENS:CURR:PROT?;RANG?;:SOUR:VOLT?;:SENS:FUNC?")
    told["reading"] = smu.numbers("READ?")

    # A sweep by hand, as "%e", "%g" and "%f" write the levels.
    swept = []
    for form, level in (("%e", -0.25), ("%g", 1e-05), ("%f", 0.75), ("%.3E", 1.0)):
        smu.tell(f"SOUR:VOLT {form % level}")
        swept.append([level, smu.numbers(":READ?")[1]])
    told["swept"] = swept

    # A sweep by the instrument, fetched from its buffer.
    smu.tell(
        ":SOUR:VOLT:STAR 0;STOP 1;STEP 0.25",
        ":SOUR:VOLT:MODE SWE;:SOUR:SWE:RANG BEST;SPAC LIN",
        ":TRIG:COUN 5;:SOUR:DEL 0.001",
        ":TRAC:CLE;FEED SENS;POIN 5;:TRAC:FEED:CONT NEXT",
        ":INIT",
    )
    told["complete"] = smu.ask("*OPC?")
    told["buffer"] = smu.numbers(":TRACE:DATA?")
    smu.tell(":SOUR:VOLT:MODE FIX;:SOUR:VOLT 0;:TRIG:COUN 1")

    # The other source, the other quotes.
    smu.tell(
        "OUTP OFF",
        ":SOUR:FUNC CURR;:SOUR:CURR:RANG 1e-5;:SOUR:CURR 1E-5",
        ":SENS:FUNC 'VOLT:DC';:SENS:VOLT:PROT 10;RANG 2",
        "OUTP 1",
    )
    told["volts"] = smu.numbers(":READ?")
    told["errors"] = smu.errors()

    # What goes wrong in scripts, and what the unit says to it.
    smu.tell(":SOUR:CURR 1mA", ":SENS:CURR:PORT 1e-3;:OUTP OFF", "OUTP:STAT 0;")
    told["off"] = smu.ask(":OUTP:STATE?")
    told["mistakes"] = smu.errors()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
