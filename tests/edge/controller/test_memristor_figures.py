"""The issue's figure of the memristor: 200 cycles, reset with the cut, and stuck without it; 1.5 kohm, 5 seeds.

Set ramp to -0.25 V at 1 V/s and 1 s there, reset to +1 V at 2 V/s, on the full twin. Five seeds of 200 cycles in the
long rounds, one of 20 in the quick suite.
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge.experiments.memristor import MemristorPlan
from edge.guard.guard import Guard
from edge.guard.verdicts import Verdict
from edge.ring import Kind
from edge.samples import Sample
from hil.rig import VirtualRig, config_for
from hil.twin.full import Site
from hil.twin.truth import TruthRecord
from hil.virtual import VirtualClock, run_virtual

LONG = os.environ.get("TIPGUARD_LONG") == "1"
pytestmark = [pytest.mark.timeout(300 if LONG else 60), *([pytest.mark.long] if LONG else [])]

CYCLES = 200 if LONG else 20
SEEDS = range(1, 6 if LONG else 2)
SERIES_OHM = 1500.0
WALL_S = 20.0 * CYCLES / 200
NEEDED = CYCLES - 1
STUCK = CYCLES // 10


@dataclasses.dataclass
class Judged:
    """One run: what the controller said, what the twin knows, how long it took."""

    run: dict[str, Any]
    cycles: list[dict[str, Any]]
    truth: TruthRecord
    wall_s: float

    @property
    def reset_ok(self) -> int:
        return sum(bool(cycle["reset_ok"]) for cycle in self.cycles)

    @property
    def truly_reset(self) -> int:
        """Cycles that began with a set, by the twin, and at whose end the filament was open."""
        on, count = False, 0
        for event in self.truth.entries:
            if event["event"] == "set_onset":
                on = True
            elif event["event"] == "reset":
                count += on
                on = False
        return count


def cycled(directory: Path, seed: int) -> Judged:
    truth = TruthRecord()

    async def main(clock: VirtualClock) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        load = Site("gb", series_ohm=SERIES_OHM, seed=seed, truth=truth)
        config = config_for(series_ohm=SERIES_OHM, limits={"rearms_per_run": CYCLES, "voltage_v": 1.0})
        documents: list[dict[str, Any]] = []
        async with VirtualRig.running(clock, load, directory, seed=seed, config=config) as rig:
            plan = MemristorPlan(
                cycles=CYCLES, set_v=-0.25, zero=False, max_failures=CYCLES, accept_unprotected_host=True
            )
            rig.worker.runner.start(plan, by="test")
            while rig.worker.runner.busy:
                documents += [msgpack.unpackb(r.payload) for r in rig.records() if r.kind == Kind.RUN]
                # The ring gets its room back, as from the uplink.
                rig.reader.release()
                await clock.sleep_until(clock.now_ns() + 1_000_000_000)
            documents += [msgpack.unpackb(r.payload) for r in rig.records() if r.kind == Kind.RUN]
            run = rig.worker.runner.run
            assert run is not None
            assert not rig.device.output_on
        return run, [document for document in documents if document["kind"] == "cycle"]

    began_s = time.perf_counter()
    run, cycles = run_virtual(main)
    return Judged(run, cycles, truth, time.perf_counter() - began_s)


@pytest.mark.realtime
@pytest.mark.parametrize("seed", SEEDS)
def test_with_the_cut_it_resets_and_without_it_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    judged = {}
    for cut in (True, False):
        directory = tmp_path / str(cut)
        directory.mkdir()
        if not cut:
            # The guard sees everything and says nothing: the filament thickens for as long as the plan stays there.
            def blind(self: Guard, sample: Sample) -> Verdict | None:
                self._capture.push(sample)
                return None

            monkeypatch.setattr(Guard, "observe", blind)
        judged[cut] = cycled(directory, seed)
    with_cut, without = judged[True], judged[False]
    print(
        f"\nseed {seed}: {CYCLES} cycles in {with_cut.wall_s:.1f} s; reset_ok {with_cut.reset_ok} with the cut "
        f"(twin: {with_cut.truly_reset}), {without.reset_ok} without (twin: {without.truly_reset}); "
        f"on/off {with_cut.run['results']['on_off_median']:.3g} or more"
    )
    assert with_cut.run["status"] == without.run["status"] == "completed"
    assert len(with_cut.cycles) == len(without.cycles) == CYCLES
    assert with_cut.reset_ok >= NEEDED
    assert without.reset_ok <= STUCK
    # The controller's word against the twin's: as many sets as it says, each opened again.
    sets = len(with_cut.truth.events("set_onset"))
    assert sum(cycle["set"] for cycle in with_cut.cycles) == sets
    assert with_cut.truly_reset == sets
    assert with_cut.reset_ok == CYCLES - (sets - with_cut.truly_reset)
    # Without the cut the same holds, but for a cycle in which nothing set.
    assert abs(without.reset_ok - without.truly_reset) <= 1
    assert with_cut.wall_s < WALL_S
