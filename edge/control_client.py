"""Asking a running controller, over its control socket; for the command line and the uplink."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, Final, Self

import msgpack

from edge.errors import BusyError, ConfigError

VERSION: Final = 1
MAX_MESSAGE: Final = 256 * 1024


class ControlClient:
    """The other end, for the command line and the uplink; blocking."""

    def __init__(self, path: Path, timeout_s: float = 2.0) -> None:
        """Connect; raise :class:`BusyError` when nobody serves."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            # Some have no number: a path that is too long, for one.
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise BusyError(
                f"no controller answers at {path} ({reason}); start it with `tipguard serve CONFIG` or "
                "`tipguard controller CONFIG`"
            ) from error

    def call(self, verb: str, **args: Any) -> dict[str, Any]:  # noqa: ANN401 - checked at the other end
        """Ask and return the reply map; raise :class:`BusyError` when the worker does not answer in time."""
        try:
            self._socket.sendall(msgpack.packb({"v": VERSION, "verb": verb, "args": args}))
            reply = self._socket.recv(MAX_MESSAGE)
        except OSError as error:
            # A reply that comes late must not be taken for that to the next question.
            self.close()
            raise BusyError(f"the controller does not answer ({error}); is it restarting?") from error
        if not reply:
            raise BusyError("the controller closed the connection; is it restarting?")
        try:
            answer = msgpack.unpackb(reply)
        except (ValueError, msgpack.UnpackException) as error:
            raise ConfigError("the controller's reply is not msgpack; are both of the same version?") from error
        if not isinstance(answer, dict):
            raise ConfigError("the controller's reply is not a map; are both of the same version?")
        return answer

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
