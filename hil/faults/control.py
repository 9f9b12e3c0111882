"""Faults on demand from another process: a datagram socket in the file system, one JSON object per question and answer.

Question ``{"inject": [names]}`` or ``{"list": true}``; answer ``{"ok": true, ...}`` or ``{"ok": false, "error": why}``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from hil.datagram import Answering
from hil.errors import BenchOptionError
from hil.faults.injector import Injector

_MAX_NAMES: Final = 64


class Control(Answering):
    """The server's end at ``path``; a context manager. Only the user who started the server can write to it."""

    def __init__(self, path: Path, injector: Injector) -> None:
        """Begin to listen; raises BenchOptionError if the path cannot be had. A dead socket there is replaced."""
        super().__init__(path, "--control")
        self._injector = injector

    def answer(self, asked: object) -> dict[str, Any]:
        """See Answering."""
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
