"""The emulated controller of a command map on a serial line: bytes, the command queue, echoes, acknowledgements, time.

Lines wait in a bounded queue and execute one after another. A stop that is a line waits its turn; one that is a single
byte acts at once, and lines that wait behind it are executed after it: the worst case for whoever stops.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from firmware_proto.stage_map import StageMap
from firmware_proto.stage_map.lines import ANY, ENDS
from hil.devices.described_stage.commands import Vocabulary
from hil.devices.described_stage.model import axis_models
from hil.devices.described_stage.unit import Refused, Unit
from hil.devices.pi_gcs2 import AxisModel, FlatSurface, Mechanics
from hil.devices.pi_gcs2.mechanics import DeadDeflection
from hil.protocols import Wire
from hil.twin.truth import TruthRecord

QUEUE_LINES: Final = 16
"""Lines that wait; one more is lost with an error."""
MAX_LINE: Final = 256


class DescribedStage:
    """An emulated controller that speaks ``rules``; implements :class:`hil.protocols.Device`.

    ``models``: its axes, named as in the map; by default those the map describes. ``servo_on``, ``referenced``: at
    power-on. ``seed`` makes noise and creep. Powered on by the first call that carries a time. Times in ns, never
    backwards (ValueError). No bytes make it raise.
    """

    def __init__(
        self,
        rules: StageMap,
        mechanics: Mechanics | None = None,
        *,
        models: Sequence[AxisModel] = (),
        seed: int = 0,
        truth: TruthRecord | None = None,
        servo_on: bool = False,
        referenced: bool = True,
    ) -> None:
        """Build a controller; by default over a flat surface across the last axis."""
        self.rules = rules
        self.models = tuple(models) or axis_models(rules)
        plug: Mechanics = FlatSurface(axis=self.models[-1].name) if mechanics is None else mechanics
        # A controller without [servo] in its map has loops that are always closed.
        closed = servo_on or rules.servo.state is None
        self._unit = Unit(rules, self.models, plug, seed=seed, truth=truth, servo_on=closed, referenced=referenced)
        self._vocabulary = Vocabulary(rules, self._unit)
        self._end = ENDS[rules.line.send_end][-1]
        self._stop_byte = rules.stop.message[0] if not rules.stop.text else None
        self._held = bytearray()
        self._skipping = False
        self._lines: deque[bytes] = deque()
        self._processing_ns = int(rules.emulated.processing_s * 1e9)
        self._due_ns: int | None = None
        self._wire: Wire | None = None
        self._t_ns: int | None = None

    # The plug

    def attach(self, wire: Wire) -> None:
        """Plug the controller into a line; see :class:`hil.protocols.Device`."""
        self._wire = wire

    def receive(self, t_ns: int, data: bytes) -> None:
        """Take bytes of which the last was complete at ``t_ns``."""
        self.advance(t_ns)
        for byte in data:
            if byte == self._stop_byte:
                self._unit.halt()
                if self.rules.stop.acknowledged and self.rules.acknowledge is not None:
                    self._send(self.rules.acknowledge.ok)
            elif byte == self._end:
                self._line_ended(t_ns)
            elif not self._skipping:
                self._held.append(byte)
                if len(self._held) > MAX_LINE:
                    self._held.clear()
                    self._skipping = True
                    self._unit.fail(self.rules.emulated.too_long)

    def _line_ended(self, t_ns: int) -> None:
        # The other half of a pair of ends, or a stray one, is a space to it.
        line = bytes(self._held).replace(b"\r", b" ").replace(b"\n", b" ").strip()
        self._held.clear()
        self._skipping = False
        if not line:
            return
        if len(self._lines) >= QUEUE_LINES:
            self._unit.fail(self.rules.emulated.too_long)
            return
        self._lines.append(line)
        if self._due_ns is None:
            self._due_ns = t_ns + self._processing_ns
            self.advance(t_ns)

    def next_event_ns(self) -> int | None:
        """Return when the next line is executed, or None. Motion needs no events: it is a function of time."""
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
        self._unit.now_ns = t_ns

    # What a test or a scenario may look at, and do to it; as with the PI one

    @property
    def error(self) -> int:
        """The oldest error, 0 for none, without forgetting it."""
        return self._unit.errors[0] if self._unit.errors else 0

    def position_m(self, t_ns: int, axis: str) -> float:
        """Return where an axis really is at ``t_ns``, in m."""
        self.advance(t_ns)
        return self._unit.axes[axis].true_um(t_ns) * 1e-6

    def moving(self, t_ns: int, axis: str) -> bool:
        """Tell whether an axis is on its way."""
        self.advance(t_ns)
        return self._unit.axes[axis].moving(t_ns)

    def stall(self, t_ns: int, axis: str, *, error: int = 0) -> None:
        """Jam an axis at ``t_ns``: it stops, never gets on target, and takes every move."""
        self.advance(t_ns)
        self._unit.axes[axis].stall(t_ns)
        self._unit.announce(self._unit.axes[axis])
        if error:
            self._unit.fail(error)

    def release(self, t_ns: int, axis: str) -> None:
        """End a jam."""
        self.advance(t_ns)
        self._unit.axes[axis].release()

    def open_servo(self, t_ns: int, axis: str, *, error: int = 0) -> None:
        """Open a loop behind the client's back."""
        self.advance(t_ns)
        self._unit.set_servo(self._unit.axes[axis], on=False)
        if error:
            self._unit.fail(error)

    def fail(self, t_ns: int, error: int) -> None:
        """Report an error by itself."""
        self.advance(t_ns)
        self._unit.fail(error)

    @property
    def axis_names(self) -> tuple[str, ...]:
        """The names of the axes, as the map has them."""
        return tuple(model.name for model in self.models)

    def servo_on(self, axis: str) -> bool:
        """Tell whether a loop is closed."""
        return self._unit.axes[axis].servo

    def kill_deflection(self, t_ns: int, *, dead: bool, told: Callable[[int, float], None] | None = None) -> None:
        """Let the deflection signal stay what it is in the air, or work again; ``told(t_ns, true_v)`` when it lies."""
        self.advance(t_ns)
        mechanics = self._unit.mechanics
        alive = mechanics.alive if isinstance(mechanics, DeadDeflection) else mechanics
        self._unit.mechanics = DeadDeflection(alive, told) if dead else alive

    def power_cycle(self, t_ns: int) -> None:
        """Interrupt the mains at ``t_ns``: everything pending is gone, loops and references are as at power-on."""
        self.advance(t_ns)
        self._lines.clear()
        self._due_ns = None
        self._held.clear()
        self._skipping = False
        if self._wire is not None:
            self._wire.discard(t_ns)
        self._unit.power_on(t_ns)

    def close(self, t_ns: int) -> None:
        """End the run at ``t_ns``: write the summary and close the record."""
        self.advance(t_ns)
        self._unit.close()

    # Inside

    def _execute(self, line: bytes) -> None:
        rules = self.rules
        text = line.decode("latin-1")
        if rules.line.echo:
            self._send(text)
        replies: list[str] = []
        chain = rules.emulated.chain
        for one in text.split(chain) if chain else [text]:
            if not one.strip():
                continue
            try:
                reply = self._vocabulary.execute(one)
            except Refused as refused:
                self._unit.fail(refused.code)
                if rules.acknowledge is not None and rules.acknowledge.error is not None:
                    words = {"code": str(refused.code), "text": self._vocabulary.text(refused.code)}
                    replies.append(rules.acknowledge.error.render(words))
                # Commands behind one that is refused are not executed, as in SCPI.
                break
            if reply is not None:
                replies.append(reply)
            elif rules.acknowledge is not None and (rules.stop.acknowledged or one.strip() != rules.stop.text):
                replies.append(rules.acknowledge.ok)
        if replies:
            self._send(chain.join(replies))

    def _send(self, text: str) -> None:
        if self._wire is not None:
            end = self.rules.line.reply_end
            data = text.encode("latin-1") + ENDS["CRLF" if end == ANY else end]
            self._wire.send(self._unit.now_ns, data)
