"""When to poll without sleeping: just before a reply is due, as a network driver does with a latency it must keep.

A process that sleeps in its poll pays for waking up: the processor has to leave its idle state, and its caches hold
what others did. So for the last millisecond and a half before the end of a reply the worker does not sleep. Where
bytes come one after another it knows the end from how many are there; where a reply comes as a whole, from how long
the quickest of the last ones took. At most :data:`SPIN_NS` a reply, some 9 % of a core at 57600 baud; what that buys
is measured by ``tipguard bench reaction`` and ``bench wire``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from edge.guard.guard import Guard
from edge.guard.states import State
from edge.instruments.link import Link
from edge.instruments.port import Watch

NEAR_NS: Final = 1_500_000
"""So long before the end is due the sleep is over."""
LATE_NS: Final = 500_000
"""So long after it is due the wait goes on without sleep."""
SPIN_NS: Final = NEAR_NS + LATE_NS
"""At most so long for one reply whose bytes can be counted."""
WHOLE_NS: Final = 4_000_000
"""At most so long, from :data:`NEAR_NS` before the quickest on, for one that comes as a whole."""
REHEARSAL_NS: Final = 300_000
"""No rehearsal is begun later than this before the end is due: it would be in the way."""
REHEARSE_NS: Final = 150_000
"""From one rehearsal to the next, while a watch goes on and there is time."""
AWAKE_NS: Final = 100_000
"""Without sleep at a stretch, for a reply that comes as a whole. Bytes that come one by one are brought each by the
kernel's thread, which needs a processor: for those there are naps only."""
_BITS: Final = 10
"""Of a byte on the line, 8N1."""
_FORGET: Final = 64
"""The quickest reply is believed a 64th less with every reply."""


class BusyPoll:
    """Call it before every wait of the loop. It touches neither the port nor anything that decides."""

    def __init__(self, guard: Guard, link: Link, rehearse: Callable[[], None]) -> None:
        """``rehearse``: called where there is time for it."""
        self._machine = guard.machine
        self._link = link
        self._rehearse = rehearse
        self._byte_ns = _BITS * 1_000_000_000 // link.transport.baud
        self._asked = -1
        self._asked_ns = 0
        self._quickest_ns = 0
        self._longest = 0
        self._in_pieces = False
        self._came_in_pieces = False
        self._rehearsed = False
        self._spent_ns = 0
        self._granted: Watch | None = None

    def __call__(self) -> Watch | None:
        """Rehearse if there is time; return when to stop sleeping, or None where there is nothing to be quick for."""
        link = self._link
        if self._machine.state is not State.ENERGISED or not link.outstanding:
            self._granted = None
            return None
        now_ns = time.monotonic_ns()
        if link.asked != self._asked:
            self._next_reply(now_ns)
        elif self._granted is not None:
            self._spent_ns += max(now_ns - self._granted.from_ns, 0)
        self._granted = None
        due_ns = self._due_ns(now_ns)
        most_ns = SPIN_NS if link.held else WHOLE_NS
        if due_ns is None or self._spent_ns >= most_ns:
            self._rehearse()
            return None
        if due_ns - now_ns > REHEARSAL_NS or not self._rehearsed:
            self._rehearse()
            self._rehearsed = True
        from_ns = max(due_ns - NEAR_NS, now_ns)
        until_ns = from_ns + most_ns - self._spent_ns
        if link.held:
            # Where bytes are counted the end is known well; the quickest of whole replies is only their beginning.
            until_ns = min(until_ns, due_ns + LATE_NS)
            self._granted = Watch(from_ns, until_ns, 0, due_ns - REHEARSAL_NS, self._rehearse, REHEARSE_NS)
        else:
            self._granted = Watch(from_ns, until_ns, AWAKE_NS, until_ns, self._rehearse, REHEARSE_NS)
        return self._granted

    def _next_reply(self, now_ns: int) -> None:
        link = self._link
        if self._asked >= 0:
            took_ns = now_ns - self._asked_ns
            slower_ns = self._quickest_ns + self._quickest_ns // _FORGET
            self._quickest_ns = min(took_ns, slower_ns) if self._quickest_ns else took_ns
            self._longest = max(self._longest, link.reply_bytes)
            self._in_pieces = self._came_in_pieces
        self._asked, self._asked_ns = link.asked, now_ns
        self._came_in_pieces = self._rehearsed = False
        self._spent_ns = 0

    def _due_ns(self, now_ns: int) -> int | None:
        """Return when the reply's last byte is expected; None where that is not known."""
        held = self._link.held
        if held:
            if not self._came_in_pieces:
                self._came_in_pieces = True
                self._spent_ns = 0
            left = self._longest + 1 - held
            return now_ns + left * self._byte_ns if left > 0 else None
        if self._in_pieces or not self._quickest_ns:
            return None
        return max(self._asked_ns + self._quickest_ns, now_ns)
