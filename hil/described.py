"""What the verbs ``stage`` and ``rig`` need to play a controller of a command map."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from firmware_proto.stage_map import MapError, StageMap, read_map
from hil.devices.described_stage import axis_models
from hil.devices.pi_gcs2 import AxisModel
from hil.errors import BenchOptionError
from hil.options import numbers


class Described(NamedTuple):
    """A map and the axes of its emulated controller; ``roles``: those that are x, y and z."""

    rules: StageMap
    axes: tuple[AxisModel, ...]
    roles: tuple[AxisModel, ...]


def load_rules(option: str, path: Path, serial_number: str | None = None) -> StageMap:
    """Return a command map, its emulated serial number replaced where one is given; raises BenchOptionError."""
    try:
        rules = read_map(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise BenchOptionError(f"{option}: {path}: {error.strerror}") from error
    except (MapError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BenchOptionError(f"{option}: {path}: {error}") from error
    if serial_number is None:
        return rules
    return dataclasses.replace(rules, emulated=dataclasses.replace(rules.emulated, serial=serial_number))


def described_rig(
    rules: StageMap,
    *,
    names: Sequence[str] = (),
    travel_um: float = 100.0,
    velocity_um_s: float = 200.0,
    surface_um: float = 50.0,
    above_um: float = 0.5,
    start_um: str | None = None,
) -> Described:
    """Return the axes of a controller in a rig: ``names`` are x, y and z, else the first three of the map.

    z starts ``above_um`` (signed) before the surface, x and y in mid-travel, unless ``start_um`` says x,y,z. Raises
    BenchOptionError for what cannot be.
    """
    roles = tuple(names) or tuple(rules.axes)[:3]
    missing = [name for name in roles if name not in rules.axes]
    if len(roles) != 3 or missing:
        raise BenchOptionError(
            f"--stage-axes {','.join(roles)}: the command map has {', '.join(rules.axes)}; want the names of x, y and z"
        )
    plain = {model.name: model for model in axis_models(rules, travel_um=travel_um, velocity_um_s=velocity_um_s)}
    z = plain[roles[2]]
    if start_um is not None:
        starts = dict(zip(roles, numbers("--start-um", start_um, 3, "50,50,49.5"), strict=True))
    else:
        middles = {name: 0.5 * (plain[name].low_um + plain[name].high_um) for name in roles[:2]}
        starts = {**middles, z.name: surface_um - above_um}
    for name, start in {"surface": surface_um, **starts}.items():
        model = plain.get(name, z)
        if not model.low_um <= start <= model.high_um:
            option = "--surface-um" if name == "surface" else "--start-um"
            raise BenchOptionError(
                f"{option} {start:g}: axis {model.name} of the command map runs from {model.low_um:g} to "
                f"{model.high_um:g} um"
            )
    axes = axis_models(rules, travel_um=travel_um, velocity_um_s=velocity_um_s, starts_um=starts)
    found = {model.name: model for model in axes}
    return Described(rules, axes, tuple(found[name] for name in roles))
