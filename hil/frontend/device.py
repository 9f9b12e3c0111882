"""A front end whose firmware runs in a process of its own, as a device on a line of the bench, in real time.

Between the firmware and the client stands the bench's line, so that every fault of a wire can stand there, too. What
the client does not take is not read from the firmware either, as a USB device is not asked while its host has no room:
what then is lost, the firmware loses and counts.
"""

from __future__ import annotations

import time
from typing import Final

from firmware_proto.frontend.messages import ResetCause
from hil.frontend.feed import Feed
from hil.frontend.firmware import Firmware
from hil.frontend.unit import Told
from hil.line.pacing import NEVER
from hil.line.pty import PtyLine
from hil.protocols import Wire

LINE_BYTES: Final = 256
"""So much may wait for its turn on a line with a rate before the firmware has to."""
_AGAIN_NS: Final = 1_000_000
"""When a client that has no room is asked again."""


class ServedFrontend:
    """Implements :class:`hil.frontend.unit.FrontendUnit`, and is waited for by :func:`hil.line.pty.run_lines`."""

    def __init__(self, firmware: Firmware, feed: Feed) -> None:
        """``firmware``: running, the caller's."""
        self._firmware = firmware
        self._feed = feed
        self._wire: Wire | None = None
        self._line: PtyLine | None = None
        self._power_on_ns = NEVER
        self.lost_bytes = 0
        """Sent to a device without power or room."""

    @property
    def closed(self) -> bool:
        """See FrontendUnit."""
        return self._feed.closed

    # -- a device on a line

    def attach(self, wire: Wire) -> None:
        """See Device."""
        self._wire = wire

    def on_line(self, line: PtyLine) -> None:
        """Know the line it is on, to see whether there is room."""
        self._line = line

    def receive(self, t_ns: int, data: bytes) -> None:
        """See Device."""
        del t_ns
        self.lost_bytes += len(data) - self._firmware.write(data)

    def next_event_ns(self) -> int | None:
        """See Device."""
        return min(self._feed.next_ns, self._power_on_ns)

    def advance(self, t_ns: int) -> None:
        """See Device."""
        if self._power_on_ns <= t_ns:
            self._power_on_ns = NEVER
            self._firmware.power_on()
        self._feed.step(t_ns)

    # -- waited for

    def fileno(self) -> int:
        """Return the descriptor that is readable when the firmware has sent something."""
        return self._firmware.fileno()

    def ready(self) -> None:
        """Put what the firmware has sent onto the line."""
        data = self._firmware.read()
        if data and self._wire is not None:
            self._wire.send(time.monotonic_ns(), data)

    def holds_until_ns(self, now_ns: int) -> int:
        """Return until when nothing is read from the firmware; 0: read it."""
        if not self._firmware.powered:
            return self._power_on_ns
        line = self._line
        if line is None:
            return 0
        if line.backlog:
            return now_ns + _AGAIN_NS
        pacer = line.duplex.to_reader
        return pacer.next_ns if pacer.baud and pacer.unstarted(now_ns) > LINE_BYTES else 0

    # -- what goes wrong

    def freeze(self, t_ns: int) -> None:
        """See FrontendUnit."""
        del t_ns
        self._firmware.freeze()

    def thaw(self, t_ns: int) -> None:
        """See FrontendUnit."""
        del t_ns
        self._firmware.thaw()

    def reset(self, t_ns: int, *, off_ns: int = 0, cause: ResetCause = ResetCause.POWER) -> None:
        """See FrontendUnit; a process that was killed cannot tell why it starts."""
        del cause
        self._firmware.power_off()
        self._feed.restarted()
        self._feed.step(t_ns)
        self._power_on_ns = t_ns + off_ns
        if not off_ns:
            self.advance(t_ns)

    def stick_switch(self, t_ns: int, *, stuck: bool, told: Told | None = None) -> None:
        """See FrontendUnit."""
        self._feed.stick(t_ns, stuck=stuck, told=told)

    def silence_converter(self, t_ns: int, *, silent: bool) -> None:
        """See FrontendUnit."""
        del t_ns
        self._firmware.memory.answer(silent=silent)

    def hold_converter(self, t_ns: int, *, held: bool, told: Told | None = None) -> None:
        """See FrontendUnit."""
        self._feed.hold(t_ns, held=held, told=told)
