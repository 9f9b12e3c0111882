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
        self.send = sock.send
        self._sock_pending = getattr(sock, "pending", None)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the socket's
        """Return what the socket has by that name."""
        return getattr(self._sock, name)

    def fill(self) -> None:
        """Read ahead what there is, if everything was taken. Raises nothing: :meth:`recv` will."""
        if self.at == len(self.data) and self._error is None:
            try:
                self.data, self.at = self._sock.recv(READ_BYTES), 0
            except OSError as error:
                # That there is nothing to read is one, too. The kernel says it only once.
                self._error = error
                return
            # The kernel forgets it with every read. Put off for up to 40 ms otherwise, our acknowledgement is what a
            # broker's kernel may wait for before it sends the rest of what it has for us (Nagle's algorithm).
            self._option(socket.TCP_QUICKACK)

    def _option(self, option: int) -> None:
        # What is no TCP socket has no such option, and no need of it.
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.IPPROTO_TCP, option, 1)

    def recv(self, size: int) -> bytes:
        """Return 1 to ``size`` bytes, b"" at the end of the stream; raise what the socket raises."""
        self.fill()
        if self.at == len(self.data) and self._error is not None:
            error, self._error = self._error, None
            raise error
        end = self.at + size
        taken, self.at = self.data[self.at : end], min(end, len(self.data))
        return taken

    def pending(self) -> int:
        """Return how many bytes can be had without asking the kernel; aiomqtt reads on while there are any."""
        behind = self._sock_pending() if self._sock_pending is not None else 0
        return len(self.data) - self.at + int(behind)


def buffer_reads(client: Any) -> bool:  # noqa: ANN401 - its inside has no types
    """Have a client read from a buffer, from its next connection on.

    Returns False, and changes nothing, where the client's inside is another.
    """
    if not all(hasattr(client, name) for name in INSIDE):
        return False
    theirs = client._create_socket
    client._create_socket = lambda: BufferedSocket(theirs())
    return True
