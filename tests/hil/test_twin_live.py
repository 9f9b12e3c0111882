"""The full site: independent of who looks, charge and energy in balance, clamp, transients, faults, in a whole rig."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.experiments.iv import IvPlan
from hil.errors import BenchOptionError
from hil.protocols import Load
from hil.rig import VirtualRig, config_for
from hil.twin import filament
from hil.twin.circuit import Circuit, Relaxation
from hil.twin.full import Site
from hil.twin.site import SwitchingSite, hrs_current
from hil.twin.spec import full_site, parse_site
from hil.twin.spot import STUCK_OHM, SpotState
from hil.twin.truth import TruthRecord
from hil.virtual import VirtualClock, run_virtual

MS = 1_000_000
LIMIT_A = 1e-3
AT_TIP = Circuit(cable_at="tip")

Step = tuple[int, float, float, bool]


def drive(site: Site, steps: list[Step], looks: random.Random | None = None) -> Site:
    """Drive a site through (duration in us, V, A, relay), looked at in between, or not at all."""
    t = 0
    for gap_us, v_set, limit, connected in steps:
        site.set_source(t, v_set, limit, connected=connected)
        end = t + gap_us * 1000
        for at in sorted(looks.randrange(t, end + 1) for _ in range(looks.randrange(20))) if looks else ():
            site.advance(at)
            assert math.isfinite(site.charge_c + site.terminal_current_a + site.v_tip + site.terminal_voltage_v)
            site.set_source(at, v_set, limit, connected=connected)  # what is set already changes nothing
        t = end
    site.close(t)
    return site


CIRCUITS = st.sampled_from([Circuit(), AT_TIP, Circuit(cable_f=1e-9).with_transients()])
STEPS = st.lists(
    st.tuples(
        st.integers(1, 60_000),
        st.sampled_from([0.0, -0.05, -0.15, -0.2, -0.25, -1.0, -9.5, 0.4, 0.8, 1.0, 9.0]),
        st.sampled_from([5e-6, 1e-4, 1e-3]),
        st.sampled_from([True, True, True, False]),
    ),
    min_size=1,
    max_size=12,
)


@given(steps=STEPS, seed=st.integers(0, 50), series=st.sampled_from([0.0, 1e3, 1e4]), circuit=CIRCUITS)
def test_nothing_depends_on_how_often_one_looks(steps: list[Step], seed: int, series: float, circuit: Circuit) -> None:
    alone = drive(Site("gb", seed=seed, series_ohm=series, circuit=circuit), steps)
    watched = drive(Site("gb", seed=seed, series_ohm=series, circuit=circuit), steps, random.Random(seed))
    assert alone.truth.entries == watched.truth.entries
    assert alone.charge_c == watched.charge_c
    assert (alone.v_tip, alone.state, alone.site.filament_s) == (watched.v_tip, watched.state, watched.site.filament_s)


@given(steps=STEPS, seed=st.integers(0, 50), series=st.sampled_from([0.0, 1e3, 1e4]), circuit=CIRCUITS)
def test_the_record_is_in_order_and_never_gives_energy_back(
    steps: list[Step], seed: int, series: float, circuit: Circuit
) -> None:
    entries = drive(Site("gb", seed=seed, series_ohm=series, circuit=circuit), steps).truth.entries
    for field in ("t_ns", "charge_c", "energy_j", "peak_current_a"):
        values = [float(entry[field] or 0) for entry in entries]
        assert all(two >= one * (1 - 1e-12) for one, two in itertools.pairwise(values)), field
    safe = [entry["event"] for entry in entries if entry["event"] in ("safe", "live")]
    assert all(one != two for one, two in itertools.pairwise(safe))
    open_or_low = [e for e in entries if e["event"] == "safe"]
    assert all(not e["connected"] or abs(float(e["v_tip"] or 0)) <= 1.001e-3 for e in open_or_low)


@pytest.mark.parametrize("circuit", [Circuit(), AT_TIP], ids=["cable at the terminals", "cable at the tip"])
def test_charge_is_the_integral_of_the_current(circuit: Circuit) -> None:
    site = Site("gb", seed=3, series_ohm=1e3, circuit=circuit)
    site.set_source(0, -0.3, LIMIT_A, connected=True)
    total, at, before = 0.0, 0, 0.0
    # Through nucleation, growth, bridging and thickening, 20 us at a time; trapezoids.
    for _ in range(1500):
        before = site.terminal_current_a
        at += 20_000
        site.advance(at)
        total += 0.5 * (before + site.terminal_current_a) * 20e-6
    assert site.state is SpotState.LRS
    assert site.charge_c == pytest.approx(total, rel=2e-3)


def test_a_site_settles_where_the_plain_one_is() -> None:
    for v_set, kind in ((-0.05, "gb"), (-9.0, "gi"), (0.2, "gb")):
        full, plain = (
            Site(kind, u_median_v=200.0, series_ohm=1e4),
            SwitchingSite(kind, u_median_v=200.0, series_ohm=1e4),
        )
        for load in (full, plain):
            load.set_source(0, v_set, LIMIT_A, connected=True)
            load.advance(1000 * MS)
        assert full.terminal_voltage_v == v_set
        assert full.v_tip == pytest.approx(plain.v_tip, rel=1e-4)
        leak = v_set / full.circuit.leak_ohm
        assert full.terminal_current_a == pytest.approx(hrs_current(v_set) + leak, rel=0.02)


def test_the_same_seed_is_the_same_threshold_and_filament_as_on_the_plain_site() -> None:
    full, plain = Site("gb", seed=7), SwitchingSite("gb", seed=7)
    assert full.r_on_ohm == plain.r_on_ohm
    for load in (full, plain):
        load.set_source(0, -0.1, LIMIT_A, connected=True)
        load.advance(10**13)
    assert full.onset is not None
    assert plain.onset is not None
    nucleation = full.truth.events("nucleation")[0]
    assert nucleation["t_ns"] == pytest.approx(plain.onset.t_ns, rel=1e-3, abs=1e6)
    # The gap of 2 nm closes in a millisecond at 0.1 V.
    assert 0.1 * MS < full.onset.t_ns - int(nucleation["t_ns"] or 0) < 10 * MS


def bridged(series_ohm: float, circuit: Circuit | None = None, v_set: float = -9.5, *, until_ns: int = 10**12) -> Site:
    site = Site("gi", u_median_v=9.0, seed=4, series_ohm=series_ohm, circuit=circuit)
    site.set_source(0, v_set, LIMIT_A, connected=True)
    site.advance(until_ns)
    assert site.onset is not None
    return site


def test_where_the_cable_is_decides_the_peak() -> None:
    # It has formed after 0.33 s; what thickens afterwards takes small steps for a thousand more.
    behind = bridged(1e4, until_ns=400 * MS).truth.events("set_onset")[0]
    at_tip = bridged(1e4, AT_TIP, until_ns=400 * MS).truth.events("set_onset")[0]
    r_ohm = float(behind["r_on_ohm"] or 0)
    # The resistor limits what the cable at the terminals can give; at the tip its charge goes through unhindered.
    assert behind["i_a"] == pytest.approx(-9.5 / (r_ohm + 1e4), rel=1e-3)
    assert abs(float(at_tip["i_a"] or 0)) > 1.3 * abs(float(behind["i_a"] or 0))


def test_the_clamp_comes_30_us_late() -> None:
    site = bridged(0.0)
    assert site.clamped
    assert site.terminal_current_a == pytest.approx(-LIMIT_A)
    peak_a = 9.5 / float(site.truth.events("set_onset")[0]["r_on_ohm"] or 0)
    site.close(10**12)
    summary = site.truth.events("summary")[0]
    assert peak_a > 1.05 * LIMIT_A
    assert summary["peak_current_a"] == pytest.approx(peak_a, rel=0.02)
    tau = site.circuit.loop_s + site.circuit.cable_f * 9.5 / peak_a
    expected_s = tau * math.log((peak_a - LIMIT_A) / (1e-3 * LIMIT_A))
    assert summary["over_limit_s"] == pytest.approx(expected_s, rel=0.1)
    assert int(summary["samples_over_limit"] or 0) in (0, 1, 2)


def test_no_growth_and_no_hazard_without_drive() -> None:
    site = Site("gb", seed=1, u_median_v=0.02)
    site.set_source(0, 0.3, LIMIT_A, connected=True)
    site.advance(10**15)
    site.set_source(10**15, 0.0, LIMIT_A, connected=True)
    site.advance(2 * 10**15)
    assert site.state is SpotState.HRS


def test_a_nucleus_dissolves_when_the_drive_turns() -> None:
    site = Site("gb", seed=1)
    site.set_source(0, -0.12, LIMIT_A, connected=True)
    t = 0
    while not site.truth.events("nucleation"):
        t += 10_000
        site.advance(t)
    assert site.truth.entries[-1]["event"] == "nucleation"
    site.set_source(t, 0.12, LIMIT_A, connected=True)
    site.advance(t + 100 * MS)
    assert [e["event"] for e in site.truth.entries if e["event"] not in ("live", "safe")] == ["nucleation", "dissolved"]


def test_set_reset_and_set_again_draws_anew() -> None:
    site = Site("gb", seed=5, series_ohm=1e3)
    t = 0
    for _ in range(3):
        site.set_source(t, -0.3, LIMIT_A, connected=True)
        t += 30 * MS
        site.set_source(t, 1.0, LIMIT_A, connected=True)
        t += 50 * MS
    site.set_source(t, 0.1, LIMIT_A, connected=True)
    site.close(t + MS)
    names = [e["event"] for e in site.truth.entries if e["event"] not in ("live", "safe", "nucleation", "summary")]
    assert names == ["set_onset", "reset"] * 3
    filaments = [e["r_on_ohm"] for e in site.truth.events("set_onset")]
    assert len(set(filaments)) == 3
    for began, ended in zip(filaments, site.truth.events("reset"), strict=True):
        # Thicker than it began, never beyond eight times.
        assert float(began or 0) / 8.001 <= float(ended["r_on_ohm"] or 0) < float(began or 0)
    summary = site.truth.events("summary")[0]
    assert (summary["n_set_onset"], summary["n_reset"], summary["n_nucleation"]) == (3, 3, 3)
    assert site.terminal_current_a == pytest.approx(1.2e-12, rel=0.1)  # off again


def test_stuck_and_open() -> None:
    stuck, opened = Site("gb", stuck_on=True, series_ohm=1e3), Site("gb", open_tip=True)
    for load in (stuck, opened):
        load.set_source(0, -0.3, LIMIT_A, connected=True)
        load.set_source(100 * MS, 1.0, LIMIT_A, connected=True)
        load.advance(10**12)
        assert load.onset is None
    assert stuck.terminal_current_a == pytest.approx(1.0 / (STUCK_OHM + 1e3))
    assert opened.terminal_current_a == pytest.approx(1.0 / opened.circuit.leak_ohm)


def test_switching_transients_are_seen_by_the_site_only_if_asked_for() -> None:
    def v_after(circuit: Circuit) -> list[float]:
        site = Site("gb", series_ohm=1e3, circuit=circuit, u_median_v=200.0)
        seen = []
        # NORMAL off, on at 0 V, another range, off.
        for k, limit in enumerate([5e-6, 1e-4, 1e-3, 5e-6]):
            site.set_source(k * MS, 0.0, limit, connected=True)
            seen.append(site.v_tip)
        site.advance(10 * MS)
        assert abs(site.v_tip) < 1e-6
        assert abs(site.charge_c) < 1e-18 + 1e-3 * circuit.cable_f  # what kicks the cable is taken back
        return seen

    assert v_after(Circuit()) == [0.0] * 4
    assert v_after(Circuit().with_transients()) == pytest.approx([0.0, -0.1, -0.1, -0.1], rel=1e-3)
    seen = v_after(Circuit(switch_spike_v=0.05, spike_sign=1))
    assert seen == pytest.approx([0.0, 0.05, 0.0, 0.05], abs=1e-3)


def test_an_open_relay_leaves_the_charge_on_the_cable() -> None:
    site = Site("gi", u_median_v=200.0, series_ohm=1e3)
    site.set_source(0, -5.0, LIMIT_A, connected=True)
    site.set_source(10 * MS, 0.0, LIMIT_A, connected=False)
    assert site.terminal_current_a == 0
    assert [e["event"] for e in site.truth.entries] == ["live", "safe"]
    site.advance(10 * MS + 1000 * MS)
    # 300 pF behind 0.54 Gohm: 0.16 s while the spreading limit holds.
    assert -1.0 < site.v_tip < -1e-3


@given(
    end=st.floats(-10, 10),
    b=st.floats(-10, 10),
    d=st.floats(-10, 10),
    t=st.floats(1e-7, 1e-3),
    tau=st.floats(1e-7, 1e-3),
)
def test_the_closed_forms_are_integrals(end: float, b: float, d: float, t: float, tau: float) -> None:
    curve = Relaxation(end, b, tau, d, 3 * tau)
    n = 2000
    grid = [curve.at((k + 0.5) * t / n) for k in range(n)]
    # Midpoint rule: its error is (t/n)^2 / 24 of the second derivative, up to 1e4 time constants here.
    tight = 1e-3 if t < 50 * tau else 0.2
    scale = (abs(end) + abs(b) + abs(d)) * t + 1e-18
    assert abs(curve.integral(t) - sum(grid) * t / n) <= tight * scale
    assert abs(curve.square(t) - sum(v * v for v in grid) * t / n) <= tight * scale * (scale / t)
    if d == 0 and math.isfinite(curve.reaches(0.0)):
        assert curve.at(curve.reaches(0.0)) == pytest.approx(0.0, abs=1e-9)


def test_laws_of_the_filament() -> None:
    assert filament.gap_speed(0.0) == 0
    assert filament.gap_speed(-0.12) == -filament.gap_speed(0.12) == pytest.approx(3.6e-6, rel=0.02)
    assert filament.gap_speed(-200.0) == filament.SPEED_MAX_M_S
    assert filament.gap_speed(-1e-9) == filament.SPEED_MIN_M_S
    assert filament.thickening(0.0) == filament.thickening(0.2) == 0
    assert filament.thickening(-0.05) == pytest.approx(0.5 / 0.3)
    assert filament.dissolution(0.35) == filament.dissolution(-5.0) == 0
    assert filament.dissolution(0.40) == pytest.approx(math.sinh(1) / 2e-3)
    assert filament.dissolution(200.0) == filament.RATE_MAX_PER_S
    assert filament.tunnel_conductance(0.0) == pytest.approx(1 / 12.9e3)


def test_wrong_numbers_are_refused() -> None:
    for make in (
        lambda: Circuit(cable_f=0.0),
        lambda: Circuit(loop_s=math.nan),
        lambda: Circuit(leak_ohm=1.0),
        lambda: Circuit(switch_spike_v=-1.0),
        lambda: Circuit(spike_sign=0),
        lambda: Circuit(cable_at="middle"),  # type: ignore[arg-type]
        lambda: Site("xx"),
        lambda: Site("gb", u_median_v=0.0),
        lambda: Site("gb", v_star=0.0),
        lambda: Site("gb", series_ohm=-1.0),
        lambda: full_site(parse_site("gb"), cable_f=3e-10, transients=False, fault="bent"),
        lambda: full_site(parse_site("gb"), cable_f=1.0, transients=False, fault=None),
    ):
        with pytest.raises(BenchOptionError, match="want"):
            make()


def test_what_the_command_line_says() -> None:
    spec = full_site(parse_site("hl:2.5"), cable_f=1e-10, transients=True, fault="stuck-on")
    site = spec.build(series_ohm=1e3, seed=3, truth=TruthRecord())
    plug: Load = site
    assert plug.charge_c == 0
    assert (site.kind.name, site.u_median_v, site.state) == ("hl", 2.5, SpotState.STUCK_ON)
    assert site.circuit == Circuit(cable_f=1e-10).with_transients()


@pytest.mark.parametrize("transients", [False, True])
def test_a_sweep_through_the_whole_rig(tmp_path: Path, transients: bool) -> None:
    truth = TruthRecord()

    async def main(clock: VirtualClock) -> None:
        circuit = Circuit().with_transients() if transients else Circuit()
        load = Site("gb", seed=6, series_ohm=1000.0, circuit=circuit, truth=truth)
        config = config_for(series_ohm=1000.0)
        async with VirtualRig.running(clock, load, tmp_path, seed=6, config=config) as rig:
            run = await rig.run(IvPlan(to_v=-0.5, step_v=0.002, dwell_s=0.02))
            rig.page.close()
        assert run["status"] == "completed", run
        [trigger] = run["results"]["triggers"]
        onset = truth.events("set_onset")[0]
        assert trigger["trigger_bias_v"] == pytest.approx(float(onset["v_source"] or 0), abs=0.004)
        # The filament as it is after the cut: thicker than at bridging.
        assert trigger["lrs"]["resistance_ohm"] < load.r_on_ohm + 1000.0

    run_virtual(main)
