"""One direction of one line with its faults: counts bytes and messages, changes them, confirms what arrived changed."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

from hil.faults.edits import EDITS, TERMINATORS, Message, Piece, nanoseconds, split_terminator
from hil.faults.fault import Effect, Fault, Passed
from hil.line.pacing import Pacer

PAST: Final = 33
"""So many old messages can come again."""

# A message to an instrument ends at a terminator, or is one of the single bytes that act at once: ^C and ^X of the
# 2400, #3 #4 #5 #7 #8 #9 #24 of GCS. A reply ends at its terminator.
_TO_DEVICE: Final = re.compile(rb"[^\r\n\x03-\x09\x18]*(?:[\r\n]+|[\x03-\x09\x18])|[^\r\n\x03-\x09\x18]+")
_TO_HOST: Final = re.compile(rb"[^\r\n]*[\r\n]+|[^\r\n]+")
_TO_DEVICE_ENDS: Final = b"\r\n\x03\x04\x05\x06\x07\x08\x09\x18"
# A front end's frame ends at its delimiter, both ways; an empty one says nothing.
_FRAME: Final = re.compile(rb"[^\x00]*\x00|[^\x00]+")
_HOLDING: Final = ("merge", "reorder")


class Cutting(NamedTuple):
    """How bytes are cut into messages: by a pattern, complete behind one of ``ends``; ``terminators`` say nothing."""

    runs: re.Pattern[bytes]
    ends: bytes
    terminators: bytes


LINES: Final = {
    "device": Cutting(_TO_DEVICE, _TO_DEVICE_ENDS, TERMINATORS),
    "host": Cutting(_TO_HOST, TERMINATORS, TERMINATORS),
}
FRAMES: Final = dict.fromkeys(("device", "host"), Cutting(_FRAME, b"\x00", b"\x00"))


class Surroundings(Protocol):
    """What a direction asks of its port."""

    name: str
    cutting: Mapping[str, Cutting]
    """By direction."""

    def message(self, t_ns: int, data: bytes) -> list[Fault]:
        """Look at a message to the device before it goes on; return the faults to set off once it has arrived."""

    def set_off(self, fault: Fault, t_ns: int) -> None:
        """Let a fault act at ``t_ns``, or later if it wants to."""

    def later(self, t_ns: int, act: Callable[[int], None]) -> None:
        """Call ``act(t)`` when it is ``t_ns``."""

    def hang_up(self, fault: Fault, t_ns: int, effect: Effect) -> None:
        """Pull the plug at ``t_ns``."""

    def confirm(self, fault: Fault, t_ns: int, effect: Effect) -> None:
        """A fault took effect."""

    def trace(self, passed: Passed) -> None:
        """Keep what passed."""


class _Mark(NamedTuple):
    at: int
    fault: Fault
    effect: Effect


class _Foreign(NamedTuple):
    """Bytes ``first`` up to ``end`` of what was pushed are not the device's; they start at ``start_ns``."""

    first: int
    end: int
    start_ns: int


class _Held(NamedTuple):
    fault: Fault
    data: bytes
    effects: list[tuple[Fault, Effect]]
    effect: Effect


