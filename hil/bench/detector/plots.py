"""Pictures of the detector bench. matplotlib is imported when the first is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from edge.analysis.plot_style import (
    BAND,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    caption_figure,
    new_figure,
    save_png,
    styled,
)
from edge.guard.thresholds import CUSUM_CAP_SIGMAS
from hil.bench.detector.core import CusumCore
from hil.bench.detector.steps import HORIZON, SITES, Comparison, Delays
from hil.bench.detector.theory import CusumTheory

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hil.bench.detector.bench import Measured

SITE: Final = SITES[1]
"""The site that pictures of several detectors show."""
_LOST: Final = 100.0
"""Where "not found" is drawn, on a logarithmic axis of readings."""
_TICKS: Final = (1, 2, 3, 5, 10, 20, 60)
_LINES: Final = {
    "guard": ("guard, as shipped", BLUE, "o", "-"),
    "guard.no_conductance": ("guard without its\nconductance limit", BLUE, "D", ":"),
    "focus.quiet": ("FOCuS", VERMILION, "s", "-"),
    "focus.structure": ("FOCuS, if no reading\nwere ever corrupt", ORANGE, "v", "--"),
    "focus.nuisance": ("FOCuS", VERMILION, "s", "-"),
    "threshold.quiet": ("threshold: left on the\nknown mean, right on |I|", GREEN, "^", "--"),
    "threshold.nuisance": ("threshold: left on the\nknown mean, right on |I|", GREEN, "^", "--"),
}
"""Name in words, colour, marker, line."""
_QUIET: Final = ("guard", "guard.no_conductance", "focus.quiet", "threshold.quiet")
_NUISANCE: Final = ("guard", "guard.no_conductance", "focus.structure", "focus.nuisance", "threshold.nuisance")
_SHARES: Final = (
    (1, 1, "1"),
    (2, 2, "2"),
    (3, 8, "3 to 8"),
    (9, HORIZON, f"9 to {HORIZON}"),
    (HORIZON + 1, HORIZON + 1, ""),
)
_SHADES: Final = (BLUE, GREEN, ORANGE, PURPLE, BAND)


def draw_all(measured: Measured, directory: Path) -> None:
    """Write every picture into ``directory``, made if absent; raises OSError if one cannot be written."""
    directory.mkdir(parents=True, exist_ok=True)
    pictures = {
        "detector-steps.png": lambda: _surges(measured, measured.steps, "Height of the step (decades)"),
        "detector-growth.png": lambda: _surges(measured, measured.growth, "Growth (readings per decade)"),
        "detector-delays.png": lambda: _distribution(measured),
        "detector-cusum.png": lambda: _cusum(measured),
        "detector-telegraph.png": lambda: _telegraph(measured),
    }
    for name, draw in pictures.items():
        save_png(styled(draw), directory / name)


def _at_site(comparisons: list[Comparison]) -> list[Comparison]:
    return [comparison for comparison in comparisons if comparison.site == SITE]


def _shown(delays: Delays, q: float) -> float:
    value = delays.quantile(q)
    return value if value <= HORIZON else _LOST


def _readings_axis(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.set_ylim(0.8, 140.0)
    axes.set_yticks([*_TICKS, _LOST], [*map(str, _TICKS), "not\nfound"])
    axes.minorticks_off()
    axes.axhspan(75.0, 140.0, color=BAND, alpha=0.7, lw=0, zorder=0)
    axes.grid(axis="y", color=BAND, lw=0.7)
    axes.set_axisbelow(True)
    axes.margins(x=0.04)


def _surges(measured: Measured, comparisons: list[Comparison], label: str) -> Figure:
    figure = new_figure(11.5, 5.2)
    left, right = figure.subplots(1, 2, sharey=True)
    at_site = _at_site(comparisons)
    x = [comparison.decades for comparison in at_site]
    handles: dict[str, Artist] = {}
    panels: tuple[tuple[Axes, tuple[str, ...], str], ...] = (
        (left, _QUIET, "of plain noise"),
        (right, _NUISANCE, "of nuisances"),
    )
    for axes, names, what in panels:
        _readings_axis(axes)
        for number, name in enumerate(names):
            text, colour, marker, line = _LINES[name]
            # Several detectors take the same whole number of readings: each is drawn a little higher than the last.
            lift = 1.05 ** (number - 0.5 * len(names))
            low, mid, high = (
                lift * np.array([_shown(comparison.delays[name], q) for comparison in at_site])
                for q in (0.01, 0.5, 0.99)
            )
            axes.vlines(x, low, high, color=colour, lw=1.0)
            (drawn,) = axes.plot(x, mid, color=colour, marker=marker, linestyle=line, ms=6.5)
            handles.setdefault(text, drawn)
        axes.set_xlabel(label)
        axes.set_title(f"… {what}", loc="left")
    left.set_ylabel("Readings to the verdict")
    figure.legend(list(handles.values()), list(handles), loc="outside right upper")
    t = measured.thresholds
    caption_figure(
        figure,
        "How soon a surge is seen, at one false alarm per 10⁶ readings …",
        f"Medians, bars from 1 to 99 %; {SITE.name}, 0.4 µA before the surge, which makes {HORIZON} readings. FOCuS "
        f"and the thresholds are told the noise-free current and the noise.\nFOCuS alarms at {t.quiet_focus:.1f} "
        f"(plain noise), {t.structure_focus:.0f} (nuisances without corrupt readings), {t.nuisance_focus:.0f} (all); "
        f"the threshold at {t.quiet_sigma:.2f} σ (plain noise), {100 * t.hard_fraction:.1f} % of the hard\nlimit "
        f"(nuisances). The guard is the same in both: {measured.without.alarms} false alarms in "
        f"{1e-6 * measured.without.readings:.2f} million readings of nuisances.",
    )
    return figure


def _distribution(measured: Measured) -> Figure:
    figure = new_figure(9.0, 5.0)
    axes = figure.subplots()
    heights = sorted({comparison.decades for comparison in measured.steps})
    places = np.arange(len(heights))
    bottom = np.zeros(len(heights))
    hatches = ("", "//", "..", "xx", "")
    for (low, high, text), shade, hatch in zip(_SHARES, _SHADES, hatches, strict=True):
        share = []
        for height in heights:
            runs = [
                n
                for comparison in measured.steps
                if comparison.decades == height
                for n in comparison.delays["guard.no_conductance"].judged
            ]
            share.append(100.0 * sum(low <= n <= high for n in runs) / len(runs))
        axes.bar(places, share, 0.75, bottom, color=shade, hatch=hatch, edgecolor="white", label=text or "not found")
        bottom += share
    axes.set_xticks(places, [f"{height:g}" for height in heights])
    axes.set_xlabel("Height of the step (decades)")
    axes.set_ylabel("Share of all runs (%)")
    axes.set_ylim(0.0, 100.0)
    axes.legend(title="Readings to\nthe verdict", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    caption_figure(
        figure,
        "Readings the guard takes to see a step",
        f"All {len(SITES)} sites (noise 1 to 15 %, on a ramp, telegraph noise of 40 %), no conductance limit.\n"
        "Below 0.7 decade only noise helps a step over the gate.",
    )
    return figure


def _cusum(measured: Measured) -> Figure:
    figure = new_figure(8.5, 5.4)
    axes = figure.subplots()
    core = CusumCore()
    x = np.concatenate([np.linspace(1.0, 2.5, 16), np.linspace(3.0, 8.0, 11)])
    curves = (
        (CusumTheory(core.k, core.h, CUSUM_CAP_SIGMAS), "exact, k, h and cap of the detector", BLUE, "-"),
        (core.theory(), "exact, and an excursion is the baseline after 32 readings", ORANGE, "--"),
        (CusumTheory(core.k, core.h), "exact, without the cap", GREY, ":"),
    )
    for theory, label, colour, line in curves:
        axes.plot(x, [theory.delay(float(delta)) for delta in x], color=colour, linestyle=line, label=label)
    rows = [row for row in measured.core if row["measured"] is not None]
    axes.plot(
        [row["shift_sigma"] or 0.0 for row in rows],
        [row["measured"] or 0.0 for row in rows],
        "o",
        color=VERMILION,
        ms=7,
        label="measured, the detector's own code",
    )
    axes.set_yscale("log")
    axes.set_ylim(2.0, 1000.0)
    axes.set_yticks([2, 5, 10, 20, 50, 100, 200, 500, 1000], ["2", "5", "10", "20", "50", "100", "200", "500", "1000"])
    axes.minorticks_off()
    axes.grid(axis="y", color=BAND, lw=0.7)
    axes.set_xlabel("Shift of the residual (σ)")
    axes.set_ylabel("Mean readings to the alarm")
    axes.legend(loc="upper right")
    caption_figure(
        figure,
        "The CUSUM inside the detector, against theory",
        f"k = {core.k:g} σ, h = {core.h:g} σ, one reading adds at most {CUSUM_CAP_SIGMAS:g} σ; without the gate of "
        "0.7 decade, which the verdict needs besides.\nAverage run length by its integral equation.",
    )
    return figure


def _telegraph(measured: Measured) -> Figure:
    figure = new_figure(7.5, 4.6)
    axes = figure.subplots()
    depth = np.array([row["depth"] for row in measured.telegraph])
    rate = np.array([1e6 * row["alarms"] / row["readings"] for row in measured.telegraph])
    least = 1e6 / max(row["readings"] for row in measured.telegraph)
    floor = 0.3 * least
    none = rate == 0.0
    axes.plot(100.0 * depth[~none], rate[~none], "o-", color=BLUE, ms=7)
    label = f"none in {measured.telegraph[0]['readings']:.0f} readings"
    axes.plot(100.0 * depth[none], np.full(none.sum(), floor), "v", color=GREY, ms=8, label=label)
    axes.set_yscale("log")
    axes.axvspan(30.0, 45.0, color=BAND, alpha=0.7, lw=0, zorder=0, label="seen in real high-resistance states")
    axes.set_xlim(30.0, 95.0)
    axes.set_xlabel("Lower level below the upper one (%)")
    axes.set_ylabel("Verdicts per 10⁶ readings")
    axes.legend(loc="upper left")
    caption_figure(
        figure,
        "Telegraph noise: where it begins to look like a surge",
        "Sweeps on loads that switch between two levels; conductance limit off. 80 % is 0.7 decade, the gate.",
    )
    return figure
