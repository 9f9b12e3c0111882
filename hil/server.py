"""A server program of our own on this host: in a temporary folder, started and ended by us, never for data to keep."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from hil.errors import BenchFaultError

_NOBODY: Final[Mapping[str, Any]] = {}


class Server:
    """A server process, started on entry and ended on exit; after :meth:`kill` it may be started again.

    Where util-linux's ``setpriv`` is at hand the server also ends when the thread that started it does, so that a
    killed test run leaves nothing behind.
    """

    _PREFIX = "tipguard-server-"
    """Of its folder's name."""
    _START_S = 10.0
    _STOP_S = 5.0
    _POLITE = signal.SIGTERM
    """What ends it in good order."""

    def __init__(self) -> None:
        """Start nothing."""
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    @property
    def folder(self) -> Path:
        """Where its configuration, data and log are."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix=self._PREFIX))
            self._made(self._folder)
        return self._folder

    def _made(self, folder: Path) -> None:
        """Do what a new folder needs."""

    def start(self) -> None:
        """Start it and return once it takes connections. Raises :class:`BenchFaultError` if it does not."""
        raise NotImplementedError

    def _launch(
        self, name: str, command: Sequence[str], ready: Callable[[int], bool], identity: Mapping[str, Any] = _NOBODY
    ) -> None:
        """Run ``command``, as another user if ``identity`` (arguments of Popen) says so, until ``ready`` of its pid."""
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--pdeathsig", self._POLITE.name.removeprefix("SIG"), *command]
        with (self.folder / "log").open("ab") as log:
            # A group of its own: Ctrl-C must not end it before those who still have something to publish or commit.
            process = self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0, **identity
            )
        try:
            self._wait_until_ready(name, process, ready)
        except BenchFaultError:
            self.stop()
            raise

    def _wait_until_ready(self, name: str, process: subprocess.Popen[bytes], ready: Callable[[int], bool]) -> None:
        deadline = time.monotonic() + self._START_S
        while not ready(process.pid):
            # Waiting for its end paces the loop and sees a failed start at once.
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(0.01)
                raise BenchFaultError(f"{name} ended with code {code} at start: {self._log_tail()}")
            if time.monotonic() > deadline:
                raise BenchFaultError(f"{name} is not ready after {self._START_S:.0f} s: {self._log_tail()}")

    def _log_tail(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")[-500:].strip()

    def stop(self) -> None:
        """End it politely; it may be started again. A second call does nothing."""
        self._end(self._POLITE)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(self._STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(self._STOP_S)

    def close(self) -> None:
        """Stop it and remove its folder with all that is in it."""
        self.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        """Start; leave nothing behind where that fails."""
        try:
            self.start()
        except BenchFaultError:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Stop, and remove the folder."""
        self.close()
