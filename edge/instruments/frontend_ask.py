"""A question to a front end and what answers it, over a line that may lose either.

Everything that is asked may be asked twice: the device's answer tells what is, not what was changed.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any, Final, TypeVar

from edge.clock import Clock
from edge.errors import RemoteError, ReplyTimeoutError
from edge.instruments.frontend_values import FrontendRefusedError
from firmware_proto.frontend.messages import Refusal
from firmware_proto.frontend.session import Event, RefusedByDevice

T = TypeVar("T")

WORDS: Final[dict[Refusal, str]] = {
    Refusal.SCHEMA: "it was built from another schema",
    Refusal.SESSION: "it knows of no session",
    Refusal.STATE: "not in its present state",
    Refusal.CONFIG: "another configuration is in force than was read back, or none",
    Refusal.LEASE_TOO_LONG: "the lease is longer than it grants",
    Refusal.LEASE_OLD: "the lease is not newer than the one before",
    Refusal.BOX_NOT_RELEASED: "the black box of the last trip was not released",
    Refusal.NOT_ACKNOWLEDGED: "the last trip was not acknowledged",
    Refusal.BAD_VALUE: "a value is out of its range",
    Refusal.UNKNOWN_TRIP: "it knows of no such trip",
    Refusal.DEADLINE_PAST: "the lease was over before it arrived",
}


@dataclasses.dataclass(slots=True, eq=False)
class _Waiter:
    accept: Callable[[Event], Any]
    future: asyncio.Future[Any]
    what: str
    numbers: set[int]


class Asking:
    """Who waits for what; the reader brings every event by."""

    def __init__(self, name: str, clock: Clock) -> None:
        """``name``: of the port, for messages."""
        self._name = name
        self._clock = clock
        self._waiting: list[_Waiter] = []

    def bring(self, event: Event) -> None:
        """Give an event to whoever waits for it; called by the reader."""
        for waiter in self._waiting:
            if waiter.future.done():
                continue
            if isinstance(event, RefusedByDevice):
                if event.message.seq in waiter.numbers:
                    waiter.future.set_exception(self._refusal(waiter.what, event.message.why))
                continue
            answer = waiter.accept(event)
            if answer is not None:
                waiter.future.set_result(answer)

    def sent(self, what: str, number: int) -> None:
        """Note that a frame went out for whoever waits for ``what``: a refusal of it is theirs."""
        for waiter in self._waiting:
            if waiter.what == what:
                waiter.numbers.add(number)

    def fail(self, error: RemoteError) -> None:
        """Let everybody who waits have ``error``."""
        for waiter in self._waiting:
            if not waiter.future.done():
                waiter.future.set_exception(error)

    def _refusal(self, what: str, why: Refusal) -> FrontendRefusedError:
        words = WORDS.get(why, f"reason {int(why)}, which this program does not know")
        return FrontendRefusedError(f"{self._name}: the front end refuses {what}: {words}", why=why)

    async def ask(
        self,
        what: str,
        send: Callable[[], int | None],
        accept: Callable[[Event], T | None],
        *,
        timeout_s: float,
        tries: int,
    ) -> T:
        """Send and wait, up to ``tries`` times ``timeout_s``, until ``accept`` makes something of an event.

        ``send`` returns the number of the frame it sent, or None where another sends. Raises FrontendRefusedError,
        ReplyTimeoutError, or what :meth:`fail` was given.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(accept, future, what, set())
        self._waiting.append(waiter)
        try:
            for _ in range(tries):
                number = send()
                if number is not None:
                    waiter.numbers.add(number)
                if await self._done_within(future, timeout_s):
                    return future.result()
        finally:
            self._waiting.remove(waiter)
            if not future.cancel() and not future.cancelled():
                # Whoever asked was cancelled as the answer came: it is nobody's, and no fault.
                future.exception()
        raise ReplyTimeoutError(
            f"{self._name}: the front end did not answer {what} in {tries * timeout_s:g} s; is it powered, and at "
            "this baud rate?"
        )

    async def _done_within(self, future: asyncio.Future[Any], timeout_s: float) -> bool:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def over(_done: object = None) -> None:
            if not turn.done():
                turn.set_result(None)

        timer = self._clock.call_at(self._clock.now_ns() + int(timeout_s * 1e9), over)
        future.add_done_callback(over)
        try:
            await turn
        finally:
            timer.cancel()
            future.remove_done_callback(over)
        return future.done()
