"""Which controller is emulated: axes, rules, times, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Literal

from firmware_proto.gcs2.commands import MAX_ITEMS, is_item

DEFAULT_IDENTITY: Final = "(c)2019 Physik Instrumente (PI) GmbH & Co. KG, E-727.3CD, 0119024343, 13.21.00.09"
MAX_TRAVEL_UM: Final = 1e6

Referencing = Literal["absolute", "required"]
Numbers = Literal["fixed", "exponent"]
WireUnit = Literal["um", "mm"]


def _check(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} must be {low:g}..{high:g}, not {value!r}")


@dataclass(frozen=True, slots=True)
class AxisModel:
    """One axis. Lengths in um, times in s; ValueError outside the ranges.

    ``name``: as in ``SAI?``. ``low_um`` < ``high_um``: travel, within +-1e6. ``velocity_um_s`` and
    ``max_velocity_um_s``: above 0, up to 1e6. ``acceleration_um_s2``: 0 to 1e9; 0 starts and stops at once.
    ``window_um`` and ``settle_s``: on target once within the window for that long (E-727 parameters 0x07000900 and
    0x07000901, C-863 0x36 and 0x3F). ``creep``: fraction of a step, 0..0.5, still missing when the motion ends, which
    fades with ``creep_tau_s``; each move draws its own around it. ``noise_um``: standard deviation of a position
    reading. ``start_um``: where it is at power-on; None: in the middle, or anywhere if it has to be referenced.
    """

    name: str
    low_um: float = 0.0
    high_um: float = 100.0
    velocity_um_s: float = 200.0
    max_velocity_um_s: float = 10_000.0
    acceleration_um_s2: float = 0.0
    window_um: float = 0.005
    settle_s: float = 0.010
    creep: float = 0.002
    creep_tau_s: float = 0.005
    noise_um: float = 0.0003
    start_um: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no axis is."""
        if not is_item(self.name):
            raise ValueError(f"name must be 1 to 16 letters, digits or underscores, not {self.name!r}")
        _check("low_um", self.low_um, -MAX_TRAVEL_UM, MAX_TRAVEL_UM)
        _check("high_um", self.high_um, self.low_um, MAX_TRAVEL_UM)
        if self.low_um == self.high_um:
            raise ValueError(f"high_um must be above low_um, not {self.high_um!r}")
        _check("max_velocity_um_s", self.max_velocity_um_s, 1e-3, 1e6)
        _check("velocity_um_s", self.velocity_um_s, 1e-3, self.max_velocity_um_s)
        _check("acceleration_um_s2", self.acceleration_um_s2, 0.0, 1e9)
        _check("window_um", self.window_um, 1e-6, 1e3)
        _check("settle_s", self.settle_s, 0.0, 10.0)
        _check("creep", self.creep, 0.0, 0.5)
        _check("creep_tau_s", self.creep_tau_s, 1e-6, 1e3)
        _check("noise_um", self.noise_um, 0.0, 1e3)
        if self.start_um is not None:
            _check("start_um", self.start_um, self.low_um, self.high_um)


def _three_axes() -> tuple[AxisModel, ...]:
    return tuple(AxisModel(name) for name in "123")


@dataclass(frozen=True, slots=True)
class Model:
    """A controller.

    ``referencing``: ``"absolute"`` for piezo controllers with absolute sensors (E-7xx: ``ATZ``, no ``FRF``), or
    ``"required"`` for incremental ones (C-863: ``FRF`` before the first ``MOV``, else error 5). ``numbers``: replies
    as ``12.3400`` or as ``1.234000000e+01``. ``unit``: reply to ``PUN?``; numbers on the wire are in it, so "mm" makes
    100 um read 0.1. ``analog_inputs``: 0..16 channels of ``TAV?``; with 0 the command is unknown, as on an E-727.
    ``without``: further commands that this controller lacks, as ``frozenset({"#24", "VEL"})``. ``processing_s``: per
    command line, 0..1. ``autozero_s``: 0..60. ``servo_on``: servos closed at power-on. ``stage_type``: reply to
    ``CST?``. ``address`` (1..16): lines may begin with it, as on a C-863; None: they may not. ``boot_s``: how long the
    controller is deaf after ``RBT``, 0..60.
    """

    axes: tuple[AxisModel, ...] = field(default_factory=_three_axes)
    identity: str = DEFAULT_IDENTITY
    referencing: Referencing = "absolute"
    numbers: Numbers = "fixed"
    unit: WireUnit = "um"
    analog_inputs: int = 4
    without: frozenset[str] = frozenset()
    processing_s: float = 0.001
    autozero_s: float = 3.0
    servo_on: bool = False
    stage_type: str = "EMULATED"
    address: int | None = None
    boot_s: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what no controller is."""
        names = [axis.name for axis in self.axes]
        if not 1 <= len(names) <= MAX_ITEMS or len(set(names)) != len(names):
            raise ValueError(f"1 to {MAX_ITEMS} axes with different names are needed, not {names!r}")
        _check("analog_inputs", self.analog_inputs, 0, 16)
        _check("processing_s", self.processing_s, 0.0, 1.0)
        _check("autozero_s", self.autozero_s, 0.0, 60.0)
        _check("boot_s", self.boot_s, 0.0, 60.0)
        _check("address", 1 if self.address is None else self.address, 1, 16)

    @property
    def serial_number(self) -> str:
        """The third field of the identity, if it has as many."""
        return [*self.identity.split(","), "", "", ""][2].strip()

    @property
    def firmware(self) -> str:
        """The fourth field of the identity, if it has as many."""
        return [*self.identity.split(","), "", "", "", ""][3].strip()

    @property
    def unit_um(self) -> float:
        """Micrometres in one unit of the wire."""
        return 1.0 if self.unit == "um" else 1000.0

    @property
    def least_um(self) -> float:
        """The last digit of a position on the wire."""
        return 1e-4

    def number(self, value: float) -> str:
        """Write a number as this controller does."""
        if self.numbers == "exponent":
            return f"{value:+.9e}"
        return f"{value:.4f}" if self.unit == "um" else f"{value:.7f}"
