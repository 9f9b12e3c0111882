"""The front end's detector once more, on the host: a crossing that it let pass says that it does not do its work.

Fed with what the device streams while it is armed, with the limits that it said are in force. Of every sample the whole
detector is repeated, bit for bit as the firmware has it; of pairs of smallest and largest what needs no more than one
sample: HARD and SATURATED. Pure; no clock.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np

from edge.instruments.frontend_values import NO_CODE, MinMaxBlock, SampleBlock
from firmware_proto.frontend.detector_model import BlockDetector, Limits
from firmware_proto.frontend.messages import Reason

GRACE_BLOCKS: Final = 2
"""Frames of pairs behind the one with the crossing in which its report must have come; it overtakes all of them."""
GRACE_SAMPLES: Final = 500
"""The same of every sample: a frame holds up to 245."""
SETTLED: Final = 8
"""Time constants of the running mean, until what came before a gap, or an arming, no longer matters: one in 3000."""


class CrossingWatch:
    """One arming of one device."""

    def __init__(self, limits: Limits, armed_index: int) -> None:
        """``armed_index``: number of a sample that the device judged, as its STATUS said when it armed.

        It may have judged some before it: so the mean is believed only once they no longer count.
        """
        self._limits = limits
        # Until the mean is known: it is carried along all the same.
        self._unsettled = dataclasses.replace(limits, jump_code=0)
        self._detector = BlockDetector(self._unsettled)
        self._from = armed_index
        self.crossed: tuple[int, Reason] | None = None
        """The first sample that must have tripped, and why."""
        self._blocks_since = 0
        self._seen_to = 0

    @property
    def let_pass(self) -> bool:
        """The report of a crossing is overdue."""
        if self.crossed is None:
            return False
        return self._blocks_since > GRACE_BLOCKS or self._seen_to - self.crossed[0] > GRACE_SAMPLES

    def samples(self, block: SampleBlock) -> None:
        """Look at every sample of a block."""
        self._seen_to = block.index + len(block.codes)
        if self.crossed is not None:
            return
        skip = max(0, self._from - block.index)
        codes = block.codes[skip:]
        if not len(codes):
            return
        if block.missing:
            self._detector = BlockDetector(self._unsettled)
        lost = np.flatnonzero(codes == NO_CODE)
        if len(lost):
            # A sample without a code is a trip of its own; what the detector then knows is the device's affair.
            codes = codes[: lost[0]]
        if self._detector.seen >= SETTLED << self._limits.baseline_shift:
            self._detector.limits = self._limits
        found = self._detector.feed(codes)
        if found is not None:
            self.crossed = block.index + skip + found.at, found.reason

    def minmax(self, block: MinMaxBlock) -> None:
        """Look at the extremes."""
        if self.crossed is not None:
            self._blocks_since += 1
            return
        # A row that begins before the arming holds samples of an open switch, which cross nothing.
        size = np.abs(np.where(block.pairs == NO_CODE, 0, block.pairs).astype(np.int32)).max(axis=1)
        limits = self._limits
        over = size >= min(limits.hard_code, limits.full_scale_code)
        if over.any():
            at = int(over.argmax())
            reason = Reason.SATURATED if size[at] >= limits.full_scale_code else Reason.HARD
            self.crossed = block.index + at * block.decimation, reason
