"""The I-V plan: its levels, what it refuses, and its steps driven by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.analysis.linear import slope_through_origin
from edge.errors import PlanRefusedError
from edge.experiments.checks import MAX_LEVELS
from edge.experiments.iv import MAX_LISTED, IvPlan
from edge.experiments.reads import BACK_SCAN_V, back_scan
from edge.experiments.steps import Arm, End, Energise, Outcome, Plan, Program, Progress, Ramp, Step
from edge.samples import Flag, Phase, Sample

TO = st.floats(-20, 20).filter(lambda v: abs(v) >= 0.01)
STEPS = st.floats(1e-3, 1.0)


def a_plan(to_v: float, step_v: float) -> IvPlan:
    return IvPlan(to_v=to_v, step_v=min(step_v, abs(to_v)))


def sample(bias_v: float, current_a: float, flags: int = 0) -> Sample:
    return Sample(0, 0, 0, bias_v, current_a, flags, Phase.LRS_READ)


# --------------------------------------------------------------------------------------------------------- levels


@given(TO, STEPS)
def test_levels_start_and_end_at_zero_and_turn_exactly_at_the_end(to_v: float, step_v: float) -> None:
    levels = a_plan(to_v, step_v).levels_v()
    assert len(levels) % 2 == 1
    assert levels[0] == levels[-1] == 0.0
    assert levels[len(levels) // 2] == to_v
    assert levels.count(to_v) == 1


@given(TO, STEPS)
def test_no_level_is_beyond_the_turning_point_or_of_the_other_sign(to_v: float, step_v: float) -> None:
    for level in a_plan(to_v, step_v).levels_v():
        assert abs(level) <= abs(to_v)
        assert level * to_v >= 0


@given(TO, STEPS)
def test_each_leg_is_monotonic_and_no_step_is_larger_than_asked(to_v: float, step_v: float) -> None:
    plan = a_plan(to_v, step_v)
    levels = [abs(level) for level in plan.levels_v()]
    turn = len(levels) // 2
    rises = [after - before for before, after in itertools.pairwise(levels)]
    assert all(rise > 0 for rise in rises[:turn])
    assert all(rise < 0 for rise in rises[turn:])
    # The step is the resolution of the trigger.
    assert max(map(abs, rises)) <= plan.step_v * (1 + 1e-6)
    assert levels == levels[::-1]


@pytest.mark.parametrize(
    ("to_v", "step_v", "levels"),
    [
        (-0.3, 0.1, (0.0, -0.1, -0.2, -0.3, -0.2, -0.1, 0.0)),
        (1.0, 0.7, (0.0, 0.5, 1.0, 0.5, 0.0)),
        (0.5, 0.5, (0.0, 0.5, 0.0)),
    ],
)
def test_levels_as_one_would_write_them(to_v: float, step_v: float, levels: tuple[float, ...]) -> None:
    assert IvPlan(to_v=to_v, step_v=step_v).levels_v() == pytest.approx(levels)


def test_zero_is_never_minus_zero() -> None:
    levels = IvPlan(to_v=-1.0, step_v=0.1).levels_v()
    assert [math.copysign(1.0, level) for level in levels if level == 0] == [1.0, 1.0]


@pytest.mark.parametrize(("to_v", "step_v", "steps"), [(-0.6, 0.002, 300), (1.0, 0.001, 1000), (10.0, 0.1, 100)])
def test_a_whole_number_of_steps_stays_one(to_v: float, step_v: float, steps: int) -> None:
    assert len(IvPlan(to_v=to_v, step_v=step_v).levels_v()) == 2 * steps + 1


# ------------------------------------------------------------------------------------------------------ refusals

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"to_v": "1"}, "iv: to_v: value '1': expected a number"),
    ({"to_v": True}, "iv: to_v: value True: expected a number"),
    ({"to_v": None}, "iv: to_v: value None: expected a number"),
    ({"to_v": math.nan}, "iv: to_v: value nan: expected -20 to 20"),
    ({"to_v": math.inf}, "iv: to_v: value inf: expected -20 to 20"),
    ({"to_v": 20.001}, "iv: to_v: value 20.001: expected -20 to 20"),
    ({"to_v": -21}, "iv: to_v: value -21: expected -20 to 20"),
    ({"to_v": 10**400}, "expected -20 to 20"),
    ({"to_v": 0}, r"iv: to_v: value 0: expected at least one step \(0.1 V\) away from 0"),
    ({"to_v": 0.05}, r"iv: to_v: value 0.05: expected at least one step \(0.1 V\) away from 0"),
    ({"step_v": 0.0}, "iv: step_v: value 0.0: expected 0.0001 to 1"),
    ({"step_v": -0.1}, "iv: step_v: value -0.1: expected 0.0001 to 1"),
    ({"step_v": 1.5}, "iv: step_v: value 1.5: expected 0.0001 to 1"),
    ({"step_v": 1e-5}, "iv: step_v: value 1e-05: expected 0.0001 to 1"),
    ({"to_v": 20.0, "step_v": 1e-4}, "iv: 400000 levels a cycle: expected at most 200000; take a larger step_v"),
    ({"dwell_s": 0}, "iv: dwell_s: value 0: expected 0.001 to 3600"),
    ({"dwell_s": 3601.0}, "iv: dwell_s: value 3601.0: expected 0.001 to 3600"),
    ({"dwell_s": [1]}, r"iv: dwell_s: value \[1\]: expected a number"),
    ({"cycles": 0}, "iv: cycles: value 0: expected 1 to 10000"),
    ({"cycles": 10_001}, "iv: cycles: value 10001: expected 1 to 10000"),
    ({"cycles": 1.5}, "iv: cycles: value 1.5: expected a whole number 1 to 10000"),
    ({"cycles": 2.0}, "iv: cycles: value 2.0: expected a whole number 1 to 10000"),
    ({"cycles": True}, "iv: cycles: value True: expected a number"),
    ({"on_trigger": "go on"}, "iv: on_trigger: value 'go on': expected stop or continue"),
    ({"on_trigger": ["stop"]}, "expected stop or continue"),
    ({"back_scan": 1}, "iv: back_scan: value 1: expected true or false"),
    ({"accept_clamp": "no"}, "iv: accept_clamp: value 'no': expected true or false"),
    ({"accept_clamp": "false"}, "iv: accept_clamp: value 'false': expected true or false"),
    ({"accept_unprotected_host": 0}, "iv: accept_unprotected_host: value 0: expected true or false"),
]


@pytest.mark.parametrize(("parameters", "message"), WRONG)
def test_what_is_wrong_is_named_with_its_value_and_what_was_expected(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanRefusedError, match=message) as caught:
        IvPlan(**{"to_v": -1.0, "step_v": 0.1, **parameters})
    assert caught.value.reason == "bad_plan"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("to_v", [20.0, -20.0, 20, 0.1])
def test_ends_of_the_ranges_are_taken(to_v: float) -> None:
    assert a_plan(to_v, 0.1).v_max_v == abs(to_v)


def test_a_cycle_has_at_most_so_many_levels() -> None:
    assert len(IvPlan(to_v=10.0, step_v=1e-4).levels_v()) == MAX_LEVELS + 1


def test_it_is_a_plan_and_says_what_it_will_do() -> None:
    plan: Plan = IvPlan(to_v=-0.6, step_v=0.1, cycles=3, accept_clamp=True)
    assert plan.name == "iv"
    assert plan.v_max_v == 0.6
    described = plan.describe()
    assert described == {
        "name": "iv",
        "to_v": -0.6,
        "step_v": 0.1,
        "dwell_s": 0.02,
        "cycles": 3,
        "on_trigger": "stop",
        "back_scan": True,
        "after_cut": "off",
        "accept_clamp": True,
        "accept_unprotected_host": False,
        "v_max_v": 0.6,
        "duration_s": plan.duration_s(),
    }


def test_the_longest_duration_counts_levels_cycles_and_scans() -> None:
    def duration(*, dwell_s: float, cycles: int = 1, back_scan: bool = True) -> float:
        return IvPlan(to_v=-1.0, step_v=0.01, dwell_s=dwell_s, cycles=cycles, back_scan=back_scan).duration_s()

    levels_s = 201 * 0.1
    assert duration(dwell_s=0.1, back_scan=False) >= levels_s
    assert duration(dwell_s=0.1, back_scan=False) < levels_s + 5
    assert duration(dwell_s=0.1) > duration(dwell_s=0.1, back_scan=False)
    assert duration(dwell_s=0.1, cycles=7) == pytest.approx(7 * duration(dwell_s=0.1))
    # A level lasts at least one reading.
    assert duration(dwell_s=0.001) >= 201 * 0.021


# ------------------------------------------------------------------------------------------------- driven by hand


class Hand:
    """Drives a program: remembers its steps, and answers each with what the test says."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.steps: list[Step] = []
        self.result: dict[str, Any] | None = None

    def drive(self, *ramps: Outcome) -> list[Step]:
        """Answer the ramps in their order, everything else with an empty outcome; returns the steps that count."""
        answers = iter(ramps)
        outcome: Outcome | None = None
        try:
            while True:
                step = next(self.program) if outcome is None else self.program.send(outcome)
                self.steps.append(step)
                outcome = next(answers) if isinstance(step, Ramp) else Outcome()
        except StopIteration as end:
            self.result = end.value
        return [step for step in self.steps if not isinstance(step, Progress)]

    @property
    def progress(self) -> list[Progress]:
        return [step for step in self.steps if isinstance(step, Progress)]


