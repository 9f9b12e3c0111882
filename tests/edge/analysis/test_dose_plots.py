"""The argument: the numbers are those of the truth record and labelled so, whatever they are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from edge.analysis.dose_plots import TRUTH_SOURCE, DosePicture, DoseTrace, dose_figure, dose_ratio, dose_title

PERIOD_S = 0.0215
SCRIPT_S = np.arange(-8, 60) * PERIOD_S
SCRIPT_V = np.where(SCRIPT_S < 0, -0.1188 - SCRIPT_S * 0.1, np.minimum(-0.1188 + SCRIPT_S * 0.1, 0.0))
SCRIPT = DoseTrace(
    name="plain script",
    how="READ?, threshold 1 µA, ramp to 0",
    time_s=SCRIPT_S,
    bias_v=SCRIPT_V,
    current_a=np.where(SCRIPT_S < 0, 4e-9, SCRIPT_V / 18.4e3),
    charge_c=3.78e-6,
    safe_s=1.17,
    peak_current_a=6.5e-6,
    cut_s=0.013,
)
GUARDED = DoseTrace(
    name="tipguard",
    time_s=SCRIPT_S[:11],
    bias_v=np.append(SCRIPT_V[:9], [0.0, 0.0]),
    current_a=np.append(np.full(8, 3e-9), [-6.4e-6, 1e-9, 2e-9]),
    charge_c=0.118e-6,
    safe_s=0.018,
    peak_current_a=6.4e-6,
    cut_s=0.008,
)
PICTURE = DosePicture(usual=SCRIPT, guarded=GUARDED, noise_floor_a=30e-9, caption="rig x, seed 1")
NOTHING = DoseTrace(
    name="plain script",
    time_s=np.empty(0),
    bias_v=np.empty(0),
    current_a=np.empty(0),
    charge_c=None,
    safe_s=None,
    peak_current_a=None,
)


def test_it_says_in_large_numbers_what_each_put_into_the_tip(texts: Callable[[Figure], str]) -> None:
    figure = dose_figure(PICTURE)
    said = texts(figure)
    for part in (
        "Same site, same filament: tipguard put 32× less charge into the tip",
        "3.8 µC",
        "0.12 µC",
        "32× less",
        TRUTH_SOURCE,
        "plain script: safe after 1.2 s",
        "tipguard: safe after 18 ms",
        "peak 6.5 µA",
        "READ?, threshold",
        "1\N{NO-BREAK SPACE}µA, ramp to 0",
        "Time since the filament formed (s)",
        "Tip bias (mV)",
        "Charge into the tip (µC)",
        "noise floor, 3σ = 30 nA",
        "plain script cuts",
        "tipguard cuts",
        "rig x, seed 1",
    ):
        assert part in said
    charges, current, bias = figure.axes
    assert (charges.get_yscale(), current.get_yscale(), bias.get_yscale()) == ("linear", "log", "linear")
    columns = [patch.get_height() for patch in charges.patches if isinstance(patch, Rectangle)]
    assert columns == [3.78e-6, 0.118e-6]
    assert min(float(text.get_fontsize()) for text in charges.texts) > 20


def test_both_currents_are_drawn_over_one_time_axis() -> None:
    figure = dose_figure(PICTURE)
    current, bias = figure.axes[1:]
    assert current.get_xlim() == bias.get_xlim()
    low, high = current.get_xlim()
    assert low < 0 < 1.17 < high
    drawn = {str(line.get_label()): np.asarray(line.get_ydata()) for line in current.lines}
    shown = (low <= SCRIPT_S) & (high >= SCRIPT_S)
    edge_a = current.get_ylim()[0]
    assert drawn["plain script: its readings"] == pytest.approx(np.maximum(np.abs(SCRIPT.current_a[shown]), edge_a))
    assert drawn["tipguard: its readings"][-3:] == pytest.approx([6.4e-6, 1e-9, 2e-9])
    marks = {str(line.get_label()): line.get_xdata() for line in bias.lines if line.get_marker() == "X"}
    assert marks == {"plain script cuts": [0.013], "tipguard cuts": [0.008]}


@pytest.mark.parametrize(
    ("usual_c", "guarded_c", "title"),
    [
        (3.78e-6, 0.118e-6, "tipguard put 32× less"),
        (3.0e-6, 2.3e-9, "tipguard put 1300× less"),
        (2e-7, 1e-7, "tipguard put 2× less"),
        (1e-7, 3.5e-7, "tipguard put 3.5× more"),
        (None, 1e-7, "watched in two ways"),
        (math.nan, 1e-7, "watched in two ways"),
        (1e-6, 0.0, "watched in two ways"),
    ],
)
def test_the_title_is_what_was_found(usual_c: float | None, guarded_c: float, title: str) -> None:
    picture = DosePicture(
        usual=dataclasses.replace(SCRIPT, charge_c=usual_c), guarded=dataclasses.replace(GUARDED, charge_c=guarded_c)
    )
    assert title in dose_title(picture)
    assert (dose_ratio(picture) is None) == ("two ways" in title)


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"usual": NOTHING, "guarded": NOTHING}, "n/a"),
        ({"usual": dataclasses.replace(SCRIPT, current_a=np.full(len(SCRIPT_S), math.nan))}, "3.8 µC"),
        ({"guarded": dataclasses.replace(GUARDED, charge_c=4e-6)}, "1.1× more"),
        ({"usual": NOTHING}, "118 nC"),
    ],
    ids=["nothing", "currents NaN", "more", "one side"],
)
def test_odd_doses_draw(changed: dict[str, Any], part: str, texts: Callable[[Figure], str]) -> None:
    assert part in texts(dose_figure(dataclasses.replace(PICTURE, **changed)))
