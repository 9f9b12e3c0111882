"""The surge detector: one reading in, one verdict or None out. Pure, deterministic, O(1), no clock.

**What is tested.** With a = |V| and x the current along the bias, the log-conductance with a floor of f = 3 sigma0,

    y = ln(sqrt(max(x, 0)^2 + f^2) / a),

is constant for an ohmic load, drifts smoothly for a superlinear one and jumps when a filament forms. Below the floor
y is only an *upper bound* of the conductance, and a loose one near 0 V. So readings in the floor may lower the
baseline, never raise it; and only readings above 12 sigma0 + the data sheet's offset count as evidence. An ohmic load
that climbs out of the noise, or passes through 0 V, therefore does not look like a jump: every bound taken before lies
near or above its conductance (the data sheet's whole offset and 4.5 sigma0 against it: 0.55 decade of the 0.7).

**Baseline.** Holt's local-linear prediction; in the floor the running minimum of the bound. It is frozen while the
CUSUM is above zero or the innovation beyond 3 sigma, so that a surge does not become its own baseline, and released
after 32 samples of an excursion without a verdict (telegraph noise that stays up). While |V| rises it gives way to as
much growth as a superlinear load may show (I ~ V^4, at most 0.15 a sample), short of a jump. A fall is
followed only when two readings agree: one reading that drops out must not make the next good one look like a surge.

**One sample or two.** HARD_LIMIT, CONDUCTANCE (a number the user gave) and saturation cut on one reading. SURGE_JUMP,
SURGE_LEVEL, SURGE_CUSUM, PREDICTED and SERIES_RESISTOR want the reading before to agree, which costs exactly one
sample: one corrupt reading cannot be told from a set of the same size, it would be a false point in the trigger
statistics, and meanwhile the clamp and the series resistor hold the limit. Who prefers one sample lowers ``hard_a``
or gives ``g_max_s``, and pays with one false trip per corrupt reading above it; ``jump_samples`` and
``conductance_samples`` set it the other way.

A step below ``jump_decades`` gives no verdict until it adds up to ``level_decades``: this is no small-shift detector.
"""

from __future__ import annotations

import math
from math import log, sqrt

from edge.guard.thresholds import (
    CUSUM_CAP_SIGMAS,
    EXCURSION_SAMPLES,
    FLOOR_SIGMAS,
    FREEZE_SIGMAS,
    GUARD_SIGMAS,
    JUMP_SIGMAS,
    LN10,
    MAX_EXPONENT,
    MAX_GIVE,
    MAX_NOISE,
    MAX_PLAUSIBLE,
    MAX_TREND,
    NOISE_WEIGHT,
    RELATIVE_NOISE,
    SERIES_MIN_V,
    SERIES_TOLERANCE,
    DetectorSettings,
)
from edge.guard.verdicts import Verdict
from edge.samples import IN_COMPLIANCE, Flag, Sample

__all__ = ["DETECTOR_TESTS", "Detector", "DetectorSettings"]

DETECTOR_TESTS = frozenset(
    {
        Verdict.SERIES_RESISTOR,
        Verdict.HARD_LIMIT,
        Verdict.UNPARSABLE,
        Verdict.OVERFLOW,
        Verdict.COMPLIANCE,
        Verdict.CONDUCTANCE,
        Verdict.SURGE_JUMP,
        Verdict.SURGE_LEVEL,
        Verdict.SURGE_CUSUM,
        Verdict.PREDICTED,
    }
)
"""The verdicts that :class:`Detector` itself can give; others in ``tests`` belong to the guard and are ignored."""

_RELATIVE_NOISE_SQ = RELATIVE_NOISE * RELATIVE_NOISE
_MAX_NOISE_SQ = MAX_NOISE * MAX_NOISE
_NO_BIAS = IN_COMPLIANCE | Flag.BIAS_NOT_HELD
_NO_NUMBER = Flag.UNPARSABLE | Flag.NOT_MEASURED
_NEVER = math.inf


