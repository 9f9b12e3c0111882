"""Waveforms through the firmware on an emulated Cortex-M3, many in one run: what it did with each, in virtual time.

The image is the product's but for its line and its converter (firmware/ports/mps2_an385/proofs/player.c); virtual time
counts instructions, so that two runs are the same run.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from firmware_proto.frontend.messages import Config, Reason
from hil.frontend import build
from hil.frontend.qemu import run_to_end
from tests.hil.frontend_qemu.waveforms import Codes

PLAYER: Final = build.PORTS / "mps2_an385" / "proofs" / "player.c"
SAMPLE_HZ: Final = 10_000
TICK_HZ: Final = 25_000_000
PERIOD_TICKS: Final = TICK_HZ // SAMPLE_HZ
ICOUNT: Final = 5
"""32 ns an instruction: 3125 instructions a sample, which is more than the firmware ever needs for one."""

# As in player.h.
_SCRIPT_AT: Final = 0x100000
_RESULTS_AT: Final = 0x200000
_WAVES_AT: Final = 0x300000
_ENTRY: Final = struct.Struct("<IIII22s2x")
_RESULT: Final = struct.Struct("<II6QII")
_WHY: Final = {3: "no progress for 0.3 s", 4: "the firmware refused something", 5: "a frame did not decode"}


class PlayerError(Exception):
    """The image did not get to the end of its waveforms."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One arming. ``lease_ticks`` 0: renewed all the time; else one lease of that length and ``phase_ticks``."""

    config: Config
    codes: Codes
    lease_ticks: int = 0
    phase_ticks: int = 0


@dataclass(frozen=True, slots=True)
class Played:
    """What became of one arming; indices are those of its codes, ticks the device's.

    ``at``: the sample that tripped, as reported; None if all codes passed. ``opened_at`` and ``opened_ticks``: what the
    pin did. ``due_ticks``: when the tripping sample was due.
    """

    at: int | None
    reason: Reason
    due_ticks: int
    opened_at: int
    opened_ticks: int
    deadline_ticks: int
    late_samples: int
    overruns: int
    stack_used: int
    """Of the whole run, bytes."""


def player_image(edits: Sequence[build.Edit] = (), *, spin: bool = True) -> Path:
    """Build it; ``edits`` break the firmware on purpose. Without ``spin`` QEMU loses every second SysTick to WFI."""
    return build.mps2(sample_hz=SAMPLE_HZ, spin=spin, extra=[PLAYER], without=["uart.c", "analog.c"], edits=edits)


def play(entries: Sequence[Entry], image: Path, *, icount: int = ICOUNT, timeout_s: float = 120.0) -> list[Played]:
    """Play ``entries`` one after the other, in one boot."""
    waves, table = bytearray(), bytearray(struct.pack("<I12x", len(entries)))
    for entry in entries:
        table += _ENTRY.pack(
            _WAVES_AT + len(waves), len(entry.codes), entry.lease_ticks, entry.phase_ticks, entry.config.pack()
        )
        waves += np.ascontiguousarray(entry.codes, "<i2").tobytes()
        waves += bytes(-len(waves) % 4)
    assert len(table) <= _RESULTS_AT - _SCRIPT_AT
    assert len(entries) * _RESULT.size <= _WAVES_AT - _RESULTS_AT
    preload = bytes(table).ljust(_WAVES_AT - _SCRIPT_AT, b"\0") + bytes(waves)
    code, memory, said = run_to_end(image, icount=icount, preload=preload, offset=_SCRIPT_AT, timeout_s=timeout_s)
    results = [_RESULT.unpack_from(memory, _RESULTS_AT + number * _RESULT.size) for number in range(len(entries))]
    done = sum(bool(result[0]) for result in results)
    if code:
        raise PlayerError(f"exit {code} ({_WHY.get(code, 'unknown')}) after {done} of {len(entries)}: {said}")
    (stack_used,) = struct.unpack_from("<I", memory, _SCRIPT_AT + 4)
    return [_played(entry, result, stack_used) for entry, result in zip(entries, results, strict=True)]


def _played(entry: Entry, result: tuple[int, ...], stack_used: int) -> Played:
    done, reason, first, trip_index, trip_ticks, open_index, open_ticks, deadline, late, overruns = result
    assert done == 1
    at = trip_index - first
    # Behind its last code a waveform is held until the switch is opened: what comes then is not its own.
    tripped = reason != Reason.NONE and (at < len(entry.codes) or entry.lease_ticks > 0)
    return Played(
        at=at if tripped else None,
        reason=Reason(reason) if tripped else Reason.NONE,
        due_ticks=trip_ticks,
        opened_at=open_index - first,
        opened_ticks=open_ticks,
        deadline_ticks=deadline,
        late_samples=late,
        overruns=overruns,
        stack_used=stack_used,
    )
