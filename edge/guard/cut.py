"""The cut: the bytes that take the bias away, and the proof that they did. Standard library only, sans-I/O.

The worker, the keeper and ``safe-off`` all cut with this module, so that what was tested is what runs when the rest
of the process is gone. Rules (DESIGN section 5): each line of a cut stands alone (after an invalid command the 2400
ignores the rest of a message); an abort goes first only if a query is outstanding, because an abort may swallow what
follows it; a round that no tagged reply answers is repeated without the abort; it is repeated until it is verified.
"""

from __future__ import annotations

import enum
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from firmware_proto.keithley2400 import commands, replies

ROUND_NS: Final = 40_000_000
"""Wait for a tagged reply before the cut is repeated, beyond the wire time of the round itself."""
SLOW_ROUND_NS: Final = 250_000_000
"""Pace of the rounds after the alarm: an instrument that is back after a power cycle must still get its cut."""
ROUNDS_TO_ALARM: Final = 3
_SAFE_LEVEL_V: Final = 1e-6
_REPLY_BYTES: Final = 24


class CutForm(enum.IntEnum):
    """What "safe" means for a rig, and so which lines cut it. Values are frozen: they travel in the page."""

    UNKNOWN = 0
    """Abort and output off: the only lines right for any rig."""
    TIP = 1
    """0 V, then off: the off-spike of the 2400 then starts from 0 V (release notes C34, PR57340)."""
    CELL = 2
    """Output off only: 0 V would short a charged cell."""

    @property
    def lines(self) -> tuple[bytes, ...]:
        """The lines of this form, each with its terminator."""
        return _LINES[self]

    @property
    def wants_zero(self) -> bool:
        """True where a cut is only verified once the programmed level is 0 V."""
        return self is CutForm.TIP


_LINES: Final[dict[CutForm, tuple[bytes, ...]]] = {
    CutForm.UNKNOWN: (commands.OUTPUT_OFF,),
    CutForm.TIP: (commands.ZERO, commands.OUTPUT_OFF),
    CutForm.CELL: (commands.OUTPUT_OFF,),
}


def cut_form(kind: str) -> CutForm:
    """Return the form for a ``rig.kind``; anything unknown gets the form that is right for any rig."""
    return {"tip": CutForm.TIP, "cell": CutForm.CELL}.get(kind, CutForm.UNKNOWN)


class Cut:
    """One cut under way. Times are CLOCK_MONOTONIC in ns, given by the caller; bytes are returned, never written."""

    def __init__(
        self,
        lines: tuple[bytes, ...],
        *,
        wants_zero: bool,
        abort: bytes,
        query_outstanding: bool,
        baud: int,
        first_tag: int,
        reply_ns: int = 0,
    ) -> None:
        """Prepare a cut by ``lines`` (see :class:`CutForm`) on a line of ``baud`` bit/s (0: no wire time).

        ``first_tag`` (any int) seeds the tags of this cut; it should differ from the last cut's. ``reply_ns``: by how
        much this instrument is known to answer later than it should; each round waits so much longer.
        """
        self._lines = b"".join(lines)
        self._wants_zero = wants_zero
        self._abort = abort if query_outstanding else b""
        self._byte_ns = 10_000_000_000 // baud if baud else 0
        self._reply_ns = reply_ns
        self._tag = first_tag % 255
        self._tags: set[int] = set()
        self._due_ns = 0
        self.rounds = 0
        self.stale_replies = 0
        self.started_ns = 0
        self.verified_ns: int | None = None

    @property
    def verified(self) -> bool:
        """True once a tagged reply said: output off, and for a tip level 0."""
        return self.verified_ns is not None

    @property
    def alarm(self) -> bool:
        """True from the third failed round on: CUT_UNVERIFIED."""
        return not self.verified and self.rounds > ROUNDS_TO_ALARM

    @property
    def due_ns(self) -> int:
        """When :meth:`next_round` is due if no reply verifies the cut before."""
        return self._due_ns

    def next_round(self, now_ns: int) -> bytes:
        """Return the bytes of a round: [abort] newline, the cut lines, the tagged query."""
        if not self.rounds:
            self.started_ns = now_ns
        head = self._abort if not self.rounds else b""
        # Tags count up within a cut and are never 0, so that two rounds are never confused.
        self._tag = self._tag % 255 + 1
        self._tags.add(self._tag)
        data = head + b"\n" + self._lines + commands.tagged_query(self._tag)
        self.rounds += 1
        wire_ns = (len(data) + _REPLY_BYTES) * self._byte_ns + self._reply_ns
        self._due_ns = now_ns + wire_ns + (ROUND_NS if self.rounds <= ROUNDS_TO_ALARM else SLOW_ROUND_NS)
        return data

    def feed(self, line: bytes, now_ns: int) -> bool:
        """Look at a reply line; True if it verifies the cut.

        Any tag of this cut will do: each of its queries followed the cut lines. Everything else is stale.
        """
        try:
            reply = replies.parse_verification(line)
        except RemoteProtocolError:
            self.stale_replies += 1
            return False
        if reply.tag not in self._tags:
            self.stale_replies += 1
            return False
        if reply.output_on or (self._wants_zero and abs(reply.level_v) > _SAFE_LEVEL_V):
            # A valid answer that the output is still on: repeat at once, not after the wait.
            self._due_ns = now_ns
            return False
        self.verified_ns = now_ns
        return True
