"""The judge of scenarios, on evidence made by hand: each thing that must hold is seen when it does not."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from edge.samples import Flag, Phase, Sample
from hil.errors import BenchOptionError
from hil.faults.injector import Applied
from hil.scenarios.evidence import Attempt, Evidence, Sent
from hil.scenarios.judge import judge
from hil.scenarios.spec import Scenario, load_scenario, names, parse_scenario

MS = 1_000_000
FILE: dict[str, Any] = {
    "title": "A byte is lost somewhere",
    "what": "Something happens to a reply.",
    "source": "this test",
    "fault": [{"kind": "drop", "at_sample": 3, "name": "lost"}],
    "holds": {
        "status": "tripped",
        "verdict": "UNPARSABLE",
        "safe_within_s": 0.1,
        "next": "refused",
        "after_rearm": "clean",
    },
}


def scenario(**holds: object) -> Scenario:
    return parse_scenario({**FILE, "holds": {**FILE["holds"], **holds}}, name="made", source="made.toml")


def reading(amps: float) -> bytes:
    return f"-1.000000E-01,{amps:+.6E},+2.048400E+04\r".encode()


def sample(t_rx_ns: int, amps: float, flags: int = 0) -> Sample:
    return Sample(t_rx_ns - 5 * MS, MS, t_rx_ns, -0.1, amps, flags, Phase.SEEK)


def applied(t_ns: int) -> Applied:
    return Applied(
        name="lost", kind="drop", port="smu", t_ns=t_ns, byte=10, frame=4, sample=3, phase="seek", detail="byte 10"
    )


def good() -> Evidence:
    """Return evidence with which everything holds: three readings, the fourth broken, a cut 20 ms later."""
    sent = [Sent((10 + 20 * n) * MS, reading(1e-7 * (n + 1)), -0.1) for n in range(4)]
    samples = [sample((14 + 20 * n) * MS, 1e-7 * (n + 1)) for n in range(3)]
    samples.append(sample(74 * MS, math.nan, Flag.UNPARSABLE))
    return Evidence(
        armed_ns=0,
        run_ended_ns=200 * MS,
        watched_until_ns=300 * MS,
        status="tripped",
        reason="UNPARSABLE",
        applied=[applied(70 * MS)],
        events=[{"kind": "cut", "verdict": "UNPARSABLE", "decided_ns": 74 * MS, "verified_ns": 95 * MS}],
        samples=samples,
        sent=sent,
        truth=[
            {"t_ns": 5 * MS, "event": "live", "v_tip": -0.1},
            {"t_ns": 90 * MS, "event": "safe", "v_tip": 0.0},
            # The run after the rearm is not part of it.
            {"t_ns": 400 * MS, "event": "live", "v_tip": -0.1},
        ],
        next=Attempt("refused", "state is TRIPPED"),
        after_rearm=Attempt("clean", ""),
        output_off_at_end=True,
    )


def test_what_holds_holds() -> None:
    judged = judge(scenario(), good())
    assert judged.held, judged.checks
    assert judged.safe_s == pytest.approx(0.020)
    assert judged.verdict == "UNPARSABLE"


def broken(check: str, seen: Evidence, **holds: object) -> str:
    """Return the words of the one check that must not hold."""
    judged = judge(scenario(**holds), seen)
    assert [one.name for one in judged.checks if not one.held] == [check]
    return next(one.seen for one in judged.checks if one.name == check)


def test_a_fault_that_was_never_applied_fails() -> None:
    assert "lost" in broken("applied", dataclasses.replace(good(), missed=("lost",)))


def test_another_end_of_the_run_fails() -> None:
    assert broken("status", dataclasses.replace(good(), status="completed")).startswith("completed")


@pytest.mark.parametrize("verdict", ["STALE", "SURGE_JUMP"])
def test_another_reason_fails(verdict: str) -> None:
    events = [{"kind": "cut", "verdict": verdict, "decided_ns": 74 * MS, "verified_ns": 95 * MS}]
    assert verdict in broken("reason", dataclasses.replace(good(), events=events))


def test_no_cut_where_one_is_due_fails() -> None:
    broken("reason", dataclasses.replace(good(), events=[]))


def test_a_cut_where_none_is_due_fails() -> None:
    broken("reason", good(), verdict=None)


def test_words_that_are_missing_fail() -> None:
    broken("reason", good(), says="TRIPPED by anna")


def test_a_diagnosis_is_the_reason() -> None:
    events = [
        {"kind": "cut", "verdict": "STALE", "decided_ns": 74 * MS, "verified_ns": 95 * MS},
        {"kind": "diagnosis", "verdict": "DEVICE_RESET", "instead_of": "STALE", "cut_ns": 74 * MS},
    ]
    seen = dataclasses.replace(good(), events=events)
    assert judge(scenario(verdict="DEVICE_RESET"), seen).held


def test_a_cut_before_the_fault_is_another_one() -> None:
    events = [{"kind": "cut", "verdict": "SURGE_JUMP", "decided_ns": 20 * MS, "verified_ns": 50 * MS}, *good().events]
    assert judge(scenario(), dataclasses.replace(good(), events=events)).held


def test_safe_too_late_fails() -> None:
    assert "20.0 ms" in broken("safe", good(), safe_within_s=0.019)


def test_a_tip_that_is_live_again_fails() -> None:
    seen = good()
    seen.truth.insert(2, {"t_ns": 250 * MS, "event": "live", "v_tip": -0.1})
    assert "still live" in broken("safe", seen)


def test_safe_after_a_set_that_never_came_fails() -> None:
    assert "no onset" in broken("safe", good(), safe_after="onset")


def test_a_number_the_instrument_never_sent_fails() -> None:
    seen = good()
    seen.samples[1] = sample(34 * MS, 3.1e-7)
    assert "no reading that the instrument sent" in broken("trust", seen)


def test_an_old_reading_that_answers_a_new_question_fails() -> None:
    # The third sample is the second reading once more: sent, but before it was asked.
    seen = good()
    seen.samples[2] = sample(54 * MS, 2e-7)
    broken("trust", seen)


def test_a_flag_with_a_number_is_no_trusted_sample() -> None:
    seen = good()
    seen.samples[3] = sample(74 * MS, math.nan, Flag.OVERFLOW)
    assert judge(scenario(), seen).held


def test_a_level_the_instrument_did_not_source_fails() -> None:
    seen = good()
    seen.sent[1] = seen.sent[1]._replace(level_v=-0.9)
    assert "-0.9 V" in broken("trust", seen)


def test_too_few_samples_fail() -> None:
    assert "at least 30" in broken("trust", good(), samples_at_least=30)


@pytest.mark.parametrize(("next_how", "rearmed"), [("clean", "clean"), ("refused", "tripped"), ("tripped", "clean")])
def test_another_next_run_fails(next_how: str, rearmed: str) -> None:
    seen = dataclasses.replace(good(), next=Attempt(next_how, ""), after_rearm=Attempt(rearmed, "says why"))
    assert next_how in broken("next", seen)


def test_an_output_that_is_on_at_the_end_fails() -> None:
    assert "output was on" in broken("next", dataclasses.replace(good(), output_off_at_end=False))


def test_a_bench_that_failed_holds_nothing() -> None:
    judged = judge(scenario(), Evidence(bench_error="deadlock"))
    assert not judged.held
    assert judged.checks[0].seen == "deadlock"


def test_an_alarm_that_was_not_raised_fails() -> None:
    broken("alarm", good(), alarm="CUT_UNVERIFIED")


# -- the files


def test_there_are_at_least_forty_and_each_says_what_it_is() -> None:
    found = [load_scenario(name) for name in names()]
    assert len(found) >= 40
    assert len({one.title for one in found}) == len(found)
    for one in found:
        assert one.holds.safe_within_s <= 5.0, f"{one.name}: what bound is that?"
        assert one.holds.status != "tripped" or one.holds.next == "refused", f"{one.name}: a trip latches"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"titel": "x"}, "titel: unknown key"),
        ({"title": "short"}, "title: value 'short'"),
        ({"holds": {**FILE["holds"], "status": "well"}}, "holds.status: value 'well'"),
        ({"holds": {**FILE["holds"], "verdict": "SURGE"}}, "holds.verdict: value 'SURGE'"),
        ({"fault": []}, "nothing happens"),
        ({"fault": [{"kind": "drops", "at_s": 1.0}]}, "kind = 'drops'"),
        ({"act": [{"do": "kill-worker"}]}, 'only the bench "processes"'),
        ({"rig": {"load": "ohmic:1", "site": "gb"}}, "leave one out"),
        ({"seed": -1}, "seed: value -1"),
    ],
)
def test_a_file_that_is_wrong_is_told_where(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BenchOptionError) as caught:
        parse_scenario({**FILE, **change}, name="made", source="made.toml")
    assert str(caught.value).startswith("made.toml: ")
    assert says in str(caught.value)


def test_a_scenario_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(BenchOptionError, match="scenario --list"):
        load_scenario("no-such-thing")
    (tmp_path / "odd.toml").write_text("title = [", encoding="utf-8")
    with pytest.raises(BenchOptionError, match="not TOML"):
        load_scenario(str(tmp_path / "odd.toml"))


def test_a_reading_sent_before_it_was_asked_fails() -> None:
    # The third reply was spoilt; the fourth sample is what the instrument had sent then.
    seen = good()
    seen.samples[2] = sample(54 * MS, math.nan, Flag.UNPARSABLE)
    seen.samples[3] = sample(74 * MS, 3e-7)
    assert "after it was asked" in broken("trust", seen)


def test_a_reading_sent_after_it_was_taken_fails() -> None:
    seen = good()
    seen.samples[2] = sample(54 * MS, 4e-7)  # sent at 70 ms
    assert "no reading that the instrument sent" in broken("trust", seen)


def test_with_hi_at_the_sample_the_instrument_has_the_other_sign() -> None:
    rig = {"config": {"wiring": {"hi": "sample"}}}
    made = parse_scenario({**FILE, "rig": rig}, name="made", source="made.toml")
    seen = good()
    assert not judge(made, seen).held
    seen.sent = [one._replace(data=reading(-1e-7 * (n + 1)), level_v=0.1) for n, one in enumerate(seen.sent)]
    assert judge(made, seen).held


def test_of_two_faults_the_first_counts() -> None:
    seen = dataclasses.replace(good(), applied=[applied(80 * MS), applied(70 * MS)])
    assert judge(scenario(), seen).safe_s == pytest.approx(0.020)


def test_demand_and_fault_go_together() -> None:
    for act in ({"do": "demand"}, {"do": "kill-worker", "fault": "lost"}):
        with pytest.raises(BenchOptionError, match="go together"):
            parse_scenario({**FILE, "rig": {"bench": "processes"}, "act": [act]}, name="made", source="made.toml")


def test_a_name_twice_is_one_and_a_seed_replaces_the_file_s() -> None:
    from hil.scenarios.verb import _chosen

    [one] = _chosen([names()[0]] * 2, 99)
    assert (one.seed, one.plan.seed) == (99, 99)


def test_a_diagnosis_of_another_cut_is_not_the_reason() -> None:
    other = {"kind": "diagnosis", "verdict": "DEVICE_RESET", "cut_ns": 20 * MS}
    assert judge(scenario(), dataclasses.replace(good(), events=[*good().events, other])).held


def test_a_fault_confirmed_behind_its_cut_has_that_cut() -> None:
    assert (
        judge(scenario(safe_within_s=0.1), dataclasses.replace(good(), applied=[applied(96 * MS)])).verdict
        == "UNPARSABLE"
    )
