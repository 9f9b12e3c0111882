"""The emulated controller of a command map on a serial line: bytes, the command queue, echoes, acknowledgements, time.

Lines wait in a bounded queue and execute one after another. A stop that is a line waits its turn; one that is a single
byte acts at once, and lines that wait behind it are executed after it: the worst case for whoever stops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from firmware_proto.stage_map import StageMap
from firmware_proto.stage_map.lines import ANY, ENDS
from hil.devices.described_stage.commands import Vocabulary
from hil.devices.described_stage.model import axis_models
from hil.devices.described_stage.unit import Refused, Unit
from hil.devices.pi_gcs2 import AxisModel, FlatSurface, Mechanics
from hil.devices.pi_gcs2.queued import QueuedStage
from hil.twin.truth import TruthRecord

MAX_LINE: Final = 256


class DescribedStage(QueuedStage[Unit]):
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
        unit = Unit(rules, self.models, plug, seed=seed, truth=truth, servo_on=closed, referenced=referenced)
        super().__init__(unit, rules.emulated.processing_s, tuple(model.name for model in self.models))
        self._vocabulary = Vocabulary(rules, self._unit)
        self._end = ENDS[rules.line.send_end][-1]
        self._stop_byte = rules.stop.message[0] if not rules.stop.text else None
        self._held = bytearray()
        self._skipping = False

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
        self._enqueue(t_ns, line, full=self.rules.emulated.too_long)

    @property
    def error(self) -> int:
        """The oldest error, 0 for none, without forgetting it."""
        return self._unit.errors[0] if self._unit.errors else 0

    # Inside

    def _forget(self) -> None:
        self._held.clear()
        self._skipping = False

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
