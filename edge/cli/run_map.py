"""``tipguard run trigger-map``: points from a file, along a line or on a grid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import msgpack
import typer

from edge.cli.common import DEFAULT_CONFIG, ConfigArgument, JsonOption, err
from edge.cli.follow import ClampOption, HostOption, Request, run
from edge.cli.layout import say
from edge.cli.points import MapPoint, grid_points, line_points, same_places, shown
from edge.cli.points_file import read_points
from edge.errors import ConfigError, PlanRefusedError
from edge.experiments.trigger_map import KINDS

MAX_ROWS_BYTES: Final = 180_000
"""All points go in one message, and a local socket takes little more."""
MAX_NAMED: Final = 5
"""Points at the same place that a warning names."""


def trigger_map(
    config: ConfigArgument = DEFAULT_CONFIG,
    points: Annotated[
        Path | None, typer.Option(help="CSV file with the columns x_um, y_um and, if you like, kind, label")
    ] = None,
    line: Annotated[str | None, typer.Option(help="X0,Y0,X1,Y1,N: N points from end to end, um")] = None,
    grid: Annotated[str | None, typer.Option(help="X0,Y0,X1,Y1,NX,NY: NX by NY points, edges included, um")] = None,
    kind: Annotated[str, typer.Option(help="what a line's or a grid's points are: gb, gi or hl")] = "",
    to_v: Annotated[float, typer.Option(help="end of the sweep, V; plating is negative")] = -0.5,
    rate_v_s: Annotated[float, typer.Option(help="ramp rate, V/s")] = 0.1,
    sweep: Annotated[
        list[str] | None,
        typer.Option(help="KIND:TO_V:RATE for one kind of points, as gi:-10:1; may be given again", show_default=False),
    ] = None,
    level_s: Annotated[float, typer.Option(help="time at each level, s; the bias step is the rate times this")] = 0.024,
    order: Annotated[str, typer.Option(help="interleaved: at random, kinds mixed; or listed")] = "interleaved",
    seed: Annotated[int, typer.Option(help="repeats an interleaved order")] = 0,
    zero: Annotated[bool, typer.Option(help="read the lifted tip once, which gives the detection limit")] = True,
    electrical_check: Annotated[
        bool, typer.Option(help="count an untriggered point only where a current was seen: an open tip never triggers")
    ] = True,
    max_invalid: Annotated[int, typer.Option(help="so many invalid points in a row end the run")] = 5,
    accept_clamp: ClampOption = False,
    accept_unprotected_host: HostOption = False,
    json: JsonOption = False,
) -> None:
    """Visit many points; at each: lift, move, approach, sweep to the surge or to the end, read what is there.

    Ctrl-C cuts and ends the run; what is finished is kept. `tipguard stop` does the same from any other terminal.
    """

    def request() -> Request:
        chosen = chosen_points(points, line, grid, kind)
        sweeps = sweeps_of(sweep or [], chosen)
        warn_of_same_places(chosen)
        return Request(
            "trigger-map",
            {
                "points": rows_of(chosen),
                "to_v": to_v,
                "rate_v_s": rate_v_s,
                "level_s": level_s,
                "sweeps": sweeps,
                "order": order,
                "seed": seed,
                "zero": zero,
                "electrical_check": electrical_check,
                "max_invalid": max_invalid,
                "accept_clamp": accept_clamp,
                "accept_unprotected_host": accept_unprotected_host,
            },
            cuts=len(chosen),
            refused=lambda error: at_lines(error, chosen),
        )

    run(config, request, json=json)


def chosen_points(points: Path | None, line: str | None, grid: str | None, kind: str) -> list[MapPoint]:
    """Return the points that were asked for, in exactly one way; raise ConfigError."""
    given = [name for name, value in (("--points", points), ("--line", line), ("--grid", grid)) if value is not None]
    if len(given) != 1:
        told = f"{' and '.join(given)} exclude each other" if given else "no points"
        raise ConfigError(
            f"{told}: expected one of --points FILE.csv, --line X0,Y0,X1,Y1,N and --grid X0,Y0,X1,Y1,NX,NY"
        )
    if points is not None:
        if kind:
            raise ConfigError(f"--kind: the kinds of --points stand in its file: {points}", key="--kind")
        return read_points(points)
    return line_points(line, kind.lower()) if line is not None else grid_points(str(grid), kind.lower())


def sweeps_of(texts: list[str], points: list[MapPoint]) -> dict[str, list[float]]:
    """Return the sweeps by kind; raise ConfigError for one that no point would get, or that is there twice."""
    sweeps: dict[str, list[float]] = {}
    kinds = {point.kind for point in points}
    for text in texts:
        kind, sweep = parse_sweep(text)
        if kind in sweeps:
            raise ConfigError(f"--sweep: value {shown(text)}: there is one for {kind} already", key="--sweep")
        if kind not in kinds:
            there = ", ".join(sorted(kinds - {""})) or "no kind"
            raise ConfigError(
                f"--sweep: value {shown(text)}: no point is of this kind, they are of {there}; see --kind, or the "
                "column kind of the file",
                key="--sweep",
            )
        sweeps[kind] = sweep
    return sweeps


def parse_sweep(text: str) -> tuple[str, list[float]]:
    """Return kind and ``[to_v, rate_v_s]`` of ``KIND:TO_V:RATE``; raise ConfigError."""
    kind, *numbers = (part.strip() for part in text.split(":"))
    try:
        to_v, rate_v_s = (float(number) for number in numbers)
    except ValueError:
        to_v = rate_v_s = float("nan")
    # What is not finite would be refused later, in words that nobody typed.
    if kind.lower() not in KINDS[:-1] or not abs(to_v) + abs(rate_v_s) < float("inf"):
        raise ConfigError(
            f"--sweep: value {shown(text)}: expected KIND:TO_V:RATE, kind gb, gi or hl, V and V/s, as gi:-10:1",
            key="--sweep",
        )
    return kind.lower(), [to_v, rate_v_s]


def rows_of(points: list[MapPoint]) -> list[list[float | str]]:
    """Return the points as the plan wants them; raise ConfigError if they do not fit into one message."""
    rows = [point.row() for point in points]
    size = len(msgpack.packb(rows))
    if size > MAX_ROWS_BYTES:
        raise ConfigError(
            f"{len(points)} points with their labels take {size} bytes, {MAX_ROWS_BYTES} can be sent at once; shorten "
            "the labels, or split the map"
        )
    return rows


def warn_of_same_places(points: list[MapPoint]) -> None:
    """Say which points are visited more than once."""
    pairs = same_places(points)
    if not pairs:
        return
    named = ", ".join(f"{name_of(points, second)} as {name_of(points, first)}" for first, second in pairs[:MAX_NAMED])
    more = f" and {len(pairs) - MAX_NAMED} more" if len(pairs) > MAX_NAMED else ""
    say(err, f"warning: at the same place: {named}{more}; a second visit finds what the first one left", "yellow")


def name_of(points: list[MapPoint], index: int) -> str:
    """Return what a person calls a point: its line in the file, or its number."""
    line = points[index].line
    return f"line {line}" if line else f"point {index + 1}"


def at_lines(error: PlanRefusedError, points: list[MapPoint]) -> PlanRefusedError:
    """Return a refusal that names points of a file by their lines too."""

    def with_line(match: re.Match[str]) -> str:
        index = int(match[1]) - 1
        line = points[index].line if 0 <= index < len(points) else 0
        return f"{match[0]} (line {line})" if line else match[0]

    return PlanRefusedError(re.sub(r"\bpoint (\d+)\b", with_line, str(error)), reason=error.reason)
