"""QEMU's machine protocol (QMP), as far as a bench needs it: commands over a Unix socket, one at a time.

JSON lines; a reply carries the id of its command, and what carries none is an event or the greeting. Form: QEMU
"qmp-spec" and "QMP reference manual", version 7.2.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Final

from hil.errors import BenchFaultError

MAX_LINE: Final = 1 << 20
"""Longest line taken from QEMU, bytes."""
MAX_EVENTS: Final = 256
"""Events kept at most; older ones are forgotten."""


class Qmp:
    """One connection, its greeting taken and commands negotiated."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        """Connect to a server at ``path``; raise OSError while there is none, BenchFaultError if it is no QMP."""
        self.events: list[str] = []
        """Names of events, in their order: "STOP", "RESUME", "RESET", "WATCHDOG", ..."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._buffer = b""
        self._id = 0
        try:
            self._socket.settimeout(timeout_s)
            self._socket.connect(str(path))
            self._greet(path)
        except BaseException:
            self._socket.close()
            raise

    def _greet(self, path: Path) -> None:
        try:
            greeting = self._line()
        except OSError as error:
            raise BenchFaultError(f"{path}: no QMP greeting: {error.strerror or error}") from error
        if "QMP" not in greeting:
            raise BenchFaultError(f"{path}: no QMP greeting")
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
        """Return what ``command`` returns; raise BenchFaultError where QEMU refuses it, goes away or is silent."""
        self._id += 1
        request = {"execute": command, "arguments": arguments, "id": self._id}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            while True:
                reply = self._line()
                if reply.get("id") == self._id:
                    break
                self._note(reply)
        except OSError as error:
            raise BenchFaultError(f"QMP {command}: {error.strerror or error}") from error
        if "error" in reply:
            raise BenchFaultError(f"QMP {command}: {reply['error'].get('desc', reply['error'])}")
        return reply.get("return")

    def wait_event(self, name: str) -> None:
        """Return once an event of that name has come since the last call for it; raise BenchFaultError on silence."""
        try:
            while name not in self.events:
                self._note(self._line())
        except OSError as error:
            raise BenchFaultError(f"QMP: no event {name}: {error.strerror or error}") from error
        self.events.remove(name)

    def close(self) -> None:
        """Close the connection; QEMU goes on."""
        self._socket.close()

    def _note(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self.events = [*self.events[1 - MAX_EVENTS :], str(message["event"])]

    def _line(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_LINE:
                raise BenchFaultError(f"QMP: a line of more than {MAX_LINE} bytes")
            data = self._socket.recv(65536)
            if not data:
                raise BenchFaultError("QMP: QEMU closed the connection")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message = json.loads(line)
        except ValueError as error:
            raise BenchFaultError(f"QMP: not JSON: {line[:80]!r}") from error
        if not isinstance(message, dict):
            raise BenchFaultError(f"QMP: not an object: {line[:80]!r}")
        return message
