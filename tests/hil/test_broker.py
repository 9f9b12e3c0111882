"""The broker of the demo: starts, passes messages of both protocol versions, ends, and leaves nothing behind."""

from __future__ import annotations

import os
import queue
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import hil.broker
from hil.broker import Broker, Kind, available, free_port
from hil.errors import BenchFaultError, BenchOptionError

KINDS: list[Kind] = available()
pytestmark = pytest.mark.processes


@contextmanager
def client(port: int, protocol: MQTTProtocolVersion) -> Iterator[tuple[mqtt.Client, queue.Queue[bytes]]]:
    """A connected client and what it receives."""
    received: queue.Queue[bytes] = queue.Queue()
    made = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
    made.on_message = lambda client, userdata, message: received.put(bytes(message.payload))
    made.on_subscribe = lambda client, userdata, mid, codes, properties: received.put(b"subscribed")
    made.on_connect = lambda client, userdata, flags, code, properties: received.put(b"connected")
    made.connect("127.0.0.1", port)
    made.loop_start()
    try:
        assert received.get(timeout=5) == b"connected"
        yield made, received
    finally:
        made.disconnect()
        made.loop_stop()


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_this_host_has_a_broker() -> None:
    assert KINDS


# iotcore's 3.1.1 side cannot pass a content type, so only Mosquitto is asked for it.
@pytest.mark.parametrize(
    ("kind", "protocol"),
    [
        (kind, protocol)
        for kind in KINDS
        for protocol in (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311)
        if kind == "mosquitto" or protocol is MQTTProtocolVersion.MQTTv5
    ],
)
def test_it_passes_large_messages_to_both_protocol_versions(kind: Kind, protocol: MQTTProtocolVersion) -> None:
    with (
        Broker(prefer=kind) as broker,
        client(broker.port, protocol) as (subscriber, received),
        client(broker.port, MQTTProtocolVersion.MQTTv5) as (new, _),
    ):
        assert broker.speaks_311 is (kind == "mosquitto")
        subscriber.subscribe("a/#", 1)
        assert received.get(timeout=5) == b"subscribed"
        payload = os.urandom(200_000)
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call] # paho annotates it not
        properties.ContentType = "application/msgpack"
        new.publish("a/b", payload, 1, properties=properties).wait_for_publish(5)
        assert received.get(timeout=5) == payload


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_with_its_block(kind: Kind) -> None:
    with Broker(prefer=kind) as broker:
        pid, folder = broker.pid, broker.folder
        assert pid is not None
        assert alive(pid)
        assert (folder / "config.toml").exists()
    assert not alive(pid)
    assert not folder.exists()
    assert broker.pid is None
    broker.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_again_on_the_same_port_after_a_kill(kind: Kind) -> None:
    with Broker(prefer=kind) as broker:
        first = broker.pid
        broker.kill()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((broker.host, broker.port), timeout=5)
        broker.start()
        broker.start()
        assert broker.pid not in {None, first}
        socket.create_connection((broker.host, broker.port), timeout=5).close()


@pytest.mark.parametrize("kind", KINDS)
def test_it_listens_on_loopback_only(kind: Kind) -> None:
    with Broker(prefer=kind) as broker:
        listening = {
            fields[1]
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
            if (fields := line.split())[3] == "0A"
        }
        assert f"0100007F:{broker.port:04X}" in listening
        assert f"00000000:{broker.port:04X}" not in listening


def test_a_failed_start_says_why_and_leaves_nothing() -> None:
    if "mosquitto" not in KINDS:
        pytest.skip("needs mosquitto")
    broker = Broker(prefer="mosquitto", mosquitto_lines="no_such_setting 1")
    with pytest.raises(BenchFaultError, match="no_such_setting"), broker:
        pass
    assert broker.pid is None
    assert broker._folder is None


def test_a_broker_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hil.broker, "available", lambda: ["iotcore"])
    with pytest.raises(BenchOptionError, match="mosquitto is not installed: apt-get install mosquitto"):
        Broker(prefer="mosquitto")
    assert Broker().kind == "iotcore"
    with pytest.raises(BenchOptionError, match="need prefer='mosquitto'"):
        Broker(mosquitto_lines="x")
    monkeypatch.setattr(hil.broker, "available", list)
    with pytest.raises(BenchOptionError, match="mosquitto or iotcore is not installed"):
        Broker()


def test_free_ports_are_free() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free_port()))
