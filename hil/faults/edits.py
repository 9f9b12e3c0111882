"""What each kind on the wire makes of one message: pure functions from pieces of bytes to pieces of bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hil.faults.fault import Effect, Fault

XON: Final = b"\x11"
XOFF: Final = b"\x13"
TERMINATORS: Final = b"\r\n"


@dataclass(slots=True)
class Piece:
    """Bytes that go on together.

    ``wait_ns``: how long the line rests before them. ``late_ns``: not before this long after the hand-over. ``whole``:
    they arrive as one run. ``foreign``: they are not the device's to take back. ``says``: for the trace. ``effects``:
    what a fault did, told when the last byte has arrived. ``then``: called with the time the last byte is complete.
    """

    data: bytes
    wait_ns: int = 0
    late_ns: int = 0
    whole: bool = False
    foreign: bool = False
    says: str = ""
    effects: list[tuple[Fault, Effect]] = field(default_factory=list)
    then: Callable[[int], None] | None = None


@dataclass(slots=True)
class Message:
    """One message on its way. ``byte`` and ``frame``: where it stands; ``offset``: the byte a trigger named, or -1.

    ``ends``: the bytes of which its terminator is made.
    """

    pieces: list[Piece]
    byte: int
    frame: int
    past: tuple[bytes, ...] = ()
    offset: int = -1
    ends: bytes = TERMINATORS

    @property
    def data(self) -> bytes:
        """Everything that goes on of it."""
        return b"".join(piece.data for piece in self.pieces)

    def take(self) -> list[tuple[Fault, Effect]]:
        """Return the effects so far, for pieces that replace these."""
        return [one for piece in self.pieces for one in piece.effects]

    def note(self, fault: Fault, effect: Effect) -> bool:
        """Let an effect be confirmed with the message's last byte; True."""
        if not self.pieces:
            self.pieces.append(Piece(b""))
        self.pieces[-1].effects.append((fault, effect))
        return True


def split_terminator(data: bytes, ends: bytes = TERMINATORS) -> tuple[bytes, bytes]:
    """Return what a message says, and its terminator, which is made of ``ends``."""
    body = data.rstrip(ends)
    return body, data[len(body) :]


Edit = Callable[[Fault, Message], bool]
"""Changes a message; False where there was nothing to change, and then nothing was."""


def nanoseconds(fault: Fault, name: str) -> int:
    """Return a parameter in s as ns."""
    return round(fault.spec.number(name) * 1e9)


def _locate(fault: Fault, message: Message) -> tuple[Piece, int, int] | None:
    """Return the piece, the place in it, and the place in the message of the byte a fault is about."""
    data = message.data
    body, _ = split_terminator(data, message.ends)
    if message.offset >= 0:
        place = message.offset
    else:
        wanted = fault.spec.whole("offset") if "offset" in fault.spec.params else 0
        place = fault.rng.randrange(max(1, len(body))) if wanted < 0 else wanted
    left = place
    for piece in message.pieces:
        if left < len(piece.data):
            return piece, left, place
        left -= len(piece.data)
    return None


def _drop(fault: Fault, message: Message) -> bool:
    found = _locate(fault, message)
    if found is None:
        return False
    piece, at, place = found
    lost = piece.data[at : at + fault.spec.whole("count")]
    piece.data = piece.data[:at] + piece.data[at + len(lost) :]
    return message.note(fault, _at(message, place, f"{lost!r} dropped at byte {message.byte + place}"))


def _flip(fault: Fault, message: Message) -> bool:
    found = _locate(fault, message)
    if found is None:
        return False
    piece, at, place = found
    bit = fault.spec.whole("bit")
    bit = fault.rng.randrange(8) if bit < 0 else bit
    before = piece.data[at : at + 1]
    after = bytes((before[0] ^ (1 << bit),))
    piece.data = piece.data[:at] + after + piece.data[at + 1 :]
    detail = f"bit {bit} of byte {message.byte + place}: {before!r} -> {after!r}"
    return message.note(fault, _at(message, place, detail))


def _duplicate(fault: Fault, message: Message) -> bool:
    found = _locate(fault, message)
    if found is None:
        return False
    piece, at, place = found
    more = piece.data[at : at + 1] * fault.spec.whole("count")
    piece.data = piece.data[:at] + more + piece.data[at:]
    return message.note(fault, _at(message, place, f"{more!r} once more at byte {message.byte + place}"))


