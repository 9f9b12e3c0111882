"""The picture of ``tipguard bench uplink``: every round's rate, side by side, and how old events were on arrival."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hil.bench.uplink_sides import Rounds

_CAPTION = (
    "A mark is a round; sides took turns. Stored: as far as a directory store's watermark.\n"
    "Backlog: with live data in front. Events: of a rig that measures while its backlog is sent."
)


def draw(rounds: Rounds, path: Path) -> None:
    """Draw it as PNG into ``path``, whose folder is made if absent."""
    from matplotlib.figure import Figure as Picture
    from matplotlib.ticker import EngFormatter, FuncFormatter

    from edge.analysis import plot_style as style

    rows = (
        ("plain script", rounds.script, style.VERMILION),
        ("tipguard", rounds.frames, style.BLUE),
        ("tipguard stored", rounds.stored, style.BLUE),
        ("script backlog", rounds.script_drain, style.VERMILION),
        ("tipguard backlog", rounds.drain, style.BLUE),
    )

    def picture() -> Picture:
        figure = style.new_figure(9.6, 4.8)
        rates, ages = figure.subplots(1, 2)
        for at, (_, side, colour) in enumerate(rows):
            rates.plot([one.rate_hz for one in side], [at] * len(side), "o", color=colour, alpha=0.7, clip_on=False)
        rates.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        rates.invert_yaxis()
        rates.set_xlim(left=0.0)
        rates.set_xlabel("Frames of 4 KiB / s")
        rates.grid(visible=True, axis="x", alpha=0.3)
        seen = {
            "to a subscriber of events": [age_s for one in rounds.drain for age_s in one.event_s],
            "to one of every frame": [age_s for one in rounds.drain for age_s in one.event_behind_s],
        }
        for (whom, values), line in zip(seen.items(), ("-", ":"), strict=True):
            older = 1.0 - np.arange(len(values)) / max(len(values), 1)
            ages.step(np.sort(values), older, line, where="post", color=style.BLUE, label=whom)
        ages.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=1, frameon=False)
        ages.axvline(0.1, color=style.VERMILION, ls="--")
        ages.set_xscale("log")
        ages.set_yscale("log")
        ages.xaxis.set_major_formatter(EngFormatter("s"))
        ages.yaxis.set_major_formatter(FuncFormatter(lambda share, _at: f"{100 * share:g} %"))
        ages.set_xlabel("Age on arrival (dashed: p99 limit)")
        ages.set_ylabel("Events that were older")
        ages.grid(visible=True, alpha=0.3)
        style.caption_figure(figure, "Uplink beside a plain script", _CAPTION)
        return figure

    path.parent.mkdir(parents=True, exist_ok=True)
    style.save_png(style.styled(picture), path)
