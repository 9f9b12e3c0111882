"""The emulated 2400 on a desk: no line, no clock, a resistor at its terminals. For tests and for trying commands.

>>> desk = Desk()
>>> desk.ask(":SOUR:VOLT 1;:SOUR:VOLT?")
'+1.000000E+00'
"""

from __future__ import annotations

from typing import NamedTuple

from hil.devices.keithley2400.emulator import FIRMWARE, Keithley2400
from hil.devices.keithley2400.flow import Flow
from hil.devices.keithley2400.interlock import Rearm
from hil.devices.keithley2400.profile import ConverterErrors
from hil.devices.keithley2400.timing import Timing


class Source(NamedTuple):
    """One change of the source, as a load sees it: ns, V, A, relay."""

    t_ns: int
    v_set: float
    i_limit_a: float
    connected: bool


class DeskLoad:
    """A resistor that can be changed by hand; implements :class:`hil.protocols.Load` and records its sources.

    ``obeys_clamp = False`` makes it draw what it likes, as a cable discharging into a short does for a moment.
    """

    def __init__(self, r_ohm: float) -> None:
        """Begin disconnected, with ``r_ohm`` (above 0) between the terminals."""
        self.r_ohm = r_ohm
        self.obeys_clamp = True
        self.sources: list[Source] = []
        self._t_ns: int | None = None
        self._charge_c = 0.0

    def set_source(self, t_ns: int, v_set: float, i_limit_a: float, *, connected: bool) -> None:
        """Change the source; see :class:`hil.protocols.Load`."""
        self.advance(t_ns)
        self.sources.append(Source(t_ns, v_set, i_limit_a, connected))

    def change(self, t_ns: int, r_ohm: float) -> None:
        """Change the resistance at ``t_ns``."""
        self.advance(t_ns)
        self.r_ohm = r_ohm

    def advance(self, t_ns: int) -> None:
        """Let the resistor live until ``t_ns``; raises ValueError when that is in the past."""
        if self._t_ns is not None:
            if t_ns < self._t_ns:
                raise ValueError(f"time went back from {self._t_ns} to {t_ns} ns")
            self._charge_c += self.terminal_current_a * ((t_ns - self._t_ns) * 1e-9)
        self._t_ns = t_ns

    @property
    def charge_c(self) -> float:
        """Charge since the start, in C."""
        return self._charge_c

    @property
    def terminal_current_a(self) -> float:
        """Current through the terminals now, in A."""
        wanted = self._wanted_a()
        if not self.sources or not self.obeys_clamp:
            return wanted
        limit = self.sources[-1].i_limit_a
        return max(-limit, min(limit, wanted))

    @property
    def clamped(self) -> bool:
        """Whether the clamp holds the current."""
        return self.obeys_clamp and bool(self.sources) and abs(self._wanted_a()) > self.sources[-1].i_limit_a

    @property
    def terminal_voltage_v(self) -> float:
        """Voltage at the terminals now, in V."""
        return self.terminal_current_a * self.r_ohm

    def _wanted_a(self) -> float:
        return self.sources[-1].v_set / self.r_ohm if self.sources and self.sources[-1].connected else 0.0


class DeskWire:
    """Keeps what the unit sends; implements :class:`hil.protocols.Wire` without pacing."""

    def __init__(self) -> None:
        """Begin with nothing sent."""
        self.sent: list[tuple[int, bytes]] = []
        self.discards: list[int] = []

    def send(self, t_ns: int, data: bytes) -> None:
        """Keep a reply."""
        self.sent.append((t_ns, data))

    def discard(self, t_ns: int) -> None:
        """Note the time; what was sent is out at once here."""
        self.discards.append(t_ns)


class Desk:
    """A unit, its wire and its resistor. ``t_ns`` is the desk's time; it moves only when told to."""

    def __init__(
        self,
        r_ohm: float = 1e6,
        *,
        start_ns: int = 0,
        timing: Timing | None = None,
        noise: bool = False,
        seed: int = 0,
        line_freq_hz: float = 50.0,
        abort_swallow_s: float = 0.0,
        input_buffer: int = 1024,
        terminator: bytes = b"\r",
        queue_status_messages: bool = False,
        flow: Flow = Flow.NONE,
        firmware: str = FIRMWARE,
        oe_rearm: Rearm = Rearm.KEY,
        converter: ConverterErrors | None = None,
        calibration_lost: bool = False,
    ) -> None:
        """Switch the unit on at ``start_ns``; the rest as for :class:`Keithley2400`, here without noise by default."""
        self.load = DeskLoad(r_ohm)
        self.wire = DeskWire()
        self.unit = Keithley2400(
            self.load,
            timing=timing,
            noise=noise,
            seed=seed,
            line_freq_hz=line_freq_hz,
            abort_swallow_s=abort_swallow_s,
            input_buffer=input_buffer,
            terminator=terminator,
            queue_status_messages=queue_status_messages,
            flow=flow,
            baud=0,
            firmware=firmware,
            oe_rearm=oe_rearm,
            converter=converter,
            calibration_lost=calibration_lost,
        )
        self.unit.attach(self.wire)
        self.t_ns = start_ns
        self.unit.advance(start_ns)

    def write(self, text: str | bytes) -> None:
        """Let bytes arrive now; text gets a CR."""
        self.unit.receive(self.t_ns, text if isinstance(text, bytes) else text.encode("ascii") + b"\r")

    def wait(self, duration_ns: int) -> None:
        """Let time pass, each of the unit's steps at its own time."""
        end_ns = self.t_ns + duration_ns
        while (due := self.unit.next_event_ns()) is not None and due <= end_ns:
            self.unit.advance(due)
        self.t_ns = end_ns
        self.unit.advance(end_ns)

    def settle(self) -> None:
        """Let time pass until the unit is idle; a unit armed for ever never is."""
        while (due := self.unit.next_event_ns()) is not None:
            self.t_ns = due
            self.unit.advance(due)

    def tell(self, *messages: str) -> None:
        """Send messages, each executed before the next arrives."""
        for message in messages:
            self.write(message)
            self.settle()

    def ask(self, message: str) -> str | None:
        """Send a message and return its reply without terminator, None if there was none."""
        count = len(self.wire.sent)
        self.tell(message)
        if len(self.wire.sent) == count:
            return None
        return self.wire.sent[-1][1].rstrip(b"\r\n").decode("ascii")

    def read(self) -> list[float]:
        """Send ``:READ?`` and return its numbers."""
        return [float(field) for field in (self.ask(":READ?") or "").split(",") if field]
