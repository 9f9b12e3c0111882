"""A rig that sends numbered frames until a store's watermark covers them, and a store as a process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import aiomqtt

from edge.watermark import Watermark, decode
from tests.edge.store.made import EPOCH, payload_of

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 40.0


class Rig:
    """Publishes, and hears what the store says."""

    def __init__(self, port: int, rig: str = "rig-1", store: str = "lab") -> None:
        self.rig = rig
        self.heard: Watermark | None = None
        self.documents = 0
        self._topic = f"tipguard/{rig}/samples"
        self._watermark = f"tipguard/{rig}/watermark/{store}"
        self._client = aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5, timeout=10)
        self._client.pending_calls_threshold = 1_000_000
        self._changed = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        await self._client.subscribe(self._watermark, 1)
        self._listening = asyncio.ensure_future(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._listening is not None
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        await self._client.__aexit__(None, None, None)

    async def _listen(self) -> None:
        async for message in self._client.messages:
            self.heard = decode(message.payload)
            self.documents += 1
            self._changed.set()

    def covers(self, seq: int) -> bool:
        marks = () if self.heard is None else self.heard.marks
        return any(mark.covers(seq) for mark in marks if (mark.epoch, mark.stream) == (EPOCH, "samples"))

    async def send(self, seqs: range | list[int]) -> None:
        for seq in seqs:
            await self._client.publish(self._topic, payload_of(self.rig, "samples", seq), 1)

    async def send_raw(self, payload: bytes, topic: str | None = None) -> None:
        await self._client.publish(topic or self._topic, payload, 1)

    async def hears(self, condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(patience_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_covered(self, seqs: range) -> None:
        """Send what is not covered, again and again, as an uplink does."""
        async with asyncio.timeout(PATIENCE_S):
            while missing := [seq for seq in seqs if not self.covers(seq)]:
                await self.send(missing)
                try:
                    await self.hears(lambda: all(self.covers(seq) for seq in seqs), 2.0)
                except TimeoutError:
                    continue


def store_process(folder: Path, port: int, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "edge.cli.main", "store", "--to", str(folder), "--name", "lab"]
    command += ["--port", str(port), "--compact-every-s", "1", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
