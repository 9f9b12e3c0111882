"""Plays one stretch of a flight record: a worker as it was started then, fed with the tape."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgpack
import pydantic

from edge.config import Config
from edge.controller.mirror import Latch, Mirror
from edge.controller.page import Page
from edge.controller.plans import make_plan
from edge.controller.worker import Worker
from edge.errors import FlightError, TipguardError
from edge.flight import Stretch
from edge.guard.verdicts import Verdict
from edge.ring import Kind, Record, RingReader, RingWriter, unpack_sample
from edge.samples import Sample
from edge.tape import FRONTEND, PORTS, SMU, STAGE, VERB, Entry, unpack
from hil.replay.compare import Difference, first_difference
from hil.replay.loop import TapeLoop, TapeSelector
from hil.replay.world import ReplayClock, ReplayHost, ReplayOutside, ReplayTransport, World

DRAIN_EVERY: Final = 64
"""Inputs between two looks into the ring."""
MOST_CANCELS: Final = 20


@dataclasses.dataclass(slots=True)
class Replayed:
    """What came of a replay."""

    stretch: Stretch
    difference: Difference | None
    records: list[Record]
    writes: int
    """Messages of ours that were compared."""
    state: str
    """The guard's at the end."""

    @property
    def same(self) -> bool:
        """Everything was as recorded."""
        return self.difference is None

    @property
    def samples(self) -> list[Sample]:
        """The samples, in order."""
        return [unpack_sample(record.payload)[2] for record in self.records if record.kind == Kind.SAMPLE]

    def documents(self, kind: Kind) -> list[dict[str, Any]]:
        """Return the documents of one kind, in order."""
        return [msgpack.unpackb(record.payload) for record in self.records if record.kind == kind]

    def documents_of_runs(self) -> list[dict[str, Any]]:
        """Return the run documents, in order."""
        return self.documents(Kind.RUN)

    @property
    def cuts(self) -> list[dict[str, Any]]:
        """The cuts' events, in order."""
        return [event for event in self.documents(Kind.EVENT) if event.get("kind") == "cut"]


def replay(stretch: Stretch, *, essential: bool = False) -> Replayed:
    """Live through a stretch again. Raises :class:`FlightError` for one that cannot be.

    ``essential``: compare messages, samples, verdicts, cuts and outcomes, and leave out what a newer version may say
    beside them; for recordings that are to outlive a version.
    """
    config = _config_of(stretch)
    with _directory() as directory, _no_collector():
        player = _Player(stretch, config, directory)
        player.run()
        return player.result(essential=essential)


def _config_of(stretch: Stretch) -> Config:
    if (why := stretch.start.get("unrecorded")) is not None:
        raise FlightError(f"this stretch cannot be replayed: {why}")
    try:
        return Config.model_validate(stretch.start["config"])
    except (KeyError, pydantic.ValidationError) as error:
        raise FlightError(f"the record's configuration is not one of this version: {error}") from error


@contextmanager
def _directory() -> Iterator[Path]:
    tmpfs = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - the directory below is private
    with tempfile.TemporaryDirectory(prefix="tipguard-replay-", dir=tmpfs) as directory:
        yield Path(directory)


