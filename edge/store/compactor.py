"""From journal segments to Parquet files, with never a moment at which a frame is in neither.

For each segment: its Parquet files are written beside their places, synced, renamed, and the folders synced; then the
manifest's entry, which says that they count; then the segment goes. A crash leaves files without an entry, which the
next start removes and makes again, or a segment with one, which it removes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from edge.store import tables
from edge.store.backend import StoreError
from edge.store.catalogue import QUARANTINE, read_segment
from edge.store.disk import Disk
from edge.store.journal import Scan
from edge.store.manifest import Entry, Manifest

_JOIN_S: Final = 60.0


class Compactor:
    """Turns closed segments into Parquet. All calls come from one thread at a time."""

    def __init__(self, disk: Disk, folder: Path, manifest: Manifest, log: Any) -> None:  # noqa: ANN401 - structlog's loggers share no type
        """Work in a store's directory."""
        self._disk = disk
        self._folder = folder
        self._manifest = manifest
        self._log = log
        self._complained: set[int] = set()

    def compact(self, number: int, path: Path) -> bool:
        """Compact one segment; return False, having said so, when that must be tried again later."""
        try:
            self._compact(number, path)
        except (StoreError, OSError, pa.ArrowException, ValueError, OverflowError) as error:
            # Its frames are safe where they are, and queries and watermarks count them.
            if number not in self._complained:
                self._complained.add(number)
                self._log.error(
                    "journal segment cannot be made Parquet: it stays, and is tried again; is there room on the disk?",
                    segment=str(path),
                    error=str(error),
                )
            return False
        return True

    def _compact(self, number: int, path: Path) -> None:
        scan = Scan()
        records = list(read_segment(path, scan))
        files = []
        for part in tables.parts(records, number):
            target = self._folder / part.path
            self._disk.make_folder(target.parent)
            self._disk.put(target, part.data)
            files.append(str(part.path))
        identities = ((record.key, record.seq) for record in records)
        self._manifest.add(Entry.of(number, files, identities, path.stat().st_mtime))
        if scan.damaged_bytes:
            # Evidence of a failing disk, and perhaps readable to somebody.
            self._disk.rename(path, self._folder / QUARANTINE / path.name)
        else:
            self._disk.remove(path)


class Periodic:
    """A thread that calls ``work`` every ``period_s``, and when it is woken."""

    def __init__(self, period_s: float, work: Callable[[], None]) -> None:
        """Start it."""
        self._period_s = period_s
        self._work = work
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tipguard-compactor", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Call ``work`` soon."""
        self._wake.set()

    def rest(self, seconds: float) -> bool:
        """Wait in the midst of ``work``; return False as soon as it is to end."""
        return not self._ending.wait(seconds)

    def end(self) -> bool:
        """End it, after what it is doing; return False where that takes too long."""
        self._ending.set()
        self._wake.set()
        self._thread.join(_JOIN_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._wake.wait(self._period_s)
            self._wake.clear()
            if not self._ending.is_set():
                self._work()
