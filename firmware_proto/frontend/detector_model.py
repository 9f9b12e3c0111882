"""The detector of the firmware in integers: what ``firmware/core/tg_detector.c`` does, bit for bit, and the definition.

Per code x (a signed 16-bit integer), with n samples seen before it since the switch closed, baseline b in 1/256 of a
code, c consecutive samples at ``level_code`` or above up to and with x; the first that holds is the reason:

    SATURATED  |x| >= full_scale_code
    HARD       |x| >= hard_code
    JUMP       jump_code > 0, n >= 2**baseline_shift, |256 x - b| >= 256 jump_code, 65536 |x| >= jump_ratio_q8 |b|
    LEVEL      level_code > 0, c >= level_n
    RATE       rate_code > 0, n >= rate_n, |x - x[-rate_n]| >= rate_code

Then, whatever held, b = 256 x if n was 0, else b += (256 x - b) >> baseline_shift, rounded towards minus infinity.
No test of :class:`Detector` keeps state of its own beside n, b, c and the last 32 codes. :class:`BlockDetector` says
the same of whole blocks (tests hold the two and the C code together); it is what a host replays a stream with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from firmware_proto.errors import LocalProtocolError
from firmware_proto.frontend.messages import Config, Reason

RING: Final = 32
"""Codes that RATE can look back, as TG_RATE_RING in C."""
SHIFT_MAX: Final = 12

Codes = npt.NDArray[np.int16]


class ModelError(LocalProtocolError):
    """Limits that no front end would take; the message names the one and its bounds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the tests compare with, in codes (0..32767; 0 in a ``*_code``: test off, but ``hard_code`` is 1 or more).

    ``level_n`` 1..255 samples, ``jump_ratio_q8`` 0..65535 in 1/256, ``baseline_shift`` 0..12, ``rate_n`` 1..32
    samples, ``full_scale_code`` 1..32767. Raises ModelError outside of that.
    """

    full_scale_code: int
    hard_code: int
    level_code: int = 0
    level_n: int = 1
    jump_code: int = 0
    jump_ratio_q8: int = 0
    baseline_shift: int = 0
    rate_code: int = 0
    rate_n: int = 1

    def __post_init__(self) -> None:
        bounds = {
            "full_scale_code": (1, 32767),
            "hard_code": (1, self.full_scale_code),
            "level_code": (0, 32767),
            "level_n": (1, 255),
            "jump_code": (0, 32767),
            "jump_ratio_q8": (0, 65535),
            "baseline_shift": (0, SHIFT_MAX),
            "rate_code": (0, 65535),
            "rate_n": (1, RING),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ModelError(f"detector {name} = {value}: expected {low} to {high}")

    @classmethod
    def of(cls, config: Config, full_scale_code: int) -> Limits:
        """Return what a device of ``full_scale_code`` judges by under ``config``. Raises ModelError."""
        return cls(
            full_scale_code=full_scale_code,
            hard_code=config.hard_code,
            level_code=config.level_code,
            level_n=config.level_n,
            jump_code=config.jump_code,
            jump_ratio_q8=config.jump_ratio_q8,
            baseline_shift=config.baseline_shift,
            rate_code=config.rate_code,
            rate_n=config.rate_n,
        )


class Detector:
    """One sample at a time; pure, deterministic, O(1)."""

    def __init__(self, limits: Limits) -> None:
        """Know nothing of earlier samples, as after ARM."""
        self.limits = limits
        self.seen = 0
        self.baseline_q8 = 0
        self.level_run = 0
        self._ring: deque[int] = deque(maxlen=RING)

    @property
    def baseline(self) -> int:
        """The baseline in whole codes, rounded down, as TRIP_REPORT has it before the sample that tripped."""
        return self.baseline_q8 >> 8

    def step(self, code: int) -> Reason:
        """Take the next ``code``; return NONE or the first reason that holds."""
        limits = self.limits
        size = abs(code)
        self.level_run = self.level_run + 1 if limits.level_code and size >= limits.level_code else 0
        if size >= limits.full_scale_code:
            reason = Reason.SATURATED
        elif size >= limits.hard_code:
            reason = Reason.HARD
        elif self._jumps(code):
            reason = Reason.JUMP
        elif limits.level_code and self.level_run >= limits.level_n:
            reason = Reason.LEVEL
        elif self._rises(code):
            reason = Reason.RATE
        else:
            reason = Reason.NONE
        if self.seen:
            self.baseline_q8 += (256 * code - self.baseline_q8) >> limits.baseline_shift
        else:
            self.baseline_q8 = 256 * code
        self._ring.append(code)
        self.seen += 1
        return reason

    def _jumps(self, code: int) -> bool:
        limits, b = self.limits, self.baseline_q8
        return (
            limits.jump_code > 0
            and self.seen >= 1 << limits.baseline_shift
            and abs(256 * code - b) >= 256 * limits.jump_code
            and 65536 * abs(code) >= limits.jump_ratio_q8 * abs(b)
        )

    def _rises(self, code: int) -> bool:
        limits = self.limits
        if not limits.rate_code or self.seen < limits.rate_n:
            return False
        return abs(code - self._ring[-limits.rate_n]) >= limits.rate_code


class Crossing(NamedTuple):
    """The first sample of a block that trips: its place in the block, why, and the baseline before it in codes."""

    at: int
    reason: Reason
    baseline: int


class BlockDetector:
    """The same detector over blocks of a stream, in whatever pieces they come."""

    def __init__(self, limits: Limits) -> None:
        """Know nothing of earlier samples."""
        self.limits = limits
        self.seen = 0
        self.baseline_q8 = 0
        self.level_run = 0
        self._tail: npt.NDArray[np.int32] = np.empty(0, np.int32)

    def feed(self, codes: Codes | Sequence[int]) -> Crossing | None:
        """Take a block; return the first crossing in it, or None. The state afterwards is that behind the block."""
        x = np.asarray(codes, np.int32)
        if not x.size:
            return None
        if self._calm(x):
            # Most blocks of a stream; a tenth of the work.
            b, shift = self.baseline_q8 if self.seen else 256 * int(x[0]), self.limits.baseline_shift
            for code in (x * 256).tolist():
                b += (code - b) >> shift
            self.baseline_q8, self.level_run = b, 0
            crossing = None
        else:
            crossing = self._first(x)
        self.seen += x.size
        self._tail = x[-RING:].copy() if x.size >= RING else np.concatenate((self._tail, x))[-RING:]
        return crossing

    def _calm(self, x: npt.NDArray[np.int32]) -> bool:
        """Whether the block's extremes alone say that no test holds anywhere in it."""
        limits = self.limits
        low, high = int(x.min()), int(x.max())
        peak = max(-low, high)
        if peak >= limits.hard_code or 0 < limits.level_code <= peak:
            return False
        if limits.jump_code:
            # The baseline never leaves the range of what it has seen.
            b = self.baseline_q8 if self.seen else 256 * low
            if max(256 * high - min(b, 256 * low), max(b, 256 * high) - 256 * low) >= 256 * limits.jump_code:
                return False
        if limits.rate_code:
            tail = self._tail
            if tail.size:
                low, high = min(low, int(tail.min())), max(high, int(tail.max()))
            return high - low < limits.rate_code
        return True

    def _first(self, x: npt.NDArray[np.int32]) -> Crossing | None:
        limits, seen = self.limits, self.seen
        size = np.abs(x)
        before = self._baselines(x)
        first: list[tuple[int, int, Reason]] = []

        def note(rank: int, where: npt.NDArray[np.bool_], reason: Reason, begin: int = 0) -> None:
            if where.size and where[at := int(where.argmax())]:
                first.append((begin + at, rank, reason))

        note(0, size >= limits.full_scale_code, Reason.SATURATED)
        note(1, size >= limits.hard_code, Reason.HARD)
        if limits.jump_code and (begin := max(0, (1 << limits.baseline_shift) - seen)) < x.size:
            b, late = before[begin:], x[begin:].astype(np.int64)
            far = np.abs(256 * late - b) >= 256 * limits.jump_code
            note(2, far & (65536 * np.abs(late) >= limits.jump_ratio_q8 * np.abs(b)), Reason.JUMP, begin)
        if limits.level_code:
            note(3, self._level_runs(size >= limits.level_code) >= limits.level_n, Reason.LEVEL)
        if limits.rate_code and (begin := max(0, limits.rate_n - seen)) < x.size:
            whole = np.concatenate((self._tail, x))
            now = whole[self._tail.size + begin :]
            then = whole[self._tail.size + begin - limits.rate_n : whole.size - limits.rate_n]
            note(4, np.abs(now - then) >= limits.rate_code, Reason.RATE, begin)
        if not first:
            return None
        at, _, reason = min(first)
        return Crossing(at, reason, int(before[at]) >> 8)

    def _baselines(self, x: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Return the baseline before each sample. The rounding of each step hangs on the one before: no closed form."""
        shift = self.limits.baseline_shift
        scaled = (x * 256).tolist()
        if self.seen:
            run = list(accumulate(scaled, lambda b, code: b + ((code - b) >> shift), initial=self.baseline_q8))
        else:
            # The first sample is the baseline, so its own step changes nothing.
            run = [0, *accumulate(scaled, lambda b, code: b + ((code - b) >> shift))]
        self.baseline_q8 = run.pop()
        return np.array(run, np.int64)

    def _level_runs(self, high: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Return how many samples in a row are high, up to and with each."""
        places = np.arange(1, high.size + 1)
        lows = np.maximum.accumulate(np.where(high, 0, places))
        # A run that no low sample of this block has ended goes on from the block before.
        runs: npt.NDArray[np.int64] = places - lows + np.where(lows == 0, self.level_run, 0)
        self.level_run = int(runs[-1])
        return runs
