"""What the surge detector compares against: its settings, with units and ranges, and the constants behind them.

Defaults come from the detection study (119 real sweeps without an event, and the twin); what they give here is
measured in ``tests/edge/guard``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge.guard.phases import PhaseSpec, hard_limit_a, noise_sigma_a, offset_a, predict_limit_a

LN10 = math.log(10.0)
FLOOR_SIGMAS = 3.0
"""Below this many sigma0 a reading bounds the conductance but does not measure it."""
EVIDENCE_SIGMAS = 12.0
"""Above this many sigma0, plus the offset, a current is evidence."""
GUARD_SIGMAS = 5.0
"""Taken off |I|, with the offset, before an absolute comparison (CONDUCTANCE, SERIES_RESISTOR)."""
JUMP_SIGMAS = 5.0
FREEZE_SIGMAS = 3.0
CUSUM_CAP_SIGMAS = 6.0
"""One reading adds no more than this to the CUSUM, so that no single reading can fill it."""
RELATIVE_NOISE = 0.03
"""Smallest relative noise of a visible current, in ln units."""
MAX_NOISE = 0.3
"""Largest noise the estimate may learn, in ln units: a step of 0.7 decade stays above 5 sigma."""
NOISE_WEIGHT = 1.0 / 16.0
MAX_TREND = 0.1
"""Largest drift per sample that the baseline extrapolates, in ln units."""
MAX_EXPONENT = 3.0
"""A load may grow as this power of |V| in conductance (I ~ V^4) without being taken for a surge."""
MAX_GIVE = 0.15
"""But by no more than this per sample, in ln units."""
EXCURSION_SAMPLES = 32
"""An excursion without a verdict becomes the baseline after this many samples."""
SERIES_MIN_V = 0.05
SERIES_TOLERANCE = 0.95
MAX_PLAUSIBLE = 1e3
"""No unit in this project sources 1 kV or 1 kA: a larger |V| or |I| is not a reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorSettings:
    """Everything the detector needs to know; constant from arming to cut.

    ``hard_a``: |I| at and above which one reading cuts, A, above 0.
    ``limit_a``: current that PREDICTED must not see reached, A, above 0.
    ``sigma0_a``: noise of a reading with the tip lifted, A, 1e-18..1.
    ``offset_a``: largest constant error of a reading, A, >= 0.
    ``tau_cut_s``: measured p99 from a decision to 0 V plus one sample period, s, 0..10.
    ``g_max_s``: largest conductance allowed from the first reading on, S, above 0; inf is off.
    ``series_ohm``: declared series resistance at the tip, ohm, >= 0; 0 is none, and its test is off.
    ``v_min_v``: smallest |V| whose conductance is judged, V, 10 uV..5 mV; below, only current and flags are tested.
    The source's own error is 0.6 mV on its 2 V range: below 1 mV a conductance means nothing.
    ``k``, ``h``: drift and threshold of the CUSUM in sigma, above 0.
    ``jump_decades``: smallest rise over the baseline for SURGE_JUMP and SURGE_CUSUM, 0.3..4. Telegraph noise of 40 %
    is 0.22 decade. ``level_decades``: smallest rise over the lowest baseline since arming, ``jump_decades``..8.
    ``jump_samples``, ``conductance_samples``: consecutive readings SURGE_JUMP and CONDUCTANCE need, 1..8.
    ``alpha``, ``beta``: Holt's gains of level and trend, 0..1.

    Raises ValueError naming the field and its range.
    """

    hard_a: float
    limit_a: float
    sigma0_a: float
    offset_a: float
    tau_cut_s: float
    g_max_s: float = math.inf
    series_ohm: float = 0.0
    v_min_v: float = 0.001
    k: float = 1.0
    h: float = 20.0
    jump_decades: float = 0.7
    level_decades: float = 1.5
    jump_samples: int = 2
    conductance_samples: int = 1
    alpha: float = 0.5
    beta: float = 0.15

    def __post_init__(self) -> None:
        """Check every field against its range."""
        for name in ("hard_a", "limit_a", "k", "h"):
            self._check(name, 0.0, math.inf, open_low=True)
        self._check("sigma0_a", 1e-18, 1.0)
        self._check("g_max_s", 0.0, math.inf, open_low=True, finite=False)
        for name in ("offset_a", "series_ohm"):
            self._check(name, 0.0, math.inf)
        self._check("tau_cut_s", 0.0, 10.0)
        self._check("v_min_v", 1e-5, 0.005)
        self._check("jump_decades", 0.3, 4.0)
        self._check("level_decades", self.jump_decades, 8.0)
        self._check("jump_samples", 1, 8)
        self._check("conductance_samples", 1, 8)
        self._check("alpha", 0.0, 1.0, open_low=True)
        self._check("beta", 0.0, 1.0)

    def _check(self, name: str, low: float, high: float, *, open_low: bool = False, finite: bool = True) -> None:
        value: float = getattr(self, name)
        inside = low < value <= high if open_low else low <= value <= high
        if not inside or (finite and math.isinf(value)):
            edge = "above" if open_low else "from"
            raise ValueError(f"{name} is {value!r}; needs a number {edge} {low:g} up to {high:g}")

    @property
    def evidence_a(self) -> float:
        """Current above which a reading is evidence of a current, A."""
        return EVIDENCE_SIGMAS * self.sigma0_a + self.offset_a

    @classmethod
    def for_phase(
        cls,
        spec: PhaseSpec,
        *,
        i_limit_a: float,
        tau_cut_s: float,
        series_ohm: float = 0.0,
        g_max_s: float = math.inf,
        hard_a: float | None = None,
        sigma0_a: float | None = None,
        zero_error_a: float | None = None,
    ) -> DetectorSettings:
        """Settings for one row of the phase table; a commissioned rig gives its own noise and offset, A."""
        return cls(
            hard_a=hard_limit_a(spec, i_limit_a, hard_a),
            limit_a=predict_limit_a(spec, i_limit_a),
            sigma0_a=noise_sigma_a(spec.range_a, spec.nplc) if sigma0_a is None else sigma0_a,
            offset_a=offset_a(spec.range_a, spec.nplc) if zero_error_a is None else zero_error_a,
            tau_cut_s=tau_cut_s,
            g_max_s=g_max_s,
            series_ohm=series_ohm,
        )
