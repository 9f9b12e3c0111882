"""What an arming sets: the phase's row and the settings, checked against the rig's ceilings. Sends nothing."""

from __future__ import annotations

from edge.config import Config
from edge.errors import PlanRefusedError
from edge.guard.guard import Guard
from edge.guard.phases import PhaseSpec
from edge.instruments.smu import Setup
from edge.samples import Phase

LOW_SOURCE_V = 2.0
"""Levels up to here are sourced on the 2 V range, above on 20 V."""


def setup_for(
    config: Config, guard: Guard, phase: Phase, v_max_v: float, range_a: float | None
) -> tuple[PhaseSpec, Setup]:
    """Return the row of the phase table and what to set for it.

    ``v_max_v`` (V) bounds every level until the next arming. Raises PlanRefusedError above ``limits.voltage_v``, and
    where there is no such setting.
    """
    ceiling_v = config.limits.voltage_v
    if not 0 <= v_max_v <= ceiling_v:
        raise PlanRefusedError(
            f"the plan arms for {v_max_v!r} V, limits.voltage_v is {ceiling_v:g} V", reason="voltage_ceiling"
        )
    try:
        spec = guard.spec_for(phase, v_max_v, range_a)
        protection_a = guard.protection_a(spec)
    except ValueError as error:
        raise PlanRefusedError(
            f"{phase.name} at {v_max_v:g} V: {error}; see limits.current_a", reason="no_setting"
        ) from error
    return spec, Setup(
        source_range_v=2.0 if v_max_v <= LOW_SOURCE_V else 20.0,
        range_a=spec.range_a,
        protection_a=protection_a,
        nplc=spec.nplc,
        autozero=spec.autozero,
    )
