"""Why the bias was cut. Ids are frozen: they travel in events and are compared for equality, never ordered."""

from __future__ import annotations

import enum


class Verdict(enum.Enum):
    """The guard's verdicts; the value is the frozen id used in events, logs and the command line."""

    SURGE_JUMP = "SURGE_JUMP"
    SURGE_LEVEL = "SURGE_LEVEL"
    SURGE_CUSUM = "SURGE_CUSUM"
    PREDICTED = "PREDICTED"
    CONDUCTANCE = "CONDUCTANCE"
    HARD_LIMIT = "HARD_LIMIT"
    COMPLIANCE = "COMPLIANCE"
    OVERFLOW = "OVERFLOW"
    UNPARSABLE = "UNPARSABLE"
    STALE = "STALE"
    OUTPUT_CHANGED = "OUTPUT_CHANGED"
    LIMIT_CHANGED = "LIMIT_CHANGED"
    DEVICE_RESET = "DEVICE_RESET"
    LINK_LOST = "LINK_LOST"
    SERIES_RESISTOR = "SERIES_RESISTOR"
    STAGE_FAULT = "STAGE_FAULT"
    FRONTEND = "FRONTEND"
    LEASE = "LEASE"
    V_LIMIT = "V_LIMIT"
    V_COLLAPSE = "V_COLLAPSE"
    R_DROP = "R_DROP"
    RING_FULL = "RING_FULL"
    OPERATOR = "OPERATOR"
    SHUTDOWN = "SHUTDOWN"
    RESTART = "RESTART"
    CUT_UNVERIFIED = "CUT_UNVERIFIED"


PLANNED_IN_SEEK = frozenset(
    {
        Verdict.SURGE_JUMP,
        Verdict.SURGE_LEVEL,
        Verdict.SURGE_CUSUM,
        Verdict.PREDICTED,
        Verdict.CONDUCTANCE,
        Verdict.HARD_LIMIT,
        Verdict.COMPLIANCE,
        Verdict.OVERFLOW,
    }
)
"""Verdicts that end a trigger search as planned: a set is what such a plan is looking for. All others protect."""
