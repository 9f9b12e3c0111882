"""The store's process: takes frames, commits them in groups, acknowledges, and publishes what it has.

Nothing is acknowledged that is not committed. So the store may die at any moment: the broker sends again what was not
acknowledged, the rig what no watermark covers, and what was committed twice counts once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from edge import watermark
from edge.broker_link import FAILURE
from edge.clock import Clock, LoopClock
from edge.errors import ConfigError
from edge.notify import Notifier
from edge.store.backend import Backend, Received, StoreError, Unreadable
from edge.store.received import Message, receive
from edge.store.receiver import BrokerGoneError, Connect, Connection, ReceiverSettings, connect

RETRY_MIN_NS: Final = 500_000_000
RETRY_MAX_NS: Final = 30_000_000_000
STEADY_NS: Final = 5_000_000_000
"""A connection that held so long was a good one: the next pause starts small again."""
STUCK_NS: Final = 60_000_000_000
"""A commit that takes longer than this is hung, for the watchdog."""

_T = TypeVar("_T")


@dataclass(slots=True)
class Counters:
    """What became of the messages, since the start."""

    committed: int = 0
    """Frames committed, repetitions included."""
    unreadable: int = 0
    refused: int = 0
    """Watermarks the broker did not take."""


def _utc_text() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


async def run_store(
    settings: ReceiverSettings,
    backend: Backend,
    *,
    stop: asyncio.Event,
    clock: Clock | None = None,
    connector: Connect = connect,
    notifier: Notifier | None = None,
    utc_text: Callable[[], str] = _utc_text,
) -> Counters:
    """Feed ``backend`` until ``stop`` is set; then finish the commit under way, and return the counts.

    Neither an absent broker nor a full disk is an error: both are waited for, and said once. The backend stays open.
    """
    service = _Service(settings, backend, stop, clock or LoopClock(), connector, notifier or Notifier(None), utc_text)
    return await service.run()


class _Service:
    def __init__(
        self,
        settings: ReceiverSettings,
        backend: Backend,
        stop: asyncio.Event,
        clock: Clock,
        connector: Connect,
        notifier: Notifier,
        utc_text: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._backend = backend
        self._stop = stop
        self._clock = clock
        self._connector = connector
        self._notifier = notifier
        self._utc_text = utc_text
        self._log: Any = structlog.get_logger("store").bind(store=backend.store)
        self._where = f"{settings.host}:{settings.port}"
        # A backend is called from this one thread; commits and marks never overlap.
        self._thread = ThreadPoolExecutor(1, "tipguard-store")
        self._counters = Counters()
        self._rigs: set[str] = set()
        self._due: set[str] = set()
        self._changed = asyncio.Event()
        self._published_ns: dict[str, int] = {}
        self._fault: str | None = None
        self._commit_since_ns: int | None = None
        self._said = ""
        self._last_unreadable: tuple[str, str] | None = None
        self._pause_s = settings.backoff_min_s

    async def run(self) -> Counters:
        self._log.info("store started", broker=self._where, generation=self._backend.generation)
        keep_alive = asyncio.create_task(self._keep_alive())
        try:
            while not self._stop.is_set():
                await self._session()
        finally:
            keep_alive.cancel()
            self._thread.shutdown()
        self._log.info("store stopped", committed=self._counters.committed, unreadable=self._counters.unreadable)
        return self._counters

    async def _session(self) -> None:
        """Connect, work until the connection or the service ends, then pause."""
        since_ns = self._clock.now_ns()
        try:
            async with self._connector(self._settings) as connection:
                self._log.info("connected to broker", broker=self._where)
                self._said = ""
                await self._work(connection)
        except (BrokerGoneError, ConfigError) as error:
            # The second: a certificate that was renewed, and not well.
            self._say_once(str(error))
        if self._stop.is_set():
            return
        if self._clock.now_ns() - since_ns > STEADY_NS:
            self._pause_s = self._settings.backoff_min_s
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, self._settings.backoff_max_s)
        await self._wait(int(pause_s * random.uniform(0.5, 1.0) * 1e9), self._stop)

    def _say_once(self, why: str) -> None:
        if why != self._said:
            self._said = why
            self._log.warning("broker not to be had; trying again", why=why, retry_max_s=self._settings.backoff_max_s)

    async def _work(self, connection: Connection) -> None:
        self._due |= self._rigs
        tasks = [
            asyncio.create_task(self._take(connection)),
            asyncio.create_task(self._publish_when_due(connection)),
            asyncio.create_task(connection.lost()),
            asyncio.create_task(self._stop.wait()),
        ]
        take, publish, lost, stop = tasks
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            connection.wake()
            if stop.done() and not lost.done():
                # The commit under way is worth its acknowledgement; a disk that is full will not be waited for.
                await asyncio.wait([take, lost], return_when=asyncio.FIRST_COMPLETED)
                publish.cancel()
                await asyncio.wait([publish])
                await self._publish_all(connection)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        if isinstance(results[2], str):
            self._log.warning("connection to broker lost; trying again", broker=self._where, why=results[2])
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, BrokerGoneError):
                raise result

    # ------------------------------------------------------------------------------------------------ committing

    async def _take(self, connection: Connection) -> None:
        self._rigs |= set(await self._until_done(self._backend.rigs))
        self._note_due(self._rigs)
        while batch := await connection.batch(self._settings.batch, self._settings.linger_s):
            messages = [delivery.message for delivery in batch]
            touched = await self._until_done(partial(self._commit, messages))
            connection.acknowledge(batch)
            self._rigs |= set(touched)
            self._note_due(touched)

    def _commit(self, messages: Sequence[Message]) -> Collection[str]:
        """Decode and commit; return the rigs touched. In the backend's thread."""
        found = [receive(message) for message in messages]
        frames = [one for one in found if isinstance(one, Received)]
        unreadable = [one for one in found if isinstance(one, Unreadable)]
        marks = self._backend.commit(frames, unreadable)
        self._counters.committed += len(frames)
        self._counters.unreadable += len(unreadable)
        for one in unreadable:
            if (one.topic, one.why) != self._last_unreadable:
                # A rig with a newer version sends the same kind of thing for days.
                self._last_unreadable = (one.topic, one.why)
                self._log.warning(
                    "message that is no frame this program knows: kept in quarantine, and by its sender; said once",
                    topic=one.topic,
                    why=one.why,
                )
        return {key.rig for key in marks}

    async def _until_done(self, call: Callable[[], _T]) -> _T:
        """Call in the backend's thread, again and again while it says that it cannot at present."""
        pause_ns = RETRY_MIN_NS
        while True:
            self._commit_since_ns = self._clock.now_ns()
            try:
                result = await asyncio.get_running_loop().run_in_executor(self._thread, call)
            except StoreError as error:
                self._report(str(error))
                await self._wait(pause_ns, self._stop)
                if self._stop.is_set():
                    raise BrokerGoneError("stopped") from error
                pause_ns = min(2 * pause_ns, RETRY_MAX_NS)
            else:
                self._report(None)
                return result
            finally:
                self._commit_since_ns = None

    def _report(self, fault: str | None) -> None:
        if fault == self._fault:
            return
        if fault is None:
            self._log.info("store takes frames again", after=self._fault)
        else:
            self._log.error("store cannot commit: nothing is acknowledged, rigs keep everything; retrying", why=fault)
        self._fault = fault

    async def _wait(self, ns: int, event: asyncio.Event) -> None:
        """Wait ``ns``, or until ``event``."""
        await _first(self._clock.sleep_until(self._clock.now_ns() + ns), event.wait())

    # ------------------------------------------------------------------------------------------------ watermarks

    def _note_due(self, rigs: Collection[str]) -> None:
        self._due |= set(rigs)
        if self._due:
            self._changed.set()

    async def _publish_when_due(self, connection: Connection) -> None:
        every_ns = int(self._settings.watermark_every_s * 1e9)
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._due:
                rig = min(self._due, key=lambda rig: self._published_ns.get(rig, 0))
                if rig in self._published_ns:
                    await self._clock.sleep_until(self._published_ns[rig] + every_ns)
                await self._publish(connection, rig)

    async def _publish_all(self, connection: Connection) -> None:
        """Publish what is due, now: the last words."""
        try:
            while self._due:
                await self._publish(connection, next(iter(self._due)))
        except BrokerGoneError as error:
            self._say_once(str(error))

    async def _publish(self, connection: Connection, rig: str) -> None:
        # Before it is asked for: what is committed meanwhile makes it due again.
        self._due.discard(rig)
        try:
            marks = await self._until_done(partial(self._backend.recent_marks, rig))
        except asyncio.CancelledError:
            self._due.add(rig)
            raise
        found = tuple(marks.values())[: watermark.MAX_MARKS]
        document = watermark.Watermark(self._backend.store, self._backend.generation, rig, found)
        payload = watermark.encode(document, self._utc_text())
        self._published_ns[rig] = self._clock.now_ns()
        answer = connection.publish(watermark.topic(rig, self._backend.store), payload)
        answer.add_done_callback(partial(self._answered, rig))

    def _answered(self, rig: str, answer: asyncio.Future[int]) -> None:
        if answer.cancelled() or answer.result() < FAILURE:
            return
        self._counters.refused += 1
        if self._counters.refused == 1:
            self._log.error(
                "broker refuses a watermark: rigs will keep everything; see the broker's permissions for this store",
                topic=watermark.topic(rig, self._backend.store),
                reason=f"0x{answer.result():02X}",
            )

    # -------------------------------------------------------------------------------------------- service manager

    async def _keep_alive(self) -> None:
        while True:
            now_ns = self._clock.now_ns()
            words = f"{self._counters.committed} frames committed, broker {self._where}"
            self._notifier.ready(words)
            self._notifier.status(self._fault or words)
            since_ns = self._commit_since_ns
            if since_ns is None or now_ns - since_ns < STUCK_NS:
                self._notifier.alive(now_ns)
            await self._clock.sleep_until(now_ns + 1_000_000_000)


async def _first(*awaitables: Awaitable[object]) -> None:
    """Return when one of them has; the others are cancelled."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
