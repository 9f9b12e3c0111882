"""The usual script: PyMeasure's Keithley2400 through pyvisa-py, a sweep with a threshold, and ``shutdown()``.

Written from PyMeasure's documentation and with nothing else in mind. Nothing of tipguard is used::

    python hil/bench/dose/usual_script.py PORT

then one JSON object a line on stdin, ``{"levels_v": [...], "threshold_a": 1e-6}``, and one on stdout per sweep. It
stays between sweeps, so that the import of PyMeasure is paid once.

What its author does not know (PyMeasure 0.16): ``smu.current`` sends ``:MEASURE:CURRENT?``, which on a 2400 puts NPLC,
range, autozero and the current limit back to their defaults before every reading; and ``shutdown()`` ramps to 0 V in 30
steps of at least 20 ms before it switches the output off.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pymeasure.instruments.keithley import Keithley2400


def connect(port: str) -> Keithley2400:
    """Open the instrument behind a serial port, terminator CR."""
    return Keithley2400(
        f"ASRL{port}::INSTR",
        visa_library="@py",
        baud_rate=57600,
        read_termination="\r",
        write_termination="\r",
        timeout=5000,
    )


def set_up(smu: Keithley2400) -> None:
    """Source voltage, measure current: 100 uA range, 100 uA limit, NPLC 0.01, autozero off."""
    smu.reset()
    smu.source_mode = "voltage"
    smu.source_voltage_range = 2
    smu.source_voltage = 0
    smu.compliance_current = 1e-4
    smu.current_range = 1e-4
    smu.current_nplc = 0.01
    smu.auto_zero_enabled = False
    smu.write(":FORM:ELEM VOLT,CURR,STAT")
    smu.check_errors()


def sweep(smu: Keithley2400, levels_v: list[float], threshold_a: float) -> list[tuple[float, float]]:
    """Step through the levels until a current is above the threshold; return (V, A) pairs."""
    readings = []
    smu.enable_source()
    try:
        for level in levels_v:
            smu.source_voltage = level
            current = smu.current
            readings.append((level, current))
            if abs(current) > threshold_a:
                break
    finally:
        smu.shutdown()
    return readings


def main() -> None:
    """Sweep as often as asked."""
    smu = connect(sys.argv[1])
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        job: dict[str, Any] = json.loads(line)
        set_up(smu)
        readings = sweep(smu, job["levels_v"], job["threshold_a"])
        print(json.dumps({"readings": readings}), flush=True)


if __name__ == "__main__":
    main()
