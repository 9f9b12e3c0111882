"""From the hot path into the ring: identity of samples, frames, events and run documents.

Identity is fixed here and nowhere else: (rig, epoch, stream, seq). ``epoch`` is a random 64-bit id per worker start.
A sample record carries the seq of its frame, so that whoever drains the ring makes the same frames again. A sample
the ring could not take is a declared hole: its number stays missing and a tombstone says from where to where. Blocks of
a front end come whole, and only as long as the ring has room to spare for them: its owner's samples come first.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import secrets
from collections.abc import Iterator
from typing import Any, Final, Protocol

import msgpack

from edge.clock import Clock
from edge.controller.tape_writer import TapeWriter
from edge.front_block import FrontBlock
from edge.instruments.recording import Tape
from edge.ring import Kind, RingWriter
from edge.samples import Sample

FRAME_SAMPLES: Final = 256
FRAME_NS: Final = 1_000_000_000
MAX_WAITING_DOCS: Final = 256
STREAMS: Final = {Kind.EVENT: "events", Kind.RUN: "runs"}
FRONT_SHARE: Final = 0.6
"""Share of the ring above which blocks of a front end are a declared hole: at 80 % plans wait, and not for these."""

RING_MATTERS_AT: Final = 0.5
"""From here on how full the ring is can decide something, and goes onto the tape."""


def new_id() -> int:
    """Return a random 64-bit id that is never 0."""
    return secrets.randbits(64) or 1


class Outside(Protocol):
    """What a worker takes from neither port nor clock. A replay gives what was recorded."""

    def new_id(self, what: str) -> int:
        """Return a random 64-bit id that is never 0."""

    def draw(self, what: str, below: int) -> int:
        """Return a random number from 0 to ``below`` - 1."""

    def ring_used(self) -> float:
        """Return the share of the ring that is not released, 0..1."""


class Live:
    """The world as it is, onto the tape where there is one."""

    def __init__(self, ring: RingWriter, tape: Tape | None) -> None:
        """Draw from the system, look at ``ring``."""
        self._ring = ring
        self._tape = tape

    def new_id(self, what: str) -> int:
        """See Outside."""
        value = new_id()
        if self._tape is not None:
            self._tape.draw(what, value)
        return value

    def draw(self, what: str, below: int) -> int:
        """See Outside."""
        value = secrets.randbelow(below)
        if self._tape is not None:
            self._tape.draw(what, value)
        return value

    def ring_used(self) -> float:
        """See Outside."""
        used = self._ring.used_fraction
        if used >= RING_MATTERS_AT and self._tape is not None:
            self._tape.ring(used)
        return used


class Recorder:
    """The worker's only way out: everything that leaves the worker goes through here."""

    def __init__(
        self,
        ring: RingWriter,
        *,
        rig: str,
        clock: Clock,
        prev_epoch: int = 0,
        version: str = "",
        tape: Tape | None = None,
        outside: Outside | None = None,
    ) -> None:
        """Begin a new epoch, linked to the previous one, which is never ordered against it.

        ``tape``: goes into the ring with every tick, as long as that has room to spare. ``outside``: None for the
        world as it is.
        """
        self.outside = outside or Live(ring, tape)
        self.tape = tape
        self.epoch = self.outside.new_id("epoch")
        self.run = 0
        self.samples = 0
        self.samples_lost = 0
        self._ring = ring
        self._clock = clock
        self._frame = 0
        self._in_frame = 0
        self._frame_started_ns = 0
        self._hole_from: int | None = None
        self.front_rows = 0
        """Rows of the front end so far, the missing ones counted too."""
        self.front_lost = 0
        """Rows of the front end that are missing, whatever the cause."""
        self.front_bytes = 0
        """What its blocks have put into the ring in this life."""
        self._front_frame = 0
        self._front_hole: tuple[int, str] | None = None
        self._next_seq = {Kind.EVENT: 0, Kind.RUN: 0, Kind.TOMBSTONE: 0}
        self._waiting: collections.deque[tuple[Kind, int, bytes]] = collections.deque()
        self._lost_docs: list[tuple[Kind, int, int]] = []
        # The ring takes records up to a quarter of its size.
        self._max_doc = ring.capacity_bytes // 4 - 64
        self._rig = rig
        self.tape_writer = None if tape is None else TapeWriter(tape, ring, self.epoch)
        self._put(
            Kind.EPOCH,
            0,
            {
                "rig": rig,
                "epoch": self.epoch,
                "prev_epoch": prev_epoch or None,
                "t_ns": clock.now_ns(),
                "version": version,
            },
        )

    @contextlib.contextmanager
    def asked(self, name: str, arguments: dict[str, Any]) -> Iterator[None]:
        """Put what somebody asked for onto the tape as a whole: what it leads to in here is not put there again."""
        tape, self.tape = self.tape, None
        try:
            if tape is not None:
                tape.verb(name, arguments)
            yield
        finally:
            self.tape = tape

    @property
    def ring_used(self) -> float:
        """Share of the ring that the uplink has not released, 0..1."""
        return self.outside.ring_used()

    def ring_left_s(self, samples_per_s: float, front_bytes_per_s: float = 0.0) -> float:
        """Return how long the free part of the ring lasts at a sample rate, and a front end's, in s."""
        record_bytes = 96
        free = self._ring.capacity_bytes * (1.0 - self.ring_used)
        bytes_per_s = record_bytes * samples_per_s + front_bytes_per_s
        return free / bytes_per_s if bytes_per_s > 0 else float("inf")

    def sample(self, sample: Sample) -> None:
        """Record one sample; the hot path's last step. Never raises for a full ring."""
        index = self.samples
        self.samples = index + 1
        if self._in_frame == 0:
            self._frame_started_ns = sample.t_rx_ns
        elif self._in_frame >= FRAME_SAMPLES or sample.t_rx_ns - self._frame_started_ns >= FRAME_NS:
            self.close_frame()
            self._frame_started_ns = sample.t_rx_ns
        if self._ring.write_sample(self.epoch, self._frame, index, self.run, sample):
            self._in_frame += 1
            if self._hole_from is not None:
                self._declare_hole(index)
        else:
            self.samples_lost += 1
            if self._hole_from is None:
                # A frame numbers its samples from its first one on, so a hole ends it.
                self.close_frame()
                self._hole_from = index

    def front(self, block: FrontBlock) -> None:
        """Record a block of the front end; its number and its run are given here. Not for the hot path."""
        block = dataclasses.replace(block, first=self.front_rows, run=self.run)
        if self._ring.used_fraction >= FRONT_SHARE:
            self.front_missing(block.rows, "ring full")
            return
        self.declare_front_hole()
        payload = block.pack()
        if self._ring.write(Kind.FRONT, self.epoch, self._front_frame, payload):
            self._front_frame += 1
            self.front_bytes += len(payload)
            self.front_rows += block.rows
        else:
            self.front_missing(block.rows, "ring full")

    def front_missing(self, rows: int, cause: str) -> None:
        """Count rows that are missing before the next block; it declares them."""
        if self._front_hole is None:
            self._front_hole = self.front_rows, cause
        elif cause not in self._front_hole[1]:
            self._front_hole = self._front_hole[0], f"{self._front_hole[1]}; {cause}"
        self.front_rows += rows
        self.front_lost += rows

    def declare_front_hole(self) -> None:
        """Say which rows of the front end are missing, if any; for when no block follows."""
        hole, self._front_hole = self._front_hole, None
        if hole is not None:
            first, cause = hole
            self._put_numbered(Kind.TOMBSTONE, _hole("frontend", first, self.front_rows - 1, cause))

    def close_frame(self) -> None:
        """Close the open frame, if it holds anything."""
        if self._in_frame:
            # A close that does not fit is no loss: the next frame's first sample, or the next epoch, closes it too.
            self._ring.write(Kind.FRAME_CLOSE, self.epoch, self._frame, b"")
            self._frame += 1
            self._in_frame = 0

    def tick(self, now_ns: int) -> None:
        """Close a frame that has been open for 1 s; write what did not fit before. Not for the hot path."""
        if self.tape_writer is not None:
            self.tape_writer.tick(now_ns)
        if self._in_frame and now_ns - self._frame_started_ns >= FRAME_NS:
            self.close_frame()
        while self._waiting and self._ring.write(self._waiting[0][0], self.epoch, *self._waiting[0][1:]):
            self._waiting.popleft()
        if self._waiting:
            return
        # There is room again: say what is missing, also when no sample follows the hole.
        if self._hole_from is not None:
            self._declare_hole(self.samples)
        lost, self._lost_docs = self._lost_docs, []
        for kind, first, last in lost:
            self._put_numbered(Kind.TOMBSTONE, _hole(STREAMS[kind], first, last))

    def flush_tape(self) -> None:
        """Write what the tape still holds; at the end of a worker."""
        if self.tape_writer is not None:
            self.tape_writer.flush()

    @property
    def at_rest(self) -> bool:
        """Nothing is half written, nothing waits for room."""
        return not self._in_frame and not self._waiting and self._hole_from is None and not self._lost_docs

    def memory(self) -> dict[str, Any]:
        """Return the numbers that come next; at rest."""
        front = [self.front_rows, self.front_lost, self._front_frame]
        return {
            "samples": self.samples,
            "samples_lost": self.samples_lost,
            "frame": self._frame,
            "next_seq": {int(kind): seq for kind, seq in self._next_seq.items()},
            **({"front": front} if any(front) else {}),
        }

    def remember(self, memory: dict[str, Any]) -> None:
        """Take over what :meth:`memory` gave."""
        self.samples = memory["samples"]
        self.samples_lost = memory["samples_lost"]
        self._frame = memory["frame"]
        self._next_seq = {Kind(kind): seq for kind, seq in memory["next_seq"].items()}
        self.front_rows, self.front_lost, self._front_frame = memory.get("front", (0, 0, 0))

    def _declare_hole(self, until: int) -> None:
        first, self._hole_from = self._hole_from, None
        self._put_numbered(Kind.TOMBSTONE, _hole("samples", first, until - 1))

    def event(self, doc: dict[str, Any]) -> None:
        """Record an event document."""
        self._put_numbered(Kind.EVENT, doc)

    def run_doc(self, doc: dict[str, Any]) -> None:
        """Record a run document (start, progress, stop)."""
        self._put_numbered(Kind.RUN, doc)

    def _put_numbered(self, kind: Kind, doc: dict[str, Any]) -> None:
        seq = self._next_seq[kind]
        self._next_seq[kind] = seq + 1
        # Samples before the document belong to frames before it.
        self._put(kind, seq, {"run": self.run, **doc})

    def _put(self, kind: Kind, seq: int, doc: dict[str, Any]) -> None:
        payload = msgpack.packb(doc)
        if len(payload) > self._max_doc:
            # A long waveform and a small ring: what fits goes out, and says so.
            plain = {key: value for key, value in doc.items() if not isinstance(value, dict | list | tuple | bytes)}
            payload = msgpack.packb({**plain, "shortened_from_bytes": len(payload)})
        if not self._waiting and self._ring.write(kind, self.epoch, seq, payload):
            return
        if len(self._waiting) >= MAX_WAITING_DOCS:
            self._drop_oldest()
        self._waiting.append((kind, seq, payload))

    def _drop_oldest(self) -> None:
        """Make room among the waiting documents, never silently: a tombstone will name what goes.

        Tombstones and the epoch stay, being themselves what says that something is missing.
        """
        at = next((at for at, (kind, _, _) in enumerate(self._waiting) if kind in STREAMS), None)
        if at is None:
            return
        kind, seq, _ = self._waiting[at]
        del self._waiting[at]
        for index, (other, first, last) in enumerate(self._lost_docs):
            if other == kind and last == seq - 1:
                self._lost_docs[index] = (kind, first, seq)
                return
        self._lost_docs.append((kind, seq, seq))


def _hole(stream: str, first: int | None, last: int, cause: str = "ring full") -> dict[str, Any]:
    return {"stream": stream, "from": first, "to": last, "cause": cause}
