"""Trigger map: at which bias each of many points gives way, and whether what did not give way was touched at all.

For every point, in a random order that a seed repeats and that mixes the kinds of sites: lift, move, approach, settle,
look whether the site is still in its high-resistance state, sweep to the surge or to the end of the sweep, read what
is there then. A point is in one of four classes:

``triggered``     the surge was found and cut, or the read after an unseen one found a filament (``reason`` says so).
``censored``      nothing happened up to ``beyond_v``, and contact was confirmed before and after.
``lrs_at_start``  it conducted before the sweep; it was read and left alone.
``invalid``       the stage failed, contact was not confirmed, or no current was seen where nothing triggered.

"No current was seen": an open tip touches and triggers nothing. A deflection signal cannot tell, so a point that did
not trigger is read once more at up to +1 V, where the ionic current of a contact is well above the detection limit of
the 1 uA range; ``electrical_check = false`` leaves that out and trusts the deflection.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import random
import statistics
from collections.abc import Generator
from typing import Any, Final

from edge.analysis.linear import slope_over_time
from edge.errors import PlanRefusedError
from edge.experiments.checks import MAX_LEVELS, flag, number, ramp, refuse, whole
from edge.experiments.reads import (
    EVENT_FIELDS,
    HRS_BIAS_V,
    LRS_AT_START_S,
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
    Touch,
)
from edge.samples import Phase

KINDS: Final = ("gb", "gi", "hl", "")
"""Grain boundary, grain interior, homogenising layer, not known."""
MAX_POINTS: Final = 4096
LEVEL_S: Final = 0.024
"""A level and its reading at 57600 baud take 23 ms, looks at the limits included."""
CHECK_MAX_V: Final = 1.0
POINT_S: Final = 12.0
"""Longest time of a point beside its sweep, for the plan's duration: moves, approach, three reads."""


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One point of the map; x and y in m in the stage's coordinates."""

    index: int
    x_m: float
    y_m: float
    kind: str
    label: str


