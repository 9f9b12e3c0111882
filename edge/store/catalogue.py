"""The files of a directory store, and what a reader finds in them: shared by the store itself, ``verify`` and queries.

::

    DIR/store.json                                       name, generation, version
    DIR/lock                                             held by the program that writes
    DIR/journal/00000012.journal                         committed, not yet in Parquet
    DIR/frames/rig=R/date=D/00000011.parquet             one for each segment, rig and UTC date
    DIR/frames/rig=R/date=D/00000001-00000010.parquet    several of them, joined
    DIR/samples/... DIR/documents/...
    DIR/joining/                                         the next state of one of these folders, or its last
    DIR/manifest                                         which segments these are, and what they hold
    DIR/quarantine/                                      what could not be read

The manifest says which segments count, and in which folders they have rows; the folder says in which of its files. A
join exchanges a folder as a whole (:mod:`edge.store.joiner`), so whoever lists it sees each row in one file; whoever
lists it and looks at its files by their names while they change may miss some, and lists it again.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from edge.store import joined, tables
from edge.store.backend import Key, StoreError, StoreUnusableError
from edge.store.contiguity import Coverage
from edge.store.disk import Disk
from edge.store.joined import Stored
from edge.store.journal import Scan, encode_record, read_records
from edge.store.manifest import FILE as MANIFEST
from edge.store.manifest import Entry, read_manifest
from edge.store.tables import Record

VERSION: Final = 2
"""2: files may be joined. What 1 wrote goes on as 2; a program of 1 would take joined files for a loss."""
FORMAT: Final = "tipguard-store"
IDENTITY: Final = "store.json"
LOCK: Final = "lock"
JOURNAL: Final = "journal"
QUARANTINE: Final = "quarantine"
JOINING: Final = "joining"

_SEGMENT: Final = re.compile(r"(\d{8,})\.journal")
_RIG_FOLDER: Final = "rig="
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_RETRIES: Final = 5
_FROM_BACKUP: Final = "`tipguard store import --from BACKUP` brings back what was in it"


@dataclass(frozen=True, slots=True)
class Identity:
    """Which store a directory is."""

    store: str
    generation: str
    stamp: str
    """Of the lock file beside it: where that is another one, the directory is a copy, or restored from a backup."""
    version: int = VERSION


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
    version = found.get("v")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise StoreUnusableError(f"{path}: layout {str(version)[:9]}, this program knows {VERSION}; is it too old?")
    store, generation, stamp = found.get("store"), found.get("generation"), found.get("stamp")
    if not isinstance(store, str) or not isinstance(generation, str) or not isinstance(stamp, str):
        raise StoreUnusableError(f"{path}: incomplete; restore it from a backup")
    return Identity(store, generation, stamp, version)


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
    _put_identity(disk, folder, identity)
    return identity


def renew_version(disk: Disk, folder: Path, identity: Identity) -> Identity:
    """Let a store of an earlier layout be one of this program's, and of the same generation. Raises OSError."""
    renewed = replace(identity, version=VERSION)
    _put_identity(disk, folder, renewed)
    return renewed


def _put_identity(disk: Disk, folder: Path, identity: Identity) -> None:
    document = {
        "format": FORMAT,
        "v": identity.version,
        "store": identity.store,
        "generation": identity.generation,
        "stamp": identity.stamp,
    }
    disk.put(folder / IDENTITY, json.dumps(document, indent=1).encode() + b"\n")


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


def parquet_files(folder: Path) -> dict[Path, list[Stored]]:
    """Return all Parquet files by the folder they are in, as :func:`edge.store.joined.stored` does. Raises OSError."""
    places = [place for table in tables.TABLES for place in sorted((folder / table).glob("rig=*/date=*"))]
    return {place: found for place in places if (found := joined.stored(place))}


def rig_of(path: Path) -> str:
    """Return the rig that a Parquet file is of."""
    return path.parent.parent.name.removeprefix(_RIG_FOLDER)


def read_segment(path: Path, scan: Scan) -> Iterator[Record]:
    """Yield the frames of a journal segment. Raises OSError."""
    for value in read_records(path.read_bytes(), scan):
        match value:
            case [str(rig), int(epoch), str(stream), int(seq), bytes(payload)]:
                yield Record(Key(rig, epoch, stream), seq, payload)


