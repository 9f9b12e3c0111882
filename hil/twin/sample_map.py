"""A sample with coordinates: what kind of spot the tip lands on, where it lands when it was sent somewhere.

ln u_med(d) = ln u_GI + (ln u_GB - ln u_GI) w and v*(d) = v*_GI + (v*_GB - v*_GI) w with w = exp(-d/xi), and d the
distance from the edge of the contact to the edge of the boundary: max(0, distance - contact radius - 2.5 nm). Each
spot has a lognormal scatter of its own. A homogenising layer triggers at 3 V wherever it is touched. Positions in m.

Faults of the sample are regions, too: where every spot is stuck on, and where each has a filament before it is touched.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

from hil.errors import BenchOptionError
from hil.twin.circuit import Circuit
from hil.twin.contact import Contact
from hil.twin.grains import Box, Grains, Point
from hil.twin.live import LiveLoad
from hil.twin.site import KINDS
from hil.twin.spot import Spot, SpotState
from hil.twin.truth import TruthRecord

_GB, _GI, _HL = KINDS["gb"], KINDS["gi"], KINDS["hl"]
_TRIES: Final = 10_000


@dataclass(frozen=True, slots=True)
class MapParameters:
    """Numbers of a sample; raises BenchOptionError for one out of range.

    ``grain_m``: mean grain size. ``xi_m``: decay length (1e-10 to 1e-5 m). ``boundary_m``: width of a boundary (0 to
    1e-6 m). ``scatter``: sd of ln u_med from spot to spot (0 to 1). ``layers``: boxes with a homogenising layer.
    ``drift_m_s``: how fast the sample moves under the stage, x and y. ``placement_sd_m``: sd of a landing's error in
    x and in y (0 to 1e-6 m). ``stuck_on``: boxes where a spot is 100 ohm that no reset opens. ``bridged``: boxes where
    a spot begins with a filament of its own, which a reset opens; what is in both is stuck on.
    """

    grain_m: float = 10e-6
    xi_m: float = 25e-9
    boundary_m: float = 5e-9
    scatter: float = 0.04
    layers: tuple[Box, ...] = ()
    drift_m_s: tuple[float, float] = (0.0, 0.0)
    placement_sd_m: float = 0.0
    stuck_on: tuple[Box, ...] = ()
    bridged: tuple[Box, ...] = ()

    def __post_init__(self) -> None:
        for what, value, low, high in (
            ("decay length in m", self.xi_m, 1e-10, 1e-5),
            ("boundary width in m", self.boundary_m, 0.0, 1e-6),
            ("scatter", self.scatter, 0.0, 1.0),
            ("placement error in m", self.placement_sd_m, 0.0, 1e-6),
            ("drift in m/s", math.hypot(*self.drift_m_s), 0.0, 1e-6),
        ):
            if not low <= value <= high:
                raise BenchOptionError(f"{what}: {value}: want {low:g} to {high:g}")


@dataclass(frozen=True, slots=True)
class Landing:
    """Where the tip was sent, where on the sample it came down, and on what.

    ``kind``: gb where the contact touches a boundary, hl on a layer, else gi; ``distance_m`` is d, for hl too.
    """

    t_ns: int
    sent_to: Point
    at: Point
    kind: str
    distance_m: float
    spot: Spot


class SampleMap:
    """The sample; everything on it follows from ``seed``, and nothing from the order of the questions.

    Except for the placement errors, of which the n-th landing has the n-th.
    """

    def __init__(self, seed: int = 0, parameters: MapParameters | None = None, contact: Contact | None = None) -> None:
        self.seed = seed
        self.parameters = MapParameters() if parameters is None else parameters
        self.contact = Contact() if contact is None else contact
        self.grains = Grains(seed, self.parameters.grain_m)
        self.landings: list[Landing] = []
        self._errors = random.Random(f"placement {seed}")
        self._zero_ns: int | None = None
        self._drifts: list[tuple[int, float, float]] = []
        self._spots: dict[tuple[int, int], list[tuple[Point, Spot]]] = {}

    def distance_m(self, at: Point, contact: Contact | None = None) -> float:
        """Distance d in m from the edge of a contact at ``at`` to the edge of the nearest boundary; 0 on it."""
        radius_m = (self.contact if contact is None else contact).radius_m
        return max(0.0, self.grains.boundary(at).distance_m - radius_m - 0.5 * self.parameters.boundary_m)

    def in_layer(self, at: Point) -> bool:
        """Whether there is a homogenising layer at a position."""
        return any(at in box for box in self.parameters.layers)

    def state_at(self, at: Point) -> SpotState:
        """Return what a spot at a position is before it is ever touched."""
        if any(at in box for box in self.parameters.stuck_on):
            return SpotState.STUCK_ON
        if any(at in box for box in self.parameters.bridged):
            return SpotState.LRS
        return SpotState.HRS

    def trigger(self, distance_m: float) -> tuple[float, float]:
        """Return median trigger drive and v* in V at a distance d from a boundary, without scatter."""
        weight = math.exp(-distance_m / self.parameters.xi_m)
        log_u = math.log(_GI.u_median_v) + (math.log(_GB.u_median_v) - math.log(_GI.u_median_v)) * weight
        return math.exp(log_u), _GI.v_star + (_GB.v_star - _GI.v_star) * weight

    def drift(self, t_ns: int, x_m_s: float, y_m_s: float) -> None:
        """Begin to drift by that much more, in m/s, at ``t_ns``."""
        self._drifts.append((t_ns, x_m_s, y_m_s))

    def under(self, position: Point, t_ns: int) -> Point:
        """Return where on the sample a stage position is at ``t_ns``: drift counts from the first landing."""
        elapsed_s = 0.0 if self._zero_ns is None else (t_ns - self._zero_ns) * 1e-9
        x_m = position[0] + self.parameters.drift_m_s[0] * elapsed_s
        y_m = position[1] + self.parameters.drift_m_s[1] * elapsed_s
        for since_ns, x_m_s, y_m_s in self._drifts:
            since_s = max(0, t_ns - since_ns) * 1e-9
            x_m, y_m = x_m + x_m_s * since_s, y_m + y_m_s * since_s
        return x_m, y_m

    def land(self, position: Point, t_ns: int, contact: Contact | None = None) -> Landing:
        """Come down: drift, the landing's own error, and the spot there; kept in ``landings``.

        Within a contact radius of an earlier landing the spot is the same one, with whatever filament is in it.
        """
        contact = self.contact if contact is None else contact
        if self._zero_ns is None:
            self._zero_ns = t_ns
        at = self.under(position, t_ns)
        sd_m = self.parameters.placement_sd_m
        at = at[0] + self._errors.gauss(0.0, sd_m), at[1] + self._errors.gauss(0.0, sd_m)
        distance_m = self.distance_m(at, contact)
        kind = "hl" if self.in_layer(at) else "gb" if distance_m == 0 else "gi"
        landing = Landing(t_ns, position, at, kind, distance_m, self._spot(at, kind, distance_m, contact))
        self.landings.append(landing)
        return landing

    def site_at(
        self,
        position: Point,
        t_ns: int,
        *,
        series_ohm: float = 0.0,
        circuit: Circuit | None = None,
        truth: TruthRecord | None = None,
    ) -> LiveLoad:
        """Land, and return the tip there as a load that does not move any more."""
        return LiveLoad(self.land(position, t_ns).spot, series_ohm=series_ohm, circuit=circuit, truth=truth)

    def boundary_points(self, count: int, box: Box, *, seed: int = 0, apart_m: float = 1e-6) -> list[Point]:
        """Return positions in the middle of boundaries, ``apart_m`` from each other and from triple junctions.

        Raises BenchOptionError when the box has no room for them.
        """
        rng = random.Random(f"boundary points {self.seed} {seed}")
        found: list[Point] = []
        for _ in range(_TRIES):
            if len(found) == count:
                return found
            near = self.grains.boundary(box.draw(rng))
            apart = all(math.dist(near.foot, other) >= apart_m for other in found)
            if near.foot in box and near.clearance_m >= apart_m and apart:
                found.append(near.foot)
        raise BenchOptionError(f"{count} boundary points {apart_m:g} m apart: no room for them in {box}")

    def interior_points(
        self, count: int, box: Box, *, seed: int = 0, apart_m: float = 1e-6, inside_m: float = 1e-6
    ) -> list[Point]:
        """Return positions at least ``inside_m`` from any boundary and ``apart_m`` from each other.

        Raises BenchOptionError when the box has no room for them.
        """
        rng = random.Random(f"interior points {self.seed} {seed}")
        found: list[Point] = []
        for _ in range(_TRIES):
            if len(found) == count:
                return found
            point = box.draw(rng)
            apart = all(math.dist(point, other) >= apart_m for other in found)
            if apart and self.grains.boundary(point).distance_m >= inside_m:
                found.append(point)
        raise BenchOptionError(f"{count} interior points {apart_m:g} m apart: no room for them in {box}")

    def point_at(self, foot: Point, distance_m: float) -> Point:
        """Return the position at a distance d (m) from the boundary at ``foot`` (see :meth:`boundary_points`)."""
        step_m = distance_m + self.contact.radius_m + 0.5 * self.parameters.boundary_m
        candidates = [
            (foot[0] + step_m * math.cos(angle), foot[1] + step_m * math.sin(angle))
            for angle in (math.pi * n / 180 for n in range(360))
        ]
        # A degree of the circle away from the perpendicular costs 4e-5 of the distance.
        return max(candidates, key=lambda at: self.grains.boundary(at).distance_m)

    def _spot(self, at: Point, kind: str, distance_m: float, contact: Contact) -> Spot:
        cell_m = 1e-7
        key = math.floor(at[0] / cell_m), math.floor(at[1] / cell_m)
        for ix in (-1, 0, 1):
            for iy in (-1, 0, 1):
                for where, spot in self._spots.get((key[0] + ix, key[1] + iy), ()):
                    if math.dist(where, at) <= contact.radius_m:
                        spot.land(contact)
                        return spot
        # A tenth of a nanometre: the same position is the same spot, whichever came first.
        name = f"{self.seed} {round(at[0] * 1e10)} {round(at[1] * 1e10)}"
        u_median_v, v_star = (_HL.u_median_v, _HL.v_star) if kind == "hl" else self.trigger(distance_m)
        u_median_v *= random.Random(f"scatter {name}").lognormvariate(0.0, self.parameters.scatter)
        spot = Spot(u_median_v, v_star, seed=f"spot {name}", contact=contact, state=self.state_at(at))
        self._spots.setdefault(key, []).append((at, spot))
        return spot
