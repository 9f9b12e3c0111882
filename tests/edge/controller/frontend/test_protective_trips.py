"""Everything else that a front end has to say protects: the bias goes, and the guard latches. Judged by the twin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.controller.front_end import FrontEnd
from edge.errors import PlanRefusedError
from edge.experiments.iv import IvPlan
from edge.guard.front_trip import TRIP
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from edge.samples import Phase
from firmware_proto.frontend import framing
from firmware_proto.frontend.messages import State as DeviceState
from hil.virtual_bench import MS
from tests.edge.controller.frontend.series_bench import QUIET, SEES, SeriesBench, in_series, needs_cc, site

pytestmark = needs_cc
LEASE_NS = 100 * MS
SLOW = 10_000
SAMPLE_NS = 100_000
SWEEP = IvPlan(to_v=-0.6, step_v=0.05, dwell_s=0.2, back_scan=False)


async def live(bench: SeriesBench) -> int:
    """Start a sweep and return when there is a bias at the tip."""
    bench.start(SWEEP)
    await bench.until_live()
    return bench.clock.now_ns()


async def tripped(bench: SeriesBench, verdict: Verdict) -> dict[str, Any]:
    """Wait for the end of a run that this verdict has ended; return its cut's event."""
    run = await bench.ended()
    assert run["status"] == "tripped", run["reason"]
    assert run["reason"].startswith(verdict.value)
    assert bench.engine.state is State.TRIPPED
    assert bench.engine.report.trip_verdict is verdict
    assert bench.off
    cut = bench.cut()
    assert cut["verdict"] == verdict.value
    assert not cut["planned"]
    return cut


# ------------------------------------------------------------------------------------------------------ the lease


