"""Joins the many small Parquet files of a store into few, so that queries stay quick; nobody sees a row twice, or none.

Readers list the folders, often without a manifest (``samples/**/*.parquet``). So what is taken away and what takes its
place change in one step: the folder of one table, rig and date is made again beside it, with the joined file and second
names of those that stay, all of it is synced, then the two folders change places, and what was there before is removed.
Killed at any moment, either folder is whole, and the one beside it goes at the next start. The manifest is not touched:
what it says of a segment, its numbers and the folders it has rows in, stays true.

A file system on which folders cannot change places keeps its small files.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from edge.store import joined
from edge.store.catalogue import JOINING, stretches_by_place
from edge.store.disk import CANNOT_EXCHANGE, Disk, NotDurableError
from edge.store.joined import Joint, Stored
from edge.store.manifest import Manifest

JOIN_BYTES: Final = 128 << 20
"""What a joined file has at most."""
QUIET_S: Final = 3600.0
"""A date that is over is joined once nothing came for so long: a rig may be late."""
MANY_FILES: Final = 256
"""Of a date that is not over, so many are joined all the same."""
ROOM_BYTES: Final = 256 << 20
"""Left free by a join: the journal comes first."""

LINGER_S: Final = 1.0
"""What was joined stays so long behind the exchange: a list of a folder that began before it is whole, too."""

_SYNC_BYTES: Final = 4 << 20
"""What is written between two syncs: a commit of the journal may have to wait for that much of it, and no more."""
AGAIN_S: Final = 3600.0
"""A folder of which a join met one of ``_PASSING`` is tried again after so long."""
_PASSING: Final = frozenset(
    {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EBUSY, errno.ESTALE}
)
_SHARE: Final = 3.0
"""For each second of work so many are rested."""
_WORK_S: Final = 0.2
"""What is done at least between two rests."""
_WORTH_FILES: Final = 8


class _InterruptedError(Exception):
    """The store ends; it is done another time."""


class _CannotExchangeError(Exception):
    """Folders cannot change places here."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.errno = error.errno


