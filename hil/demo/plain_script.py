"""The usual way: a short script that ramps, reads, compares and ramps back. It is here to be measured against.

It is what many laboratories run today, and it does nothing foolish: a fixed range, the compliance at the limit, a
threshold far below it. It talks to any Keithley 2400 on a serial port::

    python hil/demo/plain_script.py PORT READINGS.csv --to-v -0.5 --rate-v-s 0.1 --threshold-a 1e-6

Nothing of tipguard is used. Each reading goes into the file: seconds (monotonic), programmed bias, current.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import serial

STEP_S = 0.05


class Smu:
    """A 2400 on a serial port."""

    def __init__(self, port: str, baud: int) -> None:
        self.port = serial.Serial(port, baud, timeout=2)

    def send(self, text: str) -> None:
        """Send a command."""
        self.port.write(text.encode() + b"\n")

    def ask(self, text: str) -> str:
        """Send a query and return the reply."""
        self.send(text)
        reply = self.port.read_until(b"\r").decode().strip()
        if not reply:
            raise TimeoutError(f"no reply to {text}")
        return reply

    def read(self) -> float:
        """Return one current reading in A."""
        return float(self.ask(":READ?"))


def set_up(smu: Smu) -> None:
    """Source voltage, measure current on the 100 uA range, at most 1 mA, one number per reading."""
    for command in (
        "*RST",
        ":SOUR:FUNC VOLT",
        ":SOUR:VOLT:MODE FIX",
        ":SOUR:VOLT:RANG 2",
        ':SENS:FUNC "CURR"',
        ":SENS:CURR:PROT 1E-3",
        ":SENS:CURR:RANG 1E-4",
        ":SENS:CURR:NPLC 0.1",
        ":FORM:ELEM CURR",
        ":SOUR:VOLT 0",
    ):
        smu.send(command)


def sweep(smu: Smu, to_v: float, rate_v_s: float, threshold_a: float) -> list[tuple[float, float, float]]:
    """Ramp until the threshold is passed, then back to 0 at the same rate, reading all the way."""
    readings = []
    step_v = rate_v_s * STEP_S
    steps = round(abs(to_v) / step_v)
    sign = 1 if to_v > 0 else -1
    reached = 0

    def read_at(step: int) -> float:
        began = time.monotonic()
        bias_v = sign * step * step_v
        smu.send(f":SOUR:VOLT {bias_v:.4f}")
        current_a = smu.read()
        readings.append((time.monotonic(), bias_v, current_a))
        time.sleep(max(0.0, STEP_S - (time.monotonic() - began)))
        return current_a

    for step in range(steps + 1):
        reached = step
        if abs(read_at(step)) > threshold_a:
            break
    # Back to 0 before the output goes off, so that the sample sees no jump.
    for step in range(reached - 1, -1, -1):
        read_at(step)
    return readings


def main() -> None:
    """Run one sweep and write what was read."""
    parser = argparse.ArgumentParser(description="A plain threshold sweep on a Keithley 2400.")
    parser.add_argument("port")
    parser.add_argument("file", type=Path)
    parser.add_argument("--baud", type=int, default=57600)
    parser.add_argument("--to-v", type=float, default=-0.5)
    parser.add_argument("--rate-v-s", type=float, default=0.1)
    parser.add_argument("--threshold-a", type=float, default=1e-6)
    args = parser.parse_args()
    smu = Smu(args.port, args.baud)
    set_up(smu)
    smu.send(":OUTP ON")
    try:
        readings = sweep(smu, args.to_v, args.rate_v_s, args.threshold_a)
    finally:
        smu.send(":OUTP OFF")
    with args.file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(("time_s", "bias_v", "current_a"))
        writer.writerows(readings)
    print(f"{len(readings)} readings, largest current {max(abs(row[2]) for row in readings):.3g} A")


if __name__ == "__main__":
    main()
