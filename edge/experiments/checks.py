"""What every plan checks of its parameters: numbers are numbers, yes is yes, and each refusal says what would do."""

from __future__ import annotations

import math

from edge.errors import PlanRefusedError

MAX_LEVELS = 200_000
"""Levels of one ramp."""


def refuse(plan: str, key: str, value: object, expected: str) -> PlanRefusedError:
    """Return the refusal of a parameter, to be raised."""
    return PlanRefusedError(f"{plan}: {key}: value {value!r:.80}: expected {expected}", reason="bad_plan")


def number(plan: str, key: str, value: object, low: float, high: float) -> float:
    """Return a finite number within ``low`` and ``high``, both included; raise PlanRefusedError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse(plan, key, value, "a number")
    if not low <= value <= high:
        raise refuse(plan, key, value, f"{low:g} to {high:g}")
    return float(value)


def whole(plan: str, key: str, value: object, low: int, high: int) -> int:
    """Return a whole number within ``low`` and ``high``; raise PlanRefusedError."""
    number(plan, key, value, low, high)
    if not isinstance(value, int):
        raise refuse(plan, key, value, f"a whole number {low} to {high}")
    return value


def flag(plan: str, key: str, value: object) -> bool:
    """Return a boolean; some texts and numbers count as true, and none of them may switch a protection off."""
    if not isinstance(value, bool):
        raise refuse(plan, key, value, "true or false")
    return value


def ramp(to_v: float, step_v: float) -> tuple[float, ...]:
    """Return levels from 0 to ``to_v`` in V, both included, in equal steps none of which is above ``step_v``."""
    # Equal steps from end to end: a multiple of step_v would overshoot or miss the end.
    steps = math.ceil(abs(to_v) / step_v - 1e-9)
    # + 0.0: no -0.0 on the screen.
    return (*(to_v * i / steps + 0.0 for i in range(steps)), to_v)
