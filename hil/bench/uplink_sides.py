"""Both sides of ``tipguard bench uplink``, each measured by the same subscriber behind the same broker."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sqlite3
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import paho.mqtt.client as paho
from paho.mqtt.publish import single

from edge.ring import RingReader
from hil.bench.uplink_feeder import SAMPLES, ready_payloads
from hil.bench.uplink_programs import Program
from hil.bench.uplink_script import SCHEMA
from hil.broker import Broker
from hil.processes import RigSpec, wait_for
from hil.processes.spec import PYTHON, TIPGUARD, config_of

RIG: Final = "bench"
STORE: Final = "lab"
EPOCH: Final = 0xBE7C_4000_0000_0001
LIVE_EPOCH: Final = EPOCH + 1
RECORD_BYTES: Final = 88
RING_BYTES: Final = 16 << 20
"""A worker's ring, as shipped."""
CALM: Final = 0.2
"""Of a ring's room. From a quarter on the uplink hurries to empty it, and reads from the disk again what it sends."""
FINISH_S: Final = 600.0
CONNECT_S: Final = 30.0
BUDGET_BYTES: Final = 16 << 20
"""Without a store frames are deleted at the budget only; one so small makes the uplink delete as much as the script."""


class Arrived(NamedTuple):
    """What a subscriber counted in one round."""

    rate_hz: float
    """Frames a second, from the first to the last."""
    lost: int
    doubled: int
    out_of_order: int
    event_s: tuple[float, ...]
    """From an event's own time to its arrival on a connection of events alone; () where none was asked for."""
    event_behind_s: tuple[float, ...]
    """The same on the connection that takes every frame."""


@dataclasses.dataclass(slots=True)
class Rounds:
    """What arrived, side by side; rounds of one number belong together."""

    script: list[Arrived]
    frames: list[Arrived]
    stored: list[Arrived]
    script_drain: list[Arrived]
    drain: list[Arrived]

    @property
    def ours(self) -> list[Arrived]:
        """Every round of the uplink."""
        return [*self.frames, *self.stored, *self.drain]

    @property
    def theirs(self) -> list[Arrived]:
        """Every round of the script."""
        return [*self.script, *self.script_drain]


