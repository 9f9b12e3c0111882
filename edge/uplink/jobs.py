"""Where the outbox's work is done: in one thread of its own, or, in virtual time, at once.

A job is a plain function; it runs to its end before the next begins. The event loop gets one call back per job, never
one per frame.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

_T = TypeVar("_T")


class Jobs(Protocol):
    """Runs jobs one after another, in the order in which they came, but for the urgent ones."""

    def submit(self, job: Callable[[], _T], then: Callable[[_T | Exception], None], *, urgent: bool = False) -> None:
        """Run ``job``, and call ``then`` from the event loop with what it returned, or with what it raised.

        ``urgent``: before all that waits and is not: an event's commit is not to wait for a page of the backlog.
        """

    async def close(self) -> None:
        """Finish what was submitted, and take no more."""


class ThreadJobs:
    """One thread; to be made on the event loop that it reports to."""

    def __init__(self, name: str = "outbox") -> None:
        """Start the thread."""
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[Callable[[], None] | None] = deque()
        self._urgent: deque[Callable[[], None]] = deque()
        # One token for each job in either.
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        # A daemon: a process that ends without closing must not hang, and a commit is whole or not there.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._tokens.get()
            job = self._urgent.popleft() if self._urgent else self._jobs.popleft()
            if job is None:
                return
            job()

    def submit(self, job: Callable[[], _T], then: Callable[[_T | Exception], None], *, urgent: bool = False) -> None:
        """See :class:`Jobs`."""

        def run() -> None:
            try:
                result: _T | Exception = job()
            except Exception as error:  # noqa: BLE001 - handed to whoever asked; a dead thread would hang them all
                result = error
            # A loop that is closed has nobody who waits.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(then, result)

        if urgent:
            self._urgent.append(run)
        else:
            self._jobs.append(run)
        self._tokens.put(None)

    async def close(self) -> None:
        """See :class:`Jobs`."""
        done = asyncio.Event()
        self.submit(lambda: None, lambda _: done.set())
        self._jobs.append(None)
        self._tokens.put(None)
        await done.wait()
        self._thread.join()


class InlineJobs:
    """No thread: a job is run when it is submitted, and reported in the loop's next turn. For virtual time."""

    def submit(self, job: Callable[[], _T], then: Callable[[_T | Exception], None], *, urgent: bool = False) -> None:
        """See :class:`Jobs`."""
        del urgent  # nothing ever waits here
        try:
            result: _T | Exception = job()
        except Exception as error:  # noqa: BLE001 - as the thread does
            result = error
        asyncio.get_running_loop().call_soon(then, result)

    async def close(self) -> None:
        """See :class:`Jobs`."""
        await asyncio.sleep(0)
