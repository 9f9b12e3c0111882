"""``tipguard run``: start a plan, watch it, say in plain words what happened."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from edge.cli.common import (
    DEFAULT_CONFIG,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_TRIPPED,
    ConfigArgument,
    JsonOption,
    ask,
    err,
    guarded,
    open_rig,
    out,
    print_json,
)
from edge.control_client import ControlClient

app = typer.Typer(help="Run an experiment on a rig.", no_args_is_help=True)
POLL_S = 0.1


@app.callback()
def _group() -> None:
    """Run an experiment on a rig."""


@app.command("iv")
def iv(
    config: ConfigArgument = DEFAULT_CONFIG,
    to_v: Annotated[float, typer.Option(help="turning point, V; plating is negative")] = -0.6,
    step_v: Annotated[float, typer.Option(help="bias step, V: the trigger's resolution")] = 0.002,
    dwell_s: Annotated[float, typer.Option(help="time at each level, s; at least one reading is taken")] = 0.02,
    cycles: Annotated[int, typer.Option(help="0 -> to-v -> 0, so many times")] = 1,
    on_trigger: Annotated[str, typer.Option(help="stop, or continue with the next cycle")] = "stop",
    back_scan: Annotated[bool, typer.Option(help="read the low-resistance state after a trigger")] = True,
    accept_clamp: Annotated[bool, typer.Option("--accept-clamp", help="rely on the SMU's clamp")] = False,
    accept_unprotected_host: Annotated[
        bool, typer.Option("--accept-unprotected-host", help="run over 10 min without a heartbeat into /OE")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Sweep 0 -> to-v -> 0 and cut at the surge."""
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
        _, client = open_rig(config)
        with client:
            uid = ask(client, "run", plan="iv", parameters=parameters)["uid"]
            interrupted = False
            try:
                status = follow(client, uid, quiet=json)
            except KeyboardInterrupt:
                interrupted = True
                ask(client, "stop")
                status = follow(client, uid, quiet=True)
        return EXIT_INTERRUPTED if interrupted else report(status, as_json=json)

    guarded(work)


def follow(client: ControlClient, uid: str, *, quiet: bool) -> dict[str, Any]:
    """Watch a run until it ends; return the last status."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=err, disable=quiet, transient=True
    ) as bar:
        task = bar.add_task("starting", total=1.0)
        while True:
            status = ask(client, "status")
            run = status["run"]
            if run is None or run["uid"] != uid or run["status"] != "running":
                return status
            sample = status["sample"]
            now = f"  {sample['bias_v']:+.3f} V {sample['current_a']:+.2e} A" if sample else ""
            bar.update(task, completed=run["progress"], description=run["text"] + now)
            time.sleep(POLL_S)


def report(status: dict[str, Any], *, as_json: bool) -> int:
    """Print how a run ended; return the exit code."""
    run = status["run"] or {}
    code = {"completed": 0, "tripped": EXIT_TRIPPED}.get(str(run.get("status")), EXIT_FAILED)
    if as_json:
        print_json({"run": run, "state": status["state"], "verdict": status["verdict"], "event": status["last_event"]})
        return code
    for line in in_words(run):
        out.print(line, markup=False)
    if code == EXIT_TRIPPED:
        out.print("Look at the bench, then `tipguard rearm`.", markup=False)
    return code


def in_words(run: dict[str, Any]) -> list[str]:
    """Return a run's result as sentences."""
    if run.get("status") != "completed":
        return [f"run {run.get('uid')}: {run.get('status')}: {run.get('reason')}"]
    results = run.get("results") or {}
    triggers = results.get("triggers", [])
    count = f"{results.get('cycles_done')} cycle(s), {results.get('triggers_found')} trigger(s)"
    return [f"run {run.get('uid')}: completed, {count}"] + [trigger_in_words(trigger) for trigger in triggers]


def trigger_in_words(trigger: dict[str, Any]) -> str:
    """Return one trigger as a sentence."""
    text = f"cycle {trigger['cycle'] + 1}: {trigger['verdict']}"
    if trigger.get("trigger_bias_v") is not None:
        text += f" at {trigger['trigger_bias_v']:+.4f} V +- {trigger.get('trigger_half_v', 0):.4f} V"
    if trigger.get("set_current_a") is not None:
        text += f", first reading {trigger['set_current_a']:.3e} A"
    if trigger.get("verified_ns") and trigger.get("reading_ns"):
        text += f"; cut verified {(trigger['verified_ns'] - trigger['reading_ns']) / 1e6:.1f} ms after the reading"
    lrs = trigger.get("lrs") or {}
    if lrs.get("resistance_ohm"):
        text += f"; then {lrs['resistance_ohm']:.4g} ohm"
    return text