@dataclasses.dataclass(frozen=True, slots=True)
class Sweep:
    """How a kind of site is swept: from 0 to ``to_v`` (V) at ``rate_v_s`` (V/s); no way back."""

    to_v: float
    rate_v_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class TriggerMapPlan:
    """Parameters of a map.

    ``points``: up to 4096 rows ``[x_m, y_m]``, ``[x_m, y_m, kind]`` or ``[x_m, y_m, kind, label]``; kind is gb, gi, hl
    or "". ``to_v`` (-20..20 V, not 0; plating is negative) and ``rate_v_s`` (1e-4..100 V/s) are for every kind that
    ``sweeps``, a map of kind to ``[to_v, rate_v_s]``, does not name. ``level_s``: time at each level, 0.001..10 s; the
    bias step is ``rate_v_s`` times this, and where a reading takes longer the ramp is slower than asked (the points
    say how fast it was). ``seed``: of the order; ``order``: "interleaved", or "listed". ``zero``: read the lifted tip
    once, before the first approach. ``max_invalid``: so many invalid points in a row end the run.
    """

    points: list[list[Any]]
    to_v: float = -0.5
    rate_v_s: float = 0.1
    sweeps: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    level_s: float = LEVEL_S
    order: str = "interleaved"
    seed: int = 0
    zero: bool = True
    electrical_check: bool = True
    max_invalid: int = 5
    accept_clamp: bool = False
    accept_unprotected_host: bool = False

    name: str = dataclasses.field(default="trigger-map", init=False)
    _points: tuple[Point, ...] = dataclasses.field(default=(), init=False, repr=False)
    _sweeps: dict[str, Sweep] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        level_s = number(self.name, "level_s", self.level_s, 1e-3, 10.0)
        whole(self.name, "seed", self.seed, 0, 2**32 - 1)
        whole(self.name, "max_invalid", self.max_invalid, 1, MAX_POINTS)
        for key in ("zero", "electrical_check", "accept_clamp", "accept_unprotected_host"):
            flag(self.name, key, getattr(self, key))
        if self.order not in ("interleaved", "listed"):
            raise refuse(self.name, "order", self.order, "interleaved or listed")
        object.__setattr__(self, "_points", _points(self.points))
        if not isinstance(self.sweeps, dict):
            raise refuse(self.name, "sweeps", self.sweeps, "a map of kind to [to_v, rate_v_s]")
        unknown = sorted(str(kind) for kind in self.sweeps if kind not in KINDS)
        if unknown:
            raise refuse(self.name, "sweeps", unknown[0], "gb, gi or hl")
        sweeps = {}
        used = {point.kind for point in self._points}
        # Those that no point uses, too: a mistake in one must not wait for the next map.
        for kind in sorted(used | set(self.sweeps)):
            given: object = self.sweeps.get(kind, [self.to_v, self.rate_v_s])
            if not isinstance(given, list | tuple) or len(given) != 2:
                raise refuse(self.name, f"sweeps.{kind}", given, "[to_v, rate_v_s]")
            where = f"sweeps.{kind}." if kind in self.sweeps else ""
            sweeps[kind] = _sweep(self.name, where, given[0], given[1], level_s)
        object.__setattr__(self, "_sweeps", {kind: sweep for kind, sweep in sweeps.items() if kind in used})

    @property
    def v_max_v(self) -> float:
        """See Plan."""
        return max(abs(sweep.to_v) for sweep in self._sweeps.values())

    @property
    def needs_stage(self) -> bool:
        """See Plan."""
        return True

    @property
    def targets_m(self) -> tuple[tuple[float, float], ...]:
        """See Plan."""
        return tuple((point.x_m, point.y_m) for point in self._points)

    def sweep_of(self, point: Point) -> Sweep:
        """Return how a point is swept."""
        return self._sweeps[point.kind]

    def duration_s(self) -> float:
        """See Plan; a level takes at least 23 ms at 57600 baud, looks at the limits included."""
        total_s = 10.0
        for point in self._points:
            sweep = self.sweep_of(point)
            levels = math.ceil(abs(sweep.to_v) / (sweep.rate_v_s * self.level_s)) + 1
            total_s += POINT_S + levels * max(self.level_s, 0.0235) * 1.05
        return total_s

    def describe(self) -> dict[str, Any]:
        """See Plan."""
        asked = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.init and field.name != "points"
        }
        return {
            **asked,
            "name": self.name,
            "n_points": len(self._points),
            "kinds": dict(collections.Counter(point.kind for point in self._points)),
            "v_max_v": self.v_max_v,
            "duration_s": self.duration_s(),
        }

    def visits(self) -> list[Point]:
        """Return the points in the order in which they are visited.

        Interleaved: each kind is shuffled, then they are dealt so that every stretch of the run has its share of each:
        what drifts with time then does not look like a difference between kinds.
        """
        if self.order == "listed":
            return list(self._points)
        rng = random.Random(self.seed)
        dealt = []
        for kind in sorted({point.kind for point in self._points}):
            mine = [point for point in self._points if point.kind == kind]
            rng.shuffle(mine)
            dealt += [((place + rng.random()) / len(mine), point.index, point) for place, point in enumerate(mine)]
        return [point for _, _, point in sorted(dealt, key=lambda entry: entry[:2])]

    def program(self) -> Program:
        """See Plan."""
        tally = Tally()
        yield Progress(0.0, f"lifting the tip; {len(self._points)} points to come")
        yield Lift()
        zero = yield from self._zero()
        bad = 0
        for visit, point in enumerate(self.visits()):
            done = visit / len(self._points)
            head = f"point {visit + 1} of {len(self._points)} ({_what(point)})"
            if visit:
                try:
                    yield Lift()
                except StepFailedError as error:
                    raise BrokenOffError(
                        f"{head}: the tip cannot be lifted: {error}. {tally.said()}", results=tally.results(zero)
                    ) from error
            document = yield from self._visit(point, visit, zero, done, head)
            yield Publish("point", document)
            tally.add(document)
            bad = bad + 1 if document["class"] == "invalid" else 0
            if bad >= self.max_invalid:
                raise BrokenOffError(
                    f"{bad} invalid points in a row, the last because: {document['reason']}. {tally.said()}",
                    results=tally.results(zero),
                )
        yield Progress(1.0, "lifting the tip")
        try:
            yield Lift()
        except StepFailedError as error:
            raise BrokenOffError(
                f"the tip cannot be lifted at the end: {error}. {tally.said()}", results=tally.results(zero)
            ) from error
        return tally.results(zero)

    def _zero(self) -> Generator[Step, Outcome, Zero]:
        zero = data_sheet_zero(Phase.HRS_READ)
        if self.zero:
            yield Progress(0.0, "reading the lifted tip: the zero of the 1 uA range")
            zero = yield from lifted_zero(Phase.HRS_READ)
        yield Publish("zero", zero.document())
        return zero

    def _visit(
        self, point: Point, visit: int, zero: Zero, done: float, head: str
    ) -> Generator[Step, Outcome, dict[str, Any]]:
        sweep = self.sweep_of(point)
        document: dict[str, Any] = {
            "index": point.index,
            "visit": visit,
            "of": len(self._points),
            "label": point.label,
            "site_kind": point.kind,
            "x_m": point.x_m,
            "y_m": point.y_m,
            "to_v": sweep.to_v,
            "rate_v_s": sweep.rate_v_s,
            **dict.fromkeys(_POINT_FIELDS),
        }
        yield About({"point": point.index, "label": point.label, "site_kind": point.kind})
        try:
            yield Progress(done, f"{head}: moving")
            yield MoveTo(point.x_m, point.y_m)
            yield Progress(done, f"{head}: approaching")
            landed = yield Approach()
            document |= {"landed_ns": landed.t_ns, "position_m": landed.position_m}
            yield About(
                {
                    "point": point.index,
                    "label": point.label,
                    "site_kind": point.kind,
                    "position_m": landed.position_m,
                    "landed_ns": landed.t_ns,
                }
            )
            yield Progress(done, f"{head}: reading the site before the sweep")
            before = yield from hrs_read(zero)
            document["hrs"] = before.document()
            if before.verdict is not None:
                return _invalid(document, f"the read before the sweep was cut: {before.verdict}")
            if before.saturated or abs(before.current_a or 0.0) / before.bias_v >= LRS_AT_START_S:
                yield Progress(done, f"{head}: conducts already; reading it")
                lrs = yield from back_scan()
                return document | {"class": "lrs_at_start", "after": {"kind": "lrs", **lrs}}
            yield Progress(done, f"{head}: 0 -> {sweep.to_v:g} V at {sweep.rate_v_s:g} V/s")
            yield Arm(Phase.SEEK, abs(sweep.to_v))
            yield Energise()
            outcome = yield Ramp(ramp(sweep.to_v, sweep.rate_v_s * self.level_s), self.level_s)
            return (yield from self._judge(document, outcome, zero, done, head))
        except StepFailedError as error:
            return _invalid(document, str(error))

    def _judge(
        self,
        document: dict[str, Any],
        outcome: Outcome,
        zero: Zero,
        done: float,
        head: str,
    ) -> Generator[Step, Outcome, dict[str, Any]]:
        samples = outcome.samples
        document |= {
            "began_ns": samples[0].t_ns if samples else None,
            "beyond_v": max((abs(s.bias_v) for s in samples), default=0.0),
            "measured_rate_v_s": slope_over_time([(s.t_ns, abs(s.bias_v)) for s in samples]),
        }
        if outcome.verdict is not None:
            event = outcome.event or {}
            document |= {name: event.get(name) for name in EVENT_FIELDS} | {"verdict": outcome.verdict}
            document["class"] = "triggered"
            yield Progress(done, f"{head}: {outcome.verdict}; reading what formed")
            try:
                lrs = yield from back_scan()
            except StepFailedError as error:
                # The trigger was measured, whatever became of the stage behind it.
                return document | {"reason": f"what formed could not be read: {error}"}
            return document | {"after": {"kind": "lrs", **lrs}}
        yield End()
        yield Progress(done, f"{head}: no trigger; is there contact?")
        touch = yield Touch()
        if not touch.touching:
            return _invalid(document, "contact was lost during the sweep")
        # 0.1 V tells a filament that was not seen; to see a contact takes all that this map has declared, up to 1 V.
        check_v = max(HRS_BIAS_V, min(CHECK_MAX_V, self.v_max_v)) if self.electrical_check else HRS_BIAS_V
        after = yield from hrs_read(zero, check_v)
        document["after"] = {"kind": "hrs", **after.document()}
        if after.saturated or abs(after.current_a or 0.0) / after.bias_v >= LRS_AT_START_S:
            return document | {"class": "triggered", "reason": "the filament was found after the sweep, not in it"}
        if self.electrical_check and not after.seen:
            return _invalid(
                document,
                f"no trigger, and at {after.bias_v:g} V no current above {zero.lod_a:.2g} A: is the tip open? Or it is "
                "a site that conducts less; electrical_check = false counts it",
            )
        return document | {"class": "censored"}