class Joiner:
    """Joins the files of one folder at a time. All calls come from the compactor's thread."""

    def __init__(
        self,
        disk: Disk,
        folder: Path,
        manifest: Manifest,
        log: Any,  # noqa: ANN401 - structlog's loggers share no type
        *,
        join_bytes: int,
        now_s: Callable[[], float],
        utc_s: Callable[[], float],
        rest: Callable[[float], bool],
    ) -> None:
        """Work in a store's directory. ``join_bytes``: 0 joins nothing.

        ``rest`` waits that many seconds and returns True, or False when the store is about to end.
        """
        self._disk = disk
        self._folder = folder
        self._manifest = manifest
        self._log = log
        self._join_bytes = join_bytes
        self._now_s = now_s
        self._utc_s = utc_s
        self._rest = rest
        self._stretches: dict[str, set[int]] = {}
        """By folder: what has rows in it, of segments that are compacted and no longer in the journal."""
        self._places: set[str] = set()
        """Folders that may have something to join."""
        self._apart: set[str] = set()
        """Tables that are on another file system."""
        self._not_before: dict[str, float] = {}
        """By folder: when it is tried again."""
        self._complained: set[str] = set()
        self._since_s = 0.0
        """When the last rest ended."""
        self.look_at(manifest.entries)

    def look_at(self, segments: Iterable[int]) -> None:
        """Let the folders of ``segments``, which were compacted, be looked at."""
        if self._join_bytes:
            found = stretches_by_place({number: self._manifest.entries[number] for number in segments})
            for place, numbers in found.items():
                self._stretches.setdefault(place, set()).update(numbers)
            self._places.update(place for place in found if _table_of(place) not in self._apart)

    def join_one(self, journal: Collection[int]) -> bool:
        """Join what is due in one folder; return False when nothing was.

        ``journal``: segments of which the journal has a file: what is made of them may be made again.
        """
        for place in sorted(self._places):
            self._since_s = self._now_s()
            if place not in self._places or self._since_s < self._not_before.get(place, self._since_s):
                continue
            try:
                if self._join_in(place, journal):
                    self._pause()
                    return True
            except _InterruptedError:
                self.clear()
                return False
            except _CannotExchangeError as error:
                self.clear()
                self._leave_small(place, error)
            except NotDurableError as error:
                # What was there before is beside it now, and perhaps in its place again after a power cut: it stays.
                self._stop()
                self._log.error(
                    "Parquet files were joined, and the disk did not sync that: nothing is joined until the next start",
                    folder=place,
                    error=str(error),
                )
                return False
            except (OSError, pa.ArrowException, ValueError) as error:
                self.clear()
                self._give_up(place, error)
        return False

    def clear(self) -> None:
        """Remove what is left of a join that did not come to its end; what cannot be removed goes another time."""
        with contextlib.suppress(OSError):
            self._disk.remove_folder(self._folder / JOINING)

    # -------------------------------------------------------------------------------------------------- choosing

    def _join_in(self, name: str, journal: Collection[int]) -> bool:
        place = self._folder / name
        files = joined.stored(place)
        over = self._is_over(place)
        due = over and self._is_quiet(files)
        joint = self._joint(self._groups(files, self._stretches[name], journal, due=due), due=due)
        if joint is None:
            if due or not files:
                self._places.discard(name)
            return False
        size = sum(one.path.stat().st_size for one in joint.files)
        if self._disk.free_bytes(self._folder) < size + ROOM_BYTES:
            return False
        if not self._only_files(place):
            self._places.discard(name)
            return False
        self._replace(place, joint)
        self._log.info("Parquet files joined", folder=name, files=len(joint.files), file=joint.name)
        return True

    def _is_over(self, place: Path) -> bool:
        today = datetime.fromtimestamp(self._utc_s(), UTC).date().isoformat()
        return place.name.removeprefix("date=") < today

    def _is_quiet(self, files: Iterable[Stored]) -> bool:
        newest_s = max((one.path.stat().st_mtime for one in files), default=0.0)
        return self._utc_s() - newest_s >= QUIET_S

    def _groups(
        self, files: list[Stored], known: Collection[int], journal: Collection[int], *, due: bool
    ) -> list[list[Stored]]:
        """Return files that follow one another and are worth joining."""
        if joined.outermost(files) != files:
            # From a copy that was put over another; the next start tidies it up.
            return []
        there = {one.first for one in files if not one.joined}
        # The name of a joined file says that it has all between. What is still to come, or is lost, it must not claim.
        gaps = sorted({*journal, *(number for number in known if number not in there)})
        counted = sorted(self._manifest.entries)
        run: list[Stored] = []
        runs = [run]
        size = 0
        for one in files:
            bytes_ = one.path.stat().st_size
            counts = one.joined or one.first in known
            if not counts or (one.joined and not due):
                run, size = [], 0
                runs.append(run)
                continue
            if (run and not self._follows(run[-1], one, gaps, counted)) or size + bytes_ > self._join_bytes:
                run, size = [], 0
                runs.append(run)
            run.append(one)
            size += bytes_
        return [run for run in runs if self._is_worth(run, due=due)]

    def _joint(self, groups: Iterable[list[Stored]], *, due: bool) -> Joint | None:
        """Return the first files of ``groups`` that have the same columns, and are worth joining by themselves."""
        for group in groups:
            left = group
            while left:
                joint = joined.joint_of(left)
                if self._is_worth(joint.files, due=due):
                    return joint
                left = left[len(joint.files) :]
        return None

    def _follows(self, one: Stored, following: Stored, gaps: list[int], counted: list[int]) -> bool:
        """Return True when a file of both would claim nothing that neither has, or may get back."""
        begin, end = one.last + 1, following.first
        # A number that nobody counts is of a segment that is lost: its file may be put back.
        all_count = bisect_left(counted, end) - bisect_left(counted, begin) == end - begin
        return all_count and bisect_left(gaps, begin) == bisect_left(gaps, end)

    def _is_worth(self, run: Sequence[Stored], *, due: bool) -> bool:
        if not due:
            return len(run) >= MANY_FILES
        # A straggler alone is not worth writing a day again.
        sizes = [one.path.stat().st_size for one in run]
        return len(run) >= _WORTH_FILES or (len(run) > 1 and 4 * max(sizes) <= 3 * sum(sizes))

    def _only_files(self, place: Path) -> bool:
        # What somebody moved elsewhere, or put there, is left as it is.
        if place.is_symlink():
            return False
        with os.scandir(place) as found:
            return all(one.is_file(follow_symlinks=False) for one in found)

    # --------------------------------------------------------------------------------------------------- joining

    def _replace(self, place: Path, joint: Joint) -> None:
        beside = self._folder / JOINING
        self._disk.remove_folder(beside)
        self._disk.make_twin(beside, place)
        self._write(beside / joint.name, joint)
        gone = {one.path.name for one in joint.files}
        self._disk.link([path for path in sorted(place.iterdir()) if path.name not in gone], beside)
        try:
            self._disk.exchange(place, beside)
        except NotDurableError:
            raise
        except OSError as error:
            if error.errno in CANNOT_EXCHANGE:
                raise _CannotExchangeError(error) from error
            raise
        # What was there before is what counts until then, and what they have who began to list the folder before.
        exchanged_s = self._now_s()
        if self._rest(LINGER_S):
            self.clear()
        self._since_s += self._now_s() - exchanged_s

    def _write(self, path: Path, joint: Joint) -> None:
        sink = _Sink(self._disk, path)
        try:
            joined.join(joint, sink, self._pause)
            sink.sync()
        finally:
            sink.close()
        stretches = joined.read_stretches(Stored(path, joint.stretches[0].number, joint.stretches[-1].number))
        if stretches != list(joint.stretches):
            raise ValueError(f"{path}: not what was written")
        # The frames are as old as before: whether a date is quiet, and a rig recent, is told by it.
        self._disk.set_time(path, max(one.path.stat().st_mtime for one in joint.files))

    def _pause(self) -> None:
        worked_s = self._now_s() - self._since_s
        if worked_s < _WORK_S:
            return
        if not self._rest(_SHARE * worked_s):
            raise _InterruptedError
        self._since_s = self._now_s()

    def _give_up(self, place: str, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in _PASSING:
            self._not_before[place] = self._now_s() + AGAIN_S
        else:
            self._places.discard(place)
        if place not in self._complained:
            self._complained.add(place)
            self._log.error("Parquet files cannot be joined: they stay as they are", folder=place, error=str(error))

    def _leave_small(self, place: str, error: _CannotExchangeError) -> None:
        if error.errno == errno.EXDEV:
            table = _table_of(place)
            self._apart.add(table)
            self._places = {other for other in self._places if _table_of(other) != table}
            self._log.warning(
                "Parquet files of one table stay small: it is on another file system than the store",
                table=table,
                error=str(error),
            )
        else:
            self._stop()
            self._log.warning("Parquet files stay small: this file system cannot exchange folders", error=str(error))

    def _stop(self) -> None:
        """Join nothing any more."""
        self._places.clear()
        self._join_bytes = 0


def _table_of(place: str) -> str:
    return place.partition("/")[0]


class _Sink(io.RawIOBase):
    """A file on a store's disk that is written from its beginning to its end, and synced piece by piece."""

    def __init__(self, disk: Disk, path: Path) -> None:
        super().__init__()
        self._disk = disk
        self._descriptor: int = disk.append_to(path)
        self._size = 0
        self._synced = 0
        self._failed = False

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        piece = bytes(data)
        # Behind a failure comes the footer, from a writer that closes itself; the failure is on its way.
        if not self._failed:
            self._failed = True
            self._disk.write(self._descriptor, piece)
            self._size += len(piece)
            if self._size - self._synced >= _SYNC_BYTES:
                self.sync()
            self._failed = False
        return len(piece)

    def sync(self) -> None:
        self._disk.sync(self._descriptor)
        self._synced = self._size

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._disk.close(self._descriptor)
