"""What the stage and the sample of a rig are, for the emulator's command line and for whoever plans on that sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from edge.command_map import DRIVER, load_command_map
from edge.config import with_stage
from edge.errors import ConfigError
from hil.bench_rig import RigOptions, sample_parameters
from hil.errors import BenchFaultError
from hil.twin.sample_map import SampleMap

BoxUm: TypeAlias = tuple[float, float, float, float]
"""x0, y0, x1, y1 in um."""

STAGE_SERIAL_NUMBER: Final = "0119024343"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """What moves the tip, and over which sample; everything as for ``tipguard hil rig``, with its defaults.

    ``baud`` is the stage's line. ``layers_um``, ``stuck_on_um``, ``bridged_um``: boxes in um. ``settings``: keys of
    the configuration's sections [stage] and [contact] that differ from its template, as ``{"settle_s": 0.0}``.
    """

    baud: int = 115200
    axes: tuple[str, str, str] = ("1", "2", "3")
    travel_um: float = 100.0
    velocity_um_s: float = 200.0
    surface_um: float = 50.0
    towards: str = "+"
    start_um: tuple[float, float, float] | None = None
    servo_on: bool = True
    xi_nm: float = 25.0
    placement_sd_nm: float = 0.0
    drift_nm_s: tuple[float, float] = (0.0, 0.0)
    layers_um: tuple[BoxUm, ...] = ()
    stuck_on_um: tuple[BoxUm, ...] = ()
    bridged_um: tuple[BoxUm, ...] = ()
    open_tip: bool = False
    settings: Mapping[str, float | str | bool] = field(default_factory=dict)
    command_map: Path | None = None
    """Both ends speak this map, by its absolute path, and not GCS 2.0."""

    def options(self, smu_link: Path, stage_link: Path) -> RigOptions:
        """Return the part of the command line that is about stage and sample."""
        return RigOptions(
            smu_link=smu_link,
            stage_link=stage_link,
            stage_baud=self.baud,
            stage_serial_number=STAGE_SERIAL_NUMBER,
            stage_axes=",".join(self.axes),
            travel_um=self.travel_um,
            velocity_um_s=self.velocity_um_s,
            surface_um=self.surface_um,
            towards=self.towards,
            start_um=None if self.start_um is None else _joined(self.start_um),
            servo_on=self.servo_on,
            xi_nm=self.xi_nm,
            placement_sd_nm=self.placement_sd_nm,
            drift_nm_s=_joined(self.drift_nm_s),
            layer=tuple(_joined(box) for box in self.layers_um),
            stuck_on=tuple(_joined(box) for box in self.stuck_on_um),
            bridged=tuple(_joined(box) for box in self.bridged_um),
            open_tip=self.open_tip,
            stage_command_map=self.command_map,
        )

    def sample(self, seed: int) -> SampleMap:
        """Return the sample that the emulator has with this seed, as it is before the first landing."""
        return SampleMap(seed, sample_parameters(self.options(Path(), Path())))

    def configure(self, text: str, stage_link: Path) -> str:
        """Uncomment the stage's sections of a configuration and fill them in; raises BenchFaultError if it cannot."""
        x, y, z = self.axes
        values: dict[str, float | str | bool] = {
            "path": str(stage_link),
            # 0 is the emulator's: bytes take no time. A port has a rate all the same.
            "baud": self.baud or 115200,
            "serial_number": STAGE_SERIAL_NUMBER,
            "x": x,
            "y": y,
            "z": z,
            "towards_sample": self.towards,
            **self.settings,
        }
        if self.command_map is not None:
            serial_number = load_command_map(self.command_map).emulated.serial
            values |= {"driver": DRIVER, "command_map": str(self.command_map), "serial_number": serial_number}
        try:
            return with_stage(text, values)
        except ConfigError as error:
            raise BenchFaultError(str(error)) from error


def _joined(values: tuple[float, ...]) -> str:
    return ",".join(str(value) for value in values)
