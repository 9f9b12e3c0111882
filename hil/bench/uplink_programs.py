"""The processes of ``tipguard bench uplink``: each started, heard and ended here, by its own process id."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from hil.errors import BenchFaultError

START_S: Final = 30.0
END_S: Final = 20.0


class Program:
    """One process that says things in JSON lines, waits for a word on its stdin, and is ended on exit."""

    def __init__(
        self, name: str, words: Sequence[str], environment: Mapping[str, str] | None = None, *, log: Path | None = None
    ) -> None:
        """Start it; what it says on stderr goes into ``log``, where given.

        Where util-linux's ``setpriv`` is at hand it also ends when we are killed.
        """
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
        self.name = name
        with contextlib.ExitStack() as stack:
            errors = None if log is None else stack.enter_context(log.open("ab"))
            self._process = subprocess.Popen(
                [*prefix, *words],
                stdin=subprocess.PIPE,
                stdout=errors or subprocess.PIPE,
                stderr=errors,
                env=None if environment is None else dict(environment),
                bufsize=0,
            )
        self._heard = b""

    def check(self) -> None:
        """Raise BenchFaultError if it has ended."""
        if self._process.poll() is not None:
            raise BenchFaultError(f"the {self.name} ended (exit {self._process.returncode})")

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def go(self) -> None:
        """Say the word it waits for."""
        if self._process.stdin is not None:
            self._process.stdin.write(b"g")

    def says(self, within_s: float = START_S) -> dict[str, Any]:
        """Return the next line it says; raise BenchFaultError if none comes, or it is none of ours."""
        line = self._line(within_s)
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise BenchFaultError(f"the {self.name} says {line[:200]!r}; expected one JSON object a line")
        return said

    def _line(self, within_s: float) -> bytes:
        out = self._process.stdout
        while out is not None and b"\n" not in self._heard:
            if not select.select([out], [], [], within_s)[0]:
                raise BenchFaultError(f"the {self.name} has said nothing for {within_s:g} s")
            more = os.read(out.fileno(), 1 << 20)
            if not more:
                raise BenchFaultError(f"the {self.name} ended (exit {self._process.wait(END_S)}) before it said all")
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    def hears(self, within_s: float) -> bool:
        """Wait for it to say something; False if it has not by then. Raises BenchFaultError if it has ended."""
        out = self._process.stdout
        if b"\n" in self._heard or (out is not None and select.select([out], [], [], within_s)[0]):
            return True
        self.check()
        return False

    def end(self) -> int:
        """SIGTERM, wait for its end; return what it has caused to be written to a disk in its life, bytes."""
        self.terminate()
        _, status, used = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        # The kernel counts in blocks of 512 bytes, whatever the file system's are.
        return used.ru_oublock * 512

    def terminate(self) -> None:
        """SIGTERM; what it then says can be heard."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def __enter__(self) -> Self:
        """Be there."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """End it, politely at first."""
        self.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            # What it was told last it may not have read.
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()


def _kib(path: Path, field: str) -> int:
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise BenchFaultError(f"{path} has no {field}")


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process, shared pages (the ring's among them) included."""
    return _kib(Path(f"/proc/{pid}/status"), "VmRSS")


def pss_bytes(pid: int) -> int:
    """Return the memory of a process, of shared pages (the ring, libraries) its share."""
    return _kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss")
