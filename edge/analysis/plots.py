"""Pictures of a sweep and of a trip, from arrays; matplotlib is imported when the first is drawn.

Volts, amperes and seconds come in; axes show them with SI prefixes. Colours are Okabe and Ito's, told apart with any
colour vision, and no meaning hangs on colour alone: shapes differ too. Readings that are NaN are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from edge.analysis.si import prefix_for, si, si_pm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[Any]

BLUE: Final = "#0072B2"
VERMILION: Final = "#D55E00"
GREEN: Final = "#009E73"
ORANGE: Final = "#E69F00"
GREY: Final = "#6E6E6E"
BAND: Final = "#D9D9D9"

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
BIAS_LABEL: Final = "Tip bias against Li/Li⁺"


def _empty() -> Floats:
    return np.empty(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class IvPicture:
    """What an I-V picture shows. Arrays of one pair have equal lengths; V and A.

    ``bias_v``, ``current_a``: the search, oldest first, up to and with the reading that was judged.
    ``read_bias_v``, ``read_current_a``: the read of what formed; ``read_conductance_s`` its slope in S, or None.
    ``trigger_bias_v`` +- ``trigger_half_v``: None without a trigger. ``noise_floor_a``: NaN if unknown.
    ``cut``: the last reading of the search was answered by a cut.
    """

    bias_v: Floats
    current_a: Floats
    read_bias_v: Floats = field(default_factory=_empty)
    read_current_a: Floats = field(default_factory=_empty)
    read_conductance_s: float | None = None
    trigger_bias_v: float | None = None
    trigger_half_v: float | None = None
    noise_floor_a: float = float("nan")
    cut: bool = False
    title: str = ""
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TripPicture:
    """What a picture of a trip shows. Times in s on one axis, 0 when the judged reading was complete.

    ``time_s`` (middle of the aperture), ``bias_v``, ``current_a``: the readings around it. ``level_s``: when the level
    of each was on its way. ``decided_s``, ``written_s``, ``verified_s``: when the cut was decided, on the wire, and its
    proof received; None if unknown. ``onset_s``: the readings between which the filament formed, None without.
    ``truth_onset_s``, ``truth_safe_s``: the emulator's own record, None on a real instrument.
    """

    time_s: Floats
    bias_v: Floats
    current_a: Floats
    level_s: Floats
    onset_s: tuple[float, float] | None = None
    decided_s: float | None = None
    written_s: float | None = None
    verified_s: float | None = None
    truth_onset_s: float | None = None
    truth_safe_s: float | None = None
    noise_floor_a: float = float("nan")
    title: str = ""
    caption: str = ""


def _figure(width_in: float, height_in: float) -> Figure:
    from matplotlib.figure import Figure

    # Without pyplot there is neither a window nor a list of figures; a bare Figure draws with Agg.
    return Figure(figsize=(width_in, height_in), dpi=_DPI, layout="constrained")


def _styled(draw: Callable[[], Figure]) -> Figure:
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        return draw()


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; raise OSError if the file cannot be written."""
    figure.savefig(path, format="png", facecolor="white")


def _si_axis(axis: Any, largest: float, label: str, unit: str) -> None:  # noqa: ANN401 - matplotlib's XAxis or YAxis
    """Show the axis in the prefix that suits ``largest``; its data stays in ``unit``."""
    from matplotlib.ticker import FuncFormatter

    factor, prefix = prefix_for(largest)

    def text(value: float, _position: int | None) -> str:
        return f"{value / factor:.6g}".replace("-", "−")

    axis.set_major_formatter(FuncFormatter(text))
    axis.set_label_text(f"{label} ({prefix}{unit})")


def _largest(*arrays: Floats) -> float:
    found = [float(np.nanmax(np.abs(a))) for a in arrays if len(a) and not np.all(np.isnan(a))]
    return max(found, default=1.0) or 1.0


def _caption(figure: Figure, title: str, caption: str) -> None:
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    if caption:
        figure.supxlabel(caption, x=0.01, ha="left", fontsize=_CAPTION, color=GREY)


# ------------------------------------------------------------------------------------------------------- I-V


def iv_figure(picture: IvPicture) -> Figure:
    """Draw a sweep twice, linear and with \\|I\\| logarithmic: search, noise floor, trigger, cut, and the read."""

    def draw() -> Figure:
        figure = _figure(11.5, 5.2)
        linear, logarithmic = figure.subplots(1, 2)
        _iv_linear(linear, picture)
        _iv_log(logarithmic, picture)
        _caption(figure, picture.title, picture.caption)
        return figure

    return _styled(draw)


def _iv_linear(axes: Axes, p: IvPicture) -> None:
    axes.axhline(0, color=BAND, lw=1, zorder=0)
    axes.axvline(0, color=BAND, lw=1, zorder=0)
    axes.plot(p.bias_v, p.current_a, "o-", ms=4, lw=1, color=BLUE, label="search, one point a reading")
    _trigger_span(axes, p)
    _cut_mark(axes, p, p.current_a)
    if len(p.read_bias_v):
        axes.plot(
            p.read_bias_v, p.read_current_a, "s", ms=6, mfc="none", mew=1.4, color=GREEN, label="read after the cut"
        )
    if p.read_conductance_s:
        known = np.concatenate([p.bias_v, p.read_bias_v])
        ends = np.array([min(0.0, float(np.min(known))), max(0.0, float(np.max(known)))])
        label = f"its slope, {si(1 / p.read_conductance_s, 'Ω')}"
        axes.plot(ends, ends * p.read_conductance_s, "--", lw=1.2, color=GREEN, label=label, zorder=1)
    _si_axis(axes.xaxis, _largest(p.bias_v, p.read_bias_v), BIAS_LABEL, "V")
    _si_axis(axes.yaxis, _largest(p.current_a, p.read_current_a), "Current", "A")
    axes.legend(loc="best")


