"""What a ring was given, written down by the giver before each record: the account that a store is balanced against.

A file of entries of 64 bytes, appended with O_APPEND, one ``write`` each; none crosses a page, so a SIGKILL leaves no
half of one. An *intent* precedes a record, a *done* follows it. So of everything a giver's life put into the ring at
most the last record is in doubt: an intent without its done, which may or may not have got there.

Nothing here reads a ring or a frame: what a sample's or a document's content was is kept as the CRC-32 of its fields.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgpack

from edge.samples import Sample
from hil.errors import BenchFaultError

ENTRY_BYTES: Final = 64
INTENT: Final = 1
DONE: Final = 2
SAMPLE: Final = "samples"

_MAGIC: Final = 0x4C45_4447
_ENTRY = struct.Struct("<IBBxxQQQIxxxxq16x")
_STREAMS: Final = ("samples", "events", "runs", "epochs", "tombstones")
_SAMPLE = struct.Struct("<QQqIqddHB")


def sample_crc(index: int, run: int, sample: Sample) -> int:
    """Return the CRC-32 over all that a sample says; ``run`` is 0 outside runs."""
    return zlib.crc32(_SAMPLE.pack(index, run, *sample))


def doc_crc(doc: dict[str, Any]) -> int:
    """Return the CRC-32 over a document."""
    return zlib.crc32(msgpack.packb(doc))


@dataclass(slots=True)
class FrameAccount:
    """The samples that one frame must hold, as (index, CRC), in their order."""

    samples: list[tuple[int, int]] = field(default_factory=list)
    doubtful_last: bool = False
    """The last of them may be missing: its giver died while it was being written."""


@dataclass(slots=True)
class Account:
    """Everything the ring was given. Keys: (epoch, seq) of a sample frame; (epoch, stream, seq) of a document."""

    frames: dict[tuple[int, int], FrameAccount] = field(default_factory=dict)
    documents: dict[tuple[int, str, int], int] = field(default_factory=dict)
    doubtful: set[tuple[int, str, int]] = field(default_factory=set)
    """Documents that may be missing, as their giver died while they were being written."""
    times_ns: dict[tuple[int, str, int], int] = field(default_factory=dict)
    """When the first record of a frame or document was given: (epoch, stream, seq) to CLOCK_MONOTONIC."""

    def sample(self, epoch: int, seq: int, index: int, crc: int, t_ns: int, *, doubtful: bool = False) -> None:
        """Note one sample."""
        frame = self.frames.setdefault((epoch, seq), FrameAccount())
        frame.samples.append((index, crc))
        frame.doubtful_last = doubtful
        self.times_ns.setdefault((epoch, SAMPLE, seq), t_ns)

    def document(self, epoch: int, stream: str, seq: int, crc: int, t_ns: int, *, doubtful: bool = False) -> None:
        """Note one document."""
        key = epoch, stream, seq
        if key in self.documents:
            raise BenchFaultError(f"the account has {stream} {seq} of epoch {epoch:016x} twice")
        self.documents[key] = crc
        self.times_ns[key] = t_ns
        if doubtful:
            self.doubtful.add(key)

    def must_be_stored(self) -> set[tuple[int, str, int]]:
        """Return the identity of everything that was given for certain."""
        certain = {
            (epoch, SAMPLE, seq)
            for (epoch, seq), frame in self.frames.items()
            if len(frame.samples) > frame.doubtful_last
        }
        return certain | (self.documents.keys() - self.doubtful)

    @property
    def sample_count(self) -> int:
        """Samples given, those in doubt included."""
        return sum(len(frame.samples) for frame in self.frames.values())


class Ledger:
    """The giver's side. A life of the giver opens it once; the lives before it stay in the file."""

    def __init__(self, path: Path) -> None:
        """Open ``path`` for appending."""
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._pending = b""

    def intend(self, stream: str, epoch: int, seq: int, index: int, crc: int, t_ns: int) -> None:
        """Write down what is about to be given."""
        code = _STREAMS.index(stream)
        self._write(_ENTRY.pack(_MAGIC, INTENT, code, epoch, seq, index, crc, t_ns))
        self._pending = _ENTRY.pack(_MAGIC, DONE, code, epoch, seq, index, crc, t_ns)

    def done(self) -> None:
        """It was given."""
        self._write(self._pending)

    def _write(self, entry: bytes) -> None:
        if os.write(self._fd, entry) != ENTRY_BYTES:
            raise BenchFaultError("the ledger's disk took half an entry")

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        """Nothing more."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Close."""
        self.close()


class LedgerReader:
    """Reads a ledger while it is being written; each look goes on where the one before ended."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet; the file may come later."""
        self._path = path
        self._at = 0
        self._account = Account()
        self._intent: tuple[int, ...] | None = None

    def look(self) -> Account:
        """Return what was given for certain, and what earlier lives left in doubt. The same object each time.

        Raises BenchFaultError for a ledger that no giver can have written.
        """
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
            # A giver may be writing: the half of an entry that a read caught is not there yet.
            for at in range(0, len(data) // ENTRY_BYTES * ENTRY_BYTES, ENTRY_BYTES):
                self._take(*_ENTRY.unpack_from(data, at))
                self._at += ENTRY_BYTES
        return self._account

    def close(self) -> Account:
        """Return the account of a giver that has ended: what it left open is in doubt."""
        account = self.look()
        if self._intent is not None:
            _note(account, self._intent, doubtful=True)
            self._intent = None
        return account

    def _take(self, magic: int, state: int, *entry: int) -> None:
        if magic != _MAGIC or state not in (INTENT, DONE):
            raise BenchFaultError(f"ledger {self._path}: no entry at byte {self._at}")
        intent, self._intent = self._intent, None
        if state == DONE:
            if entry != intent:
                raise BenchFaultError(f"ledger {self._path}: done at byte {self._at} without its intent")
            _note(self._account, entry, doubtful=False)
            return
        if intent is not None:
            # A life that ended between the two; the next one has an epoch of its own.
            if intent[1] == entry[1]:
                raise BenchFaultError(f"ledger {self._path}: byte {self._at}: left open within one life")
            _note(self._account, intent, doubtful=True)
        self._intent = entry


def read_ledger(path: Path) -> Account:
    """Return the account of a giver that has ended; see :class:`LedgerReader`."""
    return LedgerReader(path).close()


def _note(account: Account, entry: tuple[int, ...], *, doubtful: bool) -> None:
    code, epoch, seq, index, crc, t_ns = entry
    if code == _STREAMS.index(SAMPLE):
        account.sample(epoch, seq, index, crc, t_ns, doubtful=doubtful)
    else:
        account.document(epoch, _STREAMS[code], seq, crc, t_ns, doubtful=doubtful)
