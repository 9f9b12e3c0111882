"""The firmware of a front end as a process: its line as a descriptor, its analog side as memory, its power as signals.

Natively (the port ``host``) or on a Cortex-M3 under QEMU (the port ``mps2_an385``); what runs is the real firmware.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from firmware_proto.frontend.vocabulary import MAX_LATE_US
from hil.errors import BenchFaultError
from hil.frontend.bench_memory import BenchMemory

READY_S: Final = 10.0
READ_MAX: Final = 4096
CODE_PA: Final = 40_000
"""Current per code of the ports that stand on a bench, in pA: full scale is 1.3 mA."""
QEMU_SAMPLE_HZ: Final = 10_000
"""What the board under QEMU samples at."""
MAX_LATE_MS: Final = MAX_LATE_US // 1000
SEND_BUFFER: Final = 4096
"""What the firmware may have on its way to us: more would only make a trip wait behind samples."""


class Firmware(Protocol):
    """One front end's microcontroller; a context manager that starts and ends it."""

    memory: BenchMemory
    same_clock: bool
    """Whether its ticks are CLOCK_MONOTONIC in ns."""
    board: str
    """Which port."""

    def __enter__(self) -> Self:
        """Start it; the line is open then."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""

    @property
    def pid(self) -> int:
        """Process id of what runs it."""

    @property
    def powered(self) -> bool:
        """Whether it has power; without there is nothing to read."""

    def fileno(self) -> int:
        """Return the line's descriptor, while it is powered."""

    def read(self) -> bytes:
        """Return what it has sent, empty for nothing; raises BenchFaultError if it has ended by itself."""

    def write(self, data: bytes) -> int:
        """Send to it; return how many bytes it had room for."""

    def freeze(self) -> None:
        """Let it stand still, clocks and all."""

    def thaw(self) -> None:
        """Let it go on."""

    def power_off(self) -> None:
        """Take its power: the pin opens."""

    def power_on(self) -> None:
        """Give it power again: it starts anew."""


class SocketLine:
    """The bench's end of a stream socket."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    @property
    def powered(self) -> bool:
        """See Firmware."""
        return self._socket is not None

    def plug(self, line: socket.socket) -> None:
        """Have a line from now on."""
        line.setblocking(False)
        self._socket = line

    def pull(self) -> None:
        """Have none."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def fileno(self) -> int:
        """See Firmware."""
        return -1 if self._socket is None else self._socket.fileno()

    def read(self) -> bytes:
        """See Firmware."""
        if self._socket is None:
            return b""
        try:
            data = self._socket.recv(READ_MAX)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise BenchFaultError(f"the firmware's line: {error.strerror}; {self.last_words()}") from error
        if not data:
            raise BenchFaultError(f"the firmware ended by itself; {self.last_words()}")
        return data

    def write(self, data: bytes) -> int:
        """See Firmware."""
        if self._socket is None:
            return 0
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise BenchFaultError(f"the firmware's line: {error.strerror}; {self.last_words()}") from error

    def last_words(self) -> str:
        """Return what it said last, for messages."""
        return "it said nothing"


class NativeFirmware(SocketLine):
    """The port ``host`` as a child process, which ends with us."""

    same_clock = True
    board = "host"

    def __init__(self, *, sample_hz: int, seed: int, late_ms: int = MAX_LATE_MS) -> None:
        """Build it; raises BenchOptionError without a compiler.

        ``seed`` makes its boot nonces. ``late_ms``: how far its sample loop may fall behind before it trips: a
        microcontroller never does, a process on a busy host now and then.
        """
        # A verb that has no front end must not need what builds one.
        from hil.frontend import build

        super().__init__()
        self._program = build.native(sample_hz)
        self._sample_hz = sample_hz
        self._late_ms = late_ms
        self._seed = seed
        self._boots = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._stack = contextlib.ExitStack()
        self._folder = Path()
        self.memory: BenchMemory

    def __enter__(self) -> Self:
        """See Firmware."""
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tg-front-", dir=_quick())))
        self.memory = self._stack.enter_context(BenchMemory.created(self._folder / "bench"))
        try:
            self.power_on()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See Firmware."""
        self.power_off()
        self._stack.close()

    @property
    def pid(self) -> int:
        """See Firmware."""
        return 0 if self._process is None else self._process.pid

    def freeze(self) -> None:
        """See Firmware: SIGSTOP, and wait until it has come."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """See Firmware."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def power_off(self) -> None:
        """See Firmware: SIGKILL."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None
        self.pull()
        self.memory.unpowered()

    def power_on(self) -> None:
        """See Firmware; raises BenchFaultError if it does not get ready."""
        if self._process is not None:
            return
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        its.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._boots += 1
        nonce = (self._seed * 2_654_435_761 + self._boots * 40_503) & 0xFFFFFFFF
        setpriv = shutil.which("setpriv")
        command = [
            *([setpriv, "--pdeathsig", "KILL"] if setpriv else []),
            *(str(self._program), "--fd", str(its.fileno()), "--bench", str(self._folder / "bench")),
            *("--sample-hz", str(self._sample_hz), "--boot-nonce", str(nonce or 1)),
            *("--max-late-ms", str(self._late_ms), "--realtime"),
        ]
        with its, (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=(its.fileno(),),
                process_group=0,
            )
        self.plug(ours)
        self._wait_ready(self._process)

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        line = b""
        if process.stdout is not None and select.select([process.stdout], [], [], READY_S)[0]:
            line = process.stdout.readline()
        ready = None
        with contextlib.suppress(ValueError):
            ready = json.loads(line)
        if not isinstance(ready, dict) or ready.get("ready") is not True:
            self.power_off()
            raise BenchFaultError(f"the firmware said {line[:200]!r} instead of being ready; {self.last_words()}")

    def last_words(self) -> str:
        """Return what it said last, for messages."""
        text = (self._folder / "log").read_text("utf-8", "replace").strip()
        return text[-500:] or "it said nothing"


def firmware(*, qemu: bool, sample_hz: int, seed: int, late_ms: int) -> Firmware:
    """Return a front end's firmware that is not started, on QEMU or natively; raises BenchOptionError."""
    if not qemu:
        return NativeFirmware(sample_hz=sample_hz, seed=seed, late_ms=late_ms)
    from hil.frontend.qemu_firmware import QemuFirmware

    return QemuFirmware(seed=seed)


def _quick() -> str | None:
    """Return a folder in memory, where there is one: a file that is written 100 000 times a second is for no disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a private folder is made in it
