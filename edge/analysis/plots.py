"""Pictures of sweeps and of cuts, from arrays; matplotlib is imported when the first is drawn.

Volts, amperes and seconds come in; axes show them with SI prefixes. Colours are Okabe and Ito's, told apart with any
colour vision, and no meaning hangs on colour alone: shapes differ too. Readings that are NaN are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edge.analysis.plot_style import (
    BAND,
    BIAS_LABEL,
    BLUE,
    GREEN,
    GREY,
    KIND_NAMES,
    ORANGE,
    VERMILION,
    Floats,
    caption_figure,
    empty,
    largest,
    legend_if_any,
    log_current_axis,
    minus,
    new_figure,
    save_png,
    si_axis,
    styled,
)
from edge.analysis.si import si, si_pm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BAND",
    "BIAS_LABEL",
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "VERMILION",
    "Floats",
    "IvOverview",
    "IvPicture",
    "IvSweep",
    "LatencyPicture",
    "TripPicture",
    "iv_figure",
    "iv_overview_figure",
    "latency_figure",
    "save_png",
    "trip_figure",
]


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
    read_bias_v: Floats = field(default_factory=empty)
    read_current_a: Floats = field(default_factory=empty)
    read_conductance_s: float | None = None
    trigger_bias_v: float | None = None
    trigger_half_v: float | None = None
    noise_floor_a: float = float("nan")
    cut: bool = False
    title: str = ""
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IvSweep:
    """One sweep of several. ``bias_v``, ``current_a``: as in :class:`IvPicture`; ``noise_floor_a``, ``cut`` too.

    ``site_kind``: "gb", "gi", "hl" or ""; sweeps of one kind share a row.
    """

    bias_v: Floats
    current_a: Floats
    site_kind: str = ""
    noise_floor_a: float = float("nan")
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IvOverview:
    """All sweeps of a run."""

    sweeps: tuple[IvSweep, ...]
    title: str = ""
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyPicture:
    """How long cuts took, in s, from the reading complete to the proof that the output is off, by ``groups``' name."""

    groups: tuple[tuple[str, Floats], ...]
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


# ------------------------------------------------------------------------------------------------------- I-V


def iv_figure(picture: IvPicture) -> Figure:
    """Draw a sweep twice, linear and with \\|I\\| logarithmic: search, noise floor, trigger, cut, and the read."""

    def draw() -> Figure:
        figure = new_figure(11.5, 5.2)
        linear, logarithmic = figure.subplots(1, 2)
        _iv_linear(linear, picture)
        _iv_log(logarithmic, picture)
        caption_figure(figure, picture.title, picture.caption)
        return figure

    return styled(draw)


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
    si_axis(axes.xaxis, largest(p.bias_v, p.read_bias_v), BIAS_LABEL, "V")
    si_axis(axes.yaxis, largest(p.current_a, p.read_current_a), "Current", "A")
    axes.legend(loc="best")


def _iv_log(axes: Axes, p: IvPicture) -> None:
    least = log_current_axis(axes, np.concatenate([p.current_a, p.read_current_a]), p.noise_floor_a)
    axes.plot(p.bias_v, np.maximum(np.abs(p.current_a), least), "o-", ms=4, lw=0.8, color=BLUE, clip_on=False)
    _trigger_span(axes, p)
    _cut_mark(axes, p, np.abs(p.current_a))
    if len(p.read_bias_v):
        read = np.maximum(np.abs(p.read_current_a), least)
        axes.plot(p.read_bias_v, read, "s", ms=6, mfc="none", mew=1.4, color=GREEN, clip_on=False)
    si_axis(axes.xaxis, largest(p.bias_v, p.read_bias_v), BIAS_LABEL, "V")
    legend_if_any(axes, "best")


def _trigger_span(axes: Axes, p: IvPicture) -> None:
    if p.trigger_bias_v is None or p.trigger_half_v is None:
        return
    label = minus(f"trigger {si_pm(p.trigger_bias_v, p.trigger_half_v, 'V')}")
    low, high = p.trigger_bias_v - p.trigger_half_v, p.trigger_bias_v + p.trigger_half_v
    axes.axvspan(low, high, color=ORANGE, alpha=0.45, lw=0, zorder=0, label=label)


def _cut_mark(axes: Axes, p: IvPicture, values: Floats) -> None:
    if p.cut and len(p.bias_v):
        axes.plot(p.bias_v[-1:], values[-1:], "X", ms=13, color=VERMILION, mec="white", label="cut here", zorder=5)


# -------------------------------------------------------------------------------------------------- several I-V


def iv_overview_figure(overview: IvOverview) -> Figure:
    """Draw all sweeps, a row for each kind of site: linear, and with \\|I\\| logarithmic; each cut marked."""

    def draw() -> Figure:
        kinds = [kind for kind in KIND_NAMES if any(sweep.site_kind == kind for sweep in overview.sweeps)]
        kinds += sorted({sweep.site_kind for sweep in overview.sweeps} - set(KIND_NAMES))
        rows = max(len(kinds), 1)
        figure = new_figure(11.5, 1.2 + 3.4 * rows)
        panels = figure.subplots(rows, 2, squeeze=False)
        for (linear, logarithmic), kind in zip(panels, kinds or [""], strict=True):
            here = [sweep for sweep in overview.sweeps if sweep.site_kind == kind]
            _overview_linear(linear, here)
            linear.set_title(_overview_told(kind, here), loc="left")
            _overview_log(logarithmic, here)
        caption_figure(figure, overview.title, overview.caption)
        return figure

    return styled(draw)


