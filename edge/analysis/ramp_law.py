"""The trigger's law under a ramp: an exponential hazard, and how likely a measured drive is under it.

Hazard h(u) = h0 exp(u/v*) per second at the drive u = -bias (V, plating), 0 for u <= 0. On a ramp from 0 V at rho V/s
the integrated hazard is H(u) = (h0 v*/rho) (exp(u/v*) - 1), and exp(-H) is the share that has not triggered yet. With
the median u_med at the reference rate rho0 in place of h0: ln H = ln(ln 2 rho0/rho) + g(u/v*) - g(u_med/v*), where
g(x) = ln(exp(x) - 1). (Atomistic nucleation: Menzel 2017, J. Comput. Electron. 16:1017.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge.errors import AnalysisError

Floats = npt.NDArray[Any]

REFERENCE_RATE_V_S: Final = 0.1
"""Ramp rate, V/s, at which medians are quoted unless another one is asked for."""

_LEAST_HALF_V: Final = 1e-6
_LOG_LN2: Final = math.log(math.log(2.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drives:
    """What sweeps from 0 V found: arrays of one length, an entry a site; raises AnalysisError for what cannot be.

    ``drive_v``: where ``triggered`` (bool) the drive u = -trigger_bias_v, V, known to +- ``half_v`` (0 or more), else
    the drive up to which nothing happened (the point's ``beyond_v``; its ``half_v`` is not used). ``rate_v_s``: ramp
    rate, above 0. Of a staircase, a level counts as the ramp from half a step below it to half a step above: right to
    (step/v*)^2/24 of the hazard; drives that are off by half a step shift the medians by as much. A trigger that nobody
    saw, before ``beyond_v``, is a triggered site with half of that as its drive and as its half width.
    """

    drive_v: Floats
    half_v: Floats
    triggered: Floats
    rate_v_s: Floats

    def __post_init__(self) -> None:
        count = np.shape(self.drive_v)
        if len(count) != 1:
            raise AnalysisError(f"drives: drive_v: shape {count}: expected one number a site")
        for name in ("half_v", "triggered", "rate_v_s"):
            if np.shape(getattr(self, name)) != count:
                raise AnalysisError(f"drives: {name}: shape {np.shape(getattr(self, name))}: expected {count}")
        hit = self.triggered.astype(bool)
        checks = (
            ("drive_v", self.drive_v, np.where(hit, self.drive_v > 0, self.drive_v >= 0), "a drive above 0"),
            ("half_v", np.where(hit, self.half_v, 0.0), np.where(hit, self.half_v, 0.0) >= 0, "0 or more"),
            ("rate_v_s", self.rate_v_s, self.rate_v_s > 0, "a rate above 0"),
        )
        for name, values, good, want in checks:
            wrong = np.flatnonzero(~(good & np.isfinite(values)))
            if len(wrong):
                raise AnalysisError(f"drives: {name} of site {wrong[0]}: {values[wrong[0]]!s}: expected {want}")

    def __len__(self) -> int:
        return len(self.drive_v)

    @property
    def common_rate_v_s(self) -> float | None:
        """The ramp rate of all sites, V/s; None where they differ by more than 5 %, or without sites."""
        if not len(self):
            return None
        low, high = float(np.min(self.rate_v_s)), float(np.max(self.rate_v_s))
        return math.sqrt(low * high) if high <= 1.05 * low else None

    def part(self, chosen: Floats) -> Drives:
        """Return the sites that ``chosen`` (bool or indices) picks."""
        return Drives(
            drive_v=self.drive_v[chosen],
            half_v=self.half_v[chosen],
            triggered=self.triggered[chosen],
            rate_v_s=self.rate_v_s[chosen],
        )

    def ends_v(self) -> tuple[Floats, Floats]:
        """Return between which drives each site triggered, V; where none did, both are the drive it went up to."""
        half_v = np.where(self.triggered.astype(bool), np.maximum(self.half_v, _LEAST_HALF_V), 0.0)
        return np.maximum(self.drive_v - half_v, 0.0), self.drive_v + half_v


def drives_of(points: Sequence[Mapping[str, Any]]) -> tuple[Drives, list[int]]:
    """Return the drives of a map's point documents (``docs/data.md``), and which of ``points`` they are.

    Only points that triggered or did not up to their ``beyond_v`` count. Where the filament was found after the sweep,
    the trigger was anywhere up to there. The ramp rate is the measured one where there is one.
    """
    rows, chosen = [], []
    for number, point in enumerate(points):
        beyond_v, triggered = point.get("beyond_v") or 0.0, point.get("class") == "triggered"
        if point.get("class") not in ("triggered", "censored"):
            continue
        drive_v, half_v = beyond_v, 0.0
        if triggered and point.get("trigger_bias_v") is not None:
            drive_v, half_v = -point["trigger_bias_v"], point.get("trigger_half_v") or 0.0
        elif triggered:
            drive_v = half_v = 0.5 * beyond_v
        # At 0 V and the other way round there is no drive, hence nothing to count.
        if drive_v > 0:
            rows.append((drive_v, half_v, triggered, point.get("measured_rate_v_s") or point["rate_v_s"]))
            chosen.append(number)
    columns = np.array(rows, dtype=float).reshape(-1, 4).T
    drives = Drives(drive_v=columns[0], half_v=columns[1], triggered=columns[2].astype(bool), rate_v_s=columns[3])
    return drives, chosen


def log_expm1(x: Floats) -> Floats:
    """Return g(x) = ln(exp(x) - 1) for x >= 0, without overflow; minus infinity at 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(x + np.log(-np.expm1(-x)))


def log_hazard(u_v: Floats, median_v: Floats, v_star_v: Floats, rate_ratio: Floats) -> Floats:
    """Return ln of the integrated hazard of a ramp at drive ``u_v``; arguments broadcast.

    ``median_v``: at the reference rate, V; ``rate_ratio``: reference rate over the ramp's.
    """
    shape = log_expm1(u_v / v_star_v) - log_expm1(median_v / v_star_v)
    return np.asarray(_LOG_LN2 + np.log(rate_ratio) + shape)
