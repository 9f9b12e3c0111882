"""``tipguard run``: the experiments that have a verb, and the one for a single spot."""

from __future__ import annotations

from typing import Annotated

import typer

from edge.cli.afar import CHOSEN, AsOption, CertsOption, PasswordOption, RigOption, ViaOption, afar
from edge.cli.common import DEFAULT_CONFIG, ConfigArgument, JsonOption, fail
from edge.cli.follow import ClampOption, HostOption, Request, run
from edge.cli.run_map import trigger_map
from edge.cli.run_memristor import memristor
from edge.errors import ConfigError

app = typer.Typer(help="Run an experiment on a rig.", no_args_is_help=True)


@app.callback()
def _group(
    rig: RigOption = None,
    via: ViaOption = None,
    user: AsOption = None,
    certs: CertsOption = None,
    password_file: PasswordOption = None,
) -> None:
    """Run an experiment on a rig.

    On a rig elsewhere: `tipguard run --rig NAME --via HOST iv --to-v -0.5`; these options come before the experiment.
    """
    try:
        CHOSEN.set(afar(rig, via, user, certs, password_file))
    except ConfigError as error:
        fail(error)


@app.command("iv")
def iv(
    config: ConfigArgument = DEFAULT_CONFIG,
    to_v: Annotated[float, typer.Option(help="turning point, V; plating is negative")] = -0.6,
    step_v: Annotated[float, typer.Option(help="bias step, V: the trigger's resolution")] = 0.002,
    dwell_s: Annotated[float, typer.Option(help="time at each level, s; at least one reading is taken")] = 0.02,
    cycles: Annotated[int, typer.Option(help="how often 0 -> to-v -> 0")] = 1,
    on_trigger: Annotated[str, typer.Option(help="stop, or continue: go on with the next cycle")] = "stop",
    back_scan: Annotated[bool, typer.Option(help="read the low-resistance state after a trigger")] = True,
    after_cut: Annotated[str, typer.Option(help="off, or hold_0v: stay on at 0 V until the next cycle")] = "off",
    accept_clamp: ClampOption = False,
    accept_unprotected_host: HostOption = False,
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
        "after_cut": after_cut,
        "accept_clamp": accept_clamp,
        "accept_unprotected_host": accept_unprotected_host,
    }
    run(config, lambda: Request("iv", parameters), json=json)


app.command("trigger-map")(trigger_map)
app.command("memristor")(memristor)
