"""A trigger map: where on the grains the tip was, at which drive each point triggered, and how the kinds compare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edge.analysis.plot_style import GREY, KIND_NAMES, Floats, caption_figure, new_figure, si_axis, styled
from edge.analysis.si import si

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

TRIGGERED: Final = "triggered"
CENSORED: Final = "censored"
LRS_AT_START: Final = "lrs_at_start"
INVALID: Final = "invalid"

_SHAPES: Final = {TRIGGERED: "o", CENSORED: "^", LRS_AT_START: "s", INVALID: "X"}
_CLASS_NAMES: Final = {
    TRIGGERED: "triggered",
    CENSORED: "did not trigger: needs more than shown",
    LRS_AT_START: "conducted before the sweep",
    INVALID: "not measured (invalid)",
}
_COLOURS: Final = "viridis"
_MOST_LABELS: Final = 30
_MAP_WIDTH_PT: Final = 370.0
"""About how wide the map is drawn, in points."""
_MARGIN: Final = 0.12


def _no_boundaries() -> Floats:
    return np.empty((0, 2, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPoint:
    """One visited point. ``outcome``: "triggered", "censored", "lrs_at_start" or "invalid".

    ``x_m``, ``y_m``: where it is drawn, m. ``site_kind``: "gb", "gi", "hl" or "". ``trigger_bias_v``: the tip's bias at
    the trigger, V (plating negative), None without. ``beyond_v``: the largest \\|bias\\| reached without a trigger, V.
    """

    x_m: float
    y_m: float
    outcome: str
    site_kind: str = ""
    label: str = ""
    trigger_bias_v: float | None = None
    beyond_v: float | None = None

    @property
    def drive_v(self) -> float | None:
        """\\|V\\| of the trigger, or how far a censored point went; None where neither is known."""
        value = {TRIGGERED: self.trigger_bias_v, CENSORED: self.beyond_v}.get(self.outcome)
        return None if value is None or not math.isfinite(value) or value == 0 else abs(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPicture:
    """What a map shows. ``boundaries_m``: grain boundaries as straight lines, shape (n, 2, 2): line, end, (x, y); m.

    ``boundaries_from``: who says so; no real rig knows them.
    """

    points: tuple[MapPoint, ...]
    boundaries_m: Floats = field(default_factory=_no_boundaries)
    boundaries_from: str = "grain boundary: twin's truth record"
    title: str = ""
    caption: str = ""


@dataclass(frozen=True, slots=True)
class DriveMedian:
    """The median of the drives of ``n`` points, V; None without points.

    ``at_least``: so many were censored that the median is known only as a lower bound.
    """

    value_v: float | None
    at_least: bool
    n: int
    censored: int


def drive_median(points: Sequence[MapPoint]) -> DriveMedian:
    """Return the median drive of triggered and censored points; what did not trigger counts as triggering later."""
    counted = [(drive, point.outcome == CENSORED) for point in points if (drive := point.drive_v) is not None]
    if not counted:
        return DriveMedian(None, at_least=False, n=0, censored=0)
    low = float(np.median([drive for drive, _ in counted]))
    # If those that did not trigger had gone on for ever, would the median be the same?
    in_order = sorted(math.inf if censored else drive for drive, censored in counted)
    middle = in_order[(len(in_order) - 1) // 2], in_order[len(in_order) // 2]
    high = 0.5 * (middle[0] + middle[1])
    return DriveMedian(low, high > low * (1 + 1e-9), len(counted), sum(censored for _, censored in counted))


def map_figure(picture: MapPicture) -> Figure:
    """Draw the points on the grains, coloured by \\|V\\| of their trigger, and beside it the drives by kind of site."""

    def draw() -> Figure:
        figure = new_figure(13.0, 6.4)
        grains, strip = figure.subplots(1, 2, width_ratios=[1.25, 1.0])
        norm = _norm(picture.points)
        _grains(grains, picture, norm)
        _strip(strip, picture, norm)
        caption_figure(figure, picture.title, picture.caption)
        return figure

    return styled(draw)


def _norm(points: Sequence[MapPoint]) -> LogNorm | None:
    from matplotlib.colors import LogNorm

    drives = [drive for point in points if (drive := point.drive_v) is not None]
    if not drives:
        return None
    low, high = min(drives), max(drives)
    # A scale from a value to itself has no colours.
    return LogNorm(low, high) if high > low * 1.01 else LogNorm(low / 1.5, high * 1.5)


def _mark(axes: Axes, at: tuple[float, float], point: MapPoint, norm: LogNorm | None, size: float, **more: Any) -> None:  # noqa: ANN401 - what Axes.plot takes
    """Draw one point: the shape says what happened, the colour at which drive, where there is one."""
    import matplotlib as mpl

    drive = point.drive_v
    if drive is not None and norm is not None:
        look: dict[str, Any] = {"mfc": mpl.colormaps[_COLOURS](norm(drive)), "mec": "black"}
    else:
        look = {"mfc": "white" if point.outcome == LRS_AT_START else GREY, "mec": "black"}
    axes.plot(at[0], at[1], _SHAPES.get(point.outcome, "X"), ms=size, mew=1.0, **look, **more)


# -------------------------------------------------------------------------------------------------------- where


def _grains(axes: Axes, p: MapPicture, norm: LogNorm | None) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D

    left, right, bottom, top = _frame(p)
    handles = []
    if len(p.boundaries_m):
        axes.add_collection(LineCollection(list(p.boundaries_m), colors=GREY, linewidths=1.2, zorder=1))
        handles.append(Line2D([], [], color=GREY, lw=1.2, label=p.boundaries_from))
    for point in p.points:
        _mark(axes, (point.x_m, point.y_m), point, norm, 11, zorder=3)
    seen = {point.outcome for point in p.points}
    handles += [
        Line2D([], [], ls="", marker=shape, mfc="white", mec="black", ms=9, label=_CLASS_NAMES[outcome])
        for outcome, shape in _SHAPES.items()
        if outcome in seen
    ]
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_aspect("equal")
    if len(p.points) <= _MOST_LABELS:
        _labels(axes, p.points, right - left)
    else:
        axes.set_title(f"{len(p.points)} points", fontsize=11.5)
    if not p.points:
        axes.text(0.5, 0.5, "no point was visited", transform=axes.transAxes, ha="center", color=GREY)
    si_axis(axes.xaxis, max(abs(left), abs(right)), "Stage x", "m")
    si_axis(axes.yaxis, max(abs(bottom), abs(top)), "Stage y", "m")
    if handles:
        axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, fontsize=10)
    if norm is not None:
        _colour_bar(axes, norm)


def _frame(p: MapPicture) -> tuple[float, float, float, float]:
    """Return left, right, bottom, top in m: around the points, a square of at least 100 nm."""
    where = np.array([(point.x_m, point.y_m) for point in p.points if math.isfinite(point.x_m + point.y_m)])
    if not len(where):
        where = p.boundaries_m.reshape(-1, 2)
    if not len(where):
        where = np.zeros((1, 2))
    low, high = where.min(axis=0), where.max(axis=0)
    middle = 0.5 * (low + high)
    half = max(0.5 * float((high - low).max()) * (1 + 2 * _MARGIN), 50e-9)
    return middle[0] - half, middle[0] + half, middle[1] - half, middle[1] + half


def _labels(axes: Axes, points: Sequence[MapPoint], width_m: float) -> None:
    """Write each point's label beside it, on the side where it is farthest from other points and labels."""
    shown = [point for point in points if math.isfinite(point.x_m + point.y_m)]
    taken = [np.array([point.x_m, point.y_m]) / width_m * _MAP_WIDTH_PT for point in shown]
    marks = list(taken)
    for point, mark in zip(shown, marks, strict=True):
        if not point.label:
            continue
        # Half of a label is about this wide, in points.
        half = 3.2 * len(point.label)
        sides = [(dx * (half + 9), dy) for dx in (1, -1) for dy in (5, -9)] + [(0.0, 14.0), (0.0, -14.0)]
        others = [place for place in taken if place is not mark]
        best = max(sides, key=lambda side: _room(mark + np.array(side), others))
        taken.append(mark + np.array(best))
        axes.annotate(
            point.label,
            (point.x_m, point.y_m),
            xytext=best,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9.5,
            zorder=4,
            bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.7},
        )


