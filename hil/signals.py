"""SIGTERM and SIGINT as a descriptor, for a server that waits in one blocking call."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals() -> Iterator[int]:
    """Give a descriptor that becomes readable on SIGTERM or SIGINT; handlers are as before at the end.

    Main thread only.
    """
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    old_fd = signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    # The handler has nothing to do, but without one the signal would kill; the byte on the pipe is what counts.
    old = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield read_fd
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_fd)
        os.close(read_fd)
        os.close(write_fd)
