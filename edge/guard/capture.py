"""The setting event: what was seen around a trip, with the definitions a paper needs.

:class:`Capture` keeps the last ``pre_s`` of samples at O(1) a sample; a trip marks the newest one; samples go on being
collected until ``post_s`` after it; :meth:`Capture.build` then makes the :class:`SettingEvent`, off the hot path.

**Onset** is the first sample of the contiguous run, ending at the judged sample, whose conductance stands at least
half a decade above the baseline the detector judged against. Half a decade: above telegraph noise (40 % is 0.22
decade), below the 0.7 decade every surge verdict needs, so that the judged sample is always part of its own run.
A reading that is no evidence of a current is never part of a run: near 0 V the noise alone has any conductance. So
nucleation lies after the last sample before the onset and no later than the onset sample, and the trigger bias is
that interval. Readings without a number, and readings after a gap that show nothing, neither extend nor end a run.
"""

from __future__ import annotations

import math
import statistics
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.guard.verdicts import Verdict
from edge.samples import IN_COMPLIANCE, UNTRUSTED, Flag, Sample

ONSET_DECADES = 0.5
MAX_SAMPLES = 8192
"""Samples kept on either side of a trip: 40 s at 200 S/s, and an event document well below 1 MiB."""
MIN_BIAS_V = 1e-4
"""Conductances are formed with at least this |V|."""
FALLBACK_SAMPLES = 2
"""Without a baseline from the detector, the median of all but the last two samples stands in for it."""

