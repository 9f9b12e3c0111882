"""How much of a processor each process of a bench takes: the kernel's count of its time over a window."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hil.errors import BenchFaultError

TICK_S: Final = 1.0 / os.sysconf("SC_CLK_TCK")
"""Resolution of the count, usually 10 ms: of a window of 10 s a thousandth of a core."""
_UTIME, _STIME = 11, 12
"""Places in /proc/PID/stat behind the name, which may hold anything, brackets too."""


def cpu_s(pid: int, name: str = "process") -> float:
    """Return the processor time of all threads of a process, ended ones included, s. Raises BenchFaultError."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError as error:
        raise BenchFaultError(f"the {name} ({pid}) is gone: {error.strerror}") from error
    return (int(fields[_UTIME]) + int(fields[_STIME])) * TICK_S


class Window:
    """Processor time of some processes from now on."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        """Begin. ``pids``: process ids by name. Raises BenchFaultError for one that is gone."""
        self._pids = dict(pids)
        self._begin_s = time.monotonic()
        self._used_s = {name: cpu_s(pid, name) for name, pid in self._pids.items()}

    def cores(self) -> dict[str, float]:
        """Return by name how many cores each has taken since the beginning, at most as many as the host has."""
        used_s = {name: cpu_s(pid, name) - self._used_s[name] for name, pid in self._pids.items()}
        took_s = time.monotonic() - self._begin_s
        return {name: one_s / took_s for name, one_s in used_s.items()}
