"""Processes that stay between trials and are talked to in JSON lines: the instruments' server, and the scripts."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from hil.errors import BenchFaultError

T = TypeVar("T")
END_S: Final = 5.0
TAIL: Final = 2000
LOOK_S: Final = 0.02
"""Between two looks for what has no descriptor."""


class Resident:
    """One process: ``send`` it an object, find what it said in ``inbox``, oldest first. Its stderr is a file."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        """Start it in ordinary scheduling, as a user would."""
        self.name = name
        self.inbox: collections.deque[dict[str, Any]] = collections.deque()
        self._errors = folder / f"{name}.err"
        self._rest = b""
        with self._errors.open("wb") as errors:
            # A group of its own: Ctrl-C reaches it through us, the instruments after whoever still has them open.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, process_group=0
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def fileno(self) -> int:
        """Return the descriptor that is readable when it says something."""
        assert self._process.stdout is not None  # noqa: S101 - it was asked for above
        return self._process.stdout.fileno()

    def send(self, document: dict[str, Any]) -> None:
        """Give it an order; raises BenchFaultError if it has ended."""
        assert self._process.stdin is not None  # noqa: S101 - it was asked for above
        try:
            self._process.stdin.write(json.dumps(document).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._ended() from error

    def listen(self) -> None:
        """Take in what it has said; raises BenchFaultError if it has ended."""
        data = os.read(self.fileno(), 1 << 20)
        if not data:
            raise self._ended()
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.inbox.extend(json.loads(line) for line in lines)

    def _ended(self) -> BenchFaultError:
        self._process.wait(END_S)
        tail = self._errors.read_text(encoding="utf-8", errors="replace")[-TAIL:].strip()
        return BenchFaultError(f"{self.name} ended with code {self._process.returncode}; its last words:\n{tail}")

    def close(self) -> None:
        """End it: it reads the end of its input; SIGKILL if it does not mind."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(END_S)
        if self._process.stdout is not None:
            self._process.stdout.close()


class Desk:
    """All residents, listened to at once; a context manager that ends them, the last one first."""

    def __init__(self, folder: Path) -> None:
        """Nobody yet; what they say on stderr goes to ``folder``."""
        self._folder = folder
        self._residents: list[Resident] = []

    def start(self, name: str, command: Sequence[str]) -> Resident:
        """Start a process."""
        resident = Resident(name, command, self._folder)
        self._residents.append(resident)
        return resident

    def wait(self, what: str, look: Callable[[], T | None], timeout_s: float) -> T:
        """Listen until ``look`` returns something; raises BenchFaultError after ``timeout_s``, or if one ended."""
        end = time.monotonic() + timeout_s
        while True:
            found = look()
            if found is not None and found is not False:
                return found
            if time.monotonic() > end:
                raise BenchFaultError(f"waited {timeout_s:g} s for {what}")
            for resident in select.select(self._residents, [], [], LOOK_S)[0]:
                resident.listen()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all."""
        for resident in reversed(self._residents):
            resident.close()
