"""A service manager that only listens, and a rig whose processes speak to it."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from hil.processes import BenchRig, RigSpec

WATCHDOG_S: Final = 0.4


class Manager:
    """Listens as systemd does, and notes when and whom it heard (SCM_CREDENTIALS)."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(self.address)
        self._socket.setblocking(False)
        self.heard: list[tuple[float, int, str]] = []

    def environment(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}

    def listen(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(4096, 256)
            except BlockingIOError:
                return
            pid = int.from_bytes(ancillary[0][2][:4], "little")
            self.heard.append((time.monotonic(), pid, data.decode()))

    def has(self, text: str) -> bool:
        self.listen()
        return any(text in said for _, _, said in self.heard)

    def fed_within(self, period_s: float) -> int:
        """Return how often the watchdog was fed in the next ``period_s``."""
        self.listen()
        self.heard.clear()
        end = time.monotonic() + period_s
        while (left_s := end - time.monotonic()) > 0:
            select.select([self._socket], [], [], left_s)
            self.listen()
        return sum(said == "WATCHDOG=1" for _, _, said in self.heard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


@contextlib.contextmanager
def service(directory: Path, manager: Manager) -> Iterator[BenchRig]:
    rig = BenchRig(directory, RigSpec(load="ohmic:1e6"))
    rig.environment.update(manager.environment())
    try:
        rig.start_smu()
        yield rig
    finally:
        rig.close()
