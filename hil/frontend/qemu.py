"""A board of the firmware under QEMU: started, frozen, reset and ended, its analog side a piece of shared memory.

Two ways to run it. In *real time* virtual time follows the host's clock, as far as the host lets it; for a bench that
talks to it. With *icount* virtual time counts instructions, whatever the host does; for proofs. Images for icount idle
in a loop (``spin``): QEMU 7.2 with ``sleep=off`` loses every second SysTick to WFI.

QEMU is not cycle-accurate. What is measured here in virtual time are samples, never a microcontroller's latency.
"""

from __future__ import annotations

import contextlib
import mmap
import secrets
import shutil
import socket
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from hil.errors import BenchFaultError, BenchOptionError
from hil.frontend.qmp import Qmp
from hil.processes.waiting import wait_for

MACHINE: Final = "mps2-an385"
PSRAM_SIZE: Final = 16 << 20
"""The board's PSRAM, all of it shared; bytes."""
BENCH_OFFSET: Final = 0
"""Where the schema's bench memory begins in it (0x21000000 on the board)."""
SEED_OFFSET: Final = 0x40000
"""u32, written before the start: what the firmware takes its boot nonce from, as a real board from its entropy."""
PACKAGES: Final = "qemu-system-arm gcc-arm-none-eabi"
"""What Debian calls what this needs."""

_START_S: Final = 20.0
_QMP_S: Final = 10.0
_STOP_S: Final = 5.0


def program() -> str | None:
    """Return QEMU's path, None where it is not installed."""
    return shutil.which("qemu-system-arm")


@dataclass(frozen=True, slots=True)
class QemuOptions:
    """How a board runs.

    ``icount``: None in real time, else one instruction takes 2**icount ns of virtual time (1 to 10). ``serial``:
    "socket", a Unix stream socket that one client at a time may connect to, or "pty", QEMU's own pseudo-terminal; that
    one notices a client only once a second, so what a bench relays goes over the socket.
    ``seed``: of the boot nonces; None draws one.
    """

    icount: int | None = None
    serial: Literal["socket", "pty"] = "socket"
    seed: int | None = None


