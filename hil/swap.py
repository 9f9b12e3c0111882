"""Another resistor at the terminals of a served 2400: what a person's hands do while a rig is commissioned.

A datagram socket in the file system. Question ``{"load": "ohmic:R"}`` or ``{"load": "open"}``; answer ``{"ok": true,
"load": ...}`` or ``{"ok": false, "error": why}``.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from hil.datagram import bind
from hil.errors import BenchOptionError
from hil.faults.control import ask
from hil.twin.ohmic import OhmicLoad
from hil.twin.spec import parse_load

OPEN: Final = "open"
OPEN_OHM: Final = 1e15
"""What the twin can be at most: nothing that a 2400 sees."""
_MAX_BYTES: Final = 4096


class Swap:
    """The server's end at ``path``; a context manager. Only the user who started the server can write to it."""

    def __init__(self, path: Path, load: OhmicLoad) -> None:
        """Begin to listen; raises BenchOptionError if the path cannot be had."""
        self._path = path
        self._load = load
        self._socket = bind(path, "--swap")

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
        text = asked.get("load") if isinstance(asked, dict) else None
        if not isinstance(text, str):
            return {"ok": False, "error": 'want a JSON object: {"load": "ohmic:R"} or {"load": "open"}'}
        try:
            self._load.replace(OPEN_OHM if text == OPEN else parse_load(text).r_ohm)
        except BenchOptionError as error:
            return {"ok": False, "error": str(error)}
        return {"ok": True, "load": text}


def swap(path: Path, load: str) -> None:
    """Put ``load`` (``ohmic:R`` or ``open``) at the terminals of the server with ``--swap path``.

    Raises BenchOptionError where nobody answers, or what it refused.
    """
    answer = ask(path, {"load": load})
    if answer.get("ok") is not True:
        raise BenchOptionError(f"{path}: {answer.get('error', answer)}")


def swap_verb(path: Path, load: str) -> int:
    """Do :func:`swap`; return 0, or 2 after saying why not."""
    try:
        swap(path, load)
    except BenchOptionError as error:
        print(f"tipguard hil load: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"load": load}))
    return 0