def kinds(steps: list[Step]) -> str:
    return " ".join(type(step).__name__ for step in steps)


CUT = Outcome(verdict="SURGE_JUMP", event={"trigger_bias_v": -0.31, "set_current_a": -1.2e-5})
READ = Outcome(samples=tuple(sample(v, v / 5_000) for v in (0.0, 0.01, 0.02, 0.01, 0.0, -0.01, -0.02, -0.01, 0.0)))


def test_a_sweep_without_a_trigger() -> None:
    plan = IvPlan(to_v=-0.4, step_v=0.1, dwell_s=0.03, cycles=2)
    hand = Hand(plan.program())
    steps = hand.drive(Outcome(), Outcome())
    assert steps == [Arm(Phase.SEEK, 0.4), Energise(), Ramp(plan.levels_v(), 0.03), End()] * 2
    assert hand.result == {"cycles_done": 2, "triggers_found": 0, "triggers": []}
    assert [p.done for p in hand.progress] == [0.0, 0.5]
    assert hand.progress[1].text == "cycle 2 of 2: 0 -> -0.4 V -> 0"


def test_a_trigger_ends_the_sweep_and_reads_what_formed() -> None:
    hand = Hand(IvPlan(to_v=-0.4, step_v=0.1, cycles=5).program())
    steps = hand.drive(CUT, READ)
    # After the cut the output is off: no End, and the next thing is another Arm.
    assert kinds(steps) == "Arm Energise Ramp Arm Energise Ramp End"
    assert steps[3] == Arm(Phase.LRS_READ, BACK_SCAN_V)
    assert hand.result is not None
    assert (hand.result["cycles_done"], hand.result["triggers_found"]) == (1, 1)
    (trigger,) = hand.result["triggers"]
    assert trigger["lrs"] == {
        "conductance_s": pytest.approx(2e-4),
        "resistance_ohm": pytest.approx(5_000),
        "n": 9,
        "verdict": None,
    }
    assert {k: v for k, v in trigger.items() if k != "lrs"} == {
        "cycle": 0,
        "verdict": "SURGE_JUMP",
        "trigger_bias_v": -0.31,
        "set_current_a": -1.2e-5,
    }
    assert hand.progress[-1].text == "SURGE_JUMP: cut verified; reading what formed"


