"""One reading of the source-measure unit, and what may be wrong with it."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Flag(enum.IntFlag):
    """What is wrong with a sample. Values are frozen: they travel in frames.

    A reading that cannot be trusted is a flag, never a number: with OVERFLOW, NOT_MEASURED or UNPARSABLE set,
    ``current_a`` is NaN.
    """

    NONE = 0
    OVERFLOW = 1 << 0
    """The instrument sent +9.9E37 (Keithley 2400 User's Manual 18-49)."""
    NOT_MEASURED = 1 << 1
    """The instrument sent +9.91E37, its not-a-number."""
    UNPARSABLE = 1 << 2
    """The reply was not a reading."""
    COMPLIANCE = 1 << 3
    """Real compliance: the unit clamps at the programmed limit (status bit 3)."""
    RANGE_COMPLIANCE = 1 << 4
    """Range compliance: the unit clamps at 105 % of the fixed measure range (status bit 16)."""
    BIAS_NOT_HELD = 1 << 5
    """In compliance the set bias is not held: ``bias_v`` is the programmed level, not the tip's."""
    AFTER_GAP = 1 << 6
    """First sample after a range change, an autozero or a pause: its innovation is skipped, hard tests are not."""


UNTRUSTED = Flag.OVERFLOW | Flag.NOT_MEASURED | Flag.UNPARSABLE
IN_COMPLIANCE = Flag.COMPLIANCE | Flag.RANGE_COMPLIANCE


class Phase(enum.IntEnum):
    """What a plan is doing when a sample is taken. Values are frozen: they travel in frames."""

    IDLE = 0
    SEEK = 1
    """Set, trigger search: every surge test runs."""
    RESET = 2
    LRS_READ = 3
    """Low-resistance read: 0 -> +-20 mV -> 0 after a re-arm."""
    HRS_READ = 4
    CELL = 5
    CUT = 6
    """Readings taken while a planned cut waits for the current to fall."""


class Sample(NamedTuple):
    """One reading.

    ``t_ns``: middle of the aperture, CLOCK_MONOTONIC. ``t_unc_ns``: half width of its uncertainty.
    ``t_rx_ns``: arrival of the reading's last byte. ``bias_v``: programmed level, tip against Li/Li+, plating
    negative, -10..10. ``current_a``: measured, same sign convention, NaN when untrusted. ``flags``: bits of
    :class:`Flag`. ``phase``: a :class:`Phase`.
    """

    t_ns: int
    t_unc_ns: int
    t_rx_ns: int
    bias_v: float
    current_a: float
    flags: int
    phase: int
