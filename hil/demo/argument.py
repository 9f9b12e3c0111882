"""The argument: one site and seed under a plain script and under tipguard, and the charge each put into the tip."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge.analysis.dose_plots import DosePicture, DoseTrace
from hil.demo import plain_script
from hil.demo.findings import IvFindings
from hil.demo.plan import ARGUMENT_RATE_V_S, ARGUMENT_TO_V, THRESHOLD_A, Part
from hil.demo.truth import SetTruth, read_sets
from hil.errors import BenchFaultError
from hil.processes import Children, Interruption
from hil.processes.spec import PYTHON, smu_command

SCRIPT_S: Final = 60.0
READY_S: Final = 15.0
SMU: Final = "emulated 2400 of the plain script"
SCRIPT: Final = "plain script"


@dataclass(frozen=True, slots=True)
class ScriptRun:
    """What the script read, by its own file, and what the twin recorded. Times CLOCK_MONOTONIC, s."""

    time_s: Any
    bias_v: Any
    current_a: Any
    truth: SetTruth


class PlainScript:
    """The script on an emulated 2400 of its own."""

    def __init__(self, folder: Path, part: Part, environment: dict[str, str], interruption: Interruption) -> None:
        """Prepare; starts nothing."""
        self._folder = folder / "script"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._children = Children(self._folder, environment, interruption)
        self._link = self._folder / "smu"
        self._truth = self._folder / "truth.jsonl"
        self._readings = self._folder / "readings.csv"
        self._spec = part.spec

    def start(self) -> None:
        """Start the instrument, then the script."""
        self._children.start(SMU, smu_command(self._spec, self._link, self._truth))
        smu = self._children[SMU]
        self._children.wait(f"the {SMU}", lambda: smu.code is not None or "\n" in smu.output(), READY_S)
        smu.check()
        self._children.start(
            SCRIPT,
            [
                *PYTHON,
                str(Path(plain_script.__file__)),
                str(self._link),
                str(self._readings),
                "--to-v",
                str(ARGUMENT_TO_V),
                "--rate-v-s",
                str(ARGUMENT_RATE_V_S),
                "--threshold-a",
                str(THRESHOLD_A),
            ],
        )

    @property
    def ended(self) -> bool:
        """Whether the script has ended; raises BenchFaultError if it failed."""
        code = self._children[SCRIPT].code
        if code not in (None, 0):
            raise BenchFaultError(f"the plain script failed:\n{self._children[SCRIPT].tail()}")
        self._children[SMU].check()
        return code == 0

    def stop(self) -> None:
        """End both, the instrument last, so that its record is complete."""
        for name in (SCRIPT, SMU):
            child = self._children.get(name)
            if child is not None:
                child.stop(5.0)

    def result(self) -> ScriptRun:
        """Return what the script read and what the twin knows; after :meth:`stop`."""
        with self._readings.open(encoding="utf-8", newline="") as file:
            rows = [(float(r["time_s"]), float(r["bias_v"]), float(r["current_a"])) for r in csv.DictReader(file)]
        sets = read_sets(self._truth)
        if not sets:
            raise BenchFaultError("the site did not give way under the plain script; take another seed")
        columns = np.array(rows).reshape(-1, 3)
        return ScriptRun(columns[:, 0], columns[:, 1], columns[:, 2], sets[0])


def picture(script: ScriptRun, findings: IvFindings, truth: SetTruth, caption: str) -> DosePicture:
    """Return the picture's content; times count from the filament of each."""
    found = findings.set
    t_ns = np.concatenate([findings.search["t_ns"], findings.cut["t_ns"]])
    zero_ns = truth.onset_ns
    guarded = DoseTrace(
        name="tipguard",
        time_s=(t_ns - zero_ns) * 1e-9,
        bias_v=np.concatenate([findings.search["bias_v"], findings.cut["bias_v"]]),
        current_a=np.concatenate([findings.search["current_a"], findings.cut["current_a"]]),
        charge_c=truth.charge_c,
        safe_s=(truth.safe_ns - zero_ns) * 1e-9,
        peak_current_a=truth.peak_current_a,
        cut_s=None if found is None else (found.written_ns - zero_ns) * 1e-9,
        how="0 V at the reading that shows it, output off, verified",
    )
    began_s = script.truth.onset_ns * 1e-9
    over = np.flatnonzero(np.abs(script.current_a) > THRESHOLD_A)
    usual = DoseTrace(
        name="plain script",
        time_s=script.time_s - began_s,
        bias_v=script.bias_v,
        current_a=script.current_a,
        charge_c=script.truth.charge_c,
        safe_s=(script.truth.safe_ns - script.truth.onset_ns) * 1e-9,
        peak_current_a=script.truth.peak_current_a,
        cut_s=None if not len(over) else float(script.time_s[over[0]] - began_s),
        how="READ?, threshold 1 uA, ramp back to 0 V",
    )
    return DosePicture(usual=usual, guarded=guarded, noise_floor_a=findings.noise_floor_a, caption=caption)
