"""The uplink's connection to the broker: MQTT 5, over :mod:`edge.broker_link`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.broker_link import SILENT, BrokerLink
from edge.errors import ConfigError, RemoteError
from edge.tls import why_refused
from edge.uplink.paho_short import ShortWay
from edge.uplink.settings import UplinkSettings

NO_SUBSCRIBERS: Final = 0x10
"""PUBACK reason: accepted, but no subscription matched, so nobody has it."""
PACKET_TOO_LARGE: Final = 0x95

_JSON: Final = "application/json"
# Bytes around a payload: fixed header, topic, packet id, content type.
_PACKET_OVERHEAD: Final = 64


class BrokerLostError(RemoteError, ConnectionError):
    """The broker cannot be reached, refuses us, or is gone. ``host`` and ``port`` say which."""

    def __init__(self, message: str, *, host: str, port: int) -> None:
        """Keep where it was."""
        super().__init__(message)
        self.host = host
        self.port = port


@dataclass(frozen=True, slots=True)
class Publication:
    """One message to publish."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    content_type: str = _JSON
    correlation: bytes | None = None
    """Of an answer: what the question had along."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message from the broker."""

    topic: str
    payload: bytes
    retain: bool
    """It was published with the retain flag, now or long ago."""
    qos: int
    response_topic: str | None = None
    correlation: bytes | None = None
    content_type: str | None = None


OnMessage = Callable[[Incoming], None]


class Connection(Protocol):
    """An open connection; everything happens on one event loop."""

    on_message: OnMessage | None
    """Called from the loop with everything that arrives; to be set before subscribing."""

    def subscribe(self, filters: Sequence[str], *, kept: bool = True) -> asyncio.Future[list[int]]:
        """Ask for these topics at QoS 1; return the future reason codes, >= 0x80 for one that is refused.

        ``kept``: with what the broker retains of them. A command that was kept is none: only what comes from now on.
        The future stays pending when the connection ends first. Raises :class:`BrokerLostError` when it has ended.
        """

    @property
    def window(self) -> int:
        """Most QoS 1 publishes the broker takes unacknowledged."""

    def publish(self, publication: Publication) -> asyncio.Future[int]:
        """Send, and return the future reason code of its acknowledgement; 0 at once for QoS 0.

        The future stays pending when the connection ends first. Raises :class:`BrokerLostError` when it has ended.
        """

    async def lost(self) -> str:
        """Return why the connection ended, once it has."""


class Connect(Protocol):
    """Opens connections; entering raises :class:`BrokerLostError`."""

    def __call__(self, settings: UplinkSettings, will: Publication) -> AbstractAsyncContextManager[Connection]:
        """Return the context in which the connection is open; ``will`` is published for us if it breaks."""


def reason_text(code: int) -> str:
    """Return a PUBACK reason in words and hex."""
    if code == PACKET_TOO_LARGE:
        name = "Packet too large"  # our own refusal: no PUBACK says so
    else:
        try:
            name = ReasonCode(PacketTypes.PUBACK, identifier=code).getName()
        except (KeyError, ValueError):
            # A broker may send a code that is not for this packet; the number is the news then.
            name = "unknown reason"
    return f"{name} (0x{code:02X})"


class _Packed(Properties):
    """Properties that are the same for every frame: packed once, where paho packs them anew each time."""

    _bytes: bytes | None = None

    def pack(self) -> bytes:
        """Return their bytes; nothing may be set after the first call."""
        if self._bytes is None:
            packed = super().pack()  # type: ignore[no-untyped-call]  # paho's
            # Properties itself lets nothing be set that MQTT does not know.
            object.__setattr__(self, "_bytes", packed)
        return self._bytes or b""


@lru_cache(maxsize=8)
def _properties(packet_type: int, content_type: str) -> Properties:
    properties = _Packed(packet_type)  # type: ignore[no-untyped-call]  # paho annotates no constructor here
    properties.ContentType = content_type
    return properties


def _with_correlation(publication: Publication) -> Properties:
    if publication.correlation is None:
        return _properties(PacketTypes.PUBLISH, publication.content_type)
    # Never the cached ones: the next publish would carry it, too.
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho annotates no constructor here
    properties.ContentType = publication.content_type
    properties.CorrelationData = publication.correlation
    return properties


