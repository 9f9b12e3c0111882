"""The envelope of a front end in series with the tip, which trips by itself: its times and what it is certain to see.

The formula is that of :mod:`edge.guard.envelope`; the readings are the converter's samples:

    tau_min = (T_gap + T_cut) / ln(I_limit / I_det)

``T_gap`` is one sample. ``T_cut`` is the latency of a sample (from the moment the converter held the current to the
decision: at most one more sample, since the decision about a sample falls before the next one is there) and the
opening time of the analog switch, which the device declares. No line, no host, no instrument is in it.

**What is certain**, of the four tests of the firmware, the sample's current growing as exp(t / tau): HARD compares one
sample with a number, LEVEL some in a row: they hold whatever flowed before. JUMP compares a sample with a baseline
that follows, RATE with an earlier sample: they are certain only where a current grows by so much per sample, and where
nothing flowed before. tests/edge/guard/test_envelope_frontend.py holds the firmware's own detector to this.

A front end opens the path before the instrument's clamp has acted (30 us): what a short draws until then, the series
resistor alone decides.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Final

from edge.guard.envelope import CLAMP_S, CertainTest, EnvelopeInputs, Pace
from edge.guard.verdicts import Verdict

ERROR_CODES: Final = 4.0
"""Noise and offset of a converter that are reckoned with, in codes; a device does not tell its own."""
LATENCY_SAMPLES: Final = 1.0
"""From a sample's aperture to the decision about it, in samples, at most: the loop is done before the next one."""
LEAST_RATE_GROWTH: Final = math.log(2.0)
"""Growth of ln I over RATE's samples from which it is reckoned with: half of the current is new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEndDevice:
    """What a front end declares of itself.

    ``sample_hz``: 1..10e6 S/s. ``switch_open_s``: from the decision to an open path, 0..1 s. ``code_a``: current per
    code, above 0 A. ``lease_max_s``: the longest lease it grants, 0..10 s. Raises ValueError naming field and range.
    """

    sample_hz: float
    switch_open_s: float
    code_a: float
    lease_max_s: float

    def __post_init__(self) -> None:
        """Check every field against its range."""
        _check("sample_hz", self.sample_hz, 1.0, 10e6)
        _check("switch_open_s", self.switch_open_s, 0.0, 1.0)
        _check("code_a", self.code_a, 1e-15, 1.0)
        _check("lease_max_s", self.lease_max_s, 0.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEndTests:
    """What a front end's tests are set to, SI units; 0 in a current: that test is off, which HARD never is.

    ``hard_a``: above 0. ``level_a`` in ``level_n`` (1..255) samples in a row. ``jump_a`` over a baseline that follows
    within ``2 ** baseline_shift`` (0..12) samples, and ``jump_ratio`` (0..255) times as much. ``rate_a`` within
    ``rate_n`` (1..32) samples. Raises ValueError naming the field and its range.
    """

    hard_a: float
    level_a: float = 0.0
    level_n: int = 1
    jump_a: float = 0.0
    jump_ratio: float = 2.0
    baseline_shift: int = 6
    rate_a: float = 0.0
    rate_n: int = 1

    def __post_init__(self) -> None:
        """Check every field against its range."""
        _check("hard_a", self.hard_a, 1e-15, 1e3)
        for name in ("level_a", "jump_a", "rate_a"):
            _check(name, getattr(self, name), 0.0, 1e3)
        _check("level_n", self.level_n, 1, 255)
        _check("jump_ratio", self.jump_ratio, 0.0, 255.0)
        _check("baseline_shift", self.baseline_shift, 0, 12)
        _check("rate_n", self.rate_n, 1, 32)


def front_end_pace(device: FrontEndDevice) -> Pace:
    """Return the times of a front end."""
    sample_s = 1 / device.sample_hz
    return Pace(
        gap_s=sample_s,
        plain_gap_s=sample_s,
        least_gap_s=sample_s,
        reply_s=LATENCY_SAMPLES * sample_s,
        cut_s=device.switch_open_s,
    )


def front_end_tests(device: FrontEndDevice, tests: FrontEndTests) -> tuple[CertainTest, ...]:
    """Return which of a front end's tests can be counted on, and from which current on."""
    # A threshold becomes a whole number of codes, and so does a sample.
    error_a = (ERROR_CODES + 1.0) * device.code_a
    found = [_certain("HARD", tests.hard_a + error_a)]
    if tests.level_a:
        found.append(_certain("LEVEL", tests.level_a + error_a, readings=tests.level_n))
    if tests.jump_a:
        found.append(_jump(device, tests, error_a))
    if tests.rate_a:
        growth = LEAST_RATE_GROWTH / tests.rate_n
        new = 1 - math.exp(-LEAST_RATE_GROWTH)
        found.append(_certain("RATE", (tests.rate_a + 2 * error_a) / new + error_a, least_growth=growth))
    return tuple(found)


