"""The short way of an acknowledgement comes to the same as paho's own."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge.uplink.paho_short import INSIDE, shorten


class Client(SimpleNamespace):
    """A paho client's inside, as far as it is used."""

    def __init__(self, *numbers: int) -> None:
        super().__init__(
            _in_packet={"packet": bytearray()},
            _out_messages={number: object() for number in numbers},
            _out_message_mutex=threading.RLock(),
            _inflight_messages=len(numbers),
            _update_inflight=lambda: self.did.append("update") or "updated",
            _handle_pubackcomp=lambda command: self.did.append(command) or "theirs",
            did=[],
        )

    def acknowledge(self, packet: bytes, command: str = "PUBACK") -> Any:  # noqa: ANN401 - paho's or a fake's
        self._in_packet["packet"] = bytearray(packet)
        return self._handle_pubackcomp(command)


def test_a_plain_acknowledgement_takes_the_short_way() -> None:
    client, answered = Client(1, 0x0203), list[int]()

    def take(number: int) -> bool:
        answered.append(number)
        return True

    assert shorten(client, take)
    assert client.acknowledge(b"\x02\x03") == paho.MQTT_ERR_SUCCESS
    assert answered == [0x0203]
    assert (list(client._out_messages), client._inflight_messages, client.did) == ([1], 1, [])
    # Acknowledged twice by the broker: nothing is counted twice.
    assert client.acknowledge(b"\x02\x03") == paho.MQTT_ERR_SUCCESS
    assert client._inflight_messages == 1


@pytest.mark.parametrize(
    ("packet", "command"), [(b"\x00\x01\x10", "PUBACK"), (b"\x00\x01\x87\x00", "PUBACK"), (b"\x00\x01", "PUBCOMP")]
)
def test_a_reason_is_left_to_paho(packet: bytes, command: str) -> None:
    client = Client(1)
    shorten(client, lambda _number: pytest.fail("not asked for"))
    assert client.acknowledge(packet, command) == "theirs"
    assert client.did == [command]
    assert client._inflight_messages == 1


def test_an_acknowledgement_of_another_is_left_to_paho() -> None:
    client = Client(1)
    shorten(client, lambda _number: False)
    assert client.acknowledge(b"\x00\x01") == "theirs"


def test_what_waits_for_room_is_sent_by_paho() -> None:
    client = Client(1, 2)
    client._out_messages[3] = object()
    shorten(client, lambda _number: True)
    assert client.acknowledge(b"\x00\x01") == "updated"


@pytest.mark.parametrize("name", INSIDE)
def test_another_inside_is_left_alone(name: str) -> None:
    client = Client(1)
    theirs = client._handle_pubackcomp
    delattr(client, name)
    assert not shorten(client, lambda _number: True)
    assert getattr(client, "_handle_pubackcomp", theirs) is theirs


def test_the_paho_that_is_installed_is_as_expected() -> None:
    # A newer one that is not costs a tenth of the speed, and nothing else.
    assert shorten(paho.Client(CallbackAPIVersion.VERSION2), lambda _number: True)
