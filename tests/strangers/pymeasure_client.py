"""A user of PyMeasure: knows the instrument's class and nothing of this project.

Arguments: the port, the terminator (CR or LF), names of chapters (all by default). Prints one JSON object, a key per
chapter; ``errors`` of a chapter is what the instrument's error queue held after it.
"""

from __future__ import annotations

import inspect
import json
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

from pymeasure.instruments.keithley import Keithley2400

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

Told: TypeAlias = Any
"""What JSON can tell; PyMeasure itself has no types."""

# Every property that can be set, with values a user may give it, in an order in which each is allowed.
SETTINGS: dict[str, list[Any]] = {
    "source_mode": ["current", "voltage"],
    "source_voltage_range": [0.2, 20],
    "source_voltage_range_auto_enabled": [False, True],
    "source_current_range": [1e-3, 1e-5],
    "source_current_range_auto_enabled": [False, True],
    "source_voltage": [-1.25, 2.5],
    "source_current": [1e-5, -2e-6],
    "source_delay": [0.002, 0],
    "source_delay_auto": [False, True],
    "source_delay_auto_enabled": [True, False],
    "compliance_current": [1e-2, 1e-3],
    "compliance_voltage": [2.1, 20],
    "current_range": [1e-5, 1e-3],
    "current_range_auto_enabled": [False, True],
    "voltage_range_auto_enabled": [False],
    "resistance_mode_auto_enabled": [False, True],
    "resistance_range": [2e4, 2e6],
    "resistance_range_auto_enabled": [False, True],
    "current_nplc": [0.1, 1],
    "voltage_nplc": [0.1, 10],
    "resistance_nplc": [0.01, 0.1],
    "auto_zero": [True, False],
    "auto_zero_enabled": [True, False],
    "output_off_state": ["HIMP", "ZERO", "GUAR", "NORM"],
    "auto_output_off": [True, False],
    "auto_output_off_enabled": [True, False],
    "filter_enabled": [True, False],
    "filter_state": ["ON", "OFF"],
    "filter_type": ["MOV", "REP"],
    "repeat_filter_enabled": [False, True],
    "filter_count": [5, 10],
    "buffer_points": [20, 100],
    "trigger_count": [3, 1],
    "arm_count": [2, 1],
    "trigger_delay": [0.01, 0],
    "arm_timer": [0.5, 0.1],
    "trigger_source": ["trigger_link", "immediate"],
    "arm_source": ["trigger_link", "timer", "manual", "bus", "immediate"],
    "trigger_output_event": ["source", "delay", "sense", "none"],
    "arm_output_event": ["trigger_enter", "trigger_exit", "none"],
    "trigger_input_line": [3, 1],
    "arm_input_line": [3, 1],
    "trigger_output_line": [4, 2],
    "arm_output_line": [4, 2],
    "display_enabled": [False, True],
    "wires": [4, 2],
    "line_frequency": [60, 50],
    "line_frequency_auto": [True, False],
    "line_frequency_auto_enabled": [False, True],
    "front_terminals_enabled": [False, True],
    "source_enabled": [True, False],
}
"""``voltage_range`` needs a current source; it has a chapter of its own."""


