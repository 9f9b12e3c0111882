"""A memristor's cycles: how far its two states lie apart, and where the rig could no longer tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edge.analysis.plot_style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VERMILION,
    Floats,
    caption_figure,
    largest,
    legend_if_any,
    new_figure,
    si_axis,
    styled,
)
from edge.analysis.si import si

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BAND: Final = "#CFE3F0"
_MANY: Final = 60
_LEGEND: Final = 0.3
"""The share of the axes' height that the legend takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CyclesPicture:
    """What a picture of cycles shows: arrays of one length, one entry a cycle, NaN where there is none.

    ``cycle``: its number. ``on_off``: ratio of the currents of the two states; ``on_off_is_bound`` (bool): it is at
    least that, the off current was below the detection limit. ``r_on_ohm``. ``hrs_a``: mean off current, zero
    subtracted, A. ``lod_a``: the detection limit, A; NaN if unknown. ``set_bias_v``, ``reset_bias_v``: V.
    ``reset_ok`` (bool): as the plan judged it. ``read_v``: the bias of the off read, V.
    """

    cycle: Floats
    on_off: Floats
    on_off_is_bound: Floats
    r_on_ohm: Floats
    hrs_a: Floats
    set_bias_v: Floats
    reset_bias_v: Floats
    reset_ok: Floats
    lod_a: float = float("nan")
    read_v: float = 0.1
    title: str = ""
    caption: str = ""


def cycles_figure(picture: CyclesPicture) -> Figure:
    """Draw on/off by cycle (logarithmic; bounds as triangles with a band above), and what it is made of."""

    def draw() -> Figure:
        figure = new_figure(13.0, 6.6)
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1.3, 1.0])[0]
        _ratios(left.subplots(), picture)
        on, off, bias = right.subplots(3, 1, sharex=True)
        _on(on, picture)
        _off(off, picture)
        _biases(bias, picture)
        caption_figure(figure, picture.title, picture.caption)
        return figure

    return styled(draw)


def _true(flags: Floats) -> Floats:
    return np.asarray(flags, dtype=bool)


