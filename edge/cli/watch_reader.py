"""Reads the JSON side of a broker into a :class:`Bench`; reconnects by itself once it was connected."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

import aiomqtt

from edge.cli.watch_model import Bench, clean
from edge.client import NoBrokerError
from edge.errors import ConfigError
from edge.tls import TLS_PORT, TlsFiles, why_refused

TOPICS: Final = (("live", 0), ("status", 1), ("json/runs", 1), ("json/events", 1))
_PAUSE_MIN_S: Final = 0.2
_PAUSE_MAX_S: Final = 5.0
_QUEUE: Final = 10_000
_NUMBER: Final = re.compile(r"^\[(Errno|code:) ?-?\d+\] ")

# What aiomqtt would log is what the view says, and a log line would tear its screen.
_SILENT: Final = logging.getLogger("tipguard.watch")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is, and who we are."""

    host: str = "127.0.0.1"
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: TlsFiles | None = None

    @property
    def where(self) -> str:
        """Return it as shown."""
        return f"{self.host}:{self.port}"


class Reader:
    """Keeps a bench up to date. :meth:`connect` once, then :meth:`run`, then :meth:`close`."""

    def __init__(self, broker: BrokerAddress, bench: Bench, now_s: Callable[[], float]) -> None:
        """Connect to nothing yet. ``now_s``: the clock of every time in the bench."""
        self._broker = broker
        self._bench = bench
        self._now_s = now_s
        self._client: aiomqtt.Client | None = None
        self.changed = asyncio.Event()
        """Set at every message, loss and return; whoever waits clears it."""

    async def connect(self) -> None:
        """Connect and subscribe. Raises NoBrokerError with what to do."""
        broker = self._broker
        try:
            tls_context = None if broker.tls is None else broker.tls.context()
        except ConfigError as error:
            raise NoBrokerError(str(error)) from error
        client = aiomqtt.Client(
            broker.host,
            broker.port,
            username=broker.username,
            password=broker.password,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            timeout=5,
            keepalive=15,
            max_queued_incoming_messages=_QUEUE,
            logger=_SILENT,
            tls_context=tls_context,
        )
        names = self._bench.wanted or ("+",)
        try:
            await client.__aenter__()
            self._client = client
            await client.subscribe([(f"tipguard/{name}/{topic}", qos) for name in names for topic, qos in TOPICS])
        except aiomqtt.MqttError as error:
            await self.close()
            refused = None if tls_context is None else why_refused(tls_context, error)
            why = _why(error) if refused is None else clean(refused)[:160]
            raise NoBrokerError(f"broker {broker.where}: {why}; {_what_to_do(error, broker)}") from error

    async def run(self) -> NoReturn:
        """Read for ever; a lost connection is noted in the bench and made again."""
        while True:
            try:
                await self._read()
            except aiomqtt.MqttError as error:
                self._bench.lost = self._bench.lost or (self._now_s(), _why(error))
                self.changed.set()
                await self._again()

    async def _read(self) -> None:
        if self._client is None:
            raise aiomqtt.MqttError("not connected")
        async for message in self._client.messages:
            self._bench.take(str(message.topic), message.payload, self._now_s(), retained=message.retain)
            self.changed.set()

    async def _again(self) -> None:
        await self.close()
        pause_s = _PAUSE_MIN_S
        while self._client is None:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)
            with contextlib.suppress(NoBrokerError):
                await self.connect()
        self._bench.lost = None
        self.changed.set()

    async def close(self) -> None:
        """Disconnect; a second call does nothing."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(aiomqtt.MqttError):
                await client.__aexit__(None, None, None)


def _why(error: aiomqtt.MqttError) -> str:
    """Return a broker's or the system's reason in a few words; it may come from the network."""
    said = _NUMBER.sub("", clean(str(error.__cause__ or error)))
    # paho's word for a connection that just ended.
    return "the connection broke" if said in ("", "Unspecified error") else said[:80]


def _what_to_do(error: aiomqtt.MqttError, broker: BrokerAddress) -> str:
    if isinstance(error, aiomqtt.MqttCodeError):
        return (
            "it is there but does not let us in; a rig's file with uplink.username and uplink.password_file says who "
            "we are: `tipguard watch rig.toml`"
        )
    if broker.tls is not None:
        return "is it there, under this name, and with a certificate of the same lab? docs/security.md"
    if broker.port == TLS_PORT:
        return "this port speaks TLS: --ca-file, --cert-file and --key-file, or a rig's file: `tipguard watch rig.toml`"
    here = broker.host in ("127.0.0.1", "localhost", "::1")
    start = "is it running? `sudo apt install mosquitto` installs and starts one here" if here else "is it reachable?"
    return f"{start}; another one: --host and --port, or a rig's file: `tipguard watch rig.toml`"
