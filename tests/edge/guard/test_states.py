"""The guard's states: every transition of the table and none else, and what no sequence of causes can do."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import TipguardError
from edge.guard.states import TRANSITIONS, Cause, IllegalTransitionError, State, StateMachine

# Written down a second time: a line that slips into the table, or out of it, has to be meant.
ALLOWED = {
    "UNKNOWN": {"VERIFIED_OFF": "SAFE", "PROTECTIVE_CUT": "CUTTING"},
    "SAFE": {"LIMITS_READ_BACK": "ARMED", "PROTECTIVE_CUT": "CUTTING", "RESTART_LATCH": "TRIPPED"},
    "ARMED": {"DISARM": "SAFE", "OUTPUT_ON_SENT": "ENERGISED", "PROTECTIVE_CUT": "CUTTING"},
    "ENERGISED": {"NORMAL_END": "CUTTING", "PLANNED_CUT": "CUTTING", "PROTECTIVE_CUT": "CUTTING"},
    "CUTTING": {
        "PROTECTIVE_CUT": "CUTTING",
        "CUT_VERIFIED": "SAFE",
        "HELD_AT_ZERO": "ENERGISED",
        "PROTECTIVE_CUT_VERIFIED": "TRIPPED",
    },
    "TRIPPED": {"REARM": "SAFE", "PROTECTIVE_CUT": "CUTTING"},
}
VERIFIED = {Cause.VERIFIED_OFF, Cause.CUT_VERIFIED, Cause.HELD_AT_ZERO, Cause.PROTECTIVE_CUT_VERIFIED}
PAIRS = list(itertools.product(State, Cause))
WALKS = st.lists(st.sampled_from(Cause), max_size=40)


def machine_in(state: State) -> StateMachine:
    machine = StateMachine()
    machine._state = state
    return machine


def walk(causes: list[Cause]) -> list[tuple[State, Cause, State]]:
    """Offer the causes to a fresh machine; return the moves it made."""
    machine = StateMachine()
    moves = []
    for cause in causes:
        before = machine.state
        try:
            after = machine.move(cause)
        except IllegalTransitionError:
            assert machine.state is before
            continue
        assert after is machine.state
        moves.append((before, cause, after))
    return moves


@pytest.mark.parametrize(("state", "cause"), PAIRS, ids=lambda value: value.name)
def test_every_pair_of_state_and_cause(state: State, cause: Cause) -> None:
    machine = machine_in(state)
    wanted = ALLOWED[state.name].get(cause.name)
    if wanted is None:
        with pytest.raises(IllegalTransitionError, match=state.value) as caught:
            machine.move(cause)
        assert (caught.value.state, caught.value.cause) == (state, cause)
        assert isinstance(caught.value, TipguardError)
        assert machine.state is state
    else:
        assert machine.move(cause) is State[wanted]
        assert machine.state is State[wanted]


def test_the_table_has_nothing_beyond() -> None:
    table: dict[str, dict[str, str]] = {state.name: {} for state in State}
    for (state, cause), after in TRANSITIONS.items():
        table[state.name][cause.name] = after.name
    assert table == ALLOWED


def test_state_names_are_frozen() -> None:
    assert [state.value for state in State] == ["UNKNOWN", "SAFE", "ARMED", "ENERGISED", "CUTTING", "TRIPPED"]


def test_it_starts_knowing_nothing() -> None:
    machine = StateMachine()
    assert machine.state is State.UNKNOWN
    assert machine.output_may_be_on
    assert not machine.protective


def test_a_planned_cut_ends_safe() -> None:
    machine = machine_in(State.ENERGISED)
    machine.move(Cause.PLANNED_CUT)
    assert not machine.protective
    assert machine.move(Cause.CUT_VERIFIED) is State.SAFE


def test_a_protective_cut_is_never_verified_as_a_planned_one() -> None:
    machine = machine_in(State.ENERGISED)
    machine.move(Cause.PROTECTIVE_CUT)
    assert machine.protective
    for cause in (Cause.CUT_VERIFIED, Cause.HELD_AT_ZERO):
        with pytest.raises(IllegalTransitionError):
            machine.move(cause)
    assert machine.state is State.CUTTING
    assert machine.move(Cause.PROTECTIVE_CUT_VERIFIED) is State.TRIPPED
    assert machine.protective
    machine.move(Cause.REARM)
    assert not machine.protective


@pytest.mark.parametrize("first", [Cause.PLANNED_CUT, Cause.NORMAL_END])
def test_a_planned_cut_that_goes_wrong_is_a_protective_one(first: Cause) -> None:
    machine = machine_in(State.ENERGISED)
    machine.move(first)
    machine.move(Cause.PROTECTIVE_CUT)
    with pytest.raises(IllegalTransitionError):
        machine.move(Cause.CUT_VERIFIED)
    assert machine.move(Cause.PROTECTIVE_CUT_VERIFIED) is State.TRIPPED


def test_without_the_check_a_protective_cut_would_not_latch() -> None:
    # What the check in move() is for: the bare table would let it through.
    assert TRANSITIONS[State.CUTTING, Cause.CUT_VERIFIED] is State.SAFE


def test_after_a_rearm_the_next_planned_cut_is_a_planned_one() -> None:
    machine = machine_in(State.ENERGISED)
    for cause in (
        Cause.PROTECTIVE_CUT,
        Cause.PROTECTIVE_CUT_VERIFIED,
        Cause.REARM,
        Cause.LIMITS_READ_BACK,
        Cause.OUTPUT_ON_SENT,
        Cause.PLANNED_CUT,
        Cause.CUT_VERIFIED,
    ):
        machine.move(cause)
    assert machine.state is State.SAFE


def test_a_restart_latch_is_a_protective_one() -> None:
    machine = machine_in(State.SAFE)
    machine.move(Cause.RESTART_LATCH)
    assert machine.protective


@given(WALKS)
def test_the_unknown_and_a_cut_are_left_by_a_verification_only(causes: list[Cause]) -> None:
    for before, cause, after in walk(causes):
        if before in (State.UNKNOWN, State.CUTTING) and after is not State.CUTTING:
            assert cause in VERIFIED


@given(WALKS)
def test_no_walk_reaches_a_safe_state_without_a_verification_since_the_output_may_have_been_on(
    causes: list[Cause],
) -> None:
    verified = False
    for before, cause, after in walk(causes):
        if cause in VERIFIED:
            verified = True
        elif after in (State.ENERGISED, State.CUTTING):
            verified = False
        assert verified or after in (State.ENERGISED, State.CUTTING), (before, cause, after)


@given(WALKS)
def test_after_a_protective_cut_only_a_person_leads_back(causes: list[Cause]) -> None:
    latched = False
    for _, cause, after in walk(causes):
        if cause in (Cause.PROTECTIVE_CUT, Cause.RESTART_LATCH):
            latched = True
        elif cause is Cause.REARM:
            latched = False
        if latched:
            assert after in (State.CUTTING, State.TRIPPED)


@given(WALKS)
def test_nothing_is_energised_that_was_not_armed_with_limits_read_back(causes: list[Cause]) -> None:
    moves = walk(causes)
    for (_, armed_by, _), (before, _, after) in itertools.pairwise(moves):
        if after is State.ENERGISED:
            assert before is State.ARMED
            assert armed_by is Cause.LIMITS_READ_BACK


@pytest.mark.parametrize("state", State)
def test_where_the_output_may_be_on(state: State) -> None:
    assert machine_in(state).output_may_be_on == (state.name in {"UNKNOWN", "ENERGISED", "CUTTING"})


@pytest.mark.parametrize("state", State)
def test_a_protective_cut_is_possible_from_everywhere(state: State) -> None:
    assert machine_in(state).move(Cause.PROTECTIVE_CUT) is State.CUTTING
