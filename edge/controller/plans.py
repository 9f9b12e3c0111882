"""Makes a plan from what a client sent: names among the entry points ``tipguard.experiments``, parameters checked."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import msgpack

from edge.controller.commission import NAME, CommissionPlan
from edge.errors import PlanRefusedError
from edge.experiments.steps import Plan
from edge.instruments.drivers import points

GROUP = "tipguard.experiments"


def make_plan(name: object, parameters: object) -> Plan:
    """Return a validated plan; raise PlanRefusedError with what is wrong and what would be right."""
    found = points(GROUP)
    if not isinstance(name, str) or name not in {*found, NAME}:
        there_are = ", ".join(sorted({*found, NAME}))
        raise PlanRefusedError(f"plan {name!r:.80}: expected one of: {there_are}", reason="unknown_plan")
    if not isinstance(parameters, dict) or not all(isinstance(key, str) for key in parameters):
        raise PlanRefusedError(f"{name}: parameters must be a map of names to values", reason="bad_plan")
    # Not by an entry point: what may run without a rig profile is ours alone.
    kind: Any = CommissionPlan if name == NAME else found[name].load()
    known = {field.name for field in dataclasses.fields(kind) if field.init}
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise PlanRefusedError(
            f"{name}: unknown parameter {unknown[0]!r:.80}; expected: {', '.join(sorted(known))}", reason="bad_plan"
        )
    try:
        plan: Plan = kind(**parameters)
    except TypeError as error:
        raise PlanRefusedError(f"{name}: {error}", reason="bad_plan") from error
    return plan


def recipe(plan: Plan) -> dict[str, Any]:
    """Return what :func:`make_plan` makes the same plan from, as a map of plan and parameters, in plain values.

    ``parameters`` is None for a plan that does not say: one that is no dataclass, or holds what msgpack cannot.
    """
    parameters: dict[str, Any] | None = None
    fields: dict[str, dataclasses.Field[Any]] = getattr(plan, "__dataclass_fields__", {})
    if fields:
        given = {name: getattr(plan, name) for name, field in fields.items() if field.init}
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            parameters = msgpack.unpackb(msgpack.packb(given))
    return {"plan": plan.name, "parameters": parameters}
