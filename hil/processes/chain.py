"""The way of the data as processes to be killed: feeder or rig, uplink, broker, stores, database, in one folder.

Each part is named and started by a command that is asked for again at every life. A kill is SIGKILL. What the stores
say they have is followed from outside, by their watermark, to know when to look; whether it is true is judged by
:mod:`hil.balance` on what they hold.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.watermark import Mark, Watermark, WatermarkError, decode
from hil.broker import Broker
from hil.errors import BenchFaultError
from hil.processes.child import Child, Children
from hil.processes.waiting import Interruption

BROKER: Final = "broker"
STOP_S: Final = 10.0
RECONNECT_S: Final = 0.05

Command = Callable[[int], Sequence[str]]
"""Given the number of this life, from 0, the command line."""


class Outside(Protocol):
    """A part that is no plain child: it is started, killed and ended by methods of its own."""

    def start(self) -> None:
        """Start it; it is up on return."""

    def kill(self) -> None:
        """SIGKILL."""

    def close(self) -> None:
        """End it for good."""


class Marks:
    """Follows what stores and the uplink say of one rig, over broken connections."""

    def __init__(self, port: int, rig: str) -> None:
        """Connect when entered; ``port``: of the broker on this host."""
        self._port = port
        self._base = f"tipguard/{rig}"
        self._changed = threading.Condition()
        self._documents: dict[str, dict[tuple[int, str], Mark]] = {}
        self.latest: dict[str, Watermark] = {}
        """By store."""
        self.status: dict[str, Any] = {}
        """The uplink's last status document."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="marks", daemon=True)

    def _run(self) -> None:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        topics = [(f"{self._base}/watermark/+", 1), (f"{self._base}/status", 1)]
        client.on_connect = lambda client, *_rest: client.subscribe(topics)
        client.on_message = lambda _client, _data, message: self._take(message.topic, bytes(message.payload))
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                client.connect("127.0.0.1", self._port)
                while client.loop(RECONNECT_S) == mqtt.MQTT_ERR_SUCCESS and not self._stop.is_set():
                    pass
            self._stop.wait(RECONNECT_S)
        client.disconnect()

    def _take(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/status"):
            with self._changed:
                self.status = json.loads(payload)
                self._changed.notify_all()
            return
        # A forged one is part of some proofs; it is the uplink that must not believe it.
        with contextlib.suppress(WatermarkError):
            document = decode(payload)
            with self._changed:
                self.latest[document.store] = document
                marks = self._documents.setdefault(document.store, {})
                marks.update({(mark.epoch, mark.stream): mark for mark in document.marks})
                self._changed.notify_all()

    def forget(self) -> None:
        """Forget what stores have said: one of them is not what it was."""
        with self._changed:
            self._documents.clear()
            self.latest.clear()

    def missing(self, store: str, wanted: Iterable[tuple[int, str, int]]) -> set[tuple[int, str, int]]:
        """Return which of ``wanted`` (epoch, stream, seq) the store has not said it has."""
        with self._changed:
            marks = self._documents.get(store, {})
            return {
                (epoch, stream, seq)
                for epoch, stream, seq in wanted
                if (mark := marks.get((epoch, stream))) is None or not mark.covers(seq)
            }

    def wait_moved(self, store: str, more: int, timeout_s: float) -> None:
        """Wait until the store has said that it has ``more`` frames than now; BenchFaultError after ``timeout_s``."""

        def count() -> int:
            marks = self._documents.get(store, {}).values()
            return sum(last - first + 1 for mark in marks for first, last in mark.covered())

        with self._changed:
            wanted = count() + more
            if not self._changed.wait_for(lambda: count() >= wanted, timeout_s):
                raise BenchFaultError(f"store {store} has not taken {more} frames in {timeout_s:g} s")

    def wait(self, store: str, wanted: Iterable[tuple[int, str, int]], timeout_s: float) -> None:
        """Wait until the store has said that it has all of ``wanted``; BenchFaultError after ``timeout_s``."""
        left = set(wanted)

        def over() -> bool:
            left.intersection_update(self.missing(store, left))
            return not left

        with self._changed:
            if not self._changed.wait_for(over, timeout_s):
                some = ", ".join(f"{stream} {seq} of {epoch:016x}" for epoch, stream, seq in sorted(left)[:3])
                raise BenchFaultError(
                    f"store {store} has not said after {timeout_s:g} s that it has {len(left)} frames: {some}"
                )

    def forget_status(self) -> None:
        """Wait for a status document that is made from now on."""
        with self._changed:
            self.status = {}

    def wait_status(self, what: str, look: Callable[[dict[str, Any]], object], timeout_s: float) -> dict[str, Any]:
        """Wait until ``look`` likes the uplink's status document and return it; BenchFaultError after ``timeout_s``."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.status and look(self.status), timeout_s):
                raise BenchFaultError(f"waited {timeout_s:g} s for a status with {what}; the last: {self.status}")
            return self.status

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """End."""
        self._stop.set()
        self._thread.join()


class Chain:
    """The parts of one proof. :meth:`close` ends whatever still runs."""

    def __init__(
        self,
        directory: Path,
        broker: Broker,
        commands: Mapping[str, Command],
        *,
        environment: Mapping[str, str],
    ) -> None:
        """Start nothing."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.broker = broker
        self._commands = dict(commands)
        self._others: dict[str, Outside] = {BROKER: broker}
        self._lent: set[str] = set()
        self._children = Children(directory, environment, Interruption())
        self._lives: dict[str, int] = {}
        self.kills: dict[str, int] = {}
        """How often each part was killed."""

    @property
    def names(self) -> list[str]:
        """Every part, in the order in which they are started."""
        return [*self._others, *self._commands]

    def start(self, *names: str) -> None:
        """Start parts, the first time or again; all of them when none is named."""
        for name in names or self.names:
            if name in self._others:
                self._others[name].start()
                continue
            life = self._lives.get(name, 0)
            self._lives[name] = life + 1
            self._children.start(name, list(self._commands[name](life)))

    def kill(self, *names: str) -> None:
        """SIGKILL parts, one right after the other."""
        for name in names:
            self.kills[name] = self.kills.get(name, 0) + 1
            if name in self._others:
                self._others[name].kill()
            else:
                self.child(name).kill()

    def stop(self, *names: str) -> None:
        """End children politely."""
        for name in names:
            self.child(name).stop(STOP_S)

    def replace(self, name: str, command: Command) -> None:
        """Use another command for a part from its next life on."""
        self._commands[name] = command

    def lend(self, name: str, other: Outside) -> None:
        """Have a part that is the caller's, who ends it; it is started and killed with the others."""
        self._others[name] = other
        self._lent.add(name)

    def child(self, name: str) -> Child:
        """Return a part that is a child."""
        return self._children[name]

    def check(self) -> None:
        """Raise ChildDiedError for a part that ended by itself."""
        for name in self._commands:
            child = self._children.get(name)
            # Asked once: one that is still at work may have ended in good order by the second look.
            code = None if child is None else child.code
            if child is not None and code is not None and code != 0:
                child.check()

    def wait(self, what: str, look: Callable[[], Any], timeout_s: float) -> Any:  # noqa: ANN401 - what look returns
        """Wait for ``look`` to return something, while every part lives."""

        def watched() -> Any:  # noqa: ANN401
            self.check()
            return look()

        return self._children.wait(what, watched, timeout_s)

    def close(self) -> None:
        """End everything, the children first; what was lent is given back running."""
        for name in self._commands:
            child = self._children.get(name)
            if child is not None:
                child.stop(STOP_S)
        for name, other in reversed(self._others.items()):
            if name in self._lent:
                other.start()
            else:
                other.close()

    def __enter__(self) -> Self:
        """Nothing starts by itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """End everything."""
        self.close()
