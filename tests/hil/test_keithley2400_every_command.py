"""Every command of the emulated 2400 with any parameter: nothing raises, and the source keeps its boundaries."""

from __future__ import annotations

import os
import random
import re
from typing import Final

import pytest

from hil.devices.keithley2400 import (
    Timing,
    commands_calc,
    commands_sense,
    commands_setup,
    commands_source,
    commands_sweep,
    commands_system,
    commands_trace,
    commands_trigger,
)
from hil.devices.keithley2400.desk import Desk

LONG = os.environ.get("TIPGUARD_LONG") == "1"
MODULES: Final = (
    commands_system,
    commands_setup,
    commands_source,
    commands_sweep,
    commands_sense,
    commands_trigger,
    commands_trace,
    commands_calc,
)
# What would only take long: slow apertures, long delays and pulses, many readings.
SLOW: Final = ("NPLC", "DEL", "COUN", "TIM", "AVER")
PATTERNS: Final = [
    (pattern, entry)
    for module in MODULES
    for pattern, entry in module.entries()
    if pattern.endswith("?") or not any(word in pattern for word in SLOW)
]
FREQUENT: Final = (
    ":READ?",
    ":INIT",
    ":OUTP ON",
    ":TRAC:DATA?",
    ":CALC3:DATA?",
    ":FETC?",
    ":CALC1:DATA?",
    ":MEAS:RES?",
    ":TRIG:COUN 3",
    ":SOUR:VOLT:MODE SWE",
    ":SOUR:CURR:MODE LIST",
    ":TRAC:FEED:CONT NEXT",
    ":SENS:FUNC:ALL",
    # What together leaves the operating boundaries.
    ":SOUR:VOLT 100",
    ":SOUR:VOLT:RANG 200",
    ":SOUR:LIST:VOLT 1,-200,50",
    ":SENS:CURR:PROT 1",
    ":SOUR:FUNC CURR",
    ":SOUR:FUNC VOLT",
    ":SOUR:CURR 1",
    ":SENS:VOLT:PROT 200",
)
NUMBERS: Final = ("0", "1", "-1", "2", "2500", "1e-3", "-0.5", "1e-300", "9.9E20", "210", "-420", "1.05", "#HF")
WORDS: Final = (
    "ON",
    "OFF",
    "MIN",
    "MAX",
    "DEF",
    "UP",
    "DOWN",
    "INF",
    "AUTO",
    "NEXT",
    "SWE",
    "LIST",
    "FIX",
    "LOG",
    "BUS",
)
STRINGS: Final = ("'VOLT'", '"CURR"', "'RES'", "'POWER'", "'VARALPHA'")


def spell(pattern: str, draw: random.Random) -> str:
    """Write a pattern's header as a client might: optional nodes there or not."""
    header = re.sub(r"\[:(\w+)(\[\d\])?\]", lambda node: draw.choice(("", ":" + node[1])), pattern)
    return re.sub(r"\[\d\]", "", header)


def message(draw: random.Random) -> str:
    if draw.random() < 0.25:
        return draw.choice(FREQUENT)
    pattern, entry = draw.choice(PATTERNS)
    count = entry.least if draw.random() < 0.8 else draw.randint(0, min(entry.most + 1, 3))
    values = (draw.choice(draw.choice((NUMBERS, WORDS, STRINGS))) for _ in range(count))
    return f"{spell(pattern, draw)} {','.join(values)}".rstrip()


@pytest.mark.parametrize("seed", range(200 if LONG else 30))
def test_nothing_raises_and_the_source_keeps_its_boundaries(seed: int) -> None:
    draw = random.Random(seed)
    desk = Desk(draw.choice((1e2, 1e5, 1e7, 1e12)), noise=True, seed=seed, timing=Timing.zero())
    desk.tell(":SENS:CURR:NPLC 0.01", ":SYST:AZER OFF", ":SOUR:DEL 0")
    for _ in range(120):
        desk.write(message(draw))
        for _ in range(500):
            if (due := desk.unit.next_event_ns()) is None:
                break
            desk.t_ns = due
            desk.unit.advance(due)
        if desk.unit.busy:
            desk.write(b"\x03")
        source = desk.load.sources[-1]
        assert abs(source.v_set) <= 210 * (1 + 1e-9)
        assert 0 <= source.i_limit_a <= 1.05 * (1 + 1e-9)
        assert source.v_set == 0 or source.i_limit_a * min(abs(source.v_set), 210) <= 22.06
    assert not desk.unit.busy
    assert desk.ask("*OPC?") == "1"
