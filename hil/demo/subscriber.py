"""A plain subscriber: paho-mqtt, msgpack and numpy, and nothing of the program that publishes.

It knows only what ``docs/data.md`` says, and is meant to be copied. By itself::

    python hil/demo/subscriber.py 127.0.0.1 1883 bench-1
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import msgpack
import numpy as np
import numpy.typing as npt
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

VERSION: Final = 1
TOPICS: Final = ("samples", "events", "runs", "status", "live")
COLUMNS: Final = ("t_ns", "t_rx_ns", "bias_v", "current_a", "flags", "phase")

Document = dict[str, Any]
Columns = dict[str, npt.NDArray[Any]]


class Subscriber:
    """Keeps every frame of one rig once, and the latest status and live documents. Safe to ask from any thread."""

    def __init__(self, host: str, port: int, rig: str) -> None:
        """Prepare; :meth:`start` connects."""
        self.rig = rig
        self.status: Document = {}
        """The latest document on ``status``; empty before the first."""
        self.live: Document = {}
        """The latest document on ``live``; empty before the first."""
        self.repeated = 0
        """Frames that came more than once."""
        self.unreadable: list[str] = []
        """Why messages could not be read."""
        self.connected = False
        """The connection stands and the broker has confirmed the subscription."""
        self._where = host, port
        self._frames: dict[tuple[str, str, int], Document] = {}
        self._news = threading.Condition()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message

    def start(self, timeout_s: float = 5.0) -> None:
        """Connect, and return once the broker has confirmed the subscription; raise OSError if it does not."""
        self._client.connect(*self._where)
        self._client.loop_start()
        if not self.wait(lambda: self.connected, timeout_s):
            self.stop()
            raise TimeoutError(f"broker {self._where[0]}:{self._where[1]} confirms no subscription")

    def stop(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def wait(self, until: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until ``until()`` is true, asked again at each message; False after ``timeout_s``."""
        with self._news:
            return self._news.wait_for(until, timeout_s)

    # ------------------------------------------------------------------------------------------ what was received

    def documents(self, kind: str) -> list[Document]:
        """Return the documents of frames of one kind ("event", "run", "epoch", "tombstone"), in order of number."""
        with self._news:
            frames = sorted((key, frame) for key, frame in self._frames.items() if frame["kind"] == kind)
        return [frame["doc"] for _, frame in frames]

    def samples(self, run: str | None = None) -> Columns:
        """Return the columns of all samples, or of one run's (16 hex digits), in the order they were taken."""
        with self._news:
            frames = [frame for frame in self._frames.values() if frame["kind"] == "samples"]
        frames.sort(key=lambda frame: (frame["t0_ns"], frame["first"]))
        parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in COLUMNS}
        for frame in frames:
            columns = frame["cols"]
            if run is None:
                mine = slice(None)
            elif "run" in columns:
                mine = array(columns["run"]) == int(run, 16)
            elif frame["run"] != run:
                continue
            else:
                mine = slice(None)
            for name, part in parts.items():
                part.append(array(columns[name])[mine])
        return {name: np.concatenate(part) if part else np.empty(0) for name, part in parts.items()}

    def n_samples(self) -> int:
        """Return how many samples have been received, each frame counted once."""
        with self._news:
            return sum(frame["n"] for frame in self._frames.values() if frame["kind"] == "samples")

    def counts(self) -> dict[str, int]:
        """Count frames by their numbers, which have no holes: ``published``, ``received``, ``missing``, ``repeated``.

        What is missing behind the last number cannot show here; the number of samples tells.
        """
        with self._news:
            keys = list(self._frames)
        last: dict[tuple[str, str], int] = {}
        for epoch, stream, seq in keys:
            last[epoch, stream] = max(seq, last.get((epoch, stream), 0))
        published = sum(seq + 1 for seq in last.values())
        return {
            "published": published,
            "received": len(keys),
            "missing": published - len(keys),
            "repeated": self.repeated,
        }

    # -------------------------------------------------------------------------------- callbacks, on paho's thread

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        # Here and not in start(): after a broken connection it is done again.
        client.subscribe([(f"tipguard/{self.rig}/{topic}", 1) for topic in TOPICS])

    def _on_subscribe(self, *_: object) -> None:
        with self._news:
            self.connected = True
            self._news.notify_all()

    def _on_disconnect(self, *_: object) -> None:
        with self._news:
            self.connected = False
            self._news.notify_all()

    def _on_message(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        topic = message.topic.rsplit("/", 1)[-1]
        with self._news:
            try:
                self._take(topic, bytes(message.payload))
            except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
                self.unreadable.append(f"{topic}: {type(error).__name__}: {error}")
            self._news.notify_all()

    def _take(self, topic: str, payload: bytes) -> None:
        if topic in ("status", "live"):
            document = json.loads(payload)
            if topic == "status":
                self.status = document
            else:
                self.live = document
            return
        frame = msgpack.unpackb(payload)
        if frame["v"] != VERSION:
            raise ValueError(f"schema version {frame['v']}, this program knows {VERSION}")
        key = frame["epoch"], frame["stream"], frame["seq"]
        if key in self._frames:
            self.repeated += 1
        self._frames.setdefault(key, frame)


def array(column: Document) -> npt.NDArray[Any]:
    """Return one column of a frame, or of an event's waveform."""
    return np.frombuffer(column["data"], column["dtype"])


def main() -> None:
    """Print a line for each change of what was received, until Ctrl-C."""
    if len(sys.argv) != 4:
        sys.exit(f"usage: {sys.argv[0]} HOST PORT RIG")
    subscriber = Subscriber(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    try:
        subscriber.start()
        said = ""
        while True:
            counts, samples = subscriber.counts(), subscriber.samples()
            now = f"{counts['received']} frames, {counts['missing']} missing, {len(samples['t_ns'])} samples"
            if len(samples["t_ns"]):
                now += f"; last {samples['bias_v'][-1]:+.4f} V {samples['current_a'][-1]:+.3e} A"
            if now != said:
                print(now, flush=True)
                said = now
            subscriber.wait(lambda: False, 0.5)
    except OSError as error:
        sys.exit(f"{sys.argv[1]}:{sys.argv[2]}: {error}; is a broker running there?")
    except KeyboardInterrupt:
        pass
    finally:
        subscriber.stop()


if __name__ == "__main__":
    main()
