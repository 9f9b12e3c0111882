"""The wire between the twin and an emulated front end in real time: current into the converter, the pin into the path.

Each change of the twin is put before the converter as it happens, with the time at which it did, so that samples which
were due before it still read what flowed before. The pin is looked at before the twin lives on: where the firmware has
opened it meanwhile, the path opens at the device's own time of that, not at the time somebody looked.
"""

from __future__ import annotations

from typing import Final

from hil.frontend.bench_memory import BenchMemory
from hil.frontend.unit import Told
from hil.twin.terminals import SourcedLoad

CLOSED_LOOK_NS: Final = 1_000_000
"""How often the pin is looked at, and a current that changes by itself is told, while the path is closed."""
OPEN_LOOK_NS: Final = 2_000_000
"""The same while it is open."""
FULL_SCALE: Final = 32767


def code_of(current_a: float, code_pa: float) -> int:
    """Return the code of a current in A at ``code_pa`` pA per code: nearest, at most full scale in magnitude."""
    return max(-FULL_SCALE, min(FULL_SCALE, round(current_a * 1e12 / code_pa)))


class Feed:
    """One load at one front end.

    ``same_clock``: the device's ticks are the bench's ns. Where the two clocks have nothing to do with each other an
    opening counts from when it was seen, and the converter reads what flows now.
    """

    def __init__(self, load: SourcedLoad, memory: BenchMemory, *, code_pa: float, same_clock: bool) -> None:
        """Take hold of the load: its path is open until the pin closes it."""
        self._load = load
        self._memory = memory
        self._code_pa = code_pa
        self._same_clock = same_clock
        self._opens = 0
        self._code = 0
        self._busy = False
        self._held: int | None = None
        self._on_held: Told | None = None
        self._on_stuck: Told | None = None
        self.next_ns = 0
        """When :meth:`step` is next to be called."""
        load.switch_path(load.lived_ns, closed=False)
        load.before = self._before
        load.on_segment = self._segment

    @property
    def closed(self) -> bool:
        """Whether the path is closed, as far as the twin has lived."""
        return self._load.path_closed

    def step(self, t_ns: int) -> None:
        """Live until ``t_ns``: pin, twin, converter."""
        t_ns = self._live_until(t_ns)
        if not self._load.steady:
            self._put(t_ns)
        look_ns = CLOSED_LOOK_NS if self.closed else OPEN_LOOK_NS
        self.next_ns = min(t_ns + look_ns, max(self._load.next_change_ns, t_ns + 1))

    def restarted(self) -> None:
        """The device starts again and counts its openings from 0; the pin was opened by what pulls it."""
        self._opens = 0

    # What goes wrong

    def stick(self, t_ns: int, *, stuck: bool, told: Told | None) -> None:
        """Let the contact stay closed from ``t_ns`` on, or work again."""
        t_ns = self._live_until(t_ns)
        self._memory.stick(stuck=stuck)
        self._on_stuck = told if stuck else None
        self._load.advance(t_ns)
        if stuck and not self._memory.pin().closed:
            self._tell_stuck(t_ns, self._memory.sample_index)

    def hold(self, t_ns: int, *, held: bool, told: Told | None) -> None:
        """Let the converter stay where it is from ``t_ns`` on, or read the truth again."""
        t_ns = self._live_until(t_ns)
        self._put(t_ns)
        self._held = self._code if held else None
        self._on_held = told if held else None
        if not held:
            self._put(t_ns)

    # Between twin and pin

    def _live_until(self, t_ns: int) -> int:
        """Let the twin live until ``t_ns``, or stay where it is if that is over; return when that is."""
        t_ns = max(t_ns, self._load.lived_ns)
        self._load.advance(t_ns)
        return t_ns

    def _before(self, t_ns: int) -> None:
        """Let the pin act on the twin before it lives until ``t_ns``."""
        if self._busy:
            return
        self._busy = True
        try:
            self._look(t_ns)
        finally:
            self._busy = False

    def _look(self, t_ns: int) -> None:
        load, memory = self._load, self._memory
        pin, stuck = memory.pin(), memory.stuck
        opened = pin.opens != self._opens
        self._opens = pin.opens
        if opened and load.path_closed:
            if stuck:
                self._tell_stuck(t_ns, pin.open_index)
            else:
                self._switch(self._when(pin.open_ticks, t_ns), t_ns, closed=False, index=pin.open_index)
        closed = pin.closed or stuck
        if closed != load.path_closed:
            self._switch(t_ns, t_ns, closed=closed, index=memory.sample_index)

    def _when(self, ticks: int, t_ns: int) -> int:
        return min(max(ticks, self._load.lived_ns), t_ns) if self._same_clock else t_ns

    def _switch(self, at_ns: int, seen_ns: int, *, closed: bool, index: int) -> None:
        load = self._load
        load.switch_path(at_ns, closed=closed)
        event = "switch_closed" if closed else "switch_open"
        load.note(at_ns, event, {"sample_index": index, "seen_ns": seen_ns})

    def _tell_stuck(self, t_ns: int, index: int) -> None:
        if self._on_stuck is not None:
            told, self._on_stuck = self._on_stuck, None
            told(t_ns, f"the pin is open at sample {index}, the contact is not")

    # Between twin and converter

    def _segment(self, t_ns: int) -> None:
        self._put(t_ns)
        self.next_ns = min(self.next_ns, max(self._load.next_change_ns, t_ns + 1))

    def _put(self, t_ns: int) -> None:
        code = code_of(self._load.current_at(t_ns), self._code_pa)
        if self._held is not None:
            if code != self._held and self._on_held is not None:
                told, self._on_held = self._on_held, None
                told(t_ns, f"the converter gives {self._held}, {code} in truth")
            return
        before, self._code = self._code, code
        if code == before:
            return
        if self._same_clock:
            self._memory.ramp(t_ns - 1, before, t_ns, code)
        else:
            self._memory.hold(code)
