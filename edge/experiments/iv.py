"""I-V sweep: triangular, n cycles, step and dwell; a trigger on the way ends the sweep as planned.

After a planned cut the plan arms the low-resistance read and scans 0 -> +-20 mV -> 0, so that the resistance of what
formed is measured on its own range. By default the plan then ends: another cycle would start on a conducting site.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
from typing import Any, Final, Literal

from edge.analysis.linear import slope_through_origin
from edge.errors import PlanRefusedError
from edge.experiments.steps import Arm, End, Energise, Outcome, Program, Progress, Ramp
from edge.samples import UNTRUSTED, Phase

MAX_LEVELS: Final = 200_000
MAX_LISTED: Final = 100
"""Triggers listed in a run's results: the last ones. All of them are in the event stream."""
BACK_SCAN_V: Final = 0.020
BACK_SCAN_POINTS: Final = 9
_BACK_SCAN_DWELL_S: Final = 0.05


def _number(name: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PlanRefusedError(f"iv: {name}: value {value!r:.80}: expected a number", reason="bad_plan")
    if not low <= value <= high:
        raise PlanRefusedError(f"iv: {name}: value {value!r:.80}: expected {low:g} to {high:g}", reason="bad_plan")
    return float(value)


@dataclasses.dataclass(frozen=True, slots=True)
class IvPlan:
    """Parameters of one I-V run.

    ``to_v``: turning point, -20..20 V, not 0; plating is negative. ``step_v``: 0.0001..1 V. ``dwell_s``: time at each
    level, 0.001..3600 s; a level lasts at least one reading (about 20 ms at 57600 baud). ``cycles``: 1..10000.
    ``on_trigger``: "stop" after the first trigger, or "continue" with the next cycle, spending a re-arm each.
    ``back_scan``: measure the low-resistance state after a trigger. ``accept_clamp``,
    ``accept_unprotected_host``: see the README, "What refuses to run".
    """

    to_v: float
    step_v: float = 0.002
    dwell_s: float = 0.020
    cycles: int = 1
    on_trigger: Literal["stop", "continue"] = "stop"
    back_scan: bool = True
    accept_clamp: bool = False
    accept_unprotected_host: bool = False

    name: str = dataclasses.field(default="iv", init=False)

    def __post_init__(self) -> None:
        to_v = _number("to_v", self.to_v, -20.0, 20.0)
        step_v = _number("step_v", self.step_v, 1e-4, 1.0)
        _number("dwell_s", self.dwell_s, 1e-3, 3600.0)
        _number("cycles", self.cycles, 1, 10_000)
        if not isinstance(self.cycles, int):
            raise PlanRefusedError(
                f"iv: cycles: value {self.cycles!r}: expected a whole number 1 to 10000", reason="bad_plan"
            )
        if self.on_trigger not in ("stop", "continue"):
            raise PlanRefusedError(
                f"iv: on_trigger: value {self.on_trigger!r}: expected stop or continue", reason="bad_plan"
            )
        for name in ("back_scan", "accept_clamp", "accept_unprotected_host"):
            # Some texts and numbers count as true; none of them may switch a protection off.
            if not isinstance(value := getattr(self, name), bool):
                raise PlanRefusedError(f"iv: {name}: value {value!r:.80}: expected true or false", reason="bad_plan")
        if abs(to_v) < step_v:
            raise PlanRefusedError(
                f"iv: to_v: value {to_v:g}: expected at least one step ({step_v:g} V) away from 0", reason="bad_plan"
            )
        if abs(to_v) / step_v * 2 > MAX_LEVELS:
            raise PlanRefusedError(
                f"iv: {abs(to_v) / step_v * 2:.0f} levels a cycle: expected at most {MAX_LEVELS}; take a larger step_v",
                reason="bad_plan",
            )

    @property
    def v_max_v(self) -> float:
        """See Plan."""
        return abs(self.to_v)

    def levels_v(self) -> tuple[float, ...]:
        """Return one triangular cycle: 0 -> to_v -> 0, the turning point exactly, 0 at both ends."""
        # Equal steps from end to end, none above step_v; a multiple of it would overshoot or miss the turning point.
        steps = math.ceil(abs(self.to_v) / self.step_v - 1e-9)
        # + 0.0: no -0.0 on the screen.
        up = [self.to_v * i / steps + 0.0 for i in range(steps)]
        return (*up, self.to_v, *reversed(up))

    def duration_s(self) -> float:
        """See Plan; a level takes at least 21 ms at 57600 baud."""
        level_s = max(self.dwell_s, 0.021)
        scan_s = (BACK_SCAN_POINTS * max(_BACK_SCAN_DWELL_S, 0.06) + 2.0) if self.back_scan else 0.0
        return self.cycles * (len(self.levels_v()) * level_s + 2.0 + scan_s)

    def describe(self) -> dict[str, Any]:
        """See Plan."""
        return {**dataclasses.asdict(self), "v_max_v": self.v_max_v, "duration_s": self.duration_s()}

    def program(self) -> Program:
        """See Plan."""
        levels = self.levels_v()
        # The events are in their own stream; a run document must stay small however many cycles there are.
        triggers: collections.deque[dict[str, Any]] = collections.deque(maxlen=MAX_LISTED)
        found = done = 0
        for cycle in range(self.cycles):
            yield Progress(cycle / self.cycles, f"cycle {cycle + 1} of {self.cycles}: 0 -> {self.to_v:g} V -> 0")
            yield Arm(Phase.SEEK, self.v_max_v)
            yield Energise()
            outcome = yield Ramp(levels, self.dwell_s)
            done = cycle + 1
            if outcome.verdict is None:
                yield End()
                continue
            trigger = {"cycle": cycle, "verdict": outcome.verdict, **(outcome.event or {})}
            if self.back_scan:
                yield Progress((cycle + 0.9) / self.cycles, f"{outcome.verdict}: cut verified; reading what formed")
                trigger["lrs"] = yield from back_scan()
            triggers.append(trigger)
            found += 1
            if self.on_trigger == "stop":
                break
        return {"cycles_done": done, "triggers_found": found, "triggers": list(triggers)}


def back_scan() -> Program:
    """Scan 0 -> +20 mV -> -20 mV -> 0 on the read range; return ``{conductance_s, resistance_ohm, n}``.

    9 levels; the conductance is the least-squares slope through the origin of the trusted readings, None if fewer
    than three are trusted. ``verdict`` is set when the read itself was cut.
    """
    yield Arm(Phase.LRS_READ, BACK_SCAN_V)
    yield Energise()
    quarter = (BACK_SCAN_POINTS - 1) // 4
    up = [BACK_SCAN_V * i / quarter for i in range(quarter + 1)]
    levels = tuple(itertools.chain(up, reversed(up[:-1]), (-v for v in up[1:]), (-v for v in reversed(up[:-1]))))
    outcome: Outcome = yield Ramp(levels, _BACK_SCAN_DWELL_S)
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
