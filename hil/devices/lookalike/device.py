"""A look-alike on a serial line: an emulated 2400 behind a :class:`Personality` that edits what goes in and comes out.

Messages are given to the 2400 one at a time, so that what is said beside the answers stands where a real imitation
would say it: behind the message that it belongs to. The physics, and what switches the output, stay the 2400's.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from firmware_proto.scpi import Command, LineSplitter, Overlong, ScpiError, iter_commands, matches
from hil.devices.keithley2400 import Keithley2400
from hil.devices.lookalike.personality import Personality
from hil.errors import BenchFaultError
from hil.protocols import Wire

ABORTS: Final = (0x03, 0x18)
_READINGS: Final = (":READ?", ":FETCh?", ":MEASure[:CURRent]?")
_RANGES: Final = (":SENSe[1]:CURRent[:DC]:RANGe[:UPPer]?", ":SOURce[1]:VOLTage:RANGe?")
_OVERRANGE: Final = 1.05
_NO_SUCH: Final = ":NOSUCH"
_MAX_LINE: Final = 1024
_MAX_WAITING: Final = 64
_ELEMENTS: Final = 3
"""Level, current, status word: what the controller asks for."""


class LookAlike:
    """Implements :class:`hil.protocols.Device` around ``unit``, an emulated 2400 that nothing else is plugged into.

    At most 64 messages wait; more are lost, as are messages above 1024 bytes. Times in ns, never backwards.
    """

    def __init__(self, unit: Keithley2400, personality: Personality) -> None:
        """Stand between ``unit`` and its line."""
        self.unit: Final = unit
        self.personality: Final = personality
        self._splitter = LineSplitter(_MAX_LINE)
        self._waiting: deque[bytes] = deque()
        self._commands: list[Command] | None = None
        self._plain = b""
        self._answered = False
        self._wire: Wire | None = None
        self._later: deque[tuple[int, bytes]] = deque()
        self._silent = personality.deaf_first
        self._before = b""
        self._greeted = not personality.banner
        unit.attach(self)

    # The plug

    def attach(self, wire: Wire) -> None:
        """Plug the look-alike into a line; see :class:`hil.protocols.Device`."""
        self._wire = wire

    @property
    def wire(self) -> Wire:
        """The line it is plugged into; raises BenchFaultError before :meth:`attach`."""
        if self._wire is None:
            raise BenchFaultError("the look-alike is not plugged into a line")
        return self._wire

    def receive(self, t_ns: int, data: bytes) -> None:
        """Take bytes of which the last was complete at ``t_ns``."""
        self.advance(t_ns)
        if not self._greeted:
            self._greeted = True
            self._say(t_ns, self.personality.banner)
        start = 0
        for at, byte in enumerate(data):
            if byte in ABORTS:
                self._take(t_ns, data[start:at])
                self._waiting.clear()
                self._splitter.reset()
                self._commands = None
                self.unit.receive(t_ns, data[at : at + 1])
                start = at + 1
        self._take(t_ns, data[start:])
        self._go_on(t_ns)

    def next_event_ns(self) -> int | None:
        """Return when the look-alike next does something by itself, or None."""
        times = [t for t in (self.unit.next_event_ns(), self._later[0][0] if self._later else None) if t is not None]
        return min(times, default=None)

    def advance(self, t_ns: int) -> None:
        """Do everything that is due up to and including ``t_ns``."""
        while (due_ns := self.next_event_ns()) is not None and due_ns <= t_ns:
            self.unit.advance(due_ns)
            self._go_on(due_ns)
            self._send_due(due_ns)
        self.unit.advance(t_ns)

    # The 2400's wire

    def send(self, t_ns: int, data: bytes) -> None:
        """Take what the 2400 behind says; see :class:`hil.protocols.Wire`."""
        text = data.rstrip(b"\r\n")
        terminator = data[len(text) :]
        queries = [command for command in self._commands or () if command.query]
        edited = [self._edit(query, answer) for query, answer in zip(queries, text.split(b";"), strict=False)]
        answers = [answer for answer in edited if answer is not None]
        if not answers:
            return
        if self.personality.acknowledge_first and self.personality.acknowledge_all:
            self._acknowledge(t_ns)
        self._answered = True
        joined = [b";".join(answers)] if not self.personality.separate_lines else answers
        for answer in joined:
            line = answer + terminator
            if self.personality.shifted:
                line, self._before = self._before, line
            if self.personality.reply is not None:
                line = self.personality.reply(line)
            self._say(t_ns, line + self.personality.prompt)

    def discard(self, t_ns: int) -> None:
        """Drop what was not sent yet; see :class:`hil.protocols.Wire`."""
        self._later.clear()
        self.wire.discard(t_ns)

    # The panel, and what a test may look at

    @property
    def output_on(self) -> bool:
        """Whether the output is on."""
        return self.unit.output_on

    def press_output_key(self, t_ns: int) -> None:
        """Press OUTPUT ON/OFF at ``t_ns``."""
        self.advance(t_ns)
        self.unit.press_output_key(t_ns)

    # Inside

    def _take(self, t_ns: int, data: bytes) -> None:
        for line in self._splitter.feed(data):
            if not isinstance(line, Overlong) and len(self._waiting) < _MAX_WAITING:
                self._waiting.append(line)
            self._go_on(t_ns)

    def _go_on(self, t_ns: int) -> None:
        """End the message that is done, begin the next."""
        while not self.unit.busy:
            if self._commands is not None:
                self._end(t_ns)
            elif self._waiting:
                self._begin(t_ns, self._waiting.popleft())
            else:
                return

    def _begin(self, t_ns: int, line: bytes) -> None:
        self._plain = line
        self._answered = False
        if self._silent and b"?" in line:
            self._silent -= 1
            return
        if self.personality.echo:
            self._say(t_ns, line + b"\r")
        commands: list[Command] = []
        units: list[str] = []
        try:
            for command, text in zip(iter_commands(line), line.decode("latin-1").split(";"), strict=False):
                if any(matches(pattern, command) for pattern in self.personality.ignored):
                    continue
                commands.append(command)
                if any(matches(pattern, command) for pattern in self.personality.unknown):
                    # What follows it is ignored (User's Manual 14-12).
                    units.append(_NO_SUCH + ("?" if command.query else ""))
                    break
                _, _, parameters = text.strip().partition(" ")
                units.append(f"{command} {parameters}".strip())
        except ScpiError:
            units.append(_NO_SUCH)
        self._commands = commands
        if units:
            self.unit.receive(t_ns, ";".join(units).encode("latin-1") + b"\n")

    def _end(self, t_ns: int) -> None:
        self._commands = None
        asked = b"?" in self._plain
        manners = self.personality
        if not asked or (manners.acknowledge_all and not (manners.acknowledge_first and self._answered)):
            self._acknowledge(t_ns)

    def _acknowledge(self, t_ns: int) -> None:
        if self.personality.acknowledge is not None:
            self._say(t_ns, self.personality.acknowledge + b"\r")

    def _edit(self, query: Command, answer: bytes) -> bytes | None:
        """Return the answer to one query as this look-alike gives it; None: not at all."""
        manners = self.personality
        for pattern, instead in manners.fixed:
            if matches(pattern, query):
                return instead or None
        if any(matches(pattern, query) for pattern in _READINGS):
            return self._reading(answer)
        if manners.nominal_ranges and any(matches(pattern, query) for pattern in _RANGES):
            return manners.settings.write(float(answer) / _OVERRANGE).encode()
        for word, instead in manners.words:
            if answer == word:
                return instead
        return manners.settings.rewrite(answer)

    def _reading(self, answer: bytes) -> bytes:
        manners = self.personality
        style = manners.readings
        elements = [float(part) for part in answer.split(b",")]
        if len(elements) != _ELEMENTS:
            # Elements or readings that nobody edits one by one.
            return style.rewrite(answer)
        level, current, status = elements
        parts = [style.write(level), style.write(current)]
        if not manners.no_status:
            parts.append(str(int(status)) if manners.integer_status else style.write(status))
        if manners.more_elements:
            parts = [*parts[:2], style.write(9.91e37), style.write(1.0), *parts[2:]]
        return f",{manners.gap}".join(parts).encode()

    def _say(self, t_ns: int, data: bytes) -> None:
        if not data:
            return
        if self.personality.delay_s:
            self._later.append((t_ns + round(self.personality.delay_s * 1e9), data))
        else:
            self.wire.send(t_ns, data)

    def _send_due(self, t_ns: int) -> None:
        while self._later and self._later[0][0] <= t_ns:
            due_ns, data = self._later.popleft()
            self.wire.send(due_ns, data)
