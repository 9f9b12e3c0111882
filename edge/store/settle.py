"""Makes manifest, journal and Parquet files agree, after a crash, or after somebody lost or removed something.

The files of frames are the truth, the other two tables are made of them. Whatever cannot be read is set aside; nothing
keeps a store from starting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from edge.frames import MEASURED
from edge.store import joined, tables
from edge.store.backend import Key
from edge.store.catalogue import (
    QUARANTINE,
    encode_frames,
    parquet_files,
    read_segment,
    rig_of,
    segment_path,
    segments,
)
from edge.store.disk import Disk
from edge.store.joined import Head, Stored
from edge.store.journal import Scan
from edge.store.manifest import Entry, Manifest
from edge.store.quarantine import aside
from edge.store.tables import Record

_SEGMENT_BYTES: Final = 64 << 20
_UNREADABLE: Final = (OSError, ValueError, pa.ArrowException)


def settle(
    disk: Disk,
    folder: Path,
    manifest: Manifest,
    segments: Mapping[int, Path],
    log: Any,  # noqa: ANN401 - structlog's loggers share no type
) -> set[int]:
    """Let the manifest say what is there: ``segments``, by number, and Parquet files. Raises OSError, StoreError.

    Returns the segments that are Parquet, though not by a compaction of this life; what is in them may be more.
    """
    settling = _Settling(disk, folder, manifest, segments, log)
    # A file that is set aside may have been counted on before: what is left is looked at again.
    while not settling.agree():
        pass
    if settling.changed:
        manifest.rewrite()
    return settling.again


class _Settling:
    """The work of :func:`settle`."""

    def __init__(self, disk: Disk, folder: Path, manifest: Manifest, segments: Mapping[int, Path], log: Any) -> None:  # noqa: ANN401 - structlog's loggers share no type
        self.changed = False
        """True when the manifest is to be written."""
        self.again: set[int] = set()
        """Segments with files that are not of a compaction of theirs."""
        self._disk = disk
        self._folder = folder
        self._manifest = manifest
        self._segments = segments
        self._log = log
        self._files: dict[Path, list[Stored]] = {}
        self._single: dict[int, list[Stored]] = {}
        """Files of one stretch, by its number."""
        self._first: dict[int, list[Stored]] = {}
        """Joined files by their first stretch."""
        self._joined: dict[Stored, set[int] | None] = {}
        """Joined files, with the numbers of their stretches once these were asked for."""
        self._heads: dict[Stored, Mapping[int, list[Head]]] = {}
        self._aside = False
        self._gone: set[Path] = set()
        """What was set aside: the tables above are of before."""

    def agree(self) -> bool:
        """Go through everything once; return False when that took files away, and must be done again."""
        self._aside = False
        self._files = parquet_files(self._folder)
        self._single, self._first, self._joined, self._heads, self._gone = {}, {}, {}, {}, set()
        for one in (one for files in self._files.values() for one in files):
            if one.joined:
                self._joined[one] = None
                self._first.setdefault(one.first, []).append(one)
            else:
                self._single.setdefault(one.first, []).append(one)
        for files in self._files.values():
            self._drop_doubles(files)
        if self._aside:
            return False
        for number in sorted({*self._manifest.entries, *self._numbers()}):
            self._settle(number)
        return not self._aside

    # --------------------------------------------------------------------------------------- what a copy may hold

    def _drop_doubles(self, files: list[Stored]) -> None:
        """Remove files whose rows are in a joined one, too: of a copy that was put over an older one."""
        kept = joined.outermost(files)
        within: dict[Stored, list[Stored]] = {}
        for one in files:
            if one not in kept:
                outer = next(outer for outer in kept if outer.first <= one.first and one.last <= outer.last)
                within.setdefault(outer, []).append(one)
        for outer, listed in within.items():
            try:
                # What can be read stays until it is known that the other can, too.
                joined.read_through(outer)
                there = self._rows_of(outer)
            except _UNREADABLE as error:
                self._set_aside(outer.path, str(error))
                return
            self._drop_within(outer, there, listed)
        for one, following in pairwise(kept):
            if following.first <= one.last:
                self._bring_elsewhere(following, f"{one.path.name} has a part of it")
                return

    def _drop_within(self, outer: Stored, there: Mapping[int, object], listed: Iterable[Stored]) -> None:
        removed = 0
        for one in listed:
            try:
                known = self._rows_of(one).items() <= there.items()
            except _UNREADABLE as error:
                self._set_aside(one.path, str(error))
                continue
            if known:
                self._disk.remove(one.path)
                self._aside = True
                removed += 1
            else:
                self._bring_elsewhere(one, f"{outer.path.name} has other rows of it")
        if removed:
            self._log.info("Parquet files removed that are in a joined one, too", file=str(outer.path), files=removed)

    def _rows_of(self, one: Stored) -> Mapping[int, object]:
        """Return by stretch what tells its rows from others: all of a frame, and the number of what is made of them."""
        if one.path.is_relative_to(self._folder / tables.FRAMES):
            return joined.digests(one)
        return dict(joined.read_stretches(one))

    def _bring_elsewhere(self, one: Stored, why: str) -> None:
        """Set a file aside that cannot stay where it is, and have its frames taken as if they came anew.

        They get a journal segment before; the start takes of it what is nowhere else.
        """
        if one.path.is_relative_to(self._folder / tables.FRAMES):
            try:
                self._to_journal(one)
                why = f"{why}; frames that only it has are taken anew"
            except _UNREADABLE as error:
                why = f"{why}; {error}"
        self._set_aside(one.path, why)

    def _to_journal(self, one: Stored) -> None:
        rig = rig_of(one.path)
        records: list[Record] = []
        size = 0
        rows = joined.read_payloads(one, (stretch.number for stretch in joined.read_stretches(one)))
        for epoch, stream, seq, payload in rows:
            records.append(Record(Key(rig, int(epoch, 16), stream), seq, payload))
            size += len(payload)
            if size >= _SEGMENT_BYTES:
                self._put_segment(records)
                records, size = [], 0
        if records:
            self._put_segment(records)

    def _put_segment(self, records: Iterable[Record]) -> None:
        last = [one.last for files in self._files.values() for one in files]
        number = max((*segments(self._folder), *self._manifest.entries, *last), default=0) + 1
        self._disk.put(segment_path(self._folder, number), encode_frames(records))

    # ----------------------------------------------------------------------------------------------- each segment

    def _numbers(self) -> set[int]:
        """Return the segments of which there are files, as far as the manifest does not know them anyway."""
        numbers = set(self._single)
        for one in self._joined:
            if any(number not in self._manifest.entries for number in range(one.first, one.last + 1)):
                numbers |= self._in_joined(one)
        return numbers

    def _in_joined(self, one: Stored) -> set[int]:
        numbers = self._joined[one]
        if numbers is None:
            try:
                numbers = {stretch.number for stretch in joined.read_stretches(one)}
            except _UNREADABLE as error:
                self._set_aside(one.path, str(error))
                numbers = set()
            self._joined[one] = numbers
        return numbers

    def _settle(self, number: int) -> None:
        entry = self._manifest.entries.get(number)
        if entry is not None:
            missing = sorted(name for name in entry.files if not self._has(self._folder / name, number))
            if not missing:
                self._drop_uncounted(number, entry)
                return
            self._log.warning(
                "Parquet files are gone; frames that were in them no longer count as stored", files=missing
            )
            del self._manifest.entries[number]
            self.changed = True
        of_several = {one for one in self._joined if one.first <= number <= one.last and number in self._in_joined(one)}
        of_several = {one for one in of_several if one.path not in self._gone}
        there = {*self._single.get(number, ()), *of_several}
        if number in self._segments and not of_several and not self._have_more(number, there):
            # Of a compaction that did not come to its end; it is done again.
            for one in there:
                if one.path not in self._gone:
                    self._disk.remove(one.path)
            return
        made = self._entry(number, {one for one in there if one.path not in self._gone})
        if made is None:
            return
        self._manifest.entries[number] = made
        self.changed = True
        if number in self._segments and number not in self.again:
            # It was compacted before: the manifest is lost, or these are copies of different moments.
            self.again.add(number)
            path = self._segments[number]
            self._log.warning("journal segment is in Parquet already; set aside in quarantine", segment=str(path))

    def _have_more(self, number: int, there: Iterable[Stored]) -> bool:
        """Return True when files hold frames that the journal's segment lacks: they are not made of it as it is."""
        held = {(record.key, record.seq) for record in read_segment(self._segments[number], Scan())}
        more = False
        for one in sorted(one for one in there if one.path.is_relative_to(self._folder / tables.FRAMES)):
            try:
                more = more or not self._identities(one, self._heads_of(one, number)) <= held
            except _UNREADABLE as error:
                self._set_aside(one.path, str(error))
        return more

    def _identities(self, one: Stored, heads: Iterable[Head]) -> set[tuple[Key, int]]:
        rig = rig_of(one.path)
        return {(Key(rig, int(epoch, 16), stream), seq) for epoch, stream, seq, _ in heads}

    def _drop_uncounted(self, number: int, entry: Entry) -> None:
        """Set aside what an entry does not know: of a file that was gone at a start, and came back."""
        for one in (*self._single.get(number, ()), *self._first.get(number, ())):
            name = (one.path.parent / tables.file_name(number)).relative_to(self._folder).as_posix()
            if name not in entry.files and one.path not in self._gone:
                self._bring_elsewhere(one, "the manifest does not count it")

    def _has(self, path: Path, number: int) -> bool:
        return not joined.holders(self._files.get(path.parent, ()), [number])[1]

    def _entry(self, number: int, there: set[Stored]) -> Entry | None:
        """Make an entry again from its files; those without their frames are set aside, missing ones made."""
        identities: set[tuple[Key, int]] = set()
        kept: set[Stored] = set()
        places: set[Path] = set()
        t_s = 0.0
        for one in sorted(one for one in there if one.path.is_relative_to(self._folder / tables.FRAMES)):
            try:
                heads = self._heads_of(one, number)
                siblings = self._siblings(one, number, {kind for *_, kind in heads}, there)
            except _UNREADABLE as error:
                self._set_aside(one.path, str(error))
                continue
            places |= siblings
            kept |= {held for held in there if held.path.parent in siblings}
            identities |= self._identities(one, heads)
            t_s = max(t_s, one.path.stat().st_mtime)
        for one in sorted(there - kept):
            # Perhaps the last copy of something.
            self._set_aside(one.path, "the frames it was made of are gone")
        if not places:
            return None
        names = sorted((place / tables.file_name(number)).relative_to(self._folder).as_posix() for place in places)
        return Entry.of(number, names, sorted(identities), t_s)

    def _heads_of(self, one: Stored, number: int) -> list[Head]:
        if not one.joined:
            return joined.read_heads(one)[number]
        if one not in self._heads:
            # Segments come in the order of their numbers: a file that ends before this one is not asked for again.
            self._heads = {held: heads for held, heads in self._heads.items() if held.last >= number}
            self._heads[one] = joined.read_heads(one)
        return self._heads[one][number]

    def _siblings(self, one: Stored, number: int, kinds: set[str | None], there: Iterable[Stored]) -> set[Path]:
        """Return the folders in which a segment has rows beside these frames; what is missing in them is made."""
        frames = one.path.parent
        place = frames.relative_to(self._folder / tables.FRAMES)
        wanted = {frames}
        if "samples" in kinds:
            wanted.add(self._folder / tables.SAMPLES / place)
        if tables.FRONTEND in kinds:
            wanted.add(self._folder / tables.FRONTEND / place)
        if kinds - {*MEASURED, None}:
            wanted.add(self._folder / tables.DOCUMENTS / place)
        missing = wanted - {held.path.parent for held in there}
        if missing:
            rig = rig_of(one.path)
            records = [
                Record(Key(rig, int(epoch, 16), stream), seq, payload)
                for epoch, stream, seq, payload in joined.read_payloads(one, [number])
            ]
            for part in tables.parts(records, number):
                if (target := self._folder / part.path).parent in missing:
                    self._disk.make_folder(target.parent)
                    self._disk.put(target, part.data)
        return wanted

    def _set_aside(self, path: Path, why: str) -> None:
        self._aside = True
        if path in self._gone:
            return
        self._gone.add(path)
        self._log.error("Parquet file cannot be used; set aside in quarantine", file=str(path), why=why)
        name = "-".join(path.relative_to(self._folder).parts)
        self._disk.rename(path, aside(self._folder / QUARANTINE, name))
