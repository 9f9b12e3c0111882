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
from hil.bench.dose.figures import ARMS, LOADED_ARMS, VIRTUAL_ARMS, Raw, by_site
from hil.bench.dose.trials import (
    CLAMP,
    COMPETENT,
    FRONTEND,
    FRONTEND_10K,
    GPIO,
    IDLE,
    LOADED_TIMES,
    SERIAL,
    USUAL,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES: Final = {
    CLAMP: "clamp only",
    USUAL: "usual script\n(PyMeasure)",
    COMPETENT: "competent\nscript",
    SERIAL: "tipguard,\nserial",
    GPIO: "tipguard,\nserial + gpio",
    FRONTEND_10K: "front end,\n10 kS/s",
    FRONTEND: "front end,\n100 kS/s",
}
_COLOURS: Final = {
    CLAMP: GREY,
    USUAL: VERMILION,
    COMPETENT: ORANGE,
    SERIAL: BLUE,
    GPIO: GREEN,
    FRONTEND_10K: "#56B4E9",
    FRONTEND: "#333333",
}
_TRUTH: Final = "By the twin's own record of the current through the tip, which no real rig has."
_SPREAD: Final = 0.12
_GAP: Final = 0.6
"""Between the columns of an idle host, those of a loaded one, and those in virtual time."""
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

        figure = new_figure(14.5, 6.4)
        axes = figure.subplots()
        ticks: dict[float, str] = {}
        begin = 0.0
        for arms, also in ((ARMS, ""), (LOADED_ARMS, "\nhost loaded"), (VIRTUAL_ARMS, "\nvirtual time")):
            columns = [(arm, by_site(raw, arm, condition, "charge_c")) for arm, condition in arms]
            columns = [(arm, values) for arm, values in columns if values]
            if begin and columns:
                axes.axvline(begin - (1 + _GAP) / 2 + 0.1, color=GREY, lw=0.8, ls=":")
            for site in sorted({site for _, values in columns for site in values}):
                joined = [(begin + i, values[site]) for i, (_, values) in enumerate(columns) if site in values]
                axes.plot(*zip(*joined, strict=True), color=PURPLE, lw=0.4, alpha=0.3, zorder=1)
            for i, (arm, values) in enumerate(columns):
                _column(axes, begin + i, np.array([values[site] for site in sorted(values)]), _COLOURS[arm])
                ticks[begin + i] = _NAMES[arm] + also
            begin += len(columns) + _GAP if columns else 0.0
        axes.set_yscale("log")
        axes.set_xlim(-0.6, max(begin - _GAP - 0.2, 0.6))
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
    """Draw one site's current through the tip by arm, from its onset: the first 0.5 ms, 80 ms, and all of it."""

    def draw_it() -> Figure:
        figure = new_figure(15.0, 5.6)
        first, near, far = figure.subplots(1, 3, sharey=True)
        last_s = 0.1
        for arm in (*(arm for arm, _ in ARMS), FRONTEND_10K, FRONTEND):
            if points := traces.get(arm):
                columns = np.array(points, dtype=float)
                name = _NAMES[arm].replace("\n", " ")
                for axes, unit_s in ((first, 1e-6), (near, 1e-3), (far, 1.0)):
                    # The two arms of the controller lie on one another.
                    dashes = "--" if arm == GPIO else "-"
                    axes.plot(columns[:, 0] / unit_s, columns[:, 1] * 1e6, dashes, color=_COLOURS[arm], label=name)
                flowing = columns[columns[:, 1] > _NOTHING_A, 0]
                last_s = max(last_s, float(flowing[-1]) if len(flowing) else 0.0)
        near.set_xlim(-5, 80)
        near.set_xlabel("Time since the filament bridged (ms)")
        first.set_xlim(-50, 500)
        first.set_xlabel("Time since the filament bridged (µs)")
        first.set_ylabel("|Current| through the tip (µA)")
        first.set_ylim(bottom=0)
        far.set_xlim(-0.05 * last_s, 1.1 * last_s)
        far.set_xlabel("Time since the filament bridged (s)")
        for axes in (first, near, far):
            axes.axvline(0, color="black", ls=":", lw=1.0)
        legend_if_any(first, "upper right")
        caption = f"The same site and seed in every arm, host idle; the front ends in virtual time. {_TRUTH}"
        caption_figure(figure, "One site: how long the current flows", caption)
        return figure

    return styled(draw_it)
