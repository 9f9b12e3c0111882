"""Stage and bias: each rule bites alone, and is the only one that does: without it the same case would pass."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.guard import interlocks
from edge.guard.interlocks import (
    FRESH_NS,
    LOST_NS,
    MOVES,
    POLL_NS,
    STANDING,
    WATCHED,
    AfterTrip,
    Interlock,
    Move,
    Rule,
    after_trip,
    energised_fault,
    move_refusal,
    output_on_refusals,
)
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from edge.instruments.stage import StageStatus

NOW = 5_000_000_000
GOOD = StageStatus(NOW - 1_000_000, moving=False, on_target=True, servo_on=True, error=0)
BAD: dict[Interlock, dict[str, int | bool]] = {
    Interlock.STAGE_UNSEEN: {"t_ns": NOW - LOST_NS - 1},
    Interlock.STAGE_MOVING: {"moving": True},
    Interlock.STAGE_OFF_TARGET: {"on_target": False},
    Interlock.STAGE_SERVO_OFF: {"servo_on": False},
    Interlock.STAGE_ERROR: {"error": 1024},
}


def look(**changed: int | bool) -> StageStatus:
    return dataclasses.replace(GOOD, **changed)  # type: ignore[arg-type] # each field gets its own type above


def test_a_stage_that_stands_still_lets_the_output_on() -> None:
    assert output_on_refusals(GOOD, NOW) == ()
    assert energised_fault(GOOD, NOW) is None


@pytest.mark.parametrize("interlock", BAD)
def test_each_rule_bites_alone_and_is_the_one_that_does(interlock: Interlock) -> None:
    status = look(**BAD[interlock])
    assert output_on_refusals(status, NOW) == (interlock,)
    assert energised_fault(status, NOW) == (Verdict.STAGE_FAULT, (interlock,))
    without = [rule for rule in STANDING if rule[0] is not interlock]
    assert output_on_refusals(status, NOW, without) == ()
    watched = [rule for rule in WATCHED if rule[0] is not interlock]
    assert energised_fault(status, NOW, rules=watched) is None


def test_every_rule_of_the_tables_is_tried_above() -> None:
    assert [rule[0] for rule in STANDING] == list(BAD)
    assert [rule[0] for rule in WATCHED] == list(BAD)


def test_never_looked_is_refused() -> None:
    assert output_on_refusals(None, NOW) == (Interlock.STAGE_UNSEEN,)
    assert energised_fault(None, NOW) == (Verdict.STAGE_FAULT, (Interlock.STAGE_UNSEEN,))


@pytest.mark.parametrize(("age_ns", "fresh"), [(-1, False), (0, True), (FRESH_NS, True), (FRESH_NS + 1, False)])
def test_a_look_is_fresh_for_200_ms(age_ns: int, fresh: bool) -> None:
    assert FRESH_NS == 200_000_000
    assert (output_on_refusals(look(t_ns=NOW - age_ns), NOW) == ()) is fresh


def test_while_energised_single_polls_may_be_missed() -> None:
    assert energised_fault(look(t_ns=NOW - 4 * POLL_NS), NOW) is None
    assert energised_fault(look(t_ns=NOW - LOST_NS - 1), NOW) is not None


def test_an_allowed_scan_moves_but_may_do_nothing_else_wrong() -> None:
    assert energised_fault(look(moving=True, on_target=False), NOW, scanning=True) is None
    for interlock in (Interlock.STAGE_UNSEEN, Interlock.STAGE_SERVO_OFF, Interlock.STAGE_ERROR):
        status = look(moving=True, **BAD[interlock])
        assert energised_fault(status, NOW, scanning=True) == (Verdict.STAGE_FAULT, (interlock,))


# Moves


def test_the_table_of_moves_has_every_state_and_every_move() -> None:
    assert set(MOVES) == set(itertools.product(State, Move))


@pytest.mark.parametrize("move", Move)
@given(level_v=st.floats(allow_nan=True), max_bias_v=st.floats(0, 10))
def test_under_bias_nothing_moves_above_the_scan_bias(move: Move, level_v: float, max_bias_v: float) -> None:
    refusal = move_refusal(State.ENERGISED, move, level_v=level_v, max_bias_v=max_bias_v)
    assert (refusal is None) is (not math.isnan(level_v) and abs(level_v) <= max_bias_v)
    assert refusal in {None, Interlock.BIAS_ON}


@pytest.mark.parametrize("move", Move)
def test_by_default_nothing_moves_above_zero_and_an_unknown_level_is_too_high(move: Move) -> None:
    assert move_refusal(State.ENERGISED, move, level_v=0.0) is None
    assert move_refusal(State.ENERGISED, move, level_v=-1e-4) is Interlock.BIAS_ON
    assert move_refusal(State.ENERGISED, move) is Interlock.BIAS_ON


def test_with_the_output_verified_off_everything_moves() -> None:
    for state, move in itertools.product((State.SAFE, State.ARMED), Move):
        assert move_refusal(state, move) is None


def test_what_is_not_verified_off_moves_nothing_whatever_the_level() -> None:
    for state, move in itertools.product((State.UNKNOWN, State.CUTTING), Move):
        assert move_refusal(state, move, level_v=0.0, max_bias_v=10.0) is Interlock.BIAS_UNVERIFIED


@pytest.mark.parametrize(("cut_alarm", "last_resort"), list(itertools.product((False, True), repeat=2)))
def test_the_last_resort_needs_the_alarm_and_the_opt_in_and_only_lifts(cut_alarm: bool, last_resort: bool) -> None:
    for state, move in itertools.product(State, Move):
        usual = move_refusal(state, move)
        got = move_refusal(state, move, cut_alarm=cut_alarm, last_resort=last_resort)
        if cut_alarm and last_resort and (state, move) == (State.CUTTING, Move.RETRACT):
            assert got is None
        else:
            assert got is usual


def test_after_a_trip_only_the_way_up_is_free() -> None:
    assert move_refusal(State.TRIPPED, Move.RETRACT) is None
    for move in (Move.LATERAL, Move.APPROACH):
        assert move_refusal(State.TRIPPED, move, level_v=0.0, max_bias_v=10.0) is Interlock.TRIPPED


def test_after_a_trip_the_cut_is_verified_first_then_the_tip_is_lifted_once() -> None:
    assert after_trip(State.CUTTING, lifted=False) is AfterTrip.WAIT
    assert after_trip(State.TRIPPED, lifted=False) is AfterTrip.LIFT
    assert after_trip(State.TRIPPED, lifted=True) is AfterTrip.DONE
    assert after_trip(State.CUTTING, lifted=False, cut_alarm=True) is AfterTrip.WAIT
    assert after_trip(State.CUTTING, lifted=False, cut_alarm=True, last_resort=True) is AfterTrip.LIFT


@pytest.mark.parametrize("key", [key for key, rule in MOVES.items() if rule is not Rule.FREE], ids=str)
def test_each_row_of_the_table_is_what_refuses(key: tuple[State, Move], monkeypatch: pytest.MonkeyPatch) -> None:
    assert move_refusal(*key, level_v=1.0) is not None
    monkeypatch.setitem(interlocks.MOVES, key, Rule.FREE)
    assert move_refusal(*key, level_v=1.0) is None
