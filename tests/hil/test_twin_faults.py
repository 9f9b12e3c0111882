"""What can be wrong with a sample or its tip: stuck on, bridged before anybody came, a tip without its coating."""

from __future__ import annotations

import pytest

from hil.devices.pi_gcs2 import AxisModel, Model, PiController
from hil.twin.grains import Box
from hil.twin.sample_map import MapParameters, SampleMap
from hil.twin.spot import STUCK_OHM, SpotState
from hil.twin.tip import ScanningTip

MS = 1_000_000
UM = 1e-6
BOX = Box(0.0, 0.0, 100 * UM, 100 * UM)
LEFT, RIGHT = Box(0.0, 0.0, 50 * UM, 100 * UM), Box(50 * UM, 0.0, 100 * UM, 100 * UM)


def landed(parameters: MapParameters, *, open_tip: bool = False) -> tuple[ScanningTip, tuple[float, float]]:
    """Return a tip that has just landed on a boundary in the left half, at 1 ms, with 1.5 kohm."""
    sample = SampleMap(2, parameters)
    [point] = sample.boundary_points(1, LEFT)
    tip = ScanningTip(sample, series_ohm=1500.0, open_tip=open_tip)
    tip.move(MS, *point, tip.cantilever.height_m(400e-9))
    return tip, point


def driven(tip: ScanningTip, begin_ns: int, level_v: float, duration_s: float = 2.0) -> float:
    """Hold a level, clamped at 0.5 mA; return the current at its end in A. Then 0 V."""
    end_ns = begin_ns + int(duration_s * 1e9)
    tip.set_source(begin_ns, level_v, 0.5e-3, connected=True)
    tip.advance(end_ns)
    current_a = tip.terminal_current_a
    tip.set_source(end_ns, 0.0, 0.5e-3, connected=True)
    return current_a


def test_a_spot_that_is_stuck_on_conducts_for_good() -> None:
    tip, point = landed(MapParameters(stuck_on=(LEFT,)))
    assert driven(tip, 2 * MS, 0.1) == pytest.approx(0.1 / (1500 + STUCK_OHM), rel=1e-6)
    driven(tip, 3000 * MS, 0.75)
    assert driven(tip, 6000 * MS, 0.1) == pytest.approx(0.1 / (1500 + STUCK_OHM), rel=1e-6)
    tip.move(9000 * MS, *point, 0.0)
    tip.move(9001 * MS, *point, tip.cantilever.height_m(400e-9))
    tip.close(9002 * MS)
    assert [entry["state"] for entry in tip.truth.events("landing")] == ["stuck_on", "stuck_on"]
    assert not tip.truth.events("set_onset")
    assert not tip.truth.events("reset")


def test_a_spot_that_was_bridged_before_anybody_came_can_be_reset() -> None:
    tip, _ = landed(MapParameters(bridged=(LEFT,)))
    r_on_ohm = tip.sample.landings[0].spot.r_on_ohm
    assert driven(tip, 2 * MS, 0.1, 0.01) == pytest.approx(0.1 / (1500 + r_on_ohm), rel=0.01)
    driven(tip, 100 * MS, 1.0)
    assert abs(driven(tip, 3000 * MS, 0.1)) < 1e-9
    assert driven(tip, 6000 * MS, -0.3) < -1e-6
    tip.close(9000 * MS)
    assert [entry["state"] for entry in tip.truth.events("landing")] == ["lrs"]
    [reset], [onset] = tip.truth.events("reset"), tip.truth.events("set_onset")
    # What it opens is its own filament, as thick as it was: there was none before.
    assert reset["r_on_ohm"] == pytest.approx(r_on_ohm, rel=0.01)
    assert int(reset["t_ns"] or 0) < 3000 * MS < int(onset["t_ns"] or 0)


def test_a_reset_tells_of_its_own_filament_only() -> None:
    sample = SampleMap(2, MapParameters(bridged=(RIGHT,)))
    [left], [right] = sample.boundary_points(1, LEFT), sample.boundary_points(1, RIGHT)
    tip = ScanningTip(sample, series_ohm=1500.0)
    z_m = tip.cantilever.height_m(400e-9)
    tip.move(MS, *left, z_m)
    driven(tip, 2 * MS, -0.3, 20.0)  # sets, and thickens
    tip.move(21_000 * MS, *left, 0.0)
    tip.move(21_001 * MS, *right, z_m)
    driven(tip, 21_002 * MS, 1.0)
    thick_s, own_s = sample.landings[0].spot.filament_s, 1 / sample.landings[1].spot.r_on_ohm
    assert thick_s > 2 * own_s
    [reset] = tip.truth.events("reset")
    assert float(reset["r_on_ohm"] or 0) > 2 / thick_s