_POINT_FIELDS: Final = (
    "position_m",
    "landed_ns",
    "class",
    "reason",
    "verdict",
    *EVENT_FIELDS,
    "began_ns",
    "beyond_v",
    "measured_rate_v_s",
    "hrs",
    "after",
)


class Tally:
    """Counts the points of a run by kind and class; what its stop document says."""

    def __init__(self) -> None:
        self._classes: dict[str, collections.Counter[str]] = {}
        self._drives_v: dict[str, list[float]] = {}
        self._beyond_v: dict[str, list[float]] = {}
        self._reasons: dict[str, collections.Counter[str]] = {}
        self.points = 0

    def add(self, document: dict[str, Any]) -> None:
        """Count a finished point."""
        kind = document["site_kind"]
        self.points += 1
        self._classes.setdefault(kind, collections.Counter())[document["class"]] += 1
        if document["class"] == "triggered" and document["trigger_bias_v"] is not None:
            self._drives_v.setdefault(kind, []).append(document["trigger_bias_v"])
        if document["class"] == "censored":
            self._beyond_v.setdefault(kind, []).append(math.copysign(document["beyond_v"], document["to_v"]))
        if document["class"] == "invalid":
            self._reasons.setdefault(kind, collections.Counter())[document["reason"]] += 1

    def said(self) -> str:
        """Return in a few words what is kept."""
        return f"{self.points} {'point is' if self.points == 1 else 'points are'} finished and kept"

    def results(self, zero: Zero) -> dict[str, Any]:
        """Return counts and medians, in V with the sign of the bias.

        ``median_triggered_v`` is that of the points that triggered. ``median_v`` counts the censored ones as triggering
        later; where half or more are, it is None and ``median_beyond_v`` is where the median lies beyond. ``beyond_v``:
        the least that a censored point held. ``invalid_reason``: the most frequent one, ``invalid_reason_n`` times.
        """
        kinds = {
            kind: {
                "n": counts.total(),
                **{name: counts[name] for name in ("triggered", "censored", "lrs_at_start", "invalid")},
                **self._medians(kind),
                **self._reason(kind),
            }
            for kind, counts in sorted(self._classes.items())
        }
        return {"points_done": self.points, "kinds": kinds, "lod_a": zero.lod_a, "lod_source": zero.source}

    def _medians(self, kind: str) -> dict[str, float | None]:
        drives, beyond = self._drives_v.get(kind, []), self._beyond_v.get(kind, [])
        both = sorted([*((v, False) for v in drives), *((v, True) for v in beyond)], key=lambda one: abs(one[0]))
        low = statistics.median([v for v, _ in both]) if both else None
        # If those that held had been swept on for ever, would the median be the same?
        last = sorted((math.inf if held else abs(v)) for v, held in both)
        known = low is not None and statistics.median(last) <= abs(low) * (1 + 1e-9)
        return {
            "median_triggered_v": statistics.median(drives) if drives else None,
            "median_v": low if known else None,
            "median_beyond_v": None if known else low,
            "beyond_v": min(beyond, key=abs, default=None),
        }

    def _reason(self, kind: str) -> dict[str, Any]:
        for reason, times in self._reasons.get(kind, collections.Counter()).most_common(1):
            return {"invalid_reason": reason, "invalid_reason_n": times}
        return {"invalid_reason": None, "invalid_reason_n": 0}