def _iv_log(axes: Axes, p: IvPicture) -> None:
    least = _log_current_axis(axes, np.concatenate([p.current_a, p.read_current_a]), p.noise_floor_a)
    axes.plot(p.bias_v, np.maximum(np.abs(p.current_a), least), "o-", ms=4, lw=0.8, color=BLUE, clip_on=False)
    _trigger_span(axes, p)
    _cut_mark(axes, p, np.abs(p.current_a))
    if len(p.read_bias_v):
        read = np.maximum(np.abs(p.read_current_a), least)
        axes.plot(p.read_bias_v, read, "s", ms=6, mfc="none", mew=1.4, color=GREEN, clip_on=False)
    _si_axis(axes.xaxis, _largest(p.bias_v, p.read_bias_v), BIAS_LABEL, "V")
    if p.noise_floor_a > 0 or p.trigger_bias_v is not None:
        axes.legend(loc="best")


def _log_current_axis(axes: Axes, current_a: Floats, floor_a: float) -> float:
    """Set up \\|current\\| on a logarithmic axis with the noise floor as a band; return the axis's lower edge in A.

    Zero has no place on such an axis: what read as nothing is drawn at the edge.
    """
    from matplotlib.ticker import EngFormatter

    size = np.abs(current_a)
    shown = size[np.isfinite(size) & (size > 0)]
    smallest = min([*shown.tolist(), floor_a if floor_a > 0 else 1.0])
    least = 10.0 ** math.floor(math.log10(smallest))
    if floor_a > 0:
        label = f"noise floor, 3σ = {si(floor_a, 'A', 2)}"
        axes.axhspan(least, floor_a, color=BAND, alpha=0.7, lw=0, zorder=0, label=label)
    axes.set_yscale("log")
    axes.set_ylim(least, max(_largest(current_a) * 4, least * 10))
    axes.yaxis.set_major_formatter(EngFormatter("A"))
    axes.set_ylabel("|Current|")
    return least


def _trigger_span(axes: Axes, p: IvPicture) -> None:
    if p.trigger_bias_v is None or p.trigger_half_v is None:
        return
    label = f"trigger {si_pm(p.trigger_bias_v, p.trigger_half_v, 'V')}".replace("-", "−")
    low, high = p.trigger_bias_v - p.trigger_half_v, p.trigger_bias_v + p.trigger_half_v
    axes.axvspan(low, high, color=ORANGE, alpha=0.45, lw=0, zorder=0, label=label)


def _cut_mark(axes: Axes, p: IvPicture, values: Floats) -> None:
    if p.cut and len(p.bias_v):
        axes.plot(p.bias_v[-1:], values[-1:], "X", ms=13, color=VERMILION, mec="white", label="cut here", zorder=5)


# ------------------------------------------------------------------------------------------------------ trip


def trip_figure(picture: TripPicture) -> Figure:
    """Draw \\|current\\| and level around a trip on one time axis, with what happened when."""

    def draw() -> Figure:
        figure = _figure(11.5, 6.4)
        current, bias = figure.subplots(2, 1, sharex=True, height_ratios=[1.7, 1.0])
        _trip_current(current, picture)
        _trip_level(bias, picture)
        for axes in (current, bias):
            _trip_marks(axes, picture, named=axes is current)
        current.legend(loc="upper left")
        _si_axis(bias.xaxis, 1e-3, "Time since the reading was complete", "s")
        _caption(figure, picture.title, picture.caption)
        return figure

    return _styled(draw)


def _trip_current(axes: Axes, p: TripPicture) -> None:
    least = _log_current_axis(axes, p.current_a, p.noise_floor_a)
    size = np.maximum(np.abs(p.current_a), least)
    # An empty line that is not clipped has no extent, and the layout gives up.
    if len(size):
        axes.plot(p.time_s, size, "o-", ms=6, lw=1, color=BLUE, label="readings", clip_on=False)


def _trip_level(axes: Axes, p: TripPicture) -> None:
    if len(p.time_s):
        # A level holds until the next one is on its way; the last until the last reading.
        times = np.append(p.level_s, max(p.time_s[-1], p.level_s[-1]))
        axes.step(times, np.append(p.bias_v, p.bias_v[-1]), where="post", color=BLUE, lw=1)
    axes.plot(p.time_s, p.bias_v, "o", ms=6, color=BLUE)
    _si_axis(axes.yaxis, _largest(p.bias_v), "Tip bias sent", "V")


def _trip_marks(axes: Axes, p: TripPicture, *, named: bool) -> None:
    def label(text: str) -> str | None:
        return text if named else None

    if p.onset_s is not None:
        axes.axvspan(*p.onset_s, color=ORANGE, alpha=0.45, lw=0, zorder=0, label=label("filament formed in here"))
    if p.truth_onset_s is not None:
        axes.axvline(p.truth_onset_s, color="black", ls=":", label=label("formed: truth (emulator only)"))
    if p.written_s is not None:
        axes.axvline(p.written_s, color=VERMILION, lw=2, label=label("cut decided and written"))
    if p.truth_safe_s is not None:
        axes.axvline(p.truth_safe_s, color="black", ls="-.", label=label("tip at 0 V: truth (emulator only)"))
    if p.verified_s is not None:
        axes.axvline(p.verified_s, color=GREEN, lw=2, ls="--", label=label("output verified off"))
