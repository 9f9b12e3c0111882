"""An asyncio loop in virtual time: nothing waits, the clock jumps to whatever happens next.

Time is an integer number of nanoseconds and stands still while any callback is ready; when none is, it jumps to the
earliest timer. Two runs of the same program see the same times in the same order. Only the order of hash-based
containers of the program itself could differ.

Real descriptors may be registered and are polled, but time does not wait for them: this loop is for benches that
live in memory. Threads cannot wake it reliably for the same reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import selectors
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, Unpack

from hil.errors import DeadlockError

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

START_NS = 1_000 * 1_000_000_000
"""Where virtual time starts: well away from 0, so that a forgotten "not yet" of 0 shows."""

_COMPACT_MIN = 64


class VirtualTimer:
    """A pending call of :meth:`VirtualClock.call_at`."""

    __slots__ = ("_callback", "_clock", "t_ns")

    def __init__(self, clock: VirtualClock, t_ns: int, callback: Callable[[], None]) -> None:
        """Clocks make their own timers."""
        self._clock = clock
        self._callback: Callable[[], None] | None = callback
        self.t_ns = t_ns

    def cancel(self) -> None:
        """Forget the call; a no-op once it ran."""
        if self._callback is not None:
            self._callback = None
            self._clock._note_cancelled()  # noqa: SLF001 - clock and timer are one thing in two classes

    def cancelled(self) -> bool:
        """Return True once the call ran or was taken back."""
        return self._callback is None

    def fire(self) -> None:
        """Run the call, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class VirtualClock:
    """Virtual CLOCK_MONOTONIC in integer ns; implements :class:`edge.clock.Clock`.

    Calls at the same nanosecond run in the order in which they were asked for. An exception in a call is not logged
    and dropped, as asyncio would: it ends the run.
    """

    def __init__(self, start_ns: int = START_NS) -> None:
        """Begin at ``start_ns``."""
        self._now_ns = start_ns
        self._seq = 0
        self._cancelled = 0
        self._heap: list[tuple[int, int, VirtualTimer | asyncio.TimerHandle]] = []

    def now_ns(self) -> int:
        """Return the virtual time in ns."""
        return self._now_ns

    def call_at(self, t_ns: int, callback: Callable[[], None]) -> VirtualTimer:
        """Call ``callback`` when :meth:`now_ns` is exactly ``t_ns``, or at once after this turn if that has passed."""
        timer = VirtualTimer(self, t_ns, callback)
        self._push(t_ns, timer)
        return timer

    async def sleep_until(self, t_ns: int) -> None:
        """Return at exactly ``t_ns``; at once when it has passed."""
        if t_ns <= self._now_ns:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_at(t_ns, lambda: None if waiter.done() else waiter.set_result(None))
        try:
            await waiter
        finally:
            timer.cancel()

    def _push(self, t_ns: int, timer: VirtualTimer | asyncio.TimerHandle) -> None:
        self._seq += 1
        heapq.heappush(self._heap, (t_ns, self._seq, timer))

    def _note_cancelled(self) -> None:
        """Count a cancelled timer and sweep the heap when most of it is dead (deadlines that were met)."""
        self._cancelled += 1
        if self._cancelled > _COMPACT_MIN and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if not entry[2].cancelled()]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def _fire_due(self) -> None:
        """Run what is due now; what these calls ask for in turn waits for the next turn of the loop."""
        last = self._seq
        while (heap := self._heap) and heap[0][0] <= self._now_ns and heap[0][1] <= last:
            timer = heapq.heappop(heap)[2]
            if timer.cancelled():
                self._cancelled -= 1
            elif isinstance(timer, VirtualTimer):
                timer.fire()
            else:
                timer._run()  # noqa: SLF001 - what asyncio's own loop calls; it reports errors to the loop

    def _jump(self) -> bool:
        """Go to the earliest timer and run what is due there; False when there is none."""
        heap = self._heap
        while heap and heap[0][2].cancelled():
            heapq.heappop(heap)
            self._cancelled -= 1
        if not heap:
            return False
        if heap[0][0] > self._now_ns:
            self._now_ns = heap[0][0]
        self._fire_due()
        return True