def test_faults_are_where_they_were_put_and_change_nothing_else() -> None:
    faulty = SampleMap(2, MapParameters(stuck_on=(LEFT,), bridged=(BOX,)))
    sound = SampleMap(2)
    points = sound.boundary_points(12, BOX)
    assert points == faulty.boundary_points(12, BOX)
    for point in points:
        one, other = faulty.land(point, 0).spot, sound.land(point, 0).spot
        # In both boxes: stuck.
        assert one.state is (SpotState.STUCK_ON if point[0] <= 50 * UM else SpotState.LRS)
        assert other.state is SpotState.HRS
        assert (one.hazard, one.r_on_ohm) == (other.hazard, other.r_on_ohm)
    assert {point[0] <= 50 * UM for point in points} == {True, False}


def test_an_open_tip_bends_and_conducts_nothing() -> None:
    tip, point = landed(MapParameters(), open_tip=True)
    assert tip.deflection_v == pytest.approx(0.1)
    # What is left is the leakage across the terminals, 3 Tohm.
    assert driven(tip, 2 * MS, -0.5) == pytest.approx(-0.5 / 3e12)
    # The spot below knows nothing of it: with a coating again it is what it was.
    spot = tip.sample.landings[0].spot
    assert spot.state.value == "hrs"
    tip.open_tip = False
    tip.move(3000 * MS, *point, 0.0)
    tip.move(3001 * MS, *point, tip.cantilever.height_m(400e-9))
    assert driven(tip, 3002 * MS, -0.5) < -1e-6
    assert spot.state.value == "lrs"
    landings = tip.truth.events("landing")
    assert [entry["state"] for entry in landings] == ["open", "hrs"]
    assert [entry["kind"] for entry in landings] == ["gb", "gb"]


def test_a_tip_that_opens_does_so_from_the_next_landing_on() -> None:
    tip, _ = landed(MapParameters(bridged=(LEFT,)))
    tip.open_tip = True
    assert driven(tip, 2 * MS, 0.1, 0.01) > 1e-6


# --- What the stage has to do with it --------------------------------------------------------------------------------


def staged(z_um: float) -> tuple[PiController, ScanningTip]:
    """Return a stage that comes up at 1 ms with its tip at ``z_um``."""
    tip = ScanningTip(SampleMap(2))
    axes = tuple(AxisModel(name, start_um=start) for name, start in zip("123", (10.0, 20.0, z_um), strict=True))
    stage = PiController(Model(axes=axes, servo_on=True), tip, seed=1)
    stage.advance(MS)
    return stage, tip


def test_a_stage_comes_up_where_it_is_said_to() -> None:
    stage, tip = staged(49.5)
    assert [stage.position_m(2 * MS, axis) for axis in "123"] == pytest.approx([10e-6, 20e-6, 49.5e-6], abs=1e-15)
    assert tip.signal_v(2 * MS, 1) == pytest.approx(0.02)
    stage.power_cycle(3 * MS)
    assert stage.position_m(4 * MS, "2") == pytest.approx(20e-6)
    low, high = AxisModel("1", start_um=0.0), AxisModel("1", start_um=100.0)
    assert (low.start_um, high.start_um) == (0.0, 100.0)
    for start_um in (-0.1, 100.1, float("nan")):
        with pytest.raises(ValueError, match=r"start_um must be 0\.\.100"):
            AxisModel("1", start_um=start_um)


def test_who_reads_the_deflection_finds_the_landing_in_the_record() -> None:
    _, tip = staged(50.01)
    assert tip.signal_v(2 * MS, 1) == pytest.approx(0.12)
    [landing] = tip.truth.events("landing")
    assert landing["t_ns"] == MS
    assert landing["sent_x_m"] == pytest.approx(10e-6)
    # Nobody is early either: what the 2400 does later comes later.
    tip.set_source(2 * MS, -0.1, 1e-3, connected=True)
