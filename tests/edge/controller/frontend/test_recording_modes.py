"""What is kept of the front end's samples, mode by mode; a recording with it replays, or says why it does not."""

from __future__ import annotations

import functools
import itertools
import tempfile
from pathlib import Path

import msgpack
import numpy as np
import pytest

from edge.errors import FlightError
from edge.experiments.iv import IvPlan
from edge.flight import Stretch, cut_out, read_flight, run_uids, stretches
from edge.front_block import MINMAX, FrontBlock
from edge.ring import Kind
from edge.tape import FRONTEND, IN
from hil.replay import replay
from tests.edge.controller.frontend.series_bench import QUIET, SEES, SeriesBench, in_series, needs_cc, site

pytestmark = needs_cc
SLOW = 10_000
SWEEP = IvPlan(to_v=-0.3, step_v=0.05, dwell_s=0.1, back_scan=False)


def recorded(frontend: dict[str, object], plan: IvPlan = SWEEP, **options: object) -> tuple[SeriesBench, list[Stretch]]:
    """Return the bench behind a run, everything read, and what can be replayed of it."""
    benches: list[SeriesBench] = []

    async def work(bench: SeriesBench) -> None:
        bench.start(plan)
        run = await bench.ended()
        assert run["status"] == "completed", run["reason"]
        await bench.until(lambda: bench.front.at_rest, 1.0)
        bench.rig.worker.recorder.flush_tape()
        benches.append(bench)

    with tempfile.TemporaryDirectory() as folder:
        in_series(Path(folder), work, frontend=frontend, **{"sample_hz": SLOW, **options})  # type: ignore[arg-type]
        found, notes = stretches(read_flight(Path(folder) / "ring").records)
        assert notes == []
        benches[0].all_records()
    return benches[0], found


def consecutive(blocks: list[FrontBlock]) -> None:
    for before, after in itertools.pairwise(blocks):
        assert after.first == before.first + before.rows
        if after.boot == before.boot and after.step == before.step:
            assert after.index == before.index + before.rows * before.step


@functools.cache
def event_mode() -> tuple[SeriesBench, list[Stretch]]:
    return recorded(SEES, IvPlan(to_v=-0.6), load=site, sample_hz=SLOW)


# --------------------------------------------------------------------------------------------------------------- modes


def test_event_keeps_the_extremes_of_each_millisecond_from_the_arming_to_the_cut() -> None:
    bench, _ = event_mode()
    blocks = bench.blocks()
    assert {(block.columns, block.step) for block in blocks} == {(MINMAX, 10)}
    seek = [block for block in blocks if block.t_ns < bench.opened_ns()]
    assert sum(block.rows for block in seek) > 500
    run = int(bench.rig.worker.runner.run["uid"], 16)  # type: ignore[index] # it ran
    assert {block.run for block in blocks} == {run}
    assert bench.rig.worker.recorder.front_lost == 0
    assert not [record for record in bench.all_records() if record.kind == Kind.TOMBSTONE]


def test_decimated_keeps_what_is_asked_for() -> None:
    bench, _ = recorded({**QUIET, "recording": "decimated", "decimated_hz": 2000.0})
    blocks = bench.blocks()
    assert {block.step for block in blocks} == {5}
    assert all(block.period_ns == pytest.approx(500_000, rel=2e-3) for block in blocks)
    consecutive(blocks)


def test_full_keeps_every_sample_for_its_time_and_then_what_event_keeps() -> None:
    bench, found = recorded({**QUIET, "recording": "full", "full_max_s": 0.5})
    blocks = bench.blocks()
    consecutive(blocks)
    every = [block for block in blocks if block.step == 1]
    thinned = [block for block in blocks if block.step == 10]
    samples = sum(block.rows for block in every)
    assert samples == pytest.approx(0.5 * SLOW, abs=0.1 * SLOW)
    assert sum(block.rows for block in thinned) > 300
    # None is missing at the seam, either.
    assert thinned[0].index == every[-1].index + every[-1].rows
    assert "GB/h" in bench.front.notes[0]
    # And it is what flowed: the ohmic load's current at the level of the time, in codes of 40 nA.
    codes = np.concatenate([np.frombuffer(block.data, "<i2") for block in every])
    assert codes.min() == pytest.approx(-0.15 / 1e6 / 40e-9, abs=1.5)
    with pytest.raises(FlightError, match='recorded "full"'):
        replay(found[0])


def test_times_are_those_of_the_twin_within_what_is_said_of_them() -> None:
    bench, _ = recorded({**QUIET, "recording": "full", "full_max_s": 60.0})
    offset_ns = bench.unit._ahead_ns
    assert offset_ns is not None
    for block in bench.blocks():
        for k in (0, block.rows - 1):
            # The lockstep device takes sample i at (i + 1) periods of its own clock.
            true_ns = offset_ns + (block.index + k + 1) * 1_000_000_000 // SLOW
            assert abs(block.t_ns + k * block.period_ns - true_ns) <= block.t_unc_ns
        assert block.t_unc_ns < 3_000_000


# -------------------------------------------------------------------------------------------------------------- replay


def test_a_run_with_a_set_that_the_device_found_replays_to_the_same() -> None:
    _, [stretch] = event_mode()
    ports = {entry[2] for entry in stretch.entries() if not isinstance(entry, int) and entry[0] == IN}
    assert FRONTEND in ports
    again = replay(stretch)
    assert again.difference is None
    [cut] = again.cuts
    assert cut["verdict"] == "FRONTEND"
    assert cut["frontend"]["box"]["n"] > 0
    assert again.state == "SAFE"


def test_a_run_is_replayed_from_the_rest_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.controller.flight.CHECKPOINT_NS", 200_000_000)
    plan = IvPlan(to_v=-0.6, back_scan=False)

    async def work(bench: SeriesBench) -> None:
        # A run first: its session, its trip and its black box are behind the beginning of the replay.
        for _ in range(2):
            bench.start(plan)
            run = await bench.ended()
            assert run["status"] == "completed", run["reason"]
            await bench.clock.sleep_until(bench.clock.now_ns() + 500_000_000)
        bench.rig.worker.recorder.flush_tape()

    with tempfile.TemporaryDirectory() as folder:
        in_series(Path(folder), work, load=site, frontend=SEES, sample_hz=SLOW)
        found, notes = stretches(read_flight(Path(folder) / "ring").records)
    assert notes == []
    [whole] = found
    _, uid = run_uids(whole)
    run = cut_out(whole, uid)
    assert run.start["from"] == "checkpoint"
    assert run.start["state"]["engine"]["front"]["told"] is not None
    again = replay(run)
    assert again.difference is None, again.difference
    assert [cut["verdict"] for cut in again.cuts]


def test_a_device_that_had_not_tripped_replays_to_another() -> None:
    _, [stretch] = event_mode()
    at = next(n for n, record in enumerate(stretch.records) if record.kind == Kind.EVENT)
    document = msgpack.unpackb(stretch.records[at].payload)
    assert document["frontend"]["reason"] == "LEVEL"
    document["frontend"]["reason"] = "HARD"
    records = list(stretch.records)
    records[at] = records[at]._replace(payload=msgpack.packb(document))
    different = replay(Stretch(stretch.start, records)).difference
    assert different is not None
    assert "reason" in different.where