class Direction:
    """Bytes ``to`` the host or the device, on their way into ``pacer``."""

    def __init__(self, port: Surroundings, to: str, pacer: Pacer) -> None:
        """Begin with no fault; counting begins with :meth:`arm`."""
        self._port = port
        self._to = to
        self._pacer = pacer
        self._runs, self._ends, self._terminators = port.cutting[to]
        self.waiting: list[Fault] = []
        self.active: list[Fault] = []
        self.surviving: list[Fault] = []
        self.bytes = 0
        self.frames = 0
        self._past: deque[bytes] = deque(maxlen=PAST)
        self._partial = b""
        self._mid_frame = False
        self._held: list[_Held] = []
        self._pushed = 0
        self._arrived = 0
        self._marks: deque[_Mark] = deque()
        self._foreign: list[_Foreign] = []

    def arm(self, waiting: list[Fault]) -> None:
        """Count from 0 from now on; ``waiting`` for their byte or message."""
        self.waiting = waiting
        self.bytes = self.frames = 0
        self._mid_frame = False

    # Bytes in

    def hand_over(self, t_ns: int, data: bytes) -> None:
        """Take bytes, let the faults at them, and push what is left of them."""
        data, self._partial = self._partial + data, b""
        for match in self._runs.finditer(data):
            piece = match.group()
            complete = piece[-1] in self._ends
            if not complete and (self.active or self._held or self._awaited(piece)):
                self._partial = piece  # a fault acts on whole messages
                return
            self._piece(t_ns, piece, complete=complete)

    def _awaited(self, piece: bytes) -> bool:
        """Whether a fault waits for the message that this belongs to, or for a byte in it."""
        for fault in self.waiting:
            at = fault.spec.at
            if fault.spec.trigger == "at_frame" and at == self.frames and not self._mid_frame:
                return True
            if fault.spec.trigger == "at_byte" and self.bytes <= int(at) < self.bytes + len(piece):
                return True
        return False

    def _piece(self, t_ns: int, data: bytes, *, complete: bool) -> None:
        says = bool(split_terminator(data, self._terminators)[0])
        whole = says and complete and not self._mid_frame
        after: list[Fault] = []
        if whole:
            after = self._port.message(t_ns, data) if self._to == "device" else []
        message = Message([Piece(data)], self.bytes, self.frames, tuple(self._past), ends=self._terminators)
        named = self._at_last(t_ns, len(data), whole=whole)
        for fault, offset in named:
            message.offset = offset
            self._act(fault, message, t_ns)
            message.offset = -1
        if whole:
            done = [fault for fault, _ in named]
            for fault in tuple(self.active):
                if fault not in done:
                    self._act(fault, message, t_ns)
            self._release(message)
        self.bytes += len(data)
        if complete and (says or self._mid_frame):
            self.frames += 1
            self._past.append(data)
        self._mid_frame = not complete
        self._emit(t_ns, data, message.pieces)
        for fault in after:
            self._port.set_off(fault, max(t_ns, self._pacer.free_ns))

    def _at_last(self, t_ns: int, length: int, *, whole: bool) -> list[tuple[Fault, int]]:
        """Return the faults whose byte or message this is, and the place of the byte in it, or -1."""
        found = []
        for fault in tuple(self.waiting):
            at = int(fault.spec.at)
            if fault.spec.trigger == "at_byte":
                if not self.bytes <= at < self.bytes + length:
                    continue
                place = at - self.bytes
            elif not whole or at != self.frames:
                continue
            else:
                place = -1
            self.waiting.remove(fault)
            if fault.spec.after_s or fault.kind.group != "wire":
                self._port.set_off(fault, t_ns)
                continue
            fault.arm(t_ns)
            if fault.kind.name == "fifo":
                self.surviving.append(fault)
                continue
            self.active.append(fault)
            if place >= 0 or not whole:
                found.append((fault, place))
        return found

    def _act(self, fault: Fault, message: Message, t_ns: int) -> None:
        """Let an active fault at a message, once."""
        if t_ns > fault.until_ns:
            self.active.remove(fault)
            return
        if fault.spent or fault not in self.active:
            return
        name = fault.kind.name
        if name == "unplug":
            done = self._pull(fault, message)
        elif name in _HOLDING:
            done = self._hold(fault, message)
        else:
            done = EDITS[name](fault, message)
            if done and name == "xoff":
                self.xon_later(fault, t_ns)
        if not done:
            return
        if fault.act():
            self.active.remove(fault)

    def _pull(self, fault: Fault, message: Message) -> bool:
        place = max(message.offset, 0)
        data, effects = message.data, message.take()
        effect = Effect(f"unplugged at byte {message.byte + place}", message.byte + place, message.frame)
        head = Piece(data[: place + 1], effects=effects, then=lambda t_ns: self._port.hang_up(fault, t_ns, effect))
        message.pieces = [head, Piece(data[place + 1 :])]
        return True

    def _hold(self, fault: Fault, message: Message) -> bool:
        data = message.data
        if self._held or not data:
            return False
        detail = "{0!r} and the next one in one piece" if fault.kind.name == "merge" else "{0!r} after the next one"
        effect = Effect(detail.format(data), message.byte, message.frame)
        self._held.append(_Held(fault, data, message.take(), effect))
        message.pieces = [Piece(b"", says=f"{fault.spec.name}: held back until the next one")]
        return True

    def _release(self, message: Message) -> None:
        """Let a message that is held go on, now that the next one is here."""
        if not message.data or not self._held:
            return
        for held in self._held:
            effects = [*message.take(), *held.effects, (held.fault, held.effect)]
            if held.fault.kind.name == "merge":
                message.pieces = [Piece(held.data + message.data, whole=True, effects=effects)]
            else:
                message.pieces.append(
                    Piece(held.data, foreign=True, effects=[*held.effects, (held.fault, held.effect)])
                )
        self._held.clear()

    # Bytes that nobody sent

    def by_itself(self, t_ns: int, data: bytes, fault: Fault, detail: str) -> None:
        """Put bytes on the line now."""
        effect = Effect(detail, self.bytes, self.frames)
        self._emit(t_ns, b"", [Piece(data, foreign=True, effects=[(fault, effect)])])

    def xon_later(self, fault: Fault, t_ns: int) -> None:
        """Let the XON follow its XOFF, if it is to."""
        after_ns = nanoseconds(fault, "duration_s")
        if after_ns:
            self._port.later(t_ns + after_ns, lambda at_ns: self._emit(at_ns, b"", [Piece(b"\x11")]))

    def last(self, age: int) -> bytes:
        """Return an old message; empty where there is none."""
        return self._past[-age] if len(self._past) >= age else b""

    def _emit(self, t_ns: int, sent: bytes, pieces: list[Piece]) -> None:
        pacer = self._pacer
        notes = []
        for piece in pieces:
            data = piece.data
            if data:
                start_ns = t_ns + piece.late_ns
                if piece.wait_ns:
                    start_ns = max(start_ns, pacer.free_ns) + piece.wait_ns
                pacer.push(start_ns, data, whole=piece.whole)
                if piece.foreign or start_ns > t_ns:
                    self._foreign.append(_Foreign(self._pushed, self._pushed + len(data), start_ns))
                self._pushed += len(data)
            if piece.says:
                notes.append(piece.says)
            for fault, effect in piece.effects:
                notes.append(f"{fault.spec.name}: {effect.detail}")
                if data:
                    self._marks.append(_Mark(self._pushed - 1, fault, effect))
                else:
                    self._port.confirm(fault, t_ns, effect)
            if piece.then is not None:
                self._port.later(max(t_ns, pacer.free_ns), piece.then)
        arrived = b"".join(piece.data for piece in pieces)
        self._port.trace(Passed(t_ns, self._port.name, self._to, sent, arrived, "; ".join(notes)))

    # Bytes out

    def delivered(self, t_ns: int, count: int) -> None:
        """Confirm what has arrived."""
        self._arrived += count
        marks = self._marks
        while marks and marks[0].at < self._arrived:
            mark = marks.popleft()
            self._port.confirm(mark.fault, t_ns, mark.effect)
        while self._foreign and self._foreign[0].end <= self._arrived:
            self._foreign.pop(0)

    def discard(self, t_ns: int) -> None:
        """Drop what is queued and still the device's; what a fault holds up or made has left it, and survives."""
        lost = self._pacer.discard(t_ns)
        if not lost:
            return
        first = self._pushed - len(lost)
        fault = next((one for one in self.surviving if not one.spent and t_ns <= one.until_ns), None)
        note = ""
        if fault is not None:
            effect = Effect(f"{lost!r} survived the abort", self.bytes - len(lost), self.frames - 1)
            fault.act()
            self._marks.append(_Mark(self._pushed - 1, fault, effect))
            self._foreign = [*self._before(first), _Foreign(first, self._pushed, t_ns + nanoseconds(fault, "late_s"))]
            note = f"{fault.spec.name}: {effect.detail}"
        kept = self._survivors(t_ns, lost, first)
        if len(kept) < len(lost):
            note = f"{lost!r} discarded by the device" + (f", but for {kept!r}" if kept else "")
        self._port.trace(Passed(t_ns, self._port.name, self._to, b"", kept, note))

    def _before(self, index: int) -> list[_Foreign]:
        return [one for one in self._foreign if self._arrived < one.end and one.first < index]

    def _survivors(self, t_ns: int, lost: bytes, first: int) -> bytes:
        """Put back what is not the device's any more, each at its own time; return it."""
        foreign, self._foreign = self._foreign, self._before(first)
        marks = [mark for mark in self._marks if mark.at >= first]
        self._marks = deque(mark for mark in self._marks if mark.at < first)
        self._pushed = first
        kept = b""
        for one in foreign:
            begin = max(one.first, first)
            data = lost[begin - first : one.end - first] if one.end > first else b""
            if not data:
                continue
            self._foreign.append(_Foreign(self._pushed, self._pushed + len(data), one.start_ns))
            self._marks += [
                mark._replace(at=mark.at - begin + self._pushed) for mark in marks if begin <= mark.at < one.end
            ]
            self._pacer.push(max(t_ns, one.start_ns), data)
            self._pushed += len(data)
            kept += data
        self._take_back([mark for mark in marks if not any(one.first <= mark.at < one.end for one in foreign)])
        return kept

    def cleared(self) -> None:
        """Everything on the way is lost."""
        self._pushed = self._arrived
        self._partial = b""
        self._held.clear()
        self._foreign.clear()
        marks, self._marks = self._marks, deque()
        self._take_back(list(marks))

    def _take_back(self, marks: list[_Mark]) -> None:
        """An effect that never arrived was none: its fault acts again."""
        for fault in (mark.fault for mark in marks):
            fault.left += 1
            if fault not in self.active and fault.kind.name != "fifo":
                self.active.append(fault)
