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

    def document(self) -> dict[str, Any]:
        """Return it for ``summary.json``."""
        return {
            "label": LABEL,
            "onset_ns": self.onset_ns,
            "trigger_bias_v": self.v_tip,
            "source_level_v": self.v_source,
            "set_current_a": self.set_current_a,
            "site_ohm": self.r_on_ohm,
            "safe_after_onset_s": (self.safe_ns - self.onset_ns) * 1e-9,
            "peak_current_a": self.peak_current_a,
            "charge_c": self.charge_c,
            "energy_j": self.energy_j,
        }


def read_sets(path: Path) -> list[SetTruth]:
    """Return the sets of a truth record, each with the moment the tip was safe again.

    Raises BenchFaultError when the record cannot be read or does not say how a set ended.
    """
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise BenchFaultError(f"{path}: not a truth record: {error}") from error
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
