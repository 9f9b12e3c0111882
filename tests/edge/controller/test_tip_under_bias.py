"""Stage and bias: what keeps the output off, what ends a bias that is on, and when the tip is lifted then.

Each check that protects the tip comes with a test that takes the check away and sees the harm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edge.controller import tip as tip_module
from edge.controller.mirror import DIRTY, Latch, Mirror
from edge.controller.tip import ALARM, LIFT_ALARM
from edge.errors import InterlockError, PlanRefusedError
from edge.experiments.iv import IvPlan
from edge.experiments.memristor import MemristorPlan
from edge.experiments.steps import Arm, End, Energise, Program, Ramp
from edge.guard.interlocks import AfterTrip, Interlock
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from edge.samples import Phase
from hil.devices.pi_gcs2 import PiController
from hil.map_bench import MapBench, map_config, on_map_bench
from hil.virtual_bench import MS, VirtualBench

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


# ----------------------------------------------------------------------------------------------------------- energising


@dataclasses.dataclass(frozen=True, slots=True)
class Scripted:
    """A plan whose steps are the test's."""

    steps: Callable[[], Program]
    v_max_v: float = 0.5
    needs_stage: bool = False
    targets_m: tuple[tuple[float, float], ...] = ()
    name: str = "scripted"

    def duration_s(self) -> float:
        return 60.0

    def describe(self) -> dict[str, Any]:
        return {}

    def program(self) -> Program:
        return self.steps()


def armed_then(bench: MapBench, act: Callable[[], object]) -> Scripted:
    """A plan before whose energising something happens to the rig."""

    def steps() -> Program:
        act()
        yield Arm(Phase.SEEK, 0.5)
        yield Energise()
        yield Ramp((0.0, -0.3), 0.05)
        yield End()
        return {}

    return Scripted(steps)


def slow_move(bench: MapBench) -> None:
    bench.at_the_stage(b"VEL 1 1")
    bench.at_the_stage(b"MOV 1 60")


def mute(bench: MapBench) -> None:
    assert bench.rig.stage_line is not None
    bench.rig.stage_line.limit_next_writes(0)