def test_without_a_back_scan_the_trigger_is_the_end() -> None:
    hand = Hand(IvPlan(to_v=-0.4, step_v=0.1, back_scan=False).program())
    assert kinds(hand.drive(CUT)) == "Arm Energise Ramp"
    assert hand.result is not None
    assert "lrs" not in hand.result["triggers"][0]


def test_a_cut_that_recorded_no_event_is_still_a_trigger() -> None:
    hand = Hand(IvPlan(to_v=-0.4, step_v=0.1, back_scan=False).program())
    hand.drive(Outcome(verdict="PREDICTED"))
    assert hand.result == {
        "cycles_done": 1,
        "triggers_found": 1,
        "triggers": [{"cycle": 0, "verdict": "PREDICTED"}],
    }


def test_continue_goes_on_with_the_next_cycle() -> None:
    plan = IvPlan(to_v=-0.4, step_v=0.1, cycles=3, on_trigger="continue", back_scan=False)
    hand = Hand(plan.program())
    steps = hand.drive(CUT, Outcome(), CUT)
    assert kinds(steps) == "Arm Energise Ramp Arm Energise Ramp End Arm Energise Ramp"
    assert hand.result is not None
    assert hand.result["cycles_done"] == 3
    assert [trigger["cycle"] for trigger in hand.result["triggers"]] == [0, 2]


def test_a_run_with_very_many_triggers_lists_the_last_ones() -> None:
    n = MAX_LISTED + 20
    hand = Hand(IvPlan(to_v=-0.4, step_v=0.1, cycles=n, on_trigger="continue", back_scan=False).program())
    hand.drive(*[CUT] * n)
    assert hand.result is not None
    assert hand.result["triggers_found"] == n
    assert [trigger["cycle"] for trigger in hand.result["triggers"]] == list(range(20, n))