@contextmanager
def _no_collector() -> Iterator[None]:
    # As in the worker; and a long replay is a third faster.
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class _Player:
    def __init__(self, stretch: Stretch, config: Config, directory: Path) -> None:
        self._stretch = stretch
        self._config = config
        start = self._start = stretch.start
        checkpoint = start["from"] == "checkpoint"
        turns = bool(start["turns"])
        main = stretch.entries()
        self._rest = main if checkpoint else None
        first = [entry for payload in start["preamble"] for entry in unpack(payload)] if checkpoint else main
        self._world = World(first, turns=turns)
        self._selector = TapeSelector(turns=turns)
        self._loop = TapeLoop(self._selector)
        self._directory = directory
        self._ports = [self._port(number) for number in range(len(PORTS))]
        self._worker: Worker | None = None
        self._state = "UNKNOWN"
        self._reader: RingReader | None = None
        self._records: list[Record] = []
        self._inputs = 0
        self._ended: asyncio.Future[None] | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._refused: Difference | None = None
        self._failure: BaseException | None = None

    def _port(self, number: int) -> ReplayTransport | None:
        said = self._start["ports"].get(PORTS[number])
        return None if said is None else ReplayTransport(self._world, number, **said)

    def run(self) -> None:
        """Play to the end, or to the first difference."""
        self._loop.set_exception_handler(self._on_exception)
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._finish()
        if self._failure is not None:
            raise self._failure

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            self._failure = self._failure or error
            self._stop()
        else:
            loop.default_exception_handler(context)

    def _finish(self) -> None:
        """Take everything down; what a worker still does on the way is nobody's."""
        self._world.ended = True
        if self._worker is not None:
            self._state = self._worker.engine.state.value
        self._drain()
        if self._reader is not None:
            self._reader.close()
        # A run that is cancelled cuts, and waits for a proof that does not come; it is cancelled there too.
        for _ in range(MOST_CANCELS):
            left = asyncio.all_tasks(self._loop)
            if not left:
                break
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.wait(left, timeout=0))
        self._loop.close()

    async def _main(self) -> None:
        worker = self._worker = self._make_worker()
        loop = asyncio.get_running_loop()
        starting = loop.create_task(worker.start(), name="start")
        control = loop.create_task(worker.control(), name="control")
        self._tasks = [starting, control]
        await self._play()
        if self._rest is not None and self._world.difference is None:
            # The start-up was only for what drivers learn from it; its documents are not this stretch's.
            control.cancel()
            await asyncio.gather(control, return_exceptions=True)
            self._drain()
            self._records.clear()
            worker.remember(self._start["state"])
            self._world.load(self._rest, t_ns=int(self._start["checkpoint_ns"]))
            self._tasks = [starting, loop.create_task(worker.control(), name="control")]
            await self._play(hold=1)
        for task in self._tasks:
            error = task.exception() if task.done() and not task.cancelled() else None
            # What the worker gave up for is part of what is replayed; anything else is a fault of the program.
            if error is not None and not isinstance(error, TipguardError):
                raise error

    async def _play(self, *, hold: int = 0) -> None:
        self._ended = asyncio.get_running_loop().create_future()
        self._selector.play(self._world, self._deliver, self._stop, hold=hold)
        await self._ended

    def _stop(self) -> None:
        self._selector.world = None
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _make_worker(self) -> Worker:
        start = self._start
        mirror = Mirror(self._directory)
        if start["latch"] is not None:
            mirror.write(Latch(**start["latch"]))
        ring = RingWriter(self._directory / "ring", int(start["ring_bytes"]))
        self._reader = RingReader(self._directory / "ring")
        smu = self._ports[SMU]
        if smu is None:
            raise FlightError("the record's beginning names no port for the instrument")
        first_tag = start["state"]["engine"]["first_tag"] if "state" in start else None
        return Worker(
            self._config,
            smu,
            ReplayClock(self._world),
            ring=ring,
            page=Page(self._directory / "page", create=True),
            mirror=mirror,
            previous_epoch=int(start["prev_epoch"]),
            host=ReplayHost(self._world) if start["watched"] else None,
            stage=self._ports[STAGE],
            frontend=self._ports[FRONTEND],
            outside=ReplayOutside(self._world, start, first_tag),
        )

    # -- inputs

    def _deliver(self, at: int, entry: Entry) -> None:
        if isinstance(entry, int):
            return
        self._inputs += 1
        if self._inputs % DRAIN_EVERY == 0:
            self._drain()
        if entry[0] == VERB:
            self._world.go_to(at)
            self._do(str(entry[2]), entry[3])
            return
        port = self._ports[entry[2]]
        if port is not None and port.callback is not None:
            port.callback()

    def _do(self, verb: str, arguments: dict[str, Any]) -> None:
        """Ask the worker what somebody asked it then. It was granted then; a refusal is a difference."""
        worker = self._worker
        if worker is None:
            return
        try:
            match verb:
                case "run":
                    if arguments["parameters"] is None:
                        raise FlightError(f"plan {arguments['plan']!r} did not say what it was made of")
                    worker.runner.start(make_plan(arguments["plan"], arguments["parameters"]), by=arguments["by"])
                case "stop":
                    worker.runner.stop(by=arguments["by"], verdict=Verdict(arguments["verdict"]))
                case "command":
                    # Judged again: a refusal is what came out of it, and leaves the same event.
                    worker.remote.take(arguments)
                case "rearm":
                    worker.engine.rearm(by=arguments["by"])
                case "shut_down":
                    verdict = Verdict(arguments["verdict"])
                    task = asyncio.get_running_loop().create_task(worker.shut_down(verdict, by=arguments["by"]))
                    self._tasks.append(task)
                case "give_up":
                    worker.give_up()
                case _:
                    raise FlightError(f"verb {verb!r:.40} is none that this program knows")
        except TipguardError as error:
            said = Difference("verb", self._world.now_ns, verb, "granted", f"refused: {error}")
            self._world.difference = self._world.difference or said

    def _drain(self) -> None:
        reader = self._reader
        if reader is None:
            return
        while (record := reader.read()) is not None:
            self._records.append(record)
        reader.release()

    def result(self, *, essential: bool) -> Replayed:
        """Compare and return."""
        difference = self._world.difference or first_difference(
            self._stretch.whole(), self._records, self._world.last_ns, essential=essential
        )
        return Replayed(self._stretch, difference, self._records, self._world.exchanges, self._state)
