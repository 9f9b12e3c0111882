"""An uplink on a broker that is not there, in virtual time; and stores that say what they have."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgpack
import pytest
from structlog.testing import capture_logs

from edge.frames import Frame, UtcMapping, decode_frame
from edge.notify import Notifier
from edge.ring import Kind, RingWriter
from edge.samples import Phase, Sample
from edge.uplink import UplinkSettings, run_uplink
from edge.uplink.jobs import Jobs
from edge.uplink.mqtt import BrokerLostError, Connection, Incoming, OnMessage, Publication
from edge.watermark import Mark, Watermark, encode
from hil.virtual import VirtualClock, run_virtual

UTC = UtcMapping(1_700_000_000_000_000_000, True, 5)
SECOND = 1_000_000_000


def a_sample(number: int = 0) -> Sample:
    return Sample(number, 1, number + 5, 0.5, 1e-6, 0, int(Phase.SEEK))


def strict(payload: bytes) -> Any:  # noqa: ANN401 - JSON is anything
    return json.loads(payload, parse_constant=pytest.fail)


class FakeBroker:
    """Takes publishes; by default it acknowledges each 1 ms later."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.window = 20
        self.up = True
        self.answers = True
        self.answer_ns = 1_000_000
        self.reason: Callable[[Publication], int] = lambda publication: 0
        self.received: list[Publication] = []
        self.attempts: list[int] = []
        self.most_under_way = 0
        self.will: Publication | None = None
        self.under_way: set[asyncio.Future[int]] = set()
        self._tried: set[str] = set()
        self._lost: asyncio.Future[str] | None = None
        self.on_message: OnMessage | None = None
        self.filters: list[str] = []

    @contextlib.asynccontextmanager
    async def connect(self, settings: UplinkSettings, will: Publication) -> AsyncIterator[Connection]:
        self.attempts.append(self.clock.now_ns())
        if not self.up:
            raise BrokerLostError("no answer", host=settings.host, port=settings.port)
        self.will = will
        self.under_way, self._tried = set(), set()
        self._lost = asyncio.get_running_loop().create_future()
        self.on_message, self.filters = None, []
        yield self
        self._lost = None

    def publish(self, publication: Publication) -> asyncio.Future[int]:
        if self._lost is None or self._lost.done():
            raise BrokerLostError("gone", host="", port=0)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.received.append(publication)
        if publication.qos == 0:
            future.set_result(0)
        else:
            # Answers to commands have a topic each, and are sent once.
            alone = publication.topic in self._tried or not self.under_way
            assert alone or publication.topic.startswith("tipguard/reply/"), f"{publication.topic} was not tried alone"
            self._tried.add(publication.topic)
            self.under_way.add(future)
            # What MQTT 5 calls Receive Maximum: one more, and a broker ends the connection.
            assert len(self.under_way) <= self.window
            self.most_under_way = max(self.most_under_way, len(self.under_way))
            if self.answers:
                self.clock.call_at(self.clock.now_ns() + self.answer_ns, lambda: self._answer(future, publication))
        return future

    def subscribe(self, filters: Sequence[str], *, kept: bool = True) -> asyncio.Future[list[int]]:
        self.filters += filters
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        future.set_result([1 for _ in filters])
        return future

    def _answer(self, future: asyncio.Future[int], publication: Publication) -> None:
        if future in self.under_way:
            self.under_way.remove(future)
            future.set_result(self.reason(publication))

    async def lost(self) -> str:
        assert self._lost is not None
        return await asyncio.shield(self._lost)

    def deliver(self, name: str, payload: bytes, response_topic: str | None = None) -> None:
        """Bring a message to the uplink, if it has asked for its topic."""
        topic = f"tipguard/rig-1/{name}"
        asked = any(topic.rpartition("/")[0] == wanted.rpartition("/")[0] for wanted in self.filters)
        if asked and self.on_message is not None and self._lost is not None:
            self.on_message(Incoming(topic, payload, retain=False, qos=1, response_topic=response_topic))

    def drop(self) -> None:
        """Break the connection: nothing under way is answered any more."""
        self.under_way = set()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result("reset by peer")

    def on(self, name: str) -> list[bytes]:
        return [item.payload for item in self.received if item.topic == f"tipguard/rig-1/{name}"]

    def numbers(self) -> list[int]:
        return [decode_frame(payload).seq for payload in self.on("samples")]