def arrived(said: dict[str, Any], frames: int, events: dict[str, Any] | None = None) -> Arrived:
    """Judge what a subscriber said, and one of ``events`` alone."""
    took_s = (said["last_ns"] - said["first_ns"]) / 1e9
    counted = said["unique"] - said["at_first"]
    return Arrived(
        counted / took_s if took_s > 0 else 0.0,
        frames - said["unique"],
        said["doubled"],
        said["out_of_order"],
        () if events is None else tuple(events["event_s"]),
        tuple(said["event_s"]),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Ground:
    """Where both sides stand: ``disk`` holds the outboxes, ``memory`` (tmpfs) the rings."""

    disk: Path
    memory: Path
    broker: Broker

    @classmethod
    @contextlib.contextmanager
    def prepared(cls) -> Iterator[Self]:
        """Give a broker, a folder on the disk and one in memory, where there is one; all gone afterwards."""
        tmpfs = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - the directory below is private
        # Where the system keeps what must last, not where it may keep temporary files: those may be in memory.
        disk = Path(tempfile.mkdtemp(prefix="tipguard-bench-", dir="/var/tmp"))
        memory = Path(tempfile.mkdtemp(prefix="tipguard-bench-", dir=tmpfs))
        try:
            with Broker(prefer="mosquitto") as broker:
                yield cls(disk, memory, broker)
        finally:
            for folder in (disk, memory):
                shutil.rmtree(folder, ignore_errors=True)

    def subscriber(self, frames: int, epoch: int = EPOCH, *, store: str | None = None, events: bool = False) -> Program:
        """Start the subscriber, of ``events`` alone or of what shows ``frames``; it listens on return."""
        words = ["--port", str(self.broker.port), "--rig", RIG, "--epoch", str(epoch), "--frames", str(frames)]
        if store is not None:
            words += ["--store", store]
        if events:
            words.append("--events")
        program = Program("subscriber", [*PYTHON, "-m", "hil.bench.uplink_subscriber", *words])
        program.says()
        return program

    def feeder(self, ring: Path, ring_bytes: int, *words: str, go: bool = True) -> Program:
        """Start a feeder; it is ready on return, and begins with ``go``."""
        given = ["--ring", str(ring), "--ring-bytes", str(ring_bytes), "--rig", RIG, *words]
        program = Program("feeder", [*PYTHON, "-m", "hil.bench.uplink_feeder", *given])
        program.says()
        if go:
            program.go()
        return program


# --------------------------------------------------------------------------------------------------- the script


def write_payloads(path: Path, frames: int) -> None:
    """Write the frames that the script starts from."""
    with path.open("wb") as file:
        for payload in ready_payloads(RIG, EPOCH, frames):
            file.write(struct.pack("<I", len(payload)) + payload)


def write_backlog(path: Path, frames: int) -> None:
    """Write the outbox of a script that has not had a broker for ``frames`` frames."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(SCHEMA)
        db.executemany(
            "INSERT INTO outbox (payload) VALUES (?)", ((payload,) for payload in ready_payloads(RIG, EPOCH, frames))
        )
        db.commit()


def script_round(ground: Ground, frames: int, *, payloads: Path | None = None, outbox: Path | None = None) -> Arrived:
    """Let the script send ``payloads``, or drain a copy of ``outbox``."""
    folder = ground.disk / "script"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if outbox is not None:
        shutil.copyfile(outbox, folder / "outbox")
    words = ["--port", str(ground.broker.port), "--topic", f"tipguard/{RIG}/samples"]
    words += ["--outbox", str(folder / "outbox")]
    if payloads is not None:
        words += ["--payloads", str(payloads)]
    program = Path(__file__).with_name("uplink_script.py")
    with (
        ground.subscriber(frames) as subscriber,
        Program("script", [sys.executable, "-P", str(program), *words]) as script,
    ):
        script.says()
        script.go()
        said = subscriber.says(FINISH_S)
        script.says()
    return arrived(said, frames)


# ----------------------------------------------------------------------------------------------------- the uplink


@dataclasses.dataclass(slots=True)
class Rig:
    """What an uplink works on: its configuration, run directory and outbox, in folders of their own."""

    ground: Ground
    name: str
    stores: tuple[str, ...] = ()
    budget_bytes: int = BUDGET_BYTES
    ring_bytes: int = RING_BYTES

    @property
    def ring(self) -> Path:
        """Where the uplink looks for the ring."""
        return self.ground.memory / self.name / RIG / "ring"

    @property
    def outbox(self) -> Path:
        """The folder of the outbox."""
        return self.ground.disk / self.name / "outbox"

    def clear(self) -> None:
        """Begin with neither ring nor outbox."""
        for folder in (self.ground.disk / self.name, self.ring.parent):
            shutil.rmtree(folder, ignore_errors=True)
        self.outbox.mkdir(parents=True)
        self.ring.parent.mkdir(parents=True)

    def _configuration(self, broker: Broker) -> Path:
        stores = json.dumps(list(self.stores))
        tables = (
            f"\n[outbox]\ndirectory = {json.dumps(str(self.outbox))}\nstores = {stores}\n"
            f"budget_bytes = {self.budget_bytes}\nkeep_after_watermark_s = 0\n\n[recorder]\nenabled = false\n"
        )
        spec = RigSpec(rig=RIG, config_text=lambda text: text + tables)
        path = self.ground.disk / self.name / "rig.toml"
        path.write_text(config_of(spec, self.ring.with_name("smu"), broker), encoding="utf-8")
        return path

    @contextlib.contextmanager
    def uplink(self, *, connected: bool = True) -> Iterator[Program]:
        """Run ``tipguard uplink`` as shipped, but for the flight record; connected on entry, or never."""
        environment = {**os.environ, "RUNTIME_DIRECTORY": str(self.ring.parent.parent)}
        log = self.ground.disk / self.name / "uplink.log"
        # One that is never started is a broker that is away.
        broker = self.ground.broker if connected else Broker(prefer="mosquitto")
        words = [*TIPGUARD, "uplink", str(self._configuration(broker))]
        with Program("uplink", words, environment, log=log) as program:
            if connected:
                wait_for("the uplink to connect", lambda: _connected(log, program), CONNECT_S)
            yield program


def _connected(log: Path, program: Program) -> bool:
    program.check()
    return b"connected to broker" in log.read_bytes()


def fill_ring(ground: Ground, frames: int) -> Path:
    """Let a feeder write ``frames`` frames into a ring that is a fifth full of them; return where it is."""
    path = ground.memory / f"full-{frames}"
    size = int(frames * (SAMPLES * RECORD_BYTES + 32) / CALM) + (1 << 16)
    with ground.feeder(path, size, "--epoch", str(EPOCH), "--frames", str(frames)) as feeder:
        feeder.says(FINISH_S)
    return path


def uplink_round(ground: Ground, frames: int, ring: Path, *, stored: bool = False) -> Arrived:
    """Let an uplink send what is in a copy of ``ring``, which appears when it is connected.

    ``stored``: up to the watermark of a directory store beside it.
    """
    rig = Rig(ground, "uplink", *(((STORE,), 1 << 32) if stored else ()))
    rig.clear()
    waiting = rig.ring.with_name("ring.full")
    shutil.copyfile(ring, waiting)
    with contextlib.ExitStack() as stack:
        if stored:
            stack.enter_context(store(ground))
        subscriber = stack.enter_context(ground.subscriber(frames, store=STORE if stored else None))
        stack.enter_context(rig.uplink())
        waiting.rename(rig.ring)
        said = subscriber.says(FINISH_S)
    return arrived(said, frames)


def _forget_store(ground: Ground) -> None:
    """Have the broker forget the store: what it retains of it, and the session in which it keeps frames for it."""
    client_id, topic = f"tipguard-store-{STORE}", f"tipguard/{RIG}/watermark/{STORE}"
    broker = ground.broker
    # A clean start as this client, without an expiry, ends the session that was there.
    single(
        topic, b"", 1, retain=True, hostname=broker.host, port=broker.port, client_id=client_id, protocol=paho.MQTTv5
    )


@contextlib.contextmanager
def store(ground: Ground) -> Iterator[Program]:
    """Run ``tipguard store`` into a new directory; nothing of it is left afterwards, in the broker either."""
    folder = ground.disk / "store"
    shutil.rmtree(folder, ignore_errors=True)
    port = str(ground.broker.port)
    words = [*TIPGUARD, "store", "--to", str(folder), "--name", STORE, "--host", ground.broker.host, "--port", port]
    log = ground.disk / "store.log"
    log.unlink(missing_ok=True)
    try:
        with Program("store", words, log=log) as program:
            wait_for("the store to connect", lambda: _connected(log, program), CONNECT_S)
            yield program
    finally:
        _forget_store(ground)


# ---------------------------------------------------------------------------------------------------- the backlog


def build_backlog(ground: Ground, frames: int, progress: Callable[[], None]) -> Rig:
    """Let an uplink without a broker take ``frames`` frames into its outbox; return the rig, at rest."""
    rig = Rig(ground, "backlog", budget_bytes=1 << 40)
    rig.clear()
    with (
        ground.feeder(rig.ring, rig.ring_bytes, "--epoch", str(EPOCH), "--frames", str(frames)) as feeder,
        rig.uplink(connected=False) as uplink,
    ):
        feeder.says(FINISH_S)

        def taken() -> bool:
            uplink.check()
            progress()
            # What a reader knows of the tail is its own; only a new one sees what the uplink has released.
            with contextlib.closing(RingReader(rig.ring)) as reader:
                return reader.used_fraction == 0.0

        wait_for("the uplink to take the backlog", taken, FINISH_S, step_s=0.05)
    return rig


def drain_round(ground: Ground, frames: int, backlog: Rig, events_hz: float) -> Arrived:
    """Let an uplink drain a copy of ``backlog`` while a rig measures at its normal rate."""
    rig = Rig(ground, "drain", budget_bytes=backlog.budget_bytes)
    rig.clear()
    shutil.copytree(backlog.outbox, rig.outbox, dirs_exist_ok=True)
    shutil.copyfile(backlog.ring, rig.ring)
    words = ("--epoch", str(LIVE_EPOCH), "--rate", "100", "--events-hz", str(events_hz))
    with (
        ground.subscriber(frames) as subscriber,
        ground.subscriber(frames, events=True) as watcher,
        ground.feeder(rig.ring, rig.ring_bytes, *words, go=False) as feeder,
        rig.uplink(),
    ):
        feeder.go()
        said = subscriber.says(FINISH_S)
        watcher.terminate()
        seen = watcher.says()
    return arrived(said, frames, seen)
