"""A damaged outbox on its way aside: the names it has meanwhile, so that a process killed at any step is gone on from.

::

    outbox.sqlite             the outbox; never one in the making
    outbox.sqlite.salvage     a damaged one with its log, while what can be read of it is copied
    outbox.sqlite.new         the copy in the making: without meaning once nobody is at it
    outbox.sqlite.damaged-T   one of which everything that can be read is in the outbox

Where ``.salvage`` is and no outbox, the copy is begun anew; where both are, the copy is whole, and only a name is due.
Each renaming is on the disk before the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edge.uplink.outbox_file import INDEX, LOG, SAY, OutboxError, beside, in_use

KEEP_ASIDE: Final = 3
"""Damaged files that stay, all of which were salvaged; the oldest go first."""


class Places:
    """Where the files of one outbox are. Everything raises :class:`OutboxError`, and may be tried again."""

    def __init__(self, path: Path) -> None:
        """``path``: of the outbox."""
        self.path = path
        self.source = beside(path, ".salvage")
        self.new = beside(path, ".new")

    @property
    def begun(self) -> bool:
        """A damaged outbox is here that has not been seen through to its end."""
        return self.source.exists()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep a second uplink away for as long as this takes."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise OutboxError(f"outbox {self.path}: {error.strerror}; {SAY}") from error
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise in_use(self.path) from error
            except OSError:
                pass  # a file system without such locks has none of SQLite's either; that one then says so
            yield
        finally:
            os.close(folder)

    def put_aside(self) -> None:
        """Give the damaged outbox the name under which it is salvaged; :meth:`go_on` must follow."""
        with self._changing("cannot be renamed"):
            # A log without its file belongs to nothing; beside this one it would be replayed.
            self._remove(beside(self.source, LOG), beside(self.source, INDEX))
            # The file before its log: a file without its log looks whole, a log without its file like nothing.
            self._rename(self.path, self.source)

    def go_on(self) -> None:
        """Bring its log to the damaged outbox, where that has not been done."""
        log = beside(self.path, LOG)
        if self.path.exists():
            return  # the log is that of the copy
        with self._changing("cannot be renamed"):
            self._remove(beside(self.path, INDEX))
            if log.exists() and not beside(self.source, LOG).exists():
                self._rename(log, beside(self.source, LOG))
            # Beside the copy it would be taken for the copy's.
            self._remove(log)

    def clear(self, file: Path) -> None:
        """Remove an unfinished copy, or one that was finished and cannot be read: the source is still here."""
        with self._changing("cannot be removed"):
            self._remove(file, beside(file, LOG), beside(file, INDEX))

    def in_place(self) -> None:
        """The copy is whole and without a log: from now on it is the outbox."""
        with self._changing("cannot be renamed"):
            self._rename(self.new, self.path)

    def finish(self) -> Path:
        """The damaged outbox is done with: give it its last name, which is returned, and let go of the oldest such."""
        with self._changing("cannot be renamed"):
            # To the microsecond: damaged twice in a second is two files.
            aside = beside(self.path, f".damaged-{datetime.now(UTC).strftime('%Y%m%dT%H%M%S.%fZ')}")
            log = beside(self.source, LOG)
            self._remove(beside(self.source, INDEX))
            if log.exists() and log.stat().st_size:
                self._rename(log, beside(aside, LOG))
            else:
                self._remove(log)
                # Killed between the two renamings: its log has a name already.
                names = [one.with_name(one.name.removesuffix(LOG)) for one in self._aside(LOG)]
                aside = next((name for name in reversed(names) if not name.exists()), aside)
            self.source.rename(aside)
        # Nothing may be tried again from here on: the outbox is in order, and the next to be renamed would be it.
        with contextlib.suppress(OSError):
            self._flush()
        for old in self._aside()[:-KEEP_ASIDE]:
            with contextlib.suppress(OSError):
                self._remove(old, beside(old, LOG), beside(old, INDEX))
        return aside

    def _aside(self, suffix: str = "") -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.name}.damaged-*Z{suffix}"))

    @contextlib.contextmanager
    def _changing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, OutboxError):
                raise
            raise OutboxError(f"outbox {self.path} is damaged and {what}: {error.strerror or error}") from error

    @staticmethod
    def _remove(*paths: Path) -> None:
        for path in paths:
            path.unlink(missing_ok=True)

    def _rename(self, old: Path, new: Path) -> None:
        old.rename(new)
        self._flush()

    def _flush(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