def _invalid(document: dict[str, Any], reason: str) -> dict[str, Any]:
    return document | {"class": "invalid", "reason": reason}


def _what(point: Point) -> str:
    return " ".join(part for part in (point.kind.upper(), point.label) if part) or f"no. {point.index + 1}"


def _points(rows: object) -> tuple[Point, ...]:
    name = "trigger-map"
    if not isinstance(rows, list | tuple) or not 1 <= len(rows) <= MAX_POINTS:
        raise refuse(name, "points", rows, f"1 to {MAX_POINTS} rows [x_m, y_m, kind, label]")
    points = []
    for index, row in enumerate(rows):
        key = f"points[{index}]"
        if not isinstance(row, list | tuple) or not 2 <= len(row) <= 4:
            raise refuse(name, key, row, "[x_m, y_m], [x_m, y_m, kind] or [x_m, y_m, kind, label]")
        x_m, y_m = (number(name, f"{key}.{axis}", value, -1.0, 1.0) for axis, value in zip("xy", row[:2], strict=True))
        kind = row[2] if len(row) > 2 else ""
        label = row[3] if len(row) > 3 else ""
        if kind not in KINDS:
            raise refuse(name, f"{key}.kind", kind, "gb, gi, hl or nothing")
        if not isinstance(label, str) or len(label) > 64 or not label.isprintable():
            raise refuse(name, f"{key}.label", label, "up to 64 printable characters")
        points.append(Point(index, x_m, y_m, kind, label))
    return tuple(points)


def _sweep(name: str, where: str, to_v: object, rate_v_s: object, level_s: float) -> Sweep:
    sweep = Sweep(
        number(name, f"{where}to_v", to_v, -20.0, 20.0),
        number(name, f"{where}rate_v_s", rate_v_s, 1e-4, 100.0),
    )
    step_v = sweep.rate_v_s * level_s
    if abs(sweep.to_v) < step_v:
        raise refuse(name, f"{where}to_v", to_v, f"at least one step ({step_v:g} V) away from 0")
    if abs(sweep.to_v) / step_v > MAX_LEVELS:
        raise PlanRefusedError(
            f"{name}: {where}to_v: {abs(sweep.to_v) / step_v:.0f} levels: expected at most {MAX_LEVELS}; take a larger "
            "level_s",
            reason="bad_plan",
        )
    return sweep
