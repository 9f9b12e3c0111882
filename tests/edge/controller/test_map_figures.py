"""The issue's figures of the trigger map: the whole rig in virtual time, 10 kohm, 57600 baud, 0.1 V/s.

Full numbers of sites in the long rounds; a few of each kind in the quick suite.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.analysis.ramp_law import drives_of
from edge.analysis.trigger_fit import fit_trigger
from edge.experiments.trigger_map import TriggerMapPlan
from edge.samples import Phase, Sample
from hil.map_bench import MapBench, on_map_bench
from hil.twin.grains import Box

LONG = os.environ.get("TIPGUARD_LONG") == "1"
pytestmark = [pytest.mark.timeout(600 if LONG else 60), *([pytest.mark.long] if LONG else [])]

RATE_V_S = 0.1
STEP_V = 0.0024
GB_MEDIAN_V, GI_MEDIAN_V, HL_MEDIAN_V = 0.12, 9.5, 3.0
SITES = 60 if LONG else 8
LAYERS = 60 if LONG else 2
UM = 1e-6
BARE, COVERED = Box(52 * UM, 20 * UM, 80 * UM, 80 * UM), Box(20 * UM, 20 * UM, 48 * UM, 80 * UM)


def mapped(directory: Path, points: Callable[[MapBench], list[list[Any]]], **options: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - the bench's
    """Run a map over ``points``; return its points' documents, judged one by one against the sample's own record."""
    found: list[dict[str, Any]] = []

    async def work(bench: MapBench) -> None:
        plan = TriggerMapPlan(
            points=points(bench),
            sweeps={"gb": [-0.5, RATE_V_S], "gi": [-10.0, RATE_V_S], "hl": [-5.0, RATE_V_S]},
            accept_unprotected_host=True,
        )
        seek_ns: list[int] = []
        recorder = bench.rig.worker.recorder
        record = recorder.sample

        def heard(sample: Sample) -> None:
            if sample.phase == Phase.SEEK:
                seek_ns.append(sample.t_ns)
            record(sample)

        recorder.sample = heard  # type: ignore[method-assign] # listens, and passes on
        began_s, began_ns = time.perf_counter(), bench.clock.now_ns()
        run = await bench.run(plan)
        took_s, virtual_s = time.perf_counter() - began_s, (bench.clock.now_ns() - began_ns) / 1e9
        assert run["status"] == "completed", run["reason"]
        assert bench.engine.report.protective_cuts == 0
        found.extend(bench.of_kind("point"))
        print(f"\n{len(found)} points: {virtual_s:.0f} s of the rig's time in {took_s:.1f} s")
        onsets = bench.truth.events("set_onset")
        triggered = [point for point in found if point["class"] == "triggered"]
        assert seek_ns
        # Found if and only if the sample set, and where it did.
        assert len(onsets) == len(triggered)
        for point, onset in zip(triggered, onsets, strict=True):
            if point["trigger_bias_v"] is None:
                # It formed behind the last reading and before the end of the sweep had taken the bias away.
                assert "after the sweep" in point["reason"]
                assert onset["v_source"] == pytest.approx(point["to_v"])
                formed_ns = int(onset["t_ns"] or 0)
                assert not [t_ns for t_ns in seek_ns if formed_ns <= t_ns <= point["t_ns"]], "a reading could have told"
            else:
                assert abs(point["trigger_bias_v"] - float(onset["v_source"] or 0)) <= 2 * STEP_V
        landings = bench.truth.events("landing")
        assert [e["kind"] for e in landings] == [point["site_kind"] for point in found]
        assert bench.touches() == ["landing", "lift"] * len(landings)

    on_map_bench(directory, work, **options)
    return found


def drives_v(points: list[dict[str, Any]], kind: str) -> list[float]:
    return [-p["trigger_bias_v"] for p in points if p["site_kind"] == kind and p.get("trigger_bias_v") is not None]


def test_boundaries_give_way_far_below_a_homogenising_layer(tmp_path: Path) -> None:
    def points(bench: MapBench) -> list[list[Any]]:
        boundaries = bench.sample.boundary_points(SITES, BARE)
        covered = bench.sample.interior_points(LAYERS, COVERED)
        return [[x, y, "gb"] for x, y in boundaries] + [[x, y, "hl"] for x, y in covered]

    found = mapped(tmp_path, points, layer=("0,0,50,100",))
    gb, hl = drives_v(found, "gb"), drives_v(found, "hl")
    assert (len(gb), len(hl)) == (SITES, LAYERS)
    print(
        f"GB: median {statistics.median(gb):.4f} V, largest {max(gb):.4f} V of {len(gb)}; "
        f"HL: median {statistics.median(hl):.3f} V, least {min(hl):.3f} V of {len(hl)}; none untriggered"
    )
    assert statistics.median(gb) == pytest.approx(GB_MEDIAN_V, abs=0.03)
    assert statistics.median(hl) == pytest.approx(HL_MEDIAN_V, rel=0.1)
    assert min(hl) > max(gb)
    # In one run, one kind among the other.
    longest = max(len(list(group)) for _, group in itertools.groupby(p["site_kind"] for p in found))
    assert longest < 0.2 * len(found) or not LONG


@pytest.mark.skipif(not LONG, reason="100 minutes of the rig's time: TIPGUARD_LONG=1")
def test_some_interiors_do_not_give_way_and_the_fit_knows_it(tmp_path: Path) -> None:
    found = mapped(tmp_path, lambda bench: bench.interior(60))
    triggered = drives_v(found, "gi")
    censored = [point for point in found if point["class"] == "censored"]
    behind = [point for point in found if point["class"] == "triggered" and point["trigger_bias_v"] is None]
    assert len(triggered) + len(censored) + len(behind) == 60
    # 22 ms of the last 100 s, at the bias where most give way.
    assert len(behind) <= 1
    share = len(censored) / 60
    fit = fit_trigger(drives_of(found)[0])
    assert fit.median_v is not None
    assert fit.median_low_v is not None
    assert fit.median_high_v is not None
    print(
        f"GI: {len(censored)} of 60 untriggered up to 10 V ({share:.1%}); fitted median {fit.median_v:.3f} V "
        f"({fit.median_low_v:.3f} to {fit.median_high_v:.3f}) at {fit.rate_v_s} V/s, truth {GI_MEDIAN_V} V; "
        f"of the triggered alone {statistics.median(triggered):.3f} V"
    )
    assert 0.03 <= share <= 0.20
    assert fit.median_v == pytest.approx(GI_MEDIAN_V, rel=0.05)
    assert fit.method == "fit"
    assert all(point["beyond_v"] == pytest.approx(10.0) for point in censored)
    assert all(point["after"]["current_a"] > point["after"]["lod_a"] for point in censored)
