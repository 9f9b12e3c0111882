"""Makes manifest, journal and Parquet files agree, after a crash, or after somebody lost or removed something.

The files of frames are the truth, the other two tables are made of them. Whatever cannot be read is set aside; nothing
keeps a store from starting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from edge.frames import MEASURED
from edge.store import tables
from edge.store.backend import Key
from edge.store.catalogue import QUARANTINE, rig_of
from edge.store.disk import Disk
from edge.store.manifest import Entry, Manifest
from edge.store.tables import Record


def settle(
    disk: Disk,
    folder: Path,
    manifest: Manifest,
    segments: Mapping[int, Path],
    files: Mapping[int, Sequence[Path]],
    log: Any,  # noqa: ANN401 - structlog's loggers share no type
) -> None:
    """Let the manifest say what is there: ``segments`` and Parquet ``files``, by number. Raises OSError, StoreError."""
    changed = False
    for number in sorted({*manifest.entries, *files}):
        there = set(files.get(number, ()))
        entry = manifest.entries.get(number)
        if entry is not None:
            missing = sorted(name for name in entry.files if folder / name not in there)
            if not missing:
                continue
            log.warning("Parquet files are gone; frames that were in them no longer count as stored", files=missing)
            del manifest.entries[number]
            changed = True
        if number in segments:
            # Of a compaction that did not come to its end; it is done again.
            for path in there:
                disk.remove(path)
            continue
        made = _Adoption(disk, folder, number, log).entry(there)
        if made is not None:
            manifest.entries[number] = made
            changed = True
    if changed:
        manifest.rewrite()


class _Adoption:
    """Makes the entry of one segment again, from its files."""

    def __init__(self, disk: Disk, folder: Path, number: int, log: Any) -> None:  # noqa: ANN401 - structlog's loggers share no type
        self._disk = disk
        self._folder = folder
        self._number = number
        self._log = log

    def entry(self, paths: set[Path]) -> Entry | None:
        """Return it; files without their frames are set aside, missing ones made."""
        identities: list[tuple[Key, int]] = []
        kept: set[Path] = set()
        t_s = 0.0
        for path in sorted(path for path in paths if path.is_relative_to(self._folder / tables.FRAMES)):
            try:
                heads = tables.read_heads(str(path))
                kept |= self._with_siblings(path, {kind for *_, kind in heads}, paths)
            except (OSError, ValueError, pa.ArrowException) as error:
                self._set_aside(path, str(error))
                continue
            rig = rig_of(path)
            identities += [(Key(rig, int(epoch, 16), stream), seq) for epoch, stream, seq, _ in heads]
            t_s = max(t_s, path.stat().st_mtime)
        for path in sorted(paths - kept):
            if path.exists():
                # Perhaps the last copy of something.
                self._set_aside(path, "the frames it was made of are gone")
        if not kept:
            return None
        names = sorted(path.relative_to(self._folder).as_posix() for path in kept)
        return Entry.of(self._number, names, identities, t_s)

    def _with_siblings(self, path: Path, kinds: set[str | None], paths: set[Path]) -> set[Path]:
        place = path.relative_to(self._folder / tables.FRAMES)
        wanted = {path}
        if "samples" in kinds:
            wanted.add(self._folder / tables.SAMPLES / place)
        if tables.FRONTEND in kinds:
            wanted.add(self._folder / tables.FRONTEND / place)
        if kinds - {*MEASURED, None}:
            wanted.add(self._folder / tables.DOCUMENTS / place)
        if not wanted <= paths:
            rig = rig_of(path)
            records = [
                Record(Key(rig, int(epoch, 16), stream), seq, payload)
                for epoch, stream, seq, payload in tables.read_payloads(str(path))
            ]
            for part in tables.parts(records, self._number):
                if (target := self._folder / part.path) in wanted - paths:
                    self._disk.make_folder(target.parent)
                    self._disk.put(target, part.data)
        return wanted

    def _set_aside(self, path: Path, why: str) -> None:
        self._log.error("Parquet file cannot be used; set aside in quarantine", file=str(path), why=why)
        name = "-".join(path.relative_to(self._folder).parts)
        self._disk.rename(path, self._folder / QUARANTINE / name)
