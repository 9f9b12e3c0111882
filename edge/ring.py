"""The ring between worker and uplink: a file on tmpfs, mapped by both, written by one and drained by the other.

The file outlives both processes. SIGKILL of the writer at any instruction loses at most the record being written,
and nothing that was not released is ever overwritten: a full ring refuses.

Layout, little-endian (x86-64 and aarch64). A header page of 4096 bytes, then ``capacity`` bytes of records::

    0    magic "TIPGRING"    8   version u32    12  header size u32    16  capacity u64    24  ring id u64
    32   crc32 of bytes 0..31
    64   head u64: a hint, written after each record; nothing is valid because of it
    128  tail u64, crc32 of it      192  tail u64, crc32 of it      (written in turn; the larger valid one counts)

A *position* is an absolute count of bytes since the ring was made, never wrapped; it starts at ``capacity``, so that
zeroed memory never looks like a record. A record starts at a multiple of 8 and is::

    0  crc32 u32 of the rest, seeded with the ring id     4  kind u8 << 24 | payload length    8  position u64
    16 epoch u64    24 seq u64    32 payload, then padding to a multiple of 8

A record is valid when its own position is the one it is looked for at and its CRC holds; so a record of an earlier
lap, half a record, and a copy of a record inside a payload all read as "nothing here yet". A record never wraps: what
is left at the end of a lap is filled by a pad record, or skipped when it is shorter than a record header.

One writer, one reader. The writer needs no system call and no lock per record.
"""

from __future__ import annotations

import contextlib
import enum
import mmap
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Final, NamedTuple

from edge.errors import RingError
from edge.samples import Sample

MAGIC: Final = b"TIPGRING"
VERSION: Final = 1
PAGE: Final = 4096
ALIGN: Final = 8
MIN_CAPACITY: Final = PAGE
MAX_CAPACITY: Final = 1 << 40
MAX_PAYLOAD: Final = (1 << 24) - 1
"""Bytes; a record must also fit a quarter of the ring."""

_FIXED = struct.Struct("<8sIIQQ")
_FIXED_CRC_AT: Final = 32
_HEAD_AT: Final = 64
_TAIL_AT: Final = (128, 192)
_TAIL = struct.Struct("<QI")
_U64 = struct.Struct("<Q")

_HEADER = struct.Struct("<IIQQQ")
_BODY = struct.Struct("<IQQQ")
_PAD_KIND: Final = 255
_LENGTH_MASK: Final = MAX_PAYLOAD

_SAMPLE = struct.Struct("<QQqIqddHB")
"""index u64, run u64, t_ns i64, t_unc_ns u32, t_rx_ns i64, bias V f64, current A f64, flags u16, phase u8."""
# The whole sample record behind its CRC, packed at one go.
_SAMPLE_BODY = struct.Struct("<IQQQQQqIqddHB")
_SAMPLE_BYTES: Final = (_HEADER.size + _SAMPLE.size + ALIGN - 1) // ALIGN * ALIGN
_SAMPLE_STORED: Final = _HEADER.size + _SAMPLE.size


class Kind(enum.IntEnum):
    """What a record is. Values are frozen: a newer writer may meet an older reader."""

    SAMPLE = 1
    """:func:`unpack_sample`; ``seq`` is that of the frame the sample belongs to."""
    FRAME_CLOSE = 2
    """The frame ``seq`` has all its samples; no payload."""
    EVENT = 3
    """msgpack map; ``seq`` counts events of this epoch."""
    RUN = 4
    """msgpack map; ``seq`` counts run documents of this epoch."""
    EPOCH = 5
    """First record of a worker start: msgpack map {rig, epoch, prev_epoch or None, t_ns, version}."""
    TOMBSTONE = 6
    """Declared hole: msgpack map {stream, from, to, cause}."""
    STATUS = 7
    """msgpack map: the worker's state, as of now."""
    TAPE = 8
    """A stretch of the flight record (:mod:`edge.tape`); ``seq`` counts the stretches of this epoch."""
    TAPE_START = 9
    """msgpack map: where a replay can begin; ``seq`` is that of the stretch that follows it."""
    FRONT = 10
    """A block of the front end (:mod:`edge.front_block`); ``seq`` is that of the frame it becomes."""


