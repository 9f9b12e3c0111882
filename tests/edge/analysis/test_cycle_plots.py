"""Cycles: a ratio that is only a bound looks like one, and a reset that failed is not hidden."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from edge.analysis.cycle_plots import CyclesPicture, cycles_figure

LOD_A = 330e-12
R_ON_OHM = np.array([8e3, 9e3, 7e3, 8e3, 8e3])
HRS_A = np.array([50e-12, 3e-9, -100e-12, math.nan, 1e-6])
PICTURE = CyclesPicture(
    cycle=np.arange(5),
    on_off=np.append((0.1 / R_ON_OHM / np.maximum(np.abs(HRS_A), LOD_A))[:3], [math.nan, 12.5]),
    on_off_is_bound=np.array([True, False, True, False, False]),
    r_on_ohm=R_ON_OHM,
    hrs_a=HRS_A,
    set_bias_v=np.full(5, -0.16),
    reset_bias_v=np.full(5, 0.55),
    reset_ok=np.array([True, True, True, False, False]),
    lod_a=LOD_A,
    title="five cycles",
    caption="rig x, seed 1",
)
COLUMNS = ("cycle", "on_off", "on_off_is_bound", "r_on_ohm", "hrs_a", "set_bias_v", "reset_bias_v", "reset_ok")


def cycles_with(axes: Axes, marker: str) -> list[float]:
    return [
        float(x)
        for line in axes.lines
        if line.get_marker() == marker
        for x in np.asarray(line.get_xdata(), dtype=float)
    ]


def test_bounds_and_values_look_different(texts: Callable[[Figure], str]) -> None:
    figure = cycles_figure(PICTURE)
    said = texts(figure)
    for part in (
        "five cycles",
        "rig x, seed 1",
        "5 cycles: 2 resolved, 2 at least, 1 without a ratio, 2 not reset",
        "at least: off current below the detection limit (330 pA)",
        "the true ratio is somewhere in here",
        "most that could be told: on current / 330 pA",
        "On/off ratio at 100 mV",
        "grey: below the detection limit, 330 pA",
        "On resistance (kΩ)",
        "Tip bias (mV)",
    ):
        assert part in said
    ratio, on, off, bias = figure.axes
    assert (ratio.get_yscale(), on.get_yscale(), off.get_yscale(), bias.get_yscale()) == (
        "log",
        "linear",
        "log",
        "linear",
    )
    assert cycles_with(ratio, "^") == [0, 2]
    assert cycles_with(ratio, "o") == [1, 4]
    assert cycles_with(ratio, "x") == [3, 4]


def test_the_band_goes_from_each_bound_to_the_top() -> None:
    ratio = cycles_figure(PICTURE).axes[0]
    bars = [patch for patch in ratio.patches if isinstance(patch, Rectangle)]
    band = [(bar.get_x() + bar.get_width() / 2, bar.get_y(), bar.get_y() + bar.get_height()) for bar in bars]
    top = ratio.get_ylim()[1]
    expected = [(0, PICTURE.on_off[0], top), (2, PICTURE.on_off[2], top)]
    assert np.array(band) == pytest.approx(np.array(expected))


def test_the_ceiling_is_the_on_current_over_the_detection_limit() -> None:
    ratio = cycles_figure(PICTURE).axes[0]
    (ceiling,) = (line for line in ratio.lines if "most that could" in str(line.get_label()))
    assert np.asarray(ceiling.get_ydata())[:3] == pytest.approx(0.1 / R_ON_OHM[:3] / LOD_A)


def test_a_failed_reset_without_a_ratio_stands_at_the_edge() -> None:
    ratio = cycles_figure(PICTURE).axes[0]
    (failed,) = (line for line in ratio.lines if line.get_marker() == "x")
    assert np.asarray(failed.get_ydata()) == pytest.approx([ratio.get_ylim()[0], 12.5])


@pytest.mark.parametrize(
    ("changed", "part", "absent"),
    [
        # The limit is measured before the first cycle.
        ({name: np.empty(0) for name in COLUMNS}, "0 cycles: 0 resolved", "at least:"),
        ({name: getattr(PICTURE, name)[:1] for name in COLUMNS}, "1 cycle: 0 resolved, 1 at least", "reset failed"),
        (
            {name: np.full(5, math.nan) for name in COLUMNS[1:-1]} | {"on_off_is_bound": np.zeros(5, dtype=bool)},
            "no cycle has a ratio",
            "resolved\n",
        ),
        ({"lod_a": math.nan}, "detection limit unknown", "most that could be told"),
        ({"on_off_is_bound": np.zeros(5, dtype=bool)}, "4 resolved, 0 at least", "somewhere in here"),
    ],
    ids=["no cycle", "one", "no set", "limit unknown", "no bound"],
)
def test_odd_cycles_draw(changed: dict[str, Any], part: str, absent: str, texts: Callable[[Figure], str]) -> None:
    said = texts(cycles_figure(dataclasses.replace(PICTURE, **changed)))
    assert part in said
    assert absent not in said
