"""Waiting for what has no descriptor, and the one way to be interrupted meanwhile."""

from __future__ import annotations

import contextlib
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from hil.errors import BenchFaultError

T = TypeVar("T")
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def wait_for(what: str, look: Callable[[], T | None], timeout_s: float, *, step_s: float = 0.005) -> T:
    """Return what ``look`` first returns that is not None or False; raise BenchFaultError after ``timeout_s``."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = look()
        if found is not None and found is not False:
            return found
        # A bounded wait on nothing: the things waited for (files, other processes) have no descriptor to wait on.
        select.select([], [], [], step_s)
    raise BenchFaultError(f"waited {timeout_s:g} s for {what}")


class Interruption:
    """SIGINT, SIGTERM and SIGHUP as a flag that is looked at where it is safe to leave.

    An exception out of a signal handler could fall between the start of a process and the note of its id. Once
    raised, further signals change nothing: what ends the processes must not be ended itself. One serves any number
    of rigs; one that is not :meth:`watching` never comes.
    """

    def __init__(self) -> None:
        """Not interrupted."""
        self._flag = threading.Event()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Take the signals over, and give them back. From the main thread only."""
        old = {number: signal.signal(number, self._take) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _take(self, _number: int, _frame: object) -> None:
        self._flag.set()

    @property
    def came(self) -> bool:
        """A signal has come."""
        return self._flag.is_set()

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has come."""
        if self.came:
            raise KeyboardInterrupt
