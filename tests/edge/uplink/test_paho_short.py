"""The short way puts the same bytes on the line as paho's own, and hears the same acknowledgements."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.paho_buffer import BufferedSocket
from edge.uplink.mqtt import AiomqttConnection, Publication
from edge.uplink.paho_short import INSIDE, ShortWay
from edge.uplink.settings import UplinkSettings

PINGRESP = b"\xd0\x00"


class Line(SimpleNamespace):
    """A socket that takes ``room`` bytes at a time, and gives ``gives`` one by one, with nothing to read in between."""

    def __init__(self, room: int = 1 << 30, *gives: bytes) -> None:
        super().__init__(room=room, sent=b"", sends=0, full=False, broken=None, close=list, fileno=lambda: -1)
        self.gives: list[bytes | None] = [item for part in gives for item in (part, None)]

    def send(self, data: bytes) -> int:
        if self.broken is not None:
            raise self.broken
        if self.full:
            raise BlockingIOError
        self.sends += 1
        self.sent += bytes(data[: self.room])
        return min(int(self.room), len(data))

    def recv(self, _size: int) -> bytes:
        item = self.gives.pop(0) if self.gives else None
        if item is None:
            raise BlockingIOError
        return item

    def setsockopt(self, *_option: int) -> None:
        pass


class Bench:
    """A paho client with a line that is no network, and what its short way said."""

    def __init__(self, line: Line | None = None) -> None:
        self.line = line or Line()
        self.client: Any = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client._sock = BufferedSocket(self.line)
        self.wants_to_write = 0
        self.client.on_socket_register_write = self._wants
        self.answers: list[tuple[int, int]] = []
        self.short = ShortWay(self.client, lambda number, reason: self.answers.append((number, reason)))

    def _wants(self, *_given: object) -> None:
        self.wants_to_write += 1

    def read(self) -> None:
        """Do as aiomqtt does when there is something to read."""
        self.client.loop_read()
        while self.client._sock.pending():
            self.client.loop_read()


def as_paho_does_it(topic: str, payload: bytes, properties: Properties, *, retain: bool) -> bytes:
    client: Any = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client._sock = line = Line()
    assert client.publish(topic, payload, 1, retain, properties).mid == 1
    client.loop_write()
    return bytes(line.sent)


def properties(content_type: str) -> Properties:
    said = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho annotates no constructor
    said.ContentType = content_type
    return said


def packed(content_type: str = "x") -> bytes:
    return bytes(properties(content_type).pack())  # type: ignore[no-untyped-call]  # paho's


@given(
    topic=st.text(st.characters(exclude_characters="\0#+", exclude_categories=["Cs"]), min_size=1, max_size=200),
    size=st.integers(0, 300) | st.sampled_from([16_383 - 20, 16_384, 2_097_151, 2_097_200]),
    content_type=st.sampled_from(["application/msgpack", ""]),
    retain=st.booleans(),
)
def test_the_bytes_are_those_of_paho(topic: str, size: int, content_type: str, retain: bool) -> None:
    bench, payload = Bench(), bytes(size)

    async def publish() -> None:
        assert bench.short.publish(topic.encode(), payload, packed(content_type), retain=retain) == 1
        await asyncio.sleep(0)

    asyncio.run(publish())
    assert bench.line.sent == as_paho_does_it(topic, payload, properties(content_type), retain=retain)


async def test_what_is_published_in_one_turn_is_sent_at_once() -> None:
    bench, apart = Bench(), b""
    numbers = []
    for payload in (b"a", b"bb", b"ccc"):
        numbers.append(bench.short.publish(b"t", payload, packed(), retain=False))
        head = bytes([0x32, 5 + len(packed()) + len(payload), 0, 1]) + b"t" + bytes([0, len(numbers)])
        apart += head + packed() + payload
    assert bench.line.sent == b""
    await asyncio.sleep(0)
    assert numbers == [1, 2, 3]
    assert (bench.line.sends, bench.line.sent, bench.wants_to_write) == (1, apart, 0)


async def test_what_the_line_does_not_take_is_sent_by_paho_and_in_order() -> None:
    bench, whole = Bench(Line(room=5)), Bench()
    for payload in (b"first", b"second", b"third"):
        for side in (bench, whole):
            side.short.publish(b"t", payload, packed(), retain=False)
        await asyncio.sleep(0)
    assert len(bench.line.sent) == 5
    assert bench.wants_to_write == 1
    while bench.client.want_write():
        bench.client.loop_write()
    assert bench.line.sent == whole.line.sent


async def test_what_paho_has_to_send_goes_first() -> None:
    bench = Bench()
    bench.client._send_pingreq()
    bench.short.publish(b"t", b"a", packed(), retain=False)
    await asyncio.sleep(0)
    assert bench.line.sent == b""
    bench.client.loop_write()
    assert bench.line.sent.startswith(b"\xc0\x00\x32")


async def test_a_full_line_is_waited_for() -> None:
    bench = Bench()
    bench.line.full = True
    bench.short.publish(b"t", b"a", packed(), retain=False)
    await asyncio.sleep(0)
    assert (bench.line.sent, bench.wants_to_write) == (b"", 1)
    bench.line.full = False
    bench.client.loop_write()
    assert bench.line.sent.endswith(b"a")


async def test_a_broken_line_is_reported_by_paho() -> None:
    bench, ends = Bench(), []
    bench.client.on_disconnect = lambda *given: ends.append(given)
    bench.line.broken = ConnectionResetError("gone")
    bench.short.publish(b"t", b"a", packed(), retain=False)
    await asyncio.sleep(0)
    assert bench.wants_to_write == 1
    bench.client.loop_write()
    assert len(ends) == 1
    assert bench.short.publish(b"t", b"b", packed(), retain=False) is None


async def test_what_was_not_sent_when_the_connection_ended_is_let_go() -> None:
    bench = Bench()
    bench.short.publish(b"t", b"a", packed(), retain=False)
    bench.client._sock = None
    await asyncio.sleep(0)
    bench.client._sock = BufferedSocket(bench.line)
    bench.short.publish(b"t", b"b", packed(), retain=False)
    await asyncio.sleep(0)
    assert bench.line.sent.endswith(b"b")
    assert b"ta" not in bench.line.sent
    assert bench.line.sends == 1


async def test_too_long_for_mqtt() -> None:
    class Long(bytes):
        def __len__(self) -> int:
            return 1 << 28

    with pytest.raises(ValueError, match="MQTT ends at"):
        Bench().short.publish(b"t", Long(), packed(), retain=False)


ACKNOWLEDGED = [
    (b"\x40\x02\x00\x01", (1, 0)),
    (b"\x40\x02\x01\x02", (0x0102, 0)),
    (b"\x40\x03\x00\x03\x10", (3, 0x10)),
    (b"\x40\x04\x00\x04\x87\x00", (4, 0x87)),
    (b"\x40\x02\x40\x02", (0x4002, 0)),
    (b"\x40\x02\xff\xff", (0xFFFF, 0)),
]


def streams() -> Iterator[tuple[bytes, list[tuple[int, int]]]]:
    said = [said for _, said in ACKNOWLEDGED]
    alone = b"".join(packet for packet, _ in ACKNOWLEDGED)
    yield alone, said
    mixed = b"".join(packet + PINGRESP for packet, _ in ACKNOWLEDGED)
    yield mixed, said
    message = b"\x30\x0c\x00\x01t\x00\x40\x02\x00\x07\x40\x02\x00\x08"
    yield message + alone + message, said


@pytest.mark.parametrize(("stream", "said"), list(streams()))
def test_acknowledgements_are_heard_however_the_stream_is_cut(stream: bytes, said: list[tuple[int, int]]) -> None:
    for cut in range(len(stream) + 1):
        bench = Bench(Line(0, *filter(None, (stream[:cut], stream[cut:]))))
        messages: list[bytes] = []
        bench.client.on_message = lambda _client, _data, message, heard=messages: heard.append(message.payload)
        while bench.line.gives:
            bench.read()
        assert bench.answers == said, cut
        assert messages == [b"\x40\x02\x00\x07\x40\x02\x00\x08"] * stream.count(b"\x00\x01t"), cut


def test_byte_by_byte_it_is_the_same() -> None:
    stream = b"".join(packet for packet, _ in ACKNOWLEDGED)
    bench = Bench(Line(0, *(bytes([byte]) for byte in stream)))
    while bench.line.gives:
        bench.read()
    assert bench.answers == [said for _, said in ACKNOWLEDGED]


def test_acknowledgements_keep_the_connection_alive() -> None:
    # paho pings, and in the end gives up, when nothing has come for the keepalive time.
    bench = Bench(Line(0, b"\x40\x02\x00\x01"))
    bench.client._last_bytes_received = 0.0
    bench.read()
    assert bench.client._last_bytes_received > 0


@pytest.mark.parametrize("stream", [b"\x40\x00", b"\x40\x01\x00"])
def test_a_broken_acknowledgement_is_pahos_affair(stream: bytes) -> None:
    bench, ends = Bench(Line(0, stream)), []
    bench.client.on_disconnect = lambda *given: ends.append(given)
    bench.client.loop_read()
    assert bench.answers == []
    assert len(ends) == 1


def test_the_end_of_the_stream_is_pahos_affair() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        bench, ends = Bench(), []
        bench.client._sock = BufferedSocket(near)
        bench.client.on_disconnect = lambda *given: ends.append(given)
        far.sendall(b"\x40\x02\x00\x09")
        far.close()
        bench.read()
        assert bench.answers == [(9, 0)]
        bench.client.loop_read()
        assert len(ends) == 1


def test_the_paho_that_is_installed_is_as_expected() -> None:
    # A newer one that is not costs a fifth of the speed, and nothing else.
    assert ShortWay.fits(paho.Client(CallbackAPIVersion.VERSION2))


SHAPES = {"_in_packet": {"command": 0, "packet": b""}, "_out_packet": deque[object]()}


@pytest.mark.parametrize("name", INSIDE)
def test_another_inside_is_left_alone(name: str) -> None:
    expected: dict[str, object] = {**dict.fromkeys(INSIDE), **SHAPES}
    assert ShortWay.fits(SimpleNamespace(**expected))
    del expected[name]
    assert not ShortWay.fits(SimpleNamespace(**expected))


@pytest.mark.parametrize("other", [{"_in_packet": {"command": 0}}, {"_in_packet": None}, {"_out_packet": []}])
def test_an_inside_of_another_shape_is_left_alone(other: dict[str, object]) -> None:
    assert not ShortWay.fits(SimpleNamespace(**{**dict.fromkeys(INSIDE), **SHAPES, **other}))


def a_connection() -> tuple[AiomqttConnection, Line]:
    """Return a connection of ours whose line is no network."""
    client = aiomqtt.Client("nowhere.lab", protocol=aiomqtt.ProtocolVersion.V5)
    connection = AiomqttConnection(client, UplinkSettings("rig-1", Path("/nowhere/ring")))
    line = Line()
    connection._paho._sock = BufferedSocket(line)
    connection._paho.on_socket_register_write = connection._paho.on_socket_unregister_write = lambda *_given: None
    return connection, line


async def test_packet_numbers_begin_anew_and_leave_out_those_that_have_no_answer() -> None:
    connection, line = a_connection()
    frame = Publication("t", b"a")
    waiting = [connection.publish(frame) for _ in range(2)]
    connection._paho._last_mid = 65_533
    more = [connection.publish(frame) for _ in range(3)]
    # 0 is no number, and 1 and 2 are still to be answered.
    assert list(connection._pending) == [1, 2, 65_534, 65_535, 3]
    # One at QoS 0 has a number, too, which goes by no answer.
    connection._paho._last_mid = 65_535
    connection.publish(Publication("t", b"a", qos=0))
    await asyncio.sleep(0)
    while connection._paho.want_write():
        connection._paho.loop_write()
    assert not any(future.done() for future in (*waiting, *more))
    assert connection._acknowledged(65_535, 0)
    assert [future.done() for future in (*waiting, *more)] == [False, False, False, True, False]
    line.close()


async def test_the_answer_to_nothing_is_nobodys() -> None:
    connection, line = a_connection()
    line.gives = [b"\x40\x02\x00\x07\x40\x02\x00\x01\x40\x02\x00\x01", None]
    future = connection.publish(Publication("t", b"a"))
    connection._paho.loop_read()
    assert future.result() == 0
    assert connection._pending == {}
