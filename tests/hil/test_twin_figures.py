"""The twin against the figures its parameters were chosen for; seeds are fixed, so nothing here flickers.

Reference figures are from an independent computation of the same model with 60 sites each; where a ramp rate is not
stated with them it is 0.5 V/s, the only rate at which all four (20, 50, 100 nm, layer) fit. Boundary and interior
are done with 180 sites, so that it is the reference's 60 which blur the comparison.
"""

from __future__ import annotations

import math
import os
import statistics
import time

import pytest

from hil.twin.full import Site
from hil.twin.grains import Box, Point
from hil.twin.live import LiveLoad
from hil.twin.sample_map import MapParameters, SampleMap
from hil.twin.spot import SpotState

LONG = os.environ.get("TIPGUARD_LONG") == "1"
LIMIT_A = 1e-3
BOX = Box(0.0, 0.0, 200e-6, 200e-6)
SEED = 2


def stair(load: LiveLoad, t_ns: int, begin_v: float, end_v: float, rate_v_s: float, step_v: float) -> int:
    count = round(abs(end_v - begin_v) / step_v)
    dwell_ns = round(step_v / rate_v_s * 1e9)
    for k in range(1, count + 1):
        load.set_source(t_ns, begin_v + (end_v - begin_v) * k / count, LIMIT_A, connected=True)
        t_ns += dwell_ns
        load.advance(t_ns)
    return t_ns


def trigger_v(load: LiveLoad, rate_v_s: float, step_v: float, u_max: float) -> float | None:
    """Ramp until a filament forms; return the drive at its nucleation."""
    dwell_ns = round(step_v / rate_v_s * 1e9)
    for k in range(1, round(u_max / step_v) + 1):
        load.set_source(k * dwell_ns, -k * step_v, LIMIT_A, connected=True)
        load.advance((k + 1) * dwell_ns)
        if load.onset is not None:
            return -load.onset.v_tip
    return None


def triggers(
    points: list[Point], rate_v_s: float, step_v: float, u_max: float, parameters: MapParameters | None = None
) -> list[float | None]:
    sample = SampleMap(SEED, parameters)
    return [trigger_v(sample.site_at(point, 0, series_ohm=1e4), rate_v_s, step_v, u_max) for point in points]


def median(values: list[float | None]) -> float:
    """Median with those that never triggered beyond all others."""
    return statistics.median(math.inf if value is None else value for value in values)


@pytest.fixture(scope="module")
def boundary() -> list[Point]:
    return SampleMap(SEED).boundary_points(180, BOX)


@pytest.fixture(scope="module")
def interior() -> list[Point]:
    return SampleMap(SEED).interior_points(180, BOX)


@pytest.mark.parametrize(("rate_v_s", "mean_v"), [(0.1, 0.117), (1.0, 0.155), (0.01, 0.083)])
def test_grain_boundaries(boundary: list[Point], rate_v_s: float, mean_v: float) -> None:
    found = [value for value in triggers(boundary, rate_v_s, 0.001, 0.5) if value is not None]
    assert len(found) == 180
    # Theory: the median of 0.12 V moves by v* ln 10 per decade, the mean lies 0.21 v* below it; 1.7 mV standard error.
    theory_v = 0.12 + 0.017 * (math.log(rate_v_s / 0.1) - 0.21)
    assert statistics.mean(found) == pytest.approx(theory_v, abs=0.005)
    # The reference's own standard error is 3.3 mV.
    assert statistics.mean(found) == pytest.approx(mean_v, abs=0.010)
    # Gumbel 1.283 x 17 mV and 4 % scatter: 22 mV; the reference has 26 mV.
    assert statistics.stdev(found) == pytest.approx(0.0224, abs=0.004)


@pytest.mark.parametrize(("rate_v_s", "reference", "theory"), [(0.1, 6 / 60, 0.161), (1.0, 42 / 60, 0.685)])
def test_grain_interiors_do_not_always_trigger_by_10_v(
    interior: list[Point], rate_v_s: float, reference: float, theory: float
) -> None:
    found = triggers(interior, rate_v_s, 0.02, 10.0)
    share = found.count(None) / 180
    assert share == pytest.approx(theory, abs=3 * math.sqrt(theory * (1 - theory) / 180))
    # 60 sites: 6 +- 3 and 42 +- 3.6 (one standard error of the model's own share).
    assert share == pytest.approx(reference, abs=2 * math.sqrt(theory * (1 - theory) * (1 / 60 + 1 / 180)))
    if rate_v_s == 0.1:
        assert statistics.mean(value for value in found if value is not None) == pytest.approx(9.21, abs=0.12)
        assert median(found) == pytest.approx(9.5, rel=0.02)


@pytest.mark.parametrize(
    ("distance_m", "u_v"),
    [
        (20e-9, 1.67),
        pytest.param(50e-9, 5.6, marks=pytest.mark.skipif(not LONG, reason="between the two: TIPGUARD_LONG=1")),
        (100e-9, 9.3),
    ],
)
def test_the_trigger_grows_with_the_distance_from_a_boundary(
    boundary: list[Point], distance_m: float, u_v: float
) -> None:
    sample = SampleMap(SEED)
    points = [sample.point_at(point, distance_m) for point in boundary[:60]]
    assert [sample.distance_m(point) for point in points] == pytest.approx([distance_m] * 60, rel=2e-3)
    assert median(triggers(points, 0.5, 0.02, 10.0)) == pytest.approx(u_v, rel=0.05)


