"""Maps on a rig that does not do as it is told: the point is invalid or the run ends with the reason.

In every case nothing stays energised, and the points that were finished are kept; the sample's own record is the judge.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edge.controller.tip import ALARM
from edge.errors import BusyError, PlanRefusedError
from edge.experiments.trigger_map import TriggerMapPlan
from edge.guard.states import State
from hil.map_bench import MapBench, map_config, on_map_bench
from hil.rig import config_for
from hil.twin.truth import Entry
from hil.virtual_bench import MS, VirtualBench, on_bench

NM = 1e-9
UM = 1e-6
SWEEPS = {"gb": [-0.5, 0.5], "gi": [-1.5, 2.0]}


def near(directory: Path, work: Callable[[MapBench], Awaitable[None]], **options: Any) -> None:  # noqa: ANN401 - the bench's
    """A bench whose tip begins 50 nm above the surface, and is lifted by 50 nm: short approaches."""
    stage = {"lift_m": 50 * NM, "approach_max_m": 200 * NM}
    config = options.pop("config", None) or map_config(stage=stage)
    on_map_bench(directory, work, **{"start_um": "50,50,49.95", "config": config, **options})


def a_map(points: list[list[Any]], **options: Any) -> TriggerMapPlan:  # noqa: ANN401 - the plan's
    return TriggerMapPlan(points=points, **{"sweeps": SWEEPS, "order": "listed", **options})


def ns(entry: Entry) -> int:
    return int(entry["t_ns"] or 0)


def text(bench: MapBench) -> str:
    return str((bench.rig.worker.runner.run or {})["text"])


def classes(bench: MapBench) -> list[str]:
    return [point["class"] for point in bench.of_kind("point")]


async def finished(bench: MapBench, n: int) -> None:
    """Wait until ``n`` points are."""
    await bench.until(lambda: len(bench.of_kind("point")) >= n, 60 * n)


async def doing(bench: MapBench, what: str) -> None:
    await bench.until(lambda: what in text(bench), 60)


async def nothing_more(bench: MapBench, since_ns: int) -> None:
    """Nothing is energised, nothing was since then, and nothing moves any more."""
    await bench.clock.sleep_until(bench.clock.now_ns() + 3000 * MS)
    assert not any(ns(e) > since_ns for e in bench.truth.events("live"))
    assert not any(bench.stage.moving(bench.clock.now_ns(), axis) for axis in "123")
    assert bench.off
    assert not bench.rig.worker.runner.busy


# ------------------------------------------------------------------------------------------------- refused at the start


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[50 * UM, 100.2 * UM, "gb"]], "point 1: y 100.2 um is outside the travel, 0 to 100 um"),
        ([[50 * UM, 50 * UM], [-1 * UM, 50 * UM]], "point 2: x -1 um is outside the travel"),
        ([[200 * UM, 0.0]] * 9, "point 5: x 200 um is outside the travel, 0 to 100 um and 4 more"),
    ],
)
def test_a_point_outside_the_travel_is_refused_before_anything_moves(
    tmp_path: Path, rows: list[list[Any]], said: str
) -> None:
    async def test(bench: MapBench) -> None:
        with pytest.raises(PlanRefusedError) as caught:
            bench.start(a_map(rows))
        assert caught.value.reason == "outside_travel"
        assert said in str(caught.value)
        assert "nothing was moved" in str(caught.value)
        assert bench.rig.worker.runner.run is None
        await nothing_more(bench, 0)
        assert bench.truth.events("stage_move") == []
        assert bench.of_kind("start") == []

    near(tmp_path, test)


def test_a_map_on_a_rig_without_a_stage_is_refused(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        with pytest.raises(PlanRefusedError, match="has no stage that answers") as caught:
            bench.start(a_map([[0.0, 0.0]], rate_v_s=1.0))
        assert caught.value.reason == "no_stage"

    on_bench(tmp_path, test)


def test_a_map_above_the_ceiling_or_without_a_resistor_is_refused(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        for sweeps, reason in (({"gi": [-10.1, 1.0]}, "voltage_ceiling"), ({"gi": [-10.0, 0.01]}, "unprotected_host")):
            with pytest.raises(PlanRefusedError) as caught:
                bench.start(a_map(bench.interior(1), sweeps=sweeps))
            assert caught.value.reason == reason
        await nothing_more(bench, 0)

    near(tmp_path, test)
    config = config_for(series_ohm=1000.0, stage=True)

    async def bare(bench: MapBench) -> None:
        with pytest.raises(PlanRefusedError) as caught:
            bench.start(a_map(bench.interior(1), sweeps={"gi": [-10.0, 1.0]}))
        assert caught.value.reason == "series_resistor"

    directory = tmp_path / "bare"
    directory.mkdir()
    near(directory, bare, config=config)


# ------------------------------------------------------------------------------------------- what makes a point invalid


def test_a_surface_that_is_not_there_makes_points_invalid_and_at_last_ends_the_run(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        run = await bench.run(a_map(bench.boundary(6), max_invalid=3))
        assert run["status"] == "failed"
        assert "3 invalid points in a row" in str(run["reason"])
        assert "no contact within 200 nm" in str(run["reason"])
        assert "3 points are finished and kept" in str(run["reason"])
        assert classes(bench) == ["invalid"] * 3
        assert all("no contact within 200 nm" in point["reason"] for point in bench.of_kind("point"))
        assert run["results"]["kinds"]["gb"]["invalid"] == 3
        # Point after point, and it never got closer than the first approach did: 200 nm and no further.
        lowest = max(float(e["to_m"] or 0) for e in bench.truth.events("stage_move") if e["axis"] == "3")
        assert lowest < 40.2 * UM + 1 * NM
        await nothing_more(bench, 0)

    near(tmp_path, test, start_um="50,50,40")


def test_a_stalled_move_costs_one_point(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        bench.start(a_map(bench.boundary(3)))
        await finished(bench, 1)
        await doing(bench, "point 2 of 3 (GB B2): moving")
        bench.stage.stall(bench.clock.now_ns(), "1")
        await finished(bench, 2)
        bench.stage.release(bench.clock.now_ns(), "1")
        run = await bench.ended()
        assert run["status"] == "completed", run["reason"]
        assert classes(bench) == ["triggered", "invalid", "triggered"]
        invalid = bench.of_kind("point")[1]
        assert "not on target after" in invalid["reason"]
        assert (invalid["landed_ns"], invalid["hrs"]) == (None, None)
        assert len(bench.truth.events("landing")) == 2

    near(tmp_path, test)


def test_a_refused_move_costs_the_points_it_is_refused_for_and_at_last_the_run(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        bench.start(a_map(bench.boundary(9)))
        await finished(bench, 2)
        await bench.until(lambda: bench.tip.lifted)
        # The loop of x opens, as on a following error: MOV 1 is refused from here on, z still moves.
        bench.stage.open_servo(bench.clock.now_ns(), "1", error=1024)
        refused_ns = bench.clock.now_ns()
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "5 invalid points in a row" in str(run["reason"])
        assert classes(bench) == ["triggered"] * 2 + ["invalid"] * 5
        assert run["results"]["kinds"]["gb"]["triggered"] == 2
        await nothing_more(bench, refused_ns)
        assert bench.tip.lifted

    near(tmp_path, test)


def test_a_servo_that_opens_on_the_sample_ends_the_run_with_the_reason(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        bench.start(a_map(bench.boundary(3)))
        await finished(bench, 1)
        await doing(bench, "point 2 of 3 (GB B2): approaching")
        await bench.until(bench.touching)
        bench.stage.open_servo(bench.clock.now_ns(), "3")
        opened_ns = bench.clock.now_ns()
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "point 3 of 3 (GB B3): the tip cannot be lifted" in str(run["reason"])
        assert "servo" in str(run["reason"])
        # The point under way was refused its bias.
        assert classes(bench) == ["triggered", "invalid"]
        assert run["results"]["points_done"] == 2
        await nothing_more(bench, opened_ns)

    near(tmp_path, test)


def test_servos_that_are_off_from_the_start_end_the_run_with_the_reason(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        run = await bench.run(a_map(bench.boundary(2)))
        assert run["status"] == "failed"
        assert "servo" in str(run["reason"])
        assert classes(bench) == []
        await nothing_more(bench, 0)

    near(tmp_path, test, servo_on=False)


def test_a_z_that_jams_ends_the_run(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        bench.start(a_map(bench.boundary(3)))
        await finished(bench, 1)
        await doing(bench, "point 2 of 3 (GB B2): approaching")
        await bench.until(bench.touching)
        bench.stage.stall(bench.clock.now_ns(), "3", error=1024)
        jammed_ns = bench.clock.now_ns()
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "point 3 of 3 (GB B3): the tip cannot be lifted" in str(run["reason"])
        assert "motion error" in bench.of_kind("point")[1]["reason"]
        assert classes(bench) == ["triggered", "invalid"]
        assert run["results"]["kinds"]["gb"]["triggered"] == 1
        await nothing_more(bench, jammed_ns)

    near(tmp_path, test)


def test_a_tip_torn_off_after_the_sweep_is_no_censored_point(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        bench.start(a_map(bench.interior(1)))
        # The signal goes between the end of the sweep and the look: the cantilever broke, nothing moved.
        await bench.until(lambda: bench.engine.state is State.CUTTING and bench.engine.guard.phase.name == "SEEK", 60)
        bench.emulated.tip._idle_v = -10.0
        run = await bench.ended()
        assert run["status"] == "completed"
        (point,) = bench.of_kind("point")
        assert (point["class"], point["reason"]) == ("invalid", "contact was lost during the sweep")

    near(tmp_path, test)


def test_a_contact_that_sticks_ends_the_run(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        bench.start(a_map(bench.boundary(3)))
        await finished(bench, 1)
        bench.emulated.tip._idle_v = 0.5
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "the tip cannot be lifted" in str(run["reason"])
        assert "still says contact" in str(run["reason"])
        assert classes(bench) == ["triggered"]
        # Never along the surface with a tip that may touch it.
        assert len(bench.truth.events("landing")) == 1
        await nothing_more(bench, bench.clock.now_ns())

    near(tmp_path, test)


# ---------------------------------------------------------------------------------------------------- lines and latches


def test_a_stage_that_goes_mute_between_two_points(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        bench.start(a_map(bench.boundary(3)))
        await finished(bench, 1)
        assert bench.rig.stage_line is not None
        bench.rig.stage_line.limit_next_writes(0)
        mute_ns = bench.clock.now_ns()
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "no reply to" in str(run["reason"])
        assert classes(bench) == ["triggered"]
        assert bench.engine.state is State.SAFE
        await nothing_more(bench, mute_ns)
        assert "no reply" in bench.engine.report.alarms[ALARM]
        # And it goes on once it answers.
        bench.rig.stage_line.limit_next_writes(None)
        await bench.until(lambda: ALARM not in bench.engine.report.alarms, 10)
        assert (await bench.run(a_map(bench.boundary(1, seed=1))))["status"] == "completed"

    near(tmp_path, test)


def test_one_reply_that_is_lost_costs_one_point(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        bench.start(a_map(bench.boundary(3)))
        await finished(bench, 1)
        await doing(bench, "point 2 of 3 (GB B2): reading the site")
        # Armed, and the stage is asked once more before the output goes on.
        await bench.until(lambda: bench.engine.state is State.ARMED)
        assert bench.rig.stage_line is not None
        bench.rig.stage_line.limit_next_writes(0)
        await bench.until(lambda: bench.engine.state is State.SAFE)
        bench.rig.stage_line.limit_next_writes(None)
        run = await bench.ended()
        assert run["status"] == "completed", run["reason"]
        assert classes(bench) == ["triggered", "invalid", "triggered"]
        assert "no reply to" in bench.of_kind("point")[1]["reason"]

    near(tmp_path, test)


@pytest.mark.parametrize("moment", ["moving", "approaching", "reading the site", "0 -> -0.5 V"])
def test_a_stage_line_that_is_pulled_ends_the_run(tmp_path: Path, moment: str) -> None:
    async def test(bench: MapBench) -> None:
        bench.start(a_map(bench.boundary(3)))
        await finished(bench, 1)
        await doing(bench, moment)
        if moment.startswith("0"):
            await bench.until(lambda: abs(bench.load.v_tip) > 0.02)
        assert bench.rig.stage_line is not None
        bench.rig.stage_line.unplug()
        pulled_ns = bench.clock.now_ns()
        run = await bench.ended()
        # Within half a second a boundary may give way first: then the next energising is refused.
        assert run["status"] == ("tripped" if bench.engine.state is State.TRIPPED else "failed")
        assert run["reason"] == "STAGE_FAULT" or "memory" in str(run["reason"])
        assert classes(bench)[0] == "triggered"
        await bench.clock.sleep_until(bench.clock.now_ns() + 1000 * MS)
        assert bench.off
        last = [e for e in bench.truth.entries if e["event"] in ("live", "safe")][-1]
        assert last["event"] == "safe"
        assert ns(last) - pulled_ns < 600 * MS
        with pytest.raises((PlanRefusedError, BusyError)):
            bench.start(a_map(bench.boundary(1)))

    near(tmp_path, test)


def test_a_trip_in_a_map_ends_it_and_keeps_its_points(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        bench.start(a_map([*bench.boundary(1), *bench.interior(1)]))
        await finished(bench, 1)
        await bench.until(lambda: abs(bench.load.v_tip) > 0.5, 60)
        # A person at the panel switches the output off.
        bench.at_the_panel(b":OUTP OFF")
        run = await bench.ended()
        assert run["status"] == "tripped"
        assert classes(bench) == ["triggered"]
        await bench.until(lambda: bench.tip.lifted)
        await nothing_more(bench, bench.clock.now_ns())

    near(tmp_path, test)


def test_an_output_switched_on_at_the_panel_during_an_approach_stops_it(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        bench.start(a_map(bench.boundary(3)))
        await finished(bench, 1)
        await doing(bench, "point 2 of 3 (GB B2): approaching")
        bench.at_the_panel(b":OUTP ON")
        run = await bench.ended()
        assert run["status"] == "tripped"
        assert run["reason"] == "OUTPUT_CHANGED"
        # The point under way is none: nobody judged it.
        assert classes(bench) == ["triggered"]
        await bench.until(lambda: bench.tip.lifted)
        assert bench.off
        moved = [e for e in bench.truth.events("stage_move") if e["axis"] != "3"]
        await nothing_more(bench, bench.clock.now_ns())
        assert [e for e in bench.truth.events("stage_move") if e["axis"] != "3"] == moved

    # Far enough for the poll of a second to see it before the tip is down.
    stage = {"lift_m": 500 * NM, "approach_window_m": 400 * NM, "approach_step_m": 2 * NM}
    near(tmp_path, test, config=map_config(stage=stage))


def test_a_step_that_fails_while_a_cut_is_under_way_waits_for_its_end(tmp_path: Path) -> None:
    # Refused for the cut, not for the stage: the run ends tripped, and not with a tip that cannot be lifted.
    async def test(bench: MapBench) -> None:
        bench.start(a_map(bench.boundary(3)))
        await finished(bench, 1)
        await doing(bench, "point 2 of 3 (GB B2): approaching")
        bench.replies.lose_confirmations(5)
        bench.at_the_panel(b":OUTP ON")
        run = await bench.ended()
        assert (run["status"], run["reason"]) == ("tripped", "OUTPUT_CHANGED")
        assert classes(bench) == ["triggered"]
        await bench.until(lambda: bench.tip.lifted)
        assert bench.off

    stage = {"lift_m": 500 * NM, "approach_window_m": 400 * NM, "approach_step_m": 2 * NM}
    near(tmp_path, test, config=map_config(stage=stage))


def test_another_client_that_moves_the_tip_between_two_points_is_noticed_by_nobody_and_harms_nothing(
    tmp_path: Path,
) -> None:
    # With the output off and the tip up a move is only a move; the plan goes where it wants next.
    async def test(bench: MapBench) -> None:
        bench.start(a_map(bench.boundary(2)))
        await finished(bench, 1)
        await bench.until(lambda: bench.tip.lifted)
        bench.at_the_stage(b"MOV 1 30")
        run = await bench.ended()
        assert run["status"] in ("completed", "failed")
        assert classes(bench)[0] == "triggered"
        assert bench.off
        assert not bench.dragged

    near(tmp_path, test)
