"""The plan ``commission``: one of three resistors in place of the tip, and what the rig shows on it.

A plan like any other: armed, limits read back, guarded, recorded. It is the only one that may run on a real port
without a rig profile, because its load is a resistor, and it does not take a person's word for that: the first look is
at 20 mV behind a clamp of 1 uA, and what does not look like the resistor that was asked for ends the plan.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Generator, Iterable
from typing import Any, Final, Literal, TypeAlias

from edge.analysis.linear import slope_through_origin
from edge.analysis.si import si
from edge.controller.exchanges import CHECK_EVERY
from edge.controller.interview import summary
from edge.errors import PlanRefusedError
from edge.experiments.checks import flag, number, refuse, whole
from edge.experiments.steps import Arm, BrokenOffError, End, Energise, Interview, Outcome, Program, Progress, Ramp, Step
from edge.guard.phases import phase_spec
from edge.samples import IN_COMPLIANCE, UNTRUSTED, Phase, Sample

NAME: Final = "commission"
Load: TypeAlias = Literal["10kohm", "10Mohm", "open"]
LOADS: Final[tuple[Load, ...]] = ("10kohm", "10Mohm", "open")
"""In the order in which they are asked for."""
LOAD_OHM: Final = {"10kohm": 1e4, "10Mohm": 1e7}
LOOK_V: Final = 0.020
TOLERANCE: Final = 0.20
"""Of the load: what a resistor may differ by and still be the one that was asked for."""
SERIES_TOLERANCE: Final = 0.02
"""Of the series resistor, on top."""
OPEN_OHM: Final = 400e6
"""Less than this at "open" is not open: 1 nA at 0.4 V."""
MOST_BIAS_V: Final = 1.0
_DWELL_S: Final = 0.001
"""A level lasts at least one reading; this asks for no more than that."""
_STAIR: Final = 8
_LOOKS: Final = 5
_SLOW_LOOKS: Final = 16
"""On the coarser range, where one reading's noise is a quarter of what 10 Mohm lets through."""
SLOW_BAUD: Final = 19200
_CONSTANT_ROUNDS: Final = 64
_CONSTANT_S: Final = 1.0
_OFFSETS: Final[tuple[tuple[Phase, float, float | None, float, float], ...]] = (
    (Phase.HRS_READ, 0.1, None, 1e-6, 1.0),
    (Phase.HRS_READ, 0.1, 10e-6, 10e-6, 1.0),
    (Phase.LRS_READ, 0.1, None, 100e-6, 1.0),
    (Phase.SEEK, 0.1, None, 100e-6, 0.01),
    (Phase.RESET, 0.1, None, 1e-3, 0.01),
)
"""Phase, bias it is armed for, its other range, and then range and integration time as the phase table has them."""

