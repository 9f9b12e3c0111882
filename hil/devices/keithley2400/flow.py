"""XON/XOFF flow control of the emulated 2400 (User's Manual 14-15).

Towards the client: XOFF once more than three quarters of the input queue are full, XON once less than half are. From
the client: XOFF stops the unit's replies behind the byte that is under way, XON lets them go on. Both characters jump
the queue, as in any serial driver that knows them, and pass also while replies are stopped.

The line takes a reply whole. What of it has not begun when something is to happen in between is taken back with
:meth:`hil.protocols.Wire.discard` and sent again later; how much that is follows from the line's rate, which the unit
knows: it is set at its own panel.
"""

from __future__ import annotations

import enum
from typing import Final

from hil.line.pacing import AT_LINE_END, Pacer
from hil.protocols import Wire

XON: Final = b"\x11"
XOFF: Final = b"\x13"


class Flow(enum.Enum):
    """What can be selected in the RS-232 menu."""

    NONE = "none"
    XON_XOFF = "xon-xoff"


class Outlet:
    """The unit's side of a line with flow control; implements :class:`hil.protocols.Wire` for the unit."""

    def __init__(self, wire: Wire, baud: int) -> None:
        """Send through ``wire``, a line of ``baud`` bit/s (0: bytes take no time)."""
        self._wire = wire
        self._mirror = Pacer(baud, AT_LINE_END)
        self._held = bytearray()
        self._stopped = False
        self._told_off = False

    def send(self, t_ns: int, data: bytes) -> None:
        """Send a reply, or keep it while the client has stopped us."""
        if self._stopped:
            self._held += data
        else:
            self._push(t_ns, data)

    def discard(self, t_ns: int) -> None:
        """Drop what has not begun, and what is kept; neither side's XOFF is lifted by that."""
        self._held.clear()
        self._recall(t_ns)
        self._wire.discard(t_ns)

    def stop(self, t_ns: int) -> None:
        """Obey the client's XOFF."""
        if not self._stopped:
            self._stopped = True
            self._held += self._recall(t_ns)

    def resume(self, t_ns: int) -> None:
        """Obey the client's XON."""
        self._stopped = False
        if self._held:
            held = bytes(self._held)
            self._held.clear()
            self._push(t_ns, held)

    def watch(self, t_ns: int, level: int, capacity: int) -> None:
        """Look at the input queue, ``level`` of ``capacity`` bytes, and tell the client what it must know."""
        if not self._told_off:
            if 4 * level > 3 * capacity:
                self._told_off = True
                self._ahead(t_ns, XOFF)
        elif 2 * level < capacity:
            self._told_off = False
            self._ahead(t_ns, XON)

    def _ahead(self, t_ns: int, character: bytes) -> None:
        rest = self._recall(t_ns)
        self._push(t_ns, character)
        if rest:
            self._push(t_ns, rest)

    def _push(self, t_ns: int, data: bytes) -> None:
        mirror = self._mirror
        while mirror.next_ns <= t_ns:
            mirror.pop()
        self._wire.send(t_ns, data)
        mirror.push(t_ns, data)

    def _recall(self, t_ns: int) -> bytes:
        """Take back what has not begun on the wire, and return it."""
        rest = self._mirror.discard(t_ns)
        if rest:
            self._wire.discard(t_ns)
        return rest
