"""Ring records in, frames out. Pure but for the UTC mapping: the same records always make the same frames.

A frame's identity is fixed in the ring: every sample record carries the number of the frame it belongs to. So an
uplink that dies and reads the unreleased part of the ring again makes the same frames again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from edge import frames
from edge.errors import FrameError, RingError
from edge.front_block import unpack_front
from edge.ring import TAPE_KINDS, Kind, Record, unpack_sample
from edge.ring_runs import SampleRun, as_stored, rows
from edge.samples import Sample

FRONTEND: Final = "frontend"
_DOCUMENTS = {
    Kind.EVENT: "event",
    Kind.RUN: "run",
    Kind.EPOCH: "epoch",
    Kind.TOMBSTONE: "tombstone",
}


class Built(NamedTuple):
    """One frame: its bytes, and where in the ring its first record starts."""

    kind: str
    payload: bytes
    start: int
    epoch: int
    seq: int
    doc: dict[str, Any] | None
    """What a document says; None for what was measured."""
    in_place: str | None = None
    """The stream in which a tombstone stands where a frame was; None for what belongs to its kind's own."""

    @property
    def stream(self) -> str:
        """What ``seq`` counts."""
        return self.in_place or frames.STREAM_OF_KIND[self.kind]


@dataclass(frozen=True, slots=True)
class Latest:
    """The last sample read."""

    epoch: int
    index: int
    run: int
    sample: Sample


class _Open:
    """The frame that is being filled."""

    def __init__(self, record: Record | SampleRun, first: int) -> None:
        self.key = record.epoch, record.seq
        self.start = record.pos
        self.first = first
        self.count = 0
        self.stored: list[bytes] = []
        """Sample records as :func:`edge.ring_runs.rows` takes them."""

    def add(self, stored: bytes, count: int) -> None:
        self.stored.append(stored)
        self.count += count


