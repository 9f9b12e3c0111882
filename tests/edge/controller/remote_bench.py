"""A virtual rig that takes commands from afar, asked over the same function that serves control.sock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgpack

from edge.config import Config
from edge.control_client import VERSION
from edge.controller.control import ControlServer
from edge.ring import Kind
from hil.rig import config_for
from hil.virtual_bench import MS, VirtualBench, on_bench

SECOND: Final = 1_000_000_000
ALL: Final = ["status", "stop", "run", "rearm"]
SWEEP: Final = {"plan": "iv", "parameters": {"to_v": -0.5, "step_v": 0.01, "dwell_s": 0.02, "back_scan": False}}
"""50 levels and back: about two seconds."""


def remote_config(**remote: Any) -> Config:  # noqa: ANN401 - the section's own
    """Ana may everything, Bob may look, and nobody else anything; ``remote`` overrides."""
    section = {"users": {"ana": ALL, "bob": ["status"]}, "allow_energise": True, **remote}
    return config_for(remote=section)


class Afar:
    """Whoever sends commands to a bench: over the uplink, as the worker sees it."""

    def __init__(self, bench: VirtualBench) -> None:
        self.bench = bench
        worker = bench.rig.worker
        self._server = ControlServer(bench.rig.directory / "control.sock", worker.verbs(), worker.remote.take)

    def close(self) -> None:
        self._server._socket.close()

    def send(self, **message: object) -> dict[str, Any]:
        """Send a message as it is; return the reply map."""
        return self._server.answer(msgpack.packb({"v": VERSION, **message}), "uplink")

    async def nonce(self) -> str:
        """Return the nonce that the rig's status shows, waiting for one."""
        remote = self.bench.rig.worker.remote
        await self.bench.until(lambda: remote.nonces.unspent is not None)
        shown = self.bench.rig.worker.status()["command"]
        assert shown is not None
        return str(shown["nonce"])

    @property
    def epoch(self) -> str:
        return f"{self.bench.rig.worker.recorder.epoch:016x}"

    async def ask(self, verb: str, args: object = None, *, user: object = "ana", **other: object) -> dict[str, Any]:
        """Send a command as a client would: with the rig's epoch and its present nonce, where nothing else is said."""
        message = {"epoch": self.epoch, "nonce": await self.nonce(), **other}
        return self.send(user=user, verb=verb, args={} if args is None else args, **message)

    async def reason(self, verb: str, args: object = None, **other: object) -> str:
        """Ask; return why it was refused, or "granted"."""
        reply = await self.ask(verb, args, **other)
        assert reply["ok"] is (reply["error"] is None)
        return "granted" if reply["ok"] else str(reply["error"]["reason"])

    async def pause(self, t_ns: int) -> None:
        await self.bench.clock.sleep_until(self.bench.clock.now_ns() + t_ns)

    async def live(self) -> None:
        """Start a sweep from afar and wait until there is bias on the tip."""
        assert await self.reason("run", SWEEP) == "granted"
        await self.bench.until_live()

    def commands(self) -> list[dict[str, Any]]:
        """Return the events of commands among the records not read yet."""
        return [event for event in self.bench.events() if event["kind"] == "command"]

    def records(self, kind: Kind) -> list[dict[str, Any]]:
        return [msgpack.unpackb(r.payload) for r in self.bench.rig.records() if r.kind == kind]


def from_afar(directory: Path, work: Callable[[Afar], Awaitable[None]], **options: Any) -> None:  # noqa: ANN401 - the bench's
    """Run ``work`` on a virtual rig with commands from afar."""

    async def on(bench: VirtualBench) -> None:
        afar = Afar(bench)
        try:
            await work(afar)
        finally:
            afar.close()

    options.setdefault("config", remote_config())
    on_bench(directory, on, **options)


__all__ = ["ALL", "MS", "SECOND", "SWEEP", "Afar", "from_afar", "remote_config"]
