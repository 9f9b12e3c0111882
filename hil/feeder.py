"""A worker's place at the ring, taken by something that knows exactly what it gave: ``python -m hil.feeder``.

It writes what a worker writes, in the same order: its epoch, samples into frames that close at random lengths, events
small and large, run documents, now and then a declared hole. Everything is drawn from ``--seed`` and the life's number,
and written down in the ledger before it is given. A full ring is waited for: it drops nothing, so that any loss is
somebody else's. No instrument, no guard, no control socket: what is proven with it begins at the ring.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgpack

from edge.ring import Kind, RingWriter
from edge.samples import Sample
from hil.ledger import SAMPLE, Ledger, doc_crc, sample_crc

STREAMS: Final = {
    Kind.EVENT: "events",
    Kind.RUN: "runs",
    Kind.EPOCH: "epochs",
    Kind.TOMBSTONE: "tombstones",
}
PAUSE_S: Final = 0.005
MAX_FRAME: Final = 256
FRAME_NS: Final = 1_000_000_000
"""A frame is closed when it is so old, as a worker does."""


class Stopped(Exception):  # noqa: N818 - no error: told to end
    """SIGTERM came while the ring was full."""


class Feeder:
    """One life of it."""

    def __init__(
        self,
        writer: RingWriter,
        ledger: Ledger,
        *,
        rig: str,
        seed: int,
        prev_epoch: int,
        pause: Callable[[], None],
        max_frame: int = MAX_FRAME,
    ) -> None:
        """Give the epoch. ``pause``: waits a little, and raises :class:`Stopped` when it is over."""
        self._max_frame = max_frame
        self._writer = writer
        self._ledger = ledger
        self._pause = pause
        self._rng = random.Random(seed)
        self.epoch = self._rng.getrandbits(64) or 1
        self.samples = 0
        """Given so far, or declared missing."""
        self._frame = 0
        self._in_frame = 0
        self._begun_ns = 0
        self._length = self._rng.randint(1, self._max_frame)
        self._run = 0
        self._seqs = dict.fromkeys(STREAMS, 0)
        self._document(
            Kind.EPOCH,
            {
                "rig": rig,
                "epoch": self.epoch,
                "prev_epoch": prev_epoch or None,
                "t_ns": time.monotonic_ns(),
                "version": "feeder",
            },
        )

    def burst(self, count: int) -> None:
        """Give ``count`` samples and what goes with them."""
        for _ in range(count):
            self._sample()
            draw = self._rng.random()
            if draw < 0.004:
                self._document(Kind.EVENT, self._event())
            elif draw < 0.006:
                self._run_document()
            elif draw < 0.009:
                self._hole()

    def tick(self) -> None:
        """Close a frame that has been open for 1 s."""
        if self._in_frame and time.monotonic_ns() - self._begun_ns >= FRAME_NS:
            self.close_frame()

    def close_frame(self) -> None:
        """Close the open frame, if it holds anything."""
        if self._in_frame:
            self._give(Kind.FRAME_CLOSE, self._frame, b"")
            self._frame += 1
            self._in_frame = 0
            self._length = self._rng.randint(1, self._max_frame)

    def _sample(self) -> None:
        index = self.samples
        now_ns = time.monotonic_ns()
        bias_v = -10.0 * math.sin(index / 500.0)
        current_a = math.nan if index % 97 == 0 else bias_v * 1e-6 * self._rng.random()
        sample = Sample(now_ns - 300_000, 20_000, now_ns, bias_v, current_a, int(index % 97 == 0), 1 + index % 4)
        crc = sample_crc(index, self._run, sample)
        self._ledger.intend(SAMPLE, self.epoch, self._frame, index, crc, now_ns)
        while not self._writer.write_sample(self.epoch, self._frame, index, self._run, sample):
            self._pause()
        self._ledger.done()
        self.samples += 1
        if not self._in_frame:
            self._begun_ns = now_ns
        self._in_frame += 1
        if self._in_frame == self._length:
            self.close_frame()

    def _event(self) -> dict[str, Any]:
        doc: dict[str, Any] = {"kind": "set", "verdict": "SURGE_LEVEL", "draw": self._rng.getrandbits(48)}
        if self._rng.random() < 0.3:
            doc["waveform"] = self._rng.randbytes(self._rng.randint(100, 20_000))
        return doc

    def _run_document(self) -> None:
        if self._run:
            self._document(Kind.RUN, {"kind": "stop", "uid": f"{self._run:016x}", "status": "completed"})
            self._run = 0
        else:
            self._run = self._rng.getrandbits(64) or 1
            self._document(Kind.RUN, {"kind": "start", "uid": f"{self._run:016x}", "plan": "iv"})

    def _hole(self) -> None:
        """Leave sample numbers out, and say so, as a worker does whose ring was full."""
        self.close_frame()
        count = self._rng.randint(1, 50)
        doc = {"stream": SAMPLE, "from": self.samples, "to": self.samples + count - 1, "cause": "ring full"}
        self.samples += count
        self._document(Kind.TOMBSTONE, doc)

    def _document(self, kind: Kind, doc: dict[str, Any]) -> None:
        doc = {"run": self._run, "t_ns": time.monotonic_ns(), **doc}
        seq, self._seqs[kind] = self._seqs[kind], self._seqs[kind] + 1
        self._ledger.intend(STREAMS[kind], self.epoch, seq, 0, doc_crc(doc), doc["t_ns"])
        self._give(kind, seq, msgpack.packb(doc))
        self._ledger.done()

    def _give(self, kind: Kind, seq: int, payload: bytes) -> None:
        while not self._writer.write(kind, self.epoch, seq, payload):
            self._pause()


class _Ending:
    """SIGTERM as a descriptor that a wait ends on."""

    def __init__(self) -> None:
        self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write)
        signal.signal(signal.SIGTERM, lambda _number, _frame: None)

    def wait(self, at_most_s: float) -> bool:
        return bool(select.select([self._read], [], [], max(at_most_s, 0.0))[0])

    def pause(self) -> None:
        if self.wait(PAUSE_S):
            raise Stopped


def main(words: Sequence[str] | None = None) -> int:
    """Feed until SIGTERM, or ``--samples`` are given; an open frame is closed at a polite end."""
    parser = argparse.ArgumentParser(prog="python -m hil.feeder", description=__doc__)
    parser.add_argument("--ring", type=Path, required=True)
    parser.add_argument("--ring-bytes", type=int, default=4 << 20)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--rig", default="rig-1")
    parser.add_argument("--seed", type=int, required=True, help="of this life; two lives need two")
    parser.add_argument("--prev-epoch", type=int, default=0)
    parser.add_argument("--rate", type=float, default=2000.0, help="samples per s; 0: as fast as the ring takes them")
    parser.add_argument("--max-frame", type=int, default=MAX_FRAME, help="samples of the longest frames")
    parser.add_argument("--samples", type=int, default=0, help="end after so many; 0: at SIGTERM")
    args = parser.parse_args(words)
    ending = _Ending()
    writer = RingWriter(args.ring, args.ring_bytes)
    with Ledger(args.ledger) as ledger:
        feeder = Feeder(
            writer,
            ledger,
            rig=args.rig,
            seed=args.seed,
            prev_epoch=args.prev_epoch,
            pause=ending.pause,
            max_frame=args.max_frame,
        )
        print(f'{{"ready": true, "epoch": "{feeder.epoch:016x}"}}', flush=True)
        begin_s, given, over = time.monotonic(), 0, False
        try:
            while not over:
                due = int((time.monotonic() - begin_s) * args.rate) if args.rate else given + MAX_FRAME
                due = min(due, args.samples) if args.samples else due
                feeder.burst(due - given)
                feeder.tick()
                given = max(given, due)
                over = (args.samples > 0 and given >= args.samples) or ending.wait(PAUSE_S if args.rate else 0.0)
            feeder.close_frame()
        except Stopped:
            pass
    writer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
