"""Runs from start to end on the emulated 2400 in virtual time.

Each check that protects the tip comes with a test that takes the check away and sees the harm.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge.config import Config
from edge.controller import engine as engine_module
from edge.controller.mirror import CLEAN, Latch, Mirror
from edge.errors import PlanRefusedError
from edge.experiments.iv import IvPlan
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from edge.samples import Phase
from hil.rig import config_for
from hil.twin.ohmic import OhmicLoad
from hil.twin.site import SwitchingSite
from hil.virtual_bench import MS, VirtualBench, on_bench


def test_rearms_are_spent_and_then_refused(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start(IvPlan(to_v=-0.1, cycles=10, on_trigger="continue", back_scan=False))
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "rearms_per_run" in str(run["reason"])
        assert bench.engine.report.planned_cuts == 3
        assert bench.engine.state is State.SAFE

    # 10 kohm conducts more than the 1e-5 S that end a search: every cycle triggers.
    on_bench(
        tmp_path,
        test,
        load=lambda truth: OhmicLoad(1e4, 1000.0, truth=truth),
        config=config_for(limits={"rearms_per_run": 2}),
    )


def test_back_scan_measures_what_formed(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start(IvPlan(to_v=-0.6))
        run = await bench.ended()
        assert run["status"] == "completed", run["reason"]
        [trigger] = run["results"]["triggers"]
        site = bench.load
        assert isinstance(site, SwitchingSite)
        # Two-wire: filament plus series resistor, on the 100 uA range at 1 PLC.
        assert trigger["lrs"]["resistance_ohm"] == pytest.approx(site.r_on_ohm + 1000.0, rel=0.02)
        assert trigger["lrs"]["n"] == 9
        phases = [sample.phase for sample in bench.rig.samples()]
        assert phases.count(Phase.LRS_READ) == 9

    on_bench(tmp_path, test, load=lambda truth: SwitchingSite("gb", series_ohm=1000.0, seed=4, truth=truth))


def test_ohmic_cycles_complete_without_a_trigger(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start(IvPlan(to_v=-0.1, step_v=0.005, cycles=3))
        run = await bench.ended()
        assert run["status"] == "completed"
        assert run["results"] == {"cycles_done": 3, "triggers_found": 0, "triggers": []}
        samples = bench.rig.samples()
        assert len(samples) >= 3 * 41
        for sample in samples:
            assert sample.current_a == pytest.approx(sample.bias_v / 1.001e6, abs=6e-8)
            assert 0 < sample.t_rx_ns - sample.t_ns < 20 * MS

    on_bench(tmp_path, test)


@pytest.mark.parametrize("used", [0.85, 0.96])
def test_a_filling_ring_makes_the_plan_wait_and_at_last_trips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: float
) -> None:
    level = [0.0]
    monkeypatch.setattr("edge.controller.recorder.Recorder.ring_used", property(lambda _self: level[0]))

    async def test(bench: VirtualBench) -> None:
        bench.start(IvPlan(to_v=-0.1, step_v=0.005, cycles=2, back_scan=False))
        await bench.until_live(0.05)
        level[0] = used
        if used >= engine_module.RING_FULL_AT:
            await bench.ended()
            assert bench.engine.report.trip_verdict is Verdict.RING_FULL
            assert bench.off
            return
        # At 80 % the cycle is finished, then the plan waits, safe.
        await bench.until(lambda: bench.engine.state is State.SAFE)
        await bench.clock.sleep_until(bench.clock.now_ns() + 5_000 * MS)
        assert bench.engine.state is State.SAFE
        assert "ring" in str((bench.rig.worker.runner.run or {})["text"])
        level[0] = 0.1
        assert (await bench.ended())["status"] == "completed"

    on_bench(tmp_path, test)


def test_a_pause_cut_short_does_not_step_a_later_run(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        # Each level of the first run lasts 4.010 s: readings, then a pause of a few ms that a stop can hit.
        bench.start(IvPlan(to_v=-0.1, step_v=0.05, dwell_s=4.010, back_scan=False))
        await bench.until(lambda: bench.engine._pause is not None)
        bench.rig.worker.runner.stop(by="test")
        await bench.ended()
        assert bench.engine._pause is None
        bench.engine.rearm(by="test")
        bench.rig.records()
        bench.start(IvPlan(to_v=-0.1, step_v=0.01, dwell_s=0.02, back_scan=False))
        assert (await bench.ended())["status"] == "completed"
        assert len({round(s.bias_v, 6) for s in bench.rig.samples()}) == 11

    on_bench(tmp_path, test)


@pytest.mark.realtime
def test_a_plan_of_many_levels_never_holds_the_loop(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start(IvPlan(to_v=-1.0, step_v=1e-4, dwell_s=0.001, back_scan=False))
        await bench.until(lambda: bench.rig.page.energised)
        longest = 0.0
        # Wall time between two turns of the virtual clock, over the first readings: far below the keeper's 100 ms.
        for _ in range(200):
            began = time.perf_counter()
            await bench.clock.sleep_until(bench.clock.now_ns() + MS)
            longest = max(longest, time.perf_counter() - began)
        assert longest < 0.050
        bench.rig.worker.runner.stop(by="test")
        await bench.ended()

    on_bench(tmp_path, test)


def test_the_panel_is_given_back_when_the_controller_ends(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start(IvPlan(to_v=-0.1, step_v=0.02, back_scan=False))
        await bench.ended()
        written: list[bytes] = []

        def note(_n: int, data: bytes) -> bytes:
            written.append(data)
            return data

        bench.rig.line.tamper(note)
        assert await bench.rig.worker.shut_down(Verdict.SHUTDOWN, by="test")
        assert b":SYST:LOC" in b"".join(written)
        assert b":OUTP ON" not in b"".join(written)
        await bench.clock.sleep_until(bench.clock.now_ns() + 100 * MS)
        assert bench.rig.device.error_queue == ()
        assert bench.off

    on_bench(tmp_path, test)


def test_a_plan_for_a_tip_is_refused_on_a_cell(tmp_path: Path) -> None:
    cell = Config.model_validate(
        {
            "rig": {"id": "cell", "kind": "cell", "series_resistor_ohm": 1000.0},
            "ports": {"smu": {"path": "memory"}},
            "smu": {"serial_number": "1304207"},
        }
    )

    async def test(bench: VirtualBench) -> None:
        with pytest.raises(PlanRefusedError, match="cell"):
            bench.start()

    on_bench(tmp_path, test, config=cell)


def test_real_hardware_without_a_profile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hil.line.memory.MemoryTransport.emulated", property(lambda _self: False))
    Mirror(tmp_path).write(Latch(CLEAN))

    async def test(bench: VirtualBench) -> None:
        with pytest.raises(PlanRefusedError, match="commission"):
            bench.start()
        assert bench.truth.events("live") == []

    on_bench(tmp_path, test)


def test_a_sample_carries_the_bias_that_was_sent(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        sent: list[float] = []

        def note(_n: int, data: bytes) -> bytes:
            if data.startswith(b":SOUR:VOLT ") and b"READ?" in data:
                sent.append(float(data[11 : data.index(b"\n")]))
            return data

        bench.rig.line.tamper(note)
        # A third of a volt in sevenths of 10 mV: no level is a whole number of 0.1 mV.
        bench.start(IvPlan(to_v=-1 / 3, step_v=0.01 / 7 * 10, dwell_s=0.001, back_scan=False))
        assert (await bench.ended())["status"] == "completed"
        assert [s.bias_v for s in bench.rig.samples()] == sent

    on_bench(tmp_path, test)
