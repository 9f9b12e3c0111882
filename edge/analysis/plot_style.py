"""How our pictures look: colours, sizes, axes with SI prefixes. matplotlib is imported when the first is drawn.

Colours are Okabe and Ito's, told apart with any colour vision, and no meaning hangs on colour alone: shapes differ too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from edge.analysis.si import prefix_for, si

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[Any]
Place: TypeAlias = Literal["best", "upper left", "upper right", "lower left", "lower right"]

BLUE: Final = "#0072B2"
VERMILION: Final = "#D55E00"
GREEN: Final = "#009E73"
ORANGE: Final = "#E69F00"
PURPLE: Final = "#CC79A7"
GREY: Final = "#6E6E6E"
BAND: Final = "#D9D9D9"
BIAS_LABEL: Final = "Tip bias against Li/Li⁺"
KIND_NAMES: Final = {
    "gb": "grain boundary",
    "gi": "grain interior",
    "hl": "homogenising layer",
    "": "kind not given",
}
"""Kinds of site in words, in the order in which pictures show them."""

# matplotlib's stubs take nothing less than the literal names of all settings.
_STYLE: Final[Any] = {
    "font.size": 12.0,
    "axes.titlesize": 13.0,
    "axes.labelsize": 12.5,
    "legend.fontsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 1.0,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "lines.linewidth": 1.5,
    "legend.frameon": True,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "none",
    "axes.unicode_minus": True,
}
_DPI: Final = 160
_CAPTION: Final = 9.5


def empty() -> Floats:
    """Return an array of nothing, for what was not measured."""
    return np.empty(0)


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return a figure of this size, laid out by matplotlib."""
    from matplotlib.figure import Figure

    # Without pyplot there is neither a window nor a list of figures; a bare Figure draws with Agg.
    return Figure(figsize=(width_in, height_in), dpi=_DPI, layout="constrained")


def styled(draw: Callable[[], Figure]) -> Figure:
    """Return what ``draw`` draws in our style."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        return draw()


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; raise OSError if the file cannot be written."""
    figure.savefig(path, format="png", facecolor="white")


def minus(text: str) -> str:
    """Return the text with proper minus signs."""
    return text.replace("-", "−")


def si_axis(axis: Any, largest_value: float, label: str, unit: str) -> None:  # noqa: ANN401 - an XAxis or a YAxis
    """Show the axis in the prefix that suits ``largest_value``; its data stays in ``unit``."""
    from matplotlib.ticker import FuncFormatter

    factor, prefix = prefix_for(largest_value)

    def text(value: float, _position: int | None) -> str:
        return minus(f"{value / factor:.6g}")

    axis.set_major_formatter(FuncFormatter(text))
    axis.set_label_text(f"{label} ({prefix}{unit})")


def largest(*arrays: Floats) -> float:
    """Return the largest magnitude in the arrays; 1 if there is none or all is 0, so that an axis can be made of it."""
    found = [float(np.nanmax(np.abs(a))) for a in arrays if len(a) and not np.all(np.isnan(a))]
    return max(found, default=1.0) or 1.0


def caption_figure(figure: Figure, title: str, caption: str) -> None:
    """Write the title above and the caption below everything."""
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    if caption:
        figure.supxlabel(caption, x=0.01, ha="left", fontsize=_CAPTION, color=GREY)


def legend_if_any(axes: Axes, loc: Place) -> None:
    """Explain what is drawn; nothing where nothing has a name."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=loc)


def log_current_axis(axes: Axes, current_a: Floats, floor_a: float) -> float:
    """Set up \\|current\\| on a logarithmic axis with the noise floor as a band; return the axis's lower edge in A.

    Zero has no place on such an axis: what read as nothing, or as less than a hundredth of the noise floor, is to be
    drawn at the edge.
    """
    from matplotlib.ticker import EngFormatter

    size = np.abs(current_a)
    known = size[np.isfinite(size) & (size > 0)].tolist()
    if floor_a > 0:
        known.append(floor_a)
    smallest, most = min(known, default=1e-12), max(known, default=1e-9)
    if floor_a > 0:
        # Far below the noise there is nothing to see: of many readings some come close to zero by chance.
        smallest = max(smallest, floor_a / 100)
    least = 10.0 ** math.floor(math.log10(smallest))
    if floor_a > 0:
        label = f"noise floor, 3σ = {si(floor_a, 'A', 2)}"
        axes.axhspan(least, floor_a, color=BAND, alpha=0.7, lw=0, zorder=0, label=label)
    axes.set_yscale("log")
    axes.set_ylim(least, max(most * 4, least * 10))
    axes.yaxis.set_major_formatter(EngFormatter("A"))
    axes.set_ylabel("|Current|")
    return least
