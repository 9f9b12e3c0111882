"""For notebooks and scripts: the frames of one rig, or of all, decoded, without repetitions.

::

    async with Subscriber("127.0.0.1", rig="rig-1") as frames:
        async for frame in frames:
            print(frame.seq, frame.cols["bias_v"], frame.cols["current_a"])
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiomqtt

from edge.errors import ConfigError, FrameError, RemoteError
from edge.frames import Frame, decode_frame
from edge.tls import PLAIN_PORT, TLS_PORT, refuse_plain, tls_files, why_refused

__all__ = ["Frame", "FrameError", "NoBrokerError", "Subscriber", "decode_frame"]

STREAMS: Final = ("samples", "events", "runs")
_REMEMBERED: Final = 10_000
_PAUSE_MIN_S: Final = 0.2
_PAUSE_MAX_S: Final = 5.0


class NoBrokerError(RemoteError, ConnectionError):
    """The broker cannot be reached, or refuses us."""


class Subscriber:
    """An async iterator over decoded frames, in order of arrival; reconnects by itself once it was connected.

    What is published while there is no connection is not seen: compare ``seq``, or use a store.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        rig: str = "+",
        streams: Iterable[str] = STREAMS,
        username: str | None = None,
        password: str | None = None,
        ca_file: str | Path | None = None,
        cert_file: str | Path | None = None,
        key_file: str | Path | None = None,
        plain: str = "loopback",
    ) -> None:
        """``rig``: its name, or "+" for all. ``streams``: of "samples", "events", "runs".

        ``ca_file``, ``cert_file``, ``key_file``: the lab's CA, and who we are, as `tipguard certs` makes them; with the
        CA it is TLS 1.3, and port 8883 unless another is given, else 1883. Without it, no other computer is spoken to
        unless ``plain`` is "anywhere". Raises :class:`ConfigError`.
        """
        unknown = sorted(set(streams := tuple(streams)) - set(STREAMS))
        if unknown:
            raise ValueError(f"streams {', '.join(unknown)}: expected of {', '.join(STREAMS)}")
        refuse_plain(host, tls=ca_file is not None, plain=plain)
        self._host = host
        self._port = port or (PLAIN_PORT if ca_file is None else TLS_PORT)
        self._tls = tls_files(ca_file, cert_file, key_file)
        if self._tls is not None:
            self._tls.context()
        self._topics = [(f"tipguard/{rig}/{stream}", 1) for stream in streams]
        self._username = username
        self._password = password
        self._client: aiomqtt.Client | None = None
        self._seen: OrderedDict[tuple[str, str, str, int], None] = OrderedDict()
        self.repeated = 0
        """Frames that came more than once; they are given out once."""
        self.malformed = 0
        """Messages that are no frames of a known version; they are left out."""
        self.last_error: FrameError | None = None
        """Why the last of them was left out."""

    async def __aenter__(self) -> Self:
        """Connect and subscribe. Raises :class:`NoBrokerError`."""
        await self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self._disconnect()

    def __aiter__(self) -> Self:
        """Iterate."""
        return self

    async def __anext__(self) -> Frame:
        """Return the next frame that was not seen before."""
        while True:
            try:
                payload = await self._next_payload()
            except aiomqtt.MqttError:
                await self._reconnect()
                continue
            try:
                frame = decode_frame(payload)
            except FrameError as error:
                self.malformed += 1
                self.last_error = error
                continue
            if frame.identity in self._seen:
                self.repeated += 1
                continue
            self._seen[frame.identity] = None
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            return frame

    async def _next_payload(self) -> bytes:
        if self._client is None:
            raise aiomqtt.MqttError("not connected")
        return (await anext(aiter(self._client.messages))).payload

    async def _connect(self) -> None:
        try:
            tls_context = None if self._tls is None else self._tls.context()
        except ConfigError as error:
            # In order when we began: somebody is replacing the files.
            raise NoBrokerError(str(error)) from error
        client = aiomqtt.Client(
            self._host,
            self._port,
            username=self._username,
            password=self._password,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            timeout=5,
            tls_context=tls_context,
        )
        try:
            await client.__aenter__()
            self._client = client
            await client.subscribe(self._topics)
        except aiomqtt.MqttError as error:
            await self._disconnect()
            why = why_refused(tls_context, error)
            raise NoBrokerError(f"broker {self._host}:{self._port}: {why}") from error

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(aiomqtt.MqttError):
                await client.__aexit__(None, None, None)

    async def _reconnect(self) -> None:
        await self._disconnect()
        pause_s = _PAUSE_MIN_S
        while self._client is None:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)
            with contextlib.suppress(NoBrokerError):
                await self._connect()