def test_every_program_is_a_fresh_one() -> None:
    plan = IvPlan(to_v=-0.4, step_v=0.1)
    for _ in range(2):
        assert kinds(Hand(plan.program()).drive(Outcome())) == "Arm Energise Ramp End"


def test_a_closed_program_asks_for_nothing_more() -> None:
    # What the controller does after a protective cut.
    program = IvPlan(to_v=-0.4, step_v=0.1, cycles=5).program()
    next(program)
    program.send(Outcome())
    program.close()
    with pytest.raises(StopIteration):
        next(program)


@given(TO, STEPS)
def test_no_ramp_asks_for_more_than_was_armed_and_declared(to_v: float, step_v: float) -> None:
    plan = a_plan(to_v, step_v)
    steps = Hand(plan.program()).drive(CUT, READ)
    armed = 0.0
    for step in steps:
        if isinstance(step, Arm):
            armed = step.v_max_v
        elif isinstance(step, Ramp):
            assert max(map(abs, step.levels_v)) <= armed
    assert steps[0] == Arm(Phase.SEEK, plan.v_max_v)


# ------------------------------------------------------------------------------------------------- the back-scan


def scan(outcome: Outcome) -> tuple[list[Step], dict[str, Any]]:
    hand = Hand(back_scan())
    steps = hand.drive(outcome)
    assert hand.result is not None
    return steps, hand.result


def test_the_back_scan_goes_both_ways_and_never_beyond_20_mv() -> None:
    steps, _ = scan(READ)
    (ramp,) = [step for step in steps if isinstance(step, Ramp)]
    assert ramp.levels_v == pytest.approx((0, 0.01, 0.02, 0.01, 0, -0.01, -0.02, -0.01, 0))
    assert max(map(abs, ramp.levels_v)) == BACK_SCAN_V == 0.020
    assert kinds(steps) == "Arm Energise Ramp End"


def test_untrusted_readings_do_not_count() -> None:
    bad = [sample(0.02, math.nan, flag) for flag in (Flag.OVERFLOW, Flag.NOT_MEASURED, Flag.UNPARSABLE)]
    good = [sample(v, v / 1_000) for v in (0.01, 0.02, -0.02)]
    _, result = scan(Outcome(samples=(*bad, *good)))
    assert result == {
        "conductance_s": pytest.approx(1e-3),
        "resistance_ohm": pytest.approx(1_000),
        "n": 3,
        "verdict": None,
    }


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_readings_give_no_number(n: int) -> None:
    _, result = scan(Outcome(samples=tuple(sample(0.01, 1e-6) for _ in range(n))))
    assert result == {"conductance_s": None, "resistance_ohm": None, "n": n, "verdict": None}


def test_no_current_is_no_resistance() -> None:
    _, result = scan(Outcome(samples=tuple(sample(v, 0.0) for v in (0.01, 0.02, -0.01))))
    assert result == {"conductance_s": 0.0, "resistance_ohm": None, "n": 3, "verdict": None}


def test_a_scan_that_was_cut_says_so_and_ends_nothing() -> None:
    steps, result = scan(Outcome(verdict="HARD_LIMIT"))
    assert kinds(steps) == "Arm Energise Ramp"
    assert result["verdict"] == "HARD_LIMIT"


# ------------------------------------------------------------------------------------------------------- the slope


@given(
    st.floats(-1e-3, 1e-3).filter(lambda g: abs(g) > 1e-12),
    st.lists(st.floats(-1, 1).filter(lambda x: abs(x) > 1e-3), min_size=1, max_size=30),
)
def test_the_slope_of_points_on_a_line_is_the_line(slope: float, xs: list[float]) -> None:
    assert slope_through_origin([(x, slope * x) for x in xs]) == pytest.approx(slope, rel=1e-9)


def test_the_slope_is_that_of_least_squares() -> None:
    # Minimum of (1 - m)^2 + (5 - 2m)^2 at m = 11/5.
    assert slope_through_origin([(1.0, 1.0), (2.0, 5.0)]) == pytest.approx(2.2)


@pytest.mark.parametrize("points", [[], [(0.0, 1.0)], [(0.0, 1.0), (-0.0, 2.0)]])
def test_without_extent_there_is_no_slope(points: list[tuple[float, float]]) -> None:
    assert slope_through_origin(points) is None
