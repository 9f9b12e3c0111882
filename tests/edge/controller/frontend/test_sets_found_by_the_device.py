"""What a plan seeks, found by the front end: a planned cut behind an open switch, its black box in the event."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest

from edge.controller.front_cut import FrontCut
from edge.experiments.iv import IvPlan
from edge.guard.states import State
from edge.ring import Kind, unpack_sample
from firmware_proto.frontend.messages import State as DeviceState
from tests.edge.controller.frontend.series_bench import SEES, SeriesBench, in_series, needs_cc, site

pytestmark = needs_cc
SAMPLE_NS = 10_000
SEARCH = IvPlan(to_v=-0.6, back_scan=False)


@functools.cache
def sought() -> SeriesBench:
    """Return the bench behind a search that the front end has ended."""
    benches: list[SeriesBench] = []

    async def work(bench: SeriesBench) -> None:
        bench.start(SEARCH)
        run = await bench.ended()
        assert run["status"] == "completed", run["reason"]
        bench.all_records()
        benches.append(bench)

    with tempfile.TemporaryDirectory() as folder:
        in_series(Path(folder), work, load=site, frontend=SEES)
    return benches[0]


def test_a_set_is_a_planned_cut_and_the_switch_was_open_three_samples_behind_its_onset() -> None:
    bench = sought()
    run = bench.rig.worker.runner.run
    assert run is not None
    [trigger] = run["results"]["triggers"]
    assert trigger["verdict"] == "FRONTEND"
    cut = bench.cut()
    assert cut["planned"]
    assert cut["verified"]
    assert not cut["escalated"]
    assert cut["rounds"] == 1
    front = cut["frontend"]
    assert (front["reason"], front["surge"]) == ("LEVEL", True)
    # level_n samples, the first of which is the one behind the onset.
    assert 0 < bench.opened_ns() - bench.onset_ns() <= 3 * SAMPLE_NS
    assert bench.off
    assert bench.engine.state is State.SAFE
    assert bench.engine.report.planned_cuts == 1
    assert bench.engine.report.protective_cuts == 0


def test_the_black_box_shows_what_no_reading_of_the_instrument_has_seen() -> None:
    cut = sought().cut()
    box = cut["frontend"]["box"]
    t_ns, current_a = (
        np.frombuffer(box["cols"][name]["data"], box["cols"][name]["dtype"]) for name in ("t_ns", "current_a")
    )
    assert len(t_ns) == box["n"] == 1 + 500 + 200
    assert np.all(np.abs(np.diff(t_ns) - SAMPLE_NS) <= 10)
    at = box["trip_at"]
    assert np.all(np.abs(current_a[at - 2 : at + 1]) > 1e-5)
    assert np.all(np.abs(current_a[: at - 2]) < 1e-6)
    assert np.all(current_a[at + 1 :] == 0), "the path is open"
    assert current_a[at] == pytest.approx(cut["frontend"]["current_a"], rel=1e-6)
    # The instrument has read nothing of it; the setting event has the device's sample instead.
    assert cut["setting"]["set_current_a"] == cut["frontend"]["current_a"]
    assert cut["setting"]["charge_is_lower_bound"]
    assert not cut["setting"]["onset_found"]


def test_both_streams_tell_of_one_surge_at_one_time() -> None:
    bench = sought()
    front = bench.cut()["frontend"]
    unc_ns = front["t_unc_ns"]
    onset_ns, opened_ns = bench.onset_ns(), bench.opened_ns()
    # The device's time, on the host's clock, against the twin's own record.
    assert abs(front["t_ns"] - opened_ns) <= unc_ns + SAMPLE_NS
    assert 0 < unc_ns < 2_000_000
    samples = [unpack_sample(r.payload)[2] for r in bench.all_records() if r.kind == Kind.SAMPLE]
    before = max((s for s in samples if s.t_ns < onset_ns), key=lambda s: s.t_ns)
    after = min((s for s in samples if s.t_ns > opened_ns), key=lambda s: s.t_ns)
    assert before.t_ns - before.t_unc_ns < front["t_ns"] + unc_ns
    assert front["t_ns"] - unc_ns < after.t_ns + after.t_unc_ns
    # The row of the 1 kHz stream that holds the surge is the one that says it, within what both say of their times.
    rows = [
        (block.t_ns + k * block.period_ns, block.t_unc_ns, low)
        for block in bench.blocks()
        for k, low in enumerate(np.frombuffer(block.data, "<i2").reshape(-1, 2).min(axis=1))
    ]
    t_ns, row_unc_ns, low = min(rows, key=lambda row: row[2])
    assert low * 40e-9 == pytest.approx(front["current_a"], rel=0.01)
    assert t_ns - row_unc_ns - unc_ns <= front["t_ns"] <= t_ns + 1_000_000 + row_unc_ns + unc_ns


def test_it_spends_a_rearm_and_closes_again_only_behind_the_verified_cut(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        seen: list[tuple[DeviceState, bool]] = []

        def look() -> bool:
            if bench.truth.events("set_onset"):
                seen.append((bench.core.state, bench.engine.state is State.CUTTING))
            return not bench.rig.worker.runner.busy

        bench.start(IvPlan(to_v=-0.6))
        await bench.until(look)
        run = await bench.ended()
        assert run["status"] == "completed", run["reason"]
        assert run["results"]["triggers"][0]["lrs"]["n"] >= 3, (
            "what formed was read through a switch that is closed again"
        )
        assert bench.rig.worker.runner._rearms == 1
        cutting = [state for state, cutting in seen if cutting and state is not DeviceState.ARMED]
        assert cutting
        # In the cut of the surge it stays tripped until the proof is there.
        assert set(cutting) == {DeviceState.TRIPPED}

    in_series(tmp_path, test, load=site, frontend=SEES)


def test_more_of_them_than_a_run_may_have_end_it(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        bench.start(IvPlan(to_v=-0.6, cycles=3, on_trigger="continue", back_scan=False))
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "limits.rearms_per_run = 1" in run["reason"]

    in_series(tmp_path, test, load=site, frontend=SEES, sections={"limits": {"rearms_per_run": 1}})


def test_a_plan_that_holds_at_0_v_is_switched_off_all_the_same(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        bench.start(IvPlan(to_v=-0.6, cycles=2, on_trigger="continue", back_scan=False, after_cut="hold_0v"))
        run = await bench.ended()
        assert run["status"] == "completed", run["reason"]
        first, *_ = bench.documents("cut")
        assert first["verdict"] == "FRONTEND"
        assert "held" not in first
        assert bench.heard.count(b":OUTP ON") == 2

    in_series(tmp_path, test, load=site, frontend=SEES)


def test_without_waiting_for_the_answer_under_way_the_next_question_is_one_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hasty(FrontCut):
        def on_trip(self, trip: object) -> None:
            self.pending = trip  # type: ignore[assignment]
            self.fire()

    monkeypatch.setattr("edge.controller.engine.FrontCut", Hasty)

    async def test(bench: SeriesBench) -> None:
        bench.start(SEARCH)
        await bench.ended()

    with pytest.raises(Exception, match="before the last one was answered"):
        in_series(tmp_path, test, load=site, frontend=SEES)
