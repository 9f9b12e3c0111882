"""Line-clock arithmetic: when each byte of a UART starts and is complete, in integer nanoseconds.

A frame is 10 bits (8N1: Keithley 2400S-900-01, 14-13). A byte handed over at t starts at max(t, line free) and is
complete one byte-time later. Within a burst without gaps, byte k is complete at start + ceil((k + 1) * 10 / baud), so
that rounding never accumulates. Baud 0 stands for a line on which bytes take no time.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Literal, NamedTuple

BITS_PER_BYTE = 10
_BIT_NS = BITS_PER_BYTE * 1_000_000_000

NEVER = 1 << 62
"""A time in ns that never comes (146 years); compares faster than None."""

Chunk = Literal["line", "fifo", "byte", "frame"]
"""How received bytes reach the reader: a line at its last byte, in runs of a UART's FIFO, one by one, or up to NUL."""

FIFO_BYTES = 8
"""Receive trigger level of the common 16550A UART driver: half of its 16-byte FIFO."""

# Every control character closes a run: a terminator makes the instrument act, 0x03 and 0x18 abort it, and GCS2 and
# framed protocols know more of them. What stands before one may as well arrive together with it.
AT_CONTROL = re.compile(rb"[^\x00-\x1f]*[\x00-\x1f]|[^\x00-\x1f]+")
# Towards the reader CR+LF is one terminator, not two.
AT_LINE_END = re.compile(rb"[^\r\n]*[\r\n]+|[^\r\n]+")
AT_FIFO = re.compile(rb"[^\r\n]{%d}|[^\r\n]*[\r\n]+|[^\r\n]+" % FIFO_BYTES)
AT_BYTE = re.compile(rb".", re.DOTALL)
AT_FRAME = re.compile(rb"[^\x00]*\x00|[^\x00]+")

READER_RUNS: dict[Chunk, re.Pattern[bytes]] = {"line": AT_LINE_END, "fifo": AT_FIFO, "byte": AT_BYTE, "frame": AT_FRAME}


class _Run(NamedTuple):
    """Bytes that are handed on together, when the last of them is complete."""

    done_ns: int
    data: bytes
    burst_ns: int  # when the burst that holds them began
    first: int  # index of data[0] in that burst


class Pacer:
    """One direction of a line: bytes in at any time, runs of bytes out at their line times.

    ``runs`` splits the bytes of one hand-over into the runs that leave together.
    """

    def __init__(self, baud: int, runs: re.Pattern[bytes]) -> None:
        """Begin with a free line; raises ValueError for a negative baud."""
        if baud < 0:
            raise ValueError(f"baud {baud}: want a positive rate in bit/s, or 0 for a line that takes no time")
        self.baud = baud
        self._split = runs.findall
        self._queue: deque[_Run] = deque()
        self._burst_ns = 0
        self._count = 0  # bytes of the present burst
        self._free_ns = -1

    @property
    def free_ns(self) -> int:
        """When the last byte so far is complete; a byte handed over before that waits."""
        return self._free_ns

    @property
    def next_ns(self) -> int:
        """When the next run is complete, or NEVER."""
        return self._queue[0].done_ns if self._queue else NEVER

    def push(self, t_ns: int, data: bytes, *, whole: bool = False) -> None:
        """Hand bytes to the line at ``t_ns``; ``whole``: as one run, whatever they are."""
        if t_ns > self._free_ns:
            self._burst_ns, self._count, self._free_ns = t_ns, 0, t_ns
        for run in (data,) if whole else self._split(data):
            first = self._count
            self._count = first + len(run)
            self._free_ns = self._at(self._burst_ns, self._count)
            self._queue.append(_Run(self._free_ns, run, self._burst_ns, first))

    def pop(self) -> bytes:
        """Take the next run off the line; its time was ``next_ns``."""
        return self._queue.popleft().data

    def unstarted(self, t_ns: int) -> int:
        """Return how many bytes have their start bit after ``t_ns``."""
        return sum(len(run.data) - self._started(run, t_ns) for run in self._queue)

    def discard(self, t_ns: int) -> bytes:
        """Drop every byte whose start bit comes after ``t_ns``; return them. The line is free that much earlier."""
        dropped = b""
        while self._queue:
            last = self._queue[-1]
            kept = self._started(last, t_ns)
            if kept == len(last.data):
                if dropped:  # what was dropped may have been a later burst: the line is busy with this one until then
                    self._burst_ns, self._count = last.burst_ns, last.first + kept
                    self._free_ns = last.done_ns
                break
            self._queue.pop()
            dropped = last.data[kept:] + dropped
            self._burst_ns, self._count = last.burst_ns, last.first + kept
            # A burst that never began leaves the line as free as it was before: free at once.
            self._free_ns = self._at(last.burst_ns, self._count) if self._count else t_ns
            if kept:
                self._queue.append(_Run(self._free_ns, last.data[:kept], last.burst_ns, last.first))
                break
        return dropped

    def clear(self, t_ns: int) -> None:
        """Forget everything, the byte on the wire included, as a pulled plug does."""
        self._queue.clear()
        self._burst_ns, self._count, self._free_ns = t_ns, 0, t_ns

    def _at(self, burst_ns: int, count: int) -> int:
        """When ``count`` bytes of a burst are complete, which is when byte number ``count`` may start."""
        return burst_ns - (-count * _BIT_NS // self.baud) if self.baud else burst_ns

    def _started(self, run: _Run, t_ns: int) -> int:
        if t_ns < run.burst_ns:
            return 0
        if not self.baud:
            return len(run.data)
        begun = (t_ns - run.burst_ns) * self.baud // _BIT_NS + 1
        return min(max(begun - run.first, 0), len(run.data))
