"""From a message to a frame that may be kept, or to the reason why not."""

from __future__ import annotations

from typing import Final, NamedTuple

from edge.errors import FrameError
from edge.frames import decode_frame
from edge.store.backend import Received, Unreadable

TOPICS: Final = ("samples", "events", "runs")
"""Last levels of the topics that carry frames."""
MAX_SEQ: Final = 2**63 - 1
"""What a watermark can say."""


class Message(NamedTuple):
    """One message as the broker delivered it."""

    topic: str
    payload: bytes
    content_type: str | None


def receive(message: Message) -> Received | Unreadable:
    """Decode and check one message. Whatever is wrong with it is in the :class:`Unreadable`; nothing is raised.

    The broker ties a topic to who may publish there, so a frame counts only as one of its topic's rig: another rig's
    name in it could make that one forget what no store has.
    """
    try:
        frame = decode_frame(message.payload)
    except FrameError as error:
        return Unreadable(message.topic, message.payload, str(error), message.content_type)
    why = None
    if message.topic.split("/")[:2] != ["tipguard", frame.rig]:
        why = f"rig: {frame.rig} on the topic of another"
    elif frame.seq > MAX_SEQ:
        why = f"seq: {frame.seq}, at most {MAX_SEQ}"
    if why is not None:
        return Unreadable(message.topic, message.payload, why, message.content_type)
    return Received(frame.rig, int(frame.epoch, 16), frame.stream, frame.seq, message.payload, frame)
