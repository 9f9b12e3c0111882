"""Nuisances of a real bench: sweeps that must not trip, reading by reading, with what was done to each.

Sweeps 0 -> -V -> 0 -> +V -> 0 on loads that are no surge, with the instrument's noise, a constant offset anywhere
within its data sheet, quantisation and mains pickup. Besides, one of two gaps and single corrupt readings:

* autozero: every 16 or 50 readings one is late by two conversions and flagged AFTER_GAP; its number is good.
* range change: every 16 or 50 readings one is late by 200 ms and flagged; three in ten are junk of up to 90 % of the
  hard limit and either sign.
* glitch: one reading in a thousand reads 0, or anything from 10 sigma0 to 99 % of the hard limit, of either sign. Two
  corrupt readings running are not told from a surge, and are not drawn.

Telegraph noise has two levels up to 45 % apart, as real high-resistance states of oxide memristors do (10.7 -> 6.0 ->
7.4 uA from reading to reading, 44 %); in the low-resistance state 0.5 to 5 % is usual.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from edge.guard.phases import PhaseSpec, lsb_a, noise_sigma_a, offset_a
from edge.guard.thresholds import GUARD_SIGMAS
from edge.samples import Flag, Phase, Sample

PERIOD_NS: Final = 20_000_000
AUTOZERO_NS: Final = 2 * PERIOD_NS
GAP_NS: Final = 200_000_000
CORRUPT: Final = 1e-3
"""Corrupt readings among all."""
JUNK: Final = 0.3
"""Junk among readings after a range change."""
TELEGRAPH_DEPTH: Final = 0.45
PICKUP_A: Final = 3e-10
LEAST_OHM: Final = 1e4
"""Largest series resistance a rig may declare for these loads."""
V_MIN_V: Final = 1e-3
"""Below this |V| CONDUCTANCE goes by it."""
GAPS: Final = ("none", "autozero", "range change")
Shape = Callable[[float], float]
"""Conductance as a fraction of its largest, from |V| as a fraction of the largest |V|."""


class Load(NamedTuple):
    """What lies under the tip. ``draw`` is called once per reading; ``mean`` is the same without its noise.

    ``rms``: that noise, in ln units.
    """

    draw: Shape
    mean: Shape
    rms: float


class Reading(NamedTuple):
    """One reading, the current that the load and the instrument's constant offset would give, and what was done.

    ``what``: "", "autozero", "range change", "junk" or "glitch".
    """

    sample: Sample
    expected_a: float
    what: str


def _steady(shape: Shape) -> Load:
    return Load(shape, shape, 0.0)


def ohmic(_rng: random.Random) -> Load:
    """A resistor."""
    return _steady(lambda _u: 1.0)


def high_resistance(_rng: random.Random) -> Load:
    """Picoamperes: nothing but noise, offset and pickup."""
    return _steady(lambda _u: 1e-5)


def power_law(_rng: random.Random) -> Load:
    """A decade of superlinearity: space charge, I ~ V^3."""
    return _steady(lambda u: 0.1 + 0.9 * u * u)


def exponential(_rng: random.Random) -> Load:
    """I ~ sinh V."""
    return _steady(lambda u: math.sinh(3.0 * u) / (math.sinh(3.0) * u) if u > 0.0 else 3.0 / math.sinh(3.0))


def telegraph(rng: random.Random, depth: float | None = None) -> Load:
    """Two levels, the lower by ``depth`` (0 to 1; None: anything up to 45 %), switching every 2 to 30 readings."""
    depth = rng.uniform(0.0, TELEGRAPH_DEPTH) if depth is None else depth
    rate = rng.choice([0.5, 0.2, 0.03])
    low = False

    def draw(_u: float) -> float:
        nonlocal low
        low ^= rng.random() < rate
        return 1.0 - depth * low

    return Load(draw, lambda _u: math.sqrt(1.0 - depth), -0.5 * math.log(1.0 - depth))


def many_levels(rng: random.Random) -> Load:
    """Up to 40 % from reading to reading."""
    return Load(lambda _u: 1.0 - rng.uniform(0.0, 0.4), lambda _u: 0.79, 0.147)


def flicker(rng: random.Random) -> Load:
    """Noise with a memory of ten readings, 7 % rms."""
    state = 0.0

    def draw(_u: float) -> float:
        nonlocal state
        state = 0.9 * state + rng.gauss(0.0, 0.03)
        return math.exp(state)

    return Load(draw, lambda _u: 1.0, 0.069)


LOADS: Final[tuple[Callable[[random.Random], Load], ...]] = (
    ohmic,
    high_resistance,
    power_law,
    exponential,
    telegraph,
    many_levels,
    flicker,
)


def sweep(
    rng: random.Random,
    spec: PhaseSpec,
    load: Load,
    *,
    hard_a: float,
    g_max_s: float = math.inf,
    gaps: str = "none",
    corrupt: float = CORRUPT,
    corrupt_max_s: float = math.inf,
) -> Iterator[Reading]:
    """Yield one sweep on ``load``, whose noise-free current stays below 2/3 of ``hard_a`` (A) and of ``g_max_s`` (S).

    ``gaps``: one of :data:`GAPS`. ``corrupt``: chance of a reading to be a glitch, 0..1. ``corrupt_max_s``: what a
    corrupt reading may show at most, S, besides the offset and noise that CONDUCTANCE grants it.
    """
    low_range = spec.range_a < 5e-4
    top_v = rng.choice([0.3, 1.0] if low_range else [1.0, 3.0, 10.0])
    step_v = rng.choice([1e-3, 2e-3, 5e-3, 0.02] if low_range else [5e-3, 0.02, 0.05])
    # A smaller load trips by its size, and should: with flicker on top it would at times pass a limit, or read less
    # than the series resistor alone.
    least_ohm = 1.5 * max(LEAST_OHM, top_v / hard_a, 1.0 / g_max_s)
    siemens = math.exp(-rng.uniform(math.log(least_ohm), math.log(1e7)))
    offset = rng.uniform(-1.0, 1.0) * offset_a(spec.range_a, spec.nplc)
    sigma, lsb = noise_sigma_a(spec.range_a, spec.nplc), lsb_a(spec.range_a)
    granted = GUARD_SIGMAS * sigma + offset_a(spec.range_a, spec.nplc)
    gap_every = 0 if gaps == "none" else rng.choice([16, 50])
    gap_ns = AUTOZERO_NS if gaps == "autozero" else GAP_NS
    count = int(top_v / step_v)
    leg = [*range(rng.choice([0, 1]), count + 1), *range(count - 1, -1, -1)]
    levels = [*[-k for k in leg], *[0] * rng.choice([0, 0, 3]), *leg]
    t_ns = 0
    was_corrupt = False
    for n, level in enumerate(levels):
        v = level * step_v
        u = abs(v) / top_v
        i = v * siemens * load.draw(u) + offset + rng.gauss(0.0, sigma) + PICKUP_A * math.sin(314e-9 * t_ns)
        i = round(i / lsb) * lsb
        most_a = min(0.99 * hard_a, 0.99 * (corrupt_max_s * max(abs(v), V_MIN_V) + granted))
        flags = 0
        what = ""
        t_ns += PERIOD_NS
        if gap_every and n % gap_every == gap_every - 1:
            flags = int(Flag.AFTER_GAP)
            t_ns += gap_ns
            what = gaps
            if gaps == "range change" and rng.random() < JUNK:
                i = math.copysign(min(0.9 * rng.random() * hard_a, most_a), rng.random() - 0.5)
                what = "junk"
        elif not was_corrupt and rng.random() < corrupt:
            size = math.exp(rng.uniform(math.log(10.0 * sigma), math.log(0.99 * hard_a)))
            i = rng.choice([0.0, 1.0, -1.0]) * min(size, most_a)
            what = "glitch"
        was_corrupt = what in ("glitch", "junk")
        yield Reading(Sample(t_ns, 0, t_ns, v, i, flags, Phase.SEEK), v * siemens * load.mean(u) + offset, what)
