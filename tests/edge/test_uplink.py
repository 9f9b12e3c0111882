"""The uplink on real brokers: everything arrives, whatever is killed, and nothing is lost in silence."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import msgpack
import numpy as np
import paho.mqtt.client as mqtt
import pytest
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from structlog.testing import LogCapture

from edge import paho_buffer
from edge.frames import Frame, decode_frame
from edge.ring import Kind, RingWriter
from edge.samples import Sample
from edge.uplink import UplinkSettings, paho_short, run_uplink
from edge.uplink.mqtt import AiomqttConnection, Connection, OnMessage, Publication, connect
from hil.broker import Broker, available, free_port

pytestmark = pytest.mark.processes
BROKERS = available()
needs_mosquitto = pytest.mark.skipif("mosquitto" not in BROKERS, reason="needs mosquitto")
EPOCH = 0xFEED
WAIT_S = 10.0
ROOT = Path(__file__).parents[2]


@dataclass
class Collector:
    """A subscriber that shares nothing with us but the topics: plain paho, in its own thread."""

    port: int
    topic: str = "tipguard/#"
    protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5
    messages: list[mqtt.MQTTMessage] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._subscribed = False

    def _note(self, message: mqtt.MQTTMessage | None) -> None:
        with self._changed:
            if message is None:
                self._subscribed = True
            else:
                self.messages.append(message)
            self._changed.notify_all()

    def open(self) -> None:
        self._subscribed = False
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2, protocol=self.protocol, reconnect_on_failure=False
        )
        client.on_connect = lambda client, userdata, flags, code, properties: client.subscribe(self.topic, 1)
        client.on_subscribe = lambda client, userdata, mid, codes, properties: self._note(None)
        client.on_message = lambda client, userdata, message: self._note(message)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        self._wait(lambda: self._subscribed)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _wait(self, condition: Callable[[], object]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, WAIT_S), f"not seen after {WAIT_S} s"

    async def until(self, condition: Callable[[], object]) -> None:
        await asyncio.to_thread(self._wait, condition)

    def on(self, name: str) -> list[mqtt.MQTTMessage]:
        return [message for message in self.messages if message.topic == f"tipguard/rig-1/{name}"]

    def frames(self, name: str = "samples") -> list[Frame]:
        """Frames in order of first arrival, repetitions left out."""
        seen: dict[object, Frame] = {}
        for message in self.on(name):
            frame = decode_frame(bytes(message.payload))
            seen.setdefault(frame.identity, frame)
        return list(seen.values())

    def last_status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.on("status")[-1].payload)
        return status

    def reached(self, seq: int) -> bool:
        return any(frame.seq >= seq for frame in self.frames())

    def fault(self) -> str | None:
        """The last status document's fault; None when there is none, or the uplink is offline."""
        fault: str | None = (self.on("status") and (self.last_status()["uplink"] or {}).get("fault")) or None
        return fault

    def sample_count(self) -> int:
        return sum(frame.n for frame in self.frames())


class Logs(LogCapture):
    """What was logged, and waiting for a line."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[tuple[str, asyncio.Event]] = []

    def __call__(self, logger: Any, method_name: str, event_dict: Any) -> Any:  # noqa: ANN401 - structlog's processor
        try:
            super().__call__(logger, method_name, event_dict)
        finally:
            for text, seen in self._waiting:
                if text in event_dict["event"]:
                    seen.set()

    async def until(self, text: str) -> None:
        seen = asyncio.Event()
        self._waiting.append((text, seen))
        if not any(text in entry["event"] for entry in self.entries):
            await asyncio.wait_for(seen.wait(), WAIT_S)


@contextlib.contextmanager
def logged() -> Iterator[Logs]:
    logs, processors = Logs(), structlog.get_config()["processors"]
    structlog.configure(processors=[logs])
    try:
        yield logs
    finally:
        structlog.configure(processors=processors)


class Rig:
    """A ring and a worker's habits: frames of 100 samples."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = RingWriter(path, 1 << 20)
        self.index = 0

    def settings(self, port: int, **changes: Any) -> UplinkSettings:  # noqa: ANN401 - any setting
        return UplinkSettings(
            "rig-1", self.path, port=port, **{"backoff_min_s": 0.02, "backoff_max_s": 0.1, "live_hz": 20.0, **changes}
        )

    def sample(self, count: int, *, close: bool = True) -> None:
        for index in range(self.index, self.index + count):
            seq = index // 100
            assert self.writer.write_sample(EPOCH, seq, index, 0, Sample(index, 1, index + 1, -index / 1e6, 1e-9, 0, 1))
            if index % 100 == 99 or (close and index == self.index + count - 1):
                assert self.writer.write(Kind.FRAME_CLOSE, EPOCH, seq, b"")
        self.index += count

    def document(self, kind: Kind, seq: int, doc: dict[str, Any]) -> None:
        assert self.writer.write(kind, EPOCH, seq, msgpack.packb(doc))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "ring")
    yield made
    made.writer.close()


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    with Broker(prefer=request.param) as started:
        yield started


