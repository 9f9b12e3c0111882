"""Whose instrument answers behind a port that was opened anew. Standard library only, sans-I/O.

A cut goes out before anybody is asked: whoever is there, with its output on, is better off without. Then ``*IDN?``,
and nothing before its reply is understood. An instrument with another serial number is somebody else's: it gets
nothing more. A reply that lost a byte must not make a stranger of the rig's own instrument while that is still on: it
counts only from one that has confirmed the cut, or said twice.
"""

from __future__ import annotations

import re
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from firmware_proto.keithley2400 import commands, replies

_REPLY_BYTES: Final = 100
_SERIAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9/_-]{0,31}")
"""A serial number; what is left of an identity of which a piece was lost mostly is none."""


class Whose:
    """Asks an instrument who it is, beside the rounds of a cut, until it is known."""

    def __init__(self, serial_number: str, baud: int) -> None:
        """``serial_number`` of the rig's own instrument; "" where it is not known, and then nobody is ever asked."""
        self._own = serial_number
        self._reply_ns = (len(commands.IDENTIFY) + _REPLY_BYTES) * 10_000_000_000 // max(baud, 1)
        self.asking = False
        """Somebody is there, and it is not known who."""
        self.known = False
        """The rig's own instrument said so."""
        self._suspect = ""
        self.stranger: str | None = None
        """Serial number of the other instrument that is there; None if there is none, or it is not known yet."""

    def reopened(self) -> None:
        """The port was opened anew: what was known of whoever is behind it is worth nothing."""
        self.asking = bool(self._own)
        self.known = False
        self.stranger = None
        self._suspect = ""

    @property
    def question(self) -> bytes:
        """What goes behind a round of the cut."""
        return commands.IDENTIFY if self.asking else b""

    @property
    def reply_ns(self) -> int:
        """By how much longer than the round itself its replies take on the line."""
        return self._reply_ns if self.asking else 0

    def feed(self, line: bytes, *, confirmed: bool) -> None:
        """Look at a reply line. One that is no whole identity says nothing: it is asked again with the next round.

        ``confirmed``: whoever is there has confirmed the cut.
        """
        if not self.asking:
            return
        try:
            identity = replies.parse_identity(line)
        except RemoteProtocolError:
            return
        serial_number = identity.serial_number
        if serial_number == self._own:
            self.asking, self.known = False, True
        elif _SERIAL.fullmatch(serial_number):
            if confirmed or serial_number == self._suspect:
                self.asking, self.stranger = False, serial_number
            self._suspect = serial_number
