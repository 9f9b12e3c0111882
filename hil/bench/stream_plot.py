"""The picture of ``tipguard bench stream``: samples a second side by side, and what takes the processor for them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from hil.bench.stream_sides import Ours, Theirs

_CAPTION: Final = (
    "A mark is a round; sides took turns. tipguard: what the front end takes, all of it in a store; scripts: as fast "
    "as they go, nothing stored.\nCores: of the longest run, and the median of each script. Dashed: the limit for the "
    "controller (keeper and worker)."
)
_LIMIT: Final = 0.6
NAMES: Final = {
    "script": "readline, QoS 0",
    "script_qos1": "readline, QoS 1",
    "script_buffered": "buffered, QoS 0",
}


def draw(ours: Sequence[Ours], theirs: Mapping[str, Sequence[Theirs]], path: Path) -> None:
    """Draw it as PNG into ``path``, whose folder is made if absent."""
    from matplotlib.figure import Figure as Picture
    from matplotlib.ticker import EngFormatter

    from edge.analysis import plot_style as style

    colours = {
        "controller": style.BLUE,
        "script": style.VERMILION,
        "uplink": style.GREEN,
        "store": style.ORANGE,
        "broker": style.GREY,
        "firmware": style.PURPLE,
    }

    def cores() -> dict[str, dict[str, float]]:
        first = ours[0]
        bars = {"tipguard": {"controller": first.controller, **{n: first.cores[n] for n in ("uplink", "store")}}}
        bars["tipguard"] |= {"broker": first.cores["broker"], "firmware": first.cores["firmware"]}
        for way, sides in theirs.items():
            bars[NAMES[way]] = {
                name: statistics.median(one.cores[name] for one in sides) for name in ("script", "broker")
            }
        return bars

    def picture() -> Picture:
        figure = style.new_figure(10.4, 4.4)
        rates, used = figure.subplots(1, 2)
        bars = cores()
        rows = {"tipguard": [one.rate_hz for one in ours]}
        rows |= {NAMES[way]: [one.rate_hz for one in sides] for way, sides in theirs.items()}
        for at, (name, values) in enumerate(rows.items()):
            colour = style.BLUE if name == "tipguard" else style.VERMILION
            rates.plot(values, [at] * len(values), "o", color=colour, alpha=0.7, clip_on=False)
        rates.set_xscale("log")
        rates.set_xlim(10 ** (len(str(int(max(min(map(min, rows.values())), 1)))) - 1), 2e5)
        rates.xaxis.set_major_formatter(EngFormatter())
        rates.set_yticks(range(len(rows)), list(rows))
        rates.set_ylim(len(rows) - 0.5, -0.5)
        rates.set_xlabel("Samples a second that got through")
        rates.grid(visible=True, axis="x", alpha=0.3)
        named: set[str] = set()
        for at, parts in enumerate(bars.values()):
            left = 0.0
            for name, value in parts.items():
                label = None if name in named else name
                used.barh(at, value, left=left, height=0.55, color=colours[name], label=label)
                named.add(name)
                left += value
        used.plot([_LIMIT, _LIMIT], [-0.4, 0.4], color="black", ls="--", lw=1.2)
        used.set_yticks(range(len(bars)), [""] * len(bars))
        used.set_ylim(len(bars) - 0.5, -0.5)
        used.set_xlim(left=0.0)
        used.set_xlabel("Cores")
        used.grid(visible=True, axis="x", alpha=0.3)
        used.set_axisbelow(True)
        figure.legend(loc="outside upper right", ncols=len(named), fontsize=9.5, columnspacing=1.0)
        style.caption_figure(figure, "Stream beside a plain script", _CAPTION)
        return figure

    path.parent.mkdir(parents=True, exist_ok=True)
    style.save_png(style.styled(picture), path)
