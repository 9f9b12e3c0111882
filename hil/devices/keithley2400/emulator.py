"""The emulated Keithley 2400 on a serial line: bytes, the command queue, aborts, and time.

Commands execute one after another, each when its processing time is over; what arrives meanwhile waits in the bounded
input queue (:mod:`hil.devices.keithley2400.inlet`). A measurement that runs is such a command, so an ``:OUTP OFF``
behind a long one waits for its end, as on a real unit (User's Manual 11-11). ``^C`` and ``^X`` act at once: they end
what runs, empty the input queue and discard pending output (14-14). They do not touch the output. (The manual prints
"^X (decimal 18)"; ASCII 18 is ``^R``, which is white space here.)

Any rejected command, for its grammar, its value or the state of the unit, ends its message: the commands behind it are
ignored (14-12; the pessimistic reading for values and states).
"""

from __future__ import annotations

import re
from bisect import insort
from collections.abc import Callable, Generator
from typing import Final, NamedTuple

from firmware_proto.scpi import CommandTable, Overlong, ScpiError, iter_commands
from firmware_proto.scpi.errors import MISSING_PARAMETER, PARAMETER_NOT_ALLOWED
from firmware_proto.scpi.message import Command
from hil.devices.keithley2400.entries import Entry
from hil.devices.keithley2400.errors import INPUT_OVERRUN, RefusedError
from hil.devices.keithley2400.flow import XOFF, XON, Flow, Outlet
from hil.devices.keithley2400.inlet import Inlet
from hil.devices.keithley2400.interlock import Rearm
from hil.devices.keithley2400.panel import FrontPanel
from hil.devices.keithley2400.profile import MAX_SWALLOW_S, ConverterErrors, is_firmware
from hil.devices.keithley2400.settings import Settings
from hil.devices.keithley2400.table import BREAK_THROUGH, TRIGGER, commands
from hil.devices.keithley2400.timing import NEVER_NS, Timing, nanoseconds
from hil.devices.keithley2400.triggers import BusTriggers, EventSource
from hil.devices.keithley2400.unit import Unit
from hil.devices.keithley2400.upset import Upset
from hil.errors import BenchFaultError
from hil.protocols import Load, Wire

INPUT_BUFFER_BYTES: Final = 1024
"""Default size of the input queue; that of a real unit is not documented."""
TERMINATORS: Final = (b"\r", b"\n", b"\r\n", b"\n\r")
"""What can be selected on the panel for replies (User's Manual 14-13 to 14-17)."""
FIRMWARE: Final = "C31   May 28 2010 10:34:39/A02  /R/J"
"""As a real unit sends it (pymeasure#954)."""

_ABORT: Final = re.compile(rb"([\x03\x18])")
_ABORT_OR_FLOW: Final = re.compile(rb"([\x03\x11\x13\x18])")


class _Aside(NamedTuple):
    """Something that happens beside the commands, at its own time."""

    t_ns: int
    order: int
    act: Callable[[], object]


