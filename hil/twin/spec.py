"""What the command line says about the load: ``ohmic:R`` and ``gb|gi|hl[:U_MEDIAN_V]``."""

from __future__ import annotations

from dataclasses import dataclass

from hil.errors import BenchOptionError
from hil.twin.circuit import Circuit
from hil.twin.full import Site
from hil.twin.ohmic import OhmicLoad
from hil.twin.site import KINDS, SwitchingSite
from hil.twin.truth import TruthRecord


@dataclass(frozen=True, slots=True)
class OhmicSpec:
    """A resistor of ``r_ohm``."""

    r_ohm: float

    @property
    def u_median_v(self) -> None:
        """None: a resistor does not trigger."""

    def build(self, *, series_ohm: float, seed: int, truth: TruthRecord) -> OhmicLoad:
        """Make the load; nothing is drawn."""
        del seed
        return OhmicLoad(self.r_ohm, series_ohm, truth=truth)


@dataclass(frozen=True, slots=True)
class SiteSpec:
    """A switching site of ``kind`` with its median drive in V."""

    kind: str
    u_median_v: float

    def build(self, *, series_ohm: float, seed: int, truth: TruthRecord) -> SwitchingSite:
        """Make the load, drawn from ``seed``."""
        return SwitchingSite(self.kind, u_median_v=self.u_median_v, series_ohm=series_ohm, seed=seed, truth=truth)


@dataclass(frozen=True, slots=True)
class FullSiteSpec:
    """The same site with growth, thickening, reset, cable and source loop; ``stuck_on`` and ``open_tip`` spoil it."""

    kind: str
    u_median_v: float
    circuit: Circuit
    stuck_on: bool = False
    open_tip: bool = False

    def build(self, *, series_ohm: float, seed: int, truth: TruthRecord) -> Site:
        """Make the load, drawn from ``seed``."""
        return Site(
            self.kind,
            u_median_v=self.u_median_v,
            series_ohm=series_ohm,
            seed=seed,
            truth=truth,
            circuit=self.circuit,
            stuck_on=self.stuck_on,
            open_tip=self.open_tip,
        )


FAULTS = ("stuck-on", "open-tip")
"""What can be wrong with a full site."""


def full_site(spec: SiteSpec, *, cable_f: float, transients: bool, fault: str | None) -> FullSiteSpec:
    """Return the full form of a plain site; raises BenchOptionError for a fault or a capacitance nobody has."""
    if fault is not None and fault not in FAULTS:
        raise BenchOptionError(f"--site-fault {fault}: want one of {', '.join(FAULTS)}")
    circuit = Circuit(cable_f=cable_f)
    if transients:
        circuit = circuit.with_transients()
    return FullSiteSpec(spec.kind, spec.u_median_v, circuit, fault == "stuck-on", fault == "open-tip")


def parse_load(text: str) -> OhmicSpec:
    """Parse ``ohmic:R`` with R in ohm, 1e-3 to 1e15; raises BenchOptionError."""
    kind, colon, value = text.partition(":")
    r_ohm = _number(value)
    if kind != "ohmic" or not colon or r_ohm is None or not 1e-3 <= r_ohm <= 1e15:
        raise BenchOptionError(f"--load {text}: want ohmic:R with R in ohm from 1e-3 to 1e15, for example ohmic:10000")
    return OhmicSpec(r_ohm)


def parse_site(text: str) -> SiteSpec:
    """Parse ``gb``, ``gi`` or ``hl``, with ``:U`` for another median drive (0 to 200 V); raises BenchOptionError."""
    kind, colon, value = text.partition(":")
    if kind not in KINDS:
        known = ", ".join(f"{k.name} ({k.what}, {k.u_median_v:g} V)" for k in KINDS.values())
        raise BenchOptionError(f"--site {text}: unknown kind {kind!r}; want {known}")
    u_median_v = _number(value) if colon else KINDS[kind].u_median_v
    if u_median_v is None or not 0 < u_median_v <= 200:
        raise BenchOptionError(
            f"--site {text}: want {kind}:U with the median trigger drive U above 0 and up to 200 V, "
            f"for example {kind}:{KINDS[kind].u_median_v:g}"
        )
    return SiteSpec(kind, u_median_v)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
