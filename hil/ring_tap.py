"""Reads a ring beside the uplink, read-only, releasing nothing: the account of a rig with a real worker.

The file is mapped without the right to write, and its layout (the module text of :mod:`edge.ring`) is followed by code
of its own. What was overwritten before it was read here is no small error: the account would be short and a loss pass
unseen. So positions are followed without a gap, and a gap raises.
"""

from __future__ import annotations

import contextlib
import copy
import mmap
import os
import struct
import threading
import zlib
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hil.errors import BenchFaultError
from hil.ledger import Account

PAGE: Final = 4096
LOOK_S: Final = 0.005
STREAMS: Final = {3: "events", 4: "runs", 5: "epochs", 6: "tombstones", 10: "frontend"}
"""Kinds of which a record becomes a frame by itself."""

_SAMPLE_KIND: Final = 1
_PAD_KIND: Final = 255
_FIXED = struct.Struct("<8sIIQQ")
_HEADER = struct.Struct("<IIQQQ")
_SAMPLE_HEAD = struct.Struct("<QQq")


class RingTap:
    """A thread that follows the ring at ``path`` from its first record on, through replacements of the file."""

    def __init__(self, path: Path) -> None:
        """Look at nothing yet."""
        self._path = path
        self._account = Account()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._fault = ""
        self._thread = threading.Thread(target=self._run, name="ring tap", daemon=True)

    def account(self) -> Account:
        """Return what the ring was given so far; the tap goes on. Raises BenchFaultError if it missed anything."""
        with self._lock:
            if self._fault:
                raise BenchFaultError(self._fault)
            return copy.deepcopy(self._account)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """End, after a last look."""
        self.close()

    def close(self) -> None:
        """End, after a last look; the account stays. A second call does nothing."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._look():
                self._stop.wait(LOOK_S)
        except (BenchFaultError, OSError, struct.error) as error:
            with self._lock:
                self._fault = f"ring tap: {error}"

    def _look(self) -> bool:
        """Follow the ring that is there now, if any; return True once told to end."""
        # Asked before the look: what was given before a close is seen.
        stopping = self._stop.is_set()
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return stopping
        try:
            return self._follow(fd)
        finally:
            os.close(fd)

    def _follow(self, fd: int) -> bool:
        """Return True once told to end, False when another ring is at the path."""
        found = os.fstat(fd)
        with mmap.mmap(fd, found.st_size, prot=mmap.PROT_READ) as memory:
            magic, _version, _page, capacity, ring_id = _FIXED.unpack_from(memory, 0)
            if magic != b"TIPGRING":
                raise BenchFaultError("no ring")
            # Where the first record of a ring's life is, whatever was released since.
            pos = capacity
            while True:
                stopping = self._stop.is_set()
                pos = self._read(memory, capacity, ring_id, pos)
                if stopping:
                    return True
                self._stop.wait(LOOK_S)
                with contextlib.suppress(FileNotFoundError):
                    if self._path.stat().st_ino != found.st_ino:
                        self._read(memory, capacity, ring_id, pos)
                        return False

    def _read(self, memory: mmap.mmap, capacity: int, ring_id: int, pos: int) -> int:
        """Take every whole record from ``pos`` on; return where the next one will be."""
        while True:
            room = capacity - pos % capacity
            start = pos + room if room < _HEADER.size else pos
            at = PAGE + start % capacity
            crc, kind_length, stored, epoch, seq = _HEADER.unpack_from(memory, at)
            if stored > start:
                raise BenchFaultError(f"overtaken: position {start} holds {stored} already; its ring is too small")
            kind, length = kind_length >> 24, kind_length & 0xFFFFFF
            size = (_HEADER.size + length + 7) // 8 * 8
            if stored != start or at + size > PAGE + capacity:
                return pos
            body = bytes(memory[at + 4 : at + _HEADER.size + (0 if kind == _PAD_KIND else length)])
            # Seen before its last byte was: not there yet.
            if crc != zlib.crc32(body, ring_id & 0xFFFFFFFF):
                return pos
            self._note(kind, epoch, seq, body[_HEADER.size - 4 :])
            pos = start + size

    def _note(self, kind: int, epoch: int, seq: int, payload: bytes) -> None:
        with self._lock:
            if kind == _SAMPLE_KIND:
                index, _run, t_ns = _SAMPLE_HEAD.unpack_from(payload)
                # The ledger's CRC is over the same bytes: a sample's record is its fields, packed.
                self._account.sample(epoch, seq, index, zlib.crc32(payload), t_ns)
            elif kind in STREAMS:
                self._account.document(epoch, STREAMS[kind], seq, zlib.crc32(payload), 0)
