"""A spot of the garnet under the tip: insulating until a lithium filament nucleates, ohmic from then on.

The sample is Li7La3Zr2O12 under a platinum tip (Lu et al.): tip bias against Li/Li+, plating when negative. Before the
filament the ionic current is the smaller of a kinetic (Butler-Volmer) and a spreading limit; the trigger is
:mod:`hil.twin.nucleation`. Growth, thickening, reset and the cable's charge are states to come and have their place
in :class:`State`.
"""

from __future__ import annotations

import enum
import math
import random
from dataclasses import dataclass

from hil.errors import BenchOptionError
from hil.twin.nucleation import Hazard, Trigger
from hil.twin.ohmic import ohmic_point
from hil.twin.terminals import NEVER_NS, OperatingPoint, SourcedLoad
from hil.twin.truth import TruthRecord

THERMAL_V = 0.025693
"""RT/F at 298.15 K, in V."""

EXCHANGE_A = 1.7e-13
"""Exchange current I0 = j0 A: j0 = RT/(F R_ct) = 2.6e3 A/m^2 with R_ct = 0.1 ohm cm^2 (Krauskopf 2019), A = 67 nm^2."""

SPREADING_OHM = 0.54e9
"""R_sp = 1/(4 a sigma) of a 4.6 nm contact radius on 1e-3 S/cm."""

R_ON_MEDIAN_OHM = 8_000.0
R_ON_LOG_SIGMA = 0.3
"""LRS: lognormal, assumed from an on/off ratio of 1e5."""


@dataclass(frozen=True, slots=True)
class SiteKind:
    """What a kind of site is by default: median trigger drive (V, at 0.1 V/s) and v* (V)."""

    name: str
    what: str
    u_median_v: float
    v_star: float


# The homogeneous layer's v* follows from its spread: sd 6 % of 3.0 V = 1.283 v*.
KINDS = {
    kind.name: kind
    for kind in (
        SiteKind("gb", "grain boundary", 0.12, 0.017),
        SiteKind("gi", "grain interior", 9.5, 0.35),
        SiteKind("hl", "homogeneous layer", 3.0, 0.14),
    )
}


class State(enum.Enum):
    """What the site is."""

    HRS = "hrs"
    LRS = "lrs"


@dataclass(frozen=True, slots=True)
class Onset:
    """A nucleation: when, at which site voltage and source level just before."""

    t_ns: int
    v_tip: float
    v_source: float


def hrs_current(v: float) -> float:
    """Ionic current in A at site voltage ``v``: the smaller of the Butler-Volmer and the spreading limit, odd in v."""
    u = abs(v)
    x = 0.5 * u / THERMAL_V
    # From 1 V on the spreading limit is smaller by orders of magnitude, and sinh would overflow at 36 V.
    kinetic = 2 * EXCHANGE_A * math.sinh(x) if u < 1 else math.inf
    return math.copysign(min(kinetic, u / SPREADING_OHM), v)


def hrs_voltage(i_a: float) -> float:
    """Inverse of :func:`hrs_current`: site voltage in V at a current in A."""
    i = abs(i_a)
    return math.copysign(max(i * SPREADING_OHM, 2 * THERMAL_V * math.asinh(i / (2 * EXCHANGE_A))), i_a)


class SwitchingSite(SourcedLoad):
    """One site with one nucleation to come, drawn from ``seed``; the same seed gives the same site, bit for bit.

    ``kind`` is a key of :data:`KINDS`; ``u_median_v`` (0 < u <= 200 V) replaces its median. The hazard sees the
    voltage across the site, behind ``series_ohm``.
    """

    def __init__(
        self,
        kind: str = "gb",
        *,
        u_median_v: float | None = None,
        series_ohm: float = 0.0,
        seed: int = 0,
        truth: TruthRecord | None = None,
    ) -> None:
        """Draw the site; raises BenchOptionError for an unknown kind or a number out of range."""
        if kind not in KINDS:
            raise BenchOptionError(f"site {kind!r}: want one of {', '.join(KINDS)}")
        if u_median_v is not None and not 0 < u_median_v <= 200:
            raise BenchOptionError(f"site {kind}:{u_median_v}: want a median drive above 0 and up to 200 V")
        super().__init__(series_ohm=series_ohm, truth=truth, dose_from_start=False)
        self.kind = KINDS[kind]
        self.u_median_v = self.kind.u_median_v if u_median_v is None else u_median_v
        self.hazard = Hazard(self.u_median_v, self.kind.v_star)
        self.state = State.HRS
        self.onset: Onset | None = None
        # The order of the draws is part of what a seed means: threshold, then resistance; new draws go behind.
        rng = random.Random(seed)
        self._trigger = Trigger(self.hazard, rng)
        self.r_on_ohm = rng.lognormvariate(math.log(R_ON_MEDIAN_OHM), R_ON_LOG_SIGMA)

    def _operate(self, v_set: float, i_limit_a: float) -> OperatingPoint:
        if self.state is State.LRS:
            return ohmic_point(v_set, i_limit_a, self.r_on_ohm, self.series_ohm)
        v_tip = self._hrs_load_line(v_set)
        i_a = hrs_current(v_tip)
        if abs(i_a) <= i_limit_a:
            return OperatingPoint(v_tip, i_a, clamped=False)
        i_a = math.copysign(i_limit_a, v_set)
        return OperatingPoint(hrs_voltage(i_a), i_a, clamped=True)

    def _hrs_load_line(self, v_set: float) -> float:
        """Solve v + R_s I(v) = v_set for the site voltage v."""
        if self.series_ohm == 0 or v_set == 0:
            return v_set
        # I(v) = min(kinetic, spreading), both rising: the solution is the larger of the two solutions.
        spread = v_set * (SPREADING_OHM / (SPREADING_OHM + self.series_ohm))
        u_set, r_s = abs(v_set), self.series_ohm
        if hrs_current(spread) == math.copysign(abs(spread) / SPREADING_OHM, v_set):
            return spread
        # Kinetic branch: Newton on a rising convex function from above never leaves (0, u_set].
        u = min(u_set, 1.0)
        for _ in range(100):
            x = 0.5 * u / THERMAL_V
            excess = u + r_s * 2 * EXCHANGE_A * math.sinh(x) - u_set
            step = excess / (1 + r_s * EXCHANGE_A / THERMAL_V * math.cosh(x))
            u -= step
            if abs(step) <= 1e-15 * u_set:
                break
        return math.copysign(u, v_set)

    def _schedule(self, t_ns: int) -> int:
        if self.state is not State.HRS:
            return NEVER_NS
        self._trigger.drive(-self._point.v_tip)
        wait_ns = self._trigger.wait_ns()
        return NEVER_NS if wait_ns is None else t_ns + wait_ns

    def _elapse(self, dt_ns: int) -> None:
        if self.state is State.HRS:
            self._trigger.elapse(dt_ns)

    def _change(self, t_ns: int) -> None:
        before = self._point
        self.state = State.LRS
        self.onset = Onset(t_ns, before.v_tip, self._v_set)
        self._dosing = True
        self._record(t_ns, "set_onset", before.v_tip, self._operating_point().i_a, {"r_on_ohm": self.r_on_ohm})
