"""Messages to frames, and a byte stream to frames or refusals; the device's twin of it is ``tg_frame.c``.

Nothing that arrives raises. A block between two delimiters is one whole, current frame, or it is refused with its one
cause and counted; for any chunking of the same bytes the events are the same.
"""

from __future__ import annotations

import enum
from binascii import crc32
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from firmware_proto.frontend.message import Message
from firmware_proto.frontend.messages import MESSAGES, Hello, Trip, Welcome
from firmware_proto.frontend.vocabulary import REPEAT_WINDOW
from firmware_proto.frontend.wire import (
    CRC,
    CRC_RESIDUE,
    DELIMITER,
    HEADER,
    MAX_CODED,
    MAX_RAW,
    OVERHEAD,
    cobs_decode,
    frame,
)

EXEMPT: Final = frozenset({Hello.ID, Trip.ID, Welcome.ID})
"""Taken whatever session and number they carry."""


class Side(enum.IntEnum):
    """Who decodes; bit 7 of the ids it takes."""

    DEVICE = 0x00
    HOST = 0x80


class Cause(enum.IntEnum):
    """Why a block was refused; the numbers are those of ``tg_event`` in ``tg_frame.h``."""

    BAD_COBS = 2
    """A group reaches past the delimiter."""
    BAD_LENGTH = 3
    """Shorter than header and CRC, longer than MAX_CODED, not as long as its header says, or as its id is."""
    BAD_CRC = 4
    UNKNOWN_ID = 5
    """No such message in this direction."""
    STALE_SESSION = 6
    REPEATED = 7
    """Up to REPEAT_WINDOW frames behind the expected one."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame of the right length, CRC, session and order."""

    id: int
    seq: int
    session: int
    gap: int
    """Frames missing before this one, by its number; 0 after HELLO, WELCOME, and for TRIP."""
    payload: bytes

    @property
    def message(self) -> Message:
        """The message, decoded anew at each access; never raises, for length and id have been checked."""
        return MESSAGES[self.id].unpack(self.payload)


@dataclass(frozen=True, slots=True)
class Refused:
    """A block that was not taken. ``id``, ``seq`` and ``session`` are those of its header, where the CRC holds."""

    cause: Cause
    id: int | None = None
    seq: int | None = None
    session: int | None = None


def encode(message: Message, seq: int, session: int) -> bytes:
    """Return the bytes of one frame; an urgent message behind an extra delimiter. Raises FrameError."""
    whole = frame(message.ID, seq, session, message.pack())
    return DELIMITER + whole if message.URGENT else whole


TRIP_BYTES: Final = encode(Trip(), 0, 0)
"""A host's TRIP, whatever session, schema and state: a constant, which keeper and safe-off hold ready."""


class Decoder:
    """Cuts a byte stream into frames; holds at most MAX_CODED bytes.

    ``side`` says whose ids are taken. ``session`` may be set at any time: None takes every session (the caller judges),
    a number takes that one and what is EXEMPT. A device's decoder begins with 0, which no session is. The number of the
    next frame is taken from HELLO or WELCOME, else from the first frame there is.
    """

    def __init__(self, side: Side = Side.HOST, session: int | None = None) -> None:
        self.side = side
        self.frames = 0
        """Frames accepted."""
        self.gaps = 0
        """Frames missing before accepted ones."""
        self.refused: dict[Cause, int] = dict.fromkeys(Cause, 0)
        self._known = {ident: kind for ident, kind in MESSAGES.items() if ident & 0x80 == side}
        self.session = session
        """The session whose frames are taken; None: any."""
        self._expected: int | None = None
        self._rest = b""
        self._overlong = False

    def renumber(self) -> None:
        """Take the number of the next frame as it comes, without a gap: after a line was opened anew."""
        self._expected = None

    def feed(self, data: bytes) -> list[Frame | Refused]:
        """Take the next bytes; return what they complete. Never raises.

        All of it is judged by one ``session``; who changes it at a WELCOME uses :meth:`events`.
        """
        return list(self.events(data))

    def events(self, data: bytes) -> Iterator[Frame | Refused]:
        """Take the next bytes and yield event by event, each judged by the session that is set when it is asked for.

        Run it to its end before the next call.
        """
        blocks = (self._rest + data).split(DELIMITER)
        rest = blocks.pop()
        overlong, self._overlong = self._overlong, False
        if blocks and overlong:
            # Its head was dropped already.
            blocks[0] = b"\xff" * (MAX_CODED + 1)
            overlong = False
        if overlong or len(rest) > MAX_CODED:
            self._overlong = True
            rest = b""
        self._rest = rest
        for block in blocks:
            if block:
                yield self._judge(block)

    def _judge(self, block: bytes) -> Frame | Refused:
        if len(block) > MAX_CODED:
            return self._refuse(Cause.BAD_LENGTH)
        raw = cobs_decode(block)
        if raw is None:
            return self._refuse(Cause.BAD_COBS)
        if not OVERHEAD <= len(raw) <= MAX_RAW:
            return self._refuse(Cause.BAD_LENGTH)
        if crc32(raw) != CRC_RESIDUE:
            return self._refuse(Cause.BAD_CRC)
        ident, length, seq, session = HEADER.unpack_from(raw)
        kind = self._known.get(ident)
        payload = raw[HEADER.size : -CRC.size]
        if length != len(payload):
            return self._refuse(Cause.BAD_LENGTH, ident, seq, session)
        if kind is None:
            return self._refuse(Cause.UNKNOWN_ID, ident, seq, session)
        if not kind.fits(payload):
            return self._refuse(Cause.BAD_LENGTH, ident, seq, session)
        if ident in EXEMPT:
            if ident != Trip.ID:
                self._expected = (seq + 1) & 0xFFFF
            self.frames += 1
            return Frame(ident, seq, session, 0, payload)
        if self.session is not None and (session != self.session or session == 0):
            return self._refuse(Cause.STALE_SESSION, ident, seq, session)
        gap = 0 if self._expected is None else (seq - self._expected) & 0xFFFF
        if gap >= 0x10000 - REPEAT_WINDOW:
            return self._refuse(Cause.REPEATED, ident, seq, session)
        self._expected = (seq + 1) & 0xFFFF
        self.frames += 1
        self.gaps += gap
        return Frame(ident, seq, session, gap, payload)

    def _refuse(
        self, cause: Cause, ident: int | None = None, seq: int | None = None, session: int | None = None
    ) -> Refused:
        self.refused[cause] += 1
        return Refused(cause, ident, seq, session)
