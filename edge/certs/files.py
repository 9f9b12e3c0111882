"""Writing keys and certificates: a key once and never over another, a certificate whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

from edge.certs.identities import CertsError

KEY_MODE: Final = 0o600
CERT_MODE: Final = 0o644
FOLDER_MODE: Final = 0o700


def write_key(path: Path, data: bytes) -> None:
    """Write a private key that is not there yet, readable for its owner only. Raises :class:`CertsError`."""
    try:
        # O_EXCL: of two at the same moment one is told, and a link left in the way is not followed.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, KEY_MODE)
    except FileExistsError as error:
        raise CertsError(f"{path}: is there already; a key is never overwritten: move it away, or renew") from error
    except OSError as error:
        raise CertsError(f"{path}: {error.strerror}") from error
    try:
        _write(descriptor, data, path)
    except CertsError:
        # Half a key is in the way of a whole one.
        path.unlink()
        raise
    _sync_folder(path.parent)


def write_cert(path: Path, data: bytes) -> None:
    """Write a certificate, or other public text, in place of an older one. Raises :class:`CertsError`.

    Whoever reads meanwhile gets the old one or the new one.
    """
    partial = path.with_name(f".{path.name}.new")
    try:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, CERT_MODE)
    except OSError as error:
        raise CertsError(f"{partial}: {error.strerror}") from error
    try:
        _write(descriptor, data, path)
        # Whatever the umask was: the broker reads it as another user.
        partial.chmod(CERT_MODE)
        partial.replace(path)
    except OSError as error:
        raise CertsError(f"{path}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder for its owner only, or take one that is there. Raises :class:`CertsError`."""
    try:
        path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise CertsError(f"{path}: {error.strerror}") from error


def refuse_open_key(path: Path) -> None:
    """Raise :class:`CertsError` if anybody but its owner may read or write a key, or it is not there."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise CertsError(f"{path}: {error.strerror}; `tipguard certs init` makes the lab's authority") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CertsError(
            f"{path}: others may read it (mode {stat.S_IMODE(mode):04o}); whoever has it can make a certificate for "
            "anybody. If nobody has it yet: chmod 600"
        )


def _write(descriptor: int, data: bytes, path: Path) -> None:
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise CertsError(f"{path}: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
