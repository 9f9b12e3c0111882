"""What every connection of ours to a broker has in common: aiomqtt's client, and the paho client below it.

aiomqtt connects, keeps the connection alive and reports its end. Publishing goes to the paho client below it, because
a refused publish (no permission, quota) differs from an accepted one only in the PUBACK's reason code: paho's
``on_publish`` hands that over and aiomqtt's own handler ignores it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.properties import Properties

from edge.paho_buffer import buffer_reads

FAILURE: Final = 0x80
"""Reason codes from here on are refusals."""

# What aiomqtt and paho would log is what we report ourselves, once per change and with what to do.
SILENT: Final = logging.getLogger("tipguard.paho")
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False


class BrokerLink:
    """An aiomqtt client that is connected, or about to be, with its acknowledgements as futures of reason codes."""

    def __init__(self, client: aiomqtt.Client, connect_timeout_s: float) -> None:
        """Chain the callback; must precede connecting."""
        self._client = client
        # aiomqtt offers no other way to reason codes and packet ids.
        self._paho: paho.Client = client._client  # noqa: SLF001
        self._paho.connect_timeout = connect_timeout_s
        self._pending: dict[int, asyncio.Future[int]] = {}
        self._their_on_publish: Any = self._paho.on_publish
        self._paho.on_publish = self._on_publish
        buffer_reads(self._paho)

    def _acknowledged(self, mid: int, reason: int) -> bool:
        future = self._pending.pop(mid, None)
        if future is not None and not future.done():
            future.set_result(reason)
        return future is not None

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:  # noqa: ANN401 - as paho calls it
        self._acknowledged(mid, reason.value)
        if self._their_on_publish is not None:
            self._their_on_publish(client, userdata, mid, reason, properties)

    def _send(
        self, topic: str, payload: bytes, qos: int, *, retain: bool, properties: Properties
    ) -> tuple[str, asyncio.Future[int]]:
        """Publish; return why it could not be ("" if it could) and the future reason code, 0 at once for QoS 0."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        info = self._paho.publish(topic, payload, qos, retain, properties)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            return paho.error_string(info.rc), future
        if qos == 0:
            future.set_result(0)
        else:
            # The acknowledgement is read by the loop, so not before we are back in it.
            self._pending[info.mid] = future
        return "", future

    def _awaited(self, mid: int) -> asyncio.Future[int]:
        """Return the future reason code of a publish that went out by another way."""
        future = self._pending[mid] = asyncio.get_running_loop().create_future()
        return future

    async def lost(self) -> str:
        """Return why the connection ended, once it has."""
        try:
            async for _ in self._client.messages:
                pass
        except aiomqtt.MqttError as error:
            return str(error.__cause__ or error)
        return "closed"

    def abandon(self) -> None:
        """Close the socket, if it is still open: paho does so only once its goodbye is written, if ever."""
        self._paho.disconnect()
        if self._paho.socket() is not None:
            self._paho._sock_close()  # noqa: SLF001 - its only way to close without the broker's help

    @contextlib.asynccontextmanager
    async def open(self, refused: Callable[[aiomqtt.MqttError], Exception]) -> AsyncIterator[None]:
        """Connect; ``refused`` makes the error of a connection that does not come about."""
        try:
            await self._client.__aenter__()
        except aiomqtt.MqttError as error:
            self.abandon()
            raise refused(error) from error
        try:
            yield
        finally:
            # A connection that is gone already has been reported by lost().
            with contextlib.suppress(aiomqtt.MqttError):
                await self._client.__aexit__(None, None, None)
            self.abandon()
