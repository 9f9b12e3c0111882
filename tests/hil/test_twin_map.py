"""Contact, grains, landings, and the tip that a stage moves."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.devices.pi_gcs2.mechanics import Mechanics
from hil.errors import BenchFaultError, BenchOptionError
from hil.twin.contact import Cantilever, Contact
from hil.twin.grains import Box, Grains
from hil.twin.nucleation import Hazard
from hil.twin.sample_map import MapParameters, SampleMap
from hil.twin.spot import SpotState
from hil.twin.tip import ScanningTip

MS = 1_000_000
UM = 1e-6
BOX = Box(0.0, 0.0, 100 * UM, 100 * UM)


@pytest.mark.parametrize(("load_n", "area_nm2"), [(100e-9, 26.9), (200e-9, 42.6), (400e-9, 67.7)])
def test_hertz(load_n: float, area_nm2: float) -> None:
    contact = Contact(load_n)
    assert contact.area_m2 * 1e18 == pytest.approx(area_nm2, rel=2e-3)
    assert contact.mean_pressure_pa * contact.area_m2 == pytest.approx(load_n)


def test_a_pressure_above_the_tips_hardness_is_told() -> None:
    assert Contact(100e-9).warning is None
    warning = Contact(400e-9).warning
    assert warning is not None
    assert "5.9 GPa is above the tip's hardness of 4.0 GPa" in warning
    assert Contact(400e-9, hardness_pa=6e9).warning is None


def test_a_cantilever_bends_only_in_contact() -> None:
    for towards in (1, -1):
        lever = Cantilever(surface_m=50 * UM, towards=towards)
        z_m = lever.height_m(400e-9)
        assert lever.load_n(z_m) == pytest.approx(400e-9)
        assert lever.deflection_v(z_m) == pytest.approx(0.1)
        assert lever.load_n(50 * UM - towards * UM) == 0


# --- Grains ----------------------------------------------------------------------------------------------------------


@given(x=st.floats(-3e-4, 3e-4), y=st.floats(-3e-4, 3e-4), seed=st.integers(0, 3))
def test_the_nearest_boundary_is_between_two_grains(x: float, y: float, seed: int) -> None:
    grains = Grains(seed)
    near = grains.boundary((x, y))
    # By brute force over everything around.
    seeds = grains.seeds_in(Box(x - 60 * UM, y - 60 * UM, x + 60 * UM, y + 60 * UM))
    by_distance = sorted(math.dist((x, y), s) for s in seeds)
    own = min(seeds, key=lambda s: math.dist((x, y), s))
    expected = min(
        (math.dist((x, y), s) ** 2 - by_distance[0] ** 2) / (2 * math.dist(s, own)) for s in seeds if s != own
    )
    assert near.distance_m == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert math.dist((x, y), near.foot) == pytest.approx(near.distance_m, abs=1e-15)
    two = sorted(math.dist(near.foot, s) for s in seeds)[:2]
    assert two[0] == pytest.approx(two[1], abs=1e-12)


def test_a_ceramic_has_the_density_it_should() -> None:
    grains = Grains(5)
    big = Box(0.0, 0.0, 500 * UM, 500 * UM)
    # n = 1/(pi D^2/4) = 0.0127 per um^2, boundaries 2 sqrt(n) = 0.226 um per um^2.
    assert len(grains.seeds_in(big)) / 500**2 == pytest.approx(0.0127, rel=0.06)
    edges = grains.edges(BOX)
    assert sum(math.dist(*edge) for edge in edges) / (100 * 100 * UM) == pytest.approx(0.226, rel=0.08)
    for (x0, y0), (x1, y1) in edges[:50]:
        assert grains.boundary((0.5 * (x0 + x1), 0.5 * (y0 + y1))).distance_m < 1e-12


def test_a_blind_landing_hardly_ever_touches_a_boundary() -> None:
    sample = SampleMap(5)
    rng = random.Random(1)
    distances = [sample.distance_m(Box(0, 0, 1e-3, 1e-3).draw(rng)) for _ in range(6000)]
    # L_A (2 a + w) = 0.32 %; 57 nm to either side of a middle: 2.6 %.
    assert sum(d == 0 for d in distances) / 6000 == pytest.approx(0.0032, abs=0.0022)
    assert sum(d <= 50e-9 for d in distances) / 6000 == pytest.approx(0.0258, abs=0.006)


def test_points_are_where_they_are_said_to_be_and_apart() -> None:
    sample = SampleMap(3)
    on, off = sample.boundary_points(20, BOX), sample.interior_points(20, BOX, inside_m=2 * UM)
    assert [sample.distance_m(point) for point in on] == [0.0] * 20
    assert all(sample.distance_m(point) > 1.9 * UM for point in off)
    for points in (on, off):
        assert all(point in BOX for point in points)
        assert min(math.dist(a, b) for a, b in itertools.combinations(points, 2)) >= UM
    assert on == SampleMap(3).boundary_points(20, BOX)
    assert on != SampleMap(4).boundary_points(20, BOX)
    assert on != sample.boundary_points(20, BOX, seed=1)
    with pytest.raises(BenchOptionError, match="no room"):
        sample.boundary_points(50, Box(0.0, 0.0, 2 * UM, 2 * UM))
    with pytest.raises(BenchOptionError, match="no room"):
        sample.interior_points(5, BOX, inside_m=100 * UM)


# --- Landings --------------------------------------------------------------------------------------------------------


def test_the_trigger_goes_from_boundary_to_interior() -> None:
    sample = SampleMap()
    assert sample.trigger(0.0) == pytest.approx((0.12, 0.017))
    assert sample.trigger(1.0) == pytest.approx((9.5, 0.35))
    u, v_star = sample.trigger(25e-9)
    assert math.log(u / 9.5) == pytest.approx(math.log(0.12 / 9.5) / math.e)
    assert v_star == pytest.approx(0.35 - 0.333 / math.e)


def test_the_same_place_is_the_same_spot_in_any_order() -> None:
    points = SampleMap(2).boundary_points(5, BOX)
    forth, back = SampleMap(2), SampleMap(2)
    one = [forth.land(point, 0).spot for point in points]
    two = [back.land(point, 0).spot for point in reversed(points)][::-1]
    assert [s.hazard for s in one] == [s.hazard for s in two]
    assert [s.r_on_ohm for s in one] == [s.r_on_ohm for s in two]
    assert len({s.r_on_ohm for s in one}) == 5
    # Again, and half a contact beside: the very spot. Two contacts beside: another.
    x, y = points[0]
    assert forth.land((x, y), 5).spot is one[0]
    assert forth.land((x + 2e-9, y), 6).spot is one[0]
    assert forth.land((x + 10e-9, y), 7).spot is not one[0]
    logs = [math.log(forth.land(p, 8).spot.hazard.u_median_v / 0.12) for p in forth.boundary_points(100, BOX, seed=7)]
    assert math.sqrt(sum(x * x for x in logs) / 100) == pytest.approx(0.04, rel=0.25)


def test_placement_and_drift_move_the_landing() -> None:
    sample = SampleMap(1, MapParameters(placement_sd_m=5e-9, drift_m_s=(0.05e-9, 0.0)))
    landings = [sample.land((50 * UM, 50 * UM), k * 10_000_000_000) for k in range(400)]
    dx = [landing.at[0] - 50 * UM - 0.05e-9 * 10 * k for k, landing in enumerate(landings)]
    dy = [landing.at[1] - 50 * UM for landing in landings]
    for errors in (dx, dy):
        assert sum(errors) / 400 == pytest.approx(0, abs=1e-9)
        assert math.sqrt(sum(e * e for e in errors) / 400) == pytest.approx(5e-9, rel=0.12)
    again = SampleMap(1, MapParameters(placement_sd_m=5e-9, drift_m_s=(0.05e-9, 0.0)))
    assert again.land((50 * UM, 50 * UM), 0).at == landings[0].at


def test_a_layer_is_the_same_everywhere() -> None:
    sample = SampleMap(1, MapParameters(layers=(Box(0, 0, 50 * UM, 100 * UM),), scatter=0.0))
    for point in (*sample.boundary_points(5, BOX), *sample.interior_points(5, BOX)):
        landing = sample.land(point, 0)
        assert (landing.kind == "hl") == (point[0] <= 50 * UM)
        if landing.kind == "hl":
            assert landing.spot.hazard == Hazard(3.0, 0.14)


def test_the_closed_form_of_a_ramp() -> None:
    hazard = Hazard(0.12, 0.017)
    assert hazard.ramp_trigger_v(0.1, math.log(2)) == pytest.approx(0.12)
    assert hazard.ramp_trigger_v(1.0, math.log(2)) == pytest.approx(0.12 + 0.017 * math.log(10), rel=1e-3)
    assert Hazard(9.5, 0.1).ramp_trigger_v(1e9, 1e-3) == pytest.approx(9.5 + 0.1 * math.log(1e7 / math.log(2)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Contact(0.0),
        lambda: Contact(math.nan),
        lambda: Cantilever(towards=0),
        lambda: Cantilever(stiffness_n_m=0.0),
        lambda: Grains(0, 0.0),
        lambda: MapParameters(xi_m=0.0),
        lambda: MapParameters(scatter=2.0),
        lambda: MapParameters(placement_sd_m=math.nan),
        lambda: MapParameters(drift_m_s=(1.0, 0.0)),
    ],
)
def test_wrong_numbers_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(BenchOptionError, match="want"):
        make()


# --- The tip ---------------------------------------------------------------------------------------------------------


def test_a_tip_lands_lifts_and_finds_its_filament_again() -> None:
    sample = SampleMap(2)
    [point] = sample.boundary_points(1, BOX)
    tip = ScanningTip(sample, series_ohm=1500.0)
    z_m = tip.cantilever.height_m(400e-9)
    assert not tip.in_contact
    tip.move(0, *point, 0.0)
    tip.set_source(MS, -0.3, 1e-3, connected=True)
    tip.advance(1000 * MS)
    assert (tip.onset, tip.in_contact, tip.deflection_v) == (None, False, 0.0)
    tip.move(1001 * MS, *point, z_m)
    assert tip.landing is not None
    assert tip.deflection_v == pytest.approx(0.1)
    tip.advance(1100 * MS)
    assert tip.onset is not None
    tip.set_source(1101 * MS, 0.0, 1e-3, connected=True)
    tip.move(1102 * MS, *point, 0.0)
    tip.move(1103 * MS, *point, z_m)
    tip.move(1104 * MS, point[0] + 50e-9, point[1], z_m)  # dragged off
    tip.close(1105 * MS)
    landings = tip.truth.events("landing")
    assert [(entry["kind"], entry["state"]) for entry in landings[:2]] == [("gb", "hrs"), ("gb", "lrs")]
    assert len(landings) == 3
    assert landings[2]["state"] == "hrs"
    assert landings[2]["sent_x_m"] == point[0] + 50e-9
    assert len(tip.truth.events("lift")) == 1
    with pytest.raises(BenchFaultError, match="finite"):
        tip.move(1106 * MS, math.nan, 0.0, 0.0)


def staged(looks: int) -> ScanningTip:
    """Approach along z at 10 um/s with the level on, stay, retract; looked at ``looks`` times."""
    sample = SampleMap(2)
    [point] = sample.boundary_points(1, BOX)
    tip = ScanningTip(sample, series_ohm=1500.0, axes=("x", "y", "z"))
    plug: Mechanics = tip
    plug.follow(0, "x", lambda _: point[0], 0)
    plug.follow(0, "y", lambda _: point[1], 0)
    begin_ns, rest_ns = 100 * MS, 1101 * MS
    plug.follow(0, "z", lambda _: 40 * UM, 0)
    plug.follow(begin_ns, "z", lambda t: 40 * UM + 10 * UM * min(t - begin_ns, rest_ns - begin_ns) * 1e-9, rest_ns)
    tip.set_source(200 * MS, -0.3, 1e-3, connected=True)
    for k in range(looks):
        tip.advance(200 * MS + (k + 1) * 1800 * MS // looks)
    plug.follow(2000 * MS, "z", lambda _: 40 * UM, 2000 * MS)
    plug.follow(2000 * MS, "fourth", lambda _: 1.0, 2000 * MS)
    tip.close(3000 * MS)
    return tip


def test_a_stage_moves_the_tip_and_nothing_depends_on_who_looks() -> None:
    tip = staged(0)
    assert tip.truth.entries == staged(7).truth.entries == staged(333).truth.entries
    [landing] = tip.truth.events("landing")
    # 10 um at 10 um/s, a millisecond's path deep at most.
    assert 1100 * MS <= int(landing["t_ns"] or 0) <= 1101 * MS
    assert len(tip.truth.events("set_onset")) == 1
    assert len(tip.truth.events("lift")) == 1
    assert tip.spot is None
    assert tip.sample.landings[0].spot.state is SpotState.LRS
    assert tip.signal_v(3000 * MS, 1) == pytest.approx(0.02)
    assert tip.signal_v(3000 * MS, 2) == 0
