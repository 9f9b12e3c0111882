"""The instrument behind the serial port: settings, status, output, converter, and its own time."""

from __future__ import annotations

import copy
import enum
import random
from collections import deque
from typing import Final, NamedTuple

from firmware_proto.keithley2400.status import ELEMENT_ORDER
from firmware_proto.scpi import format_nr3
from hil.devices.keithley2400 import noise
from hil.devices.keithley2400.errors import CALIBRATION_LOST, RefusedError
from hil.devices.keithley2400.interlock import Interlock, Rearm
from hil.devices.keithley2400.limits import LimitState
from hil.devices.keithley2400.output import Output
from hil.devices.keithley2400.profile import ConverterErrors
from hil.devices.keithley2400.settings import Panel, Settings
from hil.devices.keithley2400.status import MeasurementEvent, QuestionableEvent, StandardEvent, Status
from hil.devices.keithley2400.timing import Timing, nanoseconds
from hil.devices.keithley2400.trace import Trace
from hil.devices.keithley2400.triggers import BusTriggers, EventSource, matches
from hil.devices.keithley2400.upset import Upset
from hil.protocols import Load

IDLE: Final = 1 << 10
"""Bit of the operation register: the trigger model is idle (User's Manual 15-12)."""


class Reading(NamedTuple):
    """One reading, elements in the order they are sent: V, A, ohm, s since the time stamp's zero, status word."""

    volt: float
    curr: float
    res: float
    time: float
    stat: int


class Cost(enum.Enum):
    """Which processing time of :class:`Timing` a command takes."""

    SET = "set_s"
    QUERY = "query_s"
    LEVEL = "level_s"
    OUTPUT = "output_s"


