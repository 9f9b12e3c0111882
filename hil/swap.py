"""Another resistor at the terminals of a served 2400: what a person's hands do while a rig is commissioned.

A datagram socket in the file system. Question ``{"load": "ohmic:R"}`` or ``{"load": "open"}``; answer ``{"ok": true,
"load": ...}`` or ``{"ok": false, "error": why}``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from hil.datagram import Answering, ask
from hil.errors import BenchOptionError
from hil.twin.ohmic import OhmicLoad
from hil.twin.spec import parse_load

OPEN: Final = "open"
OPEN_OHM: Final = 1e15
"""What the twin can be at most: nothing that a 2400 sees."""
OPTION: Final = "--swap"


class Swap(Answering):
    """The server's end at ``path``; a context manager. Only the user who started the server can write to it."""

    def __init__(self, path: Path, load: OhmicLoad) -> None:
        """Begin to listen; raises BenchOptionError if the path cannot be had."""
        super().__init__(path, OPTION)
        self._load = load

    def answer(self, asked: object) -> dict[str, Any]:
        """See Answering."""
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
    answer = ask(path, {"load": load}, option=OPTION)
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
