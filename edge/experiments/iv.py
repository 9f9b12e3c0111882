"""I-V sweep: triangular, n cycles, step and dwell; a trigger on the way ends the sweep as planned.

After a planned cut the plan arms the low-resistance read and scans 0 -> +-20 mV -> 0, so that the resistance of what
formed is measured on its own range. By default the plan then ends: another cycle would start on a conducting site.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, Final, Literal

from edge.errors import PlanRefusedError
from edge.experiments.checks import MAX_LEVELS, flag, number, ramp, refuse, whole
from edge.experiments.reads import BACK_SCAN_DWELL_S, BACK_SCAN_POINTS, back_scan
from edge.experiments.steps import Arm, End, Energise, Program, Progress, Ramp
from edge.samples import Phase

MAX_LISTED: Final = 100
"""Triggers listed in a run's results: the last ones. All of them are in the event stream."""


@dataclasses.dataclass(frozen=True, slots=True)
class IvPlan:
    """Parameters of one I-V run.

    ``to_v``: turning point, -20..20 V, not 0; plating is negative. ``step_v``: 0.0001..1 V. ``dwell_s``: time at each
    level, 0.001..3600 s; a level lasts at least one reading (about 23 ms at 57600 baud). ``cycles``: 1..10000.
    ``on_trigger``: "stop" after the first trigger, or "continue" with the next cycle, spending a re-arm each.
    ``back_scan``: measure the low-resistance state after a trigger. ``after_cut``: "off", or "hold_0v": the output
    stays on at 0 V between a trigger and the next cycle, once it is seen without current there; needs ``on_trigger``
    "continue" and no back scan, whose range can only be set with the output off. ``accept_clamp``,
    ``accept_unprotected_host``: see the README, "What refuses to run".
    """

    to_v: float
    step_v: float = 0.002
    dwell_s: float = 0.020
    cycles: int = 1
    on_trigger: Literal["stop", "continue"] = "stop"
    back_scan: bool = True
    after_cut: Literal["off", "hold_0v"] = "off"
    accept_clamp: bool = False
    accept_unprotected_host: bool = False

    name: str = dataclasses.field(default="iv", init=False)

    def __post_init__(self) -> None:
        to_v = number("iv", "to_v", self.to_v, -20.0, 20.0)
        step_v = number("iv", "step_v", self.step_v, 1e-4, 1.0)
        number("iv", "dwell_s", self.dwell_s, 1e-3, 3600.0)
        whole("iv", "cycles", self.cycles, 1, 10_000)
        if self.on_trigger not in ("stop", "continue"):
            raise refuse("iv", "on_trigger", self.on_trigger, "stop or continue")
        if self.after_cut not in ("off", "hold_0v"):
            raise refuse("iv", "after_cut", self.after_cut, "off or hold_0v")
        if self.after_cut == "hold_0v" and (self.on_trigger != "continue" or self.back_scan):
            also = "off, or on_trigger = continue and back_scan = false with it"
            raise refuse("iv", "after_cut", self.after_cut, also)
        for name in ("back_scan", "accept_clamp", "accept_unprotected_host"):
            flag("iv", name, getattr(self, name))
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

    @property
    def needs_stage(self) -> bool:
        """See Plan: it sweeps where the tip stands."""
        return False

    @property
    def targets_m(self) -> tuple[tuple[float, float], ...]:
        """See Plan."""
        return ()

    def levels_v(self) -> tuple[float, ...]:
        """Return one triangular cycle: 0 -> to_v -> 0, the turning point exactly, 0 at both ends."""
        up = ramp(self.to_v, self.step_v)
        return (*up, *reversed(up[:-1]))

    def duration_s(self) -> float:
        """See Plan; a level takes at least 23 ms at 57600 baud."""
        level_s = max(self.dwell_s, 0.0235)
        scan_s = (BACK_SCAN_POINTS * max(BACK_SCAN_DWELL_S, 0.06) + 2.0) if self.back_scan else 0.0
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
        held = False
        for cycle in range(self.cycles):
            yield Progress(cycle / self.cycles, f"cycle {cycle + 1} of {self.cycles}: 0 -> {self.to_v:g} V -> 0")
            if not held:
                yield Arm(Phase.SEEK, self.v_max_v)
                yield Energise()
            outcome = yield Ramp(levels, self.dwell_s, self.after_cut)
            done = cycle + 1
            held = outcome.held
            if outcome.verdict is None or (held and done == self.cycles):
                yield End()
            if outcome.verdict is None:
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