def encode_frames(records: Iterable[Record]) -> bytes:
    """Return what a journal segment of ``records`` holds."""
    return b"".join(encode_record([*record.key, record.seq, record.payload]) for record in records)


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
    listed: Mapping[str, list[Path]]
    """The Parquet files of that moment by folder, as the manifest names it. A join may have taken them away since."""

    def files(self, table: str) -> list[Path]:
        """Return the Parquet files of one of :data:`edge.store.tables.TABLES`, of that moment."""
        return [path for place, paths in self.listed.items() if place.startswith(f"{table}/") for path in paths]

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
        """Yield (key, seq, payload) of every frame, whatever is joined meanwhile. Raises :class:`StoreError`."""
        for place, numbers in stretches_by_place(self.entries).items():
            if place.startswith(f"{tables.FRAMES}/"):
                yield from self._frames_in(self.folder / place, numbers)
        yield from self.journal

    def _frames_in(self, place: Path, numbers: set[int]) -> Iterator[tuple[Key, int, bytes]]:
        rig = place.parent.name.removeprefix(_RIG_FOLDER)
        left = set(numbers)
        missing: list[int] = []
        for _ in range(_RETRIES):
            try:
                found, missing = joined.holders(joined.stored(place), left)
            except OSError as error:
                raise StoreError(f"{place}: {error.strerror or error}") from error
            if missing:
                # Perhaps listed while it was joined, which tells only half of it.
                continue
            for one in found:
                try:
                    for epoch, stream, seq, payload in joined.read_payloads(one, left):
                        yield Key(rig, int(epoch, 16), stream), seq, payload
                except FileNotFoundError:
                    # Joined since the folder was listed: what is left is in another file.
                    break
                except (OSError, ValueError) as error:  # pyarrow's errors are of these
                    raise StoreError(f"{one.path}: {error}; move it away, and {_FROM_BACKUP}") from error
                left = {number for number in left if not one.first <= number <= one.last}
            if not left:
                return
        if missing:
            raise StoreError(f"{place / tables.file_name(missing[0])}: is gone; {_FROM_BACKUP}")
        raise StoreError(f"{place}: it changes faster than it can be read; try again")


def stretches_by_place(entries: Mapping[int, Entry]) -> dict[str, set[int]]:
    """Return which stretches have rows in which folder, by the folder's name below the store's directory."""
    found: dict[str, set[int]] = {}
    for number, entry in entries.items():
        for name in entry.files:
            found.setdefault(name.rpartition("/")[0], set()).add(number)
    return found


def read_contents(folder: Path) -> Contents:
    """Read manifest, journal and the names of the Parquet files, also while a store writes them.

    Raises :class:`StoreUnusableError` where no store is, :class:`StoreError` for what cannot be read.
    """
    required_identity(folder)
    try:
        for _ in range(_RETRIES):
            # The segments first: one that is compacted from here on is in the manifest, or still there, or missed.
            paths = segments(folder)
            entries, _ = read_manifest(folder / MANIFEST)
            fresh = {number: path for number, path in paths.items() if number not in entries}
            try:
                journal, damaged = _read_journal(fresh.values())
            except FileNotFoundError:
                continue
            # The folders last, and each at once: what the manifest counts is there, in whichever file.
            listed = _listed(folder, entries, set(fresh))
            if listed is not None:
                return Contents(folder, entries, journal, damaged, listed)
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror or error}") from error
    raise StoreError(f"{folder}: it changes faster than it can be read; try again")


def _read_journal(paths: Iterable[Path]) -> tuple[list[Record], int]:
    journal: list[Record] = []
    damaged = 0
    for path in paths:
        scan = Scan()
        journal.extend(read_segment(path, scan))
        damaged += scan.damaged_bytes
    return journal, damaged


def _listed(folder: Path, entries: Mapping[int, Entry], fresh: set[int]) -> dict[str, list[Path]] | None:
    """Return the files by folder; None where one has rows of a ``fresh`` segment, compacted and joined since."""
    listed = {}
    for place, numbers in stretches_by_place(entries).items():
        found, missing = joined.holders(joined.stored(folder / place), numbers)
        if any(one.joined and one.first <= number <= one.last for one in found for number in fresh):
            return None
        gone = [folder / place / tables.file_name(number) for number in missing]
        listed[place] = [one.path for one in found] + gone
    return listed
