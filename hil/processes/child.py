"""Child processes: output kept, each ended by its own process id."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from hil.errors import BenchFaultError
from hil.processes.waiting import Interruption, wait_for

T = TypeVar("T")
TAIL_LINES: Final = 8


class ChildDiedError(BenchFaultError):
    """A process ended that should not have. ``name`` says which, ``tail`` holds its last lines."""

    def __init__(self, name: str, code: int, tail: str) -> None:
        """Put the last lines into the message: they say why."""
        super().__init__(f"the {name} ended ({_how(code)}); its last lines:\n{tail or '(it said nothing)'}")
        self.name = name
        self.code = code
        self.tail = tail


def _how(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    # Real-time signals have no name.
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


class Child:
    """One process, started at once, its output in a file.

    It has a process group of its own, so that Ctrl-C reaches it once, through us and in order; where util-linux's
    ``setpriv`` is at hand it is told to end when the thread that started it does, so also when we are killed.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        *,
        cwd: Path | None = None,
    ) -> None:
        """Start ``command`` in ``cwd``; ``folder`` gets ``<name>.log``, or that is continued."""
        self.name = name
        self.log = folder / f"{name}.log"
        self._our_doing = False
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
        with self.log.open("ab") as out:
            # What an earlier process of this name said is not this one's.
            self._begin = out.tell()
            self._process = subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=dict(environment),
                cwd=cwd,
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
        """Raise :class:`ChildDiedError` if it has ended otherwise than by :meth:`stop` or :meth:`kill`."""
        code = self.code
        if code is not None and not self._our_doing:
            raise ChildDiedError(self.name, code, self.tail())

    def output(self) -> str:
        """Return everything it has said so far."""
        return self.log.read_bytes()[self._begin :].decode("utf-8", "replace")

    def tail(self) -> str:
        """Return its last lines, indented."""
        return "\n".join(f"  {line}" for line in self.output().splitlines()[-TAIL_LINES:])

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs; whether it ends of it is its own doing."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """Wait for its end and return the exit code; raise BenchFaultError after ``timeout_s``."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise BenchFaultError(f"waited {timeout_s:g} s for the {self.name} to end") from error

    def stop(self, patience_s: float) -> int:
        """SIGTERM, and SIGKILL after ``patience_s``; return the exit code. A second call only returns it."""
        if self.code is None:
            self._our_doing = True
            self._process.terminate()
            # One that is stopped would not hear it.
            self._process.send_signal(signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(patience_s)
        return self.kill()

    def kill(self) -> int:
        """SIGKILL; return the exit code. One that has ended is left as it is."""
        if self.code is None:
            self._our_doing = True
            self._process.kill()
        return self._process.wait()


class Children:
    """The processes of one folder by name, and whoever waits for them."""

    def __init__(self, folder: Path, environment: Mapping[str, str], interruption: Interruption) -> None:
        """None yet. A wait ends when ``interruption`` comes."""
        self._folder = folder
        self._environment = environment
        self._interruption = interruption
        self._children: dict[str, Child] = {}

    def start(self, name: str, command: Sequence[str], cwd: Path | None = None) -> None:
        """Start a process, or another in place of one that has ended; raise BenchFaultError while that runs."""
        before = self.get(name)
        if before is not None and before.code is None:
            raise BenchFaultError(f"the {name} runs already (process {before.pid})")
        self._children[name] = Child(name, command, self._folder, self._environment, cwd=cwd)

    def get(self, name: str) -> Child | None:
        """Return the process, None if it was never started."""
        return self._children.get(name)

    def __getitem__(self, name: str) -> Child:
        """Return the process; raise BenchFaultError if it was never started."""
        if name not in self._children:
            raise BenchFaultError(f"the {name} was never started")
        return self._children[name]

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name, in the order of the first start."""
        return {name: child.pid for name, child in self._children.items()}

    def check(self) -> None:
        """Raise ChildDiedError if one ended on its own, KeyboardInterrupt if the interruption came."""
        self._interruption.check()
        for child in self._children.values():
            child.check()

    def wait(self, what: str, look: Callable[[], T | None], timeout_s: float) -> T:
        """As :func:`wait_for`, but raise KeyboardInterrupt when the interruption comes."""

        def watched() -> T | None:
            self._interruption.check()
            return look()

        return wait_for(what, watched, timeout_s)
