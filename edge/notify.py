"""What systemd wants to hear of a service: ready, alive, what it does, stopping. Standard library only.

The protocol is one datagram of ``NAME=value`` lines to the socket named by ``$NOTIFY_SOCKET`` (sd_notify(3)). Whoever
speaks here has something more important to do: nothing blocks, nothing is raised. A sign of life that does not get
through is gone; that the service is ready, or how it is, is said again when the caller next comes by: a manager that
never hears READY=1 ends the service. Without a socket, as on a desk, everything is a no-op.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Final

SOCKET: Final = "NOTIFY_SOCKET"
WATCHDOG: Final = "WATCHDOG_USEC"
WATCHDOG_PID: Final = "WATCHDOG_PID"
FEEDS: Final = 4
"""Signs of life per watchdog period: three may be lost, or late."""
MAX_STATUS: Final = 200
MAX_PATH: Final = 107
"""Bytes of an address in the kernel's sockaddr_un, its end not counted."""


class Notifier:
    """One process's line to its service manager."""

    def __init__(self, address: str | None, watchdog_ns: int = 0) -> None:
        """Connect to ``address``, a path or ``@name``; None, or one that cannot be had: stay silent.

        ``watchdog_ns``: the manager's patience; 0: it has no watchdog.
        """
        self._socket = _connected(address) if address else None
        self.period_ns = watchdog_ns // FEEDS if self._socket is not None else 0
        """How often :meth:`alive` sends; 0: never."""
        self._due_ns = 0
        self._status = ""
        self._is_ready = False

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] | None = None) -> Notifier:
        """Connect to what the service manager named, and take its names away: a child must not speak for us."""
        variables = os.environ if environment is None else environment
        address = variables.pop(SOCKET, None)
        period, for_pid = variables.pop(WATCHDOG, ""), variables.pop(WATCHDOG_PID, "")
        mine = for_pid in ("", str(os.getpid()))
        return cls(address, int(period) * 1000 if mine and period.isdecimal() and len(period) < 16 else 0)

    @property
    def listening(self) -> bool:
        """There is a service manager that listens."""
        return self._socket is not None

    def ready(self, status: str) -> None:
        """Say that the service does what it is for, and how it is; only until it got through."""
        if not self._is_ready and self._send(f"READY=1\nSTATUS={_one_line(status)}"):
            self._is_ready = True
            self._status = status

    def status(self, text: str) -> None:
        """Say in words what goes on, where it has changed."""
        if text != self._status and self._send(f"STATUS={_one_line(text)}"):
            self._status = text

    def alive(self, now_ns: int) -> None:
        """Feed the watchdog where that is due. Call it only where progress was seen, and as often as you like."""
        if self.period_ns and now_ns >= self._due_ns:
            self._due_ns = now_ns + self.period_ns
            self._send("WATCHDOG=1")

    def stopping(self, status: str) -> None:
        """Say that the end has begun."""
        self._status = status
        self._send(f"STOPPING=1\nSTATUS={_one_line(status)}")

    def _send(self, text: str) -> bool:
        """Return whether it got through, or nobody listens."""
        if self._socket is not None:
            # A full or vanished socket is the manager's trouble, never the rig's.
            try:
                self._socket.send(text.encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except OSError:
                return False
        return True

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self.period_ns = 0


def _connected(address: str) -> socket.socket | None:
    raw = os.fsencode(address)
    if len(raw) > MAX_PATH or raw[:1] not in (b"/", b"@") or len(raw) < 2:
        return None
    # A name of the abstract namespace is written with @ where the kernel wants a zero byte.
    name = b"\0" + raw[1:] if raw[:1] == b"@" else raw
    try:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    except OSError:
        return None
    try:
        link.connect(name)
    except OSError:
        link.close()
        return None
    return link


def _one_line(text: str) -> str:
    """Return what fits into a status line: a line feed would begin another assignment."""
    return " ".join(text.split())[:MAX_STATUS]
