"""The protection envelope: the fastest surge that is still cut before the limit. Arithmetic only; SI units throughout.

A current that grows as exp(t / tau) passes the current I_det at which a reading is certain to trip, at the worst right
after a reading. It is seen by the next one, a gap later (a test that wants k readings to agree takes k gaps), which is
known once its reply is here, and 0 V are at the tip once the cut has acted:

    tau_min = (T_gap,max + T_reply,max + T_cut,max) / ln(I_limit / I_det)

**What is certain.** HARD_LIMIT and CONDUCTANCE compare one reading with a number: they hold whatever the sample did
before, and however slowly it grows. SURGE_LEVEL compares two readings with the lowest conductance since arming, which
is never raised: it holds for any growth, if nothing but noise was seen before. SURGE_JUMP compares two readings with a
baseline that follows slow changes, so it is certain only where a surge grows by :data:`LEAST_GROWTH` from one reading
to the next; it counts where all slower surges are somebody else's. SURGE_CUSUM and PREDICTED often come first, and
are promised nothing of. tests/edge/guard/test_envelope.py holds the detector itself to this.
:mod:`edge.guard.envelope_frontend` puts the same questions to a front end.

What bridges in nanoseconds is no matter of tau: between onset and 0 V the series resistor and the clamp hold the
current, and a step surge costs the tip that current times that time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Final, Literal

from edge.guard.thresholds import (
    FLOOR_SIGMAS,
    GUARD_SIGMAS,
    LN10,
    MAX_EXPONENT,
    MAX_GIVE,
    MAX_TREND,
    DetectorSettings,
)
from edge.guard.verdicts import Verdict

CHECK_EVERY: Final = 5
"""No more than one of so many gaps is the long one with a check query in it; the engine asks no more often."""
LEAST_GROWTH: Final = 0.7
"""Growth of ln I from one reading to the next from which SURGE_JUMP is certain: a factor of 2."""
CLAMP_S: Final = 30e-6
"""Transient response of the 2400's clamp (specifications, Rev. L: 30 us minimum)."""

_STEPS_BEFORE: Final = 8
"""Bias steps from the reading that set the reference to the one that is judged by it, in the fastest surges of use."""

