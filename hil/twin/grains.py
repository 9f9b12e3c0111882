"""Grains of a ceramic: Poisson-Voronoi cells in the plane, without an edge, drawn tile by tile from a seed.

A grain is what is nearer to its seed point than to any other. The seed points are a Poisson process of density
n = 1/(pi D^2/4) with the mean grain size D; each tile of the plane has a random stream of its own, so that what is at
a position does not depend on what was asked before. Positions in m.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from hil.errors import BenchOptionError

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, m."""

    x0: float
    y0: float
    x1: float
    y1: float

    def __contains__(self, point: Point) -> bool:
        return self.x0 <= point[0] <= self.x1 and self.y0 <= point[1] <= self.y1

    def draw(self, rng: random.Random) -> Point:
        """Draw a position, uniform."""
        return rng.uniform(self.x0, self.x1), rng.uniform(self.y0, self.y1)


class Boundary(NamedTuple):
    """What is nearest to a position: ``distance_m`` to the middle of the boundary, ``foot`` on it.

    ``clearance_m``: from the foot to the third grain, small near a triple junction; exact up to half a grain.
    """

    distance_m: float
    foot: Point
    clearance_m: float


class Grains:
    """The cells; ``size_m`` is the mean grain size D (1e-8 to 1e-3 m)."""

    def __init__(self, seed: int = 0, size_m: float = 10e-6) -> None:
        if not 1e-8 <= size_m <= 1e-3:
            raise BenchOptionError(f"grain size {size_m} m: want 1e-8 to 1e-3")
        self.seed = seed
        self.size_m = size_m
        self.per_m2 = 4 / (math.pi * size_m * size_m)
        self._tile_m = 2 * size_m
        self._tiles: dict[tuple[int, int], list[Point]] = {}

    def seeds_in(self, box: Box) -> list[Point]:
        """Return the seed points in a box."""
        side = self._tile_m
        columns = range(math.floor(box.x0 / side), math.floor(box.x1 / side) + 1)
        rows = range(math.floor(box.y0 / side), math.floor(box.y1 / side) + 1)
        return [point for ix in columns for iy in rows for point in self._tile(ix, iy) if point in box]

    def boundary(self, at: Point) -> Boundary:
        """Return the nearest boundary.

        The boundary between two grains lies on the bisector of their seeds, at (r_j^2 - r_i^2)/(2 |s_i s_j|) from a
        position in grain i, and a convex cell's nearest edge is its nearest bisector.
        """
        own, others = self._around(at, 0.0)
        distance_m, other = min((_to_bisector(at, own, point), point) for point in others)
        pitch = math.dist(own, other)
        foot = (
            at[0] + (other[0] - own[0]) / pitch * distance_m,
            at[1] + (other[1] - own[1]) / pitch * distance_m,
        )
        _, around_foot = self._around(foot, 0.5 * self.size_m)
        clearances = [_to_bisector(foot, own, point) for point in around_foot if point not in (own, other)]
        return Boundary(distance_m, foot, min(clearances, default=math.inf))

    def edges(self, box: Box) -> list[tuple[Point, Point]]:
        """Return the boundaries in a box, as straight lines from end to end; for pictures."""
        reach = 3 * self.size_m
        seeds = self.seeds_in(Box(box.x0 - reach, box.y0 - reach, box.x1 + reach, box.y1 + reach))
        return [
            line
            for number, one in enumerate(seeds)
            for two in seeds[number + 1 :]
            if math.dist(one, two) < 2 * reach and (line := _edge(one, two, seeds, box)) is not None
        ]

    def _around(self, at: Point, reach_m: float) -> tuple[Point, list[Point]]:
        """Return the seed of the grain at a position, and every other that can bound it there or within ``reach_m``.

        A grain whose seed is r_j away has its boundary at least (r_j - r_i)/2 away.
        """
        ring = 0
        found: list[tuple[float, Point]] = []
        while True:
            found += [(math.dist(at, point), point) for point in self._ring(at, ring)]
            sure_m = ring * self._tile_m
            ring += 1
            if len(found) < 3:
                continue
            found.sort()
            (near_m, own), rest = found[0], found[1:]
            if near_m > sure_m:
                continue
            best_m = min(_to_bisector(at, own, point) for _, point in rest)
            if near_m + 2 * max(best_m, reach_m) <= sure_m:
                return own, [point for _, point in rest]

    def _ring(self, at: Point, ring: int) -> Iterator[Point]:
        ix, iy = math.floor(at[0] / self._tile_m), math.floor(at[1] / self._tile_m)
        for dx in range(-ring, ring + 1):
            for dy in range(-ring, ring + 1):
                if max(abs(dx), abs(dy)) == ring:
                    yield from self._tile(ix + dx, iy + dy)

    def _tile(self, ix: int, iy: int) -> list[Point]:
        tile = self._tiles.get((ix, iy))
        if tile is None:
            rng = random.Random(f"grains {self.seed} {ix} {iy}")
            side = self._tile_m
            count = _poisson(rng, self.per_m2 * side * side)
            tile = [((ix + rng.random()) * side, (iy + rng.random()) * side) for _ in range(count)]
            self._tiles[ix, iy] = tile
        return tile


def _poisson(rng: random.Random, mean: float) -> int:
    floor, product, count = math.exp(-mean), rng.random(), 0
    while product > floor:
        product *= rng.random()
        count += 1
    return count


def _to_bisector(at: Point, own: Point, other: Point) -> float:
    """Distance in m from a position nearer to ``own`` to the line half way to ``other``; below 0 on its far side."""
    # As a projection on the line between the seeds: no difference of squares, which would lose nanometres.
    dx, dy = other[0] - own[0], other[1] - own[1]
    along = (0.5 * (own[0] + other[0]) - at[0]) * dx + (0.5 * (own[1] + other[1]) - at[1]) * dy
    return along / math.hypot(dx, dy)


def _edge(one: Point, two: Point, seeds: list[Point], box: Box) -> tuple[Point, Point] | None:
    """Cut the bisector of two seeds to what is nearer to them than to any other, and to a box."""
    middle = (0.5 * (one[0] + two[0]), 0.5 * (one[1] + two[1]))
    along = (one[1] - two[1], two[0] - one[0])
    cuts = [
        ((third[0] - one[0], third[1] - one[1]), (0.5 * (one[0] + third[0]), 0.5 * (one[1] + third[1])))
        for third in seeds
        if third not in (one, two)
    ]
    cuts += [((1.0, 0.0), (box.x1, 0.0)), ((-1.0, 0.0), (box.x0, 0.0))]
    cuts += [((0.0, 1.0), (0.0, box.y1)), ((0.0, -1.0), (0.0, box.y0))]
    low, high = -math.inf, math.inf
    for (nx, ny), (px, py) in cuts:
        slope = nx * along[0] + ny * along[1]
        room = nx * (px - middle[0]) + ny * (py - middle[1])
        if slope > 0:
            high = min(high, room / slope)
        elif slope < 0:
            low = max(low, room / slope)
        elif room < 0:
            return None
        if low >= high:
            return None
    return (
        (middle[0] + low * along[0], middle[1] + low * along[1]),
        (middle[0] + high * along[0], middle[1] + high * along[1]),
    )