class Detector:
    """Runs the tests named in ``tests`` (those of :data:`DETECTOR_TESTS`) on every reading of one phase.

    A test that is left out is never reported; the baseline is kept all the same. ``reset`` on every arming.
    """

    __slots__ = (
        "_a1",
        "_age",
        "_alpha",
        "_beta",
        "_compliance",
        "_drift",
        "_e",
        "_evidence",
        "_f2",
        "_floor",
        "_g_max",
        "_gate",
        "_guard",
        "_h",
        "_half_gate",
        "_hard",
        "_high",
        "_jump_need",
        "_k",
        "_learnt",
        "_level",
        "_level_gate",
        "_level_ref",
        "_ln_limit",
        "_low",
        "_low_y",
        "_noise2",
        "_over",
        "_over_need",
        "_overflow",
        "_pending",
        "_predict_gate",
        "_q1",
        "_q2",
        "_real",
        "_s",
        "_s02",
        "_series",
        "_settings",
        "_shorted",
        "_t1",
        "_t2",
        "_tau_per_ns",
        "_unparsable",
        "_v_min",
        "_visible",
        "_y1",
    )

    def __init__(self, settings: DetectorSettings, tests: frozenset[Verdict]) -> None:
        """Turn ``tests`` into thresholds: a test that is left out gets one that is never reached."""
        gate = settings.jump_decades * LN10
        self._settings = settings
        self._hard = settings.hard_a if Verdict.HARD_LIMIT in tests else math.nan  # below no current, not even inf
        self._series = SERIES_TOLERANCE * settings.series_ohm if Verdict.SERIES_RESISTOR in tests else 0.0
        self._g_max = settings.g_max_s if Verdict.CONDUCTANCE in tests else _NEVER
        self._over_need = settings.conductance_samples
        self._gate = gate
        self._half_gate = 0.5 * gate
        self._jump_need = settings.jump_samples if Verdict.SURGE_JUMP in tests else 1 << 62
        self._level_gate = settings.level_decades * LN10 if Verdict.SURGE_LEVEL in tests else _NEVER
        self._h = settings.h if Verdict.SURGE_CUSUM in tests else _NEVER
        self._predict_gate = 0.5 * gate if Verdict.PREDICTED in tests else _NEVER
        self._unparsable = Verdict.UNPARSABLE in tests
        self._overflow = Verdict.OVERFLOW in tests
        self._compliance = Verdict.COMPLIANCE in tests
        self._guard = GUARD_SIGMAS * settings.sigma0_a + settings.offset_a
        self._evidence = settings.evidence_a
        self._floor = FLOOR_SIGMAS * settings.sigma0_a
        self._real = self._floor + settings.offset_a
        self._f2 = self._floor * self._floor
        self._s02 = settings.sigma0_a * settings.sigma0_a
        self._v_min = settings.v_min_v
        self._k = settings.k
        self._alpha = settings.alpha
        self._beta = settings.beta
        self._ln_limit = log(settings.limit_a)
        self._tau_per_ns = settings.tau_cut_s * 1e9
        self.reset()

    def reset(self) -> None:
        """Forget everything learnt; to be called on arming."""
        self._learnt = False
        self._visible = False
        self._level = 0.0
        self._drift = 0.0
        self._level_ref = 0.0
        self._noise2 = 0.0
        self._s = 0.0
        self._e = 0.0
        self._age = 0
        self._pending = 0
        self._high = 0
        self._over = 0
        self._shorted = False
        self._low = False
        self._low_y = 0.0
        self._y1 = 0.0
        self._a1 = 0.0
        self._t1 = self._t2 = 0
        self._q1 = self._q2 = 0.0

    @property
    def settings(self) -> DetectorSettings:
        """The settings given."""
        return self._settings

    @property
    def cusum(self) -> float:
        """The CUSUM, sigma."""
        return self._s

    @property
    def rise_decades(self) -> float:
        """Last significant innovation over the (frozen) baseline, decades; 0 without one."""
        return self._e / LN10

    @property
    def noise_decades(self) -> float:
        """Learnt relative noise of a visible current, decades."""
        return sqrt(self._noise2) / LN10

    @property
    def baseline_s(self) -> float:
        """Predicted conductance, S (an upper bound where the current is in the noise); NaN before the first reading."""
        return math.exp(self._level + self._drift) if self._learnt else math.nan

    @property
    def lowest_s(self) -> float:
        """Lowest baseline since arming, S: the reference of SURGE_LEVEL; NaN before the first reading."""
        return math.exp(self._level_ref) if self._learnt else math.nan

    @property
    def hold(self) -> bool:
        """True while an excursion is building up: a ramp should stop where it is until it is resolved."""
        return self._s > 0.5 * self._settings.h and self._e >= self._half_gate

    def reference_s(self, verdict: Verdict) -> float:
        """Conductance that ``verdict`` was judged against, S; the onset of an event is found from it."""
        return self.lowest_s if verdict is Verdict.SURGE_LEVEL else self.baseline_s

    def step(self, s: Sample) -> Verdict | None:  # noqa: C901 (one straight hot path; a call per test doubles its cost)
        """Judge one reading; return why to cut, or None. Never raises on any int and float fields."""
        t_ns, _, _, v, i, flags, _ = s
        a = v if v >= 0.0 else -v
        m = i if i >= 0.0 else -i
        if flags or not (a <= MAX_PLAUSIBLE and m <= MAX_PLAUSIBLE):
            return self._flagged(a, m, flags)

        # Absolute tests. SERIES_RESISTOR first: it protects, whereas a hard limit during a search is planned. A
        # resistor does not vanish between two readings, so it wants a second one; a cut that falls on the first for
        # another reason is named after the resistor too, for a search must not go on without it.
        net = m - self._guard
        if net * self._series > a and a >= SERIES_MIN_V and m > self._evidence:
            if self._shorted or m >= self._hard:
                return Verdict.SERIES_RESISTOR
            self._shorted = True
        else:
            self._shorted = False
            if m >= self._hard:
                return Verdict.HARD_LIMIT
        judged = a >= self._v_min
        if net > self._g_max * (a if judged else self._v_min):
            self._over += 1
            if self._over >= self._over_need:
                return Verdict.SERIES_RESISTOR if self._shorted else Verdict.CONDUCTANCE
        else:
            self._over = 0
        if not judged:
            return None

        x = i if v > 0.0 else -i
        q_sq = x * x + self._f2 if x > 0.0 else self._f2
        y = 0.5 * log(q_sq / (a * a))
        t1 = self._t1
        t2 = self._t2
        q1 = self._q1
        q2 = self._q2
        self._t1 = t_ns
        self._t2 = t1
        self._q1 = q_sq
        self._q2 = q1
        if not self._learnt:
            self._learnt = True
            self._visible = x > self._real
            self._level = self._level_ref = self._y1 = y
            self._a1 = a
            return None
        if x <= self._evidence:
            self._a1 = a
            self._faint(x, q_sq, y)
            return None

        # A visible current: the innovation, its noise, and the tests on it.
        level = self._level
        drift = self._drift
        e = y - level - drift
        e_sq = e * e
        noise2 = self._noise2
        var = self._s02 / q_sq + _RELATIVE_NOISE_SQ
        if noise2 > var:
            var = noise2
        if e_sq > _MAX_NOISE_SQ:
            e_sq = _MAX_NOISE_SQ
        self._noise2 = noise2 + NOISE_WEIGHT * (e_sq - noise2)
        d = e / sqrt(var)
        e1 = self._e
        y1 = self._y1
        a1 = self._a1
        self._e = e
        self._y1 = y
        self._a1 = a

        if e >= self._gate and d > JUMP_SIGMAS:
            self._pending += 1
            if self._pending >= self._jump_need:
                return Verdict.SERIES_RESISTOR if self._shorted else Verdict.SURGE_JUMP
        else:
            self._pending = 0
        if y - self._level_ref >= self._level_gate:
            self._high += 1
            if self._high >= 2:
                return Verdict.SERIES_RESISTOR if self._shorted else Verdict.SURGE_LEVEL
        else:
            self._high = 0
        if d > CUSUM_CAP_SIGMAS:
            d = CUSUM_CAP_SIGMAS
        total = self._s + d - self._k
        if total > 0.0:
            self._s = total
            # The reading before must stand well above noise, or a glitch on top of telegraph noise would do.
            if total > self._h and e >= self._gate and e1 >= self._half_gate:
                return Verdict.SERIES_RESISTOR if self._shorted else Verdict.SURGE_CUSUM
        else:
            self._s = total = 0.0
        if (
            e1 >= self._predict_gate
            and e > e1
            and t_ns > t1 > t2
            and q2 > 0.0
            and self._crosses(q_sq, q1, q2, t_ns - t1, t1 - t2)
        ):
            return Verdict.SERIES_RESISTOR if self._shorted else Verdict.PREDICTED

        # The baseline, frozen while something is going on.
        if total > 0.0:
            self._low = False
            self._age += 1
            if self._age >= EXCURSION_SAMPLES and -self._half_gate < y - y1 < self._half_gate:
                self._relevel(min(y, y1))
            elif a > a1 and 0.0 < e < self._gate:
                # A superlinear load grows because the bias does: that much is given way to, and no more.
                give = MAX_EXPONENT * (a - a1) / a
                if give > MAX_GIVE:
                    give = MAX_GIVE
                self._level = level + min(give, e)
            return None
        self._age = 0
        if d < -FREEZE_SIGMAS:
            self._fall(y)
            return None
        self._low = False
        self._visible = True
        drift += self._beta * e
        if drift > MAX_TREND:
            drift = MAX_TREND
        elif drift < -MAX_TREND:
            drift = -MAX_TREND
        self._drift = drift
        level = y - (1.0 - self._alpha) * e
        self._level = level
        if level < self._level_ref:
            self._level_ref = level
        return None

    def _flagged(self, a: float, m: float, flags: int) -> Verdict | None:
        """Judge a reading with a flag or without a number: nothing is learnt from it."""
        if flags & _NO_NUMBER:
            return Verdict.UNPARSABLE if self._unparsable else None
        if flags & Flag.OVERFLOW:
            return Verdict.OVERFLOW if self._overflow else None
        if m != m or a != a:
            return Verdict.UNPARSABLE if self._unparsable else None
        if flags & IN_COMPLIANCE and self._compliance:
            return Verdict.COMPLIANCE
        if m >= self._hard:
            return Verdict.HARD_LIMIT
        if a > MAX_PLAUSIBLE or m > MAX_PLAUSIBLE:
            return Verdict.UNPARSABLE if self._unparsable else None
        if flags & _NO_BIAS:
            return None
        # After a gap: the absolute tests hold, the innovation does not, and a slope must not span the gap.
        self._t1 = self._t2 = 0
        self._q1 = self._q2 = 0.0
        net = m - self._guard
        if net > self._g_max * max(a, self._v_min):
            self._over += 1
            if self._over >= self._over_need:
                return Verdict.CONDUCTANCE
        return None

    def _faint(self, x: float, q_sq: float, y: float) -> None:
        """Learn from a reading that is no evidence: it ends any excursion, and bounds or nudges the baseline."""
        y1 = self._y1
        self._y1 = y
        self._s = 0.0
        self._e = 0.0
        self._age = 0
        self._pending = 0
        self._high = 0
        level = self._level
        if not self._visible and y < level:
            # What was learnt was a bound only, and this one is tighter. The lowest of all wants two readings to agree.
            self._level = y
            self._drift = 0.0
            y = max(y, y1)
            if y < self._level_ref:
                self._level_ref = y
            return
        if x < self._floor:
            # Above the baseline a bound says nothing, which keeps what was learnt at a larger bias.
            if y < level:
                self._fall(y)
                self._visible = self._low
            else:
                self._low = False
            return
        # Up to the level of evidence the baseline follows, so that a load emerging from the noise carries it along.
        e = y - level - self._drift
        bound = FREEZE_SIGMAS * sqrt(self._s02 / q_sq + _RELATIVE_NOISE_SQ)
        if e < -bound:
            self._fall(y)
            return
        self._low = False
        self._visible = self._visible or x > self._real
        e = min(e, bound)
        level += self._drift + self._alpha * e
        self._level = level
        self._drift = max(-MAX_TREND, min(MAX_TREND, self._drift + self._beta * e))
        if level < self._level_ref:
            self._level_ref = level

    def _fall(self, y: float) -> None:
        """Follow a fall of the conductance once two readings agree on it."""
        if self._low:
            self._relevel(max(y, self._low_y))
        else:
            self._low = True
            self._low_y = y

    def _relevel(self, y: float) -> None:
        self._level = y
        self._drift = 0.0
        self._s = 0.0
        self._age = 0
        self._low = False
        if y < self._level_ref:
            self._level_ref = y

    def _crosses(self, q_sq: float, q1_sq: float, q2_sq: float, dt: int, dt1: int) -> bool:
        """Tell whether growth at the slower of the last two rates reaches the limit within tau_cut.

        The rates are of ln I. The linear extrapolation I + tau dI/dt needs no test of its own: q ln(q/q1) >= q - q1
        and e^z >= 1 + z, so that it never reaches the limit where the exponential one does not.
        """
        rate = min(log(q_sq / q1_sq) / dt, log(q1_sq / q2_sq) / dt1)
        return rate > 0.0 and 0.5 * (log(q_sq) + self._tau_per_ns * rate) > self._ln_limit