_Steps: TypeAlias = Generator[Step, Outcome, dict[str, Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class CommissionPlan:
    """One load of a commissioning.

    ``load``: 10kohm, 10Mohm or open. ``series_ohm``: ``rig.series_resistor_ohm``; preflight compares them. ``bias_v``:
    largest bias, 0.1..1 V. ``cuts``: how many cuts are timed at 10 kohm, 3..2000. ``readings``: periods at constant
    bias, 32..10000; twice as many on the ramp. ``zeros``: readings per range with the contacts open, 10..1000.
    ``accept_clamp``: see the README, "What refuses to run". ``baud``: of the line, 9600 or more; on a slow one a
    reading at 1 PLC with autozero is not there in time, so the 1 uA and 10 uA ranges stay unmeasured.
    """

    load: Load
    series_ohm: float
    bias_v: float = 0.4
    cuts: int = 300
    readings: int = 300
    zeros: int = 40
    accept_clamp: bool = False
    baud: int = 57600

    name: str = dataclasses.field(default=NAME, init=False)

    def __post_init__(self) -> None:
        if self.load not in LOADS:
            raise refuse(NAME, "load", self.load, f"one of {', '.join(LOADS)}")
        number(NAME, "series_ohm", self.series_ohm, 0.0, 1e9)
        number(NAME, "bias_v", self.bias_v, 0.1, MOST_BIAS_V)
        whole(NAME, "cuts", self.cuts, 3, 2000)
        whole(NAME, "readings", self.readings, 32, 10_000)
        whole(NAME, "zeros", self.zeros, 10, 1000)
        flag(NAME, "accept_clamp", self.accept_clamp)
        whole(NAME, "baud", self.baud, 9600, 4_000_000)

    @property
    def v_max_v(self) -> float:
        """See Plan."""
        return self.bias_v

    @property
    def needs_stage(self) -> bool:
        """See Plan: there is no tip to move."""
        return False

    @property
    def targets_m(self) -> tuple[tuple[float, float], ...]:
        """See Plan."""
        return ()

    def duration_s(self) -> float:
        """See Plan."""
        slower = max(1.0, 57600 / self.baud)
        if self.load == "10kohm":
            return 10.0 + (0.08 + 0.18 * slower) * self.cuts + (0.02 + 0.04 * slower) * self.readings
        return 5.0 * slower + (0.25 * slower * self.zeros if self.load == "open" else 0.0)

    def describe(self) -> dict[str, Any]:
        """See Plan."""
        return {**dataclasses.asdict(self), "v_max_v": self.v_max_v, "duration_s": self.duration_s()}

    def program(self) -> Program:
        """See Plan."""
        look = yield from self._look()
        if self.load == "10kohm":
            results = yield from self._ten_kiloohm()
        elif self.load == "10Mohm":
            results = yield from self._ten_megaohm()
        else:
            results = yield from self._open()
        return {"load": self.load, "look": look, **results}

    # -- is it the resistor that was asked for?

    @property
    def expected_ohm(self) -> float:
        """What the load and the series resistor come to, in ohm; infinite for none."""
        return LOAD_OHM.get(self.load, math.inf) + self.series_ohm

    @property
    def _tolerated_ohm(self) -> float:
        return TOLERANCE * LOAD_OHM[self.load] + SERIES_TOLERANCE * self.series_ohm

    @property
    def _slow(self) -> bool:
        return self.baud < SLOW_BAUD

    @property
    def _small(self) -> Phase:
        """The setting for small currents: clamped to 1 uA, or on a slow line to 100 uA."""
        return Phase.LRS_READ if self._slow else Phase.HRS_READ

    def _look(self) -> _Steps:
        """Look at 20 mV, the current held to 1 uA: a tip that is still there after all does not feel it."""
        clamp_a = phase_spec(self._small, LOOK_V).range_a
        yield Progress(0.0, f"{self.load}: first look at {LOOK_V * 1e3:g} mV, {si(clamp_a, 'A')} at most")
        looks = _SLOW_LOOKS if self._slow else _LOOKS
        outcome = yield from _read(self._small, LOOK_V, (0.0,) * looks + (LOOK_V,) * looks)
        at = [s for s in outcome.samples if s.bias_v > LOOK_V / 2]
        if not at or any(s.flags & UNTRUSTED and not s.flags & IN_COMPLIANCE for s in at):
            raise self._not_this("gave no reading that can be believed", {})
        saturated = any(s.flags & IN_COMPLIANCE for s in at)
        zero_a = _mean(s for s in outcome.samples if s.bias_v < LOOK_V / 2)
        current_a = None if saturated else _mean(at) - zero_a
        look = {"bias_v": LOOK_V, "current_a": current_a, "saturated": saturated, "n": len(at)}
        # Twice too much or too little is another load, whatever the noise of five readings.
        conducts_s = math.inf if current_a is None else current_a / LOOK_V
        wants_s = 0.0 if self.load == "open" else 1 / self.expected_ohm
        if self.load != "10kohm" and not conducts_s <= max(2 * wants_s, 2 / OPEN_OHM):
            raise self._not_this(f"conducts: {_ohm(conducts_s)} at {LOOK_V * 1e3:g} mV", {"look": look})
        if self.load != "open" and not conducts_s >= wants_s / 2:
            raise self._not_this(f"hardly conducts: {_ohm(conducts_s)} at {LOOK_V * 1e3:g} mV", {"look": look})
        return look

    def _refuse_other(self, total_ohm: float, at: str) -> None:
        """End the plan where a resistance is not that of the load that was asked for."""
        if total_ohm < 0:
            raise self._not_this(
                f"has {si(total_ohm, 'ohm', 4)}: a current against its voltage. No resistor does that: something else "
                "drives a current there, or the instrument's signs are wrong",
                {"total_ohm": total_ohm},
            )
        if not abs(total_ohm - self.expected_ohm) <= self._tolerated_ohm:
            raise self._not_this(
                f"has {si(total_ohm, 'ohm', 4)} {at}, expected {si(self.expected_ohm, 'ohm', 4)}: that is {self.load} "
                f"and the series resistor of {si(self.series_ohm, 'ohm', 4)} (rig.series_resistor_ohm)",
                {"total_ohm": total_ohm},
            )

    def _not_this(self, what: str, results: dict[str, Any]) -> BrokenOffError:
        return BrokenOffError(
            f"what is connected instead of {self.load} {what}. Is something else connected: the tip, another resistor, "
            "or nothing? The output is off; nothing was written. Connect what is asked for, and begin again",
            results={"load": self.load, "refused": True, **results},
        )

    def _resistance(self, phase: Phase, share: float) -> Generator[Step, Outcome, tuple[float, int]]:
        """Return total resistance in ohm from slopes at both signs, and how many readings; looks before it leaps."""
        yield Arm(phase, self.bias_v)
        yield Energise()
        # 20 mV first: what is not the load is found where it does no harm.
        first = yield Ramp((LOOK_V,) * 3 + (0.0,) + (-LOOK_V,) * 3, _DWELL_S)
        small = slope_through_origin(_points(first))
        yield from self._end_if_other(1 / small if small else math.nan)
        stair = _stair(self.bias_v)
        up = (*stair, *(self.bias_v,) * _LOOKS, *reversed(stair), 0.0)
        outcome = yield Ramp((*up, *(-level for level in up)), _DWELL_S)
        yield End()
        points = [(v, i) for v, i in _points(outcome) if abs(v) >= share * self.bias_v]
        slope = slope_through_origin(points) if len(points) >= 2 * _LOOKS else None
        if not slope:
            raise self._not_this("gave no reading that can be believed", {})
        return 1 / slope, len(points)

    def _end_if_other(self, total_ohm: float) -> Generator[Step, Outcome, None]:
        """Go on only with the load that was asked for; no reading at all is another one."""
        try:
            if math.isnan(total_ohm):
                raise self._not_this("gave no reading that can be believed", {})
            self._refuse_other(total_ohm, f"at {LOOK_V * 1e3:g} mV")
        except BrokenOffError:
            yield End()
            raise

    # -- the three loads

    def _ten_kiloohm(self) -> _Steps:
        yield Progress(0.02, "10kohm: series resistance")
        total_ohm, n = yield from self._resistance(Phase.LRS_READ, 0.5)
        self._refuse_other(total_ohm, f"at {self.bias_v:g} V")
        yield Progress(0.05, "10kohm: the instrument's answers and its abort, output off")
        told = (yield Interview(30)).figures
        yield Progress(0.08, "10kohm: sample periods")
        periods = yield from self._periods()
        latencies = yield from self._cuts()
        return {
            "total_ohm": total_ohm,
            "total_n": n,
            "sign": 1 if total_ohm > 0 else -1,
            "instrument": told,
            **periods,
            "cut_latency_s": summary(latencies),
        }

    def _periods(self) -> _Steps:
        yield Arm(Phase.RESET, self.bias_v)
        yield Energise()
        gaps = _Gaps()
        gaps.take((yield Ramp(_stair(self.bias_v), _DWELL_S)).samples)
        constant: list[float] = []
        for _ in range(_CONSTANT_ROUNDS):
            found = gaps.take((yield Ramp((self.bias_v,), _CONSTANT_S)).samples)
            constant += found.plain
            if len(constant) >= self.readings:
                break
        ramp: list[float] = []
        check: list[float] = []
        levels = (*reversed(_stair(self.bias_v)), *_stair(-self.bias_v), *reversed(_stair(-self.bias_v)))
        levels = (*levels, *_stair(self.bias_v))
        for _ in range(math.ceil(2 * self.readings / len(levels))):
            found = gaps.take((yield Ramp(levels, _DWELL_S)).samples)
            ramp += found.plain
            check += found.with_check
        yield End()
        return {
            "constant_s": summary(constant),
            "ramp_s": summary(ramp),
            "check_s": summary(check),
        }

    def _cuts(self) -> Generator[Step, Outcome, list[float]]:
        found: list[float] = []
        for done in range(self.cuts):
            if done % 10 == 0:
                yield Progress(0.2 + 0.8 * done / self.cuts, f"10kohm: cut {done + 1} of {self.cuts}")
            yield Arm(Phase.RESET, self.bias_v)
            yield Energise()
            yield Ramp((self.bias_v / 2, self.bias_v), _DWELL_S)
            outcome = yield End()
            if outcome.latency_s is not None:
                found.append(outcome.latency_s)
        return found

    def _ten_megaohm(self) -> _Steps:
        yield Progress(0.3, "10Mohm: a small current")
        total_ohm, n = yield from self._resistance(self._small, 0.5)
        self._refuse_other(total_ohm, f"at {self.bias_v:g} V")
        return {"total_ohm": total_ohm, "total_n": n}

    def _open(self) -> _Steps:
        yield Progress(0.1, "open: does anything conduct?")
        outcome = yield from _read(self._small, self.bias_v, (*(self.bias_v,) * _LOOKS, 0.0, *(-self.bias_v,) * _LOOKS))
        conducts_s = math.inf
        if not any(s.flags & IN_COMPLIANCE for s in outcome.samples):
            # A difference, so that the converter's own offset does not count.
            halves = [_mean(s for s in outcome.samples if s.bias_v * sign > 0) for sign in (1, -1)]
            conducts_s = (halves[0] - halves[1]) / (2 * self.bias_v)
        if not abs(conducts_s) <= 1 / OPEN_OHM:
            raise self._not_this(f"conducts: {_ohm(conducts_s)} at {self.bias_v:g} V", {"conductance_s": conducts_s})
        found = []
        offsets = [one for one in _OFFSETS if not (self._slow and one[0] is Phase.HRS_READ)]
        for done, (phase, armed_v, other_a, range_a, nplc) in enumerate(offsets):
            yield Progress(0.2 + 0.8 * done / len(offsets), f"open: offset and noise on {range_a * 1e6:g} uA")
            outcome = yield from _read(phase, armed_v, (0.0,) * self.zeros, other_a)
            good = [s.current_a for s in outcome.samples if not s.flags & (UNTRUSTED | IN_COMPLIANCE)]
            if len(good) < 2:
                raise self._not_this(f"gave no reading that can be believed on the range of {range_a:g} A", {})
            found.append(
                {
                    "range_a": range_a,
                    "nplc": nplc,
                    "offset_a": statistics.fmean(good),
                    "sigma_a": statistics.stdev(good),
                    "n": len(good),
                }
            )
        return {"conductance_s": conducts_s, "current": found}


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    plain: list[float]
    with_check: list[float]


class _Gaps:
    """Times between readings of one energised stretch, apart by whether the check query was asked between them."""

    def __init__(self) -> None:
        self._taken = 0

    def take(self, samples: tuple[Sample, ...]) -> _Found:
        """Return the gaps within ``samples``, which follow those taken before without one missing."""
        found = _Found([], [])
        for before, after in itertools.pairwise(samples):
            self._taken += 1
            gap_s = (after.t_rx_ns - before.t_rx_ns) * 1e-9
            (found.with_check if self._taken % CHECK_EVERY == 0 else found.plain).append(gap_s)
        # The last reading of a step has its gap to the next step, which nobody counts.
        self._taken += 1
        return found


def _read(phase: Phase, v_max_v: float, levels_v: tuple[float, ...], range_a: float | None = None) -> _ReadSteps:
    yield Arm(phase, v_max_v, range_a)
    yield Energise()
    outcome = yield Ramp(levels_v, _DWELL_S)
    if outcome.verdict is not None:
        # A planned cut: nothing here looks for a surge.
        raise PlanRefusedError(f"{NAME}: cut for {outcome.verdict}: no resistor does that", reason="not_a_resistor")
    yield End()
    return outcome


_ReadSteps: TypeAlias = Generator[Step, Outcome, Outcome]


def _stair(bias_v: float) -> tuple[float, ...]:
    return tuple(bias_v * step / _STAIR for step in range(1, _STAIR + 1))


def _points(outcome: Outcome) -> list[tuple[float, float]]:
    return [(s.bias_v, s.current_a) for s in outcome.samples if not s.flags & (UNTRUSTED | IN_COMPLIANCE)]


def _mean(samples: Iterable[Sample]) -> float:
    good = [s.current_a for s in samples if not s.flags & UNTRUSTED]
    return statistics.fmean(good) if good else math.nan


def _ohm(conductance_s: float) -> str:
    if math.isnan(conductance_s):
        return "no resistance that can be told"
    if math.isinf(conductance_s):
        return f"less than {LOOK_V / 1e-6 / 1e3:g} kohm"
    return si(1 / conductance_s, "ohm") if abs(conductance_s) > 1e-12 else "more than 1 Tohm"
