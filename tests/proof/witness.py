"""How late a host was for those who want to be woken and to write, as told by one who wants both all the time."""

from __future__ import annotations

import collections
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

WAKE_S: Final = 0.005
LAST_S: Final = 2.5
"""What happened longer before a cut has nothing to do with what the cut took."""


class Witness:
    """A thread that wants to be woken every 5 ms and then syncs a few bytes in ``directory``.

    How late it was is what this host keeps from everybody: its cores, and the disk that others sync, too.
    """

    def __init__(self, directory: Path, sync: Callable[[int], None] = os.fdatasync) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "witness"
        self._sync = sync
        self._end = threading.Event()
        self._late: collections.deque[tuple[float, float]] = collections.deque(maxlen=int(LAST_S / WAKE_S))
        self._began_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not self._end.wait(WAKE_S):
                os.pwrite(descriptor, os.urandom(64), 0)
                self._sync(descriptor)
                now_s = time.monotonic()
                self._late.append((now_s, now_s - self._began_s - WAKE_S))
                self._began_s = now_s
        finally:
            os.close(descriptor)

    def late_s(self) -> float:
        """Return by how much it was late at most, lately; also by how much it is late at this moment."""
        now_s = time.monotonic()
        lately = [late_s for at_s, late_s in self._late.copy() if at_s >= now_s - LAST_S]
        return max(*lately, now_s - self._began_s - WAKE_S, 0.0)

    def __enter__(self) -> Self:
        self._began_s = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self._thread.join()
