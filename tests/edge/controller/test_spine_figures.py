"""The issue's figure: grain-boundary sites at 0.1 V/s, 57600 baud, judged by the twin's truth record.

200 sites in the long rounds, the first 40 of them in the quick suite.
"""

from __future__ import annotations

import dataclasses
import os
import random
import statistics
from pathlib import Path
from typing import Any

import pytest

from edge.experiments.iv import IvPlan
from edge.samples import Phase
from hil.rig import VirtualRig, config_for
from hil.twin.site import SwitchingSite
from hil.twin.truth import TruthRecord
from hil.virtual import VirtualClock, run_virtual

LONG = os.environ.get("TIPGUARD_LONG") == "1"
SEEDS = 200 if LONG else 40
STEP_V = 0.002
SERIES_OHM = 1000.0


@dataclasses.dataclass(frozen=True)
class Judged:
    """One sweep: what the controller said, what the twin knows."""

    seed: int
    run: dict[str, Any]
    onset_v: float | None
    samples_in_seek: int
    safe_after_s: float | None
    peak_v: float


def sweep(seed: int, directory: Path, *, conductance_s: float, to_v: float = -0.7) -> Judged:
    u_median_v = random.Random(seed * 7919 + 13).uniform(0.08, 0.5)
    truth = TruthRecord()

    async def main(clock: VirtualClock) -> Judged:
        load = SwitchingSite("gb", u_median_v=u_median_v, series_ohm=SERIES_OHM, seed=seed, truth=truth)
        config = config_for(series_ohm=SERIES_OHM, limits={"conductance_s": conductance_s})
        async with VirtualRig.running(clock, load, directory, seed=seed, config=config) as rig:
            run = await rig.run(IvPlan(to_v=to_v, step_v=STEP_V, dwell_s=0.02, back_scan=False))
            seek = sum(sample.phase == Phase.SEEK for sample in rig.samples())
            assert not rig.page.energised
            rig.page.close()
        onsets = truth.events("set_onset")
        safe = [e for e in truth.events("safe") if onsets and e["t_ns"] > onsets[0]["t_ns"]]  # type: ignore[operator]
        summary = truth.events("summary")[-1]
        return Judged(
            seed,
            run,
            float(onsets[0]["v_source"]) if onsets else None,  # type: ignore[arg-type]
            seek,
            (safe[0]["t_ns"] - onsets[0]["t_ns"]) / 1e9 if safe else None,  # type: ignore[operator]
            float(summary["peak_v"]),  # type: ignore[arg-type]
        )

    return run_virtual(main)


@pytest.mark.parametrize("conductance_s", [1e-5, 0.0], ids=["conductance-test-on", "surge-tests-alone"])
def test_every_set_is_found_and_none_is_invented(tmp_path: Path, conductance_s: float) -> None:
    judged = []
    for seed in range(SEEDS):
        directory = tmp_path / str(seed)
        directory.mkdir()
        judged.append(sweep(seed, directory, conductance_s=conductance_s))
    errors_steps = []
    for one in judged:
        assert one.run["status"] == "completed", one
        triggers = one.run["results"]["triggers"]
        found = len(triggers)
        # Found if and only if the twin set: none missed, none invented.
        assert found == (one.onset_v is not None), one
        assert one.peak_v <= 0.7 + 1e-9, one
        if one.onset_v is not None:
            errors_steps.append(abs(triggers[0]["trigger_bias_v"] - one.onset_v) / STEP_V)
            assert one.safe_after_s is not None
            # One sample (21 ms), the next, the cut's wire and processing: far inside a tenth of a second.
            assert one.safe_after_s < 0.085, one
    errors_steps.sort()
    assert len(errors_steps) >= SEEDS * 0.9
    found = len(errors_steps)
    print(
        f"\n{found} sets in {SEEDS} sweeps, all found; none invented (0 of {SEEDS}: below {3 / SEEDS:.1%} at 95 %); "
        f"|measured - truth| median {statistics.median(errors_steps):.2f}, "
        f"p99 {errors_steps[int(found * 0.99)]:.2f}, max {errors_steps[-1]:.2f} bias steps; "
        f"safe after onset: median {statistics.median(one.safe_after_s or 0 for one in judged if one.onset_v):.4f} s, "
        f"max {max(one.safe_after_s or 0 for one in judged):.4f} s"
    )
    assert statistics.median(errors_steps) <= 1.0
    assert errors_steps[int(len(errors_steps) * 0.99)] <= 2.0


def test_without_the_detector_the_set_goes_uncut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The removal test of the whole figure: a guard that never gives a verdict lets current flow for seconds.
    from edge.guard.guard import Guard

    monkeypatch.setattr(Guard, "observe", lambda _self, _sample: None)
    one = sweep(3, tmp_path, conductance_s=1e-5)
    assert one.onset_v is not None
    assert one.run["results"]["triggers"] == []
    assert one.safe_after_s is None or one.safe_after_s > 1.0


def test_a_site_that_never_sets_gives_no_trigger(tmp_path: Path) -> None:
    # 0.08 V median at the least, and the sweep turns at 10 mV.
    one = sweep(5, tmp_path, conductance_s=0.0, to_v=-0.01)
    assert one.onset_v is None
    assert one.run["results"]["triggers"] == []
    assert one.samples_in_seek >= 10
