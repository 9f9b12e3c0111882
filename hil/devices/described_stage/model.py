"""The axes that a command map describes, as the emulated ones; and numbers between the two. Lengths in um inside."""

from __future__ import annotations

from collections.abc import Mapping

from firmware_proto.stage_map import MapAxis, StageMap
from hil.devices.pi_gcs2 import AxisModel


def axis_models(
    rules: StageMap, *, travel_um: float = 100.0, velocity_um_s: float = 200.0, starts_um: Mapping[str, float] = {}
) -> tuple[AxisModel, ...]:
    """Return a model of each axis of the map, in its order.

    ``travel_um``, ``velocity_um_s``: of an axis whose map leaves them to the controller. ``starts_um``: where axes are
    at power-on; mid-travel for those that are not there. Raises ValueError where no axis can be so.
    """
    models = []
    for name, axis in rules.axes.items():
        low, high = (0.0, travel_um) if axis.sign > 0 else (-travel_um, 0.0)
        low = low if axis.low_m is None else axis.low_m * 1e6
        high = high if axis.high_m is None else axis.high_m * 1e6
        speed = velocity_um_s if axis.velocity_m_s is None else axis.velocity_m_s * 1e6
        models.append(
            AxisModel(
                name,
                low_um=round(low, 9),
                high_um=round(high, 9),
                velocity_um_s=speed,
                max_velocity_um_s=max(speed, 10_000.0),
                start_um=starts_um.get(name),
            )
        )
    return tuple(models)


def to_wire(axis: MapAxis, um: float) -> float:
    """Return a position in um as the number on the wire."""
    return axis.sign * um * 1e-6 / axis.unit_m


def from_wire(axis: MapAxis, number: float) -> float:
    """Return a number of the wire in um."""
    return axis.metres(number) * 1e6
