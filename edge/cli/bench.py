"""``tipguard bench NAME``: measure this machine; one JSON object with ``--json``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from edge.cli.common import EXIT_FAILED, JsonOption, guarded, out, print_json
from edge.errors import ConfigError

NAMES = ("observe",)


def bench(
    name: Annotated[str, typer.Argument(help=f"one of: {', '.join(NAMES)}")],
    json: JsonOption = False,
) -> None:
    """Measure on this machine. Exit 1 when a target is missed."""

    def work() -> int:
        if name not in NAMES:
            raise ConfigError(f"bench {name!r}: expected one of: {', '.join(NAMES)}")
        from hil.bench.observe import observe

        report = observe()
        if json:
            print_json(report)
        else:
            out.print(table(report))
            out.print(report["method"], markup=False)
        return EXIT_FAILED if any(result["met"] is False for result in report["results"]) else 0

    guarded(work)


def table(report: dict[str, Any]) -> Table:
    """Return a bench's results as a table."""
    result = Table(title=f"bench {report['name']}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("figure", "value", "target", "met"):
        result.add_column(column)
    for figure in report["results"]:
        target = "" if figure["target"] is None else f"{figure['op']} {figure['target']:g} {figure['unit']}"
        met = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[figure["met"]]
        result.add_row(figure["name"], f"{figure['value']:.4g} {figure['unit']}", target, met)
    return result
