"""Counts the samples of the usual script, for ``tipguard bench stream``: a subscriber that takes next to no processor.

    python -m hil.bench.stream_counter --port 1883 --topic lab/current

Subscribes at QoS 0 over a bare socket (MQTT 3.1.1) and looks for the samples' numbers in what comes, no more: a client
library would take a third of a core from the script at 10 000 messages a second. Says a JSON line when it is
subscribed, and one with what it has seen so far at every byte on stdin; times are CLOCK_MONOTONIC in ns.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import socket
import sys
import time
from typing import Any, Final

HOST: Final = "127.0.0.1"
CONNECT_S: Final = 10.0
RECEIVE_BYTES: Final = 1 << 18
KEEP_BYTES: Final = 64
"""Longest beginning of a number that may be left for the next piece."""
_NUMBER: Final = re.compile(rb'"i": ?(\d+),')
_CONNECT: Final = 0x10
_CONNACK: Final = b"\x20\x02\x00\x00"
_SUBSCRIBE: Final = 0x82
_SUBACK: Final = b"\x90\x03\x00\x01\x00"


class Seen:
    """Which numbers have come, each once."""

    def __init__(self) -> None:
        """None yet."""
        self._rest = b""
        self._seen = bytearray()
        self.unique = 0
        self.doubled = 0

    @property
    def lost(self) -> int:
        """Numbers below the highest that have not come."""
        return len(self._seen) - self.unique

    def feed(self, data: bytes) -> None:
        """Look for numbers in the next piece; one that is cut in two is found with the piece after."""
        data = self._rest + data
        end = 0
        for found in _NUMBER.finditer(data):
            end = found.end()
            number = int(found[1])
            if number >= len(self._seen):
                self._seen.extend(bytes(number + 1 - len(self._seen)))
            if self._seen[number]:
                self.doubled += 1
            else:
                self._seen[number] = 1
                self.unique += 1
        self._rest = data[max(end, len(data) - KEEP_BYTES) :]

    def to_json(self) -> dict[str, Any]:
        """Return what has been seen until now."""
        return {"t_ns": time.monotonic_ns(), "unique": self.unique, "doubled": self.doubled, "lost": self.lost}


def _text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def _packet(kind: int, body: bytes) -> bytes:
    # One byte of length: ours are short.
    return bytes((kind, len(body))) + body


def subscribe(port: int, topic: str) -> socket.socket:
    """Return a socket on which the messages of ``topic`` come. Raises ConnectionError where the broker refuses."""
    line = socket.create_connection((HOST, port), CONNECT_S)
    # Clean session, no keep-alive: the broker never asks after us.
    line.sendall(_packet(_CONNECT, _text("MQTT") + b"\x04\x02\x00\x00" + _text("stream-counter")))
    line.sendall(_packet(_SUBSCRIBE, b"\x00\x01" + _text(topic) + b"\x00"))
    answer = b""
    expected = _CONNACK + _SUBACK
    while len(answer) < len(expected):
        more = line.recv(len(expected) - len(answer))
        if not more:
            break
        answer += more
    if answer != expected:
        line.close()
        raise ConnectionError(f"broker on port {port} answers {answer.hex()} to a subscription")
    return line


def main() -> int:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topic", required=True)
    words = parser.parse_args()
    seen = Seen()
    with subscribe(words.port, words.topic) as line:
        print(json.dumps({"ready": True}), flush=True)
        while True:
            ready = select.select([line, sys.stdin], [], [])[0]
            if line in ready:
                data = line.recv(RECEIVE_BYTES)
                if not data:
                    return 1
                seen.feed(data)
            if sys.stdin in ready:
                if not os.read(sys.stdin.fileno(), 1):
                    return 0
                print(json.dumps(seen.to_json()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
