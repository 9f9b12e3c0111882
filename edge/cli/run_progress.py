"""The line that a run has while it runs: how much is done, what it is at, bias and current."""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

_DOING: Final = {"ARMED": "arming", "ENERGISED": "sweeping", "CUTTING": "cutting"}
_COUNTED = re.compile(r"(?:point|cycle) (\d+) of (\d+)(?: \((.*?)\))?: (.*)")


class Done(Protocol):
    """How much of a run is done."""

    def update(self, status: dict[str, Any]) -> float:
        """Return the part done, 0 to 1; never less than before."""


class SweepProgress:
    """Of an ``iv``: what the plan says, and within a cycle where the bias is on 0 -> to_v -> 0."""

    def __init__(self) -> None:
        self._base = -1.0
        self._farthest_v = 0.0
        self._done = 0.0

    def update(self, status: dict[str, Any]) -> float:
        """See Done."""
        run, sample = status["run"], status["sample"]
        if run["progress"] != self._base:
            self._base, self._farthest_v = run["progress"], 0.0
        parameters = run["parameters"]
        to_v, cycles = parameters.get("to_v"), parameters.get("cycles", 1)
        part = 0.0
        if to_v and sample and status["state"] == "ENERGISED" and status["phase"] == "SEEK":
            way = min(max(sample["bias_v"] / to_v, 0.0), 1.0)
            self._farthest_v = max(self._farthest_v, way)
            # A step's noise in the read-back bias is no turning point.
            turned = way < self._farthest_v - 0.05 or way > 0.999
            part = 1.0 - way / 2 if turned else way / 2
        self._done = max(self._done, run["progress"] + part / cycles)
        return min(self._done, 1.0)


class CountedProgress:
    """Of a plan that tells how far it is itself."""

    def __init__(self) -> None:
        self._done = 0.0

    def update(self, status: dict[str, Any]) -> float:
        """See Done."""
        self._done = max(self._done, float(status["run"]["progress"]))
        return min(self._done, 1.0)


def doing(status: dict[str, Any]) -> str:
    """Return what the controller is at, in a word."""
    if status["state"] == "ENERGISED" and status["phase"] != "SEEK":
        return "reading"
    return _DOING.get(status["state"], "")


def shortened(text: str) -> str:
    """Return ``3/10 GB a: moving`` for ``point 3 of 10 (GB a): moving``: what is left of a line is for the numbers."""
    found = _COUNTED.fullmatch(text)
    if found is None:
        return text
    number, of, what, rest = found.groups()
    # A point without a name of its own is called by its number in the list.
    named = f" {what}" if what and not what.startswith("no. ") else ""
    return f"{number}/{of}{named}: {rest}"


def columns(width: int, *, with_doing: bool) -> list[ProgressColumn]:
    """Return what stands in the line of a run on a terminal of ``width`` characters."""
    # What stands right of the text: a column that grows would push the others out. Plans that count say themselves
    # what they do.
    room = max(width - (48 if with_doing else 39), 12)
    doing_column = TextColumn("{task.fields[doing]}", table_column=Column(no_wrap=True, min_width=8))
    return [
        TextColumn(
            "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", max_width=room)
        ),
        *([doing_column] if with_doing else []),
        TextColumn("{task.fields[now]}", table_column=Column(no_wrap=True, min_width=18, justify="right")),
        BarColumn(bar_width=10),
        TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
    ]
