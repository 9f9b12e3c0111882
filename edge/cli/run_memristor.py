"""``tipguard run memristor``: set and reset one site many times."""

from __future__ import annotations

from typing import Annotated

import typer

from edge.cli.common import DEFAULT_CONFIG, ConfigArgument, JsonOption
from edge.cli.follow import ClampOption, HostOption, Request, run
from edge.cli.points import place
from edge.errors import PlanRefusedError


def memristor(
    config: ConfigArgument = DEFAULT_CONFIG,
    cycles: Annotated[int, typer.Option(help="how often to set and reset")] = 20,
    set_v: Annotated[float, typer.Option(help="end of the setting ramp, V; plating is negative")] = -0.2,
    set_rate_v_s: Annotated[float, typer.Option(help="its rate, V/s")] = 1.0,
    set_dwell_s: Annotated[float, typer.Option(help="longest wait at set-v for the surge, s")] = 1.0,
    reset_v: Annotated[float, typer.Option(help="end of the resetting ramp, V; positive")] = 1.0,
    reset_rate_v_s: Annotated[float, typer.Option(help="its rate, V/s")] = 2.0,
    level_s: Annotated[float, typer.Option(help="time at each level, s; the bias step is the rate times this")] = 0.024,
    at: Annotated[str | None, typer.Option(help="X,Y of the site, um; without it: where the tip is")] = None,
    zero: Annotated[
        bool, typer.Option(help="lift the tip once and measure the detection limit; needs a stage, as --at does")
    ] = True,
    hrs_setting: Annotated[
        str, typer.Option(help="range of the high-resistance read: hrs_read, or reset, which shows what it cannot see")
    ] = "hrs_read",
    max_failures: Annotated[int, typer.Option(help="so many cycles in a row that fail end the run")] = 3,
    accept_clamp: ClampOption = False,
    accept_unprotected_host: HostOption = False,
    json: JsonOption = False,
) -> None:
    """Set one site by a negative ramp and cut at the surge, read, reset it by a positive ramp, read; again.

    Ctrl-C cuts and ends the run; what is finished is kept. `tipguard stop` does the same from any other terminal.
    """

    def request() -> Request:
        x_m, y_m = (None, None) if at is None else place("--at", at)
        return Request(
            "memristor",
            {
                "cycles": cycles,
                "set_v": set_v,
                "set_rate_v_s": set_rate_v_s,
                "set_dwell_s": set_dwell_s,
                "reset_v": reset_v,
                "reset_rate_v_s": reset_rate_v_s,
                "level_s": level_s,
                "x_m": x_m,
                "y_m": y_m,
                "zero": zero,
                "hrs_setting": hrs_setting,
                "max_failures": max_failures,
                "accept_clamp": accept_clamp,
                "accept_unprotected_host": accept_unprotected_host,
            },
            cuts=cycles,
            refused=without_stage if at is None else at_option,
        )

    run(config, request, json=json)


def without_stage(error: PlanRefusedError) -> PlanRefusedError:
    """Return a refusal for want of a stage with the way to do without one."""
    if error.reason not in ("no_stage", "stage_not_ready"):
        return error
    return PlanRefusedError(f"{error}. --no-zero cycles where the tip stands and moves nothing", reason=error.reason)


def at_option(error: PlanRefusedError) -> PlanRefusedError:
    """Return a refusal of the only point there is, by the name it was typed with."""
    return PlanRefusedError(str(error).replace("point 1: ", "--at: "), reason=error.reason)
