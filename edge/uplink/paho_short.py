"""A short way for what an uplink does nearly all of its time: publish at QoS 1, and read that it was acknowledged.

paho keeps every message until its acknowledgement, to send it again itself, and makes objects of its reason and
properties; the uplink has it in its outbox, and wants a number. At full speed that is a fifth of its time. Where paho's
inside is not as expected, its own way is taken.
"""

# ruff: noqa: SLF001 - the short way goes through the client's inside.
from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as paho

from edge.paho_buffer import BufferedSocket

INSIDE: Final = (
    "_sock",
    "_in_packet",
    "_out_packet",
    "_mid_generate",
    "_sock_send",
    "_last_msg_out",
    "_last_bytes_received",
    "_call_socket_register_write",
    "_handle_pubackcomp",
    "loop_read",
)
"""What is used of a client's inside."""
QOS1: Final = 0x32
RETAIN: Final = 0x01
_PLAIN: Final = b"\x40\x02"
"""An acknowledgement that has only its number: success, and nothing to say."""
_PLAIN_BYTES: Final = 4
_REASON_AT: Final = 2
_MAX_LENGTH: Final = 0x0FFF_FFFF
_16: Final = struct.Struct("!H")


class ShortWay:
    """Publishes and acknowledgements of one client. All calls come from the event loop."""

    def __init__(self, client: Any, answered: Callable[[int, int], object]) -> None:  # noqa: ANN401 - its inside has no types
        """``answered``: called with packet id and reason code of each acknowledgement; see :meth:`fits` first."""
        self._client = client
        self._answered = answered
        self._parts: list[bytes | bytearray] = []
        self._their_read = client.loop_read
        self._their_handle = client._handle_pubackcomp
        client.loop_read = self._loop_read
        client._handle_pubackcomp = self._handle_pubackcomp

    @staticmethod
    def fits(client: Any) -> bool:  # noqa: ANN401 - its inside has no types
        """Return whether the client's inside is as expected."""
        if not all(hasattr(client, name) for name in INSIDE):
            return False
        packet, queue = client._in_packet, client._out_packet
        return isinstance(packet, dict) and packet.keys() >= {"command", "packet"} and isinstance(queue, deque)

    def publish(self, topic: bytes, payload: bytes, properties: bytes, *, retain: bool) -> int | None:
        """Send in this turn of the event loop, joined with what else is; return the packet id, None when not connected.

        ``properties``: with their length before them. Raises ValueError for what is too long for MQTT.
        """
        client = self._client
        if client._sock is None:
            return None
        length = 2 + len(topic) + 2 + len(properties) + len(payload)
        if length > _MAX_LENGTH:
            raise ValueError(f"publish to {topic!r} of {length} bytes: MQTT ends at {_MAX_LENGTH}")
        number: int = client._mid_generate()
        head = bytearray((QOS1 | RETAIN if retain else QOS1,))
        # Seven bits a byte, the lowest first.
        while length > 127:
            head.append(length & 127 | 128)
            length >>= 7
        head.append(length)
        if not self._parts:
            asyncio.get_running_loop().call_soon(self._flush)
        self._parts += (head, _16.pack(len(topic)), topic, _16.pack(number), properties, payload)
        return number

    def _flush(self) -> None:
        client = self._client
        data, self._parts = b"".join(self._parts), []
        if client._sock is None:
            return  # gone meanwhile; whoever waits for its end sends all of it again
        sent = 0
        # What paho has still to send comes first.
        if not client._out_packet:
            # No room (paho is told when there is), or a broken connection: paho meets that, too, and says so.
            with contextlib.suppress(OSError):
                sent = client._sock_send(data)
            client._last_msg_out = time.monotonic()
        if sent < len(data):
            rest = {"command": QOS1, "mid": 0, "qos": 1, "pos": 0, "info": None}
            client._out_packet.append({**rest, "packet": data[sent:], "to_process": len(data) - sent})
            client._call_socket_register_write()

    def _loop_read(self, max_packets: int = 1) -> Any:  # noqa: ANN401 - as paho has it
        client = self._client
        sock = client._sock
        # Between two packets only.
        if isinstance(sock, BufferedSocket) and not client._in_packet["command"]:
            sock.fill()
            before = at = sock.at
            data = sock.data
            while data.startswith(_PLAIN, at) and at + _PLAIN_BYTES <= len(data):
                self._answered(data[at + 2] << 8 | data[at + 3], 0)
                at += _PLAIN_BYTES
            sock.at = at
            if at > before:
                client._last_bytes_received = time.monotonic()
                if at == len(data):
                    return paho.MQTT_ERR_SUCCESS
        return self._their_read(max_packets)

    def _handle_pubackcomp(self, command: str) -> Any:  # noqa: ANN401 - as paho has it
        packet = self._client._in_packet["packet"]
        if command != "PUBACK" or len(packet) < _REASON_AT:
            return self._their_handle(command)
        self._answered(packet[0] << 8 | packet[1], packet[_REASON_AT] if len(packet) > _REASON_AT else 0)
        return paho.MQTT_ERR_SUCCESS
