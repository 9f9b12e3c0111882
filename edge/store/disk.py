"""What the directory store asks of a file system, in one place: so that a power cut can be played at every step.

Nothing here decides anything. Errors are the system's (``OSError``).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final, Protocol

PARTIAL: Final = ".partial"
"""Ending of a file that is being written; one that is found at a start is left from a crash, and goes."""


class Disk(Protocol):
    """Files and folders; what is not synced may be gone after a power cut."""

    def make_folder(self, path: Path) -> None:
        """Make a folder and those above it, durably."""

    def append_to(self, path: Path) -> int:
        """Open for appending, made durably if it is not there; return the descriptor."""

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all of it; of an error a part may be there."""

    def sync(self, descriptor: int) -> None:
        """Return once what was written is on the medium."""

    def cut_back(self, descriptor: int, size: int) -> None:
        """Shorten to ``size`` bytes, durably."""

    def close(self, descriptor: int) -> None:
        """Close."""

    def put(self, path: Path, data: bytes) -> None:
        """Make the file ``path`` hold ``data``: after a crash the whole of it, or what was there before."""

    def rename(self, path: Path, to: Path) -> None:
        """Rename, durably."""

    def remove(self, path: Path) -> None:
        """Remove a file, durably; one that is gone is no error."""


class RealDisk:
    """:class:`Disk` of this computer."""

    def make_folder(self, path: Path) -> None:
        """See :class:`Disk`."""
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            sync_folder(folder.parent)

    def append_to(self, path: Path) -> int:
        """See :class:`Disk`."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        sync_folder(path.parent)
        return descriptor

    def write(self, descriptor: int, data: bytes) -> None:
        """See :class:`Disk`."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    def sync(self, descriptor: int) -> None:
        """See :class:`Disk`."""
        os.fdatasync(descriptor)

    def cut_back(self, descriptor: int, size: int) -> None:
        """See :class:`Disk`."""
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """See :class:`Disk`."""
        os.close(descriptor)

    def put(self, path: Path, data: bytes) -> None:
        """See :class:`Disk`."""
        partial = path.with_name(path.name + PARTIAL)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            self.write(descriptor, data)
            os.fsync(descriptor)
        except OSError:
            # It would only take room; the next start would remove it, too.
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
        finally:
            os.close(descriptor)
        partial.replace(path)
        sync_folder(path.parent)

    def rename(self, path: Path, to: Path) -> None:
        """See :class:`Disk`."""
        path.rename(to)
        sync_folder(to.parent)
        if to.parent != path.parent:
            sync_folder(path.parent)

    def remove(self, path: Path) -> None:
        """See :class:`Disk`."""
        path.unlink(missing_ok=True)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Return once the names in a folder are on the medium."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(path: Path) -> int | None:
    """Lock a file for this process until the returned descriptor is closed; None when another has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