Layer = Literal["resistor", "clamp", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Times of one link with an instrument as slow as is assumed, s, each 0..60; with a faster one all are shorter.

    ``gap_s``: longest time between two readings, check query included. ``plain_gap_s``: longest without the check, at
    most ``gap_s``. ``least_gap_s``: shortest, at most ``plain_gap_s``. ``reply_s``: longest from the beginning of a
    reading's aperture to its last byte on the wire. ``cut_s``: longest from there to 0 V at the tip.

    Raises ValueError naming the field and its range.
    """

    gap_s: float
    plain_gap_s: float
    least_gap_s: float
    reply_s: float
    cut_s: float

    def __post_init__(self) -> None:
        """Check every field against its range."""
        for field in fields(self):
            _check(field.name, getattr(self, field.name), 0.0, 60.0)
        if not self.least_gap_s <= self.plain_gap_s <= self.gap_s:
            raise ValueError(
                f"gaps of {self.least_gap_s!r}, {self.plain_gap_s!r}, {self.gap_s!r} s: needs least <= plain <= longest"
            )

    def until_zero_s(self, readings: int) -> float:
        """Return the longest time from a current to 0 V where ``readings`` (1 or more) in a row must have seen it."""
        if readings < 1:
            raise ValueError(f"{readings!r} readings: needs 1 or more")
        checks = -(-readings // CHECK_EVERY)
        gaps_s = checks * self.gap_s + (readings - checks) * self.plain_gap_s
        return gaps_s + self.reply_s + self.cut_s


@dataclass(frozen=True, slots=True, kw_only=True)
class CertainTest:
    """A test of the detector, or of the front end's, and from which current on it is certain.

    ``i_det_a``: |I| in A, above 0. ``readings``: in a row, 1..255. ``least_growth``: of ln I from reading to reading;
    0: any. ``quiet``: it holds only where the current was in the noise before. ``reason``: which of the front end's
    tests it is (HARD, LEVEL, JUMP, RATE); empty for the detector's own.
    """

    verdict: Verdict
    i_det_a: float
    readings: int = 1
    least_growth: float = 0.0
    quiet: bool = False
    reason: str = ""

    def __post_init__(self) -> None:
        """Check every field against its range."""
        _check("i_det_a", self.i_det_a, 0.0, 1e3, open_low=True)
        _check("readings", self.readings, 1, 255)
        _check("least_growth", self.least_growth, 0.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvelopeInputs:
    """What decides an envelope.

    ``i_limit_a``: current that must not be reached, A, above 0. ``clamp_a``: the SMU's compliance in this phase, A;
    None: nothing clamps. ``v_max_v``: largest |bias|, V, above 0. ``series_ohm``: at the tip, 0 is none.
    ``bias_step_v``: from one reading to the next, V. ``clamp_after_s``: how long the clamp takes to hold a short, s;
    0 where that is nothing beside the time until the cut. Raises ValueError naming the field and its range.
    """

    pace: Pace
    tests: tuple[CertainTest, ...]
    i_limit_a: float
    clamp_a: float | None
    v_max_v: float
    series_ohm: float
    bias_step_v: float
    clamp_after_s: float = 0.0

    def __post_init__(self) -> None:
        """Check every field against its range."""
        _check("i_limit_a", self.i_limit_a, 0.0, 1e3, open_low=True)
        if self.clamp_a is not None:
            _check("clamp_a", self.clamp_a, 0.0, 1e3, open_low=True)
        _check("v_max_v", self.v_max_v, 0.0, 1e3, open_low=True)
        _check("series_ohm", self.series_ohm, 0.0, 1e12)
        _check("bias_step_v", self.bias_step_v, 0.0, 1e3)
        _check("clamp_after_s", self.clamp_after_s, 0.0, 1.0)

    @property
    def reached_a(self) -> float:
        """Current the promise is about, A: the limit, or the clamp where that holds less."""
        return self.i_limit_a if self.clamp_a is None else min(self.i_limit_a, self.clamp_a)

    @property
    def short_a(self) -> float:
        """Current into a short at the largest bias, A: what resistor and clamp leave of it; inf if nothing does."""
        return self.resistor_a if self.clamp_a is None else min(self.resistor_a, self.clamp_a)

    @property
    def resistor_a(self) -> float:
        """Current into a short that the resistor alone leaves, A; inf without one."""
        return self.v_max_v / self.series_ohm if self.series_ohm else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What is promised for one phase. Infinite or NaN: nothing is.

    ``tau_min_s``: time constant of the fastest exponential surge that is cut before ``reached_a``, the current before
    having been in the noise; ``seen_by``, ``readings``, ``i_det_a``: what sees it. ``tau_min_any_s``: the same with no
    such condition. ``step_s``: longest time from a short to 0 V or an open path; ``step_a`` flows meanwhile
    (``resistor_a`` where the clamp comes later than the cut, or where nothing clamps), ``charge_c`` in all, and
    ``energy_j`` from the source, of which the tip gets what the resistor does not. ``layer``: what holds the limit at
    the largest bias. ``reason``: which of the front end's tests ``seen_by`` is; empty for the detector's own.
    """

    tau_min_s: float
    tau_min_any_s: float
    seen_by: Verdict | None
    readings: int
    i_det_a: float
    reached_a: float
    step_s: float
    step_a: float
    resistor_a: float
    charge_c: float
    energy_j: float
    layer: Layer
    bias_step_v: float
    reason: str = ""

    @property
    def tenfold_s(self) -> float:
        """Time in which the fastest surge that is cut in time grows tenfold, s."""
        return self.tau_min_s * LN10

    @property
    def tenfold_any_s(self) -> float:
        """The same whatever current flowed before, s."""
        return self.tau_min_any_s * LN10


def tau_min_s(until_zero_s: float, i_limit_a: float, i_det_a: float) -> float:
    """Return the smallest time constant that is cut in time, s; inf where the test comes no earlier than the limit."""
    return until_zero_s / math.log(i_limit_a / i_det_a) if i_det_a < i_limit_a else math.inf


def reading_error_a(settings: DetectorSettings) -> float:
    """Return how far a reading may be off, A: five sigma and the data sheet's offset, as the guard takes it."""
    return GUARD_SIGMAS * settings.sigma0_a + settings.offset_a


def certain_tests(
    settings: DetectorSettings, verdicts: frozenset[Verdict], *, v_max_v: float, bias_step_v: float
) -> tuple[CertainTest, ...]:
    """Return which of the detector's tests can be counted on, and from which current on, at |V| = ``v_max_v``.

    ``bias_step_v``: from one reading to the next; the baseline gives way to a rising bias. Raises ValueError for a
    bias that is not positive and finite, or a step that is negative.
    """
    _check("v_max_v", v_max_v, 0.0, 1e3, open_low=True)
    _check("bias_step_v", bias_step_v, 0.0, 1e3)
    error_a = reading_error_a(settings)
    quiet_a = math.hypot(error_a, FLOOR_SIGMAS * settings.sigma0_a)
    found = []
    if Verdict.HARD_LIMIT in verdicts:
        found.append(CertainTest(verdict=Verdict.HARD_LIMIT, i_det_a=settings.hard_a + error_a))
    if Verdict.CONDUCTANCE in verdicts and math.isfinite(settings.g_max_s):
        # The guard takes the error off before it compares; at the worst the reading lacks it once more.
        found.append(
            CertainTest(
                verdict=Verdict.CONDUCTANCE,
                i_det_a=settings.g_max_s * v_max_v + 2 * error_a,
                readings=settings.conductance_samples,
            )
        )
    if Verdict.SURGE_LEVEL in verdicts:
        # On a rising bias the reference was taken some steps lower, where the same noise is a larger conductance.
        rise = 1.0 + _STEPS_BEFORE * bias_step_v / v_max_v
        level_a = quiet_a * rise * math.exp(settings.level_decades * LN10)
        found.append(
            CertainTest(
                verdict=Verdict.SURGE_LEVEL,
                i_det_a=max(level_a, settings.evidence_a) + error_a,
                readings=2,
                quiet=True,
            )
        )
    if Verdict.SURGE_JUMP in verdicts:
        give = min(MAX_GIVE, MAX_EXPONENT * bias_step_v / v_max_v)
        rise = settings.jump_decades * LN10 + MAX_TREND
        rise += give * math.ceil(rise / (LEAST_GROWTH - give))
        found.append(
            CertainTest(
                verdict=Verdict.SURGE_JUMP,
                i_det_a=max(quiet_a * math.exp(rise), settings.evidence_a) + error_a,
                readings=settings.jump_samples,
                least_growth=LEAST_GROWTH,
                quiet=True,
            )
        )
    return tuple(found)


def envelope(inputs: EnvelopeInputs) -> Envelope:
    """Work out what is promised."""
    pace, limit_a = inputs.pace, inputs.reached_a

    def tau_s(test: CertainTest) -> float:
        return tau_min_s(pace.until_zero_s(test.readings), limit_a, test.i_det_a)

    def fastest(tests: Iterable[CertainTest]) -> CertainTest | None:
        return min((test for test in tests if tau_s(test) < math.inf), key=tau_s, default=None)

    always = [test for test in inputs.tests if not test.least_growth]
    without = fastest(test for test in always if not test.quiet)
    best = fastest(always)
    for test in sorted((test for test in inputs.tests if test.least_growth), key=tau_s, reverse=True):
        # It promises nothing of slow surges: those have to be another test's, from its own slowest one on.
        slowest_s = pace.least_gap_s / test.least_growth
        if best is not None and tau_s(test) < tau_s(best) <= slowest_s:
            best = test
    seen = (test for test in inputs.tests if test.i_det_a <= inputs.short_a)
    step_s = min((pace.until_zero_s(test.readings) for test in seen), default=math.inf)
    # What no test sees flows on: an unlimited charge, unless nothing flows at all.
    unclamped_s = min(step_s, inputs.clamp_after_s)
    charge_c = inputs.short_a * (step_s - unclamped_s)
    if unclamped_s:
        charge_c = inputs.resistor_a * unclamped_s + (charge_c if step_s > unclamped_s else 0.0)
    step_a = inputs.resistor_a if 0 < step_s == unclamped_s else inputs.short_a
    return Envelope(
        tau_min_s=math.inf if best is None else tau_s(best),
        tau_min_any_s=math.inf if without is None else tau_s(without),
        seen_by=None if best is None else best.verdict,
        readings=0 if best is None else best.readings,
        i_det_a=math.nan if best is None else best.i_det_a,
        reached_a=limit_a,
        step_s=step_s,
        step_a=step_a,
        resistor_a=inputs.resistor_a,
        charge_c=charge_c,
        energy_j=inputs.v_max_v * charge_c,
        layer=layer(inputs),
        bias_step_v=inputs.bias_step_v,
        reason="" if best is None else best.reason,
    )


def layer(inputs: EnvelopeInputs) -> Layer:
    """Say what holds the limit at the largest bias, whatever happens below the tip."""
    if inputs.resistor_a <= inputs.i_limit_a:
        return "resistor"
    return "clamp" if inputs.clamp_a is not None and inputs.clamp_a <= inputs.i_limit_a else "none"


def _check(name: str, value: float, low: float, high: float, *, open_low: bool = False) -> None:
    # Written so that a NaN is refused too.
    inside = low < value <= high if open_low else low <= value <= high
    if not inside:
        raise ValueError(f"{name} is {value!r}; needs a number {'above' if open_low else 'from'} {low:g} to {high:g}")
