"""The argument in one picture: what two ways of watching one site put into the tip, and how long each took."""

from __future__ import annotations

import math
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edge.analysis.plot_style import (
    BLUE,
    GREY,
    VERMILION,
    Floats,
    caption_figure,
    largest,
    legend_if_any,
    log_current_axis,
    new_figure,
    si_axis,
    styled,
)
from edge.analysis.si import prefix_for, si

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUTH_SOURCE: Final = "twin's truth record, which no real rig has"
_BEFORE: Final = 0.12
"""Shown of the time before the filament, as a share of the time to the last cut."""
_AFTER: Final = 0.08
_COLUMN_CHARACTERS: Final = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseTrace:
    """One way of watching. Times in s, 0 when the filament formed (truth record).

    ``time_s`` (middle of the aperture), ``bias_v``, ``current_a``: its own readings, equal lengths, oldest first; the
    bias is drawn as changing half way between them. ``cut_s``: when it sent 0 V, or began to, by its own account. Of
    the twin's truth record: ``safe_s``, when the tip was at 0 V or its path open; ``charge_c`` and ``peak_current_a``
    from the filament to then. None or NaN where there is none. ``how``: in a few words.
    """

    name: str
    time_s: Floats
    bias_v: Floats
    current_a: Floats
    charge_c: float | None
    safe_s: float | None
    peak_current_a: float | None
    cut_s: float | None = None
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DosePicture:
    """The usual way beside the guarded one, on the same site with the same seed.

    ``noise_floor_a``: three standard deviations of a reading, A; NaN if unknown. Without a ``title`` the picture's is
    :func:`dose_title`.
    """

    usual: DoseTrace
    guarded: DoseTrace
    noise_floor_a: float = float("nan")
    title: str = ""
    caption: str = ""


def dose_ratio(picture: DosePicture) -> float | None:
    """Return the usual way's charge over the guarded one's; None unless both are known and above 0."""
    usual, guarded = _known(picture.usual.charge_c), _known(picture.guarded.charge_c)
    if usual is None or guarded is None or min(usual, guarded) <= 0:
        return None
    return usual / guarded


def dose_title(picture: DosePicture) -> str:
    """Return the finding in one line."""
    ratio = dose_ratio(picture)
    same = "Same site, same filament"
    if ratio is None:
        return f"{same}, watched in two ways"
    if ratio >= 1:
        return f"{same}: {picture.guarded.name} put {_times(ratio)} less charge into the tip"
    return f"{same}: {picture.guarded.name} put {_times(1 / ratio)} more charge into the tip"


def dose_figure(picture: DosePicture) -> Figure:
    """Draw the charge each put into the tip, and beside it both currents (logarithmic) and biases over one time."""

    def draw() -> Figure:
        figure = new_figure(12.5, 6.4)
        # The finding first: it is the left part that a narrow screen shows.
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1.0, 1.75])[0]
        _charges(left.subplots(), picture)
        current, bias = right.subplots(2, 1, sharex=True, height_ratios=[1.9, 1.0])
        _currents(current, picture)
        _biases(bias, picture)
        caption_figure(figure, picture.title or dose_title(picture), picture.caption)
        return figure

    return styled(draw)


