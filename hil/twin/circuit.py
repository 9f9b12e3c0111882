"""Between the instrument and the tip: the source's loop, the cable's charge, the series resistor. Linear, hence exact.

Terminal voltage: first order towards its target, which is the level or, in compliance, the voltage at which the
current is the clamp. Time constant unclamped: the loop's 30 us, or what the clamp needs to charge the cable. Clamped:
loop plus cable, tau + C (R_s + R): the two lags in a row have this mean delay, hence the charge that passes in excess
of the clamp is the same. Until then the tip sees V/(R_s + R): the clamp comes 30 us late, as in a real unit.

The cable's capacitance stands at the terminals when the resistor is at the tip (as it should), or at the tip when the
resistor is in the instrument: then its charge goes through the filament unhindered, V/R at the moment of bridging.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from hil.errors import BenchOptionError

RANGE_OVERSHOOT_V: Final = 0.1
"""Overshoot at a range change in V: 100 mV typical into 100 kohm, adjacent ranges (Keithley 2400 data sheet)."""

OFF_SPIKE_V: Final = 0.1
"""Spike when the output goes on or off, in V. Documented without a number (2400 release notes, PR57340): assumed."""

_NORMAL_OFF_CLAMPS_A: Final = tuple(0.005 * 10.0**n for n in range(-6, 1))


@dataclass(frozen=True, slots=True)
class Circuit:
    """Parameters of the path; raises BenchOptionError for a number out of range.

    ``cable_f``: 1e-12 to 1e-7 F; assumed 300 pF (100 pF to 1 nF for cable and holder). ``cable_at``: the side of the
    series resistor the cable is on. ``loop_s``: the source's limiting loop, 1e-6 to 1e-2 s. ``leak_ohm``: across the
    terminals, 1e9 to 1e18. ``switch_spike_v`` and ``overshoot_v`` (0 to 10 V): transients at output on/off and at a
    change of range; ``spike_sign``: -1 (plating, the worst) or 1.
    """

    cable_f: float = 300e-12
    cable_at: Literal["terminals", "tip"] = "terminals"
    loop_s: float = 30e-6
    leak_ohm: float = 3e12
    switch_spike_v: float = 0.0
    overshoot_v: float = 0.0
    spike_sign: int = -1

    def __post_init__(self) -> None:
        for what, value, low, high in (
            ("cable capacitance in F", self.cable_f, 1e-12, 1e-7),
            ("source loop in s", self.loop_s, 1e-6, 1e-2),
            ("leakage resistance in ohm", self.leak_ohm, 1e9, 1e18),
            ("output spike in V", self.switch_spike_v, 0.0, 10.0),
            ("range overshoot in V", self.overshoot_v, 0.0, 10.0),
        ):
            if not low <= value <= high:
                raise BenchOptionError(f"{what}: {value}: want {low:g} to {high:g}")
        if self.cable_at not in ("terminals", "tip"):
            raise BenchOptionError(f"cable at {self.cable_at!r}: want terminals or tip")
        if self.spike_sign not in (1, -1):
            raise BenchOptionError(f"sign of spikes {self.spike_sign}: want 1 or -1")

    def with_transients(self) -> Circuit:
        """Return the same path with the data sheet's transients switched on."""
        return Circuit(
            self.cable_f, self.cable_at, self.loop_s, self.leak_ohm, OFF_SPIKE_V, RANGE_OVERSHOOT_V, self.spike_sign
        )


@dataclass(frozen=True, slots=True)
class Source:
    """What the instrument was last told to hold: level in V, clamp in A, relay."""

    v_set: float
    i_limit_a: float
    connected: bool

    @property
    def on(self) -> bool:
        """Whether the output is on: relay closed, and not the 2400's NORMAL off state (0 V, 0.5 % of a range)."""
        if not self.connected:
            return False
        return self.v_set != 0 or not any(math.isclose(self.i_limit_a, clamp) for clamp in _NORMAL_OFF_CLAMPS_A)


def transient_v(circuit: Circuit, before: Source, after: Source) -> float:
    """Return the kick at the terminals in V that a change of the source brings.

    The clamp is all the terminals show of a range: another clamp with the output on counts as another range.
    """
    if before.on != after.on:
        return circuit.spike_sign * circuit.switch_spike_v
    if after.on and before.i_limit_a != after.i_limit_a:
        return circuit.spike_sign * circuit.overshoot_v
    return 0.0


class Relaxation:
    """v(t) = end + b exp(-t/tau_b) + d exp(-t/tau_d), and its integrals; t in s from 0."""

    __slots__ = ("b", "d", "end", "tau_b", "tau_d")

    def __init__(self, end: float, b: float = 0.0, tau_b: float = 1.0, d: float = 0.0, tau_d: float = 1.0) -> None:
        self.end = end
        self.b = b
        self.tau_b = tau_b
        self.d = d
        self.tau_d = tau_d

    def at(self, t: float) -> float:
        """Return v(t)."""
        v = self.end
        if self.b:
            v += self.b * math.exp(-t / self.tau_b)
        if self.d:
            v += self.d * math.exp(-t / self.tau_d)
        return v

    def slope(self, t: float) -> float:
        """Return dv/dt at t, in V/s."""
        slope = -self.b / self.tau_b * math.exp(-t / self.tau_b) if self.b else 0.0
        return slope - self.d / self.tau_d * math.exp(-t / self.tau_d) if self.d else slope

    def integral(self, t: float) -> float:
        """Return the integral of v from 0 to t, in V s."""
        area = self.end * t
        if self.b:
            area -= self.b * self.tau_b * math.expm1(-t / self.tau_b)
        if self.d:
            area -= self.d * self.tau_d * math.expm1(-t / self.tau_d)
        return area

    def square(self, t: float) -> float:
        """Return the integral of v^2 from 0 to t, in V^2 s."""
        area = self.end * self.end * t
        for amplitude, tau in ((self.b, self.tau_b), (self.d, self.tau_d)):
            if amplitude:
                area -= 2 * self.end * amplitude * tau * math.expm1(-t / tau)
                area -= 0.5 * amplitude * amplitude * tau * math.expm1(-2 * t / tau)
        if self.b and self.d:
            tau = self.tau_b * self.tau_d / (self.tau_b + self.tau_d)
            area -= 2 * self.b * self.d * tau * math.expm1(-t / tau)
        return area

    def reaches(self, v: float) -> float:
        """Return when v(t) is ``v`` for the first time after 0, in s; inf for never. Only where d is 0."""
        share = (v - self.end) / self.b if self.b else 0.0
        return -self.tau_b * math.log(share) if 0 < share < 1 else math.inf


def part_above(limit_v: float, curve: Relaxation, duration_s: float) -> tuple[float, float]:
    """Return the part of a segment in s in which the magnitude is above a limit; begin = end for none."""
    first, last = abs(curve.at(0.0)), abs(curve.at(duration_s))
    if min(first, last) >= limit_v:
        return 0.0, duration_s
    if max(first, last) <= limit_v:
        return 0.0, 0.0
    sign = math.copysign(1.0, curve.at(0.0 if first > last else duration_s))
    # With two exponentials a segment changes by 5 %, and a straight line will do.
    crossing_s = duration_s * (limit_v - first) / (last - first) if curve.d else curve.reaches(sign * limit_v)
    return (0.0, crossing_s) if first > last else (crossing_s, duration_s)
