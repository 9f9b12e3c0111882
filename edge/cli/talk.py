"""``tipguard stop``, ``rearm``, ``status``: short conversations with a running controller."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edge import rundir
from edge.cli.afar import (
    AsOption,
    CertsOption,
    PasswordOption,
    RigOption,
    ViaOption,
    afar,
    rearm_afar,
    status_afar,
    stop_afar,
)
from edge.cli.common import (
    DEFAULT_CONFIG,
    EXIT_FAILED,
    EXIT_TRIPPED,
    ConfigArgument,
    JsonOption,
    ask,
    client_for,
    guarded,
    open_rig,
    out,
    print_json,
)
from edge.cli.layout import Row, grid, say, width_of
from edge.cli.words import (
    REARM,
    ago,
    cuts_in_words,
    front_end_in_words,
    heartbeat_in_words,
    last_cut_in_words,
    meaning,
    ring_in_words,
    run_in_words,
    sample_in_words,
    stage_in_words,
    state_in_words,
    verified_off,
)
from edge.config import StageConfig, load
from edge.control_client import ControlClient
from edge.errors import BusyError, ConfigError

SETTLE_S = 3.0
"""How long a cut may take before it is said that the instrument does not confirm."""
POLL_S = 0.02


def stop(
    config: ConfigArgument = DEFAULT_CONFIG,
    json: JsonOption = False,
    rig: RigOption = None,
    via: ViaOption = None,
    user: AsOption = None,
    certs: CertsOption = None,
    password_file: PasswordOption = None,
) -> None:
    """Cut now and end the run; never refused.

    Latches until `tipguard rearm` if the output was on. Exit 1 if the instrument does not confirm that it is off.
    """

    def work() -> int:
        if (where := afar(rig, via, user, certs, password_file)) is not None:
            return stop_afar(where, stop_in_words, json=json)
        with _reach(config) as client:
            data, status = cut(client)
        if json:
            print_json(data)
        else:
            say(out, stop_in_words(data["stopped"], status))
        return 0 if data["output_verified_off"] else EXIT_FAILED

    guarded(work, json=json)


def _reach(path: Path) -> ControlClient:
    """Connect to a rig's controller, also where a typo came into its configuration while it ran."""
    try:
        return client_for(load(path))
    except ConfigError as error:
        from edge.controller.safe_off import from_config

        rig, _ = from_config(path)
        if rig is None:
            raise ConfigError(
                f"{error}. `tipguard safe-off` cuts without it", file=error.file, key=error.key
            ) from error
        return ControlClient(rundir.rig_dir(rig) / rundir.CONTROL_SOCKET)


def cut(client: ControlClient) -> tuple[dict[str, Any], dict[str, Any]]:
    """Stop, and wait for the proof; return what `stop --json` prints, and the last status."""
    stopped = bool(ask(client, "stop")["stopped"])
    end = time.monotonic() + SETTLE_S
    status = ask(client, "status")
    while not settled(status) and time.monotonic() < end:
        time.sleep(POLL_S)
        status = ask(client, "status")
    return {
        "stopped": stopped,
        "output_verified_off": verified_off(status),
        "state": status["state"],
        "verdict": status["verdict"],
    }, status


def settled(status: dict[str, Any]) -> bool:
    """Tell whether a stop has come to its end."""
    return verified_off(status) and (status["run"] is None or status["run"]["status"] != "running")


def stop_in_words(stopped: bool, status: dict[str, Any]) -> str:
    """Say what a stop has come to, and what to do."""
    said = "stopped" if stopped else "nothing was running"
    if not verified_off(status):
        return (
            f"{said}; state {state_in_words(status)}: the output is NOT verified off. Switch it off at the "
            "instrument's panel, then `tipguard status`"
        )
    off = "output verified off" if stopped else "output off"
    do = f": {REARM}" if status["state"] == "TRIPPED" else ""
    return f"{said}; {off}, state {state_in_words(status)}{do}"


