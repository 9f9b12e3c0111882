"""The pictures of the demo: what was received, and, labelled so, what the emulator knows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import numpy as np

from edge.analysis.cycle_plots import cycles_figure
from edge.analysis.dose_plots import dose_figure
from edge.analysis.map_plots import MapPicture, map_figure
from edge.analysis.plots import (
    IvOverview,
    LatencyPicture,
    TripPicture,
    iv_overview_figure,
    latency_figure,
    save_png,
    trip_figure,
)
from edge.analysis.si import si
from hil.demo.argument import picture as dose_picture
from hil.demo.findings import Set
from hil.demo.plan import FIELD, map_part
from hil.demo.play import Seen
from hil.demo.story import DEVICE, ratio_text
from hil.demo.summary import argument_latency_s
from hil.twin.grains import Box

FILES: Final = {
    "argument": "argument.png",
    "map": "map.png",
    "iv": "iv.png",
    "cycles": "on-off.png",
    "cut": "cut.png",
    "latency": "cut-latency.png",
}
BEFORE_S: Final = 0.17
_MARGIN_M: Final = 5e-6


def draw(seen: Seen, seed: int, folder: Path) -> dict[str, Path]:
    """Draw all pictures into ``folder``; return their paths by name, the argument first."""
    # Its first picture on a host takes a few seconds longer, and it says so; we say "drawing" already.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    paths = {name: folder / file for name, file in FILES.items()}
    device = f"{DEVICE}, 57600 baud, seed {seed}"
    ohm = si(seen.argument.series_ohm, "Ω", 2)
    dose = dose_picture(seen.script, seen.argument, seen.argument_truth, f"{device} · {ohm} in series · 0.1 V/s")
    save_png(dose_figure(dose), paths["argument"])
    save_png(map_figure(_map(seen, seed, device)), paths["map"])
    overview = IvOverview(
        sweeps=seen.map.sweeps(),
        title="Every sweep of the map: where the bias was cut",
        caption=f"{device} · run {seen.map.uid} · 10 kΩ in series · received over MQTT",
    )
    save_png(iv_overview_figure(overview), paths["iv"])
    cycles = seen.memristor.picture(_cycles_title(seen), f"{device} · run {seen.memristor.uid} · 1.5 kΩ in series")
    save_png(cycles_figure(cycles), paths["cycles"])
    found = seen.argument.set
    if found is None:
        del paths["cut"]
    else:
        save_png(trip_figure(_trip(seen, found, device)), paths["cut"])
    latency = LatencyPicture(
        groups=(
            ("map", np.array(seen.map.latencies_s())),
            ("memristor", np.array(seen.memristor.latencies_s())),
            ("beside the script", np.array(argument_latency_s(seen))),
        ),
        title="From the reading that shows the filament to the proof that the output is off",
        caption=f"{device} · received over MQTT",
    )
    save_png(latency_figure(latency), paths["latency"])
    return paths


def _map(seen: Seen, seed: int, device: str) -> MapPicture:
    stage = map_part(seed).spec.stage
    lines = [] if stage is None else stage.sample(seed).grains.edges(_DRAWN)
    return MapPicture(
        points=seen.map.map_points(),
        boundaries_m=np.array(lines, dtype=float).reshape(-1, 2, 2),
        title=f"Grain {_kind_title(seen, 'gb', 'boundaries')}; grain {_kind_title(seen, 'gi', 'interiors')}",
        caption=f"{device} · run {seen.map.uid} · points: received over MQTT",
    )


_DRAWN: Final = Box(FIELD.x0 - _MARGIN_M, FIELD.y0 - _MARGIN_M, FIELD.x1 + _MARGIN_M, FIELD.y1 + _MARGIN_M)


def _trip(seen: Seen, found: Set, device: str) -> TripPicture:
    def seconds(t_ns: int) -> float:
        return (t_ns - found.reading_ns) * 1e-9

    findings, truth, way = seen.argument, seen.argument_truth, found.latency
    t_ns, t_rx_ns, bias_v, current_a = (
        np.concatenate([findings.search[name], findings.cut[name]])
        for name in ("t_ns", "t_rx_ns", "bias_v", "current_a")
    )
    # A level goes out with the answer to the reading before, or with the cut.
    level_ns = np.append(t_rx_ns[:1], t_rx_ns[:-1])
    level_ns[len(findings.search["t_ns"]) :] = found.written_ns
    shown = (t_ns >= found.reading_ns - BEFORE_S * 1e9) & (t_ns <= found.verified_ns)
    return TripPicture(
        time_s=(t_ns[shown] - found.reading_ns) * 1e-9,
        bias_v=bias_v[shown],
        current_a=current_a[shown],
        level_s=(level_ns[shown] - found.reading_ns) * 1e-9,
        onset_s=None if found.onset_ns is None else (seconds(found.onset_ns[0]), seconds(found.onset_ns[1])),
        decided_s=seconds(found.decided_ns),
        written_s=seconds(found.written_ns),
        verified_s=seconds(found.verified_ns),
        truth_onset_s=seconds(truth.onset_ns),
        truth_safe_s=seconds(truth.safe_ns),
        noise_floor_a=findings.noise_floor_a,
        title=(
            f"Cut decided {si(way.decide_s, 's', 2)} after the reading, on the wire {si(way.write_s, 's', 2)} later, "
            f"verified off after {si(way.total_s, 's', 2)}"
        ),
        caption=f"{device} · run {findings.uid}",
    )


def _kind_title(seen: Seen, kind: str, name: str) -> str:
    median = seen.map.median(kind)
    if median.value_v is None:
        return f"{name}: none measured"
    bias = si(-median.value_v, "V").replace("-", "−")
    return f"{name} give way {'beyond' if median.at_least else 'at'} {bias} (median of {median.n})"


def _cycles_title(seen: Seen) -> str:
    document = seen.memristor.document()
    ratio = document["on_off_lower_bound_median"]
    bound = "at least " if document["n_bound"] * 2 >= document["cycles"] else ""
    reset = f"{document['reset_ok']} of {document['cycles']} resets"
    return f"{reset}, on/off {bound}{ratio_text(ratio)}" if ratio else reset
