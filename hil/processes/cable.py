"""A serial cable that can be pulled, cut on one side, and plugged into another instrument; it remembers what passed."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import threading
import time
import tty
from pathlib import Path
from typing import NamedTuple


class Heard(NamedTuple):
    """Bytes that passed the cable, read at ``t_ns``; ``to``: "instrument" or "host"."""

    t_ns: int
    to: str
    data: bytes


class Cable:
    """A pseudo-terminal at ``link`` joined to the instrument's; pulling it out leaves the instrument as it is.

    Plugged in again it is another pseudo-terminal, as an adapter gets another ttyUSB: only the link keeps its name.
    """

    def __init__(self, link: Path, instrument: str) -> None:
        """Lie about; plugged in nowhere."""
        self._link = link
        self.instrument = instrument
        """The device that it is plugged into next."""
        self.heard: list[Heard] = []
        """Since it was plugged in last."""
        self.dead = False
        """Both wires broken, the plug still in."""
        self._name = ""
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def plug(self) -> None:
        """Join it to ``instrument``, under another name than before."""
        controller, device = pty.openpty()
        if os.ttyname(device) == self._name:
            # The kernel gives free numbers out again; an adapter that comes back has a new one.
            free = controller, device
            controller, device = pty.openpty()
            for fd in free:
                os.close(fd)
        self._name = os.ttyname(device)
        tty.setraw(device)
        inner = os.open(self.instrument, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        fresh = self._link.with_suffix(".new")
        fresh.symlink_to(os.ttyname(device))
        self.heard = []
        self._stop.clear()
        self._thread = threading.Thread(target=self._pump, args=(controller, device, inner))
        self._thread.start()
        fresh.replace(self._link)

    def _pump(self, controller: int, device: int, inner: int) -> None:
        while not self._stop.is_set():
            for fd in select.select([controller, inner], [], [], 0.01)[0]:
                with contextlib.suppress(OSError):
                    data = os.read(fd, 4096)
                    self.heard.append(Heard(time.monotonic_ns(), "instrument" if fd == controller else "host", data))
                    if not self.dead:
                        os.write(inner if fd == controller else controller, data)
        for fd in (controller, device, inner):
            os.close(fd)

    def pull(self) -> None:
        """Take it out; the instrument lives on. A no-op where it is out."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._link.unlink(missing_ok=True)

    def to_instrument(self) -> bytes:
        """Return everything sent to the instrument since it was plugged in last."""
        return b"".join(one.data for one in list(self.heard) if one.to == "instrument")
