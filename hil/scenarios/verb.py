"""``tipguard hil scenario NAME|all``: what is printed, where the report goes, and how it ends."""

from __future__ import annotations

import json
import logging
import platform
import sys
from pathlib import Path

import structlog

from hil.errors import BenchOptionError
from hil.scenarios.report import write_report
from hil.scenarios.run import Outcome, run_scenario
from hil.scenarios.spec import Scenario, load_scenario, names


def list_scenarios() -> int:
    """Print name and title of every scenario; return the exit code."""
    for name in names():
        print(f"{name:<28} {load_scenario(name).title}")
    return 0


def run_scenarios(wanted: list[str], *, seed: int | None, report: Path | None) -> int:
    """Run scenarios by name, by path, or "all"; print a JSON line each; return the exit code.

    0: all held; 1: at least one did not; 2: a name or a file that is none, told in one line on stderr.
    """
    try:
        scenarios = _chosen(wanted, seed)
    except BenchOptionError as error:
        print(f"tipguard hil scenario: {error}", file=sys.stderr)
        return 2
    # What the controllers log is in the evidence; here it would stand between the lines.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    outcomes: list[Outcome] = []
    for number, scenario in enumerate(scenarios, 1):
        if sys.stderr.isatty():
            print(f"\r\x1b[K{number}/{len(scenarios)} {scenario.name}", end="", file=sys.stderr, flush=True)
        outcome = run_scenario(scenario)
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        print(json.dumps(outcome.line(), ensure_ascii=False), flush=True)
        outcomes.append(outcome)
    broken = [one.scenario.name for one in outcomes if not one.held]
    if report is not None:
        try:
            write_report(report, outcomes, footer=f"Python {platform.python_version()}, {platform.machine()}.")
        except OSError as error:
            print(
                f"tipguard hil scenario: --report {report}: {error.strerror}; name a file that can be written",
                file=sys.stderr,
            )
            return 2
    told = f"{len(outcomes) - len(broken)} of {len(outcomes)} held"
    where = "" if report is None else f"; traces in {report}"
    print(f"{told}{where}" + (f"; not held: {', '.join(broken)}" if broken else ""), file=sys.stderr)
    return 1 if broken else 0


def _chosen(wanted: list[str], seed: int | None) -> list[Scenario]:
    found: list[str] = []
    for name in wanted:
        found += names() if name == "all" else [name]
    return [load_scenario(name, seed=seed) for name in dict.fromkeys(found)]
