"""Fills a ring for ``tipguard bench uplink``, as a worker would: ``python -m hil.bench.uplink_feeder --ring FILE ...``.

Without ``--rate`` it writes ``--frames`` frames of 4 KiB as fast as the ring takes them and ends. With it, it keeps a
rig's pace until SIGTERM: so many samples a second, frames that close after a second or 256 samples, ``--events-hz``
setting events in between. One JSON line when it is ready; it begins at the first byte on stdin.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgpack

from edge import frames
from edge.ring import Kind, RingWriter
from edge.samples import Phase, Sample

SAMPLES: Final = 95
"""In a frame of 4 KiB."""
FRAME_SAMPLES: Final = 256
FRAME_S: Final = 1.0
RUN: Final = 0x1234_5678_9ABC_DEF0
PERIOD_NS: Final = 10_000_000
FULL_S: Final = 0.001
EVENT_WAVEFORM: Final = bytes(2000)
"""A setting event carries what was measured around it."""


def a_sample(index: int, t_ns: int | None = None) -> Sample:
    """Return sample ``index`` of a ramp up to the floor's noise."""
    t_ns = index * PERIOD_NS if t_ns is None else t_ns
    return Sample(t_ns, 400_000, t_ns + 9_000_000, -1e-3 * (index % 5000), 1e-9 * (index % 977), 0, int(Phase.SEEK))


def ready_payloads(rig: str, epoch: int, count: int) -> list[bytes]:
    """Return the frames an uplink makes of :func:`burst`'s records, but for the time mapping."""
    utc = frames.utc_mapping()
    payloads = []
    for seq in range(count):
        samples = [a_sample(index) for index in range(seq * SAMPLES, (seq + 1) * SAMPLES)]
        payloads.append(frames.sample_frame(rig, epoch, seq, seq * SAMPLES, samples, [RUN] * SAMPLES, utc))
    return payloads


def burst(writer: RingWriter, epoch: int, count: int, wait: Callable[[float], bool], *, at_most: float = 1.0) -> None:
    """Write ``count`` frames, into ``at_most`` that share of the ring; ``wait`` waits, and says whether to end."""
    for seq in range(count):
        while at_most < 1.0 and writer.used_fraction > at_most:
            if wait(FULL_S):
                return
        for index in range(seq * SAMPLES, (seq + 1) * SAMPLES):
            sample = a_sample(index)
            while not writer.write_sample(epoch, seq, index, RUN, sample):
                if wait(FULL_S):
                    return
        while not writer.write(Kind.FRAME_CLOSE, epoch, seq, b""):
            if wait(FULL_S):
                return


class Pace:
    """A rig that measures at a steady rate."""

    def __init__(
        self,
        writer: RingWriter,
        epoch: int,
        rig: str,
        *,
        rate_hz: float,
        events_hz: float,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Begin the epoch."""
        self._writer = writer
        self._now_ns = now_ns
        self._epoch = epoch
        self._rate_hz = rate_hz
        self._events_hz = events_hz
        self._begin_s = now_ns() / 1e9
        self._index = 0
        self._events = 0
        self._frame = 0
        self._in_frame = 0
        self._closes_s = self._begin_s + FRAME_S
        self.lost = 0
        """Records that a full ring did not take."""
        doc = {"rig": rig, "epoch": epoch, "prev_epoch": None, "t_ns": now_ns(), "version": "bench"}
        self._put(Kind.EPOCH, 0, doc)

    def _put(self, kind: Kind, seq: int, doc: dict[str, Any]) -> None:
        self.lost += not self._writer.write(kind, self._epoch, seq, msgpack.packb(doc))

    def turn(self) -> None:
        """Write what is due."""
        now_s = self._now_ns() / 1e9
        while self._index < (now_s - self._begin_s) * self._rate_hz:
            sample = a_sample(self._index, self._now_ns())
            self.lost += not self._writer.write_sample(self._epoch, self._frame, self._index, RUN, sample)
            self._index += 1
            self._in_frame += 1
            if self._in_frame == FRAME_SAMPLES:
                self._close(now_s)
        while self._events < (now_s - self._begin_s) * self._events_hz:
            doc = {"kind": "bench", "t_ns": self._now_ns(), "run": RUN, "waveform": EVENT_WAVEFORM}
            self._put(Kind.EVENT, self._events, doc)
            self._events += 1
        if self._in_frame and now_s >= self._closes_s:
            self._close(now_s)

    def _close(self, now_s: float) -> None:
        self.lost += not self._writer.write(Kind.FRAME_CLOSE, self._epoch, self._frame, b"")
        self._frame += 1
        self._in_frame = 0
        self._closes_s = now_s + FRAME_S


def main() -> int:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ring", type=Path, required=True)
    parser.add_argument("--ring-bytes", type=int, required=True)
    parser.add_argument("--rig", required=True)
    parser.add_argument("--epoch", type=int, required=True)
    parser.add_argument("--frames", type=int, default=0)
    parser.add_argument("--at-most", type=float, default=1.0, help="share of the ring that is filled")
    parser.add_argument("--rate", type=float, default=0.0, help="samples per s")
    parser.add_argument("--events-hz", type=float, default=0.0)
    words = parser.parse_args()
    ending, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)

    def wait(at_most_s: float) -> bool:
        return bool(select.select([ending], [], [], at_most_s)[0])

    writer = RingWriter(words.ring, words.ring_bytes)
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.buffer.read(1)
    lost = 0
    if words.rate:
        pace = Pace(writer, words.epoch, words.rig, rate_hz=words.rate, events_hz=words.events_hz)
        while not wait(1.0 / words.rate):
            pace.turn()
        lost = pace.lost
    else:
        burst(writer, words.epoch, words.frames, wait, at_most=words.at_most)
    writer.close()
    print(json.dumps({"lost": lost}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
