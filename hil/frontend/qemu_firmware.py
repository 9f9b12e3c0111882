"""The firmware on a Cortex-M3 under QEMU as a bench sees it: the same line, memory and power as natively."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Self

from hil.frontend import build
from hil.frontend.bench_memory import BenchMemory
from hil.frontend.firmware import SocketLine
from hil.frontend.qemu import BENCH_OFFSET, QemuBoard, QemuOptions


class QemuFirmware(SocketLine):
    """The port ``mps2_an385`` on a Cortex-M3 under QEMU, in real time as far as the host lets it."""

    same_clock = False
    board = "mps2_an385"

    def __init__(self, *, seed: int) -> None:
        """Build the image; raises BenchOptionError without cross compiler or QEMU."""
        super().__init__()
        self._image = build.mps2()
        self._seed = seed
        self._stack = contextlib.ExitStack()
        self._board: QemuBoard | None = None
        self.memory: BenchMemory

    def __enter__(self) -> Self:
        """See Firmware."""
        board = self._stack.enter_context(QemuBoard(self._image, QemuOptions(seed=self._seed)))
        try:
            self.memory = self._stack.enter_context(BenchMemory(board.memory, offset=BENCH_OFFSET, name="QEMU's PSRAM"))
            self.memory.lay_out()
            self.plug(board.connect())
        except BaseException:
            self._stack.close()
            raise
        self._board = board
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See Firmware."""
        self.pull()
        self._stack.close()
        self._board = None

    @property
    def pid(self) -> int:
        """See Firmware: QEMU's."""
        return 0 if self._board is None else self._board.pid

    def freeze(self) -> None:
        """See Firmware: QMP ``stop``."""
        if self._board is not None:
            self._board.freeze()

    def thaw(self) -> None:
        """See Firmware: QMP ``cont``."""
        if self._board is not None:
            self._board.thaw()

    def power_off(self) -> None:
        """See Firmware: it stands still, and the pin's pull opens it."""
        if self._board is not None:
            self._board.freeze()
            self.pull()
            self.memory.unpowered()

    def power_on(self) -> None:
        """See Firmware: QMP ``system_reset``, and it goes on."""
        if self._board is not None and not self.powered:
            self.plug(self._board.connect())
            self._board.reset()
            self._board.thaw()

    def last_words(self) -> str:
        """See SocketLine."""
        return "QEMU does not run" if self._board is None else self._board.said() or "it said nothing"