def _insert(fault: Fault, message: Message) -> bool:
    found = _locate(fault, message)
    if found is None:
        return False
    piece, at, place = found
    more = inserted(fault)
    piece.data = piece.data[:at] + more + piece.data[at:]
    return message.note(fault, _at(message, place, f"{more!r} inserted before byte {message.byte + place}"))


def inserted(fault: Fault) -> bytes:
    """Return the bytes that a fault brings by itself."""
    return XOFF if fault.kind.name == "xoff" else fault.spec.text("data").encode("latin-1")


def _stall(fault: Fault, message: Message) -> bool:
    found = _locate(fault, message)
    if found is None:
        return False
    piece, at, place = found
    index = next(n for n, one in enumerate(message.pieces) if one is piece)
    rest = Piece(piece.data[at:], nanoseconds(fault, "duration_s"), effects=piece.effects, then=piece.then)
    piece.data, piece.effects, piece.then = piece.data[:at], [], None
    message.pieces.insert(index + 1, rest)
    duration_s = fault.spec.number("duration_s")
    rest.effects.append((fault, _at(message, place, f"{duration_s:g} s without a byte before {message.byte + place}")))
    return True


def _split(fault: Fault, message: Message) -> bool:
    data = message.data
    if len(data) < 2:
        return False
    gap_ns = nanoseconds(fault, "gap_s")
    effects = message.take()
    message.pieces = [Piece(data[n : n + 1], gap_ns if n else 0) for n in range(len(data))]
    message.pieces[-1].effects = effects
    return message.note(fault, _at(message, 0, f"{len(data)} bytes one by one, {gap_ns / 1e6:g} ms apart"))


def _truncate(fault: Fault, message: Message) -> bool:
    data = message.data
    body, end = split_terminator(data, message.ends)
    count = fault.spec.whole("count")
    count = fault.rng.randrange(max(1, len(body))) if count < 0 else count
    if count >= len(body):
        return False
    kept = body[:count] + (end if fault.spec.flag("terminator") else b"")
    message.pieces = [Piece(kept, effects=message.take())]
    return message.note(fault, _at(message, count, f"{data!r} cut short to {kept!r}"))


def _late(fault: Fault, message: Message) -> bool:
    if not message.data:
        return False
    message.pieces[0].late_ns = max(message.pieces[0].late_ns, nanoseconds(fault, "late_s"))
    return message.note(fault, _at(message, 0, f"{message.data!r} {fault.spec.number('late_s'):g} s late"))


def _stale(fault: Fault, message: Message) -> bool:
    age = fault.spec.whole("age")
    if len(message.past) < age:
        return False
    old, data = message.past[-age], message.data
    if not fault.spec.flag("instead"):
        message.pieces.insert(
            0, Piece(old, foreign=True, effects=[(fault, _at(message, 0, f"{old!r} again, before {data!r}"))])
        )
        return True
    if old == data:  # nobody could tell
        return False
    message.pieces = [Piece(old, effects=message.take())]
    return message.note(fault, _at(message, 0, f"{old!r} again instead of {data!r}"))


def _double(fault: Fault, message: Message) -> bool:
    data = message.data
    if not data:
        return False
    message.pieces.append(Piece(data, nanoseconds(fault, "late_s"), foreign=True))
    return message.note(fault, _at(message, 0, f"{data!r} twice"))


def _mute(fault: Fault, message: Message) -> bool:
    data = message.data
    if not data:
        return False
    message.pieces = [Piece(b"", effects=message.take())]
    return message.note(fault, _at(message, 0, f"{data!r} vanished"))


def _at(message: Message, place: int, detail: str) -> Effect:
    return Effect(detail, message.byte + place, message.frame)


EDITS: Final[dict[str, Edit]] = {
    "drop": _drop,
    "flip": _flip,
    "duplicate": _duplicate,
    "insert": _insert,
    "xoff": _insert,
    "stall": _stall,
    "split": _split,
    "truncate": _truncate,
    "late": _late,
    "stale": _stale,
    "double": _double,
    "mute": _mute,
}
"""Kinds that change one message and know no other; the rest are in :mod:`hil.faults.wire`."""
