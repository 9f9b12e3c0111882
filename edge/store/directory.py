"""The directory store: a journal whose synced appends are the commits, Parquet files made of it, and joined later.

One program writes at a time, held by a lock; any number may read (:func:`edge.store.catalogue.read_contents`,
:mod:`edge.store.query`).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from edge.errors import BusyError
from edge.store import catalogue, tables
from edge.store.backend import Key, Received, StoreError, StoreUnusableError, Unreadable
from edge.store.compactor import Compactor, Periodic
from edge.store.contiguity import Coverage
from edge.store.disk import PARTIAL, Disk, RealDisk, lock
from edge.store.joiner import JOIN_BYTES, Joiner
from edge.store.journal import Scan, Segment, encode_record
from edge.store.manifest import Manifest
from edge.store.quarantine import Quarantine, aside
from edge.store.settle import settle
from edge.store.tables import Record
from edge.watermark import MAX_MARKS, Mark

SEGMENT_BYTES: Final = 64 << 20
COMPACT_EVERY_S: Final = 600.0
RECENT_S: Final = 86_400.0


class DirectoryStore:
    """:class:`edge.store.backend.Backend` in a directory."""

    def __init__(
        self,
        folder: Path,
        store: str | None,
        *,
        disk: Disk | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        compact_every_s: float | None = COMPACT_EVERY_S,
        join_bytes: int = JOIN_BYTES,
        now_s: Callable[[], float] = time.monotonic,
        utc_s: Callable[[], float] = time.time,
    ) -> None:
        """Open the store in ``folder``, or make one.

        ``store``: its name; None: whatever name it has, and :class:`StoreUnusableError` if there is none.
        ``segment_bytes``: a segment is compacted when it has so many, ``compact_every_s``: or is so old; None: only by
        :meth:`rotate`, :meth:`compact` and :meth:`join`. ``join_bytes``: what a Parquet file has at most that is joined
        of those of a date that is over; 0: none is. Raises :class:`BusyError` while another program writes it,
        :class:`StoreUnusableError` for a directory of something else or another name, :class:`StoreError` for a disk
        that does not.
        """
        self._folder = folder
        self._disk = disk or RealDisk()
        self._segment_bytes = segment_bytes
        self._now_s = now_s
        self._utc_s = utc_s
        self._log: Any = structlog.get_logger("store").bind(directory=str(folder))
        self._guard = threading.Lock()
        """Over the open segment and the list of closed ones: the compactor's thread closes old ones."""
        self._working = threading.Lock()
        """Over Parquet files, and manifest: who compacts or joins."""
        self._held: dict[Key, Coverage] = {}
        self._touched: dict[str, OrderedDict[Key, float]] = {}
        self._closed: dict[int, Path] = {}
        self._compact_every_s = compact_every_s
        self._join_bytes = join_bytes
        self._periodic: Periodic | None = None
        if store is None:
            store = catalogue.required_identity(folder).store
        self.store = catalogue.check_name(store)
        self._lock: int | None = self._locked()
        try:
            self.generation = self._identify(store, self._lock)
            self._open()
        except OSError as error:
            self._release()
            raise StoreError(f"{folder}: {error.strerror or error}") from error
        except BaseException:
            self._release()
            raise
        if compact_every_s is not None:
            self._periodic = Periodic(min(compact_every_s, 60.0), self._look_after)
            self._periodic.wake()

    # ------------------------------------------------------------------------------------------------- opening

    def _locked(self) -> int:
        identity = catalogue.read_identity(self._folder)
        try:
            self._disk.make_folder(self._folder)
            # A disk of its own has lost+found.
            names = sorted(path.name for path in self._folder.iterdir())
            foreign = [name for name in names if name != "lost+found" and not name.startswith(".")]
            if foreign and identity is None and catalogue.LOCK not in names:
                raise StoreUnusableError(
                    f"{self._folder}: holds {foreign[0]!r} and is no store; name an empty or a new directory"
                )
            descriptor = lock(self._folder / catalogue.LOCK)
        except OSError as error:
            raise StoreError(f"{self._folder}: {error.strerror or error}") from error
        if descriptor is None:
            raise BusyError(f"{self._folder}: another `tipguard store` writes it; end that one first")
        return descriptor

    def _identify(self, store: str, held_lock: int) -> str:
        identity = catalogue.read_identity(self._folder)
        stamp = catalogue.stamp_of(held_lock)
        if identity is not None and identity.store != store:
            raise StoreUnusableError(
                f"{self._folder}: is the store {identity.store!r}; say --name {identity.store}, or another --to"
            )
        if identity is None or identity.stamp != stamp:
            if identity is not None:
                self._log.warning("the directory was copied or restored: the rigs send again what they still have")
            identity = catalogue.write_identity(self._disk, self._folder, store, stamp)
        elif identity.version < catalogue.VERSION:
            identity = catalogue.renew_version(self._disk, self._folder, identity)
        return identity.generation

    def _open(self) -> None:
        for name in (catalogue.JOURNAL, catalogue.QUARANTINE, *tables.TABLES):
            self._disk.make_folder(self._folder / name)
        clear = self._clear_joining()
        for path in self._folder.rglob(f"*{PARTIAL}"):
            # A folder of that name is somebody's.
            if not path.is_dir():
                self._disk.remove(path)
        self._quarantine = Quarantine(self._disk, self._folder / catalogue.QUARANTINE)
        self._manifest = Manifest(self._disk, self._folder)
        again = settle(self._disk, self._folder, self._manifest, catalogue.segments(self._folder), self._log)
        for entry in self._manifest.entries.values():
            for key, ranges in entry.ranges.items():
                self._take(key, ranges, entry.t_s)
        found = catalogue.segments(self._folder)
        files = catalogue.parquet_files(self._folder)
        last = [one.last for listed in files.values() for one in listed]
        self._number = max((*found, *last, *self._manifest.entries), default=0) + 1
        for number, path in found.items():
            if number in self._manifest.entries:
                self._clear_segment(path, keep=number in again)
            else:
                self._take_segment(number, path)
        self._segment = self._next_segment()
        self._compactor = Compactor(self._disk, self._folder, self._manifest, self._log)
        self._joiner = Joiner(
            self._disk,
            self._folder,
            self._manifest,
            self._log,
            join_bytes=self._join_bytes if clear else 0,
            now_s=self._now_s,
            utc_s=self._utc_s,
            rest=self._rest,
        )

    def _clear_joining(self) -> bool:
        """Remove what a join left that was killed; return False, having said so, where that cannot be done.

        It is what would have been, or what was there before, and of the data in neither case.
        """
        left = self._folder / catalogue.JOINING
        if not os.path.lexists(left):
            return True
        try:
            # Perhaps the exchange was not made durable: until it is, this may come to be of the data again.
            self._disk.sync_folder(self._folder)
            for path in (path for name in tables.TABLES for path in (self._folder / name).glob("rig=*/")):
                self._disk.sync_folder(path)
            self._disk.remove_folder(left)
            if not os.path.lexists(left):
                return True
            why = "it leads nowhere"
        except OSError as error:
            why = str(error)
        self._log.error("what is left of a join cannot be removed: nothing is joined until it is gone", error=why)
        return False

    def _clear_segment(self, path: Path, *, keep: bool) -> None:
        """Take away a segment that is Parquet: once nothing is in it only. Of copies of several moments there may be.

        ``keep``: in quarantine.
        """
        fresh = self._fresh(catalogue.read_segment(path, Scan()))
        if fresh:
            self._log.warning(
                "a journal segment has frames that its Parquet files lack; they get a segment of their own",
                segment=str(path),
                frames=len(fresh),
            )
            own = catalogue.segment_path(self._folder, self._number)
            self._disk.put(own, catalogue.encode_frames(fresh))
            self._take_segment(self._number, own)
            self._number += 1
        if keep:
            self._disk.rename(path, aside(self._folder / catalogue.QUARANTINE, path.name))
        else:
            self._disk.remove(path)

    def _take_segment(self, number: int, path: Path) -> None:
        # A killed writer's last append may be in the kernel's memory only: it counts once it is on the medium.
        descriptor = self._disk.append_to(path)
        try:
            self._disk.sync(descriptor)
        finally:
            self._disk.close(descriptor)
        scan = Scan()
        t_s = path.stat().st_mtime
        records = list(catalogue.read_segment(path, scan))
        if scan.damaged_bytes:
            self._log.error(
                "journal damaged: what was in it no longer counts as stored, and is sent again by rigs that have it",
                segment=str(path),
                bytes=scan.damaged_bytes,
            )
        elif scan.torn_bytes:
            self._log.info("journal ends in a torn record, not acknowledged to anybody", bytes=scan.torn_bytes)
        fresh = self._fresh(records)
        if len(fresh) < len(records):
            # Nothing of one life: a commit takes no frame twice. Of copies of several, it would be there twice.
            twice = len(records) - len(fresh)
            self._log.warning("a journal segment has frames that are stored already", segment=str(path), frames=twice)
            if not fresh:
                self._disk.remove(path)
                return
            self._disk.put(path, catalogue.encode_frames(fresh))
            self._disk.set_time(path, t_s)
        for record in fresh:
            self._take(record.key, [(record.seq, record.seq)], t_s)
        self._closed[number] = path

    def _fresh(self, records: Iterable[Record]) -> list[Record]:
        """Return the records of which nothing is held, each once."""
        found = {
            (record.key, record.seq): record for record in records if record.seq not in self._held.get(record.key, ())
        }
        return list(found.values())

    def _take(self, key: Key, ranges: Sequence[tuple[int, int]], t_s: float) -> None:
        coverage = self._held.setdefault(key, Coverage())
        for first, last in ranges:
            coverage.add_range(first, last)
        age_s = max(0.0, self._utc_s() - t_s)
        self._touch(key, self._now_s() - age_s)

    def _touch(self, key: Key, at_s: float) -> None:
        touched = self._touched.setdefault(key.rig, OrderedDict())
        touched[key] = max(at_s, touched.get(key, at_s))
        touched.move_to_end(key)

    def _next_segment(self) -> Segment:
        segment = Segment(self._disk, catalogue.segment_path(self._folder, self._number))
        self._number += 1
        self._since_s: float | None = None
        return segment

    # ------------------------------------------------------------------------------------------------ committing

    def commit(self, frames: Sequence[Received], unreadable: Sequence[Unreadable]) -> Mapping[Key, Mark]:
        """See :class:`edge.store.backend.Backend`."""
        with self._guard:
            if unreadable:
                self._quarantine.keep(unreadable, self._utc_s())
            fresh: dict[tuple[Key, int], bytes] = {}
            for frame in frames:
                identity = frame.key, frame.seq
                if identity not in fresh and frame.seq not in self._held.get(frame.key, ()):
                    record = [frame.rig, frame.epoch, frame.stream, frame.seq, frame.payload]
                    fresh[identity] = encode_record(record)
            if fresh:
                self._segment.append(list(fresh.values()))
                if self._since_s is None:
                    self._since_s = self._now_s()
            for key, seq in fresh:
                self._held.setdefault(key, Coverage()).add(seq)
            full = self._segment.size >= self._segment_bytes
        keys = {frame.key for frame in frames}
        for key in keys:
            self._touch(key, self._now_s())
        if full and self.rotate() and self._periodic is not None:
            self._periodic.wake()
        return {key: self._held[key].mark(key) for key in keys}

    def recent_marks(self, rig: str) -> Mapping[Key, Mark]:
        """See :class:`edge.store.backend.Backend`."""
        since_s = self._now_s() - RECENT_S
        touched = self._touched.get(rig, OrderedDict())
        newest = sorted((key for key, at_s in touched.items() if at_s >= since_s), key=lambda key: -touched[key])
        return {key: self._held[key].mark(key) for key in newest[:MAX_MARKS]}

    def rigs(self) -> Collection[str]:
        """See :class:`edge.store.backend.Backend`."""
        since_s = self._now_s() - RECENT_S
        return {rig for rig, touched in self._touched.items() if any(at_s >= since_s for at_s in touched.values())}

    def renew(self) -> None:
        """See :class:`edge.store.backend.Backend`."""
        if self._lock is None:
            raise StoreError(f"{self._folder}: closed")
        try:
            stamp = catalogue.stamp_of(self._lock)
            self.generation = catalogue.write_identity(self._disk, self._folder, self.store, stamp).generation
        except OSError as error:
            raise StoreError(f"{self._folder}: {error.strerror or error}") from error

    def raw_frames(self) -> Iterator[tuple[Key, int, bytes]]:
        """See :class:`edge.store.backend.Backend`."""
        return catalogue.read_contents(self._folder).raw_frames()

    # ------------------------------------------------------------------------------------------------ compacting

    def rotate(self) -> bool:
        """Close the open segment, if it has anything and nothing but commits, and begin another."""
        with self._guard:
            if not self._segment.size or not self._segment.clean:
                return False
            self._segment.close()
            self._closed[int(self._segment.path.stem)] = self._segment.path
            self._segment = self._next_segment()
            return True

    def compact(self) -> int:
        """Make Parquet of all closed segments; return how many."""
        with self._working:
            with self._guard:
                closed = dict(self._closed)
            done = [number for number, path in closed.items() if self._compactor.compact(number, path)]
            with self._guard:
                for number in done:
                    del self._closed[number]
            self._joiner.look_at(done)
        return len(done)

    def join(self) -> int:
        """Join the Parquet files of all dates that are due; return how often that was done."""
        done = 0
        while self._join_one():
            done += 1
        return done

    def _join_one(self) -> bool:
        with self._working:
            with self._guard:
                journal = {*self._closed, int(self._segment.path.stem)}
            return self._joiner.join_one(journal)

    def _rest(self, seconds: float) -> bool:
        return self._periodic is None or self._periodic.rest(seconds)

    def _look_after(self) -> None:
        since_s = self._since_s
        if since_s is not None and self._now_s() - since_s >= (self._compact_every_s or 0.0):
            self.rotate()
        self.compact()
        # One at a time: what the journal has collected meanwhile comes first.
        if self._join_one() and self._periodic is not None:
            self._periodic.wake()

    def close(self) -> None:
        """Make Parquet of all there is, and let go; a second call does nothing."""
        if self._lock is None:
            return
        if self._periodic is not None and self._periodic.end():
            self.rotate()
            self.compact()
        with contextlib.suppress(OSError):
            self._segment.close()
        with contextlib.suppress(OSError):
            self._quarantine.close()
        with contextlib.suppress(OSError):
            self._manifest.close()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
