"""What all verbs of ``tipguard run`` share: start a plan, watch it, say in plain words what happened."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import Progress, TaskID

from edge.analysis.si import si
from edge.cli.afar import CHOSEN, Afar, run_afar
from edge.cli.common import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_TRIPPED,
    ask,
    client_for,
    err,
    guarded,
    out,
    print_json,
)
from edge.cli.layout import grid, say, width_of
from edge.cli.processes import wait_ready
from edge.cli.run_progress import CountedProgress, Done, SweepProgress, columns, doing, shortened
from edge.cli.talk import cut, stop_in_words
from edge.cli.words import REARM, meaning, state_in_words
from edge.cli.words_envelope import promised_in_words
from edge.cli.words_runs import how_long, in_words, kept_in_words
from edge.config import Config, load
from edge.control_client import ControlClient
from edge.errors import BusyError, PlanRefusedError

POLL_S: Final = 0.1
BACK_S: Final = 5.0
"""How long a controller that broke off may take to answer again."""

ClampOption = Annotated[bool, typer.Option("--accept-clamp", help="rely on the SMU's clamp")]
HostOption = Annotated[
    bool, typer.Option("--accept-unprotected-host", help="run over 10 min without a heartbeat into /OE")
]


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A plan by name with its parameters. ``cuts``: as many planned cuts as it can come to, where it is known.

    ``refused`` adds to the controller's words what a person at this verb needs to know.
    """

    plan: str
    parameters: dict[str, Any]
    cuts: int = 0
    refused: Callable[[PlanRefusedError], PlanRefusedError] = lambda error: error


def run(file: Path, request: Callable[[], Request], *, json: bool) -> None:
    """Start what ``request`` makes on the rig of a configuration file, watch it, report, end with the exit code."""

    def work() -> int:
        if (where := CHOSEN.get()) is not None:
            return _run_afar(where, request(), as_json=json)
        config = load(file)
        wanted = request()
        try:
            return _run(config, wanted, as_json=json)
        except KeyboardInterrupt:
            # The conversation may have been broken off between question and answer: another one.
            return interrupted(config, as_json=json)

    guarded(work, json=json)


def _run_afar(where: Afar, request: Request, *, as_json: bool) -> int:
    def reported(status: dict[str, Any], series_ohm: float) -> int:
        # What a rig promises such a plan is worked out from its own file, which is not here.
        run = {**(status["run"] or {"status": "broken off", "reason": None, "results": None}), "envelope": None}
        return report({**status, "run": run}, as_json=as_json, series_ohm=series_ohm)

    try:
        return run_afar(where, request.plan, request.parameters, reported, json=as_json)
    except PlanRefusedError as error:
        raise request.refused(error) from error


def _run(config: Config, request: Request, *, as_json: bool) -> int:
    """Start, watch, report."""
    from edge.controller.envelopes import for_plan
    from edge.controller.envelopes_frontend import told

    with client_for(config) as client:
        try:
            uid = ask(client, "run", plan=request.plan, parameters=request.parameters)["uid"]
        except PlanRefusedError as error:
            raise request.refused(error) from error
        warn_of_rearms(request, config)
        parameters = _parameters(client, uid)
        promised = for_plan(request.plan, parameters, config, told(ask(client, "status").get("frontend")))
        if not as_json:
            say(err, f"run {uid}: started{how_long(parameters)}; Ctrl-C cuts and ends it")
            if promised is not None:
                say(err, promised_in_words(promised))
        try:
            status = follow(client, uid, quiet=as_json)
        except BusyError as error:
            status = _back(config, uid, error)
    run = status["run"]
    if run is None or run["uid"] != uid:
        lost = {"uid": uid, "plan": request.plan, "status": "broken off", "reason": None, "results": None}
        status = {**status, "run": lost}
    # Beside what the controller says: what this rig promises such a plan.
    status = {**status, "run": {**status["run"], "envelope": promised}}
    return report(status, as_json=as_json, series_ohm=config.rig.series_resistor_ohm)


def warn_of_rearms(request: Request, config: Config) -> None:
    """Say that the rig's file ends a run before its plan would."""
    limit = config.limits.rearms_per_run
    if request.cuts > limit:
        say(
            err,
            f"warning: this can come to {request.cuts} planned cuts, and limits.rearms_per_run = {limit} ends the run "
            "there; what is finished by then is kept",
            "yellow",
        )