_SATURATED = Flag.OVERFLOW | IN_COMPLIANCE
_COLUMNS = (
    ("t_ns", "<i8", "q", "ns"),
    ("t_unc_ns", "<u4", "I", "ns"),
    ("t_rx_ns", "<i8", "q", "ns"),
    ("bias_v", "<f8", "d", "V"),
    ("current_a", "<f8", "d", "A"),
    ("flags", "<u2", "H", ""),
    ("phase", "<u1", "B", ""),
)
"""name, dtype, struct code, unit; the columns of a published "samples" frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingEvent:
    """One setting event. Undefined numbers are None, never NaN. ``samples`` is the waveform, oldest first.

    ``index``: the judged sample; ``onset_index``: see the module; ``onset_found`` False: the judged sample itself
    stands in (an operator's stop, a lost link).
    ``trigger_bias_v`` +- ``trigger_half_v``: bias between the last trusted sample before the onset and the onset
    sample, V, tip against Li/Li+, less ``trigger_ir_v``: what the series resistor took of it, from the pre-onset
    current, 0 where that current is in the noise. All None when there is no sample before the onset.
    ``set_current_a``: the onset sample's reading, A; None if it has no number. ``set_current_clamped``: saturated, so
    a lower bound.
    ``charge_c``, ``energy_j``: from the onset sample to the first trusted reading back in the noise after the judged
    one, or to the last sample; trapezoid over trusted samples; |charge|, C, and energy at the programmed bias, J (the
    series resistor's share included; an upper bound where the bias was not held).
    ``charge_is_lower_bound``: a reading in between has no number or is saturated, or the current was not seen to end.
    ``reading_ns`` (last byte), ``decided_ns``, ``written_ns``, ``verified_ns``: CLOCK_MONOTONIC, ns, or None.
    ``context``: position, site, hashes; passed through.
    """

    verdict: Verdict
    index: int
    onset_index: int
    onset_found: bool
    trigger_bias_v: float | None
    trigger_half_v: float | None
    trigger_ir_v: float | None
    set_current_a: float | None
    set_current_clamped: bool
    charge_c: float
    energy_j: float
    charge_is_lower_bound: bool
    reading_ns: int | None
    decided_ns: int | None
    written_ns: int | None
    verified_ns: int | None
    samples: tuple[Sample, ...]
    context: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Plain scalars for logs, status and tables; latencies in s, None where a time is not known."""
        onset = self.samples[self.onset_index]
        return {
            "verdict": self.verdict.value,
            "phase": int(self.samples[self.index].phase),
            "onset_found": self.onset_found,
            "onset_ns": onset.t_ns,
            "trigger_bias_v": self.trigger_bias_v,
            "trigger_half_v": self.trigger_half_v,
            "trigger_ir_v": self.trigger_ir_v,
            "set_current_a": self.set_current_a,
            "set_current_clamped": self.set_current_clamped,
            "charge_c": self.charge_c,
            "energy_j": self.energy_j,
            "charge_is_lower_bound": self.charge_is_lower_bound,
            "samples_to_verdict": self.index - self.onset_index + 1,
            "decide_s": _span_s(self.reading_ns, self.decided_ns),
            "write_s": _span_s(self.decided_ns, self.written_ns),
            "verify_s": _span_s(self.written_ns, self.verified_ns),
        }

    def to_doc(self) -> dict[str, Any]:
        """A map for msgpack: the summary, indices, times in ns, context, and the waveform as columns.

        ``cols`` is as in a published frame: name -> {"dtype", "unit", "data"}, little-endian, n values each.
        """
        return {
            **self.summary(),
            "index": self.index,
            "onset_index": self.onset_index,
            "reading_ns": self.reading_ns,
            "decided_ns": self.decided_ns,
            "written_ns": self.written_ns,
            "verified_ns": self.verified_ns,
            "context": dict(self.context),
            "n": len(self.samples),
            "cols": _columns(self.samples),
        }


class Capture:
    """Collects the samples of one arming. ``push`` is on the hot path; ``build`` is not."""

    def __init__(self, *, pre_s: float, post_s: float) -> None:
        """Keep ``pre_s`` before a trip and ``post_s`` after it, s, 0 or more; at most MAX_SAMPLES on either side.

        Raises ValueError for a negative or non-finite time.
        """
        for name, value in (("pre_s", pre_s), ("post_s", post_s)):
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} is {value!r}; needs a finite time of 0 s or more")
        self._pre_ns = round(pre_s * 1e9)
        self._post_ns = round(post_s * 1e9)
        self._before: deque[Sample] = deque(maxlen=MAX_SAMPLES)
        self._after: list[Sample] = []
        self.reset()

    def reset(self, *, evidence_a: float = 0.0, series_ohm: float = 0.0) -> None:
        """Forget all samples and any trip; to be called on arming.

        ``evidence_a``: current that counts as one (``DetectorSettings.evidence_a``), A. ``series_ohm``: declared.
        """
        self._before.clear()
        self._after.clear()
        self._evidence_a = evidence_a
        self._series_ohm = series_ohm
        self._verdict: Verdict | None = None
        self._reference_s = math.nan
        self._context: Mapping[str, Any] = {}
        self._end_ns = 0
        self._complete = False

    @property
    def tripped(self) -> bool:
        """A trip is marked."""
        return self._verdict is not None

    @property
    def complete(self) -> bool:
        """Everything until ``post_s`` after the trip has been seen (or as much as is kept)."""
        return self._complete

    def push(self, sample: Sample) -> None:
        """Take one sample; O(1)."""
        if self._verdict is None:
            self._before.append(sample)
        elif not self._complete:
            if sample.t_ns > self._end_ns or len(self._after) >= MAX_SAMPLES:
                self._complete = True
            else:
                self._after.append(sample)

    def trip(
        self,
        verdict: Verdict,
        *,
        reference_s: float = math.nan,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        """Mark the newest sample as the judged one. A second trip changes nothing: the first is the event.

        ``reference_s``: ``Detector.reference_s(verdict)``, S; NaN: the median of what was seen stands in.
        ``context``: position, site, hashes; only plain values that msgpack takes.
        """
        if self._verdict is not None:
            return
        self._verdict = verdict
        self._reference_s = reference_s
        self._context = context if context is not None else {}
        newest = self._before[-1].t_ns if self._before else 0
        self._end_ns = newest + self._post_ns

    def build(
        self,
        *,
        reading_ns: int | None = None,
        decided_ns: int | None = None,
        written_ns: int | None = None,
        verified_ns: int | None = None,
    ) -> SettingEvent | None:
        """Return the event of the marked trip with what has been collected so far; None without trip or samples.

        ``reading_ns`` defaults to the arrival of the judged sample.
        """
        if self._verdict is None or not self._before:
            return None
        judged = self._before[-1]
        before = [s for s in self._before if s.t_ns >= judged.t_ns - self._pre_ns] or [judged]
        index = len(before) - 1
        onset, found = self._onset(before)
        bias, half, ir = self._trigger(before, onset)
        samples = (*before, *self._after)
        charge, energy, bound = self._dose(samples, onset, index)
        first = samples[onset]
        return SettingEvent(
            verdict=self._verdict,
            index=index,
            onset_index=onset,
            onset_found=found,
            trigger_bias_v=bias,
            trigger_half_v=half,
            trigger_ir_v=ir,
            set_current_a=first.current_a if _trusted(first) else None,
            set_current_clamped=bool(first.flags & _SATURATED),
            charge_c=charge,
            energy_j=energy,
            charge_is_lower_bound=bound,
            reading_ns=judged.t_rx_ns if reading_ns is None else reading_ns,
            decided_ns=decided_ns,
            written_ns=written_ns,
            verified_ns=verified_ns,
            samples=samples,
            context=self._context,
        )

    def _onset(self, before: Sequence[Sample]) -> tuple[int, bool]:
        reference = self._reference_s
        if not math.isfinite(reference):
            seen = [_conductance_s(s) for s in before[:-FALLBACK_SAMPLES] if _trusted(s)]
            reference = statistics.median(seen) if seen else math.inf
        least = reference * 10.0**ONSET_DECADES
        onset = len(before) - 1
        found = False
        for index in range(len(before) - 1, -1, -1):
            s = before[index]
            if s.flags & _SATURATED or (
                _trusted(s) and abs(s.current_a) > self._evidence_a and _conductance_s(s) >= least
            ):
                onset, found = index, True
            elif _trusted(s) and not s.flags & Flag.AFTER_GAP:
                break
        return onset, found

    def _trigger(self, before: Sequence[Sample], onset: int) -> tuple[float | None, float | None, float | None]:
        for index in range(onset - 1, -1, -1):
            pre = before[index]
            if _trusted(pre) and not pre.flags & Flag.AFTER_GAP:
                ir = pre.current_a * self._series_ohm if abs(pre.current_a) > self._evidence_a else 0.0
                after_v = before[onset].bias_v
                return 0.5 * (pre.bias_v + after_v) - ir, 0.5 * abs(after_v - pre.bias_v), ir
        return None, None, None

    def _dose(self, samples: Sequence[Sample], onset: int, index: int) -> tuple[float, float, bool]:
        charge = energy = 0.0
        bound = False
        last: Sample | None = None
        ended = False
        for number in range(onset, len(samples)):
            s = samples[number]
            bound = bound or bool(s.flags & _SATURATED) or not _trusted(s)
            if not _trusted(s):
                continue
            if last is not None:
                dt_s = (s.t_ns - last.t_ns) * 1e-9
                charge += 0.5 * (s.current_a + last.current_a) * dt_s
                energy += 0.5 * (s.current_a * s.bias_v + last.current_a * last.bias_v) * dt_s
            last = s
            if number > index and abs(s.current_a) <= self._evidence_a:
                ended = True
                break
        return abs(charge), energy, bound or not ended


def _trusted(s: Sample) -> bool:
    """The reading is a number. In compliance it is one too: the clamp's."""
    return not s.flags & UNTRUSTED and math.isfinite(s.current_a) and math.isfinite(s.bias_v)


def _conductance_s(s: Sample) -> float:
    return abs(s.current_a) / max(abs(s.bias_v), MIN_BIAS_V)


def _span_s(start_ns: int | None, end_ns: int | None) -> float | None:
    return None if start_ns is None or end_ns is None else (end_ns - start_ns) * 1e-9


def _columns(samples: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    n = len(samples)
    cols: dict[str, dict[str, Any]] = {}
    for position, (name, dtype, code, unit) in enumerate(_COLUMNS):
        values = [s[position] for s in samples]
        if name == "t_unc_ns":
            values = [min(int(value), 0xFFFFFFFF) for value in values]
        cols[name] = {"dtype": dtype, "unit": unit, "data": struct.pack(f"<{n}{code}", *values)}
    return cols
