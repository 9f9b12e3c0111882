"""Laws of a lithium filament: its gap closes, it bridges, it thickens, it is dissolved. Pure functions of a voltage.

Drive u = -V of the site (plating positive). After nucleation a gap x of 2 nm closes at the speed j Vm/F and conducts
by tunnelling; at x = 0 the filament is ohmic with a lognormal resistance. It thickens under plating drive and is
dissolved above +0.35 V. All but the tunnelling and Faraday's law are assumptions, chosen for the on/off ratio of 1e5
and the reset within +1 V that the paper shows.
"""

from __future__ import annotations

import math

from hil.twin.hrs import EXCHANGE_A_M2, THERMAL_V

R_ON_MEDIAN_OHM = 8_000.0
R_ON_LOG_SIGMA = 0.3
"""LRS: lognormal, assumed from an on/off ratio of 1e5."""

GAP_M = 2e-9
"""Gap at nucleation in m."""

QUANTUM_OHM = 12.9e3
"""Resistance of an atomic contact in ohm: h/(2 e^2)."""

DECAY_PER_M = 2e10
"""2 kappa: tunnelling loses a factor e per half an Angstrom."""

SPEED_MIN_M_S = 1e-9
SPEED_MAX_M_S = 3e-4
"""Bounds of the speed of the gap in m/s."""

THICKEN_S = 0.3
"""Time constant of thickening in s."""

THICKEN_FULL_V = 0.1
"""Drive in V from which thickening runs at full rate."""

THICK = 8.0
"""A filament thickens towards this many times its first conductance."""

RESET_V = 0.35
RESET_SLOPE_V = 0.05
RESET_S = 2e-3
"""Dissolution: dG/dt = -(G / 2 ms) sinh((V - 0.35 V) / 50 mV) above 0.35 V across the site."""

RUPTURE_S = 1e-2 / QUANTUM_OHM
"""Below a hundredth of an atomic contact, in S, there is no filament any more."""

RATE_MAX_PER_S = 1e12
"""Nothing dissolves faster than an atom moves."""

_MOLAR_M3_PER_C = 13.02e-6 / 96485.0  # Vm/F of lithium


def gap_speed(v: float) -> float:
    """Speed in m/s of the gap's edge at site voltage ``v``: positive closes it (v < 0), negative opens it (v > 0)."""
    if v == 0:
        return 0.0
    x = min(0.5 * abs(v) / THERMAL_V, 50.0)
    speed = EXCHANGE_A_M2 * 2 * math.sinh(x) * _MOLAR_M3_PER_C
    return math.copysign(min(max(speed, SPEED_MIN_M_S), SPEED_MAX_M_S), -v)


def tunnel_conductance(gap_m: float) -> float:
    """Conductance in S across a gap in m."""
    return math.exp(-DECAY_PER_M * gap_m) / QUANTUM_OHM


def thickening(v: float) -> float:
    """Rate in 1/s at which the conductance approaches its thick value; 0 without plating drive."""
    return min(1.0, -v / THICKEN_FULL_V) / THICKEN_S if v < 0 else 0.0


def dissolution(v: float) -> float:
    """Rate in 1/s at which the conductance falls; 0 up to +0.35 V across the site."""
    if v <= RESET_V:
        return 0.0
    return min(math.sinh(min((v - RESET_V) / RESET_SLOPE_V, 50.0)) / RESET_S, RATE_MAX_PER_S)
