"""The serial line behind a real pseudo-terminal, in real time: what any program that opens a port can talk to.

One thread, one blocking call, for one line or several that live on one clock (:func:`run_lines`). ``select.select``
because it waits with microseconds: ``poll`` and ``epoll`` of Python 3.11 round up to milliseconds, which is six bytes
at 57600 baud, and ``os.timerfd_create`` came with 3.13. Linux may still wake a normal thread 50 us late (timer slack);
:func:`sharpen_timers` takes that away.

A pseudo-terminal has no baud rate: both directions are paced by line-clock arithmetic. Late wake-ups do not add up,
because device and line live at their ideal times and only the hand-over to the kernel is late.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import termios
import threading
import time
import tty
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from hil.errors import BenchOptionError
from hil.line.duplex import Duplex, run_in_order
from hil.line.pacing import BITS_PER_BYTE, NEVER, Chunk
from hil.protocols import Device

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_READ_MAX = 4096
_LONGEST_WAIT_S = 3600.0


_UART_BYTES = 16
"""What the far end of a line with flow control has taken over from the client and can no longer hold back."""
_XON, _XOFF = b"\x11", b"\x13"


@runtime_checkable
class FlowControlled(Protocol):
    """A device that may speak XON and XOFF."""

    @property
    def xon_xoff(self) -> bool:
        """Whether it does."""


class PtyLine:
    """``device`` behind a pseudo-terminal that ``link_path`` points to; a context manager.

    The line holds the slave open itself, so that a client that closes is not a hang-up and the next one finds the
    device as the last one left it. Nobody may be listening: bytes that the kernel has no room for (some 20 KiB) are
    lost and counted in ``lost_bytes``, as on a wire.

    With a device that speaks XON/XOFF the line is also the client's serial driver: it takes bytes over from the client
    only as fast as the wire carries them, and none after an XOFF, if the client has asked its terminal for that
    (``IXON``, which pyserial calls ``xonxoff``). A client that has not gets the two as bytes like any other.
    """

    def __init__(
        self, device: Device, link_path: Path, baud: int, *, chunk: Chunk = "fifo", lossless: bool = False
    ) -> None:
        """Open the pseudo-terminal and make the link.

        ``baud`` in bit/s; 0: bytes take no time. ``lossless``: bytes that the kernel has no room for wait in
        ``backlog``, as a USB device's do; who hands them over looks at it. Raises BenchOptionError if the link cannot
        be made; only a link that points nowhere, or at the very pseudo-terminal just opened, is replaced.
        """
        self.link_path = link_path
        self.lost_bytes = 0
        self._lossless = lossless
        self._out = bytearray()
        self._flow = isinstance(device, FlowControlled) and device.xon_xoff
        self._stopped = False
        self._duplex = Duplex(device, baud, chunk, self._collect)
        self._master = self._slave = -1
        self.slave_name = ""
        self.plug_in()

    @property
    def duplex(self) -> Duplex:
        """The device and its two directions."""
        return self._duplex

    @property
    def plugged(self) -> bool:
        """Whether there is a pseudo-terminal that a client can open."""
        return self._master >= 0

    def plug_in(self) -> None:
        """Open a pseudo-terminal and make the link; a no-op while there is one. Raises BenchOptionError."""
        if self.plugged:
            return
        self._master, self._slave = os.openpty()
        try:
            tty.setraw(self._slave)
            os.set_blocking(self._master, False)
            self.slave_name = os.ttyname(self._slave)
            _make_link(self.link_path, self.slave_name)
        except BaseException:
            os.close(self._master)
            os.close(self._slave)
            self._master = self._slave = -1
            raise

    def hang_up(self, t_ns: int) -> None:
        """Pull the plug at ``t_ns``: the link is gone, a client reads EIO, bytes on the way are lost. The device lives.

        A no-op while it is pulled.
        """
        if not self.plugged:
            return
        self._duplex.clear(t_ns)
        # What had reached the reader by then is the reader's.
        self.flush()
        self.close()

    def poke(self) -> None:
        """Look again when something happens next: :func:`run_lines` does so in every turn."""

    def __enter__(self) -> Self:
        """Return the open line."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the line."""
        self.close()

    def run(self, stop_fd: int) -> None:
        """Serve until ``stop_fd`` is readable. Blocks; call it from one thread only."""
        run_lines((self,), stop_fd)

    def fileno(self) -> int:
        """Return the descriptor that is readable when a client has written."""
        return self._master

    def take_in(self) -> None:
        """Put what a client has written onto the line, now."""
        room = _UART_BYTES - self._duplex.to_device.unstarted(time.monotonic_ns()) if self._flow else _READ_MAX
        data = os.read(self._master, max(room, 1))
        self._duplex.write(time.monotonic_ns(), data)

    def deaf_until_ns(self, now_ns: int) -> int:
        """Return until when nothing is taken over from the client: 0 for no time, NEVER while it is stopped."""
        if not self._flow:
            return 0
        if self._stopped:
            return NEVER
        pacer = self._duplex.to_device
        waiting = pacer.unstarted(now_ns)
        if waiting < _UART_BYTES:
            return 0
        return now_ns + (waiting - _UART_BYTES // 2) * BITS_PER_BYTE * 1_000_000_000 // max(pacer.baud, 1)

    def flush(self) -> None:
        """Hand what has reached the reader to the kernel; what it has no room for is lost."""
        if not self._out:
            return
        if not self.plugged:
            self._out.clear()  # nobody is there
            return
        try:
            written = os.write(self._master, self._out)
        except BlockingIOError:
            written = 0
        if self._lossless:
            del self._out[:written]
            return
        self.lost_bytes += len(self._out) - written
        self._out.clear()

    @property
    def backlog(self) -> int:
        """How many bytes wait for the client to make room."""
        return len(self._out)

    def close(self) -> None:
        """Remove the link if it is still ours, and hang up. A no-op the second time."""
        if self._master < 0:
            return
        with contextlib.suppress(OSError):
            if str(self.link_path.readlink()) == self.slave_name:
                self.link_path.unlink()
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1

    def _collect(self, _t_ns: int, data: bytes) -> None:
        # Runs that are due in the same turn go out in one system call, and wake the reader once.
        self._out += data
        if self._flow and self.plugged and (_XON in data or _XOFF in data):
            obeys = bool(termios.tcgetattr(self._slave)[0] & termios.IXON)
            self._stopped = obeys and data.rfind(_XOFF) > data.rfind(_XON)


class Waited(Protocol):
    """A further descriptor to wait for."""

    def fileno(self) -> int:
        """Return it; 0 or above."""

    def ready(self) -> None:
        """Do what it is readable for, without waiting."""


@runtime_checkable
class Hesitant(Waited, Protocol):
    """One that is not waited for at times."""

    def holds_until_ns(self, now_ns: int) -> int:
        """Return until when its descriptor is left alone; 0 for no time, NEVER for until something else happens."""


def run_lines(lines: Sequence[PtyLine], stop_fd: int, also: Sequence[Waited] = ()) -> None:
    """Serve ``lines``, at least one, until ``stop_fd`` is readable, and ``also`` others; blocks, one thread only.

    What happens on the lines happens in the order of its time, whichever line it is on. Raises BenchFaultError for a
    device that breaks its contract, and BenchOptionError where a line that was unplugged cannot have its link again.
    """
    duplexes = [line.duplex for line in lines]
    hesitant = [one for one in also if isinstance(one, Hesitant)]
    while True:
        due_ns = run_in_order(duplexes, time.monotonic_ns())
        for line in lines:
            line.flush()
        now_ns = time.monotonic_ns()
        deaf = [until for line in lines if (until := line.deaf_until_ns(now_ns)) > now_ns]
        holding = {one: until for one in hesitant if (until := one.holds_until_ns(now_ns))}
        due_ns = min((due_ns, *deaf, *holding.values()))
        wait_s = _LONGEST_WAIT_S if due_ns == NEVER else (due_ns - now_ns) / 1e9
        plugged = [line for line in lines if line.plugged and not (deaf and line.deaf_until_ns(now_ns) > now_ns)]
        heard = [one for one in also if one not in holding]
        waited_for: list[FileDescriptorLike] = [*plugged, *heard, stop_fd]
        ready = select.select(waited_for, (), (), min(max(wait_s, 0.0), _LONGEST_WAIT_S))[0]
        if stop_fd in ready:
            run_in_order(duplexes, time.monotonic_ns())
            return
        for line in plugged:
            if line in ready:
                line.take_in()
        for one in heard:
            if one in ready:
                one.ready()


def sharpen_timers() -> None:
    """Let the calling thread's waits end within a microsecond of their time instead of 50 us; a no-op if forbidden."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{threading.get_native_id()}/timerslack_ns").write_text("1", encoding="ascii")


def _make_link(link: Path, target: str) -> None:
    try:
        if link.is_symlink() and (not link.exists() or str(link.readlink()) == target):
            link.unlink()
        link.symlink_to(target)
    except FileExistsError as error:
        raise BenchOptionError(
            f"link {link}: exists and is in use or not a link; remove it or name another path"
        ) from error
    except OSError as error:
        hint = "create its directory first" if error.errno == errno.ENOENT else "name a path in a writable directory"
        raise BenchOptionError(f"link {link}: {error.strerror}; {hint}") from error
