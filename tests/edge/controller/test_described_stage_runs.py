"""The whole rig with a stage that speaks a command map, in virtual time: a map of two points, and faults under bias."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edge.experiments.iv import IvPlan
from edge.experiments.trigger_map import TriggerMapPlan
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from edge.instruments.scpi_stage import ScpiStage
from hil.faults.injector import Injector
from hil.faults.plan import parse_plan
from hil.map_bench import MapBench, map_config, on_map_bench

NM = 1e-9
ROOT = Path(__file__).resolve().parents[3]
SCPI = ROOT / "deploy/examples/stage-scpi.toml"
ODD = ROOT / "tests/edge/instruments/maps/odd.toml"
SWEEPS = {"gb": [-0.5, 0.5], "gi": [-1.5, 2.0]}
SWEEP = IvPlan(to_v=-0.5, step_v=0.01, dwell_s=0.02, back_scan=False)

DIALECTS: dict[str, dict[str, Any]] = {
    "scpi": {"file": SCPI, "axes": "xyz", "start_um": "50,50,49.95", "surface_um": 50.0},
    # z is counted downwards on the wire: -15 um is 15000 there.
    "odd": {"file": ODD, "axes": "abc", "start_um": "50,50,-15.05", "surface_um": -15.0},
}


def near(
    directory: Path,
    dialect: str,
    work: Callable[[MapBench], Awaitable[None]],
    **options: Any,  # noqa: ANN401 - the bench's
) -> None:
    """A bench whose tip begins 50 nm above the surface, and is lifted by 50 nm: short approaches."""
    told = DIALECTS[dialect]
    x, y, z = told["axes"]
    stage = {"driver": "scpi-stage", "command_map": str(told["file"]), "x": x, "y": y, "z": z, "lift_m": 50 * NM}
    options = {"start_um": told["start_um"], "surface_um": told["surface_um"], **options}
    on_map_bench(directory, work, config=map_config(stage=stage), stage_command_map=told["file"], **options)


def at_the_stage(bench: MapBench, message: bytes) -> None:
    """Do to the stage what another program on its controller would."""
    bench.stage.receive(bench.clock.now_ns(), message)
    assert bench.rig.stage_line is not None
    bench.rig.stage_line.poke()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_trigger_map_of_two_points(tmp_path: Path, dialect: str) -> None:
    async def test(bench: MapBench) -> None:
        plan = TriggerMapPlan(points=[*bench.boundary(1), *bench.interior(1)], sweeps=SWEEPS, seed=5)
        run = await bench.run(plan)
        assert run["status"] == "completed", run["reason"]
        points = bench.of_kind("point")
        assert {point["site_kind"]: point["class"] for point in points} == {"gb": "triggered", "gi": "censored"}
        landings = bench.truth.events("landing")
        assert len(landings) == 2
        for landing, asked in zip(landings, plan.visits(), strict=True):
            assert abs(float(landing["x_m"] or 0) - asked.x_m) < 8 * NM
            assert abs(float(landing["y_m"] or 0) - asked.y_m) < 8 * NM
        assert not bench.dragged
        assert len(bench.truth.events("set_onset")) == 1
        assert not bench.touching()
        assert bench.off
        assert bench.engine.report.alarms == {}

    near(tmp_path, dialect, test)


async def live(bench: MapBench) -> None:
    """Land, and start a sweep that takes two seconds; return with 0.1 V at the tip."""
    await bench.tip.approach()
    bench.start(SWEEP)
    await bench.until_live(0.1)


def mute(bench: MapBench) -> None:
    assert bench.rig.stage_line is not None
    bench.rig.stage_line.limit_next_writes(0)


MOVED = {"scpi": b"MOVE:ABS X,60\n", "odd": b"GA60000\r"}
NUDGED = {"scpi": b"MOVE:ABS X,50.05\n", "odd": b"GA50050\r"}
WRONG = {"scpi": b"FOO\n", "odd": b"FOO\r"}

UNDER_BIAS: dict[str, tuple[Callable[[MapBench, str], object], float]] = {
    "moved by another client": (lambda bench, dialect: at_the_stage(bench, MOVED[dialect]), 0.25),
    "nudged between two looks": (lambda bench, dialect: at_the_stage(bench, NUDGED[dialect]), 0.25),
    "an error of another client": (lambda bench, dialect: at_the_stage(bench, WRONG[dialect]), 0.25),
    "jammed": (lambda bench, dialect: bench.stage.stall(bench.clock.now_ns(), DIALECTS[dialect]["axes"][0]), 0.25),
    "does not answer": (lambda bench, _dialect: mute(bench), 0.6),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("fault", UNDER_BIAS)
def test_a_fault_of_the_stage_under_bias_is_cut(tmp_path: Path, fault: str, dialect: str) -> None:
    act, within_s = UNDER_BIAS[fault]

    async def test(bench: MapBench) -> None:
        await live(bench)
        struck_ns = bench.clock.now_ns()
        act(bench, dialect)
        run = await bench.ended()
        assert (run["status"], run["reason"]) == ("tripped", "STAGE_FAULT")
        assert bench.engine.report.trip_verdict is Verdict.STAGE_FAULT
        safe_s = bench.safe_after(struck_ns)
        assert safe_s is not None
        assert safe_s < within_s
        assert bench.off

    near(tmp_path, dialect, test)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_after_the_cut_the_tip_is_lifted(tmp_path: Path, dialect: str) -> None:
    async def test(bench: MapBench) -> None:
        await live(bench)
        struck_ns = bench.clock.now_ns()
        at_the_stage(bench, NUDGED[dialect])
        await bench.ended()
        await bench.until(lambda: bench.tip.lifted, 10)
        assert not bench.touching()
        z = DIALECTS[dialect]["axes"][2]
        told = [e for e in bench.truth.entries if int(e["t_ns"] or 0) >= struck_ns]
        words = [str(e["event"]) for e in told if e["event"] in ("safe", "lift") or e.get("axis") == z]
        assert words == ["safe", "stage_move", "lift"]

    near(tmp_path, dialect, test)


def test_an_output_does_not_go_on_over_a_stage_with_an_error(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        await bench.tip.approach()
        bench.stage.open_servo(bench.clock.now_ns(), "y")
        bench.start(SWEEP)
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "a servo is off" in str(run["reason"])
        assert bench.engine.state is State.SAFE
        assert bench.truth.events("live") == []

    near(tmp_path, "scpi", test)


# A digit of z is changed on its way


def spoil_a_digit(bench: MapBench) -> None:
    """The first digit of each target of z changes on its way: 49.5 um becomes 69.5 um, 20 um into the sample."""
    assert bench.rig.stage_line is not None

    def damage(_n: int, data: bytes) -> bytes:
        return data.replace(b"Z,49.", b"Z,69.") if data.startswith(b"MOVE:ABS Z,49.") else data

    bench.rig.stage_line.tamper(damage)


def test_a_damaged_target_of_z_is_stopped_before_it_is_deep_in_the_sample(tmp_path: Path) -> None:
    async def test(bench: MapBench) -> None:
        spoil_a_digit(bench)
        before_m = bench.true_m("z")
        bench.start(TriggerMapPlan(points=bench.boundary(1), sweeps=SWEEPS))
        run = await bench.ended()
        assert run["status"] != "completed"
        # 200 um/s times what a read-back takes on this line.
        assert bench.true_m("z") - before_m < 5e-6
        assert bench.truth.events("live") == []

    near(tmp_path, "scpi", test, start_um="50,50,49.45")


def test_without_the_read_back_the_tip_goes_all_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_read_back(*_args: object) -> None:
        return None

    monkeypatch.setattr(ScpiStage, "_read_back", no_read_back)

    async def test(bench: MapBench) -> None:
        spoil_a_digit(bench)
        bench.start(TriggerMapPlan(points=bench.boundary(1), sweeps=SWEEPS))
        await bench.ended()
        deepest_m = max(float(e.get("to_m") or 0) for e in bench.moves("z"))
        assert deepest_m > 65e-6, "20 um into the sample"
        assert bench.true_m("z") > 60e-6

    near(tmp_path, "scpi", test, start_um="50,50,49.45")


# The same fault plans as for the PI one

PLANS: dict[str, tuple[str, str]] = {
    "stage_stall": ('axis = "x"', "STAGE_FAULT"),
    "stage_servo_off": ('axis = "z"', "STAGE_FAULT"),
    "stage_error": ("error = 1024", "STAGE_FAULT"),
    "mute": ("times = 0", "STAGE_FAULT"),
    "unplug": ("", "STAGE_FAULT"),
    "double": ("", "STAGE_FAULT"),
}


@pytest.mark.parametrize("kind", PLANS)
def test_a_fault_plan_acts_on_a_described_stage(tmp_path: Path, kind: str) -> None:
    words, reason = PLANS[kind]
    plan = parse_plan(f'[[fault]]\nkind = "{kind}"\nport = "stage"\non_demand = true\nname = "it"\n{words}')
    injector = Injector(plan)

    async def test(bench: MapBench) -> None:
        injector.arm(bench.clock.now_ns())
        await live(bench)
        struck_ns = bench.clock.now_ns()
        injector.demand("it", struck_ns)
        run = await bench.ended()
        assert injector.missed() == ()
        assert bench.off
        if kind == "double":
            # One reply too many costs a question; the next look comes within the time that a stage may be unseen.
            assert run["status"] == "completed", run["reason"]
            return
        assert (run["status"], run["reason"]) == ("tripped", reason)
        safe_s = bench.safe_after(struck_ns)
        assert safe_s is not None
        assert safe_s < 0.6

    near(tmp_path, "scpi", test, injector=injector)
