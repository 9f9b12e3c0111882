"""Current of a contact before there is a filament: the smaller of two limits, both odd in the voltage.

Kinetic (Butler-Volmer, symmetric): I0 2 sinh(u / (2 RT/F)) with I0 = j0 A; j0 = RT/(F R_ct) = 2.6e3 A/m^2 from
R_ct = 0.1 ohm cm^2 (Krauskopf 2019, quoted from memory). Spreading: u / R_sp with R_sp = 1/(4 a sigma),
sigma = 0.1 S/m. On 68 nm^2: 1.8 pA at 0.12 V, 17 nA at 9 V.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hil.twin.contact import Contact

THERMAL_V = 0.025693
"""RT/F at 298.15 K, in V."""

EXCHANGE_A_M2 = 2.6e3
"""Exchange current density j0 in A/m^2."""

CONDUCTIVITY_S_M = 0.1
"""Ionic conductivity of the garnet in S/m (1e-3 S/cm)."""


@dataclass(frozen=True, slots=True)
class Hrs:
    """The two limits: ``exchange_a`` (I0 in A) and ``spreading_ohm`` (R_sp in ohm), both above 0."""

    exchange_a: float
    spreading_ohm: float

    @classmethod
    def of(cls, contact: Contact) -> Hrs:
        """Return the limits of a contact."""
        return cls(EXCHANGE_A_M2 * contact.area_m2, 1 / (4 * contact.radius_m * CONDUCTIVITY_S_M))

    def current(self, v: float) -> float:
        """Ionic current in A at site voltage ``v``."""
        u = abs(v)
        x = 0.5 * u / THERMAL_V
        # From 1 V on the spreading limit is smaller by orders of magnitude, and sinh would overflow at 36 V.
        kinetic = 2 * self.exchange_a * math.sinh(x) if u < 1 else math.inf
        return math.copysign(min(kinetic, u / self.spreading_ohm), v)

    def voltage(self, i_a: float) -> float:
        """Inverse of :meth:`current`: site voltage in V at a current in A."""
        i = abs(i_a)
        kinetic = 2 * THERMAL_V * math.asinh(i / (2 * self.exchange_a))
        return math.copysign(max(i * self.spreading_ohm, kinetic), i_a)

    def conductance(self, v: float) -> float:
        """Secant conductance I/V in S at site voltage ``v``."""
        if abs(v) < 1e-6:
            return min(self.exchange_a / THERMAL_V, 1 / self.spreading_ohm)
        return self.current(v) / v

    def load_line(self, v_set: float, series_ohm: float) -> float:
        """Solve v + R_s I(v) = v_set for the site voltage v."""
        if series_ohm == 0 or v_set == 0:
            return v_set
        # I(v) = min(kinetic, spreading), both rising: the solution is the larger of the two solutions.
        spread = v_set * (self.spreading_ohm / (self.spreading_ohm + series_ohm))
        if self.current(spread) == math.copysign(abs(spread) / self.spreading_ohm, v_set):
            return spread
        u_set, i0 = abs(v_set), self.exchange_a
        # Kinetic branch: Newton on a rising convex function from above never leaves (0, u_set].
        u = min(u_set, 1.0)
        for _ in range(100):
            x = 0.5 * u / THERMAL_V
            excess = u + series_ohm * 2 * i0 * math.sinh(x) - u_set
            step = excess / (1 + series_ohm * i0 / THERMAL_V * math.cosh(x))
            u -= step
            if abs(step) <= 1e-15 * u_set:
                break
        return math.copysign(u, v_set)
