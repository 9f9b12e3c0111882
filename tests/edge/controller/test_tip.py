"""The tip over the sample: landed, lifted, moved, and looked after; the sample's own record is the judge.

Each check that protects the tip comes with a test that takes the check away and sees the harm.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edge.controller.tip import ALARM
from edge.errors import BusyError, InstrumentError, InterlockError, NoContactError, PlanRefusedError
from edge.experiments.iv import IvPlan
from edge.experiments.memristor import MemristorPlan
from edge.guard.interlocks import Interlock
from edge.guard.states import State
from edge.instruments.stage import StageRefusedError, StageStalledError, StageStoppedError
from hil.devices.pi_gcs2 import PiController
from hil.map_bench import MapBench, map_config, on_map_bench
from hil.rig import config_for
from hil.virtual_bench import MS, VirtualBench, on_bench

NM = 1e-9
UM = 1e-6
SURFACE_M = 50 * UM
THRESHOLD_M = 8 * NM
"""How far the tip is pressed in where the signal passes 0.1 V: 20 mV idle and 10 V/um."""
SLACK_M = 2 * NM
"""What creep leaves open within the settling window, and the sensor's noise."""
SWEEP = IvPlan(to_v=-0.5, step_v=0.01, dwell_s=0.02, back_scan=False)


async def land(bench: MapBench) -> None:
    await bench.tip.approach()


def near(directory: Path, work: Callable[[MapBench], Awaitable[None]], **options: Any) -> None:  # noqa: ANN401 - the bench's
    """A bench whose tip begins 50 nm above the surface: short approaches."""
    on_map_bench(directory, work, **{"start_um": "50,50,49.95", **options})


async def pause(bench: VirtualBench, ms: float) -> None:
    await bench.clock.sleep_until(bench.clock.now_ns() + int(ms * MS))


# ----------------------------------------------------------------------------------------------------- down and up


@pytest.mark.parametrize("step_nm", [2, 5, 20])
@pytest.mark.parametrize("towards", ["+", "-"])
def test_an_approach_stops_within_one_step_of_the_surface(tmp_path: Path, towards: str, step_nm: int) -> None:
    stage = {"towards_sample": towards, "approach_step_m": step_nm * NM, "settle_s": 0.3}
    sign = 1 if towards == "+" else -1

    async def test(bench: MapBench) -> None:
        contact_ns, position_m = await bench.tip.approach()
        pressed_m = sign * (bench.true_m("3") - SURFACE_M)
        assert THRESHOLD_M - SLACK_M <= pressed_m <= THRESHOLD_M + step_nm * NM + SLACK_M
        assert position_m["3"] == pytest.approx(bench.true_m("3"), abs=SLACK_M)
        assert bench.clock.now_ns() - contact_ns >= 300 * MS
        assert not bench.tip.lifted
        assert bench.touching()
        # What it conducts is what this load makes it.
        spot = bench.emulated.tip.spot
        assert spot is not None
        assert spot.contact.load_n == pytest.approx(bench.emulated.tip.cantilever.load_n(bench.true_m("3")), rel=0.1)
        # It went one way only, and never faster than step by step.
        targets = [float(e["to_m"] or 0) * sign for e in bench.moves("3")]
        assert targets == sorted(targets)
        assert max(after - before for before, after in itertools.pairwise(targets)) < (step_nm + 0.2) * NM

    on_map_bench(tmp_path, test, towards=towards, config=map_config(stage=stage))


