"""What the front end's driver hands out: trips, black boxes, blocks of samples; and what may go wrong with it."""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.errors import InstrumentError, WrongInstrumentError
from firmware_proto.frontend.messages import Reason, Refusal

SURGE_REASONS: Final = frozenset({Reason.HARD, Reason.LEVEL, Reason.JUMP, Reason.RATE, Reason.SATURATED})
"""What the detector saw in the current; all others are about the device, its host or its switch."""
NO_CODE: Final = -32768
"""A sample that the converter did not give."""


class FrontendError(InstrumentError):
    """The front end answered, but not with what is needed."""


class FrontendMismatchError(FrontendError, WrongInstrumentError):
    """A front end of another schema or version: it may be tripped and looked at, never armed."""


class FrontendSilentError(FrontendError):
    """The line is there and says nothing; the front end opens by itself when its lease is over."""


class FrontendRefusedError(FrontendError):
    """The front end does not do what it was asked for; ``why`` is its own word."""

    def __init__(self, message: str, *, why: Refusal) -> None:
        super().__init__(message)
        self.why = why


@dataclasses.dataclass(frozen=True, slots=True)
class Trip:
    """The front end has opened by itself, or was told to; one per ``trip_id``, however often the device says so.

    ``t_ns``: the sample that tripped, CLOCK_MONOTONIC, within ``t_unc_ns``; both 0 while the device's time is unknown.
    ``t_rx_ns``: the report's arrival. ``current_a``: of that sample, NaN where the converter gave none;
    ``threshold_a``: what the reason compares with, NaN where it compares nothing; ``baseline_a``: the running mean
    before it. ``switch_closed``: its pin when the report was made. ``reported``: False while only a STATUS has told of
    it (its report was lost and comes again): times and index are then those of the STATUS, currents NaN. ``box_n``,
    ``box_trip_at``: samples in its black box so far, and where in it this one stands.
    """

    trip_id: int
    reason: Reason
    sample_index: int
    ticks: int
    t_ns: int
    t_unc_ns: int
    t_rx_ns: int
    current_a: float
    threshold_a: float
    baseline_a: float
    switch_closed: bool
    reported: bool
    box_n: int
    box_trip_at: int

    @property
    def surge(self) -> bool:
        """The detector tripped: what a plan that seeks a set looks for."""
        return self.reason in SURGE_REASONS


@dataclasses.dataclass(frozen=True, slots=True)
class BlackBox:
    """What the front end kept around a trip, sample by sample in the order of their times.

    ``trip_at``: index of the sample that tripped. ``current_a``: NaN where the converter gave no code. ``t_unc_ns``:
    half width of the uncertainty of each time against the host's clock; between samples of one box the device's own
    clock is exact to its crystal.
    """

    trip: Trip
    trip_at: int
    t_ns: NDArray[np.int64]
    t_unc_ns: NDArray[np.int64]
    current_a: NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class SampleBlock:
    """Consecutive samples. Current of a code: ``code * current_per_code_a``; NO_CODE is none.

    ``index``, ``ticks``, ``t_ns``: of the first; the others follow every ``step_ns``. ``t_unc_ns``: holds for each of
    them. ``missing``: samples that are missing before it.
    """

    index: int
    ticks: int
    t_ns: int
    t_unc_ns: int
    step_ns: float
    current_per_code_a: float
    missing: int
    codes: NDArray[np.int16]


@dataclasses.dataclass(frozen=True, slots=True)
class MinMaxBlock:
    """Smallest and largest code of each ``decimation`` samples: ``pairs`` of shape (n, 2). Else as SampleBlock.

    ``current_per_code_a`` may be negative: the larger code is then the more negative current. ``t_ns``: of the first
    sample of the first pair; ``step_ns``: from pair to pair.
    """

    index: int
    ticks: int
    t_ns: int
    t_unc_ns: int
    step_ns: float
    decimation: int
    current_per_code_a: float
    missing: int
    pairs: NDArray[np.int16]
