"""What stage and bias may not do at the same time. Pure: tables and functions, no clock, no I/O.

Three rules. The output goes on only over a stage that stands still: stopped, on target, servo closed, error-free, seen
within 200 ms; and it is looked at all the while. Nothing moves while ENERGISED at a level above ``scan.max_bias_v``.
After a trip the tip is lifted, but only once the cut is verified: lifting a tip that still conducts draws an arc.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from typing import Final

from edge.guard.states import State
from edge.guard.verdicts import Verdict
from edge.instruments.stage import StageStatus

FRESH_NS: Final = 200_000_000
"""How old a look at the stage may be when the output goes on."""
POLL_NS: Final = 100_000_000
"""How often it is looked at while ENERGISED."""
LOST_NS: Final = 5 * POLL_NS
"""How old the last look may be while ENERGISED; a stage that does not answer that long counts as moving."""


class Interlock(enum.Enum):
    """Why something is not allowed; the value is what a person reads."""

    STAGE_UNSEEN = "the stage was not looked at, or too long ago"
    STAGE_MOVING = "the stage moves"
    STAGE_OFF_TARGET = "the stage is not on target"
    STAGE_SERVO_OFF = "a servo is off"
    STAGE_ERROR = "the stage reports an error"
    BIAS_UNVERIFIED = "the output is not verified off"
    BIAS_ON = "the bias is above scan.max_bias_v"
    TRIPPED = "after a trip the tip may only be lifted"


Test = Callable[[StageStatus, int], bool]
"""Tells whether a look at the stage, of the given age in ns, breaks a rule."""

STANDING: Final[tuple[tuple[Interlock, Test], ...]] = (
    # A look from the future is a clock gone wrong: not fresh either.
    (Interlock.STAGE_UNSEEN, lambda _status, age_ns: not 0 <= age_ns <= FRESH_NS),
    (Interlock.STAGE_MOVING, lambda status, _age_ns: status.moving),
    (Interlock.STAGE_OFF_TARGET, lambda status, _age_ns: not status.on_target),
    (Interlock.STAGE_SERVO_OFF, lambda status, _age_ns: not status.servo_on),
    (Interlock.STAGE_ERROR, lambda status, _age_ns: status.error != 0),
)
"""What keeps the output off, in the order in which it is told."""

WATCHED: Final[tuple[tuple[Interlock, Test], ...]] = (
    (Interlock.STAGE_UNSEEN, lambda _status, age_ns: not 0 <= age_ns <= LOST_NS),
    *STANDING[1:],
)
"""What ends a bias that is on."""

_OF_A_SCAN: Final = frozenset({Interlock.STAGE_MOVING, Interlock.STAGE_OFF_TARGET})
"""What a move that :func:`move_refusal` allowed brings along."""


def output_on_refusals(
    status: StageStatus | None, now_ns: int, rules: Sequence[tuple[Interlock, Test]] = STANDING
) -> tuple[Interlock, ...]:
    """Return why the output must stay off, empty if it may go on. ``status`` None: never looked."""
    if status is None:
        return (Interlock.STAGE_UNSEEN,)
    age_ns = now_ns - status.t_ns
    return tuple(interlock for interlock, broken in rules if broken(status, age_ns))


def energised_fault(
    status: StageStatus | None,
    now_ns: int,
    *,
    scanning: bool = False,
    rules: Sequence[tuple[Interlock, Test]] = WATCHED,
) -> tuple[Verdict, tuple[Interlock, ...]] | None:
    """Return STAGE_FAULT and its reasons if the bias must be cut for what the stage does, else None.

    ``scanning``: a move that :func:`move_refusal` allowed is under way; moving is then what is expected, everything
    else still counts.
    """
    reasons = output_on_refusals(status, now_ns, rules)
    if scanning:
        reasons = tuple(reason for reason in reasons if reason not in _OF_A_SCAN)
    return (Verdict.STAGE_FAULT, reasons) if reasons else None


class Move(enum.Enum):
    """What a move does to the tip."""

    LATERAL = "lateral"
    """Along the surface, whatever else it does."""
    APPROACH = "approach"
    """Towards the sample."""
    RETRACT = "retract"
    """Away from the sample and nothing else."""


class Rule(enum.Enum):
    """Whether a move is allowed in a state."""

    FREE = "free"
    AT_SCAN_BIAS = "at scan.max_bias_v or below"
    LAST_RESORT = "as the last resort of a cut that cannot be verified"
    UNVERIFIED = "not before the output is verified off"
    NO = "not before a person re-armed"


MOVES: Final[dict[tuple[State, Move], Rule]] = {
    (State.UNKNOWN, Move.LATERAL): Rule.UNVERIFIED,
    (State.UNKNOWN, Move.APPROACH): Rule.UNVERIFIED,
    (State.UNKNOWN, Move.RETRACT): Rule.UNVERIFIED,
    (State.SAFE, Move.LATERAL): Rule.FREE,
    (State.SAFE, Move.APPROACH): Rule.FREE,
    (State.SAFE, Move.RETRACT): Rule.FREE,
    # The output is off, and output-on looks at the stage again.
    (State.ARMED, Move.LATERAL): Rule.FREE,
    (State.ARMED, Move.APPROACH): Rule.FREE,
    (State.ARMED, Move.RETRACT): Rule.FREE,
    (State.ENERGISED, Move.LATERAL): Rule.AT_SCAN_BIAS,
    # Making and breaking contact under bias is worse than dragging.
    (State.ENERGISED, Move.APPROACH): Rule.AT_SCAN_BIAS,
    (State.ENERGISED, Move.RETRACT): Rule.AT_SCAN_BIAS,
    (State.CUTTING, Move.LATERAL): Rule.UNVERIFIED,
    (State.CUTTING, Move.APPROACH): Rule.UNVERIFIED,
    (State.CUTTING, Move.RETRACT): Rule.LAST_RESORT,
    (State.TRIPPED, Move.LATERAL): Rule.NO,
    (State.TRIPPED, Move.APPROACH): Rule.NO,
    (State.TRIPPED, Move.RETRACT): Rule.FREE,
}


def move_refusal(
    state: State,
    move: Move,
    *,
    level_v: float = math.nan,
    max_bias_v: float = 0.0,
    cut_alarm: bool = False,
    last_resort: bool = False,
) -> Interlock | None:
    """Return why a move is not allowed, None if it is.

    ``level_v``: the bias read back, in V; what is not known, NaN, is too high. ``max_bias_v``: ``scan.max_bias_v``, 0
    or above, in V. ``cut_alarm``: the cut under way is CUT_UNVERIFIED; ``last_resort``: the rig's file opted in to
    lifting the tip then.
    """
    rule = MOVES[state, move]
    if rule is Rule.FREE:
        return None
    if rule is Rule.AT_SCAN_BIAS:
        return None if abs(level_v) <= max_bias_v else Interlock.BIAS_ON
    if rule is Rule.LAST_RESORT and cut_alarm and last_resort:
        return None
    return Interlock.TRIPPED if rule is Rule.NO else Interlock.BIAS_UNVERIFIED


class AfterTrip(enum.Enum):
    """What to do with the tip once a protective cut was sent."""

    WAIT = "wait for the cut to be verified"
    LIFT = "lift the tip"
    DONE = "the tip is up"


def after_trip(state: State, *, lifted: bool, cut_alarm: bool = False, last_resort: bool = False) -> AfterTrip:
    """Return the next step after a protective cut: cut verified, then Z retract, once.

    ``lifted``: the retract has been sent and its arrival seen. Before TRIPPED, which a verified cut leads to, only the
    last resort lifts.
    """
    if lifted:
        return AfterTrip.DONE
    refused = move_refusal(state, Move.RETRACT, cut_alarm=cut_alarm, last_resort=last_resort)
    return AfterTrip.WAIT if refused else AfterTrip.LIFT