def plain(value: object) -> Told:
    """Return a value that JSON knows."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()  # an array or a number of numpy
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value


class User:
    """Somebody at a desk with a 2400."""

    def __init__(self, smu: Keithley2400) -> None:
        self.smu = smu

    def properties(self) -> Told:
        names = [name for name in dir(Keithley2400) if isinstance(inspect.getattr_static(Keithley2400, name), property)]
        settable = [name for name in SETTINGS if name in names]
        kept = {}
        for name in settable:
            answers = []
            for value in SETTINGS[name]:
                setattr(self.smu, name, value)
                answers.append([value, getattr(self.smu, name)])
            kept[name] = answers
        return {"all": names, "kept": kept}

    def defaults(self) -> Told:
        self.smu.reset()
        return {name: getattr(self.smu, name) for name in (*SETTINGS, "voltage_range")}

    def identity(self) -> Told:
        smu = self.smu
        return {"id": smu.id, "options": smu.options, "complete": smu.complete, "status": smu.status}

    def source_voltage(self) -> Told:
        smu = self.smu
        smu.reset()
        smu.use_front_terminals()
        smu.apply_voltage(voltage_range=20, compliance_current=1e-3)
        smu.measure_current(nplc=0.1, current=1e-3, auto_range=False)
        smu.source_voltage = 2.0
        smu.enable_source()
        limit = smu.compliance_current
        return {"current": smu.current, "voltage": smu.voltage, "limit": [limit, smu.compliance_current]}

    def source_current(self) -> Told:
        smu = self.smu
        smu.reset()
        smu.apply_current(current_range=1e-4, compliance_voltage=10)
        smu.voltage_range = 20
        smu.voltage_range = 2
        smu.measure_voltage(nplc=0.1, voltage=10, auto_range=False)
        voltage_range = smu.voltage_range
        smu.source_current = 1e-5
        smu.enable_source()
        limit = smu.compliance_voltage
        return {
            "voltage": smu.voltage,
            "current": smu.current,
            "range": voltage_range,
            "limit": [limit, smu.compliance_voltage],
        }

    def resistance(self) -> Told:
        smu = self.smu
        smu.reset()
        smu.measure_resistance(nplc=0.1)
        smu.resistance_mode_auto_enabled = True
        automatic = smu.resistance
        smu.reset()
        smu.source_voltage = 1.0
        smu.current_nplc = 0.1
        smu.enable_source()
        return {"automatic": automatic, "all": smu.measure_all()}

    def compliance(self) -> Told:
        smu = self.smu
        smu.reset()
        smu.apply_voltage(compliance_current=1e-6)
        smu.source_voltage = 5.0
        smu.current_nplc = 0.1
        smu.enable_source()
        return smu.values(":READ?")

    def ramps(self) -> Told:
        smu = self.smu
        smu.reset()
        smu.apply_voltage(voltage_range=20, compliance_current=1e-2)
        smu.enable_source()
        smu.ramp_to_voltage(3.0, steps=4, pause=0)
        top = smu.source_voltage
        smu.ramp_to_voltage(0.0, steps=4, pause=0)
        smu.apply_current(current_range=1e-3, compliance_voltage=20)
        off = smu.source_enabled
        smu.enable_source()
        smu.ramp_to_current(1e-4, steps=4, pause=0)
        return {"volts": top, "off_after_change": off, "amps": smu.source_current}

    def buffer(self) -> Told:
        smu = self.smu
        smu.reset()
        smu.clear()
        smu.resistance_mode_auto_enabled = False
        smu.write(":SENS:FUNC:ALL")
        smu.current_nplc = 0.01
        smu.auto_zero_enabled = False
        smu.source_voltage = 1.0
        smu.enable_source()
        smu.values(":READ?")  # lets autorange find its range
        smu.config_buffer(points=8, delay=0)
        smu.start_buffer()
        smu.wait_for_buffer(timeout=10, interval=0.02)
        data = smu.buffer_data
        names = ("means", "maximums", "minimums", "standard_devs")
        whats = ("voltage", "current", "resistance")
        singles = [f"{kind}_{what}" for kind in ("mean", "max", "min", "std") for what in whats]
        full = smu.is_buffer_full()
        smu.reset_buffer()
        smu.start_buffer()
        again = len(smu.buffer_data)
        smu.stop_buffer()
        smu.disable_buffer()
        return {
            "data": data,
            "statistics": {name: getattr(smu, name) for name in names},
            "singles": {name: getattr(smu, name) for name in singles},
            "full": full,
            "again": again,
        }

    def triggers(self) -> Told:
        smu = self.smu
        smu.reset()
        smu.current_nplc = 0.01
        smu.enable_source()
        smu.trigger_on_bus()
        smu.start_buffer()
        smu.trigger()
        after_bus = len(smu.values(":FETC?"))
        smu.sample_continuously()
        smu.set_trigger_counts(2, 3)
        counts = [smu.arm_count, smu.trigger_count]
        many = len(smu.values(":READ?"))
        smu.set_timed_arm(0.05)
        stamps = smu.values(":READ?")[3::15]
        smu.trigger_on_external(2)
        smu.start_buffer()  # waits for a line that never comes
        smu.reset_trigger()
        smu.clear_trigger()
        smu.output_trigger_on_external(3, after="SENS")
        event = smu.trigger_output_event
        smu.disable_output_trigger()
        smu.trigger_immediately()
        return {"bus": after_bus, "counts": counts, "many": many, "stamps": stamps, "event": event}

    def noises(self) -> Told:
        smu = self.smu
        smu.beep(440, 0.05)
        smu.triad(440, 0.01)
        smu.auto_range_source()
        smu.auto_zero_once()
        smu.use_rear_terminals()
        rear = smu.front_terminals_enabled
        smu.use_front_terminals()
        smu.write(":SOUR:VOLT 9999")
        return {"rear": rear, "error": smu.next_error, "none": smu.error}

    def shutdown(self) -> Told:
        smu = self.smu
        smu.reset()
        smu.source_voltage = 0.5
        smu.enable_source()
        on = smu.source_enabled
        smu.shutdown()
        return {"on": on}


def main() -> None:
    port, terminator, *wanted = sys.argv[1:]
    end = {"CR": "\r", "LF": "\n"}[terminator]
    smu = Keithley2400(
        f"ASRL{port}::INSTR",
        visa_library="@py",
        baud_rate=57600,
        read_termination=end,
        write_termination=end,
        timeout=5000,
    )
    smu.check_errors()
    user = User(smu)
    told: dict[str, Any] = {}
    chapters: list[Callable[[], Any]] = [
        user.identity,
        user.defaults,
        user.properties,
        user.source_voltage,
        user.source_current,
        user.resistance,
        user.compliance,
        user.ramps,
        user.buffer,
        user.triggers,
        user.noises,
        user.shutdown,
    ]
    for chapter in chapters:
        if wanted and chapter.__name__ not in wanted:
            continue
        answer = plain(chapter())
        errors = [] if chapter == user.shutdown else [int(error[0]) for error in smu.check_errors()]
        told[chapter.__name__] = {"answer": answer, "errors": errors}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