def _parameters(client: ControlClient, uid: str) -> dict[str, Any]:
    """Return what a run says of itself; nothing where it is over and another one took its place."""
    run = ask(client, "status")["run"]
    found: dict[str, Any] = run["parameters"] if run is not None and run["uid"] == uid else {}
    return found


def _back(config: Config, uid: str, error: BusyError) -> dict[str, Any]:
    """Wait for a controller that broke off in a run; raise BusyError with what to do if it stays away."""
    say(err, f"run {uid}: the controller broke off; waiting until it answers again")
    try:
        return wait_ready(config, BACK_S)
    except BusyError:
        raise BusyError(
            f"run {uid}: the controller broke off in the run and does not answer: nothing here tells whether the "
            "output is off. See its messages, or `tipguard safe-off`, or switch the output off at the panel"
        ) from error


def interrupted(config: Config, *, as_json: bool) -> int:
    """Cut, wait for the proof, and say what it came to; return the exit code."""
    with client_for(config) as client:
        data, status = cut(client)
    if as_json:
        print_json({"interrupted": True, **data, **summary(status)})
    else:
        kept = kept_in_words(status["run"]) if status["run"] else None
        say(err, f"interrupted: {stop_in_words(data['stopped'], status)}" + (f"; {kept}" if kept else ""))
    return EXIT_INTERRUPTED if data["output_verified_off"] else EXIT_FAILED


def follow(client: ControlClient, uid: str, *, quiet: bool) -> dict[str, Any]:
    """Watch a run until it ends; return the last status."""
    status = ask(client, "status")
    if _ended(status, uid):
        return status
    sweep = status["run"]["plan"] == "iv"
    progress: Done = SweepProgress() if sweep else CountedProgress()
    with Progress(
        *columns(err.width, with_doing=sweep), console=err, disable=quiet or not err.is_terminal, transient=True
    ) as bar:
        task = bar.add_task("starting", total=1.0, doing="", now="")
        while not _ended(status, uid):
            _show(bar, task, status, progress.update(status))
            time.sleep(POLL_S)
            status = ask(client, "status")
    return status


def _ended(status: dict[str, Any], uid: str) -> bool:
    run = status["run"]
    return run is None or run["uid"] != uid or run["status"] != "running"


def _show(bar: Progress, task: TaskID, status: dict[str, Any], done: float) -> None:
    sample = status["sample"] if status["state"] in ("ENERGISED", "CUTTING") else None
    now = f"{si(sample['bias_v'], 'V'):>8} {si(sample['current_a'], 'A'):>8}" if sample else ""
    bar.update(task, completed=done, description=shortened(status["run"]["text"]), doing=doing(status), now=now)


def summary(status: dict[str, Any]) -> dict[str, Any]:
    """Return what ``--json`` prints of the end of a run; ``event`` is its last one, None if it had none."""
    run, event = status["run"] or {}, status["last_event"]
    own = event is not None and event.get("run") in (run.get("uid"), None)
    return {
        "run": status["run"],
        "state": status["state"],
        "verdict": status["verdict"],
        "alarm": status["alarm"],
        "event": event if own else None,
    }


def report(status: dict[str, Any], *, as_json: bool, series_ohm: float) -> int:
    """Print how a run ended; return the exit code."""
    run = status["run"]
    tripped = run["status"] == "tripped" or status["state"] == "TRIPPED"
    code = EXIT_TRIPPED if tripped else 0 if run["status"] == "completed" else EXIT_FAILED
    if as_json:
        print_json(summary(status))
        return code
    said = in_words(run, series_ohm=series_ohm)
    for line in said.lines:
        say(out, line)
    if said.table:
        out.print(grid(said.table, width_of(out)))
    for line in said.more:
        say(out, line)
    if tripped and status["verdict"]:
        say(out, meaning(status["verdict"]))
    if status["alarm"]:
        say(out, f"ALARM: {status['alarm']}", "bold red")
    do = f": {REARM}" if status["state"] == "TRIPPED" else ""
    say(out, f"state {state_in_words(status)}{do}", "bold red" if tripped else "")
    return code
