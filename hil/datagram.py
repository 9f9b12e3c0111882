"""Datagram sockets in the file system: a path that only the user who started the server can write to.

Either one-way (:func:`bind`), or one JSON object per question and answer (:class:`Answering`, :func:`ask`).
"""

from __future__ import annotations

import abc
import contextlib
import errno
import json
import os
import socket
import stat
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from hil.errors import BenchOptionError

_MAX_BYTES: Final = 65_536


def bind(path: Path, option: str) -> socket.socket:
    """Return a socket at ``path`` that never blocks; a dead one there is replaced.

    Raises BenchOptionError, naming ``option``, if the path cannot be had.
    """
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        _clear(path)
        mask = os.umask(0o177)
        try:
            bound.bind(str(path))
        finally:
            os.umask(mask)
    except OSError as error:
        bound.close()
        why = "is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise BenchOptionError(f"{option} {path}: {why}; name a new path in a writable directory") from error
    return bound


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens to."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


class Answering(abc.ABC):
    """The server's end of questions and answers at a path; a context manager."""

    def __init__(self, path: Path, option: str) -> None:
        """Begin to listen; see :func:`bind`."""
        self._path = path
        self._socket = bind(path, option)

    @abc.abstractmethod
    def answer(self, asked: object) -> dict[str, Any]:
        """Return the answer to a question as JSON gave it; None stands for what is no JSON."""

    def answer_to(self, data: bytes) -> dict[str, Any]:
        """Return the answer to a question as it came."""
        try:
            asked = json.loads(data)
        except ValueError:
            asked = None
        return self.answer(asked)

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
        answer = json.dumps(self.answer_to(data)).encode()
        if who:
            # Who does not wait for the answer does not get it.
            with contextlib.suppress(OSError):
                self._socket.sendto(answer, who)


def ask(path: Path, question: dict[str, Any], timeout_s: float = 5.0, *, option: str = "--control") -> dict[str, Any]:
    """Ask the server that was given ``path`` as ``option``; return its answer.

    Raises BenchOptionError where nobody answers within ``timeout_s``.
    """
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
                f"{option} {path}: no answer ({why}); is a server with this {option} running?"
            ) from error
    if not isinstance(answer, dict):
        raise BenchOptionError(f"{option} {path}: an answer that is none: {answer!r}")
    return answer
