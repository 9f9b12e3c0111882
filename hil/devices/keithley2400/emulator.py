"""The emulated Keithley 2400 on a serial line: bytes, the command queue, aborts, and time.

Commands execute one after another, each when its processing time is over; what arrives meanwhile waits in a bounded
input buffer. A measurement that runs is such a command, so an ``:OUTP OFF`` behind a long one waits for its end, as on
a real unit (User's Manual 11-11). ``^C`` and ``^X`` act at once: they end what runs, empty the input buffer and
discard pending output (14-14). They do not touch the output.

Any rejected command, for its grammar, its value or the state of the unit, ends its message: the commands behind it are
ignored (14-12; the pessimistic reading for values and states).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Generator
from typing import Final

from firmware_proto.scpi import LineSplitter, Overlong, ScpiError, iter_commands
from firmware_proto.scpi.errors import MISSING_PARAMETER, PARAMETER_NOT_ALLOWED
from firmware_proto.scpi.message import Command
from hil.devices.keithley2400.entries import Entry
from hil.devices.keithley2400.errors import INPUT_OVERRUN, RefusedError
from hil.devices.keithley2400.settings import Settings
from hil.devices.keithley2400.table import BREAK_THROUGH, commands
from hil.devices.keithley2400.timing import Timing, nanoseconds
from hil.devices.keithley2400.unit import Unit
from hil.errors import BenchFaultError
from hil.protocols import Load, Wire

INPUT_BUFFER_BYTES: Final = 1024
"""Default size of the input buffer; that of a real unit is not documented."""
MAX_SWALLOW_S: Final = 0.020
TERMINATORS: Final = (b"\r", b"\n", b"\r\n", b"\n\r")
"""What can be selected on the panel for replies (User's Manual 14-13 to 14-17)."""

_ABORT: Final = re.compile(rb"[\x03\x18]")


class Keithley2400:
    """An emulated 2400 driving ``load``; implements :class:`hil.protocols.Device`.

    ``terminator`` ends its replies; it takes any of the four. ``seed`` makes the noise, ``noise=False`` leaves
    only the resolution of the range. ``line_freq_hz`` (40..440) sets the aperture with NPLC. ``abort_swallow_s``
    (0..0.02): whatever arrives within that time after an abort is lost. A message above ``input_buffer`` bytes, or
    one that does not fit beside the messages waiting, is lost whole with -363. ``queue_status_messages`` also queues
    ``+114`` when the source enters compliance, as ``:STAT:QUE:ENAB`` can; a unit powers up without (18-102).

    It is powered on by the first call that carries a time. Times in ns, never backwards (ValueError). No bytes make
    it raise.
    """

    def __init__(
        self,
        load: Load,
        *,
        serial_number: str = "1304207",
        terminator: bytes = b"\r",
        seed: int = 0,
        line_freq_hz: float = 50.0,
        timing: Timing | None = None,
        noise: bool = True,
        abort_swallow_s: float = 0.0,
        input_buffer: int = INPUT_BUFFER_BYTES,
        queue_status_messages: bool = False,
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
        self.abort_swallow_s = abort_swallow_s
        self._unit = Unit(
            load,
            serial_number=serial_number,
            seed=seed,
            line_freq_hz=line_freq_hz,
            timing=Timing() if timing is None else timing,
            noise=noise,
            queue_status_messages=queue_status_messages,
        )
        self._terminator = terminator
        self._table = commands()
        self._splitter = LineSplitter(input_buffer)
        self._capacity = input_buffer
        self._lines: deque[bytes] = deque()
        self._queued_bytes = 0
        self._wire: Wire | None = None
        self._task: Generator[int, None, None] | None = None
        self._wake_ns = 0
        self._t_ns: int | None = None
        self._deaf_until_ns: int | None = None

    # The plug

    def attach(self, wire: Wire) -> None:
        """Plug the unit into a line; see :class:`hil.protocols.Device`."""
        self._wire = wire

    @property
    def wire(self) -> Wire:
        """The line it is plugged into; raises BenchFaultError before :meth:`attach`."""
        if self._wire is None:
            raise BenchFaultError("the unit is not plugged into a line")
        return self._wire

    def receive(self, t_ns: int, data: bytes) -> None:
        """Take bytes of which the last was complete at ``t_ns``."""
        self.advance(t_ns)
        pieces = _ABORT.split(data) if b"\x03" in data or b"\x18" in data else [data]
        for index, piece in enumerate(pieces):
            if index and not self._deaf(t_ns):
                self._abort(t_ns)
            if piece and not self._deaf(t_ns):
                self._take(t_ns, piece)

    def next_event_ns(self) -> int | None:
        """Return when the unit next does something by itself, or None."""
        return None if self._task is None else self._wake_ns

    def advance(self, t_ns: int) -> None:
        """Do everything that is due up to and including ``t_ns``."""
        if self._t_ns is None:
            self._unit.power_on(t_ns)
        elif t_ns < self._t_ns:
            raise ValueError(f"time went back from {self._t_ns} to {t_ns} ns")
        self._t_ns = t_ns
        if self._task is None:
            self._unit.now_ns = t_ns
        elif self._wake_ns <= t_ns:
            self._run(t_ns)

    # The panel, and what a test may look at

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

    def press_output_key(self, t_ns: int) -> None:
        """Press OUTPUT ON/OFF at ``t_ns``. Live in remote (14-6); with the panel locked it only switches off."""
        self.advance(t_ns)
        if not (self._unit.panel.locked and not self._unit.output.on):
            self._at_panel(t_ns, on=not self._unit.output.on)

    def power_cycle(self, t_ns: int) -> None:
        """Interrupt the mains at ``t_ns``: everything pending is gone, the unit comes up reset, its output off."""
        self.advance(t_ns)
        self._drop_pending(t_ns)
        self._deaf_until_ns = None
        self._unit.power_on(t_ns)

    # Inside

    def _at_panel(self, t_ns: int, *, on: bool) -> None:
        # The command that runs keeps its own time; it notices at its next step.
        before, self._unit.now_ns = self._unit.now_ns, t_ns
        self._unit.switch_output(on=on)
        self._unit.now_ns = before if self._task is not None else t_ns

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
        self._lines.clear()
        self._queued_bytes = 0
        self._splitter.reset()
        if self._wire is not None:
            self._wire.discard(t_ns)

    def _stop_task(self, t_ns: int) -> None:
        self._unit.now_ns = t_ns
        if self._task is not None:
            self._task.close()
            self._task = None

    def _take(self, t_ns: int, data: bytes) -> None:
        """Put bytes into the input buffer, and start what can start: each line as if it had come alone."""
        for line in self._splitter.feed(data):
            if isinstance(line, Overlong) or self._queued_bytes + len(line) > self._capacity:
                self._unit.status.push(INPUT_OVERRUN)
                continue
            self._lines.append(line)
            self._queued_bytes += len(line)
            if self._unit.acquiring and _breaks_through(line):
                self._stop_task(t_ns)
            if self._task is None:
                self._run(t_ns)

    def _run(self, t_ns: int) -> None:
        """Execute until nothing is left that is due by ``t_ns``."""
        unit = self._unit
        while True:
            if self._task is None:
                if not self._lines:
                    unit.now_ns = t_ns
                    return
                line = self._lines.popleft()
                self._queued_bytes -= len(line)
                self._task = self._execute(line)
            elif self._wake_ns > t_ns:
                return
            else:
                unit.now_ns = self._wake_ns
            try:
                self._wake_ns = unit.now_ns + next(self._task)
            except StopIteration:
                self._task = None

    def _execute(self, line: bytes) -> Generator[int, None, None]:
        """Execute one message; yields how long each step takes."""
        unit = self._unit
        replies: list[str] = []
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
        if replies and self._wire is not None:
            self._wire.send(unit.now_ns, ";".join(replies).encode("ascii") + self._terminator)


def _pause(duration_ns: int) -> Generator[int, None, None]:
    yield duration_ns


def _check_count(entry: Entry, command: Command) -> None:
    count = len(command.params)
    if count < entry.least:
        raise ScpiError(MISSING_PARAMETER, f"{command} needs {entry.least} parameters")
    if count > entry.most:
        raise ScpiError(PARAMETER_NOT_ALLOWED, f"{command} takes at most {entry.most} parameters")


def _breaks_through(line: bytes) -> bool:
    """Return whether a message begins with a command that ends a running measurement."""
    try:
        command = next(iter_commands(line), None)
        return command is not None and BREAK_THROUGH.lookup(command)
    except ScpiError:
        return False
