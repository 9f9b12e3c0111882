"""What loads the host while the others measure: a busy loop per core, and a disk writer that waits for the disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_BUSY: Final = "while True: pass"
_WRITER: Final = """\
import os, sys
block = os.urandom(1 << 20)
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600)
while True:
    os.lseek(file, 0, os.SEEK_SET)
    for _ in range(4):
        os.write(file, block)
    os.fsync(file)
"""
SETTLE_S: Final = 0.3


class Load:
    """The load, at ordinary priority, stopped until it is wanted; a context manager that ends it."""

    def __init__(self, folder: Path) -> None:
        """``folder``: on the disk that is to be kept busy."""
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        """Start everything, and stop it at once."""
        cores = len(os.sched_getaffinity(0))
        commands = [[sys.executable, "-c", _BUSY]] * cores
        commands.append([sys.executable, "-c", _WRITER, str(self._folder / "written")])
        # A busy loop must not outlive us, whatever ends us.
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
        for command in commands:
            self._processes.append(subprocess.Popen([*prefix, *command], stdin=subprocess.DEVNULL, process_group=0))
            self._processes[-1].send_signal(signal.SIGSTOP)
        return self

    def on(self) -> None:
        """Load the host from now on; returns when the scheduler has got used to it."""
        self._signal(signal.SIGCONT)
        time.sleep(SETTLE_S)

    def off(self) -> None:
        """Leave the host alone."""
        self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes:
            process.send_signal(number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        for process in self._processes:
            process.kill()
            process.wait()
