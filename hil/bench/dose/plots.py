"""Pictures of the bench: the charge of every site by arm, and one site's current through the tip by arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edge.analysis.plot_style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    caption_figure,
    legend_if_any,
    new_figure,
    save_png,
    styled,
)
from edge.analysis.si import si
from hil.bench.dose.figures import ARMS, LOADED_ARMS, Raw, by_site
from hil.bench.dose.trials import CLAMP, COMPETENT, GPIO, IDLE, LOADED_TIMES, SERIAL, USUAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES: Final = {
    CLAMP: "clamp only",
    USUAL: "usual script\n(PyMeasure)",
    COMPETENT: "competent\nscript",
    SERIAL: "tipguard,\nserial",
    GPIO: "tipguard,\nserial + gpio",
}
_COLOURS: Final = {CLAMP: GREY, USUAL: VERMILION, COMPETENT: ORANGE, SERIAL: BLUE, GPIO: GREEN}
_TRUTH: Final = "By the twin's own record of the current through the tip, which no real rig has."
_SPREAD: Final = 0.12
_GAP: Final = 0.6
"""Between the columns of an idle host and those of a loaded one."""
_NOTHING_A: Final = 1e-8


def draw(folder: Path, raw: Raw, traces: Mapping[str, Sequence[Sequence[float]]]) -> list[Path]:
    """Write the pictures into ``folder``, made if absent; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, figure in (("dose-charge.png", charges(raw)), ("dose-trace.png", trace(traces))):
        save_png(figure, folder / name)
        made.append(folder / name)
    return made


def charges(raw: Raw) -> Figure:
    """Draw the charge of each site by arm on a logarithmic axis; a thin line joins the arms of one site."""

    def draw_it() -> Figure:
        from matplotlib.ticker import EngFormatter

        figure = new_figure(11.5, 6.4)
        axes = figure.subplots()
        ticks: dict[float, str] = {}
        for begin, arms in ((0.0, ARMS), (len(ARMS) + _GAP, LOADED_ARMS)):
            columns = [(arm, by_site(raw, arm, condition, "charge_c")) for arm, condition in arms]
            columns = [(arm, values) for arm, values in columns if values]
            for site in sorted({site for _, values in columns for site in values}):
                joined = [(begin + i, values[site]) for i, (_, values) in enumerate(columns) if site in values]
                axes.plot(*zip(*joined, strict=True), color=PURPLE, lw=0.4, alpha=0.3, zorder=1)
            for i, (arm, values) in enumerate(columns):
                _column(axes, begin + i, np.array([values[site] for site in sorted(values)]), _COLOURS[arm])
                ticks[begin + i] = _NAMES[arm] + ("\nhost loaded" if begin else "")
        axes.axvline(len(ARMS) - 0.5 + _GAP / 2 + 0.1, color=GREY, lw=0.8, ls=":")
        axes.set_yscale("log")
        axes.set_xlim(-0.6, len(ARMS) + len(LOADED_ARMS) + _GAP - 0.3)
        axes.yaxis.set_major_formatter(EngFormatter("C"))
        axes.set_ylabel("Charge through the tip after onset")
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.tick_params(axis="x", length=0, labelsize=10)
        n = len({row["site"] for row in raw if row["condition"] == IDLE})
        caption = (
            f"{n} grain-boundary sites, the same in every column, {LOADED_TIMES} times as many under load; a line "
            f"joins one site. Bar: median.\n{_TRUTH}"
        )
        caption_figure(figure, "What each way of watching puts into the tip", caption)
        return figure

    return styled(draw_it)


def _column(axes: Axes, place: float, values: Any, colour: str) -> None:  # noqa: ANN401 - an array
    """Draw one arm's sites, spread sideways in a fixed order, and their median."""
    sideways = place + _SPREAD * np.sin(2.4 * np.arange(len(values)))
    axes.plot(sideways, values, "o", ms=3.2, color=colour, alpha=0.65, mew=0, zorder=2)
    middle = float(np.median(values))
    axes.plot([place - 0.25, place + 0.25], [middle, middle], color="black", lw=2.2, zorder=3)
    axes.annotate(
        si(middle, "C", 2), (place + 0.27, middle), va="center", ha="left", fontsize=10.5, fontweight="bold", zorder=3
    )


def trace(traces: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Draw one site's current through the tip by arm, from its onset: the first 80 ms, and all of it."""

    def draw_it() -> Figure:
        figure = new_figure(12.0, 5.6)
        near, far = figure.subplots(1, 2, sharey=True)
        last_s = 0.1
        for arm, _ in ARMS:
            if points := traces.get(arm):
                columns = np.array(points, dtype=float)
                name = _NAMES[arm].replace("\n", " ")
                for axes, unit_s in ((near, 1e-3), (far, 1.0)):
                    # The two arms of the controller lie on one another.
                    dashes = "--" if arm == GPIO else "-"
                    axes.plot(columns[:, 0] / unit_s, columns[:, 1] * 1e6, dashes, color=_COLOURS[arm], label=name)
                flowing = columns[columns[:, 1] > _NOTHING_A, 0]
                last_s = max(last_s, float(flowing[-1]) if len(flowing) else 0.0)
        near.set_xlim(-5, 80)
        near.set_xlabel("Time since the filament bridged (ms)")
        near.set_ylabel("|Current| through the tip (µA)")
        near.set_ylim(bottom=0)
        far.set_xlim(-0.05 * last_s, 1.1 * last_s)
        far.set_xlabel("Time since the filament bridged (s)")
        for axes in (near, far):
            axes.axvline(0, color="black", ls=":", lw=1.0)
        legend_if_any(far, "upper right")
        caption = f"The same site and seed in every arm, host idle. {_TRUTH}"
        caption_figure(figure, "One site: how long the current flows", caption)
        return figure

    return styled(draw_it)
