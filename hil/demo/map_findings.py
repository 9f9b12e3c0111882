"""What a trigger map found, computed from the documents that the subscriber received and from nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge.analysis.map_plots import DriveMedian, MapPoint, drive_median
from edge.analysis.noise import noise_floor
from edge.analysis.plots import IvSweep
from hil.demo.findings import SEEK, Columns
from hil.demo.subscriber import Document, Subscriber

FILAMENT_S: Final = 1e-6
"""A conductance that counts as a filament's in the read after a sweep."""


@dataclass(frozen=True, slots=True)
class MapFindings:
    """One run. ``points``: the ``point`` documents in order of visiting; ``samples``: all columns of the run."""

    uid: str
    start: Document
    stop: Document
    zero: Document | None
    points: tuple[Document, ...]
    samples: Columns

    def of_kind(self, kind: str) -> list[Document]:
        """Return the points of one kind of site."""
        return [point for point in self.points if point["site_kind"] == kind]

    def map_points(self, kind: str | None = None) -> tuple[MapPoint, ...]:
        """Return them for the map, all or of one kind."""
        return tuple(
            MapPoint(
                x_m=point["x_m"],
                y_m=point["y_m"],
                outcome=point["class"],
                site_kind=point["site_kind"],
                label=point["label"],
                trigger_bias_v=point["trigger_bias_v"],
                beyond_v=point["beyond_v"],
            )
            for point in self.points
            if kind is None or point["site_kind"] == kind
        )

    def median(self, kind: str) -> DriveMedian:
        """Return the median drive of one kind of site, V, what did not trigger counted as later."""
        return drive_median(self.map_points(kind))

    def sweep(self, point: Document) -> Columns:
        """Return the samples of a point's sweep."""
        if point["began_ns"] is None:
            return {name: column[:0] for name, column in self.samples.items()}
        t_ns, phase = self.samples["t_ns"], self.samples["phase"]
        # The next point's sweep begins later than this one's last reading by seconds.
        later = [other["began_ns"] for other in self.points if (other["began_ns"] or 0) > point["began_ns"]]
        mine = (phase == SEEK) & (t_ns >= point["began_ns"]) & (t_ns < min(later, default=np.iinfo(np.int64).max))
        return {name: column[mine] for name, column in self.samples.items()}

    def sweeps(self) -> tuple[IvSweep, ...]:
        """Return every sweep for the overview."""
        made = []
        for point in self.points:
            samples = self.sweep(point)
            if not len(samples["bias_v"]):
                continue
            before = samples["current_a"]
            if point["onset_ns"] is not None:
                before = before[samples["t_ns"] < point["onset_ns"]]
            made.append(
                IvSweep(
                    bias_v=samples["bias_v"],
                    current_a=samples["current_a"],
                    site_kind=point["site_kind"],
                    noise_floor_a=noise_floor(before),
                    cut=point["verdict"] is not None,
                )
            )
        return tuple(made)

    def latencies_s(self) -> list[float]:
        """Return reading complete to verified off, s, of every cut."""
        return [cut_s for point in self.points if (cut_s := latency_s(point)) is not None]

    def document(self, kind: str, *, rate_v_s: float) -> dict[str, Any]:
        """Return what ``summary.json`` says of one kind; medians are biases, plating negative."""
        points = self.of_kind(kind)
        median = self.median(kind)
        known = median.value_v is not None and not median.at_least
        counts = {name: sum(point["class"] == name for point in points) for name in CLASSES}
        return {
            "n": len(points),
            "median_v": -median.value_v if known and median.value_v is not None else None,
            "median_beyond_v": -median.value_v if median.at_least and median.value_v is not None else None,
            "censored": counts["censored"],
            "triggered": counts["triggered"],
            "lrs_at_start": counts["lrs_at_start"],
            "invalid": counts["invalid"],
            "rate_v_s": rate_v_s,
        }


CLASSES: Final = ("triggered", "censored", "lrs_at_start", "invalid")


def find_map(subscriber: Subscriber, uid: str) -> MapFindings:
    """Collect a run's documents. Raises KeyError when its start or stop document was not received."""
    mine = [doc for doc in subscriber.documents("run") if doc.get("uid") == uid]
    by_kind = {doc["kind"]: doc for doc in mine}
    return MapFindings(
        uid,
        by_kind["start"],
        by_kind["stop"],
        by_kind.get("zero"),
        tuple(doc for doc in mine if doc["kind"] == "point"),
        subscriber.samples(uid),
    )


def latency_s(document: Document) -> float | None:
    """Return reading complete to verified off of a point's or cycle's cut, s; None without one."""
    if document.get("verified_ns") is None or document.get("reading_ns") is None:
        return None
    return float(document["verified_ns"] - document["reading_ns"]) * 1e-9


def judged(point: Document) -> tuple[bool, bool]:
    """Return (missed, false) of a point: the read after the sweep is the judge, not the guard.

    Missed: nothing was cut and a filament is there. False: something was cut and none is there.
    """
    after = point.get("after") or {}
    if point["class"] not in ("triggered", "censored"):
        return False, False
    if point["verdict"] is None:
        return point["class"] == "triggered", False
    return False, abs(after.get("conductance_s") or 0.0) < FILAMENT_S
