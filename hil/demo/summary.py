"""``summary.json``: every figure of the demo with its rate and number, and who says so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from hil.demo.map_findings import judged
from hil.demo.plan import ARGUMENT_OHM, ARGUMENT_RATE_V_S, GB_SWEEP, GI_SWEEP, MAP_OHM, MEMRISTOR_OHM, PLACEMENT_SD_NM
from hil.demo.play import Seen


def summarise(seen: Seen, *, seed: int, broker: str, took_s: float) -> dict[str, Any]:
    """Return the summary without ``ok``.

    ``trigger_map``, ``memristor``, ``guard``, ``frames``, ``samples`` are computed from what the subscriber received;
    ``twin`` and ``charge_c`` from the twin's own records.
    """
    return {
        "v": 2,
        "made_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "broker": broker,
        "took_s": round(took_s, 1),
        "rigs": {
            "map": {"series_ohm": MAP_OHM, "baud": 57600, "placement_sd_nm": PLACEMENT_SD_NM},
            "memristor": {"series_ohm": MEMRISTOR_OHM, "baud": 57600, "placement_sd_nm": PLACEMENT_SD_NM},
            "argument": {"series_ohm": ARGUMENT_OHM, "baud": 57600, "rate_v_s": ARGUMENT_RATE_V_S},
        },
        "runs": {
            "map": {"uid": seen.map.uid, "status": seen.map.stop["status"], "reason": seen.map.stop["reason"]},
            "memristor": {
                "uid": seen.memristor.uid,
                "status": seen.memristor.stop["status"],
                "reason": seen.memristor.stop["reason"],
            },
            "argument": {
                "uid": seen.argument.uid,
                "status": seen.argument.status,
                "reason": seen.argument.reason,
            },
        },
        "trigger_map": {
            "gb": seen.map.document("gb", rate_v_s=GB_SWEEP[1]),
            "gi": seen.map.document("gi", rate_v_s=GI_SWEEP[1]),
        },
        "memristor": seen.memristor.document(),
        "guard": guard(seen),
        "frames": {name: seen.frames[name] for name in ("published", "received", "missing")},
        "samples": seen.samples,
        "twin": {name: truth.document() for name, truth in seen.truths.items()},
        "charge_c": {
            "script": seen.script.truth.charge_c,
            "tipguard": seen.argument_truth.charge_c,
            "label": "twin's truth record",
        },
    }


def guard(seen: Seen) -> dict[str, Any]:
    """Return what the guard did on all three rigs: cuts, and what the reads after them say of it.

    ``missed``: a filament was found that nobody had cut for; ``false``: a cut, and no filament was found.
    """
    missed, false = seen.memristor.judged()
    for point in seen.map.points:
        point_missed, point_false = judged(point)
        missed += point_missed
        false += point_false
    latencies = [*seen.map.latencies_s(), *seen.memristor.latencies_s(), *argument_latency_s(seen)]
    return {
        "trips": len(latencies),
        "missed": missed,
        "false": false,
        "cut_latency_s": {
            "p50": _quantile(latencies, 0.5),
            "p99": _quantile(latencies, 0.99),
            "max": max(latencies, default=None),
            "n": len(latencies),
            "from_to": "reading complete to output verified off",
        },
    }


def argument_latency_s(seen: Seen) -> list[float]:
    """Return the cut of the sweep beside the script, s, if there was one."""
    found = seen.argument.set
    return [] if found is None else [found.latency.total_s]


def _quantile(values: list[float], share: float) -> float | None:
    return float(np.quantile(values, share)) if values else None


def as_it_should_be(summary: dict[str, Any]) -> bool:
    """Whether everything was completed, and nothing was missed, invented or lost."""
    completed = all(run["status"] == "completed" for run in summary["runs"].values())
    complete = summary["frames"]["missing"] == summary["samples"]["missing"] == 0
    guarded = summary["guard"]["missed"] == summary["guard"]["false"] == 0
    memristor = summary["memristor"]
    return completed and complete and guarded and memristor["reset_ok"] == memristor["cycles"]
