"""Puts the tape into the ring: behind the hot path, and only as long as the ring has room to spare.

Samples and events come first: from :data:`SHARE` of the ring on nothing of the tape is written any more, and what was
left out is counted and declared by the first stretch that fits again.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

from edge.instruments.recording import Tape
from edge.ring import Kind, RingWriter
from edge.tape import GAP, VERSION, Entry, pack, time_of

SHARE: Final = 0.25
"""Share of the ring above which the tape is not written. Half an hour of samples then still fit a ring of 16 MiB."""
IDLE_NS: Final = 1_000_000_000
"""While nothing passes a port, the tape waits so long."""
MOST_ENTRIES: Final = 1000
"""In one stretch."""
PREAMBLE_BYTES: Final = 1 << 15
"""A start-up dialogue longer than this is not repeated; a replay then has to begin where the epoch does."""


class TapeWriter:
    """One epoch's tape on its way into the ring."""

    def __init__(self, tape: Tape, ring: RingWriter, epoch: int) -> None:
        """Begin; nothing is written before :meth:`start`."""
        self._entries = tape.entries
        self._ring = ring
        self._epoch = epoch
        self._seq = 0
        self._wrote_ns = 0
        self._start: dict[str, Any] | None = None
        self._preamble: list[bytes] | None = []
        self._complete = False
        self.lost = 0
        """Entries that were not kept, since the start."""
        self._gap = 0
        self._gap_from_ns = 0

    def start(self, document: dict[str, Any]) -> None:
        """Write where and how the epoch begins, before its first stretch. ``document``: plain values."""
        self._start = {"v": VERSION, "epoch": self._epoch, "ring_bytes": self._ring.capacity_bytes, **document}
        if not self._put(Kind.TAPE_START, msgpack.packb({**self._start, "from": "start"})):
            # Without its beginning the rest is of no use.
            self._preamble = None

    def tick(self, now_ns: int) -> None:
        """Write what there is, if it is worth a record; every 20 ms."""
        entries = self._entries
        if not entries:
            return
        if (
            now_ns - self._wrote_ns >= IDLE_NS
            or len(entries) >= MOST_ENTRIES
            or any(entry.__class__ is tuple for entry in entries)
        ):
            self._wrote_ns = now_ns
            self.flush()

    def flush(self) -> None:
        """Write everything now, or count it as lost."""
        entries = self._entries
        for at in range(0, len(entries), MOST_ENTRIES):
            self._stretch(entries[at : at + MOST_ENTRIES])
        entries.clear()

    def _stretch(self, entries: list[Entry]) -> None:
        first_ns = next((t for entry in entries if (t := time_of(entry)) is not None), self._gap_from_ns)
        # A gap ends where this stretch begins.
        payload = pack([(GAP, first_ns, self._gap, self._gap_from_ns), *entries] if self._gap else entries)
        if self._put(Kind.TAPE, payload):
            self._gap = 0
            if self._preamble is not None and not self._complete:
                self._preamble.append(payload)
                if sum(map(len, self._preamble)) > PREAMBLE_BYTES:
                    self._preamble = None
            return
        if not self._gap:
            self._gap_from_ns = first_ns
        self._gap += len(entries)
        self.lost += len(entries)
        if not self._complete:
            self._preamble = None

    def _put(self, kind: Kind, payload: bytes) -> bool:
        if len(payload) > self._ring.capacity_bytes // 4 - 64 or self._ring.used_fraction >= SHARE:
            return False
        if not self._ring.write(kind, self._epoch, self._seq, payload):
            return False
        if kind is Kind.TAPE:
            self._seq += 1
        return True

    @property
    def can_checkpoint(self) -> bool:
        """Whether a replay could begin anywhere but at the start of the epoch."""
        return self._preamble is not None

    def checkpoint(self, t_ns: int, state: dict[str, Any]) -> None:
        """Write a place where a replay can begin: nothing under way, ``state`` what the start-up does not lead to.

        The start-up dialogue goes with it: drivers learn from it what no state says.
        """
        self.flush()
        if self._preamble is None or self._start is None or self._gap:
            return
        self._complete = True
        document = {
            **self._start,
            "from": "checkpoint",
            "checkpoint_ns": t_ns,
            "preamble": self._preamble,
            "state": state,
        }
        self._put(Kind.TAPE_START, msgpack.packb(document))
