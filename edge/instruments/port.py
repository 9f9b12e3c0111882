"""Real serial ports: opened and configured by pyserial, read and written by descriptor.

The keeper opens; the worker gets the descriptor. Exclusive by flock, never by TIOCEXCL, so that ``safe-off`` can
always open the port. Nothing here ever flushes output: bytes of a cut may be in it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import selectors
import stat
import struct
import termios
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import serial

from edge.errors import BusyError, ConfigError, LinkLostError

if TYPE_CHECKING:
    import asyncio

    from _typeshed import FileDescriptorLike

PTY_MAJORS = range(136, 144)
"""Character majors of Unix98 pseudo-terminal slaves (Linux, Documentation/admin-guide/devices.txt)."""
READ_BYTES = 4096


def is_emulated(path: str | Path, *, key: str = "ports.smu.path") -> bool:
    """Tell whether a port is a pseudo-terminal, which is what "emulated" means in this project.

    Raises ConfigError naming ``key`` where there is no port.
    """
    try:
        info = Path(path).stat()
    except OSError as error:
        raise ConfigError(
            f"port {path}: {error.strerror}; check the cable and `ls -l /dev/serial/by-id`", key=key
        ) from error
    return stat.S_ISCHR(info.st_mode) and os.major(info.st_rdev) in PTY_MAJORS


class OpenPort:
    """A configured, locked serial port. Keep it alive as long as its descriptor is used."""

    def __init__(self, path: str, baud: int, *, key: str = "ports.smu.path") -> None:
        """Open ``path`` at ``baud``, 8N1, no flow control, and take its lock. ``key``: where the path was configured.

        Raises ConfigError (absent, not a port, no permission) or BusyError (held by another process).
        """
        self.path = path
        self.emulated = is_emulated(path, key=key)
        self.warning: str | None = None
        try:
            # exclusive=None: pyserial would otherwise not lock either, but says so only by its default.
            self._serial = serial.Serial(
                path, baudrate=baud, timeout=0, write_timeout=0, xonxoff=False, rtscts=False, exclusive=None
            )
        except (serial.SerialException, ValueError, termios.error) as error:
            number = getattr(error, "errno", None)
            reason = os.strerror(number) if isinstance(number, int) else str(error)
            raise ConfigError(
                f"port {path}: {reason}; check {key}, and that this user is in the group that owns the port "
                "(often dialout)",
                key=key,
            ) from error
        try:
            fcntl.flock(self.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._serial.close()
            raise BusyError(
                f"port {path} is held by another process; `fuser -v {path}` names it. Stop it, or if the output must "
                "go off now, run `tipguard safe-off`"
            ) from error
        if not self.emulated:
            self._ask_low_latency()

    def _ask_low_latency(self) -> None:
        try:
            self._serial.set_low_latency_mode(True)
        except (ValueError, OSError):
            # An FTDI adapter holds replies up to 16 ms without it (facts: keithley2400, 1.4).
            self.warning = f"port {self.path}: low-latency mode is not available; replies may come up to 16 ms late"

    def fileno(self) -> int:
        """Return the descriptor."""
        return int(self._serial.fileno())

    def close(self) -> None:
        """Close the descriptor and release its lock; never changes what the instrument does."""
        self._serial.close()


class HotSelector(selectors.DefaultSelector):
    """A selector that serves chosen descriptors itself, where the poll returns, before the loop's bookkeeping.

    Measured against a C poll loop at p50 on an idle pseudo-terminal: 1.07-1.10x, where ``add_reader`` gives
    1.15-1.3x (DESIGN section 2). An exception in a hot callback leaves through the loop and ends the process: the
    keeper then cuts, which is what an unknown fault deserves.
    """

    def __init__(self) -> None:
        super().__init__()
        self._hot: dict[int, Callable[[], None]] = {}
        self.polled = False
        """A poll has returned; whoever looks at this takes it back."""

    def register_hot(self, fileobj: FileDescriptorLike, callback: Callable[[], None]) -> None:
        """Call ``callback`` in :meth:`select` whenever ``fileobj`` is readable or hung up."""
        key = self.register(fileobj, selectors.EVENT_READ)
        self._hot[key.fd] = callback

    def unregister_hot(self, fileobj: FileDescriptorLike) -> None:
        """Stop serving ``fileobj``; a no-op if it is not served."""
        try:
            key = self.unregister(fileobj)
        except (KeyError, ValueError):
            return
        self._hot.pop(key.fd, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Serve hot descriptors, return the rest to the loop."""
        ready = super().select(timeout)
        hot = self._hot
        if not hot or not ready:
            self.polled = True
            return ready
        rest = []
        for item in ready:
            callback = hot.get(item[0].fd)
            if callback is None:
                rest.append(item)
            else:
                callback()
        self.polled = True
        return rest


class SerialTransport:
    """A serial descriptor as a :class:`edge.instruments.transport.Transport`."""

    def __init__(self, fd: int, *, name: str, baud: int, emulated: bool, selector: HotSelector | None) -> None:
        """Wrap an open descriptor; ``baud`` in bit/s is what the line runs at, for time arithmetic.

        ``selector`` None: bytes are served in the loop's own time, behind everything hot; for a stage.
        """
        os.set_blocking(fd, False)
        self._fd = fd
        self._selector = selector
        self._name = name
        self._baud = baud
        self._emulated = emulated
        self._served = False

    @property
    def name(self) -> str:
        """See Transport."""
        return self._name

    @property
    def emulated(self) -> bool:
        """See Transport."""
        return self._emulated

    @property
    def baud(self) -> int:
        """See Transport."""
        return self._baud

    def read(self) -> bytes:
        """See Transport."""
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._lost(error) from error
        if not data and self._hung_up():
            raise self._lost(OSError(errno.EIO, "hung up"))
        return data

    def _hung_up(self) -> bool:
        """Tell a hang-up from "nothing there": with VMIN 0, which pyserial sets, a tty reads empty for both.

        Nothing is there when another process was quicker, as ``safe-off`` may be.
        """
        poller = select.poll()
        poller.register(self._fd, 0)
        return bool(poller.poll(0))

    def write(self, data: bytes) -> int:
        """See Transport."""
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._lost(error) from error

    def _lost(self, error: OSError) -> LinkLostError:
        return LinkLostError(error.errno, f"port {self._name} is gone ({error.strerror}); check cable and adapter")

    def unsent(self) -> int:
        """See Transport. 0 on drivers without TIOCOUTQ."""
        try:
            raw = fcntl.ioctl(self._fd, termios.TIOCOUTQ, b"\0\0\0\0")
        except OSError:
            return 0
        return int(struct.unpack("i", raw)[0])

    def on_readable(self, callback: Callable[[], None] | None) -> None:
        """See Transport."""
        if self._served:
            if self._selector is not None:
                self._selector.unregister_hot(self._fd)
            else:
                _loop().remove_reader(self._fd)
            self._served = False
        if callback is not None:
            if self._selector is not None:
                self._selector.register_hot(self._fd, callback)
            else:
                _loop().add_reader(self._fd, callback)
            self._served = True

    def close(self) -> None:
        """See Transport. The descriptor itself belongs to whoever opened it."""
        self.on_readable(None)


def _loop() -> asyncio.AbstractEventLoop:
    # Not at the top: the keeper opens ports too, and must not need an event loop's modules to cut.
    import asyncio

    return asyncio.get_running_loop()
