"""The tip on the sample: a Hertz contact of a sphere on a flat, and what a cantilever shows of it.

a = (3 P r / (4 E*))^(1/3), area = pi a^2, mean pressure = P / area. For E* = 60 GPa and r = 20 nm: 26.9, 42.6 and
67.7 nm^2 at 100, 200 and 400 nN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hil.errors import BenchOptionError

TIP_HARDNESS_PA = 4e9
"""Hardness of a platinum tip coating in Pa. Assumed: thin films are quoted at a few GPa, bulk platinum lower."""


@dataclass(frozen=True, slots=True)
class Contact:
    """A tip pressed on the sample; raises BenchOptionError for a number out of range.

    ``load_n``: force in N (1e-10 to 1e-4). ``tip_radius_m``: 1e-9 to 1e-5. ``modulus_pa``: the reduced modulus E* of
    tip and sample, 1e8 to 1e12. ``hardness_pa``: mean pressure in Pa above which the tip is taken to yield.
    """

    load_n: float = 400e-9
    tip_radius_m: float = 20e-9
    modulus_pa: float = 60e9
    hardness_pa: float = TIP_HARDNESS_PA

    def __post_init__(self) -> None:
        _within("contact load", self.load_n, "N", 1e-10, 1e-4)
        _within("tip radius", self.tip_radius_m, "m", 1e-9, 1e-5)
        _within("reduced modulus", self.modulus_pa, "Pa", 1e8, 1e12)
        _within("tip hardness", self.hardness_pa, "Pa", 1e7, 1e12)

    @property
    def radius_m(self) -> float:
        """Contact radius a in m."""
        return float((3 * self.load_n * self.tip_radius_m / (4 * self.modulus_pa)) ** (1 / 3))

    @property
    def area_m2(self) -> float:
        """Contact area in m^2."""
        return math.pi * self.radius_m**2

    @property
    def mean_pressure_pa(self) -> float:
        """Mean pressure in Pa; 2/3 of the pressure in the middle."""
        return self.load_n / self.area_m2

    @property
    def warning(self) -> str | None:
        """One line when the mean pressure is above the tip's hardness, else None."""
        if self.mean_pressure_pa <= self.hardness_pa:
            return None
        return (
            f"mean contact pressure {self.mean_pressure_pa / 1e9:.1f} GPa is above the tip's hardness of "
            f"{self.hardness_pa / 1e9:.1f} GPa: it blunts, the area is more than {self.area_m2 * 1e18:.1f} nm^2"
        )


@dataclass(frozen=True, slots=True)
class Cantilever:
    """From the height of a stage to force and deflection signal; the surface is flat and nothing sticks.

    ``surface_m``: z at which the tip touches. ``towards``: +1 if a growing z brings tip and sample together (a stage
    that extends to approach and retracts to 0), -1 if it parts them. ``stiffness_n_m``: 0.01 to 1000 N/m.
    ``sensitivity_v_m``: signal per metre of deflection; at 10 V/um, 400 nN at 40 N/m are 0.1 V.
    """

    surface_m: float = 50e-6
    towards: int = 1
    stiffness_n_m: float = 40.0
    sensitivity_v_m: float = 1e7

    def __post_init__(self) -> None:
        if self.towards not in (1, -1):
            raise BenchOptionError(f"direction of approach {self.towards}: want 1 or -1")
        _within("stiffness", self.stiffness_n_m, "N/m", 0.01, 1e3)
        _within("sensitivity", self.sensitivity_v_m, "V/m", 1.0, 1e12)

    def deflection_m(self, z_m: float) -> float:
        """Deflection in m at stage height ``z_m``: 0 in air."""
        return max(0.0, self.towards * (z_m - self.surface_m))

    def load_n(self, z_m: float) -> float:
        """Force in N at stage height ``z_m``: 0 in air."""
        return self.stiffness_n_m * self.deflection_m(z_m)

    def deflection_v(self, z_m: float) -> float:
        """Deflection signal in V at stage height ``z_m``, without noise: 0 in air."""
        return self.sensitivity_v_m * self.deflection_m(z_m)

    def height_m(self, load_n: float) -> float:
        """Stage height in m at which the force is ``load_n``."""
        return self.surface_m + self.towards * load_n / self.stiffness_n_m


def _within(what: str, value: float, unit: str, low: float, high: float) -> None:
    if not low <= value <= high:
        raise BenchOptionError(f"{what} {value} {unit}: want {low:g} to {high:g}")