FAULTS: dict[str, tuple[Callable[[MapBench], object], str]] = {
    "moves": (slow_move, Interlock.STAGE_MOVING.value),
    "off target": (lambda bench: bench.stage.stall(bench.clock.now_ns(), "1"), Interlock.STAGE_OFF_TARGET.value),
    "servo off": (lambda bench: bench.stage.open_servo(bench.clock.now_ns(), "2"), Interlock.STAGE_SERVO_OFF.value),
    "an error": (lambda bench: bench.at_the_stage(b"FOO"), Interlock.STAGE_ERROR.value),
    "does not answer": (mute, "no reply to"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_output_stays_off_over_a_stage_that_does_not_stand_still(tmp_path: Path, fault: str) -> None:
    act, said = FAULTS[fault]

    async def test(bench: MapBench) -> None:
        await land(bench)
        run = await bench.run(armed_then(bench, lambda: act(bench)))
        assert run["status"] == "failed"
        assert said in str(run["reason"])
        assert bench.engine.state is State.SAFE
        assert bench.truth.events("live") == []
        assert bench.off

    near(tmp_path, test)


@pytest.mark.parametrize("fault", FAULTS)
def test_without_the_interlock_it_goes_on_all_the_same(tmp_path: Path, fault: str) -> None:
    async def test(bench: MapBench) -> None:
        await land(bench)
        bench.engine.stage = None
        bench.tip.hold = lambda: pause(bench, 1)  # type: ignore[method-assign, assignment, return-value]
        run = await bench.run(armed_then(bench, lambda: FAULTS[fault][0](bench)))
        assert run["status"] == "completed"
        assert bench.truth.events("live") != []

    near(tmp_path, test)


@pytest.mark.parametrize("age_ms", [199, 201])
def test_a_look_older_than_200_ms_keeps_the_output_off(tmp_path: Path, age_ms: int) -> None:
    async def test(bench: MapBench) -> None:
        await land(bench)
        await bench.engine.arm(Phase.SEEK, 0.5)
        status = await bench.tip.look()
        bench.tip.status = dataclasses.replace(status, t_ns=bench.clock.now_ns() - age_ms * MS)
        if age_ms > 200:
            with pytest.raises(InterlockError, match=Interlock.STAGE_UNSEEN.value):
                await bench.engine.energise()
            assert not bench.rig.page.energised
        else:
            await bench.engine.energise()
            await bench.engine.end()
        assert bench.off

    near(tmp_path, test)


def test_an_error_from_before_does_not_keep_the_output_off_for_good(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await land(bench)
        bench.at_the_stage(b"FOO")
        await pause(bench, 1500)
        assert bench.tip.status is not None
        assert bench.tip.status.error != 0
        assert (await bench.run(SWEEP))["status"] == "completed"

    near(tmp_path, test)


# ----------------------------------------------------------------------------------------------------------- under bias


async def live(bench: MapBench) -> None:
    """Land, and start a sweep that takes two seconds; return with 0.1 V at the tip."""
    await land(bench)
    bench.start(SWEEP)
    await bench.until_live(0.1)


def in_order(bench: MapBench, since_ns: int) -> list[str]:
    """What happened to the tip since then: safe, the way up, off the sample."""
    found = []
    for entry in bench.truth.entries:
        if int(entry["t_ns"] or 0) < since_ns:
            continue
        if entry["event"] in ("safe", "live", "lift") or (entry["event"] == "stage_move" and entry["axis"] == "3"):
            found.append(str(entry["event"]))
    return found


async def cut_and_lifted(bench: MapBench, since_ns: int, within_ms: float) -> None:
    run = await bench.ended()
    assert run["status"] == "tripped"
    assert run["reason"] == "STAGE_FAULT"
    assert bench.engine.report.trip_verdict is Verdict.STAGE_FAULT
    safe_s = bench.safe_after(since_ns)
    assert safe_s is not None
    assert safe_s < within_ms / 1e3
    await bench.until(lambda: bench.tip.lifted)
    # A filament or not: a tip that is lifted while it conducts draws an arc.
    assert in_order(bench, since_ns)[-3:] == ["safe", "stage_move", "lift"]
    assert "live" not in in_order(bench, since_ns)
    assert not bench.touching()
    assert bench.off


def jammed(bench: MapBench) -> None:
    bench.stage.stall(bench.clock.now_ns(), "1", error=1024)


UNDER_BIAS: dict[str, Callable[[MapBench], object]] = {
    "moved by another client": lambda bench: bench.at_the_stage(b"MOV 1 60"),
    # 1 ms of motion and 10 of settling: at rest, on target and without an error at every look.
    "nudged between two looks": lambda bench: bench.at_the_stage(b"MOV 1 50.05"),
    "an error of another client": lambda bench: bench.at_the_stage(b"FOO"),
    "jammed with an error": jammed,
    "halted by another client": lambda bench: bench.at_the_stage(b"HLT"),
}


@pytest.mark.parametrize("fault", UNDER_BIAS)
def test_a_fault_of_the_stage_under_bias_is_cut_and_then_the_tip_lifted(tmp_path: Path, fault: str) -> None:
    async def test(bench: MapBench) -> None:
        await live(bench)
        struck_ns = bench.clock.now_ns()
        UNDER_BIAS[fault](bench)
        # A look every 100 ms, four questions, the tick, the cut.
        await cut_and_lifted(bench, struck_ns, 200)
        assert LIFT_ALARM not in bench.engine.report.alarms
        bench.drain()
        event = bench.event_documents[-1]
        assert event["verdict"] == "STAGE_FAULT"
        assert event["setting"]["context"]["stage"]

    near(tmp_path, test)


def test_an_open_servo_is_cut_and_the_tip_lifted_once_it_is_closed(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await live(bench)
        struck_ns = bench.clock.now_ns()
        bench.stage.open_servo(struck_ns, "3", error=1024)
        assert (await bench.ended())["reason"] == "STAGE_FAULT"
        safe_s = bench.safe_after(struck_ns)
        assert safe_s is not None
        assert safe_s < 0.2
        await pause(bench, 3000)
        assert not bench.tip.lifted
        assert "could not be lifted" in bench.engine.report.alarms[LIFT_ALARM]
        bench.at_the_stage(b"SVO 3 1")
        await bench.until(lambda: bench.tip.lifted, 10)
        assert LIFT_ALARM not in bench.engine.report.alarms
        assert not bench.touching()
        assert bench.off

    near(tmp_path, test)


def test_a_mute_stage_is_cut_and_the_tip_lifted_once_it_answers(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await live(bench)
        struck_ns = bench.clock.now_ns()
        mute(bench)
        assert (await bench.ended())["reason"] == "STAGE_FAULT"
        safe_s = bench.safe_after(struck_ns)
        assert safe_s is not None
        assert safe_s < 0.6
        await bench.until(lambda: LIFT_ALARM in bench.engine.report.alarms, 10)
        assert bench.off
        assert bench.rig.stage_line is not None
        bench.rig.stage_line.limit_next_writes(None)
        await bench.until(lambda: bench.tip.lifted, 10)
        assert in_order(bench, struck_ns) == ["safe", "stage_move", "lift"]
        assert bench.engine.report.alarms == {}

    near(tmp_path, test)


def test_a_lost_stage_line_is_cut_and_said(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await live(bench)
        struck_ns = bench.clock.now_ns()
        assert bench.rig.stage_line is not None
        bench.rig.stage_line.unplug()
        assert (await bench.ended())["reason"] == "STAGE_FAULT"
        safe_s = bench.safe_after(struck_ns)
        assert safe_s is not None
        assert safe_s < 0.6
        assert "restart the controller" in bench.engine.report.alarms[ALARM]
        assert not bench.tip.ready
        assert bench.off
        bench.engine.rearm(by="test")
        run = await bench.run(SWEEP)
        assert run["status"] == "failed"
        assert "the stage is not there" in str(run["reason"])
        with pytest.raises(PlanRefusedError, match="has not answered"):
            bench.start(MemristorPlan())
        assert bench.safe_after(struck_ns) == safe_s, "nothing was energised since"

    near(tmp_path, test)


def test_a_lifted_tip_that_is_brought_down_under_bias_is_lifted_again(tmp_path: Path) -> None:
    # "It was lifted" is what we did; where the tip is, the fault itself has put in doubt.
    async def test(bench: MapBench) -> None:
        await land(bench)
        await bench.tip.lift()
        bench.start(SWEEP)
        await bench.until(lambda: bench.engine.state is State.ENERGISED)
        await pause(bench, 200)
        bench.at_the_stage(b"MOV 3 50.012")
        assert (await bench.ended())["reason"] == "STAGE_FAULT"
        await bench.until(lambda: bench.tip.lifted)
        assert bench.touches()[-2:] == ["landing", "lift"]
        assert not bench.touching()

    near(tmp_path, test)


def test_without_the_places_a_nudge_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The removal test: only where the axes are tells what came and went between two looks.
    monkeypatch.setattr(tip_module, "HELD_M", 1.0)

    async def test(bench: MapBench) -> None:
        await live(bench)
        bench.at_the_stage(b"MOV 1 50.05")
        assert (await bench.ended())["status"] == "completed"
        assert bench.dragged

    near(tmp_path, test)


@pytest.mark.parametrize("fault", ["moved by another client", "lifted by another client"])
def test_without_the_stage_watch_the_harm_is_seen(tmp_path: Path, fault: str) -> None:
    # The removal test: nobody looks, and the tip is dragged, or torn off, with the bias on.
    async def test(bench: MapBench) -> None:
        await live(bench)
        bench.engine.stage = None
        struck_ns = bench.clock.now_ns()
        bench.at_the_stage(b"MOV 1 60" if fault.startswith("moved") else b"MOV 3 40")
        run = await bench.ended()
        assert run["status"] == "completed"
        after = [e for e in bench.truth.entries if int(e["t_ns"] or 0) >= struck_ns]
        harm = [e for e in after if e["event"] in ("landing", "lift") and e["connected"]]
        assert harm
        assert bench.dragged is fault.startswith("moved")

    near(tmp_path, test)


def test_the_same_tear_with_the_watch_is_cut(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await live(bench)
        struck_ns = bench.clock.now_ns()
        bench.at_the_stage(b"MOV 3 40")
        assert (await bench.ended())["reason"] == "STAGE_FAULT"
        await bench.until(lambda: bench.tip.lifted)
        assert not any(e["connected"] for e in bench.truth.events("landing") if int(e["t_ns"] or 0) > struck_ns)
        assert bench.off

    near(tmp_path, test)


# ------------------------------------------------------------------------------------- lifted, but not before the proof


def z_moves_while_live(bench: MapBench, since_ns: int) -> int:
    """Moves of z that began while the tip was live."""
    is_live, count = True, 0
    for entry in bench.truth.entries:
        if int(entry["t_ns"] or 0) < since_ns:
            continue
        if entry["event"] in ("safe", "live"):
            is_live = entry["event"] == "live"
        elif entry["event"] == "stage_move" and entry["axis"] == "3":
            count += is_live
    return count


async def deaf(bench: MapBench) -> int:
    """Bring the rig to a cut that the instrument does not hear; return when it was struck."""
    await live(bench)
    bench.rig.line.limit_next_writes(0)
    struck_ns = bench.clock.now_ns()
    bench.rig.worker.runner.stop(by="test")
    await bench.until(lambda: Verdict.CUT_UNVERIFIED.value in bench.engine.report.alarms)
    await pause(bench, 2000)
    return struck_ns


def test_a_cut_that_is_not_verified_leaves_the_tip_where_it_is(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        struck_ns = await deaf(bench)
        assert bench.engine.state is State.CUTTING
        assert bench.moves("3", since_ns=struck_ns) == []
        bench.rig.line.limit_next_writes(None)
        assert (await bench.ended())["status"] == "tripped"
        await bench.until(lambda: bench.tip.lifted)
        assert in_order(bench, struck_ns) == ["safe", "stage_move", "lift"]

    near(tmp_path, test)


def test_without_waiting_for_the_proof_a_live_tip_is_lifted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The removal test.
    monkeypatch.setattr(tip_module, "after_trip", lambda *_args, **_options: AfterTrip.LIFT)
    monkeypatch.setattr(tip_module, "move_refusal", lambda *_args, **_options: None)

    async def test(bench: MapBench) -> None:
        struck_ns = await deaf(bench)
        assert z_moves_while_live(bench, struck_ns) > 0
        bench.rig.line.limit_next_writes(None)
        await bench.ended()

    near(tmp_path, test)


def test_the_last_resort_lifts_where_the_rigs_file_says_so(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        struck_ns = await deaf(bench)
        assert bench.tip.lifted
        assert z_moves_while_live(bench, struck_ns) == 1
        bench.rig.line.limit_next_writes(None)
        await bench.ended()

    near(tmp_path, test, config=map_config(stage={"lift_unverified": True}))


def test_after_an_operators_stop_the_tip_is_lifted(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await live(bench)
        struck_ns = bench.clock.now_ns()
        bench.rig.worker.runner.stop(by="anna")
        run = await bench.ended()
        assert (run["status"], run["reason"]) == ("tripped", "OPERATOR by anna")
        await bench.until(lambda: bench.tip.lifted)
        assert in_order(bench, struck_ns) == ["safe", "stage_move", "lift"]
        # Once, and not again and again.
        await pause(bench, 3000)
        assert in_order(bench, struck_ns) == ["safe", "stage_move", "lift"]

    near(tmp_path, test)


def test_after_a_restart_that_latches_the_tip_is_lifted(tmp_path: Path) -> None:
    Mirror(tmp_path).write(Latch(DIRTY, epoch=1))

    async def test(bench: MapBench) -> None:
        assert bench.engine.state is State.TRIPPED
        await bench.until(lambda: bench.tip.lifted)
        assert bench.touches() == ["landing", "lift"]
        assert not bench.touching()
        bench.engine.rearm(by="test")
        await bench.tip.move(51 * UM, 51 * UM)

    # The last life left the tip on the sample.
    near(tmp_path, test, start_um="50,50,50.012")


def test_a_trip_over_a_stage_that_was_never_found_lifts_once_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Mirror(tmp_path).write(Latch(DIRTY, epoch=1))
    monkeypatch.setattr(PiController, "receive", lambda *_args: None)

    async def test(bench: MapBench) -> None:
        await pause(bench, 6000)
        assert bench.engine.state is State.TRIPPED
        monkeypatch.undo()
        await bench.until(lambda: bench.tip.lifted, 10)

    near(tmp_path, test, wait=False, start_um="50,50,50.012")