class _JumpingSelector(selectors.EpollSelector):
    """Never blocks: where the loop would wait, the virtual clock jumps."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock
        self.loop: VirtualLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Poll descriptors, run timers; raise DeadlockError where a real selector would wait for ever."""
        # One registered descriptor is the loop's own self-pipe: the usual case, not worth a system call.
        if len(self.get_map()) > 1 and (events := super().select(0)):
            return events
        if timeout is not None and timeout <= 0:
            self._clock._fire_due()  # noqa: SLF001 - clock, selector and loop are one machine
        elif not self._jump():
            # The last thing that could still happen is a signal handler's byte in the self-pipe.
            events = super().select(0)
            if events:
                return events
            raise DeadlockError(_deadlock_message(self.loop, self._clock.now_ns()))
        return []

    def _jump(self) -> bool:
        """Jump once, and on to the next timer for as long as the loop would only come back to ask for that."""
        clock, loop = self._clock, self.loop
        if not clock._jump():  # noqa: SLF001
            return False
        # Most timers are a line's bytes, which wake nobody: a turn of the loop for each would cost more than they do.
        while loop is not None and loop.idle and len(self.get_map()) == 1 and clock._jump():  # noqa: SLF001
            pass
        return True


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose ``time()`` is ``clock.now_ns()`` in s.

    ``call_at`` takes float seconds and fires at the first nanosecond whose ``time()`` is not before them. An
    exception in any callback stops the loop; :func:`run_virtual` raises it.
    """

    def __init__(self, clock: VirtualClock) -> None:
        """Make the loop of ``clock``; :func:`run_virtual` does, and closes it."""
        self._clock = clock
        self.failure: BaseException | None = None
        selector = _JumpingSelector(clock)
        super().__init__(selector)
        selector.loop = self
        self.set_exception_handler(VirtualLoop._on_exception)  # type: ignore[arg-type] # our own loop is the loop

    @property
    def idle(self) -> bool:
        """Nothing is ready and nobody has stopped it: its next turn would only ask the selector again."""
        return not self._ready and not self._stopping  # type: ignore[attr-defined] # asyncio's own, not in its stubs

    def time(self) -> float:
        """Return the virtual time in s."""
        return self._clock.now_ns() / 1e9

    def call_at(
        self, when: float, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call at virtual time ``when`` in s; see :meth:`asyncio.loop.call_at`."""
        t_ns = round(when * 1e9)
        if t_ns / 1e9 < when:  # never early: what the caller compares with is this same division
            t_ns += 1
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._clock._push(t_ns, handle)  # noqa: SLF001
        return handle

    def _timer_handle_cancelled(self, _handle: asyncio.TimerHandle) -> None:
        """Count what ``TimerHandle.cancel`` leaves in the heap; asyncio calls this on its loop."""
        self._clock._note_cancelled()  # noqa: SLF001

    def _on_exception(self, context: dict[str, Any]) -> None:
        exception = context.get("exception")
        if "handle" in context and isinstance(exception, BaseException):
            self.failure = self.failure or exception
            self.stop()
        else:
            self.default_exception_handler(context)


def run_virtual(main: Callable[[VirtualClock], Awaitable[_T]], *, start_ns: int = START_NS) -> _T:
    """Run ``main(clock)`` to its end in virtual time and close everything.

    Raises whatever ``main`` or any callback raised, and DeadlockError when everything waits for nothing. Tasks that
    are left over are cancelled.
    """
    clock = VirtualClock(start_ns)
    loop = VirtualLoop(clock)

    async def entry() -> _T:
        return await main(clock)

    try:
        result = loop.run_until_complete(entry())
    except RuntimeError:
        # The loop was stopped by a failing callback: that is the news, not that main did not finish.
        if loop.failure is not None:
            raise loop.failure from None
        raise
    else:
        if loop.failure is not None:
            raise loop.failure
        return result
    finally:
        _close(loop)


def _close(loop: VirtualLoop) -> None:
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        # A task that waits again while being cancelled deadlocks once more; the first news is the one to tell.
        with contextlib.suppress(DeadlockError):
            if left:
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _deadlock_message(loop: VirtualLoop | None, now_ns: int) -> str:
    waiting = []
    for task in asyncio.all_tasks(loop) if loop is not None else ():
        frames = task.get_stack(limit=1)
        where = f" at {frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
        waiting.append(f"{task.get_name()}{where}")
    return (
        f"deadlock at virtual time {now_ns} ns: nothing is ready and no timer is pending; "
        f"waiting: {', '.join(sorted(waiting)) or 'no task'}"
    )
