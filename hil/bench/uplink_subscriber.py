"""Counts what arrives, for ``tipguard bench uplink``: the same program whoever publishes.

    python -m hil.bench.uplink_subscriber --port 1883 --rig rig-1 --epoch 1 --frames 1000 [--store lab | --events]

Subscribes to a rig's frames at QoS 1 and counts those of one epoch's samples, each identity once; with ``--store``
it reads of the frames only the first, and that store's watermark until it covers them; with ``--events`` nothing but
events. Prints a JSON line when it listens, and at the end (everything is there, or SIGTERM) another with what it saw;
times are CLOCK_MONOTONIC in ns.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from typing import Any, Final

import msgpack
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge.frames import hex16
from edge.watermark import decode

HOST: Final = "127.0.0.1"
LOOK_S: Final = 0.5


class Count:
    """What has arrived."""

    def __init__(self, epoch: int, frames: int) -> None:
        """``frames``: of the samples of ``epoch``, numbered from 0, make everything."""
        self._epoch = hex16(epoch)
        self._number = epoch
        self._frames = frames
        self._seen = bytearray(frames)
        self.unique = 0
        self.doubled = 0
        self.others = 0
        self.at_first = 0
        """How many came with the first."""
        self.first_ns = 0
        self.last_ns = 0
        self.out_of_order = 0
        self._highest = -1
        self.event_s: list[float] = []

    @property
    def complete(self) -> bool:
        """Everything is there."""
        return self.unique == self._frames

    def frame(self, payload: bytes) -> None:
        """Count a frame."""
        now_ns = time.monotonic_ns()
        frame = msgpack.unpackb(payload)
        if frame["kind"] == "event":
            # Made on this host, so by the same clock.
            self.event_s.append((now_ns - frame["t0_ns"]) / 1e9)
        elif frame["epoch"] == self._epoch and frame["stream"] == "samples" and frame["seq"] < self._frames:
            self._count(frame["seq"], now_ns)
        else:
            self.others += 1

    def _count(self, seq: int, now_ns: int) -> None:
        if self._seen[seq]:
            self.doubled += 1
            return
        self._seen[seq] = 1
        self.unique += 1
        self._begin(now_ns, 1)
        self.last_ns = now_ns
        self.out_of_order += seq < self._highest
        self._highest = max(self._highest, seq)

    def _begin(self, now_ns: int, count: int) -> None:
        if not self.first_ns:
            self.first_ns, self.at_first = now_ns, count

    def begun(self, _payload: bytes) -> bool:
        """Note that frames have begun to arrive; True: no more of them are needed."""
        self._begin(time.monotonic_ns(), 1)
        return True

    def watermark(self, payload: bytes) -> None:
        """Take how far a store has come."""
        now_ns = time.monotonic_ns()
        for mark in decode(payload).marks:
            if (mark.epoch, mark.stream) == (self._number, "samples") and mark.contiguous > self.unique:
                self._begin(now_ns, min(mark.contiguous, self._frames))
                self.unique, self.last_ns = min(mark.contiguous, self._frames), now_ns

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain types."""
        names = ("unique", "doubled", "others", "out_of_order", "at_first", "first_ns", "last_ns", "event_s")
        return {name: getattr(self, name) for name in names}


def listen(port: int, topics: list[str], take: dict[str, Any], count: Count) -> None:
    """Take messages until everything is there, or SIGTERM."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)

    def connected(client: paho.Client, *_given: object) -> None:
        client.subscribe([(topic, 1) for topic in topics])

    def subscribed(*_given: object) -> None:
        print(json.dumps({"ready": True}), flush=True)

    def message(client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if take[message.topic.rsplit("/", 1)[1]](message.payload):
            client.unsubscribe(message.topic)

    client.on_connect = connected
    client.on_subscribe = subscribed
    client.on_message = message
    client.connect(HOST, port, clean_start=True)
    over: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: over.append(number))
    while not over and not count.complete and client.loop(LOOK_S) == paho.MQTT_ERR_SUCCESS:
        pass
    client.disconnect()


def main() -> int:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rig", required=True)
    parser.add_argument("--epoch", type=int, required=True)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--store")
    parser.add_argument("--events", action="store_true")
    words = parser.parse_args()
    count = Count(words.epoch, words.frames)
    below = f"tipguard/{words.rig}"
    if words.store is None:
        names = ["events"] if words.events else ["samples", "events"]
        listen(words.port, [f"{below}/{name}" for name in names], dict.fromkeys(names, count.frame), count)
    else:
        topics = [f"{below}/watermark/{words.store}", f"{below}/samples"]
        listen(words.port, topics, {words.store: count.watermark, "samples": count.begun}, count)
    print(json.dumps(count.to_json()), flush=True)
    return 0 if count.complete else 1


if __name__ == "__main__":
    sys.exit(main())
