"""Memristor cycling: set by a negative ramp, cut at the surge; read what formed; reset by a positive ramp; read again.

One cycle is four pieces, each armed on its own range: SEEK to ``set_v`` and, if nothing happened, ``set_dwell_s``
there; LRS_READ; RESET to ``reset_v``; HRS_READ. The on/off ratio is the slope of the low-resistance read times 0.1 V
over the high-resistance current at 0.1 V. That current is usually below what the instrument can see: then the ratio is
a lower bound, and says so (``on_off_is_bound``).
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Generator
from typing import Any, Final

from edge.analysis.reset import reset_bias_v
from edge.errors import PlanRefusedError
from edge.experiments.checks import MAX_LEVELS, flag, number, ramp, refuse, whole
from edge.experiments.reads import (
    EVENT_FIELDS,
    HRS_BIAS_V,
    LRS_AT_START_S,
    HrsRead,
    Zero,
    back_scan,
    data_sheet_zero,
    hrs_read,
    lifted_zero,
)
from edge.experiments.steps import (
    About,
    Approach,
    Arm,
    BrokenOffError,
    End,
    Energise,
    Lift,
    MoveTo,
    Outcome,
    Program,
    Progress,
    Publish,
    Ramp,
    Step,
    StepFailedError,
)
from edge.guard.phases import noise_sigma_a, offset_a, phase_spec
from edge.samples import UNTRUSTED, Phase

SETTINGS: Final = {"hrs_read": Phase.HRS_READ, "reset": Phase.RESET}
RESET_RATIO: Final = 1e3
"""A reset is one when the current has fallen by at least this much."""
LEVEL_S: Final = 0.024
CYCLE_S: Final = 8.0
"""Longest time of a cycle beside its ramps and dwell: four armings, two reads."""
EVIDENCE_SIGMAS: Final = 12.0


@dataclasses.dataclass(frozen=True, slots=True)
class MemristorPlan:
    """Parameters of a run.

    ``set_v`` (-20 V to below 0), ``set_rate_v_s``, ``set_dwell_s`` (0..3600 s at ``set_v``); ``reset_v`` (above 0 to
    20 V), ``reset_rate_v_s``; rates 1e-4..100 V/s. ``cycles``: 1..10000, each spends a re-arm
    (``limits.rearms_per_run``). ``x_m``, ``y_m``: go there first; both or neither, and neither cycles where the tip
    stands. ``zero``: lift the tip once and read the zero, so that the detection limit is measured; without it the data
    sheet's is used and the run needs no stage. ``hrs_setting``: "hrs_read" (1 uA, 1 PLC), or "reset" (1 mA, 0.01 PLC),
    which cannot see a high resistance and shows it. ``max_failures``: so many cycles in a row without a set, or
    without a reset, end the run.
    """

    cycles: int = 20
    set_v: float = -0.2
    set_rate_v_s: float = 1.0
    set_dwell_s: float = 1.0
    reset_v: float = 1.0
    reset_rate_v_s: float = 2.0
    level_s: float = LEVEL_S
    x_m: float | None = None
    y_m: float | None = None
    zero: bool = True
    hrs_setting: str = "hrs_read"
    max_failures: int = 3
    accept_clamp: bool = False
    accept_unprotected_host: bool = False

    name: str = dataclasses.field(default="memristor", init=False)

    def __post_init__(self) -> None:
        name = self.name
        whole(name, "cycles", self.cycles, 1, 10_000)
        number(name, "set_v", self.set_v, -20.0, -1e-4)
        number(name, "reset_v", self.reset_v, 1e-4, 20.0)
        number(name, "set_dwell_s", self.set_dwell_s, 0.0, 3600.0)
        level_s = number(name, "level_s", self.level_s, 1e-3, 10.0)
        whole(name, "max_failures", self.max_failures, 1, 10_000)
        for key in ("zero", "accept_clamp", "accept_unprotected_host"):
            flag(name, key, getattr(self, key))
        if self.hrs_setting not in tuple(SETTINGS):
            raise refuse(name, "hrs_setting", self.hrs_setting, " or ".join(SETTINGS))
        for key, end_v in (("set", self.set_v), ("reset", self.reset_v)):
            rate_v_s = number(name, f"{key}_rate_v_s", getattr(self, f"{key}_rate_v_s"), 1e-4, 100.0)
            if abs(end_v) / (rate_v_s * level_s) > MAX_LEVELS:
                raise PlanRefusedError(
                    f"{name}: {key}_rate_v_s: {abs(end_v) / (rate_v_s * level_s):.0f} levels: expected at most "
                    f"{MAX_LEVELS}; take a larger level_s",
                    reason="bad_plan",
                )
        if (self.x_m is None) is not (self.y_m is None):
            raise refuse(name, "x_m, y_m", (self.x_m, self.y_m), "both or neither")
        for key in ("x_m", "y_m"):
            if getattr(self, key) is not None:
                number(name, key, getattr(self, key), -1.0, 1.0)

    @property
    def v_max_v(self) -> float:
        """See Plan."""
        return max(abs(self.set_v), self.reset_v)

    @property
    def needs_stage(self) -> bool:
        """See Plan."""
        return self.zero or self.x_m is not None

    @property
    def targets_m(self) -> tuple[tuple[float, float], ...]:
        """See Plan."""
        return () if self.x_m is None or self.y_m is None else ((self.x_m, self.y_m),)

    def duration_s(self) -> float:
        """See Plan."""
        ramps_s = abs(self.set_v) / self.set_rate_v_s + self.reset_v / self.reset_rate_v_s
        return 20.0 + self.cycles * (CYCLE_S + ramps_s * max(1.0, 0.0235 / self.level_s) * 1.1 + self.set_dwell_s)

    def describe(self) -> dict[str, Any]:
        """See Plan."""
        return {**dataclasses.asdict(self), "v_max_v": self.v_max_v, "duration_s": self.duration_s()}

    def program(self) -> Program:
        """See Plan."""
        phase = SETTINGS[self.hrs_setting]
        if self.needs_stage:
            yield Progress(0.0, "lifting the tip")
            yield Lift()
        zero = yield from self._zero(phase)
        if self.needs_stage:
            yield from self._land()
        tally = Tally(zero)
        yield from self._from_the_start(zero, tally)
        failures = 0
        for cycle in range(self.cycles):
            yield About({"cycle": cycle})
            try:
                document = yield from self._cycle(cycle, zero)
            except StepFailedError as error:
                raise BrokenOffError(
                    f"cycle {cycle + 1} of {self.cycles}: {error}. {tally.said()}", results=tally.results()
                ) from error
            yield Publish("cycle", document)
            tally.add(document)
            failures = 0 if document["set"] and document["reset_ok"] else failures + 1
            if failures >= self.max_failures and cycle + 1 < self.cycles:
                what = "was not set" if not document["set"] else "was not reset"
                raise BrokenOffError(
                    f"the site {what}, the last of {failures} failed cycles in a row. {tally.said()}. "
                    "Is the tip open, or the filament too thick for reset_v behind this resistor?",
                    results=tally.results(),
                )
        if self.needs_stage:
            try:
                yield Lift()
            except StepFailedError as error:
                raise BrokenOffError(
                    f"the tip cannot be lifted at the end: {error}. {tally.said()}", results=tally.results()
                ) from error
        return tally.results()

    def _zero(self, phase: Phase) -> Generator[Step, Outcome, Zero]:
        zero = data_sheet_zero(phase)
        if self.zero:
            yield Progress(0.0, "reading the lifted tip: zero and detection limit")
            zero = yield from lifted_zero(phase)
        yield Publish("zero", zero.document())
        return zero

    def _land(self) -> Generator[Step, Outcome, None]:
        if self.x_m is not None and self.y_m is not None:
            yield Progress(0.0, "moving")
            yield MoveTo(self.x_m, self.y_m)
        yield Progress(0.0, "approaching")
        yield Approach()

    def _from_the_start(self, zero: Zero, tally: Tally) -> Generator[Step, Outcome, None]:
        """A site that conducts already is a case of its own: reset it first, or leave it."""
        yield Progress(0.0, "reading the site before the first cycle")
        before = yield from hrs_read(zero)
        # On the reset range the offset alone is more than a filament of 1 Mohm.
        if not before.saturated and abs(before.current_a or 0.0) < max(HRS_BIAS_V * LRS_AT_START_S, zero.lod_a):
            tally.start = "hrs"
            return
        tally.start = "lrs"
        lrs = yield from back_scan()
        yield Progress(0.0, "it conducts already; resetting it")
        at_v = yield from self._reset()
        after = yield from hrs_read(zero)
        ok = _reset_ok(lrs["conductance_s"], after)
        yield Publish("lrs_at_start", {"lrs": lrs, "reset_bias_v": at_v, "hrs": after.document(), "reset_ok": ok})
        if not ok:
            raise BrokenOffError(
                f"the site conducts from the start ({_ohm(lrs)}) and {self.reset_v:g} V do not reset it; take another "
                "site",
                results=tally.results(),
            )

    def _cycle(self, cycle: int, zero: Zero) -> Generator[Step, Outcome, dict[str, Any]]:
        done = cycle / self.cycles
        head = f"cycle {cycle + 1} of {self.cycles}"
        document: dict[str, Any] = {"cycle": cycle, "of": self.cycles, **dict.fromkeys(EVENT_FIELDS)}
        yield Progress(done, f"{head}: set, 0 -> {self.set_v:g} V")
        outcome = yield from self._set()
        document |= {"set": outcome.verdict is not None, "verdict": outcome.verdict, "lrs": None}
        if outcome.verdict is not None:
            event = outcome.event or {}
            document |= {name: event.get(name) for name in EVENT_FIELDS}
            yield Progress(done, f"{head}: {outcome.verdict}, cut; reading what formed")
            document["lrs"] = yield from back_scan()
        yield Progress(done, f"{head}: reset, 0 -> {self.reset_v:g} V")
        document["reset_bias_v"] = yield from self._reset()
        yield Progress(done, f"{head}: reading the high resistance")
        hrs = yield from hrs_read(zero)
        lrs_s = (document["lrs"] or {}).get("conductance_s")
        ratio, bound = on_off(lrs_s, hrs)
        return document | {
            "hrs": hrs.document(),
            "on_off": ratio,
            "on_off_is_bound": bound,
            "reset_ok": _reset_ok(lrs_s, hrs),
        }

    def _set(self) -> Generator[Step, Outcome, Outcome]:
        yield Arm(Phase.SEEK, abs(self.set_v))
        yield Energise()
        outcome = yield Ramp(ramp(self.set_v, self.set_rate_v_s * self.level_s), self.level_s)
        if outcome.verdict is None and self.set_dwell_s > 0:
            outcome = yield Ramp((self.set_v,), self.set_dwell_s)
        if outcome.verdict is None:
            yield End()
        return outcome

    def _reset(self) -> Generator[Step, Outcome, float | None]:
        yield Arm(Phase.RESET, self.reset_v)
        yield Energise()
        outcome = yield Ramp(ramp(self.reset_v, self.reset_rate_v_s * self.level_s), self.level_s)
        yield End()
        spec = phase_spec(Phase.RESET, self.reset_v)
        evidence_a = EVIDENCE_SIGMAS * noise_sigma_a(spec.range_a, spec.nplc) + offset_a(spec.range_a, spec.nplc)
        return reset_bias_v([(s.bias_v, s.current_a) for s in outcome.samples if not s.flags & UNTRUSTED], evidence_a)


def on_off(lrs_s: float | None, hrs: HrsRead) -> tuple[float | None, bool]:
    """Return the on/off ratio and whether it is only a lower bound; None where neither can be said."""
    if lrs_s is None or hrs.current_a is None or hrs.saturated:
        return None, False
    size_a = abs(hrs.current_a)
    lod_a = hrs.zero.lod_a
    return abs(lrs_s) * HRS_BIAS_V / max(size_a, lod_a), size_a <= lod_a


def _reset_ok(lrs_s: float | None, hrs: HrsRead) -> bool:
    if hrs.current_a is None or hrs.saturated or hrs.verdict is not None:
        return False
    size_a = abs(hrs.current_a)
    return size_a <= hrs.zero.lod_a or (lrs_s is not None and size_a <= abs(lrs_s) * HRS_BIAS_V / RESET_RATIO)


def _ohm(lrs: dict[str, Any]) -> str:
    ohm = lrs["resistance_ohm"]
    return f"{ohm:.3g} ohm" if ohm else "no resistance could be read"


class Tally:
    """What the stop document says of all cycles."""

    def __init__(self, zero: Zero) -> None:
        self._zero = zero
        self.start: str | None = None
        self.cycles = 0
        self._set = 0
        self._reset_ok = 0
        self._ratios: list[float] = []
        self._bounds = 0
        self._sets_v: list[float] = []
        self._resets_v: list[float] = []
        self._lrs_ohm: list[float] = []

    def add(self, document: dict[str, Any]) -> None:
        """Count a finished cycle."""
        self.cycles += 1
        self._set += bool(document["set"])
        self._reset_ok += bool(document["reset_ok"])
        if document["on_off"] is not None:
            self._ratios.append(document["on_off"])
            self._bounds += bool(document["on_off_is_bound"])
        lrs = document["lrs"] or {}
        for value, kept in (
            (document["trigger_bias_v"], self._sets_v),
            (document["reset_bias_v"], self._resets_v),
            (lrs.get("resistance_ohm"), self._lrs_ohm),
        ):
            if value is not None:
                kept.append(value)

    def said(self) -> str:
        """Return in a few words what is kept."""
        return f"{self.cycles} {'cycle is' if self.cycles == 1 else 'cycles are'} finished and kept"

    def results(self) -> dict[str, Any]:
        """Return counts and medians; ``on_off_median`` is a lower bound if at least half of its ratios are."""
        return {
            "start": self.start,
            "cycles_done": self.cycles,
            "set": self._set,
            "reset_ok": self._reset_ok,
            "on_off_median": statistics.median(self._ratios) if self._ratios else None,
            "n_resolved": len(self._ratios) - self._bounds,
            "n_bound": self._bounds,
            "lod_a": self._zero.lod_a,
            "lod_source": self._zero.source,
            "set_median_v": _median(self._sets_v),
            "reset_median_v": _median(self._resets_v),
            "lrs_median_ohm": _median(self._lrs_ohm),
        }


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None
