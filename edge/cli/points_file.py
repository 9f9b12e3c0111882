"""Points of a map from a CSV file. Pure but for :func:`read_points`.

The file has a header, ``x_um,y_um[,kind][,label]``, and a point a line; lines that begin with # and empty ones are
skipped. A spreadsheet's file is understood: BOM, CRLF, semicolons or tabs between columns, and with these a
decimal comma. What could be meant in two ways is refused: a number a thousand times too large is a crash of the tip.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final

from edge.cli.points import FAR_UM, NUMBER, MapPoint, metre, shown
from edge.errors import ConfigError
from edge.experiments.trigger_map import KINDS, MAX_POINTS

MAX_BYTES: Final = 4 * 1024 * 1024
MAX_NAMED: Final = 10
"""Bad cells that a complaint names."""
MAX_LABEL: Final = 64
COLUMNS: Final = ("x_um", "y_um", "kind", "label")
SEPARATORS: Final = ";\t,"

_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class BadCell:
    """One thing that is wrong with a file."""

    line: int
    column: str
    value: str
    expected: str

    def __str__(self) -> str:
        """Say where, what, and what would be right."""
        return f"line {self.line}, {self.column}: value {shown(self.value)}: expected {self.expected}"


class PointsError(ConfigError):
    """A file of points cannot be used; ``bad`` names every cell that is wrong."""

    def __init__(self, message: str, *, file: str, bad: tuple[BadCell, ...] = ()) -> None:
        super().__init__(message, file=file)
        self.bad = bad


@dataclass(slots=True)
class _Decimals:
    """Where the first decimal comma and the first decimal point of a file stand."""

    first: dict[str, int] = field(default_factory=dict)

    def mixed(self, mark: str, line: int) -> int | None:
        """Note a mark; return the line of the other one, if there is one."""
        self.first.setdefault(mark, line)
        return self.first.get("," if mark == "." else ".")


def read_points(path: Path) -> list[MapPoint]:
    """Read a file of points; raise PointsError with everything that is wrong with it."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise PointsError(f"{file}: {error.strerror}", file=file) from error
    if len(data) > MAX_BYTES:
        raise PointsError(f"{file}: more than {MAX_BYTES >> 20} MB; is this a file of points?", file=file)
    # A BOM of UTF-16, which spreadsheets call Unicode text.
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise PointsError(f"{file}: UTF-16 text; save it as CSV, UTF-8", file=file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PointsError(
            f"{file}: line {line}: not UTF-8 text (byte {error.start}); save it as CSV, UTF-8", file=file
        ) from error
    return parse_points(text, file)


def parse_points(text: str, file: str) -> list[MapPoint]:
    """Return the points in the text of a file, at least one; raise PointsError with everything that is wrong."""
    lines = [
        (number, line)
        for number, line in enumerate(_LINE_END.split(text.removeprefix("\ufeff")), 1)
        if line.strip(" \t;,") and not line.lstrip(' \t"').startswith("#")
    ]
    if not lines:
        raise PointsError(f"{file}: no points; expected a header x_um,y_um,kind,label and a point a line", file=file)
    separator, columns = _header(*lines[0], file)
    points: list[MapPoint] = []
    bad: list[BadCell] = []
    decimals = _Decimals()
    for number, line in lines[1:]:
        wrong: list[BadCell] = []
        point = _point(number, line, separator, columns, decimals, wrong)
        bad += wrong
        if not wrong:
            points.append(point)
    if bad:
        raise PointsError(_complaint(file, bad, len(lines) - 1), file=file, bad=tuple(bad))
    if not points:
        raise PointsError(f"{file}: a header and no points; expected a point a line", file=file)
    if len(points) > MAX_POINTS:
        raise PointsError(
            f"{file}: {len(points)} points: expected at most {MAX_POINTS}; split the map into several files", file=file
        )
    return points


def _header(number: int, line: str, file: str) -> tuple[str, list[str]]:
    """Return the separator and the columns' names, "" for those without one."""
    # No name has any of them in it, so the header tells, whatever the numbers below look like.
    separator = next((mark for mark in SEPARATORS if mark in line), ",")
    columns = [name.strip().lower() for name in _cells(line, separator) or [line]]
    unknown = [name for name in columns if name and name not in COLUMNS]
    expected = "expected a header of x_um and y_um, and if you like kind and label"
    if unknown:
        unit = "; positions are in micrometres" if re.fullmatch(r"[xy]([ _\[(].*)?", unknown[0]) else ""
        raise PointsError(f"{file}: line {number}: column {shown(unknown[0])}: {expected}{unit}", file=file)
    missing = [name for name in COLUMNS[:2] if name not in columns]
    if missing:
        raise PointsError(f"{file}: line {number}: no column {' and '.join(missing)}: {expected}", file=file)
    if columns[0] not in COLUMNS[:2]:
        # A label that begins with # would look like a comment.
        raise PointsError(f"{file}: line {number}: column {shown(columns[0])} comes first: put x_um there", file=file)
    twice = [name for name in COLUMNS if columns.count(name) > 1]
    if twice:
        raise PointsError(f"{file}: line {number}: column {twice[0]} is there twice", file=file)
    return separator, columns


def _cells(line: str, separator: str) -> list[str] | None:
    """Return the cells of a line, or None where a quotation mark has no partner."""
    # A line at a time: an open quotation mark must not swallow the lines below.
    try:
        rows = list(csv.reader([line], delimiter=separator, strict=True, skipinitialspace=True))
    except csv.Error:
        return None
    return [cell.strip() for cell in rows[0]] if rows else []


def _point(
    number: int, line: str, separator: str, columns: list[str], decimals: _Decimals, bad: list[BadCell]
) -> MapPoint:
    """Return the point of a line; what is wrong with it goes to ``bad``."""
    cells = _cells(line, separator)
    if cells is None:
        bad.append(BadCell(number, "whole line", line, 'quotation marks in pairs, as in "a label"'))
        return MapPoint(0.0, 0.0)
    extra = [cell for cell in cells[len(columns) :] if cell]
    if extra:
        comma = "; a decimal comma needs semicolons between the columns" if separator == "," else ""
        wanted = f"{len(columns)} columns as in the header{comma}"
        bad.append(BadCell(number, f"column {len(cells)}", extra[-1], wanted))
        return MapPoint(0.0, 0.0)
    values = dict.fromkeys(COLUMNS, "") | dict(zip(columns, cells, strict=False))
    nameless = [cell for name, cell in zip(columns, cells, strict=False) if cell and not name]
    if nameless:
        bad.append(BadCell(number, "a column without a name", nameless[0], "nothing, or a name in the header"))
    x_m, y_m = (_metres(number, name, values[name], separator, decimals, bad) for name in COLUMNS[:2])
    kind = values["kind"].lower()
    if kind not in KINDS:
        bad.append(BadCell(number, "kind", values["kind"], "gb, gi, hl or nothing"))
    label = values["label"]
    if len(label) > MAX_LABEL or not label.isprintable():
        bad.append(BadCell(number, "label", label, f"up to {MAX_LABEL} printable characters"))
    return MapPoint(x_m, y_m, kind, label, number)


def _metres(number: int, column: str, text: str, separator: str, decimals: _Decimals, bad: list[BadCell]) -> float:
    def wrong(expected: str) -> float:
        bad.append(BadCell(number, column, text, expected))
        return 0.0

    if not NUMBER.fullmatch(text) or (separator == "," and "," in text):
        return wrong("a number in um, as 12.5" + ("" if separator == "," else " or 12,5"))
    mark = next((mark for mark in ".," if mark in text), None)
    other = decimals.mixed(mark, number) if mark else None
    if other is not None:
        return wrong(f"the decimal mark of line {other}; one of the two may stand for thousands")
    value_um = Decimal(text.replace(",", "."))
    if abs(value_um) > FAR_UM:
        return wrong(f"{-FAR_UM:g} to {FAR_UM:g}")
    return metre(value_um)


def _complaint(file: str, bad: list[BadCell], rows: int) -> str:
    lines = len({cell.line for cell in bad})
    head = f"{file}: {lines} of {rows} points cannot be read; nothing was moved"
    more = [f"  and {len(bad) - MAX_NAMED} more"] if len(bad) > MAX_NAMED else []
    return "\n".join([head, *(f"  {cell}" for cell in bad[:MAX_NAMED]), *more])
