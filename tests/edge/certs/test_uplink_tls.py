"""The uplink, a subscriber and `tipguard watch` through the broker of deploy/mosquitto: TLS, access list, renewal."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from edge.cli.watch_model import Bench
from edge.cli.watch_reader import BrokerAddress, Reader, _what_to_do
from edge.client import NoBrokerError, Subscriber
from edge.command_client import Commander
from edge.errors import PlanRefusedError
from edge.ring import Kind, RingWriter
from edge.samples import Sample
from edge.store.opening import open_store
from edge.store.receiver import ReceiverSettings
from edge.store.service import run_store
from edge.tls import TlsFiles
from edge.uplink import UplinkSettings, run_uplink
from hil.broker import Broker, mosquitto_path
from tests.deploy.lab_broker import WAIT_S, Lab, Peer

pytestmark = [pytest.mark.processes, pytest.mark.skipif(mosquitto_path() is None, reason="needs mosquitto")]
EPOCH = 0xFEED


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "lab")


class Rig:
    """A ring, and frames of ten samples."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = RingWriter(path, 1 << 20)
        self.frames = 0

    def write(self, frames: int) -> None:
        for seq in range(self.frames, self.frames + frames):
            for index in range(10 * seq, 10 * seq + 10):
                sample = Sample(index, 1, index + 1, -index / 1e6, 1e-9, 0, 1)
                assert self.writer.write_sample(EPOCH, seq, index, 0, sample)
            assert self.writer.write(Kind.FRAME_CLOSE, EPOCH, seq, b"")
        self.frames += frames

    def settings(self, lab: Lab, broker: Broker, **changes: Any) -> UplinkSettings:  # noqa: ANN401 - any setting
        files = lab.files("rig-1")
        quick = {"backoff_min_s": 0.02, "backoff_max_s": 0.1, "live_hz": 20.0, "status_period_s": 0.2}
        return UplinkSettings(
            "rig-1",
            self.path,
            host="localhost",
            port=broker.port,
            tls_ca_file=files.ca_file,
            tls_cert_file=files.cert_file,
            tls_key_file=files.key_file,
            **{**quick, **changes},
        )


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "ring")
    yield made
    made.writer.close()


@contextlib.asynccontextmanager
async def running(settings: UplinkSettings) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_uplink(settings, stop=stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, WAIT_S)


