"""The dose bench's front end: the real firmware in series with a site of the full twin, in virtual time."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest

from hil.bench.dose import figures, virtual
from hil.bench.dose.bench import dose
from hil.bench.dose.trials import COMPETENT, FRONTEND, FRONTEND_10K, IDLE, SERIAL, USUAL, VIRTUAL, Trial
from hil.bench.dose.virtual import SlowSwitchSite
from hil.bench.options import BenchOptions
from hil.errors import BenchOptionError
from hil.frontend.lockstep import LockstepFrontend
from hil.frontend.lockstep_device import LockstepDevice

SITE = 1

pytestmark = pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler")


def swept(arm: str, directory: Path, *, traced: bool = False) -> dict[str, Any]:
    directory.mkdir(exist_ok=True)
    return virtual.sweep(Trial(SITE, arm, VIRTUAL, traced=traced), directory)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """One site under every arm in virtual time."""
    return {
        arm: swept(arm, tmp_path_factory.mktemp(arm), traced=arm == FRONTEND)
        for arm in (SERIAL, FRONTEND_10K, FRONTEND)
    }


def test_a_front_end_opens_within_its_samples(rows: dict[str, dict[str, Any]]) -> None:
    for arm, period_s in ((FRONTEND, 10e-6), (FRONTEND_10K, 100e-6)):
        row = rows[arm]
        after_s = (row["opened_ns"] - row["onset_ns"]) * 1e-9
        # Three samples at the level, the decision, the switch; what tunnels just before the onset may count already.
        assert 0 < after_s <= 4 * period_s + 1e-6
        assert row["tripped_by"] == "LEVEL"
        assert row["safe_s"] == pytest.approx(after_s, abs=2e-9)
        assert row["reset_ok"] is True


def test_the_same_site_takes_a_thousandth_of_what_the_line_lets_through(rows: dict[str, dict[str, Any]]) -> None:
    charges = [rows[arm]["charge_c"] for arm in (SERIAL, FRONTEND_10K, FRONTEND)]
    assert charges == sorted(charges, reverse=True)
    assert rows[FRONTEND]["charge_c"] < 1e-3 * rows[SERIAL]["charge_c"]
    # It is one site: the filament that forms is the same for all.
    assert len({rows[arm]["set_current_a"] for arm in rows}) == 1


def test_the_controller_takes_it_for_the_set_that_its_plan_seeks(rows: dict[str, dict[str, Any]]) -> None:
    assert [rows[arm]["said"]["status"] for arm in rows] == ["completed"] * 3
    assert rows[SERIAL]["said"]["verdict"] not in {None, "FRONTEND"}
    assert [rows[arm]["said"]["verdict"] for arm in (FRONTEND_10K, FRONTEND)] == ["FRONTEND"] * 2


def test_the_trace_ends_where_the_switch_opened(rows: dict[str, dict[str, Any]]) -> None:
    trace = rows[FRONTEND]["trace"]
    opened_s = rows[FRONTEND]["safe_s"]
    assert trace[0][1] > 1e-6
    # The cable's 300 pF are left, a few time constants of 3 us through resistor and filament.
    late = [(t_s, i_a) for t_s, i_a, _ in trace if t_s > opened_s]
    assert all(after[1] <= 1.001 * before[1] for before, after in itertools.pairwise(late))
    assert max(t_s for t_s, i_a in late if i_a > 1e-7) < opened_s + 30e-6


def test_with_the_front_end_off_the_charge_is_the_line_s(
    rows: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The removal test: the firmware trips as before, and its switch does not open under current. The controller, told
    # of the trip, cuts by the line.
    def welded(site: SlowSwitchSite, _sample_hz: int, seed: int) -> LockstepDevice:
        site.open_after_ns = 3_600_000_000_000
        return LockstepDevice(LockstepFrontend(), site, seed=seed)

    monkeypatch.setattr(virtual, "in_series", welded)
    found = swept(FRONTEND, tmp_path)
    assert found["opened_ns"] is None
    assert found["charge_c"] > 100 * rows[FRONTEND]["charge_c"]


def test_two_runs_are_the_same(rows: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    again = swept(FRONTEND, tmp_path)
    assert {key: again[key] for key in ("charge_c", "opened_ns", "onset_ns")} == {
        key: rows[FRONTEND][key] for key in ("charge_c", "opened_ns", "onset_ns")
    }


def test_without_a_compiler_it_says_so_before_it_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise BenchOptionError("no compiler")

    monkeypatch.setattr("hil.bench.dose.bench.build.lockstep", missing)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: True)
    monkeypatch.setattr("hil.bench.dose.bench._measure", lambda *_: pytest.fail("it has begun"))
    with pytest.raises(BenchOptionError, match="no compiler"):
        dose(BenchOptions(quick=True))


def by_hand(site: int, arm: str, charge_c: float, condition: str, **more: float | None) -> dict[str, Any]:
    found = {"site": site, "arm": arm, "condition": condition, "onset_ns": 1, "charge_c": charge_c, "reset_ok": True}
    return {**found, "said": {"status": "completed"}, "reaction_s": None, "opened_ns": 1, **more}


def test_its_ratios_from_raw_values() -> None:
    raw = []
    for site in range(5):
        q = 1e-6 * (site + 1)
        raw += [by_hand(site, SERIAL, q, VIRTUAL), by_hand(site, SERIAL, 1.1 * q, IDLE)]
        raw += [by_hand(site, COMPETENT, 0.9 * q, IDLE), by_hand(site, USUAL, 20 * q, IDLE)]
        raw += [by_hand(site, FRONTEND, 5e-4 * q, VIRTUAL), by_hand(site, FRONTEND_10K, 6e-3 * q, VIRTUAL)]
    raw.append(by_hand(5, FRONTEND, 0.0, VIRTUAL, onset_ns=None, n_nucleation=1))
    raw.append(by_hand(6, FRONTEND, 0.0, VIRTUAL, onset_ns=None, n_nucleation=0))
    value = {figure.name: figure.value for figure in (*figures.targets(raw)[0], *figures.others(raw))}
    assert value["charge_frontend_ratio_to_serial"] == pytest.approx(5e-4)
    assert value["charge_frontend_ratio_to_usual"] == pytest.approx(5e-4 / 20)
    assert value["charge_frontend_ratio_to_competent"] == pytest.approx(5e-4 / 0.9)
    assert value["charge_frontend_10k_ratio_to_serial"] == pytest.approx(6e-3)
    # What virtual time does to an arm that has both; and a front end that opened before anything had formed.
    assert value["serial.virtual.charge_p50_over_p50_to_idle"] == pytest.approx(1 / 1.1)
    assert value["frontend.virtual.opened_before_bridging"] == 1
    assert value["frontend.virtual.opened_for_nothing"] == 1
    assert value["frontend_10k.virtual.opened_before_bridging"] == 0
    assert value["frontend.virtual.not_set"] == 2
    [aimed] = [figure for figure in figures.targets(raw)[0] if figure.name == "charge_frontend_ratio_to_serial"]
    assert aimed.met is True


def test_progress_is_told_and_one_site_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    tried: list[Trial] = []

    def sweep(trial: Trial, _folder: Path) -> dict[str, Any]:
        tried.append(trial)
        return {"site": trial.site}

    monkeypatch.setattr(virtual, "sweep", sweep)
    raw = virtual.sweeps(2, 1, lambda _done, what: told.append(what))
    assert len(raw) == 2 * len(virtual.SAMPLE_HZ)
    assert told == ["virtual time: site 1 of 2", "virtual time: site 2 of 2"]
    # One picture, one trace an arm; that of serial comes from real time.
    assert [(trial.site, trial.arm) for trial in tried if trial.traced] == [(1, FRONTEND_10K), (1, FRONTEND)]
