"""The real firmware core in this process, sample by sample on the caller's clock; a shared library, no thread.

Its ticks are nanoseconds (tick_hz 1e9). Nothing moves but by a call, so that a test in virtual time has the firmware's
own arithmetic at its own nanosecond. The converter, the switch, the line and the watchdog are the port's
(``firmware/ports/lockstep``); a real board has its own.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from firmware_proto.frontend.messages import ResetCause, State
from hil.errors import BenchOptionError
from hil.frontend import build

TICK_HZ: Final = 1_000_000_000
FULL_SCALE_CODE: Final = 32_767
BOOT_NONCE: Final = 0x7A5C1E01
MAX_LATE_NS: Final = 5_000_000
"""As limits.max_late_us of the schema."""
PA_PER_A: Final = 1e12
LINE_ROOM: Final = 262_144
"""Bytes that wait to be taken before the line takes no more."""

_NONCE_STEP: Final = 0x9E3779B1
_TAKEN: Final = 65_536


class _Options(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint32)
        for name in (
            "sample_hz",
            "code_pa",
            "boot_nonce",
            "late_ticks",
            "max_late_ticks",
            "full_scale_code",
            "series",
        )
    )


class _Look(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("ticks", "due_ticks", "index", "open_index", "open_ticks")),
        *((name, ctypes.c_uint32) for name in ("opens", "resets", "session", "boot_nonce")),
        *((name, ctypes.c_uint8) for name in ("closed", "sense", "state", "frozen", "deaf")),
    )

    ticks: int
    due_ticks: int
    index: int
    open_index: int
    open_ticks: int
    opens: int
    resets: int
    session: int
    boot_nonce: int
    closed: int
    sense: int
    state: int
    frozen: int
    deaf: int


@functools.cache
def _library(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    whole, text, u32, u64, i32 = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int32
    table: dict[str, tuple[type | None, tuple[type, ...]]] = {
        "tgl_size": (ctypes.c_size_t, ()),
        "tgl_start": (None, (whole, whole, u64)),
        "tgl_reset": (None, (whole, u32, u32)),
        "tgl_step": (u32, (whole, i32, u32)),
        "tgl_run": (u32, (whole, whole, u32)),
        "tgl_run_to": (u32, (whole, u64, i32)),
        "tgl_stall": (None, (whole, u64)),
        "tgl_receive": (None, (whole, text, u32)),
        "tgl_take": (u32, (whole, whole, u32)),
        "tgl_set": (None, (whole, u32, u32, u32, u32)),
        "tgl_see": (None, (whole, whole)),
        "tgl_detect": (None, (text, u32, whole, u32, whole, whole)),
    }
    for name, (result, arguments) in table.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


class LockstepFrontend:
    """One front end. Currents in A, codes in the converter's units of ``code_pa`` pA, times in ns."""

    def __init__(
        self,
        *,
        sample_hz: int = 100_000,
        code_pa: int = 40_000,
        boot_nonce: int = BOOT_NONCE,
        full_scale_code: int = FULL_SCALE_CODE,
        start_ns: int = 0,
        max_late_ns: int = MAX_LATE_NS,
        series: bool = True,
        library: Path | None = None,
    ) -> None:
        """Power it on at ``start_ns``; its first sample is one period later.

        ``sample_hz`` divides 1e9. ``series``: the switch stands in series with the converter's shunt, which reads 0
        while it is open; False feeds the codes as they are. ``library``: another build than the usual one. Raises
        BenchOptionError without a compiler or for a rate that does not divide.
        """
        if not 1_000 <= sample_hz <= 1_000_000 or TICK_HZ % sample_hz:
            raise BenchOptionError(f"sample_hz {sample_hz}: expected a divisor of 1e9 from 1000 to 1000000")
        if not 1 <= full_scale_code <= FULL_SCALE_CODE:
            raise BenchOptionError(f"full_scale_code {full_scale_code}: expected 1 to {FULL_SCALE_CODE}")
        self.sample_hz = sample_hz
        self.code_pa = code_pa
        self.full_scale_code = full_scale_code
        self.period_ns = TICK_HZ // sample_hz
        self._library = _library(build.lockstep() if library is None else library)
        self._memory = ctypes.create_string_buffer(self._library.tgl_size())
        self._at = ctypes.addressof(self._memory)
        self._out = ctypes.create_string_buffer(_TAKEN)
        self._seen = _Look()
        self._stuck = False
        self._line_room = LINE_ROOM
        self._series = series
        options = _Options(sample_hz, code_pa, boot_nonce, self.period_ns, max_late_ns, full_scale_code, int(series))
        self._library.tgl_start(self._at, ctypes.addressof(options), start_ns)

    # -- samples

    def step(self, code: int, *, adc_fault: bool = False) -> bool:
        """Go on to the next sample, of ``code`` or without an answer; return whether the switch is closed after it."""
        return bool(self._library.tgl_step(self._at, code, int(adc_fault)))

    def run(self, codes: npt.NDArray[np.int16]) -> int:
        """Step through ``codes`` up to and with the one that opens a closed switch; return how many that were."""
        block = np.ascontiguousarray(codes, np.int16)
        return int(self._library.tgl_run(self._at, block.ctypes.data, block.size))

    def advance_to(self, t_ns: int, current_a: Callable[[int], float]) -> bool:
        """Take every sample that is due up to ``t_ns``, its current from ``current_a(due_ns)``; return ``closed``.

        While the switch is open ``current_a`` is not asked: in series there is no current then.
        """
        look = self._look()
        while look.due_ticks <= t_ns and not (look.frozen or look.deaf):
            if self._series and not look.sense:
                break
            self.step(self.code_of(current_a(look.due_ticks)))
            look = self._look()
        self._library.tgl_run_to(self._at, t_ns, 0)
        return self.closed

    def code_of(self, current_a: float) -> int:
        """Return what the converter makes of ``current_a``: rounded, and held at full scale beyond it."""
        code = round(current_a * PA_PER_A / self.code_pa)
        return max(-self.full_scale_code, min(self.full_scale_code, code))

    # -- the line

    def receive(self, data: bytes) -> None:
        """Let the firmware hear ``data`` now; a frozen one hears nothing."""
        self._library.tgl_receive(self._at, data, len(data))

    def take(self) -> bytes:
        """Return what it has sent since the last call."""
        parts = []
        while n := self._library.tgl_take(self._at, ctypes.addressof(self._out), _TAKEN):
            parts.append(self._out.raw[:n])
        return b"".join(parts)

    @property
    def line_room(self) -> int:
        """Bytes that the line takes before somebody takes them from it; 0 is a line that is cut."""
        return self._line_room

    @line_room.setter
    def line_room(self, room: int) -> None:
        self._line_room = max(0, min(LINE_ROOM, room))
        self._set()

    # -- what goes wrong

    def freeze(self) -> None:
        """Let the firmware hang, its watchdog not: limits.watchdog_ms after its last kick it resets."""
        self._set(frozen=True)

    def thaw(self) -> None:
        """Let it go on; samples that were due meanwhile come late."""
        self._set(frozen=False)

    def stall(self, t_ns: int) -> None:
        """Let time pass to ``t_ns`` without a turn of the firmware: an interrupt that comes late."""
        self._library.tgl_stall(self._at, t_ns)

    def stick(self, *, stuck: bool) -> None:
        """Let the switch stay closed whatever the pin says, or work again."""
        self._stuck = stuck
        self._set()

    def reset(self, cause: ResetCause = ResetCause.PIN) -> None:
        """Reset it; the pin opens, a new boot nonce is drawn, everything it knew is gone."""
        nonce = (self.boot_nonce * _NONCE_STEP + 1) & 0xFFFFFFFF
        self._library.tgl_reset(self._at, int(cause), nonce)

    def stop_samples(self) -> None:
        """Let the sample interrupt come no more while the main loop goes on, until it resets."""
        self._set(deaf=True)

    def _set(self, *, frozen: bool | None = None, deaf: bool | None = None) -> None:
        look = self._look()
        still = look.frozen if frozen is None else int(frozen)
        without = look.deaf if deaf is None else int(deaf)
        self._library.tgl_set(self._at, int(self._stuck), still, without, self._line_room)

    # -- what is seen of it from outside, at the pins and in its registers

    def _look(self) -> _Look:
        self._library.tgl_see(self._at, ctypes.addressof(self._seen))
        return self._seen

    @property
    def closed(self) -> bool:
        """What the pin is driven to."""
        return bool(self._look().closed)

    @property
    def sense(self) -> bool:
        """Whether the path really conducts."""
        return bool(self._look().sense)

    @property
    def state(self) -> State:
        """What the firmware is in; not what it says."""
        return State(self._look().state)

    @property
    def frozen(self) -> bool:
        """Whether it hangs."""
        return bool(self._look().frozen)

    @property
    def sample_index(self) -> int:
        """Samples taken since boot: the index of the next one."""
        return int(self._look().index)

    @property
    def now_ticks(self) -> int:
        """Device time, ns."""
        return int(self._look().ticks)

    @property
    def due_ticks(self) -> int:
        """When the next sample is due, ns."""
        return int(self._look().due_ticks)

    @property
    def opens(self) -> int:
        """How often the pin was opened."""
        return int(self._look().opens)

    @property
    def open_index(self) -> int:
        """Sample during which, or behind whose predecessor, the pin was opened last."""
        return int(self._look().open_index)

    @property
    def open_ticks(self) -> int:
        """Device time at which it was opened last, ns."""
        return int(self._look().open_ticks)

    @property
    def resets(self) -> int:
        """How often the watchdog bit."""
        return int(self._look().resets)

    @property
    def boot_nonce(self) -> int:
        """That of the present boot."""
        return int(self._look().boot_nonce)

    @property
    def session(self) -> int:
        """The session it takes frames of; 0: none since boot."""
        return int(self._look().session)


def detect(
    config: bytes, full_scale_code: int, codes: npt.NDArray[np.int16], *, library: Path | None = None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Return what the C detector says of each code, and its baseline (1/256 code) before each.

    ``config``: the payload of a CONFIG in range. Only for its conformance with the model.
    """
    block = np.ascontiguousarray(codes, np.int16)
    reasons = np.zeros(block.size, np.uint8)
    baselines = np.zeros(block.size, np.int32)
    where = _library(build.lockstep() if library is None else library)
    where.tgl_detect(config, full_scale_code, block.ctypes.data, block.size, reasons.ctypes.data, baselines.ctypes.data)
    return reasons, baselines
