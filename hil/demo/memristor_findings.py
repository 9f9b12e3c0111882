"""What a memristor run found, computed from the documents that the subscriber received and from nothing else."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.analysis.cycle_plots import CyclesPicture
from hil.demo.map_findings import FILAMENT_S, latency_s
from hil.demo.subscriber import Document, Subscriber


@dataclass(frozen=True, slots=True)
class MemristorFindings:
    """One run. ``cycles``: the ``cycle`` documents, in order."""

    uid: str
    start: Document
    stop: Document
    zero: Document | None
    cycles: tuple[Document, ...]

    @property
    def lod_a(self) -> float | None:
        """Detection limit of the high-resistance read, A."""
        return None if self.zero is None else float(self.zero["lod_a"])

    @property
    def reset_ok(self) -> int:
        """Cycles whose reset succeeded."""
        return sum(cycle["reset_ok"] for cycle in self.cycles)

    def ratios(self) -> list[float]:
        """Return the on/off ratios, lower bounds among them."""
        return [cycle["on_off"] for cycle in self.cycles if cycle["on_off"] is not None]

    def latencies_s(self) -> list[float]:
        """Return reading complete to verified off, s, of every cut."""
        return [cut_s for cycle in self.cycles if (cut_s := latency_s(cycle)) is not None]

    def judged(self) -> tuple[int, int]:
        """Return how many sets were missed and how many invented; the reads are the judge, not the guard."""
        missed = sum(
            cycle["verdict"] is None and bool(cycle["hrs"] and cycle["hrs"]["saturated"]) for cycle in self.cycles
        )
        false = sum(
            cycle["verdict"] is not None and abs((cycle["lrs"] or {}).get("conductance_s") or 0.0) < FILAMENT_S
            for cycle in self.cycles
        )
        return missed, false

    def document(self) -> dict[str, Any]:
        """Return what ``summary.json`` says."""
        ratios = self.ratios()
        bounds = sum(cycle["on_off_is_bound"] for cycle in self.cycles)
        parameters = self.start["parameters"]
        return {
            "cycles": len(self.cycles),
            "reset_ok": self.reset_ok,
            "on_off_lower_bound_median": statistics.median(ratios) if ratios else None,
            "n_resolved": len(ratios) - bounds,
            "n_bound": bounds,
            "lod_a": self.lod_a,
            "set_rate_v_s": parameters["set_rate_v_s"],
            "reset_rate_v_s": parameters["reset_rate_v_s"],
        }

    def picture(self, title: str, caption: str) -> CyclesPicture:
        """Return the picture's content."""

        def column(name: str) -> Any:  # noqa: ANN401 - an array
            return np.array([np.nan if cycle[name] is None else cycle[name] for cycle in self.cycles], dtype=float)

        def inner(outer: str, name: str) -> Any:  # noqa: ANN401 - an array
            values = [(cycle[outer] or {}).get(name) for cycle in self.cycles]
            return np.array([np.nan if value is None else value for value in values], dtype=float)

        return CyclesPicture(
            cycle=np.array([cycle["cycle"] + 1 for cycle in self.cycles], dtype=float),
            on_off=column("on_off"),
            on_off_is_bound=np.array([bool(cycle["on_off_is_bound"]) for cycle in self.cycles], dtype=bool),
            r_on_ohm=inner("lrs", "resistance_ohm"),
            hrs_a=inner("hrs", "current_a"),
            set_bias_v=column("trigger_bias_v"),
            reset_bias_v=column("reset_bias_v"),
            reset_ok=np.array([bool(cycle["reset_ok"]) for cycle in self.cycles], dtype=bool),
            lod_a=float("nan") if self.lod_a is None else self.lod_a,
            title=title,
            caption=caption,
        )


def find_memristor(subscriber: Subscriber, uid: str) -> MemristorFindings:
    """Collect a run's documents. Raises KeyError when its start or stop document was not received."""
    mine = [doc for doc in subscriber.documents("run") if doc.get("uid") == uid]
    by_kind = {doc["kind"]: doc for doc in mine}
    return MemristorFindings(
        uid,
        by_kind["start"],
        by_kind["stop"],
        by_kind.get("zero"),
        tuple(doc for doc in mine if doc["kind"] == "cycle"),
    )
