"""``tipguard bench NAME``: measure this machine; one JSON object with ``--json``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from edge.cli.common import EXIT_FAILED, JsonOption, err, guarded, out, print_json
from edge.cli.layout import Row, grid, say, width_of
from edge.errors import ConfigError


def bench(
    name: Annotated[
        str,
        typer.Argument(help="observe, reaction, wire, dose, detector, store, uplink, stream; a wrong one lists all"),
    ],
    json: JsonOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer samples; not for the record.")] = False,
    plots: Annotated[Path | None, typer.Option(help="A directory for plots.")] = None,
) -> None:
    """Measure on this machine. Exit 1 when a target is missed."""

    def work() -> int:
        from hil.bench.catalogue import bench as run
        from hil.bench.options import BenchOptions
        from hil.errors import HilError

        try:
            with _progress(name) as progress:
                report = run(name, BenchOptions(quick=quick, plots=plots, progress=progress))
        except HilError as error:
            raise ConfigError(str(error)) from error
        if json:
            print_json(report)
        else:
            out.print(grid(rows(report), width_of(out)))
            say(out, report["method"])
        return EXIT_FAILED if any(result["met"] is False for result in report["results"]) else 0

    guarded(work, json=json)


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Callable[[float, str], None]]:
    """Show on a terminal's stderr how far a bench is; elsewhere nothing."""
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(name, total=1.0)

        def told(done: float, what: str) -> None:
            bar.update(task, completed=done, description=f"{name}: {what}")

        yield told


def rows(report: dict[str, Any]) -> list[Row]:
    """Return a bench's results as rows."""
    result = [Row(("figure", "value", "target", "met"))]
    for figure in report["results"]:
        unit = figure["unit"]
        target = "" if figure["target"] is None else f"{figure['op']} {figure['target']:g} {unit}"
        met = {True: "yes", False: "NO", None: ""}[figure["met"]]
        style = {"yes": "green", "NO": "bold red", "": ""}[met]
        result.append(Row((figure["name"], f"{figure['value']:.4g} {unit}", target, met), ("", "", "", style)))
    return result