def _jump(device: FrontEndDevice, tests: FrontEndTests, error_a: float) -> CertainTest:
    ratio = max(1.0, tests.jump_ratio)
    follows = 2.0**-tests.baseline_shift
    # Under a growth of g per sample the baseline comes to follows / (e^g - 1 + follows) of the current, no higher;
    # least_growth is where that is half of what the ratio allows.
    growth = math.log1p(follows * (2 * ratio - 1))
    share = 1 / (2 * ratio)
    # The baseline is kept in 1/256 of a code and rounded down: so far it may stay behind.
    error_a += device.code_a / (256 * follows)
    by_step_a = (tests.jump_a + 2 * error_a) / (1 - share)
    by_ratio_a = 2 * (ratio + 1) * error_a
    return _certain("JUMP", max(by_step_a, by_ratio_a) + error_a, least_growth=growth)


def _certain(reason: str, i_det_a: float, *, readings: int = 1, least_growth: float = 0.0) -> CertainTest:
    return CertainTest(
        verdict=Verdict.FRONTEND,
        i_det_a=i_det_a,
        readings=readings,
        least_growth=least_growth,
        quiet=bool(least_growth),
        reason=reason,
    )


def with_front_end(inputs: EnvelopeInputs, device: FrontEndDevice, tests: FrontEndTests) -> EnvelopeInputs:
    """Return the same plan's inputs as the front end sees it: its times, its tests, and the clamp too late to help."""
    return dataclasses.replace(
        inputs, pace=front_end_pace(device), tests=front_end_tests(device, tests), clamp_after_s=CLAMP_S
    )


@dataclass(frozen=True, slots=True)
class HostLoss:
    """What is left of a lost host, with a front end that wants its lease renewed.

    ``open_after_s``: from the last thing the host did to an open path, at the longest, s. ``below_a``: what may flow
    meanwhile without a trip, A, and ``charge_c`` of it; inf where resistor and clamp hold less than any test sees and
    none of them holds anything.
    """

    open_after_s: float
    below_a: float
    charge_c: float


def host_loss(device: FrontEndDevice, tests: FrontEndTests, lease_s: float, *, short_a: float = math.inf) -> HostLoss:
    """Return how long a bias stays after the host was lost, and what may flow: the lease, a sample, the switch.

    ``lease_s``: as granted, 0..10 s, no more than the device's own limit, which it enforces. ``short_a``: what
    resistor and clamp let through, A. Raises ValueError for a lease that is none.
    """
    _check("lease_s", lease_s, 0.0, 10.0)
    after_s = min(lease_s, device.lease_max_s) + 1 / device.sample_hz + device.switch_open_s
    lasting = (test.i_det_a for test in front_end_tests(device, tests) if not test.least_growth)
    below_a = min(*lasting, short_a)
    return HostLoss(after_s, below_a, below_a * after_s)


def _check(name: str, value: float, low: float, high: float) -> None:
    # Written so that a NaN is refused too.
    if not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; needs a number from {low:g} to {high:g}")
