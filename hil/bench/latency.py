"""Latencies of two sides in rounds: quantiles, ratios and their pictures."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hil.bench.report import Figure

Floats = npt.NDArray[np.float64]
QUANTILES: Final = {"p50": 50.0, "p99": 99.0, "p999": 99.9, "max": 100.0}


@dataclasses.dataclass(frozen=True, slots=True)
class Sides:
    """Rounds of both, each an array of s. ``name``: the condition, such as "idle"."""

    name: str
    ours_s: tuple[Floats, ...]
    reference_s: tuple[Floats, ...]

    def all_of(self, side: str) -> Floats:
        """Return all rounds of ``ours`` or ``c`` as one."""
        return np.concatenate(self.ours_s if side == "ours" else self.reference_s)

    def ratio(self, percent: float) -> float:
        """Return the median over the rounds of ours over the reference's, at a percentile."""
        pairs = zip(self.ours_s, self.reference_s, strict=True)
        return statistics.median(percentile(ours, percent) / percentile(theirs, percent) for ours, theirs in pairs)

    def spread(self, percent: float) -> float:
        """Return the reference's largest round over its median one, at a percentile."""
        rounds = [percentile(one, percent) for one in self.reference_s]
        return max(rounds) / statistics.median(rounds)


@dataclasses.dataclass(frozen=True, slots=True)
class WithinSpread(Figure):
    """A ratio that is also met where it lies inside the reference's own ``spread`` between rounds."""

    spread: float = 1.0

    @property
    def met(self) -> bool | None:
        """See Figure."""
        return self.target is None or self.value <= max(self.target, self.spread)


def percentile(values: Floats, percent: float) -> float:
    """Return a percentile that was observed, never one in between; the larger neighbour."""
    return float(np.percentile(values, percent, method="higher"))


def raw(sides: Sides) -> list[Figure]:
    """Return what both sides took in s, all rounds as one, and how many trials that were."""
    found = []
    for side in ("ours", "c"):
        values = sides.all_of(side)
        found += [
            Figure(f"{sides.name}.{side}_{name}_s", percentile(values, percent), "s")
            for name, percent in QUANTILES.items()
        ]
    return [*found, Figure(f"{sides.name}.n", float(len(sides.all_of("ours"))), "trials a side")]


def draw(groups: Sequence[Sides], path: Path, *, title: str, axis: str, caption: str) -> None:
    """Draw how many trials took longer than a time, one panel a condition; both axes logarithmic."""
    from matplotlib.figure import Figure as Picture
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

    from edge.analysis import plot_style as style

    def picture() -> Picture:
        figure = style.new_figure(5.2 * len(groups), 4.4)
        panels = np.atleast_1d(figure.subplots(1, len(groups), sharex=True, sharey=True))
        for panel, sides in zip(panels, groups, strict=True):
            for side, name, colour, line in (
                ("ours", "tipguard", style.BLUE, "-"),
                ("c", "C reference", style.VERMILION, "--"),
            ):
                values = np.sort(sides.all_of(side))
                left = 1.0 - np.arange(len(values)) / len(values)
                panel.step(values, left, where="post", color=colour, ls=line, label=name)
                for percent, marker in ((50.0, "o"), (99.0, "s"), (99.9, "^")):
                    at = percentile(values, percent)
                    panel.plot([at], [1.0 - percent / 100.0], marker=marker, color=colour, ms=6, clip_on=False)
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_title(f"{sides.name}, {len(sides.all_of('ours'))} trials a side", loc="left")
            panel.xaxis.set_major_formatter(EngFormatter("s"))
            panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.yaxis.set_major_formatter(FuncFormatter(lambda share, _at: f"{100 * share:g} %"))
            panel.set_xlabel(axis)
            panel.grid(visible=True, which="major", alpha=0.3)
        panels[0].set_ylabel("Trials that took longer")
        panels[0].legend(loc="upper right")
        style.caption_figure(figure, title, caption)
        return figure

    path.parent.mkdir(parents=True, exist_ok=True)
    style.save_png(style.styled(picture), path)


MARKS: Final = "Circle: p50. Square: p99. Triangle: p99.9."


def as_arrays(rounds: Sequence[list[float]]) -> tuple[Floats, ...]:
    """Return rounds as arrays."""
    return tuple(np.asarray(one, dtype=np.float64) for one in rounds)


def settings(**values: Any) -> str:  # noqa: ANN401 - printed
    """Return settings in words, for a method's end."""
    return "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())
