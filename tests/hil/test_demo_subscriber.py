"""The demo's subscriber: it shares no code with the publisher, counts what is missing, and survives any payload."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgpack
import paho.mqtt.client as mqtt
import pytest

import hil.broker
from edge import frames
from edge.samples import Phase, Sample
from hil.demo import show
from hil.demo.subscriber import Subscriber

SUBSCRIBER = Path(show.__file__).with_name("subscriber.py")


def test_the_subscriber_shares_no_code_with_the_publisher() -> None:
    code = f"""
import runpy, sys
runpy.run_path({str(SUBSCRIBER)!r}, run_name="copied")
ours = [m for m in sys.modules if m.split(".")[0] in ("edge", "hil", "firmware_proto")]
assert not ours, ours
"""
    # -P: not even the folder we are in is searched.
    subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=60)


def test_the_subscriber_alone_says_when_there_is_no_broker() -> None:
    command = [sys.executable, "-P", str(SUBSCRIBER), "127.0.0.1", str(hil.broker.free_port()), "bench"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "is a broker running there?" in done.stderr
    assert "Traceback" not in done.stderr


NO_UTC = frames.UtcMapping(0, valid=True, unc_ns=0)
RUN = 0xABC


def samples(seq: int, first: int, runs: list[int], epoch: int = 1) -> bytes:
    rows = [Sample(first + i, 1, first + i + 1, -0.001 * (first + i), -1e-9, 0, Phase.SEEK) for i in range(len(runs))]
    return frames.sample_frame("bench", epoch, seq, first, rows, runs, NO_UTC)


def fed(*messages: tuple[str, bytes]) -> Subscriber:
    """A subscriber that got these messages, without a broker."""
    subscriber = Subscriber("127.0.0.1", 1, "bench")
    for topic, payload in messages:
        message = mqtt.MQTTMessage(topic=f"tipguard/bench/{topic}".encode())
        message.payload = payload
        subscriber._on_message(subscriber._client, None, message)
    return subscriber


def test_it_counts_holes_and_repetitions() -> None:
    subscriber = fed(
        ("samples", samples(0, 0, [RUN] * 3)),
        ("samples", samples(3, 9, [RUN] * 3)),
        ("samples", samples(3, 9, [RUN] * 3)),
        ("samples", samples(0, 0, [RUN] * 3, epoch=2)),
        ("events", frames.doc_frame("event", "bench", 1, 1, {"kind": "cut"}, NO_UTC)),
    )
    assert subscriber.counts() == {"published": 7, "received": 4, "missing": 3, "repeated": 1}
    assert subscriber.unreadable == []


def test_it_counts_samples_once() -> None:
    subscriber = fed(
        ("samples", samples(0, 0, [RUN] * 3)),
        ("samples", samples(0, 0, [RUN] * 3)),
        ("samples", samples(1, 3, [RUN] * 2)),
    )
    assert subscriber.n_samples() == 5


def test_it_sorts_what_comes_out_of_order_and_tells_runs_apart() -> None:
    subscriber = fed(
        ("samples", samples(1, 3, [RUN, RUN, 0, 0])),
        ("samples", samples(0, 0, [RUN] * 3)),
        ("samples", samples(2, 7, [0, 0])),
    )
    assert subscriber.samples()["t_ns"].tolist() == list(range(9))
    assert subscriber.samples(f"{RUN:016x}")["t_ns"].tolist() == [0, 1, 2, 3, 4]
    assert len(subscriber.samples("00000000000000ff")["t_ns"]) == 0


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", b"[]", msgpack.packb([1]), msgpack.packb({"v": 2}), msgpack.packb({"v": 1}), msgpack.packb(7)],
)
def test_what_it_cannot_read_is_kept_as_a_reason(payload: bytes) -> None:
    subscriber = fed(("events", payload), ("status", b"not json"), ("status", b'{"online": true}'))
    assert len(subscriber.unreadable) == 2
    assert subscriber.status == {"online": True}
    assert subscriber.counts()["received"] == 0
