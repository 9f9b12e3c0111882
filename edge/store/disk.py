"""What the directory store asks of a file system, in one place: so that a power cut can be played at every step.

Nothing here decides anything. Errors are the system's (``OSError``).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

PARTIAL: Final = ".partial"
"""Ending of a file that is being written; one that is found at a start is left from a crash, and goes."""

CANNOT_EXCHANGE: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP})
"""Errors of an exchange on a file system on which two folders cannot change places, or not these."""


class NotDurableError(OSError):
    """Two folders have changed places, and nobody knows whether a power cut would undo it."""


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

    def make_twin(self, path: Path, like: Path) -> None:
        """Make a folder, durably, with the rights of another one."""

    def link(self, paths: Iterable[Path], folder: Path) -> None:
        """Give files a second name in ``folder``; with that all names in it are durable."""

    def set_time(self, path: Path, t_s: float) -> None:
        """Set when a file was last changed, seconds since 1970; a power cut may undo it."""

    def exchange(self, path: Path, other: Path) -> None:
        """Let two folders change places in one step, durably: nobody sees one of the names without a folder.

        An error with one of :data:`CANNOT_EXCHANGE`: this file system does not do that. :class:`NotDurableError`: it
        was done, and may be undone; after any other error everything is where it was.
        """

    def sync_folder(self, path: Path) -> None:
        """Return once the names in a folder are on the medium."""

    def remove_folder(self, path: Path) -> None:
        """Remove a folder and the files in it, durably; after a crash any of them may be there."""

    def free_bytes(self, path: Path) -> int:
        """Return how many bytes can still be written."""


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

    def make_twin(self, path: Path, like: Path) -> None:
        """See :class:`Disk`."""
        path.mkdir()
        # Of a group that shares the store's data; who may not give it away keeps his own.
        with contextlib.suppress(PermissionError):
            os.chown(path, -1, like.stat().st_gid)
        shutil.copystat(like, path)
        sync_folder(path.parent)

    def link(self, paths: Iterable[Path], folder: Path) -> None:
        """See :class:`Disk`."""
        for path in paths:
            (folder / path.name).hardlink_to(path)
        sync_folder(folder)

    def set_time(self, path: Path, t_s: float) -> None:
        """See :class:`Disk`."""
        os.utime(path, (t_s, t_s))

    def exchange(self, path: Path, other: Path) -> None:
        """See :class:`Disk`."""
        _exchange(path, other)
        try:
            for folder in {path.parent, other.parent}:
                sync_folder(folder)
        except OSError as error:
            raise NotDurableError(error.errno, error.strerror, str(path)) from error

    def sync_folder(self, path: Path) -> None:
        """See :class:`Disk`."""
        sync_folder(path)

    def remove_folder(self, path: Path) -> None:
        """See :class:`Disk`."""
        if path.exists():
            shutil.rmtree(path)
            sync_folder(path.parent)

    def free_bytes(self, path: Path) -> int:
        """See :class:`Disk`."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize


_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2


def _exchange(path: Path, other: Path) -> None:
    # Python has no name for it; a C library without it is one more system that does not do it.
    library = ctypes.CDLL(None, use_errno=True)
    call = getattr(library, "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(path))
    if call(_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))


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
