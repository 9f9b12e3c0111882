"""The uplink's process: drains the ring into the outbox, sends from the outbox, and lets go of what the stores have.

The ring is released only up to what is committed to the disk, and nothing is sent before. So the uplink may die at any
moment: its successor reads the rest of the ring again, finds what is there already, and sends what has no answer yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import structlog

from edge import frames
from edge.broker_link import FAILURE
from edge.clock import Clock, LoopClock
from edge.notify import Notifier
from edge.uplink import documents
from edge.uplink.assemble import Assembler, Built
from edge.uplink.certificate import Certificate
from edge.uplink.commands import CommandRelay
from edge.uplink.figures import outbox_document, store_figures
from edge.uplink.flight import FlightWriter
from edge.uplink.holes import Holes
from edge.uplink.jobs import InlineJobs, Jobs, ThreadJobs
from edge.uplink.keeper import Keeper
from edge.uplink.lanes import Lanes
from edge.uplink.metrics import Figures, MetricsPage
from edge.uplink.mqtt import BrokerLostError, Connect, Connection, Incoming, Publication, connect, reason_text
from edge.uplink.outbox import Entry, Outbox
from edge.uplink.progress import Progress
from edge.uplink.recent_utc import RecentUtc
from edge.uplink.redrive import Redrive
from edge.uplink.retention import NOT_STORED, Retention
from edge.uplink.settings import UplinkSettings
from edge.uplink.source import Source
from edge.uplink.window import Window

Answer = dict[str, Any] | None
WorkerStatus = Callable[[], Answer] | Callable[[], Awaitable[Answer]]
"""What the worker is doing: a map with ``state`` and more, {} when nothing is known, None when it does not answer.

