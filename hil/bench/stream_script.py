"""The usual script that ``tipguard bench stream`` compares with: readline, JSON, one publish per sample.

What is written first when a device prints JSON lines and a broker stands ready: pyserial's ``readline``,
``json.loads``, paho-mqtt with ``loop_start`` and a publish for each line, at QoS 0, paho's default. Nothing of tipguard
is used::

    python stream_script.py PORT --port 1883 --topic lab/current [--qos 0|1] [--buffered]

``--qos 1``: by somebody who wants every sample acknowledged. ``--buffered``: by somebody who knows that pyserial's
``readline`` makes two system calls for every byte, and takes what is there instead. One JSON line when it is ready; it
runs until SIGTERM.

What its author does not do: keep anything on a disk before it is sent, notice a missing sample, tell a store's word
from a broker's, watch a threshold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as mqtt
import serial
from paho.mqtt.enums import CallbackAPIVersion


def lines(device: serial.Serial, *, buffered: bool) -> Iterator[bytes]:
    """Yield what the device prints, line by line, for ever."""
    if not buffered:
        while True:
            yield device.readline()
    rest = b""
    while True:
        rest += device.read(device.in_waiting or 1)
        *whole, rest = rest.split(b"\n")
        yield from whole


def forward(device: serial.Serial, client: mqtt.Client, topic: str, qos: int, *, buffered: bool) -> None:
    """Publish every sample."""
    for line in lines(device, buffered=buffered):
        try:
            sample: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        client.publish(topic, json.dumps(sample), qos=qos)


def main() -> None:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--qos", type=int, choices=(0, 1), default=0)
    parser.add_argument("--buffered", action="store_true")
    words = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect(words.host, words.port)
    client.loop_start()
    with contextlib.suppress(KeyboardInterrupt), serial.Serial(words.device, 115200) as device:
        print(json.dumps({"ready": True}), flush=True)
        forward(device, client, words.topic, words.qos, buffered=words.buffered)


if __name__ == "__main__":
    main()
