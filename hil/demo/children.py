"""Child processes with their output kept, each ended by its own process id; and the one way to be interrupted."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from hil.errors import BenchFaultError

TAIL_LINES: Final = 8
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ChildDiedError(BenchFaultError):
    """A process ended that should not have. ``name`` says which, ``tail`` holds its last lines."""

    def __init__(self, name: str, code: int, tail: str) -> None:
        """Put the last lines into the message: they say why."""
        how = signal.Signals(-code).name if code < 0 else f"exit {code}"
        super().__init__(f"the {name} ended ({how}); its last lines:\n{tail or '(it said nothing)'}")
        self.name = name
        self.code = code
        self.tail = tail


class Child:
    """One process, started at once, its output in a file.

    It has a process group of its own, so that Ctrl-C reaches it once, through us and in order; where util-linux's
    ``setpriv`` is at hand it is told to end when we are killed.
    """

    def __init__(self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        """Start ``command``; ``folder`` gets ``<name>.log``."""
        self.name = name
        self.log = folder / f"{name}.log"
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=dict(environment),
                process_group=0,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Exit code, None while it runs; the signal's negative number if one ended it."""
        return self._process.poll()

    def check(self) -> None:
        """Raise :class:`ChildDiedError` unless it runs."""
        code = self.code
        if code is not None:
            raise ChildDiedError(self.name, code, self.tail())

    def output(self) -> str:
        """Return everything it has said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def tail(self) -> str:
        """Return its last lines, indented."""
        return "\n".join(f"  {line}" for line in self.output().splitlines()[-TAIL_LINES:])

    def stop(self, patience_s: float) -> int:
        """SIGTERM, and SIGKILL after ``patience_s``; return the exit code. A second call only returns it."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(patience_s)
            self._process.kill()
        return self._process.wait()


class Interruption:
    """SIGINT, SIGTERM and SIGHUP as a flag that is looked at where it is safe to leave.

    An exception out of a signal handler could fall between the start of a process and the note of its id. Once
    raised, further signals change nothing: what ends the demo must not be ended itself.
    """

    def __init__(self) -> None:
        """Not interrupted."""
        self._flag = threading.Event()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Take the signals over, and give them back."""
        old = {number: signal.signal(number, self._take) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _take(self, _number: int, _frame: object) -> None:
        self._flag.set()

    @property
    def came(self) -> bool:
        """A signal has come."""
        return self._flag.is_set()

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has come."""
        if self.came:
            raise KeyboardInterrupt


def environment_for(run_directory: Path) -> dict[str, str]:
    """Return this process's environment with a run directory of its own, so that no real rig's is met."""
    return {**os.environ, "RUNTIME_DIRECTORY": str(run_directory)}