def _cycle_axis(axes: Axes, cycle: Floats) -> None:
    from matplotlib.ticker import MaxNLocator

    low, high = (float(cycle.min()), float(cycle.max())) if len(cycle) else (0.0, 1.0)
    axes.set_xlim(low - 0.7, high + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_xlabel("Cycle")


def _size(picture: CyclesPicture, few: float) -> float:
    """Return a marker's size, smaller where many stand side by side."""
    return few if len(picture.cycle) <= _MANY else 0.6 * few


# -------------------------------------------------------------------------------------------------------- ratio


def _ratios(axes: Axes, p: CyclesPicture) -> None:
    known = np.isfinite(p.on_off) & (p.on_off > 0)
    bound, failed = known & _true(p.on_off_is_bound), ~_true(p.reset_ok)
    resolved = known & ~bound
    axes.set_yscale("log")
    bottom, top = _ratio_limits(axes, p.on_off[known])
    if bound.any():
        x, y = p.cycle[bound], p.on_off[bound]
        label = "the true ratio is somewhere in here"
        axes.bar(x, top - y, bottom=y, width=1.0, color=_BAND, lw=0, antialiased=False, zorder=1, label=label)
        limit = f" ({si(p.lod_a, 'A', 2)})" if p.lod_a > 0 else ""
        label = f"at least: off current below the detection limit{limit}"
        axes.plot(x, y, "^", ms=_size(p, 9), color=BLUE, mec="white", label=label, zorder=3)
    if resolved.any():
        x, y = p.cycle[resolved], p.on_off[resolved]
        axes.plot(x, y, "o", ms=_size(p, 8), color=GREEN, mec="white", label="resolved", zorder=3)
    _ceiling(axes, p, known, bound)
    if failed.any():
        # Without a ratio, for example of a saturated read, it stands at the edge.
        height = np.where(known, p.on_off, bottom)[failed]
        label = "reset failed"
        axes.plot(p.cycle[failed], height, "x", ms=13, mew=2.5, color=VERMILION, label=label, clip_on=False, zorder=4)
    _cycle_axis(axes, p.cycle)
    axes.set_ylabel(f"On/off ratio at {si(p.read_v, 'V', 1)}")
    legend_if_any(axes, "lower left")
    if not known.any():
        axes.text(0.5, 0.5, "no cycle has a ratio", transform=axes.transAxes, ha="center", color=GREY)
    axes.set_title(_counted(known, bound, failed), fontsize=11.5)


def _ratio_limits(axes: Axes, values: Floats) -> tuple[float, float]:
    """Leave room for the band above and for the legend below all values; return both ends."""
    low, high = (np.log10(values.min()), np.log10(values.max())) if len(values) else (2.0, 4.0)
    top = np.ceil(high + 0.8)
    bottom = (low - _LEGEND * top) / (1 - _LEGEND)
    axes.set_ylim(10**bottom, 10**top)
    return float(10**bottom), float(10**top)


def _ceiling(axes: Axes, p: CyclesPicture, known: Floats, bound: Floats) -> None:
    """Draw the largest ratio that could have been told: with the detection limit in place of the off current."""
    if not (p.lod_a > 0 and known.any()):
        return
    # A bound has the detection limit in its denominator already.
    off = np.where(bound, p.lod_a, np.abs(p.hrs_a))[known]
    label = f"most that could be told: on current / {si(p.lod_a, 'A', 2)}"
    axes.plot(p.cycle[known], p.on_off[known] * off / p.lod_a, ":", lw=1.5, color="black", label=label, zorder=2)


def _counted(known: Floats, bound: Floats, failed: Floats) -> str:
    """Return how many cycles there are of which sort; what there is none of is left out, but for the first two."""
    cycles, bounds = len(known), int(bound.sum())
    told = "1 cycle" if cycles == 1 else f"{cycles} cycles"
    told += f": {int(known.sum()) - bounds} resolved, {bounds} at least"
    without, resets = cycles - int(known.sum()), int(failed.sum())
    told += f", {without} without a ratio" if without else ""
    return told + (f", {resets} not reset" if resets else "")


# -------------------------------------------------------------------------------------------- what it is made of


def _on(axes: Axes, p: CyclesPicture) -> None:
    axes.plot(p.cycle, p.r_on_ohm, "o-", ms=_size(p, 5), lw=1, color=BLUE)
    most = largest(p.r_on_ohm)
    axes.set_ylim(0, most * 1.2)
    si_axis(axes.yaxis, most, "On resistance", "Ω")


def _off(axes: Axes, p: CyclesPicture) -> None:
    """Draw the off current in units of the detection limit, logarithmic; below 1 it is no more than an upper bound."""
    from matplotlib.ticker import FuncFormatter

    axes.set_ylabel("|Off current|\n/ detection limit")
    if not p.lod_a > 0:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "detection limit unknown", transform=axes.transAxes, ha="center", color=GREY)
        return
    share = np.abs(p.hrs_a) / p.lod_a
    shown = share[np.isfinite(share)]
    low = 0.01
    high = max(float(shown.max(initial=1.0)) * 3, 10.0)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
    axes.axhspan(low, 1, color="#E5E5E5", lw=0, zorder=0)
    axes.axhline(1, color=GREY, lw=1)
    told = f"grey: below the detection limit, {si(p.lod_a, 'A', 2)}"
    axes.set_title(told, loc="left", fontsize=10, color=GREY)
    # An empty line that is not clipped has no extent, and the layout gives up.
    if len(share):
        axes.plot(p.cycle, np.maximum(share, low), "o", ms=_size(p, 5), color=GREEN, clip_on=False)


def _biases(axes: Axes, p: CyclesPicture) -> None:
    axes.axhline(0, color=GREY, lw=0.8)
    axes.plot(p.cycle, p.reset_bias_v, "s", ms=_size(p, 5), color=ORANGE, mec=GREY, mew=0.6, label="reset")
    axes.plot(p.cycle, p.set_bias_v, "o", ms=_size(p, 5), color=BLUE, label="set")
    si_axis(axes.yaxis, largest(p.set_bias_v, p.reset_bias_v), "Tip bias", "V")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=2, borderpad=0.0)
    _cycle_axis(axes, p.cycle)
