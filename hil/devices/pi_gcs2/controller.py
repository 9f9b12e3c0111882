"""The emulated stage controller on a serial line: bytes, the command queue, single bytes, and time.

Command lines wait in a bounded queue and execute one after another, each when its processing time is over. Single
bytes act and answer at once, also while a line is being executed. What a real controller does with lines that wait
while #24 arrives is not documented; here they still execute, the worst case for whoever stops: a ``MOV`` on its way
starts after the stop.
"""

from __future__ import annotations

from firmware_proto.gcs2.errors import ErrorCode, GcsError
from firmware_proto.gcs2.requests import MAX_LINE, Line, Overlong, Request, RequestSplitter, parse_request
from hil.devices.pi_gcs2.commands import SINGLES, table
from hil.devices.pi_gcs2.mechanics import FlatSurface, Mechanics
from hil.devices.pi_gcs2.model import Model
from hil.devices.pi_gcs2.parameters import apply
from hil.devices.pi_gcs2.queued import QueuedStage
from hil.devices.pi_gcs2.unit import Unit
from hil.twin.truth import TruthRecord


class PiController(QueuedStage[Unit]):
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
        unit = Unit(self.model, plug, seed=seed, truth=truth, apply=apply)
        super().__init__(unit, self.model.processing_s, tuple(axis.name for axis in self.model.axes))
        self._table = table(self.model)
        self._splitter = RequestSplitter(MAX_LINE)
        self._deaf_until_ns = 0

    def receive(self, t_ns: int, data: bytes) -> None:
        """Take bytes of which the last was complete at ``t_ns``."""
        self.advance(t_ns)
        if t_ns < self._deaf_until_ns:
            return
        for event in self._splitter.feed(data):
            if isinstance(event, Line):
                self._enqueue(t_ns, event.text, full=ErrorCode.TOO_LONG)
            elif isinstance(event, Overlong):
                self._unit.fail(ErrorCode.TOO_LONG)
            else:
                self._single(event.number)

    @property
    def error(self) -> int:
        """The error register, without clearing it."""
        return self._unit.error

    # Inside

    def _forget(self) -> None:
        self._splitter = RequestSplitter(MAX_LINE)

    def _executed(self, t_ns: int) -> None:
        if self._unit.reboot_due:
            self._begin_anew(t_ns)
            self._deaf_until_ns = t_ns + int(self.model.boot_s * 1e9)

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
