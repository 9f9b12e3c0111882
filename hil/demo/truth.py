"""What the emulator knows about the sample. No real rig has it, and it is labelled so wherever it is shown."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hil.errors import BenchFaultError

LABEL: Final = "truth (emulator only)"


@dataclass(frozen=True, slots=True)
class SetTruth:
    """One set, by the twin's own record. Times CLOCK_MONOTONIC in ns.

    ``onset_ns``, ``v_tip`` (V), ``v_source`` (V): when the filament formed, at which voltage across the sample and
    level of the source just before. ``r_on_ohm``: the filament. ``safe_ns``: the tip below 1 mV, or its path open.
    ``peak_current_a``, ``charge_c``, ``energy_j``: from onset to ``safe_ns``.
    """

    onset_ns: int
    v_tip: float
    v_source: float
    r_on_ohm: float
    set_current_a: float
    safe_ns: int
    peak_current_a: float
    charge_c: float
    energy_j: float


@dataclass(frozen=True, slots=True)
class RunTruth:
    """A whole run, by the twin's own record: ``sets``, largest current through the tip (A), and how often, on a grid
    of 0.2 ms, it was above 1 mA. ``landings``: where the tip came down, as recorded."""

    sets: int
    peak_current_a: float
    samples_over_limit: int
    landings: tuple[dict[str, Any], ...]

    def document(self) -> dict[str, Any]:
        """Return it for ``summary.json``."""
        return {
            "label": LABEL,
            "sets": self.sets,
            "peak_current_a": self.peak_current_a,
            "samples_over_limit": self.samples_over_limit,
        }


def read_run(path: Path) -> RunTruth:
    """Return what a truth record says of its whole run; BenchFaultError when it cannot be read, or has no end."""
    entries = _entries(path)
    summaries = [entry for entry in entries if entry["event"] == "summary"]
    if not summaries:
        raise BenchFaultError(f"{path}: the record has no summary; the emulated instrument did not end in order")
    return RunTruth(
        sets=sum(entry["event"] == "set_onset" for entry in entries),
        peak_current_a=float(summaries[-1]["peak_current_a"]),
        samples_over_limit=int(summaries[-1]["samples_over_limit"]),
        landings=tuple(entry for entry in entries if entry["event"] == "landing"),
    )


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise BenchFaultError(f"{path}: not a truth record: {error}") from error


def read_sets(path: Path) -> list[SetTruth]:
    """Return the sets of a truth record, each with the moment the tip was safe again.

    Raises BenchFaultError when the record cannot be read or does not say how a set ended.
    """
    entries = _entries(path)
    sets = []
    for number, onset in enumerate(entries):
        if onset["event"] != "set_onset":
            continue
        safe = next((entry for entry in entries[number:] if entry["event"] == "safe"), None)
        if safe is None:
            raise BenchFaultError(f"{path}: the filament of {onset['t_ns']} ns was never safe again")
        sets.append(
            SetTruth(
                onset_ns=onset["t_ns"],
                v_tip=onset["v_tip"],
                v_source=onset["v_source"],
                r_on_ohm=onset["r_on_ohm"],
                set_current_a=onset["i_a"],
                safe_ns=safe["t_ns"],
                peak_current_a=safe["peak_current_a"],
                charge_c=safe["charge_c"] - onset["charge_c"],
                energy_j=safe["energy_j"] - onset["energy_j"],
            )
        )
    return sets