def test_a_homogenising_layer(interior: list[Point], boundary: list[Point]) -> None:
    layer = MapParameters(layers=(BOX,))
    found = [value for value in triggers(interior[:60], 0.5, 0.01, 10.0, layer) if value is not None]
    assert len(found) == 60
    assert statistics.mean(found) == pytest.approx(3.20, abs=0.10)
    assert statistics.stdev(found) == pytest.approx(0.23, abs=0.06)
    # At 0.1 V/s, as the grain boundaries were: every site of the layer above every site on a boundary.
    layered = [value for value in triggers(boundary[:60], 0.1, 0.01, 10.0, layer) if value is not None]
    assert min(layered) > max(value or 0.0 for value in triggers(boundary[:60], 0.1, 0.001, 0.5))


@pytest.mark.parametrize(("series_ohm", "over"), [(1e3, True), (1e4, False)])
def test_a_resistor_at_the_tip_holds_what_the_clamp_cannot(
    interior: list[Point], series_ohm: float, over: bool
) -> None:
    peaks, over_s = [], []
    sample = SampleMap(SEED)
    for point in interior[:30]:
        load = sample.site_at(point, 0, series_ohm=series_ohm)
        if trigger_v(load, 0.1, 0.02, 10.0) is None:
            continue
        load.close(1_000_000_000_000)
        summary = load.truth.events("summary")[0]
        peaks.append(float(summary["peak_current_a"] or 0))
        over_s.append(float(summary["over_limit_s"] or 0))
        assert (summary["samples_over_limit"] == 0) or over
    assert len(peaks) >= 20
    if over:
        # Reference: 1.0-2.8 mA with the cable's charge at the tip, hence without the resistor.
        assert 1.2e-3 < max(peaks) < 2.8e-3
        # The clamp comes 30 us late; an excess of 70 % takes four of them to fall below 0.1 %.
        assert 0 < max(over_s) < 1e-3
    else:
        assert max(peaks) < 1e-3
        assert max(over_s) == 0


def reset_v(seed: int, dwell_ns: int) -> float | None:
    """Set at 1 V/s to -0.25 V with 1 kohm, dwell, back, then reset at 2 V/s to +1 V; return the level of the reset."""
    load = Site("gb", seed=seed, series_ohm=1e3)
    t_ns = stair(load, 0, 0.0, -0.25, 1.0, 0.005) + dwell_ns
    t_ns = stair(load, t_ns, -0.25, 0.0, 1.0, 0.005)
    stair(load, t_ns, 0.0, 1.0, 2.0, 0.01)
    found = load.truth.events("reset")
    return float(found[0]["v_source"] or 0) if found else None


def test_resets_complete_within_1_v_and_later_for_thicker_filaments() -> None:
    quick = [v for seed in range(40) if (v := reset_v(seed, 0)) is not None]
    long = [v for seed in range(40) if (v := reset_v(seed, 2_000_000_000)) is not None]
    # The reference says 0.72 to 0.86 V without saying how thick: it lies between these medians and the tails.
    assert len(quick) == 40
    assert len(long) >= 34
    assert 0.5 < statistics.median(quick) < statistics.median(long) < 0.86
    assert statistics.quantiles(long, n=10)[-1] > 0.80
    assert max(quick + long) <= 1.0


def cycles(seed: int, count: int, cut_after_ns: int | None) -> tuple[int, LiveLoad]:
    """Set ramp to -0.25 V at 1 V/s and 1 s dwell, or cut; reset to +1 V at 2 V/s. Return how often it is off again."""
    load = Site("gb", seed=seed, series_ohm=1500.0)
    t_ns = off = 0
    for _ in range(count):
        before = load.onset
        for k in range(1, 51):
            load.set_source(t_ns, -0.005 * k, LIMIT_A, connected=True)
            t_ns += 5_000_000
            load.advance(t_ns)
            if cut_after_ns is not None and load.onset is not None and load.onset is not before:
                t_ns = max(t_ns, load.onset.t_ns + cut_after_ns)
                break
        else:
            t_ns += 1_000_000_000
        load.set_source(t_ns, 0.0, LIMIT_A, connected=True)
        t_ns = stair(load, t_ns + 10_000_000, 0.0, 1.0, 2.0, 0.02)
        t_ns = stair(load, t_ns, 1.0, 0.0, 2.0, 0.02)
        off += load.state is SpotState.HRS
    return off, load


@pytest.mark.parametrize("seed", range(5))
def test_without_a_cut_a_filament_soon_stays(seed: int) -> None:
    off, load = cycles(seed, 200, None)
    assert off <= 20
    assert load.spot is not None
    assert load.spot.state is SpotState.LRS


@pytest.mark.parametrize("cut_after_ns", [10_000_000, 40_000_000])
def test_cut_in_time_every_cycle_resets(cut_after_ns: int) -> None:
    off, load = cycles(0, 200, cut_after_ns)
    assert off == 200
    sets = load.truth.events("set_onset")
    assert len(sets) >= 195
    drives = [-float(entry["v_tip"] or 0) for entry in sets]
    # Reference: -0.149 +- 0.021 V.
    assert statistics.median(drives) == pytest.approx(0.155, abs=0.01)
    assert statistics.stdev(drives) == pytest.approx(0.021, abs=0.004)


def test_200_cycles_cost_a_few_seconds_of_processor_time() -> None:
    begin = time.process_time()
    cycles(1, 50, 30_000_000)
    # About 0.3 s here; the whole rig has 20 s for 200 of them. Ten times that is a fault, not a slow machine.
    assert time.process_time() - begin < 4.0
