"""The reader's client: frames once each, over reconnects, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiomqtt
import msgpack
import pytest

import edge.client
from edge.client import NoBrokerError, Subscriber, decode_frame
from edge.errors import FrameError
from edge.frames import UtcMapping, doc_frame, sample_frame
from edge.samples import Sample
from hil.broker import Broker, free_port

pytestmark = pytest.mark.processes
UTC = UtcMapping(0, True, 0)
WAIT_S = 10.0


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as started:
        yield started


def samples(seq: int, rig: str = "rig-1") -> bytes:
    return sample_frame(rig, 1, seq, 2 * seq, [Sample(seq, 1, 1, 0.5, 1e-6, 0, 1)] * 2, [0, 0], UTC)


async def publish(broker: Broker, *messages: tuple[str, bytes]) -> None:
    async with aiomqtt.Client(broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        for topic, payload in messages:
            await client.publish(topic, payload, 1)


async def test_it_yields_the_decoded_frames_of_one_rig(broker: Broker) -> None:
    async with Subscriber(port=broker.port, rig="rig-1") as frames:
        await publish(
            broker,
            ("tipguard/rig-2/samples", samples(9, "rig-2")),
            ("tipguard/rig-1/samples", samples(0)),
            ("tipguard/rig-1/status", b"{}"),
            ("tipguard/rig-1/events", doc_frame("event", "rig-1", 1, 0, {"verdict": "STALE"}, UTC)),
        )
        first = await asyncio.wait_for(anext(frames), WAIT_S)
        second = await asyncio.wait_for(anext(frames), WAIT_S)
    assert (first.kind, first.seq, first.cols["bias_v"].tolist()) == ("samples", 0, [0.5, 0.5])
    assert (second.kind, second.doc) == ("event", {"verdict": "STALE"})


async def test_it_iterates_over_all_rigs_and_chosen_streams(broker: Broker) -> None:
    seen = []
    async with Subscriber(port=broker.port, streams=["samples"]) as frames:
        await publish(
            broker,
            ("tipguard/rig-1/events", doc_frame("event", "rig-1", 1, 0, {}, UTC)),
            *((f"tipguard/rig-{number}/samples", samples(0, f"rig-{number}")) for number in range(3)),
        )
        async with asyncio.timeout(WAIT_S):
            async for frame in frames:
                seen.append(frame.rig)
                if len(seen) == 3:
                    break
    assert sorted(seen) == ["rig-0", "rig-1", "rig-2"]


async def test_repetitions_and_garbage_are_left_out_and_counted(broker: Broker) -> None:
    later = msgpack.packb({**msgpack.unpackb(samples(1)), "v": 2})
    async with Subscriber(port=broker.port) as frames:
        payloads = (samples(0), samples(0), b"garbage", later, samples(1))
        await publish(broker, *(("tipguard/rig-1/samples", payload) for payload in payloads))
        assert [(await asyncio.wait_for(anext(frames), WAIT_S)).seq for _ in range(2)] == [0, 1]
        assert (frames.repeated, frames.malformed) == (1, 2)
        assert "schema version 2" in str(frames.last_error)


async def test_its_memory_is_bounded(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge.client, "_REMEMBERED", 3)
    async with Subscriber(port=broker.port) as frames:
        await publish(broker, *(("tipguard/rig-1/samples", samples(seq)) for seq in range(10)))
        for _ in range(10):
            await asyncio.wait_for(anext(frames), WAIT_S)
        assert len(frames._seen) == 3


async def test_it_comes_back_when_the_broker_does(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge.client, "_PAUSE_MIN_S", 0.02)
    async with Subscriber(port=broker.port) as frames:
        connects = 0
        connected = asyncio.Event()
        connect = frames._connect

        async def noted() -> None:
            nonlocal connects
            connects += 1
            await connect()
            connected.set()

        monkeypatch.setattr(frames, "_connect", noted)
        await asyncio.to_thread(broker.kill)
        waiting = asyncio.create_task(anext(frames))
        await asyncio.to_thread(broker.start)
        await asyncio.wait_for(connected.wait(), WAIT_S)
        await publish(broker, ("tipguard/rig-1/samples", samples(5)))
        assert (await asyncio.wait_for(waiting, WAIT_S)).seq == 5
        assert connects >= 1


async def test_an_absent_broker_is_an_error_that_says_which() -> None:
    port = free_port()
    with pytest.raises(NoBrokerError, match=f"broker 127.0.0.1:{port}: .*refused"):
        async with Subscriber(port=port):
            pass


def test_unknown_streams_are_refused() -> None:
    with pytest.raises(ValueError, match="streams live: expected of samples, events, runs"):
        Subscriber(streams=["samples", "live"])


def test_decode_is_at_hand() -> None:
    assert decode_frame(samples(3)).seq == 3
    with pytest.raises(FrameError):
        decode_frame(b"")
