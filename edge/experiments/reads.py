"""Reads that several plans need: of a low resistance, of a high one, and of nothing at all.

Each is a piece of a plan, used with ``yield from``: it arms its own phase, energises, reads, and ends with the output
verified off. What it returns are plain maps, ready for a run document.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Generator
from typing import Any, Final

from edge.analysis.linear import slope_through_origin
from edge.experiments.steps import Arm, End, Energise, Outcome, Program, Ramp, Step
from edge.guard.phases import noise_sigma_a, offset_a, phase_spec
from edge.samples import IN_COMPLIANCE, UNTRUSTED, Flag, Phase, Sample

BACK_SCAN_V: Final = 0.020
BACK_SCAN_POINTS: Final = 9
BACK_SCAN_DWELL_S: Final = 0.05
HRS_BIAS_V: Final = 0.1
"""Positive: nothing is plated by looking."""
LRS_AT_START_S: Final = 1e-6
"""A conductance at or above this before a sweep is a filament's: 1/(1 Mohm), against 1/(50 Gohm) of a contact."""
HRS_READINGS: Final = 5
ZERO_READINGS: Final = 30
LOD_SIGMAS: Final = 3.0
EVENT_FIELDS: Final = (
    "trigger_bias_v",
    "trigger_half_v",
    "set_current_a",
    "charge_c",
    "onset_ns",
    "reading_ns",
    "decided_ns",
    "verified_ns",
)
"""What a document of a point or cycle takes over from the setting event."""
_READ_DWELL_S: Final = 0.001
"""A level lasts at least one reading; this asks for no more than that."""


def back_scan() -> Program:
    """Scan 0 -> +20 mV -> -20 mV -> 0 on the read range; return ``{conductance_s, resistance_ohm, n, verdict}``.

    9 levels; the conductance is the least-squares slope through the origin of the trusted readings, None if fewer
    than three are trusted. ``verdict`` is set when the read itself was cut.
    """
    yield Arm(Phase.LRS_READ, BACK_SCAN_V)
    yield Energise()
    quarter = (BACK_SCAN_POINTS - 1) // 4
    up = [BACK_SCAN_V * i / quarter for i in range(quarter + 1)]
    levels = tuple(itertools.chain(up, reversed(up[:-1]), (-v for v in up[1:]), (-v for v in reversed(up[:-1]))))
    outcome: Outcome = yield Ramp(levels, BACK_SCAN_DWELL_S)
    if outcome.verdict is None:
        yield End()
    good = [(s.bias_v, s.current_a) for s in outcome.samples if not s.flags & UNTRUSTED]
    conductance_s = slope_through_origin(good) if len(good) >= 3 else None
    return {
        "conductance_s": conductance_s,
        "resistance_ohm": 1 / conductance_s if conductance_s else None,
        "n": len(good),
        "verdict": outcome.verdict,
    }


@dataclasses.dataclass(frozen=True, slots=True)
class Zero:
    """What the instrument reads where there is nothing, and what that leaves to be seen.

    ``zero_a``: mean of the readings with the tip lifted, subtracted from every high-resistance read. ``lod_a``: three
    standard deviations of them plus the data sheet's offset at this range and NPLC. ``source``: "lifted tip", or "data
    sheet" where nothing was measured: then ``zero_a`` is 0.
    """

    phase: Phase
    n: int
    zero_a: float
    sd_a: float
    offset_a: float
    source: str

    @property
    def lod_a(self) -> float:
        """Detection limit, in A."""
        return LOD_SIGMAS * self.sd_a + self.offset_a

    def document(self) -> dict[str, Any]:
        """Return it for the run document ``zero``."""
        return {
            "setting": self.phase.name,
            "n": self.n,
            "zero_a": self.zero_a,
            "sd_a": self.sd_a,
            "offset_a": self.offset_a,
            "lod_a": self.lod_a,
            "source": self.source,
        }


def data_sheet_zero(phase: Phase) -> Zero:
    """Return what the data sheet promises for a phase, where no lifted tip can tell."""
    spec = phase_spec(phase, HRS_BIAS_V)
    sd_a, offset = noise_sigma_a(spec.range_a, spec.nplc), offset_a(spec.range_a, spec.nplc)
    return Zero(phase, 0, 0.0, sd_a, offset, "data sheet")


@dataclasses.dataclass(frozen=True, slots=True)
class HrsRead:
    """One high-resistance read. ``current_a``: mean of the trusted readings less the zero; None without any.

    ``saturated``: at least one reading was at the end of its range, so that the current is a lower bound.
    ``verdict``: set when the read itself was cut.
    """

    bias_v: float
    current_a: float | None
    n: int
    saturated: bool
    zero: Zero
    verdict: str | None

    def document(self) -> dict[str, Any]:
        """Return it for a run document."""
        return {
            "bias_v": self.bias_v,
            "current_a": self.current_a,
            "n": self.n,
            "saturated": self.saturated,
            "zero_a": self.zero.zero_a,
            "lod_a": self.zero.lod_a,
            "verdict": self.verdict,
        }

    @property
    def seen(self) -> bool:
        """A current above the detection limit, or one that left the range."""
        return self.saturated or (self.current_a is not None and abs(self.current_a) > self.zero.lod_a)


def lifted_zero(phase: Phase) -> Generator[Step, Outcome, Zero]:
    """Read 30 times with the tip lifted, which the plan has seen to, on the range of ``phase``."""
    outcome = yield from _readings(phase, HRS_BIAS_V, ZERO_READINGS)
    good = [s.current_a for s in outcome.samples if _good(s)]
    nominal = data_sheet_zero(phase)
    if len(good) < 2:
        return nominal
    # Quantisation can make all readings equal; the noise is then no smaller than the data sheet's.
    sd_a = statistics.stdev(good) or nominal.sd_a
    return Zero(phase, len(good), statistics.fmean(good), sd_a, nominal.offset_a, "lifted tip")


def hrs_read(zero: Zero, bias_v: float = HRS_BIAS_V, n: int = HRS_READINGS) -> Generator[Step, Outcome, HrsRead]:
    """Read ``n`` times at ``bias_v`` (V) on the range the zero was taken on."""
    outcome = yield from _readings(zero.phase, bias_v, n)
    good = [s.current_a for s in outcome.samples if _good(s)]
    saturated = any(s.flags & (Flag.OVERFLOW | IN_COMPLIANCE) for s in outcome.samples)
    current_a = statistics.fmean(good) - zero.zero_a if good else None
    return HrsRead(bias_v, current_a, len(good), saturated, zero, outcome.verdict)


def _readings(phase: Phase, bias_v: float, n: int) -> Generator[Step, Outcome, Outcome]:
    yield Arm(phase, abs(bias_v))
    yield Energise()
    outcome: Outcome = yield Ramp((bias_v,) * n, _READ_DWELL_S)
    if outcome.verdict is None:
        yield End()
    return outcome


def _good(sample: Sample) -> bool:
    return not sample.flags & (UNTRUSTED | IN_COMPLIANCE)
