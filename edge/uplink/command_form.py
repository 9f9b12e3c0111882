"""A command's form on the broker: JSON in, the worker's message out; an answer back as JSON. No I/O.

What cannot be read, is too long, or was kept by the broker, is no command. Of a ``stop`` nothing else is looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import msgpack

from edge.control_client import VERSION
from edge.uplink import documents
from edge.uplink.mqtt import Incoming

MAX_COMMAND: Final = 64 * 1024
"""Bytes of one command."""
MAX_ANSWER: Final = 200_000
MAX_TOPIC: Final = 200
MAX_CORRELATION: Final = 128
KEYS: Final = frozenset({"v", "verb", "args", "epoch", "nonce"})
STOP: Final = b"stop"
"""Also as the whole payload: what can be typed in a hurry."""

_USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")


REASONS: Final = ("bad_response_topic", "malformed", "retained", "too_large", "too_many")
"""Why the uplink refuses a command, all there are; the last for coming too fast."""


class MalformedError(Exception):
    """No command. ``reason`` is a stable word, one of :data:`REASONS`."""

    def __init__(self, reason: str, message: str) -> None:
        """Say what is wrong."""
        super().__init__(message)
        self.reason = reason


def read(incoming: Incoming, user: str, rig: str) -> dict[str, Any]:
    """Return the worker's message of a command; raise what is no command. Of a stop nothing else is looked at."""
    payload = incoming.payload
    if payload.strip() == STOP:
        return {"verb": "stop"}
    if len(payload) > MAX_COMMAND:
        raise MalformedError("too_large", f"{len(payload)} bytes; a command has at most {MAX_COMMAND}")
    try:
        command = json.loads(payload, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise MalformedError("malformed", f"not JSON: {str(error)[:100]}") from error
    if not isinstance(command, dict):
        raise MalformedError("malformed", "not a JSON object")
    if command.get("verb") == "stop":
        return {"verb": "stop"}
    if incoming.retain:
        raise MalformedError("retained", "published with the retain flag: what a broker keeps is no command")
    if not _USER.fullmatch(user):
        raise MalformedError("malformed", "the topic's last level is no user's name")
    if command.get("v") != VERSION or (extra := sorted(set(command) - KEYS)):
        wrong = "v must be 1" if command.get("v") != VERSION else f"unknown key {extra[0]!r:.40}"
        raise MalformedError("malformed", f"{wrong}; a command has {', '.join(sorted(KEYS))}")
    if incoming.response_topic is not None and not is_reply_topic(incoming.response_topic, user, rig):
        raise MalformedError("bad_response_topic", f"answers go to tipguard/reply/{user}/{rig}/... only")
    if len(incoming.correlation or b"") > MAX_CORRELATION:
        raise MalformedError("malformed", f"correlation data of more than {MAX_CORRELATION} bytes")
    message = {key: command.get(key) for key in ("verb", "args", "epoch", "nonce")}
    try:
        msgpack.packb(message)
    except (ValueError, OverflowError, RecursionError) as error:
        # Numbers beyond 64 bits, half characters, nesting without end.
        raise MalformedError("malformed", f"what no message can hold: {str(error)[:100]}") from error
    return message


def plan_only(args: object) -> dict[str, Any]:
    """Return of a command's arguments what an event names."""
    plan = args.get("plan") if isinstance(args, dict) else None
    return {"plan": plan[:MAX_TOPIC]} if isinstance(plan, str) else {}


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def is_reply_topic(topic: str, user: str, rig: str) -> bool:
    """Tell whether an answer may go there: a command must not make the rig publish in a stream or as somebody else."""
    return (
        len(topic) <= MAX_TOPIC
        and topic.startswith(f"tipguard/reply/{user}/{rig}/")
        and _USER.fullmatch(user) is not None
        and topic.isprintable()
        and not set("#+") & set(topic)
    )


def to_json(reply: Mapping[str, Any]) -> bytes:
    """Return a reply as JSON: what JSON has no number for is null, bytes are their count; shortened if very long."""
    payload = json.dumps(_plain(reply), separators=(",", ":"), allow_nan=False).encode()
    if len(payload) > MAX_ANSWER:
        payload = documents.to_json(documents.summary(reply))
    return payload


def _plain(value: Any) -> Any:  # noqa: ANN401 - replies hold anything
    match value:
        case dict():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case str():
            return value
    return documents.summary(value)
