"""Climbing the likelihood of a decay length, and walking down from its top to the ends of an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.analysis.decay_likelihood import PARAMETERS, DecayData, scores
from edge.analysis.ramp_law import Floats

_DRIFT: Final = PARAMETERS.index("drift_x")
_SCATTER: Final = PARAMETERS.index("scatter")
_SOFT_LOG: Final = 0.03
_SOFT_NM: Final = 5.0
_FAR: Final = 20.0
_CLOSE: Final = 0.01
_HIGHER: Final = 0.01
_EDGE_STEPS: Final = 12


@dataclass(frozen=True, slots=True)
class Better:
    """A place that is higher than the maximum was thought to be."""

    theta: Floats


@dataclass(frozen=True, slots=True)
class Search:
    """The limits of the search, ``low`` and ``high``, by :data:`PARAMETERS`; ``drift`` False leaves the drift out."""

    low: Floats
    high: Floats
    drift: bool

    def _fall(self, theta: Floats, data: DecayData) -> tuple[float, Floats, Floats]:
        """Return minus ln likelihood, its gradient, and its information from the sites' gradients.

        Beyond a limit a parabola is added, whose gradient begins at 0: a cliff would stop the climbing along it.
        """
        excess = (theta - np.clip(theta, self.low, self.high)) / self._soft
        far = np.clip(theta, self.low - _FAR * self._soft, self.high + _FAR * self._soft)
        log_likelihood, by = scores(far, data)
        gradient = excess / self._soft - by.sum(axis=0)
        return 0.5 * float(excess @ excess) - float(log_likelihood.sum()), gradient, by.T @ by

    @property
    def _soft(self) -> Floats:
        return np.where(np.arange(len(self.low)) < _DRIFT, _SOFT_LOG, _SOFT_NM)

    def climb(
        self, start: Floats, data: DecayData, *, hold_xi: bool = False, roughly: bool = False
    ) -> tuple[Floats, float]:
        """Return the maximum reached from ``start``, with xi held or not, and ln likelihood there.

        ``roughly``: to a few hundredths of it, for a start elsewhere.
        """
        from scipy.optimize import minimize

        free = np.array([not hold_xi, *[True] * (_DRIFT - 1), self.drift, self.drift])
        start = np.clip(start, self.low, self.high)
        _, _, information = self._fall(start, data)
        to_theta = _whitened(information[np.ix_(free, free)])

        def at(place: Floats) -> Floats:
            theta = start.copy()
            theta[free] += to_theta @ place
            return theta

        def fall(place: Floats) -> tuple[float, Floats]:
            value, gradient, _ = self._fall(at(place), data)
            return value, to_theta.T @ gradient[free]

        # A gradient of 0.02 per standard error is 2e-4 below the top.
        options = {"gtol": 0.2 if roughly else 0.02, "maxiter": 40 if roughly else 100}
        found = minimize(fall, np.zeros(int(free.sum())), jac=True, method="BFGS", options=options)
        return at(found.x), -float(found.fun)

    def errors(self, theta: Floats, data: DecayData) -> Floats:
        """Return the standard errors of the parameters at the maximum; large where the sites do not tell."""
        return np.asarray(np.sqrt(np.diag(_covariance(self._fall(theta, data)[2]))))

    def edge(self, data: DecayData, best: Floats, most: float, side: int, confidence: float) -> float | Better | None:
        """Return the end of the interval of ln xi below (``side`` -1) or above (1) the maximum; None if it is open.

        It is where the likelihood, with everything else refitted, has fallen by half the chi-square quantile.
        """
        from scipy.stats import chi2

        want = math.sqrt(float(chi2.ppf(confidence, 1)))
        _, _, information = self._fall(best, data)
        covariance = _covariance(information)
        error = math.sqrt(float(covariance[0, 0]))
        along = covariance[:, 0] / covariance[0, 0]
        # Where the scatter is 0, its sign means nothing and the information has none of it.
        along[_SCATTER] = 0.0
        limit = float(self.low[0] if side < 0 else self.high[0])
        # The signed root of twice the fall is nearly linear in ln xi: a line through two places lands close.
        inner, inner_root = best, 0.0
        outer, outer_root = math.inf * side, math.inf
        log_xi = float(best[0]) + side * want * error
        for _ in range(_EDGE_STEPS):
            log_xi = min(log_xi, limit) if side > 0 else max(log_xi, limit)
            start = inner + along * (log_xi - inner[0])
            start[0] = log_xi
            theta, height = self.climb(start, data, hold_xi=True)
            if height > most + _HIGHER:
                return Better(theta)
            root = math.sqrt(2 * max(most - height, 0.0))
            if abs(root - want) <= _CLOSE:
                break
            if root < want:
                if log_xi == limit:
                    return None
                inner, inner_root = theta, root
            else:
                outer, outer_root = log_xi, root
            if math.isinf(outer):
                ahead = (log_xi - best[0]) * min(1.1 * want / max(root, 0.1), 3.0)
                log_xi = float(best[0] + ahead)
            else:
                share = (want - inner_root) / (outer_root - inner_root)
                log_xi = float(inner[0] + (outer - inner[0]) * min(max(share, 0.05), 0.95))
        return log_xi


def _covariance(information: Floats) -> Floats:
    """Return the inverse; a direction of which the sites say nothing gets a large variance instead of none."""
    to_theta = _whitened(information)
    return np.asarray(to_theta @ to_theta.T)


def _whitened(information: Floats) -> Floats:
    """Return the coordinates in which the information is the unit matrix, so that a step of 1 is a standard error."""
    sizes = np.sqrt(np.diag(information)) + 1e-3
    values, axes = np.linalg.eigh(information / np.outer(sizes, sizes))
    return np.asarray(axes / np.sqrt(np.maximum(values, 1e-4)) / sizes[:, None])