def test_a_control_task_that_stalls_loses_the_lease(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        await live(bench)
        assert bench.rig._control is not None
        stalled_ns = bench.clock.now_ns()
        # The reader goes on, and so does the loop: nothing but the control task stands still.
        bench.rig._control.cancel()
        await bench.until(lambda: bench.engine.state is State.TRIPPED, 1.0)
        assert bench.engine.report.trip_verdict is Verdict.LEASE
        assert bench.opened_ns() - stalled_ns <= LEASE_NS + SAMPLE_NS
        assert bench.core.state is DeviceState.TRIPPED
        assert bench.off

    in_series(tmp_path, test, sample_hz=SLOW)


def test_a_host_that_is_frozen_is_cut_by_its_lease(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        await live(bench)
        assert bench.rig._control is not None
        assert bench.rig.frontend_line is not None
        bench.rig._control.cancel()
        bench.rig.line.transport.on_readable(None)
        bench.rig.frontend_line.transport.on_readable(None)
        frozen_ns = bench.clock.now_ns()
        await bench.clock.sleep_until(frozen_ns + 300 * MS)
        assert bench.rig.device.output_on, "nobody has cut the instrument"
        assert 0 < bench.opened_ns() - frozen_ns <= LEASE_NS + SAMPLE_NS
        assert abs(bench.load.v_tip) < 1e-3
        bench.rig.line.transport.on_readable(bench.rig.worker.link.readable)

    in_series(tmp_path, test, sample_hz=SLOW)


def test_a_lease_that_an_io_task_renews_keeps_the_bias_on_behind_a_dead_control_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(bench: SeriesBench) -> None:
        front = bench.front

        def renew() -> None:
            bench.clock.call_at(bench.clock.now_ns() + 30 * MS, renew)
            if front._wanted:
                front._unit.renew(permission())  # type: ignore[arg-type]

        def permission() -> object:
            front.permissions._owner = None
            monkeypatch.setattr("edge.instruments.lease._running_task", lambda: None)
            front.permissions._out.append(given := type("Free", (), {"until_ns": bench.clock.now_ns() + LEASE_NS})())
            return given

        await live(bench)
        renew()
        assert bench.rig._control is not None
        bench.rig._control.cancel()
        await bench.clock.sleep_until(bench.clock.now_ns() + 500 * MS)
        assert abs(bench.load.v_tip) > 0.1, "without the rule the tip stays live with nobody at the wheel"
        bench.engine.tick = lambda: None  # type: ignore[method-assign] # and the bench ends

    in_series(tmp_path, test, sample_hz=SLOW)


# ----------------------------------------------------------------------------------------- what becomes of the device


def test_a_device_that_starts_anew_is_cut_for(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        reset_ns = await live(bench)
        bench.unit.reset(reset_ns)
        cut = await tripped(bench, Verdict.FRONTEND)
        assert [one["name"] for one in cut["actuators"]] == ["frontend", "serial"]
        assert cut["decided_ns"] - reset_ns < 200 * MS
        assert "started anew" in str(bench.engine.report.alarm)
        assert bench.safe_after(reset_ns) == pytest.approx(0, abs=1e-4), "the pull-down opens it with the reset"

    in_series(tmp_path, test, sample_hz=SLOW)


def test_a_plug_that_is_pulled_is_cut_for_and_no_run_follows(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        pulled_ns = await live(bench)
        assert bench.rig.frontend_line is not None
        bench.rig.frontend_line.unplug()
        cut = await tripped(bench, Verdict.FRONTEND)
        assert cut["decided_ns"] - pulled_ns < MS
        await bench.clock.sleep_until(pulled_ns + LEASE_NS + 10 * MS)
        assert bench.opened_ns() - pulled_ns <= LEASE_NS + SAMPLE_NS
        bench.engine.rearm(by="test")
        bench.start(SWEEP)
        run = await bench.ended()
        assert run["status"] == "failed"
        assert bench.heard.count(b":OUTP ON") == 1

    in_series(tmp_path, test, sample_hz=SLOW)


def test_a_device_that_stands_still_is_cut_for_by_its_silence(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        frozen_ns = await live(bench)
        bench.unit.freeze(frozen_ns)
        await tripped(bench, Verdict.FRONTEND)
        assert bench.core.closed, "its watchdog is frozen, too: the instrument alone took the bias away"
        safe_s = bench.safe_after(frozen_ns)
        assert safe_s is not None
        assert safe_s < 0.5
        assert "has said nothing" in str(bench.engine.report.alarm)

    in_series(tmp_path, test, sample_hz=SLOW)


def test_a_switch_that_does_not_open_is_no_planned_cut(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        bench.start(IvPlan(to_v=-0.6))
        await bench.until_live(0.02)
        bench.unit.stick_switch(bench.clock.now_ns(), stuck=True)
        await tripped(bench, Verdict.FRONTEND)
        assert "conducts although it is open" in str(bench.engine.report.alarm)
        assert bench.load.path_closed
        # It stays refused, whatever a person says.
        bench.engine.rearm(by="test")
        bench.start(SWEEP)
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "switch conducts although it is open: repair it" in run["reason"]
        assert bench.heard.count(b":OUTP ON") == 1

    in_series(tmp_path, test, load=site, frontend=SEES, sample_hz=SLOW)


def test_a_trip_outside_a_search_protects(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        bench.start(IvPlan(to_v=-0.6))
        await bench.until(lambda: bench.engine.guard.phase is Phase.LRS_READ and abs(bench.load.v_tip) > 1e-3)
        bench.load.shunt(bench.clock.now_ns(), "short", 1e-2)
        run = await bench.ended()
        assert run["status"] == "tripped"
        _, cut = bench.documents("cut")
        assert (cut["verdict"], cut["phase"], cut["planned"]) == ("FRONTEND", "LRS_READ", False)
        assert cut["frontend"]["reason"] == "HARD"
        assert bench.off

    # The search itself ends at the instrument's own reading: nothing but HARD looks, above what the set carries.
    in_series(tmp_path, test, load=site, frontend={"hard_a": 1.7e-5}, sample_hz=SLOW)


def test_with_a_filament_there_its_own_current_is_no_surge(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        bench.start(IvPlan(to_v=-0.6))
        run = await bench.ended()
        assert run["status"] == "completed", run["reason"]
        # 20 mV through what formed is above level_a, which is off in this phase.
        assert 0.02 * run["results"]["triggers"][0]["lrs"]["conductance_s"] > 2e-6

    in_series(tmp_path, test, load=site, frontend={**SEES, "level_a": 2e-6}, sample_hz=SLOW)


# --------------------------------------------------------------------------------------------- the host's own trips


def test_a_person_s_stop_opens_the_path_before_the_instrument_has_heard_of_it(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        await live(bench)
        stopped_ns = bench.clock.now_ns()
        bench.rig.worker.runner.stop(by="ana")
        cut = await tripped(bench, Verdict.OPERATOR)
        assert [one["name"] for one in cut["actuators"]] == ["frontend", "serial"]
        # A frame of 16 bytes at 921600 baud and a sample; the instrument's cut takes ten times as long.
        assert bench.opened_ns() - stopped_ns < MS
        told = cut.get("frontend") or bench.documents("black_box")[0]["frontend"]
        assert told["reason"] == "HOST"

    in_series(tmp_path, test, sample_hz=SLOW)


def test_the_bytes_of_keeper_and_safe_off_trip_whatever_session_stands(tmp_path: Path) -> None:
    assert TRIP == framing.TRIP_BYTES

    async def test(bench: SeriesBench) -> None:
        at_ns = await live(bench)
        bench.unit.receive(at_ns, TRIP)
        assert not bench.core.closed
        cut = await tripped(bench, Verdict.FRONTEND)
        assert cut["frontend"]["reason"] == "HOST"

    in_series(tmp_path, test, sample_hz=SLOW)


# ------------------------------------------------------------------------------------------------ a crossing let pass


def test_a_crossing_that_the_device_lets_pass_is_found_by_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FrontEnd.arm

    async def half_as_high(self: FrontEnd) -> None:
        await whole(self)
        # As if the device had lost a bit of what it says is in force.
        assert self._watch is not None
        self._watch._limits = type(self._watch._limits)(full_scale_code=32767, hard_code=2)

    monkeypatch.setattr(FrontEnd, "arm", half_as_high)

    async def test(bench: SeriesBench) -> None:
        bench.start(IvPlan(to_v=-0.6, back_scan=False))
        run = await bench.ended()
        assert run["status"] == "tripped"
        assert "let sample" in str(bench.engine.report.alarm)
        assert bench.cut()["verdict"] == "FRONTEND"

    in_series(tmp_path, test, frontend=QUIET, sample_hz=SLOW)


def test_a_device_of_another_schema_is_never_armed_and_still_tripped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(bench: SeriesBench) -> None:
        assert "schema" in str(bench.engine.report.alarm)
        bench.start(SWEEP)
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "schema" in run["reason"]
        assert b":OUTP ON" not in bench.heard
        assert bench.core.state is DeviceState.SAFE
        bench.front.actuator.cut()
        await bench.until(lambda: bench.core.state is DeviceState.TRIPPED, 0.1)

    monkeypatch.setattr("firmware_proto.frontend.session.SCHEMA_HASH", 0xBAD)
    in_series(tmp_path, test, sample_hz=SLOW)


def test_a_rig_whose_front_end_has_no_port_runs_nothing(tmp_path: Path) -> None:
    from hil.rig import config_for
    from hil.virtual_bench import VirtualBench, on_bench

    async def test(bench: VirtualBench) -> None:
        bench.start(SWEEP)
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "is gone; plug it in" in run["reason"]
        assert not bench.rig.device.output_on
        with pytest.raises(PlanRefusedError, match="gone"):
            await bench.engine.arm(Phase.SEEK, 0.1)

    on_bench(tmp_path, test, config=config_for(series_ohm=1000.0, frontend=QUIET))