class AiomqttConnection(BrokerLink):
    """:class:`Connection` over an aiomqtt client that is connected, or about to be."""

    def __init__(self, client: aiomqtt.Client, settings: UplinkSettings) -> None:
        """Chain the callbacks; must precede connecting."""
        super().__init__(client, settings.connect_timeout_s)
        self._settings = settings
        self._window = settings.window
        self._max_packet: int | None = None
        self._subscribing: dict[int, asyncio.Future[list[int]]] = {}
        self.on_message: OnMessage | None = None
        self._their_on_connect: Any = self._paho.on_connect
        self._their_on_subscribe: Any = self._paho.on_subscribe
        self._paho.on_subscribe = self._on_subscribe
        # Not chained: aiomqtt would keep every message in a queue that nobody reads.
        self._paho.on_message = self._on_message
        self._paho.on_connect = self._on_connect
        self._their_number: Any = getattr(self._paho, "_mid_generate", None)
        if self._their_number is not None:
            self._paho._mid_generate = self._number  # type: ignore[method-assign]  # noqa: SLF001 - numbers all packets
        self._short = ShortWay(self._paho, self._acknowledged) if ShortWay.fits(self._paho) else None

    def _number(self) -> int:
        """Return a packet id that no publish under way has: else the answer to one would be taken for the other's."""
        number: int = self._their_number()
        while number in self._pending:
            number = self._their_number()
        return number

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:  # noqa: ANN401 - as paho calls it
        self._window = min(self._settings.window, getattr(properties, "ReceiveMaximum", self._settings.window))
        self._max_packet = getattr(properties, "MaximumPacketSize", None)
        if self._their_on_connect is not None:
            self._their_on_connect(client, userdata, flags, reason, properties)

    def _on_subscribe(self, client: Any, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:  # noqa: ANN401 - as paho calls it
        future = self._subscribing.pop(mid, None)
        if future is not None and not future.done():
            future.set_result([reason.value for reason in reasons])
        if self._their_on_subscribe is not None:
            self._their_on_subscribe(client, userdata, mid, reasons, properties)

    def _on_message(self, client: Any, userdata: Any, message: paho.MQTTMessage) -> None:  # noqa: ANN401, ARG002 - as paho calls it
        if self.on_message is None:
            return
        try:
            name = message.topic
        except UnicodeDecodeError:
            return  # no topic of ours
        said = message.properties
        self.on_message(
            Incoming(
                name,
                bytes(message.payload),
                message.retain,
                message.qos,
                getattr(said, "ResponseTopic", None),
                getattr(said, "CorrelationData", None),
                getattr(said, "ContentType", None),
            )
        )

    def subscribe(self, filters: Sequence[str], *, kept: bool = True) -> asyncio.Future[list[int]]:
        """See :class:`Connection`."""
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        # As published: a retained command must be known for one however it came.
        handling = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if kept else SubscribeOptions.RETAIN_DO_NOT_SEND
        options = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=handling)
        code, mid = self._paho.subscribe([(name, options) for name in filters])
        if code != paho.MQTT_ERR_SUCCESS or mid is None:
            raise BrokerLostError(paho.error_string(code), host=self._settings.host, port=self._settings.port)
        self._subscribing[mid] = future
        return future

    @property
    def window(self) -> int:
        """See :class:`Connection`."""
        return self._window

    def publish(self, publication: Publication) -> asyncio.Future[int]:
        """See :class:`Connection`."""
        size = len(publication.payload) + len(publication.topic) + _PACKET_OVERHEAD
        if self._max_packet is not None and size > self._max_packet:
            # Sent anyway it would cost the connection, and again after every reconnect.
            refused: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            refused.set_result(PACKET_TOO_LARGE)
            return refused
        if self._short is not None and publication.qos == 1:
            return self._publish_shortly(self._short, publication)
        why_not, future = self._send(
            publication.topic,
            publication.payload,
            publication.qos,
            retain=publication.retain,
            properties=_with_correlation(publication),
        )
        if why_not:
            raise BrokerLostError(why_not, host=self._settings.host, port=self._settings.port)
        return future

    def _publish_shortly(self, short: ShortWay, publication: Publication) -> asyncio.Future[int]:
        number = short.publish(
            publication.topic.encode(),
            publication.payload,
            _with_correlation(publication).pack(),  # type: ignore[no-untyped-call]  # paho's
            retain=publication.retain,
        )
        if number is None:
            raise BrokerLostError("no connection", host=self._settings.host, port=self._settings.port)
        return self._awaited(number)


@contextlib.asynccontextmanager
async def connect(settings: UplinkSettings, will: Publication) -> AsyncIterator[Connection]:
    """Open a connection by aiomqtt; see :class:`Connect`.

    The session is always clean: what is unacknowledged is ours to send again, and must not be sent by two.
    """
    try:
        # Read anew each time: a renewed certificate counts from the next connection on.
        tls_context = None if settings.tls is None else settings.tls.context()
    except ConfigError as error:
        # They were in order at the start; somebody is replacing them, and the next attempt reads them again.
        raise BrokerLostError(str(error), host=settings.host, port=settings.port) from error
    client = aiomqtt.Client(
        settings.host,
        settings.port,
        username=settings.username,
        password=settings.password,
        identifier=settings.identifier,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=True,
        timeout=settings.connect_timeout_s,
        keepalive=settings.keepalive_s,
        max_inflight_messages=settings.window,
        logger=SILENT,
        tls_context=tls_context,
        will=aiomqtt.Will(
            will.topic, will.payload, will.qos, will.retain, _properties(PacketTypes.WILLMESSAGE, will.content_type)
        ),
    )
    connection = AiomqttConnection(client, settings)
    async with connection.open(
        lambda error: BrokerLostError(why_refused(tls_context, error), host=settings.host, port=settings.port)
    ):
        yield connection
