"""Where a filament gave way in a reset sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

FALL: Final = 10.0
"""A conductance that falls by a decade was a reset."""
LEAST_V: Final = 0.050
"""Below this bias the noise alone has any conductance."""


def reset_bias_v(points: Sequence[tuple[float, float]], evidence_a: float) -> float | None:
    """Return the bias in V at the largest \\|current\\| before the conductance falls by a decade; None if it does not.

    ``points``: (bias in V, current in A) of trusted readings, oldest first. ``evidence_a``: a current below this, in A,
    is no evidence of a conductance; it counts as this much when it says that the conductance has fallen.
    """
    highest_s = 0.0
    largest_a, at_v = 0.0, None
    for bias_v, current_a in points:
        if abs(bias_v) < LEAST_V:
            continue
        size_a = abs(current_a)
        conductance_s = max(size_a, evidence_a) / abs(bias_v)
        if highest_s > 0 and conductance_s * FALL <= highest_s:
            return at_v
        if size_a > evidence_a:
            highest_s = max(highest_s, conductance_s)
            if size_a > largest_a:
                largest_a, at_v = size_a, bias_v
    return None
