"""The guard's states. Everything that decides which state may follow which lives in this file.

    UNKNOWN -> SAFE (verified) -> ARMED -> ENERGISED -> CUTTING -> TRIPPED -> SAFE

UNKNOWN and CUTTING have no way out but a verification; there is no time-out into TRIPPED. TRIPPED is left only by a
person, or into another cut.
"""

from __future__ import annotations

import enum
from typing import Final

from edge.errors import TipguardError


class State(enum.Enum):
    """Where the guard is; the value is the id used in status documents."""

    UNKNOWN = "UNKNOWN"
    """Nothing was verified yet: the output may be on."""
    SAFE = "SAFE"
    """Output verified off."""
    ARMED = "ARMED"
    """Output off; range and limit set and read back for the phase to come; detector reset."""
    ENERGISED = "ENERGISED"
    """From the output-on command to the start of a cut, whatever the level in between; again from a planned cut that is
    held at 0 V, where the plan asks for that."""
    CUTTING = "CUTTING"
    """A cut was sent and is not verified yet."""
    TRIPPED = "TRIPPED"
    """Output verified off after a protective cut; latched until a person re-arms."""


class Cause(enum.Enum):
    """What moves the guard. Each transition names one."""

    VERIFIED_OFF = "verified off"
    LIMITS_READ_BACK = "limits read back"
    DISARM = "disarm"
    OUTPUT_ON_SENT = "output-on sent"
    NORMAL_END = "normal end"
    PLANNED_CUT = "planned cut"
    PROTECTIVE_CUT = "protective cut"
    CUT_VERIFIED = "cut verified"
    HELD_AT_ZERO = "held at 0 V"
    PROTECTIVE_CUT_VERIFIED = "protective cut verified"
    RESTART_LATCH = "restart latch"
    REARM = "re-arm by a person"


TRANSITIONS: Final[dict[tuple[State, Cause], State]] = {
    (State.UNKNOWN, Cause.VERIFIED_OFF): State.SAFE,
    (State.UNKNOWN, Cause.PROTECTIVE_CUT): State.CUTTING,
    (State.SAFE, Cause.LIMITS_READ_BACK): State.ARMED,
    (State.SAFE, Cause.PROTECTIVE_CUT): State.CUTTING,
    (State.SAFE, Cause.RESTART_LATCH): State.TRIPPED,
    (State.ARMED, Cause.DISARM): State.SAFE,
    (State.ARMED, Cause.OUTPUT_ON_SENT): State.ENERGISED,
    (State.ARMED, Cause.PROTECTIVE_CUT): State.CUTTING,
    (State.ENERGISED, Cause.NORMAL_END): State.CUTTING,
    (State.ENERGISED, Cause.PLANNED_CUT): State.CUTTING,
    (State.ENERGISED, Cause.PROTECTIVE_CUT): State.CUTTING,
    # A planned cut that goes wrong becomes a protective one; the state stays, the way out changes.
    (State.CUTTING, Cause.PROTECTIVE_CUT): State.CUTTING,
    (State.CUTTING, Cause.CUT_VERIFIED): State.SAFE,
    (State.CUTTING, Cause.HELD_AT_ZERO): State.ENERGISED,
    (State.CUTTING, Cause.PROTECTIVE_CUT_VERIFIED): State.TRIPPED,
    (State.TRIPPED, Cause.REARM): State.SAFE,
    (State.TRIPPED, Cause.PROTECTIVE_CUT): State.CUTTING,
}


class IllegalTransitionError(TipguardError):
    """A bug: the table has no such transition. ``state`` and ``cause`` say which."""

    def __init__(self, state: State, cause: Cause) -> None:
        super().__init__(f"no transition from {state.value} by {cause.value!r}")
        self.state = state
        self.cause = cause


class StateMachine:
    """Holds the present state; moves only as the table allows."""

    def __init__(self) -> None:
        self._state = State.UNKNOWN
        self._protective = False

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    @property
    def protective(self) -> bool:
        """True while the cut under way, or the latch, is a protective one."""
        return self._protective

    @property
    def output_may_be_on(self) -> bool:
        """True in every state in which the output is not verified off."""
        return self._state in (State.UNKNOWN, State.ENERGISED, State.CUTTING)

    def move(self, cause: Cause) -> State:
        """Follow the table; raise :class:`IllegalTransitionError` where it has no entry."""
        # A protective cut can only be left as one: verifying it as a planned cut would skip the latch.
        if self._protective and self._state is State.CUTTING and cause in (Cause.CUT_VERIFIED, Cause.HELD_AT_ZERO):
            raise IllegalTransitionError(self._state, cause)
        try:
            after = TRANSITIONS[self._state, cause]
        except KeyError:
            raise IllegalTransitionError(self._state, cause) from None
        if cause in (Cause.PROTECTIVE_CUT, Cause.RESTART_LATCH):
            self._protective = True
        elif after is State.SAFE:
            self._protective = False
        self._state = after
        return after