@contextlib.contextmanager
def statuses(lab: Lab) -> Iterator[Callable[[Callable[[dict[str, Any]], object]], Any]]:
    """Give a function that waits for a status document that fits, and returns it."""
    with contextlib.closing(Peer(lab.open_port)) as peer:
        peer.subscribe("tipguard/rig-1/status")

        def until(fits: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
            while not fits(found := json.loads(peer.received.get(timeout=WAIT_S).payload)):
                pass
            return dict(found)

        yield lambda fits: asyncio.to_thread(until, fits)


def store(lab: Lab, broker: Broker, name: str = "store-lab") -> Subscriber:
    files = lab.files(name)
    assert files.cert_file is not None
    assert files.key_file is not None
    return Subscriber(
        "localhost",
        broker.port,
        streams=["samples"],
        ca_file=files.ca_file,
        cert_file=files.cert_file,
        key_file=files.key_file,
    )


async def take(frames: Subscriber, count: int) -> list[int]:
    async with asyncio.timeout(WAIT_S):
        return [(await anext(frames)).seq for _ in range(count)]


async def test_frames_reach_a_store_and_the_status_tells_of_the_certificate(lab: Lab, rig: Rig) -> None:
    with lab.broker() as broker, statuses(lab) as until:
        async with store(lab, broker) as frames, running(rig.settings(lab, broker)):
            rig.write(50)
            assert await take(frames, 50) == list(range(50))
            found = (await until(lambda status: (status["uplink"] or {}).get("certificate")))["uplink"]["certificate"]
    assert (found["name"], found["state"], found["fault"]) == ("rig-1", "ok", None)
    assert 89 < found["days_left"] <= 90


async def test_a_renewed_certificate_is_taken_up_without_losing_a_frame(lab: Lab, rig: Rig) -> None:
    lab.renew("rig-1", days=9)
    with lab.broker() as broker, statuses(lab) as until:
        async with store(lab, broker) as frames, running(rig.settings(lab, broker)):
            rig.write(100)
            await until(lambda status: (status["uplink"] or {}).get("certificate", {}).get("state") == "expires soon")
            taken = await take(frames, 50)
            lab.renew("rig-1", days=300)
            rig.write(100)
            await until(lambda status: (status["uplink"] or {}).get("certificate", {}).get("state") == "ok")
            rig.write(100)
            taken += await take(frames, 250)
    # What was under way may follow what is live. Subscriber leaves out what came twice.
    assert sorted(taken) == list(range(300))


async def test_the_renewed_certificate_is_the_one_that_is_shown(lab: Lab, rig: Rig) -> None:
    """With the connection made anew: an old one would last on the old certificate, until it does not."""
    lab.renew("rig-1", days=9)
    with lab.broker() as broker, statuses(lab) as until, contextlib.closing(Peer(lab.open_port)) as witness:
        witness.subscribe("tipguard/rig-1/live")
        async with running(rig.settings(lab, broker)):
            await until(lambda status: status["online"])
            lab.renew("rig-1", days=300)
            # The first `live` of a connection is at QoS 1: one more of these is one more connection.
            seen = 0
            while seen < 2:
                message = await asyncio.to_thread(witness.received.get, timeout=WAIT_S)
                seen += message.qos == 1


async def test_an_expired_certificate_waits_and_a_renewed_one_goes_on(lab: Lab, rig: Rig) -> None:
    lab.renew("rig-1", days=1, ago=timedelta(days=2))
    with lab.broker() as broker, statuses(lab) as until:
        async with store(lab, broker) as frames, running(rig.settings(lab, broker)):
            rig.write(20)
            lab.renew("rig-1", days=30)
            await until(lambda status: status["online"])
            assert await take(frames, 20) == list(range(20))


async def test_a_refused_publish_is_a_fault_in_the_status_and_heals(lab: Lab, rig: Rig) -> None:
    allowed = (lab.folder / "acl").read_text(encoding="utf-8")
    (lab.folder / "acl").write_text(allowed.replace("topic readwrite tipguard/rig-1/samples\n", ""), encoding="utf-8")
    with lab.broker() as broker, statuses(lab) as until:
        async with store(lab, broker) as frames, running(rig.settings(lab, broker)):
            rig.write(10)
            fault = (await until(lambda status: (status["uplink"] or {}).get("fault")))["uplink"]["fault"]
            assert "Not authorized (0x87)" in fault
            assert "samples" in fault
            (lab.folder / "acl").write_text(allowed, encoding="utf-8")
            broker.reload()
            # What was refused follows those behind it: a store puts them in order.
            assert sorted(await take(frames, 10)) == list(range(10))
            await until(lambda status: status["uplink"] and status["uplink"]["fault"] is None)


async def test_a_broker_that_shows_another_authority_s_certificate_gets_nothing(
    lab: Lab, rig: Rig, tmp_path: Path
) -> None:
    other = Lab(tmp_path / "other")
    with other.broker() as broker:
        with pytest.raises(NoBrokerError, match="certificate verify failed"):
            await store(lab, broker).__aenter__()
        stop = asyncio.Event()
        task = asyncio.create_task(run_uplink(rig.settings(lab, broker), stop=stop))
        with contextlib.closing(Peer(other.open_port)) as witness:
            witness.subscribe("#")
            rig.write(5)
            # As many turns as a connection would take a few times over.
            for _ in range(200):
                assert await asyncio.to_thread(witness.publish, "lab/turn") < 0x80
            witness.publish("lab/end")
            assert set(witness.until("lab/end")) == {"lab/turn"}
        stop.set()
        await asyncio.wait_for(task, WAIT_S)


async def test_a_viewer_sees_the_samples_and_a_rig_sees_its_own_only(lab: Lab, rig: Rig) -> None:
    with lab.broker() as broker, contextlib.closing(Peer(lab.open_port)) as speaker:
        async with contextlib.AsyncExitStack() as stack:
            hall, own, foreign = [
                await stack.enter_async_context(store(lab, broker, name)) for name in ("viewer-hall", "rig-1", "rig-2")
            ]
            await stack.enter_async_context(running(rig.settings(lab, broker)))
            rig.write(5)
            assert await take(hall, 5) == await take(own, 5) == list(range(5))
            # To a subscriber in order: what is its own comes first only if nothing came before.
            await asyncio.to_thread(speaker.publish, "tipguard/rig-2/samples", b"no frame")
            first = asyncio.create_task(anext(foreign))
            async with asyncio.timeout(WAIT_S):
                while not foreign.malformed:
                    done, _ = await asyncio.wait([first], timeout=0.01)
                    assert not done, "a frame came where only its own may"
            assert (foreign.malformed, first.done()) == (1, False)
            first.cancel()
            await asyncio.wait([first])


@pytest.mark.parametrize("name", ["viewer-hall", "rig-1"])
async def test_watch_looks_through_tls(lab: Lab, rig: Rig, name: str) -> None:
    with lab.broker() as broker:
        bench = Bench("x", ["rig-1"])
        loop = asyncio.get_running_loop()
        reader = Reader(BrokerAddress("localhost", broker.port, tls=lab.files(name)), bench, loop.time)
        async with running(rig.settings(lab, broker)):
            await reader.connect()
            reading = asyncio.create_task(reader.run())
            async with asyncio.timeout(WAIT_S):
                while not bench.rigs or not bench.rigs["rig-1"].online:
                    reader.changed.clear()
                    await reader.changed.wait()
            reading.cancel()
            await asyncio.wait([reading])
            await reader.close()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (BrokerAddress("broker.lab", 8883), "--ca-file"),
        (BrokerAddress("broker.lab", 8883, tls=TlsFiles(Path("ca.pem"))), "same lab"),
        (BrokerAddress("broker.lab", 1883), "reachable"),
    ],
)
def test_watch_says_what_to_do_where_tls_is_spoken(address: BrokerAddress, told: str) -> None:
    assert told in _what_to_do(aiomqtt.MqttError("Operation timed out"), address)