def _overview_told(kind: str, sweeps: list[IvSweep]) -> str:
    if not sweeps:
        return "no sweep"
    number = "1 sweep" if len(sweeps) == 1 else f"{len(sweeps)} sweeps"
    cut = sum(sweep.cut for sweep in sweeps)
    return f"{KIND_NAMES.get(kind, kind).capitalize()}: {number}, {cut} cut"


def _overview_linear(axes: Axes, sweeps: list[IvSweep]) -> None:
    axes.axhline(0, color=BAND, lw=1, zorder=0)
    axes.axvline(0, color=BAND, lw=1, zorder=0)
    _overview_lines(axes, [(sweep, sweep.current_a) for sweep in sweeps], "-")
    si_axis(axes.xaxis, largest(*(sweep.bias_v for sweep in sweeps)), BIAS_LABEL, "V")
    si_axis(axes.yaxis, largest(*(sweep.current_a for sweep in sweeps)), "Current", "A")


def _overview_log(axes: Axes, sweeps: list[IvSweep]) -> None:
    floors = [sweep.noise_floor_a for sweep in sweeps if sweep.noise_floor_a > 0]
    current = np.concatenate([sweep.current_a for sweep in sweeps]) if sweeps else empty()
    least = log_current_axis(axes, current, max(floors, default=float("nan")))
    _overview_lines(axes, [(sweep, np.maximum(np.abs(sweep.current_a), least)) for sweep in sweeps], ".")
    si_axis(axes.xaxis, largest(*(sweep.bias_v for sweep in sweeps)), BIAS_LABEL, "V")
    # A trigger is at the far end of a sweep: the corner above its beginning is free.
    bias_v = np.concatenate([sweep.bias_v for sweep in sweeps]) if sweeps else empty()
    legend_if_any(axes, "upper right" if np.nansum(bias_v) <= 0 else "upper left")


def _overview_lines(axes: Axes, drawn: list[tuple[IvSweep, Floats]], line: str) -> None:
    """Draw sweeps in one hue and two line styles, and how each ended."""
    cut = [(sweep.bias_v[-1], values[-1]) for sweep, values in drawn if sweep.cut and len(sweep.bias_v)]
    ended = [(sweep.bias_v[-1], values[-1]) for sweep, values in drawn if not sweep.cut and len(sweep.bias_v)]
    for sweep, values in drawn:
        if len(values):
            axes.plot(sweep.bias_v, values, line, ms=3, lw=1, alpha=0.6, color=BLUE)
        if sweep.cut:
            axes.plot(sweep.bias_v[-2:], values[-2:], "-", lw=1, alpha=0.6, color=BLUE)
    if cut:
        label = "cut here (one mark a sweep)"
        axes.plot(*zip(*cut, strict=True), "X", ls="", ms=11, color=VERMILION, mec="white", label=label, zorder=5)
    if ended:
        label = "ended without a trigger"
        axes.plot(*zip(*ended, strict=True), "o", ls="", ms=9, mfc="white", mec="black", label=label, zorder=5)


# ----------------------------------------------------------------------------------------------------- latencies


def latency_figure(picture: LatencyPicture) -> Figure:
    """Draw each cut's latency as a point, a row for each group, with median and largest."""

    def draw() -> Figure:
        figure = new_figure(12.5, 1.5 + 0.9 * max(len(picture.groups), 1))
        axes = figure.subplots()
        names = []
        for place, (name, latency_s) in enumerate(picture.groups):
            known = latency_s[np.isfinite(latency_s)]
            names.append(f"{name}, {_latency_told(known)}")
            if len(known):
                _latency_row(axes, place, known)
        most = largest(*(latency_s for _, latency_s in picture.groups))
        if not names:
            axes.text(0.5, 0.5, "no cut", transform=axes.transAxes, ha="center", color=GREY)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
        axes.set_xlim(0, most * 1.15)
        si_axis(axes.xaxis, most, "Reading complete to output verified off", "s")
        caption_figure(figure, picture.title, picture.caption)
        return figure

    return styled(draw)


def _latency_row(axes: Axes, place: int, latency_s: Floats) -> None:
    # Spread in the order they came, the same in every picture: none hides another.
    abreast = min(len(latency_s), 5)
    spread = 0.06 * ((np.arange(len(latency_s)) % abreast) - (abreast - 1) / 2)
    axes.plot(latency_s, place + spread, "o", ms=6, color=BLUE, alpha=0.6, mew=0)
    median = float(np.median(latency_s))
    axes.plot([median, median], [place - 0.25, place + 0.25], color="black", lw=2.5)


def _latency_told(latency_s: Floats) -> str:
    if not len(latency_s):
        return "no cut"
    cuts = "1 cut" if len(latency_s) == 1 else f"{len(latency_s)} cuts"
    return f"{cuts}\nmedian {si(float(np.median(latency_s)), 's', 2)}\nlargest {si(float(np.max(latency_s)), 's', 2)}"


# ------------------------------------------------------------------------------------------------------ trip


def trip_figure(picture: TripPicture) -> Figure:
    """Draw \\|current\\| and level around a trip on one time axis, with what happened when."""

    def draw() -> Figure:
        figure = new_figure(11.5, 6.4)
        current, bias = figure.subplots(2, 1, sharex=True, height_ratios=[1.7, 1.0])
        _trip_current(current, picture)
        _trip_level(bias, picture)
        for axes in (current, bias):
            _trip_marks(axes, picture, named=axes is current)
        legend_if_any(current, "upper left")
        si_axis(bias.xaxis, 1e-3, "Time since the reading was complete", "s")
        caption_figure(figure, picture.title, picture.caption)
        return figure

    return styled(draw)


def _trip_current(axes: Axes, p: TripPicture) -> None:
    least = log_current_axis(axes, p.current_a, p.noise_floor_a)
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
    si_axis(axes.yaxis, largest(p.bias_v), "Tip bias sent", "V")


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
