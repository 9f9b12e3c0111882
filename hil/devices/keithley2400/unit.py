"""The instrument behind the serial port: settings, status, output, converter, and its own time."""

from __future__ import annotations

import enum
import random
from collections import deque
from typing import Final, NamedTuple

from firmware_proto.keithley2400.status import ELEMENT_ORDER
from firmware_proto.scpi import format_nr3
from hil.devices.keithley2400.output import Output
from hil.devices.keithley2400.settings import Panel, Settings
from hil.devices.keithley2400.status import Status
from hil.devices.keithley2400.timing import Timing, nanoseconds
from hil.protocols import Load


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
    ) -> None:
        """Make a unit that is switched off; :meth:`power_on` gives it its time."""
        self.serial_number: Final = serial_number
        self.timing: Final = timing
        self.line_freq_hz: Final = line_freq_hz
        self.noise: Final = noise
        self.queue_status_messages: Final = queue_status_messages
        self.rng: Final = random.Random(seed)
        self.output: Final = Output(load)
        self.settings = Settings()
        self.panel = Panel()
        self.status = Status()
        self.now_ns = 0
        self.readings: list[Reading] = []
        self.moving: deque[tuple[float | None, float | None]] = deque()
        self.acquiring = False
        self.stamp_zero_ns = 0
        self._costs: Final = {cost: nanoseconds(getattr(timing, cost.value)) for cost in Cost}
        self._autorange_level_ns: Final = nanoseconds(timing.level_autorange_s)

    def cost_ns(self, cost: Cost) -> int:
        """Return the processing time of a command in ns."""
        if cost is Cost.LEVEL and self.settings.source_axis().auto_range:
            return self._autorange_level_ns
        return self._costs[cost]

    def power_on(self, t_ns: int) -> None:
        """Start as after the mains switch: ``*RST`` state, output off, PON set, nothing queued."""
        self.now_ns = self.stamp_zero_ns = t_ns
        self.panel = Panel()
        self.status = Status()
        self.reset()

    def reset(self) -> None:
        """Do what ``*RST`` does: output off first, then every setting; error queue and enables stay."""
        self.output.on = False
        self.settings = Settings()
        self.forget()
        self.apply()

    def apply(self) -> None:
        """Bring the output in line with the settings, now."""
        self.output.apply(self.now_ns, self.settings)

    def forget(self) -> None:
        """Drop stored readings and the moving average."""
        self.readings = []
        self.moving.clear()

    def switch_output(self, *, on: bool) -> None:
        """Switch the output, now."""
        self.output.on = on
        self.apply()

    def format(self, readings: list[Reading]) -> str:
        """Return readings as ``:FORM:ELEM`` selects, on one line."""
        chosen = self.settings.elements
        indices = [index for index, name in enumerate(ELEMENT_ORDER) if name in chosen]
        return ",".join(format_nr3(reading[index]) for reading in readings for index in indices)