async def test_a_command_and_its_answer_pass_the_list_and_another_s_name_does_not(lab: Lab, rig: Rig) -> None:
    with lab.broker() as broker:
        settings = rig.settings(lab, broker, remote_users=frozenset({"ana"}))
        async with store(lab, broker) as frames, running(settings):
            rig.write(1)
            assert await take(frames, 1) == [0]

            def commander(holder: str, user: str) -> Commander:
                context = lab.files(holder).context()
                return Commander("localhost", broker.port, rig="rig-1", user=user, tls=context, answer_s=WAIT_S)

            async with commander("user-ana", "ana") as ana:
                # Nothing controls this rig; that the rig itself says so is the point.
                with pytest.raises(PlanRefusedError) as answered:
                    await ana.stop()
            assert answered.value.reason != "broker_denied"
            async with commander("user-bob", "ana") as bob:
                with pytest.raises(PlanRefusedError) as denied:
                    await bob.stop()
            assert denied.value.reason == "broker_denied"


async def test_a_store_s_watermark_comes_back_through_the_list(lab: Lab, rig: Rig, tmp_path: Path) -> None:
    """The whole way: frames to a store, committed, and its watermark to the rig, which then may delete."""
    with lab.broker() as broker, statuses(lab) as until:
        backend = open_store(str(tmp_path / "frames"), "lab")
        settings = ReceiverSettings(
            store="lab", host="localhost", port=broker.port, tls=lab.files("store-lab").context, backoff_min_s=0.02
        )
        stop = asyncio.Event()
        serving = asyncio.create_task(run_store(settings, backend, stop=stop))
        async with running(rig.settings(lab, broker, stores=("lab",), keep_after_watermark_s=0.0)):
            rig.write(40)
            marked = {"heard": False}

            def stored(status: dict[str, Any]) -> bool:
                store = ((status["uplink"] or {}).get("stores") or {}).get("lab") or {}
                marked["heard"] |= store.get("heard_s") is not None
                return bool(status["uplink"]) and store.get("waiting") == 0 and status["uplink"]["published"] >= 40

            await until(stored)
        assert marked["heard"]
        stop.set()
        counters = await asyncio.wait_for(serving, WAIT_S)
        backend.close()
    assert (counters.refused, counters.unreadable) == (0, 0)
    assert counters.committed >= 40
