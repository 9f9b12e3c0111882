"""Commands to a rig over a broker, for the command line, scripts and notebooks.

::

    async with Commander("127.0.0.1", rig="rig-1", user="ana") as rig:
        await rig.stop()
        print((await rig.ask("status"))["state"])

What may be done is decided at the rig. A command carries the epoch and the nonce that the rig's status shows, so it
holds for this life of the controller, once, and for seconds; ``stop`` needs neither and waits for nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.client import NoBrokerError
from edge.errors import BusyError, PlanRefusedError

VERSION: Final = 1
ANSWER_S: Final = 5.0
STATUS_S: Final = 12.0
"""Longest wait for a nonce: an uplink announces its status at every new one, about every 4 s."""
EXPIRY_S: Final = 10
"""A command that a broker could not deliver by then is thrown away."""
TRIES: Final = 3
AGAIN: Final = frozenset({"used_nonce", "stale_nonce", "unknown_nonce", "wrong_epoch"})
"""Refused unread: what was quoted had been overtaken, and nothing was done. With the rig's next status it may do."""
_FAILURE: Final = 0x80
_NOBODY: Final = 0x10
_MAX_DOCUMENT: Final = 1 << 20

_SILENT: Final = logging.getLogger("tipguard.commands")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class Commander:
    """One user's commands to one rig. Use as an async context manager."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 1883,
        *,
        rig: str,
        user: str,
        username: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        answer_s: float = ANSWER_S,
    ) -> None:
        """``user``: as the rig's file names it; the broker must let us publish to that user's topic. Connects nothing.

        ``username``: at the broker, where it is not the certificate that says who we are.
        """
        self._where = f"{host}:{port}"
        self._rig = rig
        self._user = user
        self._answer_s = answer_s
        self._client = aiomqtt.Client(
            host,
            port,
            username=username,
            password=password,
            tls_context=tls,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            timeout=5,
            keepalive=15,
            logger=_SILENT,
        )
        self._reply_topic = f"tipguard/reply/{user}/{rig}/{secrets.token_hex(8)}"
        self._answers: dict[bytes, asyncio.Future[dict[str, Any]]] = {}
        self._refused: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._quoted: set[str] = set()
        self._changed = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None
        self._lost: str | None = None
        self.status: dict[str, Any] | None = None
        """The rig's last status document as published; None before the first."""
        self.run_documents: list[dict[str, Any]] = []
        """Summaries of run documents that came since the connection, oldest first."""

    async def __aenter__(self) -> Self:
        """Connect and subscribe; raises NoBrokerError."""
        own = f"tipguard/{self._rig}"
        # aiomqtt drops the acknowledgement's reason, and a broker that forbids a command says so nowhere else.
        raw = self._client._client  # noqa: SLF001 - as edge.uplink.mqtt does
        theirs: Any = raw.on_publish

        def on_publish(client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:  # noqa: ANN401 - as paho calls it
            self._acknowledged(mid, int(reason.value))
            theirs(client, userdata, mid, reason, properties)

        raw.on_publish = on_publish
        try:
            await self._client.__aenter__()
            topics = [self._reply_topic, f"{own}/status", f"{own}/json/runs"]
            await self._client.subscribe([(topic, 1) for topic in topics])
        except aiomqtt.MqttError as error:
            raise NoBrokerError(f"broker {self._where}: {error.__cause__ or error}; is it running there?") from error
        self._reader = asyncio.create_task(self._read(), name="commander")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        with contextlib.suppress(aiomqtt.MqttError):
            await self._client.__aexit__(kind, error, traceback)

    # -- what comes

    async def _read(self) -> None:
        try:
            async for message in self._client.messages:
                await self._take(message)
        except aiomqtt.MqttError as error:
            self._lost = str(error.__cause__ or error)
        else:
            self._lost = "closed"
        async with self._changed:
            self._changed.notify_all()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(NoBrokerError(f"broker {self._where}: {self._lost}; whether it was done is open"))

    async def _take(self, message: aiomqtt.Message) -> None:
        topic = str(message.topic)
        document = _document(message.payload)
        if document is None:
            return
        if topic == self._reply_topic:
            asked = getattr(message.properties, "CorrelationData", None)
            answer = self._answers.get(asked) if isinstance(asked, bytes) else None
            if answer is not None and not answer.done():
                answer.set_result(document)
            return
        async with self._changed:
            if topic.endswith("/status"):
                self.status = document
            elif isinstance(doc := document.get("doc"), dict) and not message.retain:
                self.run_documents.append(doc)
            self._changed.notify_all()

    def _acknowledged(self, mid: int, reason: int) -> None:
        answer = self._refused.pop(mid, None)
        if answer is None or answer.done():
            return
        if reason >= _FAILURE:
            answer.set_exception(
                PlanRefusedError(
                    f"broker {self._where} does not let us publish to tipguard/{self._rig}/cmd/{self._user} "
                    f"(0x{reason:02X}); its access list says who may",
                    reason="broker_denied",
                )
            )
        elif reason == _NOBODY:
            answer.set_exception(
                BusyError(
                    f"rig {self._rig} does not listen at {self._where}: no uplink is connected there, or its file "
                    "names no [remote] users"
                )
            )

    # -- what goes

    async def stop(self) -> dict[str, Any]:
        """Cut and end the run; returns ``{"stopped": bool}``. Raises as :meth:`ask`; waits for no status."""
        return await self.ask("stop")

    async def run(self, plan: str, parameters: Mapping[str, Any]) -> str:
        """Start a plan; returns the run's uid."""
        return str((await self.ask("run", {"plan": plan, "parameters": dict(parameters)})).get("uid"))

    async def ask(self, verb: str, args: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a command and return its data.

        Raises PlanRefusedError with the rig's reason, BusyError where the rig does not listen or answer, NoBrokerError
        for a connection that broke.
        """
        for _ in range(TRIES - 1):
            try:
                return await self._once(verb, args or {})
            except PlanRefusedError as error:
                if verb == "stop" or error.reason not in AGAIN:
                    raise
        return await self._once(verb, args or {})

    async def _once(self, verb: str, args: Mapping[str, Any]) -> dict[str, Any]:
        epoch, nonce = ("", "") if verb == "stop" else await self._fresh()
        self._quoted.add(nonce)
        command = {"v": VERSION, "verb": verb, "args": dict(args), "epoch": epoch, "nonce": nonce}
        asked = secrets.token_bytes(8)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[asked] = answer
        try:
            self._send(json.dumps(command).encode(), asked, answer)
            async with asyncio.timeout(self._answer_s):
                reply = await answer
        except TimeoutError:
            raise BusyError(
                f"rig {self._rig} did not answer within {self._answer_s:g} s; whether it was done, its status tells"
            ) from None
        finally:
            del self._answers[asked]
        if reply.get("ok") is True and isinstance(data := reply.get("data"), dict):
            return data
        error = reply.get("error")
        said = error if isinstance(error, dict) else {}
        raise PlanRefusedError(
            f"rig {self._rig}: {said.get('message', 'refused')}", reason=str(said.get("reason", "refused"))
        )

    def _send(self, payload: bytes, asked: bytes, answer: asyncio.Future[dict[str, Any]]) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho annotates no constructor
        properties.ContentType = "application/json"
        properties.ResponseTopic = self._reply_topic
        properties.CorrelationData = asked
        properties.MessageExpiryInterval = EXPIRY_S
        if self._lost is not None:
            raise NoBrokerError(f"broker {self._where}: {self._lost}")
        # Not aiomqtt's: it waits for the acknowledgement, and drops what that says.
        topic = f"tipguard/{self._rig}/cmd/{self._user}"
        info = self._client._client.publish(topic, payload, 1, False, properties)  # noqa: SLF001 - as above
        if info.rc != 0:
            raise NoBrokerError(f"broker {self._where}: the connection broke")
        self._refused[info.mid] = answer

    async def _fresh(self) -> tuple[str, str]:
        """Wait for a status with a nonce that we have not quoted yet; return epoch and nonce."""
        try:
            async with asyncio.timeout(STATUS_S), self._changed:
                while True:
                    if self._lost is not None:
                        raise NoBrokerError(f"broker {self._where}: {self._lost}")
                    if (found := self._quotable()) is not None:
                        return found
                    if self._never:
                        raise BusyError(self._why_nothing())
                    await self._changed.wait()
        except TimeoutError:
            raise BusyError(self._why_nothing()) from None

    def _quotable(self) -> tuple[str, str] | None:
        status = self.status or {}
        worker = status.get("worker")
        command = worker.get("command") if isinstance(worker, dict) else None
        nonce = command.get("nonce") if isinstance(command, dict) else None
        epoch = worker.get("epoch") if isinstance(worker, dict) else None
        if status.get("online") is True and isinstance(nonce, str) and isinstance(epoch, str):
            return None if nonce in self._quoted else (epoch, nonce)
        return None

    @property
    def _never(self) -> bool:
        """The rig says that it is away, or that it takes no commands: waiting would not help."""
        if self.status is None:
            return False
        worker = self.status.get("worker")
        return self.status.get("online") is not True or (isinstance(worker, dict) and worker.get("command") is None)

    def _why_nothing(self) -> str:
        status = self.status
        if status is None:
            return f"nothing is known of a rig {self._rig!r} at {self._where}; is that its rig.id, and may we read it?"
        if status.get("online") is not True:
            return f"rig {self._rig} is offline: {status.get('cause') or 'cause not told'}"
        if not isinstance(worker := status.get("worker"), dict):
            return f"rig {self._rig}: its uplink is there, its controller does not answer"
        if not isinstance(worker.get("command"), dict):
            return f"rig {self._rig} takes no commands from afar: [remote] users in its file names who may"
        return f"rig {self._rig}: no fresh status within {STATUS_S:g} s"

    async def until_worker(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the rig publishes a status of its controller that fulfils ``condition``; return that."""
        async with self._changed:
            while True:
                worker = (self.status or {}).get("worker")
                if isinstance(worker, dict) and condition(worker):
                    return worker
                if self._lost is not None:
                    raise NoBrokerError(f"broker {self._where}: {self._lost}")
                await self._changed.wait()

    async def until_run_ends(self, uid: str) -> dict[str, Any]:
        """Wait for the stop document of a run; return its summary. Raises BusyError when the rig goes offline."""
        seen = 0
        async with self._changed:
            while True:
                for document in self.run_documents[seen:]:
                    if document.get("kind") == "stop" and document.get("uid") == uid:
                        return document
                seen = len(self.run_documents)
                if self._lost is not None:
                    raise NoBrokerError(f"broker {self._where}: {self._lost}; the run goes on")
                if self.status is not None and self.status.get("online") is not True:
                    raise BusyError(f"{self._why_nothing()}; nothing here tells whether the output is off")
                await self._changed.wait()


def _document(payload: object) -> dict[str, Any] | None:
    if not isinstance(payload, bytes | bytearray) or len(payload) > _MAX_DOCUMENT:
        return None
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
