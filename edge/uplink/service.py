"""The uplink's process: drains the ring, sends, and releases what is acknowledged.

The ring is released only up to what the broker has acknowledged. So the uplink may die at any moment: its successor
reads the rest of the ring again and sends the same frames, under the same numbers.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import structlog

from edge import frames
from edge.clock import Clock, LoopClock
from edge.notify import Notifier
from edge.uplink import documents
from edge.uplink.assemble import Assembler, Built
from edge.uplink.flight import FlightWriter
from edge.uplink.keeper import Keeper
from edge.uplink.mqtt import Connect, Connection, Publication, connect
from edge.uplink.progress import Progress
from edge.uplink.settings import UplinkSettings
from edge.uplink.source import Source
from edge.uplink.window import Window

Answer = dict[str, Any] | None
WorkerStatus = Callable[[], Answer] | Callable[[], Awaitable[Answer]]
"""What the worker is doing: a map with ``state`` and more, {} when nothing is known, None when it does not answer.

A plain function is called in a thread: it may take its time.
"""

_BATCH: Final = 512
_RING_CHECK_NS: Final = 500_000_000
_GONE_NS: Final = 3_000_000_000
"""A worker closes its frame after 1 s. One that neither answers nor has written for so long will not any more."""


async def _nothing_known() -> Answer:
    return {}


async def run_uplink(
    settings: UplinkSettings,
    *,
    stop: asyncio.Event,
    worker_status: WorkerStatus = _nothing_known,
    clock: Clock | None = None,
    connector: Connect = connect,
    utc: Callable[[], frames.UtcMapping] = frames.utc_mapping,
    notifier: Notifier | None = None,
) -> None:
    """Publish the ring until ``stop`` is set; then wait ``stop_flush_s`` for what is under way, and say goodbye.

    Neither an absent ring nor an absent broker is an error: both are waited for, and said once. ``notifier``: the line
    to the service manager, where there is one.
    """
    progress = Progress(notifier or Notifier(None))
    await _Uplink(settings, stop, worker_status, clock or LoopClock(), connector, utc, progress).run()


class _Uplink:
    def __init__(
        self,
        settings: UplinkSettings,
        stop: asyncio.Event,
        worker_status: WorkerStatus,
        clock: Clock,
        connector: Connect,
        utc: Callable[[], frames.UtcMapping],
        progress: Progress,
    ) -> None:
        self._progress = progress
        self._settings = settings
        self._stop = stop
        self._worker_status = worker_status
        self._clock = clock
        self._utc = utc
        self._log = structlog.get_logger("uplink").bind(rig=settings.rig)
        self._wake = asyncio.Event()
        self._source = Source(settings.ring_path, log=self._log)
        self._assembler = Assembler(settings.rig, log=self._log, utc=utc)
        self._window = Window(
            size=settings.window,
            limit=settings.pending_frames,
            now_ns=clock.now_ns,
            wake=self._wake.set,
            log=self._log,
        )
        self._keeper = Keeper(
            settings,
            clock=clock,
            connector=connector,
            will=self._will,
            attach=self._attach,
            detach=self._detach,
            log=self._log,
        )
        self._flight = (
            None
            if settings.flight_directory is None
            else FlightWriter(
                settings.flight_directory,
                settings.rig,
                keep_bytes=settings.flight_keep_bytes,
                segment_bytes=settings.flight_segment_bytes,
                clock=clock,
                log=self._log,
            )
        )
        self._connection: Connection | None = None
        self._worker: Answer = {}
        self._last_record_ns = 0
        self._online = True
        self._announced: object = None
        self._next_ring_ns = 0
        self._next_live_ns = 0
        self._next_status_ns = 0

    async def run(self) -> None:
        self._log.info(
            "uplink started; no durable outbox yet: frames are kept only in the ring until the broker has them",
            broker=f"{self._settings.host}:{self._settings.port}",
            ring=str(self._settings.ring_path),
            flight_record=str(self._settings.flight_directory or "off"),
        )
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(self._watch_stop()), group.create_task(self._ask_worker())]
            group.create_task(self._keeper.run())
            try:
                while not self._stop.is_set():
                    busy = self._turn()
                    self._tell()
                    await self._rest(busy=busy)
                self._progress.stopping()
                await self._flush()
            finally:
                self._keeper.end()
                for helper in helpers:
                    helper.cancel()
        self._source.close()
        if self._flight is not None:
            self._flight.close()
        self._log.info("uplink stopped", waiting=self._window.waiting)

    async def _watch_stop(self) -> None:
        await self._stop.wait()
        self._wake.set()

    async def _ask_worker(self) -> None:
        ask = self._worker_status
        while True:
            if inspect.iscoroutinefunction(ask):
                self._worker = await ask()
            else:
                self._worker = await asyncio.to_thread(cast("Callable[[], Answer]", ask))
            await self._clock.sleep_until(self._clock.now_ns() + int(1e9 / self._settings.live_hz))

    def _attach(self, connection: Connection) -> None:
        self._connection = connection
        self._window.attach(connection)
        self._announce()
        self._wake.set()

    def _detach(self) -> None:
        self._connection = None
        self._window.detach()
        self._wake.set()

    # ------------------------------------------------------------------------------------------- one turn

    def _turn(self) -> bool:
        """Do what is due; return True when there is more to read at once."""
        now_ns = self._clock.now_ns()
        self._tick(now_ns)
        if now_ns >= self._next_ring_ns:
            self._next_ring_ns = now_ns + _RING_CHECK_NS
            if self._source.look_after():
                self._queue(self._assembler.close())
                if not self._window.holds_frames:
                    if self._flight is not None:
                        self._flight.end_ring()
                    self._source.switch()
        busy = self._drain(now_ns)
        self._window.send()
        if self._flight is not None:
            self._flight.turn()
        floor = self._window.floor(self._source.cursor)
        opened = self._assembler.open_start
        if self._flight is not None:
            floor = min(floor, self._flight.floor(self._source.cursor, self._source.capacity_bytes))
        self._source.release_to(floor if opened is None else min(floor, opened))
        if self._window.stalled_ns > self._settings.ack_timeout_s * 1e9:
            self._log.warning("broker does not acknowledge; trying again", after_s=self._settings.ack_timeout_s)
            self._detach()
            self._keeper.leave()
        return busy

    def _tell(self) -> None:
        """Let the service manager know how the last turn went."""
        connected = self._connection is not None
        ring = "no ring yet, is the controller running?"
        if (used := self._source.used_fraction) is not None:
            ring = f"ring {used:.0%} full"
        where = f"{self._settings.host}:{self._settings.port}"
        self._progress.turned(
            self._clock.now_ns(),
            drained=self._source.drained and self._window.room,
            connected=connected,
            mark=(self._source.cursor, self._window.counters.published),
            status=f"{'connected to' if connected else 'waiting for the broker at'} {where}; {ring}",
        )

    async def _rest(self, *, busy: bool) -> None:
        if busy:
            await asyncio.sleep(0)
            return
        timer = self._clock.call_at(self._clock.now_ns() + int(self._settings.poll_s * 1e9), self._wake.set)
        await self._wake.wait()
        timer.cancel()
        self._wake.clear()

    async def _flush(self) -> None:
        """Give what is under way a little time, then announce the end."""
        until_ns = self._clock.now_ns() + int(self._settings.stop_flush_s * 1e9)
        while self._connection is not None and self._clock.now_ns() < until_ns:
            busy = self._turn()
            if not busy and not self._window.holds_frames:
                break
            await self._rest(busy=busy)
        self._online = False
        self._announce()
        while self._window.announcing and self._clock.now_ns() < until_ns:
            self._window.send()
            await self._rest(busy=False)

    def _drain(self, now_ns: int) -> bool:
        for _ in range(_BATCH):
            if not self._window.room:
                return False
            record = self._source.read()
            if record is None:
                if self._worker is None and now_ns - self._last_record_ns > _GONE_NS:
                    self._queue(self._assembler.close())
                return False
            self._last_record_ns = now_ns
            if self._flight is not None:
                self._flight.take(record)
            self._queue(self._assembler.feed(record))
        return True

    def _queue(self, built: list[Built]) -> None:
        topic_of = self._settings.topic
        for frame in built:
            name = frames.TOPIC_OF_KIND[frame.kind]
            self._window.add(Publication(topic_of(name), frame.payload, content_type=frames.CONTENT_TYPE), frame.start)
            if frame.doc is not None:
                summary = documents.to_json(documents.frame_summary(self._settings.rig, frame, self._utc()))
                self._window.add(Publication(topic_of(f"json/{name}"), summary), None)

    # ------------------------------------------------------------------------------------- status and live

    def _tick(self, now_ns: int) -> None:
        if now_ns < self._next_live_ns:
            return
        self._next_live_ns = now_ns + int(1e9 / self._settings.live_hz)
        if self._connection is None:
            return
        if now_ns >= self._next_status_ns or self._condition() != self._announced:
            self._announce()
        live = documents.live(self._settings.rig, self._assembler.latest, self._state(), self._utc(), now_ns)
        self._window.hint(Publication(self._settings.topic("live"), documents.to_json(live), qos=0))

    def _worker_map(self) -> dict[str, Any] | None:
        # What it put into the ring may be older than what it says now.
        return None if self._worker is None else {**(self._assembler.worker or {}), **self._worker}

    def _state(self) -> object:
        worker = self._worker_map()
        return None if worker is None else worker.get("state", "UNKNOWN")

    def _condition(self) -> object:
        """What is worth a new status document at once."""
        flight_fault = None if self._flight is None else self._flight.fault
        return self._state(), self._assembler.epoch, self._window.fault, flight_fault

    def _announce(self) -> None:
        self._announced = self._condition()
        self._next_status_ns = self._clock.now_ns() + int(self._settings.status_period_s * 1e9)
        payload = documents.to_json(self._status(None if self._online else "stopped"))
        self._window.announce(Publication(self._settings.topic("status"), payload, retain=True))
        self._window.announce(Publication(self._settings.topic("json/status"), payload))

    def _will(self) -> Publication:
        payload = documents.to_json(self._status("connection lost"))
        return Publication(self._settings.topic("status"), payload, retain=True)

    def _status(self, offline: str | None) -> dict[str, Any]:
        """Return the status document; ``offline``: why, or None."""
        counters = self._window.counters
        used = self._source.used_fraction
        return documents.status(
            self._settings.rig,
            offline=offline,
            epochs=(self._assembler.epoch, self._assembler.prev_epoch),
            utc=self._utc(),
            now_ns=self._clock.now_ns(),
            worker=self._worker_map(),
            uplink={
                "ring_used": None if used is None else round(used, 4),
                "waiting": self._window.waiting,
                "published": counters.published,
                "no_subscriber": counters.no_subscriber,
                "refused": counters.refused,
                "dropped": self._assembler.dropped,
                "skipped_bytes": self._source.skipped_bytes,
                "fault": self._window.fault,
                "flight_fault": None if self._flight is None else self._flight.fault,
                "flight_missed": 0 if self._flight is None else self._flight.missed,
            },
        )
