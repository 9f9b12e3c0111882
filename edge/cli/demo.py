"""``tipguard demo``: one emulated sweep to the surge and the cut, seen by an MQTT subscriber."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from edge.cli.common import EXIT_FAILED, EXIT_INTERRUPTED, JsonOption, err, guarded, out, print_json

DEFAULT_SEED = 9


def demo(
    out_folder: Annotated[Path, typer.Option("--out", help="folder for pictures and summary.json")] = Path("demo-out"),
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="draws the site; the same seed, the same site")] = (
        DEFAULT_SEED
    ),
    json: JsonOption = False,
    broker: Annotated[
        Literal["auto", "mosquitto", "iotcore"], typer.Option(help="auto: Mosquitto where it is installed")
    ] = "auto",
) -> None:
    """Show a protected sweep on an emulated instrument: no hardware, no broker, no configuration needed."""

    def work() -> int:
        # The bench is no part of a rig: it is imported only here.
        from hil.demo.play import DemoInterruptedError
        from hil.demo.show import DemoOptions, run_demo
        from hil.errors import HilError

        try:
            code, summary = run_demo(DemoOptions(out=out_folder, seed=seed, broker=broker, as_json=json), out)
        except HilError as error:
            err.print(f"tipguard demo: {error}", style="red", markup=False)
            return EXIT_INTERRUPTED if isinstance(error, DemoInterruptedError) else EXIT_FAILED
        if json:
            print_json(summary)
        return code

    guarded(work)
