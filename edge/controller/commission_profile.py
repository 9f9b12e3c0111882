"""From what the three loads showed to a rig profile: put together, judged, written.

The figures come from :mod:`edge.controller.commission`, one map a load; nothing here talks to an instrument.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edge.analysis.si import si
from edge.config import Config
from edge.controller.commission import LOAD_OHM, LOADS
from edge.errors import ConfigError, InstrumentError
from edge.instruments.keithley2400_times import MEASURED_NPLC, SOURCE_DELAY_S
from edge.profile import MAX_SWALLOW_S, VERSION, RigProfile
from firmware_proto.keithley2400 import commands

SERIES_SAID: Final = 0.05
"""A series resistance that differs by more than this from the configured one is said."""
LOAD_SPREAD: Final = 0.01
"""What a good 10 kohm resistor may be off; it counts against the series resistance."""
SMALL_SAID: Final = 0.05
"""A small current that differs by more than this from what 10 Mohm lets through is said."""
READING_CHARS: Final = 41
"""Three numbers of 13 characters with commas, without what ends the line."""
TRIGGER_LATENCY_S: Final = 0.0001
CONVERSION_S: Final = 0.0002
"""Parts of a reading that no question can tell apart; what is left of the period is ``reply_s``."""


def assemble(config: Config, found: Mapping[str, Mapping[str, Any]], *, utc: str, version: str) -> RigProfile:
    """Return the profile of a rig from the results of all three loads, by their names.

    Raises InstrumentError where a load is missing, or another instrument answered than the configuration names.
    """
    if missing := [load for load in LOADS if load not in found]:
        raise InstrumentError(f"nothing was measured on {', '.join(missing)}; all three loads are needed")
    ten, nothing = found["10kohm"], found["open"]
    told = ten["instrument"]
    serial_number = str(told.get("serial_number", ""))
    if serial_number != config.smu.serial_number:
        raise InstrumentError(
            f"serial number {serial_number!r} was measured, smu.serial_number is {config.smu.serial_number!r}"
        )
    return RigProfile.model_validate(
        {
            "v": VERSION,
            "serial_number": serial_number,
            "firmware": " ".join(str(told["firmware"]).split())[:64],
            "terminator": told["terminator"],
            "line_freq_hz": float(config.smu.line_frequency_hz),
            "baud": config.ports.smu.baud,
            "sign": 1 if config.wiring.hi == "tip" else -1,
            "series_ohm": max(0.0, ten["total_ohm"] - LOAD_OHM["10kohm"]),
            "abort_s": told["abort_s"]["p50"],
            "abort_swallow_s": min(told["abort_pause_s"], MAX_SWALLOW_S),
            "sample_period_s": {"constant": ten["constant_s"], "ramp": ten["ramp_s"]},
            "check_period_s": ten["check_s"],
            "cut_latency_s": ten["cut_latency_s"],
            "current": nothing["current"],
            "timing_s": _timing(config, ten),
            "measured_utc": utc,
            "tipguard": version,
        }
    )


def _timing(config: Config, ten: Mapping[str, Any]) -> dict[str, float]:
    """Return the instrument's own times, by the emulator's names for them."""
    told = ten["instrument"]
    byte_s = 10 / config.ports.smu.baud
    wire_s = (len(commands.READ) + READING_CHARS + len(str(told["terminator"])) // 2) * byte_s
    known_s = SOURCE_DELAY_S + MEASURED_NPLC / config.smu.line_frequency_hz + TRIGGER_LATENCY_S + CONVERSION_S
    query_s = float(told["query_s"]["p50"])
    return {
        "query_s": query_s,
        "set_s": float(told["set_s"]["p50"]),
        "level_s": float(told["level_s"]["p50"]),
        "output_s": float(told["output_s"]["p50"]),
        "trigger_latency_s": TRIGGER_LATENCY_S,
        "conversion_s": CONVERSION_S,
        "reply_s": max(0.0, float(ten["constant_s"]["p50"]) - wire_s - query_s - known_s),
    }


def deviations(config: Config, found: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Say in words what was measured and is not as the rig's file has it."""
    said = []
    declared = config.rig.series_resistor_ohm
    series = found["10kohm"]["total_ohm"] - LOAD_OHM["10kohm"]
    unsure = LOAD_SPREAD * LOAD_OHM["10kohm"]
    if abs(series - declared) > SERIES_SAID * declared + unsure:
        said.append(
            f"series resistance: {si(series, 'ohm', 4)} measured (+-{unsure:.0f} ohm for a 1 % resistor), "
            f"{si(declared, 'ohm', 4)} in the file. Measure both resistors by hand; rig.series_resistor_ohm decides "
            "what is refused and what trips"
        )
    small, wanted = found["10Mohm"]["total_ohm"], LOAD_OHM["10Mohm"] + declared
    if abs(small - wanted) > SMALL_SAID * wanted:
        said.append(
            f"small currents: {si(small, 'ohm', 4)} measured where {si(wanted, 'ohm', 4)} are expected: a resistor "
            "that is not 1 %, or a leak beside it"
        )
    pause_s = found["10kohm"]["instrument"]["abort_pause_s"]
    if pause_s > 0:
        said.append(f"abort: what is sent within {pause_s * 1e3:g} ms behind it is lost; cuts repeat themselves")
    return tuple(said)


def write(path: Path, profile: RigProfile, *, force: bool) -> Path | None:
    """Write a profile, whole or not at all; return where the one before is kept, None without one.

    Raises ConfigError where there is one and not ``force``, or where it cannot be written.
    """
    partial = path.with_name(f"{path.name}.new")
    try:
        if path.exists() and not force:
            raise ConfigError(f"{path}: exists; --force keeps it beside the new one", file=str(path))
        with partial.open("w", encoding="utf-8") as file:
            file.write(profile.to_json())
            file.flush()
            os.fsync(file.fileno())
        kept = _keep(path, profile.measured_utc) if path.exists() else None
        partial.replace(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}; choose another place with rig.profile_file", file=str(path)
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return kept


def _keep(path: Path, utc: str) -> Path:
    """Give the file that is there a second name, with the date at which it was replaced."""
    stem = f"{path.stem}-until-{utc.replace(':', '').replace('-', '')}"
    for number in range(1, 1000):
        kept = path.with_name(f"{stem}{'' if number == 1 else f'-{number}'}{path.suffix}")
        try:
            # A link, not a move: there is a profile at every moment.
            os.link(path, kept)
        except FileExistsError:
            continue
        return kept
    raise ConfigError(f"{path}: a thousand old profiles are kept beside it; move them away", file=str(path))
