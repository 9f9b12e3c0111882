"""Reads of a paho client from a buffer: paho asks the kernel for one byte, for the length, then for the rest.

At full speed a store or an uplink saves most of these calls. Each gives the interpreter's lock away, too, which a
thread that writes to the disk likes to take.
"""

# ruff: noqa: SLF001 - paho offers no other place for it.
from __future__ import annotations

import contextlib
import socket
from typing import Any, Final

READ_BYTES: Final = 1 << 16
FIRST_BYTES: Final = 1 << 12
"""Read ahead at first; twice as much after each read that was full, half where that was very many packets."""
PACKETS: Final = 128
"""So many packets of a buffer, about, before the event loop has its turn."""
INSIDE: Final = ("_create_socket", "_sock")
"""What is used of a client's inside."""


class BufferedSocket:
    """A connected, non-blocking socket whose :meth:`recv` reads ahead; in everything else the socket itself."""

    def __init__(self, sock: Any) -> None:  # noqa: ANN401 - a socket, a TLS socket, or paho's own of a websocket
        """Take over ``sock``."""
        self._sock = sock
        # Else the end of what is sent may wait for the broker's kernel to acknowledge its beginning. aiomqtt sets
        # options on plain sockets only.
        self._option(socket.TCP_NODELAY)
        self._error: OSError | None = None
        self.data = b""
        """What has been read ahead."""
        self.at = 0
        """Up to where of it has been taken."""
        self._reading_on = False
        """aiomqtt's callback is under way, and has been told that there is more."""
        self._packets = 0
        self._size = FIRST_BYTES
        self.send = sock.send
        self._sock_pending = getattr(sock, "pending", None)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the socket's
        """Return what the socket has by that name."""
        return getattr(self._sock, name)

    def fill(self) -> None:
        """Read ahead what there is, if everything was taken. Raises nothing: :meth:`recv` will."""
        if self.at == len(self.data) and self._error is None and not self._enough():
            if self._packets > PACKETS:
                self._size = max(self._size // 2, FIRST_BYTES // 4)
            elif len(self.data) == self._size:
                self._size = min(2 * self._size, READ_BYTES)
            self._packets = 0
            try:
                self.data, self.at = self._sock.recv(self._size), 0
            except OSError as error:
                # That there is nothing to read is one, too. The kernel says it only once.
                self._error = error
                return
            # The kernel forgets it with every read. Put off for up to 40 ms otherwise, our acknowledgement is what a
            # broker's kernel may wait for before it sends the rest of what it has for us (Nagle's algorithm).
            self._option(socket.TCP_QUICKACK)

    def _enough(self) -> bool:
        """Return True where a callback has had its buffer: what the kernel still has will wake the next one.

        A buffer mostly ends within a packet. Filled up for that each time, one callback would last as long as a flood.
        What TLS has decrypted already wakes nobody.
        """
        return self._reading_on and not self._behind()

    def _behind(self) -> int:
        return 0 if self._sock_pending is None else int(self._sock_pending())

    def _option(self, option: int) -> None:
        # What is no TCP socket has no such option, and no need of it.
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.IPPROTO_TCP, option, 1)

    def recv(self, size: int) -> bytes:
        """Return 1 to ``size`` bytes, b"" at the end of the stream; raise what the socket raises."""
        if self.at == len(self.data) and self._error is None and self._enough():
            raise BlockingIOError
        self.fill()
        if self.at == len(self.data) and self._error is not None:
            error, self._error = self._error, None
            raise error
        end = self.at + size
        taken, self.at = self.data[self.at : end], min(end, len(self.data))
        return taken

    def pending(self) -> int:
        """Return how many bytes can be had without asking the kernel; aiomqtt reads on while there are any."""
        left = len(self.data) - self.at + self._behind()
        self._reading_on = left > 0
        self._packets += 1
        return left


def buffer_reads(client: Any) -> bool:  # noqa: ANN401 - its inside has no types
    """Have a client read from a buffer, from its next connection on.

    Returns False, and changes nothing, where the client's inside is another.
    """
    if not all(hasattr(client, name) for name in INSIDE):
        return False
    theirs = client._create_socket
    client._create_socket = lambda: BufferedSocket(theirs())
    return True
