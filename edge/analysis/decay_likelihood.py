"""How likely the drives of a decay-length map are, with its gradient; :mod:`edge.analysis.decay_length` maximises it.

A site at signed distance s from the middle of its boundary has d = max(0, |s| - reach), w = exp(-d/xi),
ln u_med = ln u_GI + (ln u_GB - ln u_GI) w + scatter z and v* = v*_GI + (v*_GB - v*_GI) w. Where the tip came down is
known only as s = nominal + normal . drift t + e, with e normal of sd ``placement_sd_m`` (the component along the normal
of an error that is the same in x and y), and z is standard normal: both are integrated over, numerically. A small
share of sites, ``STRAY``, may trigger anywhere, so that one pore or crumb of dirt cannot decide the fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.analysis.ramp_law import REFERENCE_RATE_V_S, Drives, Floats, log_expm1

STRAY: Final = 1e-4
"""Share of sites taken to follow no law; they trigger anywhere up to twice the largest drive of the map."""

PARAMETERS: Final = ("xi", "u_gb", "u_gi", "spread_gb", "spread_gi", "scatter", "drift_x", "drift_y")
"""The parameters in their order: five logarithms, of m, V, V and of v*/u_med at both ends; the scatter, whose sign
means nothing, so that 0 is no edge of the search; the drift as the way in nm over the whole time."""

NM: Final = 1e-9
_ERROR_SDS: Final = 4.4
_ERROR_STEP_SDS: Final = 0.3
_ERROR_STEP_M: Final = 1.5e-9
_MOST_SIDE: Final = 100
_SCATTER_NODES: Final = 7
_EDGE_STEPS: Final = 0.3
"""The edge of the boundary is rounded over this share of the distance of the nodes, 0.6 nm for an error of 5 nm: over a
kink the sum would jump as the drift moves it along the nodes; rounded, it is right to 0.3 %."""
_LEAST_EDGE_M: Final = 1e-10
_LOG_LN2: Final = math.log(math.log(2.0))
_LEAST_Y: Final = 1e-9
_LOG_H_MAX: Final = 500.0
"""exp() of this still squares without overflow; a site with such a hazard has triggered long before."""


@dataclass(frozen=True, slots=True)
class DecayData:
    """Arrays for the likelihood, an entry a site; the ``hits`` that triggered come first, ``ends_v``: between which
    drives, V.

    ``signed_m``: nominal distance to the middle of the boundary; ``way``: normal times the time since the positions
    held, in units of the span, shape (n, 2), zeros if the drift is not to be estimated.
    """

    ends_v: tuple[Floats, Floats]
    hits: int
    log_ratio: Floats
    signed_m: Floats
    way: Floats
    reach_m: float
    edge_m: float
    errors_m: Floats
    error_weights: Floats
    stray: Floats

    def part(self, chosen: Floats) -> DecayData:
        """Return the sites that ``chosen`` (bool) picks."""
        return DecayData(
            (self.ends_v[0][chosen], self.ends_v[1][chosen]),
            int(np.count_nonzero(chosen[: self.hits])),
            self.log_ratio[chosen],
            self.signed_m[chosen],
            self.way[chosen],
            self.reach_m,
            self.edge_m,
            self.errors_m,
            self.error_weights,
            self.stray[chosen],
        )


def decay_data(
    drives: Drives,
    signed_m: Floats,
    way: Floats,
    *,
    reach_m: float,
    placement_sd_m: float,
) -> DecayData:
    """Return the data in the form the likelihood wants; see :class:`DecayData`, also for the order of the sites."""
    low_v, high_v = drives.ends_v()
    triggered = drives.triggered.astype(bool)
    most_v = 2.0 * float(np.max(high_v))
    errors_m, weights = np.zeros(1), np.ones(1)
    edge_m = _LEAST_EDGE_M
    if placement_sd_m > 0:
        # The trapezoidal rule: but for two kinks what it integrates is smooth, and it vanishes at both ends. The
        # trigger's own spread is worth 2 nm and more.
        step_m = min(_ERROR_STEP_SDS * placement_sd_m, _ERROR_STEP_M)
        side = min(math.ceil(_ERROR_SDS * placement_sd_m / step_m), _MOST_SIDE)
        errors_m = np.linspace(-_ERROR_SDS, _ERROR_SDS, 2 * side + 1) * placement_sd_m
        weights = np.exp(-0.5 * (errors_m / placement_sd_m) ** 2)
        edge_m = max(_EDGE_STEPS * _ERROR_SDS * placement_sd_m / side, _LEAST_EDGE_M)
    return DecayData(
        (low_v, high_v),
        int(np.count_nonzero(triggered)),
        np.log(REFERENCE_RATE_V_S / drives.rate_v_s),
        signed_m,
        way,
        reach_m,
        edge_m,
        errors_m,
        weights / weights.sum(),
        STRAY * np.where(triggered, high_v - low_v, most_v - high_v) / most_v,
    )


def _scatter_nodes(count: int) -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


_Z, _Z_WEIGHTS = _scatter_nodes(_SCATTER_NODES)


def scores(theta: Floats, data: DecayData) -> tuple[Floats, Floats]:
    """Return ln likelihood of each site, shape (n,), and its gradient by :data:`PARAMETERS`, shape (n, 8)."""
    xi_m, u_gb, u_gi, spread_gb, spread_gi = np.exp(theta[:5])
    v_gb, v_gi, scatter = u_gb * spread_gb, u_gi * spread_gi, theta[5]
    s = (data.signed_m + data.way @ theta[6:] * NM)[:, None] + data.errors_m
    beyond = (np.abs(s) - data.reach_m) / data.edge_m
    d = data.edge_m * np.logaddexp(0.0, beyond)
    w = np.exp(-d / xi_m)
    u_m = np.exp(math.log(u_gi) + (math.log(u_gb) - math.log(u_gi)) * w)
    v = v_gi + (v_gb - v_gi) * w

    f, f_by_u, f_by_v = _density(u_m, v, np.exp(scatter * _Z), data)
    f *= data.error_weights[:, None] * _Z_WEIGHTS
    total = f.sum(axis=(1, 2)) + data.stray
    f /= total[:, None, None]
    f_by_u *= f
    f_by_v *= f
    by_um = f_by_u.sum(axis=2)
    by_v = f_by_v.sum(axis=2) / v

    by_w = by_um * (math.log(u_gb) - math.log(u_gi)) + by_v * (v_gb - v_gi)
    # d's derivative by |s| is the logistic function.
    by_s = -by_w * w / xi_m * np.sign(s) * np.exp(beyond - np.logaddexp(0.0, beyond))
    along = by_s.sum(axis=1) * NM
    by_v_gb, by_v_gi = (by_v * w).sum(axis=1) * v_gb, (by_v * (1 - w)).sum(axis=1) * v_gi
    gradient = np.stack(
        (
            (by_w * w * d).sum(axis=1) / xi_m,
            (by_um * w).sum(axis=1) + by_v_gb,
            (by_um * (1 - w)).sum(axis=1) + by_v_gi,
            by_v_gb,
            by_v_gi,
            f_by_u.sum(axis=1) @ _Z,
            along * data.way[:, 0],
            along * data.way[:, 1],
        ),
        axis=1,
    )
    return np.log(total), gradient


def _density(u_m: Floats, v: Floats, scattered: Floats, data: DecayData) -> tuple[Floats, Floats, Floats]:
    """Return f for each site, error and scatter, and d ln f by ln u_med and by ln v*.

    Not triggered: f = exp(-H_high), H at the drive it went up to. Triggered: f = exp(-H_low) - exp(-H_high).
    """
    hits = data.hits
    y = np.maximum(data.ends_v[1][:, None] / v, _LEAST_Y)
    base = _LOG_LN2 + data.log_ratio[:, None] + log_expm1(y)
    slope = (y / -np.expm1(-y))[..., None]
    x = (u_m / v)[..., None] * scattered
    shrink = -np.expm1(-x)
    high = np.exp(np.minimum(base[..., None] - x, _LOG_H_MAX)) / shrink
    # What d ln H is by ln u_med, less the sign; by ln v* it is this less the same of the drive.
    by_u = x / shrink
    by_v = by_u - slope

    f = np.empty_like(high)
    f[hits:] = np.exp(-high[hits:])
    y_low = data.ends_v[0][:hits, None] / v[:hits]
    low = high[:hits] * np.exp(_LOG_LN2 + data.log_ratio[:hits, None] + log_expm1(y_low) - base[:hits])[..., None]
    between = np.maximum(high[:hits] - low, 1e-300)
    missed = np.expm1(-between)
    f[:hits] = np.exp(-low) * -missed
    # Of D = H_high - H_low: D'/(exp(D) - 1).
    tail = (1 + missed) / -missed
    slope_low = np.where(y_low > 0, y_low / -np.expm1(-np.maximum(y_low, _LEAST_Y)), 1.0)[..., None]
    low_by_v = low * (by_u[:hits] - slope_low)
    high_by_v = high * by_v
    by_v[hits:] = -high_by_v[hits:]
    by_v[:hits] = -low_by_v + (high_by_v[:hits] - low_by_v) * tail
    by_u[hits:] *= high[hits:]
    by_u[:hits] *= low - between * tail
    return f, by_u, by_v
