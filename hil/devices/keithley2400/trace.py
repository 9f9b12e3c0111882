"""The TRACe buffer of the emulated 2400 and its statistics (User's Manual section 9, 18-43, 18-113 to 18-116).

It is a second store of 2500 readings beside that of ``:READ?``; ``*RST`` and ``:SYST:PRES`` leave it alone (table
18-10), power-on empties it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from firmware_proto.keithley2400.status import NOT_A_NUMBER, StatusWord
from hil.devices.keithley2400.errors import STORAGE_ACTIVE, RefusedError

if TYPE_CHECKING:
    from hil.devices.keithley2400.unit import Reading

MAX_POINTS: Final = 2500
DEFAULT_POINTS: Final = 100
BUFFER_AVAILABLE: Final = 1 << 8
BUFFER_FULL: Final = 1 << 9
BYTES_PER_READING: Final = 24
"""For ``:TRAC:FREE?``. The manual gives no figure: five elements of four bytes and a head."""


class Stored(NamedTuple):
    """One location: the reading and, where a calculation was fed, its result."""

    reading: Reading
    result: float


class Trace:
    """The buffer. ``active`` is ``:TRAC:FEED:CONT NEXT``; it ends by itself when the buffer is full.

    A new store overwrites the old readings one by one from the first location (18-114), so one that ends early leaves
    old readings behind new ones. ``:TRAC:CLE`` prevents that.
    """

    def __init__(self) -> None:
        """Begin empty, 100 locations, raw readings, inactive."""
        self.points = DEFAULT_POINTS
        self.feed = "SENS1"
        self.delta_stamps = False
        self.active = False
        self.stored: list[Stored] = []
        self._next = 0

    def configure(self, *, points: int | None = None, feed: str | None = None) -> None:
        """Change size (1 to 2500; empties it) or feed; refuse +800 while storage is active."""
        if self.active:
            raise RefusedError(STORAGE_ACTIVE)
        if points is not None:
            self.points = points
            self.clear()
        if feed is not None:
            self.feed = feed

    def enable(self, *, on: bool) -> None:
        """Start storing with the next reading, or stop."""
        if on and not self.active:
            self._next = 0
        self.active = on

    def clear(self) -> None:
        """Forget what is stored."""
        self.stored.clear()
        self._next = 0

    def store(self, reading: Reading, result: float) -> None:
        """Store one reading; the one that fills the buffer ends the storage."""
        entry = Stored(reading, result)
        if self._next < len(self.stored):
            self.stored[self._next] = entry
        else:
            self.stored.append(entry)
        self._next += 1
        if self._next >= self.points:
            self.active = False

    @property
    def bits(self) -> int:
        """BAV and BFL of the measurement condition register; while storage is active, of what it has stored anew."""
        count = self._next if self.active else len(self.stored)
        return (BUFFER_AVAILABLE if count >= 2 else 0) | (BUFFER_FULL if count >= self.points else 0)

    @property
    def readings(self) -> list[Stored]:
        """What is stored, with the times of ``:TRAC:TST:FORM``: since the first, or since the one before."""
        out: list[Stored] = []
        before = first = self.stored[0].reading.time if self.stored else 0.0
        for entry in self.stored:
            stamp = entry.reading.time - (before if self.delta_stamps else first)
            before = entry.reading.time
            out.append(Stored(entry.reading._replace(time=stamp), entry.result))
        return out

    def statistic(self, calculate: Callable[[Sequence[float]], float]) -> list[float]:
        """Return the statistic of each measured function, voltage first, or of the calculation that was fed.

        An empty buffer gives the code for "not a number", which a careless client takes for one (not documented).
        """
        if not self.stored:
            return [NOT_A_NUMBER]
        if self.feed != "SENS1":
            return [calculate([entry.result for entry in self.stored])]
        status = self.stored[-1].reading.stat
        measured = [bool(status & bit) for bit in _MEASURED]
        if not any(measured):
            return [NOT_A_NUMBER]
        return [
            calculate([entry.reading[index] for entry in self.stored]) for index, known in enumerate(measured) if known
        ]


_MEASURED: Final = (int(StatusWord.V_MEASURE), int(StatusWord.I_MEASURE), int(StatusWord.OHMS_MEASURE))


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation of a sample (9-4); of one value 0."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def mean(values: Sequence[float]) -> float:
    """Return the mean."""
    return math.fsum(values) / len(values)


def peak_to_peak(values: Sequence[float]) -> float:
    """Return the largest less the smallest."""
    return max(values) - min(values)


STATISTICS: Final[dict[str, Callable[[Sequence[float]], float]]] = {
    "MEAN": mean,
    "SDEV": deviation,
    "MAX": max,
    "MIN": min,
    "PKPK": peak_to_peak,
}
"""``:CALC3:FORM`` by its reply."""