def rearm(
    config: ConfigArgument = DEFAULT_CONFIG,
    json: JsonOption = False,
    rig: RigOption = None,
    via: ViaOption = None,
    user: AsOption = None,
    certs: CertsOption = None,
    password_file: PasswordOption = None,
) -> None:
    """Release the latch after a trip, once you have looked at the bench."""

    def work() -> int:
        if (where := afar(rig, via, user, certs, password_file)) is not None:
            return rearm_afar(where, json=json)
        _, client = open_rig(config)
        with client:
            state = ask(client, "status")["state"]
            if state != "TRIPPED":
                raise BusyError(f"there is nothing to release: the state is {state}, not TRIPPED")
            data = ask(client, "rearm")
        if json:
            print_json(data)
        else:
            say(out, f"re-armed; state {data['state']}")
        return 0

    guarded(work, json=json)


def status(
    config: ConfigArgument = DEFAULT_CONFIG,
    json: JsonOption = False,
    rig: RigOption = None,
    via: ViaOption = None,
    user: AsOption = None,
    certs: CertsOption = None,
    password_file: PasswordOption = None,
) -> None:
    """Show what the controller is doing. Exit 3 while tripped."""

    def work() -> int:
        if (where := afar(rig, via, user, certs, password_file)) is not None:
            return status_afar(where, rows, json=json)
        loaded, client = open_rig(config)
        with client:
            data = ask(client, "status")
        if json:
            print_json(data)
        else:
            out.print(grid(rows(data, loaded.stage if loaded.ports.stage else None), width_of(out)))
        return EXIT_TRIPPED if data["state"] == "TRIPPED" else 0

    guarded(work, json=json)


def rows(data: dict[str, Any], stage: StageConfig | None = None) -> list[Row]:
    """Return the status as rows for a person. ``stage``: the rig's, None on a rig without one."""
    style = {"TRIPPED": "bold red", "CUTTING": "bold red", "ENERGISED": "bold yellow", "SAFE": "green"}
    result = [
        Row(("rig", data["rig"])),
        Row(("state", state_in_words(data)), ("", style.get(data["state"], ""))),
    ]
    if data["verdict"]:
        result.append(Row(("why", meaning(data["verdict"]))))
    if data["state"] == "TRIPPED":
        result.append(Row(("do", REARM)))
    if data["alarm"]:
        result.append(Row(("ALARM", data["alarm"]), ("bold red", "bold red")))
    smu = data["smu"]
    result.append(Row(("SMU", f"{smu['model']}, serial {smu['serial_number']}" if smu else "not identified")))
    result.append(Row(("port", data["port"] + (" (emulated)" if data["emulated"] else ""))))
    if gpio := data.get("gpio"):
        result.append(Row(("heartbeat", heartbeat_in_words(gpio)), ("", "bold red" if gpio["lost"] else "")))
    if front := data.get("frontend"):
        bad = front.get("lost") or front.get("mismatch")
        result.append(Row(("front end", front_end_in_words(front)), ("", "bold red" if bad else "")))
    if stage is not None:
        result.append(Row(("stage", stage_in_words(data.get("stage"), stage))))
    if sample := data["sample"]:
        age = ago((data["t_ns"] - sample["t_ns"]) * 1e-9)
        result.append(Row(("last sample", f"{sample_in_words(sample)}, {age}")))
    lost = data["samples_lost"]
    result.append(
        Row(
            ("samples", f"{data['samples']} since start" + (f", {lost} LOST" if lost else "")),
            ("", "bold red" if lost else ""),
        )
    )
    result.append(Row(("cuts", cuts_in_words(data))))
    if last := last_cut_in_words(data):
        result.append(Row(("last cut", last)))
    result.append(Row(("ring", ring_in_words(data))))
    if data["run"]:
        result.append(Row(("run", run_in_words(data["run"]))))
    result.extend(Row(("note", note)) for note in data["notes"])
    return result
