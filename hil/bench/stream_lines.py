"""The device of the usual script, for ``tipguard bench stream``: JSON lines, as fast as they are read.

    python -m hil.bench.stream_lines --link PATH

A microcontroller's ``printf`` of each sample, ``{"i":12345,"t_us":123450,"a":1.234e-06}``, on a pseudo-terminal linked
at PATH. It has always one more and waits while the line is full, so it never loses one: whoever reads it shows the
highest rate at which nothing would be lost. Begins at the first byte on stdin; on SIGTERM it says how many lines it has
written.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import select
import signal
import sys
import tty
from pathlib import Path
from typing import Final

BLOCK: Final = 256
"""Lines made at a time."""
PERIOD_US: Final = 10
CURRENTS: Final = tuple(f"{(at - 128) * 7.3e-9:.3e}" for at in range(256))


def block(first: int) -> bytes:
    """Return the lines of :data:`BLOCK` samples from number ``first`` on, a multiple of it."""
    numbered = enumerate(CURRENTS, first)
    return "".join(f'{{"i":{i},"t_us":{i * PERIOD_US},"a":{current}}}\n' for i, current in numbered).encode()


class Lines:
    """What is written next."""

    def __init__(self, fd: int) -> None:
        """``fd``: non-blocking."""
        self._fd = fd
        self._first = 0
        self._left = b""

    @property
    def written(self) -> int:
        """Lines that are in the line's hands, whole ones."""
        return self._first - self._left.count(b"\n")

    def turn(self) -> None:
        """Write what the line takes."""
        if not self._left:
            self._left = block(self._first)
            self._first += BLOCK
        # A line that says it has room may have none for what is offered.
        with contextlib.suppress(BlockingIOError):
            self._left = self._left[os.write(self._fd, self._left) :]


def main() -> int:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--link", type=Path, required=True)
    words = parser.parse_args()
    ending, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    controller, device = pty.openpty()
    tty.setraw(device)
    os.set_blocking(controller, False)
    words.link.symlink_to(os.ttyname(device))
    print(json.dumps({"ready": True, "link": str(words.link)}), flush=True)
    sys.stdin.buffer.read(1)
    out = Lines(controller)
    while True:
        ended, ready, _ = select.select([ending], [controller], [])
        if ended:
            break
        if ready:
            out.turn()
    print(json.dumps({"written": out.written}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