TAPE_KINDS: Final = frozenset({Kind.TAPE, Kind.TAPE_START})
"""For the flight record only: they are published nowhere, and dropped before a sample is."""


_SAMPLE_KIND: Final = int(Kind.SAMPLE) << 24 | _SAMPLE.size


def _aligned(size: int) -> int:
    return (size + ALIGN - 1) // ALIGN * ALIGN


class Record(NamedTuple):
    """One record as read. ``pos``: where it starts. ``kind``: a :class:`Kind`, or one this version does not know."""

    pos: int
    kind: int
    epoch: int
    seq: int
    payload: bytes

    @property
    def end(self) -> int:
        """Position behind the record: ``release_to(record.end)`` gives it back."""
        return self.pos + _aligned(_HEADER.size + len(self.payload))


def unpack_sample(payload: bytes) -> tuple[int, int, Sample]:
    """Return (sample number in its epoch, run id or 0, sample) of a SAMPLE record's payload.

    Raises :class:`RingError` when the payload has another length.
    """
    if len(payload) != _SAMPLE.size:
        raise RingError(f"sample record of {len(payload)} bytes, expected {_SAMPLE.size}: written by another version")
    index, run, *rest = _SAMPLE.unpack(payload)
    return index, run, Sample(*rest)


class _RingFile:
    """The mapping and what both sides need to read it."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        size = os.fstat(fd).st_size
        if sys.byteorder != "little":
            raise RingError(f"ring {path}: this host is big-endian, which the ring's layout is not made for")
        if size < PAGE + MIN_CAPACITY:
            raise RingError(f"ring {path}: {size} bytes is no ring; remove the file and start the controller again")
        # Pages are touched now: a page fault belongs to the start, not to a sample.
        self._map = mmap.mmap(fd, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        self._u32 = memoryview(self._map).cast("I")
        self._u64 = memoryview(self._map).cast("Q")
        try:
            self.capacity_bytes = self._check_header(size)
        except RingError:
            self.close()
            raise

    def _check_header(self, size: int) -> int:
        magic, version, page, capacity, ring_id = _FIXED.unpack_from(self._map, 0)
        advice = "remove the file (what the uplink has not published is lost with it) and start the controller again"
        if zlib.crc32(self._map[: _FIXED.size]) != self._u32[_FIXED_CRC_AT // 4] or magic != MAGIC:
            raise RingError(f"ring {self.path}: damaged header (bytes 0..35); {advice}")
        if version != VERSION or page != PAGE:
            raise RingError(f"ring {self.path}: layout version {version}, this program knows {VERSION}; {advice}")
        if capacity + PAGE != size:
            raise RingError(f"ring {self.path}: header says {capacity} bytes, file has {size - PAGE}; {advice}")
        self._seed = ring_id & 0xFFFFFFFF
        self._tail_seed = ring_id >> 32
        if self._stored_tail() is None:
            raise RingError(f"ring {self.path}: both tail marks damaged (bytes 128..203); {advice}")
        return int(capacity)

    def _stored_tail(self) -> int | None:
        tails = []
        for at in _TAIL_AT:
            tail, crc = _TAIL.unpack_from(self._map, at)
            if crc == zlib.crc32(_U64.pack(tail), self._tail_seed):
                tails.append(tail)
        return max(tails, default=None)

    def _lap_start(self, pos: int) -> int:
        """Return ``pos``, moved to the next lap when no record header fits before the end of this one."""
        room = self.capacity_bytes - pos % self.capacity_bytes
        return pos + room if room < _HEADER.size else pos

    def _record_at(self, pos: int) -> tuple[int, int, int, int, int] | None:
        """Return (kind, epoch, seq, offset of the payload in the file, payload length) or None: not valid (yet)."""
        lap_offset = pos % self.capacity_bytes
        offset = PAGE + lap_offset
        crc, kind_length, stored_pos, epoch, seq = _HEADER.unpack_from(self._map, offset)
        if stored_pos != pos:
            return None
        length = kind_length & _LENGTH_MASK
        if length > self.capacity_bytes - lap_offset - _HEADER.size:
            return None
        kind = kind_length >> 24
        # A pad has nothing behind its header, however much it covers.
        stop = offset + _HEADER.size + (0 if kind == _PAD_KIND else length)
        if crc != zlib.crc32(self._map[offset + 4 : stop], self._seed):
            return None
        return kind, epoch, seq, offset + _HEADER.size, length

    def _end_of_chain(self, pos: int) -> int:
        """Return the position behind the last of the valid records that follow one another from ``pos``."""
        while True:
            start = self._lap_start(pos)
            found = self._record_at(start)
            if found is None:
                return pos
            pos = start + _aligned(_HEADER.size + found[4])

    def _next_valid(self, pos: int, limit: int) -> int | None:
        """Return the position of the first valid record in [pos, limit). Slow: only after damage."""
        for candidate in range(_aligned(pos), limit, ALIGN):
            start = self._lap_start(candidate)
            if start < limit and self._record_at(start) is not None:
                return start
        return None

    def close(self) -> None:
        """Unmap; the file stays. A second call does nothing."""
        self._u32.release()
        self._u64.release()
        self._map.close()


class RingWriter(_RingFile):
    """The worker's side: makes the ring, or reopens it and goes on behind its last valid record."""

    def __init__(self, path: Path, size_bytes: int = 16 * 1024 * 1024) -> None:
        """Open ``path`` with room for ``size_bytes`` of records, rounded up to 4096; 16 MiB hold 190 000 samples.

        Raises :class:`RingError` when the file cannot be made, has another size, or its header is damaged.
        """
        if not 0 < size_bytes <= MAX_CAPACITY:
            raise RingError(f"ring {path}: a size of {size_bytes} bytes is outside 1..{MAX_CAPACITY}")
        size_bytes = (size_bytes + PAGE - 1) // PAGE * PAGE
        fd = _open_or_make(path, size_bytes)
        try:
            super().__init__(path, fd)
        finally:
            os.close(fd)
        if self.capacity_bytes != size_bytes:
            found = self.capacity_bytes
            self.close()
            raise RingError(
                f"ring {path}: holds {found} bytes of records, {size_bytes} wanted; let the uplink drain it and remove "
                "the file, or set the old size again"
            )
        self._max_payload = min(MAX_PAYLOAD, size_bytes // 4 - _HEADER.size)
        self._tail = self._stored_tail() or 0
        self._head = self._recover()
        self._u64[_HEAD_AT // 8] = self._head
        self._set_limits()

    def _recover(self) -> int:
        """Return where to go on: behind the last valid record."""
        pos = self._end_of_chain(self._tail)
        # The hint only ever lags. If it is ahead, a record in between was damaged in memory; what follows is kept.
        hint = min(self._u64[_HEAD_AT // 8], self._tail + self.capacity_bytes)
        while pos < hint and (start := self._next_valid(pos, hint)) is not None:
            pos = self._end_of_chain(start)
        return pos

    def _set_limits(self) -> None:
        self._lap_end = self._head // self.capacity_bytes * self.capacity_bytes + self.capacity_bytes
        # One comparison on the fast path answers both "does it fit" and "does it wrap".
        self._limit = min(self._lap_end, self._tail + self.capacity_bytes)
        self._to_file = PAGE + self.capacity_bytes - self._lap_end

    @property
    def head(self) -> int:
        """Position of the next record."""
        return self._head

    @property
    def used_fraction(self) -> float:
        """Share of the ring that is not released, 0..1."""
        self._refresh_tail()
        return (self._head - self._tail) / self.capacity_bytes

    def _refresh_tail(self) -> None:
        tail = self._stored_tail()
        # A tail that cannot be read, or one that goes back or ahead of us, frees nothing.
        if tail is not None and self._tail < tail <= self._head:
            self._tail = tail

    def _make_room(self, need: int) -> bool:
        """Let ``need`` bytes fit at the head, wrapping if they must. False: full, nothing changed."""
        self._refresh_tail()
        left = self._lap_end - self._head
        pad = left if need > left else 0
        if self._head + pad + need > self._tail + self.capacity_bytes:
            return False
        if pad >= _HEADER.size:
            self._store(_BODY.pack(_PAD_KIND << 24 | pad - _HEADER.size, self._head, 0, 0), pad)
        elif pad:
            self._head += pad
        self._set_limits()
        return True

    def _store(self, body: bytes, size: int) -> None:
        head = self._head
        at = head + self._to_file
        self._map[at + 4 : at + 4 + len(body)] = body
        self._u32[at >> 2] = zlib.crc32(body, self._seed)
        self._head = self._u64[_HEAD_AT // 8] = head + size

    def write(self, kind: int, epoch: int, seq: int, payload: bytes) -> bool:
        """Append a record; False when the ring is full: nothing is written, nothing overwritten.

        ``epoch``, ``seq``: 0..2**64-1. Raises :class:`RingError` for a record no ring of this size could hold.
        """
        if len(payload) > self._max_payload or not 0 < kind < _PAD_KIND:
            raise RingError(f"ring {self.path}: kind {kind}, {len(payload)} bytes; at most {self._max_payload}")
        size = _aligned(_HEADER.size + len(payload))
        if self._head + size > self._limit and not self._make_room(size):
            return False
        self._store(_BODY.pack(kind << 24 | len(payload), self._head, epoch, seq) + payload, size)
        return True

    def write_sample(self, epoch: int, seq: int, index: int, run: int, sample: Sample) -> bool:
        """Append a sample; False when the ring is full. ``run`` is 0 outside runs.

        Raises :class:`RingError` when a field does not fit its place in the record (``t_unc_ns``: u32).
        """
        head = self._head
        if head + _SAMPLE_BYTES > self._limit:
            if not self._make_room(_SAMPLE_BYTES):
                return False
            head = self._head
        try:
            body = _SAMPLE_BODY.pack(_SAMPLE_KIND, head, epoch, seq, index, run, *sample)
        except struct.error as error:
            raise RingError(f"ring {self.path}: sample {index} of frame {seq} fits no record: {error}") from error
        at = head + self._to_file
        self._map[at + 4 : at + _SAMPLE_STORED] = body
        # The CRC goes last: until it stands, the place holds no record.
        self._u32[at >> 2] = zlib.crc32(body, self._seed)
        self._head = self._u64[_HEAD_AT // 8] = head + _SAMPLE_BYTES
        return True


class RingReader(_RingFile):
    """The uplink's side. Reading moves a private cursor; only releasing gives room back to the writer.

    A new reader starts at the released tail: what an earlier one read but did not release is read again.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``. Raises :class:`RingError` when it is absent, not readable and writable, or no ring."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise RingError(f"ring {path}: {error.strerror}; it is made by the controller, start that first") from error
        try:
            super().__init__(path, fd)
            self._inode = os.fstat(fd).st_ino
        finally:
            os.close(fd)
        self._tail = self._cursor = self._stored_tail() or 0
        self._slot = 0

    @property
    def cursor(self) -> int:
        """Position behind the last record read."""
        return self._cursor

    @property
    def tail(self) -> int:
        """Position up to which everything is released."""
        return self._tail

    @property
    def used_fraction(self) -> float:
        """Share of the ring that is not released, 0..1, by the writer's last hint."""
        return min(1.0, max(0.0, (self._u64[_HEAD_AT // 8] - self._tail) / self.capacity_bytes))

    def stuck(self) -> bool:
        """Return True when the writer is ahead but the record at the cursor is not valid.

        For an instant that is a record in the making; when it lasts, memory was damaged: :meth:`resync`.
        """
        return bool(self._u64[_HEAD_AT // 8] > self._cursor) and self._record_at(self._lap_start(self._cursor)) is None

    def replaced(self) -> bool:
        """Return True when the path now names another file than the one mapped, or none."""
        try:
            return self.path.stat().st_ino != self._inode
        except OSError:
            return True

    def read(self) -> Record | None:
        """Return the next record, or None when there is none yet. Nothing is released."""
        while True:
            start = self._lap_start(self._cursor)
            found = self._record_at(start)
            if found is None:
                return None
            kind, epoch, seq, at, length = found
            self._cursor = start + _aligned(_HEADER.size + length)
            if kind != _PAD_KIND:
                return Record(start, kind, epoch, seq, self._map[at : at + length])

    def rewind(self) -> None:
        """Move the cursor back to the released tail."""
        self._cursor = self._tail

    def release(self) -> None:
        """Give back everything read so far."""
        self.release_to(self._cursor)

    def release_to(self, pos: int) -> None:
        """Give back everything before ``pos``: a record's start or end, between the tail and the cursor."""
        if not self._tail <= pos <= self._cursor:
            raise RingError(f"ring {self.path}: release to {pos} outside {self._tail}..{self._cursor}")
        if pos == self._tail:
            return
        # The other mark stays valid while this one is written, so a kill in between leaves a tail to go by.
        at = _TAIL_AT[self._slot]
        self._map[at : at + _TAIL.size] = _TAIL.pack(pos, zlib.crc32(_U64.pack(pos), self._tail_seed))
        self._slot ^= 1
        self._tail = pos

    def resync(self) -> int:
        """Skip damaged memory up to the next valid record or the writer's head; return the bytes skipped."""
        hint = min(self._u64[_HEAD_AT // 8], self._tail + self.capacity_bytes)
        before = self._cursor
        if hint > before and self.stuck():
            self._cursor = self._next_valid(before, hint) or hint
        return self._cursor - before


def _open_or_make(path: Path, size_bytes: int) -> int:
    """Open the ring for reading and writing; when there is none, make one that appears with its header in place."""
    try:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise RingError(f"ring {path}: cannot be opened: {error.strerror}; is it another user's?") from error
    # Named by process: two starters do not write into one another's file.
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o660)
    except OSError as error:
        raise RingError(f"ring {path}: cannot be made: {error.strerror}") from error
    try:
        # Reserved now: on a full tmpfs a later touch of a missing page would be a SIGBUS in the worker.
        os.posix_fallocate(fd, 0, PAGE + size_bytes)
        ring_id = int.from_bytes(os.urandom(8), "little")
        fixed = _FIXED.pack(MAGIC, VERSION, PAGE, size_bytes, ring_id)
        tail = _TAIL.pack(size_bytes, zlib.crc32(_U64.pack(size_bytes), ring_id >> 32))
        os.pwrite(fd, fixed + struct.pack("<I", zlib.crc32(fixed)), 0)
        os.pwrite(fd, _U64.pack(size_bytes), _HEAD_AT)
        for at in _TAIL_AT:
            os.pwrite(fd, tail, at)
        new.rename(path)
    except OSError as error:
        os.close(fd)
        new.unlink(missing_ok=True)
        raise RingError(
            f"ring {path}: no room for {size_bytes} bytes ({error.strerror}); free some of this tmpfs or make the ring "
            "smaller"
        ) from error
    return fd