@pytest.fixture(params=["short", "paho"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The short way, and paho's own, which is taken where paho's inside is not as expected."""
    if request.param == "paho":
        monkeypatch.setattr(paho_short, "INSIDE", ("not there",))
        monkeypatch.setattr(paho_buffer, "INSIDE", ("not there",))
    return str(request.param)


@contextlib.asynccontextmanager
async def running(settings: UplinkSettings, **injected: Any) -> AsyncIterator[None]:  # noqa: ANN401 - as run_uplink
    stop = asyncio.Event()
    task = asyncio.create_task(run_uplink(settings, stop=stop, **injected))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, WAIT_S)


def in_order_and_whole(frames: list[Frame], count: int) -> bool:
    columns = [frame.cols["t_ns"] for frame in frames]
    return bool(columns) and np.concatenate(columns).tolist() == list(range(count))


# ---------------------------------------------------------------------------------------------- all is well


@pytest.mark.usefixtures("way")
async def test_every_sample_arrives_once_and_in_order(rig: Rig, broker: Broker) -> None:
    with Collector(broker.port) as collector:
        async with running(rig.settings(broker.port)):
            for _ in range(10):
                rig.sample(500)
            await collector.until(lambda: collector.sample_count() >= 5000)
    assert len(collector.on("samples")) == len(collector.frames()) == 50
    assert in_order_and_whole(collector.frames(), 5000)
    assert rig.writer.used_fraction == 0.0
    assert all(message.qos == 1 and not message.retain for message in collector.on("samples"))


async def test_events_runs_and_their_summaries_arrive_with_their_content_types(rig: Rig, broker: Broker) -> None:
    with Collector(broker.port) as collector:
        async with running(rig.settings(broker.port), worker_status=lambda: {"state": "ARMED"}):
            rig.document(Kind.EPOCH, 0, {"rig": "rig-1", "epoch": EPOCH, "prev_epoch": 3, "t_ns": 1, "version": "0"})
            rig.document(Kind.RUN, 0, {"what": "start", "run": 12})
            rig.document(Kind.EVENT, 0, {"verdict": "SURGE_JUMP", "t_ns": 5, "trace": bytes(2000), "i_a": float("nan")})
            rig.document(Kind.TOMBSTONE, 0, {"stream": "samples", "from": 0, "to": 1, "cause": "RING_FULL"})
            rig.sample(1)
            await collector.until(lambda: collector.on("samples") and collector.on("live") and collector.on("status"))
            await collector.until(lambda: len(collector.on("events")) == 3 and len(collector.on("json/events")) == 3)
            await collector.until(lambda: json.loads(collector.on("live")[-1].payload)["index"] == 0)
            await collector.until(lambda: collector.last_status()["epoch"] == f"{EPOCH:016x}")
    epoch, event, tombstone = collector.frames("events")
    assert (epoch.kind, epoch.doc and epoch.doc["prev_epoch"]) == ("epoch", 3)
    assert (event.kind, event.doc and event.doc["trace"], event.t0_ns) == ("event", bytes(2000), 5)
    assert (tombstone.kind, tombstone.doc and tombstone.doc["cause"]) == ("tombstone", "RING_FULL")
    (run,) = collector.frames("runs")
    assert (run.run, run.doc) == (f"{12:016x}", {"what": "start", "run": 12})
    summary = json.loads(collector.on("json/events")[1].payload)
    assert (summary["seq"], summary["doc"]["trace"], summary["doc"]["i_a"]) == (0, {"bytes": 2000}, None)
    assert json.loads(collector.on("json/runs")[0].payload)["doc"]["what"] == "start"
    assert json.loads(collector.on("json/status")[0].payload)["rig"] == "rig-1"
    live = json.loads(collector.on("live")[-1].payload)
    assert (live["state"], live["current_a"], live["phase"], live["flags"]) == ("ARMED", 1e-9, "SEEK", [])
    for message in collector.messages:
        binary = message.topic.rsplit("/", 1)[1] in {"samples", "events", "runs"} and "/json/" not in message.topic
        assert message.properties is not None
        content_type = getattr(message.properties, "ContentType", None)
        assert content_type == ("application/msgpack" if binary else "application/json")


async def test_plain_paho_msgpack_and_numpy_are_enough(rig: Rig, broker: Broker) -> None:
    protocol = MQTTProtocolVersion.MQTTv311 if broker.speaks_311 else MQTTProtocolVersion.MQTTv5
    with Collector(broker.port, "tipguard/rig-1/samples", protocol) as collector:
        async with running(rig.settings(broker.port)):
            rig.sample(100)
            await collector.until(lambda: collector.messages)
    frame = msgpack.unpackb(collector.messages[0].payload)
    cols = {name: np.frombuffer(column["data"], column["dtype"]) for name, column in frame["cols"].items()}
    assert cols["bias_v"].tolist() == [-index / 1e6 for index in range(100)]
    assert (frame["seq"], frame["n"], frame["first"]) == (0, 100, 0)


async def test_the_five_lines_of_the_page_work(rig: Rig, broker: Broker) -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    lines = code[1].strip().splitlines()
    assert len(lines) == 5
    program = code[1].replace('hostname="127.0.0.1"', f'hostname="127.0.0.1", port={broker.port}')
    reader = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    async with running(rig.settings(broker.port)):
        # It says nothing when it has subscribed, so frames are sent until it has one.
        for _ in range(100):
            rig.sample(100)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(reader.wait()), 0.1)
                break
        output, _ = await asyncio.wait_for(reader.communicate(), WAIT_S)
    assert output.decode().startswith(f"{EPOCH:016x} ")
    assert reader.returncode == 0


async def test_a_worker_that_is_slow_to_answer_holds_nothing_up(rig: Rig, broker: Broker) -> None:
    answer = threading.Event()

    def slow() -> dict[str, Any]:
        answer.wait(WAIT_S)
        return {"state": "TRIPPED"}

    with Collector(broker.port) as collector:
        async with running(rig.settings(broker.port), worker_status=slow):
            rig.sample(100)
            await collector.until(lambda: collector.sample_count() == 100)
            assert collector.last_status()["worker"] == {}
            answer.set()
            await collector.until(lambda: collector.last_status()["worker"] == {"state": "TRIPPED"})


async def test_status_is_retained_for_who_comes_later(rig: Rig, broker: Broker) -> None:
    with Collector(broker.port, "tipguard/rig-1/status") as early:
        async with running(rig.settings(broker.port)):
            await early.until(lambda: early.messages)
            with Collector(broker.port, "tipguard/rig-1/status") as late:
                await late.until(lambda: late.messages)
                assert late.messages[0].retain
                assert late.last_status()["online"] is True
        await early.until(lambda: not early.last_status()["online"])
        assert early.last_status()["cause"] == "stopped"


# ------------------------------------------------------------------------------------------- what may die


class Witness:
    """A connection that notes which frames the broker acknowledged, and can be kept from being opened."""

    def __init__(self) -> None:
        self.acknowledged: list[object] = []
        self.gate = asyncio.Event()
        self.gate.set()

    @contextlib.asynccontextmanager
    async def connect(self, settings: UplinkSettings, will: Publication) -> AsyncIterator[Connection]:
        await self.gate.wait()
        async with connect(settings, will) as connection:
            self._inner = connection
            yield self

    @property
    def window(self) -> int:
        return self._inner.window

    def publish(self, publication: Publication) -> asyncio.Future[int]:
        future = self._inner.publish(publication)
        if publication.topic.endswith("/samples"):
            identity = decode_frame(publication.payload).identity
            future.add_done_callback(lambda done: self.acknowledged.append(identity))
        return future

    on_message: OnMessage | None = None

    def subscribe(self, filters: Sequence[str], *, kept: bool = True) -> asyncio.Future[list[int]]:
        return self._inner.subscribe(filters, kept=kept)

    async def lost(self) -> str:
        return await self._inner.lost()


async def test_a_broker_killed_in_mid_stream_costs_nothing_it_did_not_acknowledge(rig: Rig, broker: Broker) -> None:
    collector, witness = Collector(broker.port), Witness()
    collector.open()
    forgotten: set[object] = set()
    with logged() as logs:
        async with running(rig.settings(broker.port), connector=witness.connect):
            for seq in (2, 13, 24):
                rig.sample(1000)
                await collector.until(partial(collector.reached, seq))
                # The broker forgets the subscription with everything else, so the uplink is held back until the
                # subscriber is there again: what nobody has subscribed to is nobody's loss.
                witness.gate.clear()
                await asyncio.to_thread(broker.kill)
                await asyncio.to_thread(collector.close)
                forgotten.update(set(witness.acknowledged) - {frame.identity for frame in collector.frames()})
                rig.sample(100)
                await asyncio.to_thread(broker.start)
                await asyncio.to_thread(collector.open)
                witness.gate.set()
            await collector.until(partial(collector.reached, 32))
    collector.close()
    everything = {("rig-1", f"{EPOCH:016x}", "samples", seq) for seq in range(33)}
    assert set(witness.acknowledged) == everything
    # Missing is only what a broker acknowledged and took with it: that no acknowledgement at this level can prevent.
    assert everything - {frame.identity for frame in collector.frames()} <= forgotten
    assert sorted(frame.seq for frame in collector.frames()) == [frame.seq for frame in collector.frames()]
    assert rig.writer.used_fraction == 0.0
    assert sum("connection to broker lost" in entry["event"] for entry in logs.entries) == 3


UPLINK = """
import asyncio, sys
from pathlib import Path
from edge.uplink import UplinkSettings, run_uplink
settings = UplinkSettings("rig-1", Path(sys.argv[1]), port=int(sys.argv[2]))
asyncio.run(run_uplink(settings, stop=asyncio.Event()))
"""


@contextlib.contextmanager
def uplink_process(rig: Rig, broker: Broker) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", UPLINK, str(rig.path), str(broker.port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_an_uplink_killed_is_announced_by_the_broker_and_its_successor_loses_nothing(
    rig: Rig, broker: Broker
) -> None:
    with Collector(broker.port) as collector:
        with uplink_process(rig, broker) as process:
            rig.sample(950, close=False)
            await collector.until(lambda: collector.sample_count() == 900 and collector.on("status"))
            assert collector.last_status()["online"] is True
            process.kill()
            await collector.until(lambda: not collector.last_status()["online"])
        assert collector.last_status()["cause"] == "connection lost"
        with Collector(broker.port, "tipguard/rig-1/status") as late:
            await late.until(lambda: late.messages)
            assert late.last_status()["online"] is False
        async with running(rig.settings(broker.port)):
            rig.sample(50)
            await collector.until(lambda: collector.sample_count() == 1000)
            await collector.until(lambda: collector.last_status()["online"])
    assert in_order_and_whole(collector.frames(), 1000)
    # The half frame was sent once, whole: its identity was fixed in the ring.
    assert [frame.n for frame in collector.frames()] == [100] * 10


@needs_mosquitto
async def test_a_broker_that_hangs_is_left_and_found_again(rig: Rig) -> None:
    with Broker(prefer="mosquitto") as broker, Collector(broker.port) as collector, logged() as logs:
        # A busy host may take a while for a first connection, and for an acknowledgement.
        async with running(rig.settings(broker.port, ack_timeout_s=1.0, connect_timeout_s=1.0)):
            rig.sample(100)
            await collector.until(lambda: collector.sample_count() == 100)
            assert broker.pid is not None
            logs.entries.clear()
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                rig.sample(100)
                await logs.until("unreachable")
            finally:
                os.kill(broker.pid, signal.SIGCONT)
            await collector.until(lambda: collector.sample_count() == 200)
    assert in_order_and_whole(collector.frames(), 200)
    assert any("does not acknowledge" in entry["event"] for entry in logs.entries)
    assert sum("unreachable" in entry["event"] for entry in logs.entries) == 1


async def test_an_absent_broker_is_said_once_and_found_when_it_comes(rig: Rig) -> None:
    port = free_port()
    with logged() as logs:
        async with running(rig.settings(port)):
            rig.sample(300)
            await logs.until("unreachable")
            # The first frames may go out before the subscriber is there; the last cannot.
            with Broker(port=port) as broker, Collector(broker.port) as collector:
                await collector.until(lambda: collector.on("live"))
                rig.sample(100)
                await collector.until(partial(collector.reached, 3))
            first = logs.entries.copy()
            logs.entries.clear()
            await logs.until("unreachable")  # a second absence is news again
    (warning,) = [entry for entry in first if entry["log_level"] == "warning" and "unreachable" in entry["event"]]
    assert f"broker 127.0.0.1:{port} unreachable" in warning["event"]
    assert "refused" in warning["event"]
    assert "[uplink] host, port" in warning["event"]


# ---------------------------------------------------------------------------------------- what is refused


@needs_mosquitto
@pytest.mark.usefixtures("way")
async def test_a_denied_publish_is_a_fault_and_the_frames_wait_until_it_is_allowed(rig: Rig, tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic read #\ntopic write tipguard/rig-1/status\ntopic write tipguard/rig-1/live\n")
    acl.chmod(0o600)
    with Broker(prefer="mosquitto", mosquitto_lines=f"acl_file {acl}") as broker, Collector(broker.port) as collector:
        with logged() as logs:
            async with running(rig.settings(broker.port)):
                rig.sample(100)
                await collector.until(collector.fault)
                fault = "publish to tipguard/rig-1/samples refused: Not authorized (0x87)"
                assert collector.fault() == fault
                assert collector.last_status()["uplink"]["waiting"] == 1
                assert collector.frames() == []
                acl.write_text("topic readwrite #\n")
                assert broker.pid is not None
                os.kill(broker.pid, signal.SIGHUP)
                await collector.until(lambda: collector.sample_count() == 100)
                await collector.until(lambda: collector.last_status()["online"] and not collector.fault())
        assert rig.writer.used_fraction == 0.0
    errors = [entry for entry in logs.entries if entry["log_level"] == "error"]
    assert [entry["fault"] for entry in errors] == [fault]
    assert any(entry["event"] == "broker takes frames again" for entry in logs.entries)


@needs_mosquitto
async def test_a_broker_that_asks_for_a_smaller_window_gets_it(rig: Rig) -> None:
    windows: list[int] = []
    no_delay: list[int] = []

    @contextlib.asynccontextmanager
    async def noted(settings: UplinkSettings, will: Publication) -> AsyncIterator[Connection]:
        async with connect(settings, will) as connection:
            windows.append(connection.window)
            assert isinstance(connection, AiomqttConnection)
            line: Any = connection._paho.socket()
            no_delay.append(line.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            yield connection

    small = Broker(prefer="mosquitto", mosquitto_lines="max_inflight_messages 3")
    with small as broker, Collector(broker.port) as collector, logged() as logs:
        async with running(rig.settings(broker.port), connector=noted):
            rig.sample(5000)
            await collector.until(lambda: collector.sample_count() == 5000)
    assert windows == [3]
    # What is joined in one write would else wait for the broker's kernel.
    assert no_delay == [1]
    assert in_order_and_whole(collector.frames(), 5000)
    assert not any("lost" in entry["event"] for entry in logs.entries)


@needs_mosquitto
async def test_a_frame_larger_than_the_broker_takes_is_a_fault_not_a_lost_connection(rig: Rig) -> None:
    small = Broker(prefer="mosquitto", mosquitto_lines="max_packet_size 2000")
    with small as broker, Collector(broker.port) as collector, logged() as logs:
        async with running(rig.settings(broker.port, stop_flush_s=0.1)):
            rig.sample(100)
            await collector.until(collector.fault)
    assert "Packet too large (0x95)" in next(entry["fault"] for entry in logs.entries if entry["log_level"] == "error")
    assert not any("lost" in entry["event"] for entry in logs.entries)


@needs_mosquitto
@pytest.mark.skipif(shutil.which("mosquitto_passwd") is None, reason="needs mosquitto_passwd")
async def test_a_wrong_password_is_said_and_a_right_one_works(rig: Rig, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    words = "the-good-one", "not-the-good-one-at-all"
    await asyncio.to_thread(
        subprocess.run, ["mosquitto_passwd", "-b", "-c", str(passwords), "rig-1", words[0]], check=True, timeout=10
    )
    with Broker(prefer="mosquitto", mosquitto_lines=f"password_file {passwords}") as broker, logged() as logs:
        async with running(rig.settings(broker.port, username="rig-1", password=words[1])):
            await logs.until("unreachable")
        assert any("Not authorized" in entry["event"] and "username" in entry["event"] for entry in logs.entries)
        assert not any(words[1] in str(entry) for entry in logs.entries)
        with Collector(broker.port) as collector:
            async with running(rig.settings(broker.port, username="rig-1", password=words[0])):
                rig.sample(100)
                await collector.until(lambda: collector.sample_count() == 100)


async def test_a_server_that_is_mute_costs_no_socket_and_no_spin(rig: Rig) -> None:
    connections: list[asyncio.StreamWriter] = []
    third = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        if len(connections) == 3:
            third.set()
        while await reader.read(1000):
            pass
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with logged() as logs:
        async with running(rig.settings(port, connect_timeout_s=0.1)):
            await asyncio.wait_for(third.wait(), WAIT_S)
    for writer in connections:
        # The other end has closed: no socket is left behind.
        await asyncio.wait_for(writer.wait_closed(), WAIT_S)
    server.close()
    await server.wait_closed()
    gc.collect()
    assert len(connections) <= 5
    assert sum("unreachable" in entry["event"] for entry in logs.entries) == 1
