"""The whole way: real broker, workers by a shared subscription, one database; a worker dies, a backup is restored."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import aiomqtt
import pytest

from edge import watermark
from edge.store.backend import Key, Received
from edge.store.postgres.backend import PostgresBackend
from edge.store.receiver import Connection, ReceiverSettings, connect
from edge.store.service import run_store
from edge.watermark import Mark
from hil.broker import Broker, available
from hil.postgres import Postgres
from tests.edge.store_postgres.conftest import Open, problems
from tests.edge.store_postgres.made import EPOCH, NOW_NS, RIG, document, samples

SAMPLES = Key(RIG, EPOCH, "samples")
WAIT_S = 30.0
REDRIVE_S = 0.2


@pytest.fixture
def broker() -> Iterator[Broker]:
    if "mosquitto" not in available():
        pytest.skip("needs Mosquitto: apt-get install mosquitto")
    with Broker(prefer="mosquitto") as running:
        yield running


@contextlib.asynccontextmanager
async def worker(
    broker: Broker, backend: PostgresBackend, number: int | None, session_expiry_s: int = 0
) -> AsyncIterator[None]:
    settings = ReceiverSettings(
        store="lab",
        port=broker.port,
        group=None if number is None else "all",
        worker=number,
        session_expiry_s=session_expiry_s,
        watermark_every_s=0.01,
    )
    stop, subscribed = asyncio.Event(), asyncio.Event()

    @contextlib.asynccontextmanager
    async def told(settings: ReceiverSettings) -> AsyncIterator[Connection]:
        async with connect(settings) as connection:
            subscribed.set()
            yield connection

    task = asyncio.create_task(run_store(settings, backend, stop=stop, connector=told))
    try:
        # What is sent before that goes to the other worker alone.
        await asyncio.wait_for(subscribed.wait(), WAIT_S)
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, WAIT_S)


class Rig:
    """Sends what it has, as often as it is told to, and hears what the store says."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._said: asyncio.Queue[watermark.Watermark] = asyncio.Queue()

    async def listen(self) -> None:
        async for message in self._client.messages:
            assert isinstance(message.payload, bytes)
            self._said.put_nowait(watermark.decode(message.payload))

    async def send(self, frames: Sequence[Received]) -> None:
        await asyncio.gather(
            *(self._client.publish(f"tipguard/{one.rig}/{one.stream}", one.payload, qos=1) for one in frames)
        )

    async def until(
        self, is_so: Callable[[watermark.Watermark], bool], again: Sequence[Received] = ()
    ) -> watermark.Watermark:
        """Return the first document that is so; send what it does not cover of ``again`` meanwhile."""
        uncovered = list(again)
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    said = await asyncio.wait_for(self._said.get(), REDRIVE_S if again else WAIT_S)
                except TimeoutError:
                    await self.send(uncovered)
                    continue
                if is_so(said):
                    return said
                uncovered = [one for one in again if not any(mark.covers(one.seq) for mark in said.marks)]


@contextlib.asynccontextmanager
async def rig(broker: Broker) -> AsyncIterator[Rig]:
    client = aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5, max_inflight_messages=100)
    client.pending_calls_threshold = 1000
    async with client:
        await client.subscribe("tipguard/+/watermark/lab", qos=1)
        sender = Rig(client)
        listening = asyncio.create_task(sender.listen())
        try:
            yield sender
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


def whole(n: int) -> Callable[[watermark.Watermark], bool]:
    return lambda said: Mark(EPOCH, "samples", n, n - 1) in said.marks


async def test_two_workers_share_the_frames_and_one_of_them_goes(broker: Broker, opened: Open) -> None:
    """The other one gets everything from then on; both say the same of the whole."""
    frames = [samples(seq) for seq in range(300)]
    first, second = opened(), opened()
    count = {0: 0, 1: 0}
    for number, one in enumerate((first, second)):
        one._keep = counting(one._keep, count, number)  # type: ignore[method-assign]
    async with worker(broker, second, 1), rig(broker) as sender:
        async with worker(broker, first, 0):
            await sender.send([document("run", 0, {"kind": "start", "uid": "00000000000000aa"})])
            await sender.send(frames[:200])
            await sender.until(whole(200))
        await sender.send(frames[200:])
        said = await sender.until(whole(300))
    assert said.generation == first.generation == second.generation
    assert min(count.values()) > 0, "both took part"
    assert sum(count.values()) == 301, "each frame was new to one worker only"
    assert problems(second) == []


async def test_what_a_broker_keeps_for_a_dead_worker_is_sent_again_by_the_rig(broker: Broker, opened: Open) -> None:
    """With a session that outlives it, a dead worker's share waits at the broker: the watermark tells the rig so."""
    frames = [samples(seq) for seq in range(40)]
    first, second = opened(), opened()
    async with worker(broker, second, 1), rig(broker) as sender:
        async with worker(broker, first, 0, session_expiry_s=3600):
            await sender.send(frames[:20])
            await sender.until(whole(20))
        await sender.send(frames[20:])
        said = await sender.until(lambda said: said.marks[0].top >= 38)
        assert said.marks[0].contiguous < 40, "half of them went to nobody"
        await sender.until(whole(40), again=frames)
    assert problems(second) == []


def counting(keep: Callable[..., None], count: dict[int, int], number: int) -> Callable[..., None]:
    def counted(conn: object, fresh: Sequence[Received]) -> None:
        count[number] += len(fresh)
        keep(conn, fresh)

    return counted


async def test_backup_drill_over_the_broker(broker: Broker, postgres_server: Postgres) -> None:
    """Restore last night's while the service runs: it says so under a new generation, and takes everything again."""
    frames = [samples(seq) for seq in range(40)]
    url = postgres_server.create("drill_mqtt")
    backend = PostgresBackend(url, "lab", now_ns=lambda: NOW_NS)
    try:
        async with worker(broker, backend, None), rig(broker) as sender:
            await sender.send(frames[:20])
            before = await sender.until(whole(20))
            dump = await asyncio.to_thread(postgres_server.dump, "drill_mqtt", "mqtt.dump")
            await sender.send(frames[20:])
            await sender.until(whole(40))
            await asyncio.to_thread(postgres_server.drop, "drill_mqtt")
            await asyncio.to_thread(postgres_server.restore, "drill_mqtt", dump)
            # Any frame makes the store speak: here the next one.
            await sender.send([samples(40)])
            said = await sender.until(lambda said: said.generation != before.generation)
            assert said.marks == (Mark(EPOCH, "samples", 20, 40, ((20, 39),)),)
            await sender.send([frame for frame in frames if not said.marks[0].covers(frame.seq)])
            await sender.until(whole(41))
        assert problems(backend) == []
        held = {(key, seq): payload for key, seq, payload in backend.raw_frames()}
        assert held == {(one.key, one.seq): one.payload for one in [*frames, samples(40)]}
    finally:
        backend.close()
        postgres_server.drop("drill_mqtt")
