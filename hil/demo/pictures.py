"""The pictures of a run: what was received, and, labelled so, what the emulator knows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import numpy as np

from edge.analysis.plots import IvPicture, TripPicture, iv_figure, save_png, trip_figure
from edge.analysis.si import si, si_pm
from hil.demo.findings import IvFindings, Set
from hil.demo.truth import SetTruth

IV_FILE: Final = "iv.png"
EVENT_FILE: Final = "event.png"
BEFORE_S: Final = 0.17


def caption(findings: IvFindings, bench: str) -> str:
    """Return the line below a picture: rig, run, what it was measured with."""
    return (
        f"rig {findings.rig.get('id')} · run {findings.uid} · {findings.started_utc:%Y-%m-%d %H:%M} UTC · {bench} · "
        f"{si(findings.series_ohm, 'Ω', 2)} in series · {si(abs(findings.ramp_v_s), 'V/s', 2)}"
    )


def draw(findings: IvFindings, truth: SetTruth | None, bench: str, folder: Path) -> list[Path]:
    """Draw ``iv.png`` and, if there was a set, ``event.png`` into ``folder``; return their paths.

    Nothing is drawn of a search that never took a reading.
    """
    if not len(findings.search["bias_v"]):
        return []
    # Its first picture on a host takes a few seconds longer, and it says so; we say "drawing" already.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    found = findings.set
    title = "No set in this sweep"
    if found is not None:
        trigger = _minus(si_pm(found.trigger_bias_v, found.trigger_half_v, "V"))
        title = f"Set at {trigger}, bias cut at {_minus(si(found.set_current_a, 'A'))}"
    line = caption(findings, bench)
    drawn = [folder / IV_FILE]
    save_png(iv_figure(_iv(findings, title, line)), drawn[0])
    if found is not None:
        way = found.latency
        title = (
            f"Cut decided {si(way.decide_s, 's', 2)} after the reading, on the wire {si(way.write_s, 's', 2)} later, "
            f"verified off after {si(way.total_s, 's', 2)}"
        )
        drawn.append(folder / EVENT_FILE)
        save_png(trip_figure(_trip(findings, found, truth, title, line)), drawn[-1])
    return drawn


def _iv(findings: IvFindings, title: str, line: str) -> IvPicture:
    found = findings.set
    return IvPicture(
        bias_v=findings.search["bias_v"],
        current_a=findings.search["current_a"],
        read_bias_v=findings.read["bias_v"],
        read_current_a=findings.read["current_a"],
        read_conductance_s=None if findings.loop_ohm is None else 1 / findings.loop_ohm,
        trigger_bias_v=found.trigger_bias_v if found else None,
        trigger_half_v=found.trigger_half_v if found else None,
        noise_floor_a=findings.noise_floor_a,
        cut=found is not None,
        title=title,
        caption=line,
    )


def _trip(findings: IvFindings, found: Set, truth: SetTruth | None, title: str, line: str) -> TripPicture:
    def seconds(t_ns: int) -> float:
        return (t_ns - found.reading_ns) * 1e-9

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
        truth_onset_s=None if truth is None else seconds(truth.onset_ns),
        truth_safe_s=None if truth is None else seconds(truth.safe_ns),
        noise_floor_a=findings.noise_floor_a,
        title=title,
        caption=line,
    )


def _minus(text: str) -> str:
    return text.replace("-", "−")
