"""``tipguard store verify`` and ``import``: what a store holds, read back frame by frame; and from one into another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from edge.errors import FrameError
from edge.frames import MEASURED, Frame, decode_frame, hex16
from edge.store.backend import Backend, Key, Received, Unreadable
from edge.store.contiguity import Coverage, Range

MAX_NAMED: Final = 20
"""Of each kind of finding so many are named; all are counted."""
IMPORT_BATCH: Final = 256


class Readable(Protocol):
    """What can be verified, and imported from."""

    def raw_frames(self) -> Iterator[tuple[Key, int, bytes]]:
        """Yield (key, seq, payload) of every frame held."""


@dataclass(slots=True)
class StreamReport:
    """One stream of one epoch."""

    held: Coverage = field(default_factory=Coverage)
    samples: int = 0
    declared: list[Range] = field(default_factory=list)
    """Sample numbers that tombstones declare lost."""
    sample_ranges: Coverage = field(default_factory=Coverage)
    lost: Coverage = field(default_factory=Coverage)
    """Frames declared lost, of which nobody knows what samples were in them."""


@dataclass(slots=True)
class Report:
    """What was found. ``good`` is about the store; holes may be the rig's, or on their way."""

    frames: int = 0
    bytes: int = 0
    doubled: int = 0
    """Frames that are there twice."""
    unreadable: int = 0
    """Payloads that do not decode, or are filed under another frame's number."""
    named: list[str] = field(default_factory=list)
    streams: dict[Key, StreamReport] = field(default_factory=dict)
    not_held: int = 0
    """Frames the store says it has, and has not."""

    @property
    def good(self) -> bool:
        """True when every frame is there once, readable, and whatever is claimed is held."""
        return not (self.doubled or self.unreadable or self.not_held)

    @property
    def holes(self) -> int:
        """Stretches of numbers that are missing below the highest of their stream."""
        return sum(1 for found in self.streams.values() for _ in found.held.holes())

    @property
    def undeclared(self) -> int:
        """Samples that are missing below the highest of their epoch, and that nobody declared lost."""
        return sum(last - first + 1 for found in self.streams.values() for first, last in undeclared(found))

    @property
    def complete(self) -> bool:
        """True when nothing is missing as far as numbers tell: not what came after the last frame here."""
        return not (self.holes or self.undeclared)

    def note(self, text: str) -> None:
        """Name a finding, while there are few."""
        if len(self.named) < MAX_NAMED:
            self.named.append(text)

    def to_map(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "good": self.good,
            "complete": self.complete,
            "frames": self.frames,
            "bytes": self.bytes,
            "doubled": self.doubled,
            "unreadable": self.unreadable,
            "not_held": self.not_held,
            "holes": self.holes,
            "samples_missing": self.undeclared,
            "named": self.named,
            "streams": [
                {
                    "rig": key.rig,
                    "epoch": hex16(key.epoch),
                    "stream": key.stream,
                    "frames": len(found.held),
                    "samples": found.samples,
                    "holes": [list(hole) for hole in found.held.holes()],
                    "samples_missing": sum(last - first + 1 for first, last in undeclared(found)),
                }
                for key, found in sorted(self.streams.items())
            ],
        }


def undeclared(stream: StreamReport) -> list[Range]:
    """Return the sample numbers below the highest that are neither held nor declared lost."""
    known = Coverage(stream.declared)
    for first, last in stream.sample_ranges:
        known.add_range(first, last)
    return [hole for hole in known.holes() if stream.sample_ranges]


def verify(store: Readable, claimed: Mapping[Key, Coverage]) -> Report:
    """Read everything a store holds and judge it. ``claimed``: what it says it has. Raises StoreError."""
    report = Report()
    for key, seq, payload in store.raw_frames():
        stream = report.streams.setdefault(key, StreamReport())
        report.frames += 1
        report.bytes += len(payload)
        if not stream.held.add(seq):
            report.doubled += 1
            report.note(f"{_name(key, seq)}: there twice")
            continue
        frame = _checked(key, seq, payload, report)
        if frame is not None:
            _count(report, key, frame)
    if any(stream.lost for stream in report.streams.values()):
        _declare_between(store, report)
    for key, coverage in claimed.items():
        held = report.streams.get(key, StreamReport()).held
        for first, last in _missing(coverage, held):
            report.not_held += last - first + 1
            report.note(f"{_name(key, first)}..{last}: said to be held, and is not")
    return report


