"""What a front end says, as documents: itself, a trip, its black box. Undefined numbers are None, arrays columns."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Final

import numpy as np

from edge.controller.envelopes_frontend import declared
from edge.instruments.frontend import Frontend
from edge.instruments.frontend_values import BlackBox, Trip

COLUMNS: Final = (("t_ns", "<i8", "ns"), ("current_a", "<f4", "A"))
"""Of a black box. Single precision: a converter of 16 bits has no more."""


def trip_document(trip: Trip) -> dict[str, Any]:
    """Return what the device said of a trip. Times are CLOCK_MONOTONIC of the host, ns; None: not known."""
    known = trip.t_unc_ns > 0
    return {
        "trip_id": trip.trip_id,
        "reason": trip.reason.name,
        "surge": trip.surge,
        "index": trip.sample_index,
        "t_ns": trip.t_ns if known else None,
        "t_unc_ns": trip.t_unc_ns if known else None,
        "t_rx_ns": trip.t_rx_ns,
        "current_a": _number(trip.current_a),
        "threshold_a": _number(trip.threshold_a),
        "baseline_a": _number(trip.baseline_a),
    }


def box_document(box: BlackBox) -> dict[str, Any]:
    """Return a black box; ``trip_at``: the row of the sample that tripped. A sample without a code is NaN there."""
    values = {"t_ns": box.t_ns, "current_a": box.current_a}
    return {
        "n": len(box.t_ns),
        "trip_at": box.trip_at,
        "t_unc_ns": int(box.t_unc_ns.max()) if len(box.t_unc_ns) else None,
        "cols": {
            name: {"dtype": dtype, "unit": unit, "data": np.asarray(values[name]).astype(dtype).tobytes()}
            for name, dtype, unit in COLUMNS
        },
    }


def declares(unit: Frontend) -> dict[str, Any] | None:
    """Return what a device says of itself, as the envelope takes it; None before it was asked, or where it is none."""
    device = None if unit.welcome is None else declared(unit.welcome)
    return None if device is None else dataclasses.asdict(device)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