class QemuBoard:
    """One running board; its process has a group of its own and ends with us, also when we are killed."""

    def __init__(self, image: Path, options: QemuOptions = QemuOptions()) -> None:
        """Start ``image`` and return once it runs; raise BenchOptionError without QEMU, BenchFaultError if it dies."""
        qemu = program()
        if qemu is None:
            raise BenchOptionError(f"QEMU is not installed; on Debian: apt-get install {PACKAGES}")
        if not image.is_file():
            raise BenchOptionError(f"{image}: no such image")
        self.options = options
        with contextlib.ExitStack() as opened:
            self.folder = Path(tempfile.mkdtemp(prefix="tg-qemu-", dir=_quick_folder()))
            opened.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.memory = opened.enter_context(self._map())
            """The whole PSRAM. Whole words are written at once; what is larger needs the schema's own guards."""
            self._process = self._launch(qemu, image)
            opened.callback(self._end)
            self._qmp = wait_for("QEMU to answer", self._connect, _START_S)
            opened.callback(self._qmp.close)
            self.pty = self._find_pty() if options.serial == "pty" else None
            """Device of the pseudo-terminal; None with a socket."""
            self._opened = opened.pop_all()

    # -- what a bench does with it

    @property
    def pid(self) -> int:
        """Process id of QEMU."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Exit code, None while it runs; an image that ends by semihosting gives its own."""
        return self._process.poll()

    @property
    def socket_path(self) -> Path:
        """Where the UART's socket listens."""
        return self.folder / "uart"

    def connect(self) -> socket.socket:
        """Return a connection to the UART, blocking; closing it pulls the cable. One at a time."""
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            line.connect(str(self.socket_path))
        except OSError as error:
            line.close()
            raise BenchFaultError(f"{self.socket_path}: {error.strerror}; {self.said()}") from error
        return line

    def freeze(self) -> None:
        """Stop the processor and virtual time: no sample, no byte, no watchdog; the pin stays as it is."""
        self._qmp.execute("stop")

    def thaw(self) -> None:
        """Go on after :meth:`freeze`. Bytes that came meanwhile are read now; virtual time did not pass."""
        self._qmp.execute("cont")

    def reset(self) -> None:
        """Press the reset button; return once QEMU has reset the machine, and it boots."""
        while "RESET" in self._qmp.events:
            self._qmp.events.remove("RESET")
        self._qmp.execute("system_reset")
        self._qmp.wait_event("RESET")

    @property
    def events(self) -> Sequence[str]:
        """QMP events so far ("WATCHDOG", "RESET", ...); taken in with the next command."""
        self._qmp.execute("query-status")
        return tuple(self._qmp.events)

    def said(self) -> str:
        """Return what QEMU and the image's semihosting printed."""
        return (self.folder / "log").read_text("utf-8", "replace").strip()

    def close(self) -> None:
        """End QEMU, by its own process id, and remove its folder."""
        self._opened.close()

    def __enter__(self) -> Self:
        """Return the board."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """See close."""
        self.close()

    # -- inside

    def _map(self) -> mmap.mmap:
        path = self.folder / "psram"
        with path.open("w+b") as file:
            file.truncate(PSRAM_SIZE)
            memory = mmap.mmap(file.fileno(), PSRAM_SIZE)
        seed = secrets.randbits(32) if self.options.seed is None else self.options.seed
        struct.pack_into("<I", memory, SEED_OFFSET, seed & 0xFFFFFFFF)
        return memory

    def _launch(self, qemu: str, image: Path) -> subprocess.Popen[bytes]:
        folder, options = self.folder, self.options
        backend = f"memory-backend-file,id=psram,size={PSRAM_SIZE},mem-path={folder / 'psram'},share=on"
        listening = f"socket,id=uart,path={folder / 'uart'},server=on,wait=off"
        serial = listening if options.serial == "socket" else "pty,id=uart"
        command = [
            *machine(qemu, image, options.icount),
            *("-machine", "memory-backend=psram", "-object", backend),
            *("-chardev", serial, "-serial", "chardev:uart"),
            *("-qmp", f"unix:{folder / 'qmp'},server=on,wait=off"),
        ]
        setpriv = shutil.which("setpriv")
        with (folder / "log").open("wb") as log:
            return subprocess.Popen(
                [*([setpriv, "--pdeathsig", "TERM"] if setpriv else []), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def _connect(self) -> Qmp | None:
        if self._process.poll() is not None:
            raise BenchFaultError(f"QEMU ended at once (exit {self._process.returncode}): {self.said()}")
        try:
            return Qmp(self.folder / "qmp", timeout_s=_QMP_S)
        except (FileNotFoundError, ConnectionRefusedError):
            return None

    def _find_pty(self) -> Path:
        for device in self._qmp.execute("query-chardev"):
            if device["label"] == "uart" and device["filename"].startswith("pty:"):
                return Path(device["filename"].removeprefix("pty:"))
        raise BenchFaultError("QEMU made no pseudo-terminal")

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def machine(qemu: str, image: Path, icount: int | None) -> list[str]:
    """Return the command that runs ``image`` with nothing but the processor and its memory attached."""
    clock = [] if icount is None else ["-icount", f"shift={icount},sleep=off"]
    return [
        *(qemu, "-M", MACHINE, "-kernel", str(image)),
        *("-display", "none", "-monitor", "none", "-nic", "none"),
        *clock,
    ]


def run_to_end(
    image: Path, *, icount: int | None = None, preload: bytes = b"", offset: int = 0, timeout_s: float = 60.0
) -> tuple[int, bytes, str]:
    """Run an image that ends itself by semihosting: exit code, the PSRAM it left, what it printed.

    ``preload``: put into the PSRAM at ``offset`` before the start.
    """
    qemu = program()
    if qemu is None:
        raise BenchOptionError(f"QEMU is not installed; on Debian: apt-get install {PACKAGES}")
    with tempfile.TemporaryDirectory(prefix="tg-qemu-", dir=_quick_folder()) as name:
        memory = Path(name, "psram")
        with memory.open("w+b") as file:
            file.truncate(PSRAM_SIZE)
            file.seek(offset)
            file.write(preload)
        backend = f"memory-backend-file,id=psram,size={PSRAM_SIZE},mem-path={memory},share=on"
        command = [
            *machine(qemu, image, icount),
            *("-machine", "memory-backend=psram", "-object", backend, "-serial", "none"),
            *("-semihosting-config", "enable=on,target=native"),
        ]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise BenchFaultError(f"{image.name} under QEMU did not end within {timeout_s:g} s") from error
        said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
        return done.returncode, memory.read_bytes(), said


def _quick_folder() -> str | None:
    """Return a folder in memory, where there is one: a file that a guest stores to is not for a disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a private folder is made in it