def _name(key: Key, seq: int) -> str:
    return f"{key.rig} {hex16(key.epoch)} {key.stream} {seq}"


def _checked(key: Key, seq: int, payload: bytes, report: Report) -> Frame | None:
    try:
        frame = decode_frame(payload)
    except FrameError as error:
        report.unreadable += 1
        report.note(f"{_name(key, seq)}: {error}")
        return None
    if frame.identity != (key.rig, hex16(key.epoch), key.stream, seq):
        report.unreadable += 1
        report.note(f"{_name(key, seq)}: filed under another frame's number")
        return None
    return frame


def _count(report: Report, key: Key, frame: Frame) -> None:
    stream = report.streams[key]
    samples = _samples(frame)
    if frame.kind in MEASURED and samples is not None:
        stream.samples += frame.n
        stream.sample_ranges.add_range(*samples)
    if frame.kind != "tombstone" or frame.doc is None:
        return
    if key.stream in MEASURED:
        # In the place of a frame, whose number "from" and "to" are.
        if samples is None:
            stream.lost.add(frame.seq)
        else:
            stream.declared.append(samples)
        return
    first, last = frame.doc.get("from"), frame.doc.get("to")
    if frame.doc.get("stream") in MEASURED and type(first) is int and type(last) is int and 0 <= first <= last:
        report.streams.setdefault(key._replace(stream=frame.doc["stream"]), StreamReport()).declared.append(
            (first, last)
        )


def _samples(frame: Frame) -> Range | None:
    """Return the numbers of the samples that are in a frame, or were in what a tombstone stands for; None: unknown."""
    if frame.kind != "tombstone" and frame.kind not in MEASURED:
        return None
    told = {"first": frame.first, "n": frame.n} if frame.kind in MEASURED else frame.doc or {}
    first, n = told.get("first"), told.get("n")
    return (first, first + n - 1) if type(first) is int and type(n) is int and first >= 0 and n > 0 else None


def _declare_between(store: Readable, report: Report) -> None:
    """Declare the samples between the frames around what is lost: they were in it, whatever they were.

    Reads everything once more, which is seldom needed, rather than to remember where every frame began.
    """
    around: dict[Key, dict[int, Range]] = {}
    for key, seq, payload in store.raw_frames():
        known = report.streams.get(key)
        if known is None:
            # Of an epoch or a stream that began since the first reading.
            continue
        lost = known.lost
        if (lost and (seq + 1 in lost or seq - 1 in lost)) and seq not in lost:
            frame = _checked(key, seq, payload, Report())
            samples = None if frame is None else _samples(frame)
            if samples is not None:
                around.setdefault(key, {})[seq] = samples
    for key, found in around.items():
        stream = report.streams[key]
        for first, last in stream.lost:
            before = (0, -1) if first == 0 else found.get(first - 1)
            behind = found.get(last + 1)
            if before is not None and behind is not None and before[1] + 1 < behind[0]:
                stream.declared.append((before[1] + 1, behind[0] - 1))


def _missing(claimed: Coverage, held: Coverage) -> Iterator[Range]:
    for first, last in claimed:
        at = first
        for begin, end in held:
            if end < at or begin > last:
                continue
            if begin > at:
                yield at, begin - 1
            at = end + 1
        if at <= last:
            yield at, last


@dataclass(slots=True)
class Imported:
    """What an import did."""

    read: int = 0
    unreadable: int = 0


def import_frames(source: Readable, target: Backend, *, batch: int = IMPORT_BATCH) -> Imported:
    """Commit every frame of ``source`` to ``target``, which keeps what it has. Raises StoreError; may be run again."""
    done = Imported()
    frames: list[Received] = []
    unreadable: list[Unreadable] = []
    for key, seq, payload in source.raw_frames():
        done.read += 1
        try:
            frame = decode_frame(payload)
        except FrameError as error:
            done.unreadable += 1
            unreadable.append(Unreadable(f"tipguard/{key.rig}/import", payload, str(error), None))
        else:
            frames.append(Received(key.rig, key.epoch, key.stream, seq, payload, frame))
        if len(frames) + len(unreadable) >= batch:
            target.commit(frames, unreadable)
            frames.clear()
            unreadable.clear()
    if frames or unreadable:
        target.commit(frames, unreadable)
    return done
