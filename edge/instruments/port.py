"""Real serial ports: opened and configured by pyserial, read and written by descriptor.

The keeper opens; the worker gets the descriptor. Exclusive by flock, never by TIOCEXCL, so that ``safe-off`` can
always open the port. Nothing here ever flushes output: bytes of a cut may be in it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import select
import selectors
import stat
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import serial

from edge.errors import BusyError, ConfigError, LinkLostError
from edge.instruments import adapter

if TYPE_CHECKING:
    import asyncio

    from _typeshed import FileDescriptorLike

PTY_MAJORS = range(136, 144)
"""Character majors of Unix98 pseudo-terminal slaves (Linux, Documentation/admin-guide/devices.txt)."""
READ_BYTES = 4096
NAP_S = 50e-6
"""So short that the processor stays awake, and that whatever else must run on it gets its turn: above all the kernel's
thread of ordinary priority that brings the bytes of this very port to their reader."""
MOST_EVENTS = 16
"""Descriptors served in one turn; the others are still ready in the next."""


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
        # An FTDI adapter holds replies up to 16 ms without it; what it says it does is not believed before read back.
        self.warning = adapter.ask_low_latency(self.fileno(), self.path, adapter.find(self.path))

    def fileno(self) -> int:
        """Return the descriptor."""
        return int(self._serial.fileno())

    def close(self) -> None:
        """Close the descriptor and release its lock; never changes what the instrument does."""
        self._serial.close()


class Watch(NamedTuple):
    """Sleep until ``from_ns`` at most, then poll without sleeping until ``until_ns``; CLOCK_MONOTONIC.

    ``awake_ns``: after so long without sleep comes a nap; 0: nothing but naps. Up to ``calm_ns`` there is time for
    ``meanwhile``, at most every ``every_ns``.
    """

    from_ns: int
    until_ns: int
    awake_ns: int
    calm_ns: int
    meanwhile: Callable[[], None]
    every_ns: int


class HotSelector(selectors.EpollSelector):
    """A selector that serves chosen descriptors itself, where the poll returns, before the loop's bookkeeping.

    What that is worth, and how far it is from C, is measured by ``tipguard bench reaction``. An exception in a hot
    callback leaves through the loop and ends the process: the keeper then cuts, which is what an unknown fault
    deserves.
    """

    def __init__(self) -> None:
        super().__init__()
        # The base class keeps it there in every version of Python; its own way from poll to key costs microseconds.
        self._epoll: select.epoll = self._selector  # type: ignore[attr-defined]
        self._hot: dict[int, Callable[[], None]] = {}
        self.before_wait: Callable[[], Watch | None] = lambda: None
        """Called when there is nothing to do but wait; says from when on to wait without sleeping."""
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
        # epoll waits whole milliseconds: up, as the base class does, or the loop would spin through the last one.
        wait_s = None if timeout is None else max(math.ceil(timeout * 1e3) * 1e-3, 0.0)
        rest: list[tuple[int, int]] = []
        hot = self._hot
        watch = None if wait_s == 0.0 else self.before_wait()
        for fd, events in self._epoll.poll(wait_s, MOST_EVENTS) if watch is None else self._watched(wait_s, watch):
            callback = hot.get(fd)
            if callback is None:
                rest.append((fd, events))
            else:
                callback()
        self.polled = True
        return self._keys(rest) if rest else []

    def _watched(self, wait_s: float | None, watch: Watch) -> list[tuple[int, int]]:
        """Sleep until the watch begins, then poll and nap until it ends; return nothing, or what has come."""
        now_ns = time.monotonic_ns()
        poll = self._epoll.poll
        end_ns = watch.until_ns
        if wait_s is not None:
            end_ns = min(end_ns, now_ns + int(wait_s * 1e9))
        # Whole milliseconds, and down: the watch must not be overslept.
        sleep_ms = (watch.from_ns - now_ns) // 1_000_000
        if sleep_ms > 0:
            if ready := poll(sleep_ms * 1e-3, MOST_EVENTS):
                return ready
            now_ns = time.monotonic_ns()
        hot = list(self._hot)
        again_ns, nap_ns = now_ns + watch.every_ns, now_ns + watch.awake_ns
        while not (ready := poll(0, MOST_EVENTS)):
            now_ns = time.monotonic_ns()
            if now_ns >= end_ns:
                break
            if now_ns >= nap_ns:
                # epoll has no shorter wait than a millisecond; this one ends with the first hot byte, too.
                select.select(hot, (), (), NAP_S)
                nap_ns = time.monotonic_ns() + watch.awake_ns
            if again_ns <= now_ns < watch.calm_ns:
                watch.meanwhile()
                again_ns = time.monotonic_ns() + watch.every_ns
        return ready

    def _keys(self, ready: list[tuple[int, int]]) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what the base class would; what a hot callback has unregistered is left out."""
        keys = []
        for fd, events in ready:
            with contextlib.suppress(KeyError):
                key = self.get_key(fd)
                writes = selectors.EVENT_WRITE if events & ~select.EPOLLIN else 0
                reads = selectors.EVENT_READ if events & ~select.EPOLLOUT else 0
                keys.append((key, (reads | writes) & key.events))
        return keys


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
