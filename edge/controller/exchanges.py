"""How long exchanges with this unit may take, from its driver's figures: deadlines, and the time that a cut needs.

Where the rig is commissioned, the driver's figures are the 99th percentiles of its profile, else the specifications'.
"""

from __future__ import annotations

from typing import Final

from edge.errors import InstrumentError
from edge.instruments.smu import Smu

DEADLINE_MARGIN_S: Final = 0.020
DEADLINE_MAX_S: Final = 0.150
DEADLINE_LEAST_MARGIN_S: Final = 0.010
"""Between the longest exchange and the deadline; with less, a run would end at its first late tick."""
LONGEST_LEVEL_V: Final = -10.0
"""A level whose message is as long as any."""
CHECK_EVERY: Final = 5
"""Samples between two looks at limit, range or output-off state, one question each time."""
CHECK_WITHIN: Final = 16
"""Samples within which each of them is asked again."""


class Exchanges:
    """Times of one set-up. Plan them anew after every ``configure``; all in ns but :attr:`tau_cut_s`."""

    def __init__(self, smu: Smu) -> None:
        """Take the driver; its figures are read by :meth:`plan`."""
        self._smu = smu
        self.read_ns = 0
        """p99 time of a reading at a level that stands."""
        self.read_deadline_ns = 0
        self.level_deadline_ns = 0
        self.check_deadline_ns = 0

    def plan(self) -> None:
        """Work out all times for the set-up in force; raises InstrumentError where no deadline can be kept."""
        smu = self._smu
        level = smu.level_message(LONGEST_LEVEL_V)
        if not 1 <= len(smu.check_messages) <= CHECK_WITHIN // CHECK_EVERY:
            raise InstrumentError(
                f"{smu.link.transport.name}: the driver wants {len(smu.check_messages)} questions in turn while "
                f"energised; 1 to {CHECK_WITHIN // CHECK_EVERY} come round within {CHECK_WITHIN} samples"
            )
        slowest_s = max(smu.exchange_s(message) for message in (level, *smu.check_messages))
        if slowest_s > DEADLINE_MAX_S - DEADLINE_LEAST_MARGIN_S:
            raise InstrumentError(
                f"{smu.link.transport.name}: a level with its reading takes up to {slowest_s * 1e3:.0f} ms, of which "
                f"{smu.reply_extra_s * 1e3:.0f} ms are the replies' own delay; a reading must be there within "
                f"{DEADLINE_MAX_S * 1e3:.0f} ms. Nothing was energised; raise the baud rate, or shorten the aperture"
            )
        self.read_ns = int(smu.exchange_s(smu.read_message) * 1e9)
        self.level_deadline_ns = self.deadline_ns(level)
        self.read_deadline_ns = self.deadline_ns(smu.read_message)
        self.check_deadline_ns = max(map(self.deadline_ns, smu.check_messages))

    def deadline_ns(self, message: bytes) -> int:
        """Return how long the reply to ``message`` may take before the verdict is STALE."""
        return int(min(1.5 * self._smu.exchange_s(message) + DEADLINE_MARGIN_S, DEADLINE_MAX_S) * 1e9)

    @property
    def tau_cut_s(self) -> float:
        """Time from a surge to 0 V: one sample, the line on the wire, and what a level takes (7-10 ms, or measured)."""
        smu = self._smu
        level = smu.level_message(LONGEST_LEVEL_V)
        return smu.exchange_s(level) + smu.exchange_s(level) - smu.exchange_s(smu.read_message)
