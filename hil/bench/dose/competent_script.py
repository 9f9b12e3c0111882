"""A competent script: pyserial, ``:READ?``, compare, ``:OUTP OFF``; by somebody who knows the 2400's manual.

Nothing of tipguard is used::

    python hil/bench/dose/competent_script.py PORT

then one JSON object a line on stdin, ``{"levels_v": [...], "threshold_a": 1e-6}`` (null: compare nothing), and one on
stdout per sweep. What is done with care, and why:

* set-up as the manual advises for speed: fixed ranges, autozero, filter, display and beeper off, one measured function,
  a source delay of 0.5 ms for the cable's charge to pass; the error queue is read before the output goes on;
* the lines of a ramp point are made before the sweep, and written in one system call but as two lines, so that the
  instrument sets the level while ``:READ?`` is still on the wire;
* replies are taken as the driver has them, not byte by byte, and a late reply is an error, never a number;
* the comparison is written so that whatever is not a number, or an overflow, ends the sweep too;
* at the threshold ``:OUTP OFF`` goes out at once: the shortest line that takes the bias away (10 bytes; 13 for
  ``:SOUR:VOLT 0``). Nothing is printed or asked before it; afterwards the output is verified off;
* the garbage collector does not run during a sweep.
"""

from __future__ import annotations

import gc
import json
import sys
from typing import Any

import serial

OUTPUT_OFF = b":OUTP OFF\n"
SET_UP = (
    "*CLS",
    "*RST",
    ":OUTP OFF",
    ":SYST:BEEP:STAT OFF",
    ":FORM:ELEM VOLT,CURR,STAT",
    ":SYST:RSEN OFF",
    ":SOUR:FUNC VOLT",
    ":SOUR:VOLT:MODE FIX",
    ":SOUR:VOLT:RANG 2",
    ":SOUR:VOLT 0",
    ":SOUR:DEL 0.0005",
    ":SENS:FUNC:CONC OFF",
    ":SENS:FUNC 'CURR'",
    ":SENS:CURR:PROT 0.0001",
    ":SENS:CURR:RANG 0.0001",
    ":SENS:CURR:NPLC 0.01",
    ":SENS:AVER OFF",
    ":SYST:AZER OFF",
    ":DISP:ENAB OFF",
)


class Smu:
    """A 2400 on a serial port, terminator CR."""

    def __init__(self, port: str) -> None:
        self.port = serial.Serial(port, 57600, timeout=2)

    def ask(self, lines: bytes) -> bytes:
        """Write, and return the reply that comes; raise TimeoutError for none within 2 s."""
        self.port.write(lines)
        reply = bytearray()
        while not reply.endswith(b"\r"):
            piece = self.port.read(self.port.in_waiting or 1)
            if not piece:
                raise TimeoutError(f"no reply to {lines!r}, only {bytes(reply)!r}")
            reply += piece
        return bytes(reply)

    def set_up(self) -> None:
        """Set everything, output off; raise RuntimeError for a command the instrument refused."""
        self.port.reset_input_buffer()
        self.port.write("".join(f"{command}\n" for command in SET_UP).encode())
        error = self.ask(b":SYST:ERR?\n")
        if not error.startswith(b"0,"):
            raise RuntimeError(f"set-up refused: {error!r}")

    def output_on(self) -> None:
        """Switch the output on, and see that it is."""
        if self.ask(b":OUTP ON\n:OUTP?\n").strip() != b"1":
            raise RuntimeError("the output is not on")

    def output_off(self) -> None:
        """See that the output is off."""
        if self.ask(b":SOUR:VOLT 0\n:OUTP?\n").strip() != b"0":
            raise RuntimeError("the output is still on")


def sweep(smu: Smu, levels_v: list[float], threshold_a: float | None) -> list[bytes]:
    """Step through the levels until a current is not below the threshold; return the replies."""
    points = [f":SOUR:VOLT {level:.4f}\n:READ?\n".encode() for level in levels_v]
    highest_a = float("inf") if threshold_a is None else threshold_a
    replies: list[bytes] = []
    smu.output_on()
    gc.disable()
    try:
        for point in points:
            reply = smu.ask(point)
            replies.append(reply)
            # Not ">": a NaN compares false.
            if not abs(float(reply.split(b",")[1])) <= highest_a:
                break
    finally:
        smu.port.write(OUTPUT_OFF)
        gc.enable()
    smu.output_off()
    return replies


def main() -> None:
    """Sweep as often as asked."""
    smu = Smu(sys.argv[1])
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        job: dict[str, Any] = json.loads(line)
        smu.set_up()
        replies = sweep(smu, job["levels_v"], job["threshold_a"])
        readings = [[float(part) for part in reply.split(b",")[:2]] for reply in replies]
        print(json.dumps({"readings": readings}), flush=True)


if __name__ == "__main__":
    main()
