"""The fit of the decay length, part by part; the figure against the twin is in ``test_decay_length_seeds.py``."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from edge.analysis import decay_likelihood
from edge.analysis.decay_length import DecayFit, DecaySites, fit_decay
from edge.analysis.decay_likelihood import NM, PARAMETERS, STRAY, DecayData, decay_data, scores
from edge.analysis.ramp_law import Drives, Floats, log_hazard
from edge.errors import AnalysisError

XI_M = 25e-9
REACH_M = 7e-9
RADIUS_M = 4.5e-9
PLACEMENT_SD_M = 5e-9
U_GB, U_GI, V_GB, V_GI, SCATTER = 0.12, 9.5, 0.017, 0.35, 0.04
RATE_V_S = 0.5
HALF_V = 5e-3


def drawn(
    seed: int,
    count: int = 48,
    *,
    drift_m_s: tuple[float, float] = (0.0, 0.0),
    normals: Floats | None = None,
    placement_sd_m: float = PLACEMENT_SD_M,
    near_m: float = 0.0,
    reach_m: float = REACH_M,
) -> DecaySites:
    """Draw sites of the law, one every 15 s, ``near_m`` to 150 nm from an edge."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * math.pi, count)
    normal = np.stack([np.cos(angle), np.sin(angle)], axis=1) if normals is None else normals
    landed_s = 15.0 * np.arange(count)
    distance_m = reach_m + rng.uniform(near_m, 150e-9, count)
    error_m = rng.normal(0.0, placement_sd_m, count) if placement_sd_m else np.zeros(count)
    signed_m = distance_m + (normal @ np.array(drift_m_s)) * landed_s + error_m
    w = np.exp(-np.maximum(np.abs(signed_m) - reach_m, 0.0) / XI_M)
    median_v = np.exp(math.log(U_GI) + math.log(U_GB / U_GI) * w + SCATTER * rng.normal(size=count))
    v_star = V_GI + (V_GB - V_GI) * w
    # H(u) is a unit exponential: ln(exp(u/v*) - 1) = ln(H/(ln 2 rho0/rho)) + ln(exp(u_med/v*) - 1).
    level = np.log(rng.exponential(size=count) * RATE_V_S / (0.1 * math.log(2)))
    u = v_star * np.logaddexp(0.0, level + median_v / v_star + np.log1p(-np.exp(-median_v / v_star)))
    triggered = u < 10.0
    drives = Drives(
        drive_v=np.where(triggered, (np.floor(u / (2 * HALF_V)) + 0.5) * 2 * HALF_V, 10.0),
        half_v=np.full(count, HALF_V),
        triggered=triggered,
        rate_v_s=np.full(count, RATE_V_S),
    )
    return DecaySites(drives=drives, distance_m=distance_m, normal=normal, landed_s=landed_s)


def fitted(sites: DecaySites, **more: Any) -> DecayFit:  # noqa: ANN401 - what fit_decay takes
    return fit_decay(sites, **{"contact_radius_m": RADIUS_M, "placement_sd_m": PLACEMENT_SD_M} | more)


def holds(fit: DecayFit) -> bool:
    return (fit.xi_low_m or 0.0) <= XI_M <= (fit.xi_high_m or math.inf)


def data_of(sites: DecaySites, placement_sd_m: float = PLACEMENT_SD_M) -> DecayData:
    sites = sites.part(np.argsort(~sites.drives.triggered, kind="stable"))
    way = sites.normal * (sites.landed_s / sites.landed_s.max())[:, None]
    return decay_data(sites.drives, sites.distance_m, way, reach_m=REACH_M, placement_sd_m=placement_sd_m)


def theta_of(xi_m: float = XI_M, scatter: float = SCATTER, way_nm: tuple[float, float] = (20.0, -35.0)) -> Floats:
    return np.array([*np.log([xi_m, U_GB, U_GI, V_GB / U_GB, V_GI / U_GI]), scatter, *way_nm])


# --- The likelihood --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [theta_of(), theta_of(40e-9, -0.1), theta_of(scatter=0.0, way_nm=(0.0, 200.0))])
@pytest.mark.parametrize("placement_sd_m", [PLACEMENT_SD_M, 20e-9, 0.0])
def test_the_gradient_is_that_of_the_likelihood(place: Floats, placement_sd_m: float) -> None:
    data = data_of(drawn(1, 60), placement_sd_m)
    _, gradient = scores(place, data)
    for number, name in enumerate(PARAMETERS):
        step = np.zeros(len(place))
        step[number] = 1e-6 if number < 6 else 1e-4
        slope = (scores(place + step, data)[0] - scores(place - step, data)[0]) / (2 * step[number])
        assert gradient[:, number] == pytest.approx(slope, rel=1e-4, abs=1e-4), name


def test_without_errors_it_is_the_ramp_law() -> None:
    sites = drawn(2, 40, placement_sd_m=0.0)
    sites = sites.part(np.argsort(~sites.drives.triggered, kind="stable"))
    data = data_of(sites, 0.0)
    found, _ = scores(theta_of(scatter=0.0, way_nm=(0.0, 0.0)), data)
    w = np.exp(-np.maximum(sites.distance_m - REACH_M, 0.0) / XI_M)
    median_v, v_star = np.exp(math.log(U_GI) + math.log(U_GB / U_GI) * w), V_GI + (V_GB - V_GI) * w
    low, high = (np.exp(log_hazard(u, median_v, v_star, 0.1 / sites.drives.rate_v_s)) for u in sites.drives.ends_v())
    expected = np.where(sites.drives.triggered, np.exp(-low) - np.exp(-high), np.exp(-high))
    assert found == pytest.approx(np.log(expected + data.stray), abs=0.02)
    assert data.stray.max() < STRAY


