"""``tipguard demo``: a trigger map and a memristor on emulated instruments, seen by an MQTT subscriber."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from edge.cli.common import EXIT_FAILED, EXIT_INTERRUPTED, JsonOption, err, guarded, out, print_json

DEFAULT_SEED = 2


def demo(
    out_folder: Annotated[Path, typer.Option("--out", help="folder for pictures and summary.json")] = Path("demo-out"),
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="draws the site; the same seed, the same site")] = (
        DEFAULT_SEED
    ),
    json: JsonOption = False,
    broker: Annotated[
        Literal["auto", "mosquitto", "iotcore"], typer.Option(help="auto: Mosquitto where it is installed")
    ] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="two points and three cycles: half a minute")] = False,
    stay: Annotated[bool, typer.Option("--stay", help="leave two rigs running for `tipguard watch`, until Ctrl-C")] = (
        False
    ),
) -> None:
    """Show a trigger map and a memristor on emulated instruments, in two minutes.

    No hardware, no broker, no configuration needed. Writes pictures, summary.json and report.html.
    """

    def work() -> int:
        # The bench is no part of a rig: it is imported only here.
        from hil.demo.plan import FULL, QUICK
        from hil.demo.play import DemoInterruptedError
        from hil.demo.show import DemoOptions, run_demo
        from hil.errors import HilError

        size = QUICK if quick else FULL
        try:
            code, summary = run_demo(
                DemoOptions(out=out_folder, seed=seed, broker=broker, as_json=json, stay=stay, size=size), out
            )
        except HilError as error:
            err.print(f"tipguard demo: {error}", style="red", markup=False)
            return EXIT_INTERRUPTED if isinstance(error, DemoInterruptedError) else EXIT_FAILED
        if json:
            print_json(summary)
        return code

    guarded(work)
