"""Keeps a connection to the broker: tries, waits, tries again; one log line per change of state, never a spin."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

from edge.clock import Clock
from edge.uplink.mqtt import BrokerLostError, Connect, Connection, Publication
from edge.uplink.settings import UplinkSettings

STEADY_NS: Final = 5_000_000_000
"""A connection that held so long was a good one: the next pause starts small again."""


class Keeper:
    """Hands out one connection after another."""

    def __init__(
        self,
        settings: UplinkSettings,
        *,
        clock: Clock,
        connector: Connect,
        will: Callable[[], Publication],
        attach: Callable[[Connection], None],
        detach: Callable[[], None],
        log: Any,  # noqa: ANN401 - structlog's loggers share no type
    ) -> None:
        """``will``: asked before each attempt. ``attach``, ``detach``: called in turns, detach also after a failure."""
        self._settings = settings
        self._clock = clock
        self._connector = connector
        self._will = will
        self._attach = attach
        self._detach = detach
        self._log = log
        self._where = f"{settings.host}:{settings.port}"
        self._leave = asyncio.Event()
        self._ending = False
        self._pause_s = settings.backoff_min_s
        self._said = ""

    def leave(self) -> None:
        """Give the present connection up and open another."""
        self._leave.set()

    def end(self) -> None:
        """Close the present connection, politely, and let :meth:`run` return."""
        self._ending = True
        self._leave.set()

    async def run(self) -> None:
        """Keep connected until :meth:`end`."""
        while not self._ending:
            held_ns = 0
            try:
                held_ns = await self._session()
            except BrokerLostError as error:
                self._report(str(error))
            finally:
                self._detach()
            if held_ns > STEADY_NS:
                self._pause_s = self._settings.backoff_min_s
            await self._pause()

    async def _session(self) -> int:
        """Connect and stay until it is over; return for how many ns the connection held."""
        async with self._connector(self._settings, self._will()) as connection:
            self._log.info("connected to broker", broker=self._where)
            self._said = ""
            since_ns = self._clock.now_ns()
            self._attach(connection)
            await self._until_over(connection)
            held_ns = self._clock.now_ns() - since_ns
            # Before the goodbye: nothing more may be sent over it.
            self._detach()
            return held_ns

    async def _until_over(self, connection: Connection) -> None:
        lost = asyncio.ensure_future(connection.lost())
        leave = asyncio.ensure_future(self._leave.wait())
        try:
            await asyncio.wait({lost, leave}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leave.cancel()
            lost.cancel()
            await asyncio.wait({lost, leave})
        if not lost.cancelled():
            self._log.warning("connection to broker lost; trying again", broker=self._where, why=lost.result())

    def _report(self, why: str) -> None:
        if why == self._said:
            return
        self._said = why
        self._log.warning(
            f"broker {self._where} unreachable: {why}; is it running there, and are [uplink] host, port and username "
            "right? frames wait in the outbox; trying again",
            retry_max_s=self._settings.backoff_max_s,
        )

    async def _pause(self) -> None:
        """Wait, longer each time and never in step with other uplinks; not at all at the end."""
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, self._settings.backoff_max_s)
        if self._ending:
            return
        self._leave.clear()
        until_ns = self._clock.now_ns() + int(pause_s * random.uniform(0.5, 1.0) * 1e9)
        timer = self._clock.call_at(until_ns, self._leave.set)
        await self._leave.wait()
        timer.cancel()
        if not self._ending:
            self._leave.clear()
