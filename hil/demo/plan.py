"""What the demo does: which rigs, over which sample, with which plans. One seed makes all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from hil.processes import RigSpec, StageSpec
from hil.twin.grains import Box
from hil.twin.sample_map import SampleMap

MAP_RIG: Final = "demo-map"
MEMRISTOR_RIG: Final = "demo-memristor"
ARGUMENT_RIG: Final = "demo-argument"

MAP_OHM: Final = 10_000.0
MEMRISTOR_OHM: Final = 1500.0
PLACEMENT_SD_NM: Final = 1.0
FIELD: Final = Box(28e-6, 28e-6, 72e-6, 72e-6)
"""Where the points are taken from, m."""
GB_SWEEP: Final = (-0.5, 0.1)
"""End of the sweep in V, rate in V/s."""
GI_SWEEP: Final = (-10.0, 1.0)
SET_V: Final = -0.2
SET_RATE_V_S: Final = 1.0
RESET_V: Final = 1.0
RESET_RATE_V_S: Final = 2.0
ARGUMENT_OHM: Final = MEMRISTOR_OHM
ARGUMENT_TO_V: Final = -0.5
ARGUMENT_RATE_V_S: Final = 0.1
THRESHOLD_A: Final = 1e-6
STAY_CYCLES: Final = 40
"""Below the ten minutes that a host without a heartbeat is trusted with; then the next run begins."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is shown: points on boundaries, points inside grains, cycles of the memristor."""

    gb_points: int
    gi_points: int
    cycles: int
    takes: str


FULL: Final = Size(8, 2, 20, "a minute and a half")
QUICK: Final = Size(2, 0, 3, "half a minute")


@dataclass(frozen=True, slots=True)
class Part:
    """One rig and the run on it."""

    title: str
    spec: RigSpec
    plan: str
    parameters: dict[str, Any]


def _stage(spec_seed: int) -> tuple[StageSpec, SampleMap]:
    # A tenth of a micrometre above the surface, where a careful coarse approach leaves a tip.
    stage = StageSpec(placement_sd_nm=PLACEMENT_SD_NM, start_um=(50.0, 50.0, 49.9), settings={"lift_m": 300e-9})
    return stage, stage.sample(spec_seed)


def points(sample: SampleMap, size: Size) -> list[list[Any]]:
    """Return rows for a trigger map: points on boundaries and inside grains, as a topography image would give them."""
    boundary = sample.boundary_points(size.gb_points, FIELD)
    interior = sample.interior_points(size.gi_points, FIELD)
    rows = [[x, y, "gb", f"B{number}"] for number, (x, y) in enumerate(boundary, 1)]
    return rows + [[x, y, "gi", f"G{number}"] for number, (x, y) in enumerate(interior, 1)]


def map_part(seed: int, size: Size = FULL) -> Part:
    """Return the trigger map: points on boundaries at 0.1 V/s, inside grains at 1 V/s."""
    stage, sample = _stage(seed)
    return Part(
        "map",
        RigSpec(rig=MAP_RIG, seed=seed, series_ohm=MAP_OHM, stage=stage),
        "trigger-map",
        {"points": points(sample, size), "sweeps": {"gb": list(GB_SWEEP), "gi": list(GI_SWEEP)}, "seed": seed},
    )


def memristor_part(seed: int, cycles: int) -> Part:
    """Return the memristor: one point on a boundary, cycled."""
    seed = (seed + 1) % 2**32
    stage, sample = _stage(seed)
    x_m, y_m = sample.boundary_points(1, FIELD)[0]
    return Part(
        "memristor",
        RigSpec(rig=MEMRISTOR_RIG, seed=seed, series_ohm=MEMRISTOR_OHM, stage=stage),
        "memristor",
        {
            "cycles": cycles,
            "set_v": SET_V,
            "set_rate_v_s": SET_RATE_V_S,
            "reset_v": RESET_V,
            "reset_rate_v_s": RESET_RATE_V_S,
            "x_m": x_m,
            "y_m": y_m,
        },
    )


def argument_part(seed: int) -> Part:
    """Return the sweep that a plain script does on the same site."""
    return Part(
        "argument",
        RigSpec(rig=ARGUMENT_RIG, seed=seed, series_ohm=ARGUMENT_OHM, site="gb", twin="full"),
        "iv",
        # A level and its reading take 22 ms at 57600 baud, looks at the limits included 23.
        {"to_v": ARGUMENT_TO_V, "step_v": ARGUMENT_RATE_V_S * 0.024, "dwell_s": 0.020, "back_scan": False},
    )
