"""The store on a real Mosquitto: acknowledgement after commit, kills, groups, permissions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from structlog.testing import capture_logs

from edge.store.catalogue import read_contents
from edge.store.directory import DirectoryStore
from edge.store.quarantine import read_quarantine
from edge.store.receiver import AiomqttConnection, ReceiverSettings
from edge.store.service import run_store
from hil.broker import Broker, mosquitto_path
from tests.edge.store.live import Rig, store_process
from tests.edge.store.made import payload_of, verified
from tests.edge.store.memory_backend import MemoryBackend

LONG = os.environ.get("TIPGUARD_LONG") == "1"
ROUNDS = 25 if LONG else 1

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(mosquitto_path() is None, reason="needs mosquitto (apt install mosquitto)"),
]


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker(prefer="mosquitto") as running:
        yield running


def settings(broker: Broker, **how: Any) -> ReceiverSettings:  # noqa: ANN401 - passed on
    return ReceiverSettings("lab", port=broker.port, watermark_every_s=0.01, **how)


@contextlib.asynccontextmanager
async def serving(settings: ReceiverSettings, backend: MemoryBackend) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = asyncio.ensure_future(run_store(settings, backend, stop=stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def test_a_store_from_the_command_line(broker: Broker, tmp_path: Path) -> None:
    process = store_process(tmp_path, broker.port)
    async with Rig(broker.port) as rig:
        await rig.until_covered(range(40))
        await rig.send_raw(b"\x81\xa1v\x02")
        await rig.send([41])
        await rig.hears(lambda: rig.covers(41))
        assert not rig.covers(40)
    process.send_signal(signal.SIGTERM)
    out, _ = await asyncio.to_thread(process.communicate, None, 30)
    assert process.returncode == 0, out
    report = verified(tmp_path)
    assert (report.good, report.frames) == (True, 41)
    # After a stop everything is Parquet.
    contents = read_contents(tmp_path)
    assert contents.journal == []
    assert contents.files("samples")
    assert [one["payload"] for one in read_quarantine(tmp_path / "quarantine")] == [b"\x81\xa1v\x02"]


@pytest.mark.timeout(1200 if LONG else 60)
async def test_killed_while_it_stores(broker: Broker, tmp_path: Path) -> None:
    rng = random.Random(7)
    async with Rig(broker.port) as rig:
        for number in range(ROUNDS):
            process = store_process(tmp_path, broker.port)
            wanted = range(60 * (number + 1))
            sending = asyncio.ensure_future(rig.until_covered(wanted))
            at = rng.randrange(60 * number, 60 * (number + 1))
            await rig.hears(lambda at=at: rig.covers(at))  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(process.communicate, None, 20)
            process = store_process(tmp_path, broker.port)
            await sending
            process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(process.communicate, None, 20)
    DirectoryStore(tmp_path, "lab", compact_every_s=None).close()
    report = verified(tmp_path)
    assert (report.good, report.frames) == (True, 60 * ROUNDS)


async def _published_once_then_a_store_that_fails(broker: Broker) -> set[int]:
    """Frames are published once; the first store never commits; what does the second one get?"""
    bad, good = MemoryBackend(), MemoryBackend()
    bad.failing = True
    async with Rig(broker.port) as rig:
        async with serving(settings(broker), bad):
            # The session is there once the broker has a subscriber that is asked for something.
            while not bad.entered.is_set():
                await rig.send([0])
                await asyncio.to_thread(bad.entered.wait, 0.2)
            await rig.send(range(1, 10))
        async with serving(settings(broker), good):
            await rig.send([100])
            await rig.hears(lambda: rig.covers(100))
    return {seq for _, seq in good.held}


async def test_what_was_not_committed_is_not_acknowledged_and_comes_again(broker: Broker) -> None:
    assert await _published_once_then_a_store_that_fails(broker) >= set(range(10))


async def test_acknowledged_on_arrival_it_would_be_lost(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without the check: the library's own acknowledgement, as a message arrives."""
    monkeypatch.setattr(paho.Client, "manual_ack_set", lambda client, on: None)
    monkeypatch.setattr(AiomqttConnection, "acknowledge", lambda connection, deliveries: None)
    assert not set(range(1, 10)) & await _published_once_then_a_store_that_fails(broker)


async def test_two_workers_share_the_frames(broker: Broker) -> None:
    first, second = MemoryBackend(), MemoryBackend()

    def held() -> list[int]:
        return [seq for backend in (first, second) for _, seq in backend.held if seq >= 1000]

    async with (
        Rig(broker.port) as rig,
        serving(settings(broker, group="lab", worker=0), first),
        serving(settings(broker, group="lab", worker=1), second),
    ):
        seqs = iter(range(1000))
        while not (first.held and second.held):
            await rig.send([next(seqs)])
        await rig.send(range(1000, 1040))
        await rig.hears(lambda: len(held()) >= 40)
    assert sorted(held()) == list(range(1000, 1040))


async def test_a_broker_that_is_killed_is_found_again(broker: Broker) -> None:
    backend = MemoryBackend()
    async with serving(settings(broker, backoff_max_s=0.3), backend):
        async with Rig(broker.port) as rig:
            await rig.until_covered(range(5))
        broker.kill()
        broker.start()
        async with Rig(broker.port) as rig:
            # It has forgotten session, backlog and watermark; the rig has not, and sends again.
            await rig.until_covered(range(10))
    assert {seq for _, seq in backend.held} == set(range(10))


async def test_another_s_rig_in_a_frame_reaches_no_watermark(broker: Broker) -> None:
    backend = MemoryBackend()
    async with serving(settings(broker), backend), Rig(broker.port, "rig-2") as rig:
        await rig.until_covered(range(1))
        await rig.send_raw(payload_of("rig-1", "samples", 0))
        await rig.send([1])
        await rig.hears(lambda: rig.covers(1))
    assert {key.rig for key, _ in backend.held} == {"rig-2"}
    assert len(backend.unreadable) == 1


async def test_a_store_that_may_not_speak_says_so(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic read tipguard/#\ntopic write tipguard/+/samples\n", encoding="utf-8")
    backend = MemoryBackend()
    with Broker(prefer="mosquitto", mosquitto_lines=f"acl_file {acl}") as broker, capture_logs() as logs:
        async with serving(settings(broker), backend), Rig(broker.port) as rig:
            while not any("refuses a watermark" in line["event"] for line in logs):
                backend.entered.clear()
                await rig.send([0])
                await asyncio.to_thread(backend.entered.wait, 0.5)
    assert [line["reason"] for line in logs if line["log_level"] == "error"] == ["0x87"]
