"""A datagram socket in the file system, at the server's end: a path that only the user who started it can write to."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

from hil.errors import BenchOptionError


def bind(path: Path, option: str) -> socket.socket:
    """Return a socket at ``path`` that never blocks; a dead one there is replaced.

    Raises BenchOptionError, naming ``option``, if the path cannot be had.
    """
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        _clear(path)
        mask = os.umask(0o177)
        try:
            bound.bind(str(path))
        finally:
            os.umask(mask)
    except OSError as error:
        bound.close()
        why = "is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise BenchOptionError(f"{option} {path}: {why}; name a new path in a writable directory") from error
    return bound


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens to."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
