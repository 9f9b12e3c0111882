"""A port that the keeper holds beside the instrument's: so that a worker that follows finds it locked and configured.

Of a front end it is more: the keeper's own cut begins with its trip, which needs nothing but these bytes.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable
from typing import Any

import serial

from edge.errors import TipguardError
from edge.guard.front_trip import TRIP
from edge.instruments.port import OpenPort


class BesidePort:
    """One port; nothing at all on a rig without it."""

    def __init__(self, path: str, baud: int, what: str, key: str, say: Callable[[str], None]) -> None:
        """Open ``path``, empty for a rig without. Raises as OpenPort does. ``say``: where a loss is told later."""
        self._path = path
        self._baud = baud
        self._what = what
        self._key = key
        self._say = say
        self.port = self._open() if path else None

    def _open(self) -> OpenPort:
        return OpenPort(self._path, self._baud, key=self._key)

    def again(self) -> OpenPort | None:
        """Return the port, opened anew where its adapter was unplugged; None where there is none."""
        if not self._path:
            return None
        port, self.port = self.port, None
        try:
            if port is not None:
                poller = select.poll()
                poller.register(port.fileno(), 0)
                if not poller.poll(0):
                    self.port = port
                    return port
                port.close()
            self.port = self._open()
        except (TipguardError, OSError, serial.SerialException) as error:
            self._say(
                f"the {self._what}'s port is gone ({error}); no plan will run until it is back and the controller "
                "restarted"
            )
        return self.port

    def arguments(self, name: str) -> tuple[list[str], list[int]]:
        """Return what a worker is told of it, and the descriptors that it gets."""
        port = self.again()
        if port is None:
            return [], []
        emulated = [f"--{name}-emulated"] if port.emulated else []
        return [f"--{name}-fd", str(port.fileno()), *emulated], [port.fileno()]


class FrontEndPort(BesidePort):
    """The port of a front end."""

    @property
    def in_safe_file(self) -> dict[str, Any]:
        """What ``safe-off`` has to know of it."""
        if not self._path:
            return {}
        return {"frontend": {"path": self._path, "baud": self._baud, "trip": TRIP.hex()}}

    def trip(self) -> None:
        """Trip it, if it is there. Stands before the keeper's own cut: waits for nothing, and never raises."""
        if self.port is not None:
            # Unplugged, or a line that takes nothing: its lease is over before long.
            with contextlib.suppress(OSError, ValueError, serial.SerialException):
                os.write(self.port.fileno(), TRIP)