def test_the_second_approach_goes_in_one_move_to_its_window(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await land(bench)
        surface_m = bench.tip.surface_m
        assert surface_m is not None
        await bench.tip.lift()
        began_ns = bench.clock.now_ns()
        await bench.tip.approach()
        first, *steps = [float(e["to_m"] or 0) for e in bench.moves("3", since_ns=began_ns)]
        assert first == pytest.approx(surface_m - 50 * NM, abs=0.2 * NM)
        assert len(steps) <= 11
        pressed_m = bench.true_m("3") - SURFACE_M
        assert THRESHOLD_M - SLACK_M <= pressed_m <= THRESHOLD_M + 5 * NM + SLACK_M

    near(tmp_path, test)


def test_a_surface_that_is_too_far_is_given_up_and_the_tip_goes_back(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        for _ in range(2):
            with pytest.raises(NoContactError, match="no contact within 500 nm"):
                await bench.tip.approach()
            # One approach after the other must not walk the tip into the sample.
            assert bench.true_m("3") == pytest.approx(40 * UM, abs=5 * NM)
        assert max(float(e["to_m"] or 0) for e in bench.moves("3")) <= 40.5 * UM + 1 * NM
        assert not bench.tip.lifted
        assert bench.tip.surface_m is None

    near(tmp_path, test, start_um="50,50,40", config=map_config(stage={"approach_max_m": 500 * NM}))


def test_the_end_of_the_travel_is_no_contact(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        with pytest.raises(NoContactError, match="before the end of axis 3's travel"):
            await bench.tip.approach()
        assert bench.true_m("3") == pytest.approx(99 * UM, abs=5 * NM)

    near(tmp_path, test, surface_um=100.0, start_um="50,50,99")


def test_a_lift_is_verified_by_the_signal(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await land(bench)
        surface_m = bench.tip.surface_m
        assert surface_m is not None
        position_m = await bench.tip.lift()
        assert bench.tip.lifted
        assert not bench.touching()
        assert bench.true_m("3") == pytest.approx(surface_m - 500 * NM, abs=SLACK_M)
        assert position_m["3"] == pytest.approx(bench.true_m("3"), abs=SLACK_M)
        # Up there already: a second lift moves nothing.
        before = len(bench.moves())
        await bench.tip.lift()
        assert len(bench.moves()) == before

    near(tmp_path, test)


def test_a_signal_that_is_stuck_is_no_lifted_tip(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await land(bench)
        bench.emulated.tip._idle_v = 0.3
        with pytest.raises(NoContactError, match="still says contact 500 nm above"):
            await bench.tip.lift()
        assert not bench.tip.lifted
        with pytest.raises(InterlockError, match="not lifted"):
            await bench.tip.move(60 * UM, 60 * UM)
        assert bench.moves("1", "2") == []

    near(tmp_path, test)


def test_a_tip_that_is_not_lifted_is_never_moved_along_the_surface(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        with pytest.raises(InterlockError, match="not lifted"):
            await bench.tip.move(60 * UM, 50 * UM)
        await land(bench)
        with pytest.raises(InterlockError, match="not lifted"):
            await bench.tip.move(60 * UM, 50 * UM)
        assert bench.moves("1", "2") == []
        await bench.tip.lift()
        position_m = await bench.tip.move(60 * UM, 40 * UM)
        assert (position_m["1"], position_m["2"]) == pytest.approx((60 * UM, 40 * UM), abs=6 * NM)
        assert not bench.dragged

    near(tmp_path, test)


def test_without_that_check_the_tip_is_dragged(tmp_path: Path) -> None:
    # The removal test: the same move by a controller that believes the tip is up and does not ask the signal.
    async def test(bench: MapBench) -> None:
        await land(bench)
        bench.tip.lifted = True

        async def blind() -> bool:
            return False

        bench.tip._contact.in_contact = blind  # type: ignore[method-assign]
        await bench.tip.move(50.5 * UM, 50 * UM)
        assert bench.dragged

    near(tmp_path, test)


def test_a_tip_that_somebody_else_brought_down_is_not_moved_and_is_lifted_again(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await land(bench)
        await bench.tip.lift()
        bench.at_the_stage(b"MOV 3 50.012")
        await pause(bench, 100)
        assert bench.touching()
        assert bench.tip.lifted, "all that the controller knows"
        with pytest.raises(InterlockError, match="not lifted"):
            await bench.tip.move(60 * UM, 60 * UM)
        bench.tip.lifted = True
        await bench.tip.lift()
        assert not bench.touching()
        await bench.tip.move(60 * UM, 60 * UM)
        assert not bench.dragged

    near(tmp_path, test)


# -------------------------------------------------------------------------------------------------------- what refuses


@pytest.mark.parametrize("state", list(State))
def test_lateral_moves_and_approaches_need_the_output_verified_off(tmp_path: Path, state: State) -> None:
    async def test(bench: MapBench) -> None:
        await bench.tip.lift()
        machine = bench.engine.guard.machine
        allowed = state in (State.SAFE, State.ARMED)
        for move in (lambda: bench.tip.move(51 * UM, 51 * UM), bench.tip.approach):
            before = len(bench.moves())
            machine._state = state
            try:
                if allowed:
                    await move()
                else:
                    # Refused before anything is asked: no time passes in the false state.
                    with pytest.raises(InterlockError, match=f"state {state.value}"):
                        await move()
            finally:
                machine._state = State.SAFE
            assert (len(bench.moves()) > before) is allowed

    near(tmp_path, test)


@pytest.mark.parametrize("state", list(State))
def test_a_retract_is_also_allowed_after_a_trip(tmp_path: Path, state: State) -> None:
    async def test(bench: MapBench) -> None:
        allowed = state in (State.SAFE, State.ARMED, State.TRIPPED)
        machine = bench.engine.guard.machine
        machine._state = state
        try:
            if allowed:
                await bench.tip.lift()
            else:
                with pytest.raises(InterlockError, match=f"state {state.value}"):
                    await bench.tip.lift()
        finally:
            machine._state = State.SAFE
        assert bench.tip.lifted is allowed

    near(tmp_path, test)


@pytest.mark.parametrize(
    ("x_um", "y_um", "said"),
    [(-0.1, 50, "x -0.1 um"), (50, 100.1, "y 100.1 um"), (float("nan"), 50, "x nan um"), (50, float("inf"), "y inf")],
)
def test_what_is_outside_the_travel_is_said(tmp_path: Path, x_um: float, y_um: float, said: str) -> None:
    async def test(bench: MapBench) -> None:
        why = bench.tip.outside(x_um * UM, y_um * UM)
        assert why is not None
        assert said in why
        assert "outside the travel, 0 to 100 um" in why
        assert bench.tip.outside(0.0, 100 * UM) is None

    near(tmp_path, test)


# ---------------------------------------------------------------------------------------------------------------- stop


async def stopped_after(bench: MapBench, work: Awaitable[object], ms: float) -> float:
    """Stop the tip ``ms`` after ``work`` began; return how long it took to end, in ms."""
    task = asyncio.ensure_future(work)
    await pause(bench, ms)
    asked_ns = bench.clock.now_ns()
    bench.tip.stop()
    with pytest.raises(StageStoppedError):
        await task
    return (bench.clock.now_ns() - asked_ns) / MS


# 20 ms of each step's 40 the axes stand still and the signal is looked at: a stop must not fall through there.
@pytest.mark.parametrize("ms", [1000 + 8 * n for n in range(5)])
def test_a_stop_ends_an_approach_wherever_it_falls(tmp_path: Path, ms: float) -> None:
    async def test(bench: MapBench) -> None:
        assert await stopped_after(bench, bench.tip.approach(), ms) < 60
        still_m = bench.true_m("3")
        await pause(bench, 200)
        assert bench.true_m("3") == pytest.approx(still_m, abs=1 * NM)
        assert not bench.touching()
        # It can go on: the stop was one.
        await bench.tip.approach()
        assert bench.touching()

    on_map_bench(tmp_path, test)


def test_a_stop_ends_the_pause_for_settling(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        task = asyncio.ensure_future(bench.tip.approach())
        await bench.until(lambda: bench.tip.surface_m is not None)
        asked_ns = bench.clock.now_ns()
        bench.tip.stop()
        with pytest.raises(StageStoppedError):
            await task
        assert bench.clock.now_ns() - asked_ns < 100 * MS

    near(tmp_path, test, config=map_config(stage={"settle_s": 600.0}))


def test_a_stop_ends_a_lateral_move(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await bench.tip.lift()
        assert await stopped_after(bench, bench.tip.move(90 * UM, 50 * UM), 80) < 20
        assert 55 * UM < bench.true_m("1") < 80 * UM
        assert not bench.stage.moving(bench.clock.now_ns(), "1")

    near(tmp_path, test)


# --------------------------------------------------------------------------------------------------------- who is there


def test_a_stage_that_does_not_answer_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receive = PiController.receive
    monkeypatch.setattr(PiController, "receive", lambda *_args: None)

    async def test(bench: MapBench) -> None:
        await bench.until(lambda: ALARM in bench.engine.report.alarms)
        assert "no reply" in bench.engine.report.alarms[ALARM]
        # The rig itself is there, and keeps its output off.
        assert bench.engine.state is State.SAFE
        run = await bench.run(SWEEP)
        assert run["status"] == "failed"
        assert "the stage is not there" in str(run["reason"])
        assert "no reply" in str(run["reason"])
        with pytest.raises(PlanRefusedError, match="the stage has not answered") as caught:
            bench.start(MemristorPlan())
        assert caught.value.reason == "stage_not_ready"
        with pytest.raises(InstrumentError, match="not there"):
            await bench.tip.lift()
        assert bench.truth.events("live") == []
        monkeypatch.setattr(PiController, "receive", receive)
        await bench.until(lambda: bench.tip.ready, 10)
        await bench.until(lambda: ALARM not in bench.engine.report.alarms)
        await land(bench)
        assert (await bench.run(SWEEP))["status"] == "completed"

    near(tmp_path, test, wait=False)


def test_another_stage_is_not_moved(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await bench.until(lambda: ALARM in bench.engine.report.alarms)
        said = bench.engine.report.alarms[ALARM]
        assert "'123' (E-727.3CD) answers, stage.serial_number is '0119024343'" in said
        await pause(bench, 10_000)
        assert not bench.tip.ready
        assert (await bench.run(SWEEP))["status"] == "failed"
        assert bench.moves() == []

    config = map_config(stage={"serial_number": "0119024343"})
    near(tmp_path, test, wait=False, stage_serial_number="123", config=config)


def test_a_missing_axis_is_named(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await bench.until(lambda: ALARM in bench.engine.report.alarms)
        said = bench.engine.report.alarms[ALARM]
        assert "has axes 1, 2, 3, and no Z" in said
        assert "stage.x, stage.y, stage.z" in said
        assert not bench.tip.ready

    near(tmp_path, test, wait=False, config=map_config(stage={"z": "Z"}))


def test_axes_of_other_names(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await land(bench)
        await bench.tip.lift()
        await bench.tip.move(10 * UM, 20 * UM)
        assert (bench.true_m("A"), bench.true_m("B")) == pytest.approx((10 * UM, 20 * UM), abs=6 * NM)

    config = map_config(stage={"x": "A", "y": "B", "z": "C"})
    near(tmp_path, test, stage_axes="A,B,C", config=config)


def test_a_port_that_is_gone_keeps_the_output_off(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        assert "memory-stage is gone" in bench.engine.report.alarms[ALARM]
        bench.start(SWEEP)
        run = await bench.ended()
        assert run["status"] == "failed"
        assert Interlock.STAGE_UNSEEN.value in str(run["reason"])
        with pytest.raises(PlanRefusedError, match="no stage that answers"):
            bench.start(MemristorPlan())
        assert bench.truth.events("live") == []
        assert bench.off

    on_bench(tmp_path, test, config=config_for(stage=True))


def test_a_rig_without_a_stage_needs_none(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        assert bench.rig.worker.tip is None
        assert bench.rig.worker.status()["stage"] is None
        bench.start(SWEEP)
        assert (await bench.ended())["status"] == "completed"

    on_bench(tmp_path, test)


def test_the_status_shows_the_stage(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await bench.tip.lift()
        await bench.tip.look()
        shown = bench.rig.worker.status()["stage"]
        assert shown == {
            "model": "E-727.3CD",
            "serial_number": "0119024343",
            "ready": True,
            "position_m": bench.tip.position_m,
            "lifted": True,
            "moving": False,
            "servo_on": True,
        }
        assert shown["position_m"].keys() == {"1", "2", "3"}

    near(tmp_path, test)


def test_a_plan_may_not_start_while_another_moves_the_tip(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        bench.start(MemristorPlan(cycles=1))
        with pytest.raises(BusyError):
            bench.start(SWEEP)
        bench.rig.worker.runner.stop(by="test")
        await bench.ended()

    near(tmp_path, test)


# --------------------------------------------------------------------------------------------- what the stage cannot do


def test_a_servo_that_is_off_is_said(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        with pytest.raises(StageRefusedError, match="refused"):
            await bench.tip.lift()
        assert not bench.tip.lifted

    near(tmp_path, test, servo_on=False)


def test_a_jammed_axis_is_a_stall_and_no_lift(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await land(bench)
        bench.stage.stall(bench.clock.now_ns(), "3")
        with pytest.raises(StageStalledError):
            await bench.tip.lift()
        assert not bench.tip.lifted

    near(tmp_path, test)
