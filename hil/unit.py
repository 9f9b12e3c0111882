"""What the verbs of the bench can say about the emulated 2400 itself: checked, and made one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from hil.devices.keithley2400 import Keithley2400
from hil.devices.keithley2400.emulator import FIRMWARE
from hil.devices.keithley2400.flow import Flow
from hil.devices.keithley2400.interlock import Rearm
from hil.devices.keithley2400.profile import MAX_SWALLOW_S, TERMINATORS, Profile, load_profile
from hil.errors import BenchOptionError
from hil.options import check_baud, check_serial_number
from hil.protocols import Load

BAUDS: Final = (0, 300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600)
"""What the 2400 can be set to (User's Manual 14-13), and 0: bytes take no time."""

SERIAL_NUMBER: Final = "1304207"
"""That of a real unit (pymeasure#954)."""
TERMINATOR: Final = "CR"
LINE_FREQ_HZ: Final = 50.0


class UnitOptions(Protocol):
    """What a command line says of the 2400; None leaves it to the profile, and without one to the default."""

    @property
    def baud(self) -> int:
        """Line rate in bit/s."""

    @property
    def terminator(self) -> str | None:
        """CR, LF, CRLF or LFCR."""

    @property
    def serial_number(self) -> str | None:
        """1 to 16 letters and digits."""

    @property
    def flow(self) -> str:
        """None or xon-xoff."""

    @property
    def abort_swallow_ms(self) -> float | None:
        """How long bytes behind an abort are lost, 0 to 20 ms."""

    @property
    def profile(self) -> Path | None:
        """A rig profile."""


@dataclass(frozen=True, slots=True)
class UnitSpec:
    """A 2400 that can be built."""

    serial_number: str
    terminator: bytes
    flow: Flow
    baud: int
    abort_swallow_s: float
    profile: Profile

    def build(self, load: Load, *, seed: int, oe_rearm: Rearm = Rearm.KEY) -> Keithley2400:
        """Return the 2400 with ``load`` at its terminals; ``seed`` makes its noise, ``oe_rearm`` as in its class."""
        profile = self.profile
        return Keithley2400(
            load,
            serial_number=self.serial_number,
            firmware=profile.firmware or FIRMWARE,
            terminator=self.terminator,
            flow=self.flow,
            baud=self.baud,
            seed=seed,
            line_freq_hz=profile.line_freq_hz or LINE_FREQ_HZ,
            timing=profile.timing,
            converter=profile.converter,
            abort_swallow_s=self.abort_swallow_s,
            oe_rearm=oe_rearm,
        )


def unit_spec(options: UnitOptions) -> UnitSpec:
    """Return what ``options`` say of the 2400; raises BenchOptionError for what no 2400 can be set to.

    What the command line says goes before what the profile says.
    """
    check_baud("--baud", options.baud, BAUDS, "a 2400 knows")
    profile = Profile() if options.profile is None else load_profile(options.profile)
    name = options.terminator or profile.terminator or TERMINATOR
    end = TERMINATORS.get(name.upper())
    if end is None:
        raise BenchOptionError(f"--terminator {name}: want one of {', '.join(TERMINATORS)}")
    serial_number = options.serial_number
    if serial_number is None:
        serial_number = profile.serial_number or SERIAL_NUMBER
    check_serial_number("--serial-number", serial_number)
    flows = {flow.value: flow for flow in Flow}
    if options.flow not in flows:
        raise BenchOptionError(f"--flow {options.flow}: want one of {', '.join(flows)}")
    swallow_s = profile.abort_swallow_s
    if options.abort_swallow_ms is not None:
        swallow_s = options.abort_swallow_ms * 1e-3
        if not 0.0 <= swallow_s <= MAX_SWALLOW_S:
            most = f"{MAX_SWALLOW_S * 1e3:g}"
            raise BenchOptionError(f"--abort-swallow-ms {options.abort_swallow_ms}: want a time in ms from 0 to {most}")
    return UnitSpec(serial_number, end, flows[options.flow], options.baud, swallow_s, profile)
