"""Sweeps and lists of the emulated 2400: how they are set, and the levels they make.

Sources: User's Manual 10-2 to 10-13, 18-83 to 18-93. The manual does not say what it leaves open here, and the reading
that is worst for a client was taken each time:

* after the last point, and after an abort on compliance, the output stays on at the level of the last point, while
  ``:SOUR:VOLT?`` still tells the programmed one (the bias level of figure 10-1);
* a step that points away from the stop, or is larger than the span, is refused with -221, not corrected; where start
  or stop are set behind the step, the sweep does not start.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from hil.devices.keithley2400.errors import OUT_OF_RANGE, SETTINGS_CONFLICT, TOO_MUCH_DATA, RefusedError

MAX_POINTS: Final = 2500
LIST_CHUNK: Final = 100
"""Most values of one ``:SOUR:LIST:...`` command (User's Manual 18-91)."""
_SLACK: Final = 1e-9


class SourceMode(enum.Enum):
    """``:SOUR:VOLT:MODE``, by its reply."""

    FIXED = "FIX"
    SWEEP = "SWE"
    LIST = "LIST"


class Ranging(enum.Enum):
    """``:SOUR:SWE:RANG``: one range for all points, the best for each, or the present one, which clips."""

    BEST = "BEST"
    AUTO = "AUTO"
    FIXED = "FIX"


class ComplianceAbort(enum.Enum):
    """``:SOUR:SWE:CAB``: at the beginning of a source-delay-measure cycle, at its end, or not at all."""

    NEVER = "NEV"
    EARLY = "EARL"
    LATE = "LATE"


@dataclass(slots=True)
class Shape:
    """What one source sweeps, in V or A. ``step`` is None while ``:SOUR:SWE:POIN`` was the last to be set."""

    start: float = 0.0
    stop: float = 0.0
    step: float | None = None
    values: tuple[float, ...] = (0.0,)
    first: int = 1
    """Where a list begins, from 1 (18-93)."""

    @property
    def center(self) -> float:
        """Middle of start and stop."""
        return (self.start + self.stop) / 2

    @property
    def span(self) -> float:
        """Stop minus start."""
        return self.stop - self.start

    def place(self, center: float, span: float, largest: float) -> None:
        """Set start and stop by their middle and distance; refuse -222 where one would be above ``largest``."""
        start, stop = center - span / 2, center + span / 2
        if max(abs(start), abs(stop)) > largest:
            raise RefusedError(OUT_OF_RANGE)
        self.start, self.stop = start, stop

    def set_step(self, step: float) -> None:
        """Take a step; refuse -221 one that cannot lead from start to stop, or in more than 2500 points."""
        if step == 0.0:
            self.step = None
            return
        if not self._leads(step) or (self.span and self.span / step > MAX_POINTS - 0.5):
            raise RefusedError(SETTINGS_CONFLICT)
        self.step = step

    def _leads(self, step: float) -> bool:
        """Whether a step goes from start towards stop and not beyond it."""
        return self.span == 0.0 or self.span / step >= 1 - _SLACK

    def points(self, wanted: int) -> int:
        """Return the number of points: from the step if one is set, else ``wanted``."""
        if self.step is None or self.span == 0.0:
            return wanted
        return max(2, math.floor(min(MAX_POINTS - 1, abs(self.span / self.step)) + _SLACK) + 1)

    def check(self) -> None:
        """Refuse -221 a step that does not lead from start to stop."""
        if self.step is not None and not self._leads(self.step):
            raise RefusedError(SETTINGS_CONFLICT)

    def append(self, values: Sequence[float]) -> None:
        """Add values to the list; refuse -223 more than 2500."""
        if len(self.values) + len(values) > MAX_POINTS:
            raise RefusedError(TOO_MUCH_DATA)
        self.values += tuple(values)


@dataclass(slots=True)
class Sweep:
    """What both sources share."""

    points: int = MAX_POINTS
    logarithmic: bool = False
    ranging: Ranging = Ranging.BEST
    down: bool = False
    abort: ComplianceAbort = ComplianceAbort.NEVER


def staircase(shape: Shape, sweep: Sweep) -> tuple[float, ...]:
    """Return the levels of a sweep from start to stop, both included, in its direction.

    With a step that does not divide the span the last point is the last whole step before the stop.

    Raises:
        RefusedError: -221, a logarithmic sweep that begins or ends at zero or crosses it, or a step that leads nowhere.
    """
    if sweep.logarithmic:
        if shape.start * shape.stop <= 0.0:
            raise RefusedError(SETTINGS_CONFLICT)
        count = sweep.points
        # In logarithms: the ratio of stop and start itself may be too large for a number.
        first, last = math.log(abs(shape.start)), math.log(abs(shape.stop))
        decades = [first + (last - first) * index / (count - 1) for index in range(count)]
        levels = [math.copysign(math.exp(exponent), shape.start) for exponent in decades]
        levels[0] = shape.start
        levels[-1] = shape.stop
    else:
        shape.check()
        count = shape.points(sweep.points)
        step = shape.span / (count - 1) if shape.step is None or shape.span == 0.0 else shape.step
        levels = [shape.start + index * step for index in range(count)]
        if shape.step is None or math.isclose(levels[-1], shape.stop, abs_tol=abs(step) * _SLACK):
            levels[-1] = shape.stop
    if sweep.down:
        levels.reverse()
    low, high = min(shape.start, shape.stop), max(shape.start, shape.stop)
    return tuple(max(low, min(high, level)) for level in levels)


def custom(shape: Shape, sweep: Sweep) -> tuple[float, ...]:
    """Return the levels of a list from its start point on, going round; backwards from the last one when DOWN."""
    if sweep.down:
        return shape.values[::-1]
    first = shape.first - 1
    return shape.values[first:] + shape.values[:first]


@dataclass(slots=True)
class SourceExtras:
    """What a source has beside level and range: its mode, its sweep, and what holds the terminals now."""

    mode: SourceMode = SourceMode.FIXED
    shape: Shape = field(default_factory=Shape)
    swept: float | None = None
    """The level that a sweep left at the terminals, or None for the programmed one."""
    triggered: float | None = None
    """``:SOUR:VOLT:TRIG``: becomes the level at the next source action."""
