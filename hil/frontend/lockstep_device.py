"""A front end in virtual time: the real core in lockstep with the bench's clock, as a device on a line of the bench.

It lives whenever the bench does: before the twin goes on until t, every sample that is due until then is taken, so that
the path opens at the sample that trips and not when somebody looked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from firmware_proto.frontend.messages import ResetCause
from hil.frontend.feed import FULL_SCALE, code_of
from hil.frontend.lockstep import LockstepFrontend
from hil.frontend.unit import Told
from hil.line.duplex import Duplex
from hil.line.pacing import NEVER, Pacer
from hil.protocols import Wire
from hil.twin.terminals import SourcedLoad

LINE_BYTES: Final = 256
"""A UART's buffer, on a line with a rate."""
LOOK_NS: Final = 1_000_000
"""How often its bytes are put onto the line while nothing else happens."""
BLOCK: Final = 4096
"""Most samples in one piece, where nothing changes."""


class Around(Protocol):
    """A line in memory, as far as a device on it needs to know it."""

    @property
    def duplex(self) -> Duplex:
        """Its two directions."""

    def poke(self) -> None:
        """Look again when something happens next."""


class LockstepDevice:
    """Implements :class:`hil.frontend.unit.FrontendUnit`; ``core`` is its own, ``load`` in series with it.

    ``noise_codes``: peak of the converter's triangular noise, drawn from ``seed``. The path is open until the pin
    closes it; the device has its first sample after the first moment that anybody on the bench lives through.
    """

    def __init__(self, core: LockstepFrontend, load: SourcedLoad, *, noise_codes: int = 0, seed: int = 0) -> None:
        """Take hold of the load."""
        self.core = core
        self._load = load
        self._noise_codes = noise_codes
        self._rng = np.random.default_rng(seed)
        self._wire: Wire | None = None
        self._ahead_ns: int | None = None  # bench's time less the device's; None before the first moment
        self._next_ns = 0
        self._frozen_ns: int | None = None
        self._power_on_ns = NEVER
        self._cause = ResetCause.POWER
        self._busy = False
        self._silent = False
        self._held: int | None = None
        self._on_held: Told | None = None
        self._on_stuck: Told | None = None
        self._pacer: Pacer | None = None
        self._poke: Callable[[], None] = lambda: None
        load.switch_path(load.lived_ns, closed=False)
        load.before = self._before

    @property
    def closed(self) -> bool:
        """See FrontendUnit."""
        return self._load.path_closed

    # -- a device on a line

    def attach(self, wire: Wire) -> None:
        """See Device."""
        self._wire = wire

    def on_line(self, line: Around) -> None:
        """Know the line it is on: with a rate it has a UART's buffer, and what that has no room for has to wait."""
        self._poke = line.poke
        pacer = line.duplex.to_reader
        if pacer.baud:
            self._pacer = pacer
            self.core.line_room = LINE_BYTES

    def receive(self, t_ns: int, data: bytes) -> None:
        """See Device."""
        t_ns = self._live_until(t_ns)
        if not self._still:
            self.core.receive(data)
            self._follow(t_ns)
        self._send(t_ns)

    def next_event_ns(self) -> int | None:
        """See Device."""
        return None if self._ahead_ns is None else min(self._next_ns, self._power_on_ns)

    def advance(self, t_ns: int) -> None:
        """See Device."""
        t_ns = self._live_until(t_ns)
        if self._power_on_ns <= t_ns:
            self._power_on_ns = NEVER
            self._boot(t_ns)
        self._next_ns = t_ns + LOOK_NS
        self._send(t_ns)

    # -- what goes wrong

    def freeze(self, t_ns: int) -> None:
        """See FrontendUnit."""
        self._frozen_ns = self._live_until(t_ns)

    def thaw(self, t_ns: int) -> None:
        """See FrontendUnit: its clock has stood still meanwhile, as under QEMU."""
        t_ns = self._live_until(t_ns)
        if self._frozen_ns is not None and self._ahead_ns is not None:
            self._ahead_ns += t_ns - self._frozen_ns
        self._frozen_ns = None

    def reset(self, t_ns: int, *, off_ns: int = 0, cause: ResetCause = ResetCause.POWER) -> None:
        """See FrontendUnit."""
        t_ns = self._live_until(t_ns)
        self.core.reset(cause)
        self.core.take()
        self._cause = cause
        self._frozen_ns = None
        self._follow(t_ns)
        if off_ns:
            self._power_on_ns = t_ns + off_ns
        else:
            self._boot(t_ns)

    def stick_switch(self, t_ns: int, *, stuck: bool, told: Told | None = None) -> None:
        """See FrontendUnit."""
        t_ns = self._live_until(t_ns)
        self._on_stuck = told if stuck else None
        self.core.stick(stuck=stuck)
        self._follow(t_ns)

    def silence_converter(self, t_ns: int, *, silent: bool) -> None:
        """See FrontendUnit."""
        self._live_until(t_ns)
        self._silent = silent

    def hold_converter(self, t_ns: int, *, held: bool, told: Told | None = None) -> None:
        """See FrontendUnit."""
        t_ns = self._live_until(t_ns)
        self._held = code_of(self._load.current_at(t_ns), self.core.code_pa) if held else None
        self._on_held = told if held else None

    # -- inside

    def _live_until(self, t_ns: int) -> int:
        """Let twin and device live until ``t_ns``, or stay where they are if that is over; return when that is."""
        t_ns = max(t_ns, self._load.lived_ns)
        self._load.advance(t_ns)
        return t_ns

    @property
    def _still(self) -> bool:
        return self._frozen_ns is not None or self._power_on_ns != NEVER

    def _boot(self, t_ns: int) -> None:
        self._ahead_ns = t_ns - self.core.now_ticks
        self.core.reset(self._cause)
        self._follow(t_ns)

    def _before(self, t_ns: int) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            if self._ahead_ns is None:
                self._ahead_ns = t_ns - self.core.now_ticks
                self._next_ns = t_ns
                self._poke()
            self._live(t_ns)
        finally:
            self._busy = False

    def _live(self, until_ns: int) -> None:
        if self._still or self._ahead_ns is None:
            return
        load, core, ahead_ns = self._load, self.core, self._ahead_ns
        while core.sense and (due_ns := core.due_ticks + ahead_ns) <= until_ns:
            load.advance(due_ns)
            n = 1
            if load.steady:
                last_ns = min(until_ns, load.next_change_ns - 1)
                n = min(BLOCK, max(0, last_ns - due_ns) // core.period_ns + 1)
            if self._silent:
                core.step(0, adc_fault=True)
            else:
                core.run(self._noisy(self._read(due_ns), n))
            self._follow(core.now_ticks + ahead_ns)
        # No sample is due any more, or there is no current: the rest is time that passes.
        core.advance_to(until_ns - ahead_ns, lambda _t_ns: 0.0)
        self._follow(until_ns)

    def _read(self, t_ns: int) -> int:
        code = code_of(self._load.current_at(t_ns), self.core.code_pa)
        if self._held is None:
            return code
        if code != self._held and self._on_held is not None:
            told, self._on_held = self._on_held, None
            told(t_ns, f"the converter gives {self._held}, {code} in truth")
        return self._held

    def _noisy(self, code: int, n: int) -> npt.NDArray[np.int16]:
        codes = np.full(n, code, np.int64)
        if peak := self._noise_codes:
            codes += np.rint(self._rng.uniform(-peak / 2, peak / 2, (2, n)).sum(axis=0)).astype(np.int64)
        return np.clip(codes, -FULL_SCALE, FULL_SCALE).astype(np.int16)

    def _follow(self, t_ns: int) -> None:
        """Let the path be what the contact is."""
        load, core = self._load, self.core
        if core.sense and not core.closed and self._on_stuck is not None:
            told, self._on_stuck = self._on_stuck, None
            told(t_ns, f"the pin is open at sample {core.sample_index}, the contact is not")
        closed = core.sense
        if closed == load.path_closed:
            return
        busy, self._busy = self._busy, True
        try:
            load.switch_path(t_ns, closed=closed)
            event = "switch_closed" if closed else "switch_open"
            load.note(t_ns, event, {"sample_index": core.sample_index, "seen_ns": t_ns})
        finally:
            self._busy = busy
        # What is to be said of it is said at once, not at the next look.
        self._next_ns = min(self._next_ns, t_ns)
        self._poke()

    def _send(self, t_ns: int) -> None:
        pacer = self._pacer
        if self._wire is None or (pacer is not None and pacer.unstarted(t_ns)):
            return
        if data := self.core.take():
            self._wire.send(t_ns, data)
            if pacer is not None:
                self._next_ns = min(self._next_ns, max(pacer.free_ns, t_ns + 1))
