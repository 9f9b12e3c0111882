"""``tipguard run``: start a plan, watch it, say in plain words what happened."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from edge.analysis.si import si
from edge.cli.common import (
    DEFAULT_CONFIG,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_TRIPPED,
    ConfigArgument,
    JsonOption,
    ask,
    client_for,
    err,
    guarded,
    out,
    print_json,
)
from edge.cli.layout import say
from edge.cli.processes import wait_ready
from edge.cli.talk import cut, stop_in_words
from edge.cli.words import REARM, in_words, meaning, state_in_words
from edge.config import Config, load
from edge.control_client import ControlClient
from edge.errors import BusyError

app = typer.Typer(help="Run an experiment on a rig.", no_args_is_help=True)
POLL_S = 0.1
BACK_S = 5.0
"""How long a controller that broke off may take to answer again."""
_DOING = {"ARMED": "arming", "ENERGISED": "sweeping", "CUTTING": "cutting"}


@app.callback()
def _group() -> None:
    """Run an experiment on a rig."""


@app.command("iv")
def iv(
    config: ConfigArgument = DEFAULT_CONFIG,
    to_v: Annotated[float, typer.Option(help="turning point, V; plating is negative")] = -0.6,
    step_v: Annotated[float, typer.Option(help="bias step, V: the trigger's resolution")] = 0.002,
    dwell_s: Annotated[float, typer.Option(help="time at each level, s; at least one reading is taken")] = 0.02,
    cycles: Annotated[int, typer.Option(help="how often 0 -> to-v -> 0")] = 1,
    on_trigger: Annotated[str, typer.Option(help="stop, or continue: go on with the next cycle")] = "stop",
    back_scan: Annotated[bool, typer.Option(help="read the low-resistance state after a trigger")] = True,
    accept_clamp: Annotated[bool, typer.Option("--accept-clamp", help="rely on the SMU's clamp")] = False,
    accept_unprotected_host: Annotated[
        bool, typer.Option("--accept-unprotected-host", help="run over 10 min without a heartbeat into /OE")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Sweep 0 -> to-v -> 0 and cut at the surge.

    Ctrl-C cuts and ends the run. A run goes on when its terminal is closed; `tipguard stop` ends it from any other.
    """
    parameters = {
        "to_v": to_v,
        "step_v": step_v,
        "dwell_s": dwell_s,
        "cycles": cycles,
        "on_trigger": on_trigger,
        "back_scan": back_scan,
        "accept_clamp": accept_clamp,
        "accept_unprotected_host": accept_unprotected_host,
    }

    def work() -> int:
        loaded = load(config)
        try:
            return _run(loaded, parameters, as_json=json)
        except KeyboardInterrupt:
            # The conversation may have been broken off between question and answer: another one.
            return _interrupted(loaded, as_json=json)

    guarded(work, json=json)


def _run(config: Config, parameters: dict[str, Any], *, as_json: bool) -> int:
    """Start, watch, report."""
    with client_for(config) as client:
        uid = ask(client, "run", plan="iv", parameters=parameters)["uid"]
        if not as_json:
            say(err, f"run {uid}: started; Ctrl-C cuts and ends it")
        try:
            status = follow(client, uid, quiet=as_json)
        except BusyError as error:
            status = _back(config, uid, error)
    run = status["run"]
    if run is None or run["uid"] != uid:
        status = {**status, "run": {"uid": uid, "status": "broken off", "reason": None, "results": None}}
    return report(status, as_json=as_json, series_ohm=config.rig.series_resistor_ohm)


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


def _interrupted(config: Config, *, as_json: bool) -> int:
    with client_for(config) as client:
        data, status = cut(client)
    if as_json:
        print_json({"interrupted": True, **data, **summary(status)})
    else:
        say(err, f"interrupted: {stop_in_words(data['stopped'], status)}")
    return EXIT_INTERRUPTED if data["output_verified_off"] else EXIT_FAILED