class Assembler:
    """Fills one sample frame at a time; documents become frames at once."""

    def __init__(self, rig: str, *, log: Any, utc: Callable[[], frames.UtcMapping] = frames.utc_mapping) -> None:  # noqa: ANN401 - structlog's loggers share no type
        """``utc``: asked once per frame."""
        self._rig = rig
        self._log = log
        self._utc = utc
        self._open: _Open | None = None
        self._closed: tuple[int, int] | None = None
        self.epoch: int | None = None
        """Of the last record read."""
        self.prev_epoch: int | None = None
        self.former: set[int] = set()
        """Epochs that were before one that was read from its beginning."""
        self.worker: dict[str, Any] | None = None
        """The last STATUS record of this epoch."""
        self._latest: Latest | SampleRun | None = None
        self.dropped = 0
        """Samples that no frame could take: the worker broke the ring's rules. ``first`` of the next frame shows it."""

    @property
    def latest(self) -> Latest | None:
        """The last sample read of this epoch."""
        if isinstance(self._latest, SampleRun):
            # Looked up when somebody asks: a few times a second, not for every run.
            index, uid, *rest = rows(self._latest.data)[-1].item()
            self._latest = Latest(self._latest.epoch, index, uid, Sample(*rest))
        return self._latest

    @property
    def open_start(self) -> int | None:
        """Where in the ring the open frame begins; None when none is open."""
        return self._open.start if self._open else None

    def feed(self, record: Record | SampleRun) -> list[Built]:
        """Take the next record, or run of samples; return the frames it completes, in order."""
        built = []
        if record.epoch != self.epoch:
            # Another start of the worker: nothing more can come for the open frame.
            built += self.close()
            self.epoch, self.prev_epoch, self.worker, self._latest = record.epoch, None, None, None
        if isinstance(record, SampleRun):
            built += self._samples(record)
        elif record.kind == Kind.SAMPLE:
            built += self._sample(record)
        elif record.kind == Kind.FRAME_CLOSE:
            if self._open and self._open.key == (record.epoch, record.seq):
                built += self.close()
        elif record.kind == Kind.FRONT:
            built += self._front(record)
        elif record.kind == Kind.STATUS:
            self.worker = self._map(record)
        elif record.kind in _DOCUMENTS:
            built.append(self._document(record))
        elif record.kind not in TAPE_KINDS:
            self._log.error("record of an unknown kind in the ring: a newer controller?", kind=record.kind)
        return built

    def close(self) -> list[Built]:
        """Close the open frame: told so by the worker, by its end, or by its successor."""
        frame, self._open = self._open, None
        if frame is None:
            return []
        self._closed = frame.key
        epoch, seq = frame.key
        table = rows(b"".join(frame.stored))
        payload = frames.table_frame(self._rig, epoch, seq, frame.first, table, self._utc())
        return [Built("samples", payload, frame.start, epoch, seq, None)]

    def _sample(self, record: Record) -> list[Built]:
        try:
            index, run, sample = unpack_sample(record.payload)
        except RingError as error:
            self._drop(record, str(error))
            return []
        self._latest = Latest(record.epoch, index, run, sample)
        key = record.epoch, record.seq
        built = self.close() if self._open and self._open.key != key else []
        if self._closed and self._closed[0] == record.epoch and record.seq <= self._closed[1]:
            # Sent under the same number again it would be taken for a repetition, and vanish unseen.
            self._drop(record, "its frame is closed already")
            return built
        if self._open is None:
            self._open = _Open(record, index)
        if self._open.count == frames.MAX_SAMPLES:
            self._drop(record, f"its frame has {frames.MAX_SAMPLES} samples already")
            return built
        self._open.add(as_stored(record.payload), 1)
        return built

    def _samples(self, run: SampleRun) -> list[Built]:
        """Take a run as if it came sample by sample."""
        key = run.epoch, run.seq
        built = self.close() if self._open and self._open.key != key else []
        held = self._open.count if self._open else 0
        late = self._closed is not None and self._closed[0] == key[0] and key <= self._closed
        if late or held + run.samples > frames.MAX_SAMPLES:
            # Some of it will be dropped; which, and how that is said, is decided in one place.
            for record in run.records():
                built += self._sample(record)
            return built
        if self._open is None:
            self._open = _Open(run, run.first)
        self._open.add(run.data, run.samples)
        self._latest = run
        return built

    def _front(self, record: Record) -> list[Built]:
        try:
            block = unpack_front(record.payload)
            payload = frames.front_frame(self._rig, record.epoch, record.seq, block, self._utc())
        except (RingError, FrameError) as error:
            # Its number must not become a silent hole.
            self._log.error("block of the front end cannot be sent", seq=record.seq, why=str(error))
            doc = {"stream": FRONTEND, "from": record.seq, "to": record.seq, "cause": str(error)}
            payload = frames.tombstone_in_place(self._rig, record.epoch, FRONTEND, record.seq, doc, self._utc())
            return [Built("tombstone", payload, record.pos, record.epoch, record.seq, doc, FRONTEND)]
        return [Built(FRONTEND, payload, record.pos, record.epoch, record.seq, None)]

    def _drop(self, record: Record, why: str) -> None:
        self.dropped += 1
        if self.dropped == 1 or self.dropped % 1000 == 0:
            self._log.error("sample dropped", why=why, seq=record.seq, dropped=self.dropped)

    def _map(self, record: Record) -> dict[str, Any]:
        try:
            return frames.decode_map(record.payload)
        except FrameError as error:
            # Kept as it is: what the worker wrote is not for us to throw away.
            self._log.error("record in the ring is no document", kind=record.kind, seq=record.seq, why=str(error))
            return {"undecodable": record.payload, "why": str(error)}

    def _document(self, record: Record) -> Built:
        kind = _DOCUMENTS[Kind(record.kind)]
        doc = self._map(record)
        if record.kind == Kind.EPOCH:
            previous = doc.get("prev_epoch")
            self.prev_epoch = previous if type(previous) is int else None
            if self.prev_epoch is not None:
                self.former.add(self.prev_epoch)
        try:
            payload = frames.doc_frame(kind, self._rig, record.epoch, record.seq, doc, self._utc())
        except FrameError as error:
            # Its number must not become a silent hole.
            self._log.error("document cannot be sent", kind=kind, seq=record.seq, why=str(error))
            doc = {"dropped_bytes": len(record.payload), "why": str(error)}
            payload = frames.doc_frame(kind, self._rig, record.epoch, record.seq, doc, self._utc())
        return Built(kind, payload, record.pos, record.epoch, record.seq, doc)
