"""The manifest of a directory store: which journal segments have become Parquet files, and what these hold.

It is what a start reads instead of all the Parquet files, and the moment at which a segment may go: a segment's entry
is written when its files are durable, and the segment removed after that. A manifest that is lost or damaged costs
time only: :mod:`edge.store.settle` makes entries again from the files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from edge.store.backend import Key
from edge.store.contiguity import Coverage, Range
from edge.store.disk import Disk
from edge.store.journal import Scan, Segment, encode_record, read_records

FILE: Final = "manifest"


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one journal segment."""

    segment: int
    files: tuple[str, ...]
    """Below the store's directory, with forward slashes."""
    ranges: dict[Key, tuple[Range, ...]] = field(default_factory=dict)
    t_s: float = 0.0
    """When its last frame came, seconds since 1970."""

    @classmethod
    def of(cls, segment: int, files: Iterable[str], identities: Iterable[tuple[Key, int]], t_s: float) -> Self:
        """Return the entry of a segment that held ``identities``."""
        held: dict[Key, Coverage] = {}
        for key, seq in identities:
            held.setdefault(key, Coverage()).add(seq)
        return cls(segment, tuple(files), {key: tuple(coverage) for key, coverage in held.items()}, t_s)

    def to_map(self) -> dict[str, Any]:
        """Return what is written."""
        ranges = [[*key, [list(pair) for pair in pairs]] for key, pairs in self.ranges.items()]
        return {"segment": self.segment, "files": list(self.files), "ranges": ranges, "t_s": self.t_s}

    @classmethod
    def from_map(cls, found: Any) -> Self | None:  # noqa: ANN401 - from a file
        """Return what was written; None when it is not one of ours."""
        try:
            ranges = {
                Key(str(rig), int(epoch), str(stream)): tuple((int(first), int(last)) for first, last in pairs)
                for rig, epoch, stream, pairs in found["ranges"]
            }
            return cls(int(found["segment"]), tuple(map(str, found["files"])), ranges, float(found["t_s"]))
        except (TypeError, KeyError, ValueError):
            return None


def read_manifest(path: Path) -> tuple[dict[int, Entry], bool]:
    """Return the entries by segment, and whether anything in the file was none. Raises OSError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}, False
    scan = Scan()
    found = [Entry.from_map(value) for value in read_records(data, scan)]
    entries = {entry.segment: entry for entry in found if entry is not None}
    return entries, bool(scan.damaged_bytes or scan.torn_bytes or None in found)


class Manifest:
    """The manifest that is written to."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        """Read it. Raises OSError."""
        self._disk = disk
        self._path = folder / FILE
        self.entries, damaged = read_manifest(self._path)
        self._segment = Segment(disk, self._path)
        if damaged:
            # What was torn or damaged must not stand between the entries to come.
            self.rewrite()
        elif self.entries:
            self._segment.size = self._path.stat().st_size

    def add(self, entry: Entry) -> None:
        """Write one more, durably. Raises StoreError."""
        self._segment.append([encode_record(entry.to_map())])
        self.entries[entry.segment] = entry

    def rewrite(self) -> None:
        """Write all entries anew, in one step. Raises OSError."""
        self._segment.close()
        data = b"".join(encode_record(entry.to_map()) for entry in self.entries.values())
        self._disk.put(self._path, data)
        self._segment = Segment(self._disk, self._path)
        self._segment.size = len(data)

    def close(self) -> None:
        """Close."""
        self._segment.close()
