"""The uplink's part of the flight record: segments on disk, bounded, and never in the way of what is published.

A stretch in which nothing but rest was recorded is not kept: from one checkpoint to the next it waits in memory, and
goes to disk only with a run, a sample or an event in it. A disk that is full or gone stops the recording, says so, and
is tried again; frames do not notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgpack

from edge.clock import Clock
from edge.errors import FlightError
from edge.flight import SUFFIX, encode, header, read_flight, segments
from edge.ring import Kind, Record
from edge.ring_runs import SampleRun

WRITE_NS: Final = 1_000_000_000
"""At the latest so long after it was drained, a record is given to the file system."""
WRITE_BYTES: Final = 1 << 16
SYNC_NS: Final = 10_000_000_000
"""At the earliest so long after the last, what was written is forced to the disk, by a thread."""
LEVEL: Final = 1
"""Of compression: a quarter of the size at well under a millisecond per second of recording."""
RETRY_NS: Final = 10_000_000_000
HELD_BYTES: Final = 1 << 20
"""Of a stretch at rest; more than that is no rest."""
WORTH: Final = frozenset({Kind.SAMPLE, Kind.EVENT, Kind.RUN, Kind.TOMBSTONE})
_DIGITS: Final = 8


class FlightWriter:
    """Takes the ring's records as they are drained. Never raises for the disk."""

    def __init__(
        self,
        directory: Path,
        rig: str,
        *,
        keep_bytes: int,
        segment_bytes: int,
        clock: Clock,
        log: Any,  # noqa: ANN401 - structlog's loggers share no type
    ) -> None:
        """Open nothing yet. ``keep_bytes``: of all segments of the rig; ``segment_bytes``: of one, about."""
        self._directory = directory
        self._rig = rig
        self._segment_bytes = min(segment_bytes, max(keep_bytes // 4, 1))
        self._keep_bytes = keep_bytes
        self._clock = clock
        self._log = log
        self._file: BinaryIO | None = None
        self._number = 0
        self._size = 0
        self._looked = False
        self._last: tuple[int, int] | None = None
        """Epoch and position of the last record on disk: an uplink that starts again reads some of them again."""
        self._held = bytearray()
        self._held_from: int | None = None
        self._waits = False
        """What is held may turn out to be of no interest."""
        self._begun = False
        """A beginning was written or held since the last failure: what follows makes sense."""
        self._resumes = True
        """What is on disk may go on with the next record: nothing was missed since this uplink began."""
        self._continues = False
        """The next segment goes on in the middle of what the last one holds."""
        self._written_ns = 0
        self._synced_ns = 0
        self._dirty = False
        self._retry_ns = 0
        self._syncing: asyncio.Task[None] | None = None
        self.fault: str | None = None
        """Why nothing is recorded at present; None when it is."""
        self.missed = 0
        """Records that were not kept, since the start."""

    def take(self, record: Record | SampleRun) -> None:
        """Take the next record of the ring, or run of them; what goes to disk, and when, is decided here."""
        if isinstance(record, SampleRun):
            for one in record.records():
                self._take(one)
        elif record.kind != Kind.FRONT:
            # Of a front end a replay needs what came over its line, which is on the tape; its blocks are published.
            self._take(record)

    def _take(self, record: Record) -> None:
        now_ns = self._clock.now_ns()
        if not self._look(now_ns):
            self.missed += 1
            return
        if self._last is not None and record.epoch == self._last[0] and record.pos <= self._last[1]:
            return
        if record.kind == Kind.TAPE_START:
            self._begin(record)
        elif not self._begun and self._resumes and self._last is not None and record.epoch == self._last[0]:
            # Where the uplink before us stopped.
            self._begun = self._continues = True
        if not self._begun:
            # In the middle of something whose beginning is not there.
            return
        if record.kind in WORTH:
            self._waits = False
        if not self._held:
            self._held_from = record.pos
        self._held += encode(record)
        self._last = record.epoch, record.pos
        if len(self._held) > HELD_BYTES:
            self._waits = False

    def floor(self, cursor: int, capacity_bytes: int) -> int:
        """Return up to where the ring may be released, ``cursor`` being read up to: what is not on disk stays.

        But never more than an eighth of the ring: its room is for samples.
        """
        if not self._held or self._held_from is None or cursor - self._held_from > capacity_bytes // 8:
            return cursor
        return min(self._held_from, cursor)

    def end_ring(self) -> None:
        """The ring is read to its end, another will follow: keep nothing that refers to it."""
        if not self._waits:
            self._write()
        self._held.clear()

    def _begin(self, record: Record) -> None:
        """A replay can begin here: forget what was at rest before it."""
        if self._waits and self._last is not None and self._last[0] == record.epoch:
            self._held.clear()
        elif self._held:
            self._write()
        # The start of an epoch is always kept: it shows who was behind the ports.
        self._waits = record.seq > 0
        if self._size >= self._segment_bytes or not self._begun:
            self._close()
        self._begun = True
        self._continues = False

    def turn(self) -> None:
        """Write what is due; once in every turn of the uplink."""
        now_ns = self._clock.now_ns()
        due = len(self._held) >= WRITE_BYTES or now_ns - self._written_ns >= WRITE_NS
        if self._held and not self._waits and due:
            self._written_ns = now_ns
            self._write()
        if self._dirty and now_ns - self._synced_ns >= SYNC_NS and (self._syncing is None or self._syncing.done()):
            self._synced_ns = now_ns
            self._dirty = False
            self._sync()

    def close(self) -> None:
        """Write what is worth it, and close."""
        self.end_ring()
        self._close()

    # -- the disk

    def _look(self, now_ns: int) -> bool:
        """Find out where the last uplink ended; False while there is nowhere to write."""
        if self._looked:
            return True
        if now_ns < self._retry_ns:
            return False
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = segments(self._directory)
            if found:
                self._number = int(found[-1].stem)
                with contextlib.suppress(FlightError):
                    records = read_flight(found[-1]).records
                    self._last = (records[-1].epoch, records[-1].pos) if records else None
        except OSError as error:
            self._fail(error)
            return False
        self._looked = True
        if self.fault is not None:
            self._log.info("the flight record goes on", directory=str(self._directory))
            self.fault = None
        return True

    def _write(self) -> None:
        if not self._held:
            return
        data, self._held = bytes(self._held), bytearray()
        try:
            if self._file is not None and self._size >= self._segment_bytes:
                self._close()
                self._continues = True
            if self._file is None:
                self._open(continues=self._continues)
                self._continues = False
            if self._file is not None:
                packed = gzip.compress(data, LEVEL)
                self._file.write(packed)
                self._size += len(packed)
                self._dirty = True
        except OSError as error:
            self._count(data)
            self._fail(error)

    def _open(self, *, continues: bool) -> None:
        self._make_room()
        self._number += 1
        path = self._directory / f"{self._number:0{_DIGITS}}{SUFFIX}"
        # Unbuffered: what is written is with the kernel, whatever becomes of this process.
        self._file = path.open("xb", buffering=0)
        begin = gzip.compress(header(self._rig, self._number, continues=continues), LEVEL)
        self._file.write(begin)
        self._size = len(begin)

    def _make_room(self) -> None:
        sizes = [(path, path.stat().st_size) for path in segments(self._directory)]
        total = sum(size for _, size in sizes)
        for path, size in sizes:
            if total + self._segment_bytes <= self._keep_bytes:
                return
            path.unlink()
            total -= size

    def _count(self, data: bytes) -> None:
        unpacker = msgpack.Unpacker(use_list=False)
        unpacker.feed(data)
        self.missed += sum(1 for _ in unpacker)

    def _fail(self, error: OSError) -> None:
        """Stop recording until the disk is back; begin anew where a replay can."""
        said = f"the flight record cannot be written: {error.strerror or error}"
        if self.fault != said:
            self.fault = said
            self._log.error(
                f"{said}; recording pauses, everything else goes on. Free some space, or set recorder.directory",
                directory=str(self._directory),
                retry_s=RETRY_NS // 1_000_000_000,
            )
        self._retry_ns = self._clock.now_ns() + RETRY_NS
        self._looked = self._begun = self._resumes = False
        self._last = None
        self._held.clear()
        self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        self._size = 0
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()

    def _sync(self) -> None:
        if self._file is None:
            return
        descriptor = os.dup(self._file.fileno())

        def to_disk() -> None:
            try:
                os.fdatasync(descriptor)
            except OSError:
                # The next write says what is wrong.
                return
            finally:
                os.close(descriptor)

        # A card takes its time; frames do not wait for it.
        self._syncing = asyncio.get_running_loop().create_task(asyncio.to_thread(to_disk))
