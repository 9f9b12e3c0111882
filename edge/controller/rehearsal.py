"""Rehearses a cut on stand-ins, so that a processor has it at hand when a surge comes.

Between two readings the worker sleeps for 12 to 20 ms, and by then the processor's caches hold what others did: the
same Python takes several times as long from a reading to its decision as when it ran just before. On a line, whose
bytes come one after another, a rehearsal behind the first of them about halves that (``tipguard bench wire``). So
whenever the loop is about to wait for a reply, the whole way is gone once more with a reading that must trip, on a
link that leads nowhere, a guard, a cutter and a recorder of their own. Real code, none of the real objects: nothing
that happens here can reach the port, the page, the ring, the flight record or the line of an actuator.
"""

from __future__ import annotations

import contextlib
import copy
import time
from pathlib import Path
from typing import Final

from edge.clock import Clock
from edge.controller.engine import Engine
from edge.controller.mirror import Latch, Mirror
from edge.controller.page import Page
from edge.controller.recorder import Recorder
from edge.errors import InstrumentError, RingError
from edge.guard.guard import Guard
from edge.guard.phases import PhaseSpec
from edge.guard.states import Cause, State
from edge.guard.verdicts import Verdict
from edge.instruments.link import Link
from edge.instruments.recording import RecordingClock, RecordingTransport, Tape
from edge.instruments.transport import Unplugged
from edge.ring import RingWriter
from edge.samples import Sample
from edge.tape import SMU

REST_NS: Final = 100_000
"""At most so often: two bytes at 57600 baud, and what is at hand now is at hand then."""
FILE: Final = ".rehearsal"
RING_BYTES: Final = 1 << 16
_OF_LIMIT: Final = 0.75
"""Of the protection: above the hard limit, below what counts as clamped."""
_STATUS: Final = b"+2.048400E+04"
_QUIET_V: Final = 1.0


class _Nowhere(Unplugged):
    """Gives one line again and again."""

    def __init__(self, line: bytes, baud: int) -> None:
        super().__init__("rehearsal", baud)
        self.line = line

    def read(self) -> bytes:
        """Return the line."""
        return self.line


class _NoMirror(Mirror):
    """A latch that nobody reads."""

    def write(self, _latch: Latch) -> None:
        """Forget it."""


class Rehearsal:
    """Call it when nothing else is to be done; it does something only while a reading is awaited."""

    def __init__(self, engine: Engine, directory: Path, clock: Clock) -> None:
        """``directory``: the run directory; two small files in it are mapped and gone at once. Sends nothing, ever."""
        self._engine = engine
        self._real = engine.guard
        self._link = engine.smu.link
        self._clock = clock
        self._spec: PhaseSpec | None = None
        self._stage: _Stage | None = None
        self._done_ns = 0
        path = directory / FILE
        try:
            self._page = Page(path, create=True)
            path.unlink()
            self._ring = RingWriter(path, RING_BYTES)
        finally:
            with contextlib.suppress(OSError):
                path.unlink()

    def __call__(self) -> None:
        """Rehearse once, if a reply is awaited under bias and the last time was :data:`REST_NS` ago."""
        if self._real.machine.state is not State.ENERGISED or not self._link.outstanding:
            return
        now_ns = time.monotonic_ns()
        if now_ns - self._done_ns < REST_NS:
            return
        spec = self._real.spec
        if spec is not None and spec is not self._spec:
            self._spec = spec
            self._stage = _Stage.built(self, spec)
        if self._stage is not None and not self._stage.play(now_ns):
            # A rehearsal that does not go as it should is given up; it must not end what it is for.
            self._stage = None
        self._done_ns = time.monotonic_ns()

    @property
    def parts(self) -> tuple[Engine, Clock, Page, RingWriter]:
        """What a stage is built from."""
        return self._engine, self._clock, self._page, self._ring


class _Stage:
    """The stand-ins for one phase."""

    def __init__(self, engine: Engine, clock: Clock, page: Page, ring: RingWriter, spec: PhaseSpec) -> None:
        config = engine.config
        self._tape = Tape(clock)
        recorded = RecordingClock(clock, self._tape)
        current_a = _OF_LIMIT * engine.guard.protection_a(spec)
        self._line = b"+0.000000E+00,%+.6E,%s" % (current_a, _STATUS)
        nowhere = _Nowhere(self._line + b"\r", engine.smu.link.transport.baud)
        self._link = Link(RecordingTransport(nowhere, self._tape, SMU), recorded)
        # What the driver has learnt of its unit comes along; what it would learn here stays here.
        self._smu = copy.copy(engine.smu)
        self._smu.link = self._link
        self._guard = Guard(config.limits, series_ohm=config.rig.series_resistor_ohm, event=config.event)
        recorder = Recorder(ring, rig=config.rig.id, clock=clock)
        self._engine = Engine(config, self._smu, self._guard, recorder, page, _NoMirror(Path()), recorded)
        self._guard.machine.move(Cause.VERIFIED_OFF)
        self._guard.arm(spec, 0.1)
        self._guard.machine.move(Cause.OUTPUT_ON_SENT)
        self._quiet = Sample(0, 0, 0, _QUIET_V, 1.5 * self._guard.floor_a, 0, int(spec.phase))

    @classmethod
    def built(cls, rehearsal: Rehearsal, spec: PhaseSpec) -> _Stage | None:
        """Return the stand-ins; None where the reading does not trip, so that there is nothing to rehearse."""
        engine, clock, page, ring = rehearsal.parts
        try:
            stage = cls(engine, clock, page, ring, spec)
        except (InstrumentError, RingError):
            return None
        return stage if stage.trips() else None

    def trips(self) -> bool:
        """Tell whether this driver reads the line as a current over the hard limit of this phase."""
        sample = self._smu.sample(self._line, 0, 0.0, self._guard.phase)
        return self._guard.observe(sample) is Verdict.HARD_LIMIT

    def play(self, now_ns: int) -> bool:
        """Go the way once: a quiet sample, a reading that trips, its cut; and be ready for the next time.

        False: nothing was cut, and there is no next time.
        """
        guard, link, machine = self._guard, self._link, self._guard.machine
        guard.observe(self._quiet._replace(t_ns=now_ns))
        link.ask(self._smu.read_message, self._engine._on_reading, now_ns)  # noqa: SLF001 - the very code to rehearse
        link.readable()
        link.forget()
        self._tape.entries.clear()
        if machine.state is not State.CUTTING:
            return False
        if machine.protective:
            machine.move(Cause.PROTECTIVE_CUT_VERIFIED)
            machine.move(Cause.REARM)
        else:
            machine.move(Cause.CUT_VERIFIED)
        machine.move(Cause.LIMITS_READ_BACK)
        machine.move(Cause.OUTPUT_ON_SENT)
        return True
