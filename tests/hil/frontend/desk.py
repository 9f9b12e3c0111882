"""A host at the line of a front end in lockstep: says what a test wants said, and keeps all that came."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from firmware_proto.frontend import messages as m
from firmware_proto.frontend.framing import Decoder, Frame, Refused, encode
from firmware_proto.frontend.message import Message
from hil.frontend.lockstep import FULL_SCALE_CODE, LockstepFrontend
from tests.firmware_config import only_hard

T = TypeVar("T", bound=Message)

needs_cc = pytest.mark.skipif(
    shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler: apt-get install gcc"
)
"""The firmware is compiled on the spot."""

CONFIG = only_hard(20_000, pre_n=50, post_n=20)
LEASE_NS = 100_000_000
NONCE = 0x1234_5678


class Desk:
    """``fe`` is the device; ``heard`` every message it has said, ``frames`` how they came."""

    def __init__(self, *, library: Path | None = None, series: bool = True, sample_hz: int = 100_000) -> None:
        self.fe = LockstepFrontend(library=library, series=series, sample_hz=sample_hz)
        self.decoder = Decoder()
        self.heard: list[Message] = []
        self.frames: list[Frame] = []
        self.refused: list[Refused] = []
        self.session = 0
        self.seq = 0
        self.lease_seq = 0
        self.config = CONFIG

    def say(self, *messages: Message, session: int | None = None) -> None:
        for message in messages:
            number = 0 if isinstance(message, m.Hello | m.Trip) else self.session
            self.fe.receive(encode(message, self.seq, number if session is None else session))
            self.seq = (self.seq + 1) & 0xFFFF

    def listen(self) -> list[Message]:
        """Return what is new."""
        new: list[Message] = []
        for event in self.decoder.feed(self.fe.take()):
            if isinstance(event, Frame):
                self.frames.append(event)
                new.append(event.message)
            else:
                self.refused.append(event)
        self.heard += new
        return new

    def all_of(self, kind: type[T]) -> list[T]:
        self.listen()
        return [message for message in self.heard if isinstance(message, kind)]

    def last(self, kind: type[T]) -> T:
        found = self.all_of(kind)
        assert found, f"no {kind.NAME}"
        return found[-1]

    def forget(self) -> None:
        self.listen()
        self.heard.clear()
        self.frames.clear()

    def hello(self, *, nonce: int = NONCE, schema_hash: int = m.SCHEMA_HASH, version: int = m.VERSION) -> m.Welcome:
        self.say(m.Hello(schema_hash, nonce, version))
        welcome = self.last(m.Welcome)
        self.session = welcome.session
        self.lease_seq = 0
        return welcome

    def configure(self, **changes: object) -> m.ConfigIs:
        self.config = replace(CONFIG, **changes)  # type: ignore[arg-type]  # each test names real fields
        self.say(self.config)
        return self.last(m.ConfigIs)

    def arm(self, *, lease_ns: int = LEASE_NS, crc: int | None = None) -> None:
        self.lease_seq += 1
        found = self.last(m.ConfigIs).config_crc if crc is None else crc
        self.say(m.Arm(found, self.lease_seq, self.fe.now_ticks + lease_ns))

    def lease(self, *, lease_ns: int = LEASE_NS, seq: int | None = None) -> None:
        self.lease_seq += 1
        self.say(m.Lease(self.lease_seq if seq is None else seq, self.fe.now_ticks + lease_ns))

    def status(self) -> m.Status:
        self.say(m.GetStatus())
        return self.last(m.Status)

    def steps(self, n: int, code: int = 0) -> None:
        """``n`` samples of ``code``, without a word."""
        for _ in range(n):
            self.fe.step(code)

    def why(self) -> m.Refusal:
        """Why the last wish was not granted; NONE if it was."""
        refusals = [message.why for message in self.listen() if isinstance(message, m.Refused)]
        return refusals[-1] if refusals else m.Refusal.NONE

    def state(self) -> m.State:
        """What the device is in, looked up anew."""
        return self.fe.state

    def put_back(self) -> None:
        """From TRIPPED to SAFE, by the book."""
        trip_id = self.status().trip_id
        self.say(m.AckTrip(trip_id), m.BoxDone(trip_id), m.Rearm(trip_id))


def armed(*, library: Path | None = None, series: bool = True, lease_ns: int = LEASE_NS, **changes: object) -> Desk:
    """Return a desk whose device is ARMED, its switch closed."""
    desk = Desk(library=library, series=series)
    desk.hello()
    assert desk.configure(**changes).result is m.Refusal.NONE
    desk.steps(10)
    desk.arm(lease_ns=lease_ns)
    assert desk.fe.closed
    assert desk.fe.state is m.State.ARMED
    desk.forget()
    return desk


__all__ = ["CONFIG", "FULL_SCALE_CODE", "LEASE_NS", "NONCE", "Desk", "armed", "needs_cc"]
