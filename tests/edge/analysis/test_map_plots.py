"""A map: every point where it was, its class by shape, its drive by colour, and medians that own up to censoring."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from edge.analysis.map_plots import CENSORED, INVALID, LRS_AT_START, MapPicture, MapPoint, drive_median, map_figure

BOUNDARIES_M = np.array([[[40e-6, 40e-6], [60e-6, 45e-6]], [[60e-6, 45e-6], [50e-6, 70e-6]]])


def point(x_um: float, drive_v: float | None, outcome: str = "triggered", **more: Any) -> MapPoint:  # noqa: ANN401 - fields of any type
    bias_v = -drive_v if drive_v is not None and outcome == "triggered" else None
    fields: dict[str, Any] = {"site_kind": "gb", "trigger_bias_v": bias_v, "beyond_v": drive_v} | more
    return MapPoint(x_m=x_um * 1e-6, y_m=50e-6, outcome=outcome, **fields)


POINTS = (
    point(40, 0.10, label="GB1"),
    point(44, 0.12, label="GB2"),
    point(48, 0.14, label="GB3"),
    point(50, 9.0, site_kind="gi", label="GI1"),
    point(52, 10.0, CENSORED, site_kind="gi", label="GI2"),
    point(54, None, LRS_AT_START, label="GB4"),
    point(56, None, INVALID, label="GB5"),
)


def markers(axes: Axes) -> list[str]:
    return [str(line.get_marker()) for line in axes.lines if line.get_marker() not in (None, "None")]


def test_a_map_says_what_it_shows(texts: Callable[[Figure], str]) -> None:
    figure = map_figure(MapPicture(points=POINTS, boundaries_m=BOUNDARIES_M, title="a map", caption="rig x, seed 1"))
    said = texts(figure)
    for part in (
        "a map",
        "rig x, seed 1",
        "Stage x (µm)",
        "grain boundary: twin's truth record",
        "triggered",
        "did not trigger: needs more than shown",
        "conducted before the sweep",
        "not measured (invalid)",
        "grain boundary\nmedian 120 mV\n3 points\nall triggered\n2 not counted",
        "grain interior\nmedian > 9.50 V\n2 points\n1 untriggered",
        "|V| at trigger",
        "|Tip bias| at the trigger, logarithmic",
        *(each.label for each in POINTS),
    ):
        assert part in said
    grains, strip, bar = figure.axes
    assert strip.get_yscale() == bar.get_yscale() == "log"
    assert markers(grains) == ["o", "o", "o", "o", "^", "s", "X"]
    assert [float(np.asarray(line.get_xdata())[0]) for line in grains.lines] == [each.x_m for each in POINTS]
    (lines,) = (each for each in grains.collections if isinstance(each, LineCollection))
    assert np.asarray(lines.get_segments()) == pytest.approx(BOUNDARIES_M)
    # Five points have a drive; of one it is only known that it is larger, which an arrow says.
    assert markers(strip) == ["o", "o", "o", "o", "^"]
    assert sum(isinstance(text, Annotation) and text.arrow_patch is not None for text in strip.texts) == 1
    assert [line.get_linestyle() for line in strip.lines if len(np.asarray(line.get_xdata())) == 2] == ["-", "--"]


def test_colours_are_drives_on_a_logarithmic_scale() -> None:
    grains = map_figure(MapPicture(points=(point(40, 0.1), point(41, 1.0), point(42, 10.0)))).axes[0]
    viridis = mpl.colormaps["viridis"]
    assert [to_rgba(line.get_markerfacecolor()) for line in grains.lines] == [viridis(0.0), viridis(0.5), viridis(1.0)]


@pytest.mark.parametrize(
    ("points", "value_v", "at_least", "censored"),
    [
        ([], None, False, 0),
        ([point(0, None, INVALID)], None, False, 0),
        ([point(0, 0.1), point(0, 0.3)], 0.2, False, 0),
        ([point(0, 0.1), point(0, 0.2), point(0, 0.4, CENSORED)], 0.2, False, 1),
        ([point(0, 9.0), point(0, 10.0, CENSORED)], 9.5, True, 1),
        ([point(0, 10.0, CENSORED)] * 3, 10.0, True, 3),
        # Given up early, it may belong above the middle one.
        ([point(0, 0.1, CENSORED), point(0, 0.2), point(0, 0.3)], 0.2, True, 1),
        ([point(0, math.nan)], None, False, 0),
    ],
)
def test_a_median_is_a_bound_where_it_is_one(
    points: Sequence[MapPoint], value_v: float | None, at_least: bool, censored: int
) -> None:
    median = drive_median(points)
    assert median.value_v == (None if value_v is None else pytest.approx(value_v))
    assert (median.at_least, median.censored) == (at_least, censored)


@pytest.mark.parametrize(
    ("points", "part"),
    [
        ((), "no point was visited"),
        ((point(5, 0.12),), "median 120 mV\n1 point\nall triggered"),
        (tuple(point(x, 10.0, CENSORED, site_kind="hl") for x in range(3)), "median > 10.0 V\n3 points\n3 untriggered"),
        ((point(5, None, INVALID),), "no point was swept"),
        ((point(math.nan, 0.12), point(4, 0.2, "unheard of", site_kind="new")), "new\nno trigger bias"),
        (tuple(point(x, 0.12 + x, label=f"P{x}") for x in range(31)), "31 points"),
    ],
    ids=["none", "one", "all censored", "all invalid", "unknown words", "many"],
)
def test_odd_maps_draw(points: tuple[MapPoint, ...], part: str, texts: Callable[[Figure], str]) -> None:
    said = texts(map_figure(MapPicture(points=points)))
    assert part in said
    assert "P0" not in said
    assert "twin" not in said


def test_labels_of_neighbours_do_not_lie_on_each_other() -> None:
    figure = map_figure(MapPicture(points=(*POINTS, *(point(44 + 0.3 * n, 0.12, label=f"N{n}") for n in range(3)))))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not [1 for n, one in enumerate(boxes) for two in boxes[:n] if one.overlaps(two)]
