"""The store's service on a broker that is not there: acknowledgements, failures, watermarks, the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from edge.errors import ConfigError
from edge.notify import Notifier
from edge.store.received import Message
from edge.store.receiver import BrokerGoneError, Connection, Delivery, ReceiverSettings
from edge.store.service import Counters, run_store
from tests.edge.store.made import key, payload_of
from tests.edge.store.memory_backend import MemoryBackend

SETTINGS = ReceiverSettings("lab", linger_s=0.0, backoff_min_s=0.001, backoff_max_s=0.002, watermark_every_s=0.01)


class FakeConnection:
    """Hands out what a test delivers, and remembers what it is told."""

    def __init__(self) -> None:
        self.deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
        self.acknowledged: list[int] = []
        self.published: list[tuple[str, dict[str, Any]]] = []
        self.reason = 0
        self.changed = asyncio.Event()
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._woken = asyncio.Event()
        self._mids = itertools.count(1)

    def deliver(self, payload: bytes, topic: str = "tipguard/rig-1/samples") -> None:
        self.deliveries.put_nowait(Delivery(Message(topic, payload, None), next(self._mids), 1))

    async def batch(self, most: int, linger_s: float) -> list[Delivery]:
        get, woken = asyncio.ensure_future(self.deliveries.get()), asyncio.ensure_future(self._woken.wait())
        await asyncio.wait({get, woken}, return_when=asyncio.FIRST_COMPLETED)
        woken.cancel()
        if not get.done() or self._woken.is_set():
            get.cancel()
            return []
        found = [get.result()]
        while len(found) < most and not self.deliveries.empty():
            found.append(self.deliveries.get_nowait())
        return found

    def wake(self) -> None:
        self._woken.set()

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self.acknowledged += [delivery.mid for delivery in deliveries]
        self.changed.set()

    def publish(self, topic: str, payload: bytes) -> asyncio.Future[int]:
        self.published.append((topic, json.loads(payload)))
        self.changed.set()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_result(self.reason)
        return future

    async def lost(self) -> str:
        return await self.end

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Bench:
    """A service with its backend, and connections one after the other."""

    def __init__(self, backend: MemoryBackend) -> None:
        self.backend = backend
        self.stop = asyncio.Event()
        self.connections: asyncio.Queue[FakeConnection] = asyncio.Queue()
        self.refusals: list[Exception] = []
        self.attempts = 0
        self.settings = SETTINGS
        self.running: asyncio.Task[Counters] | None = None

    @contextlib.asynccontextmanager
    async def connect(self, settings: ReceiverSettings) -> AsyncIterator[Connection]:
        self.attempts += 1
        if self.refusals:
            raise self.refusals.pop(0)
        connection = FakeConnection()
        self.connections.put_nowait(connection)
        yield connection

    async def start(self) -> FakeConnection:
        store = run_store(
            self.settings,
            self.backend,
            stop=self.stop,
            connector=self.connect,
            notifier=Notifier(None),
            utc_text=lambda: "2026-01-01T00:00:00.000+00:00",
        )
        self.running = asyncio.ensure_future(store)
        return await self.connections.get()

    async def end(self) -> Counters:
        self.stop.set()
        assert self.running is not None
        async with asyncio.timeout(10):
            return await self.running


def on_bench(test: Callable[[Bench], Awaitable[None]], backend: MemoryBackend | None = None) -> None:
    async def run() -> None:
        await test(Bench(backend or MemoryBackend()))

    asyncio.run(run())


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


def test_acknowledged_in_order_once_committed() -> None:
    async def test(bench: Bench) -> None:
        connection = await bench.start()
        for seq in range(5):
            connection.deliver(payload_of("rig-1", "samples", seq))
        await connection.until(lambda: len(connection.acknowledged) == 5)
        assert connection.acknowledged == [1, 2, 3, 4, 5]
        assert sorted(seq for _, seq in bench.backend.held) == [0, 1, 2, 3, 4]
        assert (await bench.end()).committed == 5

    on_bench(test)


def test_nothing_is_acknowledged_before_the_commit_returns() -> None:
    async def test(bench: Bench) -> None:
        bench.backend.gate.clear()
        connection = await bench.start()
        connection.deliver(payload_of("rig-1", "samples", 0))
        await asyncio.to_thread(bench.backend.entered.wait, 10)
        assert connection.acknowledged == []
        bench.backend.gate.set()
        await connection.until(lambda: connection.acknowledged)
        await bench.end()

    on_bench(test)


def test_a_store_that_fails_acknowledges_nothing_says_so_once_and_tries_again(
    logs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.store.service.RETRY_MIN_NS", 1_000_000)

    async def test(bench: Bench) -> None:
        bench.backend.failing = True
        connection = await bench.start()
        connection.deliver(payload_of("rig-1", "samples", 0))
        for _ in range(3):
            bench.backend.entered.clear()
            await asyncio.to_thread(bench.backend.entered.wait, 10)
        assert connection.acknowledged == []
        bench.backend.failing = False
        await connection.until(lambda: connection.acknowledged and connection.published)
        await bench.end()

    on_bench(test)
    said = [line["event"] for line in logs if line["log_level"] == "error"]
    assert len(said) == 1
    assert "nothing is acknowledged" in said[0]
    assert any("takes frames again" in line["event"] for line in logs)


def test_a_group_is_one_commit_and_at_most_so_large() -> None:
    async def test(bench: Bench) -> None:
        bench.backend.gate.clear()
        connection = await bench.start()
        connection.deliver(payload_of("rig-1", "samples", 0))
        await asyncio.to_thread(bench.backend.entered.wait, 10)
        for seq in range(1, 601):
            connection.deliver(payload_of("rig-1", "samples", seq))
        bench.backend.gate.set()
        await connection.until(lambda: len(connection.acknowledged) == 601)
        assert bench.backend.commits == [1, 256, 256, 88]
        await bench.end()

    on_bench(test)


def test_the_backend_is_called_from_one_thread() -> None:
    async def test(bench: Bench) -> None:
        connection = await bench.start()
        for seq in range(20):
            connection.deliver(payload_of("rig-1", "samples", seq))
            await connection.until(lambda seq=seq: len(connection.acknowledged) == seq + 1)  # type: ignore[misc]
        await bench.end()
        assert len(bench.backend.threads) == 1

    on_bench(test)


def test_a_watermark_of_each_rig_touched() -> None:
    async def test(bench: Bench) -> None:
        connection = await bench.start()
        for rig, seq in (("rig-1", 0), ("rig-1", 2), ("rig-2", 0)):
            connection.deliver(payload_of(rig, "samples", seq), f"tipguard/{rig}/samples")
        await connection.until(lambda: len(connection.published) == 2)
        found = dict(connection.published)
        assert set(found) == {"tipguard/rig-1/watermark/lab", "tipguard/rig-2/watermark/lab"}
        document = found["tipguard/rig-1/watermark/lab"]
        assert (document["store"], document["generation"], document["rig"]) == ("lab", "0123456789abcdef", "rig-1")
        assert document["marks"] == [
            {"epoch": "fedcba9876543210", "stream": "samples", "contiguous": 1, "top": 2, "holes": [[1, 1]]}
        ]
        await bench.end()

    on_bench(test)


def test_a_repetition_is_answered_by_a_watermark_too() -> None:
    async def test(bench: Bench) -> None:
        connection = await bench.start()
        for _ in range(2):
            connection.published.clear()
            connection.deliver(payload_of("rig-1", "samples", 0))
            await connection.until(lambda: connection.published)
        await bench.end()

    on_bench(test)


def test_watermarks_keep_their_distance_and_the_last_says_all() -> None:
    async def test(bench: Bench) -> None:
        bench.settings = ReceiverSettings("lab", linger_s=0.0, watermark_every_s=30.0)
        connection = await bench.start()
        for seq in range(50):
            connection.deliver(payload_of("rig-1", "samples", seq))
            await connection.until(lambda seq=seq: len(connection.acknowledged) == seq + 1)  # type: ignore[misc]
        # The first at once, the rest only after 30 s; but an end publishes what is due.
        assert len(connection.published) == 1
        await bench.end()
        assert [document["marks"][0]["contiguous"] for _, document in connection.published][1:] == [50]

    on_bench(test)


def test_after_a_start_the_rigs_hear_what_the_store_has() -> None:
    backend = MemoryBackend()

    async def fill(bench: Bench) -> None:
        connection = await bench.start()
        connection.deliver(payload_of("rig-1", "samples", 0))
        await connection.until(lambda: connection.acknowledged)
        await bench.end()

    async def again(bench: Bench) -> None:
        # A restored store has another generation, and its rigs may be silent: they must hear of it.
        bench.backend.renew()
        connection = await bench.start()
        await connection.until(lambda: connection.published)
        assert connection.published[0][1]["generation"] == "fedcba9876543210"
        await bench.end()

    on_bench(fill, backend)
    on_bench(again, backend)


def test_what_is_no_frame_is_kept_acknowledged_and_not_covered(logs: list[Any]) -> None:
    async def test(bench: Bench) -> None:
        connection = await bench.start()
        connection.deliver(b"garbage")
        connection.deliver(b"garbage")
        connection.deliver(payload_of("rig-1", "samples", 0), "tipguard/rig-2/samples")
        await connection.until(lambda: len(connection.acknowledged) == 3)
        assert [one.payload for one in bench.backend.unreadable][1:] == [b"garbage", payload_of("rig-1", "samples", 0)]
        assert not bench.backend.held
        assert not connection.published
        assert (await bench.end()).unreadable == 3

    on_bench(test)
    # Once for each kind, however many come.
    assert len([line for line in logs if "quarantine" in line["event"]]) == 2


def test_a_connection_that_is_lost_is_made_again_and_old_acknowledgements_stay_with_it() -> None:
    async def test(bench: Bench) -> None:
        bench.backend.gate.clear()
        first = await bench.start()
        first.deliver(payload_of("rig-1", "samples", 0))
        await asyncio.to_thread(bench.backend.entered.wait, 10)
        first.end.set_result("reset by peer")
        second = await bench.connections.get()
        # The broker sends it again, under a number of the new connection.
        second.deliver(payload_of("rig-1", "samples", 0))
        bench.backend.gate.set()
        await second.until(lambda: second.acknowledged and second.published)
        assert first.acknowledged == []
        assert len(bench.backend.held) == 1
        await bench.end()

    on_bench(test)


def test_an_absent_broker_is_waited_for_and_said_once(logs: list[Any]) -> None:
    async def test(bench: Bench) -> None:
        bench.refusals = [*[BrokerGoneError("127.0.0.1:1883: refused")] * 5, ConfigError("ca_file: gone")]
        await bench.start()
        assert bench.attempts == 7
        await bench.end()

    on_bench(test)
    assert [line["why"] for line in logs if line["log_level"] == "warning"] == [
        "127.0.0.1:1883: refused",
        "ca_file: gone",
    ]


def test_a_watermark_that_is_refused_is_said(logs: list[Any]) -> None:
    async def test(bench: Bench) -> None:
        connection = await bench.start()
        connection.reason = 0x87
        for seq in range(3):
            connection.published.clear()
            connection.deliver(payload_of("rig-1", "samples", seq))
            await connection.until(lambda: connection.published)
        assert (await bench.end()).refused >= 3

    on_bench(test)
    assert [line["reason"] for line in logs if line["log_level"] == "error"] == ["0x87"]


def test_the_end_waits_for_the_commit_under_way() -> None:
    async def test(bench: Bench) -> None:
        bench.backend.gate.clear()
        connection = await bench.start()
        connection.deliver(payload_of("rig-1", "samples", 0))
        await asyncio.to_thread(bench.backend.entered.wait, 10)
        bench.stop.set()
        bench.backend.gate.set()
        await bench.end()
        assert connection.acknowledged == [1]
        assert connection.published[-1][1]["marks"][0]["stream"] == key().stream

    on_bench(test)


def test_a_store_that_fails_may_be_ended() -> None:
    async def test(bench: Bench) -> None:
        bench.backend.failing = True
        connection = await bench.start()
        connection.deliver(payload_of("rig-1", "samples", 0))
        await asyncio.to_thread(bench.backend.entered.wait, 10)
        await bench.end()
        assert connection.acknowledged == []

    on_bench(test)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"linger_s": 1.1}, "linger_s"),
        ({"batch": 0}, "batch"),
        ({"worker": 1}, "worker"),
        ({"group": "a/b", "worker": 1}, "group"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        ReceiverSettings("lab", **wrong)


def test_workers_share_by_group_and_have_names_of_their_own() -> None:
    worker = ReceiverSettings("lab", group="lab", worker=3)
    assert worker.identifier == "tipguard-store-lab-3"
    assert worker.filters[0] == "$share/lab/tipguard/+/samples"
    alone = ReceiverSettings("lab")
    assert (alone.identifier, alone.filters[2]) == ("tipguard-store-lab", "tipguard/+/runs")
