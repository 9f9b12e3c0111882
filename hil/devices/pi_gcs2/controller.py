"""The emulated stage controller on a serial line: bytes, the command queue, single bytes, and time.

Command lines wait in a bounded queue and execute one after another, each when its processing time is over. Single
bytes act and answer at once, also while a line is being executed. What a real controller does with lines that wait
while #24 arrives is not documented; here they still execute, the worst case for whoever stops: a ``MOV`` on its way
starts after the stop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from firmware_proto.gcs2.errors import ErrorCode, GcsError
from firmware_proto.gcs2.requests import MAX_LINE, Line, Overlong, Request, RequestSplitter, parse_request
from hil.devices.pi_gcs2.axis import Axis
from hil.devices.pi_gcs2.commands import SINGLES, table
from hil.devices.pi_gcs2.mechanics import DeadDeflection, FlatSurface, Mechanics
from hil.devices.pi_gcs2.model import Model
from hil.devices.pi_gcs2.parameters import apply
from hil.devices.pi_gcs2.unit import Unit
from hil.protocols import Wire
from hil.twin.truth import TruthRecord

QUEUE_LINES: Final = 16
"""Lines that wait; that of a real controller is not documented. One more is lost with error 3."""


class PiController:
    """An emulated PI controller with GCS 2.0; implements :class:`hil.protocols.Device`.

    ``seed`` makes noise, creep and unreferenced starting positions. It is powered on by the first call that carries a
    time. Times in ns, never backwards (ValueError). No bytes make it raise.
    """

    def __init__(
        self,
        model: Model | None = None,
        mechanics: Mechanics | None = None,
        *,
        seed: int = 0,
        truth: TruthRecord | None = None,
    ) -> None:
        """Build a controller; by default three absolute axes of 0-100 um over a flat surface."""
        self.model = model or Model()
        plug: Mechanics = FlatSurface(axis=self.model.axes[-1].name) if mechanics is None else mechanics
        self._unit = Unit(self.model, plug, seed=seed, truth=truth, apply=apply)
        self._table = table(self.model)
        self._splitter = RequestSplitter(MAX_LINE)
        self._lines: deque[bytes] = deque()
        self._processing_ns = int(self.model.processing_s * 1e9)
        self._due_ns: int | None = None
        self._deaf_until_ns = 0
        self._wire: Wire | None = None
        self._t_ns: int | None = None

    # The plug

    def attach(self, wire: Wire) -> None:
        """Plug the controller into a line; see :class:`hil.protocols.Device`."""
        self._wire = wire

    def receive(self, t_ns: int, data: bytes) -> None:
        """Take bytes of which the last was complete at ``t_ns``."""
        self.advance(t_ns)
        if t_ns < self._deaf_until_ns:
            return
        for event in self._splitter.feed(data):
            if isinstance(event, Line):
                if len(self._lines) >= QUEUE_LINES:
                    self._unit.fail(ErrorCode.TOO_LONG)
                    continue
                self._lines.append(event.text)
                if self._due_ns is None:
                    self._due_ns = t_ns + self._processing_ns
                    self.advance(t_ns)
            elif isinstance(event, Overlong):
                self._unit.fail(ErrorCode.TOO_LONG)
            else:
                self._single(event.number)

    def next_event_ns(self) -> int | None:
        """Return when the next command line is executed, or None. Motion needs no events: it is a function of time."""
        return self._due_ns

    def advance(self, t_ns: int) -> None:
        """Do everything that is due up to and including ``t_ns``."""
        if self._t_ns is None:
            self._unit.power_on(t_ns)
        elif t_ns < self._t_ns:
            raise ValueError(f"time went back from {self._t_ns} to {t_ns} ns")
        self._t_ns = t_ns
        while self._due_ns is not None and self._due_ns <= t_ns:
            self._unit.now_ns = due_ns = self._due_ns
            self._execute(self._lines.popleft())
            self._due_ns = due_ns + self._processing_ns if self._lines else None
            if self._unit.reboot_due:
                self._begin_anew(due_ns)
                self._deaf_until_ns = due_ns + int(self.model.boot_s * 1e9)
        self._unit.now_ns = t_ns

    # What a test or a scenario may look at, and do to it

    @property
    def error(self) -> int:
        """The error register, without clearing it."""
        return self._unit.error

    def position_m(self, t_ns: int, axis: str) -> float:
        """Return where an axis really is at ``t_ns``, in m."""
        self.advance(t_ns)
        return self._axis(axis).true_um(t_ns) * 1e-6

    def moving(self, t_ns: int, axis: str) -> bool:
        """Tell whether an axis is on its way."""
        self.advance(t_ns)
        return self._axis(axis).moving(t_ns)

    def stall(self, t_ns: int, axis: str, *, error: int = 0) -> None:
        """Jam an axis at ``t_ns``: it stops, never gets on target, and takes every move; ``error`` for ``ERR?``."""
        self.advance(t_ns)
        self._axis(axis).stall(t_ns)
        self._unit.announce(self._axis(axis))
        if error:
            self._unit.fail(error)

    def release(self, t_ns: int, axis: str) -> None:
        """End a jam."""
        self.advance(t_ns)
        self._axis(axis).release()

    def open_servo(self, t_ns: int, axis: str, *, error: int = 0) -> None:
        """Open a loop behind the client's back, as a controller does on a following error."""
        self.advance(t_ns)
        self._unit.set_servo(self._axis(axis), on=False)
        if error:
            self._unit.fail(error)

    def fail(self, t_ns: int, error: int) -> None:
        """Have an error for ``ERR?``, as a controller that monitors itself does."""
        self.advance(t_ns)
        self._unit.fail(error)

    @property
    def axis_names(self) -> tuple[str, ...]:
        """The names of the axes in the model."""
        return tuple(axis.name for axis in self.model.axes)

    def servo_on(self, axis: str) -> bool:
        """Tell whether a loop is closed."""
        return self._axis(axis).servo

    def kill_deflection(self, t_ns: int, *, dead: bool, told: Callable[[int, float], None] | None = None) -> None:
        """Let the deflection signal stay what it is in the air, or work again; ``told(t_ns, true_v)`` when it lies."""
        self.advance(t_ns)
        mechanics = self._unit.mechanics
        alive = mechanics.alive if isinstance(mechanics, DeadDeflection) else mechanics
        self._unit.mechanics = DeadDeflection(alive, told) if dead else alive

    def power_cycle(self, t_ns: int) -> None:
        """Interrupt the mains at ``t_ns``: everything pending is gone, servos and references are as at power-on."""
        self.advance(t_ns)
        if self._wire is not None:
            self._wire.discard(t_ns)
        self._begin_anew(t_ns)

    def close(self, t_ns: int) -> None:
        """End the run at ``t_ns``: write the summary and close the record."""
        self.advance(t_ns)
        self._unit.close()

    # Inside

    def _axis(self, name: str) -> Axis:
        """Return an axis by its name in the model, whatever it is called on the wire."""
        return next(axis for axis in self._unit.axes.values() if axis.model.name == name)

    def _begin_anew(self, t_ns: int) -> None:
        self._lines.clear()
        self._due_ns = None
        self._splitter = RequestSplitter(MAX_LINE)
        self._unit.power_on(t_ns)

    def _single(self, number: int) -> None:
        act = SINGLES.get(number)
        if act is None or f"#{number}" in self.model.without:
            self._unit.fail(ErrorCode.UNKNOWN_COMMAND)
            return
        self._send(act[0](self._unit))

    def _execute(self, line: bytes) -> None:
        try:
            request = parse_request(line)
            begin = ""
            if request is not None and self.model.address is not None and request.mnemonic.isdecimal():
                # "Both target and sender address are part of any controller response" (MS249E p. 117). The computer's
                # own address, 0, may stand behind the controller's.
                begin, request = f"0 {self.model.address} ", self._addressed(request)
            if request is None:
                return
            entry = self._table.get(request.mnemonic)
            if entry is None:
                raise GcsError(ErrorCode.UNKNOWN_COMMAND, "unknown", data=request.mnemonic)
            if entry.most is not None and len(request.words) > entry.most:
                raise GcsError(ErrorCode.PARAMETER_COUNT, "too many parameters", data=line)
            self._send(entry.act(self._unit, request.words), begin)
        except GcsError as error:
            self._unit.fail(error.code)

    def _addressed(self, request: Request) -> Request | None:
        """Return what is behind the address; None if it is another controller's, or if nothing is."""
        words = request.words[1:] if request.words[:1] == ("0",) else request.words
        if int(request.mnemonic) != self.model.address or not words:
            return None
        return Request(words[0].upper(), words[1:])

    def _send(self, lines: list[str] | None, begin: str = "") -> None:
        if lines is not None and self._wire is not None:
            self._wire.send(self._unit.now_ns, begin.encode() + " \n".join(lines).encode("latin-1") + b"\n")
