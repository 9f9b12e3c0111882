"""The trigger map: what it refuses, its order, and its steps driven by hand: each class, each fault of the stage."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import PlanRefusedError
from edge.experiments.reads import EVENT_FIELDS, HRS_BIAS_V
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
    Touch,
)
from edge.experiments.trigger_map import MAX_POINTS, TriggerMapPlan
from edge.samples import Flag, Phase, Sample

Drive = Callable[..., tuple[list[Step], Any]]
UM = 1e-6
PA = 1e-12
POINT_KEYS = {
    *("index", "visit", "of", "label", "site_kind", "x_m", "y_m", "position_m", "class", "reason", "rate_v_s", "to_v"),
    *("trigger_bias_v", "trigger_half_v", "beyond_v", "verdict", "set_current_a", "charge_c", "onset_ns", "reading_ns"),
    *("decided_ns", "verified_ns", "landed_ns", "began_ns", "hrs", "after", "measured_rate_v_s"),
}
"""What every point's document has, whatever became of the point; kind, uid, t_ns and run are the runner's."""


def row(n: int, kind: str = "gb") -> list[Any]:
    return [n * UM, 2 * n * UM, kind, f"P{n}"]


# ------------------------------------------------------------------------------------------------------------ refusals

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"points": []}, "points: value .*: expected 1 to 4096 rows"),
    ({"points": "a.csv"}, "points: value 'a.csv': expected 1 to 4096 rows"),
    ({"points": None}, "points: value None: expected 1 to 4096 rows"),
    ({"points": [[0.0, 0.0]] * (MAX_POINTS + 1)}, "points: value .*: expected 1 to 4096 rows"),
    ({"points": [row(1), [1e-6]]}, r"points\[1\]: value .*: expected \[x_m, y_m\]"),
    ({"points": [row(1), row(2), [0.0, 0.0, "gb", "a", 1]]}, r"points\[2\]: value .*: expected"),
    ({"points": [row(1), "12"]}, r"points\[1\]: value '12': expected"),
    ({"points": [["1", 0.0]]}, r"points\[0\]\.x: value '1': expected a number"),
    ({"points": [[0.0, True]]}, r"points\[0\]\.y: value True: expected a number"),
    ({"points": [[0.0, math.nan]]}, r"points\[0\]\.y: value nan: expected -1 to 1"),
    ({"points": [[50.0, 50.0]]}, r"points\[0\]\.x: value 50.0: expected -1 to 1"),
    ({"points": [[0.0, 0.0, "GB"]]}, r"points\[0\]\.kind: value 'GB': expected gb, gi, hl or nothing"),
    ({"points": [[0.0, 0.0, ["gb"]]]}, r"points\[0\]\.kind: value .*: expected"),
    ({"points": [[0.0, 0.0, "gb", 7]]}, r"points\[0\]\.label: value 7: expected up to 64 printable"),
    ({"points": [[0.0, 0.0, "gb", "a\nb"]]}, r"points\[0\]\.label: value .*: expected up to 64 printable"),
    ({"points": [[0.0, 0.0, "gb", "x" * 65]]}, r"points\[0\]\.label: .*expected up to 64 printable"),
    ({"to_v": 0.0}, r"to_v: value 0.0: expected at least one step \(0.0024 V\) away from 0"),
    ({"to_v": 20.5}, "to_v: value 20.5: expected -20 to 20"),
    ({"to_v": math.nan}, "to_v: value nan: expected -20 to 20"),
    ({"rate_v_s": 0.0}, "rate_v_s: value 0.0: expected 0.0001 to 100"),
    ({"to_v": -20.0, "rate_v_s": 1e-4}, "to_v: 8333333 levels: expected at most 200000; take a larger level_s"),
    ({"level_s": 0.0}, "level_s: value 0.0: expected 0.001 to 10"),
    ({"sweeps": [["gb", -1, 1]]}, "sweeps: value .*: expected a map of kind to"),
    ({"sweeps": {"gB": [-1.0, 1.0]}}, "sweeps: value 'gB': expected gb, gi or hl"),
    ({"sweeps": {7: [-1.0, 1.0]}}, "sweeps: value '7': expected gb, gi or hl"),
    ({"sweeps": {"gb": [-1.0]}}, r"sweeps.gb: value \[-1.0\]: expected \[to_v, rate_v_s\]"),
    ({"sweeps": {"gb": -1.0}}, "sweeps.gb: value -1.0: expected"),
    ({"sweeps": {"gb": [-1.0, math.inf]}}, "sweeps.gb.rate_v_s: value inf: expected 0.0001 to 100"),
    ({"sweeps": {"gb": [-30.0, 1.0]}}, "sweeps.gb.to_v: value -30.0: expected -20 to 20"),
    # A mistake in one that no point uses does not wait for the next map.
    ({"sweeps": {"hl": [-30.0, 1.0]}}, "sweeps.hl.to_v: value -30.0: expected -20 to 20"),
    ({"seed": -1}, "seed: value -1: expected 0 to"),
    ({"seed": 1.0}, "seed: value 1.0: expected a whole number"),
    ({"order": "random"}, "order: value 'random': expected interleaved or listed"),
    ({"order": None}, "order: value None: expected interleaved or listed"),
    ({"zero": 1}, "zero: value 1: expected true or false"),
    ({"electrical_check": "false"}, "electrical_check: value 'false': expected true or false"),
    ({"max_invalid": 0}, "max_invalid: value 0: expected 1 to 4096"),
    ({"accept_clamp": "no"}, "accept_clamp: value 'no': expected true or false"),
    ({"accept_unprotected_host": None}, "accept_unprotected_host: value None: expected true or false"),
]


@pytest.mark.parametrize(("parameters", "message"), WRONG)
def test_what_is_wrong_is_named_with_its_value_and_what_was_expected(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanRefusedError, match=f"trigger-map: {message}") as caught:
        TriggerMapPlan(**{"points": [row(1)], **parameters})
    assert caught.value.reason == "bad_plan"
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_it_is_a_plan_and_says_what_it_will_do() -> None:
    points = [row(1), row(2, "gi"), [3 * UM, 0.0], [4 * UM, 0.0, ""]]
    plan: Plan = TriggerMapPlan(points=points, to_v=-0.7, sweeps={"gi": [-8.0, 1.0]}, max_invalid=3)
    assert (plan.name, plan.needs_stage, plan.v_max_v) == ("trigger-map", True, 8.0)
    assert plan.targets_m == ((1 * UM, 2 * UM), (2 * UM, 4 * UM), (3 * UM, 0.0), (4 * UM, 0.0))
    described = plan.describe()
    # Up to 4096 points have documents of their own; a start document must stay small.
    assert "points" not in described
    assert (described["n_points"], described["kinds"]) == (4, {"gb": 1, "gi": 1, "": 2})
    assert described["sweeps"] == {"gi": [-8.0, 1.0]}
    assert described["duration_s"] == plan.duration_s()
    assert {field.name for field in dataclasses.fields(TriggerMapPlan) if field.init} - {"points"} <= set(described)


def test_the_largest_bias_is_that_of_the_kinds_that_are_there() -> None:
    assert TriggerMapPlan(points=[row(1)], sweeps={"gi": [-10.0, 1.0]}).v_max_v == 0.5
    assert TriggerMapPlan(points=[row(1), row(2, "hl")], sweeps={"hl": [5.0, 1.0]}).v_max_v == 5.0


def test_the_longest_duration_counts_points_and_levels() -> None:
    one = TriggerMapPlan(points=[row(1, "gi")], sweeps={"gi": [-10.0, 0.1]})
    assert 100.0 < one.duration_s() < 150.0
    ten = TriggerMapPlan(points=[row(n, "gi") for n in range(10)], sweeps={"gi": [-10.0, 0.1]})
    assert ten.duration_s() > 9 * (one.duration_s() - 10)
    # A level lasts at least one reading, whatever was asked for.
    fast = TriggerMapPlan(points=[row(1, "gi")], sweeps={"gi": [-10.0, 100.0]}, level_s=0.001)
    assert fast.duration_s() > 100 * 0.021


# ---------------------------------------------------------------------------------------------------------- the order

KINDS = st.dictionaries(st.sampled_from(["gb", "gi", "hl", ""]), st.integers(1, 40), min_size=1)


def mixed(counts: dict[str, int], seed: int = 0, order: str = "interleaved") -> TriggerMapPlan:
    kinds = [kind for kind, n in counts.items() for _ in range(n)]
    return TriggerMapPlan(points=[[n * UM, 0.0, kind] for n, kind in enumerate(kinds)], seed=seed, order=order)


@given(KINDS, st.integers(0, 2**32 - 1))
def test_every_stretch_has_its_share_of_each_kind(counts: dict[str, int], seed: int) -> None:
    visits = mixed(counts, seed=seed).visits()
    assert sorted(point.index for point in visits) == list(range(len(visits)))
    total = len(visits)
    so_far: collections.Counter[str] = collections.Counter()
    for n, point in enumerate(visits, 1):
        so_far[point.kind] += 1
        for kind, count in counts.items():
            # Within one of its share at a time of the run; as many again for not knowing the time.
            assert abs(so_far[kind] - count * n / total) < 1 + count * len(counts) / total


@given(KINDS, st.integers(0, 2**32 - 1))
def test_the_same_seed_gives_the_same_order(counts: dict[str, int], seed: int) -> None:
    assert mixed(counts, seed=seed).visits() == mixed(counts, seed=seed).visits()


def test_another_seed_gives_another_order() -> None:
    orders = {tuple(p.index for p in mixed({"gb": 20, "gi": 20}, seed=seed).visits()) for seed in range(20)}
    assert len(orders) == 20
    # Each place of the list comes early as often as late: no drift is taken for a place.
    first = collections.Counter(mixed({"gb": 10}, seed=seed).visits()[0].index for seed in range(500))
    assert min(first[n] for n in range(10)) > 25


def test_listed_is_as_listed() -> None:
    plan = mixed({"gb": 5, "gi": 5}, order="listed")
    assert [point.index for point in plan.visits()] == list(range(10))


# ----------------------------------------------------------------------------------------------------- driven by hand

EVENT = {
    "trigger_bias_v": -0.121,
    "trigger_half_v": 0.001,
    "set_current_a": -7e-6,
    "charge_c": 6e-8,
    "onset_ns": 41,
    "reading_ns": 42,
    "decided_ns": 43,
    "verified_ns": 44,
    "phase": "SEEK",
}


@dataclasses.dataclass
class Bench:
    """Answers the steps of a map. ``trigger``: the sweep ends in a planned cut. ``before_a``, ``after_a``: currents of
    the reads at 0.1 V before, and at the check after. ``touching``: after the sweep. ``fail``: raise at the n-th step
    of a kind, counted from 0.
    """

    trigger: bool = False
    before_a: float = 3 * PA
    after_a: float = 1e-9
    touching: bool = True
    fail: dict[type, set[int]] = dataclasses.field(default_factory=dict)
    phase: Phase = Phase.IDLE
    seen: collections.Counter[type] = dataclasses.field(default_factory=collections.Counter)
    swept: bool = False

    def __call__(self, step: Step) -> Outcome | StepFailedError | None:
        kind = type(step)
        n, self.seen[kind] = self.seen[kind], self.seen[kind] + 1
        if n in self.fail.get(kind, ()):
            return StepFailedError(f"{kind.__name__} {n} went wrong")
        if isinstance(step, Arm):
            self.phase = step.phase
        if isinstance(step, Approach):
            self.swept = False
            return Outcome(t_ns=77, position_m={"1": 1.0, "2": 2.0, "3": 3.0}, touching=True)
        if isinstance(step, Touch):
            return Outcome(touching=self.touching)
        return self.ramp(step) if isinstance(step, Ramp) else None

    def ramp(self, step: Ramp) -> Outcome:
        if self.phase is Phase.SEEK:
            self.swept = True
            cut = step.levels_v[: len(step.levels_v) // 2] if self.trigger else step.levels_v
            samples = tuple(Sample(int(n * step.dwell_s * 1e9), 0, 0, v, 0.0, 0, Phase.SEEK) for n, v in enumerate(cut))
            return Outcome(*(("SURGE_JUMP", samples, EVENT) if self.trigger else (None, samples)))
        if self.phase is Phase.LRS_READ:
            return Outcome(samples=tuple(Sample(0, 0, 0, v, v / 18_000, 0, self.phase) for v in step.levels_v))
        current_a = 0.0 if len(step.levels_v) == 30 else self.after_a if self.swept else self.before_a
        flags = Flag.RANGE_COMPLIANCE if abs(current_a) > 1.05e-6 else 0
        return Outcome(samples=tuple(Sample(0, 0, 0, v, current_a, flags, self.phase) for v in step.levels_v))


def published(steps: list[Step], kind: str) -> list[dict[str, Any]]:
    return [step.document for step in steps if isinstance(step, Publish) and step.kind == kind]


def kinds(steps: list[Step]) -> str:
    return " ".join(type(step).__name__ for step in steps if not isinstance(step, Progress | About | Publish))


def counts(results: dict[str, Any], kind: str = "gb") -> dict[str, int]:
    of = results["kinds"][kind]
    found = {name: of[name] for name in ("triggered", "censored", "lrs_at_start", "invalid")}
    assert sum(found.values()) == of["n"]
    return found


ZERO_STEPS = "Lift Arm Energise Ramp End "
BEFORE = "MoveTo Approach Arm Energise Ramp End "


def test_a_point_that_triggers(by_hand: Drive) -> None:
    plan = TriggerMapPlan(points=[row(5)])
    steps, results = by_hand(plan.program(), Bench(trigger=True))
    assert kinds(steps) == ZERO_STEPS + BEFORE + "Arm Energise Ramp Arm Energise Ramp End Lift"
    # After the cut the output is off: no End between the sweep and the read of what formed.
    assert [step for step in steps if isinstance(step, Arm)] == [
        Arm(Phase.HRS_READ, 0.1),
        Arm(Phase.HRS_READ, 0.1),
        Arm(Phase.SEEK, 0.5),
        Arm(Phase.LRS_READ, 0.02),
    ]
    assert MoveTo(5 * UM, 10 * UM) in steps
    (sweep,) = [step for step in steps if isinstance(step, Ramp) and len(step.levels_v) > 100]
    assert (sweep.levels_v[0], sweep.levels_v[-1], sweep.dwell_s) == (0.0, -0.5, 0.024)
    (document,) = published(steps, "point")
    assert set(document) == POINT_KEYS
    assert document["class"] == "triggered"
    assert {name: document[name] for name in EVENT_FIELDS} == {name: EVENT[name] for name in EVENT_FIELDS}
    assert document["after"] == {
        "kind": "lrs",
        "conductance_s": pytest.approx(1 / 18_000),
        "resistance_ohm": pytest.approx(18_000),
        "n": 9,
        "verdict": None,
    }
    assert (document["index"], document["visit"], document["of"], document["label"]) == (0, 0, 1, "P5")
    assert (document["landed_ns"], document["position_m"]) == (77, {"1": 1.0, "2": 2.0, "3": 3.0})
    assert document["beyond_v"] == pytest.approx(0.25, abs=0.003)
    assert document["measured_rate_v_s"] == pytest.approx(0.1, rel=0.01)
    assert document["hrs"]["current_a"] == pytest.approx(3 * PA)
    assert (results["points_done"], results["lod_a"]) == (1, pytest.approx(330 * PA))
    assert counts(results) == {"triggered": 1, "censored": 0, "lrs_at_start": 0, "invalid": 0}
    assert results["kinds"]["gb"]["median_triggered_v"] == -0.121


def test_a_point_that_does_not_is_censored_after_contact_is_seen_twice(by_hand: Drive) -> None:
    steps, results = by_hand(TriggerMapPlan(points=[row(5)]).program(), Bench())
    assert kinds(steps) == ZERO_STEPS + BEFORE + "Arm Energise Ramp End Touch Arm Energise Ramp End Lift"
    (document,) = published(steps, "point")
    assert set(document) == POINT_KEYS
    assert document["class"] == "censored"
    assert document["reason"] is None
    assert document["beyond_v"] == 0.5
    assert all(document[name] is None for name in EVENT_FIELDS)
    assert document["after"]["kind"] == "hrs"
    assert results["kinds"]["gb"]["censored"] == 1
    # It ends at its maximum: no way back.
    (sweep,) = [step for step in steps if isinstance(step, Ramp) and len(step.levels_v) > 100]
    assert sweep.levels_v == tuple(sorted(sweep.levels_v, reverse=True))


def test_the_zero_is_read_once_before_the_first_approach(by_hand: Drive) -> None:
    steps, _ = by_hand(TriggerMapPlan(points=[row(n) for n in range(4)]).program(), Bench())
    zeros = [n for n, step in enumerate(steps) if isinstance(step, Publish) and step.kind == "zero"]
    approaches = [n for n, step in enumerate(steps) if isinstance(step, Approach)]
    assert len(zeros) == 1
    assert zeros[0] < approaches[0]
    assert len(approaches) == 4
    assert published(steps, "zero")[0]["source"] == "lifted tip"


def test_without_a_zero_the_data_sheets_is_said(by_hand: Drive) -> None:
    steps, results = by_hand(TriggerMapPlan(points=[row(1)], zero=False).program(), Bench())
    assert kinds(steps).startswith("Lift " + BEFORE)
    (zero,) = published(steps, "zero")
    assert zero["source"] == "data sheet"
    assert results["lod_a"] == zero["lod_a"]


def test_every_lateral_move_follows_a_lift(by_hand: Drive) -> None:
    steps, _ = by_hand(TriggerMapPlan(points=[row(n) for n in range(6)]).program(), Bench(trigger=True))
    lifted = False
    for step in steps:
        if isinstance(step, Lift):
            lifted = True
        elif isinstance(step, Approach):
            lifted = False
        elif isinstance(step, MoveTo):
            assert lifted
    assert lifted, "the tip is up at the end"


@pytest.mark.parametrize("current_a", [1.2e-6, 1.01e-7, -1.01e-7])
def test_a_site_that_conducts_already_is_read_and_left_alone(by_hand: Drive, current_a: float) -> None:
    steps, results = by_hand(TriggerMapPlan(points=[row(5)]).program(), Bench(before_a=current_a))
    assert Arm(Phase.SEEK, 0.5) not in steps
    (document,) = published(steps, "point")
    assert set(document) == POINT_KEYS
    assert document["class"] == "lrs_at_start"
    assert document["hrs"]["saturated"] is (abs(current_a) > 1e-6)
    assert document["after"]["resistance_ohm"] == pytest.approx(18_000)
    assert counts(results) == {"triggered": 0, "censored": 0, "lrs_at_start": 1, "invalid": 0}
    assert results["kinds"]["gb"]["median_triggered_v"] is None


def test_a_high_current_below_a_filaments_is_none(by_hand: Drive) -> None:
    steps, _ = by_hand(TriggerMapPlan(points=[row(5)]).program(), Bench(before_a=9e-8))
    assert published(steps, "point")[0]["class"] == "censored"


# ------------------------------------------------------------------------------------------- what makes a point invalid


def test_contact_lost_in_the_sweep(by_hand: Drive) -> None:
    steps, results = by_hand(TriggerMapPlan(points=[row(5)]).program(), Bench(touching=False))
    (document,) = published(steps, "point")
    assert set(document) == POINT_KEYS
    assert (document["class"], document["reason"]) == ("invalid", "contact was lost during the sweep")
    assert results["kinds"]["gb"]["invalid"] == 1


def test_no_current_where_nothing_triggered_may_be_an_open_tip(by_hand: Drive) -> None:
    steps, _ = by_hand(TriggerMapPlan(points=[row(5)]).program(), Bench(after_a=100 * PA))
    (document,) = published(steps, "point")
    assert document["class"] == "invalid"
    assert "is the tip open" in document["reason"]
    assert "electrical_check" in document["reason"]
    assert document["after"]["current_a"] == pytest.approx(100 * PA)


def test_without_the_electrical_check_the_deflection_is_trusted(by_hand: Drive) -> None:
    plan = TriggerMapPlan(points=[row(5)], electrical_check=False)
    steps, _ = by_hand(plan.program(), Bench(after_a=100 * PA))
    assert published(steps, "point")[0]["class"] == "censored"
    assert [s.v_max_v for s in steps if isinstance(s, Arm) and s.phase is Phase.HRS_READ] == [HRS_BIAS_V] * 3


@pytest.mark.parametrize(
    ("sweeps", "check_v"), [({"gb": [-0.3, 0.1]}, 0.3), ({"gb": [-0.05, 0.1]}, 0.1), ({"gb": [-6.0, 1.0]}, 1.0)]
)
def test_the_check_goes_as_far_as_was_declared_and_never_beyond_1_v(
    by_hand: Drive, sweeps: dict[str, list[float]], check_v: float
) -> None:
    plan = TriggerMapPlan(points=[row(5)], sweeps=sweeps)
    steps, _ = by_hand(plan.program(), Bench())
    assert [s.v_max_v for s in steps if isinstance(s, Arm)][-1] == check_v
    assert published(steps, "point")[0]["after"]["bias_v"] == check_v


def test_a_filament_found_after_the_sweep_is_a_trigger_without_a_bias(by_hand: Drive) -> None:
    steps, results = by_hand(TriggerMapPlan(points=[row(5)]).program(), Bench(after_a=2e-6))
    (document,) = published(steps, "point")
    assert document["class"] == "triggered"
    assert document["trigger_bias_v"] is None
    assert "after the sweep" in document["reason"]
    assert results["kinds"]["gb"]["median_triggered_v"] is None


@pytest.mark.parametrize(
    ("failing", "n", "class_"),
    [
        (MoveTo, 1, "invalid"),
        (Approach, 1, "invalid"),
        # 0 is the zero's; of a point that triggers 1, 2, 3 are the read before, the sweep, the read of what formed.
        (Energise, 4, "invalid"),
        (Energise, 5, "invalid"),
        (Energise, 6, "triggered"),
    ],
)
def test_a_step_that_fails_costs_one_point_and_no_more(
    by_hand: Drive, failing: type[Step], n: int, class_: str
) -> None:
    plan = TriggerMapPlan(points=[row(p) for p in range(3)])
    steps, results = by_hand(plan.program(), Bench(trigger=True, fail={failing: {n}}))
    documents = published(steps, "point")
    assert [document["class"] for document in documents] == ["triggered", class_, "triggered"]
    assert all(set(document) == POINT_KEYS for document in documents)
    assert f"{failing.__name__} {n} went wrong" in documents[1]["reason"]
    assert results["points_done"] == 3
    if class_ == "triggered":
        # The trigger was measured, whatever became of the stage behind it.
        assert documents[1]["trigger_bias_v"] == -0.121
        assert documents[1]["after"] is None


def test_a_touch_that_cannot_be_read_is_not_contact(by_hand: Drive) -> None:
    steps, _ = by_hand(TriggerMapPlan(points=[row(1)]).program(), Bench(fail={Touch: {0}}))
    assert published(steps, "point")[0]["class"] == "invalid"


def test_an_invalid_point_is_in_no_median(by_hand: Drive) -> None:
    bench = Bench(trigger=True, fail={Approach: {0}})
    _, results = by_hand(TriggerMapPlan(points=[row(1), row(2)]).program(), bench)
    assert results["kinds"]["gb"]["median_triggered_v"] == -0.121
    _, results = by_hand(TriggerMapPlan(points=[row(1)]).program(), Bench(fail={Approach: {0}}))
    assert results["kinds"]["gb"]["median_triggered_v"] is None


# ------------------------------------------------------------------------------------------------------ what ends a run


def test_so_many_invalid_points_in_a_row_end_the_run(by_hand: Drive) -> None:
    plan = TriggerMapPlan(points=[row(p) for p in range(9)], max_invalid=3)
    steps, error = by_hand(plan.program(), Bench(trigger=True, fail={Approach: {0, 2, 3, 5, 6, 7}}))
    assert isinstance(error, BrokenOffError)
    assert "3 invalid points in a row" in str(error)
    assert "Approach 7 went wrong" in str(error)
    assert "8 points are finished and kept" in str(error)
    assert len(published(steps, "point")) == 8
    assert error.results["kinds"]["gb"]["triggered"] == 2
    assert error.results["kinds"]["gb"]["invalid"] == 6


def test_a_tip_that_cannot_be_lifted_ends_the_run_with_what_is_there(by_hand: Drive) -> None:
    plan = TriggerMapPlan(points=[row(p) for p in range(3)])
    steps, error = by_hand(plan.program(), Bench(trigger=True, fail={Lift: {2}}))
    assert isinstance(error, BrokenOffError)
    assert "point 3 of 3" in str(error)
    assert "Lift 2 went wrong" in str(error)
    assert error.results["points_done"] == 2
    # Nothing comes behind it.
    assert isinstance(steps[-1], Lift)


def test_a_tip_that_cannot_be_lifted_at_the_end_keeps_every_point(by_hand: Drive) -> None:
    _, error = by_hand(TriggerMapPlan(points=[row(1)]).program(), Bench(trigger=True, fail={Lift: {1}}))
    assert isinstance(error, BrokenOffError)
    assert error.results["points_done"] == 1


@pytest.mark.parametrize("failing", [Lift, Energise])
def test_a_beginning_that_fails_is_the_runs_reason(by_hand: Drive, failing: type[Step]) -> None:
    steps, error = by_hand(TriggerMapPlan(points=[row(1)]).program(), Bench(fail={failing: {0}}))
    assert isinstance(error, StepFailedError)
    assert published(steps, "point") == []


def test_events_carry_point_and_position(by_hand: Drive) -> None:
    steps, _ = by_hand(TriggerMapPlan(points=[row(3), row(4, "gi")], order="listed").program(), Bench())
    about = [step.context for step in steps if isinstance(step, About)]
    assert about[0] == {"point": 0, "label": "P3", "site_kind": "gb"}
    assert about[1] == {
        "point": 0,
        "label": "P3",
        "site_kind": "gb",
        "position_m": {"1": 1.0, "2": 2.0, "3": 3.0},
        "landed_ns": 77,
    }
    # The next point's begins without the last one's position.
    assert about[2] == {"point": 1, "label": "P4", "site_kind": "gi"}


def test_no_ramp_asks_for_more_than_was_armed_and_no_arming_for_more_than_declared(by_hand: Drive) -> None:
    plan = TriggerMapPlan(points=[row(1), row(2, "gi")], sweeps={"gi": [-7.0, 1.0]})
    for bench in (Bench(), Bench(trigger=True), Bench(after_a=2e-6)):
        armed = 0.0
        for step in by_hand(plan.program(), bench)[0]:
            if isinstance(step, Arm):
                armed = step.v_max_v
                assert armed <= max(plan.v_max_v, HRS_BIAS_V)
            elif isinstance(step, Ramp):
                assert max(map(abs, step.levels_v)) <= armed


def test_progress_tells_the_story(by_hand: Drive) -> None:
    steps, _ = by_hand(TriggerMapPlan(points=[row(1), row(2, "")]).program(), Bench(trigger=True))
    said = [step for step in steps if isinstance(step, Progress)]
    assert [p.done for p in said] == sorted(p.done for p in said)
    assert (said[0].done, said[-1].done) == (0.0, 1.0)
    text = "\n".join(p.text for p in said)
    for part in ("2 points to come", "(GB P1): approaching", "SURGE_JUMP; reading what formed", "(P2): moving"):
        assert part in text


def test_every_program_is_a_fresh_one(by_hand: Drive) -> None:
    plan = TriggerMapPlan(points=[row(1), row(2, "gi")])
    first, _ = by_hand(plan.program(), Bench(trigger=True))
    again, _ = by_hand(plan.program(), Bench(trigger=True))
    assert first == again
