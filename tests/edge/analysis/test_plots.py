"""Pictures and the numbers on them: what is shown, in which units, and that odd data draws too."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge.analysis.noise import noise_floor, noise_sigma
from edge.analysis.plots import (
    IvOverview,
    IvPicture,
    IvSweep,
    LatencyPicture,
    TripPicture,
    iv_figure,
    iv_overview_figure,
    latency_figure,
    save_png,
    trip_figure,
)
from edge.analysis.si import ABSENT, prefix_for, si, si_pm

RNG = np.random.default_rng(1)
BIAS_V = np.linspace(0.0, -0.12, 61)
CURRENT_A = np.append(RNG.normal(0, 10e-9, 60), -14e-6)
READ_V = np.array([0.0, 0.01, 0.02, 0.01, 0.0, -0.01, -0.02, -0.01, 0.0])
IV: dict[str, Any] = {
    "bias_v": BIAS_V,
    "current_a": CURRENT_A,
    "read_bias_v": READ_V,
    "read_current_a": READ_V / 8.4e3,
    "read_conductance_s": 1 / 8.4e3,
    "trigger_bias_v": -0.119,
    "trigger_half_v": 0.001,
    "noise_floor_a": 30e-9,
    "cut": True,
    "title": "a set",
    "caption": "rig x, run y, seed 1",
}
TRIP: dict[str, Any] = {
    "time_s": np.array([-0.05, -0.028, -0.007, 0.012]),
    "bias_v": np.array([-0.116, -0.118, -0.12, 0.0]),
    "current_a": np.array([1e-9, -5e-9, -14e-6, 2e-9]),
    "level_s": np.array([-0.065, -0.042, -0.021, 0.0]),
    "onset_s": (-0.028, -0.007),
    "decided_s": 70e-6,
    "written_s": 90e-6,
    "verified_s": 0.043,
    "truth_onset_s": -0.02,
    "truth_safe_s": 0.0094,
    "noise_floor_a": 30e-9,
    "title": "a cut",
    "caption": "rig x, run y, seed 1",
}


# ---------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (-1.3247e-5, 3, "-13.2 µA"),
        (0.0, 3, "0 A"),
        (999.6e-9, 3, "1.00 µA"),
        (999.4e-9, 3, "999 nA"),
        (1e-3, 2, "1.0 mA"),
        (8.31e3, 3, "8.31 kA"),
        (123456.0, 2, "120 kA"),
        (1.0, 1, "1 A"),
        (1e-18, 3, "1.00 aA"),
        (3e-20, 2, "0.030 aA"),
        (5e16, 2, "50000 TA"),
        (math.nan, 3, ABSENT),
        (-math.inf, 3, ABSENT),
        (None, 3, ABSENT),
    ],
)
def test_si_rounds_before_it_chooses_the_prefix(value: float | None, digits: int, text: str) -> None:
    assert si(value, "A", digits) == text


def test_si_without_a_unit_leaves_no_space() -> None:
    assert si(12.0, "", 2) == "12"
    assert si(0.0, "") == "0"


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (-0.118, 0.001, "-118.0 ± 1.0 mV"),
        (-0.118, 0.0011013, "-118.0 ± 1.1 mV"),
        (-0.12, 0.05, "-120 ± 50 mV"),
        (9.21, 0.001, "9.2100 ± 0.0010 V"),
        (0.001, 0.1, "1 ± 100 mV"),
        (-0.118, 0.0, "-118 mV"),
        (-0.118, None, "-118 mV"),
        (None, 0.001, ABSENT),
        (math.nan, 0.001, ABSENT),
    ],
)
def test_si_pm_gives_value_and_half_width_one_prefix(value: float | None, half: float | None, text: str) -> None:
    assert si_pm(value, half, "V") == text


def test_prefix_of_nothing_is_none() -> None:
    assert prefix_for(0.0) == (1.0, "")
    assert prefix_for(math.inf) == (1.0, "")
    factor, prefix = prefix_for(-0.12)
    assert (round(factor, 9), prefix) == (0.001, "m")


def test_noise_is_that_of_single_readings_and_no_drift_or_outlier() -> None:
    noise = RNG.normal(0, 10e-9, 4000)
    drift = np.linspace(0, 5e-6, 4000)
    assert noise_sigma(noise + drift) == pytest.approx(10e-9, rel=0.1)
    with_glitches = noise.copy()
    with_glitches[::500] = 1e-3
    assert noise_sigma(with_glitches) == pytest.approx(10e-9, rel=0.1)
    assert noise_floor(noise) == pytest.approx(30e-9, rel=0.1)


def test_noise_of_too_few_readings_is_unknown() -> None:
    assert math.isnan(noise_floor(np.array([1.0, 2.0, math.nan, 3.0])))


# --------------------------------------------------------------------------------------------------- pictures


def test_an_iv_picture_says_what_it_shows(texts: Callable[[Figure], str]) -> None:
    said = texts(iv_figure(IvPicture(**IV)))
    for part in (
        "Current (µA)",
        "Tip bias against Li/Li⁺ (mV)",
        "noise floor, 3σ = 30 nA",
        "trigger −119.0 ± 1.0 mV",
        "cut here",
        "its slope, 8.40 kΩ",
        "10 µA",
        "a set",
        "rig x, run y, seed 1",
    ):
        assert part in said


def test_a_trip_picture_says_what_it_shows_and_labels_the_truth(texts: Callable[[Figure], str]) -> None:
    said = texts(trip_figure(TripPicture(**TRIP)))
    for part in (
        "Time since the reading was complete (ms)",
        "Tip bias sent (mV)",
        "output verified off",
        "cut decided and written",
        "formed: truth (emulator only)",
        "tip at 0 V: truth (emulator only)",
        "noise floor, 3σ = 30 nA",
    ):
        assert part in said


def test_a_real_instrument_has_no_truth(texts: Callable[[Figure], str]) -> None:
    assert "truth" not in texts(trip_figure(TripPicture(**{**TRIP, "truth_onset_s": None, "truth_safe_s": None})))


@pytest.mark.parametrize(
    "changed",
    [
        {"trigger_bias_v": None, "trigger_half_v": None, "cut": False},
        {"read_bias_v": np.empty(0), "read_current_a": np.empty(0), "read_conductance_s": None},
        {"read_conductance_s": None},
        {"noise_floor_a": math.nan},
        {"current_a": np.zeros(61), "noise_floor_a": 0.0},
        {"current_a": np.append(CURRENT_A[:-1], math.nan)},
        {"bias_v": -BIAS_V, "current_a": -CURRENT_A, "trigger_bias_v": 0.119},
        {"bias_v": BIAS_V[:1], "current_a": CURRENT_A[:1]},
    ],
    ids=["no set", "no read", "no slope", "noise unknown", "all zero", "overflow", "positive", "one reading"],
)
def test_odd_sweeps_draw(changed: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "iv.png"
    save_png(iv_figure(IvPicture(**{**IV, **changed})), path)
    assert_drawn(path)


@pytest.mark.parametrize(
    "changed",
    [
        {"onset_s": None, "decided_s": None, "written_s": None, "verified_s": None},
        {"noise_floor_a": math.nan},
        {"current_a": np.array([1e-9, math.nan, math.nan, 2e-9])},
        {name: np.empty(0) for name in ("time_s", "bias_v", "current_a", "level_s")},
    ],
    ids=["times unknown", "noise unknown", "untrusted", "no readings"],
)
def test_odd_trips_draw(changed: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "event.png"
    save_png(trip_figure(TripPicture(**{**TRIP, **changed})), path)
    assert_drawn(path)


def assert_drawn(path: Path) -> None:
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[1] > 1000
    dark = np.mean(pixels[..., :3].min(axis=2) < 0.5)
    assert 0.003 < dark < 0.5


def test_what_reads_as_nothing_stands_at_the_edge_of_the_logarithmic_axis() -> None:
    figure = iv_figure(IvPicture(**{**IV, "current_a": np.append(np.zeros(60), -14e-6)}))
    logarithmic = figure.axes[1]
    least = logarithmic.get_ylim()[0]
    shown = np.asarray(logarithmic.lines[0].get_ydata())
    assert np.all(shown[:-1] == least)
    assert shown[-1] == pytest.approx(14e-6)


def test_without_pyplot() -> None:
    """A figure of ours is in no global list, so that a long-lived process keeps none."""
    import subprocess
    import sys

    code = (
        "import sys, numpy as np; from edge.analysis import plots;"
        "assert not any(m.startswith('matplotlib') for m in sys.modules), 'imported before the first picture';"
        "plots.iv_figure(plots.IvPicture(bias_v=np.array([0.0, -0.1]), current_a=np.array([0.0, -1e-6])));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --------------------------------------------------------------------------------------------------- several sweeps


def sweep(to_v: float, *, kind: str, cut: bool = True, points: int = 40) -> IvSweep:
    bias_v = np.linspace(0.0, to_v, points)
    current_a = RNG.normal(0, 10e-9, points)
    if cut:
        current_a[-1] = to_v / 18.4e3
    return IvSweep(bias_v=bias_v, current_a=current_a, site_kind=kind, noise_floor_a=30e-9, cut=cut)


def test_an_overview_has_a_row_for_each_kind_and_marks_every_cut(texts: Callable[[Figure], str]) -> None:
    sweeps = (sweep(-0.12, kind="gb"), sweep(-9.0, kind="gi"), sweep(-0.1, kind="gb"), sweep(-10, kind="gi", cut=False))
    figure = iv_overview_figure(IvOverview(sweeps=sweeps, title="a map", caption="rig x"))
    said = texts(figure)
    for part in (
        "Grain boundary: 2 sweeps, 2 cut",
        "Grain interior: 2 sweeps, 1 cut",
        "Tip bias against Li/Li⁺ (mV)",
        "Tip bias against Li/Li⁺ (V)",
        "noise floor, 3σ = 30 nA",
        "ended without a trigger",
        "a map",
        "rig x",
    ):
        assert part in said
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "log"] * 2
    linear, logarithmic, interior, _ = figure.axes
    assert np.array(marked(linear, "X")) == pytest.approx(np.array([(v, v / 18.4e3) for v in (-0.12, -0.1)]))
    assert [y for _, y in marked(logarithmic, "X")] == pytest.approx([0.12 / 18.4e3, 0.1 / 18.4e3])
    assert [x for x, _ in marked(interior, "X")] == [-9.0]
    assert [x for x, _ in marked(interior, "o")] == [-10.0]


def marked(axes: Axes, marker: str) -> list[tuple[float, float]]:
    """Where a figure has this marker."""
    return [
        (float(x), float(y))
        for line in axes.lines
        if line.get_marker() == marker
        for x, y in zip(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()), strict=True)
    ]


@pytest.mark.parametrize(
    "sweeps",
    [
        (),
        (IvSweep(bias_v=np.empty(0), current_a=np.empty(0), cut=True),),
        (IvSweep(bias_v=np.array([-0.1]), current_a=np.array([math.nan]), cut=True, site_kind="gb"),),
        (IvSweep(bias_v=np.array([0.0, 0.1]), current_a=np.zeros(2), site_kind="new"),),
    ],
    ids=["none", "no reading", "overflow", "all zero"],
)
def test_odd_overviews_draw(sweeps: tuple[IvSweep, ...], texts: Callable[[Figure], str]) -> None:
    assert "|Current|" in texts(iv_overview_figure(IvOverview(sweeps=sweeps)))


# -------------------------------------------------------------------------------------------------------- latency


def test_latencies_have_a_row_for_each_group_with_every_cut(texts: Callable[[Figure], str]) -> None:
    groups = (
        ("map", np.array([0.040, 0.043, 0.050])),
        ("memristor", np.array([0.02, math.nan])),
        ("none", np.empty(0)),
    )
    figure = latency_figure(LatencyPicture(groups=groups))
    said = texts(figure)
    for part in (
        "map, 3 cuts\nmedian 43 ms\nlargest 50 ms",
        "memristor, 1 cut\nmedian 20 ms",
        "none, no cut",
        "Reading complete to output verified off (ms)",
    ):
        assert part in said
    assert [x for x, _ in marked(figure.axes[0], "o")] == [0.040, 0.043, 0.050, 0.02]
    assert figure.axes[0].get_xlim()[0] == 0


def test_no_latency_is_said(texts: Callable[[Figure], str]) -> None:
    assert "no cut" in texts(latency_figure(LatencyPicture(groups=())))
