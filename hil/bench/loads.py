"""What keeps a host busy in the loaded half of a bench: a CPU hog per core, and a writer that waits for the disk."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_HOG: Final = "while True: pass"
_WRITER: Final = """
import os, sys
data = os.urandom(1 << 20)
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600)
while True:
    os.pwrite(fd, data, 0)
    os.fsync(fd)
"""


@contextlib.contextmanager
def busy_host() -> Iterator[None]:
    """Keep every core busy with a loop of ordinary priority, and a disk with 1 MiB at a time and fsync."""
    begin = [sys.executable, "-S", "-c"]
    with tempfile.TemporaryDirectory(prefix="tipguard-bench-", dir=_disk()) as folder:
        commands = [[*begin, _HOG] for _ in os.sched_getaffinity(0)]
        commands.append([*begin, _WRITER, str(Path(folder) / "written")])
        processes = []
        try:
            # One by one: what runs already ends, also when the next one cannot start.
            for command in commands:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
                processes.append(process)
            yield
        finally:
            for process in processes:
                process.kill()
                process.wait()


def _disk() -> str | None:
    """Return a directory that is on a disk rather than on tmpfs; None for the usual one where none is known."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else None  # noqa: S108 - the directory below is private
