"""The byte stream to one instrument: what drivers see of a port.

Real ports implement it in :mod:`edge.instruments.port`; ``hil.line`` implements it in memory under a virtual clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable


@runtime_checkable
class Transport(Protocol):
    """Non-blocking bytes in both directions. Every method raises ``LinkLostError`` once the link is gone."""

    @property
    def name(self) -> str:
        """Path or label of the port, for messages."""

    @property
    def emulated(self) -> bool:
        """True if and only if the device is a pseudo-terminal (major 136-143) or lives in memory."""

    @property
    def baud(self) -> int:
        """Line rate in bit/s; 0 where bytes take no time."""

    def read(self) -> bytes:
        """Return what has arrived, at most 4096 bytes; empty when nothing has."""

    def write(self, data: bytes) -> int:
        """Hand bytes to the line and return how many it took (may be fewer than given, even 0)."""

    def unsent(self) -> int:
        """Return how many accepted bytes are not yet on the wire (TIOCOUTQ); 0 where that cannot be known."""

    def on_readable(self, callback: Callable[[], None] | None) -> None:
        """Call ``callback`` whenever bytes have arrived; None stops that."""

    def close(self) -> None:
        """Let go of the port. Never changes what the instrument does."""


class Unplugged:
    """A transport with a name and a rate and nothing behind it, where only a driver's own work or arithmetic is wanted.

    Nothing arrives, everything is taken. Give :meth:`read` another body for a line that is always the same.
    """

    emulated = True

    def __init__(self, name: str, baud: int) -> None:
        """``baud`` in bit/s."""
        self.name = name
        self.baud = baud

    def read(self) -> bytes:
        """Nothing ever arrives."""
        return b""

    def write(self, data: bytes) -> int:
        """Take everything and send nothing."""
        return len(data)

    def unsent(self) -> int:
        """Nothing waits."""
        return 0

    def on_readable(self, callback: Callable[[], None] | None) -> None:
        """Never calls it."""

    def close(self) -> None:
        """Nothing to close."""
