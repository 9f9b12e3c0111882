"""Memristor cycling: what it refuses, and its steps driven by hand: sets, resets, bounds, failures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import PlanRefusedError
from edge.experiments.memristor import MemristorPlan, on_off
from edge.experiments.reads import EVENT_FIELDS, HrsRead, Zero, data_sheet_zero
from edge.experiments.steps import (
    About,
    Approach,
    Arm,
    BrokenOffError,
    Energise,
    Lift,
    MoveTo,
    Outcome,
    Plan,
    Progress,
    Publish,
    Ramp,
    Step,
    StepFailedError,
)
from edge.samples import Flag, Phase, Sample

Drive = Callable[..., tuple[list[Step], Any]]
PA = 1e-12
OHM = 9_500.0
CYCLE_KEYS = {
    *("cycle", "of", "set", "verdict", *EVENT_FIELDS, "lrs", "reset_bias_v", "hrs", "on_off", "on_off_is_bound"),
    "reset_ok",
}

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"cycles": 0}, "cycles: value 0: expected 1 to 10000"),
    ({"cycles": 2.0}, "cycles: value 2.0: expected a whole number"),
    ({"set_v": 0.2}, "set_v: value 0.2: expected -20 to -0.0001"),
    ({"set_v": 0.0}, "set_v: value 0.0: expected -20 to -0.0001"),
    ({"set_v": math.nan}, "set_v: value nan: expected"),
    ({"set_v": "-0.2"}, "set_v: value '-0.2': expected a number"),
    ({"reset_v": -1.0}, "reset_v: value -1.0: expected 0.0001 to 20"),
    ({"reset_v": 21}, "reset_v: value 21: expected 0.0001 to 20"),
    ({"set_rate_v_s": 0}, "set_rate_v_s: value 0: expected 0.0001 to 100"),
    ({"reset_rate_v_s": 1e3}, "reset_rate_v_s: value 1000.0: expected 0.0001 to 100"),
    ({"set_dwell_s": -1}, "set_dwell_s: value -1: expected 0 to 3600"),
    ({"level_s": 0}, "level_s: value 0: expected 0.001 to 10"),
    ({"reset_v": 20.0, "reset_rate_v_s": 1e-4, "level_s": 0.001}, "reset_rate_v_s: 200000000 levels: expected at most"),
    ({"x_m": 1e-6}, "x_m, y_m: value .*: expected both or neither"),
    ({"y_m": 1e-6}, "x_m, y_m: value .*: expected both or neither"),
    ({"x_m": 2.0, "y_m": 0.0}, "x_m: value 2.0: expected -1 to 1"),
    ({"x_m": 0.0, "y_m": math.nan}, "y_m: value nan: expected -1 to 1"),
    ({"zero": "yes"}, "zero: value 'yes': expected true or false"),
    ({"hrs_setting": "HRS_READ"}, "hrs_setting: value 'HRS_READ': expected hrs_read or reset"),
    ({"max_failures": 0}, "max_failures: value 0: expected 1 to 10000"),
    ({"accept_clamp": 1}, "accept_clamp: value 1: expected true or false"),
    ({"accept_unprotected_host": "no"}, "accept_unprotected_host: value 'no': expected true or false"),
]


@pytest.mark.parametrize(("parameters", "message"), WRONG)
def test_what_is_wrong_is_named_with_its_value_and_what_was_expected(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanRefusedError, match=f"memristor: {message}") as caught:
        MemristorPlan(**parameters)
    assert caught.value.reason == "bad_plan"
    assert "\n" not in str(caught.value)


def test_an_unhashable_setting_is_refused_like_any_other() -> None:
    with pytest.raises(PlanRefusedError, match=r"hrs_setting: value .*: expected hrs_read or reset"):
        MemristorPlan(hrs_setting=["hrs_read"])  # type: ignore[arg-type]


def test_it_is_a_plan_and_says_what_it_will_do() -> None:
    plan: Plan = MemristorPlan(x_m=1e-6, y_m=2e-6)
    assert (plan.name, plan.needs_stage, plan.v_max_v) == ("memristor", True, 1.0)
    assert plan.targets_m == ((1e-6, 2e-6),)
    assert plan.describe()["duration_s"] == plan.duration_s()
    assert MemristorPlan(set_v=-3.0).v_max_v == 3.0


def test_it_needs_a_stage_only_to_move_or_to_read_the_zero() -> None:
    assert MemristorPlan().needs_stage
    assert MemristorPlan(zero=False, x_m=0.0, y_m=0.0).needs_stage
    bare = MemristorPlan(zero=False)
    assert not bare.needs_stage
    assert bare.targets_m == ()


def test_the_longest_duration_counts_cycles_ramps_and_dwell() -> None:
    one = MemristorPlan(cycles=10).duration_s()
    assert MemristorPlan(cycles=20).duration_s() > 1.8 * one - 20
    assert MemristorPlan(cycles=10, set_dwell_s=60.0).duration_s() > one + 580
    assert MemristorPlan(cycles=10, reset_rate_v_s=0.01).duration_s() > one + 900


# ------------------------------------------------------------------------------------------------------ driven by hand

EVENT = {
    "trigger_bias_v": -0.14,
    "trigger_half_v": 0.01,
    "set_current_a": -1e-5,
    "charge_c": 1e-7,
    "onset_ns": 1,
    "reading_ns": 2,
    "decided_ns": 3,
    "verified_ns": 4,
}


@dataclasses.dataclass
class Site:
    """A memristor behind the steps. ``on``: conducts. ``sets``, ``resets``: whether it does, per try, the last one for
    all that follow. ``hrs_a``: its current at 0.1 V when it is off. ``fail``: raise at the n-th step of a kind.
    """

    on: bool = False
    sets: tuple[bool, ...] = (True,)
    set_in_dwell: bool = False
    resets: tuple[bool, ...] = (True,)
    hrs_a: float = 2 * PA
    ohm: float = OHM
    fail: dict[type, set[int]] = dataclasses.field(default_factory=dict)
    phase: Phase = Phase.IDLE
    tries: dict[str, int] = dataclasses.field(default_factory=lambda: {"set": 0, "reset": 0})
    seen: dict[type, int] = dataclasses.field(default_factory=dict)

    def __call__(self, step: Step) -> Outcome | StepFailedError | None:
        kind = type(step)
        n = self.seen.get(kind, 0)
        self.seen[kind] = n + 1
        if n in self.fail.get(kind, ()):
            return StepFailedError(f"{kind.__name__} {n} went wrong")
        if isinstance(step, Arm):
            self.phase = step.phase
        return self.ramp(step) if isinstance(step, Ramp) else None

    def next(self, what: str, says: tuple[bool, ...]) -> bool:
        n = self.tries[what]
        self.tries[what] = n + 1
        return says[min(n, len(says) - 1)]

    def ramp(self, step: Ramp) -> Outcome:
        if self.phase is Phase.SEEK:
            dwelling = len(step.levels_v) == 1
            if dwelling is self.set_in_dwell and self.next("set", self.sets):
                self.on = True
                return Outcome("SURGE_JUMP", (), EVENT)
            return Outcome()
        if self.phase is Phase.RESET and len(step.levels_v) > 5 and step.levels_v[-1] != step.levels_v[0]:
            opens = self.next("reset", self.resets)
            samples = []
            for v in step.levels_v:
                self.on = self.on and not (opens and v > 0.6)
                samples.append(self.sample(v))
            return Outcome(samples=tuple(samples))
        return Outcome(samples=tuple(self.sample(v) for v in step.levels_v))

    def sample(self, v: float) -> Sample:
        current_a = v / self.ohm if self.on else self.hrs_a * v / 0.1
        limit_a = {Phase.HRS_READ: 1.05e-6}.get(self.phase, math.inf)
        flags = Flag.RANGE_COMPLIANCE if abs(current_a) > limit_a else 0
        return Sample(0, 0, 0, v, current_a, flags, self.phase)


def published(steps: list[Step], kind: str) -> list[dict[str, Any]]:
    return [step.document for step in steps if isinstance(step, Publish) and step.kind == kind]


def armed(steps: list[Step]) -> str:
    return " ".join(step.phase.name for step in steps if isinstance(step, Arm))


BARE = MemristorPlan(cycles=3, zero=False)
CYCLE = " SEEK LRS_READ RESET HRS_READ"


def test_three_cycles_on_their_own_ranges(by_hand: Drive) -> None:
    steps, results = by_hand(BARE.program(), Site())
    assert armed(steps) == "HRS_READ" + 3 * CYCLE
    assert not any(isinstance(step, Lift | MoveTo | Approach) for step in steps)
    cycles = published(steps, "cycle")
    assert [set(document) for document in cycles] == [CYCLE_KEYS] * 3
    assert [document["cycle"] for document in cycles] == [0, 1, 2]
    for document in cycles:
        assert (document["of"], document["set"], document["verdict"]) == (3, True, "SURGE_JUMP")
        assert {name: document[name] for name in EVENT_FIELDS} == EVENT
        assert document["lrs"]["resistance_ohm"] == pytest.approx(OHM)
        assert document["reset_bias_v"] == pytest.approx(0.6, abs=0.05)
        # What is below the detection limit gives a bound.
        assert document["on_off"] == pytest.approx(0.1 / OHM / data_sheet_zero(Phase.HRS_READ).lod_a)
        assert document["on_off_is_bound"] is True
        assert document["reset_ok"] is True
    expected = {
        "start": "hrs",
        "cycles_done": 3,
        "set": 3,
        "reset_ok": 3,
        "on_off_median": cycles[0]["on_off"],
        "n_resolved": 0,
        "n_bound": 3,
        "lod_a": data_sheet_zero(Phase.HRS_READ).lod_a,
    }
    assert results | expected == results


def test_the_ramps_are_those_that_were_asked_for(by_hand: Drive) -> None:
    plan = MemristorPlan(cycles=1, set_v=-0.25, zero=False)
    steps, _ = by_hand(plan.program(), Site())
    set_, reset = [step for step in steps if isinstance(step, Ramp) and len(step.levels_v) > 9]
    assert (set_.levels_v[0], set_.levels_v[-1]) == (0.0, -0.25)
    assert (reset.levels_v[0], reset.levels_v[-1]) == (0.0, 1.0)
    # 1 V/s and 2 V/s.
    assert (len(set_.levels_v) - 1) * set_.dwell_s == pytest.approx(0.25, abs=0.024)
    assert (len(reset.levels_v) - 1) * reset.dwell_s == pytest.approx(0.5, abs=0.024)


def test_it_waits_at_the_end_of_the_ramp_for_what_comes_late(by_hand: Drive) -> None:
    plan = MemristorPlan(cycles=1, set_dwell_s=2.0, zero=False)
    steps, results = by_hand(plan.program(), Site(set_in_dwell=True))
    assert Ramp((-0.2,), 2.0) in steps
    assert results["set"] == 1
    steps, results = by_hand(MemristorPlan(cycles=1, set_dwell_s=0.0, zero=False).program(), Site(set_in_dwell=True))
    assert not any(isinstance(step, Ramp) and step.levels_v == (-0.2,) for step in steps)
    assert results["set"] == 0


def test_with_a_stage_the_limit_is_measured_at_the_lifted_tip(by_hand: Drive) -> None:
    plan = MemristorPlan(cycles=1, x_m=1e-6, y_m=2e-6)
    steps, results = by_hand(plan.program(), Site())
    order = [type(step).__name__ for step in steps if isinstance(step, Lift | MoveTo | Approach | Energise)]
    assert order[:4] == ["Lift", "Energise", "MoveTo", "Approach"]
    assert order[-1] == "Lift"
    (zero,) = published(steps, "zero")
    assert (zero["source"], zero["n"], zero["setting"]) == ("lifted tip", 30, "HRS_READ")
    # It is kept before the tip comes down.
    kinds = [type(step) for step in steps if isinstance(step, Publish | Approach)]
    assert kinds[:2] == [Publish, Approach]
    assert results["lod_a"] == zero["lod_a"]


def test_where_the_tip_stands_it_lifts_reads_and_lands_again(by_hand: Drive) -> None:
    steps, _ = by_hand(MemristorPlan(cycles=1).program(), Site())
    assert not any(isinstance(step, MoveTo) for step in steps)
    assert sum(isinstance(step, Approach) for step in steps) == 1


def test_events_carry_their_cycle(by_hand: Drive) -> None:
    steps, _ = by_hand(BARE.program(), Site())
    assert [step.context["cycle"] for step in steps if isinstance(step, About)] == [0, 1, 2]


# ------------------------------------------------------------------------------------------------------------ the ratio

LOD_A = 330 * PA


def a_read(current_a: float | None, *, saturated: bool = False) -> HrsRead:
    zero = Zero(Phase.HRS_READ, 30, 0.0, 10 * PA, 300 * PA, "lifted tip")
    return HrsRead(0.1, current_a, 5, saturated, zero, None)


@given(st.floats(1e-6, 1e-3), st.floats(-1e-6, 1e-6))
def test_the_ratio_is_a_bound_exactly_when_nothing_was_seen(lrs_s: float, current_a: float) -> None:
    ratio, bound = on_off(lrs_s, a_read(current_a))
    assert ratio is not None
    assert bound is (abs(current_a) <= LOD_A)
    assert ratio == pytest.approx(lrs_s * 0.1 / max(abs(current_a), LOD_A))


@pytest.mark.parametrize(
    ("lrs_s", "read"), [(None, a_read(1e-12)), (1e-4, a_read(None)), (1e-4, a_read(1e-7, saturated=True))]
)
def test_without_both_reads_there_is_no_ratio(lrs_s: float | None, read: HrsRead) -> None:
    assert on_off(lrs_s, read) == (None, False)


def test_a_current_that_is_seen_gives_a_ratio(by_hand: Drive) -> None:
    steps, results = by_hand(BARE.program(), Site(hrs_a=2e-9))
    for document in published(steps, "cycle"):
        assert document["on_off"] == pytest.approx(0.1 / OHM / 2e-9)
        assert document["on_off_is_bound"] is False
        assert document["reset_ok"] is True
    assert (results["n_resolved"], results["n_bound"]) == (3, 0)


def test_a_reset_by_less_than_three_decades_is_none(by_hand: Drive) -> None:
    # 10.5 uA on; a thousandth is 10.5 nA.
    for hrs_a, ok in ((10e-9, True), (11e-9, False)):
        steps, _ = by_hand(MemristorPlan(cycles=1, zero=False).program(), Site(hrs_a=hrs_a))
        assert published(steps, "cycle")[0]["reset_ok"] is ok


def test_on_the_reset_range_the_bound_is_that_of_the_range(by_hand: Drive) -> None:
    plan = MemristorPlan(cycles=1, zero=False, hrs_setting="reset")
    steps, _ = by_hand(plan.program(), Site())
    assert armed(steps) == "RESET SEEK LRS_READ RESET RESET"
    (document,) = published(steps, "cycle")
    assert document["on_off_is_bound"] is True
    assert document["on_off"] < 100
    (zero,) = published(steps, "zero")
    assert (zero["setting"], zero["lod_a"]) == ("RESET", pytest.approx(860e-9))


# -------------------------------------------------------------------------------------------------------- the beginning


@pytest.mark.parametrize("current_a", [3e-7, -3e-7, 8e-7])
def test_on_the_reset_range_an_offset_is_no_filament(by_hand: Drive, current_a: float) -> None:
    # 300 nA are within that range's 560 nA; at 0.1 V they would be 3 uS.
    plan = MemristorPlan(cycles=1, zero=False, hrs_setting="reset")
    _, results = by_hand(plan.program(), Site(hrs_a=current_a))
    assert results["start"] == "hrs"


def test_a_site_that_conducts_from_the_start_is_reset_first(by_hand: Drive) -> None:
    steps, results = by_hand(BARE.program(), Site(on=True))
    assert armed(steps) == "HRS_READ LRS_READ RESET HRS_READ" + 3 * CYCLE
    (start,) = published(steps, "lrs_at_start")
    assert start["lrs"]["resistance_ohm"] == pytest.approx(OHM)
    assert (start["reset_ok"], start["reset_bias_v"]) == (True, pytest.approx(0.6, abs=0.05))
    assert results["start"] == "lrs"
    # It is in no cycle.
    assert results["cycles_done"] == 3
    assert len(published(steps, "cycle")) == 3


def test_a_site_that_stays_on_is_refused(by_hand: Drive) -> None:
    steps, error = by_hand(BARE.program(), Site(on=True, resets=(False,)))
    assert isinstance(error, BrokenOffError)
    assert "conducts from the start (9.5e+03 ohm)" in str(error)
    assert "take another site" in str(error)
    assert published(steps, "lrs_at_start")[0]["reset_ok"] is False
    assert "SEEK" not in armed(steps)
    assert error.results["cycles_done"] == 0
    assert error.results["start"] == "lrs"


# ----------------------------------------------------------------------------------------------------------- what fails


def test_a_site_that_does_not_set_ends_after_its_failures_with_the_cycles_kept(by_hand: Drive) -> None:
    plan = MemristorPlan(cycles=10, zero=False, max_failures=3)
    steps, error = by_hand(plan.program(), Site(sets=(True, True, False)))
    assert isinstance(error, BrokenOffError)
    assert "was not set" in str(error)
    assert "5 cycles are finished and kept" in str(error)
    assert [document["set"] for document in published(steps, "cycle")] == [True, True, False, False, False]
    assert error.results["cycles_done"] == 5
    assert error.results["set"] == 2


def test_a_cycle_without_a_set_has_every_field_and_no_ratio(by_hand: Drive) -> None:
    steps, results = by_hand(MemristorPlan(cycles=1, zero=False).program(), Site(sets=(False,)))
    (document,) = published(steps, "cycle")
    assert set(document) == CYCLE_KEYS
    assert (document["set"], document["verdict"], document["lrs"], document["on_off"]) == (False, None, None, None)
    assert all(document[name] is None for name in EVENT_FIELDS)
    # Nothing was seen after the reset sweep: that is a high resistance, whatever came before.
    assert document["reset_ok"] is True
    assert results["on_off_median"] is None


def test_a_site_that_does_not_reset_ends_after_its_failures(by_hand: Drive) -> None:
    plan = MemristorPlan(cycles=10, zero=False, max_failures=2)
    steps, error = by_hand(plan.program(), Site(resets=(True, False)))
    assert isinstance(error, BrokenOffError)
    assert "was not reset" in str(error)
    documents = published(steps, "cycle")
    assert [document["reset_ok"] for document in documents] == [True, False, False]
    assert documents[-1]["reset_bias_v"] is None
    # Saturated: no number for the high resistance, none for the ratio.
    assert (documents[-1]["hrs"]["saturated"], documents[-1]["on_off"]) == (True, None)


def test_failures_that_are_not_in_a_row_end_nothing(by_hand: Drive) -> None:
    plan = MemristorPlan(cycles=6, zero=False, max_failures=2)
    _, results = by_hand(plan.program(), Site(sets=(False, True, False, True, False, True)))
    assert (results["cycles_done"], results["set"]) == (6, 3)


def test_the_last_cycle_may_fail(by_hand: Drive) -> None:
    plan = MemristorPlan(cycles=2, zero=False, max_failures=2)
    _, results = by_hand(plan.program(), Site(sets=(False,)))
    assert results["cycles_done"] == 2


def test_a_step_that_fails_in_a_cycle_keeps_the_ones_before(by_hand: Drive) -> None:
    # 0: the read before; then four a cycle.
    steps, error = by_hand(MemristorPlan(cycles=5, zero=False).program(), Site(fail={Energise: {10}}))
    assert isinstance(error, BrokenOffError)
    assert "cycle 3 of 5: Energise 10 went wrong. 2 cycles are finished and kept" in str(error)
    assert error.results["cycles_done"] == 2
    assert len(published(steps, "cycle")) == 2


def test_a_tip_that_cannot_be_lifted_at_the_end_keeps_every_cycle(by_hand: Drive) -> None:
    _, error = by_hand(MemristorPlan(cycles=2).program(), Site(fail={Lift: {1}}))
    assert isinstance(error, BrokenOffError)
    assert error.results["cycles_done"] == 2


@pytest.mark.parametrize("failing", [Lift, MoveTo, Approach])
def test_a_beginning_that_fails_is_the_runs_reason(by_hand: Drive, failing: type[Step]) -> None:
    _, error = by_hand(MemristorPlan(x_m=0.0, y_m=0.0).program(), Site(fail={failing: {0}}))
    assert isinstance(error, StepFailedError)


def test_no_ramp_asks_for_more_than_was_armed_and_no_arming_for_more_than_declared(by_hand: Drive) -> None:
    for plan in (BARE, MemristorPlan(cycles=2, hrs_setting="reset"), MemristorPlan(cycles=1, set_v=-3.0, reset_v=2.0)):
        level = 0.0
        for step in by_hand(plan.program(), Site(on=True))[0]:
            if isinstance(step, Arm):
                level = step.v_max_v
                assert level <= plan.v_max_v
            elif isinstance(step, Ramp):
                assert max(map(abs, step.levels_v)) <= level


def test_progress_goes_forward(by_hand: Drive) -> None:
    steps, _ = by_hand(BARE.program(), Site())
    said = [step for step in steps if isinstance(step, Progress)]
    assert [p.done for p in said] == sorted(p.done for p in said)
    assert "cycle 2 of 3: SURGE_JUMP, cut; reading what formed" in {p.text for p in said}
