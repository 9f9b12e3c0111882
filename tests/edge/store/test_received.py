"""What counts as a frame of a rig, and what does not."""

from __future__ import annotations

import msgpack
import pytest

from edge.frames import MAX_FRAME_BYTES
from edge.store.backend import Received, Unreadable
from edge.store.received import MAX_SEQ, Message, receive
from tests.edge.store.made import EPOCH, key, payload_of


def message(payload: bytes, topic: str = "tipguard/rig-1/samples") -> Message:
    return Message(topic, payload, "application/msgpack")


def changed(**fields: object) -> bytes:
    packed: bytes = msgpack.packb({**msgpack.unpackb(payload_of("rig-1", "samples", 4)), **fields})
    return packed


@pytest.mark.parametrize("stream", ["samples", "events", "runs", "epochs"])
def test_a_frame(stream: str) -> None:
    payload = payload_of("rig-1", stream, 4)
    found = receive(message(payload))
    assert isinstance(found, Received)
    assert (found.key, found.seq, found.payload, found.frame.seq) == (key(stream=stream), 4, payload, 4)
    assert found.epoch == EPOCH


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "not one msgpack value"),
        (b"\xc1", "not one msgpack value"),
        (changed(v=2), "schema version 2, this program knows 1"),
        (changed(kind="movie"), "kind"),
        (changed(seq=-1), "seq"),
        (changed(seq=MAX_SEQ + 1), "seq"),
        (changed(epoch="x"), "epoch"),
        (b"x" * (MAX_FRAME_BYTES + 1), "at most"),
    ],
)
def test_what_is_none_is_kept_as_it_came_with_the_reason(payload: bytes, why: str) -> None:
    found = receive(message(payload))
    assert isinstance(found, Unreadable)
    assert (found.payload, found.topic, found.content_type) == (
        payload,
        "tipguard/rig-1/samples",
        "application/msgpack",
    )
    assert why in found.why


@pytest.mark.parametrize("topic", ["tipguard/rig-2/samples", "other/rig-1/samples", "rig-1", "tipguard/rig-1x/samples"])
def test_a_rig_speaks_only_for_itself(topic: str) -> None:
    # rig-2 may publish on its topics only, says the broker. It must not say what rig-1's store has.
    found = receive(message(payload_of("rig-1", "samples", 0), topic))
    assert isinstance(found, Unreadable)
    assert "rig-1 on the topic of another" in found.why


def test_the_highest_number_a_watermark_can_say_counts() -> None:
    assert isinstance(receive(message(changed(seq=MAX_SEQ))), Received)
