"""The analog side of an emulated front end: its converter, its switch and its pin, in memory that both sides map.

The firmware's port reads the converter from here and writes the pin; the bench does the opposite. Nothing here is a
message of the firmware about itself: the pin is seen where it is.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from firmware_proto.frontend import bench_layout as layout
from hil.errors import BenchFaultError, BenchOptionError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BYTES: Final = layout.BENCH_SIZE
"""Of the whole block."""
WAVE_SAMPLES: Final = layout.WAVE_ROOM

_RAMP: Final = struct.Struct("<Qi4xQi")
"""t0_ticks, code0, t1_ticks, code1, as they stand in a row."""
_TRIES: Final = 1000


class Pin(NamedTuple):
    """The switch as the bench sees it.

    ``closed``: what the pin commands; ``sense``: what the port read back of it. ``opens``: how often the pin was
    opened; ``open_index`` and ``open_ticks``: the sample during which it was opened last, and the device's clock then.
    """

    closed: bool
    sense: bool
    opens: int
    open_index: int
    open_ticks: int


class BenchMemory:
    """The block in a file that both sides map; a context manager that lets go of it."""

    def __init__(self, memory: mmap.mmap, *, offset: int = 0, name: str = "bench memory") -> None:
        """Take a block at ``offset`` bytes of ``memory``, which stays the caller's; ``name`` is for messages.

        Raises BenchOptionError where it is too short.
        """
        if len(memory) < offset + BYTES:
            raise BenchOptionError(f"{name}: {len(memory)} bytes; want at least {offset + BYTES}")
        self.name = name
        self._view = memoryview(memory)[offset : offset + BYTES]

    @classmethod
    @contextlib.contextmanager
    def created(cls, path: Path) -> Iterator[Self]:
        """Make the file ``path`` anew, zero but for what says that it is laid out; map it for a while.

        Raises BenchOptionError where it cannot be had.
        """
        try:
            with path.open("w+b") as file:
                file.truncate(BYTES)
                memory = mmap.mmap(file.fileno(), BYTES)
        except OSError as error:
            raise BenchOptionError(
                f"bench memory {path}: {error.strerror}; name a file in a writable folder"
            ) from error
        with memory, cls(memory, name=str(path)) as block:
            block.lay_out()
            yield block

    def lay_out(self) -> None:
        """Say that it is laid out: the firmware's port waits for this."""
        layout.VERSION.write(self._view, layout.BENCH_VERSION)
        layout.MAGIC.write(self._view, layout.BENCH_MAGIC)

    def __enter__(self) -> Self:
        """Return the mapped block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of it."""
        self._view.release()

    # The converter

    def hold(self, code: int) -> None:
        """Let the converter read ``code`` from now on."""
        layout.ADC_CODE.write(self._view, code)
        layout.RAMP_SEQ.write(self._view, 0)

    def ramp(self, t0_ticks: int, code0: int, t1_ticks: int, code1: int) -> None:
        """Let it read a straight line from ``code0`` at ``t0_ticks`` to ``code1`` at ``t1_ticks``, held on both sides.

        The ticks are the device's.
        """
        seq = layout.RAMP_SEQ.read(self._view)
        odd = (seq + 1) | 1
        layout.RAMP_SEQ.write(self._view, odd & 0xFFFFFFFF)
        _RAMP.pack_into(self._view, layout.T0_TICKS.at, t0_ticks, code0, t1_ticks, code1)
        # 0 says that there is no ramp.
        layout.RAMP_SEQ.write(self._view, (odd + 1) & 0xFFFFFFFF or 2)
        layout.ADC_CODE.write(self._view, code1)

    def wave(self, codes: npt.NDArray[np.int16], from_index: int, *, loop: bool = False) -> None:
        """Let it read ``codes`` from sample ``from_index`` on, the last one for good or all of them again and again."""
        if not 0 < len(codes) <= WAVE_SAMPLES:
            raise BenchOptionError(f"a wave of {len(codes)} samples: want 1 to {WAVE_SAMPLES}")
        layout.WAVE_N.write(self._view, 0)
        data = codes.astype("<i2").tobytes()
        self._view[layout.WAVE_AT : layout.WAVE_AT + len(data)] = data
        layout.WAVE_FROM.write(self._view, from_index)
        layout.WAVE_LOOP.write(self._view, int(loop))
        layout.WAVE_N.write(self._view, len(codes))

    def no_wave(self) -> None:
        """Let it read the code, or the ramp, again."""
        layout.WAVE_N.write(self._view, 0)

    def noise(self, peak_code: int, seed: int) -> None:
        """Add triangular noise of ``peak_code``, drawn from ``seed``; 0: none."""
        layout.NOISE_SEED.write(self._view, seed & 0xFFFFFFFF)
        layout.NOISE_CODE.write(self._view, peak_code)

    def answer(self, *, silent: bool) -> None:
        """Let the converter answer, or not."""
        layout.ADC_FAULT.write(self._view, int(silent))

    # The switch

    def stick(self, *, stuck: bool) -> None:
        """Let the switch stay closed whatever the pin says, or work again."""
        layout.STUCK.write(self._view, int(stuck))

    def unpowered(self) -> None:
        """Open the pin, as its pull does when the microcontroller has no power; openings count from 0 at each start."""
        layout.SWITCH_PIN.write(self._view, 0)
        layout.OPENS.write(self._view, 0)

    @property
    def stuck(self) -> bool:
        """Whether the switch stays closed."""
        return bool(layout.STUCK.read(self._view))

    def pin(self) -> Pin:
        """Return the pin as it is now."""
        # The firmware writes index and ticks before it counts: what was read between two equal counts belongs together.
        for _ in range(_TRIES):
            opens = layout.OPENS.read(self._view)
            found = Pin(
                bool(layout.SWITCH_PIN.read(self._view)),
                bool(layout.SWITCH_SENSE.read(self._view)),
                opens,
                layout.OPEN_INDEX.read(self._view),
                layout.OPEN_TICKS.read(self._view),
            )
            if layout.OPENS.read(self._view) == opens:
                return found
        raise BenchFaultError(f"{self.name}: the pin is opened faster than it can be read")

    @property
    def sample_index(self) -> int:
        """Number of samples the firmware has taken since it started."""
        return layout.SAMPLE_INDEX.read(self._view)

    @property
    def ticks(self) -> int:
        """The device's clock at its last sample."""
        return layout.TICKS.read(self._view)