def test_finer_sums_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interval ends where ln likelihood has fallen by 1.92: the sums have to be right to a small part of that."""
    sites = drawn(3, 200)
    places = [theta_of(xi_m, way_nm=(0.0, 0.0)) for xi_m in (24e-9, 25e-9, 26e-9)]
    coarse = [float(scores(place, data_of(sites))[0].sum()) for place in places]
    nodes, weights = np.polynomial.hermite_e.hermegauss(25)
    monkeypatch.setattr(decay_likelihood, "_ERROR_STEP_M", 0.2e-9)
    monkeypatch.setattr(decay_likelihood, "_MOST_SIDE", 1000)
    monkeypatch.setattr(decay_likelihood, "_Z", nodes)
    monkeypatch.setattr(decay_likelihood, "_Z_WEIGHTS", weights / weights.sum())
    fine = [float(scores(place, data_of(sites))[0].sum()) for place in places]
    assert np.diff(coarse) == pytest.approx(np.diff(fine), abs=0.05)


# --- The fit ---------------------------------------------------------------------------------------------------------


def test_a_drift_that_is_known_is_taken_off() -> None:
    drift_m_s = (4e-11, -3e-11)
    fit = fitted(drawn(4, drift_m_s=drift_m_s), drift_m_s=drift_m_s)
    assert holds(fit)
    assert (fit.drift_m_s, fit.drift_sd_m_s) == (drift_m_s, (None, None))


def test_distances_count_from_the_edge_of_the_contact() -> None:
    sites = drawn(10, reach_m=32.5e-9)
    blunt = fitted(sites, contact_radius_m=30e-9, drift_m_s=(0.0, 0.0))
    assert holds(blunt)
    assert not holds(fitted(sites, contact_radius_m=0.0, boundary_m=0.0, drift_m_s=(0.0, 0.0)))


def test_one_straight_boundary_shows_the_drift_across_it_only() -> None:
    normals = np.tile([[1.0, 0.0], [-1.0, 0.0]], (24, 1))
    fit = fitted(drawn(5, normals=normals, drift_m_s=(5e-11, 5e-11)))
    assert holds(fit)
    assert fit.drift_m_s[0] == pytest.approx(5e-11, rel=0.1)
    across, along = fit.drift_sd_m_s
    assert across is not None
    assert abs(fit.drift_m_s[0] - 5e-11) < 4 * across < 5e-11
    assert along is None


def test_a_pore_in_a_grain_does_not_decide() -> None:
    sites = drawn(6)
    before = fitted(sites, drift_m_s=(0.0, 0.0))
    far = int(np.argmax(sites.distance_m))
    # Under the law alone this one is as likely as exp(-26), and the next one not at all.
    drive_v, triggered = sites.drives.drive_v.copy(), sites.drives.triggered.copy()
    drive_v[far], triggered[far] = 0.2, True
    near = int(np.argmin(sites.distance_m))
    drive_v[near], triggered[near] = 9.0, True
    strange = dataclasses.replace(sites, drives=dataclasses.replace(sites.drives, drive_v=drive_v, triggered=triggered))
    after = fitted(strange, drift_m_s=(0.0, 0.0))
    assert holds(after)
    assert after.xi_m == pytest.approx(before.xi_m, rel=0.03)


def test_sites_that_are_all_far_leave_xi_open() -> None:
    sites = drawn(7, 40, near_m=149e-9)
    fit = fitted(sites, drift_m_s=(0.0, 0.0))
    assert (fit.xi_high_m or math.inf) > 50 * (fit.xi_low_m or 0.0)
    assert json.loads(json.dumps(fit.document()))["at_limit"] == list(fit.at_limit) != []


def test_the_order_of_the_sites_means_nothing() -> None:
    sites = drawn(8, 40)
    turned = sites.part(np.arange(40)[::-1])
    one, other = fitted(sites), fitted(turned)
    assert one.n == other.n == 40
    assert one.censored == int(np.count_nonzero(~sites.drives.triggered))
    assert (one.xi_m, one.xi_low_m) == pytest.approx((other.xi_m, other.xi_low_m), rel=2e-3)


# --- What goes in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"distance_m": np.full(20, -1 * NM)}, "distance_m: below 0"),
        ({"distance_m": np.zeros(19)}, r"distance_m: shape \(19,\): expected \(20,\)"),
        ({"normal": np.ones((20, 2))}, "normal: not of length 1"),
        ({"normal": np.ones(20)}, r"normal: shape \(20,\): expected \(20, 2\)"),
        ({"landed_s": np.full(20, math.nan)}, "landed_s: a number is missing"),
    ],
)
def test_sites_that_do_not_fit_together_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        dataclasses.replace(drawn(9, 20), **changed)


@pytest.mark.parametrize(
    "asked",
    [
        {"contact_radius_m": -1e-9},
        {"placement_sd_m": math.nan},
        {"boundary_m": 1.0},
        {"drift_m_s": (1.0, 0.0)},
        {"drift_max_m_s": 0.0},
        {"confidence": 95.0},
    ],
)
def test_numbers_out_of_range_are_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(AnalysisError, match=f"decay length: {next(iter(asked))}: .*expected"):
        fitted(drawn(9, 20), **asked)


def test_too_few_sites_are_refused() -> None:
    with pytest.raises(AnalysisError, match=r"15 sites, .* expected at least 16 and 8"):
        fitted(drawn(9, 15))
    sites = drawn(9, 20)
    none = dataclasses.replace(sites.drives, triggered=np.zeros(20, dtype=bool))
    with pytest.raises(AnalysisError, match="20 sites, 0 triggered"):
        fitted(dataclasses.replace(sites, drives=none))