class SweepProgress:
    """How much of a run is done: what the plan says, and within a cycle where the bias is on 0 -> to_v -> 0."""

    def __init__(self) -> None:
        self._base = -1.0
        self._farthest_v = 0.0
        self._done = 0.0

    def update(self, status: dict[str, Any]) -> float:
        """Return the part done, 0 to 1; never less than before."""
        run, sample = status["run"], status["sample"]
        if run["progress"] != self._base:
            self._base, self._farthest_v = run["progress"], 0.0
        parameters = run["parameters"]
        to_v, cycles = parameters.get("to_v"), parameters.get("cycles", 1)
        part = 0.0
        if to_v and sample and status["state"] == "ENERGISED" and status["phase"] == "SEEK":
            way = min(max(sample["bias_v"] / to_v, 0.0), 1.0)
            self._farthest_v = max(self._farthest_v, way)
            # A step's noise in the read-back bias is no turning point.
            turned = way < self._farthest_v - 0.05 or way > 0.999
            part = 1.0 - way / 2 if turned else way / 2
        self._done = max(self._done, run["progress"] + part / cycles)
        return min(self._done, 1.0)


def doing(status: dict[str, Any]) -> str:
    """Return what the controller is at, in a word."""
    if status["state"] == "ENERGISED" and status["phase"] != "SEEK":
        return "reading"
    return _DOING.get(status["state"], "")


def follow(client: ControlClient, uid: str, *, quiet: bool) -> dict[str, Any]:
    """Watch a run until it ends; return the last status."""
    # What stands right of the text: a column that grows would push the others out.
    room = max(err.width - 48, 12)
    with Progress(
        TextColumn(
            "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", max_width=room)
        ),
        TextColumn("{task.fields[doing]}", table_column=Column(no_wrap=True, min_width=8)),
        TextColumn("{task.fields[now]}", table_column=Column(no_wrap=True, min_width=18, justify="right")),
        BarColumn(bar_width=10),
        TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
        console=err,
        disable=quiet or not err.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task("starting", total=1.0, doing="", now="")
        progress = SweepProgress()
        while True:
            status = ask(client, "status")
            run = status["run"]
            if run is None or run["uid"] != uid or run["status"] != "running":
                return status
            _show(bar, task, status, progress.update(status))
            time.sleep(POLL_S)


def _show(bar: Progress, task: TaskID, status: dict[str, Any], done: float) -> None:
    sample = status["sample"] if status["state"] in ("ENERGISED", "CUTTING") else None
    now = f"{si(sample['bias_v'], 'V'):>8} {si(sample['current_a'], 'A'):>8}" if sample else ""
    bar.update(task, completed=done, description=status["run"]["text"], doing=doing(status), now=now)


def summary(status: dict[str, Any]) -> dict[str, Any]:
    """Return what ``--json`` prints of the end of a run."""
    return {
        "run": status["run"],
        "state": status["state"],
        "verdict": status["verdict"],
        "alarm": status["alarm"],
        "event": status["last_event"],
    }


def report(status: dict[str, Any], *, as_json: bool, series_ohm: float) -> int:
    """Print how a run ended; return the exit code."""
    run = status["run"]
    tripped = run["status"] == "tripped" or status["state"] == "TRIPPED"
    code = EXIT_TRIPPED if tripped else 0 if run["status"] == "completed" else EXIT_FAILED
    if as_json:
        print_json(summary(status))
        return code
    for line in in_words(run, series_ohm=series_ohm):
        say(out, line)
    if tripped and status["verdict"]:
        say(out, meaning(status["verdict"]))
    if status["alarm"]:
        say(out, f"ALARM: {status['alarm']}", "bold red")
    do = f": {REARM}" if status["state"] == "TRIPPED" else ""
    say(out, f"state {state_in_words(status)}{do}", "bold red" if tripped else "")
    return code
