"""The switching site: trigger statistics against the closed form, operating points, clamp, charge and energy."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.errors import BenchFaultError, BenchOptionError
from hil.protocols import Load
from hil.twin.nucleation import Hazard, Trigger
from hil.twin.ohmic import OhmicLoad
from hil.twin.site import EXCHANGE_A, KINDS, SPREADING_OHM, State, SwitchingSite, hrs_current, hrs_voltage
from hil.twin.spec import OhmicSpec, SiteSpec, parse_load, parse_site
from hil.twin.truth import TruthRecord

MS = 1_000_000
LIMIT_A = 1e-3


def ramp_to_trigger(site: SwitchingSite, rate_v_s: float, step_v: float, u_max: float) -> float | None:
    """Ramp towards negative bias in steps; return the drive at the onset on the ideal ramp, or None."""
    step_ns = round(step_v / rate_v_s * 1e9)
    for k in range(1, round(u_max / step_v) + 1):
        # The level in force during step k is the ramp's value in the middle of it.
        site.set_source(k * step_ns, -(k + 0.5) * step_v, LIMIT_A, connected=True)
        if site.onset is not None:
            return site.onset.t_ns * 1e-9 * rate_v_s
    site.advance((round(u_max / step_v) + 1) * step_ns)
    return None if site.onset is None else site.onset.t_ns * 1e-9 * rate_v_s


def closed_form_cdf(hazard: Hazard, rate_v_s: float, u: float) -> float:
    """F(u) = 1 - exp(-h0 v*/rho (exp(u/v*) - 1))."""
    h0 = math.exp(hazard.log_h0)
    return -math.expm1(-h0 * hazard.v_star / rate_v_s * math.expm1(u / hazard.v_star))


def ks_distance(values: list[float], cdf: list[float]) -> float:
    n = len(values)
    return max(max((k + 1) / n - f, f - k / n) for k, f in enumerate(sorted(cdf)))


# --- Statistics of the trigger ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "rate_v_s", "step_v", "u_max"),
    [
        ("gb", 0.1, 5e-4, 0.4),
        ("gb", 1.0, 5e-4, 0.4),
        ("gb", 0.01, 5e-4, 0.4),
        ("hl", 0.1, 5e-3, 5.0),
        ("gi", 0.1, 1e-2, 14.0),
    ],
)
def test_trigger_voltages_follow_the_closed_form(kind: str, rate_v_s: float, step_v: float, u_max: float) -> None:
    n = 300
    drives = []
    for seed in range(n):
        site = SwitchingSite(kind, seed=seed)
        u = ramp_to_trigger(site, rate_v_s, step_v, u_max)
        assert u is not None
        drives.append(u)
    cdf = [closed_form_cdf(site.hazard, rate_v_s, u) for u in drives]
    # 1.63/sqrt(n) is the 1 % point of the Kolmogorov-Smirnov distance; the seeds are fixed, so this never flickers.
    assert ks_distance(drives, cdf) < 1.63 / math.sqrt(n)
    # Gumbel: sd 1.283 v*, median v* ln(1 + rho ln 2 / (h0 v*)).
    mean = sum(drives) / n
    sd = math.sqrt(sum((u - mean) ** 2 for u in drives) / (n - 1))
    assert sd == pytest.approx(1.283 * site.hazard.v_star, rel=0.2)
    h0 = math.exp(site.hazard.log_h0)
    u_median = site.hazard.v_star * math.log1p(rate_v_s * math.log(2) / (h0 * site.hazard.v_star))
    assert sorted(drives)[n // 2] == pytest.approx(u_median, abs=0.3 * site.hazard.v_star)
    if rate_v_s == 0.1:
        assert u_median == pytest.approx(KINDS[kind].u_median_v, rel=1e-9)


def test_the_median_moves_by_v_star_ln10_per_decade_of_ramp_rate() -> None:
    # The same seeds at three rates: the spread of the threshold cancels.
    at = [ramp_to_trigger(SwitchingSite("gb", seed=1), rate, 2e-4, 0.5) for rate in (0.01, 0.1, 1.0)]
    assert all(u is not None for u in at)
    for slow, fast in itertools.pairwise(at):
        assert slow is not None
        assert fast is not None
        assert fast - slow == pytest.approx(0.017 * math.log(10), rel=0.02)


def test_grain_interiors_do_not_always_trigger_by_10_v() -> None:
    untriggered = [
        sum(ramp_to_trigger(SwitchingSite("gi", seed=s), rate, 2e-2, 10.0) is None for s in range(200))
        for rate in (0.1, 1.0)
    ]
    # exp(-integral) with the kind's own numbers: 6 % at 0.1 V/s, 75 % at 1 V/s.
    expected = [200 * (1 - closed_form_cdf(SwitchingSite("gi").hazard, rate, 10.0)) for rate in (0.1, 1.0)]
    for got, want in zip(untriggered, expected, strict=True):
        assert abs(got - want) < 3 * math.sqrt(want * (1 - want / 200)) + 1


@given(u=st.floats(max_value=0, allow_nan=False), v_star=st.floats(1e-3, 1))
def test_the_hazard_is_exactly_zero_without_drive(u: float, v_star: float) -> None:
    assert Hazard(0.12, v_star).log_rate(u) == -math.inf
    trigger = Trigger(Hazard(0.12, v_star), random.Random(0))
    trigger.drive(u)
    assert trigger.wait_ns() is None
    trigger.elapse(10**18)
    trigger.drive(0.12)
    assert trigger.wait_ns() != 0


@pytest.mark.parametrize("v", [0.0, 1e-12, 0.1, 10.0])
def test_a_site_never_triggers_at_or_above_0_v(v: float) -> None:
    site = SwitchingSite("gb", u_median_v=0.02)
    site.set_source(0, v, LIMIT_A, connected=True)
    site.advance(10**18)
    site.set_source(10**18, -10.0, LIMIT_A, connected=False)  # the level behind an open relay is no drive either
    site.advance(2 * 10**18)
    assert site.onset is None


def test_the_crossing_time_is_exact_and_does_not_depend_on_how_often_one_looks() -> None:
    def onset_ns(looks: int) -> int:
        site = SwitchingSite("gb", seed=5)
        site.set_source(1000, -0.11, LIMIT_A, connected=True)
        for k in range(looks):
            site.advance(1000 + (k + 1) * 10**9 * 100 // looks)
        site.advance(10**13)
        assert site.onset is not None
        return site.onset.t_ns

    site = SwitchingSite("gb", seed=5)
    threshold = -math.log1p(-random.Random(5).random())
    expected = 1000 + threshold * math.exp(-site.hazard.log_rate(0.11)) * 1e9
    assert onset_ns(1) == pytest.approx(expected, abs=1e3, rel=1e-12)
    assert onset_ns(1) == onset_ns(7) == onset_ns(1000)


def test_a_huge_drive_triggers_at_once_and_a_tiny_one_never() -> None:
    site = SwitchingSite("gb")
    site.set_source(100, -200.0, LIMIT_A, connected=True)
    assert site.onset is not None
    assert site.onset.t_ns == 100
    weak = SwitchingSite("gb", u_median_v=200.0)
    weak.set_source(0, -1.0, LIMIT_A, connected=True)
    weak.advance(10**18)
    assert weak.onset is None


def test_the_hazard_sees_the_voltage_behind_the_series_resistor() -> None:
    # As much in series as the contact itself: half of the drive is left.
    site = SwitchingSite("gi", series_ohm=SPREADING_OHM, seed=3)
    site.set_source(0, -18.0, LIMIT_A, connected=True)
    assert site.v_tip == pytest.approx(-9.0)
    bare = SwitchingSite("gi", seed=3)
    bare.set_source(0, -9.0, LIMIT_A, connected=True)
    for load in (site, bare):
        load.advance(10**12)
        assert load.onset is not None
    assert site.onset is not None
    assert bare.onset is not None
    assert site.onset.t_ns == pytest.approx(bare.onset.t_ns, rel=1e-9)
    assert site.onset.v_tip == pytest.approx(-9.0)
    assert site.onset.v_source == -18.0


def test_the_same_seed_is_the_same_site() -> None:
    a, b, c = SwitchingSite("gb", seed=11), SwitchingSite("gb", seed=11), SwitchingSite("gb", seed=12)
    assert a.r_on_ohm == b.r_on_ohm != c.r_on_ohm
    onsets = [ramp_to_trigger(site, 0.1, 1e-3, 0.5) for site in (a, b, c)]
    assert onsets[0] == onsets[1] != onsets[2]
    assert a.truth.entries == b.truth.entries


def test_filament_resistances_are_lognormal() -> None:
    logs = [math.log(SwitchingSite("gb", seed=s).r_on_ohm / 8000) for s in range(1000)]
    assert sum(logs) / 1000 == pytest.approx(0, abs=0.03)
    assert math.sqrt(sum(x * x for x in logs) / 1000) == pytest.approx(0.3, rel=0.08)


# --- Operating points ------------------------------------------------------------------------------------------------


def test_hrs_current_has_the_two_limits_of_the_contact() -> None:
    assert hrs_current(0.12) == pytest.approx(1.75e-12, rel=0.02)  # kinetic
    assert hrs_current(-9.0) == pytest.approx(-16.7e-9, rel=0.01)  # spreading
    assert hrs_current(0.0) == 0
    assert abs(hrs_current(-200.0)) == 200.0 / SPREADING_OHM


@given(v=st.floats(-50, 50))
def test_hrs_voltage_inverts_hrs_current(v: float) -> None:
    assert hrs_voltage(hrs_current(v)) == pytest.approx(v, rel=1e-9, abs=1e-12)


@given(v_set=st.floats(-20, 20), series=st.sampled_from([0.0, 1e3, 1e4, 1e7, 1e9, 1e11]))
def test_the_hrs_load_line_is_met(v_set: float, series: float) -> None:
    site = SwitchingSite("gi", series_ohm=series, u_median_v=200.0)
    site.set_source(0, v_set, 1.0, connected=True)
    assert site.terminal_voltage_v == pytest.approx(v_set, rel=1e-9, abs=1e-15)
    assert site.terminal_current_a == hrs_current(site.v_tip)
    assert not site.clamped


def test_the_clamp_also_holds_an_hrs() -> None:
    site = SwitchingSite("gi", u_median_v=200.0, series_ohm=1e4)
    site.set_source(0, -9.0, 1e-9, connected=True)
    assert site.clamped
    assert site.terminal_current_a == -1e-9
    assert hrs_current(site.v_tip) == pytest.approx(-1e-9)
    assert abs(site.terminal_voltage_v) < 9.0


@pytest.mark.parametrize(("v_set", "series", "limit"), [(-9.5, 0.0, 5e-4), (-9.5, 1e4, 1e-4), (9.5, 100.0, 5e-4)])
def test_in_the_lrs_the_clamp_moves_the_tip_along_the_load_line(v_set: float, series: float, limit: float) -> None:
    site = SwitchingSite("gb", series_ohm=series, seed=2)
    site.set_source(0, -10.0, limit, connected=True)
    site.advance(1)  # at 10 V a grain boundary waits for less than a nanosecond
    assert site.state is State.LRS
    clamped = {}
    site.set_source(MS, v_set, limit, connected=True)
    clamped[limit] = site.clamped
    assert site.terminal_current_a == math.copysign(limit, v_set)
    assert site.v_tip == pytest.approx(math.copysign(limit * site.r_on_ohm, v_set))
    assert site.terminal_voltage_v == pytest.approx(math.copysign(limit * (site.r_on_ohm + series), v_set))
    site.set_source(2 * MS, v_set, 1.0, connected=True)
    clamped[1.0] = site.clamped
    assert clamped == {limit: True, 1.0: False}
    assert site.terminal_current_a == pytest.approx(v_set / (site.r_on_ohm + series))


def test_an_open_relay_carries_nothing() -> None:
    site = SwitchingSite("gb")
    site.set_source(0, -10.0, LIMIT_A, connected=True)
    site.set_source(MS, -10.0, LIMIT_A, connected=False)
    assert (site.v_tip, site.terminal_current_a, site.clamped) == (0.0, 0.0, False)


# --- Charge, energy, time --------------------------------------------------------------------------------------------


@given(
    steps=st.lists(
        st.tuples(st.integers(1, 50), st.floats(-10, 10), st.sampled_from([1e-9, 1e-5, 1e-3]), st.booleans()),
        min_size=1,
        max_size=15,
    ),
    seed=st.integers(0, 20),
    series=st.sampled_from([0.0, 1500.0, 1e4]),
)
def test_charge_and_energy_balance(steps: list[tuple[int, float, float, bool]], seed: int, series: float) -> None:
    site = SwitchingSite("gb", seed=seed, series_ohm=series)
    t, charge, dose, energy, supplied, in_series = 0, 0.0, 0.0, 0.0, 0.0, 0.0
    for gap_ms, v_set, limit, connected in steps:
        site.set_source(t, v_set, limit, connected=connected)
        for _ in range(gap_ms):
            # An independent sum, a millisecond at a time, split at the onset.
            begin, alive = t, site.onset is not None
            i, v = site.terminal_current_a, site.v_tip
            t += MS
            site.advance(t)
            split = site.onset.t_ns if site.onset is not None and not alive else t
            for dt, i_part, v_part, counts in (
                ((split - begin) * 1e-9, i, v, alive),
                ((t - split) * 1e-9, site.terminal_current_a, site.v_tip, True),
            ):
                charge += i_part * dt
                dose += abs(i_part) * dt if counts else 0.0
                energy += v_part * i_part * dt if counts else 0.0
                supplied += (v_part + i_part * series) * i_part * dt
                in_series += i_part * i_part * series * dt
            assert site.charge_c == pytest.approx(charge, rel=1e-9, abs=1e-18)
            assert site.terminal_voltage_v == pytest.approx(site.v_tip + site.terminal_current_a * series, rel=1e-12)
    site.close(t)
    summary = site.truth.events("summary")[0]
    assert summary["charge_c"] == pytest.approx(dose, rel=1e-9, abs=1e-18)
    assert summary["energy_j"] == pytest.approx(energy, rel=1e-9, abs=1e-18)
    # What the source gives is what resistor and sample turn into heat; the sample never gives any back.
    assert supplied - in_series >= energy * (1 - 1e-9) - 1e-18


def test_the_dose_of_a_surge_is_exact() -> None:
    site = SwitchingSite("gi", u_median_v=9.0, seed=4, series_ohm=1e4)
    site.set_source(0, -9.5, LIMIT_A, connected=True)
    site.advance(10**13)
    assert site.onset is not None
    cut_ns = 10**13 + 5 * MS
    site.set_source(cut_ns, 0.0, LIMIT_A, connected=True)
    i = 9.5 / (site.r_on_ohm + 1e4)
    alive_s = (cut_ns - site.onset.t_ns) * 1e-9
    safe = site.truth.events("safe")[-1]
    assert safe["t_ns"] == cut_ns
    assert safe["charge_c"] == pytest.approx(i * alive_s, rel=1e-12)
    assert safe["energy_j"] == pytest.approx(i * i * site.r_on_ohm * alive_s, rel=1e-12)
    assert safe["peak_current_a"] == pytest.approx(i)
    assert site.charge_c == pytest.approx(-i * alive_s, rel=1e-6)


def test_an_ohmic_load_counts_from_the_start() -> None:
    load = OhmicLoad(1e4, 1e3)
    load.set_source(0, 1.1, LIMIT_A, connected=True)
    load.set_source(10**9, -2.2, 1e-4, connected=True)
    assert load.clamped
    assert load.v_tip == pytest.approx(-1.0)
    load.set_source(2 * 10**9, -2.2, 1e-4, connected=False)
    assert load.charge_c == pytest.approx(1e-4 - 1e-4, abs=1e-18)
    load.close(3 * 10**9)
    summary = load.truth.events("summary")[0]
    assert summary["charge_c"] == pytest.approx(2e-4)
    assert summary["energy_j"] == pytest.approx(2e-4)
    assert summary["peak_current_a"] == pytest.approx(1e-4)
    assert summary["peak_v"] == 2.2


def test_loads_are_loads_and_time_never_goes_backwards() -> None:
    for load in (SwitchingSite("gb"), OhmicLoad(1e4)):
        plug: Load = load
        plug.advance(10)
        with pytest.raises(BenchFaultError, match="9 ns is before 10 ns"):
            plug.advance(9)
        with pytest.raises(BenchFaultError, match="want a magnitude"):
            plug.set_source(11, 0.0, -1.0, connected=True)


def test_a_run_may_begin_late_and_what_was_before_does_not_count() -> None:
    load = OhmicLoad(1e3)
    load.set_source(10**15, 1.0, 1.0, connected=True)
    load.advance(10**15 + 10**9)
    assert load.charge_c == pytest.approx(1e-3)


# --- What the command line says --------------------------------------------------------------------------------------


def test_specs_are_parsed() -> None:
    assert parse_load("ohmic:1e4") == OhmicSpec(1e4)
    assert parse_site("gb") == SiteSpec("gb", 0.12)
    assert parse_site("gi") == SiteSpec("gi", 9.5)
    assert parse_site("hl") == SiteSpec("hl", 3.0)
    assert parse_site("gb:0.23") == SiteSpec("gb", 0.23)
    truth = TruthRecord()
    site = parse_site("gb:0.23").build(series_ohm=1500, seed=9, truth=truth)
    assert (site.u_median_v, site.series_ohm, site.truth) == (0.23, 1500, truth)
    assert site.r_on_ohm == SwitchingSite("gb", seed=9).r_on_ohm
    load = parse_load("ohmic:50").build(series_ohm=1, seed=9, truth=truth)
    assert (load.r_ohm, load.series_ohm, parse_load("ohmic:50").u_median_v) == (50, 1, None)


@pytest.mark.parametrize(
    "text", ["", "ohmic", "ohmic:", "ohmic:ten", "ohmic:0", "ohmic:-5", "ohmic:nan", "ohmic:inf", "gb", "5"]
)
def test_wrong_loads_are_told_what_is_wanted(text: str) -> None:
    with pytest.raises(BenchOptionError, match="want ohmic:R with R in ohm"):
        parse_load(text)


@pytest.mark.parametrize(
    "text", ["", "GB", "xy:1", "ohmic:5", "gb:", "gb:x", "gb:0", "gb:-1", "gb:nan", "gb:inf", "gb:201"]
)
def test_wrong_sites_are_told_what_is_wanted(text: str) -> None:
    with pytest.raises(BenchOptionError, match="want") as error:
        parse_site(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("series", [-1.0, math.nan, 1e13])
def test_a_wrong_series_resistor_is_refused(series: float) -> None:
    with pytest.raises(BenchOptionError, match="--series-ohm"):
        SwitchingSite("gb", series_ohm=series)


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(BenchOptionError, match="want one of gb, gi, hl"):
        SwitchingSite("xx")
    with pytest.raises(BenchOptionError, match="median drive above 0"):
        SwitchingSite("gb", u_median_v=0.0)
    with pytest.raises(BenchOptionError, match="from 1e-3 to 1e15"):
        OhmicLoad(0.0)


def test_a_median_of_less_than_v_star_is_still_the_median() -> None:
    hazard = Hazard(0.005, 0.017)
    assert closed_form_cdf(hazard, 0.1, 0.005) == pytest.approx(0.5)
    assert 2 * EXCHANGE_A < 1e-12  # the constant the kinetic numbers above rest on