class Unit:
    """State of the emulated instrument. ``now_ns`` is the time of the command that is being executed."""

    def __init__(
        self,
        load: Load,
        *,
        serial_number: str,
        seed: int,
        line_freq_hz: float,
        timing: Timing,
        noise: bool,
        queue_status_messages: bool,
        firmware: str,
        rearm: Rearm = Rearm.KEY,
        converter: ConverterErrors | None = None,
        calibration_lost: bool = False,
    ) -> None:
        """Make a unit that is switched off; :meth:`power_on` gives it its time."""
        self.serial_number: Final = serial_number
        self.timing: Final = timing
        self.firmware: Final = firmware
        self.mains_hz: Final = line_freq_hz
        self.line_freq_hz = line_freq_hz
        """What the aperture is reckoned with: that of the mains, unless ``:SYST:LFR`` says otherwise."""
        self.noise: Final = noise
        self.queue_status_messages: Final = queue_status_messages
        self.converter: Final = converter
        self.calibration_lost: Final = calibration_lost
        self.interlock: Final = Interlock(rearm)
        self.output_queue: list[str] = []
        """Replies of the message that is being executed."""
        self.rng: Final = random.Random(seed)
        self.output: Final = Output(load)
        self.settings = Settings()
        self.panel = Panel()
        self.status = Status()
        self.now_ns = 0
        self.readings: list[Reading] = []
        self.moving: deque[tuple[float | None, float | None]] = deque()
        self.results: list[float] = []
        """What CALC2 made of each of ``readings``; 9.91E37 where it was off."""
        self.trace = Trace()
        self.limits: Final = LimitState(lambda: self.settings.digital)
        self.awaiting: EventSource | None = None
        """What the trigger model waits for."""
        self.bus_triggers = BusTriggers()
        self.acquiring = False
        self.upset: Upset | None = None
        """Faults of the readings, if a plan has any."""
        self._saved: dict[int, Settings] = {}
        self.stamp_zero_ns = 0
        self._costs: Final = {cost: nanoseconds(getattr(timing, cost.value)) for cost in Cost}
        self.trigger_latency_ns: Final = nanoseconds(timing.trigger_latency_s)
        self.conversion_ns: Final = nanoseconds(timing.conversion_s)
        self.reply_ns: Final = nanoseconds(timing.reply_s)
        self._autorange_level_ns: Final = nanoseconds(timing.level_autorange_s)

    def cost_ns(self, cost: Cost) -> int:
        """Return the processing time of a command in ns."""
        if cost is Cost.LEVEL and self.settings.source_axis().auto_range:
            return self._autorange_level_ns
        return self._costs[cost]

    def power_on(self, t_ns: int) -> None:
        """Start as after the mains switch: ``*RST`` state, output off, PON set, nothing queued."""
        self.now_ns = self.stamp_zero_ns = t_ns
        self.panel = Panel(power_on_setup=self.panel.power_on_setup)
        self.status = Status()
        self.status.operation.condition = IDLE
        self.interlock.latched = False
        self.line_freq_hz = self.mains_hz
        if self.queue_status_messages:
            self.status.set_enabled((*self.status.enabled, (114, 114)))
        self.show_interlock()
        if self.calibration_lost:
            self.status.questionable.hold(QuestionableEvent.CALIBRATION, on=True)
            self.status.push(CALIBRATION_LOST)
        self.trace = Trace()
        self.limits.clear()
        if self.panel.power_on_setup.startswith("SAV"):
            self.recall(int(self.panel.power_on_setup[3:]))
        else:
            self.reset()

    def reset(self) -> None:
        """Do what ``*RST`` does: output off first, then every setting; error queue and enables stay."""
        self.output.on = False
        self.output.opened = self.interlock.hot
        self.interlock.enable(on=False)
        self.panel.digits = 6
        self.settings = Settings()
        self.forget()
        self.apply()

    def save(self, location: int) -> None:
        """Keep the present settings, as ``*SAV`` does; they outlive the mains switch."""
        self._saved[location] = copy.deepcopy(self.settings)

    def recall(self, location: int) -> None:
        """Bring saved settings back, as ``*RCL`` does; a location never saved holds the defaults (16-4).

        The output goes off. The manual does not say so; a recall that energised would be the only other reading.
        """
        self.reset()
        if location in self._saved:
            self.settings = copy.deepcopy(self._saved[location])
            self.apply()

    def apply(self) -> None:
        """Bring the output in line with the settings, now."""
        self.output.apply(self.now_ns, self.settings)

    def forget(self) -> None:
        """Drop stored readings and the moving average."""
        self.readings = []
        self.results = []
        self.moving.clear()

    def happen(self, event: EventSource) -> bool:
        """Let an event reach the trigger model; return whether it was waited for. Nothing is latched."""
        if self.awaiting is None or not matches(self.awaiting, event):
            return False
        self.awaiting = None
        return True

    def switch_output(self, *, on: bool) -> None:
        """Switch the output, now; refuse to switch it on what :attr:`interlock` refuses (+802, +810)."""
        if on:
            if (refusal := self.interlock.refusal) is not None:
                raise RefusedError(refusal)
            self.output.opened = False
        self.output.on = on
        if not on:
            # The next output-on begins at the programmed level, not where a sweep ended.
            self.settings.volt_source.extras.swept = self.settings.curr_source.extras.swept = None
        self.apply()

    def open_output(self) -> None:
        """Go into the high-impedance off state, whatever ``:OUTP:SMOD`` says, as a violated interlock does (13-10)."""
        self.interlock.latched = self.interlock.latched or (self.output.on and not self.interlock.hot)
        self.output.opened = True
        self.switch_output(on=False)

    def obey_interlock(self) -> None:
        """Open the output if line or temperature say so now."""
        if self.interlock.violated:
            self.open_output()

    def enable_output_line(self, *, on: bool) -> None:
        """Turn output enable on or off (``:OUTP:ENAB``); on, a line that is high opens the output at once."""
        self.interlock.enable(on=on)
        self.obey_interlock()

    def show_interlock(self) -> None:
        """Bring line and temperature into the measurement condition register."""
        register, interlock = self.status.measurement, self.interlock
        register.hold(MeasurementEvent.OUTPUT_ENABLE, on=interlock.closed)
        register.hold(MeasurementEvent.OVER_TEMPERATURE, on=interlock.hot)

    def to_local(self, *, key: bool = False) -> None:
        """Leave the remote state (14-3): what was on the display and source autorange go, the lock setting stays."""
        panel, settings = self.panel, self.settings
        panel.remote, panel.display = False, True
        panel.show_texts = [False, False]
        settings.volt_source.auto_range = settings.curr_source.auto_range = False
        settings.concurrent = True
        if key:
            self.status.standard_event |= StandardEvent.USER_REQUEST

    def current_sigma_a(self, range_a: float, nplc: float) -> float:
        """Return the standard deviation of a current reading in A: this unit's where a profile knows it."""
        known = None if self.converter is None else self.converter.sigma_a(range_a, nplc)
        return noise.current_sigma_a(range_a, nplc) if known is None else known

    def current_offset_a(self, range_a: float, nplc: float) -> float:
        """Return the offset of a current reading in A; 0 unless a profile knows it."""
        return 0.0 if self.converter is None else self.converter.offset_a(range_a, nplc)

    def format(self, readings: list[Reading]) -> str:
        """Return readings as ``:FORM:ELEM`` selects, on one line."""
        chosen = self.settings.elements
        indices = [index for index, name in enumerate(ELEMENT_ORDER) if name in chosen]
        return ",".join(format_nr3(reading[index]) for reading in readings for index in indices)
