"""Journal segments: records appended one behind the other, each with a CRC; a synced append is a commit.

A record is ``TGJ1``, the length of its body and the body's CRC-32 (zlib), both u32 little-endian, then the body: a
msgpack value. What a crash left half written ends a segment and was never acknowledged; damage in the middle is
stepped over and reported.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgpack

from edge.store.backend import StoreError
from edge.store.disk import Disk

MAGIC: Final = b"TGJ1"
MAX_BODY: Final = (1 << 20) + 4096
"""A frame and what goes with it."""

_HEAD: Final = struct.Struct("<4sII")


@dataclass(slots=True)
class Scan:
    """What was found of a segment beside its records."""

    damaged_bytes: int = 0
    """Stepped over, with records behind them."""
    torn_bytes: int = 0
    """At the end: of an append that was cut short."""


def encode_record(value: Any) -> bytes:  # noqa: ANN401 - any msgpack value
    """Return one record."""
    body: bytes = msgpack.packb(value)
    return _HEAD.pack(MAGIC, len(body), zlib.crc32(body)) + body


def read_records(data: bytes, scan: Scan) -> Iterator[Any]:
    """Yield the value of every whole record; when done, ``scan`` says what was none."""
    at = good = 0
    while (at := data.find(MAGIC, at)) >= 0:
        record = _record_at(data, at)
        if record is None:
            at += 1
            continue
        value, end = record
        scan.damaged_bytes += at - good
        at = good = end
        yield value
    scan.torn_bytes = len(data) - good


def _record_at(data: bytes, at: int) -> tuple[Any, int] | None:
    if at + _HEAD.size > len(data):
        return None
    _, length, crc = _HEAD.unpack_from(data, at)
    begin, end = at + _HEAD.size, at + _HEAD.size + length
    if length > MAX_BODY or end > len(data):
        return None
    body = data[begin:end]
    if zlib.crc32(body) != crc:
        return None
    with contextlib.suppress(ValueError, TypeError, RecursionError, msgpack.UnpackException):
        return msgpack.unpackb(body), end
    return None


class Segment:
    """One segment that is appended to. Not for threads: who shares it locks."""

    def __init__(self, disk: Disk, path: Path) -> None:
        """Name it; it is made with the first append."""
        self.path = path
        self.size = 0
        """Bytes committed."""
        self._disk = disk
        self._descriptor: int | None = None
        self._dirty = False

    @property
    def clean(self) -> bool:
        """True when nothing stands in the file but what was committed."""
        return not self._dirty

    def append(self, records: Sequence[bytes]) -> None:
        """Append and sync. Raises :class:`StoreError`, and then none of them counts.

        After a failed write or sync what is behind the last commit is cut off, before anything is written again: the
        kernel may have dropped pages of it, and would say so only once.
        """
        data = b"".join(records)
        try:
            if self._descriptor is None:
                self._descriptor = self._disk.append_to(self.path)
            self._mend()
            self._dirty = True
            self._disk.write(self._descriptor, data)
            self._disk.sync(self._descriptor)
        except OSError as error:
            # If that fails, too, the next append tries again.
            with contextlib.suppress(OSError):
                self._mend()
            raise StoreError(f"{self.path}: {error.strerror or error}") from error
        self._dirty = False
        self.size += len(data)

    def _mend(self) -> None:
        if self._dirty and self._descriptor is not None:
            self._disk.cut_back(self._descriptor, self.size)
            self._dirty = False

    def close(self) -> None:
        """Close; what a failed append left is cut off, if that can be done."""
        if self._descriptor is None:
            return
        # What stays all the same is taken by the next start for what it is: records that nobody was promised.
        with contextlib.suppress(OSError):
            self._mend()
        # All that counts is synced: what a close has to say is of no use to anybody.
        with contextlib.suppress(OSError):
            self._disk.close(self._descriptor)
        self._descriptor = None
