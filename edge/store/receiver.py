"""The store's connection to its broker: MQTT 5, a session that outlives it, and acknowledgements given by hand.

The PUBACK goes out when the store has committed, not when a message came in: receiving, too, goes to the paho client
below aiomqtt's (:mod:`edge.broker_link`), for the packet ids that an acknowledgement names.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.broker_link import FAILURE, SILENT, BrokerLink
from edge.errors import ConfigError, RemoteError
from edge.store.received import TOPICS, Message

RECEIVE_MAXIMUM: Final = 1024
"""Messages the broker may have under way to us unacknowledged."""

_MAX_WAITING: Final = 4 * RECEIVE_MAXIMUM


class BrokerGoneError(RemoteError, ConnectionError):
    """The broker cannot be reached, refuses us, or is gone."""


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """One store's way to its broker. Raises :class:`ConfigError` for values that cannot work."""

    store: str
    host: str = "127.0.0.1"
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Callable[[], ssl.SSLContext] | None = None
    """Called at every connection, so that a renewed certificate is taken up."""
    group: str | None = None
    """Name of a group of workers that share the messages, and one database."""
    worker: int | None = None
    """Number of this worker in its group; two with the same throw each other off the broker."""
    session_expiry_s: int = 86_400
    """For so long the broker keeps messages for a store that is away."""
    batch: int = 256
    """Most frames of a commit."""
    linger_s: float = 0.05
    """A commit waits so long for more frames; at most 1 s."""
    connect_timeout_s: float = 5.0
    keepalive_s: int = 15
    backoff_min_s: float = 0.25
    backoff_max_s: float = 10.0
    watermark_every_s: float = 0.2
    """At least so long between two watermarks of one rig."""

    def __post_init__(self) -> None:
        """Check what would fail late or fail silently."""
        if not 0 <= self.linger_s <= 1.0:
            raise ConfigError(f"linger_s = {self.linger_s}: expected 0 to 1 s", key="linger_s")
        if not 1 <= self.batch <= RECEIVE_MAXIMUM:
            raise ConfigError(f"batch = {self.batch}: expected 1 to {RECEIVE_MAXIMUM}", key="batch")
        if (self.group is None) != (self.worker is None):
            raise ConfigError("a worker's number and its group's name belong together", key="worker")
        if self.group is not None and (not self.group or set(self.group) & set("/+#")):
            raise ConfigError(f"group {self.group!r}: expected a name without / + #", key="group")

    @property
    def identifier(self) -> str:
        """The MQTT client id."""
        return f"tipguard-store-{self.store}" + ("" if self.worker is None else f"-{self.worker}")

    @property
    def filters(self) -> list[str]:
        """What is subscribed to."""
        shared = "" if self.group is None else f"$share/{self.group}/"
        return [f"{shared}tipguard/+/{name}" for name in TOPICS]


class Delivery(NamedTuple):
    """One message and what its acknowledgement names."""

    message: Message
    mid: int
    qos: int


class Connection(Protocol):
    """An open connection; everything happens on one event loop."""

    async def batch(self, most: int, linger_s: float) -> list[Delivery]:
        """Return what has come, as soon as anything has; wait ``linger_s`` longer for ``most``. Empty once woken."""

    def wake(self) -> None:
        """Let :meth:`batch` return, now and from now on."""

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Tell the broker that these need not be sent again. A connection that is gone is no error."""

    def publish(self, topic: str, payload: bytes) -> asyncio.Future[int]:
        """Publish retained at QoS 1; return the future reason code. Raises :class:`BrokerGoneError`."""

    async def lost(self) -> str:
        """Return why the connection ended, once it has."""


class Connect(Protocol):
    """Opens connections and subscribes; entering raises :class:`BrokerGoneError`."""

    def __call__(self, settings: ReceiverSettings) -> AbstractAsyncContextManager[Connection]:
        """Return the context in which the connection is open."""


class AiomqttConnection(BrokerLink):
    """:class:`Connection` over an aiomqtt client."""

    def __init__(self, client: aiomqtt.Client, settings: ReceiverSettings) -> None:
        """Chain the callbacks; must precede connecting."""
        super().__init__(client, settings.connect_timeout_s)
        self._paho.manual_ack_set(True)
        self._paho.on_message = self._on_message
        self._where = f"{settings.host}:{settings.port}"
        self._waiting: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._woken = False
        self._most = settings.batch
        self.dropped = 0
        """Messages of QoS 0 that came too fast; nobody was promised them."""

    def _on_message(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:  # noqa: ANN401 - as paho calls it
        if message.qos == 0 and len(self._waiting) >= _MAX_WAITING:
            self.dropped += 1
            return
        content_type = getattr(message.properties, "ContentType", None)
        found = Message(message.topic, bytes(message.payload), content_type)
        self._waiting.append(Delivery(found, message.mid, message.qos))
        self._arrived.set()

    async def batch(self, most: int, linger_s: float) -> list[Delivery]:
        """See :class:`Connection`."""
        await self._until(1, None)
        await self._until(most, linger_s)
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    async def _until(self, count: int, patience_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while len(self._waiting) < count and not self._woken:
                    self._arrived.clear()
                    await self._arrived.wait()

    def wake(self) -> None:
        """See :class:`Connection`."""
        self._woken = True
        self._waiting.clear()
        self._arrived.set()

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """See :class:`Connection`."""
        for delivery in deliveries:
            self._paho.ack(delivery.mid, delivery.qos)

    def publish(self, topic: str, payload: bytes) -> asyncio.Future[int]:
        """See :class:`Connection`."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho annotates no constructor
        properties.ContentType = "application/json"
        why_not, future = self._send(topic, payload, 1, retain=True, properties=properties)
        if why_not:
            raise BrokerGoneError(f"{self._where}: {why_not}")
        return future

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe. Raises :class:`BrokerGoneError` for what the broker refuses."""
        codes = await self._client.subscribe([(name, 1) for name in filters])
        for name, code in zip(filters, codes, strict=True):
            value = int(str(getattr(code, "value", code)))  # a ReasonCode; aiomqtt's annotation is of MQTT 3, too
            if value >= FAILURE:
                raise BrokerGoneError(f"{self._where}: subscription to {name} refused (0x{value:02X})")


@contextlib.asynccontextmanager
async def connect(settings: ReceiverSettings) -> AsyncIterator[Connection]:
    """Open a connection by aiomqtt and subscribe; see :class:`Connect`. Raises ConfigError for unusable TLS files."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho annotates no constructor
    properties.SessionExpiryInterval = settings.session_expiry_s
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    client = aiomqtt.Client(
        settings.host,
        settings.port,
        username=settings.username,
        password=settings.password,
        identifier=settings.identifier,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=False,
        timeout=settings.connect_timeout_s,
        keepalive=settings.keepalive_s,
        properties=properties,
        tls_context=None if settings.tls is None else settings.tls(),
        logger=SILENT,
    )
    connection = AiomqttConnection(client, settings)

    def gone(error: aiomqtt.MqttError) -> BrokerGoneError:
        return BrokerGoneError(f"{settings.host}:{settings.port}: {error}")

    async with connection.open(gone):
        try:
            await connection.subscribe(settings.filters)
        except aiomqtt.MqttError as error:
            raise gone(error) from error
        yield connection
