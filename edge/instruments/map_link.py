"""The line of a controller that a command map describes: echoes, acknowledgements, and what a stop leaves behind.

A stop is written and nobody waits. Where it is acknowledged, its acknowledgement would pass for the answer to the next
question; replies come in the order of the messages, so it is expected and taken out there, unless it does not come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

from edge.clock import Clock
from edge.errors import InstrumentError
from edge.instruments.stage_link import StageLink
from edge.instruments.transport import Transport
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.stage_map import EndSplitter, Overlong, StageMap

T = TypeVar("T")


class MapLink(StageLink[bytes | Overlong]):
    """One controller's line. Hold ``lock`` around an exchange."""

    def __init__(self, transport: Transport, clock: Clock, rules: StageMap) -> None:
        """Take over ``transport``'s readable callback; sends nothing."""
        super().__init__(transport, clock, EndSplitter(rules.line.reply_end, rules.line.max_reply))
        self.rules = rules
        self._left_by_stops: deque[bytes] = deque(maxlen=256)
        """Lines that stops will still bring, in order."""
        self._asked_after: int = 0
        """How many of them come before the reply to the question under way."""
        self._echo: bytes | None = None
        self._echo_is_all = False

    # Out

    async def ask(self, message: str, parse: Callable[[bytes], T]) -> T:
        """Ask and parse; InstrumentError for a reply that is none, or what the link raises."""
        line = await self._exchange(message, echo_is_all=False)
        try:
            return parse(line)
        except RemoteProtocolError as error:
            self.doubt()
            raise InstrumentError(f"{self.transport.name}: the reply to {message!r} is {error}") from error

    async def tell(self, message: str) -> int:
        """Send a set command and wait for what the map says it gets; return the code of a refusal, 0 for none."""
        acknowledge = self.rules.acknowledge
        if acknowledge is not None:
            return await self.ask(message, acknowledge.code)
        if self.rules.line.echo:
            await self._exchange(message, echo_is_all=True)
        else:
            self.write(self.rules.line.encode(message))
        return 0

    def stop(self) -> None:
        """Write the stop; never waits, never raises."""
        rules = self.rules
        if rules.line.echo:
            self._left_by_stops.append(rules.stop.text.encode("ascii"))
        if rules.stop.acknowledged and rules.acknowledge is not None:
            self._left_by_stops.append(rules.acknowledge.ok.encode("ascii"))
        self.write(rules.stop.message)

    async def _exchange(self, message: str, *, echo_is_all: bool) -> bytes:
        self._echo_is_all = echo_is_all
        line = await self.query(self.rules.line.encode(message), self.rules.line.reply_timeout_s)
        # An over-long one was refused below; the type checker does not know that.
        assert isinstance(line, bytes)  # noqa: S101
        return line

    def _ask(self, message: bytes) -> None:
        self._echo = message.rstrip(b"\r\n") if self.rules.line.echo else None
        self._asked_after = len(self._left_by_stops)
        super()._ask(message)

    # In

    def _hand_out(self, event: bytes | Overlong) -> None:
        waiting = self._waiting is not None and not self._waiting.done()
        before = self._asked_after if waiting else len(self._left_by_stops)
        if before and event == self._left_by_stops[0]:
            self._left_by_stops.popleft()
            self._asked_after = max(0, self._asked_after - 1)
            return
        if waiting:
            # They did not come: the controller answers in order, so they will not any more.
            for _ in range(before):
                self._left_by_stops.popleft()
            self._asked_after = 0
        if waiting and self._echo is not None and event == self._echo:
            self._echo = None
            if not self._echo_is_all:
                return
        super()._hand_out(event)

    def _refuse(self, event: bytes | Overlong, asked: str) -> None:
        name = self.transport.name
        if isinstance(event, Overlong):
            raise InstrumentError(f"{name}: the reply to {asked!r} has no end: {event.head[:80]!r}")
        if self._echo is not None:
            raise InstrumentError(f"{name}: {asked!r} comes back as {event[:80]!r}; check the cable")

    async def _quiet(self) -> None:
        await super()._quiet()
        self._left_by_stops.clear()
