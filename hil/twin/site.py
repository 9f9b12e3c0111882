"""A spot of the garnet under the tip: insulating until a lithium filament nucleates, ohmic from then on.

The sample is Li7La3Zr2O12 under a platinum tip (Lu et al.): tip bias against Li/Li+, plating when negative. Before the
filament the ionic current is that of :mod:`hil.twin.hrs`; the trigger is :mod:`hil.twin.nucleation`. This is the plain
site: the filament is there at once and stays as it is, the source is ideal. :mod:`hil.twin.live` has the rest.
"""

from __future__ import annotations

import enum
import math
import random
from dataclasses import dataclass

from hil.errors import BenchOptionError
from hil.twin.filament import R_ON_LOG_SIGMA, R_ON_MEDIAN_OHM
from hil.twin.hrs import Hrs
from hil.twin.nucleation import Hazard, Trigger
from hil.twin.ohmic import ohmic_point
from hil.twin.terminals import NEVER_NS, OperatingPoint, SourcedLoad
from hil.twin.truth import TruthRecord

EXCHANGE_A = 1.7e-13
"""Exchange current I0 = j0 A: j0 = RT/(F R_ct) = 2.6e3 A/m^2 with R_ct = 0.1 ohm cm^2 (Krauskopf 2019), A = 67 nm^2."""

SPREADING_OHM = 0.54e9
"""R_sp = 1/(4 a sigma) of a 4.6 nm contact radius on 1e-3 S/cm."""


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


def kind_of(name: str) -> SiteKind:
    """Return a kind by its name; raises BenchOptionError for an unknown one."""
    if name not in KINDS:
        raise BenchOptionError(f"site {name!r}: want one of {', '.join(KINDS)}")
    return KINDS[name]


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


_HRS = Hrs(EXCHANGE_A, SPREADING_OHM)


def hrs_current(v: float) -> float:
    """Ionic current in A at site voltage ``v``: the smaller of the Butler-Volmer and the spreading limit, odd in v."""
    return _HRS.current(v)


def hrs_voltage(i_a: float) -> float:
    """Inverse of :func:`hrs_current`: site voltage in V at a current in A."""
    return _HRS.voltage(i_a)


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
        if u_median_v is not None and not 0 < u_median_v <= 200:
            raise BenchOptionError(f"site {kind}:{u_median_v}: want a median drive above 0 and up to 200 V")
        super().__init__(series_ohm=series_ohm, truth=truth, dose_from_start=False)
        self.kind = kind_of(kind)
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
            return ohmic_point(v_set, i_limit_a, self._beside(self.r_on_ohm), self.series_ohm)
        v_tip = _HRS.load_line(v_set, self.series_ohm)
        i_a = hrs_current(v_tip)
        if self._shunt_s and v_tip:  # what is beside it decides: the ionic conductance without it will do
            return ohmic_point(v_set, i_limit_a, self._beside(v_tip / i_a), self.series_ohm)
        if abs(i_a) <= i_limit_a:
            return OperatingPoint(v_tip, i_a, clamped=False)
        i_a = math.copysign(i_limit_a, v_set)
        return OperatingPoint(hrs_voltage(i_a), i_a, clamped=True)

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
