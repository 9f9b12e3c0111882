"""Faults on demand from another process: a datagram socket in the file system, one JSON object per question and answer.

Question ``{"inject": [names]}`` or ``{"list": true}``; answer ``{"ok": true, ...}`` or ``{"ok": false, "error": why}``.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from hil.datagram import bind
from hil.errors import BenchOptionError
from hil.faults.injector import Injector

_MAX_BYTES: Final = 65_536
_MAX_NAMES: Final = 64


class Control:
    """The server's end at ``path``; a context manager. Only the user who started the server can write to it."""

    def __init__(self, path: Path, injector: Injector) -> None:
        """Begin to listen; raises BenchOptionError if the path cannot be had. A dead socket there is replaced."""
        self._path = path
        self._injector = injector
        self._socket = bind(path, "--control")

    def __enter__(self) -> Self:
        """Return the open socket."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it and remove the path."""
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def fileno(self) -> int:
        """Return the descriptor that is readable when somebody asks."""
        return self._socket.fileno()

    def ready(self) -> None:
        """Answer one question."""
        try:
            data, who = self._socket.recvfrom(_MAX_BYTES)
        except BlockingIOError:
            return
        answer = json.dumps(self._answer(data)).encode()
        if who:
            # Who does not wait for the answer does not get it.
            with contextlib.suppress(OSError):
                self._socket.sendto(answer, who)

    def _answer(self, data: bytes) -> dict[str, Any]:
        try:
            asked = json.loads(data)
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            return {"ok": False, "error": 'want a JSON object: {"inject": [names]} or {"list": true}'}
        injector = self._injector
        if asked.get("list") is True:
            applied = sorted({one.name for one in injector.applied})
            return {"ok": True, "on_demand": list(injector.on_demand()), "applied": applied}
        names = asked.get("inject")
        if not isinstance(names, list) or not 0 < len(names) <= _MAX_NAMES:
            return {"ok": False, "error": "inject: want 1 to 64 names"}
        unknown = [str(name) for name in names if name not in injector.on_demand()]
        if unknown:
            known = ", ".join(injector.on_demand()) or "none"
            return {"ok": False, "error": f"{', '.join(unknown)}: no fault on demand; there are: {known}"}
        now_ns = time.monotonic_ns()
        try:
            for name in names:
                injector.demand(name, now_ns)
        except BenchOptionError as error:
            return {"ok": False, "error": str(error)}
        return {"ok": True, "demanded": names, "t_ns": now_ns}


def ask(path: Path, question: dict[str, Any], timeout_s: float = 5.0) -> dict[str, Any]:
    """Ask a server; return its answer. Raises BenchOptionError where nobody answers within ``timeout_s``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.settimeout(timeout_s)
        client.bind("")  # a name of its own, outside the file system
        try:
            client.connect(str(path))
            client.send(json.dumps(question).encode())
            answer = json.loads(client.recv(_MAX_BYTES))
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise BenchOptionError(
                f"--control {path}: no answer ({why}); is a server with this --control running?"
            ) from error
    if not isinstance(answer, dict):
        raise BenchOptionError(f"--control {path}: an answer that is none: {answer!r}")
    return answer
