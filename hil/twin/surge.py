"""A surge that somebody chose: a conductance that grows exponentially from an onset on. It proves envelopes.

No sample does this: filaments bridge faster than any reading. It is the one family of surges for which "how fast is
too fast" has an exact answer, which :mod:`edge.guard.envelope` promises and this puts to the test.

From the onset on G(t) = G0 exp((t - t0) / tau), in steps of :data:`STEP`: a step holds the value of its end, so that
the current is never below the law and never more than :data:`STEP` above it. Before, and for good once it is
:data:`MAX_S`, it is constant. It grows with time alone: a bias that is taken away does not stop it, nor does its
return begin anew.
"""

from __future__ import annotations

import math
from typing import Final

from hil.errors import BenchOptionError
from hil.twin.ohmic import ohmic_point
from hil.twin.terminals import LIMIT_A, NEVER_NS, OperatingPoint, SourcedLoad
from hil.twin.truth import TruthRecord

STEP: Final = 0.01
"""Growth of ln G per step."""
MAX_S: Final = 10.0
"""A conductance in S at which it has become a short."""


class SurgeLoad(SourcedLoad):
    """``start_s`` (1e-15..1 S) that grows with time constant ``tau_s`` (1e-6..1e3 s) once :meth:`begin` was called.

    ``limit_a``: what the summary counts as over the limit. The truth record has the onset (``set_onset``), 0 V
    (``safe``), peak, charge and energy from the onset on, as of every load.
    """

    def __init__(
        self,
        tau_s: float,
        *,
        start_s: float = 1e-11,
        series_ohm: float = 0.0,
        truth: TruthRecord | None = None,
        limit_a: float = LIMIT_A,
    ) -> None:
        """Raise BenchOptionError for a number out of range."""
        if not 1e-6 <= tau_s <= 1e3:
            raise BenchOptionError(f"surge of tau {tau_s} s: want 1e-6 to 1e3")
        if not 1e-15 <= start_s <= 1.0:
            raise BenchOptionError(f"surge from {start_s} S: want 1e-15 to 1")
        super().__init__(series_ohm=series_ohm, truth=truth, dose_from_start=False, limit_a=limit_a)
        self.tau_s = tau_s
        self.start_s = start_s
        self.onset_ns: int | None = None
        self._steps = 0
        self._last = math.ceil(math.log(MAX_S / start_s) / STEP)

    def begin(self, t_ns: int) -> None:
        """Let the growth begin at ``t_ns``, not before the time the load has lived to; only the first call counts."""
        if self.onset_ns is not None:
            return
        self.advance(t_ns)
        self._close_segment(t_ns)
        self.onset_ns = t_ns
        self._dosing = True
        self._record(t_ns, "set_onset", self._point.v_tip, self._point.i_a, {"tau_s": self.tau_s})
        self._open_segment(t_ns)
        self.advance(t_ns)

    @property
    def conductance_s(self) -> float:
        """The conductance now, in S."""
        return self.start_s * math.exp(self._steps * STEP)

    @property
    def peak_current_a(self) -> float:
        """Largest \\|I\\| so far, in A."""
        return self._peak_a

    def _operate(self, v_set: float, i_limit_a: float) -> OperatingPoint:
        return ohmic_point(v_set, i_limit_a, self._beside(1 / self.conductance_s), self.series_ohm)

    def _schedule(self, t_ns: int) -> int:
        if self.onset_ns is None or self._steps >= self._last:
            return NEVER_NS
        # Step n holds from t0 + (n - 1) STEP tau on: the value of its end from its beginning.
        return max(t_ns, self.onset_ns + round(self._steps * STEP * self.tau_s * 1e9))

    def _change(self, t_ns: int) -> None:
        del t_ns
        self._steps += 1