def _room(at: Floats, others: Sequence[Floats]) -> float:
    """Return how far the nearest other is, in points; far is far enough."""
    return min([60.0, *(float(np.hypot(*(at - other))) for other in others)])


def _colour_bar(axes: Axes, norm: LogNorm) -> None:
    from matplotlib.cm import ScalarMappable

    bar = axes.figure.colorbar(ScalarMappable(norm, _COLOURS), ax=axes, pad=0.02, shrink=0.85)
    _volt_ticks(bar.ax.yaxis, norm.vmin or 1.0, norm.vmax or 1.0)
    bar.ax.set_title("|V| at trigger", fontsize=10.5, pad=14)


def _volt_ticks(axis: Any, low_v: float, high_v: float) -> None:  # noqa: ANN401 - matplotlib's XAxis or YAxis
    """Label a logarithmic axis in volts at 1, 2, 5 of each decade, or at less if there are many."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    decades = math.log10(high_v / low_v)
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 3 else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _position: si(float(f"{value:.3g}"), "V", 1)))
    axis.set_minor_formatter(NullFormatter())


# --------------------------------------------------------------------------------------------------------- kinds


def _strip(axes: Axes, p: MapPicture, norm: LogNorm | None) -> None:
    """Draw the drives by kind of site, with their median; what did not trigger points up."""
    kinds = [kind for kind in KIND_NAMES if any(point.site_kind == kind for point in p.points)]
    kinds += sorted({point.site_kind for point in p.points} - set(KIND_NAMES))
    names = []
    for place, kind in enumerate(kinds):
        here = [point for point in p.points if point.site_kind == kind]
        _strip_of(axes, place, here, norm)
        names.append(_kind_told(kind, here, narrow=len(kinds) > 2))
    axes.set_xlim(-0.6, max(len(kinds) - 0.4, 0.6))
    axes.set_xticks(range(len(kinds)), names)
    axes.tick_params(axis="x", length=0, labelsize=11 if len(kinds) < 4 else 8.5)
    axes.set_ylabel("|Tip bias| at the trigger, logarithmic")
    if norm is None:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no point was swept", transform=axes.transAxes, ha="center", color=GREY)
        return
    axes.set_yscale("log")
    low, high = (norm.vmin or 1.0) / 1.8, (norm.vmax or 1.0) * 2.2
    axes.set_ylim(low, high)
    _volt_ticks(axes.yaxis, low, high)
    axes.grid(axis="y", color="#EEEEEE", zorder=0)


def _strip_of(axes: Axes, place: int, points: Sequence[MapPoint], norm: LogNorm | None) -> None:
    swept = [(point, drive) for point in points if (drive := point.drive_v) is not None]
    # Side by side in the order of their drive, so that none hides another, the same in every picture.
    for number, (point, drive) in enumerate(sorted(swept, key=lambda pair: pair[1])):
        abreast = min(len(swept), 5)
        x = place + 0.15 * ((number % abreast) - (abreast - 1) / 2)
        _mark(axes, (x, drive), point, norm, 9, zorder=3)
        if point.outcome == CENSORED:
            axes.annotate(
                "",
                (x, drive * 1.45),
                (x, drive * 1.08),
                arrowprops={"arrowstyle": "->", "color": "black", "lw": 1.2},
                zorder=2,
            )
    median = drive_median(points)
    if median.value_v is not None:
        axes.plot(
            [place - 0.42, place + 0.42],
            [median.value_v] * 2,
            "--" if median.at_least else "-",
            lw=2.5,
            color="black",
            zorder=2,
        )


def _kind_told(kind: str, points: Sequence[MapPoint], *, narrow: bool) -> str:
    median = drive_median(points)
    name = KIND_NAMES.get(kind, kind)
    lines = [name.replace(" ", "\n", 1) if narrow else name]
    if median.value_v is None:
        lines.append("no trigger bias")
    else:
        lines.append(f"median {'> ' if median.at_least else ''}{si(median.value_v, 'V')}")
        lines.append("1 point" if median.n == 1 else f"{median.n} points")
        lines.append(f"{median.censored} untriggered" if median.censored else "all triggered")
    left_out = len(points) - median.n
    if left_out:
        lines.append(f"{left_out} not counted")
    return "\n".join(lines)
