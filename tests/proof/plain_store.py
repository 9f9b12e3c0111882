"""A store of a hundred lines that shares nothing with :mod:`edge.store`: plain paho, one file, one watermark document.

The proofs begin with it, so that a loss between ring and broker is told from one in a store of ours; and it can do what
no store should: forget, lie, dawdle, store twice. ``python -m tests.proof.plain_store --directory D --port P``.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgpack
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.watermark import Mark, Watermark, encode, topic
from hil.balance import Held

FILE: Final = "frames.msgpack"
RECONNECT_S: Final = 0.1
COMMIT_S: Final = 0.02
SESSION_S: Final = 3600


def held_in(directory: Path) -> Iterator[Held]:
    """Yield what a store has committed, in the order in which it was; the half of a last record is not there."""
    path = directory / FILE
    if not path.exists():
        return
    with path.open("rb") as file:
        for rig, epoch, stream, seq, payload in msgpack.Unpacker(file):
            yield Held(rig, int(epoch, 16), stream, seq, payload)


def mend(path: Path) -> None:
    """Cut off the half of a record that a kill left."""
    whole = 0
    with path.open("ab+") as file:
        file.seek(0)
        unpacker = msgpack.Unpacker(file)
        for _ in unpacker:
            whole = unpacker.tell()
        file.truncate(whole)


class PlainStore:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        args.directory.mkdir(parents=True, exist_ok=True)
        path = args.directory / FILE
        mend(path)
        self.have: dict[tuple[str, int, str], set[int]] = defaultdict(set)
        for one in held_in(args.directory):
            self.have[one.rig, one.epoch, one.stream].add(one.seq)
        self.fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        generation = args.directory / "generation"
        if not generation.exists():
            generation.write_text(os.urandom(8).hex(), encoding="ascii")
        self.generation = generation.read_text(encoding="ascii")
        self.batch: list[mqtt.MQTTMessage] = []
        self.seen = 0
        self.client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"tipguard-store-{args.name}",
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        client.on_connect = self.on_connect
        client.on_message = lambda _client, _data, message: self.batch.append(message)

    def on_connect(self, client: mqtt.Client, *_rest: object) -> None:
        # What was taken over the connection before comes again.
        self.batch.clear()
        client.subscribe([(f"tipguard/+/{name}", 1) for name in ("samples", "events", "runs")])
        for rig in {key[0] for key in self.have}:
            self.publish(rig)

    def connect(self) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_S
        self.client.connect("127.0.0.1", self.args.port, clean_start=False, properties=properties)

    def run(self, ending: int) -> None:
        up = False
        while not select.select([ending], [], [], 0 if up else RECONNECT_S)[0]:
            try:
                if not up:
                    self.connect()
                up = self.client.loop(COMMIT_S) == mqtt.MQTT_ERR_SUCCESS
            except OSError:
                up = False
            if self.batch:
                self.commit()

    def commit(self) -> None:
        batch, self.batch = self.batch, []
        if self.args.slow_s:
            select.select([], [], [], self.args.slow_s)
        rigs = set()
        out = []
        for message in batch:
            fields = msgpack.unpackb(message.payload)
            key = fields["rig"], int(fields["epoch"], 16), fields["stream"]
            rigs.add(key[0])
            self.seen += 1
            if self.args.forget_every and self.seen % self.args.forget_every == 0:
                continue
            if fields["seq"] in self.have[key] and not self.args.twice:
                continue
            self.have[key].add(fields["seq"])
            out.append(msgpack.packb((key[0], fields["epoch"], key[2], fields["seq"], message.payload)))
        if self.args.lie:
            # The removal: it says what it has before it has it, and a kill in between makes a liar of it.
            for rig in rigs:
                self.publish(rig)
            self.client.loop(COMMIT_S)
            select.select([], [], [], self.args.lie)
        os.write(self.fd, b"".join(out))
        os.fdatasync(self.fd)
        for message in batch:
            self.client.ack(message.mid, message.qos)
        for rig in rigs:
            self.publish(rig)

    def publish(self, rig: str) -> None:
        keys = [key for key in self.have if key[0] == rig and self.have[key]]
        document = Watermark(self.args.name, self.generation, rig, tuple(self.mark(key) for key in keys[-256:]))
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = "application/json"
        payload = encode(document, datetime.now(UTC).isoformat(timespec="milliseconds"))
        self.client.publish(topic(rig, self.args.name), payload, qos=1, retain=True, properties=properties)

    def mark(self, key: tuple[str, int, str]) -> Mark:
        there = self.have[key]
        contiguous = next(n for n in range(len(there) + 1) if n not in there)
        holes: list[tuple[int, int]] = []
        top = max(there)
        at = contiguous
        while at < top:
            first = at
            while at not in there:
                at += 1
            if len(holes) == 64:
                top = first - 1
                break
            holes.append((first, at - 1))
            while at in there and at < top:
                at += 1
        return Mark(key[1], key[2], contiguous, top, tuple(holes))


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", default="lab")
    parser.add_argument("--slow-s", type=float, default=0.0, help="each commit takes so much longer")
    parser.add_argument("--forget-every", type=int, default=0, help="acknowledge every so many-th and do not keep it")
    parser.add_argument("--lie", type=float, default=0.0, help="say the watermark so many s before the commit")
    parser.add_argument("--twice", action="store_true", help="keep what comes again")
    args: Any = parser.parse_args(words)
    ending, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    PlainStore(args).run(ending)
    return 0


if __name__ == "__main__":
    sys.exit(main())
