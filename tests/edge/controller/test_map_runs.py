"""Trigger maps from start to end, on the whole rig in virtual time: what is published, against the truth."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edge.experiments.iv import IvPlan
from edge.experiments.trigger_map import TriggerMapPlan
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from hil.map_bench import MapBench, map_config, on_map_bench
from hil.twin.truth import Entry
from hil.virtual_bench import MS

NM = 1e-9
UM = 1e-6
SWEEPS = {"gb": [-0.5, 0.5], "gi": [-1.5, 2.0]}
"""Faster than a map would be: a boundary gives way all the same, an interior does not."""
POINT_KEYS = {
    *("kind", "uid", "t_ns", "run", "index", "visit", "of", "label", "site_kind", "x_m", "y_m", "position_m", "class"),
    *("reason", "rate_v_s", "to_v", "trigger_bias_v", "trigger_half_v", "beyond_v", "verdict", "set_current_a"),
    *("charge_c", "onset_ns", "reading_ns", "decided_ns", "verified_ns", "landed_ns", "began_ns", "hrs", "after"),
    "measured_rate_v_s",
}
ALL = ("0,0,100,100",)
"""A box over the whole sample."""


def near(directory: Path, work: Callable[[MapBench], Awaitable[None]], **options: Any) -> None:  # noqa: ANN401 - the bench's
    """A bench whose tip begins 50 nm above the surface, and is lifted by 50 nm: short approaches."""
    config = options.pop("config", None) or map_config(stage={"lift_m": 50 * NM})
    on_map_bench(directory, work, **{"start_um": "50,50,49.95", "config": config, **options})


def a_map(points: list[list[Any]], **options: Any) -> TriggerMapPlan:  # noqa: ANN401 - the plan's
    return TriggerMapPlan(points=points, **{"sweeps": SWEEPS, **options})


def ns(entry: Entry) -> int:
    return int(entry["t_ns"] or 0)


def bias_only_on_a_landed_tip(bench: MapBench) -> bool:
    """Nothing was live but between a landing and its lift, and no landing came without a lift between."""
    landed = False
    for entry in bench.truth.entries:
        match entry["event"]:
            case "landing":
                if landed:
                    return False
                landed = True
            case "lift":
                landed = False
            case "live":
                if not landed:
                    return False
            case "stage_move":
                # Up and down only, while the tip is down.
                if landed and entry["axis"] != "3":
                    return False
    return True


def test_a_map_of_boundaries_and_interiors(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        plan = a_map([*bench.boundary(4), *bench.interior(3)], seed=5)
        run = await bench.run(plan)
        assert run["status"] == "completed", run["reason"]
        visits = plan.visits()
        points = bench.of_kind("point")
        assert [set(point) for point in points] == [POINT_KEYS] * 7
        assert [point["visit"] for point in points] == list(range(7))
        assert [point["index"] for point in points] == [point.index for point in visits]
        assert {point["uid"] for point in points} == {run["uid"]}
        assert {f"{point['run']:016x}" for point in points} == {run["uid"]}
        kinds = [point["site_kind"] for point in points]
        assert max(len(list(group)) for _, group in itertools.groupby(kinds)) <= 3

        # Each came down where it was sent, once.
        landings = bench.truth.events("landing")
        assert len(landings) == 7
        for point, landing, asked in zip(points, landings, visits, strict=True):
            assert (point["x_m"], point["y_m"]) == (asked.x_m, asked.y_m)
            assert abs(float(landing["x_m"] or 0) - asked.x_m) < 6 * NM
            assert abs(float(landing["y_m"] or 0) - asked.y_m) < 6 * NM
            assert point["position_m"]["1"] == pytest.approx(float(landing["sent_x_m"] or 0), abs=2 * NM)
            assert ns(landing) < point["landed_ns"] < point["began_ns"] < point["t_ns"]

        # What it says of each is what the sample did.
        onsets = iter(bench.truth.events("set_onset"))
        for point in points:
            if point["site_kind"] == "gi":
                assert (point["class"], point["reason"], point["trigger_bias_v"]) == ("censored", None, None)
                assert point["beyond_v"] == pytest.approx(1.5)
                assert point["after"]["kind"] == "hrs"
                assert point["after"]["bias_v"] == 1.0
                assert point["after"]["current_a"] > point["after"]["lod_a"]
                continue
            onset = next(onsets)
            assert (point["class"], point["reason"]) == ("triggered", None)
            # A reading every 24 ms at 0.5 V/s, and what grew between onset and reading.
            assert point["trigger_bias_v"] == pytest.approx(float(onset["v_source"] or 0), abs=0.025)
            assert point["began_ns"] < ns(onset) < point["decided_ns"] < point["verified_ns"]
            assert point["trigger_half_v"] == pytest.approx(0.0060, rel=0.05)
            assert point["measured_rate_v_s"] == pytest.approx(0.5, rel=0.06)
            # Two-wire: filament, thickened a little, plus the series resistor.
            assert point["after"]["resistance_ohm"] == pytest.approx(10_000 + float(onset["r_on_ohm"] or 0), rel=0.25)
            assert point["after"]["n"] == 9
            assert point["set_current_a"] < 0 < point["charge_c"]
        assert next(onsets, None) is None
        assert run["results"]["kinds"]["gb"]["triggered"] == 4
        assert run["results"]["kinds"]["gi"]["censored"] == 3
        assert bias_only_on_a_landed_tip(bench)
        assert bench.tip.lifted
        assert bench.off

    near(tmp_path, test)


def test_the_zero_comes_first_and_from_the_air(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await bench.run(a_map(bench.boundary(1)))
        (zero,) = bench.of_kind("zero")
        assert set(zero) == {
            *("kind", "uid", "t_ns", "run"),
            *("setting", "n", "zero_a", "sd_a", "lod_a", "offset_a", "source"),
        }
        assert (zero["setting"], zero["source"], zero["n"]) == ("HRS_READ", "lifted tip", 30)
        # 300 pA of the data sheet's offset, three times 10 pA of noise.
        assert zero["lod_a"] == pytest.approx(330e-12, rel=0.06)
        assert zero["t_ns"] < ns(bench.truth.events("landing")[0])
        (point,) = bench.of_kind("point")
        assert (point["hrs"]["zero_a"], point["hrs"]["lod_a"]) == (zero["zero_a"], zero["lod_a"])

    near(tmp_path, test)


def test_start_and_stop_say_what_and_with_what(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        plan = a_map(bench.boundary(1))
        run = await bench.run(plan)
        (start,) = bench.of_kind("start")
        assert start["plan"] == "trigger-map"
        assert start["parameters"] == plan.describe()
        assert start["stage"] == {"model": "E-727.3CD", "serial": "0119024343"}
        assert start["smu"]["serial"] == "1304207"
        (stop,) = bench.of_kind("stop")
        assert (stop["status"], stop["reason"], stop["results"]) == ("completed", None, run["results"])
        kinds = [document["kind"] for document in bench.documents if document["kind"] != "progress"]
        assert kinds == ["start", "zero", "point", "stop"]
        progress = bench.of_kind("progress")
        assert [p["progress"] for p in progress] == sorted(p["progress"] for p in progress)

    near(tmp_path, test)


def test_events_carry_point_and_position(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await bench.run(a_map([*bench.boundary(2), *bench.interior(1)]))
        points = [point for point in bench.of_kind("point") if point["class"] == "triggered"]
        events = [event for event in bench.event_documents if event["kind"] == "cut"]
        assert len(points) == len(events) == 2
        for point, event in zip(points, events, strict=True):
            context = event["setting"]["context"]
            assert context["point"] == point["index"]
            assert context["label"] == point["label"]
            assert context["position_m"] == point["position_m"]
            assert context["landed_ns"] == point["landed_ns"]
        # And what comes behind a run is about no point of it.
        await bench.tip.lift()
        bench.start(IvPlan(to_v=-0.1))
        assert dict(bench.engine.guard.context) == {}
        await bench.ended()

    near(tmp_path, test)


@pytest.mark.parametrize("where", ["bridged", "stuck_on"])
def test_a_site_that_conducts_at_the_start_is_a_class_of_its_own(tmp_path: Path, where: str) -> None:
    async def test(bench: MapBench) -> None:
        run = await bench.run(a_map(bench.interior(2)))
        assert run["status"] == "completed", run["reason"]
        points = bench.of_kind("point")
        assert [point["class"] for point in points] == ["lrs_at_start"] * 2
        for point in points:
            assert point["hrs"]["saturated"]
            assert point["after"]["kind"] == "lrs"
            assert (point["began_ns"], point["beyond_v"], point["verdict"]) == (None, None, None)
            if where == "stuck_on":
                assert point["after"]["resistance_ohm"] == pytest.approx(10_100, rel=0.01)
            else:
                assert 12_000 < point["after"]["resistance_ohm"] < 40_000
        # Read and left alone: 1 uA at most, no sweep.
        assert bench.truth.events("set_onset") == []
        assert max(float(e["peak_current_a"] or 0) for e in bench.truth.events("lift")) < 3e-6
        assert run["results"]["kinds"]["gi"]["lrs_at_start"] == 2
        assert bias_only_on_a_landed_tip(bench)

    near(tmp_path, test, **{where: ALL})


def test_a_site_visited_twice_still_has_its_filament(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        (x, y, kind, _), *_rest = bench.boundary(1)
        await bench.run(a_map([[x, y, kind, "first"], [x, y, kind, "again"]], order="listed"))
        first, again = bench.of_kind("point")
        assert (first["class"], again["class"]) == ("triggered", "lrs_at_start")
        assert again["after"]["resistance_ohm"] == pytest.approx(first["after"]["resistance_ohm"], rel=0.1)

    near(tmp_path, test)


@pytest.mark.parametrize("check", [True, False])
def test_an_open_tip_triggers_nothing_and_is_not_counted_as_censored(tmp_path: Path, check: bool) -> None:
    async def test(bench: MapBench) -> None:
        run = await bench.run(a_map([*bench.boundary(1), *bench.interior(1)], electrical_check=check))
        assert run["status"] == "completed", run["reason"]
        points = bench.of_kind("point")
        # Without the check only the deflection is there to tell, and it says contact.
        assert {point["class"] for point in points} == {"invalid" if check else "censored"}
        if check:
            assert all("is the tip open" in point["reason"] for point in points)
        assert bias_only_on_a_landed_tip(bench)

    near(tmp_path, test, open_tip=True)


def test_a_short_sweep_of_a_healthy_interior_is_censored_and_not_invalid(tmp_path: Path) -> None:
    # At half of 0.5 V the ionic current is 20 pA, which no 2400 can see: the check goes as far as was declared.
    async def test(bench: MapBench) -> None:
        await bench.run(TriggerMapPlan(points=bench.interior(2), to_v=-0.5, rate_v_s=1.0))
        assert [point["class"] for point in bench.of_kind("point")] == ["censored"] * 2

    near(tmp_path, test)


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ({"towards": "-", "start_um": "50,50,50.05"}, {"towards_sample": "-"}),
        ({"stage_axes": "A,B,C"}, {"x": "A", "y": "B", "z": "C"}),
    ],
)
def test_other_stages(tmp_path: Path, options: dict[str, Any], config: dict[str, Any]) -> None:
    async def test(bench: MapBench) -> None:
        run = await bench.run(a_map(bench.boundary(2)))
        assert run["results"]["kinds"]["gb"]["triggered"] == 2
        assert len(bench.truth.events("landing")) == 2

    near(tmp_path, test, config=map_config(stage={"lift_m": 50 * NM, **config}), **options)


def test_two_maps_with_one_seed_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tags of the cuts are drawn from the system, and are one to three digits on the line.
    monkeypatch.setattr("edge.controller.recorder.secrets.randbelow", lambda _n: 100)
    runs = []
    for n in range(2):

        async def test(bench: MapBench) -> None:
            await bench.run(a_map(bench.boundary(2), seed=3))
            points = bench.of_kind("point")
            runs.append([(p["index"], p["trigger_bias_v"], p["after"]["resistance_ohm"], p["t_ns"]) for p in points])

        directory = tmp_path / str(n)
        directory.mkdir()
        near(directory, test, seed=9)
    assert runs[0] == runs[1]


# ---------------------------------------------------------------------------------------------------------------- stops


def moving(axis: str) -> Callable[[MapBench], bool]:
    return lambda bench: bench.stage.moving(bench.clock.now_ns(), axis)


def phase(name: str) -> Callable[[MapBench], bool]:
    return lambda bench: bench.engine.state is State.ENERGISED and bench.engine.guard.phase.name == name


async def second_point(bench: MapBench) -> None:
    await bench.until(lambda: bool(bench.of_kind("point")), 60)


SAFE_MOMENTS: dict[str, Callable[[MapBench], bool]] = {
    "lifting": moving("3"),
    "moving": moving("1"),
    "approaching": lambda bench: "approaching" in str((bench.rig.worker.runner.run or {})["text"]),
    "settling": lambda bench: bench.touching(),
    "arming": lambda bench: "sweep" in str((bench.rig.worker.runner.run or {})["text"]),
}


@pytest.mark.parametrize("moment", SAFE_MOMENTS)
def test_a_stop_with_nothing_energised_keeps_what_is_finished(tmp_path: Path, moment: str) -> None:
    async def test(bench: MapBench) -> None:
        bench.start(a_map(bench.boundary(3)))
        await second_point(bench)
        await bench.until(lambda: SAFE_MOMENTS[moment](bench))
        assert bench.engine.state in (State.SAFE, State.ARMED)
        asked_ns = bench.clock.now_ns()
        assert bench.rig.worker.runner.stop(by="anna")
        run = await bench.ended()
        # The tip, too, is off the sample when the run has ended.
        assert bench.clock.now_ns() - asked_ns < 400 * MS
        assert bench.tip.lifted
        assert (run["status"], run["reason"]) == ("stopped", "stopped by anna")
        assert bench.engine.state is State.SAFE
        assert [point["class"] for point in bench.of_kind("point")] == ["triggered"]
        (stop,) = bench.of_kind("stop")
        assert stop["status"] == "stopped"
        assert not any(ns(e) > asked_ns for e in bench.truth.events("live"))
        assert bias_only_on_a_landed_tip(bench)
        assert bench.off
        # Nothing goes on behind its back.
        before = len(bench.truth.events("stage_move"))
        await bench.clock.sleep_until(bench.clock.now_ns() + 2000 * MS)
        assert len(bench.truth.events("stage_move")) == before

    # Slow enough to be met while it lifts.
    near(tmp_path, test, velocity_um_s=20.0)


@pytest.mark.parametrize("moment", ["HRS_READ", "SEEK", "LRS_READ"])
def test_a_stop_under_bias_cuts_latches_keeps_and_lifts(tmp_path: Path, moment: str) -> None:
    async def test(bench: MapBench) -> None:
        bench.start(a_map(bench.boundary(3)))
        await second_point(bench)
        await bench.until(lambda: phase(moment)(bench), 60)
        await bench.clock.sleep_until(bench.clock.now_ns() + 100 * MS)
        assert bench.engine.state is State.ENERGISED
        asked_ns = bench.clock.now_ns()
        bench.rig.worker.runner.stop(by="anna")
        run = await bench.ended()
        assert (run["status"], run["reason"]) == ("tripped", "OPERATOR by anna")
        safe_s = bench.safe_after(asked_ns)
        assert safe_s is not None
        assert safe_s < 0.05
        await bench.until(lambda: bench.tip.lifted)
        order = [e["event"] for e in bench.truth.entries if ns(e) >= asked_ns and e["event"] in ("safe", "lift")]
        assert order == ["safe", "lift"]
        assert [point["class"] for point in bench.of_kind("point")] == ["triggered"]
        assert bench.engine.report.trip_verdict is Verdict.OPERATOR
        assert bench.off

    near(tmp_path, test)


@pytest.mark.parametrize("moment", ["approaching", "settling", "SEEK"])
def test_the_end_of_the_process_waits_for_the_cut_and_for_the_tip(tmp_path: Path, moment: str) -> None:
    async def test(bench: MapBench) -> None:
        bench.start(a_map(bench.boundary(2)))
        await bench.until(lambda: (SAFE_MOMENTS.get(moment) or phase(moment))(bench), 60)
        await bench.clock.sleep_until(bench.clock.now_ns() + 60 * MS)
        asked_ns = bench.clock.now_ns()
        assert await bench.rig.worker.shut_down(Verdict.SHUTDOWN, by="SIGTERM")
        assert bench.clock.now_ns() - asked_ns < 1000 * MS
        assert bench.tip.lifted
        assert not bench.touching()
        run = await bench.ended()
        if moment == "SEEK":
            assert (run["status"], run["reason"]) == ("tripped", "SHUTDOWN by SIGTERM")
        else:
            assert (run["status"], run["reason"]) == ("stopped", "stopped by SIGTERM")
        assert bench.off

    near(tmp_path, test)


def test_the_end_of_the_process_does_not_wait_for_a_tip_that_cannot_be_lifted(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        bench.start(a_map(bench.boundary(2)))
        await bench.until(lambda: phase("SEEK")(bench), 60)
        bench.stage.open_servo(bench.clock.now_ns(), "3")
        asked_ns = bench.clock.now_ns()
        assert await bench.rig.worker.shut_down(Verdict.SHUTDOWN, by="SIGTERM")
        assert bench.clock.now_ns() - asked_ns < 2000 * MS
        assert bench.off

    near(tmp_path, test)


def test_a_tip_that_stands_there_without_a_run_is_left_there_at_the_end(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await bench.tip.approach()
        assert await bench.rig.worker.shut_down(Verdict.SHUTDOWN, by="SIGTERM")
        assert bench.touching()

    near(tmp_path, test)


def test_rearms_are_spent_by_triggers_and_then_the_run_ends_with_its_points(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        run = await bench.run(a_map(bench.boundary(4)))
        assert run["status"] == "failed"
        assert "rearms_per_run" in str(run["reason"])
        assert len(bench.of_kind("point")) == 1
        assert bench.engine.state is State.SAFE
        assert bench.tip.lifted
        assert bench.off

    near(tmp_path, test, config=map_config(stage={"lift_m": 50 * NM}, limits={"rearms_per_run": 1}))


def test_the_worker_takes_a_map_by_name(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        run_verb = bench.rig.worker.verbs()["run"]
        answer = run_verb({"plan": "trigger-map", "parameters": {"points": bench.boundary(1), "rate_v_s": 1.0}}, "anna")
        run = await bench.ended()
        assert run["uid"] == answer["uid"]
        assert (run["status"], run["by"]) == ("completed", "anna")

    near(tmp_path, test)
