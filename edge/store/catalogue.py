"""The files of a directory store, and what a reader finds in them: shared by the store itself, ``verify`` and queries.

::

    DIR/store.json                                       name, generation, version
    DIR/lock                                             held by the program that writes
    DIR/journal/00000012.journal                         committed, not yet in Parquet
    DIR/frames/rig=R/date=D/00000011.parquet             one for each segment, rig and UTC date
    DIR/samples/... DIR/documents/...
    DIR/manifest                                         which segments these are, and what they hold
    DIR/quarantine/                                      what could not be read
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.store import tables
from edge.store.backend import Key, StoreError, StoreUnusableError
from edge.store.contiguity import Coverage
from edge.store.disk import Disk
from edge.store.journal import Scan, read_records
from edge.store.manifest import FILE as MANIFEST
from edge.store.manifest import Entry, read_manifest
from edge.store.tables import Record

VERSION: Final = 1
FORMAT: Final = "tipguard-store"
IDENTITY: Final = "store.json"
LOCK: Final = "lock"
JOURNAL: Final = "journal"
QUARANTINE: Final = "quarantine"

_SEGMENT: Final = re.compile(r"(\d{8,})\.journal")
_PARQUET: Final = re.compile(r"(\d{8,})\.parquet")
_RIG_FOLDER: Final = "rig="
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_RETRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Identity:
    """Which store a directory is."""

    store: str
    generation: str
    stamp: str
    """Of the lock file beside it: where that is another one, the directory is a copy, or restored from a backup."""


def new_generation() -> str:
    """Draw one."""
    return secrets.token_hex(8)


def read_identity(folder: Path) -> Identity | None:
    """Return which store it is; None where nothing is. Raises :class:`StoreUnusableError`."""
    path = folder / IDENTITY
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreUnusableError(f"{path}: {error.strerror}") from error
    try:
        found: Any = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise StoreUnusableError(f"{path}: not written by tipguard; choose another directory for the store")
    if found.get("v") != VERSION:
        raise StoreUnusableError(
            f"{path}: layout {str(found.get('v'))[:9]}, this program knows {VERSION}; is it too old?"
        )
    store, generation, stamp = found.get("store"), found.get("generation"), found.get("stamp")
    if not isinstance(store, str) or not isinstance(generation, str) or not isinstance(stamp, str):
        raise StoreUnusableError(f"{path}: incomplete; restore it from a backup")
    return Identity(store, generation, stamp)


def required_identity(folder: Path) -> Identity:
    """Return which store it is. Raises :class:`StoreUnusableError` where none is."""
    identity = read_identity(folder)
    if identity is None:
        raise StoreUnusableError(f"{folder}: no store is there; `tipguard store --to {folder} --name NAME` makes one")
    return identity


def stamp_of(lock: int) -> str:
    """Return what tells this lock file from a copy of it: no copy has its inode, or can be given its ctime."""
    found = os.fstat(lock)
    return f"{found.st_ino}.{found.st_ctime_ns}"


def write_identity(disk: Disk, folder: Path, store: str, stamp: str) -> Identity:
    """Write a new generation and return it. Raises OSError."""
    identity = Identity(store, new_generation(), stamp)
    document = {"format": FORMAT, "v": VERSION, "store": store, "generation": identity.generation, "stamp": stamp}
    disk.put(folder / IDENTITY, json.dumps(document, indent=1).encode() + b"\n")
    return identity


def check_name(store: str) -> str:
    """Return the name of a store. Raises :class:`StoreUnusableError` for what a topic cannot hold."""
    if not _NAME.fullmatch(store):
        raise StoreUnusableError(
            f"name of the store {store[:40]!r}: expected lower-case letters, digits, hyphens; at most 32"
        )
    return store


def segment_path(folder: Path, number: int) -> Path:
    """Return where a journal segment is."""
    return folder / JOURNAL / f"{number:08d}.journal"


def segments(folder: Path) -> dict[int, Path]:
    """Return the journal segments by number, ascending. Raises OSError."""
    found = {}
    for path in (folder / JOURNAL).iterdir():
        if match := _SEGMENT.fullmatch(path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def parquet_files(folder: Path) -> dict[int, list[Path]]:
    """Return all Parquet files by the segment they were made of. Raises OSError."""
    found: dict[int, list[Path]] = {}
    for table in tables.TABLES:
        for path in sorted((folder / table).glob("rig=*/date=*/*.parquet")):
            if match := _PARQUET.fullmatch(path.name):
                found.setdefault(int(match[1]), []).append(path)
    return found


def rig_of(path: Path) -> str:
    """Return the rig that a Parquet file is of."""
    return path.parent.parent.name.removeprefix(_RIG_FOLDER)


def read_segment(path: Path, scan: Scan) -> Iterator[Record]:
    """Yield the frames of a journal segment. Raises OSError."""
    for value in read_records(path.read_bytes(), scan):
        match value:
            case [str(rig), int(epoch), str(stream), int(seq), bytes(payload)]:
                yield Record(Key(rig, epoch, stream), seq, payload)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a store's directory holds, as of one moment, though its writer goes on.

    Frames whose commit is under way may be among them.
    """

    folder: Path
    entries: dict[int, Entry]
    journal: list[Record]
    """Frames that are not in Parquet yet."""
    damaged_bytes: int
    """Of the journal, stepped over."""

    def files(self, table: str) -> list[Path]:
        """Return the Parquet files of one of :data:`edge.store.tables.TABLES`."""
        names = [name for entry in self.entries.values() for name in entry.files if name.startswith(f"{table}/")]
        return [self.folder / name for name in names]

    def claimed(self) -> dict[Key, Coverage]:
        """Return what the store says it has: what the manifest lists, and the journal."""
        claimed: dict[Key, Coverage] = {}
        for entry in self.entries.values():
            for key, ranges in entry.ranges.items():
                coverage = claimed.setdefault(key, Coverage())
                for first, last in ranges:
                    coverage.add_range(first, last)
        for record in self.journal:
            claimed.setdefault(record.key, Coverage()).add(record.seq)
        return claimed

    def raw_frames(self) -> Iterator[tuple[Key, int, bytes]]:
        """Yield (key, seq, payload) of every frame. Raises :class:`StoreError`."""
        for path in self.files(tables.FRAMES):
            try:
                for epoch, stream, seq, payload in tables.read_payloads(str(path)):
                    yield Key(rig_of(path), int(epoch, 16), stream), seq, payload
            except (OSError, ValueError) as error:  # pyarrow's errors are of these
                raise StoreError(f"{path}: {error}; restore it from a backup, or move it away") from error
        yield from self.journal


def read_contents(folder: Path) -> Contents:
    """Read manifest and journal, also while a store writes them.

    Raises :class:`StoreUnusableError` where no store is, :class:`StoreError` for what cannot be read.
    """
    required_identity(folder)
    try:
        for _ in range(_RETRIES):
            # The segments first: one that is compacted from here on is in the manifest, or still there, or missed.
            paths = segments(folder)
            entries, _ = read_manifest(folder / MANIFEST)
            try:
                return _with_journal(folder, entries, [path for number, path in paths.items() if number not in entries])
            except FileNotFoundError:
                continue
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror or error}") from error
    raise StoreError(f"{folder}: it changes faster than it can be read; try again")


def _with_journal(folder: Path, entries: dict[int, Entry], paths: list[Path]) -> Contents:
    journal: list[Record] = []
    damaged = 0
    for path in paths:
        scan = Scan()
        journal.extend(read_segment(path, scan))
        damaged += scan.damaged_bytes
    return Contents(folder, entries, journal, damaged)