A plain function is called in a thread: it may take its time.
"""

SWITCH_S: Final = 0.0005
_BATCH: Final = 512
_RING_MAY_FILL: Final = 0.5
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
    jobs: Jobs | None = None,
) -> None:
    """Publish the ring until ``stop`` is set; then wait ``stop_flush_s`` for what is under way, and say goodbye.

    Neither an absent ring nor an absent broker is an error: both are waited for, and said once. ``notifier``: the line
    to the service manager, where there is one. ``jobs``: where the outbox's disk work is done; by default in a thread,
    but where time is not the loop's own (``clock``), in the loop itself.
    """
    if clock is None:
        # Loop and outbox share one interpreter; at the default of 5 ms an event would wait that long at each hand-over.
        sys.setswitchinterval(SWITCH_S)
    if jobs is None:
        jobs = ThreadJobs() if clock is None or isinstance(clock, LoopClock) else InlineJobs()
    progress = Progress(notifier or Notifier(None))
    await _Uplink(settings, stop, worker_status, clock or LoopClock(), connector, utc, progress, jobs).run()


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
        jobs: Jobs,
    ) -> None:
        self._progress = progress
        self._settings = settings
        self._stop = stop
        self._worker_status = worker_status
        self._clock = clock
        self._utc = utc
        self._log = structlog.get_logger("uplink").bind(rig=settings.rig)
        self._wake = asyncio.Event()
        self._certificate = Certificate(settings.tls, rig=settings.rig, log=self._log)
        self._source = Source(settings.ring_path, log=self._log)
        self._assembler = Assembler(settings.rig, log=self._log, utc=RecentUtc(utc, clock.now_ns))
        self._outbox = Outbox(
            settings,
            jobs=jobs,
            clock=clock,
            committed=self._committed,
            opened=self._opened,
            utc=utc,
            wake=self._wake.set,
            log=self._log,
        )
        self._lanes = Lanes(self._outbox, self._wake.set, settings)
        self._redrive = Redrive(settings, self._outbox, clock=clock, later=self._lanes.later, log=self._log)
        self._holes = Holes(settings, self._outbox, self._redrive.stores, later=self._lanes.later, log=self._log)
        self._retention = Retention(settings, self._outbox, log=self._log)
        self._window = Window(
            settings=settings,
            lanes=self._lanes,
            acknowledged=self._acknowledged,
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
        self._metrics = MetricsPage(settings.rig, settings.metrics_port, now_ns=clock.now_ns)
        self._relay = CommandRelay(settings, clock=clock, publish=self._answer, log=self._log)
        self._connection: Connection | None = None
        self._worker: Answer = {}
        self._last_record_ns = 0
        self._online = True
        self._announced: object = None
        self._next_ring_ns = 0
        self._ring_used = 0.0
        self._ring_fills = False
        self._next_live_ns = 0
        self._next_status_ns = 0
        self._next_certificate_ns = 0

    async def run(self) -> None:
        with self._metrics:
            await self._work()

    async def _work(self) -> None:
        self._log.info(
            "uplink started; frames go to the outbox first",
            broker=f"{self._settings.host}:{self._settings.port}",
            ring=str(self._settings.ring_path),
            outbox=str(self._outbox.path),
            stores=list(self._settings.stores) or NOT_STORED,
            flight_record=str(self._settings.flight_directory or "off"),
        )
        self._outbox.open()
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(self._watch_stop()), group.create_task(self._ask_worker())]
            helpers.append(group.create_task(self._relay.run(), name="commands"))
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
        await self._outbox.close()
        self._source.close()
        if self._flight is not None:
            self._flight.close()
        self._log.info("uplink stopped", waiting=self._waiting)

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
        self._listen(connection)
        self._announce()
        self._wake.set()

    def _listen(self, connection: Connection) -> None:
        """Have what stores and users say brought to those who understand it."""
        commands = self._relay.topic_filter
        if commands is None and not self._redrive.filters:
            return
        connection.on_message = self._heard
        # One that is lost already is found out about elsewhere.
        with contextlib.suppress(BrokerLostError):
            if self._redrive.filters:
                self._redrive.subscribed()
                asked = connection.subscribe(self._redrive.filters)
                asked.add_done_callback(lambda codes: self._subscribed(codes, "no store can tell what it has"))
            if commands is not None:
                asked = connection.subscribe([commands], kept=False)
                asked.add_done_callback(lambda codes: self._subscribed(codes, "nobody can command this rig"))

    def _subscribed(self, asked: asyncio.Future[list[int]], else_what: str) -> None:
        if not asked.cancelled() and (refused := [code for code in asked.result() if code >= FAILURE]):
            self._log.warning(f"broker refuses a subscription: {else_what}", why=reason_text(refused[0]))

    def _heard(self, incoming: Incoming) -> None:
        for suffix, take in (("watermark/", self._redrive.take), ("cmd/", self._relay.take)):
            if incoming.topic.startswith(self._settings.topic(suffix)):
                take(incoming)
                self._wake.set()

    def _opened(self) -> None:
        """The outbox begins, or begins anew after damage."""
        self._window.opened()
        self._redrive.opened()
        self._holes.opened()
        self._lanes.opened()

    def _committed(self, group: list[Entry]) -> None:
        self._lanes.committed(group)
        self._window.send()

    def _acknowledged(self, entry: Entry, now_ns: int) -> None:
        held, seq = entry.held, entry.seq
        held.out.discard(seq)
        if seq in held.kept:
            held.acked.add(seq, seq)
            self._redrive.acknowledged(held, seq, now_ns)
            self._outbox.touch(held)

    @property
    def _waiting(self) -> int:
        """Frames that are here and that no broker has acknowledged."""
        return self._outbox.uncommitted + self._lanes.waiting + self._window.frames

    def _answer(self, publication: Publication) -> asyncio.Future[int]:
        if self._connection is None:
            raise BrokerLostError("not connected", host=self._settings.host, port=self._settings.port)
        return self._window.answer(publication)

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
            before, self._ring_used = self._ring_used, self._source.used_fraction or 0.0
            self._ring_fills = self._ring_used > max(before, _RING_MAY_FILL)
            if self._source.look_after():
                self._queue(self._assembler.close())
                if not self._outbox.uncommitted:
                    if self._flight is not None:
                        self._flight.end_ring()
                    self._source.switch()
        busy = self._drain(now_ns)
        self._outbox.turn(now_ns, more=busy)
        self._redrive.turn(now_ns)
        self._holes.turn(now_ns, self._assembler.former)
        self._retention.turn(now_ns)
        self._window.send()
        if self._flight is not None:
            self._flight.turn()
        floor = self._outbox.floor(self._source.cursor)
        opened = self._assembler.open_start
        if self._flight is not None:
            floor = min(floor, self._flight.floor(self._source.cursor, self._source.capacity_bytes))
        self._source.release_to(floor if opened is None else min(floor, opened))
        if self._window.overdue_ns > self._settings.ack_timeout_s * 1e9:
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
            drained=self._at_rest,
            connected=connected,
            # Not what goes out of itself, as the status does: a broker acknowledges it however much we hang.
            mark=(self._source.cursor, self._window.counters.frames, self._outbox.commits),
            status=f"{'connected to' if connected else 'waiting for the broker at'} {where}; {ring}",
        )

    @property
    def _at_rest(self) -> bool:
        """Nothing is to be done, or what stands in its way is known and no other process would mend it."""
        if self._outbox.stuck is not None or self._retention.used >= 1:
            return True
        if not self._source.drained or self._outbox.uncommitted:
            return False
        return not self._waiting or bool(self._window.fault or self._outbox.fault)

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
        while self._clock.now_ns() < until_ns:
            busy = self._turn()
            sent = self._connection is None or not self._waiting
            if not busy and sent and (not self._outbox.uncommitted or self._outbox.stuck):
                break
            await self._rest(busy=busy)
        self._online = False
        self._announce()
        while self._window.announcing and self._clock.now_ns() < until_ns:
            self._window.send()
            await self._rest(busy=False)

    def _drain(self, now_ns: int) -> bool:
        for _ in range(_BATCH):
            if not self._outbox.room or self._ahead:
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

    @property
    def _ahead(self) -> bool:
        """True while as much is in memory as can be sent in a moment: to read more would be to read it twice.

        Not when nothing is answered any more, or the ring fills all the same: the disk is the better place then.
        """
        return self._lanes.full(self._outbox.uncommitted) and self._window.answers and not self._ring_fills

    def _queue(self, built: list[Built]) -> None:
        now_ns = self._clock.now_ns()
        for frame in built:
            self._outbox.put(frame, frame.stream, now_ns)

    # ------------------------------------------------------------------------------------- status and live

    def _tick(self, now_ns: int) -> None:
        if now_ns < self._next_live_ns:
            return
        self._next_live_ns = now_ns + int(1e9 / self._settings.live_hz)
        if now_ns >= self._next_certificate_ns:
            self._next_certificate_ns = now_ns + int(self._settings.status_period_s * 1e9)
            if self._certificate.look(self._utc(), now_ns) and self._connection is not None:
                # What is under way is sent again over the next connection.
                self._detach()
                self._keeper.leave()
        self._metrics.show(self._figures())
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
        # A nonce that nobody sees in time is of no use.
        command = None if self._worker is None else self._worker.get("command")
        fault = self._window.fault, flight_fault, self._certificate.fault
        outbox = self._outbox.fault, self._redrive.fault, self._retention.alarm
        return self._state(), self._assembler.epoch, fault, outbox, command

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
        return documents.status(
            self._settings.rig,
            offline=offline,
            epochs=(self._assembler.epoch, self._assembler.prev_epoch),
            utc=self._utc(),
            now_ns=self._clock.now_ns(),
            worker=self._worker_map(),
            uplink=self._figures().document(),
        )

    def _figures(self) -> Figures:
        """Return what the status document and the metrics page both say."""
        counters = self._window.counters
        used, state = self._source.used_fraction, self._state()
        stores, oldest_s = store_figures(self._outbox, self._redrive, self._clock.now_ns())
        return Figures(
            connected=self._connection is not None,
            worker_state=state if isinstance(state, str) else None,
            ring_used=None if used is None else round(used, 4),
            waiting=self._waiting,
            published=counters.published,
            no_subscriber=counters.no_subscriber,
            refused=counters.refused,
            dropped=self._assembler.dropped,
            skipped_bytes=self._source.skipped_bytes,
            certificate=self._certificate.document(),
            flight_missed=0 if self._flight is None else self._flight.missed,
            redriven=self._redrive.redriven,
            outbox_frames=sum(held.kept.count for held in self._outbox.by_sid.values()),
            outbox_bytes=self._outbox.usage.used_bytes,
            outbox_oldest_s=oldest_s,
            outbox_budget_used=round(self._retention.used, 4),
            outbox_commits=self._outbox.usage.commits,
            outbox_written_bytes=self._outbox.usage.written_bytes,
            outbox=outbox_document(self._settings, self._outbox, self._redrive, self._retention, self._holes),
            stores=stores,
            commands=self._relay.document(),
            fault=self._window.fault or self._outbox.fault,
            flight_fault=None if self._flight is None else self._flight.fault,
            metrics_fault=self._metrics.fault,
        )
