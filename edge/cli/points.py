"""Points of a map, as typed: along a line, on a grid. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from edge.errors import ConfigError
from edge.experiments.trigger_map import KINDS, MAX_POINTS

FAR_UM: Final = 1e6
"""No stage goes further than a metre; the controller knows its travel."""
NUMBER: Final = re.compile(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]{1,3})?")
_EXAMPLES: Final = {"--line": "40,50,60,50,11", "--grid": "40,40,60,60,5,5", "--at": "50,50"}


@dataclass(frozen=True, slots=True)
class MapPoint:
    """One point in m. ``line``: where it stands in its file, 0 where there is none."""

    x_m: float
    y_m: float
    kind: str = ""
    label: str = ""
    line: int = 0

    def row(self) -> list[float | str]:
        """Return it as the plan wants it."""
        return [self.x_m, self.y_m, self.kind, self.label]


def same_places(points: list[MapPoint]) -> list[tuple[int, int]]:
    """Return pairs of indices, a point and the first one at the same place: it will find what that one left."""
    first: dict[tuple[float, float], int] = {}
    pairs = []
    for index, point in enumerate(points):
        earlier = first.setdefault((point.x_m, point.y_m), index)
        if earlier != index:
            pairs.append((earlier, index))
    return pairs


def line_points(text: str, kind: str = "") -> list[MapPoint]:
    """Return N points from one end to the other, both included, for ``X0,Y0,X1,Y1,N`` in um; raise ConfigError."""
    x0, y0, x1, y1, n = _numbers("--line", text, "X0,Y0,X1,Y1,N", 4)
    if n == 1 and (x0, y0) != (x1, y1):
        raise _typed("--line", text, "at least 2 points between two ends")
    _check_kind(kind)
    xs, ys = _spread(x0, x1, int(n)), _spread(y0, y1, int(n))
    return [_at(x, y, kind) for x, y in zip(xs, ys, strict=True)]


def grid_points(text: str, kind: str = "") -> list[MapPoint]:
    """Return NX by NY points, x fastest, edges included, for ``X0,Y0,X1,Y1,NX,NY`` in um; raise ConfigError."""
    x0, y0, x1, y1, nx, ny = _numbers("--grid", text, "X0,Y0,X1,Y1,NX,NY", 4)
    for name, first, last, count in (("X", x0, x1, nx), ("Y", y0, y1, ny)):
        if (count == 1) is not (first == last):
            raise _typed("--grid", text, f"1 point between equal ends in {name}, more between different ones")
    if nx * ny > MAX_POINTS:
        raise _typed("--grid", text, f"at most {MAX_POINTS} points, these are {nx * ny:f}")
    _check_kind(kind)
    return [_at(x, y, kind) for y in _spread(y0, y1, int(ny)) for x in _spread(x0, x1, int(nx))]


def place(option: str, text: str) -> tuple[float, float]:
    """Return ``X,Y``, typed in um, in m; raise ConfigError."""
    x_um, y_um = _numbers(option, text, "X,Y", 2)
    return metre(x_um), metre(y_um)


def _numbers(option: str, text: str, form: str, places: int) -> list[Decimal]:
    """Return ``places`` positions in um and, after them, whole numbers of points."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != form.count(",") + 1 or not all(NUMBER.fullmatch(part) for part in parts):
        raise _typed(option, text, f"{form} with positions in um, as {_EXAMPLES[option]}")
    values = [Decimal(part) for part in parts]
    if any(abs(value) > FAR_UM for value in values[:places]):
        raise _typed(option, text, f"positions of {-FAR_UM:g} to {FAR_UM:g} um")
    if not all(1 <= value <= MAX_POINTS and value == int(value) for value in values[places:]):
        raise _typed(option, text, f"1 to {MAX_POINTS} points")
    return values


def _typed(option: str, text: str, expected: str) -> ConfigError:
    return ConfigError(f"{option}: value {shown(text)}: expected {expected}", key=option)


def _spread(first: Decimal, last: Decimal, count: int) -> list[Decimal]:
    if count == 1:
        return [first]
    step = (last - first) / (count - 1)
    # Rounded to a tenth of a femtometre: no digits that nobody typed.
    return [*((first + step * i).quantize(Decimal("1e-10")) for i in range(count - 1)), last]


def _at(x_um: Decimal, y_um: Decimal, kind: str) -> MapPoint:
    return MapPoint(metre(x_um), metre(y_um), kind)


def metre(value_um: Decimal) -> float:
    """Return um as m."""
    # Through Decimal: 12.3 um is 1.23e-05 m and not 1.2299999999999999e-05 m. + 0.0: no -0.0.
    return float(value_um.scaleb(-6)) + 0.0


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ConfigError(f"--kind: value {shown(kind)}: expected gb, gi or hl", key="--kind")


def shown(value: str) -> str:
    """Return what somebody wrote, in quotation marks and not too long."""
    return f"{value!r:.60}"
