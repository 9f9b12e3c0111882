"""The guard: looks at every sample, knows the state, decides. It decides only; the engine writes the bytes.

Pure and synchronous: no clock, no I/O. :meth:`Guard.observe` is the hot path's heart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from edge.config import EventConfig, Limits
from edge.guard.capture import Capture, SettingEvent
from edge.guard.detector import Detector
from edge.guard.phases import PhaseSpec, phase_spec, prot_a, read_on
from edge.guard.states import Cause, State, StateMachine
from edge.guard.thresholds import DetectorSettings
from edge.guard.verdicts import PLANNED_IN_SEEK, Verdict
from edge.samples import Phase, Sample

_PLANNED_IN_SEEK: Final = tuple(PLANNED_IN_SEEK)
"""A tuple compares its few members by identity; a set would ask the verdict for its hash, which is Python."""


class Guard:
    """State machine, phase table, detector and event capture of one rig."""

    def __init__(self, limits: Limits, *, series_ohm: float, event: EventConfig) -> None:
        """Start in UNKNOWN; nothing is armed."""
        self.machine = StateMachine()
        self._limits = limits
        self._series_ohm = series_ohm
        self._capture = Capture(pre_s=event.pre_s, post_s=event.post_s)
        self.spec: PhaseSpec | None = None
        self.phase = Phase.IDLE
        self.floor_a = 0.0
        self.context: Mapping[str, Any] = {}
        """What events are about: site, position; plain values. Goes into every setting event."""
        self._detector: Detector | None = None
        self._cut_detector: Detector | None = None
        self._settings: DetectorSettings | None = None

    @property
    def state(self) -> State:
        """The present state."""
        return self.machine.state

    def spec_for(self, phase: Phase, v_max_v: float, range_a: float | None = None) -> PhaseSpec:
        """Return the row of the phase table for a plan whose largest \\|bias\\| is ``v_max_v`` (V).

        ``range_a``: for a high-resistance read on another range. Raises ValueError where there is no such setting.
        """
        return phase_spec(phase, v_max_v) if range_a is None else read_on(phase, v_max_v, range_a)

    def protection_a(self, spec: PhaseSpec) -> float:
        """Return the compliance of a phase, in A: never above ``limits.current_a`` nor the nominal range."""
        return prot_a(spec, self._limits.current_a)

    def arm(self, spec: PhaseSpec, tau_cut_s: float) -> None:
        """Go ARMED: the instrument's limits were read back for ``spec``. ``tau_cut_s``: p99 cut latency + a sample."""
        self.machine.move(Cause.LIMITS_READ_BACK)
        settings = DetectorSettings.for_phase(
            spec,
            i_limit_a=self._limits.current_a,
            tau_cut_s=tau_cut_s,
            series_ohm=self._series_ohm,
            g_max_s=self._limits.conductance_s or math.inf,
            hard_a=self._limits.hard_limit_a,
        )
        self.spec = spec
        self.phase = spec.phase
        self.floor_a = settings.evidence_a
        self._settings = settings
        self._begin(spec, settings)

    def _begin(self, spec: PhaseSpec, settings: DetectorSettings) -> None:
        self._detector = Detector(settings, spec.tests)
        self._cut_detector = Detector(settings, phase_spec(Phase.CUT, 0.0).tests)
        self._capture.reset(evidence_a=settings.evidence_a, series_ohm=self._series_ohm)

    def hold(self) -> None:
        """A planned cut stands at 0 V, seen to be without current: ENERGISED again, and judged from the beginning."""
        self.machine.move(Cause.HELD_AT_ZERO)
        if self.spec is not None and self._settings is not None:
            self._begin(self.spec, self._settings)

    def observe(self, sample: Sample) -> Verdict | None:
        """Look at one sample; None, or why the bias must go. The caller cuts before it does anything else."""
        detector = self._detector
        if detector is None:
            return Verdict.OUTPUT_CHANGED
        verdict = detector.step(sample)
        self._capture.push(sample)
        return verdict

    def observe_cut(self, sample: Sample) -> Verdict | None:
        """Look at a reading taken while a planned cut waits for the current to fall."""
        detector = self._cut_detector
        if detector is None:
            return Verdict.OUTPUT_CHANGED
        verdict = detector.step(sample)
        self._capture.push(sample)
        return verdict

    def planned(self, verdict: Verdict) -> bool:
        """Tell whether ``verdict`` ends what is energised as planned, rather than as protection."""
        return self.phase is Phase.SEEK and verdict in _PLANNED_IN_SEEK and self.machine.state is State.ENERGISED

    @property
    def seeks(self) -> bool:
        """A trigger search is ENERGISED: a surge that something else than the SMU sees ends it as planned, too."""
        return self.phase is Phase.SEEK and self.machine.state is State.ENERGISED

    def tripped(self, verdict: Verdict) -> None:
        """Mark the newest sample as the one that was judged; the event is built from here."""
        detector = self._detector
        reference_s = math.nan if detector is None else detector.reference_s(verdict)
        self._capture.trip(verdict, reference_s=reference_s, context=self.context)

    def event(self, **times_ns: int | None) -> SettingEvent | None:
        """Build the event of the last trip, or None without samples. Not for the hot path."""
        return self._capture.build(**times_ns)

    def snapshot(self) -> dict[str, Any]:
        """Return what status documents show."""
        return {
            "state": self.state.value,
            "phase": self.phase.name,
            "protective": self.machine.protective,
        }