class Scene:
    """An uplink on a fake broker, and the ring it drains."""

    def __init__(self, clock: VirtualClock, path: Path, ring_bytes: int = 1 << 20) -> None:
        self.clock = clock
        self.path = path
        self.writer = RingWriter(path, ring_bytes)
        self.broker = FakeBroker(clock)
        self.stop = asyncio.Event()
        self.worker: dict[str, Any] | None = {"state": "SAFE"}
        self.frames = 0
        self._task: asyncio.Task[None] | None = None

    def start(self, notifier: Notifier | None = None, jobs: Jobs | None = None, **changes: Any) -> None:  # noqa: ANN401 - any setting
        """Start an uplink, or the next one."""
        self.stop.clear()
        self._task = asyncio.ensure_future(
            run_uplink(
                UplinkSettings("rig-1", self.path, **changes),
                stop=self.stop,
                worker_status=self.ask,
                clock=self.clock,
                connector=self.broker.connect,
                utc=lambda: UTC,
                notifier=notifier,
                jobs=jobs,
            )
        )

    async def ask(self) -> dict[str, Any] | None:
        return self.worker

    def event(self, seq: int, *, epoch: int = 1, size: int = 10) -> None:
        assert self.writer.write(Kind.EVENT, epoch, seq, msgpack.packb({"verdict": "STALE", "trace": bytes(size)}))

    def status(self) -> dict[str, Any]:
        """Return what the last status document says of the uplink."""
        found: dict[str, Any] = strict(self.broker.on("status")[-1])["uplink"]
        return found

    def write(self, count: int, *, epoch: int = 1, samples: int = 2) -> None:
        """Write ``count`` whole frames."""
        for seq in range(self.frames, self.frames + count):
            for index in range(samples * seq, samples * (seq + 1)):
                assert self.writer.write_sample(epoch, seq, index, 0, a_sample(index))
            assert self.writer.write(Kind.FRAME_CLOSE, epoch, seq, b"")
        self.frames += count

    async def outage(self, frames: int, **settings: Any) -> None:  # noqa: ANN401 - any setting
        """Start an uplink without a broker, write ``frames`` frames, by the hundred, then let the broker come."""
        self.broker.up = False
        self.start(**settings)
        for _ in range(frames // 100):
            self.write(100)
            await self.wait(0.2)
        self.broker.up = True

    async def unsent(self, frames: int, **settings: Any) -> None:  # noqa: ANN401 - any setting
        """Have ``frames`` frames in the outbox only, and the uplink ended."""
        self.broker.up = False
        self.start(**settings)
        for done in range(0, frames, 100):
            self.write(min(100, frames - done))
            await self.wait(1)
        await self.end()
        self.broker.up = True

    async def damaged(self, frames: int, which: Callable[[int], bool]) -> None:
        """Leave an outbox of ``frames`` frames that were not sent; those that are ``which``, by number, not whole."""
        await self.unsent(frames)
        with contextlib.closing(sqlite3.connect(self.path.parent / "outbox.sqlite")) as db, db:
            db.create_function("is_one", 1, lambda row_id: which(row_id & 1023))
            db.execute("UPDATE frames SET payload = zeroblob(length(payload)) WHERE is_one(id)")

    async def wait(self, seconds: float) -> None:
        await self.clock.sleep_until(self.clock.now_ns() + int(seconds * SECOND))

    async def end(self) -> None:
        self.stop.set()
        assert self._task is not None
        await self._task


class FakeStore:
    """Takes what a broker received, frame by frame, and says what it has; what it takes is for the test to say."""

    def __init__(self, scene: Scene, name: str = "lab") -> None:
        self.scene = scene
        self.name = name
        self.generation = "0" * 16
        self.has: dict[tuple[int, str], set[int]] = {}
        self.takes: Callable[[Frame], bool] = lambda frame: True
        self.looked_at = 0

    def take(self, most: int | None = None) -> None:
        """Look at what came since the last time, or at ``most`` publications of it."""
        received = self.scene.broker.received
        received = received[: len(received) if most is None else self.looked_at + most]
        for publication in received[self.looked_at :]:
            if publication.content_type == "application/msgpack":
                frame = decode_frame(publication.payload)
                if self.takes(frame):
                    self.has.setdefault((int(frame.epoch, 16), frame.stream), set()).add(frame.seq)
        self.looked_at = len(received)

    def marks(self) -> tuple[Mark, ...]:
        made = []
        for (epoch, stream), seqs in self.has.items():
            contiguous = next(seq for seq in range(max(seqs, default=-1) + 2) if seq not in seqs)
            top = max(seqs, default=-1)
            missing = [seq for seq in range(contiguous, top) if seq not in seqs]
            starts = [seq for seq in missing if seq - 1 not in missing]
            ends = [seq for seq in missing if seq + 1 not in missing]
            made.append(Mark(epoch, stream, contiguous, top, tuple(zip(starts, ends, strict=True))))
        return tuple(made)

    def word(self, marks: tuple[Mark, ...] | None = None) -> bytes:
        """Return the watermark as of now; ``marks``: other than the true ones."""
        document = Watermark(self.name, self.generation, "rig-1", self.marks() if marks is None else marks)
        return encode(document, f"{self.scene.clock.now_ns()} ns")

    def say(self, marks: tuple[Mark, ...] | None = None) -> None:
        """Publish the watermark."""
        self.scene.broker.deliver(f"watermark/{self.name}", self.word(marks))

    async def serve(self, seconds: float) -> None:
        """Take and say, five times a second."""
        for _ in range(round(5 * seconds)):
            before = self.looked_at
            self.take()
            if self.looked_at != before:
                self.say()
            await self.scene.wait(0.2)


def play(path: Path, story: Callable[[Scene], Awaitable[None]], **ring: int) -> list[Any]:
    """Run a story in virtual time and return what was logged."""

    async def main(clock: VirtualClock) -> None:
        scene = Scene(clock, path / "ring", **ring)
        await story(scene)
        scene.writer.close()

    with capture_logs() as logs:
        run_virtual(main)
    return logs
