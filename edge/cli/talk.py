"""``tipguard stop``, ``rearm``, ``status``: short conversations with a running controller."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from edge.cli.common import (
    DEFAULT_CONFIG,
    EXIT_TRIPPED,
    ConfigArgument,
    JsonOption,
    ask,
    guarded,
    open_rig,
    out,
    print_json,
)


def stop(config: ConfigArgument = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Cut now and end the run; never refused. Latches until `tipguard rearm` if the output was on."""

    def work() -> int:
        _, client = open_rig(config)
        with client:
            data = ask(client, "stop")
        if json:
            print_json(data)
        else:
            out.print("stopped" if data["stopped"] else "nothing was running; the output is off")
        return 0

    guarded(work)


def rearm(config: ConfigArgument = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Release the latch after a trip, once you have looked at the bench."""

    def work() -> int:
        _, client = open_rig(config)
        with client:
            data = ask(client, "rearm")
        if json:
            print_json(data)
        else:
            out.print(f"re-armed; state {data['state']}")
        return 0

    guarded(work)


def status(config: ConfigArgument = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Show what the controller is doing. Exit 3 while tripped."""

    def work() -> int:
        _, client = open_rig(config)
        with client:
            data = ask(client, "status")
        if json:
            print_json(data)
        else:
            out.print(table(data))
        return EXIT_TRIPPED if data["state"] == "TRIPPED" else 0

    guarded(work)


def table(data: dict[str, Any]) -> Table:
    """Return the status as a table for a person."""
    result = Table(title=f"rig {data['rig']}", show_header=False, title_justify="left", box=None, padding=(0, 2, 0, 0))
    verdict = f" ({data['verdict']})" if data["verdict"] else ""
    style = {"TRIPPED": "bold red", "CUTTING": "bold red", "ENERGISED": "bold yellow"}.get(data["state"], "green")
    result.add_row("state", f"[{style}]{data['state']}{verdict}[/]")
    if data["alarm"]:
        result.add_row("ALARM", f"[bold red]{data['alarm']}[/]")
    smu = data["smu"]
    result.add_row("SMU", f"{smu['model']}, serial {smu['serial_number']}" if smu else "not identified")
    result.add_row("port", data["port"] + (" (emulated)" if data["emulated"] else ""))
    sample = data["sample"]
    if sample:
        result.add_row("last sample", f"{sample['bias_v']:+.4f} V   {sample['current_a']:+.3e} A")
    lost = f", [bold red]{data['samples_lost']} lost[/]" if data["samples_lost"] else ""
    result.add_row("samples", f"{data['samples']} since start{lost}")
    result.add_row("cuts", f"{data['cuts']['planned']} planned, {data['cuts']['protective']} protective")
    left = data["ring_left_s"]
    result.add_row("ring", f"{data['ring_used']:.1%} used; room for {left / 60:.0f} min at 50 samples/s")
    run = data["run"]
    if run:
        result.add_row("run", f"{run['plan']} {run['uid']}: {run['status']} ({run['progress']:.0%}) {run['text']}")
    for note in data["notes"]:
        result.add_row("note", note)
    return result
