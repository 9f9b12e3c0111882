"""``tipguard bench NAME``: measure this machine; one JSON object with ``--json``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from edge.cli.common import EXIT_FAILED, JsonOption, guarded, out, print_json
from edge.cli.layout import Row, grid, say, width_of
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
            out.print(grid(rows(report), width_of(out)))
            say(out, report["method"])
        return EXIT_FAILED if any(result["met"] is False for result in report["results"]) else 0

    guarded(work, json=json)


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
