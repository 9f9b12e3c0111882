"""Runs scenarios, one by one, and says in one line of JSON each what held."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.errors import HilError
from hil.scenarios import processes, virtual
from hil.scenarios.evidence import Evidence
from hil.scenarios.judge import Judgement, judge
from hil.scenarios.spec import Scenario


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scenario that was run. ``took_s``: wall-clock time."""

    scenario: Scenario
    seen: Evidence
    judgement: Judgement
    took_s: float

    @property
    def held(self) -> bool:
        """Whether everything held."""
        return self.judgement.held

    def line(self) -> dict[str, Any]:
        """Return what is printed of it, as JSON."""
        scenario, seen, judged = self.scenario, self.seen, self.judgement
        return {
            "name": scenario.name,
            "held": self.held,
            "title": scenario.title,
            "bench": scenario.rig.bench,
            "seed": scenario.seed,
            "status": seen.status,
            "verdict": judged.verdict,
            "reason": seen.reason or None,
            "safe_s": judged.safe_s,
            "safe_bound_s": scenario.holds.safe_within_s,
            "applied": [one.line() for one in seen.applied],
            "next": None if seen.next is None else seen.next.how,
            "after_rearm": None if seen.after_rearm is None else seen.after_rearm.how,
            "broken": {check.name: check.seen for check in judged.checks if not check.held},
            "took_s": round(self.took_s, 3),
        }


def run_scenario(scenario: Scenario) -> Outcome:
    """Run one scenario and judge it; what breaks the bench itself is a scenario that did not hold."""
    began = time.perf_counter()
    gather = processes.gather if scenario.rig.bench == "processes" else virtual.gather
    with tempfile.TemporaryDirectory(prefix="tipguard-scenario-") as directory:
        try:
            seen = gather(scenario, Path(directory))
        except HilError as error:
            seen = Evidence(bench_error=f"the bench itself failed: {error}")
    return Outcome(scenario, seen, judge(scenario, seen), time.perf_counter() - began)