def _known(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _times(ratio: float) -> str:
    return f"{ratio:.2g}×" if ratio < 10 else f"{float(f'{ratio:.1e}'):.0f}×"


def _traces(p: DosePicture) -> list[tuple[DoseTrace, str, str]]:
    """Return each trace with its colour and marker; the usual one first, so that the other lies on top."""
    return [(p.usual, VERMILION, "s"), (p.guarded, BLUE, "o")]


def _window(p: DosePicture) -> tuple[float, float]:
    """Return what is shown of the time axis: a little before the filament to a little after the last cut, s."""
    ends = [safe for trace, _, _ in _traces(p) if (safe := _known(trace.safe_s)) is not None]
    if not ends:
        known = np.concatenate([p.usual.time_s, p.guarded.time_s])
        ends = known[np.isfinite(known)].tolist()
    end = max(ends, default=1.0)
    span = end if end > 0 else 1.0
    return -_BEFORE * span, span * (1 + _AFTER)


def _shown(trace: DoseTrace, window: tuple[float, float]) -> tuple[Floats, Floats, Floats]:
    inside = (trace.time_s >= window[0]) & (trace.time_s <= window[1])
    return trace.time_s[inside], trace.bias_v[inside], trace.current_a[inside]


def _currents(axes: Axes, p: DosePicture) -> None:
    window = _window(p)
    shown = np.concatenate([_shown(trace, window)[2] for trace, _, _ in _traces(p)])
    least = log_current_axis(axes, shown, p.noise_floor_a)
    top = axes.get_ylim()[1]
    # Room for what is written above the traces.
    axes.set_ylim(least, top * (top / least) ** 0.28)
    axes.set_xlim(window)
    for level, (trace, colour, marker) in zip((0.95, 0.83), _traces(p), strict=True):
        time_s, _, current_a = _shown(trace, window)
        size = np.maximum(np.abs(current_a), least)
        if len(size):
            axes.plot(time_s, size, marker + "-", ms=4.5, lw=1.2, color=colour, label=f"{trace.name}: its readings")
        _how_long(axes, trace, colour, level)
    axes.axvline(0, color="black", ls=":", lw=1.2)
    axes.set_title("Each one's own readings; filament and safe: twin's truth record", fontsize=11.5)
    legend_if_any(axes, "lower right")


def _how_long(axes: Axes, trace: DoseTrace, colour: str, level: float) -> None:
    """Draw how long current flowed, as a bar at ``level`` of the axes' height, with the time beside or in it."""
    safe_s = _known(trace.safe_s)
    if safe_s is None:
        return
    across = axes.get_xaxis_transform()
    axes.plot([0, safe_s], [level, level], lw=7, color=colour, solid_capstyle="butt", transform=across)
    axes.axvline(safe_s, ymax=level, color=colour, lw=1.2, ls="--")
    wide = safe_s > 0.5 * axes.get_xlim()[1]
    axes.annotate(
        f"{trace.name}: safe after {si(safe_s, 's', 2)}",
        (0.5 * safe_s if wide else safe_s, level),
        xycoords=across,
        xytext=(0, -14) if wide else (8, 0),
        textcoords="offset points",
        ha="center" if wide else "left",
        va="center",
        color=colour,
        fontweight="bold",
    )


def _biases(axes: Axes, p: DosePicture) -> None:
    window = _window(p)
    axes.axhline(0, color=GREY, lw=0.8)
    levels = []
    for (trace, colour, marker), size in zip(_traces(p), (17, 9), strict=True):
        time_s, bias_v, _ = _shown(trace, window)
        levels.append(bias_v)
        axes.step(time_s, bias_v, marker + "-", where="mid", ms=3, lw=1.2, color=colour)
        cut_s = _known(trace.cut_s)
        if cut_s is not None and len(bias_v):
            # The level that held when it was cut.
            at = float(bias_v[max(int(np.searchsorted(time_s, cut_s)) - 1, 0)])
            # The two cuts are close together: the smaller mark lies on the larger.
            axes.plot([cut_s], [at], "X", ms=size, color=colour, mec="white", zorder=5, label=f"{trace.name} cuts")
    axes.axvline(0, color="black", ls=":", lw=1.2, label="filament formed")
    si_axis(axes.yaxis, largest(*levels), "Tip bias", "V")
    si_axis(axes.xaxis, window[1], "Time since the filament formed", "s")
    axes.set_xlim(window)
    legend_if_any(axes, "lower right")


def _in_unit_of(most_c: float, charge_c: float | None) -> str:
    """Return a charge in the prefix of the largest one, so that two can be compared at a glance."""
    if charge_c is None or charge_c <= 0:
        return si(charge_c, "C", 2)
    factor, prefix = prefix_for(most_c)
    scaled = charge_c / factor
    decimals = min(max(0, 1 - math.floor(math.log10(scaled))), 4)
    return f"{scaled:.{decimals}f} {prefix}C"


def _charges(axes: Axes, p: DosePicture) -> None:
    """Draw both charges as columns on one linear scale, with the numbers large."""
    from matplotlib.ticker import MaxNLocator

    traces = _traces(p)
    charges = [_known(trace.charge_c) for trace, _, _ in traces]
    most = largest(np.array([0.0 if charge is None else charge for charge in charges]))
    for place, ((_, colour, _), charge) in enumerate(zip(traces, charges, strict=True)):
        axes.bar([place], [charge or 0.0], width=0.62, color=colour, alpha=0.9)
        axes.annotate(
            _in_unit_of(most, charge),
            (place, charge or 0.0),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=24,
            fontweight="bold",
            color=colour,
        )
    ratio = dose_ratio(p)
    if ratio is not None and ratio >= 1:
        # Clear of the number on top of a tall column.
        height = max(0.5, 1 / ratio + 0.3) * most
        axes.text(1, height, f"{_times(ratio)} less", ha="center", va="center", fontsize=22, fontweight="bold")
    axes.set_xlim(-0.55, 1.55)
    axes.set_ylim(0, most * 1.18 if ratio is None or ratio > 2 else most * 1.5)
    axes.set_xticks([0, 1], ["\n".join(_told(trace)) for trace, _, _ in traces])
    axes.tick_params(axis="x", length=0, labelsize=11)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    si_axis(axes.yaxis, most, "Charge into the tip", "C")
    axes.set_title(f"Charge each put into the tip\n({TRUTH_SOURCE})", fontsize=11.5)


def _told(trace: DoseTrace) -> list[str]:
    safe = f"{si(trace.safe_s, 's', 2)} to safe"
    # A number stays with its unit: textwrap divides at plain spaces only.
    how = textwrap.wrap(re.sub(r"(\d) ", "\\1\N{NO-BREAK SPACE}", trace.how), _COLUMN_CHARACTERS)
    return [trace.name, safe, f"peak {si(trace.peak_current_a, 'A', 2)}", *how]