class Keithley2400(FrontPanel):
    """An emulated 2400 driving ``load``; implements :class:`hil.protocols.Device`.

    ``terminator`` ends its replies; it takes any of the four. ``flow`` is the flow control of the RS-232 menu, for a
    line of ``baud`` bit/s (only flow control looks at that). ``seed`` makes the noise, ``noise=False`` leaves only the
    resolution of the range. ``line_freq_hz`` (40..440) is the mains' and sets the aperture with NPLC.
    ``abort_swallow_s`` (0..0.02): whatever arrives within that time after an abort is lost. ``input_buffer``: bytes
    that wait while the unit is executing; more are lost, with -363. ``queue_status_messages`` also queues ``+114`` when
    the source enters compliance, as ``:STAT:QUE:ENAB`` can; a unit powers up without (18-102). ``oe_rearm``: what
    switches the output on again after the output enable line switched it off. ``firmware``: what ``*IDN?`` sends behind
    the serial number; before C27 the MAV bit is never set (release notes, PR22327). ``converter``: this unit's own
    offsets and noise. ``calibration_lost``: it powers up with +604 and the questionable bit.

    It is powered on by the first call that carries a time. Times in ns, never backwards (ValueError). No bytes make
    it raise.
    """

    def __init__(
        self,
        load: Load,
        *,
        serial_number: str = "1304207",
        firmware: str = FIRMWARE,
        terminator: bytes = b"\r",
        flow: Flow = Flow.NONE,
        baud: int = 57600,
        seed: int = 0,
        line_freq_hz: float = 50.0,
        timing: Timing | None = None,
        noise: bool = True,
        converter: ConverterErrors | None = None,
        abort_swallow_s: float = 0.0,
        input_buffer: int = INPUT_BUFFER_BYTES,
        queue_status_messages: bool = False,
        oe_rearm: Rearm = Rearm.KEY,
        calibration_lost: bool = False,
    ) -> None:
        """Build a unit; raises ValueError for an argument outside the ranges of the class."""
        if terminator not in TERMINATORS:
            raise ValueError(f"terminator must be one of {TERMINATORS}, not {terminator!r}")
        if not 40.0 <= line_freq_hz <= 440.0:
            raise ValueError(f"line_freq_hz must be 40..440, not {line_freq_hz!r}")
        if not 0.0 <= abort_swallow_s <= MAX_SWALLOW_S:
            raise ValueError(f"abort_swallow_s must be 0..{MAX_SWALLOW_S}, not {abort_swallow_s!r}")
        if input_buffer < 1:
            raise ValueError(f"input_buffer must be at least 1 byte, not {input_buffer}")
        if baud < 0:
            raise ValueError(f"baud must be a rate in bit/s, or 0, not {baud}")
        if not is_firmware(firmware):
            raise ValueError(f"firmware must be printable ASCII, not {firmware!r}")
        self.abort_swallow_s = abort_swallow_s
        self._unit = Unit(
            load,
            serial_number=serial_number,
            firmware=firmware,
            seed=seed,
            line_freq_hz=line_freq_hz,
            timing=Timing() if timing is None else timing,
            noise=noise,
            converter=converter,
            queue_status_messages=queue_status_messages,
            rearm=oe_rearm,
            calibration_lost=calibration_lost,
        )
        self._terminator = terminator
        self._table = commands()
        self._inlet = Inlet(input_buffer)
        self._flow = flow
        self._baud = baud
        self._controls = _ABORT if flow is Flow.NONE else _ABORT_OR_FLOW
        self._wire: Wire | None = None
        self._outlet: Outlet | None = None
        self._task: Generator[int, None, None] | None = None
        self._wake_ns = 0
        self._asides: list[_Aside] = []
        self._asides_made = 0
        self._t_ns: int | None = None
        self._deaf_until_ns: int | None = None
        self._dark = False

    # The plug

    def attach(self, wire: Wire) -> None:
        """Plug the unit into a line; see :class:`hil.protocols.Device`."""
        self._wire = wire
        self._outlet = None if self._flow is Flow.NONE else Outlet(wire, self._baud)

    @property
    def wire(self) -> Wire:
        """The line it is plugged into; raises BenchFaultError before :meth:`attach`."""
        if self._wire is None:
            raise BenchFaultError("the unit is not plugged into a line")
        return self._wire

    @property
    def xon_xoff(self) -> bool:
        """Whether flow control is on."""
        return self._flow is not Flow.NONE

    def receive(self, t_ns: int, data: bytes) -> None:
        """Take bytes of which the last was complete at ``t_ns``."""
        self.advance(t_ns)
        if self._dark:
            return
        pieces = self._controls.split(data)
        if len(pieces) == 1 and not self._deaf(t_ns):
            self._take(t_ns, data)
            return
        for piece in pieces:
            if piece in (b"\x03", b"\x18"):
                if not self._deaf(t_ns):
                    self._abort(t_ns)
            elif self._outlet is not None and piece in (XON, XOFF):
                # The driver takes these out before anything else sees them.
                (self._outlet.stop if piece == XOFF else self._outlet.resume)(t_ns)
            elif piece and not self._deaf(t_ns):
                self._take(t_ns, piece)

    def next_event_ns(self) -> int | None:
        """Return when the unit next does something by itself, or None."""
        wake = None if self._task is None or self._wake_ns >= NEVER_NS else self._wake_ns
        if not self._asides:
            return wake
        first = self._asides[0].t_ns
        return first if wake is None else min(first, wake)

    def advance(self, t_ns: int) -> None:
        """Do everything that is due up to and including ``t_ns``."""
        if self._t_ns is None:
            self._unit.power_on(t_ns)
        elif t_ns < self._t_ns:
            raise ValueError(f"time went back from {self._t_ns} to {t_ns} ns")
        self._t_ns = t_ns
        while self._asides and self._asides[0].t_ns <= t_ns:
            aside = self._asides.pop(0)
            self._catch_up(aside.t_ns)
            aside.act()
        self._catch_up(t_ns)

    # What a test may look at, and a fault plan touch

    @property
    def time_ns(self) -> int | None:
        """How far it has lived, in ns; None before it is powered on."""
        return self._t_ns

    @property
    def output_on(self) -> bool:
        """Whether the output is on."""
        return self._unit.output.on

    @property
    def busy(self) -> bool:
        """Whether a command is being executed."""
        return self._task is not None

    @property
    def settings(self) -> Settings:
        """The present settings; look, do not touch."""
        return self._unit.settings

    @property
    def error_queue(self) -> tuple[int, ...]:
        """The numbers in the error queue, oldest first."""
        return self._unit.status.queued

    @property
    def digital_output(self) -> int:
        """What stands at the digital output port: 0 to 15, from ``:SOUR2:TTL`` or the limit tests."""
        return self._unit.limits.lines(self._unit.now_ns)

    @property
    def queued_bytes(self) -> int:
        """Bytes in the input queue."""
        return self._inlet.level

    def disturb(self, upset: Upset | None) -> None:
        """Let a fault plan at the readings."""
        self._unit.upset = upset

    def stick_compliance(self, *, told: bool | None) -> None:
        """Let compliance be told always (True), never (False) or as it is (None)."""
        self._unit.output.stuck = told

    @property
    def clamped(self) -> bool:
        """Whether the load is really held by the clamp."""
        return self._unit.output.clamped

    def power_cycle(self, t_ns: int, *, dark_s: float = 0.0) -> None:
        """Interrupt the mains at ``t_ns``: everything pending is gone, the unit comes up reset, its output off.

        For ``dark_s`` (at least 0) it neither hears nor says anything, its output relay open: without mains, or busy
        with its self-test.
        """
        self.advance(t_ns)
        self._drop_pending(t_ns)
        self._deaf_until_ns = None
        self._asides.clear()
        if dark_s > 0.0:
            self._dark = True
            self._unit.open_output()
            self._aside(t_ns + nanoseconds(dark_s), self._come_up)
        else:
            self._power_on(t_ns)

    # The panel's side of the box

    def _act(self, t_ns: int, act: Callable[[Unit], None]) -> bool:
        self.advance(t_ns)
        return not self._dark and self._change(t_ns, act)

    def _outside(self, t_ns: int, act: Callable[[Unit], None]) -> None:
        self.advance(t_ns)
        self._change(t_ns, act)

    def _change(self, t_ns: int, act: Callable[[Unit], None]) -> bool:
        # A command that runs notices at its next step, which has its own time.
        self._unit.now_ns = t_ns
        try:
            act(self._unit)
        except RefusedError:
            return False
        return True

    def _later(self, t_ns: int, act: Callable[[Unit], None]) -> None:
        self._aside(t_ns, lambda: self._change(t_ns, act))

    def _end_acquisition(self, t_ns: int) -> None:
        self.advance(t_ns)
        if self._unit.acquiring:
            self._stop_task(t_ns)
            self._run(t_ns)

    def _restart(self, t_ns: int) -> None:
        self.power_cycle(t_ns)

    def _wake(self, t_ns: int) -> None:
        if self._task is not None:
            self._wake_ns = t_ns
            self._run(t_ns)

    # Inside

    def _aside(self, t_ns: int, act: Callable[[], object]) -> None:
        self._asides_made += 1
        insort(self._asides, _Aside(t_ns, self._asides_made, act))

    def _catch_up(self, t_ns: int) -> None:
        if self._task is None:
            self._unit.now_ns = t_ns
        elif self._wake_ns <= t_ns:
            self._run(t_ns)

    def _come_up(self) -> None:
        self._dark = False
        self._power_on(self._unit.now_ns)

    def _power_on(self, t_ns: int) -> None:
        self._unit.power_on(t_ns)
        if self._wire is not None:
            self.attach(self._wire)

    def _deaf(self, t_ns: int) -> bool:
        return self._deaf_until_ns is not None and t_ns < self._deaf_until_ns

    def _abort(self, t_ns: int) -> None:
        self._drop_pending(t_ns)
        pause_ns = nanoseconds(self._unit.timing.abort_s)
        if pause_ns:
            self._task, self._wake_ns = _pause(pause_ns), t_ns
            self._run(t_ns)
        self._deaf_until_ns = t_ns + nanoseconds(self.abort_swallow_s)

    def _drop_pending(self, t_ns: int) -> None:
        self._stop_task(t_ns)
        self._inlet.clear()
        self._unit.bus_triggers = BusTriggers()
        if self._outlet is not None:
            self._outlet.discard(t_ns)
            self._outlet.watch(t_ns, 0, self._inlet.capacity)
        elif self._wire is not None:
            self._wire.discard(t_ns)

    def _stop_task(self, t_ns: int) -> None:
        self._unit.now_ns = t_ns
        if self._task is not None:
            self._task.close()
            self._task = None

    def _take(self, t_ns: int, data: bytes) -> None:
        """Take bytes in, and start what can start: each line as if it had come alone."""
        inlet, unit = self._inlet, self._unit
        if b"\0" in data:
            data = data.replace(b"\0", b"")
        for piece in data.splitlines(keepends=True):
            if self._task is None:
                # Idle means that the queue is empty: what comes is parsed as it comes.
                if (line := inlet.assemble(piece)) is not None:
                    self._start(line)
                    self._run(t_ns)
                continue
            if inlet.put(piece):
                unit.status.push(INPUT_OVERRUN)
            if inlet.overrunning or not (newest := inlet.newest()):
                continue
            if b"*" in newest and _begins_with(TRIGGER, newest):
                waited_for = unit.happen(EventSource.BUS)
                unit.bus_triggers.arrive(waited_for=waited_for)
                if waited_for:
                    self._wake(t_ns)
            elif unit.acquiring and _begins_with(BREAK_THROUGH, newest):
                self._stop_task(t_ns)
                self._run(t_ns)
        if self._outlet is not None:
            self._outlet.watch(t_ns, inlet.level, inlet.capacity)

    def _start(self, line: bytes | Overlong) -> None:
        if isinstance(line, Overlong):
            self._unit.status.push(INPUT_OVERRUN)
        else:
            self._task, self._wake_ns = self._execute(line), self._unit.now_ns

    def _run(self, t_ns: int) -> None:
        """Execute until nothing is left that is due by ``t_ns``."""
        unit = self._unit
        while True:
            if self._task is None:
                line = self._inlet.take() if self._inlet.level else None
                if self._outlet is not None:
                    self._outlet.watch(unit.now_ns, self._inlet.level, self._inlet.capacity)
                if line is None:
                    unit.now_ns = t_ns
                    return
                self._start(line)
                continue
            if self._wake_ns > t_ns:
                return
            unit.now_ns = self._wake_ns
            try:
                self._wake_ns = unit.now_ns + next(self._task)
            except StopIteration:
                self._task = None

    def _execute(self, line: bytes) -> Generator[int, None, None]:
        """Execute one message; yields how long each step takes."""
        unit = self._unit
        replies: list[str] = []
        unit.output_queue = replies
        unit.panel.remote = True
        try:
            for command in iter_commands(line):
                entry = self._table.lookup(command)
                _check_count(entry, command)
                yield unit.cost_ns(entry.cost)
                if entry.act is not None:
                    reply = entry.act(unit, command.params)
                elif entry.long is not None:
                    reply = yield from entry.long(unit, command.params)
                else:
                    reply = None
                if reply is not None:
                    replies.append(reply)
        except (ScpiError, RefusedError) as error:
            unit.status.push(error.code)
        wire = self._wire if self._outlet is None else self._outlet
        if replies and wire is not None:
            wire.send(unit.now_ns, ";".join(replies).encode("ascii") + self._terminator)


def _pause(duration_ns: int) -> Generator[int, None, None]:
    yield duration_ns


def _check_count(entry: Entry, command: Command) -> None:
    count = len(command.params)
    if count < entry.least:
        raise ScpiError(MISSING_PARAMETER, f"{command} needs {entry.least} parameters")
    if count > entry.most:
        raise ScpiError(PARAMETER_NOT_ALLOWED, f"{command} takes at most {entry.most} parameters")


def _begins_with(table: CommandTable[bool], line: bytes) -> bool:
    """Return whether a message begins with one of the commands that act past the queue."""
    try:
        command = next(iter_commands(line), None)
        return command is not None and table.lookup(command)
    except ScpiError:
        return False
