"""Where a cut's microseconds went, from the flight record of the controller that made it.

The record dates what a read gave and what a write took behind the system call, and every reading of the clock in
between; with the peer's own two times the way from surge to cut falls into parts, without a line of code for it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from edge.ring import Kind, RingReader
from edge.tape import IN, OUT, Entry, unpack
from hil.bench.native import Trial
from hil.bench.sparring import CUT


class Parts(NamedTuple):
    """Medians in s: surge sent to read, read to decided, decided to written, written to heard."""

    sent_to_read_s: float
    read_to_decided_s: float
    decided_to_written_s: float
    written_to_heard_s: float


NAMES: Final = Parts._fields


class FlightProfile:
    """Empties a ring and keeps when cuts were read, decided and written."""

    def __init__(self, reader: RingReader) -> None:
        """Read from ``reader``."""
        self._reader = reader
        self._read_ns = 0
        self._clock_ns: list[int] = []
        self.cuts: list[tuple[int, int, int]] = []
        """(read, decided, written), CLOCK_MONOTONIC in ns."""

    def drain(self) -> None:
        """Take in what there is, and give the room back."""
        while (record := self._reader.read()) is not None:
            if record.kind == Kind.TAPE:
                for entry in unpack(record.payload):
                    self._take(entry)
        self._reader.release()

    def _take(self, entry: Entry) -> None:
        if isinstance(entry, int):
            if entry >= 0:
                self._clock_ns.append(entry)
        elif entry[0] == IN:
            self._read_ns = entry[1]
            self._clock_ns = []
        elif entry[0] == OUT and entry[3] == CUT and self._clock_ns:
            self.cuts.append((self._read_ns, self._clock_ns[-1], entry[1]))
            self._clock_ns = []

    def parts(self, trials: list[Trial]) -> Parts | None:
        """Return the medians over ``trials`` whose cut is on the record; None where none is."""
        rows = []
        at = 0
        for trial in trials:
            while at < len(self.cuts) and self.cuts[at][0] < trial.sent_ns:
                at += 1
            if at < len(self.cuts) and self.cuts[at][0] <= trial.line_ns:
                read_ns, decided_ns, written_ns = self.cuts[at]
                rows.append(np.diff([trial.sent_ns, read_ns, decided_ns, written_ns, trial.first_ns]))
        if not rows:
            return None
        medians = np.median(np.asarray(rows), axis=0) / 1e9
        return Parts(*(float(value) for value in medians))
