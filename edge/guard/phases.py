"""The phase table: which tests run while a plan does what, and at which range and integration time.

Everything that depends on the phase must live in this file. Ranges are fixed within a phase and change only with
the output off, so noise, offset, limit and hard limit are constants from arming to cut.

Numbers are of the Keithley 2400 (specifications Rev H, 1 year, 23 +- 5 degC); the noise column is taken as a fifth
to a third of the data sheet's speed adder and is replaced by the rig profile once a rig has been commissioned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from edge.guard.verdicts import Verdict
from edge.samples import Phase

ALWAYS = frozenset(
    {
        Verdict.OUTPUT_CHANGED,
        Verdict.LIMIT_CHANGED,
        Verdict.DEVICE_RESET,
        Verdict.LINK_LOST,
        Verdict.SERIES_RESISTOR,
        Verdict.STAGE_FAULT,
        Verdict.FRONTEND,
        Verdict.LEASE,
        Verdict.RING_FULL,
        Verdict.OPERATOR,
        Verdict.SHUTDOWN,
    }
)
"""Verdicts that may fall in every phase in which the output is on (CUT without SERIES_RESISTOR, see below)."""

SURGE_TESTS = frozenset(
    {
        Verdict.SURGE_JUMP,
        Verdict.SURGE_LEVEL,
        Verdict.SURGE_CUSUM,
        Verdict.CONDUCTANCE,
    }
)
"""Tests that look for a filament; wrong wherever a filament is already there, hence in SEEK only."""

READ_TESTS = frozenset({Verdict.UNPARSABLE, Verdict.STALE})
"""What makes a reading unusable in any phase."""

_SATURATION = frozenset({Verdict.COMPLIANCE, Verdict.OVERFLOW})
_LIMITS = frozenset({Verdict.HARD_LIMIT, Verdict.PREDICTED})
_CELL = frozenset({Verdict.V_LIMIT, Verdict.V_COLLAPSE, Verdict.R_DROP})

LOW_BIAS_V = 1.0
"""Plans that stay within this |V| (grain boundaries, memristor cycling) are searched on the 100 uA range."""

HARD_FRACTION = 0.5
"""HARD_LIMIT as a fraction of PROT."""

RANGE_HEADROOM = 1.06
"""A fixed range clamps at 105 % and reads to 105.5 % of nominal: a trusted reading above 106 % is a fault."""

MIN_PROT_FRACTION = 1e-3
"""PROT below 0.1 % of the measure range is refused by the 2400 (error +822, "Too small for sense range")."""


@dataclass(frozen=True, slots=True)
class PhaseSpec:
    """One row of the phase table.

    ``range_a``: nominal measure range, A. ``nplc``: integration time in power line cycles. ``autozero``: a zero is
    taken with every reading (three times as slow). ``tests``: every verdict that may fall in this phase.
    ``saturation_is_result``: a reading at the end of the range is an answer ("the reset failed"), not a trip.
    """

    phase: Phase
    range_a: float
    nplc: float
    autozero: bool
    tests: frozenset[Verdict]
    saturation_is_result: bool = False


_RESET_TESTS = _LIMITS | _SATURATION | READ_TESTS | ALWAYS
_SEEK_TESTS = _RESET_TESTS | SURGE_TESTS
# During a planned cut 0 V is already commanded: |V/I| means nothing, and the judge of the falling current is the cut
# itself (three readings to the floor, then the tagged query). One high reading here must not latch a trip.
_CUT_TESTS = READ_TESTS | (ALWAYS - {Verdict.SERIES_RESISTOR})

_SEEK_LOW = PhaseSpec(Phase.SEEK, 100e-6, 0.01, autozero=False, tests=_SEEK_TESTS)
_SEEK_HIGH = PhaseSpec(Phase.SEEK, 1e-3, 0.01, autozero=False, tests=_SEEK_TESTS)
_CUT_LOW = PhaseSpec(Phase.CUT, 100e-6, 0.01, autozero=False, tests=_CUT_TESTS)
_CUT_HIGH = PhaseSpec(Phase.CUT, 1e-3, 0.01, autozero=False, tests=_CUT_TESTS)

_FIXED = {
    Phase.RESET: PhaseSpec(Phase.RESET, 1e-3, 0.01, autozero=False, tests=_RESET_TESTS),
    Phase.LRS_READ: PhaseSpec(Phase.LRS_READ, 100e-6, 1.0, autozero=False, tests=_RESET_TESTS),
    Phase.HRS_READ: PhaseSpec(
        Phase.HRS_READ,
        1e-6,
        1.0,
        autozero=True,
        tests=_RESET_TESTS - _SATURATION,
        saturation_is_result=True,
    ),
}
_BY_BIAS = {
    Phase.SEEK: (_SEEK_LOW, _SEEK_HIGH),
    Phase.CUT: (_CUT_LOW, _CUT_HIGH),
}


def phase_spec(
    phase: Phase,
    v_max_v: float,
    *,
    range_a: float | None = None,
    nplc: float | None = None,
) -> PhaseSpec:
    """Return the row for ``phase`` of a plan whose largest |bias| is ``v_max_v`` (V, 0 or more, finite).

    SEEK and CUT have two rows: |V|max <= 1 V on 100 uA, else on 1 mA (a cut keeps the range of its search).
    CELL takes ``range_a`` and ``nplc`` from the plan and refuses to go without; no other phase takes them.

    Raises ValueError for IDLE (nothing is energised, nothing is tested) and for values out of range.
    """
    if not (math.isfinite(v_max_v) and v_max_v >= 0.0):
        raise ValueError(f"v_max_v is {v_max_v!r}; needs a finite |V|max of 0 V or more")
    if phase is Phase.CELL:
        if range_a is None or nplc is None:
            raise ValueError("phase CELL has no range of its own: give range_a and nplc of the plan")
        offset_a(range_a, nplc)  # refuses what is not in the tables
        return PhaseSpec(phase, range_a, nplc, autozero=False, tests=_CELL | _SATURATION | READ_TESTS | ALWAYS)
    if range_a is not None or nplc is not None:
        raise ValueError(f"phase {phase.name} has a fixed range and NPLC; range_a and nplc belong to CELL")
    if phase in _BY_BIAS:
        low, high = _BY_BIAS[phase]
        return low if v_max_v <= LOW_BIAS_V else high
    spec = _FIXED.get(phase)
    if spec is None:
        raise ValueError(f"phase {phase.name} has no tests: nothing is energised in it")
    return spec


def read_on(phase: Phase, v_max_v: float, range_a: float) -> PhaseSpec:
    """Return the row of a high-resistance read on another range, A: same speed, same tests.

    Raises ValueError for another phase and for an unknown range.
    """
    spec = phase_spec(phase, v_max_v)
    if not spec.saturation_is_result:
        raise ValueError(f"phase {phase.name} has a fixed range; only HRS_READ takes another one")
    offset_a(range_a, spec.nplc)  # refuses what is not in the tables
    return replace(spec, range_a=range_a)


def prot_a(spec: PhaseSpec, i_limit_a: float) -> float:
    """Return the current limit to program, A: the smaller of ``limits.current_a`` and the nominal range.

    Raises ValueError if ``i_limit_a`` is not positive and finite, or so small on this range that the 2400 refuses.
    """
    if not (math.isfinite(i_limit_a) and i_limit_a > 0.0):
        raise ValueError(f"i_limit_a is {i_limit_a!r}; needs a finite current above 0 A")
    prot = min(i_limit_a, spec.range_a)
    if prot < MIN_PROT_FRACTION * spec.range_a:
        raise ValueError(f"a limit of {prot:g} A is below 0.1 % of the {spec.range_a:g} A range and would be refused")
    return prot


def hard_limit_a(spec: PhaseSpec, i_limit_a: float, user_a: float | None = None) -> float:
    """Return |I| at and above which a single reading cuts, A.

    Half of PROT; ``user_a`` (``limits.hard_a``) is a ceiling: it can lower that, never raise it. Where saturation is
    a result the default is 106 % of the range, a value no reading on that range can have: the search for "the reset
    failed" must not trip, but a reading that belongs to another range must.

    Raises ValueError if a value is not positive and finite.
    """
    prot = prot_a(spec, i_limit_a)
    default = RANGE_HEADROOM * spec.range_a if spec.saturation_is_result else HARD_FRACTION * prot
    if user_a is None:
        return default
    if not (math.isfinite(user_a) and user_a > 0.0):
        raise ValueError(f"user_a is {user_a!r}; needs a finite current above 0 A")
    return min(default, user_a)


def predict_limit_a(spec: PhaseSpec, i_limit_a: float) -> float:
    """Return the current that PREDICTED must not see reached, A: PROT, or I_limit where saturation is a result."""
    prot = prot_a(spec, i_limit_a)
    return i_limit_a if spec.saturation_is_result else prot


@dataclass(frozen=True, slots=True)
class _RangeRow:
    """Resolution and accuracy offset (1 PLC) and noise at 1, 0.1 and 0.01 PLC, all in A."""

    lsb_a: float
    offset_a: float
    sigma_a: tuple[float, float, float]


_RANGES = {
    1e-6: _RangeRow(10e-12, 300e-12, (10e-12, 15e-12, 150e-12)),
    10e-6: _RangeRow(100e-12, 700e-12, (50e-12, 100e-12, 1e-9)),
    100e-6: _RangeRow(1e-9, 6e-9, (0.5e-9, 1e-9, 10e-9)),
    1e-3: _RangeRow(10e-9, 60e-9, (5e-9, 10e-9, 100e-9)),
    10e-3: _RangeRow(100e-9, 600e-9, (50e-9, 100e-9, 1e-6)),
}
_SPEED_ADDER = (0.0, 0.005e-2, 0.05e-2)
"""Of range, added to the offset term at 1, 0.1 and 0.01 PLC."""


def _row(range_a: float) -> _RangeRow:
    for nominal, row in _RANGES.items():
        if math.isclose(range_a, nominal, rel_tol=1e-6):
            return row
    known = ", ".join(f"{nominal:g}" for nominal in _RANGES)
    raise ValueError(f"no noise or offset is known for a range of {range_a!r} A; known ranges: {known}")


def _speed(nplc: float) -> int:
    """Index of the slowest tabulated speed that is not slower than ``nplc``: never promises less noise."""
    if nplc >= 1.0:
        return 0
    if nplc >= 0.1:
        return 1
    if nplc >= 0.01:
        return 2
    raise ValueError(f"nplc is {nplc!r}; the 2400 integrates over 0.01 to 10 power line cycles")


def lsb_a(range_a: float) -> float:
    """Return the resolution of a fixed range, A. Raises ValueError for an unknown range."""
    return _row(range_a).lsb_a


def noise_sigma_a(range_a: float, nplc: float) -> float:
    """Return the standard deviation of one reading with the tip lifted, A, never below LSB/sqrt(12).

    Raises ValueError for an unknown range or an NPLC below 0.01 (NaN included).
    """
    row = _row(range_a)
    return max(row.sigma_a[_speed(nplc)], row.lsb_a / math.sqrt(12.0))


def offset_a(range_a: float, nplc: float) -> float:
    """Return the largest constant error of a reading near zero, A: the data sheet's offset plus its speed adder.

    560 nA on 1 mA at 0.01 PLC, 300 pA on 1 uA at 1 PLC. Raises ValueError as :func:`noise_sigma_a` does.
    """
    return _row(range_a).offset_a + _SPEED_ADDER[_speed(nplc)] * range_a
