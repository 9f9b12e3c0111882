"""Exact average delay of a one-sided CUSUM, from its integral equation; nothing of the detector is used here.

The scheme: S' = max(0, S + min(z, cap) - k) with z ~ N(delta, 1), alarm when S' > h. Its mean number of readings from
S = s to the alarm, that of the alarm included, obeys (Page 1954)

    L(s) = 1 + L(0) P(w <= -s) + integral over 0 < u < h of L(u) f(u - s) du,    w = min(z, cap) - k.

With a cap, w is a density below cap - k and an atom at it, so that L jumps at h - (cap - k), h - 2 (cap - k), ...
The equation is solved by Nystroem's method on Gauss-Legendre panels between these points; L between nodes is the
panel's Lagrange polynomial.

The detector lets an excursion become its baseline when S stays above 0 for ``release`` readings running: on the last
of them S is set to 0, whatever it was. That is a chain in (S, age): the same operator applied ``release`` times.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
ORDER: Final = 14
"""Nodes per panel."""
PANEL: Final = 2.0
"""Widest panel, in sigma: the kernel is a normal density of unit width."""


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def _edges(h: float, hop: float) -> list[float]:
    """Return panel edges on 0 to ``h``: where L jumps, and between them so that no panel is wide."""
    breaks = [0.0, h]
    if math.isfinite(hop):
        breaks += [h - j * hop for j in range(1, math.ceil(h / hop))]
    breaks.sort()
    edges = [0.0]
    for left, right in itertools.pairwise(breaks):
        parts = max(1, math.ceil((right - left) / PANEL))
        edges += [left + (right - left) * (n + 1) / parts for n in range(parts)]
    return edges


class _Grid:
    """Nodes on all panels, and how a function's value anywhere follows from those at the nodes."""

    def __init__(self, edges: list[float]) -> None:
        self.edges = edges
        self.x, self.w = np.polynomial.legendre.leggauss(ORDER)
        self.nodes = np.concatenate([self.on(a, b) for a, b in itertools.pairwise(edges)])
        # Barycentric weights of Gauss-Legendre nodes.
        self.bary = (-1.0) ** np.arange(ORDER) * np.sqrt((1.0 - self.x**2) * self.w)

    def on(self, a: float, b: float) -> Floats:
        """Return the quadrature's nodes on ``a`` to ``b``."""
        return np.asarray(0.5 * (a + b) + 0.5 * (b - a) * self.x)

    def rows(self, panel: int, u: Floats) -> Floats:
        """Return, for each ``u`` in ``panel``, the weights on the panel's nodes that give a function there."""
        a, b = self.edges[panel], self.edges[panel + 1]
        distance = ((2.0 * u - a - b) / (b - a))[:, None] - self.x
        hit = np.abs(distance) < 1e-14
        distance[hit] = 1.0
        terms = self.bary / distance
        terms[hit.any(axis=1)] = 0.0
        terms[hit] = 1.0
        return np.asarray(terms / terms.sum(axis=1)[:, None])


class CusumTheory:
    """Delays of one scheme; ``k``, ``h`` and ``cap`` in sigma, ``cap`` infinite for none.

    ``release``: readings running above 0, on the last of which S is set to 0 and no alarm given; None: never.

    Raises ValueError for values out of range: h > 0, cap > k, release >= 2.
    """

    def __init__(self, k: float, h: float, cap: float = math.inf, release: int | None = None) -> None:
        if not (h > 0.0 and cap > k and (release is None or release >= 2)):
            raise ValueError(f"k={k!r}, h={h!r}, cap={cap!r}, release={release!r}: needs h > 0, cap > k, release >= 2")
        self._k = k
        self._h = h
        self._hop = cap - k
        self._release = release
        self._grid = _Grid(_edges(h, self._hop))

    def _transitions(self, delta: float, s: Floats) -> tuple[Floats, Floats]:
        """Return (chances to be at 0 next, weights that give the mean of a function over where else S may be)."""
        grid, hop = self._grid, self._hop
        mean = delta - self._k

        def density(distance: Floats) -> Floats:
            return np.asarray(np.exp(-0.5 * (distance - mean) ** 2) / math.sqrt(2.0 * math.pi))

        weights = np.zeros((len(s), len(grid.nodes)))
        for panel, (a, b) in enumerate(itertools.pairwise(grid.edges)):
            at = slice(panel * ORDER, (panel + 1) * ORDER)
            whole = s + hop >= b
            weights[whole, at] = 0.5 * (b - a) * grid.w * density(grid.nodes[at] - s[whole, None])
            for row in np.flatnonzero(~whole & (s + hop > a)):
                # The density ends inside this panel, and the atom stands at its end.
                top = float(s[row] + hop)
                u = grid.on(a, top)
                weights[row, at] = (0.5 * (top - a) * grid.w * density(u - s[row])) @ grid.rows(panel, u)
        for row in np.flatnonzero(s + hop <= self._h):
            landed = float(s[row] + hop)
            panel = min(int(np.searchsorted(grid.edges, landed, side="left")) - 1, len(grid.edges) - 2)
            at = slice(panel * ORDER, (panel + 1) * ORDER)
            weights[row, at] += (1.0 - _normal_cdf(hop - mean)) * grid.rows(panel, np.array([landed]))[0]
        # w <= -s is possible below the cap only, since cap > k.
        return np.array([_normal_cdf(-float(value) - mean) for value in s]), weights

    def delay(self, delta: float) -> float:
        """Return the mean number of readings from S = 0 to the alarm, that of the alarm included; ARL0 at 0."""
        chances, weights = self._transitions(delta, np.concatenate([[0.0], self._grid.nodes]))
        start_to_zero, start = chances[0], weights[0]
        to_zero, matrix = chances[1:], weights[1:]
        # L at the nodes is a + b M, with M = L(0).
        a: Floats
        b: Floats
        if self._release is None:
            solved: Any = np.linalg.solve(np.eye(len(matrix)) - matrix, np.stack([np.ones_like(to_zero), to_zero], 1))
            a, b = solved[:, 0], solved[:, 1]
        else:
            a = b = np.ones_like(to_zero)  # one reading before the release: one more, and then from 0
            for _ in range(self._release - 2):
                a, b = 1.0 + matrix @ a, to_zero + matrix @ b
        return float((1.0 + start @ a) / (1.0 - start_to_zero - start @ b))
