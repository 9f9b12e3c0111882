"""A subscriber that knows nothing of this project: paho, in its own thread, in either version of MQTT."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from hil.broker import HOST

WAIT_S: Final = 20.0


class Listener:
    """Everything below ``tipguard/``, in order of arrival."""

    def __init__(self, port: int, protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5) -> None:
        """Connect on entering, to ``port``."""
        self.messages: list[mqtt.MQTTMessage] = []
        self._port = port
        self._subscribed = False
        self._changed = threading.Condition()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=protocol, reconnect_on_failure=False)
        self._client.on_connect = lambda client, userdata, flags, code, properties: client.subscribe("tipguard/#", 1)
        self._client.on_subscribe = lambda client, userdata, mid, codes, properties: self._note(None)
        self._client.on_message = lambda client, userdata, message: self._note(message)

    def _note(self, message: mqtt.MQTTMessage | None) -> None:
        with self._changed:
            if message is None:
                self._subscribed = True
            else:
                self.messages.append(message)
            self._changed.notify_all()

    def __enter__(self) -> Self:
        """Connect, and return when the subscription holds."""
        self._client.connect(HOST, self._port)
        self._client.loop_start()
        self._wait(lambda: self._subscribed)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _wait(self, condition: Callable[[], object]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, WAIT_S), f"not seen after {WAIT_S} s"

    async def until(self, condition: Callable[[], object]) -> None:
        """Return once ``condition`` holds, which is asked at each message; fail after 20 s."""
        await asyncio.to_thread(self._wait, condition)

    def payloads(self, name: str) -> list[bytes]:
        """Return what came under ``tipguard/rig-1/<name>``."""
        with self._changed:
            return [bytes(one.payload) for one in self.messages if one.topic == f"tipguard/rig-1/{name}"]

    def names(self) -> set[str]:
        """Return the topics that came, from behind the rig's name on."""
        with self._changed:
            return {one.topic.split("/", 2)[2] for one in self.messages}
